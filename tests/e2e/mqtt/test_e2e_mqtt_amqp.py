"""MQTT and AMQP clients of one broker: topics and keys, the mapping of properties both ways, requests and answers."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pika
import pytest
from e2e.mqtt.mqtt_broker import leveret_only, mosquitto_differs, needs_amqp, versions
from support.amqp_peer import Event, Peer
from support.mqtt_peer import MqttPeer
from support.server import LeveretServer

Client = Callable[..., MqttPeer]
Start = Callable[..., LeveretServer]
Connect = Callable[..., Peer]

pytestmark = needs_amqp


@pytest.fixture
def amqp(connect: Connect, name: str) -> Peer:
    """Consumes everything below the topic of the test's name on channel 1; channel 2 is in confirm mode."""
    peer = connect()
    peer.declare(1, name, auto_delete=True)
    peer.rpc(1, "queue.bind", queue=name, exchange="amq.topic", routing_key=f"{name}.#")
    peer.consume(1, name, no_ack=True)
    peer.confirm(peer.open_channel(2))
    return peer


def to_amqp(
    client: Client, amqp: Peer, topic: str, *, version: int = 5, qos: int = 1, **properties: Any
) -> Event:
    client(version).publish(topic, b"payload", qos=qos, **properties)
    event = amqp.deliver()
    assert event.body == b"payload"
    return event


# Topics and routing keys


@versions
@pytest.mark.parametrize("rest", ["", "/a", "/a/b", "//", "/a//b", "/*x", "/ü", "/a b"])
def test_a_topic_is_a_routing_key(client: Client, amqp: Peer, name: str, version: int, rest: str) -> None:
    """`/` is `.`, empty levels are kept"""
    event = to_amqp(client, amqp, name + rest, version=version)
    assert event.exchange == "amq.topic"
    assert event.routing_key == (name + rest).replace("/", ".")


@versions
@pytest.mark.parametrize("rest", ["", ".a", ".a.b", "..", ".a..b", ".ü", ".a b"])
def test_a_routing_key_is_a_topic(client: Client, amqp: Peer, name: str, version: int, rest: str) -> None:
    subscriber = client(version).subscribed(f"{name}/#")
    amqp.publish_confirmed(2, "amq.topic", name + rest, b"x")
    subscriber.receive(b"x", topic=(name + rest).replace(".", "/"))


def test_a_leading_slash(client: Client, connect: Connect, name: str) -> None:
    amqp = connect()
    queue = amqp.declare(1, exclusive=True)
    amqp.rpc(1, "queue.bind", queue=queue, exchange="amq.topic", routing_key=f".{name}")
    amqp.consume(1, queue, no_ack=True)
    subscriber = client().subscribed(f"/{name}")
    client().publish(f"/{name}", b"1")
    assert amqp.deliver().body == b"1"
    subscriber.receive(b"1")
    amqp.publish(1, "amq.topic", f".{name}", b"2")
    subscriber.receive(b"2", topic=f"/{name}")


@pytest.mark.parametrize("word", ["*", "#", "+", "a.#", "*.b"])
def test_37_wildcards_in_keys_are_no_wildcards_for_mqtt(
    client: Client, amqp: Peer, name: str, word: str
) -> None:
    """No topic that a client may be sent; nothing is matched by it either"""
    subscriber = client().subscribed(f"{name}/#", f"{name}/a", f"{name}/b", f"{name}/a/x", qos=1)
    amqp.publish_confirmed(2, "amq.topic", f"{name}.{word}", b"x")
    amqp.deliver()
    for message in subscriber.barrier():
        assert "+" not in message.topic
        assert "#" not in message.topic


def test_37_a_dot_in_a_level_is_a_word_of_its_own(client: Client, amqp: Peer, name: str) -> None:
    assert to_amqp(client, amqp, f"{name}/a.b/c").routing_key == f"{name}.a.b.c"


def test_sparkplug(start: Start) -> None:
    """`spBv1.0` <-> `spBv1___0` with mqtt.sparkplug"""
    mine = start(sparkplug=True)
    with mine.peer() as amqp, MqttPeer.open(mine.ports["mqtt"]) as client:
        queue = amqp.declare(1, exclusive=True)
        amqp.rpc(1, "queue.bind", queue=queue, exchange="amq.topic", routing_key="spBv1___0.#")
        amqp.consume(1, queue, no_ack=True)
        client.subscribed("spBv1.0/#")
        client.say_publish("spBv1.0/group/DDATA", b"x")
        assert amqp.deliver().routing_key == "spBv1___0.group.DDATA"
        client.receive(b"x", topic="spBv1.0/group/DDATA")


def test_another_exchange(start: Start, tmp_path: Path) -> None:
    """Setting mqtt.exchange: it must be there; here it is of the server before."""
    before = start(tmp_path / "data")
    with before.peer() as amqp:
        amqp.rpc(1, "exchange.declare", exchange="devices", type="topic", durable=True)
        amqp.goodbye()
    before.stop()
    mine = start(tmp_path / "data", exchange="devices")
    with mine.peer() as amqp, MqttPeer.open(mine.ports["mqtt"]) as client:
        queue = amqp.declare(1, exclusive=True)
        amqp.rpc(1, "queue.bind", queue=queue, exchange="devices", routing_key="a.*")
        amqp.consume(1, queue, no_ack=True)
        client.subscribed("a/+")
        client.say_publish("a/b", b"x")
        client.receive(b"x")
        assert amqp.deliver().exchange == "devices"
        amqp.publish(1, "devices", "a.c", b"y")
        client.receive(b"y", topic="a/c")


# MQTT to AMQP


@versions
@pytest.mark.parametrize(
    ("qos", "mode"), [(0, 1), (1, 2), pytest.param(2, 2, marks=leveret_only("RabbitMQ has no QoS 2"))]
)
def test_qos_is_the_delivery_mode(
    client: Client, amqp: Peer, name: str, version: int, qos: int, mode: int
) -> None:
    properties = to_amqp(client, amqp, name, version=version, qos=qos).properties
    assert properties.get("delivery_mode", 1) == mode
    assert not {key for key in properties.get("headers", {}) if not key.startswith("x-mqtt-")}


def test_content_type_to_amqp(client: Client, amqp: Peer, name: str) -> None:
    assert to_amqp(client, amqp, name, content_type="text/plain").properties["content_type"] == "text/plain"


def test_correlation_data_to_amqp(client: Client, amqp: Peer, name: str) -> None:
    """At most 255 bytes of UTF-8: correlation_id; else header x-correlation-id"""
    event = to_amqp(client, amqp, name, correlation_data="größe".encode())
    assert event.properties["correlation_id"] == "größe"
    assert "x-correlation-id" not in event.properties.get("headers", {})
    for data in (b"\xff\x00\x01", b"x" * 256):
        event = to_amqp(client, amqp, name, correlation_data=data)
        assert "correlation_id" not in event.properties
        value = event.headers["x-correlation-id"]
        assert (value.encode() if isinstance(value, str) else bytes(value)) == data


def test_response_topic_to_amqp(client: Client, amqp: Peer, name: str) -> None:
    """As a routing key, in header x-reply-to-topic"""
    event = to_amqp(client, amqp, name, response_topic="answers/to/me")
    assert event.headers["x-reply-to-topic"] == "answers.to.me"


def test_user_properties_to_amqp(client: Client, amqp: Peer, name: str) -> None:
    headers = to_amqp(client, amqp, name, user_properties=[("b", "1"), ("a", "ü")]).headers
    assert {key: headers[key] for key in ("a", "b")} == {"a": "ü", "b": "1"}


def test_user_properties_can_not_play_tricks(client: Client, amqp: Peer, name: str, connect: Connect) -> None:
    """Names that mean something to the broker are not taken from a client: CC would route, x-death would lie."""
    other = connect()
    victim = other.declare(1, exclusive=True)
    event = to_amqp(
        client, amqp, name, user_properties=[("CC", victim), ("BCC", victim), ("x-death", "1"), ("k", "v")]
    )
    assert event.headers["k"] == "v"
    assert other.counts(1, victim)[0] == 0


def test_message_expiry_to_amqp(client: Client, amqp: Peer, name: str) -> None:
    expiration = int(to_amqp(client, amqp, name, message_expiry=60).properties["expiration"])
    assert 55_000 < expiration <= 60_000


def test_what_an_mqtt_client_publishes_waits_in_a_queue(client: Client, connect: Connect, name: str) -> None:
    """And expires there."""
    amqp = connect()
    amqp.declare(1, name, durable=True)
    amqp.rpc(1, "queue.bind", queue=name, exchange="amq.topic", routing_key=f"{name}.*")
    publisher = client()
    assert publisher.publish(f"{name}/a", b"gone", qos=1, message_expiry=0).code == 0
    assert publisher.publish(f"{name}/a", b"kept", qos=1).code == 0
    event = amqp.get(1, name)
    assert event is not None
    assert event.body == b"kept"
    assert event.properties["delivery_mode"] == 2


def test_46_a_queue_is_a_subscriber(client: Client, amqp: Peer, name: str) -> None:
    assert client().publish(f"{name}/x", b"x").code == 0
    assert client().publish(f"{name}x", b"x").code == 0x10


def test_a_queue_that_refuses(client: Client, connect: Connect, name: str) -> None:
    """x-overflow=reject-publish: version 5 is told 0x97; version 3 has no word for it, and is acknowledged"""
    amqp = connect()
    amqp.declare(1, name, arguments={"x-max-length": 1, "x-overflow": "reject-publish"})
    amqp.rpc(1, "queue.bind", queue=name, exchange="amq.topic", routing_key=name)
    publisher = client()
    publisher.publish(name, b"1")
    assert publisher.publish(name, b"2", qos=1, code=None).code == 0x97
    assert publisher.publish(name, b"2", qos=2, code=None).code == 0x97
    assert amqp.drain(1, name) == [b"1"]
    publisher.publish(name, b"3")
    assert amqp.drain(1, name) == [b"3"]


# AMQP to MQTT


def to_mqtt(client: Client, amqp: Peer, name: str, **properties: Any) -> Any:
    subscriber = client().subscribed(f"{name}/#", qos=2)
    amqp.publish_confirmed(2, "amq.topic", f"{name}.x", b"payload", **properties)
    message = subscriber.receive(b"payload", topic=f"{name}/x", retain=False)
    subscriber.close()
    return message


@mosquitto_differs("RabbitMQ 3.10: always QoS 1")
@versions
@pytest.mark.parametrize(("mode", "qos"), [(None, 0), (1, 0), (2, 1)])
def test_delivery_mode_is_the_qos(
    client: Client, amqp: Peer, name: str, version: int, mode: int | None, qos: int
) -> None:
    subscriber = client(version).subscribed(f"{name}/#", qos=1)
    amqp.publish_confirmed(2, "amq.topic", f"{name}.x", b"x", **({"delivery_mode": mode} if mode else {}))
    subscriber.receive(b"x", qos=qos)


def test_content_type_to_mqtt(client: Client, amqp: Peer, name: str) -> None:
    message = to_mqtt(client, amqp, name, content_type="text/plain")
    assert message.properties == {"content_type": "text/plain"}


def test_correlation_id_to_mqtt(client: Client, amqp: Peer, name: str) -> None:
    assert (
        to_mqtt(client, amqp, name, correlation_id="größe").properties["correlation_data"] == "größe".encode()
    )


def test_reply_to_topic_to_mqtt(client: Client, amqp: Peer, name: str) -> None:
    message = to_mqtt(client, amqp, name, headers={"x-reply-to-topic": "answers.to.me"})
    assert message.properties["response_topic"] == "answers/to/me"
    assert message.user_properties == []


def test_only_string_headers_are_user_properties(client: Client, amqp: Peer, name: str) -> None:
    message = to_mqtt(
        client,
        amqp,
        name,
        headers={"b": "1", "a": "ü", "number": 5, "flag": True, "table": {"x": "y"}, "list": ["z"]},
    )
    assert sorted(message.user_properties) == [("a", "ü"), ("b", "1")]


def test_expiration_to_mqtt(client: Client, amqp: Peer, name: str) -> None:
    assert 58 <= to_mqtt(client, amqp, name, expiration="60000").properties["message_expiry"] <= 60


def test_all_other_properties_stay_behind(client: Client, amqp: Peer, name: str) -> None:
    message = to_mqtt(
        client, amqp, name, priority=3, message_id="m", timestamp=1_700_000_000, type="t", user_id="guest", app_id="a",
        content_encoding="gzip",
    )  # fmt: skip
    assert message.properties == {}


def test_version_3_gets_the_payload_alone(client: Client, amqp: Peer, name: str) -> None:
    subscriber = client(4).subscribed(f"{name}/#", qos=1)
    amqp.publish_confirmed(
        2, "amq.topic", f"{name}.x", b"x", content_type="c", headers={"a": "b"}, expiration="60000"
    )
    subscriber.receive(b"x", topic=f"{name}/x")


def test_a_text_that_is_no_text(client: Client, amqp: Peer, name: str) -> None:
    """AMQP strings may hold what MQTT strings may not: it is left out, and the message comes."""
    message = to_mqtt(client, amqp, name, content_type="a\0b", headers={"a\0": "b", "c": "d\0", "e": "f"})
    assert message.user_properties == [("e", "f")]
    assert "content_type" not in message.properties


def test_a_key_that_is_no_topic(client: Client, amqp: Peer, name: str) -> None:
    subscriber = client().subscribed(f"{name}/#", "#", qos=1)
    for key in (f"{name}.a\0b", f"{name}.+", f"{name}.a+b"):
        amqp.publish_confirmed(2, "amq.topic", key, b"x", delivery_mode=2)
    amqp.publish_confirmed(2, "amq.topic", f"{name}.good", b"good", delivery_mode=2)
    for message in (subscriber.receive(), *subscriber.barrier()):
        assert "\0" not in message.topic
        assert "#" not in message.topic
        last = message
    assert last.payload == b"good"


def test_mandatory_messages_are_not_returned_if_a_client_gets_them(
    client: Client, connect: Connect, name: str
) -> None:
    amqp = connect()
    amqp.confirm()
    amqp.publish(1, "amq.topic", name, b"x", mandatory=True)
    assert amqp.expect(1, "basic.return").reply_code == 312
    amqp.expect(1, "basic.ack")
    for qos in (0, 1):
        subscriber = client().subscribed(name, qos=qos)
        amqp.publish(1, "amq.topic", name, b"x", mandatory=True, delivery_mode=2)
        amqp.expect(1, "basic.ack")
        subscriber.receive(b"x")
        subscriber.disconnect()


def test_a_persistent_message_waits_for_a_client_that_is_away(client: Client, amqp: Peer, name: str) -> None:
    client(5, name, session_expiry=600).subscribed(f"{name}/x", qos=1).disconnect()
    amqp.publish_confirmed(2, "amq.topic", f"{name}.x", b"waits", delivery_mode=2, content_type="c")
    peer = client(5, name, clean_start=False, session_expiry=600)
    assert peer.receive(b"waits", qos=1).properties["content_type"] == "c"


def test_amqp_messages_are_not_retained(client: Client, amqp: Peer, name: str) -> None:
    amqp.publish_confirmed(2, "amq.topic", f"{name}.x", b"x", delivery_mode=2)
    client().subscribed(f"{name}/#").nothing()


def test_a_message_may_come_through_other_exchanges(client: Client, connect: Connect, name: str) -> None:
    """An exchange bound to amq.topic: its messages reach MQTT clients by their routing keys."""
    amqp = connect()
    amqp.rpc(1, "exchange.declare", exchange=name, type="fanout", auto_delete=True)
    amqp.rpc(1, "exchange.bind", destination="amq.topic", source=name)
    amqp.confirm()
    subscriber = client().subscribed(f"{name}/#")
    amqp.publish_confirmed(1, name, f"{name}.x", b"x")
    subscriber.receive(b"x", topic=f"{name}/x")


def test_there_and_back(client: Client, amqp: Peer, name: str) -> None:
    """What an MQTT 5 client publishes is the same to an MQTT 5 client after an AMQP client has moved it."""
    properties: dict[str, Any] = {
        "content_type": "application/json", "correlation_data": b"\0\xff", "response_topic": "a/b",
        "user_properties": [("a", "1"), ("b", "2")],
    }  # fmt: skip
    event = to_amqp(client, amqp, f"{name}/in", qos=1, **properties)
    subscriber = client().subscribed(f"{name}/out", qos=1)
    amqp.publish_confirmed(2, "amq.topic", f"{name}.out", event.body, **event.properties)
    message = subscriber.receive(b"payload")
    assert {key: message.properties.get(key) for key in properties} == properties


# Requests and answers


@contextlib.contextmanager
def serving(url: str, key: str) -> Iterator[None]:
    """An AMQP service, with pika: answers on the topic that the request names, upper case."""
    connection = pika.BlockingConnection(pika.URLParameters(url))
    channel = connection.channel()
    queue = channel.queue_declare("", exclusive=True).method.queue
    channel.queue_bind(queue, "amq.topic", key)

    def answer(channel: Any, method: Any, properties: Any, body: bytes) -> None:
        channel.basic_publish(
            "amq.topic",
            properties.headers["x-reply-to-topic"],
            body.upper(),
            pika.BasicProperties(
                correlation_id=properties.correlation_id, content_type=properties.content_type
            ),
        )
        channel.basic_ack(method.delivery_tag)

    channel.basic_consume(queue, answer)
    thread = threading.Thread(target=channel.start_consuming)
    thread.start()
    try:
        yield
    finally:
        connection.add_callback_threadsafe(channel.stop_consuming)
        thread.join(10)
        connection.close()


def test_an_mqtt_client_asks_an_amqp_service(client: Client, broker: LeveretServer, name: str) -> None:
    """5.0 4.10; the service is pika"""
    with serving(broker.url, f"{name}.ask"):
        asker = client(request_response_info=1)
        asker.subscribed(f"{name}/answers/1", qos=1)
        for number in range(3):
            asker.say_publish(
                f"{name}/ask", b"question", qos=0, response_topic=f"{name}/answers/1", content_type="text/plain",
                correlation_data=b"%d" % number,
            )  # fmt: skip
            message = asker.receive(b"QUESTION", topic=f"{name}/answers/1")
            assert message.properties["correlation_data"] == b"%d" % number
            assert message.properties["content_type"] == "text/plain"


def test_an_mqtt_client_asks_a_service_that_knows_nothing_of_topics(
    client: Client, amqp: Peer, name: str
) -> None:
    """`reply_to` over the default exchange, as every AMQP service does it"""
    asker = client().subscribed(f"{name}-answers", qos=1)
    asker.say_publish(f"{name}/ask", b"question", response_topic=f"{name}-answers", correlation_data=b"1")
    request = amqp.deliver()
    amqp.publish_confirmed(
        2, "", request.properties["reply_to"], b"answer", correlation_id=request.properties["correlation_id"]
    )
    answer = asker.receive(b"answer", topic=f"{name}-answers")
    assert answer.properties["correlation_data"] == b"1"


def test_an_amqp_client_asks_an_mqtt_service(client: Client, connect: Connect, name: str) -> None:
    """`reply_to` becomes a response topic; so does Direct Reply-to"""
    service = client().subscribed(f"{name}/ask", qos=0)
    amqp = connect()
    amqp.consume(1, "amq.rabbitmq.reply-to", no_ack=True)
    queue = amqp.declare(1, exclusive=True)
    amqp.consume(1, queue, no_ack=True)
    for reply_to in (queue, "amq.rabbitmq.reply-to"):
        amqp.publish(1, "amq.topic", f"{name}.ask", b"question", reply_to=reply_to, correlation_id="7")
        request = service.receive(b"question")
        service.say_publish(
            request.properties["response_topic"],
            b"answer",
            correlation_data=request.properties["correlation_data"],
        )
        answer = amqp.deliver()
        assert (answer.body, answer.properties["correlation_id"]) == (b"answer", "7")


def test_all_versions_and_amqp_see_the_same_order(client: Client, amqp: Peer, name: str) -> None:
    subscribers = [client(version).subscribed(f"{name}/#", qos=1) for version in (3, 4, 5)]
    publisher = client()
    for number in range(50):
        if number % 2:
            publisher.publish(f"{name}/x", b"%d" % number, qos=1)
        else:
            amqp.publish_confirmed(2, "amq.topic", f"{name}.x", b"%d" % number, delivery_mode=2)
    expected = [b"%d" % number for number in range(50)]
    for subscriber in subscribers:
        assert [subscriber.receive().payload for _ in expected] == expected

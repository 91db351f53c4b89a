"""Headers both ways: STOMP to STOMP, to and from AMQP, to and from MQTT."""

# mypy: disable-error-code="no-untyped-call,attr-defined,union-attr"
# paho sets the names of MQTT's properties at run time, without annotations.
from __future__ import annotations

import queue
from collections.abc import Callable
from typing import Self

import paho.mqtt.client as mqtt
import pytest
from e2e.stomp.stomp_broker import STOMP_REFERENCE, leveret_only
from support.amqp_peer import Peer
from support.server import LeveretServer, Server
from support.stomp_peer import StompPeer

Open = Callable[..., StompPeer]

PROPERTIES = {
    "content-type": "text/plain",
    "content-encoding": "gzip",
    "priority": "7",
    "correlation-id": "c1",
    "expiration": "60000",
    "timestamp": "1700000000",
    "type": "greeting",
    "user-id": "guest",
    "app-id": "app",
    "cluster-id": "cluster",
}
"""Headers of SEND that are properties of the message, under the same names in MESSAGE."""


def test_headers_come_as_they_went(stomper: StompPeer, name: str) -> None:
    stomper.subscribe(f"/queue/{name}")
    sent = PROPERTIES | {"persistent": "true", "amqp-message-id": "m1", "color": "blue", "X-Empty": ""}
    stomper.send("SEND", b"x", destination=f"/queue/{name}", headers=sent)
    message = stomper.message(b"x")
    assert {key: message.get(key) for key in sent} == sent
    assert message.names - set(sent) == {
        "subscription",
        "destination",
        "message-id",
        "redelivered",
        "content-length",
    }


def test_transient_is_the_default(stomper: StompPeer, connect: Callable[..., Peer], name: str) -> None:
    stomper.publish(f"/queue/{name}", b"x")
    stomper.publish(f"/queue/{name}", b"y", persistent="true")
    stomper.publish(f"/queue/{name}", b"z", persistent="false")
    amqp = connect()
    modes = []
    for _ in range(3):
        event = amqp.get(1, name)
        assert event is not None
        modes.append(event.properties.get("delivery_mode"))
    assert modes[1] == 2
    assert {modes[0], modes[2]} <= {None, 1}


def test_to_amqp(stomper: StompPeer, connect: Callable[..., Peer], name: str) -> None:
    headers = PROPERTIES | {"persistent": "true", "amqp-message-id": "m1", "color": "blue", "n": "5"}
    stomper.publish(f"/queue/{name}", b"x", headers=headers)
    event = connect().get(1, name)
    assert event is not None
    assert event.body == b"x"
    properties = event.properties
    assert properties["headers"]["color"] == "blue"
    assert properties["headers"]["n"] == "5"
    assert {key: value for key, value in properties.items() if key not in ("headers", "cluster_id")} == {
        "content_type": "text/plain", "content_encoding": "gzip", "delivery_mode": 2, "priority": 7,
        "correlation_id": "c1", "expiration": "60000", "message_id": "m1", "timestamp": 1700000000,
        "type": "greeting", "user_id": "guest", "app_id": "app",
    }  # fmt: skip
    assert properties.get("cluster_id") == (None if STOMP_REFERENCE else "cluster")  # 3.10 loses it


def test_from_amqp(stomper: StompPeer, connect: Callable[..., Peer], name: str) -> None:
    stomper.subscribe(f"/queue/{name}")
    connect().publish(
        1, "", name, b"x\0y",
        content_type="a/b", content_encoding="gzip", delivery_mode=2, priority=3, correlation_id="c:1", reply_to="amq.q",
        expiration="60000", message_id="m1", timestamp=1700000000, type="t", user_id="guest", app_id="a",
        headers={"s": "text", "i": 5, "b": True, "f": 1.5, "esc": "a\nb:c\\"},
    )  # fmt: skip
    message = stomper.message(b"x\0y")
    expected = {
        "content-type": "a/b", "content-encoding": "gzip", "persistent": "true", "priority": "3",
        "correlation-id": "c:1", "expiration": "60000", "amqp-message-id": "m1", "timestamp": "1700000000", "type": "t",
        "user-id": "guest", "app-id": "a", "s": "text", "i": "5", "b": "true", "esc": "a\nb:c\\",
        "destination": f"/queue/{name}", "content-length": "3",
    }  # fmt: skip
    if STOMP_REFERENCE:
        del expected["b"]  # 3.10 leaves it out
    assert {key: message.get(key) for key in expected} == expected
    if not STOMP_REFERENCE:
        assert float(message["f"]) == 1.5
    assert message["reply-to"] in ("amq.q", "/queue/amq.q", "/reply-queue/amq.q")


def test_what_is_no_text_does_no_harm(stomper: StompPeer, connect: Callable[..., Peer], name: str) -> None:
    """Tables, arrays and bytes that are no UTF-8 in AMQP headers."""
    stomper.subscribe(f"/queue/{name}")
    amqp = connect()
    amqp.publish(1, "", name, b"x", headers={"t": {"a": 1}, "l": [1, "x"], "n": None, "ok": "yes"})
    assert stomper.message(b"x")["ok"] == "yes"


def test_message_id_on_send_is_refused(stomper: StompPeer, name: str) -> None:
    stomper.send("SEND", destination=f"/queue/{name}", message_id="x")
    frame = stomper.expect("ERROR", message="Invalid header")
    assert "'message-id' is not allowed on 'SEND'." in frame.body.decode()


def test_a_foreign_user_id_is_refused(stomper: StompPeer, name: str) -> None:
    stomper.send("SEND", destination=f"/queue/{name}", user_id="somebody")
    frame = stomper.expect("ERROR", message="precondition_failed")
    assert "user_id property set to 'somebody' but authenticated user was 'guest'" in frame.body.decode()


@pytest.mark.parametrize(
    ("header", "value"), [("priority", "high"), ("timestamp", "noon"), ("expiration", "soon")]
)
def test_properties_that_cannot_be(stomper: StompPeer, name: str, header: str, value: str) -> None:
    stomper.send("SEND", destination=f"/queue/{name}", receipt="r", headers={header: value})
    stomper.expect("ERROR")


def test_expiration(stomp: Open, name: str) -> None:
    peer = stomp()
    peer.publish(f"/queue/{name}", b"short", expiration="1")
    peer.publish(f"/queue/{name}", b"long", expiration="60000")
    peer.nothing(0.05)
    peer.subscribe(f"/queue/{name}")
    peer.message(b"long")


def test_priority(stomp: Open, name: str) -> None:
    peer = stomp()
    peer.ask("SUBSCRIBE", destination=f"/queue/{name}", id="s", headers={"x-max-priority": "9"})
    peer.ask("UNSUBSCRIBE", id="s")
    with_priorities = [("a", "1"), ("b", "9"), ("c", "5")]
    for body, priority in with_priorities:
        peer.publish(f"/amq/queue/{name}", body.encode(), priority=priority)
    peer.subscribe(f"/amq/queue/{name}", id="t")
    assert [message.body for message in peer.messages(3)] == [b"b", b"c", b"a"]


# -- MQTT


def mqtt_port(shared: Server) -> int:
    if isinstance(shared, LeveretServer):
        return shared.ports["mqtt"]
    pytest.skip("the reference's MQTT port is not known")


class Device:
    """A paho client in its thread; what it got."""

    def __init__(self, port: int) -> None:
        self.got: queue.Queue[mqtt.MQTTMessage] = queue.Queue()
        self.ready: queue.Queue[str] = queue.Queue()
        self.client = mqtt.Client(mqtt.CallbackAPIVersion.VERSION2, protocol=mqtt.MQTTv5)
        self.client.username_pw_set("guest", "guest")
        self.client.on_connect = lambda *arguments: self.ready.put("connected")
        self.client.on_subscribe = lambda *arguments: self.ready.put("subscribed")
        self.client.on_message = lambda client, data, message: self.got.put(message)
        self.client.connect("127.0.0.1", port)
        self.client.loop_start()
        assert self.ready.get(timeout=10) == "connected"

    def subscribe(self, topic: str) -> None:
        self.client.subscribe(topic, qos=1)
        assert self.ready.get(timeout=10) == "subscribed"

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.client.disconnect()
        self.client.loop_stop()


def test_from_mqtt(stomper: StompPeer, shared: Server, name: str) -> None:
    """A topic's slashes are dots in STOMP's /topic/."""
    stomper.subscribe(f"/topic/{name}.*.temperature")
    with Device(mqtt_port(shared)) as device:
        device.client.publish(f"{name}/kitchen/temperature", b"21.5", qos=1).wait_for_publish(5)
    message = stomper.message(b"21.5")
    assert message["destination"] == f"/topic/{name}.kitchen.temperature"


def test_to_mqtt(stomper: StompPeer, shared: Server, name: str) -> None:
    with Device(mqtt_port(shared)) as device:
        device.subscribe(f"{name}/+/light")
        stomper.publish(
            f"/topic/{name}.kitchen.light", b"on", content_type="text/plain", persistent="true", room="k"
        )
        message = device.got.get(timeout=10)
        assert (message.topic, message.payload) == (f"{name}/kitchen/light", b"on")
        assert message.properties.ContentType == "text/plain"
        assert ("room", "k") in message.properties.UserProperty


@leveret_only("MQTT 5")
def test_mqtt_properties_are_stomp_headers_and_back(stomper: StompPeer, shared: Server, name: str) -> None:
    stomper.subscribe(f"/topic/{name}")
    with Device(mqtt_port(shared)) as device:
        properties = mqtt.Properties(mqtt.PacketTypes.PUBLISH)
        properties.ContentType = "application/json"
        properties.CorrelationData = b"c1"
        properties.UserProperty = [("color", "blue")]
        device.client.publish(name, b"{}", qos=1, properties=properties).wait_for_publish(5)
        message = stomper.message(b"{}")
        assert (message["content-type"], message["correlation-id"], message["color"]) == (
            "application/json", "c1", "blue",
        )  # fmt: skip

"""Quality of service in both directions: flows, resending, order, quotas (3.1.1 and 5.0, chapters 4.3 to 4.9)."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from e2e.mqtt.mqtt_broker import leveret_only, mosquitto_differs, versions
from support import mqtt_wire
from support.mqtt_peer import MqttPeer, MqttPeerClosed, Sub
from support.server import LeveretServer

Client = Callable[..., MqttPeer]
Start = Callable[..., LeveretServer]


def durable(version: int) -> dict[str, Any]:
    return {"clean_start": False} | ({"session_expiry": 600} if version == 5 else {})


@versions
@pytest.mark.parametrize("asked", [0, 1, 2])
@pytest.mark.parametrize("published", [0, 1, 2])
def test_42_delivery_has_the_lower_qos(
    client: Client, name: str, version: int, asked: int, published: int
) -> None:
    """[MQTT-3.8.4-8] [MQTT-4.3.1-1] [MQTT-4.3.2-1..5] [MQTT-4.3.3-1..]"""
    subscriber, publisher = client(version).subscribed(name, qos=asked), client(version)
    publisher.publish(name, b"payload", qos=published)
    message = subscriber.receive(b"payload", topic=name, retain=False, dup=False)
    assert message.qos == min(asked, published)
    subscriber.nothing()


@versions
@pytest.mark.parametrize("qos", [0, 1, 2])
@pytest.mark.parametrize("size", [0, 1, 127, 128, 16_384, 1_000_000])
def test_payloads_of_all_sizes(client: Client, name: str, version: int, qos: int, size: int) -> None:
    subscriber, publisher = client(version).subscribed(name, qos=qos), client(version)
    payload = bytes(range(256)) * (size // 256) + bytes(size % 256)
    publisher.publish(name, payload, qos=qos)
    assert subscriber.receive(qos=qos).payload == payload
    subscriber.nothing()


@versions
@pytest.mark.parametrize("qos", [0, 1, 2])
def test_42_order_per_topic(client: Client, name: str, version: int, qos: int) -> None:
    """[MQTT-4.6.0-1..6]"""
    subscriber, publisher = client(version).subscribed(f"{name}/#", qos=2), client(version)
    payloads = [b"%d" % number for number in range(200)]
    for batch in range(0, 200, 20):
        packet_ids = range(batch + 1, batch + 21) if qos else [None] * 20
        publisher.send_raw(
            b"".join(
                mqtt_wire.publish(version, f"{name}/a", payload, qos=qos, packet_id=packet_id)
                for packet_id, payload in zip(packet_ids, payloads[batch : batch + 20], strict=True)
            )
        )
        for packet_id in filter(None, packet_ids):
            publisher.expect(
                "PUBACK" if qos == 1 else "PUBREC", packet_id=packet_id
            )  # [MQTT-4.6.0-2] [MQTT-4.6.0-3]
            if qos == 2:
                publisher.settle("PUBREL", packet_id)
        for packet_id in filter(None, packet_ids if qos == 2 else []):
            publisher.expect("PUBCOMP", packet_id=packet_id)  # [MQTT-4.6.0-4]
    found: list[bytes] = []
    while len(found) < 200:
        message = subscriber.receive(qos=qos)
        found.append(message.payload)
    assert found == payloads
    subscriber.nothing()


@versions
def test_packet_ids_are_free_again(client: Client, name: str, version: int) -> None:
    """[MQTT-2.2.1-2..4]: the same id for every message, and beyond 65535 of them to a subscriber is another test"""
    subscriber, publisher = client(version).subscribed(name, qos=2), client(version)
    for number in range(5):
        for qos in (1, 2):
            publisher.publish(name, b"%d" % number, qos=qos, packet_id=0xFFFF)
            subscriber.receive(b"%d" % number, qos=qos)
    subscriber.nothing()


# QoS 2 from a client


@mosquitto_differs("takes a DUP on a live connection for an error")
@versions
def test_qos_2_is_delivered_once_though_published_twice(client: Client, name: str, version: int) -> None:
    """[MQTT-4.3.3-2] of 3.1.1, [MQTT-4.3.3-10] of 5.0: the id is known until PUBREL"""
    subscriber, publisher = client(version).subscribed(name, qos=2), client(version)
    for dup in (False, True, True):
        publisher.say_publish(name, b"once", qos=2, packet_id=5, dup=dup)
        assert publisher.expect("PUBREC", packet_id=5).code == 0
    for _ in range(2):
        publisher.settle("PUBREL", 5)
        publisher.expect("PUBCOMP", packet_id=5)
    publisher.publish(name, b"new", qos=2, packet_id=5)
    subscriber.receive(b"once")
    subscriber.receive(b"new")
    subscriber.nothing()


@pytest.mark.parametrize("version", [4, 5], ids=["v3.1.1", "v5"])
def test_qos_2_is_delivered_once_over_a_reconnect(client: Client, name: str, version: int) -> None:
    """[MQTT-4.4.0-1]; ids that were received are part of the session (4.1)"""
    subscriber = client(version).subscribed(f"{name}/t", qos=2)
    publisher = client(version, name, **durable(version))
    publisher.say_publish(f"{name}/t", b"once", qos=2, packet_id=5)
    publisher.expect("PUBREC", packet_id=5)
    publisher.close()
    publisher = client(version, name, **durable(version))
    assert publisher.connack.session_present
    publisher.say_publish(f"{name}/t", b"once", qos=2, packet_id=5, dup=True)
    assert publisher.expect("PUBREC", packet_id=5).code == 0
    publisher.settle("PUBREL", 5)
    publisher.expect("PUBCOMP", packet_id=5)
    subscriber.receive(b"once")
    subscriber.nothing()


@pytest.mark.parametrize("version", [4, 5], ids=["v3.1.1", "v5"])
def test_a_pubrel_may_come_after_a_reconnect(client: Client, name: str, version: int) -> None:
    subscriber = client(version).subscribed(f"{name}/t", qos=2)
    publisher = client(version, name, **durable(version))
    publisher.say_publish(f"{name}/t", b"once", qos=2, packet_id=5)
    publisher.expect("PUBREC", packet_id=5)
    publisher.close()
    publisher = client(version, name, **durable(version))
    publisher.settle("PUBREL", 5)
    assert publisher.expect("PUBCOMP", packet_id=5).code == 0
    subscriber.receive(b"once")
    subscriber.nothing()


@mosquitto_differs("PUBCOMP with 0")
def test_a_pubrel_for_nothing(client: Client) -> None:
    """5.0 3.7.2.1: 0x92; in version 3 it must be answered all the same"""
    for version in (4, 5):
        peer = client(version)
        peer.settle("PUBREL", 99)
        assert peer.expect("PUBCOMP", packet_id=99).code == (0x92 if version == 5 else 0)


def test_qos_1_and_2_share_the_ids_but_not_the_meaning(client: Client, name: str) -> None:
    """A QoS 1 message whose id is that of an unfinished QoS 2 message is a mistake that must do no harm."""
    subscriber, publisher = client().subscribed(name, qos=2), client()
    publisher.say_publish(name, b"two", qos=2, packet_id=5)
    publisher.expect("PUBREC", packet_id=5)
    publisher.settle("PUBREL", 5)
    publisher.expect("PUBCOMP", packet_id=5)
    publisher.publish(name, b"one", qos=1, packet_id=5)
    subscriber.receive(b"two")
    subscriber.receive(b"one")


# To a client


@pytest.mark.parametrize("version", [4, 5], ids=["v3.1.1", "v5"])
def test_41_what_was_not_acknowledged_is_sent_again(client: Client, name: str, version: int) -> None:
    """[MQTT-4.4.0-1] [MQTT-4.6.0-1] [MQTT-3.3.1-1]; same ids, DUP, original order"""
    first = client(version, name, **durable(version)).subscribed(f"{name}/t", qos=2)
    publisher = client()
    for number in range(6):
        publisher.publish(f"{name}/t", b"%d" % number, qos=1 + number % 2)
    sent = [first.expect("PUBLISH", payload=b"%d" % number, dup=False) for number in range(6)]
    assert len({message.packet_id for message in sent}) == 6
    first.settle("PUBACK", sent[0].packet_id)
    first.barrier()
    first.close()
    second = client(version, name, **durable(version))
    again = [second.expect("PUBLISH", dup=True) for _ in range(5)]
    assert [(m.payload, m.packet_id, m.qos) for m in again] == [
        (m.payload, m.packet_id, m.qos) for m in sent[1:]
    ]
    second.nothing()
    second.close()
    third = client(version, name, **durable(version))
    for message in sent[1:]:
        third.receive(message.payload, dup=True, packet_id=message.packet_id)
    third.nothing()


@pytest.mark.parametrize("version", [4, 5], ids=["v3.1.1", "v5"])
def test_41_a_pubrel_is_sent_again(client: Client, name: str, version: int) -> None:
    """[MQTT-4.4.0-1]: after PUBREC the message is not sent again, PUBREL is"""
    first = client(version, name, **durable(version)).subscribed(f"{name}/t", qos=2)
    client().publish(f"{name}/t", b"x", qos=2)
    message = first.expect("PUBLISH", qos=2)
    first.settle("PUBREC", message.packet_id)
    first.expect("PUBREL", packet_id=message.packet_id)
    first.close()
    second = client(version, name, **durable(version))
    second.expect("PUBREL", packet_id=message.packet_id)
    second.nothing()
    second.settle("PUBCOMP", message.packet_id)
    second.barrier()
    second.close()
    client(version, name, **durable(version)).nothing()


@versions
def test_41_nothing_is_sent_again_on_a_live_connection(client: Client, name: str, version: int) -> None:
    """[MQTT-4.4.0-1] of 5.0"""
    subscriber = client(version).subscribed(name, qos=2)
    publisher = client()
    publisher.publish(name, b"x", qos=2)
    publisher.publish(name, b"x", qos=1)
    subscriber.expect("PUBLISH")
    subscriber.expect("PUBLISH")
    subscriber.nothing(0.3)


def test_a_new_session_has_nothing_in_flight(client: Client, name: str) -> None:
    first = client(5, name, session_expiry=600).subscribed(f"{name}/t", qos=1)
    client().publish(f"{name}/t", b"x")
    first.expect("PUBLISH")
    first.close()
    client(5, name, clean_start=True).subscribed(f"{name}/t", qos=1).nothing()


@mosquitto_differs("PUBREL with 0")
def test_acknowledging_twice_or_what_was_never_sent(client: Client, name: str) -> None:
    """PUBACK has no answer; PUBREC for nothing is answered by PUBREL with 0x92 (5.0 3.6.2.1). No harm is done."""
    peer = client().subscribed(name, qos=2)
    peer.settle("PUBACK", 9)
    peer.settle("PUBCOMP", 9)
    peer.ping()
    peer.settle("PUBREC", 9)
    try:
        assert peer.expect("PUBREL", packet_id=9).code == 0x92
    except MqttPeerClosed:  # a protocol error is arguable, too
        peer = client().subscribed(name, qos=2)
    client().publish(name, b"x", qos=2)
    peer.receive(b"x")


def test_a_client_may_refuse_a_message(client: Client, name: str) -> None:
    """[MQTT-4.3.2-2] [MQTT-4.3.3-3..4]: PUBACK and PUBREC with a code from 0x80 end the flow; no PUBREL."""
    peer = client(5, name, session_expiry=600, receive_maximum=1).subscribed(f"{name}/t", qos=2)
    publisher = client()
    for qos in (1, 2, 2):
        publisher.publish(f"{name}/t", b"%d" % qos, qos=qos)
    peer.settle("PUBACK", peer.expect("PUBLISH", qos=1).packet_id, 0x99)
    peer.settle("PUBREC", peer.expect("PUBLISH", qos=2).packet_id, 0x97)
    peer.receive(b"2")
    peer.nothing()
    peer.close()
    client(5, name, clean_start=False, session_expiry=600).nothing()


# Quotas


@mosquitto_differs("counts until PUBREC only")
def test_44_the_clients_receive_maximum_is_kept(client: Client, name: str) -> None:
    """[MQTT-3.3.4-9] [MQTT-4.9.0-1..3]; QoS 0 does not count"""
    peer = client(receive_maximum=2).subscribed(name, qos=2)
    publisher = client()
    for number in range(5):
        publisher.publish(name, b"%d" % number, qos=1 + number % 2)
    publisher.publish(name, b"free", qos=0)
    seen = peer.barrier()
    assert sorted(message.payload for message in seen) == [b"0", b"1", b"free"]
    first, second = (message for message in seen if message.qos)
    peer.settle("PUBACK", first.packet_id)
    third = peer.expect("PUBLISH", payload=b"2")
    peer.settle("PUBREC", second.packet_id)
    peer.expect("PUBREL", packet_id=second.packet_id)
    peer.nothing()  # it counts until PUBCOMP
    peer.settle("PUBCOMP", second.packet_id)
    fourth = peer.expect("PUBLISH", payload=b"3")
    peer.acknowledge(third)
    peer.acknowledge(fourth)
    if not (rest := [packet for packet in peer.barrier() if packet.name == "PUBLISH"]):
        rest = [peer.next()]
    assert [message.payload for message in rest] == [b"4"]


@mosquitto_differs("sends more")
def test_44_the_receive_maximum_holds_for_what_is_sent_again(client: Client, name: str) -> None:
    first = client(5, name, session_expiry=600).subscribed(f"{name}/t", qos=1)
    publisher = client()
    for number in range(6):
        publisher.publish(f"{name}/t", b"%d" % number)
    for _ in range(4):
        first.expect("PUBLISH")
    first.close()
    second = client(5, name, clean_start=False, session_expiry=600, receive_maximum=2)
    seen = second.barrier()
    assert [message.payload for message in seen] == [b"0", b"1"]
    for message in seen:
        second.acknowledge(message)
    assert [second.receive().payload for _ in range(4)] == [b"2", b"3", b"4", b"5"]


def test_44_too_many_in_flight_from_a_client(tuned: int) -> None:
    """[MQTT-3.3.4-7..8] [MQTT-4.9.0-..]: DISCONNECT 0x93, and the others do not notice"""
    with MqttPeer.open(tuned) as peer, MqttPeer.open(tuned) as other:
        assert peer.connack.properties["receive_maximum"] == 3
        for number in range(1, 4):
            peer.say_publish("t", b"x", qos=2, packet_id=number)
            peer.expect("PUBREC", packet_id=number)
        peer.say_publish("t", b"x", qos=0)
        peer.say_publish("t", b"x", qos=2, packet_id=3, dup=True)  # known: no more in flight
        peer.expect("PUBREC", packet_id=3)
        peer.ping()
        peer.say_publish("t", b"x", qos=2, packet_id=4)
        peer.expect_disconnect(0x93)
        for _ in range(5):
            other.publish("t", b"x", qos=1)
            other.publish("t", b"x", qos=2)


def test_44_packet_id_zero(client: Client) -> None:
    """[MQTT-2.2.1-3] of 5.0, [MQTT-2.3.1-1] of 3.1.1"""
    for version in (4, 5):
        for packet in (
            mqtt_wire.publish(version, "t", b"x", qos=1, packet_id=0),
            mqtt_wire.publish(version, "t", b"x", qos=2, packet_id=0),
            mqtt_wire.subscribe(version, 0, [Sub("t")]),
            mqtt_wire.unsubscribe(version, 0, ["t"]),
        ):
            peer = client(version)
            peer.send_raw(packet)
            peer.expect_end(0x82, 0x81)


def test_the_servers_own_bound_on_what_is_in_flight(tuned: int) -> None:
    with MqttPeer.open(tuned, 4, "s").subscribed("t", qos=1) as peer, MqttPeer.open(tuned) as publisher:
        for number in range(6):
            publisher.publish("t", b"%d" % number)
        seen = peer.barrier()
        assert len(seen) == 3
        for message in seen:
            peer.acknowledge(message)
        assert [peer.receive().payload for _ in range(3)] == [b"3", b"4", b"5"]


# What a client cannot take


def test_messages_over_the_clients_maximum_packet_size_are_left_out(client: Client, name: str) -> None:
    """[MQTT-3.1.2-24] [MQTT-3.1.2-25]: as if it had been sent and acknowledged"""
    peer = client(maximum_packet_size=100, receive_maximum=2).subscribed(name, qos=2)
    publisher = client()
    for qos in (0, 1, 2):
        publisher.publish(name, bytes(200), qos=qos)
        publisher.publish(name, b"small", qos=qos)
    for _ in range(3):
        peer.receive(b"small")
    peer.nothing()


def test_topic_aliases_of_a_client(client: Client, name: str) -> None:
    """[MQTT-3.3.2-8..10]: set, used, set anew, gone with the connection"""
    subscriber = client().subscribed(f"{name}/#")
    publisher = client(5, name)
    publisher.say_publish(f"{name}/a", b"1", topic_alias=1)
    publisher.say_publish("", b"2", topic_alias=1)
    publisher.say_publish(f"{name}/b", b"3", topic_alias=1)
    publisher.publish("", b"4", topic_alias=1, qos=2)
    topics = [subscriber.receive(b"%d" % number).topic for number in (1, 2, 3, 4)]
    assert topics == [f"{name}/a", f"{name}/a", f"{name}/b", f"{name}/b"]
    publisher.close()
    publisher = client(5, name)
    publisher.say_publish("", b"5", topic_alias=1)
    publisher.expect_end(0x82, 0x94)
    subscriber.nothing()


@mosquitto_differs("0x81 for alias 0")
@pytest.mark.parametrize("alias", [0, 17, 65535])
def test_topic_aliases_that_are_not_allowed(client: Client, name: str, alias: int) -> None:
    """[MQTT-3.3.2-8] [MQTT-3.3.2-9]: 0x94"""
    peer = client()
    peer.say_publish(name, b"x", topic_alias=alias)
    peer.expect_end(0x94)


@pytest.mark.parametrize("maximum", [0, 1, 3])
def test_topic_aliases_of_the_server(client: Client, name: str, maximum: int) -> None:
    """[MQTT-3.1.2-26] [MQTT-3.1.2-27]: no more than the client allows"""
    peer = client(**({"topic_alias_maximum": maximum} if maximum else {})).subscribed(f"{name}/#", qos=1)
    publisher = client()
    for number in range(12):
        publisher.publish(f"{name}/{number % 4}", b"x", qos=number % 2)
    for number in range(12):
        message = peer.receive(topic=f"{name}/{number % 4}")
        assert 0 < message.properties.get("topic_alias", 1) <= max(maximum, 1)
        if not maximum:
            assert "topic_alias" not in message.properties


# Answers


@mosquitto_differs("never in PUBREC")
def test_46_nobody_is_subscribed(client: Client, name: str) -> None:
    """5.0 3.4.2.1, 3.5.2.1: 0x10"""
    publisher = client()
    assert publisher.publish(name, b"x", qos=1).code == 0x10
    assert publisher.publish(name, b"x", qos=2).code == 0x10
    client().subscribed(name)
    assert publisher.publish(name, b"x", qos=1).code == 0
    assert publisher.publish(name, b"x", qos=2).code == 0


@leveret_only("Mosquitto keeps no queue for a subscription at QoS 0, and has no bound here")
def test_a_slow_client_at_qos_0_loses_messages_and_does_not_grow_the_server(start: Start) -> None:
    mine = start(outbox_bytes=65536)
    port = mine.ports["mqtt"]
    with MqttPeer.open(port) as slow, MqttPeer.open(port) as publisher:
        slow.subscribed("t")
        before = _memory(mine)
        for _ in range(100):
            publisher.send_raw(b"".join(mqtt_wire.publish(5, "t", bytes(65536)) for _ in range(20)))
        publisher.ping()
        assert _memory(mine) - before < 64 << 20
        seen = slow.barrier()
        assert 1 <= len(seen) < 2000
        publisher.publish("t", b"last", qos=0)
        slow.receive(b"last")


def _memory(server: LeveretServer) -> int:
    with open(f"/proc/{server.process.pid}/statm") as file:
        return int(file.read().split()[1]) * 4096

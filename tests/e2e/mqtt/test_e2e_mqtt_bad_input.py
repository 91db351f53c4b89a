"""What a client must not send: which code tells it so, and that nobody else notices (5.0 4.13, 1.5, 2.1; 3.1.1 4.8)."""

from __future__ import annotations

import random
from collections.abc import Callable

import pytest
from e2e.mqtt.mqtt_broker import leveret_only, mosquitto_differs
from support import mqtt_wire
from support.mqtt_peer import MqttPeer, Sub
from support.mqtt_wire import packet, properties_block, string

Client = Callable[..., MqttPeer]

MALFORMED, PROTOCOL = 0x81, 0x82

# (bytes, codes that version 5 may be told, is it wrong in version 3.1.1 too)
BAD: dict[str, tuple[bytes, tuple[int, ...], bool]] = {
    "type 0": (b"\x00\x00", (MALFORMED, PROTOCOL), True),
    "length of five bytes": (b"\x30\xff\xff\xff\xff\x01", (MALFORMED,), True),
    "CONNACK": (packet("CONNACK", b"\0\0"), (PROTOCOL, MALFORMED), True),
    "SUBACK": (packet("SUBACK", b"\0\1\0"), (PROTOCOL, MALFORMED), True),
    "UNSUBACK": (packet("UNSUBACK", b"\0\1"), (PROTOCOL, MALFORMED), True),
    "PINGRESP": (packet("PINGRESP"), (PROTOCOL, MALFORMED), True),
    "PINGREQ with flags": (packet("PINGREQ", flags=1), (MALFORMED,), True),
    "PINGREQ with a payload": (packet("PINGREQ", b"x"), (MALFORMED,), True),
    "DISCONNECT with flags": (packet("DISCONNECT", flags=2), (MALFORMED,), True),
    "PUBACK with flags": (packet("PUBACK", b"\0\1", flags=2), (MALFORMED,), True),
    "PUBREC with flags": (packet("PUBREC", b"\0\1", flags=1), (MALFORMED,), True),
    "PUBREL without its flag": (packet("PUBREL", b"\0\1", flags=0), (MALFORMED,), True),
    "PUBCOMP with flags": (packet("PUBCOMP", b"\0\1", flags=8), (MALFORMED,), True),
    "PUBACK of one byte": (packet("PUBACK", b"\0"), (MALFORMED,), True),
    "PUBACK without id": (packet("PUBACK"), (MALFORMED,), True),
    "PUBREL of id 0": (packet("PUBREL", b"\0\0"), (PROTOCOL, MALFORMED), True),
    "QoS 3": (packet("PUBLISH", string("t"), b"\0\1", b"\0", flags=6), (MALFORMED,), True),
    "QoS 0 with DUP": (packet("PUBLISH", string("t"), b"\0", flags=8), (MALFORMED, PROTOCOL), True),
    "PUBLISH of nothing": (packet("PUBLISH"), (MALFORMED,), True),
    "PUBLISH cut in the topic": (packet("PUBLISH", b"\0\5ab"), (MALFORMED,), True),
    "PUBLISH cut in the id": (packet("PUBLISH", string("t"), b"\0", flags=2), (MALFORMED,), True),
    "SUBSCRIBE of nothing": (packet("SUBSCRIBE"), (MALFORMED,), True),
    "SUBSCRIBE without options": (packet("SUBSCRIBE", b"\0\1\0", string("t")), (MALFORMED,), False),
    "SUBSCRIBE cut in the filter": (packet("SUBSCRIBE", b"\0\1\0\0\x09ab"), (MALFORMED,), True),
    "UNSUBSCRIBE cut in the filter": (packet("UNSUBSCRIBE", b"\0\1\0\0\x09ab"), (MALFORMED,), True),
    "AUTH": (packet("AUTH", b"\x18\0"), (PROTOCOL, MALFORMED), True),
    "type 15 with flags": (packet("AUTH", b"\x18\0", flags=1), (PROTOCOL, MALFORMED), True),
    "properties cut": (packet("PUBLISH", string("t"), b"\x05\x01"), (MALFORMED,), False),
    "property of no packet": (packet("PUBLISH", string("t"), b"\x02\x7f\x01"), (MALFORMED, PROTOCOL), False),
    "property of another packet": (packet("PUBLISH", string("t"), b"\x03\x21\0\x05"), (MALFORMED, PROTOCOL), False),
    "property length of five bytes": (packet("PUBLISH", string("t"), b"\xff\xff\xff\xff\x01"), (MALFORMED,), False),
    "payload format 2": (
        packet("PUBLISH", string("t"), properties_block({"payload_format": 2})), (MALFORMED, PROTOCOL), False
    ),
    "content type twice": (
        packet("PUBLISH", string("t"), properties_block({"content_type": ["a", "b"]})), (PROTOCOL,), False
    ),
    "message expiry twice": (
        packet("PUBLISH", string("t"), properties_block({"message_expiry": [1, 1]})), (PROTOCOL,), False
    ),
    "subscription identifier by a client": (
        packet("PUBLISH", string("t"), properties_block({"subscription_id": 1})), (PROTOCOL, MALFORMED), False
    ),
    "response topic with wildcards": (
        packet("PUBLISH", string("t"), properties_block({"response_topic": "a/#"})), (PROTOCOL, MALFORMED, 0x90), False
    ),
    "content type that is not UTF-8": (
        packet("PUBLISH", string("t"), properties_block({"content_type": b"\xff"})), (MALFORMED, PROTOCOL), False
    ),
    "user property that is not UTF-8": (
        packet("PUBLISH", string("t"), properties_block({"user_properties": [(b"\xff", b"x")]})),
        (MALFORMED, PROTOCOL),
        False,
    ),
    "no topic and no alias": (packet("PUBLISH", string(""), b"\0"), (PROTOCOL, 0x90, MALFORMED), True),
    "DISCONNECT with a property of CONNACK": (
        packet("DISCONNECT", b"\0", properties_block({"receive_maximum": 3})), (MALFORMED, PROTOCOL), False
    ),
    "PUBACK with a property of PUBLISH": (
        packet("PUBACK", b"\0\1\0", properties_block({"payload_format": 1})), (MALFORMED, PROTOCOL), False
    ),
}  # fmt: skip

LENIENT = {"PUBACK with a property of PUBLISH"}
"""Acknowledgements of what was never sent: ignoring all of it is as good."""


@mosquitto_differs("does not look at everything")
@pytest.mark.parametrize("version", [4, 5], ids=["v3.1.1", "v5"])
@pytest.mark.parametrize("case", BAD)
def test_bad_packets_end_that_connection_only(client: Client, name: str, version: int, case: str) -> None:
    """[MQTT-4.8.0-1] of 3.1.1, [MQTT-4.13.1-1] of 5.0 (DISCONNECT with the code, then the end)"""
    data, codes, is_always = BAD[case]
    if version == 4 and not is_always:
        data = packet("PUBLISH", b"\0\x09t")  # what it would be there, cut short
    other = client(version).subscribed(name, qos=1)
    peer = client(version)
    peer.send_raw(data)
    if case not in LENIENT:
        peer.expect_end(*codes)
    other.publish(f"{name}/x", b"x", qos=0)
    client(version).publish(name, b"still here")
    other.receive(b"still here")


@leveret_only("Mosquitto closes without a word in places")
@pytest.mark.parametrize("case", sorted(set(BAD) - LENIENT))
def test_version_5_is_told_why(client: Client, case: str) -> None:
    """5.0 4.13.1: "a server SHOULD send DISCONNECT with the reason" """
    peer = client(5)
    peer.send_raw(BAD[case][0])
    peer.expect_disconnect(*BAD[case][1])


def test_what_came_before_the_mistake_counts(client: Client, name: str) -> None:
    subscriber, peer = client().subscribed(name, qos=1), client()
    peer.send_raw(
        mqtt_wire.publish(5, name, b"1") + mqtt_wire.publish(5, name, b"2", qos=1, packet_id=1) + b"\xf3\x7f"
    )
    subscriber.receive(b"1")
    subscriber.receive(b"2")


def test_what_comes_after_the_mistake_does_not(client: Client, name: str) -> None:
    subscriber, peer = client().subscribed(name, qos=1), client()
    peer.send_raw(packet("PUBLISH", flags=6) + mqtt_wire.publish(5, name, b"late"))
    peer.expect_end(MALFORMED)
    subscriber.nothing(0.1)


def test_packets_that_are_too_large(tuned: int) -> None:
    """5.0 3.2.2.3.6: DISCONNECT 0x95; without waiting for all of it"""
    for version in (4, 5):
        with MqttPeer.open(tuned, version, "x") as peer, MqttPeer.open(tuned) as other:
            peer.subscribed("t")
            other.publish("t", bytes(1900))
            peer.receive()
            peer.send_raw(b"\x30" + mqtt_wire.varint(3000) + b"\0\1t")
            peer.expect_disconnect(0x95)
            other.ping()


@mosquitto_differs("waits for all of it")
def test_a_connect_that_is_too_large(client: Client) -> None:
    """64 KiB before the login"""
    peer = client(raw=True)
    peer.send_raw(b"\x10" + mqtt_wire.varint(1 << 20) + b"\0\4MQTT")
    peer.expect_end(0x95, MALFORMED)


def test_the_largest_packets(client: Client, name: str) -> None:
    """16 MiB by default"""
    subscriber, peer = client().subscribed(name, qos=1), client()
    payload = random.Random(1).randbytes((16 << 20) - 100)
    peer.publish(name, payload, qos=1)
    assert subscriber.receive().payload == payload


def test_half_a_packet_is_nothing(client: Client, name: str) -> None:
    watcher = client().subscribed(name, qos=1)
    peer = client()
    peer.send_raw(mqtt_wire.publish(5, name, b"whole", qos=1, packet_id=1)[:-2])
    peer.close()
    watcher.nothing(0.1)


def test_clients_that_read_nothing(client: Client, name: str) -> None:
    """They may not hold the others up."""
    lazy, good, publisher = client().subscribed(name, qos=1), client().subscribed(name, qos=1), client()
    for number in range(100):
        publisher.publish(name, bytes(10_000) + b"%d" % number, qos=1)
        good.receive()
    lazy.close()


def test_noise(client: Client) -> None:
    """Whatever comes, it ends that connection or is understood; the server goes on."""
    lots = random.Random(20)
    witness = client()
    for _ in range(150):
        peer = client(raw=True)
        if lots.random() < 0.7:
            peer.connect("")
        for _ in range(3):
            kind = lots.randrange(256)
            body = lots.randbytes(lots.randrange(40))
            try:
                peer.send_raw(bytes([kind]) + mqtt_wire.varint(len(body)) + body)
            except ConnectionError:
                break
        peer.close()
    witness.ping()


def test_mutations(client: Client, name: str) -> None:
    """One bit of a good packet is flipped."""
    lots = random.Random(7)
    good = [
        mqtt_wire.publish(
            5, name, b"x", qos=1, packet_id=7, properties={"content_type": "a", "topic_alias": 1}
        ),
        mqtt_wire.publish(5, name, b"x", qos=2, packet_id=8, properties={"user_properties": [("a", "b")]}),
        mqtt_wire.subscribe(5, 9, [Sub(name, 1), Sub(f"{name}/+", 2)], {"subscription_id": 5}),
        mqtt_wire.unsubscribe(5, 10, [name]),
        mqtt_wire.settle(5, "PUBREL", 8, 0, {"reason_string": "x"}),
        mqtt_wire.connect(5, "x", username="guest", password="guest", will=mqtt_wire.Will("w")),
    ]
    witness = client()
    for _ in range(200):
        data = bytearray(lots.choice(good))
        data[lots.randrange(2, len(data))] ^= 1 << lots.randrange(8)  # the length stays true
        peer = client(raw=data[0] == 0x10)
        try:
            peer.send_raw(bytes(data))
            peer.send_raw(packet("PINGREQ"))
        except ConnectionError:
            pass
        peer.close()
    witness.ping()

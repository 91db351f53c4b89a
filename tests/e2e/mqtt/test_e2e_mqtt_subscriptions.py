"""SUBSCRIBE and UNSUBSCRIBE: answers, options, overlaps, identifiers, shared subscriptions (5.0 3.8 to 3.11, 4.8)."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from e2e.mqtt.mqtt_broker import leveret_only, mosquitto_differs, shares, versions
from support import mqtt_wire
from support.mqtt_peer import MqttPeer, Sub
from support.server import poll

Client = Callable[..., MqttPeer]


@versions
def test_42_granted_qos_per_filter(client: Client, name: str, version: int) -> None:
    """[MQTT-3.8.4-1] [MQTT-3.8.4-2] [MQTT-3.8.4-5] [MQTT-3.8.4-6] [MQTT-3.9.3-1]"""
    codes = client(version).subscribe(Sub(f"{name}/a", 2), Sub(f"{name}/b", 0), Sub(f"{name}/+/c", 1))
    assert codes == [2, 0, 1]


@versions
def test_unsuback(client: Client, name: str, version: int) -> None:
    """[MQTT-3.10.4-4..6] [MQTT-3.11.3-1..2]: codes in order; 0x11 for what was no subscription"""
    peer = client(version).subscribed(f"{name}/a", f"{name}/b", qos=1)
    codes = peer.unsubscribe(f"{name}/a", f"{name}/never", f"{name}/b", f"{name}/a")
    assert codes == ([0, 0x11, 0, 0x11] if version == 5 else [])
    client().publish(f"{name}/a", b"x")
    peer.nothing()


@versions
def test_filters_are_compared_letter_by_letter_when_unsubscribing(
    client: Client, name: str, version: int
) -> None:
    """[MQTT-3.10.4-1]: `+` does not take `a` away"""
    peer = client(version).subscribed(f"{name}/a", qos=1)
    peer.unsubscribe(f"{name}/+", f"{name}/#", name)
    client().publish(f"{name}/a", b"x")
    peer.receive(b"x")


@versions
def test_nothing_comes_after_unsuback(client: Client, name: str, version: int) -> None:
    """[MQTT-3.10.4-2] [MQTT-3.10.4-3]: what is in flight is finished"""
    peer = client(version).subscribed(name, qos=2)
    publisher = client()
    publisher.publish(name, b"before", qos=2)
    message = peer.expect("PUBLISH", payload=b"before")
    peer.unsubscribe(name)
    publisher.publish(name, b"after", qos=2)
    peer.acknowledge(message)
    peer.nothing()


@versions
def test_the_same_filter_again_replaces_the_subscription(client: Client, name: str, version: int) -> None:
    """[MQTT-3.8.4-3]"""
    peer = client(version).subscribed(name, qos=0)
    peer.subscribed(name, qos=2)
    client().publish(name, b"x", qos=2)
    peer.receive(b"x", qos=2)
    peer.nothing()
    peer.subscribed(name, qos=1)
    client().publish(name, b"y", qos=2)
    peer.receive(b"y", qos=1)
    peer.nothing()


@versions
def test_the_same_filter_twice_in_one_packet(client: Client, name: str, version: int) -> None:
    """[MQTT-3.8.4-5]: as if they had come one after the other"""
    peer = client(version)
    assert peer.subscribe(Sub(name, 2), Sub(name, 1)) == [2, 1]
    client().publish(name, b"x", qos=2)
    peer.receive(b"x", qos=1)
    peer.nothing()


# Errors


@pytest.mark.parametrize("version", [4, 5], ids=["v3.1.1", "v5"])
def test_44_subscribe_without_filters(client: Client, version: int) -> None:
    """[MQTT-3.8.3-2] of 5.0, [MQTT-3.8.3-3] of 3.1.1; [MQTT-3.10.3-2]"""
    for name in ("SUBSCRIBE", "UNSUBSCRIBE"):
        peer = client(version)
        peer.send_raw(mqtt_wire.packet(name, b"\0\x01", b"\0" if version == 5 else b""))
        peer.expect_end(0x82, 0x81)


@pytest.mark.parametrize(
    "options", [0x03, 0x40, 0x80, 0x30], ids=["QoS 3", "bit 6", "bit 7", "retain handling 3"]
)
@pytest.mark.parametrize("version", [4, 5], ids=["v3.1.1", "v5"])
def test_options_that_are_not_allowed(client: Client, version: int, options: int) -> None:
    """[MQTT-3.8.3-4] [MQTT-3.8.3-5]"""
    peer = client(version)
    peer.send_raw(mqtt_wire.subscribe(version, 1, [Sub("t", raw=options)]))
    peer.expect_end(0x81, 0x82)


@pytest.mark.parametrize("flags", [0, 1, 3, 10])
@pytest.mark.parametrize("version", [4, 5], ids=["v3.1.1", "v5"])
def test_flags_of_the_fixed_header(client: Client, version: int, flags: int) -> None:
    """[MQTT-3.8.1-1] [MQTT-3.10.1-1]"""
    for packet in (mqtt_wire.subscribe(version, 1, [Sub("t")]), mqtt_wire.unsubscribe(version, 1, ["t"])):
        peer = client(version)
        peer.send_raw(bytes([packet[0] & 0xF0 | flags]) + packet[1:])
        peer.expect_end(0x81)


INVALID = ["", "a/#/b", "a#", "#a", "a/b#", "a+", "+a", "a/+b/c", "a/++"]


@mosquitto_differs("ends the connection with 0x81")
@versions
@pytest.mark.parametrize("bad", INVALID)
def test_filters_that_are_none(client: Client, name: str, version: int, bad: str) -> None:
    """[MQTT-4.7.0-1] [MQTT-4.7.1-1] [MQTT-4.7.1-2] [MQTT-4.7.1-3]; refused one by one, 0x8F (0x80 in version 3)"""
    peer = client(version)
    if bad == "":  # malformed as a packet, too: either answer will do
        peer.send_raw(mqtt_wire.subscribe(version, 1, [Sub("")]))
        packet = None
        try:
            packet = peer.next()
        except AssertionError:
            return
        assert (packet.name, packet.fields.get("codes")) in (
            ("SUBACK", [0x8F if version == 5 else 0x80]), ("DISCONNECT", None)
        )  # fmt: skip
        return
    codes = peer.subscribe(Sub(f"{name}/1", 1), Sub(bad, 1), Sub(f"{name}/2", 2))
    assert codes == [1, 0x8F if version == 5 else 0x80, 2]


@pytest.mark.parametrize("broken", [b"\xff", b"a\0b", b"\xed\xa0\x80", b"\xf8\x88\x80\x80\x80"])
@versions
def test_filters_that_are_no_text(client: Client, version: int, broken: bytes) -> None:
    """[MQTT-3.8.3-1] [MQTT-1.5.4-1] [MQTT-1.5.4-2]"""
    peer = client(version)
    peer.send_raw(mqtt_wire.subscribe(version, 1, [Sub(broken)]))
    peer.expect_end(0x81, 0x82, 0x8F)


# Options of version 5


def test_no_local(client: Client, name: str) -> None:
    """[MQTT-3.8.3-3]; it is about the client id, not the connection"""
    peer, other = client(5, name, session_expiry=60), client()
    peer.subscribe(Sub(f"{name}/t", 1, no_local=True))
    other.subscribe(Sub(f"{name}/t", 1, no_local=True))
    peer.publish(f"{name}/t", b"mine")
    other.receive(b"mine")
    peer.nothing()
    other.publish(f"{name}/t", b"its")
    peer.receive(b"its")
    other.nothing()


def test_no_local_does_not_hide_from_another_subscription(client: Client, name: str) -> None:
    peer = client()
    peer.subscribe(Sub(name, 1, no_local=True), Sub(f"{name}/#", 0))
    peer.say_publish(name, b"x")
    peer.receive(b"x", qos=0)
    peer.nothing()


def test_subscription_identifiers(client: Client, name: str) -> None:
    """[MQTT-3.3.4-3] [MQTT-3.8.4-..]; replaced and taken away with the subscription"""
    peer, publisher = client(), client()
    peer.subscribed(name, qos=1, subscription_id=268_435_455)
    publisher.publish(name, b"x")
    assert peer.receive().properties["subscription_id"] == [268_435_455]
    peer.subscribed(name, qos=1, subscription_id=1)
    publisher.publish(name, b"x")
    assert peer.receive().properties["subscription_id"] == [1]
    peer.subscribed(name, qos=1)
    publisher.publish(name, b"x")
    assert "subscription_id" not in peer.receive().properties


def test_one_identifier_is_for_all_filters_of_a_packet(client: Client, name: str) -> None:
    peer, publisher = client().subscribed(f"{name}/a", f"{name}/b", qos=0, subscription_id=7), client()
    for topic in ("a", "b"):
        publisher.publish(f"{name}/{topic}", b"x", qos=0)
        assert peer.receive(topic=f"{name}/{topic}").properties["subscription_id"] == [7]


def test_retained_messages_carry_the_identifier(client: Client, name: str) -> None:
    publisher = client()
    publisher.publish(name, b"x", retain=True)
    peer = client().subscribed(f"{name}/#", qos=1, subscription_id=9)
    assert peer.receive(b"x", retain=True).properties["subscription_id"] == [9]


@pytest.mark.parametrize("wrong", [b"\x0b\x00", b"\x0b\x01\x0b\x02", b"\x0b\x80\x80\x80\x80\x01"])
def test_identifiers_that_are_errors(client: Client, name: str, wrong: bytes) -> None:
    """5.0 3.8.2.1.2: zero, two of them, too large"""
    peer = client()
    packet = mqtt_wire.packet(
        "SUBSCRIBE", b"\0\x01", mqtt_wire.varint(len(wrong)), wrong, mqtt_wire.string(name), b"\0"
    )
    peer.send_raw(packet)
    peer.expect_end(0x82, 0x81)


@versions
def test_overlapping_subscriptions(client: Client, name: str, version: int) -> None:
    """[MQTT-3.3.4-2] [MQTT-3.3.5-1]: the highest QoS among the copies; once, or once for each"""
    peer = client(version)
    for qos, each in ((0, f"{name}/#"), (2, f"{name}/a"), (1, f"{name}/+")):
        peer.subscribed(each, qos=qos, **({"subscription_id": qos + 10} if version == 5 else {}))
    client().publish(f"{name}/a", b"x", qos=2)
    copies = poll(peer.barrier, "nothing came")
    assert max(copy.qos for copy in copies) == 2
    if version == 5:
        identifiers = sorted(each for copy in copies for each in copy.properties["subscription_id"])
        assert identifiers == [10, 11, 12]
    if len(copies) == 1:
        return
    assert sorted(copy.qos for copy in copies) == [0, 1, 2]


@leveret_only("a choice of ours: overlapping subscriptions")
@versions
def test_overlapping_subscriptions_get_one_copy(client: Client, name: str, version: int) -> None:
    peer = client(version).subscribed(f"{name}/#", f"{name}/a", f"{name}/+", qos=1)
    client().publish(f"{name}/a", b"x", qos=1)
    peer.receive(b"x", qos=1)
    peer.nothing()


def test_user_properties_of_subscribe_are_accepted(client: Client, name: str) -> None:
    peer = client().subscribed(name, user_properties=[("a", "b"), ("a", "c")])
    assert peer.unsubscribe(name, user_properties=[("a", "b")]) == [0]


# Shared subscriptions


@versions
@pytest.mark.parametrize("qos", [0, 1, 2])
def test_shared_subscriptions_take_turns(client: Client, name: str, version: int, qos: int) -> None:
    """5.0 4.8.2; round robin. Version 3 may use them as well."""
    members = [client(version).subscribed(f"$share/g/{name}/+", qos=qos) for _ in range(3)]
    publisher = client()
    for number in range(9):
        publisher.publish(f"{name}/{number}", b"%d" % number, qos=qos)
    found = shares(members)
    assert sorted(payload for payloads in found.values() for payload in payloads) == [
        b"%d" % number for number in range(9)
    ]
    assert [len(payloads) for payloads in found.values()] == [3, 3, 3]


def test_every_group_gets_its_copy(client: Client, name: str) -> None:
    """[MQTT-4.8.2-4..5]; and so do those who do not share"""
    peers = [client().subscribed(f"$share/{group}/{name}", qos=1) for group in ("a", "a", "b")]
    alone = client().subscribed(name, qos=1)
    publisher = client()
    for number in range(4):
        publisher.publish(name, b"%d" % number)
    found = list(shares([*peers, alone]).values())
    everything = [b"0", b"1", b"2", b"3"]
    assert sorted(found[0] + found[1]) == found[2] == found[3] == everything


def test_a_shared_and_a_plain_subscription_of_one_client(client: Client, name: str) -> None:
    """4.8.2: they are different subscriptions: a copy for each"""
    peer = client().subscribed(f"$share/g/{name}", name, qos=1)
    client().publish(name, b"x")
    peer.receive(b"x")
    peer.receive(b"x")
    peer.nothing()


@mosquitto_differs("takes them for plain filters")
@pytest.mark.parametrize(
    "bad", ["$share/g", "$share/g/", "$share//t", "$share/a+b/t", "$share/#/t", "$share/"]
)
def test_shared_filters_that_are_none(client: Client, bad: str) -> None:
    """[MQTT-4.8.2-1] [MQTT-4.8.2-2]"""
    peer = client()
    peer.send_raw(mqtt_wire.subscribe(5, 1, [Sub(bad, 1)]))
    packet = peer.next()
    if packet.name == "SUBACK":
        assert packet.codes == [0x8F]
    else:
        assert packet.code in (0x81, 0x82, 0x8F)


@mosquitto_differs("accepts it")
def test_no_local_on_a_shared_subscription(client: Client, name: str) -> None:
    """[MQTT-3.8.3-4]: a protocol error"""
    peer = client()
    peer.send_raw(mqtt_wire.subscribe(5, 1, [Sub(f"$share/g/{name}", 1, no_local=True)]))
    peer.expect_end(0x82)


@mosquitto_differs("does not")
def test_what_a_lost_member_did_not_acknowledge_goes_to_another(client: Client, name: str) -> None:
    """[MQTT-4.8.2-5]; unacknowledged QoS 1 and 2 messages go to another member."""
    lost, other = (client(receive_maximum=10).subscribed(f"$share/g/{name}", qos=1) for _ in range(2))
    publisher = client()
    for number in range(4):
        publisher.publish(name, b"%d" % number)
    unsettled = [message.payload for message in lost.barrier()]
    assert len(unsettled) == 2
    kept = shares([other])[other]
    lost.close()
    again = [other.receive().payload for _ in unsettled]
    assert sorted(kept + again) == [b"0", b"1", b"2", b"3"]
    other.nothing()


def test_a_member_that_unsubscribes_gets_nothing_more(client: Client, name: str) -> None:
    leaver, stayer = (client().subscribed(f"$share/g/{name}", qos=1) for _ in range(2))
    assert leaver.unsubscribe(f"$share/g/{name}") == [0]
    publisher = client()
    for number in range(4):
        publisher.publish(name, b"%d" % number)
    assert shares([leaver, stayer]) == {leaver: [], stayer: [b"0", b"1", b"2", b"3"]}


@mosquitto_differs("sends by turns all the same")
def test_a_full_member_is_passed_over(client: Client, name: str) -> None:
    """Its receive maximum holds its turn back, not the group."""
    full = client(receive_maximum=1).subscribed(f"$share/g/{name}", qos=1)
    free = client().subscribed(f"$share/g/{name}", qos=1)
    publisher = client()
    for number in range(5):
        publisher.publish(name, b"%d" % number)
    kept = full.expect("PUBLISH")
    rest = [free.receive().payload for _ in range(4)]
    assert sorted([kept.payload, *rest]) == [b"%d" % number for number in range(5)]


def test_shared_subscriptions_carry_identifiers(client: Client, name: str) -> None:
    peer = client().subscribed(f"$share/g/{name}", qos=1, subscription_id=5)
    client().publish(name, b"x")
    assert peer.receive(b"x").properties["subscription_id"] == [5]


@mosquitto_differs("sends them")
def test_shared_subscriptions_get_no_retained_messages(client: Client, name: str) -> None:
    """3.8.4 / 4.8.2: not at subscribing"""
    client().publish(name, b"x", retain=True)
    client().subscribed(f"$share/g/{name}", qos=1).nothing()


@leveret_only("a promise of ours")
def test_a_group_keeps_what_its_members_left(client: Client, name: str) -> None:
    """A durable session's share outlives its connection; the group's messages are there when a member is back."""
    member = client(5, name, session_expiry=600).subscribed(f"$share/g/{name}/t", qos=1)
    member.disconnect()
    publisher = client()
    for number in range(3):
        publisher.publish(f"{name}/t", b"%d" % number)
    back = client(5, name, clean_start=False, session_expiry=600)
    assert [back.receive().payload for _ in range(3)] == [b"0", b"1", b"2"]

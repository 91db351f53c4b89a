"""Sessions: how long they live, what they keep, over restarts and SIGKILL (3.1.1 and 5.0, chapters 3.1.2.4, 4.1)."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

from e2e.mqtt.mqtt_broker import no_errors, versions
from support import mqtt_wire
from support.mqtt_peer import MqttPeer, Sub
from support.server import LeveretServer, poll

Client = Callable[..., MqttPeer]
Start = Callable[..., LeveretServer]

FOREVER = 0xFFFFFFFF


def durable(version: int, expiry: int = 600) -> dict[str, Any]:
    """What asks for a session that outlives its connection."""
    return {"clean_start": False} | ({"session_expiry": expiry} if version == 5 else {})


@versions
def test_39_a_session_is_kept(client: Client, version: int, name: str) -> None:
    """[MQTT-3.1.2-4] [MQTT-3.1.2-5] [MQTT-3.2.2-2] [MQTT-3.2.2-3] [MQTT-3.1.2-23]"""
    first = client(version, name, **durable(version))
    assert not first.connack.session_present
    first.subscribed(Sub(f"{name}/+", 2))
    first.disconnect()
    publisher = client()
    publisher.publish(f"{name}/a", b"one", qos=1)
    publisher.publish(f"{name}/b", b"two", qos=2)
    second = client(version, name, **durable(version))
    assert second.connack.session_present == (version > 3)  # in 3.1 that byte is reserved
    second.receive(b"one", qos=1, dup=False)
    second.receive(b"two", qos=2, dup=False)
    publisher.publish(f"{name}/c", b"three")
    second.receive(b"three")
    second.nothing()


@versions
def test_39_a_lost_connection_keeps_the_session_too(client: Client, version: int, name: str) -> None:
    first = client(version, name, **durable(version)).subscribed(name, qos=1)
    first.close()
    client().publish(name, b"x")
    second = client(version, name, **durable(version))
    assert second.connack.session_present == (version > 3)
    second.receive(b"x")


@versions
def test_a_clean_start_discards(client: Client, version: int, name: str) -> None:
    """[MQTT-3.1.2-4] of 5.0, [MQTT-3.1.2-6] of 3.1.1, [MQTT-3.2.2-1/2]"""
    client(version, name, **durable(version)).subscribed(name, qos=1).disconnect()
    publisher = client()
    publisher.publish(name, b"lost")
    second = client(version, name, clean_start=True)
    assert not second.connack.session_present
    publisher.publish(name, b"not subscribed")
    second.nothing()
    second.disconnect()
    assert not client(version, name, **durable(version)).connack.session_present


@versions
def test_39_without_being_asked_nothing_is_kept(client: Client, version: int, name: str) -> None:
    """Version 5: the default expiry is 0 (3.1.2.11.2); clean start says nothing about the end."""
    client(version, name).subscribed(name, qos=1).disconnect()
    assert not client(version, name, **durable(version)).connack.session_present


def test_39_expiry_zero_with_a_session_from_before(client: Client, name: str) -> None:
    """A session that is resumed with expiry 0 ends with that connection."""
    client(5, name, session_expiry=600).disconnect()
    resumed = client(5, name, clean_start=False)
    assert resumed.connack.session_present
    resumed.disconnect()
    assert not client(5, name, clean_start=False, session_expiry=600).connack.session_present


def test_39_the_expiry_survives_takeover(client: Client, name: str) -> None:
    first = client(5, name, session_expiry=600).subscribed(name, qos=1)
    second = client(5, name, clean_start=False, session_expiry=600)
    assert second.connack.session_present
    first.expect_end(0x8E)
    second.close()
    client().publish(name, b"kept")
    third = client(5, name, clean_start=False, session_expiry=600)
    assert third.connack.session_present
    third.receive(b"kept")


@versions
def test_39_takeover_with_clean_start(client: Client, version: int, name: str) -> None:
    first = client(version, name, **durable(version)).subscribed(name, qos=1)
    second = client(version, name, clean_start=True)
    assert not second.connack.session_present
    first.expect_end(0x8E)
    client().publish(name, b"nobody's")
    second.nothing()


def test_39_disconnect_may_shorten_the_expiry(client: Client, name: str) -> None:
    """3.14.2.2.2"""
    client(5, name, session_expiry=600).disconnect(session_expiry=0)
    assert not client(5, name, clean_start=False).connack.session_present


def test_39_disconnect_may_not_raise_the_expiry_from_zero(client: Client, name: str) -> None:
    """3.14.2.2.2: a protocol error, of which the server tells by DISCONNECT 0x82"""
    peer = client(5, name)
    peer.send_raw(mqtt_wire.disconnect(5, 0, {"session_expiry": 600}))
    peer.expect_end(0x82)
    assert not client(5, name, clean_start=False).connack.session_present


def test_a_session_goes_from_version_to_version(client: Client, name: str) -> None:
    client(5, name, session_expiry=600).subscribed(name, qos=1).disconnect()
    client().publish(name, b"x", content_type="text/plain")
    fourth = client(4, name, clean_start=False)
    assert fourth.connack.session_present
    fourth.receive(b"x")
    fourth.disconnect()
    fifth = client(5, name, clean_start=False, session_expiry=600)
    assert fifth.connack.session_present


@versions
def test_unsubscribing_is_kept(client: Client, version: int, name: str) -> None:
    first = client(version, name, **durable(version)).subscribed(name, f"{name}/b", qos=1)
    first.unsubscribe(name)
    first.disconnect()
    publisher = client()
    publisher.publish(name, b"unsubscribed")
    publisher.publish(f"{name}/b", b"subscribed")
    again = client(version, name, **durable(version))
    again.receive(b"subscribed")
    again.nothing()


def test_options_of_subscriptions_are_kept(client: Client, name: str) -> None:
    first = client(5, name, session_expiry=600)
    first.subscribe(Sub(name, 1, rap=True, no_local=True), subscription_id=77)
    first.disconnect()
    client().publish(name, b"x", retain=True)
    peer = client(5, name, clean_start=False, session_expiry=600)
    message = peer.receive(b"x", retain=True)
    assert message.properties["subscription_id"] == [77]
    peer.publish(name, b"mine", retain=True)
    peer.nothing()


def test_a_session_that_is_resumed_gets_no_retained_messages(client: Client, name: str) -> None:
    """3.3.1.3: they are for new subscriptions"""
    client().publish(name, b"retained", retain=True)
    first = client(5, name, session_expiry=600).subscribed(name, qos=1)
    first.receive(b"retained")
    first.disconnect()
    client(5, name, clean_start=False, session_expiry=600).nothing()


def test_the_longest_expiry_is_the_servers(brief: int) -> None:
    """[MQTT-3.2.2-...]: CONNACK tells another expiry; and caps version 3"""
    for asked in (5, FOREVER):
        with MqttPeer.open(brief, 5, "five", session_expiry=asked) as peer:
            assert peer.connack.properties["session_expiry"] == 1
            peer.disconnect()
    MqttPeer.open(brief, 4, "four", clean_start=False).disconnect()
    with MqttPeer.open(brief, 4, "four", clean_start=False) as peer:
        assert peer.connack.session_present
    time.sleep(1.2)  # the least expiry of a session is a second, and looking at the session would prolong it
    for version, name in ((5, "five"), (4, "four")):
        with MqttPeer.open(brief, version, name, clean_start=False) as peer:
            assert not peer.connack.session_present


def test_an_expiry_within_the_limit_is_not_answered(client: Client, name: str) -> None:
    assert "session_expiry" not in client(5, name, session_expiry=10).connack.properties


def test_a_full_session_loses_its_oldest(tuned: int) -> None:
    MqttPeer.open(tuned, 5, "s", session_expiry=600).subscribed("t", qos=1).disconnect()
    with MqttPeer.open(tuned) as publisher:
        for number in range(8):
            publisher.publish("t", b"%d" % number)
    with MqttPeer.open(tuned, 5, "s", clean_start=False) as peer:
        assert [peer.receive().payload for _ in range(5)] == [b"3", b"4", b"5", b"6", b"7"]
        peer.nothing()


def test_a_full_session_may_refuse_the_newest(start: Start) -> None:
    """Reason 0x97"""
    port = start(max_queued_messages=5, queue_overflow="reject-publish").ports["mqtt"]
    MqttPeer.open(port, 5, "s", session_expiry=600).subscribed("t", qos=2).disconnect()
    with MqttPeer.open(port) as publisher:
        for number in range(5):
            publisher.publish("t", b"%d" % number)
        publisher.publish("t", b"5", qos=1, code=0x97)
        publisher.publish("t", b"5", qos=2, code=0x97)
    with MqttPeer.open(port, 5, "s", clean_start=False) as peer:
        assert [peer.receive().payload for _ in range(5)] == [b"0", b"1", b"2", b"3", b"4"]
        peer.nothing()


def test_a_session_may_be_ended_by_its_administrator(start: Start) -> None:
    """What is kept for a session is a queue; deleting it must break nobody."""
    mine = start()
    port = mine.ports["mqtt"]
    with MqttPeer.open(port, 5, "s", session_expiry=600).subscribed("t", qos=1) as peer:
        queues = poll(lambda: mine.rows("list_queues", "name"), "no queue of the session")
        mine.ctl("delete_queue", queues[0]["name"])
        peer.expect_disconnect(0x98)  # administrative action
    with MqttPeer.open(port, 5, "s", session_expiry=600) as peer, MqttPeer.open(port) as publisher:
        peer.subscribed("t", qos=1)
        publisher.publish("t", b"x")
        peer.receive(b"x")
    no_errors(mine)

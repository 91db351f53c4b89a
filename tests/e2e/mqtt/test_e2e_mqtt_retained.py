"""Retained messages (3.1.1 3.3.1.3; 5.0 3.3.1.3, 3.8.3.1): who gets them, with which flag, how long, over restarts."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from e2e.mqtt.mqtt_broker import mosquitto_differs, versions
from support.mqtt_peer import MqttPeer, Sub

Client = Callable[..., MqttPeer]


def sent(peer: MqttPeer) -> set[tuple[str, bytes, bool]]:
    """What has come: topic, payload, retain; settled."""
    found = set()
    for message in peer.barrier():
        peer.acknowledge(message)
        found.add((message.topic, message.payload, message.retain))
    return found


@versions
@pytest.mark.parametrize("qos", [0, 1, 2])
def test_40_a_new_subscription_gets_the_last_one(client: Client, name: str, version: int, qos: int) -> None:
    """[MQTT-3.3.1-5] [MQTT-3.3.1-6] [MQTT-3.3.1-8/9]"""
    publisher = client(version)
    publisher.publish(name, b"old", qos=qos, retain=True)
    publisher.publish(name, b"new", qos=qos, retain=True)
    subscriber = client(version).subscribed(name, qos=1)
    message = subscriber.receive(b"new", retain=True, dup=False)
    assert message.qos == min(qos, 1)
    subscriber.nothing()


@versions
def test_40_wildcards_match(client: Client, name: str, version: int) -> None:
    """Wildcards must match."""
    publisher = client(version)
    topics = [f"{name}{rest}" for rest in ("", "/a", "/a/b", "/b", "/a/c", "/", "/a//b")]
    for topic in topics:
        publisher.publish(topic, topic.encode(), retain=True)
    for pattern, rests in {
        f"{name}/#": ("", "/a", "/a/b", "/b", "/a/c", "/", "/a//b"),
        f"{name}/+": ("/a", "/b", "/"),
        f"{name}/a/+": ("/a/b", "/a/c"),
        f"{name}/+/b": ("/a/b",),
        f"{name}/a/#": ("/a", "/a/b", "/a/c", "/a//b"),
        f"+/{name}": (),
        f"{name}/+/+/b": ("/a//b",),
    }.items():
        peer = client(version).subscribed(pattern, qos=1)
        expected = {(name + rest, (name + rest).encode(), True) for rest in rests}
        assert sent(peer) == expected, pattern
        peer.disconnect()


@versions
def test_40_live_copies_have_no_retain_flag(client: Client, name: str, version: int) -> None:
    """[MQTT-3.3.1-9] of 3.1.1, [MQTT-3.3.1-12] of 5.0"""
    subscriber = client(version).subscribed(name, qos=1)
    client().publish(name, b"x", retain=True)
    subscriber.receive(b"x", retain=False)


def test_40_retain_as_published(client: Client, name: str) -> None:
    """[MQTT-3.3.1-12] [MQTT-3.3.1-13]"""
    plain, rap = client().subscribed(name, qos=1), client()
    rap.subscribe(Sub(name, 1, rap=True))
    publisher = client()
    for retain in (True, False):
        publisher.publish(name, b"x", retain=retain)
        plain.receive(b"x", retain=False)
        rap.receive(b"x", retain=retain)
    late = client()
    late.subscribe(Sub(name, 1, rap=False))
    late.receive(b"x", retain=True)


@versions
def test_40_every_subscribe_sends_again(client: Client, name: str, version: int) -> None:
    """[MQTT-3.8.4-4] (retain handling 0), [MQTT-3.8.4-3] of 3.1.1: even an identical subscription"""
    client().publish(name, b"x", retain=True)
    peer = client(version)
    for _ in range(3):
        peer.subscribed(name, qos=1)
        peer.receive(b"x", retain=True)
        peer.nothing()


def test_40_retain_handling(client: Client, name: str) -> None:
    """[MQTT-3.3.1-9] [MQTT-3.3.1-10] [MQTT-3.3.1-11]"""
    client().publish(name, b"x", retain=True)
    peer = client()
    peer.subscribe(Sub(name, 1, retain_handling=2))
    peer.nothing()
    peer.subscribe(Sub(name, 1, retain_handling=1))  # exists already
    peer.nothing()
    peer.subscribe(Sub(f"{name}/#", 1, retain_handling=1))
    peer.receive(b"x", retain=True)
    peer.subscribe(Sub(f"{name}/#", 0, retain_handling=1))
    peer.nothing()
    peer.subscribe(Sub(f"{name}/#", 1, retain_handling=0))
    peer.receive(b"x", retain=True)
    peer.unsubscribe(name)
    peer.subscribe(Sub(name, 1, retain_handling=1))
    peer.receive(b"x", retain=True)
    peer.nothing()


def test_40_retain_handling_1_and_a_session_from_before(client: Client, name: str) -> None:
    first = client(5, name, session_expiry=600)
    first.subscribe(Sub(f"{name}/t", 1, retain_handling=1))
    first.disconnect()
    client().publish(f"{name}/t", b"x", qos=0, retain=True)
    again = client(5, name, clean_start=False, session_expiry=600)
    again.subscribe(Sub(f"{name}/t", 1, retain_handling=1))
    assert not [message for message in again.barrier() if message.retain]


@versions
def test_40_two_matching_filters(client: Client, name: str, version: int) -> None:
    """Once per new matching filter, or once for all of a packet; never more."""
    client().publish(f"{name}/a", b"x", retain=True)
    peer = client(version).subscribed(f"{name}/a", f"{name}/#", qos=0)
    assert 1 <= len(peer.barrier()) <= 2
    peer.subscribed(f"{name}/+", qos=0)
    peer.receive(b"x", retain=True)
    peer.nothing()


@versions
@pytest.mark.parametrize("qos", [0, 1, 2])
def test_40_an_empty_payload_deletes_and_is_forwarded(
    client: Client, name: str, version: int, qos: int
) -> None:
    """[MQTT-3.3.1-6] [MQTT-3.3.1-7]; it is an ordinary message for those who are subscribed"""
    publisher, subscriber = client(version), client(version).subscribed(name, qos=2)
    publisher.publish(name, b"x", retain=True)
    subscriber.receive(b"x")
    publisher.publish(name, b"", qos=qos, retain=True)
    subscriber.receive(b"", retain=False)
    client(version).subscribed(name, qos=1).nothing()


def test_a_message_without_the_flag_leaves_the_retained_one(client: Client, name: str) -> None:
    """[MQTT-3.3.1-8]"""
    publisher = client()
    publisher.publish(name, b"kept", retain=True)
    publisher.publish(name, b"passing")
    publisher.publish(name, b"")
    client().subscribed(name, qos=1).receive(b"kept", retain=True)


def test_properties_are_kept(client: Client, name: str) -> None:
    """[MQTT-3.3.2-17] [MQTT-3.3.2-18] [MQTT-3.3.2-20]"""
    properties: dict[str, Any] = {
        "payload_format": 1,
        "content_type": "text/plain; charset=ü",
        "response_topic": f"{name}/reply",
        "correlation_data": b"\0\xff\x01",
        "user_properties": [("b", "1"), ("a", "2"), ("b", "3"), ("", "ü")],
    }
    client().publish(name, b"x", retain=True, **properties)
    message = client().subscribed(name, qos=1).receive(b"x", retain=True)
    assert {key: message.properties[key] for key in properties} == properties


def test_40_a_live_message_keeps_its_expiry(client: Client, name: str) -> None:
    subscriber = client().subscribed(name, qos=0)
    client().publish(name, b"x", message_expiry=4_000_000)
    assert 3_999_999 <= subscriber.receive(b"x").properties["message_expiry"] <= 4_000_000


@mosquitto_differs("keeps it a second")
def test_40_expiry_zero(client: Client, name: str) -> None:
    """3.3.2.3.3: expired unless it can be passed on at once"""
    publisher = client()
    publisher.publish(name, b"x", retain=True, message_expiry=0)
    client().subscribed(name, qos=1).nothing()


@versions
def test_the_limits_of_the_version_do_not_matter_to_the_other(
    client: Client, name: str, version: int
) -> None:
    client(5).publish(name, b"x", qos=2, retain=True, user_properties=[("a", "b")], message_expiry=100)
    client(version).subscribed(name, qos=2).receive(b"x", retain=True, qos=2)


def test_many_retained_messages_at_once(client: Client, name: str) -> None:
    publisher = client()
    for number in range(100):
        publisher.publish(f"{name}/{number}", b"%d" % number, qos=number % 3, retain=True)
    peer = client(receive_maximum=10).subscribed(f"{name}/#", qos=2)
    found = {peer.receive(retain=True).topic for _ in range(100)}
    assert found == {f"{name}/{number}" for number in range(100)}
    for number in range(100):
        publisher.publish(f"{name}/{number}", b"", qos=0, retain=True)
    client().subscribed(f"{name}/#").nothing()


def test_no_more_topics_than_allowed(tuned: int) -> None:
    """Setting mqtt.max_retained_messages: what is retained may be replaced, no new topic is retained."""
    with MqttPeer.open(tuned) as publisher, MqttPeer.open(tuned) as peer:
        for number in range(3):
            publisher.publish(f"t/{number}", b"%d" % number, retain=True, code=None)
        publisher.publish("t/0", b"new", retain=True)
        assert sent(peer.subscribed("t/#", qos=1)) == {("t/0", b"new", True), ("t/1", b"1", True)}
        publisher.publish("t/0", b"", retain=True)
        publisher.publish("t/2", b"now", retain=True)
        assert ("t/2", b"now", True) in sent(peer.subscribed("t/+", qos=1))

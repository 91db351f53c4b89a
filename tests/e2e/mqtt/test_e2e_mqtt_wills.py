"""Wills (3.1.1 3.1.2.5; 5.0 3.1.2.5, 3.1.3.2): when they are published and when not, delays, restarts."""

from __future__ import annotations

import socket
from collections.abc import Callable
from typing import Any

import pytest
from e2e.mqtt.mqtt_broker import leveret_only, mosquitto_differs, versions
from support import mqtt_wire
from support.mqtt_peer import MqttPeer, Sub, Will
from support.server import LeveretServer

Client = Callable[..., MqttPeer]
Start = Callable[..., LeveretServer]


@versions
@pytest.mark.parametrize("qos", [0, 1, 2])
def test_43_sent_when_the_connection_is_lost(client: Client, name: str, version: int, qos: int) -> None:
    """[MQTT-3.1.2-8]"""
    watcher = client(version).subscribed(name, qos=2)
    client(version, will=Will(name, b"gone", qos)).close()
    watcher.receive(b"gone", qos=qos, retain=False, topic=name)
    watcher.nothing()


@versions
def test_43_not_sent_after_disconnect(client: Client, name: str, version: int) -> None:
    """[MQTT-3.1.2-10] [MQTT-3.14.4-3]"""
    watcher = client(version).subscribed(name, qos=1)
    client(version, will=Will(name)).disconnect()
    watcher.nothing(0.2)


@mosquitto_differs("after 0x04 only")
def test_43_sent_after_disconnect_with_will(client: Client, name: str) -> None:
    """3.14.2.1, 0x04; and after any other reason"""
    watcher = client().subscribed(name, qos=1)
    for reason in (0x04, 0x80, 0x97):
        client(will=Will(name, b"%d" % reason)).disconnect(reason)
        watcher.receive(b"%d" % reason)


@mosquitto_differs("looks every five seconds only")
def test_43_sent_when_the_keep_alive_is_over(client: Client, name: str) -> None:
    watcher = client().subscribed(f"{name}/+", qos=1)
    for version in (3, 4, 5):
        client(version, keep_alive=1, will=Will(f"{name}/{version}"))
    assert {watcher.receive(b"will", timeout=5).topic for _ in range(3)} == {f"{name}/{v}" for v in (3, 4, 5)}


@versions
def test_43_sent_after_a_protocol_error(client: Client, name: str, version: int) -> None:
    watcher = client(version).subscribed(name, qos=1)
    client(version, will=Will(name)).send_raw(b"\xff\x00")
    watcher.receive(b"will")


@versions
def test_43_sent_at_takeover(client: Client, name: str, version: int) -> None:
    """[MQTT-3.1.4-3]: the old connection is closed by the server"""
    watcher = client(version).subscribed(f"{name}/w", qos=1)
    client(version, name, will=Will(f"{name}/w"))
    client(version, name)
    watcher.receive(b"will")
    watcher.nothing()


@mosquitto_differs("forgets it")
def test_43_sent_at_takeover_with_clean_start_though_delayed(client: Client, name: str) -> None:
    """3.1.3.2.2: the session ends, so the delay does"""
    watcher = client().subscribed(f"{name}/w", qos=1)
    client(5, name, session_expiry=60, will=Will(f"{name}/w", properties={"will_delay": 60}))
    client(5, name, clean_start=True)
    watcher.receive(b"will")


@mosquitto_differs("forgets it")
def test_43_a_reconnect_with_clean_start_ends_the_delay(client: Client, name: str) -> None:
    watcher = client().subscribed(f"{name}/w", qos=1)
    lost = client(5, name, session_expiry=60, will=Will(f"{name}/w", properties={"will_delay": 60}))
    lost.socket.shutdown(socket.SHUT_WR)
    lost.expect_eof()  # the server has handled the loss: what follows is no takeover
    client(5, name, clean_start=True)
    watcher.receive(b"will")


@mosquitto_differs("looks every few seconds only")
def test_43_without_a_session_there_is_no_delay(client: Client, name: str) -> None:
    """3.1.3.2.2: min(delay, session expiry)"""
    watcher = client().subscribed(name, qos=1)
    client(will=Will(name, properties={"will_delay": 60})).close()
    watcher.receive(b"will")


@mosquitto_differs("lets it wait")
def test_43_disconnect_with_expiry_zero_and_a_delayed_will(client: Client, name: str) -> None:
    """The session ends at once, so does the delay; and DISCONNECT 0x00 takes the will away whatever the delay."""
    watcher = client().subscribed(name, qos=1)
    will = Will(name, properties={"will_delay": 60})
    client(session_expiry=60, will=will).disconnect(0x04, session_expiry=0)
    watcher.receive(b"will")
    client(session_expiry=60, will=will).disconnect(0x00, session_expiry=0)
    watcher.nothing(0.2)


@versions
def test_43_a_retained_will(client: Client, name: str, version: int) -> None:
    """[MQTT-3.1.2-14] [MQTT-3.1.2-15] (5.0), 16 and 17 of 3.1.1"""
    watcher = client(version).subscribed(name, qos=1)
    client(version, will=Will(name, b"gone", 1, retain=True)).close()
    watcher.receive(b"gone", retain=False)
    client(version).subscribed(name, qos=1).receive(b"gone", retain=True)
    client(version, will=Will(name, b"", 1, retain=True)).close()
    watcher.receive(b"")
    client(version).subscribed(name, qos=1).nothing()


def test_43_its_properties(client: Client, name: str) -> None:
    """5.0 3.1.3.2: but for the delay all of them are the message's"""
    properties: dict[str, Any] = {
        "payload_format": 1,
        "message_expiry": 100,
        "content_type": "text/plain",
        "response_topic": f"{name}/r",
        "correlation_data": b"\xff\0",
        "user_properties": [("b", "1"), ("a", "2"), ("b", "3")],
    }
    watcher = client().subscribed(name, qos=1)
    client(will=Will(name, b"w", 1, properties={"will_delay": 0} | properties)).close()
    message = watcher.receive(b"w")
    assert 98 <= message.properties.pop("message_expiry") <= 100
    assert {key: message.properties[key] for key in properties if key != "message_expiry"} == {
        key: value for key, value in properties.items() if key != "message_expiry"
    }


def test_its_own_client_may_not_get_it(client: Client, name: str) -> None:
    """No Local is for wills, too."""
    first = client(5, name, session_expiry=60, will=Will(f"{name}/w", b"w", 1))
    first.subscribe(Sub(f"{name}/w", 1, no_local=True))
    first.close()
    client(5, name, clean_start=False, session_expiry=60).nothing(0.1)


@pytest.mark.parametrize("topic", ["", "a/#", "+", "a\0b", b"\xff"])
@pytest.mark.parametrize("version", [4, 5], ids=["v3.1.1", "v5"])
def test_topics_that_are_none(client: Client, version: int, topic: str | bytes) -> None:
    """[MQTT-3.1.3-11]; 5.0 4.7"""
    peer = client(version, raw=True)
    peer.say_connect("", will=Will(topic))
    peer.expect_end(0x90, 0x81, 0x82)


@mosquitto_differs("does not look")
def test_a_payload_format_that_is_none(client: Client, name: str) -> None:
    peer = client(raw=True)
    peer.say_connect("", will=Will(name, properties={"payload_format": 2}))
    peer.expect_end(0x81, 0x82)


def test_properties_that_are_no_wills(client: Client, name: str) -> None:
    peer = client(raw=True)
    peer.say_connect("", will=Will(name, properties={"topic_alias": 2}))
    peer.expect_end(0x81, 0x82)


def test_a_large_will(client: Client, name: str) -> None:
    watcher = client().subscribed(name, qos=1)
    client(will=Will(name, bytes(60_000), 1)).close()
    assert watcher.receive().payload == bytes(60_000)


def test_many_wills_at_once(client: Client, name: str) -> None:
    watcher = client(receive_maximum=100).subscribed(f"{name}/#", qos=1)
    peers = [client(will=Will(f"{name}/{number}", b"w", 1)) for number in range(30)]
    for peer in peers:
        peer.close()
    assert {watcher.receive().topic for _ in peers} == {f"{name}/{number}" for number in range(30)}


@leveret_only("ctl is Leveret's")
def test_43_sent_when_an_administrator_closes_the_connection(
    client: Client, broker: LeveretServer, name: str
) -> None:
    """[MQTT-3.1.2-8]: any end but DISCONNECT 0x00"""
    client(5, f"{name}-w", session_expiry=600).subscribed(f"{name}/t", qos=1)
    client(will=Will(f"{name}/t", b"w", 1))
    broker.ctl("close_all_connections", "maintenance")
    client(5, f"{name}-w", clean_start=False, session_expiry=600).receive(b"w")


def test_43_the_permission_is_checked_when_it_is_published(start: Start) -> None:
    """Permission for the will is checked when it is published."""
    mine = start()
    port = mine.ports["mqtt"]
    mine.ctl("add_user", "carol", "secret")
    mine.ctl("set_permissions", "carol", ".*", ".*", ".*")
    login: dict[str, Any] = {"username": "carol", "password": "secret"}
    with MqttPeer.open(port) as watcher:
        watcher.subscribed("w/#", qos=1)
        MqttPeer.open(port, 5, "a", will=Will("w/a", b"1", 1), **login).close()
        watcher.receive(b"1")
        second = MqttPeer.open(port, 5, "b", will=Will("w/b", b"2", 1), **login)
        mine.ctl("set_topic_permissions", "carol", "amq.topic", "^w\\.c$", ".*")
        third = MqttPeer.open(port, 5, "c", will=Will("w/c", b"3", 1), **login)
        second.close()
        third.close()
        watcher.receive(b"3")
        watcher.nothing()


def test_packets_after_disconnect_are_nobodys(client: Client, name: str) -> None:
    """[MQTT-3.14.4-1]"""
    watcher = client().subscribed(name, qos=1)
    peer = client(will=Will(name))
    peer.send_raw(mqtt_wire.disconnect(5) + mqtt_wire.publish(5, name, b"late"))
    peer.expect_eof()
    watcher.nothing(0.1)

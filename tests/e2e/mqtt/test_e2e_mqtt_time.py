"""What happens when a second has passed: expiries of sessions and messages, delays of wills.

Each part is a generator: it prepares, yields while time passes for all parts together, and looks afterwards.
"""

from __future__ import annotations

import secrets
import time
from collections.abc import Callable, Generator, Iterator
from typing import Any

import pytest
from e2e.mqtt.mqtt_broker import MQTT_REFERENCE, MqttReference, mosquitto_differs
from support.mqtt_peer import MqttPeer, Will
from support.server import LeveretServer

PASSES_S = 1.3
"""MQTT counts these times in whole seconds; one wait is shared by all parts."""
Part = Generator[None, None, None]
Open = Callable[..., MqttPeer]


class Passed:
    """The parts that are under way on one broker."""

    def __init__(self, port: int) -> None:
        self._port = port
        self._peers: list[MqttPeer] = []
        self._running: dict[Callable[[Open, str], Part], Part] = {}
        for part in PARTS:
            self._running[part] = part(self._open, f"t-{secrets.token_hex(6)}")
            next(self._running[part])

    def _open(self, client_id: str = "", **login: Any) -> MqttPeer:
        self._peers.append(MqttPeer.open(self._port, 5, client_id, **login))
        return self._peers[-1]

    def check(self, part: Callable[[Open, str], Part]) -> None:
        with pytest.raises(StopIteration):
            next(self._running[part])

    def close(self) -> None:
        for running in self._running.values():
            running.close()
        for peer in self._peers:
            peer.close()
        for client_id in {peer.client_id for peer in self._peers if peer.keeps_session}:
            MqttPeer.open(self._port, 5, client_id).disconnect()
        with MqttPeer.open(self._port) as cleaner:
            for topic in {topic for peer in self._peers for topic in peer.retained}:
                cleaner.publish(topic, b"", retain=True)


def session_expires(open: Open, name: str) -> Part:
    open(name, session_expiry=1).subscribed(name, qos=1).disconnect()
    again = open(name, clean_start=False, session_expiry=1)
    assert again.connack.session_present
    again.close()
    yield
    assert not open(name, clean_start=False, session_expiry=1).connack.session_present


def connected_session_does_not_expire(open: Open, name: str) -> Part:
    peer = open(name, session_expiry=1)
    yield
    peer.disconnect()
    assert open(name, clean_start=False).connack.session_present


def disconnect_lengthens(open: Open, name: str) -> Part:
    open(name, session_expiry=1).disconnect(session_expiry=600)
    yield
    assert open(name, clean_start=False, session_expiry=600).connack.session_present


def retained_counts_down(open: Open, name: str) -> Part:
    open().publish(name, b"x", retain=True, message_expiry=30)
    early = open().subscribed(name, qos=1)
    assert 29 <= early.receive(b"x", retain=True).properties["message_expiry"] <= 30
    yield
    assert 25 <= open().subscribed(name, qos=1).receive(b"x", retain=True).properties["message_expiry"] <= 29


def retained_expires(open: Open, name: str) -> Part:
    open().publish(name, b"x", retain=True, message_expiry=1)
    open().subscribed(name, qos=1).receive(b"x", retain=True)
    yield
    open().subscribed(name, qos=1).nothing()


def queued_counts_down(open: Open, name: str) -> Part:
    open(name, session_expiry=600).subscribed(f"{name}/t", qos=1).disconnect()
    publisher = open()
    publisher.publish(f"{name}/t", b"short", message_expiry=1)
    publisher.publish(f"{name}/t", b"long", message_expiry=30)
    publisher.publish(f"{name}/t", b"for ever")
    yield
    peer = open(name, clean_start=False, session_expiry=600)
    assert 25 <= peer.receive(b"long").properties["message_expiry"] <= 29
    assert "message_expiry" not in peer.receive(b"for ever").properties


def will_is_delayed(open: Open, name: str) -> Part:
    watcher = open().subscribed(name, qos=1)
    open(session_expiry=60, will=Will(name, properties={"will_delay": 1})).close()
    watcher.nothing(0.2)
    yield
    watcher.receive(b"will", timeout=3)


def will_ends_with_its_session(open: Open, name: str) -> Part:
    watcher = open().subscribed(name, qos=1)
    open(session_expiry=1, will=Will(name, properties={"will_delay": 60})).close()
    watcher.nothing()
    yield
    watcher.receive(b"will", timeout=3)


def will_is_stopped_by_a_reconnect(open: Open, name: str) -> Part:
    watcher = open().subscribed(f"{name}/w", qos=1)
    will = Will(f"{name}/w", properties={"will_delay": 1})
    open(name, session_expiry=60, will=will).close()
    open(name, clean_start=False, session_expiry=60).disconnect()
    yield
    watcher.nothing()


def will_is_stopped_by_a_takeover(open: Open, name: str) -> Part:
    watcher = open().subscribed(f"{name}/w", qos=1)
    will = Will(f"{name}/w", properties={"will_delay": 1})
    open(name, session_expiry=60, will=will)
    open(name, clean_start=False, session_expiry=60)
    yield
    watcher.nothing()


PARTS = [
    session_expires, connected_session_does_not_expire, disconnect_lengthens, retained_counts_down, retained_expires,
    queued_counts_down, will_is_delayed, will_ends_with_its_session, will_is_stopped_by_a_reconnect,
    will_is_stopped_by_a_takeover,
]  # fmt: skip


@pytest.fixture(scope="module")
def passed(request: pytest.FixtureRequest) -> Iterator[Passed]:
    broker: LeveretServer | MqttReference = (
        MqttReference() if MQTT_REFERENCE else request.getfixturevalue("leveret_server")
    )
    passed = Passed(broker.ports["mqtt"])
    time.sleep(PASSES_S)
    yield passed
    passed.close()


@mosquitto_differs("looks for expired sessions every few seconds")
def test_39_a_session_expires(passed: Passed) -> None:
    """[MQTT-3.1.2-23]"""
    passed.check(session_expires)


def test_39_a_connected_session_does_not(passed: Passed) -> None:
    """3.1.2.11.2: it counts from the end of the connection"""
    passed.check(connected_session_does_not_expire)


def test_39_disconnect_may_lengthen_the_expiry(passed: Passed) -> None:
    """3.14.2.2.2"""
    passed.check(disconnect_lengthens)


def test_40_the_expiry_counts_down_while_retained(passed: Passed) -> None:
    """[MQTT-3.3.2-6]"""
    passed.check(retained_counts_down)


def test_40_what_has_expired_is_not_sent(passed: Passed) -> None:
    """[MQTT-3.3.2-5]"""
    passed.check(retained_expires)


@mosquitto_differs("counts whole seconds")
def test_40_the_expiry_counts_down_in_a_queue(passed: Passed) -> None:
    """[MQTT-3.3.2-5] [MQTT-3.3.2-6]: for a client that is away"""
    passed.check(queued_counts_down)


@mosquitto_differs("looks at delays every few seconds only")
def test_43_the_delay(passed: Passed) -> None:
    """3.1.3.2.2"""
    passed.check(will_is_delayed)


@mosquitto_differs("looks every few seconds only")
def test_43_the_end_of_the_session_ends_the_delay(passed: Passed) -> None:
    """3.1.3.2.2"""
    passed.check(will_ends_with_its_session)


def test_43_a_reconnect_stops_the_delay(passed: Passed) -> None:
    """[MQTT-3.1.3-9]"""
    passed.check(will_is_stopped_by_a_reconnect)


def test_43_not_sent_at_takeover_if_it_is_delayed(passed: Passed) -> None:
    """[MQTT-3.1.3-9]: a new connection to the session before the delay has passed"""
    passed.check(will_is_stopped_by_a_takeover)

"""What must be there after the server was stopped, or killed with SIGKILL: sessions, messages, wills, clocks that ran on.

Each part is a generator: it prepares, yields while the server is away (1.2 s), and looks at what is there afterwards.
All parts share one server and its one restart.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Generator, Iterator
from typing import Any

import pytest
from e2e.mqtt.mqtt_broker import MQTT_REFERENCE, no_errors
from support.mqtt_peer import MqttPeer, Packet, Will
from support.server import LeveretServer

FOREVER = 0xFFFFFFFF
Part = Generator[None, int, None]


def durable(version: int) -> dict[str, Any]:
    return {"clean_start": False} | ({"session_expiry": 600} if version == 5 else {})


def sessions(port: int) -> Part:
    for version in (3, 4, 5):
        peer = MqttPeer.open(port, version, f"v{version}", **durable(version))
        peer.subscribed("s/+", qos=2)
        peer.subscribed(f"only/{version}", qos=1)
        peer.disconnect()
    with (
        MqttPeer.open(port, 5, "connected", session_expiry=FOREVER) as connected,
        MqttPeer.open(port, 5, "gone") as gone,
        MqttPeer.open(port) as publisher,
    ):
        connected.subscribed("s/#", qos=1)
        gone.subscribed("s/#", qos=1)
        for number in range(10):
            publisher.publish(f"s/{number % 3}", b"%d" % number, qos=1 + number % 2)
        port = yield
    with MqttPeer.open(port) as publisher:
        for version in (3, 4, 5):
            with MqttPeer.open(port, version, f"v{version}", **durable(version)) as peer:
                assert peer.connack.session_present == (version > 3)
                for number in range(10):
                    peer.receive(b"%d" % number, topic=f"s/{number % 3}", qos=1 + number % 2)
                publisher.publish(f"only/{version}", b"again")
                peer.receive(b"again", qos=1)
                peer.nothing()
                peer.disconnect()
    with MqttPeer.open(port, 5, "connected", clean_start=False) as peer:
        assert peer.connack.session_present
        assert [peer.receive().payload for _ in range(10)] == [b"%d" % number for number in range(10)]
    with MqttPeer.open(port, 5, "gone", clean_start=False) as peer:
        assert not peer.connack.session_present


def in_flight(port: int) -> Part:
    """Received and sent packet ids: known on both sides afterwards."""
    with (
        MqttPeer.open(port, 5, "flying", session_expiry=600) as peer,
        MqttPeer.open(port, 5, "once", session_expiry=600) as watcher,
        MqttPeer.open(port) as publisher,
    ):
        peer.subscribed("f/#", qos=2)
        for number in range(4):
            publisher.publish(f"f/{number}", b"%d" % number, qos=2)
        sent = [peer.expect("PUBLISH", qos=2, payload=b"%d" % number) for number in range(4)]
        peer.settle("PUBREC", sent[0].packet_id)
        peer.expect("PUBREL", packet_id=sent[0].packet_id)
        peer.settle("PUBREC", sent[1].packet_id)
        peer.expect("PUBREL", packet_id=sent[1].packet_id)
        peer.settle("PUBCOMP", sent[1].packet_id)
        peer.say_publish("once", b"x", qos=2, packet_id=77)
        peer.expect("PUBREC", packet_id=77)
        watcher.subscribed("once", qos=2)
        port = yield
    with MqttPeer.open(port, 5, "flying", clean_start=False, session_expiry=600) as peer:
        packets = [peer.next() for _ in range(3)]
        released = [packet.packet_id for packet in packets if packet.name == "PUBREL"]
        again = [packet for packet in packets if packet.name == "PUBLISH"]
        assert released == [sent[0].packet_id]
        assert [(m.packet_id, m.payload, m.dup) for m in again] == [
            (m.packet_id, m.payload, True) for m in sent[2:]
        ]
        peer.say_publish("once", b"x", qos=2, packet_id=77, dup=True)
        assert peer.expect("PUBREC", packet_id=77).code == 0
        peer.settle("PUBREL", 77)
        peer.expect("PUBCOMP", packet_id=77)
    with MqttPeer.open(port, 5, "once", clean_start=False, session_expiry=600) as watcher:
        watcher.nothing()  # it came before the watcher, and only then


def clocks(port: int) -> Part:
    MqttPeer.open(port, 5, "short", session_expiry=1).subscribed("c", qos=1).disconnect()
    MqttPeer.open(port, 5, "long", session_expiry=600).subscribed("c", qos=1).disconnect()
    with MqttPeer.open(port) as publisher:
        publisher.publish("c", b"expires", message_expiry=1)
        publisher.publish("c", b"stays", message_expiry=100)
    port = yield
    with MqttPeer.open(port, 5, "short", clean_start=False, session_expiry=1) as peer:
        assert not peer.connack.session_present
    with MqttPeer.open(port, 5, "long", clean_start=False, session_expiry=600) as peer:
        assert peer.connack.session_present
        assert 50 < peer.receive(b"stays").properties["message_expiry"] < 100


def ended(port: int) -> Part:
    MqttPeer.open(port, 5, "ended", session_expiry=600).subscribed("e", qos=1).disconnect()
    MqttPeer.open(port, 5, "ended", session_expiry=0).disconnect()
    unsubscribed = MqttPeer.open(port, 5, "unsubscribed", session_expiry=600).subscribed("e", qos=1)
    assert unsubscribed.unsubscribe("e") == [0]
    unsubscribed.close()
    port = yield
    with MqttPeer.open(port) as publisher:
        assert publisher.publish("e", b"x").code == 0x10
    with MqttPeer.open(port, 5, "ended", clean_start=False) as peer:
        assert not peer.connack.session_present
    with MqttPeer.open(port, 5, "unsubscribed", clean_start=False) as peer:
        assert peer.connack.session_present
        peer.nothing()


def retained(port: int) -> Part:
    with MqttPeer.open(port) as publisher:
        for number in range(20):
            publisher.publish(
                f"r/{number}", b"%d" % number, qos=1 + number % 2, retain=True, content_type="c"
            )
        publisher.publish("r/0", b"replaced", retain=True, user_properties=[("a", "b")])
        publisher.publish("r/1", b"", retain=True)
        publisher.publish("r/2", b"expires", retain=True, message_expiry=1)
        publisher.publish("r/3", b"stays", retain=True, message_expiry=100)
    port = yield
    with MqttPeer.open(port) as peer:
        peer.subscribed("r/#", qos=2)
        found: dict[str, Packet] = {
            message.topic: message for message in (peer.receive(retain=True) for _ in range(18))
        }
        peer.nothing()
    assert set(found) == {f"r/{number}" for number in range(20)} - {"r/1", "r/2"}
    assert found["r/0"].payload == b"replaced"
    assert found["r/0"].user_properties == [("a", "b")]
    assert 50 < found["r/3"].properties["message_expiry"] < 100
    assert (found["r/5"].payload, found["r/5"].qos, found["r/5"].properties["content_type"]) == (b"5", 2, "c")


def dots(port: int) -> Part:
    """A topic with a dot looks the same live, retained, queued, and from the disk."""
    MqttPeer.open(port, 5, "dots", session_expiry=600).subscribed("d.d/#", qos=1).disconnect()
    with MqttPeer.open(port) as publisher, MqttPeer.open(port) as live:
        live.subscribed("d.d/#", qos=1)
        for number in range(2):
            publisher.publish("d.d/c.d", b"%d" % number, qos=1, retain=True)
        topics = {live.receive().topic for _ in range(2)}
    with MqttPeer.open(port, 5, "dots", clean_start=False, session_expiry=600) as peer:
        topics.add(peer.receive(b"0").topic)
        topics |= {message.topic for message in peer.barrier()}
    port = yield
    with (
        MqttPeer.open(port, 5, "dots", clean_start=False, session_expiry=600) as peer,
        MqttPeer.open(port) as late,
    ):
        topics.add(peer.receive().topic)
        topics.add(late.subscribed("d.d/#", qos=1).receive(retain=True).topic)
    assert len(topics) == 1, topics


def wills(port: int) -> Part:
    """Part of the session state (3.1.2.5): those of clients that were connected are published, by the server that
    stops, or by the one after a kill; delays count on; what was taken away stays away."""
    MqttPeer.open(port, 5, "watcher", session_expiry=600).subscribed("w/#", qos=2).disconnect()
    slow = Will("w/slow", b"4", 1, properties={"will_delay": 600})
    short = Will("w/short", b"3", 1, properties={"will_delay": 2})
    MqttPeer.open(port, 5, "w3", session_expiry=60, will=short).close()
    MqttPeer.open(port, 5, "w5", will=Will("w/left", b"5", 1)).disconnect()
    with (
        MqttPeer.open(port, 5, "w1", session_expiry=600, will=Will("w/session", b"1", 1)),
        MqttPeer.open(port, 4, "w2", will=Will("w/plain", b"2", 2, retain=True)),
        MqttPeer.open(port, 5, "w4", session_expiry=600, will=slow),
    ):
        port = yield
    with MqttPeer.open(port, 5, "watcher", clean_start=False, session_expiry=600) as watcher:
        assert {watcher.receive(timeout=5).topic for _ in range(3)} == {"w/session", "w/plain", "w/short"}
        watcher.nothing()
        with MqttPeer.open(port, 5, "w4", clean_start=True):  # ends the session and the delay
            watcher.receive(b"4", topic="w/slow")
    with MqttPeer.open(port) as late:
        late.subscribed("w/#", qos=1).receive(b"2", retain=True, topic="w/plain")
        late.nothing()


def shared(port: int) -> Part:
    """What waits for a group whose members are all away."""
    member = MqttPeer.open(port, 5, "member", session_expiry=600).subscribed("$share/g/g/t", qos=1)
    member.disconnect()
    with MqttPeer.open(port) as publisher:
        for number in range(3):
            publisher.publish("g/t", b"%d" % number)
    port = yield
    with MqttPeer.open(port, 5, "member", clean_start=False, session_expiry=600) as member:
        assert [member.receive().payload for _ in range(3)] == [b"0", b"1", b"2"]
        member.nothing()


PARTS: list[Callable[[int], Part]] = [sessions, in_flight, clocks, ended, retained, dots, wills, shared]


class Restarted:
    def __init__(self, port: int, parts: dict[Callable[[int], Part], Part]) -> None:
        self._port = port
        self._parts = parts

    def check(self, part: Callable[[int], Part]) -> None:
        with pytest.raises(StopIteration):
            self._parts[part].send(self._port)


@pytest.fixture(scope="module", params=["stop", "kill"])
def restarted(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Restarted]:
    if MQTT_REFERENCE:
        pytest.skip("these tests restart a server of their own")
    with LeveretServer(tmp_path_factory.mktemp("restart") / "data") as server:
        parts = {part: part(server.ports["mqtt"]) for part in PARTS}
        for running in parts.values():
            next(running)
        with MqttPeer.open(server.ports["mqtt"]) as settled:  # behind the end of those who only closed
            settled.publish("x", b"x")
        since = time.monotonic()
        getattr(server, request.param)()
        # Expiries of a second, the least that MQTT has, begin before the restart and end after it, for `clocks`.
        time.sleep(max(0.0, 0.8 - (time.monotonic() - since)))
        server.start()
        time.sleep(max(0.0, 1.2 - (time.monotonic() - since)))
        yield Restarted(server.ports["mqtt"], parts)
        for running in parts.values():
            running.close()
        no_errors(server)


def test_39_sessions_are_there(restarted: Restarted) -> None:
    """[MQTT-4.1.0-1] of 5.0"""
    restarted.check(sessions)


def test_41_what_is_in_flight_is_there(restarted: Restarted) -> None:
    """[MQTT-4.4.0-1], [MQTT-4.3.3-10]"""
    restarted.check(in_flight)


def test_39_the_clocks_have_run_on(restarted: Restarted) -> None:
    """Session expiry intervals go on counting while the broker is down."""
    restarted.check(clocks)


def test_39_what_has_ended_stays_ended(restarted: Restarted) -> None:
    restarted.check(ended)


def test_40_retained_messages_are_there(restarted: Restarted) -> None:
    restarted.check(retained)


def test_37_topics_are_what_they_were(restarted: Restarted) -> None:
    restarted.check(dots)


def test_43_wills_are_published(restarted: Restarted) -> None:
    """[MQTT-3.1.2-8]"""
    restarted.check(wills)


def test_groups_are_there(restarted: Restarted) -> None:
    restarted.check(shared)

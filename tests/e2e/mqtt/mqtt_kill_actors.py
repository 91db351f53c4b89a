"""The clients of the MQTT kill test: threads with a session, which keep their own part of its state by the book."""

from __future__ import annotations

import itertools
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, ClassVar

from support import mqtt_wire
from support.mqtt_peer import MqttPeer, MqttPeerClosed, Packet

__all__ = ["Actor", "Publisher", "Subscriber", "check"]

EXPIRY_S = 3600
QUIET_S = 1.0
"""That long nothing comes any more."""


class Actor:
    """One client. `run(port)` lasts until the server is gone; `finish(port)` until all that is open is settled."""

    kind: ClassVar[str]

    def __init__(self, name: str, version: int) -> None:
        self.name = name
        self.version = version
        self.has_session = False
        self.problems: list[str] = []

    def start(self, port: int, *, is_last: bool = False) -> threading.Thread:
        act = self.finish if is_last else self.run
        thread = threading.Thread(target=self._guard, args=(port, act), name=self.name)
        thread.start()
        return thread

    def _guard(self, port: int, act: Callable[[int], None]) -> None:
        try:
            act(port)
        except (MqttPeerClosed, ConnectionError) as error:
            if act == self.finish:
                self.problems.append(f"{self.name}: {error!r}")
        except Exception as error:  # noqa: BLE001 - told in the test's own thread
            self.problems.append(f"{self.name}: {error!r}")

    def run(self, port: int) -> None:
        raise NotImplementedError

    def finish(self, port: int) -> None:
        raise NotImplementedError

    def connect(self, port: int) -> MqttPeer:
        """To this client's session, which must be there if CONNACK has told it once."""
        expiry: dict[str, Any] = {"session_expiry": EXPIRY_S} if self.version == 5 else {}
        peer = MqttPeer.open(port, self.version, self.name, clean_start=False, **expiry)
        if self.has_session and not peer.connack.session_present:
            self.problems.append(f"{self.name}: the session is gone")
        self.has_session = True
        return peer


@dataclass
class Outgoing:
    """A message that is not settled: its number, what was said last, and whether PUBREC has come."""

    number: int
    is_released: bool = False


class Publisher(Actor):
    """Publishes numbers; sends again after a reconnect what is open (4.4). Uses few packet ids, again and again."""

    def __init__(self, name: str, version: int, qos: int, window: int) -> None:
        super().__init__(name, version)
        self.qos = qos
        self.window = window
        self.number = 0
        self.open: dict[int, Outgoing] = {}  # by packet id, in order
        self.acknowledged: list[int] = []
        """The server has taken these: PUBACK, or PUBREC."""

    def run(self, port: int) -> None:
        with self.connect(port) as peer:
            self._send_again(peer)
            while True:
                while len(self.open) < self.window:
                    self._publish_next(peer)
                self._settle(peer, peer.next())

    def finish(self, port: int) -> None:
        with self.connect(port) as peer:
            self._send_again(peer)
            while self.open:
                self._settle(peer, peer.next())
            peer.disconnect()

    def _payload(self, number: int) -> bytes:
        return b"%d %s" % (number, b"." * (number * 37 % 3000))

    def _publish_next(self, peer: MqttPeer) -> None:
        self.number += 1
        packet_id = next(i for i in range(1, self.window + 2) if i not in self.open)
        self.open[packet_id] = Outgoing(self.number)
        self._publish(peer, packet_id, self.number, dup=False)

    def _publish(self, peer: MqttPeer, packet_id: int, number: int, *, dup: bool) -> None:
        peer.send_raw(
            mqtt_wire.publish(
                self.version,
                f"kill/{self.name}",
                self._payload(number),
                qos=self.qos,
                dup=dup,
                packet_id=packet_id,
            )
        )

    def _send_again(self, peer: MqttPeer) -> None:
        for packet_id, entry in self.open.items():
            if entry.is_released:
                peer.settle("PUBREL", packet_id)
            else:
                self._publish(peer, packet_id, entry.number, dup=True)

    def _settle(self, peer: MqttPeer, packet: Packet) -> None:
        entry = self.open[packet.packet_id]
        match packet.name:
            case "PUBACK" if self.qos == 1:
                self.acknowledged.append(entry.number)
                del self.open[packet.packet_id]
            case "PUBREC" if self.qos == 2:
                if not entry.is_released:
                    self.acknowledged.append(entry.number)
                entry.is_released = True
                peer.settle("PUBREL", packet.packet_id)
            case "PUBCOMP" if entry.is_released:
                del self.open[packet.packet_id]
            case _:
                raise AssertionError(f"unexpected {packet}")


@dataclass
class Subscriber(Actor):
    """Receives everything; knows the ids of QoS 2 messages that are not released, whatever happens to the server."""

    name: str
    version: int
    qos: int
    received: dict[str, list[int]] = field(default_factory=dict)  # by publisher, as they came
    unreleased: set[int] = field(default_factory=set)

    def __post_init__(self) -> None:
        super().__init__(self.name, self.version)

    def subscribe(self, port: int) -> None:
        with self.connect(port) as peer:
            peer.subscribed("kill/#", qos=self.qos)
            peer.disconnect()

    def run(self, port: int) -> None:
        with self.connect(port) as peer:
            while True:
                self._take(peer, peer.next(timeout=60))

    def finish(self, port: int) -> None:
        """Until nothing more comes."""
        with self.connect(port) as peer:
            try:
                while True:
                    self._take(peer, peer.next(QUIET_S))
            except TimeoutError:
                peer.ping()
            if self.unreleased:
                self.problems.append(f"{self.name}: never released: {self.unreleased}")

    def _take(self, peer: MqttPeer, packet: Packet) -> None:
        match packet.name:
            case "PUBLISH":
                if packet.qos == 2:
                    if packet.packet_id not in self.unreleased:
                        self._deliver(packet)
                    self.unreleased.add(packet.packet_id)
                    peer.settle("PUBREC", packet.packet_id)
                else:
                    self._deliver(packet)
                    peer.settle("PUBACK", packet.packet_id)
            case "PUBREL":
                self.unreleased.discard(packet.packet_id)
                peer.settle("PUBCOMP", packet.packet_id)
            case _:
                raise AssertionError(f"unexpected {packet}")

    def _deliver(self, packet: Packet) -> None:
        number, _, padding = packet.payload.partition(b" ")
        if len(padding) != int(number) * 37 % 3000:
            self.problems.append(f"{self.name}: damaged: {packet}")
        self.received.setdefault(packet.topic.removeprefix("kill/"), []).append(int(number))


def check(publisher: Publisher, subscriber: Subscriber) -> list[str]:
    """What must hold between the two when all is settled."""
    received = subscriber.received.get(publisher.name, [])
    first = list(dict.fromkeys(received))
    problems = []
    where = f"{publisher.name} to {subscriber.name}"
    if lost := set(publisher.acknowledged) - set(received):
        problems.append(f"{where}: lost {len(lost)}: {sorted(lost)[:10]}")
    if first != sorted(first):
        wrong = next(number for number, after in itertools.pairwise(first) if number > after)
        problems.append(f"{where}: out of order near {wrong}")
    if publisher.qos == subscriber.qos == 2 and len(first) != len(received):
        twice = sorted(number for number in first if received.count(number) > 1)
        problems.append(f"{where}: more than once: {twice[:10]}")
    return problems

"""Retained messages: the last one of each topic, durable, found again by wildcards (5.0 3.3.1.3, 4.7).

One definition record a topic, written in the group of the publish. The trie holds the very bytes that the store holds,
and makes a message of them when somebody subscribes: what a retained message costs is its record and one node.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator
from dataclasses import dataclass
from struct import Struct
from struct import error as StructError
from typing import TYPE_CHECKING

from leveret.adapters.mqtt.records import record_key
from leveret.adapters.mqtt.settings import MqttSettings
from leveret.adapters.mqtt.topic_tree import Node, TopicTree
from leveret.core.message import Envelope

if TYPE_CHECKING:
    from leveret.core.broker import Broker
    from leveret.core.timers import Timer
__all__ = ["Retained", "RetainedMessage"]

log = logging.getLogger(__name__)

PREFIX = b"mqtt/retained/"
Record = bytes
HEAD = Struct(
    ">BQQIIIII"
)  # version; stored at, expires at (ms, 0: never); bytes of the five names that follow
VERSION = 1
SWEEP_S = 30  # expired messages that nobody asks for are dropped within this time
LOG_PAUSE_S = 60.0


@dataclass(frozen=True, slots=True)
class RetainedMessage:
    """Times are wall-clock milliseconds since the epoch."""

    envelope: Envelope
    body: bytes
    expires_at_ms: int | None
    stored_at_ms: int

    def remaining_s(self, now_ms: int) -> int | None:
        """What is left of the message expiry, as the delivery says it; at least 1 (5.0 3.3.2.3.3)."""
        return None if self.expires_at_ms is None else max(1, (self.expires_at_ms - now_ms + 999) // 1000)


def _encode(vhost: str, topic: str, message: RetainedMessage) -> bytes:
    envelope = message.envelope
    names = [
        name.encode("utf-8", "surrogateescape")
        for name in (vhost, topic, envelope.exchange, envelope.routing_key)
    ]
    return b"".join([
        HEAD.pack(
            VERSION, message.stored_at_ms, message.expires_at_ms or 0, *map(len, names), len(envelope.header)
        ),
        *names, envelope.header, message.body,
    ])  # fmt: skip


def _names(value: bytes) -> tuple[str, str]:
    """The virtual host and the topic of a record."""
    sizes = HEAD.unpack_from(value)
    middle = HEAD.size + sizes[3]
    end = middle + sizes[4]
    return (
        value[HEAD.size : middle].decode("utf-8", "surrogateescape"),
        value[middle:end].decode("utf-8", "surrogateescape"),
    )


def _decode(value: bytes) -> tuple[str, RetainedMessage]:
    _, stored_at_ms, expires_at_ms, *sizes = HEAD.unpack_from(value)
    pieces: list[bytes] = []
    at = HEAD.size
    for size in sizes:
        pieces.append(value[at : at + size])
        at += size
    _, topic, exchange, routing_key = [piece.decode("utf-8", "surrogateescape") for piece in pieces[:4]]
    envelope = Envelope(exchange, routing_key, pieces[4])
    return topic, RetainedMessage(envelope, value[at:], expires_at_ms or None, stored_at_ms)


class Retained:
    """All retained messages of a broker. Topics are as clients wrote them, filters without `$share/group/`."""

    def __init__(self, broker: Broker) -> None:
        self.refused_count = 0
        """Messages that were not retained, for want of room."""
        self._broker = broker
        self._trees: dict[str, TopicTree] = {}
        self._expiring: dict[int, dict[Node, None]] = {}  # by the sweep that drops them
        self._sweeper: Timer | None = None
        self._may_log_at = 0.0

    def recover(self) -> None:
        """Once, at the start. A record that cannot be read is logged and left in the store."""
        now_ms = self._now_ms()
        for key, value in self._broker.store.definitions(PREFIX):
            try:
                version, _, expires_at_ms, *sizes = HEAD.unpack_from(value)
                if version != VERSION or HEAD.size + sum(sizes) > len(value):
                    raise ValueError("it is cut off, or of another version")
                vhost, topic = _names(value)
            except (StructError, ValueError) as error:
                log.error("record=%r cannot be read: %s", key, error)
                continue
            if 0 < expires_at_ms <= now_ms or vhost not in self._broker.vhosts:
                self._broker.store.delete_definition(key)
            else:
                self._keep(vhost, topic, value, expires_at_ms)

    # -- reading

    def count(self, vhost: str | None = None) -> int:
        """In one virtual host, or in all. Those that have expired count until they are dropped."""
        if vhost is None:
            return sum([tree.count for tree in self._trees.values()])
        tree = self._trees.get(vhost)
        return 0 if tree is None else tree.count

    @property
    def bytes(self) -> int:
        """Of the records of all virtual hosts: bodies with topics and properties."""
        return sum([tree.bytes for tree in self._trees.values()])

    def get(self, vhost: str, topic: str) -> RetainedMessage | None:
        tree = self._trees.get(vhost)
        node = None if tree is None else tree.find(topic)
        found = None if node is None else self._message(node)
        return None if found is None else found[1]

    def match(self, vhost: str, filter: str) -> Iterator[tuple[str, RetainedMessage]]:
        """What a subscription to the filter is given, topics in no particular order.

        The matching is done at the first step; while it is iterated messages may be set and cleared. `#` and `+` do
        not stand for first levels with a `$` [MQTT-4.7.2-1].
        """
        tree = self._trees.get(vhost)
        if tree is None:
            return
        for node in tree.match(filter):
            found = self._message(node)
            if found is not None:
                yield found

    def _message(self, node: Node) -> tuple[str, RetainedMessage] | None:
        """None: it has expired, or been cleared meanwhile."""
        value = node.value
        if value is None:
            return None
        if 0 < node.expires_at_ms <= self._now_ms():
            self.clear(*_names(value))
            return None
        return _decode(value)

    # -- changing

    def set(self, vhost: str, topic: str, message: RetainedMessage) -> bool:
        """Retain it instead of what was there; an empty body clears. In the store's open group.

        False: there is no room (mqtt.max_retained_messages, max_retained_bytes); what was there stays.
        """
        if not message.body:
            self.clear(vhost, topic)
            return True
        value = _encode(vhost, topic, message)
        if not self._has_room(vhost, topic, len(value)):
            self._refuse(vhost, topic)
            return False
        self._broker.store.put_definition(PREFIX + record_key(vhost, topic), value)
        self._keep(vhost, topic, value, message.expires_at_ms or 0)
        return True

    def clear(self, vhost: str, topic: str) -> bool:
        """False: nothing was retained there."""
        tree = self._trees.get(vhost)
        node = None if tree is None else tree.remove(topic)
        if tree is None or node is None:
            return False
        if not tree.count:
            del self._trees[vhost]
        self._unschedule(node)
        self._broker.store.delete_definition(PREFIX + record_key(vhost, topic))
        return True

    def forget_vhost(self, vhost: str) -> None:
        """The virtual host was deleted."""
        tree = self._trees.get(vhost)
        if tree is not None:
            for topic in [_names(node.value)[1] for node in tree.nodes() if node.value is not None]:
                self.clear(vhost, topic)

    def _keep(self, vhost: str, topic: str, value: Record, expires_at_ms: int) -> None:
        tree = self._trees.get(vhost)
        if tree is None:
            tree = self._trees[vhost] = TopicTree()
        node = tree.set(topic, value)
        self._unschedule(node)
        if expires_at_ms:
            node.expires_at_ms = expires_at_ms
            self._expiring.setdefault(_sweep_of(expires_at_ms), {})[node] = None
            self._schedule()

    # -- room

    def _has_room(self, vhost: str, topic: str, size: int) -> bool:
        tree = self._trees.get(vhost)
        if tree is None:
            tree = TopicTree()
        settings = MqttSettings.of(self._broker.settings)
        most, most_bytes = settings.max_retained_messages, settings.max_retained_bytes
        if tree.count < most and tree.bytes + size <= most_bytes:
            return True
        self._sweep()
        node = tree.find(topic)
        if node is None or node.value is None:
            return tree.count < most and tree.bytes + size <= most_bytes
        # One that is there may always change, if it does not grow beyond.
        return size <= len(node.value) or tree.bytes - len(node.value) + size <= most_bytes

    def _refuse(self, vhost: str, topic: str) -> None:
        self.refused_count += 1
        now = self._broker.timers.now
        if now >= self._may_log_at:
            self._may_log_at = now + LOG_PAUSE_S
            log.warning(
                "vhost=%s topic=%r is not retained: mqtt.max_retained_messages or max_retained_bytes is reached; "
                "refused so far: %d",
                vhost, topic, self.refused_count,
            )  # fmt: skip

    # -- expiry

    def _unschedule(self, node: Node) -> None:
        if node.expires_at_ms:
            sweep = _sweep_of(node.expires_at_ms)
            nodes = self._expiring.get(sweep)
            if nodes is not None and nodes.pop(node, node) is None and not nodes:
                del self._expiring[sweep]
            node.expires_at_ms = 0

    def _schedule(self) -> None:
        if self._sweeper is None and self._expiring:
            self._sweeper = self._broker.timers.after(SWEEP_S, self._on_sweep)

    def _on_sweep(self) -> None:
        self._sweeper = None
        self._sweep()
        self._schedule()

    def _sweep(self) -> None:
        """Drop what has expired."""
        now = _sweep_of(self._now_ms()) - 1
        for sweep in [sweep for sweep in self._expiring if sweep <= now]:
            for node in list(self._expiring.pop(sweep)):
                if node.value is not None:
                    self.clear(*_names(node.value))

    def _now_ms(self) -> int:
        timers = self._broker.timers
        return timers.wall_ms(timers.now)


def _sweep_of(expires_at_ms: int) -> int:
    """The number of the interval that ends when all in it have expired."""
    return expires_at_ms // (SWEEP_S * 1000)

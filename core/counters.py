"""Counters of messages by protocol and by type of queue, and the contract of those who have metrics of their own.

The counters only grow, as monitoring needs it. No counter here is changed per message: connections, channels and queues
count in plain integers of their own, and hand these over when they end. A reader sums the counters of what has ended,
which `Traffic` keeps, and those of what still lives.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from typing import Protocol, runtime_checkable

from leveret.core.histogram import Histogram

__all__ = ["Metric", "MetricSource", "PublishCounters", "QueueCounters", "Traffic"]

SIZE_BOUNDS = (100, 1_000, 10_000, 100_000, 1_000_000, 10_000_000, 50_000_000, 100_000_000)
"""Upper bounds of the buckets of body sizes, in bytes."""


@dataclass(slots=True)
class PublishCounters:
    """What the clients of one protocol published and how they were answered, with the bytes on their connections.

    received          messages published
    received_confirm  of them, those whose publisher expects a confirmation
    confirmed         messages confirmed to their publishers
    routed            messages that reached at least one queue
    returned          unroutable messages that were returned to their publisher
    dropped           unroutable messages that were dropped
    bytes_received    by the broker, on the wire; bytes_sent likewise
    publishers        as of now, not a total; consumers likewise
    """

    received: int = 0
    received_confirm: int = 0
    confirmed: int = 0
    routed: int = 0
    returned: int = 0
    dropped: int = 0
    bytes_received: int = 0
    bytes_sent: int = 0
    publishers: int = 0
    consumers: int = 0

    def count(self, count: int, *, is_routed: bool, is_returned: bool) -> None:
        """Count messages of a publisher without a connection of its own.

        Args:
            count: the number of messages.
            is_routed: they reached a queue.
            is_returned: the publisher is told if they did not.
        """
        self.received += count
        if is_routed:
            self.routed += count
        elif is_returned:
            self.returned += count
        else:
            self.dropped += count

    def add(self, other: PublishCounters) -> None:
        """Add the totals of another one, but not its current publishers and consumers."""
        self.received += other.received
        self.received_confirm += other.received_confirm
        self.confirmed += other.confirmed
        self.routed += other.routed
        self.returned += other.returned
        self.dropped += other.dropped
        self.bytes_received += other.bytes_received
        self.bytes_sent += other.bytes_sent


class CountedQueue(Protocol):
    """A queue, as far as its counters are read here."""

    type: str
    published_total: int
    delivered_total: int
    delivered_no_ack_total: int
    get_total: int
    get_no_ack_total: int
    get_empty_total: int
    redelivered_total: int
    acknowledged_total: int
    dropped_total: int
    dead_lettered: dict[tuple[str, str], int]


@dataclass(slots=True)
class QueueCounters:
    """What happened to messages in the queues of one type.

    published          messages that entered a queue
    delivered          to consumers with manual acknowledgement; delivered_no_ack: with automatic acknowledgement
    got                by basic.get and its like with manual acknowledgement; got_no_ack: with automatic acknowledgement
    get_empty          such requests that found no message
    redelivered        messages requeued, to be delivered again
    acknowledged       messages acknowledged by consumers
    dropped            messages dropped from the head of a queue over its limit
    dead_lettered      messages dead-lettered, by reason and strategy (`Queue.dead_letter`)
    """

    published: int = 0
    delivered: int = 0
    delivered_no_ack: int = 0
    got: int = 0
    got_no_ack: int = 0
    get_empty: int = 0
    redelivered: int = 0
    acknowledged: int = 0
    dropped: int = 0
    dead_lettered: dict[tuple[str, str], int] = field(default_factory=dict)

    def add(self, queue: CountedQueue) -> None:
        """Add the counters of a queue."""
        self.published += queue.published_total
        self.delivered += queue.delivered_total
        self.delivered_no_ack += queue.delivered_no_ack_total
        self.got += queue.get_total
        self.got_no_ack += queue.get_no_ack_total
        self.get_empty += queue.get_empty_total
        self.redelivered += queue.redelivered_total
        self.acknowledged += queue.acknowledged_total
        self.dropped += queue.dropped_total
        for death, count in queue.dead_lettered.items():
            self.dead_lettered[death] = self.dead_lettered.get(death, 0) + count

    def copy(self) -> QueueCounters:
        """An independent copy."""
        return replace(self, dead_lettered=dict(self.dead_lettered))


class Traffic:
    """A broker's counters of connections and queues that have ended, and of publishers without a connection.

    by_protocol    the counters of publishers; protocols are named as in RabbitMQ's metrics
    by_queue_type  the counters of deleted queues
    sizes          the sizes of published bodies in bytes, by protocol
    """

    __slots__ = ("by_protocol", "by_queue_type", "sizes")

    def __init__(self) -> None:
        self.by_protocol: dict[str, PublishCounters] = {}
        self.by_queue_type: dict[str, QueueCounters] = {}
        self.sizes: dict[str, Histogram] = {}

    def of_protocol(self, protocol: str) -> PublishCounters:
        """The counters of a protocol, made at first use."""
        found = self.by_protocol.get(protocol)
        if found is None:
            found = self.by_protocol[protocol] = PublishCounters()
        return found

    def sizes_of(self, protocol: str) -> Histogram:
        """The histogram of body sizes of a protocol, made at first use."""
        found = self.sizes.get(protocol)
        if found is None:
            found = self.sizes[protocol] = Histogram(SIZE_BOUNDS)
        return found

    def retire(self, protocol: str, counters: PublishCounters) -> None:
        """Keep the totals of a connection or channel that has ended."""
        self.of_protocol(protocol).add(counters)

    def retire_queue(self, queue: CountedQueue) -> None:
        """Keep the totals of a queue that is deleted."""
        self.by_queue_type.setdefault(queue.type, QueueCounters()).add(queue)


@dataclass(frozen=True, slots=True)
class Metric:
    """A metric that an adapter or plugin adds to those of the broker.

    name     in full, with a prefix of its own; a counter's name ends with _total
    help     what it measures
    kind     "counter" or "gauge"
    samples  (labels, value); one sample without labels: a single number
    """

    name: str
    help: str
    kind: str
    samples: tuple[tuple[dict[str, str], float], ...]

    @classmethod
    def of(cls, name: str, help: str, value: float, kind: str = "") -> Metric:
        """A single number. Without a kind, the name tells whether it is a counter or a gauge."""
        return cls(name, help, kind or ("counter" if name.endswith("_total") else "gauge"), (({}, value),))


@runtime_checkable
class MetricSource(Protocol):
    """An adapter, or a plugin's service, that has metrics of its own."""

    def metrics(self) -> Iterable[Metric]:
        """The metrics as of now. Synchronous and fast, because the broker waits meanwhile."""

"""What went through, by protocol and by type of queue, since the start: counters that never fall, for monitoring.

Nothing is counted here per message. Whoever lives (connections, channels, queues) counts for itself in plain integers, and
hands its numbers over when it goes; whoever asks adds up both.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterable
from dataclasses import dataclass, field, fields
from typing import Protocol, runtime_checkable

__all__ = [
    "BOUNDS",
    "Metric",
    "MetricSource",
    "PublishCounters",
    "QueueCounters",
    "SizeHistogram",
    "Traffic",
]

BOUNDS = (100, 1_000, 10_000, 100_000, 1_000_000, 10_000_000, 50_000_000, 100_000_000)
"""Upper bounds of the histogram of body sizes, in bytes; what is larger is in a last bucket of its own."""


class SizeHistogram:
    """A histogram of body sizes. counts: per bucket, not cumulative."""

    __slots__ = ("counts", "total_bytes")

    def __init__(self) -> None:
        self.counts = [0] * (len(BOUNDS) + 1)
        self.total_bytes = 0

    def add(self, size: int, count: int) -> None:
        """count bodies of size bytes. Publishers call it when the size changes, not for each message."""
        self.counts[bisect_left(BOUNDS, size)] += count
        self.total_bytes += size * count


@dataclass(slots=True)
class PublishCounters:
    """What publishers of one protocol sent, and what they were told. The two last are not totals: they are as of now."""

    received: int = 0
    received_confirm: int = 0  # of them, those whose publisher waits for an answer
    confirmed: int = 0
    routed: int = 0  # messages that reached a queue at least
    returned: int = 0  # reached none, and came back
    dropped: int = 0  # reached none
    bytes_received: int = 0  # on the wire, and sent there
    bytes_sent: int = 0
    publishers: int = 0
    consumers: int = 0

    def count(self, count: int, *, is_routed: bool, is_returned: bool) -> None:
        """Count messages of a publisher that does not stay, and so cannot count for itself.

        Args:
            is_returned: if no queue was there for them, the publisher is told.
        """
        self.received += count
        if is_routed:
            self.routed += count
        elif is_returned:
            self.returned += count
        else:
            self.dropped += count

    def add(self, other: PublishCounters) -> None:
        """The totals; `publishers` and `consumers` are nobody's when it is gone."""
        self.received += other.received
        self.received_confirm += other.received_confirm
        self.confirmed += other.confirmed
        self.routed += other.routed
        self.returned += other.returned
        self.dropped += other.dropped
        self.bytes_received += other.bytes_received
        self.bytes_sent += other.bytes_sent


class CountedQueue(Protocol):
    """A queue's own counters, and its type."""

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
    """What the queues of one type took, handed out, and lost."""

    published: int = 0
    delivered: int = 0  # to consumers that acknowledge
    delivered_no_ack: int = 0
    got: int = 0
    got_no_ack: int = 0
    get_empty: int = 0
    redelivered: int = 0
    acknowledged: int = 0
    dropped: int = 0  # from the head of a queue that was over its limit
    dead_lettered: dict[tuple[str, str], int] = field(
        default_factory=dict
    )  # by reason and strategy (core/queue/queue.py)

    def add(self, queue: CountedQueue) -> None:
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
        values = {name: getattr(self, name) for name in OUTFLOW}
        return QueueCounters(**(values | {"dead_lettered": dict(self.dead_lettered)}))


OUTFLOW = tuple(one.name for one in fields(QueueCounters))


class Traffic:
    """Of a broker: totals of what is gone, and of listeners whose clients do not stay."""

    __slots__ = ("inflows", "outflows", "sizes")

    def __init__(self) -> None:
        self.inflows: dict[str, PublishCounters] = {}  # by protocol, as RabbitMQ's metrics name it
        self.outflows: dict[str, QueueCounters] = {}  # by type of queue
        self.sizes: dict[str, SizeHistogram] = {}  # by protocol

    def inflow(self, protocol: str) -> PublishCounters:
        found = self.inflows.get(protocol)
        if found is None:
            found = self.inflows[protocol] = PublishCounters()
        return found

    def sizes_of(self, protocol: str) -> SizeHistogram:
        found = self.sizes.get(protocol)
        if found is None:
            found = self.sizes[protocol] = SizeHistogram()
        return found

    def retire(self, protocol: str, inflow: PublishCounters) -> None:
        """A connection, or a part of it, is gone."""
        self.inflow(protocol).add(inflow)

    def retire_queue(self, queue: CountedQueue) -> None:
        """It is deleted."""
        self.outflows.setdefault(queue.type, QueueCounters()).add(queue)


@dataclass(frozen=True, slots=True)
class Metric:
    """A family of numbers for monitoring, of whoever has some beside those that all have.

    name     with a prefix; a counter's ends with _total
    kind     "counter", "gauge"
    samples  (labels, value); no labels: one sample
    """

    name: str
    help: str
    kind: str
    samples: tuple[tuple[dict[str, str], float], ...]

    @classmethod
    def of(cls, name: str, help: str, value: float, kind: str = "") -> Metric:
        """One sample; what is no counter by its name is a gauge."""
        return cls(name, help, kind or ("counter" if name.endswith("_total") else "gauge"), (({}, value),))


@runtime_checkable
class MetricSource(Protocol):
    """An adapter, or a plugin's service, with numbers of its own."""

    def metrics(self) -> Iterable[Metric]:
        """As of now. Synchronous, and quick: the broker's task waits."""

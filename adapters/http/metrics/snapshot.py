"""The broker's numbers at one moment, added up for the aggregated metrics."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from leveret.adapters.http.metrics.queue_numbers import QueueNumbers
from leveret.adapters.http.metrics.slices import in_slices
from leveret.core.counters import PublishCounters, QueueCounters

if TYPE_CHECKING:
    from leveret.core.broker import Broker
    from leveret.core.queue.queue import Queue
__all__ = ["QUEUE_TYPES", "Snapshot", "login_counts", "take"]

INTERNAL = "internal"
"""The protocol of what the broker and its plugins publish."""
QUEUE_TYPES = ("classic", "quorum")


@dataclass(slots=True)
class Snapshot:
    """Counters by protocol and by type of queue, open connections by protocol, and the numbers of all queues together."""

    by_protocol: dict[str, PublishCounters] = field(default_factory=dict)
    connections: dict[str, int] = field(default_factory=dict)
    by_queue_type: dict[str, QueueCounters] = field(default_factory=dict)
    numbers: QueueNumbers = field(default_factory=QueueNumbers)

    def add_queue(self, queue: Queue) -> None:
        total = self.by_queue_type.get(queue.type)
        if total is None:
            total = self.by_queue_type[queue.type] = QueueCounters()
        total.add(queue)
        if not queue.is_closed:
            self.numbers.add(queue)


def login_counts(broker: Broker) -> dict[str, list[int]]:
    """[succeeded, failed], by protocol as RabbitMQ's metrics call it."""
    counts = broker.auth.attempts.counts
    shown = {adapter.name: adapter.login_protocol for adapter in broker.adapters}
    found = {protocol: list(counts.get(name, (0, 0))) for name, protocol in shown.items()}
    return found | {name: list(row) for name, row in counts.items() if name not in shown}


async def take(broker: Broker) -> Snapshot:
    """Counters never fall: what is gone is copied, and what lives is listed, in one turn; a queue that goes while we
    are at it still has its numbers."""
    found = Snapshot()
    traffic = broker.traffic
    # Protocols are there from the beginning, at 0: a rate needs two samples.
    protocols = [protocol for adapter in broker.adapters for protocol in adapter.protocols]
    for protocol in (*protocols, INTERNAL, *traffic.by_protocol):
        if protocol not in found.by_protocol:
            total = found.by_protocol[protocol] = PublishCounters()
            if protocol in traffic.by_protocol:
                total.add(traffic.by_protocol[protocol])
    _add_connections(broker, found)
    for type in (*QUEUE_TYPES, *traffic.by_queue_type):
        if type not in found.by_queue_type:
            gone = traffic.by_queue_type.get(type)
            found.by_queue_type[type] = QueueCounters() if gone is None else gone.copy()
    queues = [queue for vhost in broker.vhosts.values() for queue in vhost.queues.values()]
    await in_slices(queues, found.add_queue)
    return found


def _add_connections(broker: Broker, found: Snapshot) -> None:
    connections, by_protocol = found.connections, found.by_protocol
    for connection in broker.connections:
        protocol, own = connection.traffic()
        connections[protocol] = connections.get(protocol, 0) + 1
        total = by_protocol.get(protocol)
        if total is None:
            total = by_protocol[protocol] = PublishCounters()
        total.add(own)
        total.publishers += own.publishers
        total.consumers += own.consumers

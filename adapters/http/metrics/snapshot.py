"""The broker's numbers at one moment, added up for the aggregated metrics."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from leveret.core.traffic import Inflow, Outflow

if TYPE_CHECKING:
    from leveret.core.broker import Broker
    from leveret.core.queue import Queue

__all__ = ["PROTOCOLS", "QUEUE_TYPES", "Snapshot", "login_counts", "take"]

PROTOCOLS = ("amqp091", "mqtt310", "mqtt311", "mqtt50", "stomp", "http", "internal")
"""There from the beginning, at 0: a rate needs two samples. Others appear when they are used."""
LOGINS = {"amqp": "amqp091", "mqtt": "mqtt", "stomp": "stomp", "http": "http"}
"""Protocols of logins, and what RabbitMQ's metrics call them."""
QUEUE_TYPES = ("classic", "quorum")
SLICE = 500  # queues (10 us each) between two checkpoints


@dataclass(slots=True)
class Snapshot:
    """inflows, connections by protocol; outflows by type of queue; the rest are sums over all queues."""

    inflows: dict[str, Inflow] = field(default_factory=dict)
    connections: dict[str, int] = field(default_factory=dict)
    outflows: dict[str, Outflow] = field(default_factory=dict)
    queues: int = 0
    consumers: int = 0
    ready: int = 0
    unacked: int = 0
    ready_bytes: int = 0
    ram: int = 0
    ram_bytes: int = 0
    persistent: int = 0
    persistent_bytes: int = 0


def login_counts(broker: Broker) -> dict[str, list[int]]:
    """[succeeded, failed], by protocol."""
    counts = broker.auth.attempts.counts
    found = {shown: list(counts.get(name, (0, 0))) for name, shown in LOGINS.items()}
    return found | {name: list(row) for name, row in counts.items() if name not in LOGINS}


async def take(broker: Broker) -> Snapshot:
    """Counters never fall: what is gone is copied, and what lives is listed, in one turn; a queue that goes while we
    are at it still has its numbers."""
    found = Snapshot()
    traffic = broker.traffic
    for protocol in (*PROTOCOLS, *traffic.inflows):
        if protocol not in found.inflows:
            total = found.inflows[protocol] = Inflow()
            if protocol in traffic.inflows:
                total.add(traffic.inflows[protocol])
    _add_connections(broker, found)
    for type in (*QUEUE_TYPES, *traffic.outflows):
        if type not in found.outflows:
            gone = traffic.outflows.get(type)
            found.outflows[type] = Outflow() if gone is None else gone.copy()
    queues = [queue for vhost in broker.vhosts.values() for queue in vhost.queues.values()]
    for start in range(0, len(queues), SLICE):
        if start:
            await asyncio.sleep(0)
        _add_queues(found, queues[start : start + SLICE])
    return found


def _add_connections(broker: Broker, found: Snapshot) -> None:
    connections, inflows = found.connections, found.inflows
    for connection in broker.connections:
        traffic = getattr(connection, "traffic", None)
        if traffic is None:  # a plugin's adapter, perhaps
            continue
        protocol, own = traffic()
        connections[protocol] = connections.get(protocol, 0) + 1
        total = inflows.get(protocol)
        if total is None:
            total = inflows[protocol] = Inflow()
        total.add(own)
        total.publishers += own.publishers
        total.consumers += own.consumers


def _add_queues(found: Snapshot, queues: Iterable[Queue]) -> None:
    outflows = found.outflows
    for queue in queues:
        total = outflows.get(queue.type)
        if total is None:
            total = outflows[queue.type] = Outflow()
        total.add(queue)
        if queue.is_closed:
            continue
        found.queues += 1
        found.consumers += len(queue.consumers)
        found.ready += queue.message_count
        found.unacked += queue.unacked_count
        found.ready_bytes += queue.message_bytes
        for fifo in queue.fifos:
            found.ram += fifo.in_memory_count
            found.ram_bytes += fifo.in_memory_bytes
            if fifo.log is not None:
                found.persistent += fifo.log.count
                found.persistent_bytes += fifo.log.bytes

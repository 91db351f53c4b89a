"""What listings show of queues and consumers beyond their attributes, for the control socket and the management API."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from leveret.core.policy import Policies
    from leveret.core.queue.consumer import Consumer
    from leveret.core.queue.queue import Queue
__all__ = [
    "MESSAGE_BYTES", "QUEUE_BYTES", "activity_status", "consumer_capacity", "effective_definition", "is_active",
    "message_numbers",
]  # fmt: skip

QUEUE_BYTES, MESSAGE_BYTES = 4096, 250
"""What a queue and a message cost in memory beside the body: estimates."""
NOTHING: Mapping[str, Any] = {}


def message_numbers(queue: Queue) -> dict[str, int]:
    """Messages and bytes by where they are, and an estimate of the queue's memory, under RabbitMQ's names.

    Of unacknowledged messages only the bytes of persistent ones are known: the store knows those.
    """
    ready, unacknowledged = queue.message_count, queue.unacked_count
    logs = [fifo.log for fifo in queue.fifos if fifo.log is not None]
    in_memory = sum(fifo.in_memory_count for fifo in queue.fifos)
    in_memory_bytes = queue.message_bytes
    if in_memory != ready:  # some wait on the disk alone
        in_memory_bytes = sum(fifo.in_memory_bytes for fifo in queue.fifos)
    persistent_bytes = sum(log.bytes for log in logs)
    unacknowledged_bytes = max(0, persistent_bytes - queue.message_bytes) if unacknowledged else 0
    return {
        "message_bytes": queue.message_bytes + unacknowledged_bytes,
        "message_bytes_unacknowledged": unacknowledged_bytes,
        "message_bytes_ready": queue.message_bytes,
        "message_bytes_ram": in_memory_bytes,
        "message_bytes_persistent": persistent_bytes,
        "message_bytes_paged_out": queue.message_bytes - in_memory_bytes,
        "messages_persistent": sum(log.count for log in logs),
        "messages_ram": in_memory + unacknowledged,
        "messages_ready_ram": in_memory,
        "messages_unacknowledged_ram": unacknowledged,
        "messages_paged_out": ready - in_memory,
        "memory": QUEUE_BYTES + in_memory_bytes + MESSAGE_BYTES * (in_memory + unacknowledged),
    }


def effective_definition(policies: Policies, queue: Queue) -> Mapping[str, Any]:
    """The policy and the operator policy of a queue, merged."""
    if queue.policy_name is None and queue.operator_policy_name is None:
        return NOTHING
    return policies.effective(queue.vhost.name, "queue", queue.name, queue.type).definition


def consumer_capacity(queue: Queue) -> float:
    """1.0 if a message could be delivered at once, else 0.0. RabbitMQ averages this over time."""
    consumers = queue.consumers
    return 1.0 if len(consumers) and (not queue.message_count or consumers.eligible()) else 0.0


def is_active(consumer: Consumer) -> bool:
    """Return whether a consumer may receive: all do, except those that wait behind a single active consumer."""
    consumers = consumer.queue.consumers
    return not consumers.is_single_active or consumers.active is consumer


def activity_status(consumer: Consumer) -> str:
    """RabbitMQ's word: up, single_active or waiting."""
    if not consumer.queue.consumers.is_single_active:
        return "up"
    return "single_active" if is_active(consumer) else "waiting"

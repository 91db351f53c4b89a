"""What there is to say of one queue, or of several together."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from leveret.adapters.queue_listing import MESSAGE_BYTES, QUEUE_BYTES

if TYPE_CHECKING:
    from leveret.core.queue.queue import Queue
__all__ = ["SAMPLES", "QueueNumbers"]


@dataclass(slots=True)
class QueueNumbers:
    """Messages and bytes of bodies. Of unacknowledged bodies the persistent ones count: the store knows those."""

    queues: int = 0
    consumers: int = 0
    ready: int = 0
    unacked: int = 0
    ready_bytes: int = 0
    unacked_bytes: int = 0
    ready_ram: int = 0  # in memory; the others are on the disk
    ready_ram_bytes: int = 0
    persistent: int = 0
    persistent_bytes: int = 0

    @classmethod
    def of(cls, queue: Queue) -> QueueNumbers:
        found = cls()
        found.add(queue)
        return found

    def add(self, queue: Queue) -> None:
        ready_bytes = queue.message_bytes
        persistent_bytes = 0
        for fifo in queue.fifos:
            self.ready_ram += fifo.in_memory_count
            self.ready_ram_bytes += fifo.in_memory_bytes
            if fifo.log is not None:
                self.persistent += fifo.log.count
                persistent_bytes += fifo.log.bytes
        self.queues += 1
        self.consumers += len(queue.consumers)
        self.ready += queue.message_count
        self.ready_bytes += ready_bytes
        self.persistent_bytes += persistent_bytes
        if queue.unacked_count:
            self.unacked += queue.unacked_count
            self.unacked_bytes += max(0, persistent_bytes - ready_bytes)

    @property
    def bytes(self) -> int:
        return self.ready_bytes + self.unacked_bytes

    @property
    def ram(self) -> int:
        return self.ready_ram + self.unacked

    @property
    def ram_bytes(self) -> int:
        return self.ready_ram_bytes + self.unacked_bytes

    @property
    def paged_out(self) -> int:
        return self.ready - self.ready_ram

    @property
    def paged_out_bytes(self) -> int:
        return self.ready_bytes - self.ready_ram_bytes

    @property
    def memory(self) -> int:
        return self.queues * QUEUE_BYTES + self.ram * MESSAGE_BYTES + self.ready_ram_bytes


SAMPLES = (
    ("consumers", "Consumers on a queue", "consumers"),
    ("process_memory_bytes", "Memory in bytes used by a queue, an estimate", "memory"),
    ("messages_ram", "Ready and unacknowledged messages stored in memory", "ram"),
    ("messages_ram_bytes", "Size of ready and unacknowledged messages stored in memory", "ram_bytes"),
    ("messages_ready_ram", "Ready messages stored in memory", "ready_ram"),
    ("messages_unacked_ram", "Unacknowledged messages stored in memory", "unacked"),
    ("messages_persistent", "Persistent messages, unacknowledged ones included", "persistent"),
    ("messages_persistent_bytes", "Size in bytes of persistent messages", "persistent_bytes"),
    ("messages_bytes", "Size in bytes of ready and unacknowledged messages", "bytes"),
    ("messages_ready_bytes", "Size in bytes of ready messages", "ready_bytes"),
    ("messages_unacked_bytes", "Size in bytes of all unacknowledged messages", "unacked_bytes"),
    ("messages_paged_out", "Messages paged out to disk", "paged_out"),
    ("messages_paged_out_bytes", "Size in bytes of messages paged out to disk", "paged_out_bytes"),
)
"""RabbitMQ's family queue_metrics: (name, help, attribute of QueueNumbers)."""

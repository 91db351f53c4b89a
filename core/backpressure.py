"""When publishers must wait, and what is done about it: alarms, a store that is behind, queues that move to disk."""

from __future__ import annotations

import logging
from collections.abc import Iterable
from typing import TYPE_CHECKING

import trio

from leveret.core.allocator import give_back_memory

if TYPE_CHECKING:
    from leveret.core.alarms import Alarms
    from leveret.core.queue.queue import Queue
    from leveret.core.store.base import Store
__all__ = ["Backpressure", "spill_longest"]

log = logging.getLogger(__name__)

SPILL_BYTES = 32 << 20  # at once: the loop waits while they are written


class Backpressure:
    """Room for what publishers send: there is none while an alarm is set or too much waits for the disk.

    max_pending_bytes  that may wait to be written; beyond it the store is behind
    """

    def __init__(self, alarms: Alarms, store: Store, max_pending_bytes: int) -> None:
        self._alarms = alarms
        self._store = store
        self.max_pending_bytes = max_pending_bytes
        self._room = trio.Event()
        alarms.on_change(self._room_changed)

    @property
    def is_store_behind(self) -> bool:
        return self._store.pending_bytes > self.max_pending_bytes

    @property
    def must_wait(self) -> bool:
        """Publishers are not read. Asked before each read of one."""
        return self._alarms.is_blocking or self._store.pending_bytes > self.max_pending_bytes

    async def wait_for_room(self) -> None:
        """For those who read from publishers: until no alarm is set and the store has caught up."""
        while self.must_wait:
            if self._room.is_set():
                self._room = trio.Event()
            await self._room.wait()

    def on_committed(self) -> None:
        """The store has written a group."""
        if not self._room.is_set() and not self.is_store_behind:
            self._room.set()

    def _room_changed(self) -> None:
        self._room.set()  # those who wait look again


def spill_longest(queues: Iterable[Queue], excess: int) -> None:
    """Memory is short by `excess` bytes: transient messages beyond the windows of the longest queues move to disk."""
    excess = min(excess, SPILL_BYTES)
    freed = 0
    for queue in sorted(queues, key=lambda queue: queue.message_bytes, reverse=True):
        if freed >= excess or not queue.message_bytes:
            break
        freed += queue.ready.spill(excess - freed)
    if freed:
        log.info("memory is short: moved %d MiB of transient messages to disk", freed >> 20)
        give_back_memory()

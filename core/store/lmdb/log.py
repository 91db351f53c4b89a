"""One log: its live view, which is what is on the disk and what is still on the way there."""

from __future__ import annotations

from collections.abc import Collection
from typing import TYPE_CHECKING

from leveret.core.message import Message
from leveret.core.store.base import StoredMessage
from leveret.core.store.lmdb.group import LARGE_BODY, OVERHEAD, Cut, LogOperations
from leveret.core.store.lmdb.reader import Hidden
from leveret.core.store.lmdb.writer import END, Meta
from leveret.core.store.record import stored_form

if TYPE_CHECKING:
    from leveret.core.store.lmdb.store import LmdbStore
__all__ = ["LmdbLog"]


class LmdbLog:
    """Implements `Log`.

    A message is in one of: `_open` (the group that is being collected), `_writing` (the group that is being
    written, and perhaps the file already), the file, the spill file, or `_kept` (the spill file had no room).
    """

    def __init__(self, store: LmdbStore, log_id: int, meta: Meta) -> None:
        self.id = log_id
        self.meta = meta  # of what is committed
        self.count = meta.messages
        self.bytes = meta.size
        self.next_position = meta.next_position
        self.is_dropped = False
        self.spilled_count = 0
        self._spilled_bytes = 0
        self._store = store
        self._open: LogOperations | None = None
        self._writing: LogOperations | None = None
        self._kept: LogOperations | None = None
        self._cuts: list[tuple[int, int]] = []  # settled ranges that are not erased yet

    def __repr__(self) -> str:
        return f"<LmdbLog id={self.id} count={self.count} bytes={self.bytes}>"

    # -- the store's side

    def freeze(self) -> None:
        """The open group begins to be written."""
        self._settle_spilled()
        self._writing, self._open = self._open, None

    def thaw(self) -> None:
        """The group is written."""
        self._writing = None

    def add_cut(self, start: int, end: int) -> None:
        self._cuts.append((start, end))

    def erased(self, start: int, end: int) -> None:
        """This range is empty now, in the file too."""
        self._cuts = [cut for cut in self._cuts if cut[0] != start or cut[1] > end]

    def restore(self, size: int) -> None:
        """A message of this size was discarded that was not there."""
        if not self.is_dropped:
            self.count += 1
            self.bytes += size

    # -- in

    def append(self, messages: list[Message]) -> None:
        if self.is_dropped or not messages:
            return
        operations = self._open or self._operations()
        size = operations.put(messages)
        count = len(messages)
        self.count += count
        self.bytes += size
        last = messages[-1].position
        if last >= self.next_position:
            self.next_position = last + 1
        group = self._store.group
        group.operations += count
        group.bytes += size + count * OVERHEAD
        if size > LARGE_BODY:
            group.has_large = True

    def spill(self, messages: list[Message]) -> None:
        if self.is_dropped or not messages:
            return
        if self._kept is None:
            self._kept = LogOperations()
        size = self._kept.put(messages)
        self.count += len(messages)
        self.bytes += size
        self.next_position = max(self.next_position, max([message.position for message in messages]) + 1)
        kept = list(self._kept.puts.values())
        if self._store.spill_file.put(self.id, kept):
            self.spilled_count += len(kept)
            self._spilled_bytes += sum([len(message.body) for message in kept])
            self._kept = None

    def update(self, message: Message) -> None:
        position = message.position
        if self.is_dropped or not message.is_stored or self._is_cut(position):
            return
        operations = self._open or self._operations()
        if position in operations.puts or (self._kept is not None and position in self._kept.puts):
            return  # its record is still to be made, and will have the latest state
        if position not in operations.updates:
            self._store.group.operations += 1
            self._store.group.bytes += OVERHEAD
        operations.updates[position] = (message.delivery_count, message.is_redelivered)

    def _operations(self) -> LogOperations:
        """Of the open group, which hears of this log for the first time."""
        operations = self._open = LogOperations()
        self._store.group.logs[self] = operations
        self._store.wake()
        return operations

    # -- out

    def discard(self, messages: list[Message]) -> None:
        if self.is_dropped:
            return
        operations = self._open or self._operations()
        puts, deletes, updates = operations.puts, operations.deletes, operations.updates
        earlier: Collection[int] = self._writing.deletes if self._writing is not None else ()
        kept = self._kept.puts if self._kept is not None else None
        group = self._store.group
        settled = settled_bytes = 0
        for message in messages:
            if not message.is_stored:
                continue
            message.is_stored = False
            position, size = message.position, len(message.body)
            if puts and puts.pop(position, None) is not None:
                group.operations -= 1
                group.bytes -= size + OVERHEAD
            elif position in deletes or position in earlier or (self._cuts and self._is_cut(position)):
                continue
            elif kept is None or kept.pop(position, None) is None:
                deletes[position] = size
                if not updates or updates.pop(position, None) is None:
                    group.operations += 1
                    group.bytes += OVERHEAD
            settled += 1
            settled_bytes += size
        self.count -= settled
        self.bytes -= settled_bytes

    def truncate(self, start: int) -> None:
        if self.is_dropped or start >= self.next_position:
            return
        store, operations = self._store, self._open or self._operations()
        group = store.group
        for message in operations.pop_from(start):
            message.is_stored = False
            self.count -= 1
            self.bytes -= len(message.body)
            group.operations -= 1
            group.bytes -= len(message.body) + OVERHEAD
        if self._kept is not None:
            for message in self._kept.pop_from(start):
                message.is_stored = False
                self.count -= 1
                self.bytes -= len(message.body)
        for position in [position for position in operations.updates if position >= start]:
            del operations.updates[position]
            group.operations -= 1
            group.bytes -= OVERHEAD
        self._settle_spilled()
        # What is below stays; it is counted, for it is little: what was handed out or is in memory.
        if self.spilled_count:
            spilled_below = store.spill_file.sizes(self.id, start)
            cut_count = self.spilled_count - len(spilled_below)
            if cut_count:
                cut_bytes = self._spilled_bytes - sum(spilled_below.values())
                store.spill_file.cut(self.id, start, cut_count, self.next_position)
                self._spill_shrinks(cut_count, cut_bytes)
                self.count -= cut_count
                self.bytes -= cut_bytes
        durable_count, durable_bytes = self._durable()
        below = self._durable_below(start) if durable_count else {}
        if durable_count > len(below):
            cut = Cut(
                start, self.next_position, durable_count - len(below), durable_bytes - sum(below.values())
            )
            operations.cuts.append(cut)
            group.operations += 1
            self.count -= cut.messages
            self.bytes -= cut.size
            self._cuts.append((start, self.next_position))

    def drop(self) -> None:
        """Everything that waits is forgotten; it ignores what it is still told."""
        self.is_dropped = True
        group, operations = self._store.group, self._open
        if operations is not None:
            size = sum([len(message.body) for message in operations.puts.values()])
            records = len(operations.puts) + len(operations.deletes) + len(operations.updates)
            group.operations -= records + len(operations.cuts)
            group.bytes -= size + records * OVERHEAD
            del group.logs[self]
            self._open = None
        self._kept = None
        if self.spilled_count:
            self._store.spill_file.cut(self.id, 0, self.spilled_count)
            self.spilled_count = 0
        self.count = self.bytes = 0

    def _is_cut(self, position: int) -> bool:
        return any(start <= position < end for start, end in self._cuts)

    def _settle_spilled(self) -> None:
        """What is to be deleted from the spill file needs no place in the group."""
        operations = self._open
        if not self.spilled_count or operations is None or not operations.deletes:
            return
        found = self._store.spill_file.delete(self.id, list(operations.deletes))
        self._spill_shrinks(len(found), sum([operations.deletes.pop(position) for position in found]))
        self._store.group.operations -= len(found)
        self._store.group.bytes -= len(found) * OVERHEAD

    def _spill_shrinks(self, count: int, size: int) -> None:
        self.spilled_count -= count
        self._spilled_bytes -= size

    def _durable(self) -> tuple[int, int]:
        """Count and bytes of live messages that are, or will be with the group being written, in the file."""
        count, size = self.count - self.spilled_count, self.bytes - self._spilled_bytes
        for operations in (self._open, self._kept):
            if operations is not None:
                count -= len(operations.puts)
                size -= sum([len(message.body) for message in operations.puts.values()])
        return count, size

    def _durable_below(self, end: int) -> dict[int, int]:
        """Of those, the ones at positions below `end`: position -> bytes."""
        hidden = self._hidden()
        below = self._store.read_sizes(self.id, end, self._cuts, hidden)
        if self._writing is not None:
            for position, message in self._writing.puts.items():
                if position < end and self._is_live(position):
                    below[position] = len(message.body)
        return below

    def _hidden(self) -> Hidden:
        """Positions that are settled and may still be in a file."""
        return self._open.deletes if self._open else (), self._writing.deletes if self._writing else ()

    # -- reading

    def read(self, start: int, max_count: int, max_bytes: int) -> list[StoredMessage]:
        if self.is_dropped or start >= self.next_position or not self.count:
            return []
        store, hidden = self._store, self._hidden()
        found, has_more = store.read_messages(self.id, start, self._cuts, hidden, max_count, max_bytes)
        self._bring_up_to_date(found)
        limit = found[-1].position if has_more else END
        sources = [found]
        if self.spilled_count:
            spilled, has_more = store.spill_file.read(self.id, start, hidden, max_count, max_bytes)
            sources.append(spilled)
            if has_more:
                limit = min(limit, spilled[-1].position)
        for operations in (self._writing, self._open, self._kept):
            if operations is None or not operations.puts or operations.lowest > limit:
                continue
            messages = operations.from_position(
                start, max_count, self._is_live if operations is self._writing else None
            )
            sources.append([stored_form(message, store.wall_offset) for message in messages])
            if len(messages) >= max_count:
                limit = min(limit, messages[-1].position)
        return _merge(sources, limit, max_count, max_bytes) if len(sources) > 1 else found

    def _is_live(self, position: int) -> bool:
        """Of the group being written: not settled since."""
        return not self._is_cut(position) and (self._open is None or position not in self._open.deletes)

    def _bring_up_to_date(self, messages: list[StoredMessage]) -> None:
        """Apply what is newer than the records."""
        if self.meta.updated:
            self._store.read_updates(self.id, messages)
        suspect_below = self.meta.suspect_below
        waiting = [o.updates for o in (self._writing, self._open) if o is not None and o.updates]
        if not waiting and (not messages or messages[0].position >= suspect_below):
            return
        for message in messages:
            for updates in waiting:
                update = updates.get(message.position)
                if update is not None:
                    message.delivery_count, message.is_redelivered = update
            if message.position < suspect_below:
                message.is_redelivered = True


def _merge(
    sources: list[list[StoredMessage]], limit: int, max_count: int, max_bytes: int
) -> list[StoredMessage]:
    """In order, up to position `limit`, past which some source has more to give. What is in several is the same."""
    by_position = {
        message.position: message
        for source in reversed(sources)
        for message in source
        if message.position <= limit
    }
    merged: list[StoredMessage] = []
    size = 0
    for position in sorted(by_position):
        message = by_position[position]
        size += len(message.body)
        if merged and (size > max_bytes or len(merged) >= max_count):
            break
        merged.append(message)
    return merged

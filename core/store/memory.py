"""The in-memory twin of the embedded store: the same contract; nothing outlives its `MemoryState`."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from copy import copy
from dataclasses import dataclass, field
from pathlib import Path

import trio

from leveret.core.message import Message
from leveret.core.store.base import Log, StoredMessage, StoreSettings
from leveret.core.store.record import stored_form

__all__ = ["MemoryState", "MemoryStore"]

RETRY_S = 1.0


@dataclass(slots=True)
class StoredLog:
    messages: dict[int, StoredMessage] = field(default_factory=dict)
    next_position: int = 0


@dataclass(slots=True)
class MemoryState:
    """What is "durable". A store that is given the state of an earlier one recovers what that one committed."""

    definitions: dict[bytes, bytes] = field(default_factory=dict)
    logs: dict[int, StoredLog] = field(default_factory=dict)
    next_log_id: int = 1
    was_closed: bool = True


class MemoryLog:
    """Implements `Log`: the live view; every change is also noted for the next commit."""

    def __init__(self, store: MemoryStore, log_id: int, stored: StoredLog) -> None:
        self.id = log_id
        self.next_position = stored.next_position
        self.bytes = sum([len(message.body) for message in stored.messages.values()])
        self._store = store
        self._messages = {position: copy(message) for position, message in stored.messages.items()}
        self._is_sorted = True
        self._spilled: set[int] = set()
        self.is_dropped = False

    @property
    def count(self) -> int:
        return len(self._messages)

    def append(self, messages: list[Message]) -> None:
        taken = self._take(messages)
        size = sum([len(message.body) for message in taken])
        self._store.note(lambda state: _put(state.logs.get(self.id), taken), size)

    def spill(self, messages: list[Message]) -> None:
        self._spilled.update([message.position for message in self._take(messages)])

    def _take(self, messages: list[Message]) -> list[StoredMessage]:
        if self.is_dropped:
            return []
        taken = [stored_form(message, self._store.wall_offset) for message in messages]
        for message in messages:
            message.is_stored = True
        for stored in taken:
            if stored.position < self.next_position:
                self._is_sorted = False
            self._messages[stored.position] = stored
            self.bytes += len(stored.body)
            self.next_position = max(self.next_position, stored.position + 1)
        return taken

    def discard(self, messages: list[Message]) -> None:
        gone = [message.position for message in messages if message.is_stored]
        for message in messages:
            message.is_stored = False
        self._remove(gone)

    def truncate(self, start: int) -> None:
        self._remove([position for position in self._messages if position >= start])

    def _remove(self, positions: list[int]) -> None:
        noted: list[int] = []
        for position in positions:
            stored = self._messages.pop(position, None)
            if stored is not None:
                self.bytes -= len(stored.body)
                if position in self._spilled:
                    self._spilled.discard(position)
                else:
                    noted.append(position)
        if noted:
            self._store.note(lambda state: _remove(state.logs.get(self.id), noted), 0)

    def update(self, message: Message) -> None:
        stored = self._messages.get(message.position)
        if stored is None or not message.is_stored:
            return
        stored.delivery_count, stored.is_redelivered = message.delivery_count, message.is_redelivered
        if message.position not in self._spilled:
            self._store.note(lambda state: _put(state.logs.get(self.id), [stored]), 0)

    def read(self, start: int, max_count: int, max_bytes: int) -> list[StoredMessage]:
        if not self._is_sorted:
            self._messages = dict(sorted(self._messages.items()))
            self._is_sorted = True
        found: list[StoredMessage] = []
        size = 0
        for position, stored in self._messages.items():
            if position < start:
                continue
            size += len(stored.body)
            if found and (len(found) >= max_count or size > max_bytes):
                break
            found.append(copy(stored))
        return found

    def drop(self) -> None:
        self.is_dropped = True
        self._messages.clear()
        self.bytes = 0


def _put(log: StoredLog | None, messages: list[StoredMessage]) -> None:
    if log is not None:
        for message in messages:
            log.messages[message.position] = copy(message)
            log.next_position = max(log.next_position, message.position + 1)


def _remove(log: StoredLog | None, positions: list[int]) -> None:
    if log is not None:
        for position in positions:
            log.messages.pop(position, None)


class MemoryStore:
    """Implements `Store`. Commits at the next pass of the scheduler; while `is_full` is set (by a test), never."""

    def __init__(
        self,
        path: Path | None = None,
        settings: StoreSettings | None = None,
        *,
        state: MemoryState | None = None,
    ) -> None:
        self.state = MemoryState() if state is None else state
        self.was_clean = True
        self.definition_writes = 0
        self.is_full = False
        self.on_committed: Callable[[], None] = _nothing
        self.wall_offset = 0.0
        self._definitions: dict[bytes, bytes] = {}
        self._logs: dict[int, MemoryLog] = {}
        self._next_log_id = 1
        self._changes: list[Callable[[MemoryState], None]] = []
        self._callbacks: list[Callable[[], None]] = []
        self._bytes = 0
        self._commits = 0
        self._is_open = False
        self._work = trio.Event()

    def open(self) -> None:
        try:
            self.wall_offset = time.time() - trio.current_time()
        except RuntimeError:  # not inside trio
            self.wall_offset = time.time() - time.monotonic()
        state = self.state
        self.was_clean, state.was_closed = state.was_closed, False
        if not self.was_clean:
            for stored in state.logs.values():
                for message in stored.messages.values():
                    message.is_redelivered = True
        self._definitions = dict(state.definitions)
        self._logs = {log_id: MemoryLog(self, log_id, stored) for log_id, stored in state.logs.items()}
        self._next_log_id = state.next_log_id
        self._is_open = True

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        task_status.started()
        while True:
            await self._work.wait()
            await trio.lowlevel.checkpoint()
            while self.is_full:  # noqa: ASYNC110 - a test sets it, as a disk would
                await trio.sleep(RETRY_S)
            self._work = trio.Event()
            self._commit()

    def close(self) -> None:
        if self._is_open:
            self._is_open = False
            self._commit()
            self.state.was_closed = True

    def abandon(self) -> None:
        """For tests: as if the process died now."""
        self._is_open = False

    def _commit(self) -> None:
        changes, self._changes = self._changes, []
        callbacks, self._callbacks = self._callbacks, []
        self._bytes = 0
        for change in changes:
            change(self.state)
        self._commits += 1
        for callback in callbacks:
            callback()
        self.on_committed()

    def note(self, change: Callable[[MemoryState], None], size: int) -> None:
        """Something to commit."""
        self._changes.append(change)
        self._bytes += size
        self._work.set()

    # -- definitions

    def put_definition(self, key: bytes, value: bytes) -> None:
        self.definition_writes += 1
        self._definitions[key] = value
        self.note(lambda state: state.definitions.update({key: value}), len(value))

    def delete_definition(self, key: bytes) -> None:
        if self._definitions.pop(key, None) is not None:
            self.definition_writes += 1
            self.note(lambda state: state.definitions.__delitem__(key), 0)

    def definitions(self, prefix: bytes = b"") -> Iterator[tuple[bytes, bytes]]:
        return iter(sorted([item for item in self._definitions.items() if item[0].startswith(prefix)]))

    # -- logs

    def create_log(self) -> Log:
        log_id, self._next_log_id = self._next_log_id, self._next_log_id + 1

        def create(state: MemoryState) -> None:
            state.logs[log_id] = StoredLog()
            state.next_log_id = max(state.next_log_id, log_id + 1)

        created = self._logs[log_id] = MemoryLog(self, log_id, StoredLog())
        self.note(create, 0)
        return created

    def open_log(self, log_id: int) -> Log:
        return self._logs[log_id]

    def drop_log(self, log: Log) -> None:
        assert isinstance(log, MemoryLog)
        if not log.is_dropped:
            log_id = log.id
            log.drop()
            del self._logs[log_id]
            self.note(lambda state: state.logs.__delitem__(log_id), 0)

    def retain_logs(self, log_ids: set[int]) -> None:
        for orphan in [log for log_id, log in self._logs.items() if log_id not in log_ids]:
            self.drop_log(orphan)

    # -- waiting

    def after_commit(self, callback: Callable[[], None]) -> bool:
        if not self.has_pending:
            return True
        self._callbacks.append(callback)
        return False

    @property
    def has_pending(self) -> bool:
        return bool(self._changes)

    @property
    def pending_bytes(self) -> int:
        return self._bytes

    def statistics(self) -> dict[str, int | float]:
        return {
            "commits": self._commits,
            "commit_seconds_last": 0.0,
            "commit_seconds_mean": 0.0,
            "pending_bytes": self._bytes,
            "file_bytes": 0,
            "map_bytes": 0,
            "logs": len(self._logs),
            "definitions": len(self._definitions),
            "garbage_ranges": 0,
            "spilled_messages": sum([len(log._spilled) for log in self._logs.values()]),
        }


def _nothing() -> None:
    pass

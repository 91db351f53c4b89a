"""The store contract: logs of messages and definitions, written in groups; durable first, then acknowledge.

Nothing here assumes that a commit is quick or local: a group may be a local transaction or a replicated append.
All methods are synchronous and called from the broker's task; none may wait for a disk. What must wait asks for a
callback with `after_commit`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Protocol

import trio

from leveret.core.message import Message

__all__ = ["Log", "Store", "StoreSettings", "StoredMessage"]


class StoreSettings(Protocol):
    """The part of the settings that stores look at: section [store]."""

    @property
    def durability(self) -> str:
        """ "flush": a commit is on the disk; "os": a commit is with the operating system."""

    @property
    def map_size(self) -> int:
        """Bytes of address space to begin with; more is taken when it is used up."""


@dataclass(slots=True)
class StoredMessage:
    """One message as read back. `expires_at_ms` is wall-clock milliseconds since the epoch, or None."""

    position: int
    exchange: str
    routing_key: str
    header: bytes
    body: bytes
    expires_at_ms: int | None
    delivery_count: int
    is_redelivered: bool
    is_dead_letter: bool = False


class Log(Protocol):
    """One queue's (or one priority's) messages in the store, ordered by position.

    Positions are given by the queue and never used twice. `append` gets growing ones; `spill` may fill gaps below.
    """

    id: int
    """Never reused, so that a purged or deleted log can be emptied later, in slices."""

    @property
    def count(self) -> int:
        """Live messages, those not committed yet included."""

    @property
    def bytes(self) -> int:
        """Body bytes of the live messages."""

    @property
    def next_position(self) -> int:
        """One past the highest position ever appended; after recovery, past the highest that was ever written."""

    def append(self, messages: list[Message]) -> None:
        """Take messages, in order of position; buffered until the next group. Sets `is_stored` on each.

        A message discarded before its group is written never reaches the disk.
        """

    def discard(self, messages: list[Message]) -> None:
        """These are settled. Clears `is_stored` on each. Idempotent; messages that are not here are ignored."""

    def truncate(self, start: int) -> None:
        """Everything taken so far at positions >= start is settled: at once for those who ask, and erased in
        slices later; what is not written yet never reaches the disk."""

    def update(self, message: Message) -> None:
        """Its delivery_count or is_redelivered changed and must survive a crash (a small record, not the body)."""

    def read(self, start: int, max_count: int, max_bytes: int) -> list[StoredMessage]:
        """Live messages at positions >= start, in order, committed or not; at least one if there is any.

        `is_redelivered` is also set for all that were here when the store was opened after a crash. Raise
        StoreUnavailable if what is on the disk cannot be read.
        """

    def spill(self, messages: list[Message]) -> None:
        """Like `append`, for messages that must not survive a restart: memory is short. Written at once, without
        a flush; if the disk is full they stay in memory."""


class Store(Protocol):
    """One node's store. `open()` recovers; then `run()` is a task of the broker's nursery until it is cancelled."""

    on_committed: Callable[[], None]
    """Called from the broker's task once per group, after the callbacks of `after_commit`. The broker sets it."""

    was_clean: bool
    """False after `open()`: the last process did not close the store; what it had handed out is not known."""

    def open(self) -> None:
        """Recover. Raise StoreUnavailable with one clear sentence (unwritable, locked by another process, newer)."""

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Write groups as operations arrive. Cancellation: finishes the group in flight."""

    def close(self) -> None:
        """After `run` ended: write what is left and release the files. Harmless if it is not open."""

    # -- definitions: small records, keyed; order of keys is byte order

    definition_writes: int
    """Changes of definitions so far: who compares it knows whether an operation must be waited for."""

    def put_definition(self, key: bytes, value: bytes) -> None: ...
    def delete_definition(self, key: bytes) -> None: ...
    def definitions(self, prefix: bytes = b"") -> Iterator[tuple[bytes, bytes]]:
        """All records whose key starts with prefix, those not committed yet included."""

    # -- logs

    def create_log(self) -> Log:
        """A new, empty log. It survives a restart, empty or not, until it is dropped."""

    def open_log(self, log_id: int) -> Log:
        """A log that was there at recovery. Raise KeyError if there is none."""

    def drop_log(self, log: Log) -> None:
        """The log is gone at once, its entries are erased in slices later. It ignores what it is still told."""

    def retain_logs(self, log_ids: set[int]) -> None:
        """After recovery of the definitions: every other log is an orphan; drop them."""

    # -- waiting

    def after_commit(self, callback: Callable[[], None]) -> bool:
        """Call back from the broker's task once everything taken so far is durable. In order of the calls.

        Returns True, and does not call back, if that is the case already. If the group fails (disk full), it is
        retried, and the callback waits: no confirmation is ever given for what is not durable.
        """

    @property
    def has_pending(self) -> bool:
        """There are operations that are not durable yet."""

    @property
    def pending_bytes(self) -> int:
        """Bytes taken and not yet durable: the number that publishers' backpressure watches."""

    @property
    def is_full(self) -> bool:
        """The last group could not be written for want of space: a disk alarm, not a crash."""

    def statistics(self) -> dict[str, int | float]:
        """Plain numbers: commits, commit seconds (last, mean), bytes, map size."""

"""The store contract: logs of messages and definitions, written in groups; durable first, then acknowledge.

Nothing here assumes that a commit is quick or local: a group may be a local transaction or a replicated append.
All methods are synchronous and called from the broker's task; none may wait for a disk. What must wait asks for a
callback with `after_commit`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

import trio

from leveret.core.message import Message

if TYPE_CHECKING:
    from leveret.core.queue import Queue

__all__ = ["Log", "Store", "StoredMessage"]


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


class Log(Protocol):
    """One queue's (or one priority's) ordered messages in the store; positions only grow and are never reused."""

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
        """One past the highest position ever appended."""

    @property
    def committed_position(self) -> int:
        """One past the highest position that `read` can see; grows with each commit."""

    def append(self, messages: list[Message]) -> None:
        """Take messages, in order of position; buffered until the next group. Sets `is_stored` on each.

        A message discarded before its group is written never reaches the disk.
        """

    def discard(self, messages: list[Message]) -> None:
        """These are settled. Idempotent; positions that are unknown are ignored."""

    def truncate(self, start: int) -> None:
        """Everything appended so far at positions >= start is settled: at once for those who ask, and erased in
        slices later; what is not written yet never reaches the disk."""

    def update(self, message: Message) -> None:
        """Its delivery_count or is_redelivered changed and must survive a crash (a small record, not the body)."""

    def read(self, start: int, max_count: int, max_bytes: int) -> list[StoredMessage]:
        """Committed live messages at positions >= start, in order; at least one if there is any."""

    def spill(self, messages: list[Message]) -> None:
        """Like `append`, for messages that must not survive a restart: memory is short."""


class Store(Protocol):
    """One node's store. `open()` recovers; then `run()` is a task of the broker's nursery until it is cancelled."""

    was_clean: bool
    """After `open`: the last run closed the store. If not, every recovered message may have been handed out."""

    on_committed: Callable[[], None]
    """Called once per committed group, after the group's callbacks. The broker sets it."""

    def open(self) -> None:
        """Recover. Raise StoreUnavailable with one clear sentence (unwritable, locked by another process, newer)."""

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Write groups as operations arrive. Cancellation: finishes the group in flight, then flushes the rest."""

    def close(self) -> None:
        """After `run` ended: release the files. Everything appended before is durable."""

    # -- definitions: small records, keyed; order of keys is byte order

    definition_writes: int
    """Puts and deletes of definitions so far: who compares it knows whether an operation must be waited for."""

    def put_definition(self, key: bytes, value: bytes) -> None: ...
    def delete_definition(self, key: bytes) -> None: ...
    def definitions(self, prefix: bytes = b"") -> Iterator[tuple[bytes, bytes]]:
        """All records whose key starts with prefix, those not committed yet included."""

    # -- logs

    def create_log(self) -> Log:
        """A new, empty log."""

    def open_log(self, log_id: int) -> Log:
        """A log that was there at recovery. Raise KeyError if there is none."""

    def drop_log(self, log: Log) -> None:
        """Purge or delete: the log is gone at once, its entries are erased in slices later."""

    def retain_logs(self, log_ids: set[int]) -> None:
        """After recovery of the definitions: every other log is an orphan; drop them."""

    # -- waiting

    def after_commit(self, callback: Callable[[], None]) -> bool:
        """Call back from the broker's task once everything taken so far is durable.

        Returns True, and does not call back, if that is the case already. If the group fails (disk full), it is
        retried, and the callback waits: no confirmation is ever given for what is not durable.
        """

    @property
    def has_pending(self) -> bool:
        """There are operations that are not durable yet."""

    @property
    def backlog_bytes(self) -> int:
        """Bytes taken and not yet durable: the number that publishers' backpressure watches."""

    @property
    def is_full(self) -> bool:
        """The last group could not be written for want of space: a disk alarm, not a crash."""

    def statistics(self) -> dict[str, int | float]:
        """Plain numbers: commits, commit seconds (last, mean), bytes, map size."""

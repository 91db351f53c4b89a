"""What one group makes durable: operations as they are collected, and the slices and transactions in which they are
written."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, NamedTuple

from leveret.core.message import Message

if TYPE_CHECKING:
    from leveret.core.store.lmdb.log import LmdbLog
__all__ = ["LARGE_BODY", "OVERHEAD", "Cut", "Group", "LogOperations", "Slice", "slices", "transactions"]

OVERHEAD = 256  # bytes that a waiting operation is counted with, beside its body
LARGE_BODY = 4096  # bytes; larger ones are stored once however many queues have them
SLICE_OPERATIONS = 2000  # a slice is applied in one go, on the loop's thread: this bounds the stall
SLICE_BYTES = 4 << 20
TRANSACTION_OPERATIONS = 50_000  # LMDB keeps what a transaction changes in memory: this bounds it
TRANSACTION_BYTES = 32 << 20


class Cut(NamedTuple):
    """Everything at start <= position < end is settled: so many messages, so many bytes of bodies."""

    start: int
    end: int
    messages: int
    size: int


class LogOperations:
    """Of one log, in one group. A position is in `puts` or in `deletes`, never in both."""

    __slots__ = ("_is_sorted", "_positions", "cuts", "deletes", "lowest", "puts", "updates")

    def __init__(self) -> None:
        self.puts: dict[int, Message] = {}
        self.lowest = 1 << 64  # no put was ever below
        self._positions: list[int] = []  # of all puts ever, for bisection
        self._is_sorted = True
        self.deletes: dict[int, int] = {}  # position -> body size
        self.updates: dict[int, tuple[int, bool]] = {}  # position -> delivery count, is redelivered
        self.cuts: list[Cut] = []

    def put(self, messages: list[Message]) -> int:
        """Returns the bytes of the bodies."""
        puts, positions = self.puts, self._positions
        first = messages[0].position
        if positions and first <= positions[-1]:
            self._is_sorted = False
        self.lowest = min(self.lowest, first)
        size = 0
        for message in messages:
            message.is_stored = True
            position = message.position
            puts[position] = message
            positions.append(position)
            size += len(message.body)
        return size

    def from_position(
        self, start: int, max_count: int, is_live: Callable[[int], bool] | None = None
    ) -> list[Message]:
        """Puts at positions >= start, in order. is_live: picks those that are still of interest."""
        positions, puts = self._positions, self.puts
        if not puts or (self._is_sorted and positions[-1] < start):
            return []
        if not self._is_sorted:
            positions.sort()
            self._is_sorted = True
        found: list[Message] = []
        for index in range(bisect_left(positions, start), len(positions)):
            message = puts.get(positions[index])
            if message is not None and (is_live is None or is_live(message.position)):
                found.append(message)
                if len(found) >= max_count:
                    break
        return found

    def pop_from(self, start: int) -> list[Message]:
        """Take the puts at positions >= start away."""
        return [self.puts.pop(position) for position in [p for p in self.puts if p >= start]]


class Group:
    """Everything taken between two freezes. `operations` counts what is left of it after what cancelled out."""

    __slots__ = ("bytes", "callbacks", "created", "definitions", "dropped", "has_large", "logs", "operations")

    def __init__(self) -> None:
        self.logs: dict[LmdbLog, LogOperations] = {}
        self.definitions: dict[bytes, bytes | None] = {}
        self.created: dict[LmdbLog, None] = {}
        self.dropped: list[LmdbLog] = []
        self.callbacks: list[Callable[[], None]] = []
        self.operations = 0
        self.bytes = 0
        self.has_large = False

    def shared_bodies(self) -> set[int]:
        """The identities of large bodies that more than one message of the group has."""
        if not self.has_large:
            return set()
        seen: set[int] = set()
        shared: set[int] = set()
        for operations in self.logs.values():
            for message in operations.puts.values():
                if len(message.body) > LARGE_BODY:
                    identity = id(message.body)
                    (shared if identity in seen else seen).add(identity)
        return shared


@dataclass(slots=True)
class Slice:
    """A part of a group that is applied between two turns of the loop."""

    definitions: dict[bytes, bytes | None] = field(default_factory=dict)
    created: list[LmdbLog] = field(default_factory=list)
    puts: list[tuple[LmdbLog, list[Message]]] = field(default_factory=list)
    updates: list[tuple[LmdbLog, dict[int, tuple[int, bool]]]] = field(default_factory=list)
    deletes: list[tuple[LmdbLog, list[tuple[int, int]]]] = field(default_factory=list)
    cuts: list[tuple[LmdbLog, list[Cut]]] = field(default_factory=list)
    dropped: list[LmdbLog] = field(default_factory=list)
    operations: int = 0
    bytes: int = 0


def slices(group: Group, shared: set[int]) -> Iterator[Slice]:
    """Cut a group. All puts come before the first delete: should the group be so large that it takes several
    transactions, a crash between them may leave a message that moved in both places (it is redelivered), but never in
    none. Definitions come behind the puts: one that says that a message was taken never stands without the message."""
    part = Slice(created=list(group.created), operations=len(group.created))
    counted: set[int] = set()
    for log, operations in group.logs.items():
        taken: list[Message] = []
        for message in operations.puts.values():
            taken.append(message)
            part.operations += 1
            if (identity := id(message.body)) not in shared:
                part.bytes += len(message.body)
            elif identity not in counted:
                counted.add(identity)
                part.bytes += len(message.body)
            if part.operations >= SLICE_OPERATIONS or part.bytes >= SLICE_BYTES:
                part.puts.append((log, taken))
                yield part
                part, taken = Slice(), []
        if taken:
            part.puts.append((log, taken))
    part.definitions = group.definitions
    part.operations += len(group.definitions)
    for log, operations in group.logs.items():
        if operations.updates:
            part.updates.append((log, operations.updates))
            part.operations += len(operations.updates)
        pending = list(operations.deletes.items())
        while pending:
            room = max(1, SLICE_OPERATIONS - part.operations)
            now, pending = pending[:room], pending[room:]
            part.deletes.append((log, now))
            part.operations += len(now)
            if pending:
                yield part
                part = Slice()
        if operations.cuts:
            part.cuts.append((log, operations.cuts))
            part.operations += len(operations.cuts)
        if part.operations >= SLICE_OPERATIONS:
            yield part
            part = Slice()
    part.dropped = group.dropped
    part.operations += len(group.dropped)
    if part.operations:
        yield part


def transactions(group: Group, shared: set[int]) -> Iterator[list[Slice]]:
    """The slices of a group, by transaction: all in one, unless that were too large to keep in memory."""
    parts: list[Slice] = []
    operations = size = 0
    for part in slices(group, shared):
        if parts and (
            operations + part.operations > TRANSACTION_OPERATIONS or size + part.bytes > TRANSACTION_BYTES
        ):
            yield parts
            parts, operations, size = [], 0, 0
        parts.append(part)
        operations += part.operations
        size += part.bytes
    if parts:
        yield parts

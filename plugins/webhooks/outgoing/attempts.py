"""The log of a webhook's attempts, which is bounded and durable within a second."""

from __future__ import annotations

import json
from collections import deque
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from leveret.core.store.base import Store
__all__ = ["Attempt", "AttemptLog", "AttemptQuery"]

CHUNK = 64  # attempts in one record of the store


@dataclass(frozen=True, slots=True)
class Attempt:
    """One attempt at a message. at, next_at: milliseconds since the epoch. outcome: delivered, retry or dead.

    reason: why it failed (timeout, connect, tls, dns, address-refused, protocol, closed, status,
    template, expired, exhausted, gone). response: the first bytes of the body.
    """

    id: int
    at: int
    webhook_id: str
    position: int
    exchange: str
    routing_key: str
    attempt: int
    outcome: str
    status: int | None
    latency_ms: float
    reason: str
    error: str
    response: str
    next_at: int | None

    def as_row(self) -> list[Any]:
        return [getattr(self, name) for name in self.__slots__]

    def as_json(self) -> dict[str, Any]:
        return asdict(self)


@dataclass(frozen=True, slots=True)
class AttemptQuery:
    """A filter of attempts. None matches everything. since, until: milliseconds since the epoch; before: an attempt's id, for the next page."""

    outcome: str | None = None
    status: int | None = None
    webhook_id: str | None = None
    since: int | None = None
    until: int | None = None
    before: int | None = None
    limit: int = 100

    def matches(self, attempt: Attempt) -> bool:
        return (
            (self.outcome is None or attempt.outcome == self.outcome)
            and (self.status is None or attempt.status == self.status)
            and (self.webhook_id is None or attempt.webhook_id == self.webhook_id)
            and (self.since is None or attempt.at >= self.since)
            and (self.until is None or attempt.at < self.until)
            and (self.before is None or attempt.id < self.before)
        )


class _Ring:
    """The last attempts of one kind, in chunks; only changed chunks are written."""

    def __init__(self, store: Store, prefix: bytes, capacity: int) -> None:
        self._store = store
        self._prefix = prefix
        self.capacity = capacity
        self._chunks: deque[tuple[int, list[Attempt]]] = deque()  # numbered without gaps
        self._count = 0
        self._dirty: set[int] = set()
        self._dropped: set[int] = set()

    def load(self) -> int:
        """Read the records of the store. Returns the highest id."""
        last = 0
        for key, value in list(self._store.definitions(self._prefix)):
            number = int.from_bytes(key[len(self._prefix) :], "big")
            chunk = [Attempt(*fields) for fields in json.loads(value)]
            self._chunks.append((number, chunk))
            self._count += len(chunk)
            last = max([last, *[one.id for one in chunk]])
        return last

    def add(self, attempt: Attempt) -> None:
        if self.capacity <= 0:
            return
        if not self._chunks or len(self._chunks[-1][1]) >= CHUNK:
            self._chunks.append((self._chunks[-1][0] + 1 if self._chunks else 1, []))
        number, chunk = self._chunks[-1]
        chunk.append(attempt)
        self._dirty.add(number)
        self._count += 1
        self.trim()

    def trim(self) -> None:
        while self._chunks and self._count - len(self._chunks[0][1]) >= self.capacity:
            number, chunk = self._chunks.popleft()
            self._count -= len(chunk)
            self._dirty.discard(number)
            self._dropped.add(number)

    def flush(self) -> None:
        for number in self._dropped:
            self._store.delete_definition(self._key(number))
        self._dropped.clear()
        if not self._dirty:
            return
        for number, chunk in self._chunks:
            if number in self._dirty:
                value = json.dumps([one.as_row() for one in chunk], separators=(",", ":"))
                self._store.put_definition(self._key(number), value.encode())
        self._dirty.clear()

    def _key(self, number: int) -> bytes:
        return self._prefix + number.to_bytes(8, "big")

    def newest_first(self) -> Iterator[Attempt]:
        for _, chunk in reversed(self._chunks):
            yield from reversed(chunk)


class AttemptLog:
    """The log. Successes and failures are kept separately, so that many successes do not displace few failures.

    prefix: of its keys in the store. capacity: the number of successes and of failures that are kept, rounded up to whole records.
    """

    def __init__(self, store: Store, prefix: bytes, capacity: int) -> None:
        self._store = store
        self._prefix = prefix
        self._delivered = _Ring(store, prefix + b"d/", capacity)
        self._failed = _Ring(store, prefix + b"f/", capacity)
        self._last_id = max(self._delivered.load(), self._failed.load())
        self.is_dirty = False

    @property
    def capacity(self) -> int:
        return self._delivered.capacity

    @capacity.setter
    def capacity(self, capacity: int) -> None:
        for ring in (self._delivered, self._failed):
            ring.capacity = capacity
            ring.trim()
        self.is_dirty = True

    def next_id(self) -> int:
        self._last_id += 1
        return self._last_id

    def add(self, attempt: Attempt) -> None:
        (self._delivered if attempt.outcome == "delivered" else self._failed).add(attempt)
        self.is_dirty = True

    def flush(self) -> None:
        """Hand changed chunks to the store."""
        if self.is_dirty:
            self.is_dirty = False
            self._delivered.flush()
            self._failed.flush()

    def forget(self) -> None:
        """Delete the log with its subscription."""
        for key, _ in list(self._store.definitions(self._prefix)):
            self._store.delete_definition(key)
        self.is_dirty = False

    def find(self, query: AttemptQuery) -> list[Attempt]:
        """The attempts that match, the newest first, at most `query.limit`."""
        found: list[Attempt] = []
        merged = _merged(self._delivered.newest_first(), self._failed.newest_first())
        for attempt in merged:
            if query.matches(attempt):
                found.append(attempt)
                if len(found) >= query.limit:
                    break
        return found


def _merged(*streams: Iterator[Attempt]) -> Iterator[Attempt]:
    heads = [(head, stream) for stream in streams if (head := next(stream, None)) is not None]
    while heads:
        index = max(range(len(heads)), key=lambda at: heads[at][0].id)
        head, stream = heads[index]
        yield head
        following = next(stream, None)
        if following is None:
            del heads[index]
        else:
            heads[index] = following, stream

"""Walks over the entries of one log within one read transaction."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator

import lmdb

from leveret.core.store.base import StoredMessage
from leveret.core.store.lmdb.writer import KEY, Txn
from leveret.core.store.record import body_size, decode

__all__ = ["Hidden", "read_messages", "read_sizes", "walk"]

Hidden = tuple[Collection[int], Collection[int]]  # positions that are settled, though still in a file


def walk(
    txn: Txn, database: lmdb._Database, log_id: int, start: int, end: int, cuts: list[tuple[int, int]]
) -> Iterator[tuple[int, memoryview]]:
    """Entries at start <= position < end, in order, jumping over cuts. The views end with the transaction."""
    with txn.cursor(database) as cursor:
        while cursor.set_range(KEY.pack(log_id, start)):
            for key, record in cursor.iternext():
                found, position = KEY.unpack(key)
                if found != log_id or position >= end:
                    return
                cut_end = (
                    max([cut[1] for cut in cuts if cut[0] <= position < cut[1]], default=0) if cuts else 0
                )
                if cut_end:
                    start = cut_end
                    break
                yield position, record
            else:
                return


def read_messages(
    entries: Iterator[tuple[int, memoryview]],
    hidden: Hidden,
    max_count: int,
    max_bytes: int,
    body_of: Callable[[int], bytes],
) -> tuple[list[StoredMessage], bool]:
    """The first entries that are not hidden, at least one if there is any; are there, perhaps, more?

    Raise StoreUnavailable."""
    found: list[StoredMessage] = []
    size = 0
    cache: dict[bytes, tuple[str, str, bytes]] = {}
    settled, also_settled = hidden
    for position, record in entries:
        if position in settled or position in also_settled:
            continue
        message = decode(position, record, body_of, cache)
        size += len(message.body)
        if size > max_bytes and found:
            return found, True
        found.append(message)
        if len(found) >= max_count:
            return found, True
    return found, False


def read_sizes(entries: Iterator[tuple[int, memoryview]], hidden: Hidden) -> dict[int, int]:
    """Position -> bytes of the body, for those that are not hidden."""
    return {
        position: body_size(record)
        for position, record in entries
        if position not in hidden[0] and position not in hidden[1]
    }

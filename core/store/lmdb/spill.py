"""Transient messages when memory is short: a file of their own, never flushed, gone at the next start."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Callable
from pathlib import Path

import lmdb

from leveret.core.errors import StoreUnavailable
from leveret.core.message import Envelope, Message
from leveret.core.store.base import StoredMessage
from leveret.core.store.lmdb.file import LmdbFile
from leveret.core.store.lmdb.reader import Hidden, read_messages, read_sizes, walk
from leveret.core.store.lmdb.writer import END, KEY, Txn
from leveret.core.store.record import encode

__all__ = ["SpillFile"]

log = logging.getLogger(__name__)

DATABASE = b"messages"


class SpillFile:
    """Everything is done at once, in the caller's turn: without a flush a commit is a few writes to memory.

    The file is made when it is first needed, and removed when nothing is in it.
    """

    def __init__(self, path: Path, map_size: int, wall_offset: float) -> None:
        self._path = path
        self._map_size = map_size
        self._wall_offset = wall_offset
        self._file: LmdbFile | None = None
        self._garbage: list[tuple[int, int, int]] = []  # log id, start, end
        self.count = 0
        self.close()

    def close(self) -> None:
        """And remove it: what is in it must not survive."""
        if self._file is not None:
            self._file.close()
            self._file = None
        self._garbage.clear()
        self.count = 0
        with contextlib.suppress(FileNotFoundError):
            self._path.unlink()

    def put(self, log_id: int, messages: list[Message]) -> bool:
        """False: there is no room, nothing was written."""
        heads: dict[Envelope, bytes] = {}
        items = [
            (KEY.pack(log_id, message.position), encode(message, heads, self._wall_offset))
            for message in messages
        ]
        items.sort()
        if not self._write(lambda txn, database: txn.cursor(database).putmulti(items)):
            return False
        self.count += len(items)
        assert self._file is not None
        self._file.touched(sum([len(value) for _, value in items]))
        return True

    def delete(self, log_id: int, positions: list[int]) -> list[int]:
        """Returns those that were here."""
        found: list[int] = []

        def delete(txn: Txn, database: lmdb._Database) -> None:
            found[:] = [
                position for position in positions if txn.delete(KEY.pack(log_id, position), b"", database)
            ]

        if self._file is None or not self._write(delete):
            return []
        self._forget(len(found))
        return found

    def cut(self, log_id: int, start: int, count: int, end: int = END) -> None:
        """`count` messages at positions >= start are settled; they are erased later."""
        self._garbage.append((log_id, start, end))
        self._forget(count)

    def _forget(self, count: int) -> None:
        self.count -= count
        if self.count <= 0:
            self.close()

    @property
    def has_garbage(self) -> bool:
        return bool(self._garbage)

    def erase(self, max_count: int) -> None:
        """A slice of what was cut."""
        log_id, start, end = self._garbage[0]
        erased = 0

        def erase(txn: Txn, database: lmdb._Database) -> None:
            nonlocal erased
            erased = 0
            limit = KEY.pack(log_id, end)
            with txn.cursor(database) as cursor:
                found = cursor.set_range(KEY.pack(log_id, start))
                while found and erased < max_count and bytes(cursor.key()) < limit:
                    cursor.delete()
                    erased += 1
                    found = bool(cursor.key())

        if self._write(erase) and erased < max_count and self._garbage:
            del self._garbage[0]

    def read(
        self, log_id: int, start: int, hidden: Hidden, max_count: int, max_bytes: int
    ) -> tuple[list[StoredMessage], bool]:
        """See `read_messages`."""
        file = self._file
        if file is None:
            return [], False
        with file.env.begin(buffers=True) as txn:
            entries = walk(txn, file.databases[DATABASE], log_id, start, END, self._cuts(log_id))
            messages, has_more = read_messages(entries, hidden, max_count, max_bytes, _no_body)
        file.touched(sum([len(message.body) for message in messages]))
        return messages, has_more

    def sizes(self, log_id: int, end: int) -> dict[int, int]:
        """Position -> bytes of the body, below `end`."""
        if self._file is None:
            return {}
        with self._file.env.begin(buffers=True) as txn:
            return read_sizes(
                walk(txn, self._file.databases[DATABASE], log_id, 0, end, self._cuts(log_id)), ((), ())
            )

    def _cuts(self, log_id: int) -> list[tuple[int, int]]:
        return [(start, end) for owner, start, end in self._garbage if owner == log_id]

    def _write(self, work: Callable[[Txn, lmdb._Database], object]) -> bool:
        """One transaction. False: there is no room."""
        while True:
            try:
                if self._file is None:
                    self._file = LmdbFile(self._path, (DATABASE,), map_size=self._map_size, sync=False)
                with self._file.begin() as txn:
                    work(txn, self._file.databases[DATABASE])
                return True
            except lmdb.MapFullError:
                if self._file is not None and self._file.grow():
                    continue
                return False
            except (lmdb.Error, StoreUnavailable, OSError) as error:
                log.error("spill file=%s cannot be written: %s", self._path, error)
                return False


def _no_body(number: int) -> bytes:
    raise KeyError(number)

"""Applies slices of groups to a write transaction, and erases what is garbage."""

from __future__ import annotations

from struct import Struct
from typing import TYPE_CHECKING, NamedTuple

import lmdb

from leveret.core.message import Envelope, Message
from leveret.core.store.lmdb.file import LmdbFile
from leveret.core.store.lmdb.group import LARGE_BODY, OVERHEAD, Cut, Slice
from leveret.core.store.record import BODY_REFERENCE, SHARED, encode

if TYPE_CHECKING:
    from leveret.core.store.lmdb.log import LmdbLog
__all__ = ["COUNTER", "DATABASES", "END", "KEY", "UPDATE", "Applied", "Meta", "Txn", "Writer"]

KEY = Struct(">QQ")  # log id, position
COUNTER = Struct(">Q")
UPDATE = Struct(">IB")  # delivery count, is redelivered
META = Struct(">6Q")
END = (1 << 64) - 1  # past every position

DATABASES = (b"info", b"definitions", b"messages", b"updates", b"logs", b"garbage", b"bodies", b"references")

if TYPE_CHECKING:
    Txn = lmdb.Transaction[memoryview]
else:
    Txn = lmdb.Transaction


class Meta(NamedTuple):
    """What is known of a log without reading it; written in the same transaction as its entries.

    messages, size: live ones, and the bytes of their bodies.
    shared, updated: how many live entries have a shared body, a record in `updates`.
    suspect_below: entries below this position were here at a crash; they may have been handed out before it.
    """

    messages: int = 0
    size: int = 0
    next_position: int = 0
    shared: int = 0
    updated: int = 0
    suspect_below: int = 0

    def pack(self) -> bytes:
        return META.pack(*self)

    @classmethod
    def unpack(cls, value: memoryview) -> Meta:
        return cls(*META.unpack(value))


class Applied:
    """What a transaction changes, beside the file: taken over when it is committed, forgotten when it is not."""

    def __init__(self) -> None:
        self.metas: dict[LmdbLog, Meta] = {}
        self.missing: list[tuple[LmdbLog, int]] = []  # deletes of what was not there: (log, bytes)
        self.garbage: dict[tuple[int, int], int] = {}  # (log id, start) -> end, new
        self.erased: list[tuple[int, int]] = []  # garbage that is erased completely
        self.bytes = 0


class Writer:
    """The only one to write messages. `garbage`: ranges to erase, (log id, start) -> end."""

    def __init__(self, file: LmdbFile, logs: dict[int, LmdbLog], wall_offset: float) -> None:
        self.file = file
        self.logs = logs
        self.wall_offset = wall_offset
        self.garbage: dict[tuple[int, int], int] = {}
        self.next_body = 1
        self._heads: dict[Envelope, bytes] = {}
        self._body_numbers: dict[int, int] = {}

    # -- one group

    def begin_group(self, shared: set[int]) -> None:
        """shared: identities of the bodies that are stored once."""
        for identity in shared:
            self._body_numbers[identity] = self.next_body
            self.next_body += 1

    def end_group(self) -> None:
        self._heads.clear()
        self._body_numbers = {}

    # -- one transaction

    def apply(self, txn: Txn, part: Slice, next_log_id: int, applied: Applied) -> None:
        """Raise lmdb.Error: the transaction must be aborted, and its slices may be applied again."""
        databases = self.file.databases
        for name, value in part.definitions.items():
            if value is None:
                txn.delete(name, db=databases[b"definitions"])
            else:
                txn.put(name, value, db=databases[b"definitions"])
        if part.created:
            txn.put(b"next_log_id", COUNTER.pack(next_log_id), db=databases[b"info"])
            for log in part.created:
                applied.metas[log] = log.meta
        for log, messages in part.puts:
            self._put(txn, log, messages, applied)
        for log, updates in part.updates:
            self._update(txn, log, updates, applied)
        for log, deletes in part.deletes:
            self._delete(txn, log, deletes, applied)
        for log, cuts in part.cuts:
            self._cut(txn, log, cuts, applied)
        touched = {log for kind in (part.puts, part.updates, part.deletes, part.cuts) for log, _ in kind}
        for log in touched.union(part.created):
            txn.put(COUNTER.pack(log.id), applied.metas[log].pack(), db=databases[b"logs"])
        for log in part.dropped:
            txn.delete(COUNTER.pack(log.id), db=databases[b"logs"])
            self._add_garbage(txn, log.id, 0, END, applied)

    def committed(self, applied: Applied) -> None:
        """The transaction is durable."""
        for log, meta in applied.metas.items():
            log.meta = meta
        for log, size in applied.missing:
            log.restore(size)
        self.garbage.update(applied.garbage)
        for log_id, start in applied.erased:
            end = self.garbage.pop((log_id, start))
            log_or_none = self.logs.get(log_id)
            if log_or_none is not None:
                log_or_none.erased(start, end)

    def _put(self, txn: Txn, log: LmdbLog, messages: list[Message], applied: Applied) -> None:
        heads, numbers, offset = self._heads, self._body_numbers, self.wall_offset
        meta = applied.metas.get(log, log.meta)
        key, log_id = KEY.pack, log.id
        size = shared = 0
        last = max([message.position for message in messages])
        items: list[tuple[bytes, bytes]] = []
        for message in messages:
            body_bytes = len(message.body)
            size += body_bytes
            reference = None
            if body_bytes > LARGE_BODY and (number := numbers.get(id(message.body))) is not None:
                self._refer(txn, number, message.body)
                reference = BODY_REFERENCE.pack(number, body_bytes)
                shared += 1
            items.append((key(log_id, message.position), encode(message, heads, offset, reference)))
        with txn.cursor(self.file.databases[b"messages"]) as cursor:
            # At the very end of the tree pages are filled before they are split: a third less to write.
            is_end = not cursor.last() or bytes(cursor.key()) < items[0][0]
            if not is_end or cursor.putmulti(items, append=True)[1] != len(items):
                cursor.putmulti(items)
        applied.bytes += size + OVERHEAD * len(items)
        applied.metas[log] = Meta(
            meta.messages + len(items), meta.size + size, max(meta.next_position, last + 1), meta.shared + shared,
            meta.updated, meta.suspect_below,
        )  # fmt: skip

    def _refer(self, txn: Txn, number: int, body: bytes) -> None:
        """One more reference to a shared body; the first one stores it."""
        references, key = self.file.databases[b"references"], COUNTER.pack(number)
        count = txn.get(key, db=references)
        if count is None:
            txn.put(key, body, db=self.file.databases[b"bodies"])
        txn.put(key, COUNTER.pack(1 if count is None else COUNTER.unpack(count)[0] + 1), db=references)

    def _release(self, txn: Txn, record: memoryview) -> bool:
        """One reference less, if the record has one: is it so?"""
        if not record[1] & SHARED:
            return False
        references = self.file.databases[b"references"]
        key = bytes(record[-BODY_REFERENCE.size : -BODY_REFERENCE.size + COUNTER.size])
        count = txn.get(key, db=references)
        left = 0 if count is None else COUNTER.unpack(count)[0] - 1
        if left > 0:
            txn.put(key, COUNTER.pack(left), db=references)
        else:
            txn.delete(key, db=references)
            txn.delete(key, db=self.file.databases[b"bodies"])
        return True

    def _update(self, txn: Txn, log: LmdbLog, updates: dict[int, tuple[int, bool]], applied: Applied) -> None:
        meta = applied.metas.get(log, log.meta)
        updated = meta.updated
        database, messages = self.file.databases[b"updates"], self.file.databases[b"messages"]
        for position, (delivery_count, is_redelivered) in updates.items():
            key = KEY.pack(log.id, position)
            if txn.get(key, db=messages) is None:
                continue
            value = UPDATE.pack(min(delivery_count, 0xFFFFFFFF), is_redelivered)
            if txn.put(key, value, db=database, overwrite=False):
                updated += 1
            else:
                txn.put(key, value, db=database)
        applied.metas[log] = meta._replace(updated=updated)

    def _delete(self, txn: Txn, log: LmdbLog, deletes: list[tuple[int, int]], applied: Applied) -> None:
        meta = applied.metas.get(log, log.meta)
        messages, updates_database = self.file.databases[b"messages"], self.file.databases[b"updates"]
        key_of, log_id, delete = KEY.pack, log.id, txn.delete
        count = size = shared = updated = 0
        for position, body_bytes in deletes:
            key = key_of(log_id, position)
            if meta.shared:
                record = txn.get(key, db=messages)
                if record is not None and self._release(txn, record):
                    shared += 1
            if not delete(key, b"", messages):
                applied.missing.append((log, body_bytes))
                continue
            count += 1
            size += body_bytes
            if meta.updated and delete(key, b"", updates_database):
                updated += 1
        applied.bytes += size
        applied.metas[log] = Meta(
            meta.messages - count, meta.size - size, meta.next_position, meta.shared - shared, meta.updated - updated,
            meta.suspect_below,
        )  # fmt: skip

    def _cut(self, txn: Txn, log: LmdbLog, cuts: list[Cut], applied: Applied) -> None:
        for cut in cuts:
            meta = applied.metas.get(log, log.meta)
            applied.metas[log] = meta._replace(
                messages=meta.messages - cut.messages, size=meta.size - cut.size,
                next_position=max(meta.next_position, cut.end),
            )  # fmt: skip
            self._add_garbage(txn, log.id, cut.start, cut.end, applied)

    def _add_garbage(self, txn: Txn, log_id: int, start: int, end: int, applied: Applied) -> None:
        end = max(end, self.garbage.get((log_id, start), 0), applied.garbage.get((log_id, start), 0))
        txn.put(KEY.pack(log_id, start), COUNTER.pack(end), db=self.file.databases[b"garbage"])
        applied.garbage[log_id, start] = end

    # -- garbage

    def erase(self, txn: Txn, max_count: int, applied: Applied) -> None:
        """Erase up to so many entries of the garbage that is known to be durable."""
        for (log_id, start), end in self.garbage.items():
            if (log_id, start) in applied.garbage:
                continue  # it grows in this very transaction
            log = self.logs.get(log_id)
            erased, shared = self._erase_range(txn, b"messages", log_id, start, end, max_count)
            max_count -= erased
            updated = 0
            if max_count > 0:
                updated, _ = self._erase_range(txn, b"updates", log_id, start, end, max_count)
                max_count -= updated
            if log is not None and (shared or updated):
                meta = applied.metas.get(log, log.meta)
                meta = meta._replace(shared=meta.shared - shared, updated=meta.updated - updated)
                applied.metas[log] = meta
                txn.put(COUNTER.pack(log_id), meta.pack(), db=self.file.databases[b"logs"])
            applied.bytes += (erased + updated) * OVERHEAD
            if max_count <= 0:
                return
            txn.delete(KEY.pack(log_id, start), db=self.file.databases[b"garbage"])
            applied.erased.append((log_id, start))

    def _erase_range(
        self, txn: Txn, name: bytes, log_id: int, start: int, end: int, max_count: int
    ) -> tuple[int, int]:
        """How many entries, and how many of them had a shared body."""
        limit = KEY.pack(log_id, end)
        erased = shared = 0
        with txn.cursor(self.file.databases[name]) as cursor:
            found = cursor.set_range(KEY.pack(log_id, start))
            while found and erased < max_count and bytes(cursor.key()) < limit:
                if name == b"messages" and self._release(txn, cursor.value()):
                    shared += 1
                cursor.delete()
                erased += 1
                found = bool(cursor.key())
        return erased, shared

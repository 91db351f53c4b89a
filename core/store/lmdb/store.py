"""The embedded store: one LMDB file, written in groups.

The trap that shapes it: a commit waits for the disk and must not stop the loop, but a worker thread that calls LMDB
for every message would fight the loop for the interpreter's lock. So the loop applies a whole transaction by itself,
and hands only its `commit()` to a worker thread; what arrives meanwhile is the next group.
"""

from __future__ import annotations

import logging
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import lmdb
import trio

from leveret.core.errors import StoreUnavailable
from leveret.core.histogram import Histogram
from leveret.core.store.base import Log, StoredMessage, StoreSettings
from leveret.core.store.directory import DataDirectory
from leveret.core.store.lmdb.committer import Committer
from leveret.core.store.lmdb.file import LmdbFile
from leveret.core.store.lmdb.group import Group, Slice, transactions
from leveret.core.store.lmdb.linger import Linger
from leveret.core.store.lmdb.log import LmdbLog
from leveret.core.store.lmdb.reader import Hidden, read_messages, read_sizes, walk
from leveret.core.store.lmdb.recovery import mark_closed, recover
from leveret.core.store.lmdb.spill import SpillFile
from leveret.core.store.lmdb.writer import COUNTER, DATABASES, END, KEY, UPDATE, Meta, Txn, Writer

__all__ = ["LmdbStore"]

log = logging.getLogger(__name__)

SWITCH_INTERVAL_S = 0.0005  # how long the loop may keep the interpreter from a worker whose commit is done
ERASE_ALONG = 200  # entries of garbage erased with each group
ERASE_ALONE = 2000  # and when there is nothing else to do
ERASE_PAUSE_S = 0.01
SYNC_PAUSE_S = 1.0  # durability "os": how often the file is flushed in the background


class LmdbStore:
    """Implements `Store` in the directory `path`, which is made if need be.

    durability "flush": a commit is on the disk, and survives the power; "os": it is with the operating system, and
    survives the process; the power may take the store with it.
    map_limit: bytes the file may not grow beyond; None: as far as the disk goes.
    """

    def __init__(self, path: Path, settings: StoreSettings, *, map_limit: int | None = None) -> None:
        self.path = path
        self.was_clean = True
        self.definition_writes = 0
        self.on_committed: Callable[[], None] = _nothing
        self.group = Group()  # what is being collected
        self.wall_offset = (
            0.0  # seconds from trio's clock to the wall clock; one for the life of the process, so
        )
        # that an expiry that is written and read back is the same to the millisecond
        self._settings = settings
        self._map_limit = map_limit
        self._directory = DataDirectory(path)
        self._is_open = False
        self._logs: dict[int, LmdbLog] = {}
        self._definitions: dict[bytes, bytes] = {}
        self._next_log_id = 1
        self._writing: Group | None = None
        self._parts: Iterator[list[Slice]] = iter(())  # what is left of `_writing`, by transaction
        self._part: list[Slice] | None = None  # the one that is being written
        self._work = trio.Event()

    # -- open, run, close

    def open(self) -> None:
        self._directory.acquire()
        try:
            self._recover()
        except BaseException:
            self._directory.release()
            raise
        if sys.getswitchinterval() > SWITCH_INTERVAL_S:
            sys.setswitchinterval(SWITCH_INTERVAL_S)
        self._is_open = True

    def _recover(self) -> None:
        try:
            self.wall_offset = time.time() - trio.current_time()
        except RuntimeError:  # not inside trio: a tool; its messages have no clock but this one
            self.wall_offset = time.time() - time.monotonic()
        self._logs.clear()
        self.group, self._writing = Group(), None
        self._parts, self._part = iter(()), None
        is_flushing = self._settings.durability != "os"
        self._file = LmdbFile(
            self._directory.file("messages.mdb"), DATABASES, map_size=self._settings.map_size, sync=is_flushing,
            map_limit=self._map_limit,
        )  # fmt: skip
        self._writer = Writer(self._file, self._logs, self.wall_offset)
        self._committer = Committer(self._file, self._writer, is_flushing=is_flushing)
        try:
            recovered = recover(self._file)
        except BaseException:
            self._file.close()
            raise
        self.was_clean = recovered.was_clean
        self._next_log_id = recovered.next_log_id
        self._definitions = recovered.definitions
        self._writer.next_body = recovered.next_body
        self._writer.garbage = recovered.garbage
        for log_id, meta in recovered.metas.items():
            self._logs[log_id] = LmdbLog(self, log_id, meta)
        for (log_id, start), end in recovered.garbage.items():
            if log_id in self._logs:
                self._logs[log_id].add_cut(start, end)
        self.spill_file = SpillFile(
            self._directory.file("spill.mdb"), self._settings.map_size, self.wall_offset
        )

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        linger = Linger()
        async with trio.open_nursery() as nursery:
            if self._settings.durability == "os":
                nursery.start_soon(self._sync_now_and_then)
            task_status.started()
            while True:
                if self._writer.garbage or self.spill_file.has_garbage:
                    with trio.move_on_after(ERASE_PAUSE_S):
                        await self._work.wait()
                else:
                    await self._work.wait()
                # Whoever can run now may still join this group.
                await trio.lowlevel.checkpoint()
                await linger.wait(self.group)
                if self.spill_file.has_garbage:
                    self.spill_file.erase(ERASE_ALONE)
                if self._work.is_set():
                    self._freeze()
                    while (part := self._next_part()) is not None:
                        await self._committer.write(part, self._next_log_id, erase=ERASE_ALONG)
                        self._part = None
                        await trio.lowlevel.checkpoint()
                    self._finish()
                elif self._writer.garbage:
                    await self._committer.write((), self._next_log_id, erase=ERASE_ALONE)

    def _freeze(self) -> None:
        """What was collected becomes the group that is written."""
        self._work = trio.Event()
        for member in self.group.logs:
            member.freeze()
        group, self.group = self.group, Group()
        shared = group.shared_bodies()
        self._writer.begin_group(shared)
        self._writing, self._parts = group, transactions(group, shared)

    def _next_part(self) -> list[Slice] | None:
        """The transaction to write: again the one that was interrupted, if there is one. Set `_part` to None behind it."""
        if self._part is None:
            self._part = next(self._parts, None)
        return self._part

    def _finish(self) -> None:
        """All of the group is durable: say so."""
        group = self._writing
        assert group is not None
        self._writer.end_group()
        for member in group.logs:
            member.thaw()
        # While the callbacks run, the group still counts as being written: who asks now joins the end of the list.
        for callback in group.callbacks:
            try:
                callback()
            except Exception:
                log.exception("callback=%r after a commit failed", callback)
        self._writing = None
        self.on_committed()

    async def _sync_now_and_then(self) -> None:
        synced = 0
        while True:
            await trio.sleep(SYNC_PAUSE_S)
            if self._committer.commit_count != synced:
                synced = self._committer.commit_count
                try:
                    await trio.to_thread.run_sync(self._file.sync)
                except lmdb.Error as error:
                    log.error("store=%s cannot be flushed: %s", self._file.path, error)

    def close(self) -> None:
        if not self._is_open:
            return
        self._is_open = False
        try:
            self._flush()
            mark_closed(self._file)
        except lmdb.Error as error:
            log.error(
                "store=%s could not be written at the end, %d operations are lost; none was confirmed: %s",
                self._file.path,
                self.group.operations + (self._writing.operations if self._writing else 0),
                error,
            )
        finally:
            self.spill_file.close()
            self._file.close()
            self._directory.release()

    def abandon(self) -> None:
        """For tests: as if the process died now."""
        self._is_open = False
        self._file.close()
        self._directory.release()

    def _flush(self) -> None:
        """What is left, on the spot: the group that was interrupted, then what came after it."""
        while self._writing is not None or self.has_pending or self.group.callbacks:
            if self._writing is None:
                self._freeze()
            while (part := self._next_part()) is not None:
                self._committer.write_now(part, self._next_log_id)
                self._part = None
            self._finish()

    # -- definitions

    def put_definition(self, key: bytes, value: bytes) -> None:
        if self._definitions.get(key) != value:
            self._definitions[key] = value
            self._define(key, value)

    def delete_definition(self, key: bytes) -> None:
        if self._definitions.pop(key, None) is not None:
            self._define(key, None)

    def _define(self, key: bytes, value: bytes | None) -> None:
        self.definition_writes += 1
        group = self.group
        if key not in group.definitions:
            group.operations += 1
        group.bytes += len(key) + len(value or b"")
        group.definitions[key] = value
        self.wake()

    def definitions(self, prefix: bytes = b"") -> Iterator[tuple[bytes, bytes]]:
        return iter(sorted([item for item in self._definitions.items() if item[0].startswith(prefix)]))

    # -- logs

    def create_log(self) -> Log:
        log_id, self._next_log_id = self._next_log_id, self._next_log_id + 1
        created = self._logs[log_id] = LmdbLog(self, log_id, Meta())
        self.group.created[created] = None
        self.group.operations += 1
        self.wake()
        return created

    def open_log(self, log_id: int) -> Log:
        return self._logs[log_id]

    def drop_log(self, log: Log) -> None:
        assert isinstance(log, LmdbLog)
        if log.is_dropped:
            return
        log.drop()
        del self._logs[log.id]
        if log in self.group.created:
            del self.group.created[log]
            self.group.operations -= 1
        else:
            self.group.dropped.append(log)
            self.group.operations += 1
            self.wake()

    def retain_logs(self, log_ids: set[int]) -> None:
        for orphan in [log for log_id, log in self._logs.items() if log_id not in log_ids]:
            self.drop_log(orphan)

    # -- waiting

    def wake(self) -> None:
        """There is work: the next pass of the scheduler begins a group."""
        self._work.set()

    def after_commit(self, callback: Callable[[], None]) -> bool:
        group = self.group
        if group.operations or group.callbacks:
            group.callbacks.append(callback)
            self.wake()
            return False
        if self._writing is not None:
            self._writing.callbacks.append(callback)
            return False
        return True

    @property
    def has_pending(self) -> bool:
        return bool(self.group.operations) or self._writing is not None

    @property
    def pending_bytes(self) -> int:
        return self.group.bytes + (self._writing.bytes if self._writing is not None else 0)

    @property
    def is_full(self) -> bool:
        return self._committer.is_full

    @property
    def commit_latency(self) -> Histogram:
        """Seconds, by commit."""
        return self._committer.commit_latency

    def statistics(self) -> dict[str, int | float]:
        committer = self._committer
        count = committer.commit_count
        return {
            "commits": count,
            "commit_seconds_last": committer.last_seconds,
            "commit_seconds_mean": committer.commit_latency.total / count if count else 0.0,
            "pending_bytes": self.pending_bytes,
            "file_bytes": self._file.file_bytes,
            "map_bytes": self._file.map_size,
            "logs": len(self._logs),
            "definitions": len(self._definitions),
            "garbage_ranges": len(self._writer.garbage),
            "spilled_messages": self.spill_file.count,
        }

    # -- reading, for the logs

    def _begin_read(self) -> Txn:
        """End it in the same turn, with `_end_read`."""
        return self._committer.snapshot or self._file.env.begin(buffers=True)

    def _end_read(self, txn: Txn) -> None:
        if txn is not self._committer.snapshot:
            txn.abort()

    def read_messages(
        self,
        log_id: int,
        start: int,
        cuts: list[tuple[int, int]],
        hidden: Hidden,
        max_count: int,
        max_bytes: int,
    ) -> tuple[list[StoredMessage], bool]:
        """From the file; see lmdb_reader.read_messages."""
        bodies: dict[int, bytes] = {}
        databases = self._file.databases
        txn = self._begin_read()

        def shared_body(number: int) -> bytes:
            body = bodies.get(number)
            if body is None:
                found = txn.get(COUNTER.pack(number), db=databases[b"bodies"])
                if found is None:
                    raise KeyError(number)
                body = bodies[number] = bytes(found)
            return body

        try:
            entries = walk(txn, databases[b"messages"], log_id, start, END, cuts)
            messages, has_more = read_messages(entries, hidden, max_count, max_bytes, shared_body)
        except lmdb.Error as error:
            raise StoreUnavailable(f"the store '{self._file.path}' is damaged: {error}") from error
        finally:
            self._end_read(txn)
        self._file.touched(sum([len(message.body) for message in messages]))
        return messages, has_more

    def read_sizes(
        self, log_id: int, end: int, cuts: list[tuple[int, int]], hidden: Hidden
    ) -> dict[int, int]:
        txn = self._begin_read()
        try:
            return read_sizes(walk(txn, self._file.databases[b"messages"], log_id, 0, end, cuts), hidden)
        finally:
            self._end_read(txn)

    def read_updates(self, log_id: int, messages: list[StoredMessage]) -> None:
        """Give messages that were read the delivery counts that were written after them."""
        txn = self._begin_read()
        try:
            for message in messages:
                update = txn.get(KEY.pack(log_id, message.position), db=self._file.databases[b"updates"])
                if update is not None:
                    message.delivery_count, is_redelivered = UPDATE.unpack(update)
                    message.is_redelivered = bool(is_redelivered)
        finally:
            self._end_read(txn)


def _nothing() -> None:
    pass

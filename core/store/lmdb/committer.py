"""Makes transactions durable, however long it takes: where the commit runs, and what happens when there is no room."""

from __future__ import annotations

import logging
import time
from collections.abc import Sequence

import lmdb
import trio

from leveret.core.histogram import Histogram
from leveret.core.store.lmdb.file import LmdbFile
from leveret.core.store.lmdb.group import Slice
from leveret.core.store.lmdb.writer import Applied, Txn, Writer

__all__ = ["Committer"]

log = logging.getLogger(__name__)

SHORT_COMMIT_S = 0.0005  # a small commit is done on the loop's thread while they take less than this
SMALL_OPERATIONS = 64
SMALL_BYTES = 64 << 10
RETRY_S = 1.0  # between attempts while there is no room
LATENCY_S = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0)


class Committer:
    """One transaction at a time. `snapshot`: while a commit is in a worker thread, the transaction to read with; it shows
    what was committed before."""

    def __init__(self, file: LmdbFile, writer: Writer, *, is_flushing: bool) -> None:
        self.file = file
        self.writer = writer
        self.snapshot: Txn | None = None
        self.is_full = False
        self.commit_count = 0
        self.commit_latency = Histogram(LATENCY_S)
        self.last_seconds = 0.0
        self._is_flushing = is_flushing
        self._small_seconds = 0.0  # moving average over small commits
        self._limiter = trio.CapacityLimiter(1)

    async def write(self, parts: Sequence[Slice], next_log_id: int, *, erase: int) -> None:
        """Returns when all parts are durable, at once. erase: entries of garbage to erase besides.

        Cancellation takes effect before the commit only; then nothing of it is written.
        """
        while True:
            try:
                txn, applied = self.file.begin(), Applied()
                try:
                    for index, part in enumerate(parts):
                        if index:
                            await trio.lowlevel.checkpoint()
                        self.writer.apply(txn, part, next_log_id, applied)
                    self._erase(txn, erase, applied)
                except BaseException:
                    txn.abort()
                    raise
                await self._commit(sum([part.operations for part in parts]), txn, applied)
            except lmdb.Error as error:
                if not self._make_room(error):
                    await trio.sleep(RETRY_S)
            else:
                self._committed(applied)
                return

    def write_now(self, parts: Sequence[Slice], next_log_id: int, *, erase: int = 0) -> None:
        """The same on the spot, for the end. Raise lmdb.Error if there is no room."""
        while True:
            try:
                txn, applied = self.file.begin(), Applied()
                try:
                    for part in parts:
                        self.writer.apply(txn, part, next_log_id, applied)
                    self._erase(txn, erase, applied)
                except BaseException:
                    txn.abort()
                    raise
                self._timed_commit(txn)
            except lmdb.MapFullError as error:
                if not self._make_room(error):
                    raise
            else:
                self._committed(applied)
                return

    def _erase(self, txn: Txn, count: int, applied: Applied) -> None:
        if count and self.writer.garbage:
            self.writer.erase(txn, count, applied)

    async def _commit(self, operations: int, txn: Txn, applied: Applied) -> None:
        is_small = operations <= SMALL_OPERATIONS and applied.bytes <= SMALL_BYTES
        if not self._is_flushing or (is_small and self._small_seconds < SHORT_COMMIT_S):
            self._timed_commit(txn)
        else:
            # Reads come in meanwhile. A reader that began now would race with the commit for the meta page.
            self.snapshot = self.file.env.begin(buffers=True)
            try:
                with trio.CancelScope(shield=True):
                    await trio.to_thread.run_sync(self._timed_commit, txn, limiter=self._limiter)
            finally:
                self.snapshot.abort()
                self.snapshot = None
        if is_small:
            self._small_seconds += (self.last_seconds - self._small_seconds) / 8

    def _timed_commit(self, txn: Txn) -> None:
        began = time.perf_counter()
        txn.commit()
        self.last_seconds = time.perf_counter() - began

    def _committed(self, applied: Applied) -> None:
        self.writer.committed(applied)
        self.commit_count += 1
        self.commit_latency.add(self.last_seconds)
        self.file.touched(applied.bytes)
        if self.is_full:
            self.is_full = False
            log.warning("store=%s can be written again", self.file.path)

    def _make_room(self, error: lmdb.Error) -> bool:
        """The map is too small: let it grow. Everything else is the disk's: True if it is worth trying at once."""
        if isinstance(error, lmdb.MapFullError) and self.file.grow():
            return True
        if not self.is_full:
            self.is_full = True
            log.error("store=%s cannot be written, publishers wait: %s", self.file.path, error)
        return False

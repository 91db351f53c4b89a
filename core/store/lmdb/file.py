"""One LMDB file: opening it with a clear word when that fails, the growth of its map, the memory of its map."""

from __future__ import annotations

import ctypes
import logging
import os
import sys
from pathlib import Path

import lmdb

from leveret.core.errors import StoreUnavailable

__all__ = ["LmdbFile"]

log = logging.getLogger(__name__)

GiB = 1 << 30
RESIDENT_BYTES = 64 << 20  # of the map that may be in memory before it is given back
CHECK_BYTES = 4 << 20  # of reading and writing between two looks at that
TAIL_BYTES = 64 << 20  # unwritten free pages that may be missing at the end of a file after a crash
MADV_DONTNEED = 4  # Linux


class LmdbFile:
    """An environment without LMDB's own locks: one process, one write transaction at a time, and no reader that
    lives past the begin of the second write transaction after its own.

    map_limit: bytes that the map may grow to; None: as far as the address space goes.
    """

    def __init__(
        self,
        path: Path,
        databases: tuple[bytes, ...],
        *,
        map_size: int,
        sync: bool,
        map_limit: int | None = None,
    ) -> None:
        self.path = path
        self.map_size = map_size if map_limit is None else min(map_size, map_limit)
        self._names = databases
        self._sync = sync
        self._map_limit = map_limit
        self._traffic = 0
        self._map_range: tuple[int, int] | None = None
        self.databases: dict[bytes, lmdb._Database] = {}
        self.env = self._open()

    def _open(self) -> lmdb.Environment:
        """Raise StoreUnavailable."""
        while True:
            try:
                env = lmdb.open(
                    str(self.path), subdir=False, map_size=self.map_size, mode=0o600, max_dbs=len(self._names),
                    lock=False, readahead=True, meminit=False, sync=self._sync, metasync=self._sync,
                    max_spare_txns=2,
                )  # fmt: skip
                break
            except lmdb.MemoryError as error:
                # The address space is limited (ulimit -v): begin smaller, grow later.
                if self.map_size <= GiB:
                    raise StoreUnavailable(f"the store '{self.path}' cannot be mapped: {error}") from error
                self.map_size //= 2
            except lmdb.Error as error:
                raise StoreUnavailable(
                    f"the store '{self.path}' cannot be opened: {_reason(error)}"
                ) from error
        try:
            self._check_size(env)
            for name in self._names:
                self.databases[name] = env.open_db(name)
        except lmdb.Error as error:
            env.close()
            raise StoreUnavailable(f"the store '{self.path}' is damaged: {_reason(error)}") from error
        except BaseException:
            env.close()
            raise
        self._map_range = None
        return env

    def _check_size(self, env: lmdb.Environment) -> None:
        """A page of the map past the end of the file kills the process when it is touched (SIGBUS)."""
        needed = (env.info()["last_pgno"] + 1) * env.stat()["psize"]
        size = self.path.stat().st_size
        if size >= needed:
            return
        if needed - size > TAIL_BYTES:
            raise StoreUnavailable(
                f"the store '{self.path}' is damaged: {needed - size} bytes are missing at its end"
            )
        # Pages that were taken and freed within one transaction may lie there, never written.
        os.truncate(self.path, needed)

    def begin(self) -> lmdb.Transaction[memoryview]:
        """A write transaction. After a failure that left LMDB in doubt the file is opened anew: all that was
        committed is there."""
        try:
            return self.env.begin(write=True, buffers=True)
        except lmdb.PanicError:
            log.error("store=%s is opened anew after a failed write", self.path)
            self.env.close()
            self.env = self._open()
            return self.env.begin(write=True, buffers=True)

    def grow(self) -> bool:
        """Double the map; between transactions only. False: there is no more room."""
        size = self.map_size * 2
        if self._map_limit is not None:
            size = min(size, self._map_limit)
        if size <= self.map_size:
            return False
        try:
            self.env.set_mapsize(size)
        except lmdb.Error as error:
            log.error("store=%s map cannot grow to %d bytes: %s", self.path, size, error)
            return False
        self.map_size = size
        self._map_range = None
        return True

    def touched(self, size: int) -> None:
        """So many bytes were read or written: now and then the map's pages are given back.

        Pages of the map count as memory of this process though the system may take them any time; without this a
        long backlog looks like a leak, to users and to the memory alarm.
        """
        self._traffic += size
        if self._traffic >= CHECK_BYTES:
            self._traffic = 0
            self._give_back()

    def _give_back(self) -> None:
        if _madvise is None:
            return
        try:
            with open("/proc/self/statm", "rb") as file:
                resident = int(file.read().split()[2]) * _PAGE
            if resident < RESIDENT_BYTES:
                return
            if self._map_range is None:
                self._map_range = self._find_map()
        except (
            OSError,
            ValueError,
            IndexError,
        ):  # no /proc here: the system gives back what it needs by itself
            return
        start, end = self._map_range
        length = min(end - start, (self.path.stat().st_size + _PAGE - 1) // _PAGE * _PAGE)
        if length > 0:
            _madvise(start, length, MADV_DONTNEED)

    def _find_map(self) -> tuple[int, int]:
        inode = self.path.stat().st_ino
        with open("/proc/self/maps") as file:
            for line in file:
                fields = line.split(maxsplit=5)
                if len(fields) == 6 and int(fields[4]) == inode and fields[1].endswith("s"):
                    start, end = fields[0].split("-")
                    return int(start, 16), int(end, 16)
        return 0, 0

    @property
    def file_bytes(self) -> int:
        return self.path.stat().st_size

    def sync(self) -> None:
        self.env.sync(True)

    def close(self) -> None:
        self.env.close()


def _reason(error: lmdb.Error) -> str:
    """LMDB's words, without the path they begin with."""
    if isinstance(error, (lmdb.InvalidError, lmdb.CorruptedError, lmdb.PageNotFoundError)):
        return "it is damaged, or not a store"
    if isinstance(error, lmdb.VersionMismatchError):
        return "it was written by another version of LMDB"
    return str(error).rpartition(": ")[2]


def _find_madvise() -> ctypes._NamedFuncPointer | None:
    if not sys.platform.startswith("linux"):
        return None
    try:
        madvise = ctypes.CDLL(None, use_errno=True).madvise
    except (OSError, AttributeError):
        return None
    madvise.argtypes = (ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int)
    madvise.restype = ctypes.c_int
    return madvise


_madvise = _find_madvise()
_PAGE = os.sysconf("SC_PAGE_SIZE")

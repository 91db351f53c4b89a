"""The directory of a store, held by one process."""

from __future__ import annotations

import fcntl
import os
from pathlib import Path

from leveret.core.errors import StoreUnavailable

__all__ = ["DataDirectory"]


class DataDirectory:
    """Locked from `acquire` until `release`, or the end of the process however it comes."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._lock: int | None = None

    def file(self, name: str) -> Path:
        return self.path / name

    def acquire(self) -> None:
        """Raise StoreUnavailable: it cannot be made or written, or another process has it."""
        try:
            self.path.mkdir(mode=0o700, parents=True, exist_ok=True)
            lock = os.open(self.path / "store.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        except OSError as error:
            raise StoreUnavailable(
                f"the data directory '{self.path}' cannot be used: {error.strerror}"
            ) from error
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            holder = os.read(lock, 20).decode("ascii", "replace").strip() or "unknown"
            os.close(lock)
            raise StoreUnavailable(
                f"the data directory '{self.path}' is in use by another process (pid {holder})"
            ) from error
        os.ftruncate(lock, 0)
        os.pwrite(lock, f"{os.getpid()}\n".encode(), 0)
        self._lock = lock

    def release(self) -> None:
        """Harmless if it is not held. The file stays: removing it would race with the next process."""
        if self._lock is not None:
            os.close(self._lock)
            self._lock = None

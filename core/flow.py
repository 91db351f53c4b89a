"""Memory and disk alarms: while one is set, publishers are not read."""

from __future__ import annotations

import ctypes
import logging
import os
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import trio

if TYPE_CHECKING:
    from leveret.conf.settings import Settings
    from leveret.core.store.base import Store

__all__ = ["Flow", "free_disk_bytes", "give_back_memory", "resident_bytes", "total_memory_bytes"]

log = logging.getLogger(__name__)

CHECK_S = 1.0
PRESSURE = (
    0.5  # of the memory limit: from there on transient backlogs move to disk, well before anyone is blocked
)
DISK_NEAR_S, DISK_FAR_S = 0.1, 10.0
DISK_FILL_BYTES_S = 250_000_000  # RabbitMQ's assumption of how fast a disk can fill


def resident_bytes() -> int:
    """Anonymous and shared memory; the store's mapped file is page cache, which the kernel takes back at will."""
    total = 0
    try:
        for line in Path("/proc/self/status").read_text().splitlines():
            if line.startswith(("RssAnon:", "RssShmem:")):
                total += int(line.split()[1]) * 1024
    except OSError:  # no procfs: not Linux
        import resource

        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    return total


def total_memory_bytes() -> int:
    """What this process may have: the machine's memory, or its control group's limit if that is less."""
    total = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    for limit in ("/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory/memory.limit_in_bytes"):
        try:
            text = Path(limit).read_text().strip()
        except OSError:  # no such control group version
            continue
        if text.isdigit():
            total = min(total, int(text))
    return total


def free_disk_bytes(path: Path) -> int:
    found = os.statvfs(path)
    return found.f_bavail * found.f_frsize


def give_back_memory() -> None:
    """Have the C library return freed memory to the system, where it can (glibc keeps it otherwise)."""
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
    if trim is not None:
        trim(0)


class Flow:
    """Watches memory and disk. `is_blocking` is a plain attribute: readers of publishing connections look at it.

    The probes can be replaced, for tests.
    """

    def __init__(
        self,
        settings: Settings,
        store: Store,
        *,
        memory: Callable[[], int] = resident_bytes,
        disk: Callable[[Path], int] = free_disk_bytes,
    ) -> None:
        limits = settings.limits
        self._store = store
        self._data_dir = Path(settings.server.data_dir)
        self._memory, self._disk = memory, disk
        self.total_memory = total_memory_bytes()
        self.memory_limit = 0
        self.memory_used = 0
        self.disk_free = 0
        self.disk_free_limit = limits.disk_free_limit
        self.set_memory_watermark(limits.memory_high_watermark, limits.memory_absolute)
        self.is_blocking = False
        self.alarms: frozenset[str] = frozenset()
        self._listeners: list[Callable[[], None]] = []
        self._check_disk_at = 0.0
        self.relieve: Callable[[int], None] = lambda excess: None
        """Called with the bytes past half the memory limit: what can go to disk should."""

    @property
    def reason(self) -> str:
        """What connection.blocked says."""
        return " & ".join(f"low on {name}" for name in sorted(self.alarms, reverse=True))

    def on_change(self, listener: Callable[[], None]) -> Callable[[], None]:
        """Called after an alarm is set or cleared; returns the way to end that."""
        self._listeners.append(listener)

        def unsubscribe() -> None:
            self._listeners.remove(listener)

        return unsubscribe

    def set_memory_watermark(self, relative: float, absolute: int = 0) -> None:
        """Absolute bytes win over the share of all memory; a share of 0 blocks at once."""
        self.memory_limit = (
            min(absolute, self.total_memory) if absolute else int(relative * self.total_memory)
        )

    def set_disk_free_limit(self, limit: int) -> None:
        self.disk_free_limit = limit
        self._check_disk_at = 0.0

    def set_alarm(self, name: str) -> None:
        """name: "memory" or "disk"."""
        if name not in self.alarms:
            log.warning("alarm=%s set *** Publishers will be blocked until this alarm clears ***", name)
            self._change(self.alarms | {name})

    def clear_alarm(self, name: str) -> None:
        if name in self.alarms:
            log.warning("alarm=%s cleared", name)
            self._change(self.alarms - {name})

    def _change(self, alarms: frozenset[str]) -> None:
        self.alarms = alarms
        self.is_blocking = bool(alarms)
        for listener in list(self._listeners):
            listener()

    def check(self, now: float) -> None:
        """Look once."""
        self.memory_used = self._memory()
        (self.set_alarm if self.memory_used >= self.memory_limit else self.clear_alarm)("memory")
        if self.memory_used > self.memory_limit * PRESSURE:
            self.relieve(self.memory_used - int(self.memory_limit * PRESSURE))
        if now >= self._check_disk_at:
            try:
                self.disk_free = self._disk(self._data_dir)
            except OSError as error:
                log.error("the free disk space of %s cannot be read: %s", self._data_dir, error)
                self._check_disk_at = now + DISK_FAR_S
                return
            room = max(0, self.disk_free - self.disk_free_limit)
            self._check_disk_at = now + min(DISK_FAR_S, max(DISK_NEAR_S, room / DISK_FILL_BYTES_S))
        is_low = self.disk_free < self.disk_free_limit or self._store.is_full
        (self.set_alarm if is_low else self.clear_alarm)("disk")

    async def run(self) -> None:
        """Look once a second, or more often while the disk is near its limit, until cancelled."""
        while True:
            now = trio.current_time()
            self.check(now)
            await trio.sleep(max(DISK_NEAR_S, min(CHECK_S, self._check_disk_at - now)))

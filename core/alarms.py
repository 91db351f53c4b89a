"""Memory and disk alarms: while one is set, publishers are not read."""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Iterator
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING

import trio

if TYPE_CHECKING:
    from leveret.conf.settings import Settings
    from leveret.core.store.base import Store
__all__ = ["Alarms", "free_disk_bytes", "resident_bytes", "total_memory_bytes"]

log = logging.getLogger(__name__)

CHECK_S = 1.0
PRESSED_S = 0.1  # while backlogs are moving to disk, a slice at a time
PRESSURE = 0.5
"""Of the memory limit: from there on transient backlogs move to disk, well before anyone is blocked."""
DISK_NEAR_S, DISK_FAR_S = 0.1, 10.0
DISK_FILL_BYTES_S = 250_000_000  # RabbitMQ's assumption of how fast a disk can fill
ROOT = Path("/")


def resident_bytes(root: Path = ROOT) -> int:
    """Anonymous and shared memory; the store's mapped file is page cache, which the kernel takes back at will.

    0 where there is no procfs (not Linux): then there is no memory alarm. Raise OSError if it cannot be read now.
    """
    try:
        text = (root / "proc/self/status").read_text()
    except FileNotFoundError:
        return 0
    sizes = dict(line.split(":", 1) for line in text.splitlines() if line.startswith(("Rss", "VmRSS")))
    # A kernel that does not tell them apart (a sandbox's) leaves only the sum.
    names = ("RssAnon", "RssShmem") if "RssAnon" in sizes else ("VmRSS",)
    return sum(int(sizes[name].split()[0]) * 1024 for name in names if name in sizes)


def total_memory_bytes(root: Path = ROOT) -> int:
    """What this process may have: the machine's memory, or a control group's limit if that is less. 0: not known."""
    try:
        total = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (AttributeError, OSError, ValueError):  # not POSIX, or not told
        return 0
    return min([total, *_control_group_limits(root)])


def _control_group_limits(root: Path) -> Iterator[int]:
    """Of our group and those around it. In a container the path may be the host's; then the top is our own."""
    try:
        lines = (root / "proc/self/cgroup").read_text().splitlines()
    except OSError:  # not Linux
        return
    for line in lines:
        _, controllers, path = line.split(":", 2)
        if not controllers:  # version 2
            folder, name = root / "sys/fs/cgroup", "memory.max"
        elif "memory" in controllers.split(","):
            folder, name = root / "sys/fs/cgroup/memory", "memory.limit_in_bytes"
        else:
            continue
        group = PurePosixPath(path.strip("/"))
        for place in (group, *group.parents):
            try:
                limit = (folder / place / name).read_text().strip()
            except OSError:  # no limits here
                continue
            if limit.isdigit():  # or "max"
                yield int(limit)


def free_disk_bytes(path: Path) -> int:
    """Where `path` is, or will be. Raise OSError."""
    while not path.exists() and path != path.parent:
        path = path.parent
    found = os.statvfs(path)
    return found.f_bavail * found.f_frsize


class Alarms:
    """Watches memory and disk. `is_blocking` is a plain attribute: readers of publishing connections look at it.

    memory and disk are what is asked for bytes in use and bytes free; they, and total_memory, can be replaced.
    """

    def __init__(
        self,
        settings: Settings,
        store: Store,
        *,
        memory: Callable[[], int] = resident_bytes,
        disk: Callable[[Path], int] = free_disk_bytes,
        total_memory: int | None = None,
    ) -> None:
        limits = settings.limits
        self._store = store
        self._data_dir = Path(settings.server.data_dir)
        self._memory, self._disk = memory, disk
        self.total_memory = total_memory_bytes() if total_memory is None else total_memory
        self.memory_limit = self._watermark(limits.memory_high_watermark, limits.memory_absolute)
        self.memory_used = 0
        self.disk_free = 0
        self.disk_free_limit = limits.disk_free_limit
        self.is_blocking = False
        self.alarms: frozenset[str] = frozenset()
        self._listeners: dict[object, Callable[[], None]] = {}
        self._clear = trio.Event()
        self._clear.set()
        self._failing: set[str] = set()  # probes whose failure is in the log
        self._is_disk_known = False
        self._check_disk_at = 0.0
        self.relieve: Callable[[int], None] = lambda excess: None
        """Called with the bytes past half the memory limit: what can go to disk should."""

    @property
    def reason(self) -> str:
        """What connection.blocked says."""
        return " & ".join(f"low on {name}" for name in sorted(self.alarms, reverse=True))

    def on_change(self, listener: Callable[[], None]) -> Callable[[], None]:
        """Called after an alarm is set or cleared; returns what ends that."""
        token = object()  # every connection listens: leaving must not be a search
        self._listeners[token] = listener

        def unsubscribe() -> None:
            self._listeners.pop(token, None)

        return unsubscribe

    async def wait_clear(self) -> None:
        """Until no alarm is set."""
        while self.is_blocking:
            await self._clear.wait()

    # -- limits, at run time

    def _watermark(self, relative: float, absolute: int) -> int:
        if absolute:
            return min(absolute, self.total_memory) if self.total_memory else absolute
        return int(relative * self.total_memory)

    def set_memory_watermark(self, relative: float, absolute: int = 0) -> None:
        """Holds at once. Absolute bytes win over the share of all memory; a share of 0 blocks."""
        self.memory_limit = self._watermark(relative, absolute)
        self._check_memory()

    def set_disk_free_limit(self, limit: int) -> None:
        """Holds at once. Bytes."""
        self.disk_free_limit = limit
        self._check_disk_at = 0.0
        self._probe_disk()
        self._judge_disk()

    # -- alarms

    def set_alarm(self, name: str) -> None:
        """name: "memory" or "disk"."""
        if name not in self.alarms:
            log.warning(
                "alarm=%s set %s *** Publishers will be blocked until this alarm clears ***",
                name,
                self._numbers(name),
            )
            self._change(self.alarms | {name})

    def clear_alarm(self, name: str) -> None:
        if name in self.alarms:
            log.warning("alarm=%s cleared %s", name, self._numbers(name))
            self._change(self.alarms - {name})

    def _numbers(self, name: str) -> str:
        if name == "memory":
            return f"used={self.memory_used} watermark={self.memory_limit}"
        full = " store=full" if self._store.is_full else ""
        return f"free={self.disk_free} limit={self.disk_free_limit}{full}"

    def _change(self, alarms: frozenset[str]) -> None:
        was_blocking = self.is_blocking
        self.alarms = alarms
        self.is_blocking = bool(alarms)
        if self.is_blocking and not was_blocking:
            self._clear = trio.Event()
        elif not self.is_blocking:
            self._clear.set()
        for listener in list(self._listeners.values()):
            try:
                listener()
            except Exception:  # one connection's trouble must not keep the others from hearing
                log.exception("alarms=%s listener=%r failed", ",".join(sorted(alarms)), listener)

    # -- looking

    def check(self, now: float) -> None:
        """Look once. now: seconds, of whatever clock; the disk is looked at when it may have filled since."""
        self._check_memory()
        self._relieve_memory()
        if now >= self._check_disk_at:
            if self._probe_disk():
                room = max(0, self.disk_free - self.disk_free_limit)
                # Near the limit, often; once below it, no haste.
                pause = max(DISK_NEAR_S, room / DISK_FILL_BYTES_S) if room else CHECK_S
                self._check_disk_at = now + min(DISK_FAR_S, pause)
            else:
                self._check_disk_at = now + DISK_FAR_S
        self._judge_disk()

    def _check_memory(self) -> None:
        try:
            self.memory_used = self._memory()
        except OSError as error:  # no file descriptors left, perhaps: the last answer stands
            self._report("memory", error)
            return
        self._failing.discard("memory")
        (self.set_alarm if self.memory_used > self.memory_limit else self.clear_alarm)("memory")

    def _relieve_memory(self) -> None:
        excess = self.memory_used - int(self.memory_limit * PRESSURE)
        if excess > 0:
            try:
                self.relieve(excess)
            except Exception:  # the alarms must go on being looked at
                log.exception("memory could not be relieved")

    def _probe_disk(self) -> bool:
        """False: it could not be read; the last answer stands."""
        try:
            self.disk_free = self._disk(self._data_dir)
        except OSError as error:
            self._report("disk", error)
            return False
        self._failing.discard("disk")
        self._is_disk_known = True
        return True

    def _judge_disk(self) -> None:
        is_low = self._is_disk_known and self.disk_free < self.disk_free_limit
        (self.set_alarm if is_low or self._store.is_full else self.clear_alarm)("disk")

    def _report(self, probe: str, error: OSError) -> None:
        if probe not in self._failing:
            self._failing.add(probe)
            log.error("how much %s there is cannot be read; trying on: %s", probe, error)

    async def run(self) -> None:
        """Look once a second, or more often while the disk is near its limit, until cancelled."""
        while True:
            now = trio.current_time()
            self.check(now)
            is_pressed = self.memory_used > self.memory_limit * PRESSURE
            pause = PRESSED_S if is_pressed else CHECK_S
            await trio.sleep(max(DISK_NEAR_S, min(pause, self._check_disk_at - now)))

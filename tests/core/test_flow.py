"""Memory and disk alarms: features/storage-limits 7a."""

from __future__ import annotations

import logging
import os
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import trio
import trio.testing

from leveret.conf.settings import Limits, Server, Settings
from leveret.core.alarms import (
    DISK_FAR_S,
    Alarms,
    free_disk_bytes,
    resident_bytes,
    total_memory_bytes,
)

GB = 10**9
BANNER = "*** Publishers will be blocked until this alarm clears ***"


class Machine:
    """What the probes find. An OSError is raised."""

    def __init__(self) -> None:
        self.used: int | OSError = GB
        self.free: int | OSError = 100 * GB
        self.store = SimpleNamespace(is_full=False)
        self.memory_looks: list[float] = []
        self.disk_looks: list[float] = []

    def memory(self) -> int:
        self.memory_looks.append(trio.current_time())
        return found(self.used)

    def disk(self, path: Path) -> int:
        self.disk_looks.append(trio.current_time())
        return found(self.free)

    def flow(self, data_dir: Path = Path("/nowhere"), **limits: Any) -> Alarms:
        settings = Settings(server=Server(data_dir=data_dir), limits=Limits(**limits))
        return Alarms(
            settings, self.store, memory=self.memory, disk=self.disk, total_memory=10 * GB
        )  # fmt: skip


def found(value: int | OSError) -> int:
    if isinstance(value, OSError):
        raise value
    return value


@pytest.fixture
def machine() -> Machine:
    return Machine()


# -- memory


async def test_the_memory_watermark(machine: Machine) -> None:
    flow = machine.flow()
    assert flow.memory_limit == 6 * GB
    for used, is_blocking in (
        (GB, False),
        (6 * GB, False),
        (6 * GB + 1, True),
        (9 * GB, True),
        (6 * GB, False),
    ):
        machine.used = used
        flow.check(0.0)
        assert flow.is_blocking is is_blocking
        assert flow.alarms == ({"memory"} if is_blocking else frozenset())
        assert flow.memory_used == used


async def test_an_absolute_watermark_wins_and_is_clipped(machine: Machine) -> None:
    assert machine.flow(memory_absolute=2 * GB).memory_limit == 2 * GB
    assert machine.flow(memory_absolute=20 * GB).memory_limit == 10 * GB
    assert machine.flow(memory_absolute=0, memory_high_watermark=0.5).memory_limit == 5 * GB


async def test_where_the_total_is_not_known() -> None:
    settings = Settings(limits=Limits(memory_absolute=2 * GB))
    flow = Alarms(settings, SimpleNamespace(is_full=False), memory=lambda: 0, total_memory=0)
    assert flow.memory_limit == 2 * GB
    flow.set_memory_watermark(0.6)
    assert not flow.is_blocking  # where it cannot be measured there is no alarm


async def test_watermarks_at_run_time_hold_at_once(machine: Machine) -> None:
    flow = machine.flow()
    flow.set_memory_watermark(0)  # as tests do
    assert flow.reason == "low on memory"
    flow.set_memory_watermark(0.6)
    assert not flow.is_blocking
    flow.set_memory_watermark(0.6, GB - 1)
    assert flow.is_blocking
    flow.set_memory_watermark(0.1)
    assert not flow.is_blocking


async def test_relief_is_asked_for_well_before_the_alarm(machine: Machine) -> None:
    flow, asked = machine.flow(), list[int]()
    flow.relieve = asked.append
    machine.used = 3 * GB
    flow.check(0.0)
    assert asked == []
    machine.used = 4 * GB
    flow.check(1.0)
    assert (asked, flow.is_blocking) == ([GB], False)


async def test_relief_that_fails_leaves_the_alarms(
    machine: Machine, caplog: pytest.LogCaptureFixture
) -> None:
    def fail(excess: int) -> None:
        raise RuntimeError("cannot")

    flow = machine.flow()
    flow.relieve = fail
    machine.used, machine.free = 9 * GB, 0
    flow.check(0.0)
    assert flow.alarms == {"memory", "disk"}
    assert "memory could not be relieved" in caplog.text


# -- disk


async def test_the_disk_limit(machine: Machine) -> None:
    flow = machine.flow()
    assert flow.disk_free_limit == 50_000_000
    for now, (free, is_blocking) in enumerate(
        ((GB, False), (50_000_000, False), (49_999_999, True), (0, True), (50_000_000, False))
    ):
        machine.free = free
        flow.check(now * DISK_FAR_S)
        assert (flow.is_blocking, flow.disk_free) == (is_blocking, free)
        assert flow.alarms == ({"disk"} if is_blocking else frozenset())


async def test_a_limit_at_run_time_holds_at_once(machine: Machine) -> None:
    flow = machine.flow()
    flow.set_disk_free_limit(2**60)
    assert flow.reason == "low on disk"
    flow.set_disk_free_limit(0)
    assert not flow.is_blocking


async def test_a_full_store_is_a_full_disk(machine: Machine) -> None:
    flow = machine.flow()
    flow.check(0.0)
    machine.store.is_full = True
    flow.check(1.0)  # long before the disk is looked at again
    assert flow.reason == "low on disk"
    flow.set_disk_free_limit(1)
    assert flow.is_blocking
    machine.store.is_full = False
    flow.check(2.0)
    assert not flow.is_blocking


@pytest.mark.parametrize(
    ("room", "pause"),
    [
        (100 * GB, 10.0),
        (2_500_000_000, 10.0),
        (1_250_000_000, 5.0),
        (250_000_000, 1.0),
        (100_000_000, 0.4),
        (25_000_000, 0.1),
        (1, 0.1),
        (0, 1.0),
        (-1, 1.0),
        (-40_000_000, 1.0),
    ],
)
async def test_how_often_the_disk_is_looked_at(
    machine: Machine, autojump_clock: trio.testing.MockClock, room: int, pause: float
) -> None:
    flow = machine.flow()
    machine.free = flow.disk_free_limit + room
    started = trio.current_time()
    with trio.move_on_after(21.0):
        await flow.run()
    looks = [look - started for look in machine.disk_looks]
    assert looks[:3] == pytest.approx([0, pause, 2 * pause], abs=0.06)
    assert max(b - a for a, b in pairwise(looks)) < pause + 0.06


async def test_memory_is_looked_at_every_second(
    machine: Machine, autojump_clock: trio.testing.MockClock
) -> None:
    flow = machine.flow()
    started = trio.current_time()
    with trio.move_on_after(4.5):
        await flow.run()
    assert [look - started for look in machine.memory_looks] == pytest.approx([0, 1, 2, 3, 4])


async def test_while_memory_is_short_relief_comes_in_quick_slices(
    machine: Machine, autojump_clock: trio.testing.MockClock
) -> None:
    def relieve(excess: int) -> None:
        machine.used = found(machine.used) - GB // 10

    flow = machine.flow()
    flow.relieve = relieve
    machine.used = 4 * GB  # of 6; relief begins at 3
    started = trio.current_time()
    with trio.move_on_after(1.5):
        await flow.run()
    assert flow.memory_used == machine.used == 3 * GB
    assert [look - started for look in machine.memory_looks[:3]] == pytest.approx([0, 0.1, 0.2])
    assert not flow.is_blocking


async def test_alarms_come_and_go_while_it_runs(
    machine: Machine, autojump_clock: trio.testing.MockClock
) -> None:
    flow = machine.flow()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(flow.run)
        await trio.sleep(0.5)
        machine.used = 9 * GB
        await trio.sleep(1.0)
        assert flow.is_blocking
        with trio.fail_after(1.1):
            machine.used = GB
            await flow.wait_clear()
        machine.free = 0
        await trio.sleep(DISK_FAR_S)
        assert flow.is_blocking
        machine.free = GB
        with trio.fail_after(1.1):  # once it is low, there is no waiting for ten seconds
            await flow.wait_clear()
        nursery.cancel_scope.cancel()


# -- probes that fail


async def test_a_disk_that_cannot_be_read(machine: Machine, caplog: pytest.LogCaptureFixture) -> None:
    machine.free = OSError("stale handle")
    flow = machine.flow()
    for now in range(60):
        flow.check(float(now))
    assert not flow.is_blocking  # nothing is known
    assert caplog.text.count("cannot be read") == 1
    assert len(machine.disk_looks) == 6
    machine.free = 0
    flow.check(60.0)
    assert flow.is_blocking
    machine.free = OSError("stale handle")
    flow.check(70.0)
    assert flow.is_blocking  # the last answer stands
    assert caplog.text.count("cannot be read") == 2
    machine.store.is_full, machine.free = True, GB
    flow.check(80.0)
    assert flow.alarms == {"disk"}


async def test_memory_that_cannot_be_read(machine: Machine, caplog: pytest.LogCaptureFixture) -> None:
    flow = machine.flow()
    machine.used = 9 * GB
    flow.check(0.0)
    machine.used = OSError(24, "Too many open files")
    for now in range(1, 10):
        flow.check(float(now))
    assert flow.alarms == {"memory"}
    assert caplog.text.count("cannot be read") == 1


# -- both, and who hears of it


async def test_all_must_clear(machine: Machine) -> None:
    flow = machine.flow()
    heard: list[str] = []
    flow.on_change(lambda: heard.append(flow.reason))
    flow.set_alarm("disk")
    flow.set_alarm("memory")
    flow.set_alarm("memory")
    assert flow.is_blocking
    flow.clear_alarm("disk")
    assert flow.is_blocking
    flow.clear_alarm("memory")
    flow.clear_alarm("memory")
    assert not flow.is_blocking
    assert heard == ["low on disk", "low on memory & low on disk", "low on memory", ""]


async def test_what_is_logged(machine: Machine, caplog: pytest.LogCaptureFixture) -> None:
    flow = machine.flow()
    machine.used, machine.free, machine.store.is_full = 9 * GB, 7, True
    flow.check(0.0)
    flow.check(1.0)
    machine.used, machine.free, machine.store.is_full = GB, GB, False
    flow.check(2.0)
    assert [(record.levelname, record.getMessage()) for record in caplog.records] == [
        ("WARNING", f"alarm=memory set used=9000000000 watermark=6000000000 {BANNER}"),
        ("WARNING", f"alarm=disk set free=7 limit=50000000 store=full {BANNER}"),
        ("WARNING", "alarm=memory cleared used=1000000000 watermark=6000000000"),
        ("WARNING", "alarm=disk cleared free=1000000000 limit=50000000"),
    ]


async def test_listeners_leave_and_fail_alone(machine: Machine, caplog: pytest.LogCaptureFixture) -> None:
    flow = machine.flow()
    heard: list[str] = []

    def fail() -> None:
        raise RuntimeError("cannot")

    def leave() -> None:
        heard.append("leaves")
        stop()

    flow.on_change(fail)
    stop = flow.on_change(leave)
    flow.on_change(lambda: heard.append("stays"))
    flow.set_alarm("memory")
    flow.clear_alarm("memory")
    stop()
    assert heard == ["leaves", "stays", "stays"]
    assert caplog.text.count(" failed\n") == 2


async def test_waiting_until_it_is_clear(machine: Machine) -> None:
    flow = machine.flow()
    done: list[str] = []

    async def wait() -> None:
        await flow.wait_clear()
        done.append(flow.reason)

    await wait()  # nothing to wait for
    flow.set_alarm("memory")
    async with trio.open_nursery() as nursery:
        nursery.start_soon(wait)
        nursery.start_soon(wait)
        await trio.testing.wait_all_tasks_blocked()
        flow.set_alarm("disk")
        flow.clear_alarm("memory")
        await trio.testing.wait_all_tasks_blocked()
        flow.clear_alarm("disk")
        flow.set_alarm("memory")  # again, before they had their turn
        await trio.testing.wait_all_tasks_blocked()
        assert done == [""]
        flow.clear_alarm("memory")
    assert done == ["", "", ""]


# -- the probes


Write = Callable[[str, str], None]


@pytest.fixture
def write(tmp_path: Path) -> Write:
    """Puts a file under what stands for the root."""

    def write(name: str, text: str) -> None:
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text)

    return write


STATUS = (
    "Name:\tx\nVmRSS:\t  900 kB\nRssAnon:\t  100 kB\nRssFile:\t  780 kB\nRssShmem:\t   20 kB\nThreads:\t1\n"
)


def test_mapped_files_do_not_count(tmp_path: Path, write: Write) -> None:
    write("proc/self/status", STATUS)
    assert resident_bytes(tmp_path) == 120 * 1024


def test_a_kernel_that_knows_only_the_sum(tmp_path: Path, write: Write) -> None:
    write("proc/self/status", "Name:\tx\nVmRSS:\t  900 kB\nThreads:\t1\n")
    assert resident_bytes(tmp_path) == 900 * 1024


def test_no_procfs(tmp_path: Path) -> None:
    assert resident_bytes(tmp_path) == 0
    assert total_memory_bytes(tmp_path) == os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")


def test_the_real_numbers(tmp_path: Path) -> None:
    before = resident_bytes()
    assert 1 << 20 < before < total_memory_bytes() <= os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    ballast = bytearray(b"x") * (64 << 20)
    assert resident_bytes() - before > 48 << 20
    del ballast
    assert free_disk_bytes(tmp_path) > 0


MiB = 1 << 20
V2, V1 = "sys/fs/cgroup", "sys/fs/cgroup/memory"


@pytest.mark.parametrize(
    ("groups", "files", "expected"),
    [
        ("0::/\n", {f"{V2}/memory.max": f"{4 * MiB}\n"}, 4 * MiB),
        ("0::/a/b\n", {f"{V2}/a/b/memory.max": f"{4 * MiB}\n", f"{V2}/a/memory.max": "max\n"}, 4 * MiB),
        ("0::/a/b\n", {f"{V2}/a/b/memory.max": "max\n", f"{V2}/a/memory.max": f"{2 * MiB}\n"}, 2 * MiB),
        ("0::/host/path\n", {f"{V2}/memory.max": f"{4 * MiB}\n"}, 4 * MiB),  # in a container
        ("0::/../..\n", {f"{V2}/memory.max": f"{4 * MiB}\n"}, 4 * MiB),
        ("0::/a:b\n", {f"{V2}/a:b/memory.max": f"{4 * MiB}\n"}, 4 * MiB),
        ("0::/\n", {f"{V2}/memory.max": "max\n"}, None),
        ("0::/\n", {}, None),
        (
            "9:cpu:/x\n4:hugetlb,memory:/a\n0::/\n",
            {
                f"{V1}/a/memory.limit_in_bytes": f"{3 * MiB}\n",
                f"{V1}/memory.limit_in_bytes": "9223372036854771712",
            },
            3 * MiB,
        ),
        ("4:memory:/\n", {f"{V1}/memory.limit_in_bytes": "9223372036854771712\n"}, None),
    ],
)
def test_control_groups(
    tmp_path: Path, write: Write, groups: str, files: dict[str, str], expected: int | None
) -> None:
    write("proc/self/cgroup", groups)
    for name, text in files.items():
        write(name, text)
    assert total_memory_bytes(tmp_path) == (expected or total_memory_bytes(tmp_path / "nothing"))


def test_a_directory_that_is_not_there_yet(tmp_path: Path) -> None:
    assert free_disk_bytes(tmp_path / "not" / "yet") > 0


async def test_with_the_real_probes(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    settings = Settings(server=Server(data_dir=tmp_path / "data"), limits=Limits(disk_free_limit=1))
    flow = Alarms(settings, SimpleNamespace(is_full=False))
    with caplog.at_level(logging.INFO):
        flow.check(0.0)
    assert (flow.alarms, caplog.records) == (frozenset(), [])
    assert flow.memory_used > 1 << 20
    assert flow.disk_free > 1

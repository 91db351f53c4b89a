"""The store alone: messages a second, one number a line. Usage: python bench/store_bench.py [--backlog N] [--dir PATH]

Each batch waits for its commit, as publishers with confirms do; "cycle" also discards as many as it appends.
With --backlog: N messages of 1 KiB are appended, reopened, read and discarded; memory and times are printed.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import trio

from leveret.core.store.checks import committed, make_messages, running
from leveret.core.store.lmdb.store import LmdbStore

SECONDS = 2.0
BODY = b"x" * 1024


@dataclass(frozen=True)
class Settings:
    durability: str = "flush"
    map_size: int = 1 << 40


def show(name: str, value: float, unit: str) -> None:
    print(f"{name:<36}{value:>12,.1f} {unit}", flush=True)


def memory_mib() -> tuple[float, float]:
    """Resident, and the part of it that is mapped files."""
    with open("/proc/self/status") as file:
        fields = dict(line.split(":", 1) for line in file)
    return int(fields["VmRSS"].split()[0]) / 1024, int(fields["RssFile"].split()[0]) / 1024


@contextmanager
def timed(name: str, count: int) -> Iterator[None]:
    began = time.perf_counter()
    yield
    seconds = time.perf_counter() - began
    show(name, count / seconds, "/s")
    show(f"{name}, time", seconds, "s")


async def batches(make: Callable[[], LmdbStore], size: int, body: bytes, *, window: int) -> float:
    """Appends a batch, discards the one `window` messages back, waits for the commit; messages a second."""
    async with running(make()) as store:
        log = store.create_log()
        count, pending = 0, []
        began = time.perf_counter()
        while time.perf_counter() - began < SECONDS:
            batch = make_messages(count, [body] * size)
            count += size
            log.append(batch)
            if window:
                pending.append(batch)
                if len(pending) * size > window:
                    log.discard(pending.pop(0))
            await committed(store)
        return count / (time.perf_counter() - began)


async def pipeline(make: Callable[[], LmdbStore], size: int, body: bytes) -> float:
    """The same, with four publishers that each wait for their own batch."""
    count = 0
    async with running(make()) as store:
        log = store.create_log()

        async def publisher() -> None:
            nonlocal count
            pending = []
            while time.perf_counter() - began < SECONDS:
                batch = make_messages(count, [body] * size)
                count += size
                log.append(batch)
                pending.append(batch)
                if len(pending) > 10:
                    log.discard(pending.pop(0))
                await committed(store)

        began = time.perf_counter()
        async with trio.open_nursery() as nursery:
            for _ in range(4):
                nursery.start_soon(publisher)
        return count / (time.perf_counter() - began)


async def ready(make: Callable[[], LmdbStore], count: int) -> None:
    async with running(make()) as store:
        log = store.create_log()
        with timed("backlog append", count):
            for position in range(0, count, 500):
                log.append(make_messages(position, [BODY] * 500))
                while store.pending_bytes > 16 << 20:
                    await committed(store)
                await trio.lowlevel.checkpoint()
            await committed(store)
        resident, mapped = memory_mib()
        show("memory after append", resident, "MiB")
        show("memory after append, mapped", mapped, "MiB")
        show("file", store.statistics()["file_bytes"] / (1 << 20), "MiB")
    store = make()
    with timed("reopen", 1):
        store.open()
    log = store.open_log(log.id)
    assert log.count == count
    store.close()
    peak = 0.0
    async with running(make()) as store:
        log = store.open_log(log.id)
        with timed("backlog read", count):
            position = read = 0
            while found := log.read(position, 2048, 16 << 20):
                position = found[-1].position + 1
                read += len(found)
                peak = max(peak, memory_mib()[0])
            assert read == count
        show("memory while reading, peak", peak, "MiB")
        peak, position = 0.0, 0
        with timed("backlog read and discard", count):
            while found := log.read(position, 2048, 16 << 20):
                position = found[-1].position + 1
                messages = make_messages(found[0].position, [message.body for message in found])
                for message in messages:
                    message.is_stored = True
                log.discard(messages)
                while store.pending_bytes > 4 << 20:
                    await committed(store)
                await trio.lowlevel.checkpoint()
                peak = max(peak, memory_mib()[0])
            await committed(store)
        show("memory while discarding, peak", peak, "MiB")
        assert (log.count, log.bytes) == (0, 0)


async def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--backlog", type=int, default=0)
    parser.add_argument("--dir", type=Path, default=None)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(dir=options.dir) as root:
        number = 0

        def make(durability: str = "flush") -> LmdbStore:
            return LmdbStore(Path(root) / str(number), Settings(durability))

        if options.ready:
            await ready(make, options.ready)
            return
        for size in (1, 20, 200, 2000):
            number += 1
            show(f"append, batches of {size}", await batches(make, size, BODY, window=0), "msg/s")
        for size in (1, 20, 200, 2000):
            number += 1
            show(f"cycle, batches of {size}", await batches(make, size, BODY, window=20_000), "msg/s")
        for size in (20, 200):
            number += 1
            show(f"cycle, 4 publishers, batches of {size}", await pipeline(make, size, BODY), "msg/s")
        number += 1
        show(
            "cycle, batches of 200, os", await batches(lambda: make("os"), 200, BODY, window=20_000), "msg/s"
        )
        number += 1
        show("cycle, batches of 20, 64 KiB", await batches(make, 20, b"x" * 65536, window=1000), "msg/s")


if __name__ == "__main__":
    trio.run(main)

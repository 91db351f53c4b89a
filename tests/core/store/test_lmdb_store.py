"""What is the LMDB store's own: its files, its growth, full disks, and commits beside reads."""

from __future__ import annotations

import gc
import os
import random
import resource
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest
import trio

from leveret.core.errors import StoreUnavailable
from leveret.core.message import Message
from leveret.core.store.checks import committed, make_messages, running
from leveret.core.store.lmdb import committer, file
from leveret.core.store.lmdb import group as group_module
from leveret.core.store.lmdb.store import LmdbStore
from leveret.core.store.lmdb.writer import COUNTER


@dataclass(frozen=True)
class Settings:
    durability: str = "flush"
    map_size: int = 1 << 40


def entries(store: LmdbStore, name: bytes = b"messages") -> int:
    """In the file, not in the live view."""
    with store._file.env.begin() as txn:
        return int(txn.stat(store._file.databases[name])["entries"])


async def idle(store: LmdbStore) -> None:
    while store.has_pending or store._writer.garbage or store.spill_file.has_garbage:  # noqa: ASYNC110
        await trio.sleep(0.005)


# -- opening


def test_second_process_gets_one_clear_sentence(tmp_path: Path) -> None:
    first = LmdbStore(tmp_path, Settings())
    first.open()
    with pytest.raises(StoreUnavailable, match=rf"in use by another process \(pid {os.getpid()}\)$"):
        LmdbStore(tmp_path, Settings()).open()
    first.close()
    first.close()
    again = LmdbStore(tmp_path, Settings())
    again.open()
    assert again.was_clean
    again.close()


def test_directory_that_cannot_be_made(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(StoreUnavailable, match="cannot be used: Not a directory"):
        LmdbStore(tmp_path / "file" / "data", Settings()).open()


def test_newer_format(tmp_path: Path) -> None:
    store = LmdbStore(tmp_path, Settings())
    store.open()
    with store._file.begin() as txn:
        txn.put(b"format", COUNTER.pack(2), db=store._file.databases[b"info"])
    store.abandon()
    with pytest.raises(StoreUnavailable, match=r"has format 2, and this version of Leveret reads format 1"):
        LmdbStore(tmp_path, Settings()).open()


@pytest.mark.parametrize("damage", ["noise", "text", "short", "zeroed"])
def test_damaged_file(tmp_path: Path, damage: str) -> None:
    store = LmdbStore(tmp_path, Settings())
    store.open()
    log = store.create_log()
    for number in range(1000):
        store.put_definition(b"key %d" % number, b"x" * 100)
    log.append(make_messages(1, [b"x" * 3000] * 100))
    store.close()
    path = tmp_path / "messages.mdb"
    content = path.read_bytes()
    if damage == "noise":
        content = random.Random(1).randbytes(len(content))
    elif damage == "text":
        content = b"this is not a store\n" * 10
    elif damage == "short":
        content = content[: 3 * 4096]
    else:
        content = content[: 2 * 4096] + bytes(len(content) - 2 * 4096)
    path.write_bytes(content)
    with pytest.raises(StoreUnavailable, match=r"^the store '.*messages.mdb' (cannot be|is damaged)"):
        LmdbStore(tmp_path, Settings()).open()
    with pytest.raises(StoreUnavailable, match=r"^the store"):  # and the lock was released
        LmdbStore(tmp_path, Settings()).open()


def test_file_that_ends_far_too_early(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(file, "TAIL_BYTES", 4096)
    store = LmdbStore(tmp_path, Settings())
    store.open()
    store.create_log().append(make_messages(1, [b"x" * 3000] * 100))
    store.close()
    os.truncate(tmp_path / "messages.mdb", 20 * 4096)
    with pytest.raises(StoreUnavailable, match=r"bytes are missing at its end$"):
        LmdbStore(tmp_path, Settings()).open()


async def test_unwritten_free_pages_may_be_missing_at_the_end(tmp_path: Path) -> None:
    async with running(LmdbStore(tmp_path, Settings())) as store:
        log = store.create_log()
        messages = make_messages(1, [b"x" * 3000] * 100)
        log.append(messages)
        await committed(store)
        log.discard(messages)
        await committed(store)
    path = tmp_path / "messages.mdb"
    os.truncate(path, path.stat().st_size - 4096)
    async with running(LmdbStore(tmp_path, Settings())) as store:
        assert store.open_log(log.id).count == 0


def test_without_a_run_task_close_writes_everything(tmp_path: Path) -> None:
    store = LmdbStore(tmp_path, Settings())
    store.open()
    log = store.create_log()
    log.append(make_messages(1, [b"x"] * 10))
    called: list[int] = []
    assert not store.after_commit(lambda: called.append(1))
    store.close()
    assert called == [1]
    store.open()
    assert store.open_log(log.id).count == 10
    store.close()


# -- groups


async def test_what_is_settled_early_never_reaches_the_file(tmp_path: Path) -> None:
    async with running(LmdbStore(tmp_path, Settings())) as store:
        log = store.create_log()
        await committed(store)
        commits = store.statistics()["commits"]
        for first in range(1, 1000, 100):
            messages = make_messages(first, [b"x"] * 100)
            log.append(messages)
            log.discard(messages)
        await committed(store)
        assert store.statistics()["commits"] == commits
        messages = make_messages(1001, [b"x"] * 100)
        log.append(messages)
        log.discard(messages[1:])
        await committed(store)
        assert entries(store) == 1
        brief = store.create_log()
        brief.append(make_messages(1, [b"y"]))
        store.drop_log(brief)
        await committed(store)
        assert (entries(store), entries(store, b"logs")) == (1, 1)


async def test_groups_are_cut_to_slices_with_deletes_last(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(group_module, "SLICE_OPERATIONS", 10)
    store = LmdbStore(tmp_path, Settings())
    async with running(store):
        source, target = store.create_log(), store.create_log()
        messages = make_messages(1, [b"x"] * 35)
        source.append(messages)
        await committed(store)
        target.append(make_messages(1, [b"x"] * 35))
        source.discard(messages)
        parts = list(group_module.slices(store.group, set()))
        assert max([part.operations for part in parts]) <= 10
        kinds = [(bool(part.puts), bool(part.deletes)) for part in parts]
        assert kinds.index((False, True)) > max(index for index, kind in enumerate(kinds) if kind[0])
        await committed(store)
        assert (source.count, target.count, entries(store)) == (0, 35, 35)


async def test_large_bodies_are_stored_once(tmp_path: Path) -> None:
    async with running(LmdbStore(tmp_path, Settings())) as store:
        body = b"x" * 1_000_000
        logs = [store.create_log() for _ in range(20)]
        for log in logs:
            log.append(make_messages(1, [body]))
        await committed(store)
        assert store.statistics()["file_bytes"] < 2_000_000
        assert (entries(store, b"bodies"), entries(store, b"references")) == (1, 1)
        found = [log.read(1, 1, 1)[0] for log in logs]
        assert all(message.body == body for message in found)
        for log in logs:
            store.drop_log(log)
        await committed(store)
        await idle(store)
        assert [entries(store, name) for name in (b"bodies", b"references", b"messages", b"garbage")] == [
            0
        ] * 4


async def test_garbage_is_erased_in_slices(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("leveret.core.store.lmdb.store.ERASE_ALONE", 50)
    async with running(LmdbStore(tmp_path, Settings())) as store:
        purged, dropped = store.create_log(), store.create_log()
        for log in (purged, dropped):
            log.append(make_messages(1, [b"x"] * 500))
        await committed(store)
        purged.truncate(101)
        store.drop_log(dropped)
        await committed(store)
        assert entries(store) > 100
    store = LmdbStore(tmp_path, Settings())  # what was left is erased by the next process
    async with running(store):
        assert store.open_log(purged.id).count == 100
        await idle(store)
        assert (entries(store), entries(store, b"garbage")) == (100, 0)
        assert [message.position for message in store.open_log(purged.id).read(99, 9, 9)] == [99, 100]


async def test_a_callback_that_fails_stops_nothing(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    async with running(LmdbStore(tmp_path, Settings())) as store:
        store.create_log()
        store.after_commit(lambda: 1 // 0)  # type: ignore[arg-type]
        await committed(store)
        store.create_log()
        await committed(store)
    assert "after a commit failed" in caplog.text


@pytest.mark.parametrize("short_commit_s", [0.0, 1000.0], ids=["in a worker", "on the loop"])
async def test_reads_beside_commits(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, short_commit_s: float
) -> None:
    """A reader sees every live message exactly once, whatever is being written just then."""
    monkeypatch.setattr(committer, "SHORT_COMMIT_S", short_commit_s)
    monkeypatch.setattr(committer, "SMALL_OPERATIONS", 1 << 30)
    monkeypatch.setattr(committer, "SMALL_BYTES", 1 << 30)
    monkeypatch.setattr(group_module, "SLICE_OPERATIONS", 100)
    rng = random.Random(7)
    store = LmdbStore(tmp_path, Settings("flush", 1 << 20))
    reads_in_flight = 0
    async with running(store):
        log = store.create_log()
        live: dict[int, Message] = {}
        position = 1
        for _ in range(400):
            size = rng.choice((1, 10, 300))
            messages = make_messages(position, [b"%d" % p * 20 for p in range(position, position + size)])
            position += size
            log.append(messages)
            live.update({message.position: message for message in messages})
            gone = [
                message for message in list(live.values())[: rng.randint(0, size + 1)] if rng.random() < 0.9
            ]
            log.discard(gone)
            for message in gone:
                del live[message.position]
            for _ in range(rng.randint(0, 3)):
                reads_in_flight += store._committer.snapshot is not None
                start = rng.randint(0, position)
                found = log.read(start, 50, 100_000)
                expected = [p for p in sorted(live) if p >= start]
                assert [message.position for message in found] == expected[: len(found)]
                assert bool(found) == bool(expected)
                assert all(message.body == b"%d" % message.position * 20 for message in found)
                await trio.lowlevel.checkpoint()
            if rng.random() < 0.1:
                await committed(store)
            if rng.random() < 0.02:
                log.truncate(0)
                live.clear()
        assert log.count == len(live)
    assert (reads_in_flight > 0) == (short_commit_s == 0.0)
    async with running(LmdbStore(tmp_path, Settings())) as store:
        log = store.open_log(log.id)
        assert log.count == len(live)
        assert [message.position for message in log.read(0, position, 1 << 30)] == sorted(live)


async def test_a_crash_leaves_a_group_whole_or_not_at_all(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """However many slices it has: an id that was seen stands exactly where its message does."""
    monkeypatch.setattr(group_module, "SLICE_OPERATIONS", 10)
    seen = set()
    for steps in range(0, 40, 2):
        path = tmp_path / str(steps)
        async with running(LmdbStore(path, Settings())) as store:
            log_id = store.create_log().id
        store = LmdbStore(path, Settings())
        store.open()
        async with trio.open_nursery() as nursery:
            await nursery.start(store.run)
            store.put_definition(b"seen", b"1")
            store.open_log(log_id).append(make_messages(1, [b"x"] * 95))
            for _ in range(steps):
                await trio.lowlevel.checkpoint()
            store.abandon()
            nursery.cancel_scope.cancel()
        async with running(LmdbStore(path, Settings())) as store:
            found = len(dict(store.definitions(b"seen"))), store.open_log(log_id).count
        assert found in ((0, 0), (1, 95))
        seen.add(found)
    assert len(seen) == 2, "the crashes were all before or all behind the commit"


async def test_a_huge_group_takes_several_transactions(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(group_module, "SLICE_BYTES", 10_000)
    monkeypatch.setattr(group_module, "TRANSACTION_BYTES", 50_000)
    async with running(LmdbStore(tmp_path, Settings())) as store:
        log = store.create_log()
        await committed(store)
        before = store.statistics()["commits"]
        log.append(make_messages(1, [b"x" * 1000] * 200))
        await committed(store)
        assert store.statistics()["commits"] == before + 4
        assert log.count == 200


async def test_cancelled_in_the_middle_of_a_group(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(committer, "SHORT_COMMIT_S", 0.0)
    monkeypatch.setattr(group_module, "SLICE_OPERATIONS", 10)
    for steps in range(0, 40, 3):
        store = LmdbStore(tmp_path / str(steps), Settings())
        store.open()
        called: list[int] = []
        async with trio.open_nursery() as nursery:
            await nursery.start(store.run)
            log = store.create_log()
            log.append(make_messages(1, [b"x"] * 95))
            store.after_commit(lambda called=called: called.append(1))  # type: ignore[misc]
            for _ in range(steps):
                await trio.lowlevel.checkpoint()
            nursery.cancel_scope.cancel()
        store.close()
        assert called == [1]
        store.open()
        assert store.was_clean
        log = store.open_log(log.id)
        assert (log.count, len(log.read(0, 200, 1000)), entries(store)) == (95, 95, 95)
        store.close()


# -- room


async def test_the_map_grows(tmp_path: Path) -> None:
    async with running(LmdbStore(tmp_path, Settings("flush", 128 << 10))) as store:
        log = store.create_log()
        log.append(make_messages(1, [b"%05d" % number * 2000 for number in range(300)]))
        await committed(store)
        assert not store.is_full
        assert store.statistics()["map_bytes"] >= 4 << 20
        assert len(log.read(0, 1000, 1 << 30)) == 300


@contextmanager
def largest_file(size: int) -> Iterator[None]:
    """Writes past this size fail, as they do when the disk is full."""
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, limits[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)


@pytest.mark.parametrize("reason", ["map", "disk"])
async def test_full(tmp_path: Path, reason: str, autojump_clock: trio.testing.MockClock) -> None:
    """The group waits, nobody is told that it is safe, and when there is room it is written once."""
    store = LmdbStore(tmp_path, Settings(), map_limit=(1 << 20) if reason == "map" else None)
    async with running(store):
        log, moved = store.create_log(), store.create_log()
        first = make_messages(1, [b"x" * 1000] * 100)
        log.append(first)
        await committed(store)
        called: list[int] = []
        with largest_file((1 << 20) if reason == "disk" else 1 << 30):
            log.append(make_messages(101, [b"y" * 1000] * 2000))
            log.discard(first[:50])
            moved.append(make_messages(1, [b"z"]))
            assert not store.after_commit(lambda: called.append(1))
            # A commit takes real time, of which this clock knows nothing: no deadline.
            while not store.is_full:  # noqa: ASYNC110
                await trio.sleep(0.1)
            log.discard(first[50:60])
            assert not store.after_commit(lambda: called.append(2))
            await trio.sleep(30)
            assert store.is_full
            assert called == []
            assert store.has_pending
            assert store.pending_bytes > 2_000_000
            assert (log.count, log.read(0, 1, 1)[0].position) == (2040, 61)
            assert len(log.read(0, 3000, 1 << 30)) == 2040
        store._file._map_limit = None
        await committed(store)
        assert called == [1, 2]
        assert not store.is_full
        assert (log.count, entries(store)) == (2040, 2041)
    async with running(LmdbStore(tmp_path, Settings())) as store:
        assert store.was_clean
        assert (store.open_log(log.id).count, store.open_log(moved.id).count) == (2040, 1)


async def test_full_at_the_end(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """What cannot be written is lost, and was not confirmed; the store is not marked as closed cleanly."""
    store = LmdbStore(tmp_path, Settings(), map_limit=1 << 20)
    called: list[int] = []
    async with running(store):
        log = store.create_log()
        log.append(make_messages(1, [b"x"] * 10))
        await committed(store)
        log.append(make_messages(11, [b"x" * 1000] * 5000))
        store.after_commit(lambda: called.append(1))
    assert called == []
    assert "operations are lost; none was confirmed" in caplog.text
    async with running(LmdbStore(tmp_path, Settings())) as store:
        assert not store.was_clean
        assert 10 <= store.open_log(log.id).count < 5000


async def test_spilled_messages_stay_in_memory_when_the_disk_is_full(tmp_path: Path) -> None:
    async with running(LmdbStore(tmp_path, Settings())) as store:
        log = store.create_log()
        await committed(store)
        with largest_file(64 << 10):
            log.spill(make_messages(1, [b"x" * 1000] * 300))
            assert (log.count, len(log.read(0, 500, 1 << 30)), store.spill_file.count) == (300, 300, 0)
            kept = make_messages(301, [b"x"] * 3)
            log.spill(kept)
            log.discard(kept[1:])
        late = make_messages(304, [b"x"])
        log.spill(late)
        assert store.spill_file.count == 302
        assert [message.position for message in log.read(299, 500, 1 << 30)] == [299, 300, 301, 304]
        log.discard(late)
        await committed(store)
        assert (log.count, store.spill_file.count) == (301, 301)
        store.drop_log(log)
        assert not (tmp_path / "spill.mdb").exists()


@pytest.mark.long
async def test_memory_does_not_grow_with_the_backlog(tmp_path: Path) -> None:
    def resident() -> int:
        gc.collect()
        return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")

    before = resident()
    async with running(LmdbStore(tmp_path, Settings("os"))) as store:
        log = store.create_log()
        for first in range(0, 500_000, 1000):
            log.append(make_messages(first, [b"x" * 1024] * 1000))
            await committed(store)
        position = read = 0
        while found := log.read(position, 2000, 1 << 30):
            position = found[-1].position + 1
            read += len(found)
        assert read == 500_000
        assert resident() - before < 150 << 20

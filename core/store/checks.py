"""What every store must do: for the tests of the bundled ones, and of stores that plugins bring.

async def test_my_store(tmp_path):
    await check_store(lambda place: MyStore(tmp_path / place), abandon=MyStore.abandon)
"""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from types import SimpleNamespace
from typing import Any, TypeVar, cast

import trio

from leveret.core.message import Envelope, Message
from leveret.core.store.base import Log, Store, StoredMessage

__all__ = ["CHECKS", "check_store", "committed", "make_messages", "running"]

MakeStore = Callable[[str], Store]
"""A store that is not open yet. Equal places share their data: a second store in a place recovers the first one's."""

Abandon = Callable[[Store], None]
"""Make an open store as if its process had died."""

AnyStore = TypeVar("AnyStore", bound=Store)
EVERYTHING = 1 << 40
QUEUE = cast(Any, SimpleNamespace(name="checked"))
HEADER = b"\x10\x00\x02"  # delivery-mode 2


async def check_store(make_store: MakeStore, *, abandon: Abandon | None = None) -> None:
    """All of it. Without `abandon` nothing is asked about crashes."""
    for check in CHECKS:
        await check(make_store, abandon)


def make_messages(
    first: int, bodies: list[bytes], *, exchange: str = "amq.topic", key: str = "a.b"
) -> list[Message]:
    """At positions from `first` on, sharing one envelope."""
    envelope = Envelope(exchange, key, HEADER)
    return [Message(envelope, body, QUEUE, position) for position, body in enumerate(bodies, first)]


@asynccontextmanager
async def running(store: AnyStore) -> AsyncIterator[AnyStore]:
    """Opened, with its task; closed at the end."""
    store.open()
    try:
        async with trio.open_nursery() as nursery:
            await nursery.start(store.run)
            yield store
            nursery.cancel_scope.cancel()
    finally:
        store.close()


async def committed(store: Store) -> None:
    """Returns when everything taken so far is durable."""
    event = trio.Event()
    if not store.after_commit(event.set):
        await event.wait()


def _bodies(log: Log, start: int = 0) -> list[bytes]:
    return [message.body for message in _read_all(log, start)]


def _read_all(
    log: Log, start: int = 0, max_count: int = 7, max_bytes: int = EVERYTHING
) -> list[StoredMessage]:
    found: list[StoredMessage] = []
    while part := log.read(start, max_count, max_bytes):
        assert len(part) <= max_count
        found += part
        start = part[-1].position + 1
    assert [message.position for message in found] == sorted({message.position for message in found})
    return found


async def check_definitions(make_store: MakeStore, _: Abandon | None) -> None:
    async with running(make_store("definitions")) as store:
        assert list(store.definitions()) == []
        store.put_definition(b"queue/b", b"1")
        store.put_definition(b"queue/a", b"2")
        store.put_definition(b"user/x", b"")
        store.put_definition(b"queue/b", b"3")
        store.delete_definition(b"queue/none")
        assert list(store.definitions(b"queue/")) == [(b"queue/a", b"2"), (b"queue/b", b"3")]
        await committed(store)
        store.delete_definition(b"queue/a")
        store.put_definition(b"vhost/\xff", b"4")
    async with running(make_store("definitions")) as store:
        assert list(store.definitions()) == [(b"queue/b", b"3"), (b"user/x", b""), (b"vhost/\xff", b"4")]


async def check_append_and_read(make_store: MakeStore, _: Abandon | None) -> None:
    bodies = [b"body %d" % number for number in range(100)]
    async with running(make_store("append")) as store:
        log = store.create_log()
        other = store.create_log()
        assert log.id != other.id
        assert (log.count, log.bytes, log.read(0, 1, 1)) == (0, 0, [])
        early = make_messages(1, bodies[:50])
        log.append(early)
        other.append(make_messages(1, [b"other"]))
        assert all(message.is_stored for message in early)
        assert _bodies(log) == bodies[:50]  # committed or not
        await committed(store)
        log.append(make_messages(51, bodies[50:]))
        assert _bodies(log) == bodies
        await committed(store)
        assert (log.count, log.bytes, log.next_position) == (100, sum(map(len, bodies)), 101)
    async with running(make_store("append")) as store:
        again = store.open_log(log.id)
        assert (again.count, again.bytes, again.next_position) == (100, sum(map(len, bodies)), 101)
        assert _bodies(again) == bodies
        assert _bodies(again, 91) == bodies[90:]
        assert [m.position for m in again.read(10, 3, EVERYTHING)] == [10, 11, 12]
        assert len(again.read(10, 50, 3 * len(bodies[20]))) == 3
        assert len(again.read(10, 50, 0)) == 1  # at least one
        assert again.read(101, 1, 1) == []
        assert _bodies(store.open_log(other.id)) == [b"other"]
        try:
            store.open_log(other.id + 1)
        except KeyError:
            pass
        else:
            raise AssertionError("a log that never was")
        assert store.create_log().id not in (log.id, other.id)


async def check_round_trip(make_store: MakeStore, _: Abandon | None) -> None:
    """All that a message has comes back as it was."""
    async with running(make_store("round")) as store:
        log = store.create_log()
        now, wall_ms = trio.current_time(), time.time() * 1000
        messages = [
            make_messages(1, [b""], exchange="", key="")[0],
            make_messages(2, [b"\0\xff" * 9], exchange="Bär", key="schlüssel" * 20)[0],
            make_messages(1 << 40, [b"expires"])[0],
        ]
        messages[1].delivery_count, messages[1].is_redelivered = 7, True
        messages[2].expires_at = now + 60
        messages[2].delivery_count = 1
        log.append(messages)
        await committed(store)
        before = _read_all(log)
    async with running(make_store("round")) as store:
        first, second, third = found = _read_all(store.open_log(log.id))
        assert found == before
        assert (first.position, first.exchange, first.routing_key, first.header) == (1, "", "", HEADER)
        assert (first.body, first.expires_at_ms, first.delivery_count, first.is_redelivered) == (
            b"",
            None,
            0,
            False,
        )
        assert (second.exchange, second.routing_key, second.body) == ("Bär", "schlüssel" * 20, b"\0\xff" * 9)
        assert (second.delivery_count, second.is_redelivered) == (7, True)
        assert third.expires_at_ms is not None
        assert abs(third.expires_at_ms - (wall_ms + 60_000)) < 5_000
        assert (third.position, third.delivery_count, third.is_redelivered) == (1 << 40, 1, False)


async def check_discard(make_store: MakeStore, _: Abandon | None) -> None:
    async with running(make_store("discard")) as store:
        log = store.create_log()
        messages = make_messages(1, [b"x"] * 20)
        log.append(messages)
        log.discard(messages[:5])  # never written
        log.discard(messages[:5])
        assert not any(message.is_stored for message in messages[:5])
        assert (log.count, log.bytes) == (15, 15)
        await committed(store)
        log.discard(messages[5:10])
        assert (log.count, [m.position for m in _read_all(log)]) == (10, list(range(11, 21)))
        await committed(store)
        twin = make_messages(6, [b"x"])
        twin[0].is_stored = True  # says so, and is wrong: settled long ago
        log.discard([*twin, *messages[5:12]])
        await committed(store)
        assert (log.count, log.bytes, [m.position for m in _read_all(log)]) == (8, 8, list(range(13, 21)))
    async with running(make_store("discard")) as store:
        log = store.open_log(log.id)
        assert (log.count, log.bytes, [m.position for m in _read_all(log)]) == (8, 8, list(range(13, 21)))


async def check_callbacks(make_store: MakeStore, abandon: Abandon | None) -> None:
    store = make_store("callbacks")
    called: list[int] = []
    async with running(store):
        groups: list[int] = []
        store.on_committed = lambda: groups.append(len(called))
        assert store.after_commit(lambda: called.append(0))
        log = store.create_log()
        assert store.has_pending
        assert not store.after_commit(lambda: called.append(1))
        log.append(make_messages(1, [b"x" * 1000]))
        assert store.pending_bytes >= 1000
        assert not store.after_commit(lambda: called.append(2))
        assert not store.after_commit(lambda: called.append(3))
        assert called == []
        await committed(store)
        assert called == [1, 2, 3]
        while store.has_pending:
            await trio.lowlevel.checkpoint()
        assert 3 in groups
        assert store.after_commit(lambda: called.append(0))
        assert store.pending_bytes == 0
        # What cancels out needs no disk, and whoever waits for it is called all the same.
        messages = make_messages(2, [b"y"] * 3)
        log.append(messages)
        assert not store.after_commit(lambda: called.append(4))
        log.discard(messages)
        await committed(store)
        assert called == [1, 2, 3, 4]
        # A callback may add, and wait for that.
        log.append(make_messages(5, [b"z"]))

        def more() -> None:
            log.append(make_messages(6, [b"zz"]))
            assert not store.after_commit(lambda: called.append(5))

        assert not store.after_commit(more)
        await committed(store)
        await committed(store)
        assert called == [1, 2, 3, 4, 5]
        assert isinstance(store.statistics()["commits"], int)


async def check_truncate(make_store: MakeStore, _: Abandon | None) -> None:
    async with running(make_store("truncate")) as store:
        log = store.create_log()
        messages = make_messages(1, [b"ab"] * 30)
        log.append(messages[:10])
        await committed(store)
        log.append(messages[10:20])
        store.after_commit(lambda: None)
        await trio.lowlevel.checkpoint()  # perhaps it is being written
        log.append(messages[20:])
        log.discard(messages[:3] + messages[12:14])
        log.truncate(9)
        assert (log.count, log.bytes, [m.position for m in _read_all(log)]) == (5, 10, [4, 5, 6, 7, 8])
        log.discard(messages[15:16])  # settled with the others
        log.truncate(9)
        log.append(make_messages(31, [b"new"]))
        assert (log.count, log.bytes) == (6, 13)
        await committed(store)
        assert [m.position for m in _read_all(log)] == [4, 5, 6, 7, 8, 31]
    async with running(make_store("truncate")) as store:
        log = store.open_log(log.id)
        assert (log.count, log.bytes, log.next_position) == (6, 13, 32)
        assert [m.position for m in _read_all(log)] == [4, 5, 6, 7, 8, 31]
        log.truncate(0)
        assert (log.count, log.bytes, _read_all(log)) == (0, 0, [])
        log.append(make_messages(32, [b"x"]))
    async with running(make_store("truncate")) as store:
        assert _bodies(store.open_log(log.id)) == [b"x"]


async def check_drop(make_store: MakeStore, _: Abandon | None) -> None:
    async with running(make_store("drop")) as store:
        keep, purge, orphan, brief = [store.create_log() for _ in range(4)]
        lists = [make_messages(1, [b"m"] * 10) for _ in range(4)]
        for log, messages in zip((keep, purge, orphan, brief), lists, strict=True):
            log.append(messages)
        store.drop_log(brief)
        await committed(store)
        purge.append(make_messages(11, [b"n"]))
        store.drop_log(purge)
        store.drop_log(purge)
        purge.discard(lists[1])
        purge.truncate(0)
        assert (purge.count, purge.bytes, purge.read(0, 1, 1)) == (0, 0, [])
        await committed(store)
    async with running(make_store("drop")) as store:
        store.retain_logs({keep.id})
        await committed(store)
    async with running(make_store("drop")) as store:
        assert store.open_log(keep.id).count == 10
        assert store.create_log().id > brief.id
        for gone in (purge, orphan, brief):
            try:
                store.open_log(gone.id)
            except KeyError:
                continue
            raise AssertionError("a log that was dropped")


async def check_spill(make_store: MakeStore, _: Abandon | None) -> None:
    async with running(make_store("spill")) as store:
        log = store.create_log()
        durable = make_messages(1, [b"durable"] * 5) + make_messages(20, [b"durable"] * 5)
        transient = make_messages(6, [b"gone"] * 14)
        log.append(durable)
        await committed(store)
        log.spill(transient[:7])
        log.spill(transient[7:])
        assert (log.count, log.next_position) == (24, 25)
        assert [m.position for m in _read_all(log)] == list(range(1, 25))
        assert [m.position for m in _read_all(log, 3, 3, 10)] == list(range(3, 25))
        log.discard([*transient[:2], *durable[:2]])
        assert [m.position for m in _read_all(log)] == [3, 4, 5, *range(8, 25)]
        await committed(store)
        assert (log.count, [m.position for m in _read_all(log)]) == (20, [3, 4, 5, *range(8, 25)])
        log.truncate(17)
        assert (log.count, [m.position for m in _read_all(log)]) == (12, [3, 4, 5, *range(8, 17)])
        log.spill(make_messages(25, [b"late"]))
        assert [m.position for m in _read_all(log)] == [3, 4, 5, *range(8, 17), 25]
        await committed(store)
    async with running(make_store("spill")) as store:
        log = store.open_log(log.id)
        assert (log.count, log.bytes, [m.position for m in _read_all(log)]) == (3, 21, [3, 4, 5])


async def check_update(make_store: MakeStore, _: Abandon | None) -> None:
    def counts(log: Log) -> list[tuple[int, bool]]:
        return [(message.delivery_count, message.is_redelivered) for message in _read_all(log)]

    async with running(make_store("update")) as store:
        log = store.create_log()
        messages = make_messages(1, [b"x"] * 4)
        log.append(messages)
        messages[0].delivery_count = 1
        log.update(messages[0])
        await committed(store)
        for message in messages[1:]:
            message.delivery_count, message.is_redelivered = 2, True
            log.update(message)
        assert counts(log) == [(1, False), (2, True), (2, True), (2, True)]
        await committed(store)
        messages[1].delivery_count = 3
        log.update(messages[1])
        log.update(messages[2])
        log.discard(messages[2:3])
        log.update(messages[2])
        await committed(store)
    async with running(make_store("update")) as store:
        log = store.open_log(log.id)
        assert counts(log) == [(1, False), (3, True), (2, True)]


async def check_fan_out(make_store: MakeStore, _: Abandon | None) -> None:
    """Large bodies in many logs, however they are stored, live exactly as long as the last of them."""
    large = bytes(range(256)) * 64
    async with running(make_store("fan")) as store:
        logs = [store.create_log() for _ in range(5)]
        copies = [make_messages(1, [large, b"small", large]) for _ in logs]
        for log, messages in zip(logs, copies, strict=True):
            log.append(messages)
        assert _bodies(logs[0]) == [large, b"small", large]
        await committed(store)
        for log, messages in zip(logs[:3], copies, strict=False):
            log.discard(messages[:1])
        logs[3].truncate(0)
        store.drop_log(logs[4])
        await committed(store)
        assert _bodies(logs[0]) == [b"small", large]
    async with running(make_store("fan")) as store:
        logs = [store.open_log(log.id) for log in logs[:4]]
        assert [log.count for log in logs] == [2, 2, 2, 0]
        assert [log.bytes for log in logs] == [len(large) + 5] * 3 + [0]
        for log in logs[:3]:
            assert _bodies(log) == [b"small", large]


async def check_crash(make_store: MakeStore, abandon: Abandon | None) -> None:
    """What was committed is there, and suspect; what was not is not, or is complete."""
    if abandon is None:
        return
    store = make_store("crash")
    assert store.was_clean
    store.open()
    async with trio.open_nursery() as nursery:
        await nursery.start(store.run)
        assert store.was_clean
        log = store.create_log()
        store.put_definition(b"queue", b"%d" % log.id)
        log.append(make_messages(1, [b"kept"] * 10))
        await committed(store)
        log.append(make_messages(11, [b"lost"] * 10))
        nursery.cancel_scope.cancel()
    abandon(store)
    async with running(make_store("crash")) as store:
        assert not store.was_clean
        assert list(store.definitions()) == [(b"queue", b"%d" % log.id)]
        log = store.open_log(log.id)
        found = _read_all(log)
        assert len(found) == log.count
        assert log.count in (10, 20)
        assert all(message.is_redelivered for message in found)
        log.append(make_messages(21, [b"after"]))
        assert not _read_all(log)[-1].is_redelivered
    async with running(make_store("crash")) as store:
        assert store.was_clean
        assert [m.is_redelivered for m in _read_all(store.open_log(log.id))] == [True] * len(found) + [False]


CHECKS: tuple[Callable[[MakeStore, Abandon | None], Awaitable[None]], ...] = (
    check_definitions,
    check_append_and_read,
    check_round_trip,
    check_discard,
    check_callbacks,
    check_truncate,
    check_drop,
    check_spill,
    check_update,
    check_fan_out,
    check_crash,
)

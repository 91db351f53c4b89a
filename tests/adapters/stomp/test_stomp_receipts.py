"""Receipts: in order, after the store, and nothing overtakes them."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable

import pytest
from support.in_process import InProcess, broker_in_process
from support.stomp_wire import StompClient, frame

from leveret.adapters.stomp.adapter import StompAdapter
from leveret.adapters.stomp.receipts import Receipts


class FakeStore:
    """Commits when it is told to."""

    def __init__(self) -> None:
        self.waiting: list[Callable[[], None]] = []
        self.has_pending = False

    def after_commit(self, callback: Callable[[], None]) -> bool:
        if not self.has_pending:
            return True
        self.waiting.append(callback)
        return False

    def commit(self, count: int | None = None) -> None:
        callbacks, self.waiting = self.waiting[:count], self.waiting[count or len(self.waiting) :]
        self.has_pending = bool(self.waiting)
        for callback in callbacks:
            callback()


class FakeOutbox:
    def __init__(self) -> None:
        self.sent: list[bytes] = []

    def write(self, data: bytes) -> None:
        self.sent.append(data)


def make() -> tuple[Receipts, FakeStore, list[bytes]]:
    store, outbox = FakeStore(), FakeOutbox()
    return Receipts(outbox, store), store, outbox.sent  # type: ignore[arg-type]


def test_at_the_end_of_a_chunk() -> None:
    receipts, _, sent = make()
    called: list[int] = []
    receipts.add(b"1", needs_store=False)
    receipts.add(b"2", needs_store=True, then=lambda: called.append(2))
    receipts.add(b"", needs_store=False, then=lambda: called.append(3))
    assert not sent
    assert receipts.waiting_count == 3
    receipts.close_chunk()
    assert (sent, called, receipts.waiting_count) == ([b"1", b"2"], [2, 3], 0)
    receipts.close_chunk()


def test_after_the_store_and_in_order() -> None:
    receipts, store, sent = make()
    emptied: list[bool] = []
    receipts.on_empty = lambda: emptied.append(True)
    store.has_pending = True
    for chunk in ((b"1", True), (b"2", False), (b"3", True), (b"4", False)):
        receipts.add(chunk[0], needs_store=chunk[1])
        receipts.close_chunk()
    assert not sent
    assert len(store.waiting) == 2
    store.commit(1)
    assert sent == [b"1", b"2"]
    assert not emptied
    store.commit()
    assert sent == [b"1", b"2", b"3", b"4"]
    assert emptied == [True]


def test_what_is_durable_already_waits_behind_the_others() -> None:
    receipts, store, sent = make()
    store.has_pending = True
    receipts.add(b"1", needs_store=True)
    receipts.close_chunk()
    store.has_pending = False
    receipts.add(b"2", needs_store=True)
    receipts.close_chunk()
    assert not sent
    store.commit()
    assert sent == [b"1", b"2"]


def test_nothing_after_the_end() -> None:
    receipts, store, sent = make()
    store.has_pending = True
    receipts.add(b"1", needs_store=True)
    receipts.close_chunk()
    receipts.is_closed = True
    store.commit()
    assert not sent


# -- on a connection


class HeldStore:
    """Stands in front of a broker's `after_commit`."""

    def __init__(self, server: InProcess) -> None:
        self.waiting: list[Callable[[], None]] = []
        self._dispatcher = server.broker.dispatcher
        server.broker.store.after_commit = self.after_commit  # type: ignore[method-assign]

    def after_commit(self, callback: Callable[[], None]) -> bool:
        self.waiting.append(callback)
        return False

    def commit(self) -> None:
        waiting, self.waiting = self.waiting, []
        for callback in waiting:
            callback()
        self._dispatcher.run()


@pytest.fixture
async def server() -> AsyncIterator[InProcess]:
    async with broker_in_process(StompAdapter) as server:
        yield server


PERSISTENT = frame("SEND", "x", destination="/queue/a", persistent="true", receipt=1)


async def test_a_durable_send_waits_and_all_behind_it(server: InProcess) -> None:
    client = await StompClient.open(server)
    await client.ask(frame("SEND", "declared", destination="/queue/a"))
    store = HeldStore(server)
    assert [one["receipt-id"] for one in await client.ask(PERSISTENT.replace(b"true", b"false"))] == ["1"]
    assert not await client.ask(PERSISTENT)
    assert not await client.ask(frame("SEND", "x", destination="/topic/a", receipt=2))
    assert not await client.ask(frame("BEGIN", transaction="t", receipt=3))
    store.commit()
    assert [one["receipt-id"] for one in await client.read()] == ["1", "2", "3"]
    await client.close()


async def test_no_message_before_the_receipt_of_its_subscribe(server: InProcess) -> None:
    client = await StompClient.open(server)
    await client.ask(frame("SEND", "y", destination="/queue/b"))
    store = HeldStore(server)
    assert not await client.ask(frame("SUBSCRIBE", id=0, destination="/queue/new", receipt=1))
    assert not await client.ask(frame("SEND", "x", destination="/queue/new"))
    assert not await client.ask(frame("SUBSCRIBE", id=1, destination="/queue/b", receipt=2))
    store.commit()
    got = await client.read()
    assert [one.command for one in got] == ["RECEIPT", "RECEIPT", "MESSAGE", "MESSAGE"]
    assert not store.waiting
    await client.close()


async def test_the_ack_of_a_durable_message_waits(server: InProcess) -> None:
    client = await StompClient.open(server)
    (message,) = await client.ask(
        frame("SUBSCRIBE", id=0, destination="/queue/a", ack="client"), PERSISTENT.replace(b"receipt", b"foo")
    )
    store = HeldStore(server)
    assert not await client.ask(frame("ACK", id=message["ack"], receipt=1))
    store.commit()
    assert [one["receipt-id"] for one in await client.read()] == ["1"]
    await client.close()


async def test_an_error_comes_after_the_receipts_that_were_earned(server: InProcess) -> None:
    client = await StompClient.open(server)
    store = HeldStore(server)
    assert not await client.ask(PERSISTENT)
    assert not await client.ask(frame("FOO", receipt=2))
    (queue,) = server.broker.vhosts["/"].queues.values()
    store.commit()
    got = await client.read()
    assert [(one.command, one["receipt-id"]) for one in got] == [("RECEIPT", "1"), ("ERROR", "2")]
    await client.closed()
    assert queue.message_count == 1
    await client.close()


async def test_disconnect_waits_for_all_that_was_sent(server: InProcess) -> None:
    client = await StompClient.open(server)
    store = HeldStore(server)
    assert not await client.ask(
        frame("SEND", "x", destination="/queue/a", persistent="true"), frame("DISCONNECT", receipt=2)
    )
    store.commit()
    assert [one["receipt-id"] for one in await client.read()] == ["2"]
    await client.closed()
    await client.close()

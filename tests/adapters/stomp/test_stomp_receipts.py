"""Receipts on a connection: in order, after the store, and nothing overtakes them."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable

import pytest
from support.in_process import InProcess, broker_in_process
from support.stomp_wire import StompClient, frame

from leveret.adapters.stomp.adapter import StompAdapter


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

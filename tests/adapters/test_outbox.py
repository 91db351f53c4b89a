"""The outbox: one send per flush, nothing lost when the peer is slow, nothing out of order."""

from __future__ import annotations

import socket
from collections.abc import Callable
from typing import Any

import pytest
import trio
import trio.testing

from leveret.adapters.outbox import Outbox
from leveret.adapters.transport import PlainTransport
from leveret.core.dispatcher import Dispatcher


class Peer:
    """An outbox on one end of a socket pair, and the other end."""

    def __init__(self, nursery: trio.Nursery, limit: int = 1000) -> None:
        ours, self.theirs = socket.socketpair()
        ours.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4096)
        self.theirs.setblocking(False)
        self.dispatcher = Dispatcher()
        self.drained = 0
        self.lost = 0
        self.transport = PlainTransport(ours)

        def spawn(task: Callable[[], Any]) -> None:
            nursery.start_soon(task)

        self.outbox = Outbox(
            self.transport,
            self.dispatcher,
            limit,
            spawn=spawn,
            on_drained=self._on_drained,
            on_lost=self._on_lost,
        )

    def _on_drained(self) -> None:
        self.drained += 1

    def _on_lost(self) -> None:
        self.lost += 1

    async def read(self, size: int) -> bytes:
        data = b""
        while len(data) < size:
            try:
                data += self.theirs.recv(size - len(data))
            except BlockingIOError:
                await trio.lowlevel.wait_readable(self.theirs)
        return data

    def close(self) -> None:
        self.transport.close()
        self.theirs.close()


async def test_small_writes_leave_in_one_piece_at_the_end_of_the_entry() -> None:
    async with trio.open_nursery() as nursery:
        peer = Peer(nursery)
        peer.outbox.write(b"one")
        peer.outbox.write(b"two")
        with pytest.raises(BlockingIOError):
            peer.theirs.recv(10)
        peer.dispatcher.run()
        assert peer.theirs.recv(10) == b"onetwo"
        assert peer.outbox.bytes == 0
        peer.close()


@pytest.mark.parametrize("piece", [100, 50_000])
async def test_what_does_not_fit_follows_in_order(piece: int) -> None:
    """Small pieces are joined, large ones go by reference; a slow peer gets all of them, in order."""
    async with trio.open_nursery() as nursery:
        peer = Peer(nursery)
        pieces = [bytes([number % 251]) * piece for number in range(2_000_000 // piece)]
        for number, data in enumerate(pieces):
            peer.outbox.write(data)
            if number % 7 == 0:
                peer.dispatcher.run()
        peer.dispatcher.run()
        assert peer.outbox.is_congested
        assert await peer.read(len(pieces) * piece) == b"".join(pieces)
        await peer.outbox.drain()
        assert not peer.outbox.is_congested
        assert peer.drained == 1
        assert peer.outbox.bytes == 0
        peer.close()


async def test_held_bytes_wait_for_the_release() -> None:
    async with trio.open_nursery() as nursery:
        peer = Peer(nursery)
        peer.outbox.hold()
        peer.outbox.hold()
        peer.outbox.write(b"reply")
        peer.dispatcher.run()
        peer.outbox.release()
        peer.dispatcher.run()
        with pytest.raises(BlockingIOError):
            peer.theirs.recv(10)
        peer.outbox.release()
        peer.dispatcher.run()
        assert peer.theirs.recv(10) == b"reply"
        peer.close()


async def test_a_peer_that_is_gone_is_reported_once() -> None:
    async with trio.open_nursery() as nursery:
        peer = Peer(nursery)
        peer.theirs.close()
        for _ in range(3):
            peer.outbox.write(b"x" * 10_000)
            peer.dispatcher.run()
        assert peer.lost == 1
        assert peer.outbox.bytes == 0
        peer.close()


async def test_cancellation_at_every_wait_of_the_writer() -> None:
    for reads in range(5):
        with trio.CancelScope() as scope:
            async with trio.open_nursery() as nursery:
                peer = Peer(nursery)
                peer.outbox.write(b"x" * 1_000_000)
                peer.dispatcher.run()
                await trio.testing.wait_all_tasks_blocked()
                for _ in range(reads):
                    peer.theirs.recv(8192)
                    await trio.testing.wait_all_tasks_blocked()
                scope.cancel()
        assert scope.cancelled_caught
        peer.close()


class Buffering:
    """A transport that, like TLS, takes everything at once and hands it to the kernel as that has room."""

    def __init__(self, plain: PlainTransport) -> None:
        self._plain = plain
        self._buffer = b""

    @property
    def has_unsent(self) -> bool:
        return bool(self._buffer)

    def send_nowait(self, data: bytes) -> int:
        return self.send_vector_nowait([data])

    def send_vector_nowait(self, chunks: list[bytes]) -> int:
        self._buffer += b"".join(chunks)
        if self._buffer:
            self._buffer = self._buffer[self._plain.send_nowait(self._buffer) :]
        return sum(map(len, chunks))

    async def wait_writable(self) -> None:
        await self._plain.wait_writable()


async def test_what_the_transport_itself_holds_follows() -> None:
    async with trio.open_nursery() as nursery:
        peer = Peer(nursery)
        peer.outbox._transport = Buffering(peer.transport)  # type: ignore[assignment]
        data = bytes(range(256)) * 4000
        peer.outbox.write(data)
        peer.dispatcher.run()
        with trio.fail_after(5):
            assert await peer.read(len(data)) == data
            await peer.outbox.drain()
        peer.close()

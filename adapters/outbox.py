"""A connection's outgoing bytes: one send per flush; what does not fit waits for the writer task."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import trio

if TYPE_CHECKING:
    from leveret.adapters.transport import Transport
    from leveret.core.dispatcher import Dispatcher
__all__ = ["Outbox"]

JOINED_BYTES = (
    16384  # chunks smaller than this on average are joined before the send, larger ones are not copied
)


class Outbox:
    """Bytes that wait for one peer.

    chunks      add to it directly on the hot path, then call `added(bytes)`
    limit       bytes; past it `is_congested` is true, consumers of this connection get nothing more, and the
                reading of requests stops, until the peer has taken half of it
    hold()      nothing leaves before `release()`: a reply waits for the store, and all that follows waits behind it
    """

    __slots__ = (
        "_dispatcher",
        "_held",
        "_is_writing",
        "_on_drained",
        "_on_lost",
        "_spawn",
        "_transport",
        "bytes",
        "chunks",
        "idle",
        "is_closed",
        "is_congested",
        "is_dirty",
        "limit",
        "sent_total",
    )

    def __init__(
        self,
        transport: Transport,
        dispatcher: Dispatcher,
        limit: int,
        *,
        spawn: Callable[[Callable[[], object]], None],
        on_drained: Callable[[], None],
        on_lost: Callable[[], None],
    ) -> None:
        self.chunks: list[bytes] = []
        self.bytes = 0
        self.limit = limit
        self.is_dirty = False  # owned by the dispatcher
        self.is_congested = False
        self.is_closed = False
        self.sent_total = 0
        self.idle: trio.Event | None = None
        self._held = 0
        self._is_writing = False
        self._transport = transport
        self._dispatcher = dispatcher
        self._spawn = spawn
        self._on_drained = on_drained
        self._on_lost = on_lost

    def write(self, data: bytes) -> None:
        """One piece; sent at the end of this entry."""
        self.chunks.append(data)
        self.added(len(data))

    def added(self, size: int) -> None:
        """`size` bytes were appended to `chunks`."""
        self.bytes = total = self.bytes + size
        if total > self.limit:
            self.is_congested = True
        if not self.is_dirty:
            self._dispatcher.schedule_flush(self)

    def hold(self) -> None:
        self._held += 1

    def release(self) -> None:
        self._held -= 1
        if not self._held and self.chunks and not self.is_dirty:
            self._dispatcher.schedule_flush(self)

    def flush(self) -> None:
        if self._is_writing or self._held or not self.chunks:
            return
        if self.is_closed:
            self.chunks.clear()
            self.bytes = 0
            return
        chunks, self.chunks = self.chunks, []
        try:
            rest = self._send(chunks)
        except OSError:  # the peer is gone; its reader will find out as well
            self._lost()
            return
        if rest or self._transport.has_unsent:
            self._is_writing = True
            self._spawn(lambda: self._write(rest))
        else:
            self.bytes = 0
            if self.is_congested:
                self.is_congested = False
                self._on_drained()

    def _send(self, chunks: list[bytes]) -> list[bytes | memoryview]:
        """Send without waiting; what did not fit."""
        if len(chunks) == 1:
            data: bytes = chunks[0]
        elif self.bytes < JOINED_BYTES * len(chunks):
            data = b"".join(chunks)
        else:
            return self._send_vector(list(chunks))
        sent = self._transport.send_nowait(data)
        self.sent_total += sent
        return [] if sent == len(data) else [memoryview(data)[sent:]]

    def _send_vector(self, chunks: list[bytes | memoryview]) -> list[bytes | memoryview]:
        """Large bodies go by reference, up to 512 pieces a call."""
        while chunks:
            head = chunks[:512]
            sent = self._transport.send_vector_nowait(head)
            self.sent_total += sent
            whole = 0
            for chunk in head:
                if sent < len(chunk):
                    break
                sent -= len(chunk)
                whole += 1
            if whole == len(head):
                del chunks[:whole]
                continue
            rest = chunks[whole:]
            rest[0] = memoryview(rest[0])[sent:]
            return rest
        return []

    async def _write(self, rest: list[bytes | memoryview]) -> None:
        """The writer task: lives only while the peer is slower than we are."""
        try:
            while rest or self._transport.has_unsent:
                await self._transport.wait_writable()
                if rest:
                    rest = self._send_vector(rest)
                else:
                    self._transport.send_vector_nowait(rest)  # what the transport itself still holds
                waiting = sum(map(len, rest))
                self.bytes = waiting + sum(map(len, self.chunks))
                if self.is_congested and self.bytes <= self.limit // 2:
                    self.is_congested = False
                    self._on_drained()
                if not rest and self.chunks and not self._held:
                    rest, self.chunks = list(self.chunks), []
        except OSError:  # reset or closed under us: nobody is there to be told
            self._lost()
        finally:
            self._is_writing = False
            if self.idle is not None and not self.chunks:
                self.idle.set()

    def _lost(self) -> None:
        self.is_closed = True
        self.chunks.clear()
        self.bytes = 0
        self.is_congested = False
        self._on_lost()

    async def drain(self) -> None:
        """Wait until all has been handed to the kernel."""
        self.flush()
        while self._is_writing and not self.is_closed:
            self.idle = trio.Event()
            await self.idle.wait()
            self.flush()

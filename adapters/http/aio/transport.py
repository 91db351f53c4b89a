"""Between a transport of ours and an asyncio protocol: aiohttp's request handler speaks to it as to a socket."""

from __future__ import annotations

import asyncio
import logging
import ssl
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING

import trio

from leveret.adapters.http.errors import Refusal, raw_refusal

if TYPE_CHECKING:
    from aiohttp.web_protocol import RequestHandler

    from leveret.adapters.transport import Transport
__all__ = ["HttpTransport"]

log = logging.getLogger(__name__)

HIGH_BYTES = 262144  # unsent; past it whoever streams an answer waits (`drain`)
LOW_BYTES = 65536  # and goes on
READ_BYTES = 65536
MAX_HEAD_BYTES = 65536  # of a request: its line and its headers
HEAD_S = 20.0  # for a head to arrive, once it has begun
STALL_S = 60.0  # a peer that takes nothing of its answer for so long is gone
HALF_CLOSED_S = 1.0  # for an answer under way to a peer that has shut its side: it may be waiting, or gone
UNWIND_S = 5.0  # for a cancelled handler to end


class HttpTransport(asyncio.Transport):
    """One connection. `run` is its life; all else is called by the protocol, in the same thread."""

    def __init__(
        self, transport: Transport, protocol: RequestHandler, context: ssl.SSLContext | None
    ) -> None:
        super().__init__({
            "peername": transport.peer,
            "sockname": transport.local,
            "sslcontext": context,
            "transport": transport,
        })  # fmt: skip
        self.transport = transport
        self.protocol = protocol
        transport.read_bytes = READ_BYTES
        self._unsent: list[bytes | memoryview] = []
        self._unsent_bytes = 0
        self._is_writing = False  # the writer task is there
        self._is_writing_paused = False  # the protocol was told so
        self._is_closing = False
        self._error: OSError | None = None
        self._may_read = trio.Event()
        self._may_read.set()
        self.kept: object = None  # a handler's, for the next request of this connection
        self.on_end: Callable[[], None] | None = None  # a handler's that waits: the peer has shut its side
        self.has_ended = False
        self._has_begun = False
        self._reading = trio.CancelScope()
        self._nursery: trio.Nursery | None = None

    # -- the life of it

    async def run(self) -> None:
        """From accept to end. Leaves no task behind."""
        protocol = self.protocol
        ended = trio.Event()
        try:
            async with trio.open_nursery() as nursery:
                self._nursery = nursery
                protocol.connection_made(self)
                handler = protocol._task_handler
                assert handler is not None
                handler.add_done_callback(lambda task: _done(task, ended))
                with self._reading:
                    await self._read(ended)
                if self._is_writing and self._error is None:
                    with trio.move_on_after(STALL_S):
                        await self._flushed.wait()
                nursery.cancel_scope.cancel()
        finally:
            self._is_closing = True
            self._unsent.clear()
            protocol.connection_lost(self._error)
            with trio.move_on_after(UNWIND_S, shield=True):
                await ended.wait()
            if not ended.is_set():
                log.error("peer=%s a handler does not end", self.transport.peer)

    async def _read(self, ended: trio.Event) -> None:
        transport, received = self.transport, self.protocol.data_received
        while not self._is_closing:
            if not self._may_read.is_set():
                await self._may_read.wait()
            try:
                data = await transport.receive()
            except OSError as error:  # reset: its right
                self._error = error
                return
            if not data:
                self._end()
                break
            self._has_begun = True
            received(data)
            if self._awaits_head and not self._is_closing and not await self._receive_head(len(data)):
                return
        if not self._is_closing and self._has_begun and not self._is_idle:
            self.protocol.close()  # after the answer
            with trio.move_on_after(HALF_CLOSED_S):
                await ended.wait()

    async def _receive_head(self, size: int) -> bool:
        """The rest of a head that came in part, bounded in size and time. False: the connection has ended."""
        with trio.move_on_after(HEAD_S) as timer:
            while self._awaits_head and not self._is_closing and size <= MAX_HEAD_BYTES:
                try:
                    data = await self.transport.receive()
                except OSError as error:
                    self._error = error
                    return False
                if not data:
                    self._end()
                    return False
                size += len(data)
                self.protocol.data_received(data)
        if not self._awaits_head or self._is_closing:
            return True
        if timer.cancelled_caught:
            refusal = Refusal(408, "timeout", "the head of the request took too long to arrive")
        else:
            refusal = Refusal(
                431, "header_fields_too_large", f"a request's head has at most {MAX_HEAD_BYTES} bytes"
            )
        log.info("peer=%s status=%d not HTTP: %s", self.transport.peer, refusal.status, refusal.reason)
        self.write(raw_refusal(refusal))
        self.close()
        return False

    def _end(self) -> None:
        """Nearly always it has gone; but it may wait for the answer to what it has asked."""
        self.has_ended = True
        if self.on_end is not None:
            self.on_end()

    @property
    def _awaits_head(self) -> bool:
        """What has come so far is no whole request."""
        return self._is_idle or not self.protocol._request_count

    @property
    def _is_idle(self) -> bool:
        """It waits for the next request."""
        waiter = self.protocol._waiter
        return waiter is not None and not waiter.done()

    def drain(self) -> None:
        """The listeners are shut: end it now if it is idle, else after the answer."""
        is_idle = self._is_idle
        self.protocol.close()
        if is_idle:
            self.close()

    # -- asyncio.WriteTransport

    def write(self, data: bytes | bytearray | memoryview) -> None:
        if self._is_closing or self._error is not None or not data:
            return
        if not self._is_writing:
            try:
                sent = self.transport.send_nowait(data)  # type: ignore[arg-type]  # any buffer will do
            except OSError as error:
                self._lose(error)
                return
            if sent == len(data):
                if self.transport.has_unsent:
                    self._start_writing()
                return
            data = memoryview(data)[sent:]
            self._start_writing()
        self._unsent.append(bytes(data) if isinstance(data, bytearray) else data)
        self._unsent_bytes += len(data)
        if self._unsent_bytes > HIGH_BYTES and not self._is_writing_paused:
            self._is_writing_paused = True
            self.protocol.pause_writing()

    def writelines(self, chunks: Iterable[bytes | bytearray | memoryview]) -> None:
        self.write(b"".join(chunks))

    def write_eof(self) -> None:
        self.close()  # HTTP needs no half of a connection

    def can_write_eof(self) -> bool:
        return False

    def get_write_buffer_size(self) -> int:
        return self._unsent_bytes

    def get_write_buffer_limits(self) -> tuple[int, int]:
        return LOW_BYTES, HIGH_BYTES

    def set_write_buffer_limits(self, high: int | None = None, low: int | None = None) -> None:
        """They are ours."""

    def _start_writing(self) -> None:
        assert self._nursery is not None
        self._is_writing = True
        self._flushed = trio.Event()
        self._nursery.start_soon(self._write)

    async def _write(self) -> None:
        """The writer task: lives only while the peer is slower than we are."""
        transport, unsent = self.transport, self._unsent
        try:
            while unsent or transport.has_unsent:
                with trio.fail_after(STALL_S):
                    await transport.wait_writable()
                self._sent(transport.send_vector_nowait(unsent[:512]))
        except (OSError, trio.TooSlowError) as error:
            log.info(
                "peer=%s lost while an answer was sent: %s", transport.peer, str(error) or "it takes nothing"
            )
            self._lose(error if isinstance(error, OSError) else ConnectionResetError("it takes nothing"))
        finally:
            self._is_writing = False
            self._flushed.set()

    def _sent(self, count: int) -> None:
        unsent = self._unsent
        self._unsent_bytes -= count
        whole = 0
        for chunk in unsent:
            if count < len(chunk):
                break
            count -= len(chunk)
            whole += 1
        del unsent[:whole]
        if count:
            unsent[0] = memoryview(unsent[0])[count:]
        if self._is_writing_paused and self._unsent_bytes <= LOW_BYTES:
            self._is_writing_paused = False
            self.protocol.resume_writing()

    # -- asyncio.ReadTransport and BaseTransport

    def pause_reading(self) -> None:
        if self._may_read.is_set():
            self._may_read = trio.Event()

    def resume_reading(self) -> None:
        self._may_read.set()

    def is_reading(self) -> bool:
        return self._may_read.is_set() and not self._is_closing

    def is_closing(self) -> bool:
        return self._is_closing

    def get_protocol(self) -> asyncio.BaseProtocol:
        return self.protocol

    def close(self) -> None:
        """After what is unsent."""
        if not self._is_closing:
            self._is_closing = True
            self._reading.cancel()

    def abort(self) -> None:
        self._lose(ConnectionAbortedError("aborted"))

    def _lose(self, error: OSError) -> None:
        if self._error is None:
            self._error = error
        self._unsent.clear()
        self._unsent_bytes = 0
        self.close()


def _done(task: asyncio.Task[None], ended: trio.Event) -> None:
    if not task.cancelled():
        task.exception()  # aiohttp has logged it
    ended.set()

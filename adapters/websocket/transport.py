"""A WebSocket as a Transport: payload in, messages out, control frames answered in between."""

from __future__ import annotations

import contextlib
import errno
import logging
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

import trio

from leveret.adapters.websocket.frames import BINARY, PING, PONG, TEXT, FrameReader, close_frame, frame_head

if TYPE_CHECKING:
    from leveret.adapters.base import WebSocketSpec
    from leveret.adapters.transport import Transport
    from leveret.conf.settings import Websocket
    from leveret.core.timers import Timer, Timers
__all__ = ["WebSocketTransport"]

log = logging.getLogger(__name__)

MESSAGE_BYTES = 65536  # a stream is cut into messages of at most this: some clients refuse larger than 1 MiB
VECTOR_PIECES = 512  # per system call
JOINED_BYTES = 16384  # pieces smaller than this on average are joined before the send, as the outbox does
CLOSE_S = 2.0  # how long our close frame waits for the peer's


def _is_utf8(data: bytes | memoryview) -> bool:
    try:
        str(data, "utf-8")
    except UnicodeDecodeError:
        return False
    return True


class WebSocketTransport:
    """Has the same shape as a socket's transport: see there for what the methods promise.

    Receiving. Message boundaries mean nothing: all payload of a chunk is returned, parts of messages too. Pings are
    answered at once; if the peer does not read, only its last one. b"" is the peer's close (answered), its end, or a
    rule that it broke (told by a close frame, logged).

    Sending. Bytes are taken whole, as with TLS: while some of the last write wait for the kernel (`has_unsent`), 0.
    Without `spec.message_end` they are a stream, cut into messages of at most 64 KiB. With it, each message ends so;
    what comes behind the last end is not taken yet, if something before it was. A message is text if `spec.is_text`
    and it is UTF-8 as a whole, otherwise binary: nothing is held back or altered for it, and a text frame never
    ends within a character. After a close frame, ours or the peer's, data is taken and dropped: no frame may follow.

    Liveness. A beat of the broker's timers every `ping_interval_s`: a peer that has been silent for a whole one is
    pinged, and dropped if it is silent for another. While we do not read, silence proves nothing.
    """

    __slots__ = (
        "_beat_s", "_early", "_has_received", "_inner", "_is_close_sent", "_is_closed", "_is_lost", "_is_pinged",
        "_is_receiving", "_is_stopping", "_is_text", "_message_end", "_pong", "_reader", "_timer", "_timers", "_unsent",
        "http_login", "local", "peer",
    )  # fmt: skip

    def __init__(
        self,
        inner: Transport,
        spec: WebSocketSpec,
        settings: Websocket,
        timers: Timers,
        is_stopping: Callable[[], bool],
        http_login: tuple[str, str] | None,
        early: bytes = b"",
    ) -> None:
        """early: what came behind the request."""
        self.peer, self.local = inner.peer, inner.local
        self.http_login = http_login
        self._message_end = spec.message_end
        self._is_text = spec.is_text
        self._inner = inner
        self._reader = FrameReader(settings.max_message_size, takes_text=spec.takes_text)
        self._early = early
        self._unsent: list[bytes | memoryview] = []  # frames that the inner transport did not take
        self._pong = b""  # waits behind them
        self._is_close_sent = self._is_closed = self._is_lost = False
        self._is_receiving = self._has_received = self._is_pinged = False
        self._is_stopping = is_stopping
        self._timers = timers
        self._beat_s = settings.ping_interval_s
        self._timer: Timer | None = None
        if self._beat_s:
            # Not `after`: no entry from I/O has read the clock for us.
            self._timer = timers.at(trio.current_time() + self._beat_s, self._beat)

    def __repr__(self) -> str:
        return f"<WebSocketTransport {self.peer} unsent={len(self._unsent)} ending={self._reader.ending}>"

    # -- receiving

    async def receive(self) -> bytes:
        reader = self._reader
        while reader.ending is None:
            if self._early:
                data, self._early = self._early, b""
                await trio.lowlevel.checkpoint()
            else:
                data = await self._receive_raw()
                if not data:
                    return b""
            payload = reader.feed(data)
            if reader.pings:
                self._answer_pings()
            if reader.ending is not None:
                self._answer_ending()
            if payload:
                return payload
        await trio.lowlevel.checkpoint()
        return b""

    async def _receive_raw(self) -> bytes:
        self._is_receiving = True
        try:
            data = await self._inner.receive()
        except trio.ClosedResourceError:
            raise self._lost() from None
        finally:
            self._is_receiving = False
        self._has_received = True
        return data

    def _lost(self) -> OSError:
        return TimeoutError(errno.ETIMEDOUT, "no answer to a WebSocket ping" if self._is_lost else "closed")

    def _answer_pings(self) -> None:
        pings = self._reader.pings
        if self._is_close_sent:
            pass
        elif self._push():
            self._unsent = [frame_head(PONG, len(payload)) + payload for payload in pings]
            self._push()
        else:  # RFC 6455 5.5.3: the most recent one will do
            self._pong = frame_head(PONG, len(pings[-1])) + pings[-1]
        pings.clear()

    def _answer_ending(self) -> None:
        ending = self._reader.ending
        assert ending is not None
        if ending.is_fault:
            log.warning("peer=%s WebSocket closed by us: %d %s", self.peer, ending.code, ending.reason)
        self._send_close(close_frame(ending.code, ending.reason if ending.is_fault else ""))

    # -- sending

    @property
    def has_unsent(self) -> bool:
        return bool(self._unsent or self._pong) or self._inner.has_unsent

    def _push(self) -> bool:
        """Hand frames to the inner transport; True: all of it has reached the kernel. Forgives a peer that is gone:
        whoever sends data or receives is told."""
        try:
            return self._push_frames()
        except OSError:
            return False

    def _push_frames(self) -> bool:
        inner = self._inner
        while self._unsent or self._pong:
            if not self._unsent:
                self._unsent, self._pong = [self._pong], b""
            pieces = self._unsent[:VECTOR_PIECES]
            sent = inner.send_vector_nowait(pieces)
            whole = 0
            for piece in pieces:
                if sent < len(piece):
                    break
                sent -= len(piece)
                whole += 1
            del self._unsent[:whole]
            if whole < len(pieces):
                if sent:
                    self._unsent[0] = memoryview(self._unsent[0])[sent:]
                return False
        if inner.has_unsent:
            inner.send_vector_nowait([])
        return not inner.has_unsent

    def send_nowait(self, data: bytes) -> int:
        return self.send_vector_nowait([data])

    def send_vector_nowait(self, chunks: Sequence[bytes | memoryview]) -> int:
        if self._is_close_sent:
            self._push_frames()
            return sum(map(len, chunks))
        if self.has_unsent and not self._push_frames():
            return 0
        if not chunks:
            return 0
        frames: list[bytes | memoryview] = []
        taken = self._messages(frames, chunks) if self._message_end else self._stream(frames, chunks)
        if taken < JOINED_BYTES * len(frames):
            frame = b"".join(frames)
            sent = self._inner.send_nowait(frame)
            if sent < len(frame):
                self._unsent = [memoryview(frame)[sent:]]
        else:
            self._unsent = frames
            self._push_frames()
        return taken

    def _stream(self, frames: list[bytes | memoryview], chunks: Sequence[bytes | memoryview]) -> int:
        total = sum(map(len, chunks))
        if total <= MESSAGE_BYTES:
            if self._is_text and len(chunks) > 1:
                chunks = [b"".join(chunks)]
            opcode = TEXT if self._is_text and _is_utf8(chunks[0]) else BINARY
            frames.append(frame_head(opcode, total))
            frames += chunks
            return total
        for chunk in chunks:
            view = memoryview(chunk)
            for start in range(0, len(view), MESSAGE_BYTES):
                piece = view[start : start + MESSAGE_BYTES]
                opcode = TEXT if self._is_text and _is_utf8(piece) else BINARY
                frames += (frame_head(opcode, len(piece)), piece)
        return total

    def _messages(self, frames: list[bytes | memoryview], chunks: Sequence[bytes | memoryview]) -> int:
        data = b"".join(chunks)
        mark = self._message_end
        messages = data.split(mark)
        last = messages.pop()
        if not messages:
            messages, mark = [last], b""
        # The mark is no part of a character: if the whole is UTF-8, so is each.
        is_text = self._is_text and _is_utf8(data)
        is_mixed = self._is_text and not is_text
        for message in messages:
            opcode = TEXT if is_text or (is_mixed and _is_utf8(message)) else BINARY
            frames += (frame_head(opcode, len(message) + len(mark)), message, mark)
        return len(data) - len(last) if mark else len(data)

    def stop_reading(self) -> None:
        self._inner.stop_reading()

    async def wait_writable(self) -> None:
        try:
            await self._inner.wait_writable()
        except trio.ClosedResourceError:
            raise self._lost() from None

    # -- liveness and the end

    def _beat(self) -> None:
        if self._has_received or not self._is_receiving:
            self._has_received = self._is_pinged = False
        elif self._is_pinged:
            log.warning("peer=%s did not answer a WebSocket ping within %.6g s", self.peer, self._beat_s)
            self._is_lost = True
            self._inner.close()
            return
        else:
            self._is_pinged = True
            if self._push():
                self._unsent = [frame_head(PING, 0)]
                self._push()
        self._timer = self._timers.after(self._beat_s, self._beat)

    def _send_close(self, frame: bytes) -> None:
        if not self._is_close_sent:
            self._is_close_sent = True
            self._pong = b""
            self._unsent.append(frame)
            self._push()

    async def finish(self) -> None:
        """The closing handshake (RFC 6455 section 7), bounded in time; `close` is still to be called."""
        if self._is_closed or self._is_lost:
            return
        with trio.move_on_after(CLOSE_S), contextlib.suppress(OSError, trio.ClosedResourceError):
            # The peer may have gone, or be gone in the midst of it: then there is nobody to wait for.
            self._send_close(self._close_frame())
            while not self._push_frames():
                await self._inner.wait_writable()
            reader = self._reader
            while reader.ending is None or reader.ending.is_fault:
                data = await self._inner.receive()
                if not data:
                    return
                reader.feed(data)
                reader.pings.clear()

    def _close_frame(self) -> bytes:
        return close_frame(1001 if self._is_stopping() else 1000)

    def close(self) -> None:
        """At once: a close frame if none was sent and the kernel takes it, then the end of the stream."""
        if self._is_closed:
            return
        self._is_closed = True
        if self._timer is not None:
            self._timer.cancel()
        if not self._is_lost:
            self._send_close(self._close_frame())
        self._inner.close()

    # -- what the inner transport knows

    @property
    def read_bytes(self) -> int:
        return self._inner.read_bytes

    @read_bytes.setter
    def read_bytes(self, size: int) -> None:
        self._inner.read_bytes = size

    def acknowledge(self) -> None:
        self._inner.acknowledge()

    @property
    def certificate(self) -> dict[str, object] | None:
        return self._inner.certificate

    @property
    def tls_info(self) -> dict[str, object]:
        return self._inner.tls_info

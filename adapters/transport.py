"""How bytes come and go: plain sockets, and TLS over memory BIOs in the same batch-per-read shape."""

from __future__ import annotations

import contextlib
import errno
import socket
import ssl
from collections.abc import Sequence
from typing import Protocol

import trio

__all__ = ["READ_BULK_BYTES", "READ_BYTES", "PlainTransport", "TlsTransport", "Transport"]

READ_BYTES = 262144
READ_BULK_BYTES = (
    524288  # while large bodies stream: fewer of them are cut in two (measured: a quarter faster)
)


class Transport(Protocol):
    """One accepted connection. Receiving waits; sending never does."""

    peer: tuple[str, int] | None  # address and port; None for a Unix socket
    local: tuple[str, int] | None
    read_bytes: int  # how much `receive` takes at most; may be changed between two calls

    @property
    def has_unsent(self) -> bool:
        """Something that was taken has not reached the kernel yet (ciphertext): wait, then send again, even nothing."""

    async def receive(self) -> bytes:
        """The next chunk, up to `read_bytes`; b"" at the end. Always a checkpoint. OSError: the peer is gone."""

    def send_nowait(self, data: bytes) -> int:
        """Send what fits; how many bytes of data that was. OSError: the peer is gone."""

    def send_vector_nowait(self, chunks: Sequence[bytes | memoryview]) -> int:
        """The same for pieces that must not be copied together."""

    def acknowledge(self) -> None:
        """Have the kernel acknowledge at once what has arrived: a peer that sends crumbs must not wait for it."""

    def stop_reading(self) -> None:
        """Nothing more is wanted: whoever waits in `receive` wakes up, to a last chunk or the end."""

    async def wait_writable(self) -> None: ...
    def close(self) -> None:
        """At once; the peer sees the end of the stream."""

    @property
    def certificate(self) -> dict[str, object] | None:
        """The peer's verified certificate as `ssl.SSLSocket.getpeercert` gives it; None without TLS or certificate."""

    @property
    def tls_info(self) -> dict[str, object]:
        """Protocol and cipher for listings; empty without TLS."""

    @property
    def http_login(self) -> tuple[str, str] | None:
        """User and password of a WebSocket's HTTP request (Basic); None elsewhere."""


def _address(name: object) -> tuple[str, int] | None:
    return (str(name[0]), int(name[1])) if isinstance(name, tuple) and len(name) >= 2 else None


class PlainTransport:
    """A non-blocking socket: read when there is something, send straight away."""

    def __init__(self, sock: socket.socket) -> None:
        sock.setblocking(False)
        self._is_tcp = sock.family in (socket.AF_INET, socket.AF_INET6)
        if self._is_tcp:
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.socket = sock
        self.read_bytes = READ_BYTES
        self._is_full = False  # the last read filled most of its buffer
        self.peer: tuple[str, int] | None = None
        self.local: tuple[str, int] | None = None
        try:
            self.peer, self.local = _address(sock.getpeername()), _address(sock.getsockname())
        except OSError:
            # It has gone already and has no name. That is no Unix socket: it must not count as one of this machine.
            self.peer = self.local = ("", 0)

    @property
    def has_unsent(self) -> bool:
        return False

    async def receive(self) -> bytes:
        sock = self.socket
        if self._is_full:
            # There was more than fitted: no need to ask whether it is readable.
            await trio.lowlevel.checkpoint()
            try:
                data = sock.recv(self.read_bytes)
            except BlockingIOError:
                pass
            else:
                self._is_full = len(data) >= self.read_bytes // 2
                return data
        while True:
            await trio.lowlevel.wait_readable(sock)
            try:
                data = sock.recv(self.read_bytes)
            except BlockingIOError:
                continue
            self._is_full = len(data) >= self.read_bytes // 2
            return data

    def acknowledge(self) -> None:
        if self._is_tcp:
            self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_QUICKACK, 1)

    def send_nowait(self, data: bytes) -> int:
        try:
            return self.socket.send(data)
        except BlockingIOError:
            return 0

    def send_vector_nowait(self, chunks: Sequence[bytes | memoryview]) -> int:
        try:
            return self.socket.sendmsg(chunks)
        except BlockingIOError:
            return 0

    def stop_reading(self) -> None:
        with contextlib.suppress(OSError):  # not connected any more
            self.socket.shutdown(socket.SHUT_RD)

    async def wait_writable(self) -> None:
        await trio.lowlevel.wait_writable(self.socket)

    def close(self) -> None:
        if self.socket.fileno() == -1:
            return
        trio.lowlevel.notify_closing(self.socket)
        with contextlib.suppress(OSError):  # not connected any more
            self.socket.shutdown(socket.SHUT_WR)
        self.socket.close()

    @property
    def certificate(self) -> dict[str, object] | None:
        return None

    @property
    def tls_info(self) -> dict[str, object]:
        return {}

    @property
    def http_login(self) -> tuple[str, str] | None:
        return None


class TlsTransport:
    """TLS as two memory BIOs around a plain transport: a chunk of ciphertext in, a chunk of plaintext out.

    trio's SSLStream awaits per read of at most 16 KiB; here all records of a chunk are decrypted in one go, and all
    that a flush has to say is encrypted at once and sent with one `send`.
    """

    def __init__(self, plain: PlainTransport, context: ssl.SSLContext) -> None:
        self._plain = plain
        self._incoming = ssl.MemoryBIO()
        self._outgoing = ssl.MemoryBIO()
        self._tls = context.wrap_bio(self._incoming, self._outgoing, server_side=True)
        self._unsent: memoryview = memoryview(b"")  # ciphertext that the socket did not take
        self.peer, self.local = plain.peer, plain.local
        self.read_bytes = READ_BYTES

    @property
    def has_unsent(self) -> bool:
        return bool(self._unsent)

    async def handshake(self) -> None:
        """Raise ssl.SSLError or OSError if the peer cannot or will not."""
        while True:
            try:
                self._tls.do_handshake()
            except ssl.SSLWantReadError:
                await self._flush_all()
                await self._fill()
            except ssl.SSLError:
                with contextlib.suppress(OSError):  # the alert is a courtesy
                    self._push()
                raise
            else:
                await self._flush_all()
                return

    async def _flush_all(self) -> None:
        while not self._push():
            await self._plain.wait_writable()

    async def _fill(self) -> None:
        data = await self._plain.receive()
        if data:
            self._incoming.write(data)
        else:
            raise ConnectionResetError(errno.ECONNRESET, "closed during the TLS handshake")

    async def receive(self) -> bytes:
        while True:
            parts: list[bytes] = []
            ended = False
            try:
                while True:
                    part = self._tls.read(self.read_bytes)
                    if not part:
                        ended = True
                        break
                    parts.append(part)
            except ssl.SSLWantReadError:
                pass
            except ssl.SSLZeroReturnError:
                ended = True
            except ssl.SSLError as error:
                if not parts:
                    raise ConnectionResetError(errno.ECONNRESET, f"TLS: {error.reason}") from error
            if self._outgoing.pending:  # a renegotiation or key update answers
                self._push()
            if parts:
                await trio.lowlevel.checkpoint()
                return b"".join(parts) if len(parts) > 1 else parts[0]
            if ended:
                await trio.lowlevel.checkpoint()
                return b""
            data = await self._plain.receive()
            if not data:
                return b""
            self._incoming.write(data)

    def _push(self) -> bool:
        """Hand ciphertext to the socket; True: all of it went."""
        if not self._unsent:
            if not self._outgoing.pending:
                return True
            self._unsent = memoryview(self._outgoing.read())
        while self._unsent:
            sent = self._plain.send_nowait(self._unsent)  # type: ignore[arg-type]  # send takes any buffer
            if not sent:
                return False
            self._unsent = self._unsent[sent:]
            if not self._unsent and self._outgoing.pending:
                self._unsent = memoryview(self._outgoing.read())
        return True

    def send_nowait(self, data: bytes | memoryview) -> int:
        # What was encrypted must go before more is: the ciphertext buffer holds one flush, never two.
        if not self._push():
            return 0
        try:
            self._tls.write(data)
        except ssl.SSLError as error:
            raise ConnectionResetError(errno.ECONNRESET, f"TLS: {error.reason}") from error
        self._push()
        return len(data)

    def send_vector_nowait(self, chunks: Sequence[bytes | memoryview]) -> int:
        if not chunks:
            self._push()
            return 0
        return self.send_nowait(b"".join(chunks))

    def acknowledge(self) -> None:
        self._plain.acknowledge()

    def stop_reading(self) -> None:
        self._plain.stop_reading()

    async def wait_writable(self) -> None:
        await self._plain.wait_writable()

    def close(self) -> None:
        with contextlib.suppress(ssl.SSLError, OSError):  # close_notify is a courtesy
            self._tls.unwrap()
        with contextlib.suppress(OSError):
            self._push()
        self._plain.close()

    @property
    def certificate(self) -> dict[str, object] | None:
        certificate = self._tls.getpeercert()
        return dict(certificate) if certificate else None

    @property
    def tls_info(self) -> dict[str, object]:
        cipher = self._tls.cipher()
        return {"ssl_protocol": self._tls.version(), "ssl_cipher": cipher[0] if cipher else None}

    @property
    def http_login(self) -> tuple[str, str] | None:
        return None

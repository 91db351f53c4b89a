"""An HTTP/1.1 client for untrusted endpoints: h11 on trio, one connection that is kept alive, all sizes bounded.

Redirects are not followed and bodies not decompressed: the status decides, and the beginning of the body is logged.
"""

from __future__ import annotations

import select
import ssl
from collections.abc import Sequence
from dataclasses import dataclass, field

import h11
import trio

from leveret.plugins.webhooks.outgoing.connector import Connector, RequestFailed, Target

__all__ = ["Connection", "Reply"]

MAX_HEADER_BYTES = 32768
MAX_READ_BYTES = 65536  # of a reply's body; the connection is closed instead of reading more
MAX_INFORMATIONAL = 16  # 1xx replies before the final one
CONNECT_TIMEOUT_S = 10.0  # lookup, connect and TLS
BODY_TIMEOUT_S = 5.0  # for the body, once the status has decided
READ_BYTES = 16384


@dataclass(slots=True)
class Reply:
    """snippet: the first bytes of the body. note: a problem after the status, such as a body that did not end, or ""."""

    status: int
    headers: dict[str, str] = field(default_factory=dict)
    snippet: bytes = b""
    note: str = ""


class _Body:
    """Collects the beginning of a reply's body, and limits its length."""

    __slots__ = ("_left", "_wanted", "snippet")

    def __init__(self, wanted: int) -> None:
        self._wanted = wanted
        self._left = MAX_READ_BYTES
        self.snippet = b""

    def add(self, data: bytes | bytearray) -> None:
        if len(self.snippet) < self._wanted:
            self.snippet = (self.snippet + bytes(data))[: self._wanted]
        self._left -= len(data)
        if self._left < 0:
            raise RequestFailed("protocol", f"the body is longer than {MAX_READ_BYTES} bytes")


class Connection:
    """Sends requests to one target, one after the other, from one task at a time. `close` it at the end."""

    def __init__(
        self, connector: Connector, target: Target, *, connect_timeout_s: float = CONNECT_TIMEOUT_S
    ) -> None:
        self._connector = connector
        self._target = target
        self._connect_timeout_s = connect_timeout_s
        self._stream: trio.abc.Stream | None = None
        self._poll: select.poll | None = None  # of the socket, while the connection is open
        self._is_sent = False  # the whole request was sent
        self._http = h11.Connection(h11.CLIENT, max_incomplete_event_size=MAX_HEADER_BYTES)

    async def request(
        self,
        method: str,
        headers: Sequence[tuple[str, str]],
        body: bytes,
        *,
        timeout_s: float,
        snippet_bytes: int,
    ) -> Reply:
        """Send a request, and receive its answer. Content-Length and Host are added. Raise RequestFailed if there is no status.

        timeout_s: from connecting until the status; the body has BODY_TIMEOUT_S more. If the endpoint has closed a kept connection,
        the request is sent once more over a new one, so it may be received twice, as with every retry.
        """
        if self._stream is not None and not self._is_silent():
            self.close()
        is_kept = self._stream is not None
        # Cancel scopes are used directly: trio.fail_after is a generator, which would take a tenth of the time of a request.
        with trio.CancelScope(deadline=trio.current_time() + timeout_s) as scope:
            try:
                reply = await self._exchange(method, headers, body)
            except RequestFailed as error:
                if not is_kept or error.reason != "closed":
                    raise
                reply = await self._exchange(method, headers, body)
        if scope.cancelled_caught:
            raise RequestFailed("timeout", f"no answer within {timeout_s:g} s")
        # The status decides. A problem with the body is only noted.
        is_reusable = False
        try:
            is_reusable = await self._receive_body(reply, snippet_bytes)
        finally:
            if not is_reusable:
                self.close()
        return reply

    def _is_silent(self) -> bool:
        """Nothing was received on the kept connection since the last answer: neither its end nor an unsolicited answer, which would
        be mistaken for the answer to the next request."""
        return self._poll is None or not self._poll.poll(0)

    async def _exchange(self, method: str, headers: Sequence[tuple[str, str]], body: bytes) -> Reply:
        """Send a request and receive its status. Raise RequestFailed, with the connection closed."""
        try:
            if self._stream is None:
                await self._open()
            head = self._head(method, headers, body)
            assert self._stream is not None
            self._is_sent = False
            if len(body) < READ_BYTES:
                await self._send(self._stream, head + body)
                reply = await self._receive_head(self._stream)
            else:
                reply = await self._send_and_receive(self._stream, head, body)
            if not self._is_sent and 200 <= reply.status < 300:
                raise RequestFailed(
                    "protocol", f"{reply.status} was answered before the whole request was received"
                )
            return reply
        except BaseException:
            self.close()
            raise

    async def _open(self) -> None:
        with trio.CancelScope(deadline=trio.current_time() + self._connect_timeout_s) as scope:
            stream = await self._connector.open(self._target)
        if scope.cancelled_caught:
            raise RequestFailed("connect", f"no connection within {self._connect_timeout_s:g} s")
        self._stream = stream
        self._http = h11.Connection(h11.CLIENT, max_incomplete_event_size=MAX_HEADER_BYTES)
        sock = _socket_of(stream)
        self._poll = None if sock is None else select.poll()
        if sock is not None and self._poll is not None:
            self._poll.register(sock.fileno(), select.POLLIN)

    def _head(self, method: str, headers: Sequence[tuple[str, str]], body: bytes) -> bytes:
        """The head of a request. h11 is given only the headers of framing: checking the others would take a third of the time of a request."""
        http, target = self._http, self._target
        framing = [("Host", target.authority), ("Content-Length", str(len(body)))]
        lines = [f"{name}: {value}" for name, value in (*framing, *headers)]
        head = "\r\n".join([f"{method} {target.path} HTTP/1.1", *lines, "", ""]).encode("latin-1", "replace")
        if head.count(b"\n") != len(lines) + 2 or head.count(b"\r") != len(lines) + 2 or b"\0" in head:
            raise RequestFailed("protocol", "the request cannot be sent: a header has a line break in it")
        http.send(h11.Request(method=method, target=target.path, headers=framing))
        http.send(h11.Data(data=body))
        http.send(h11.EndOfMessage())
        return head

    async def _send(self, stream: trio.abc.Stream, *pieces: bytes) -> None:
        """Send, and ignore a broken connection: the endpoint may have answered before it closed the connection (413)."""
        try:
            for piece in pieces:
                await stream.send_all(piece)
            self._is_sent = True
        except (trio.BrokenResourceError, ssl.SSLError, OSError):
            return

    async def _send_and_receive(self, stream: trio.abc.Stream, head: bytes, body: bytes) -> Reply:
        """Send and receive at the same time. A refusal ends the sending; a success counts only after all was sent."""
        outcome: Reply | RequestFailed
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._send, stream, head, body)
            try:
                outcome = await self._receive_head(stream)
            except RequestFailed as error:
                outcome = error
            if isinstance(outcome, RequestFailed) or not 200 <= outcome.status < 300:
                nursery.cancel_scope.cancel()
        if isinstance(outcome, RequestFailed):
            raise outcome
        return outcome

    async def _receive_head(self, stream: trio.abc.Stream) -> Reply:
        has_begun = False
        for _ in range(MAX_INFORMATIONAL):
            while (event := self._next()) is h11.NEED_DATA:
                has_begun = await self._read(stream, has_begun) or has_begun
            if isinstance(event, h11.Response):
                headers = {name.decode("latin-1"): value.decode("latin-1") for name, value in event.headers}
                return Reply(event.status_code, headers)
            if not isinstance(event, h11.InformationalResponse):
                raise RequestFailed("closed", "the connection ended without an answer")
        raise RequestFailed("protocol", f"more than {MAX_INFORMATIONAL} provisional answers")

    async def _read(self, stream: trio.abc.Stream, has_begun: bool) -> bool:
        try:
            data = await stream.receive_some(READ_BYTES)
        except (trio.BrokenResourceError, ssl.SSLError, OSError) as error:
            reason = "protocol" if has_begun else "closed"
            raise RequestFailed(reason, f"the connection broke: {error.__cause__ or error}") from error
        if not data and not has_begun:
            raise RequestFailed("closed", "the connection ended without an answer")
        self._http.receive_data(bytes(data))
        return bool(data)

    def _next(self) -> object:
        try:
            return self._http.next_event()
        except h11.RemoteProtocolError as error:
            raise RequestFailed("protocol", f"the answer is not HTTP: {error}") from error

    async def _receive_body(self, reply: Reply, snippet_bytes: int) -> bool:
        """Receive the body, and set the reply's snippet and note. Returns True if the connection can be used again."""
        received = _Body(snippet_bytes)
        try:
            # Usually the body was received together with the status.
            if not self._drain(received):
                with trio.CancelScope(deadline=trio.current_time() + BODY_TIMEOUT_S) as scope:
                    assert self._stream is not None
                    while not self._drain(received):
                        await self._read(self._stream, has_begun=True)
                if scope.cancelled_caught:
                    reply.note = f"the body did not end within {BODY_TIMEOUT_S:g} s"
        except RequestFailed as error:
            reply.note = str(error)
        reply.snippet = received.snippet
        http = self._http
        if reply.note or http.our_state is not h11.DONE or http.their_state is not h11.DONE:
            return False
        if (
            not self._is_sent or http.trailing_data[0]
        ):  # a second answer would be mistaken for the next request's
            return False
        self._http.start_next_cycle()
        return True

    def _drain(self, body: _Body) -> bool:
        """Process the received bytes. Returns True at the end of the body. Raise RequestFailed."""
        while True:
            event = self._next()
            if event is h11.NEED_DATA:
                return False
            if not isinstance(event, h11.Data):
                return True
            body.add(event.data)

    def close(self) -> None:
        """Close the connection at once, without TLS's closing handshake."""
        stream, self._stream, self._poll = self._stream, None, None
        sock = None if stream is None else _socket_of(stream)
        if sock is not None:
            sock.close()


def _socket_of(stream: trio.abc.Stream) -> trio.socket.SocketType | None:
    """The socket of a stream; None for the streams of tests, which have none."""
    while isinstance(stream, trio.SSLStream):
        stream = stream.transport_stream
    return stream.socket if isinstance(stream, trio.SocketStream) else None

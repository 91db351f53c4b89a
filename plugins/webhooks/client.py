"""An HTTP/1.1 client for endpoints nobody trusts: h11 on trio, one connection that is kept alive, every size bounded.

The name is resolved here, each address is checked, and the connection goes to an address that was checked: a name whose
answer changes between check and connect (DNS rebinding) gains nothing. Redirects are answers like any other.
"""

from __future__ import annotations

import socket
import ssl
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from urllib.parse import urlsplit

import h11
import trio

from leveret.plugins.webhooks.addresses import AddressPolicy, AddressRefused, canonical, is_host_name

__all__ = ["Connection", "Dialer", "Reply", "RequestFailed", "Target"]

MAX_HEADER_BYTES = 32768
MAX_READ_BYTES = 65536  # of a reply's body, to keep the connection; a longer one costs the connection
MAX_INFORMATIONAL = 16  # 1xx replies before the final one
CONNECT_TIMEOUT_S = 10.0  # per address
BODY_TIMEOUT_S = 5.0  # for the body, once the status has decided
RESOLVERS = 32  # lookups at once: each occupies a thread, and a name server may take its time
READ_BYTES = 16384

Resolve = Callable[[str, int], Awaitable[Sequence[str]]]


class RequestFailed(Exception):
    """No status came. reason: a word for statistics: dns, address-refused, connect, tls, timeout, protocol, closed."""

    def __init__(self, reason: str, text: str) -> None:
        super().__init__(text)
        self.reason = reason


@dataclass(frozen=True, slots=True)
class Target:
    """Where requests go. host: without brackets; path: with the query, at least "/"."""

    scheme: str
    host: str
    port: int
    path: str

    @classmethod
    def of(cls, url: str) -> Target:
        """Raise ValueError, saying what is wrong with it."""
        if not url.isascii() or any(char <= " " or char == "\x7f" for char in url):
            raise ValueError(
                "a URL has no blanks and nothing but ASCII (names in punycode, paths percent-encoded)"
            )
        parts = urlsplit(url)
        if parts.scheme not in ("http", "https"):
            raise ValueError("a URL begins with https:// or http://")
        if parts.username is not None or parts.password is not None:
            raise ValueError("credentials belong into 'auth', not into the URL")
        if "#" in url:
            raise ValueError("a URL for requests has no fragment")
        host = parts.hostname or ""
        try:
            canonical(host)
        except ValueError:
            if not is_host_name(host):
                raise ValueError(
                    f"{host!r} is neither a host name nor an address in its usual form"
                ) from None
        port = parts.port  # raises ValueError
        if port == 0:
            raise ValueError("port 0 is none")
        path = parts.path or "/"
        if parts.query:
            path += f"?{parts.query}"
        return cls(parts.scheme, host, port or (443 if parts.scheme == "https" else 80), path)

    @property
    def authority(self) -> str:
        """The Host header."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return host if self.port == (443 if self.scheme == "https" else 80) else f"{host}:{self.port}"


@dataclass(slots=True)
class Reply:
    """snippet: the first bytes of the body. note: what was wrong behind the status (it did not end, ...), or ""."""

    status: int
    headers: dict[str, str] = field(default_factory=dict)
    snippet: bytes = b""
    note: str = ""


async def _resolve(host: str, port: int) -> Sequence[str]:
    """Addresses of a host, as the system knows them."""

    def look_up() -> list[str]:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
        return list(dict.fromkeys(str(entry[4][0]) for entry in found))

    return await trio.to_thread.run_sync(look_up, abandon_on_cancel=True, limiter=_resolvers())


_limiters: trio.lowlevel.RunVar[trio.CapacityLimiter] = trio.lowlevel.RunVar("webhook_resolvers")


def _resolvers() -> trio.CapacityLimiter:
    try:
        return _limiters.get()
    except LookupError:
        limiter = trio.CapacityLimiter(RESOLVERS)
        _limiters.set(limiter)
        return limiter


@dataclass(slots=True, eq=False)
class _Lookup:
    """Of one name, under way; its end is told to all who wait."""

    done: trio.Event = field(default_factory=trio.Event)
    found: Sequence[str] | None = None
    failure: RequestFailed | None = None


class Dialer:
    """Opens connections, to allowed addresses only. ca_file: authorities to trust beside nobody else; "": the system's."""

    def __init__(self, policy: AddressPolicy, *, ca_file: str = "", resolve: Resolve = _resolve) -> None:
        self._policy = policy
        self._resolve = resolve
        self._looking: dict[tuple[str, int], _Lookup] = {}  # at this moment
        self._tls = ssl.create_default_context(cafile=ca_file or None)
        self._tls.minimum_version = ssl.TLSVersion.TLSv1_2
        self._tls.set_alpn_protocols(["http/1.1"])

    async def open(self, target: Target) -> trio.abc.Stream:
        """Raise RequestFailed."""
        tcp = await self._connect(target)
        if target.scheme == "http":
            return tcp
        stream = trio.SSLStream(tcp, self._tls, server_hostname=target.host, https_compatible=True)
        try:
            await stream.do_handshake()
        except (trio.BrokenResourceError, ssl.SSLError, ssl.CertificateError) as error:
            await trio.aclose_forcefully(tcp)
            cause = error.__cause__ or error
            raise RequestFailed("tls", str(getattr(cause, "verify_message", "") or cause)) from error
        except BaseException:
            await trio.aclose_forcefully(tcp)
            raise
        return stream

    async def _connect(self, target: Target) -> trio.SocketStream:
        refused = ""
        failed = "no address"
        for address in await self._addresses(target):
            try:
                self._policy.check(address)
            except AddressRefused as error:
                refused = str(error)
                continue
            family = socket.AF_INET6 if ":" in address else socket.AF_INET
            sock = trio.socket.socket(family, socket.SOCK_STREAM)
            try:
                with trio.fail_after(CONNECT_TIMEOUT_S):
                    await sock.connect((address, target.port))
                sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                return trio.SocketStream(sock)
            except (OSError, trio.TooSlowError) as error:
                sock.close()
                failed = str(error) or f"no answer from {address} within {CONNECT_TIMEOUT_S:g} s"
                refused = ""
            except BaseException:
                sock.close()
                raise
        raise RequestFailed("address-refused" if refused else "connect", refused or failed)

    async def _addresses(self, target: Target) -> Sequence[str]:
        try:
            return [str(canonical(target.host))]
        except ValueError:
            pass
        return await self._look_up(target.host, target.port)

    async def _look_up(self, host: str, port: int) -> Sequence[str]:
        """One lookup of a name at a time, whose answer all share who wait for it: a slow name is one thread, not many."""
        key = (host, port)
        while (lookup := self._looking.get(key)) is not None:
            await lookup.done.wait()
            if lookup.failure is not None:
                raise lookup.failure
            if lookup.found is not None:
                return lookup.found  # else whoever did it was cancelled
        lookup = self._looking[key] = _Lookup()
        try:
            lookup.found = await self._resolve(host, port)
            return lookup.found
        except (OSError, UnicodeError) as error:
            lookup.failure = RequestFailed("dns", f"{host}: {error}")
            raise lookup.failure from error
        finally:
            del self._looking[key]
            lookup.done.set()


class _Body:
    """The beginning of a reply's body, and how long it is. Raise RequestFailed if it is too long."""

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
    """Requests to one target, one after the other. Not usable by two tasks at once; `close` it at the end."""

    def __init__(self, dialer: Dialer, target: Target) -> None:
        self._dialer = dialer
        self._target = target
        self._stream: trio.abc.Stream | None = None
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
        """Send, and wait for the status. Content-Length and Host are added. Raise RequestFailed.

        A kept connection that turns out to be closed is replaced once: the endpoint may see the request twice, as with
        every repetition.
        """
        is_kept = self._stream is not None
        # Scopes instead of trio.fail_after: as contexts made of generators they would cost a tenth of a request.
        with trio.CancelScope(deadline=trio.current_time() + timeout_s) as scope:
            try:
                reply = await self._exchange(method, headers, body)
            except RequestFailed as error:
                if not is_kept or error.reason != "closed":
                    raise
                reply = await self._exchange(method, headers, body)
        if scope.cancelled_caught:
            raise RequestFailed("timeout", f"no answer within {timeout_s:g} s")
        # The status has decided: whatever is wrong behind it is a note.
        is_reusable = False
        try:
            is_reusable = await self._receive_body(reply, snippet_bytes)
        finally:
            if not is_reusable:
                self.close()
        return reply

    async def _exchange(self, method: str, headers: Sequence[tuple[str, str]], body: bytes) -> Reply:
        """Until the status has come; without one the connection is gone. Raise RequestFailed."""
        try:
            if self._stream is None:
                self._stream = await self._dialer.open(self._target)
                self._http = h11.Connection(h11.CLIENT, max_incomplete_event_size=MAX_HEADER_BYTES)
            await self._send(self._stream, method, headers, body)
            return await self._receive_head(self._stream)
        except BaseException:
            self.close()
            raise

    async def _send(
        self, stream: trio.abc.Stream, method: str, headers: Sequence[tuple[str, str]], body: bytes
    ) -> None:
        """h11 is told what matters for framing, and not the other headers: checking those was a third of a request."""
        http, target = self._http, self._target
        framing = [("Host", target.authority), ("Content-Length", str(len(body)))]
        lines = [f"{name}: {value}" for name, value in (*framing, *headers)]
        head = "\r\n".join([f"{method} {target.path} HTTP/1.1", *lines, "", ""]).encode("latin-1", "replace")
        if head.count(b"\n") != len(lines) + 2 or head.count(b"\r") != len(lines) + 2 or b"\0" in head:
            raise RequestFailed("protocol", "the request cannot be made: a header has a line break")
        http.send(h11.Request(method=method, target=target.path, headers=framing))
        http.send(h11.Data(data=body))
        http.send(h11.EndOfMessage())
        try:
            if len(body) < READ_BYTES:
                await stream.send_all(head + body)
            else:
                await stream.send_all(head)
                await stream.send_all(body)
        except (trio.BrokenResourceError, ssl.SSLError, OSError):
            return  # it may have answered before it hung up (413): look

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
            raise RequestFailed("protocol", f"that is no HTTP: {error}") from error

    async def _receive_body(self, reply: Reply, snippet_bytes: int) -> bool:
        """Fill in the snippet and the note. True: the connection can be used again."""
        received = _Body(snippet_bytes)
        try:
            # Most often it has come with the status.
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
        if reply.note or self._http.our_state is not h11.DONE or self._http.their_state is not h11.DONE:
            return False
        self._http.start_next_cycle()
        return True

    def _drain(self, body: _Body) -> bool:
        """Take what has come. False: there is more. Raise RequestFailed."""
        while True:
            event = self._next()
            if event is h11.NEED_DATA:
                return False
            if not isinstance(event, h11.Data):
                return True
            body.add(event.data)

    def close(self) -> None:
        """At once, without a farewell."""
        stream, self._stream = self._stream, None
        while isinstance(stream, trio.SSLStream):
            stream = stream.transport_stream
        if isinstance(stream, trio.SocketStream):
            stream.socket.close()

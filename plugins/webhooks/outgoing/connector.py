"""Opens connections to untrusted endpoints, at allowed addresses only.

A name is resolved here, each of its addresses is checked, and the connection is opened to a checked address. A name whose address
changes between the check and the connection (DNS rebinding) has therefore no effect.
"""

from __future__ import annotations

import copy
import socket
import ssl
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from urllib.parse import urlsplit

import trio

from leveret.plugins.webhooks.outgoing.addresses import AddressPolicy, AddressRefused, canonical, is_host_name

__all__ = ["Connector", "RequestFailed", "Target"]

ADDRESS_TIMEOUT_S = 5.0  # after which the next address of the name is tried
RESOLVERS = 32  # concurrent lookups; each occupies a thread until the name server answers

Resolve = Callable[[str, int], Awaitable[Sequence[str]]]


class RequestFailed(Exception):
    """A request got no status. reason, for statistics: dns, address-refused, connect, tls, timeout, protocol, closed or oauth."""

    def __init__(self, reason: str, text: str) -> None:
        super().__init__(text)
        self.reason = reason


@dataclass(frozen=True, slots=True)
class Target:
    """The parts of a URL. host: without brackets; path: with the query, at least "/"."""

    scheme: str
    host: str
    port: int
    path: str

    @classmethod
    def of(cls, url: str) -> Target:
        """Parse a URL. Raise ValueError, whose text is a sentence for the user."""
        if not url.isascii() or any(char <= " " or char == "\x7f" for char in url):
            raise ValueError(
                "a URL has visible ASCII characters only (names in punycode, paths percent-encoded)"
            )
        try:
            parts = urlsplit(url)
            port = parts.port
        except ValueError:  # its text is the interpreter's
            raise ValueError("the host or the port of the URL is invalid") from None
        if parts.scheme not in ("http", "https"):
            raise ValueError("a URL begins with https:// or http://")
        if parts.username is not None or parts.password is not None:
            raise ValueError("credentials belong in 'auth', not in the URL")
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
        if port == 0:
            raise ValueError("port 0 cannot be used")
        path = parts.path or "/"
        if parts.query:
            path += f"?{parts.query}"
        return cls(parts.scheme, host, port or (443 if parts.scheme == "https" else 80), path)

    @property
    def authority(self) -> str:
        """The Host header."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return host if self.port == (443 if self.scheme == "https" else 80) else f"{host}:{self.port}"


async def _resolve(host: str, port: int) -> Sequence[str]:
    """The addresses of a host, from the system's resolver."""

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
    """A lookup that is under way, and whose result all waiting tasks share."""

    done: trio.Event = field(default_factory=trio.Event)
    found: Sequence[str] | None = None
    failure: RequestFailed | None = None


class Connector:
    """Opens connections, to allowed addresses only. ca_file: the only authorities to trust; "": the system's."""

    def __init__(self, policy: AddressPolicy, *, ca_file: str = "", resolve: Resolve = _resolve) -> None:
        self._policy = policy
        self._resolve = resolve
        self._looking: dict[tuple[str, int], _Lookup] = {}  # under way
        self._ca_file = ca_file
        self._tls = self._context()

    def _context(self) -> ssl.SSLContext:
        context = ssl.create_default_context(cafile=self._ca_file or None)
        context.minimum_version = ssl.TLSVersion.TLSv1_2
        context.set_alpn_protocols(["http/1.1"])
        return context

    def with_certificate(self, load_into: Callable[[ssl.SSLContext], None]) -> Connector:
        """A copy that presents a certificate to servers which ask for one. Raise ValueError."""
        other = copy.copy(self)
        other._tls = self._context()
        load_into(other._tls)
        return other

    def under(self, policy: AddressPolicy) -> Connector:
        """A copy with another address policy."""
        other = copy.copy(self)
        other._policy = policy
        return other

    async def open(self, target: Target) -> trio.abc.Stream:
        """Open a connection, with TLS for https. Raise RequestFailed."""
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
                with trio.fail_after(ADDRESS_TIMEOUT_S):
                    await sock.connect((address, target.port))
                sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                return trio.SocketStream(sock)
            except (OSError, trio.TooSlowError) as error:
                sock.close()
                failed = str(error) or f"no answer from {address} within {ADDRESS_TIMEOUT_S:g} s"
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
        """Look a name up. Tasks that look up the same name at the same time share one lookup, and so one thread."""
        key = (host, port)
        while (lookup := self._looking.get(key)) is not None:
            await lookup.done.wait()
            if lookup.failure is not None:
                raise lookup.failure
            if lookup.found is not None:
                return lookup.found  # otherwise the task that did the lookup was cancelled
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

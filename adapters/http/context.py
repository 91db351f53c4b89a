"""What all areas of the HTTP adapter share: the broker, who sent a request and what they may do, waiting, and bodies."""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable, Sequence
from typing import TYPE_CHECKING, Any, TypeVar

import trio
from aiohttp import web

from leveret.adapters.http.auth import PROTOCOL, RecentLogins, credentials_of, login_failed
from leveret.adapters.http.bodies import read_body, read_json
from leveret.adapters.http.commits import Commits
from leveret.adapters.http.errors import Refusal
from leveret.adapters.http.metrics.loop_lag import Lag
from leveret.adapters.http.rates import Rates
from leveret.adapters.http.settings import HttpSettings
from leveret.auth.contracts import AccessDenied, Principal, Resource
from leveret.core.errors import AuthorizationPending, NotAllowed, NotFound
from leveret.core.session import Session

if TYPE_CHECKING:
    from leveret.adapters.http.areas import Area
    from leveret.core.broker import Broker
__all__ = ["IS_CONFIRMED", "HttpContext", "Origin"]

PRINCIPAL: web.RequestKey[Principal] = web.RequestKey("principal", Principal)

IS_CONFIRMED: web.RequestKey[bool] = web.RequestKey("is_confirmed", bool)
"""Set by handlers that have already waited for the commit of everything they did."""

T = TypeVar("T")


class Origin:
    """The connection of a request, as sessions and tracers name connections."""

    __slots__ = ("name",)
    protocol_name = "http"  # in metrics

    def __init__(self, request: web.Request) -> None:
        peer = request.transport and request.transport.get_extra_info("peername")
        local = request.transport and request.transport.get_extra_info("sockname")
        self.name = " -> ".join(f"{address[0]}:{address[1]}" for address in (peer, local) if address)


class HttpContext:
    """The broker, and what handlers need beside it. Handlers are asyncio coroutines in the broker's own thread.

    started_at   seconds since the epoch
    lag          how late the loop is
    areas        all areas of this adapter, in the order of their names
    is_stopping  the server shuts down: requests that would wait are answered at once
    """

    def __init__(self, broker: Broker, loop: Any) -> None:
        self.broker = broker
        self.loop = loop
        self.rates = Rates(broker)
        self.commits = Commits(broker)
        self.lag = Lag(broker.timers)
        self.lag.start()
        self.started_at = time.time()
        self.areas: Sequence[Area] = ()
        self.is_stopping = False
        self._logins = RecentLogins(broker)

    # -- authentication and authorization

    async def authenticate(self, request: web.Request) -> Principal:
        """The sender of a request. Raise Refusal (401)."""
        if PRINCIPAL in request:
            return request[PRINCIPAL]
        header = request.headers.get("Authorization", "")
        peer_host = request.remote
        found = self._logins.find(header, peer_host)
        auth = self.broker.auth
        if found is None:
            credentials = credentials_of(header, peer_host)
            try:
                found = await self.trio(auth.authenticate, credentials)
            except (AccessDenied, trio.TooSlowError):
                raise login_failed() from None
            self._logins.remember(header, peer_host, found)
        else:
            auth.attempts.count(PROTOCOL, succeeded=True)  # each request is a login, asked anew or not
        request[PRINCIPAL] = found
        return found

    async def session(self, request: web.Request, vhost: str) -> Session:
        """The sender of a request, in a virtual host. Raise Refusal (401), NotFound, NotAllowed.

        Requests do not count as connections: limits of connections do not keep operators out.
        """
        principal = await self.authenticate(request)
        return await self.session_of(principal, vhost, Origin(request))

    async def session_of(self, principal: Principal, vhost: str, origin: object) -> Session:
        """origin owns what is exclusive; its `name` is what traces show. Raise NotFound, NotAllowed."""
        found = self.broker.vhosts.get(vhost)
        if found is None:
            raise NotFound(f"vhost {vhost} not found")
        if not await self.may_enter(principal, vhost):
            raise NotAllowed(f"access to vhost '{vhost}' refused for user '{principal.username}'")
        return Session(self.broker, found, principal, origin)

    async def may_enter(self, principal: Principal, vhost: str) -> bool:
        question = Resource("vhost", vhost)
        auth = self.broker.auth
        allowed = auth.authorize_nowait(principal, vhost, None, question)
        if allowed is None:
            allowed = await self.trio(auth.authorize, principal, vhost, None, question)
        return allowed

    async def decide(self, session: Session, decision: Callable[[], T]) -> T:
        """Call `decision` (synchronous, on the session); where a backend must be asked first, ask, and call it again."""
        while True:
            try:
                return decision()
            except AuthorizationPending as pending:
                try:
                    await self.trio(session.authorize, pending)
                except trio.TooSlowError:
                    raise Refusal(
                        503, "backend_unavailable", "an authorization backend did not answer"
                    ) from None
                self.broker.timers.tick()

    # -- waiting

    async def trio(
        self, function: Callable[..., Awaitable[T]], *arguments: Any, timeout_s: float | None = None
    ) -> T:
        """Await a trio function from a handler. Cancelling the handler cancels it.

        Args:
            timeout_s: how long it may take; by default auth.backend_timeout_s.

        Raises trio.TooSlowError.
        """
        limit_s = self.broker.settings.auth.backend_timeout_s if timeout_s is None else timeout_s

        async def bounded() -> T:
            with trio.fail_after(limit_s):
                return await function(*arguments)

        result: T = await self.loop.trio_as_future(bounded)
        return result

    async def durable(self) -> None:
        """Until everything that was done so far is on the disk. Raise Refusal (503) if that takes too long."""
        await self.commits.wait()

    # -- bodies

    async def body(self, request: web.Request) -> bytes:
        """All of it, within `http.max_body_size` and `http.body_timeout_s`. Raise Refusal (413, 408)."""
        return await read_body(request, HttpSettings.of(self.broker.settings))

    async def json(self, request: web.Request) -> dict[str, Any]:
        """The body as a JSON object; an empty body is an empty one. Raise Refusal (400, 413, 408)."""
        return await read_json(request, HttpSettings.of(self.broker.settings))

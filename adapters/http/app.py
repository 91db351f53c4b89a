"""The application: what every area shares (`HttpContext`), the areas, and the middleware around each handler."""

from __future__ import annotations

import asyncio
import importlib
import re
import time
from collections.abc import Awaitable, Callable, Iterable
from typing import TYPE_CHECKING, Any, Protocol, TypeVar

import trio
from aiohttp import web
from aiohttp.http import RawRequestMessage
from yarl import URL

from leveret.adapters.http.aio.protocol import expect
from leveret.adapters.http.auth import PROTOCOL, RecentLogins, credentials_of, login_failed
from leveret.adapters.http.bodies import read_body, read_json
from leveret.adapters.http.commits import Commits
from leveret.adapters.http.cors import add_cors
from leveret.adapters.http.errors import Refusal, refusal_of, refusal_response
from leveret.adapters.http.metrics.loop_lag import Lag
from leveret.adapters.http.origin import check_origin
from leveret.adapters.http.rates import Rates
from leveret.adapters.http.settings import HttpSettings
from leveret.auth.contracts import AccessDenied, Principal, Resource
from leveret.core.errors import AuthorizationPending, NotAllowed, NotFound
from leveret.core.session import Session

if TYPE_CHECKING:
    from leveret.core.broker import Broker
    from leveret.core.counters import MetricSource
__all__ = [
    "AREAS",
    "IS_CONFIRMED",
    "METRICS_AREAS",
    "HttpContext",
    "Origin",
    "build_app",
    "without_trailing_slash",
]

AREAS = (
    "leveret.adapters.http.management.area",
    "leveret.adapters.http.messaging",
    "leveret.plugins.webhooks.http_routes",
    "leveret.adapters.http.metrics",
    "leveret.adapters.http.health",
    "leveret.adapters.http.openapi",
    "leveret.adapters.http.pages",
)
"""Modules with `routes(context) -> list[web.RouteDef]`, in the order of matching. Imported when the listener is built."""
METRICS_AREAS = ("leveret.adapters.http.metrics",)
"""What the prometheus listener serves."""
PRINCIPAL: web.RequestKey[Principal] = web.RequestKey("principal", Principal)
IS_CONFIRMED: web.RequestKey[bool] = web.RequestKey("is_confirmed", bool)
"""Set by handlers that have waited for the commit of all they did, and have answered for it."""

T = TypeVar("T")
Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


class Origin:
    """Where a request came from, as sessions and tracers know connections."""

    __slots__ = ("name",)
    protocol_name = "http"  # in metrics

    def __init__(self, request: web.Request) -> None:
        peer = request.transport and request.transport.get_extra_info("peername")
        local = request.transport and request.transport.get_extra_info("sockname")
        self.name = " -> ".join(f"{address[0]}:{address[1]}" for address in (peer, local) if address)


class HttpContext:
    """The broker, and what handlers need beside it. Handlers are asyncio coroutines in the broker's own thread.

    started_at  seconds since the epoch
    lag         how late the loop is
    measured    areas that have numbers of their own for /metrics
    stopping    is set when the server shuts down: whoever makes a request wait (a long poll, a stream of events) watches it
    """

    def __init__(self, broker: Broker, loop: Any) -> None:
        self.broker = broker
        self.loop = loop
        self.rates = Rates(broker)
        self.commits = Commits(broker)
        self.lag = Lag(broker.timers)
        self.lag.start()
        self.measured: list[MetricSource] = []
        self.started_at = time.time()
        self.stopping = asyncio.Event()
        self._logins = RecentLogins(broker)

    # -- who, and may they

    async def authenticate(self, request: web.Request) -> Principal:
        """Whoever sent it. Raise Refusal (401)."""
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
        """Whoever sent it, in a virtual host. Raise Refusal (401), NotFound, NotAllowed.

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


class Area(Protocol):
    def routes(self, context: HttpContext) -> Iterable[web.RouteDef]: ...


def build_app(context: HttpContext, areas: Iterable[str] = AREAS) -> web.Application:
    # Bodies are read by `context.body`, whose limit can be reloaded; this one is for whoever does not.
    app = web.Application(
        middlewares=[_around(context)], client_max_size=HttpSettings.of(context.broker.settings).max_body_size
    )
    for name in areas:
        area: Area = importlib.import_module(name)
        for route in area.routes(context):
            _add(app.router, route)
    return app


def _add(router: web.UrlDispatcher, route: web.RouteDef) -> None:
    # aiohttp's default for {part} excludes braces, which names may have.
    path = re.sub(r"\{(\w+)\}", r"{\1:[^/]+}", route.path)
    if route.method == "GET":
        router.add_get(path, route.handler, allow_head=True, expect_handler=expect)
    else:
        router.add_route(route.method, path, route.handler, expect_handler=expect)


def _around(context: HttpContext) -> Any:
    """The one middleware: the clock before, the dispatcher after, the commit of what changed, errors as answers, CORS."""
    broker = context.broker
    store, timers, dispatcher = broker.store, broker.timers, broker.dispatcher

    @web.middleware
    async def around(request: web.Request, handler: Handler) -> web.StreamResponse:
        timers.tick()
        before = store.definition_writes
        response: web.StreamResponse
        try:
            check_origin(request, HttpSettings.of(broker.settings).cors_origins)
            response = await handler(request)
        except Exception as error:  # noqa: BLE001  # every error becomes an answer; ours are logged there
            if isinstance(error, web.HTTPMethodNotAllowed) and request.method == "OPTIONS":
                allowed = ", ".join(sorted(error.allowed_methods | {"OPTIONS"}))
                response = web.Response(headers={"Allow": allowed})
            else:
                response = refusal_response(refusal_of(error, request), request)
        else:
            # What is refused promises nothing; what is answered already, or waited for already, has been.
            if store.definition_writes != before and not response.prepared and IS_CONFIRMED not in request:
                dispatcher.run()
                try:
                    await context.durable()
                except Refusal as refusal:
                    response = refusal_response(refusal, request)
        finally:
            dispatcher.run()
        if not response.prepared:
            response.headers["Server"] = "Leveret"
            add_cors(request, response, HttpSettings.of(broker.settings).cors_origins)
        return response

    return around


def without_trailing_slash(make_request: Callable[..., web.BaseRequest]) -> Callable[..., web.BaseRequest]:
    """RabbitMQ answers /api/overview/ as /api/overview; so do we, before any route is looked for."""

    def make(message: RawRequestMessage, *rest: Any) -> web.BaseRequest:
        target = message.path
        if target.startswith("/api/") and (target.endswith("/") or "/?" in target):
            path, question, query = target.partition("?")
            path = path.rstrip("/") or "/"
            url = URL.build(path=path, query_string=query, encoded=True)
            message = message._replace(path=f"{path}{question}{query}", url=url)
        return make_request(message, *rest)

    return make

"""The application of a listener: the routes of its areas, and the middleware around each handler."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from typing import Any

from aiohttp import web
from aiohttp.http import RawRequestMessage
from yarl import URL

from leveret.adapters.http.aio.protocol import expect
from leveret.adapters.http.areas import Area, Handler
from leveret.adapters.http.context import IS_CONFIRMED, HttpContext
from leveret.adapters.http.cors import add_cors
from leveret.adapters.http.errors import Refusal, refusal_of, refusal_response
from leveret.adapters.http.origin import check_origin
from leveret.adapters.http.settings import HttpSettings
from leveret.core.registry import PluginError

__all__ = ["build_app", "without_trailing_slash"]


def build_app(context: HttpContext, areas: Iterable[Area]) -> web.Application:
    """An application with the routes of these areas.

    Raise PluginError if two areas have the same method and path, or an area's routes cannot be added.
    """
    # Bodies are read by `context.body`, whose limit can be reloaded; this one is for handlers that read them otherwise.
    app = web.Application(
        middlewares=[_around(context)], client_max_size=HttpSettings.of(context.broker.settings).max_body_size
    )
    owners: dict[tuple[str, str], str] = {}
    for area in areas:
        try:
            routes = list(area.routes())
            for route in routes:
                path = _any_characters(route.path)
                owner = owners.setdefault((route.method, re.sub(r"\{\w+", "{", path)), area.name)
                if owner != area.name:
                    raise PluginError(
                        f"HTTP areas '{owner}' and '{area.name}' both have {route.method} {route.path}"
                    )
                _add(app.router, route.method, path, route.handler, allow_head=route.allow_head)
        except PluginError:
            raise
        except Exception as error:
            raise PluginError(
                f"the routes of HTTP area '{area.name}' cannot be added: {type(error).__name__}: {error}"
            ) from error
    return app


def _any_characters(path: str) -> str:
    # aiohttp's default for {part} excludes braces, which names may have.
    return re.sub(r"\{(\w+)\}", r"{\1:[^/]+}", path)


def _add(router: web.UrlDispatcher, method: str, path: str, handler: Handler, *, allow_head: bool) -> None:
    if method == "GET":
        router.add_get(path, handler, allow_head=allow_head, expect_handler=expect)
    else:
        router.add_route(method, path, handler, expect_handler=expect)


def _around(context: HttpContext) -> Any:
    """The middleware: reads the clock before, runs the dispatcher after, waits for commits, turns errors into answers, adds CORS."""
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
            # A refusal confirms nothing; a response that has been prepared, or a handler that has waited, needs no more.
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

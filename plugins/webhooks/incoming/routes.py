"""Managing sources of webhooks over HTTP: /v1/webhook-sources."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from aiohttp import web

from leveret.adapters.http.json_encoding import json_response
from leveret.auth.contracts import Permission
from leveret.core.errors import NotFound
from leveret.plugins.webhooks.calls import MAY_LOOK, Call, check_tags, route, running_plugin
from leveret.plugins.webhooks.incoming import COMPONENT
from leveret.plugins.webhooks.incoming.masking import masked
from leveret.plugins.webhooks.incoming.receiver import RESULTS

if TYPE_CHECKING:
    from leveret.adapters.http.app import HttpContext
    from leveret.core.vhost import Vhost
    from leveret.plugins.webhooks.incoming.receiver import Receiver
__all__ = ["routes"]


def routes(context: HttpContext, receiver: Receiver) -> list[web.RouteDef]:
    """All of them. receiver: counts what the sources have received."""
    handlers = _Handlers(context, receiver)
    one = "/v1/webhook-sources/{vhost}/{name}"
    return [
        web.get("/v1/webhook-sources", handlers.list_all),
        route(context, "GET", "/v1/webhook-sources/{vhost}", handlers.list_one),
        route(context, "GET", one, handlers.get),
        route(context, "PUT", one, handlers.put, changes=True),
        route(context, "PATCH", one, handlers.patch, changes=True),
        route(context, "DELETE", one, handlers.delete, changes=True),
    ]


class _Handlers:
    def __init__(self, context: HttpContext, receiver: Receiver) -> None:
        self._context = context
        self._receiver = receiver

    def _shown(self, vhost: Vhost, name: str) -> dict[str, Any]:
        value = vhost.parameters.get((COMPONENT, name))
        if value is None:
            raise _not_found(vhost, name)
        counts = self._receiver.counts(vhost.name, name)
        return {
            "name": name,
            "vhost": vhost.name,
            "path": f"/hooks/{quote(vhost.name, safe='')}/{quote(name, safe='')}",
            **masked(value),
            "statistics": {one: counts[one] for one in RESULTS},
        }

    def _all_shown(self, vhost: Vhost) -> list[dict[str, Any]]:
        names = sorted(name for component, name in vhost.parameters if component == COMPONENT)
        return [self._shown(vhost, name) for name in names]

    async def list_all(self, request: web.Request) -> web.StreamResponse:
        """Sources of webhooks in all virtual hosts that the user may enter."""
        await check_tags(self._context, request, MAY_LOOK)
        running_plugin(self._context)
        principal = await self._context.authenticate(request)
        found: list[dict[str, Any]] = []
        for name, vhost in sorted(self._context.broker.vhosts.items()):
            if await self._context.may_enter(principal, name):
                found += self._all_shown(vhost)
        return json_response(found)

    async def list_one(self, call: Call) -> web.StreamResponse:
        """Sources of webhooks in a virtual host."""
        return json_response(self._all_shown(call.vhost))

    async def get(self, call: Call) -> web.StreamResponse:
        """One source of webhooks, its secrets masked, and what it has received."""
        return json_response(self._shown(call.vhost, call.name))

    async def put(self, call: Call) -> web.StreamResponse:
        """Set a source: 201 for a new one, with its generated secret, which no later answer shows; 200 for a changed one."""
        return await self._set(call, await call.context.json(call.request))

    async def patch(self, call: Call) -> web.StreamResponse:
        """Change members of a source (JSON merge patch, RFC 7396)."""
        changes = await call.context.json(call.request)
        before = call.vhost.parameters.get((COMPONENT, call.name))
        if before is None:
            raise _not_found(call.vhost, call.name)
        return await self._set(call, _merged(before, changes))

    async def _set(self, call: Call, value: dict[str, Any]) -> web.StreamResponse:
        session, vhost, name = call.session, call.vhost, call.name
        is_new = (COMPONENT, name) not in vhost.parameters
        exchange = value.get("exchange") if value.get("queue") is None else ""
        if isinstance(exchange, str):  # the component's owner refuses anything else
            exchange = "" if exchange == "amq.default" else exchange
            await call.context.decide(
                session, lambda: session.require(Permission.WRITE, "exchange", exchange)
            )
        vhost.set_parameter(COMPONENT, name, value)
        shown = self._shown(vhost, name)
        given = value.get("verification")
        if is_new and isinstance(given, dict) and given.get("secrets") is None:
            made = vhost.parameters[COMPONENT, name]["verification"].get("secrets")
            if made:
                shown["verification"]["secrets"] = made
        return json_response(shown, 201 if is_new else 200)

    async def delete(self, call: Call) -> web.StreamResponse:
        """Delete a source."""
        self._shown(call.vhost, call.name)
        call.vhost.clear_parameter(COMPONENT, call.name)
        self._receiver.forget(call.vhost.name, call.name)
        return web.Response(status=204)


def _not_found(vhost: Vhost, name: str) -> NotFound:
    return NotFound(f"no webhook source '{name}' in vhost '{vhost.name}'")


def _merged(before: Any, changes: Any) -> Any:
    if not isinstance(changes, dict):
        return changes
    merged = dict(before) if isinstance(before, dict) else {}
    for name, value in changes.items():
        if value is None:
            merged.pop(name, None)
        else:
            merged[name] = _merged(merged.get(name), value)
    return merged

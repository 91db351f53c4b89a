"""The routes of incoming webhooks: /hooks, and /v1/webhook-sources, which manages their sources."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from aiohttp import web

from leveret.adapters.http.areas import Route
from leveret.adapters.http.json_encoding import json_response
from leveret.adapters.http.openapi.builders import BINARY, JSON, TEXT, Json, answer, list_of, operation, ref
from leveret.auth.contracts import Permission
from leveret.core.errors import NotFound
from leveret.plugins.webhooks.calls import (
    MAY_CHANGE,
    MAY_LOOK,
    Call,
    Handler,
    check_tags,
    route,
    running_plugin,
)
from leveret.plugins.webhooks.incoming import COMPONENT
from leveret.plugins.webhooks.incoming.masking import masked
from leveret.plugins.webhooks.incoming.receiver import RESULTS

if TYPE_CHECKING:
    from leveret.adapters.http.context import HttpContext
    from leveret.core.vhost import Vhost
    from leveret.plugins.webhooks.incoming.receiver import Receiver
__all__ = ["routes"]


TAG = "webhooks in"
SOURCES = {200: answer("The sources.", list_of(ref("WebhookSource")))}
CHANGED = answer("Changed.", ref("WebhookSource"))
CREATED = answer("Created; the secret is shown only here.", ref("WebhookSource"))
RECEIVE = operation(
    ok={
        200: {
            "description": "Stored, or seen before; or the answer to a challenge.",
            "content": {JSON: {}, TEXT: {}},
        },
        201: answer("Stored.", {}, JSON),
        202: answer("Stored.", {}, JSON),
        204: answer("Stored."),
    },
    body=BINARY,
    types=(JSON, "application/octet-stream"),
    optional_body=True,
    security=[],
    also="401 403 422 429",
)
ASK = operation(
    ok={200: answer("The challenge, of a sender that asks by GET.", {}, TEXT)}, security=[], also="405"
)
HANDSHAKE = operation(
    ok={200: answer("Headers say whether this origin may send webhooks here.")}, security=[]
)


def routes(context: HttpContext, receiver: Receiver) -> list[Route]:
    """All routes below /v1/webhook-sources and /hooks. receiver: receives webhooks, and counts them for the sources."""
    handlers = _Handlers(context, receiver)

    def look(method: str, path: str, handler: Handler, operation: Json) -> Route:
        return route(context, method, path, handler, operation, tag=TAG)

    def change(method: str, path: str, handler: Handler, operation: Json) -> Route:
        return route(context, method, path, handler, operation, tag=TAG, needs=MAY_CHANGE)

    one, hook = "/v1/webhook-sources/{vhost}/{name}", "/hooks/{vhost}/{name}{rest:(/.*)?}"
    changed = operation(ok={200: CHANGED}, body={"type": "object"}, also="409")
    return [
        Route("GET", "/v1/webhook-sources", handlers.list_all, operation(ok=SOURCES), TAG),
        look("GET", "/v1/webhook-sources/{vhost}", handlers.list_one, operation(ok=SOURCES)),
        look("GET", one, handlers.get, operation(ok={200: answer("The source.", ref("WebhookSource"))})),
        change(
            "PUT",
            one,
            handlers.put,
            operation(ok={200: CHANGED, 201: CREATED}, body={"type": "object"}, also="409"),
        ),
        change("PATCH", one, handlers.patch, changed),
        change("DELETE", one, handlers.delete, operation(ok={204: answer("Deleted.")})),
        Route("POST", hook, receiver.receive, RECEIVE, TAG),
        Route("GET", hook, receiver.ask, ASK, TAG, allow_head=False),
        Route("OPTIONS", hook, receiver.handshake, HANDSHAKE, TAG),
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

"""Sources of webhooks, managed: /v1/webhook-sources. Secrets go in, and come out once, if they were made here."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from aiohttp import web

from leveret.adapters.http.errors import Refusal
from leveret.adapters.http.json_encoding import json_response
from leveret.adapters.http.webhooks.incoming_source import COMPONENT, masked
from leveret.auth.contracts import Permission
from leveret.core.errors import NotFound

if TYPE_CHECKING:
    from leveret.adapters.http.app import HttpContext
    from leveret.adapters.http.webhooks.incoming import Hooks
    from leveret.core.session import Session
    from leveret.core.vhost import Vhost
__all__ = ["Administration"]

MAY_CHANGE = frozenset({"policymaker", "administrator"})
MAY_LOOK = MAY_CHANGE | {"monitoring"}


class Administration:
    """The handlers."""

    def __init__(self, context: HttpContext, hooks: Hooks) -> None:
        self._context = context
        self._hooks = hooks

    async def _check_tags(self, request: web.Request, needed: frozenset[str]) -> None:
        principal = await self._context.authenticate(request)
        if not principal.tags & needed:
            raise Refusal(403, "not_authorised", f"this needs one of the tags {', '.join(sorted(needed))}")

    async def _session(self, request: web.Request, needed: frozenset[str]) -> Session:
        await self._check_tags(request, needed)
        return await self._context.session(request, request.match_info["vhost"])

    def _shown(self, vhost: Vhost, name: str) -> dict[str, Any]:
        value = vhost.parameters.get((COMPONENT, name))
        if value is None:
            raise NotFound(f"no webhook source '{name}' in vhost '{vhost.name}'")
        counts = self._hooks.counts(vhost.name, name)
        return {
            "name": name,
            "vhost": vhost.name,
            "path": f"/hooks/{quote(vhost.name, safe='')}/{quote(name, safe='')}",
            **masked(value),
            "statistics": {one: counts[one] for one in ("received", "duplicates", "refused", "failed")},
        }

    def _names(self, vhost: Vhost) -> list[str]:
        return sorted(name for component, name in vhost.parameters if component == COMPONENT)

    async def list_all(self, request: web.Request) -> web.StreamResponse:
        """Sources of webhooks in all virtual hosts that the user may enter."""
        await self._check_tags(request, MAY_LOOK)
        principal = await self._context.authenticate(request)
        found = []
        for name, vhost in sorted(self._context.broker.vhosts.items()):
            if await self._context.may_enter(principal, name):
                found += [self._shown(vhost, one) for one in self._names(vhost)]
        return json_response(found)

    async def list_one(self, request: web.Request) -> web.StreamResponse:
        """Sources of webhooks in a virtual host."""
        vhost = (await self._session(request, MAY_LOOK)).vhost
        return json_response([self._shown(vhost, name) for name in self._names(vhost)])

    async def get(self, request: web.Request) -> web.StreamResponse:
        """One source of webhooks, its secrets masked, and what it has received."""
        session = await self._session(request, MAY_LOOK)
        return json_response(self._shown(session.vhost, request.match_info["name"]))

    async def put(self, request: web.Request) -> web.StreamResponse:
        """Set a source: 201 for a new one, with the secret that was made for it, for this one time; 200 for another version."""
        session = await self._session(request, MAY_CHANGE)
        return await self._set(request, session, await self._context.json(request))

    async def patch(self, request: web.Request) -> web.StreamResponse:
        """Change members of a source (JSON merge patch, RFC 7396)."""
        session = await self._session(request, MAY_CHANGE)
        changes = await self._context.json(request)
        name = request.match_info["name"]
        before = session.vhost.parameters.get((COMPONENT, name))
        if before is None:
            raise NotFound(f"no webhook source '{name}' in vhost '{session.vhost.name}'")
        return await self._set(request, session, _merged(before, changes))

    async def _set(self, request: web.Request, session: Session, value: dict[str, Any]) -> web.StreamResponse:
        vhost, name = session.vhost, request.match_info["name"]
        is_new = (COMPONENT, name) not in vhost.parameters
        exchange = value.get("exchange") if value.get("queue") is None else ""
        if isinstance(exchange, str):  # all else is refused in a moment
            exchange = "" if exchange == "amq.default" else exchange
            await self._context.decide(
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

    async def delete(self, request: web.Request) -> web.StreamResponse:
        """Delete a source."""
        session = await self._session(request, MAY_CHANGE)
        name = request.match_info["name"]
        self._shown(session.vhost, name)
        session.vhost.clear_parameter(COMPONENT, name)
        self._hooks.forget(session.vhost.name, name)
        return web.Response(status=204)


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

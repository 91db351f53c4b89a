"""What every resource of the management API is made of: a table of routes, and the call that a handler gets."""

from __future__ import annotations

import inspect
import re
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from aiohttp import web

from leveret.adapters.http.areas import Route as HttpRoute
from leveret.adapters.http.errors import Refusal
from leveret.adapters.http.json_encoding import json_response
from leveret.adapters.http.management.columns import columns_of, cut
from leveret.adapters.http.openapi.builders import Json
from leveret.auth.contracts import Principal
from leveret.core.session import Session

if TYPE_CHECKING:
    from leveret.adapters.http.context import HttpContext
    from leveret.core.broker import Broker
    from leveret.core.vhost import Vhost
__all__ = ["Call", "Route", "http_route", "not_authorised", "not_found"]

NO_CACHE = {"Cache-Control": "no-cache", "Vary": "Accept-Encoding, Origin"}

# Who may: any of these tags; and what RabbitMQ tells the others (401 all of it, with its spelling).
ACCESS: dict[str, tuple[frozenset[str], str]] = {
    "management": (
        frozenset({"management", "policymaker", "monitoring", "administrator"}),
        "Not management user",
    ),
    "monitoring": (frozenset({"monitoring", "administrator"}), "Not monitor user"),
    "policymaker": (
        frozenset({"policymaker", "administrator"}),
        "User not authorised to access object",
    ),
    "administrator": (frozenset({"administrator"}), "Not administrator user"),
}
SEES_ALL = ACCESS["monitoring"][0]


def not_authorised(reason: str) -> Refusal:
    return Refusal(401, "not_authorised", reason)


def not_found() -> Refusal:
    return Refusal(404, "Object Not Found", "Not Found")


class Call:
    """One request of one principal."""

    __slots__ = ("_vhosts", "broker", "context", "principal", "request")

    def __init__(self, context: HttpContext, request: web.Request, principal: Principal) -> None:
        self.context = context
        self.broker: Broker = context.broker
        self.request = request
        self.principal = principal
        self._vhosts: list[Vhost] | None = None

    # -- what was asked

    def part(self, name: str) -> str:
        """Of the path, decoded."""
        return self.request.match_info[name]

    def query(self, name: str, default: str = "") -> str:
        return self.request.query.get(name, default)

    def flag(self, name: str) -> bool:
        """Only the literal `true`."""
        return self.request.query.get(name) == "true"

    async def json(self) -> dict[str, Any]:
        """The body, an object; {} if there is none. Raise Refusal."""
        return await self.context.json(self.request)

    # -- who asks

    def has(self, tag: str) -> bool:
        """May do what needs this tag (administrators may all)."""
        return self.may(self.principal, tag)

    @staticmethod
    def may(principal: Principal, tag: str) -> bool:
        return not ACCESS[tag][0].isdisjoint(principal.tags)

    @property
    def sees_all(self) -> bool:
        """Connections and channels of others, and all virtual hosts."""
        return not SEES_ALL.isdisjoint(self.principal.tags)

    # -- virtual hosts

    async def vhost(self, part: str = "vhost") -> Vhost:
        """The one in the path, if the user may enter it. Raise Refusal (404, 401)."""
        name = self.part(part)
        vhost = self.broker.vhosts.get(name)
        if vhost is None:
            raise not_found()
        if not await self.context.may_enter(self.principal, name):
            raise not_authorised("User not authorised to access virtual host")
        return vhost

    async def vhosts(self) -> list[Vhost]:
        """Those that the user may enter; with `vhost` in the path that one alone. By name. Raise Refusal."""
        if "vhost" in self.request.match_info:
            return [await self.vhost()]
        if self._vhosts is None:
            self._vhosts = [
                vhost
                for name, vhost in sorted(self.broker.vhosts.items())
                if await self.context.may_enter(self.principal, name)
            ]
        return self._vhosts

    async def session(self, part: str = "vhost") -> Session:
        """The user in the virtual host of the path: for what changes things. Raise Refusal (404, 401)."""
        await self.vhost(part)
        return await self.context.session(self.request, self.part(part))


Handler = Callable[[Call], Awaitable[Any]]


@dataclass(frozen=True, slots=True)
class Route:
    """One row of a resource's table. path: below /api; needs: a key of ACCESS, "" for everybody, unasked who they are.

    takes_auth: a link may have the login in its query, `auth=` and what Basic would have; headers come first.
    The handler's answer is what becomes JSON, or a response; its docstring's first line describes it.
    """

    method: str
    path: str
    handler: Handler
    needs: str = "management"
    takes_auth: bool = False

    @property
    def summary(self) -> str:
        return (inspect.getdoc(self.handler) or "").partition("\n")[0]

    @property
    def parts(self) -> list[str]:
        return re.findall(r"\{(\w+)\}", self.path)


def http_route(context: HttpContext, row: Route, operation: Json) -> HttpRoute:
    """A row as a route of the area: its handler gets a `Call`, and the description says who may call it."""
    if row.needs:
        tags = ", ".join(sorted(ACCESS[row.needs][0]))
        needed: Json = {"description": f"Needs one of the tags {tags}."}
    else:
        needed = {"security": []}
    return HttpRoute(row.method, f"/api{row.path}", _bound(context, row), {**operation, **needed})


def _bound(context: HttpContext, row: Route) -> Any:
    handler = row.handler
    allowed, reason = ACCESS[row.needs] if row.needs else (frozenset[str](), "")
    management, not_management = ACCESS["management"]

    async def handle(request: web.Request) -> web.StreamResponse:
        if row.takes_auth and "auth" in request.query and "Authorization" not in request.headers:
            request = request.clone(
                headers={**request.headers, "Authorization": f"Basic {request.query['auth']}"}
            )
        if row.needs:
            principal = await context.authenticate(request)
            if allowed.isdisjoint(principal.tags):
                raise not_authorised(not_management if management.isdisjoint(principal.tags) else reason)
        else:
            principal = NOBODY
        answer = await handler(Call(context, request, principal))
        if isinstance(answer, web.StreamResponse):
            return answer
        tree = columns_of(request.query.get("columns", ""))
        if tree is not None:
            answer = cut(answer, tree)
        return json_response(answer, headers=NO_CACHE)

    handle.__doc__ = handler.__doc__
    return handle


NOBODY = Principal("")

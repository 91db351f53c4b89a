"""Webhooks out over HTTP: /v1/webhooks. What they do is the plugin's (`broker.services["webhooks"]`); here are the routes."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable, Mapping
from typing import TYPE_CHECKING, Any, Protocol, cast

from aiohttp import web

from leveret.adapters.http.errors import Refusal
from leveret.adapters.http.json_encoding import json_response
from leveret.auth.contracts import Permission
from leveret.core.errors import InvalidArgument, NotFound
from leveret.core.json_object import JsonDialect, JsonObject

if TYPE_CHECKING:
    from leveret.adapters.http.app import HttpContext
    from leveret.core.session import Session
__all__ = ["OutgoingWebhooks", "routes"]

SERVICE = "webhooks"
COMPONENT = "webhook"
MAY_CHANGE = frozenset({"policymaker", "administrator"})
MAY_LOOK = MAY_CHANGE | {"monitoring"}
MAX_LIMIT = 1000
MAX_REPLAY = 1_000_000
REPLAY_TIMEOUT_S = 300.0
MAX_IDS = 10_000
MAX_TEST_BYTES = 65536
MAX_COUNT = 10**18 - 1
ROTATION_S, MAX_KEEP_S = 86400.0, 31_536_000
QUERY = JsonDialect(accepts_text=True, noun="parameter")


class OutgoingWebhooks(Protocol):
    """What the plugin offers. Raise NotFound for a name that is not there, InvalidArgument for what makes no sense."""

    def webhooks(self, vhost: str) -> Iterable[dict[str, Any]]: ...
    def webhook(self, vhost: str, name: str) -> dict[str, Any]: ...
    def enable(self, vhost: str, name: str) -> None: ...
    def disable(self, vhost: str, name: str) -> None: ...
    def attempts(self, vhost: str, name: str, filters: Mapping[str, Any]) -> list[dict[str, Any]]: ...
    def dead_letters(
        self, vhost: str, name: str, filters: Mapping[str, Any], *, after: int, limit: int
    ) -> list[dict[str, Any]]: ...
    async def replay(
        self, vhost: str, name: str, filters: Mapping[str, Any], limit: int
    ) -> dict[str, Any]: ...
    def rotate_secret(self, vhost: str, name: str, secret: str | None, keep_s: float) -> str: ...
    def send_test(self, vhost: str, name: str, body: bytes, content_type: str) -> None: ...


class Call:
    """One request, whose sender may make it. vhost and name are of the path, "" where it has none."""

    def __init__(self, context: HttpContext, request: web.Request, session: Session) -> None:
        self.context = context
        self.request = request
        self.session = session
        self.vhost = session.vhost.name
        self.name = request.match_info.get("name", "")

    @property
    def service(self) -> OutgoingWebhooks:
        return _service(self.context)


def _service(context: HttpContext) -> OutgoingWebhooks:
    service = context.broker.services.get(SERVICE)
    if service is None:
        raise Refusal(
            503,
            "plugin_disabled",
            "the plugin 'webhooks' is not running: enable it (leveret plugins enable webhooks)",
        )
    return cast("OutgoingWebhooks", service)


Answer = Callable[[Call], Awaitable[web.StreamResponse]]


def routes(context: HttpContext) -> list[web.RouteDef]:
    def route(method: str, path: str, answer: Answer, *, changes: bool = False) -> web.RouteDef:
        async def handle(request: web.Request) -> web.StreamResponse:
            await _check_tags(context, request, MAY_CHANGE if changes else MAY_LOOK)
            session = await context.session(request, request.match_info["vhost"])
            return await answer(Call(context, request, session))

        return web.route(method, path, handle)

    async def list_all(request: web.Request) -> web.StreamResponse:
        await _check_tags(context, request, MAY_LOOK)
        principal = await context.authenticate(request)
        found = []
        for vhost in sorted(context.broker.vhosts):
            if await context.may_enter(principal, vhost):
                found += list(_service(context).webhooks(vhost))
        return json_response(found)

    one = "/v1/webhooks/{vhost}/{name}"
    return [
        web.route("GET", "/v1/webhooks", list_all),
        route("GET", "/v1/webhooks/{vhost}", _list),
        route("GET", one, _get),
        route("PUT", one, _put, changes=True),
        route("PATCH", one, _patch, changes=True),
        route("DELETE", one, _delete, changes=True),
        route("POST", f"{one}/enable", _enable, changes=True),
        route("POST", f"{one}/disable", _disable, changes=True),
        route("POST", f"{one}/rotate-secret", _rotate, changes=True),
        route("POST", f"{one}/test", _test, changes=True),
        route("GET", f"{one}/attempts", _attempts),
        route("GET", f"{one}/dead-letters", _dead_letters),
        route("POST", f"{one}/replay", _replay, changes=True),
    ]


async def _check_tags(context: HttpContext, request: web.Request, needed: frozenset[str]) -> None:
    principal = await context.authenticate(request)
    if not principal.tags & needed:
        raise Refusal(403, "not_authorised", f"this needs one of the tags {', '.join(sorted(needed))}")


# -- subscriptions


async def _list(call: Call) -> web.StreamResponse:
    return json_response(list(call.service.webhooks(call.vhost)))


async def _get(call: Call) -> web.StreamResponse:
    return json_response(call.service.webhook(call.vhost, call.name))


async def _put(call: Call) -> web.StreamResponse:
    """201 for a new one, with the secrets that it has got, for this one time; 200 for another version."""
    return await _set(call, await call.context.json(call.request))


async def _patch(call: Call) -> web.StreamResponse:
    """The members that are given, over those that are there (RFC 7396, one level deep); null removes one."""
    changes = await call.context.json(call.request)
    before = call.session.vhost.parameters.get((COMPONENT, call.name))
    if before is None:
        raise _not_found(call)
    merged = {name: value for name, value in {**before, **changes}.items() if value is not None}
    return await _set(call, merged)


async def _set(call: Call, value: dict[str, Any]) -> web.StreamResponse:
    service, session, vhost = call.service, call.session, call.session.vhost
    is_new = (COMPONENT, call.name) not in vhost.parameters
    kind = "queue" if value.get("queue") is not None else "exchange"
    source = value.get(kind)
    if isinstance(source, str):  # all else the plugin refuses
        await call.context.decide(session, lambda: session.require(Permission.READ, kind, source))
    vhost.set_parameter(COMPONENT, call.name, value)
    answer = service.webhook(call.vhost, call.name)
    given = value.get("secrets")
    if is_new and given is None:
        answer["secrets"] = vhost.parameters[COMPONENT, call.name]["secrets"]
    return json_response(answer, 201 if is_new else 200)


async def _delete(call: Call) -> web.StreamResponse:
    call.service.webhook(call.vhost, call.name)
    call.session.vhost.clear_parameter(COMPONENT, call.name)
    return web.Response(status=204)


async def _enable(call: Call) -> web.StreamResponse:
    call.service.enable(call.vhost, call.name)
    return await _get(call)


async def _disable(call: Call) -> web.StreamResponse:
    call.service.disable(call.vhost, call.name)
    return await _get(call)


async def _rotate(call: Call) -> web.StreamResponse:
    """{"secret", "keep_s"}: both optional. The answer is the only one that shows the new secret."""
    given = JsonObject(await call.context.json(call.request))
    secret = given.text("secret", None)
    keep_s = given.number(
        "keep_s", ROTATION_S, 0, MAX_KEEP_S, rule=f"must be a number from 0 to {MAX_KEEP_S}"
    )
    made = call.service.rotate_secret(call.vhost, call.name, secret, keep_s)
    return json_response({"secret": made})


async def _test(call: Call) -> web.StreamResponse:
    """The body, or a little JSON, as a message into the subscription's queue."""
    body = await call.context.body(call.request)
    if len(body) > MAX_TEST_BYTES:
        raise Refusal(413, "payload_too_large", f"a test message has at most {MAX_TEST_BYTES} bytes")
    content_type = call.request.content_type if body else "application/json"
    call.service.send_test(call.vhost, call.name, body or b'{"type":"webhook.test"}', content_type)
    return web.Response(status=202)


# -- what became of messages


async def _attempts(call: Call) -> web.StreamResponse:
    """?outcome=&status=&webhook_id=&since=&until=&before=&limit= Newest first; `before`: the last id of the page before."""
    query = _query(call)
    filters = {
        "outcome": query.text("outcome", None),
        "status": _count(query, "status"),
        "webhook_id": query.text("webhook_id", None),
        "since": _count(query, "since"),
        "until": _count(query, "until"),
        "before": _count(query, "before"),
        "limit": _limit(query),
    }
    query.refuse_unknown()
    return json_response(call.service.attempts(call.vhost, call.name, filters))


async def _dead_letters(call: Call) -> web.StreamResponse:
    """?reason=&status=&since=&until=&after=&limit= Oldest first; `after`: the last position of the page before."""
    query = _query(call)
    filters = {
        "reason": query.text("reason", None),
        "status": _count(query, "status"),
        "since": _count(query, "since"),
        "until": _count(query, "until"),
    }
    after, limit = _count(query, "after") or 0, _limit(query)
    query.refuse_unknown()
    return json_response(call.service.dead_letters(call.vhost, call.name, filters, after=after, limit=limit))


async def _replay(call: Call) -> web.StreamResponse:
    """{"ids": [...]}, or any of {"since", "until", "reason", "status"}, or {"all": true}; "limit". Back into the queue, in order."""
    given = JsonObject(await call.context.json(call.request))
    ids = given.list(
        "ids", None, check=lambda one: isinstance(one, (int, str)), maximum=MAX_IDS,
        rule=f"must be a list of at most {MAX_IDS} webhook ids or positions",
    )  # fmt: skip
    filters: dict[str, Any] = {
        "ids": None if ids is None else frozenset(ids),
        "reason": given.text("reason", None),
        "since": given.integer("since", None, rule="must be milliseconds since the epoch"),
        "until": given.integer("until", None, rule="must be milliseconds since the epoch"),
        "status": given.integer("status", None, rule="must be a status"),
    }
    is_all = given.get("all", False) is True
    limit = given.integer("limit", MAX_REPLAY, 1, MAX_REPLAY)
    given.refuse_unknown()
    if all(value is None for value in filters.values()) and not is_all:
        raise InvalidArgument('say which: ids, since, until, reason, status, or "all": true')
    service, context = call.service, call.context
    result = await context.trio(
        service.replay, call.vhost, call.name, filters, limit, timeout_s=REPLAY_TIMEOUT_S
    )
    await context.durable()
    return json_response(result)


def _query(call: Call) -> JsonObject:
    return JsonObject(call.request.query, dialect=QUERY)


def _count(query: JsonObject, name: str) -> int | None:
    return query.integer(name, None, 0, MAX_COUNT, rule="must be a number")


def _limit(query: JsonObject) -> int:
    limit = _count(query, "limit")
    if limit is not None and not 1 <= limit <= MAX_LIMIT:
        raise query.error("limit", f"must be from 1 to {MAX_LIMIT}")
    return 100 if limit is None else limit


def _not_found(call: Call) -> NotFound:
    return NotFound(f"no webhook '{call.name}' in vhost '{call.vhost}'")

"""The routes that manage outgoing webhooks: /v1/webhooks."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from aiohttp import web

from leveret.adapters.http.areas import Route
from leveret.adapters.http.errors import Refusal
from leveret.adapters.http.json_encoding import json_response
from leveret.adapters.http.openapi.builders import (
    BINARY,
    JSON,
    Json,
    answer,
    integer,
    list_of,
    number,
    obj,
    operation,
    query,
    ref,
    string,
)
from leveret.auth.contracts import Permission
from leveret.core.errors import InvalidArgument, NotFound
from leveret.core.json_object import JsonDialect, JsonObject
from leveret.plugins.webhooks.calls import (
    MAY_CHANGE,
    MAY_LOOK,
    Call,
    Handler,
    check_tags,
    route,
    running_plugin,
)
from leveret.plugins.webhooks.outgoing import COMPONENT
from leveret.plugins.webhooks.outgoing.attempts import AttemptQuery
from leveret.plugins.webhooks.outgoing.dead_letters import Selection, dead_letters

if TYPE_CHECKING:
    from leveret.adapters.http.context import HttpContext
__all__ = ["routes"]

MAX_LIMIT = 1000
MAX_REPLAY = 1_000_000
REPLAY_TIMEOUT_S = 300.0
MAX_IDS = 10_000
MAX_TEST_BYTES = 65536
MAX_COUNT = 10**18 - 1
ROTATION_S, MAX_KEEP_S = 86400.0, 31_536_000
QUERY = JsonDialect(accepts_text=True, noun="parameter")

TAG = "webhooks out"
MILLISECONDS = integer(0, description="Milliseconds since the epoch")
PERIOD = query("since", MILLISECONDS, "From then on"), query("until", MILLISECONDS, "Up to then")
LIMIT = query("limit", integer(1, MAX_LIMIT), "How many")
SHOWN = {200: answer("The webhook as it is now.", ref("Webhook"))}
WEBHOOKS = {200: answer("The webhooks.", list_of(ref("Webhook")))}
ROWS = {200: answer("The rows.", list_of({"type": "object"}))}
CREATED = answer("Created; the secrets are shown only here.", ref("Webhook"))
ROTATE = operation(
    ok={200: answer("The new secret.", obj("secret", secret=string()))},
    body=obj(secret=string(), keep_s=number(0, MAX_KEEP_S)),
    optional_body=True,
    also="409",
)
TEST = operation(
    ok={202: answer("The message is in the queue.")},
    body=BINARY,
    types=("application/octet-stream", JSON),
    optional_body=True,
)
ATTEMPTS = operation(
    ok=ROWS,
    parameters=(
        query("outcome", string(enum=["delivered", "retry", "dead"]), "Only attempts with this outcome"),
        query("status", integer(100, 599), "Only attempts with this status"),
        query("webhook_id", string(), "Only attempts of this message"),
        *PERIOD,
        query("before", integer(0), "The last id of the previous page"),
        LIMIT,
    ),
)
DEAD_LETTERS = operation(
    ok=ROWS,
    parameters=(
        query("reason", string(), "Only dead letters with this reason"),
        query("status", integer(100, 999), "Only dead letters with this last status"),
        *PERIOD,
        query("after", integer(0), "The last position of the previous page"),
        LIMIT,
    ),
)
REPLAY = operation(
    ok={200: answer("How many were sent again.", obj("replayed", replayed=integer(0)))},
    body=obj(
        ids=list_of({"type": ["string", "integer"]}),
        since=MILLISECONDS, until=MILLISECONDS, reason=string(), status=integer(100, 999),
        all={"const": True}, limit=integer(1, MAX_REPLAY),
    ),
    also="409 504",
)  # fmt: skip


def routes(context: HttpContext) -> list[Route]:
    """All routes below /v1/webhooks."""

    async def list_all(request: web.Request) -> web.StreamResponse:
        """Webhooks of all virtual hosts that the user may enter."""
        await check_tags(context, request, MAY_LOOK)
        principal = await context.authenticate(request)
        found: list[dict[str, Any]] = []
        for vhost in sorted(context.broker.vhosts):
            if await context.may_enter(principal, vhost):
                found += running_plugin(context).describe_all(vhost)
        return json_response(found)

    def look(method: str, path: str, handler: Handler, operation: Json) -> Route:
        return route(context, method, path, handler, operation, tag=TAG)

    def change(method: str, path: str, handler: Handler, operation: Json) -> Route:
        return route(context, method, path, handler, operation, tag=TAG, needs=MAY_CHANGE)

    one = "/v1/webhooks/{vhost}/{name}"
    return [
        Route("GET", "/v1/webhooks", list_all, operation(ok=WEBHOOKS), TAG),
        look("GET", "/v1/webhooks/{vhost}", _list, operation(ok=WEBHOOKS)),
        look("GET", one, _get, operation(ok=SHOWN)),
        change(
            "PUT",
            one,
            _put,
            operation(ok={**SHOWN, 201: CREATED}, body=ref("WebhookSubscription"), also="409"),
        ),
        change("PATCH", one, _patch, operation(ok=SHOWN, body={"type": "object"}, also="409")),
        change("DELETE", one, _delete, operation(ok={204: answer("Deleted.")})),
        change("POST", f"{one}/enable", _enable, operation(ok=SHOWN)),
        change("POST", f"{one}/disable", _disable, operation(ok=SHOWN)),
        change("POST", f"{one}/rotate-secret", _rotate, ROTATE),
        change("POST", f"{one}/test", _test, TEST),
        look("GET", f"{one}/attempts", _attempts, ATTEMPTS),
        look("GET", f"{one}/dead-letters", _dead_letters, DEAD_LETTERS),
        change("POST", f"{one}/replay", _replay, REPLAY),
    ]


# -- subscriptions


async def _list(call: Call) -> web.StreamResponse:
    """Webhooks of a virtual host."""
    return json_response(call.plugin.describe_all(call.vhost.name))


async def _get(call: Call) -> web.StreamResponse:
    """One webhook, its secrets masked, and its state."""
    return json_response(call.webhook.describe())


async def _put(call: Call) -> web.StreamResponse:
    """Set a webhook.

    201 for a new one, with its generated secrets, which no later answer shows; 200 for a changed one.
    """
    return await _set(call, await call.context.json(call.request))


async def _patch(call: Call) -> web.StreamResponse:
    """Change members of a webhook; null removes one (RFC 7396, one level deep)."""
    changes = await call.context.json(call.request)
    before = call.vhost.parameters.get((COMPONENT, call.name))
    if before is None:
        raise _not_found(call)
    merged = {name: value for name, value in {**before, **changes}.items() if value is not None}
    return await _set(call, merged)


async def _set(call: Call, value: dict[str, Any]) -> web.StreamResponse:
    plugin, session, vhost = call.plugin, call.session, call.vhost
    is_new = (COMPONENT, call.name) not in vhost.parameters
    kind = "queue" if value.get("queue") is not None else "exchange"
    source = value.get(kind)
    if isinstance(source, str):  # the plugin refuses anything else
        await call.context.decide(session, lambda: session.require(Permission.READ, kind, source))
    vhost.set_parameter(COMPONENT, call.name, value)
    answer = plugin.find(vhost.name, call.name).describe()
    given = value.get("secrets")
    if is_new and given is None:
        answer["secrets"] = vhost.parameters[COMPONENT, call.name]["secrets"]
    return json_response(answer, 201 if is_new else 200)


async def _delete(call: Call) -> web.StreamResponse:
    """Delete a webhook, and its own queue."""
    _ = call.webhook
    call.vhost.clear_parameter(COMPONENT, call.name)
    return web.Response(status=204)


async def _enable(call: Call) -> web.StreamResponse:
    """Enable a webhook."""
    call.webhook.enable()
    return await _get(call)


async def _disable(call: Call) -> web.StreamResponse:
    """Disable a webhook: its messages stay in the queue."""
    call.webhook.disable("by an operator")
    return await _get(call)


async def _rotate(call: Call) -> web.StreamResponse:
    """Give a webhook a new secret; the old ones sign beside it for a while.

    {"secret", "keep_s"}, both optional. Only this answer shows the new secret.
    """
    given = JsonObject(await call.context.json(call.request))
    secret = given.text("secret", None)
    keep_s = given.number(
        "keep_s", ROTATION_S, 0, MAX_KEEP_S, rule=f"must be a number from 0 to {MAX_KEEP_S}"
    )
    return json_response({"secret": call.webhook.rotate_secret(secret, keep_s)})


async def _test(call: Call) -> web.StreamResponse:
    """Send a test message through a webhook.

    The body, or by default a small JSON object, is published into the queue of the subscription.
    """
    body = await call.context.body(call.request)
    if len(body) > MAX_TEST_BYTES:
        raise Refusal(413, "payload_too_large", f"a test message has at most {MAX_TEST_BYTES} bytes")
    content_type = call.request.content_type if body else "application/json"
    call.webhook.send_test(body or b'{"type":"webhook.test"}', content_type)
    return web.Response(status=202)


# -- what became of messages


async def _attempts(call: Call) -> web.StreamResponse:
    """The log of attempts with their answers; newest first."""
    query = _query(call)
    wanted = AttemptQuery(
        outcome=query.text("outcome", None),
        status=_count(query, "status"),
        webhook_id=query.text("webhook_id", None),
        since=_count(query, "since"),
        until=_count(query, "until"),
        before=_count(query, "before"),
        limit=_limit(query),
    )
    query.refuse_unknown()
    return json_response([one.as_json() for one in call.webhook.attempts.find(wanted)])


async def _dead_letters(call: Call) -> web.StreamResponse:
    """Dead letters; oldest first."""
    query = _query(call)
    selection = Selection(
        reason=query.text("reason", None),
        status=_count(query, "status"),
        since=_count(query, "since"),
        until=_count(query, "until"),
    )
    after, limit = _count(query, "after") or 0, _limit(query)
    query.refuse_unknown()
    found = dead_letters(call.webhook.dead_queue(), selection, after=after, limit=limit)
    return json_response([one.as_json() for one in found])


async def _replay(call: Call) -> web.StreamResponse:
    """Send dead letters again.

    {"ids": [...]}, or any of {"since", "until", "reason", "status"}, or {"all": true}; and "limit". They go back into the
    queue in their order.
    """
    given = JsonObject(await call.context.json(call.request))
    ids = given.list(
        "ids", None, check=lambda one: isinstance(one, (int, str)), maximum=MAX_IDS,
        rule=f"must be a list of at most {MAX_IDS} webhook ids or positions",
    )  # fmt: skip
    selection = Selection(
        ids=None if ids is None else frozenset(ids),
        reason=given.text("reason", None),
        since=given.integer("since", None, rule="must be milliseconds since the epoch"),
        until=given.integer("until", None, rule="must be milliseconds since the epoch"),
        status=given.integer("status", None, rule="must be a status"),
    )
    is_all = given.get("all", False) is True
    limit = given.integer("limit", MAX_REPLAY, 1, MAX_REPLAY)
    given.refuse_unknown()
    if selection == Selection() and not is_all:
        raise InvalidArgument('say which: ids, since, until, reason, status, or "all": true')
    context = call.context
    result = await context.trio(call.webhook.replay, selection, limit, timeout_s=REPLAY_TIMEOUT_S)
    await context.durable()
    return json_response(asdict(result))


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
    return NotFound(f"no webhook '{call.name}' in vhost '{call.vhost.name}'")

"""Publishing by REST: POST .../messages and .../messages/batch."""

from __future__ import annotations

from typing import TYPE_CHECKING

from aiohttp import web

from leveret.adapters.http.errors import Refusal
from leveret.adapters.http.json_encoding import encode, json_response
from leveret.adapters.http.messaging import cloudevents
from leveret.adapters.http.messaging.answers import Routed
from leveret.adapters.http.messaging.idempotency import Idempotency, Once
from leveret.adapters.http.messaging.message_json import MAX_BATCH, Draft, read_list, read_one
from leveret.adapters.http.messaging.properties import bad, properties_of, refuse_properties
from leveret.adapters.http.messaging.publishing import (
    DEFAULT_EXCHANGE,
    Place,
    Taken,
    check_room,
    confirmed,
    publish,
    publish_all,
    rejection,
)
from leveret.adapters.http.messaging.sessions import kept_session

if TYPE_CHECKING:
    from leveret.adapters.http.context import HttpContext
    from leveret.core.session import Session
__all__ = ["Messages", "check_query", "drafts_of", "flag", "place_of"]

MESSAGE_TYPE = "application/vnd.leveret.message+json"
ROUTED, UNROUTED = b'{"routed":true}', b'{"routed":false}'
QUERY = frozenset({"routing_key", "mandatory"})


def flag(request: web.Request, name: str, default: bool = False) -> bool:
    given = request.query.get(name)
    if given is None:
        return default
    if given not in ("true", "false"):
        raise bad(f"{name} must be true or false")
    return given == "true"


def check_query(
    request: web.Request, known: frozenset[str], repeatable: frozenset[str] = frozenset()
) -> None:
    """A misspelt parameter must not be a silent default, nor a repeated one a guess."""
    query = request.query
    if not query:
        return
    names = set(query.keys())
    if unknown := names - known:
        raise bad(f"there is no parameter {min(unknown)}; there are {', '.join(sorted(known))}")
    if len(query) > len(names):
        for name in names - repeatable:
            if len(query.getall(name)) > 1:
                raise bad(f"there is more than one parameter {name}")


def place_of(request: web.Request) -> Place:
    parts = request.match_info
    queue = parts.get("queue")
    key = request.query.get("routing_key", "")
    if queue is None:
        exchange = parts["exchange"]
        return Place(
            "" if exchange == DEFAULT_EXCHANGE else exchange, key, mandatory=flag(request, "mandatory")
        )
    if key:
        raise bad("a queue has no routing keys: publish to an exchange")
    return Place("", queue, queue, mandatory=True)


def drafts_of(request: web.Request, body: bytes) -> tuple[Draft | None, list[Draft]]:
    """What a request to .../messages wants to publish: one message, or a batch of events. Raise Refusal (400, 415)."""
    content_type = request.headers.get("Content-Type", "")
    if content_type.startswith(MESSAGE_TYPE):
        refuse_properties(request.headers)
        return read_one(body), []
    if cloudevents.is_batch(content_type):
        return None, batch_of(request, body)
    if cloudevents.is_structured(content_type):
        properties, body = cloudevents.read_event(body, content_type)
        given = properties_of(request.headers)
        given.content_type, given.content_encoding = properties.content_type, None
        given.headers = {**(given.headers or {}), **(properties.headers or {})}
        return Draft(given, body), []
    properties = properties_of(request.headers)
    attributes = cloudevents.binary_attributes(request.headers)
    if attributes is not None:
        properties.headers = {**(properties.headers or {}), **attributes}
    return Draft(properties, body), []


def batch_of(request: web.Request, body: bytes) -> list[Draft]:
    """Raise Refusal (400, 413, 415)."""
    content_type = request.headers.get("Content-Type", "")
    refuse_properties(request.headers)
    if not cloudevents.is_batch(content_type):
        return read_list(body, content_type.partition(";")[0].strip().lower())
    events = cloudevents.read_batch(body, content_type)
    if len(events) > MAX_BATCH:
        raise Refusal(
            413, "payload_too_large", f"a batch has at most {MAX_BATCH} events, this one {len(events)}"
        )
    return [Draft(properties, data) for properties, data in events]


class Messages:
    """The handlers."""

    def __init__(self, context: HttpContext, idempotency: Idempotency) -> None:
        self._context = context
        self._idempotency = idempotency

    async def publish(self, request: web.Request) -> web.StreamResponse:
        """Publish one message: the body as it is, properties as headers; or JSON; or a CloudEvent."""
        context = self._context
        session = await kept_session(context, request, request.match_info["vhost"])
        check_query(request, QUERY)
        place = place_of(request)
        await check_room(context)
        body = await context.body(request)
        draft, batch = drafts_of(request, body)
        if draft is None:
            return await self._run_all(request, session, place, body, batch)
        one = draft
        await check_room(context)  # reading the body may have taken its time

        async def run(once: Once | None) -> web.Response:
            def decide() -> Taken:
                taken = publish(session, place, one)
                if once is not None:
                    is_durable = one.properties.delivery_mode == 2
                    once.keep(200, UNROUTED if taken.unrouted else ROUTED, is_durable=is_durable)
                return taken

            taken = await confirmed(context, session, decide)
            return Routed(UNROUTED if taken.unrouted else ROUTED)

        return await self._idempotency.run(request, session.principal.username, body, run)

    async def publish_batch(self, request: web.Request) -> web.StreamResponse:
        """Publish up to 1000 messages in one go: a JSON array, one JSON object a line, or CloudEvents."""
        context = self._context
        session = await kept_session(context, request, request.match_info["vhost"])
        check_query(request, QUERY)
        place = place_of(request)
        await check_room(context)
        body = await context.body(request)
        return await self._run_all(request, session, place, body, batch_of(request, body))

    async def _run_all(
        self, request: web.Request, session: Session, place: Place, body: bytes, drafts: list[Draft]
    ) -> web.Response:
        context = self._context
        await check_room(context)

        async def run(once: Once | None) -> web.Response:
            def decide() -> Taken:
                taken = publish_all(session, place, drafts)
                if once is not None and not taken.rejected:
                    is_durable = any(draft.properties.delivery_mode == 2 for draft in drafts)
                    once.keep(200, encode(_summary(taken)), is_durable=is_durable)
                return taken

            taken = await confirmed(context, session, decide)
            if taken.rejected:
                raise rejection(taken)
            return json_response(_summary(taken))

        return await self._idempotency.run(request, session.principal.username, body, run)


def _summary(taken: Taken) -> dict[str, object]:
    """unrouted: places in the batch of messages that no queue was bound for."""
    return {
        "count": taken.count,
        "routed": taken.count - len(taken.unrouted),
        "unrouted": list(taken.unrouted),
    }

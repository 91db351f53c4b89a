"""Messages through the management API: publish one, get some, move what is in a queue to another."""

from __future__ import annotations

import asyncio
import base64
import binascii
from typing import TYPE_CHECKING, Any

from leveret.adapters.http.errors import Refusal
from leveret.adapters.http.management.bindings import DEFAULT_NAME
from leveret.adapters.http.management.payloads import (
    Payload,
    bad_request,
    payload,
    perform,
    session_for,
    terms,
    vhost_for,
)
from leveret.adapters.http.management.routes import Call, Route, not_authorised
from leveret.adapters.http.messaging.publishing import check_room, confirm
from leveret.core.definitions.json_fields import json_of, table_of
from leveret.core.errors import AccessRefused, BrokerError, InvalidArgument, NotFound, ResourceLocked
from leveret.core.fields import FieldError
from leveret.core.message import Envelope
from leveret.core.properties import FIELDS, Properties

if TYPE_CHECKING:
    from leveret.core.message import Message
    from leveret.core.queue.queue import Queue
    from leveret.core.session import Session
__all__ = ["ROUTES"]

MAX_BYTES = 64 << 20
"""Of one answer: then there are fewer messages than were asked for."""
ITEM_BYTES = 1024  # what a message takes in the answer beside its body
MAX_HEADER_BYTES = 65536
MOVED_AT_ONCE, MOVED_BYTES = 500, 4 << 20
"""Between two turns of the others."""
RANGES = {"delivery_mode": range(256), "priority": range(256), "timestamp": range(1 << 63)}
SHOWN = tuple(reversed([name for _, name, _ in FIELDS]))  # RabbitMQ's order

# Errors of publishing are the channel's, with AMQP's code and name.
CODES: dict[type[BrokerError], str] = {
    NotFound: "404 NOT_FOUND",
    AccessRefused: "403 ACCESS_REFUSED",
    ResourceLocked: "405 RESOURCE_LOCKED",
}


# -- publish


def _body(given: Payload) -> bytes:
    body, encoding = given.get("payload"), given.get("payload_encoding")
    if not isinstance(body, str):
        raise bad_request("payload_not_string")
    if encoding == "string":
        return body.encode("utf-8", "surrogateescape")
    if encoding == "base64":
        try:
            return base64.b64decode(body, validate=True)
        except (binascii.Error, ValueError):
            raise terms("not_base64", body) from None
    raise terms("unsupported_encoding", encoding)


def _properties(given: Any) -> Properties:
    """Unknown ones are passed over. Raise Refusal (400)."""
    if given == []:  # Erlang's empty object
        given = {}
    if not isinstance(given, dict):
        raise bad_request("properties must be an object")
    found: dict[str, Any] = {}
    for _, name, kind in FIELDS:
        value = given.get(name)
        if value is None:
            continue
        if kind == "t":
            value = table_of(value, name)
        elif name in RANGES:
            if isinstance(value, bool) or not isinstance(value, int):
                raise terms("not_int", name)
            if value not in RANGES[name]:
                raise bad_request(f"{name} is out of range")
        elif not isinstance(value, str):
            raise terms("not_string", name)
        found[name] = value
    return Properties(**found)


def _envelope(exchange: str, given: Payload) -> Envelope:
    """Raise Refusal (400), InvalidArgument."""
    key = given.text("routing_key")
    try:
        envelope = Envelope.of(exchange, key, _properties(given.get("properties")))
        too_long = len(key.encode("utf-8", "surrogateescape")) > 255
    except (FieldError, UnicodeEncodeError) as error:
        raise bad_request(str(error)) from None
    if too_long or len(envelope.header) > MAX_HEADER_BYTES:
        raise bad_request("the routing key is longer than 255 bytes, or the properties than 65536")
    return envelope


async def publish(call: Call) -> dict[str, bool]:
    """Publish a message. The answer says whether a queue stored it; a persistent message is on the disk by then."""
    given = await payload(call, "routing_key", "properties", "payload", "payload_encoding")
    name = call.part("exchange")
    session = await session_for(call)
    body = _body(given)
    maximum = call.broker.settings.limits.max_message_size
    if len(body) > maximum:
        raise bad_request(
            f"406 PRECONDITION_FAILED - message size {len(body)} is larger than configured max size {maximum}"
        )
    await check_room(call.context)
    try:
        envelope = _envelope("" if name == DEFAULT_NAME else name, given)
        published = await call.context.decide(session, lambda: session.publish(envelope, body))
    except BrokerError as error:
        code = next(
            (code for kind, code in CODES.items() if isinstance(error, kind)), "406 PRECONDITION_FAILED"
        )
        is_ours = isinstance(error, InvalidArgument) and str(error) == "null_not_allowed"
        raise bad_request(str(error) if is_ours else f"{code} - {error}") from None
    await confirm(call.context)
    if published.rejected:
        raise bad_request("rejected Unable to publish message. Check queue limits.")
    return {"routed": published.is_routed}


# -- get


def _shown(message: Message, left: int, encoding: str, truncate: int | None) -> dict[str, Any]:
    envelope = message.envelope
    limit = message.queue.limits.delivery_limit
    if limit is not None and message.delivery_count:
        envelope = message.with_delivery_count().envelope
    properties = envelope.properties
    shown = {name: json_of(value) for name in SHOWN if (value := getattr(properties, name)) is not None}
    body = message.body if truncate is None else message.body[: max(0, truncate)]
    text, how = None, "string"
    if encoding == "auto":
        try:
            text = body.decode()
        except UnicodeDecodeError:
            text = None
    if text is None:
        text, how = base64.b64encode(body).decode(), "base64"
    return {
        "payload_bytes": len(message.body),
        "redelivered": message.is_redelivered,
        "exchange": envelope.exchange,
        "routing_key": envelope.routing_key,
        "message_count": left,
        "properties": shown or [],  # RabbitMQ's empty object is a list
        "payload": text,
        "payload_encoding": how,
    }


def _get(
    queue: Queue, session: Session, count: int, mode: str, encoding: str, truncate: int | None
) -> list[dict[str, Any]]:
    """All in one go, so that nobody sees what goes back as missing."""
    messages: list[Message] = []
    items: list[dict[str, Any]] = []
    size = 0
    while len(messages) != count and size < MAX_BYTES:
        message = queue.get(no_ack=mode == "ack_requeue_false")
        if message is None:
            break
        size += len(message.body) + len(message.envelope.header) + ITEM_BYTES
        messages.append(message)
        items.append(_shown(message, queue.message_count, encoding, truncate))
    if messages:
        tracer = session.vhost.tracer
        if tracer is not None:
            name = getattr(session.connection, "name", "")
            tracer.delivered(queue, messages, name, 0, session.principal.username)
        if mode == "reject_requeue_false":
            queue.reject(messages)
        elif mode != "ack_requeue_false":
            # A look into the queue is no failed delivery; a rejection is one.
            queue.requeue(messages, counts=mode == "reject_requeue_true")
    return items


MODES = ("ack_requeue_true", "ack_requeue_false", "reject_requeue_true", "reject_requeue_false")


async def get(call: Call) -> list[dict[str, Any]]:
    """Get messages; `ackmode` says whether they are requeued, removed or dead-lettered."""
    given = await payload(call, "ackmode", "count", "encoding")
    session = await session_for(call)
    mode, encoding = given.get("ackmode"), given.get("encoding")
    if mode not in MODES:
        raise bad_request(f"Invalid ackmode value: {mode}. Valid values are: {', '.join(MODES)}")
    if encoding not in ("auto", "base64"):
        raise bad_request("Unsupported encoding. Please use auto or base64.")
    count = given.number("count")
    truncate = given.number("truncate") if given.get("truncate") is not None else None
    name = call.part("queue")
    try:
        queue = await call.context.decide(session, lambda: session.queue_for_get(name))
    except NotFound as error:
        raise Refusal(404, "not_found", f"NOT_FOUND - {error}") from None
    except AccessRefused as error:
        raise not_authorised(f"ACCESS_REFUSED - {error}") from None
    except ResourceLocked as error:
        raise bad_request(f"405 RESOURCE_LOCKED - {error}") from None
    return _get(queue, session, count, mode, encoding, truncate)


# -- move


def _move(queue: Queue, target: Queue, count: int) -> tuple[int, str]:
    """Some of them: copy and removal are in one commit. How many, and why there are no more: "", "empty" or "full"."""
    moved = size = 0
    while moved < min(count, MOVED_AT_ONCE) and size < MOVED_BYTES:
        message = queue.get(no_ack=False)
        if message is None:
            return moved, "empty"
        envelope = Envelope("", target.name, message.envelope.header)
        if target.publish(envelope, [message.body]):
            queue.requeue([message], counts=False)
            return moved, "full"
        queue.settle([message])
        moved += 1
        size += len(message.body)
    return moved, ""


async def move(call: Call) -> dict[str, int]:
    """Move messages to `destination`, a queue of the same virtual host: `count` of them, or all that are in the queue now."""
    given = await payload(call, "destination")
    session = await session_for(call)
    name, destination = call.part("queue"), given.text("destination")
    vhost = await vhost_for(call)
    if name == destination:
        raise bad_request("a queue cannot be moved into itself")

    def both() -> tuple[Queue, Queue]:
        source = session.queue_for_get(name)
        session.target("", destination)
        target = vhost.queues.get(destination)
        if target is None:
            raise NotFound(f"no queue '{destination}' in vhost '{vhost.name}'")
        return source, target

    queue, target = await perform(call, session, both)
    left = given.number("count") if given.get("count") is not None else queue.message_count
    total, end = 0, ""
    while left > 0 and not end and not queue.is_closed and not target.is_closed:
        await check_room(call.context)
        moved, end = _move(queue, target, left)
        total += moved
        left -= moved
        call.broker.dispatcher.run()
        await asyncio.sleep(0)
    await confirm(call.context)
    if end == "full":
        raise Refusal(400, "bad_request", f"queue '{destination}' is full", moved=total)
    return {"moved": total}


ROUTES = (
    Route("POST", "/exchanges/{vhost}/{exchange}/publish", publish),
    Route("POST", "/queues/{vhost}/{queue}/get", get),
    Route("POST", "/queues/{vhost}/{queue}/move", move),
)

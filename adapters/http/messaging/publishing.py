"""Publishing for handlers: checked, taken all at once, confirmed."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from leveret.adapters.http.errors import Refusal
from leveret.adapters.http.messaging.message_json import Draft
from leveret.adapters.http.messaging.properties import bad
from leveret.core.errors import PreconditionFailed
from leveret.core.fields import FieldError
from leveret.core.message import Envelope
from leveret.core.reply_to import is_reply_queue

if TYPE_CHECKING:
    from leveret.adapters.http.context import HttpContext
    from leveret.core.properties import Properties
    from leveret.core.session import Session
__all__ = [
    "DEFAULT_EXCHANGE", "RETRY_SOON", "Place", "Taken", "check_room", "confirm", "confirmed", "envelope_of", "publish",
    "publish_all", "rejection",
]  # fmt: skip

DEFAULT_EXCHANGE = "amq.default"
"""Its name in paths, where an empty one cannot stand."""
MAX_HEADER_BYTES = 65536
"""Of encoded properties: AMQP sends them as one frame, which readers bound."""
ROOM_S = 5.0  # for the store to catch up
RETRY_SOON, RETRY_LATER = {"Retry-After": "1"}, {"Retry-After": "5"}


@dataclass(frozen=True, slots=True)
class Place:
    """Where a request publishes. queue: its name, if the path names one; then it must be there."""

    exchange: str
    routing_key: str
    queue: str | None = None
    mandatory: bool = False

    def unroutable(self, session: Session) -> Refusal:
        if self.queue is not None:
            return Refusal(404, "not_found", f"no queue '{self.queue}' in vhost '{session.vhost.name}'")
        return Refusal(
            422, "unroutable", "no queue is bound for the message, and it is mandatory; nothing was stored"
        )


@dataclass(frozen=True, slots=True)
class Taken:
    """What became of messages, by their place in the request."""

    count: int
    unrouted: Sequence[int] = ()
    rejected: Sequence[int] = ()


async def check_room(context: HttpContext) -> None:
    """Raise Refusal (503) while an alarm is set; wait a moment for the store, if that is behind."""
    broker = context.broker
    if broker.alarms.is_blocking:
        raise Refusal(503, "alarm", f"publishing is blocked: {broker.alarms.reason}", headers=RETRY_LATER)
    if broker.backpressure.is_store_behind:
        try:
            async with asyncio.timeout(ROOM_S):
                await context.trio(broker.backpressure.wait_for_room, timeout_s=ROOM_S * 2)
        except TimeoutError:
            raise Refusal(503, "store_behind", "the disk does not keep up", headers=RETRY_SOON) from None


def envelope_of(exchange: str, routing_key: str, properties: Properties) -> Envelope:
    """Raise Refusal (400), InvalidArgument for an expiration that is none."""
    try:
        size = len(routing_key.encode("utf-8", "surrogateescape"))
    except UnicodeEncodeError:
        raise bad("the routing key is no Unicode text") from None
    if size > 255:
        raise bad("the routing key is longer than 255 bytes")
    try:
        envelope = Envelope.of(exchange, routing_key, properties)
    except FieldError as error:
        raise bad(str(error)) from None
    if len(envelope.header) > MAX_HEADER_BYTES:
        raise bad(f"properties and headers are larger than {MAX_HEADER_BYTES} bytes")
    return envelope


def _envelope(place: Place, draft: Draft) -> Envelope:
    key = draft.routing_key
    if key is None:
        key = place.routing_key
    elif place.queue is not None:
        raise bad("a queue has no routing keys: publish to an exchange")
    return envelope_of(place.exchange, key, draft.properties)


def _leads_somewhere(session: Session, envelope: Envelope) -> bool:
    """May it be published, and is anybody there? Raise as `Session.publish`."""
    target = session.target(envelope.exchange, envelope.routing_key)
    exchange, key = target.exchange, target.routing_key
    if not exchange.name and is_reply_queue(key):
        return session.broker.replies.exists(key)
    if exchange.name != envelope.exchange:  # an MQTT client's response topic
        envelope = Envelope(exchange.name, key, envelope.header, envelope.properties)
    return bool(session.route(exchange, envelope).queues)


def _check_user(session: Session, envelope: Envelope) -> None:
    try:
        session.check_user_id(envelope.properties.user_id)
    except PreconditionFailed as error:
        raise Refusal(403, "user_id_refused", str(error)) from None


def publish(session: Session, place: Place, draft: Draft) -> Taken:
    """One message. Synchronous: call it by `context.decide`. Raise Refusal (404, 422, 429, ...) and core's errors."""
    envelope = _envelope(place, draft)
    if envelope.properties.user_id is not None:
        _check_user(session, envelope)
    is_mandatory = place.mandatory or place.queue is not None
    published = session.publish(envelope, [draft.body], is_mandatory=is_mandatory)
    if published.rejected:
        raise _full()
    if not published.is_routed:
        if is_mandatory:
            raise place.unroutable(session)
        return Taken(1, unrouted=(0,))
    return Taken(1)


def publish_all(session: Session, place: Place, drafts: Sequence[Draft]) -> Taken:
    """Many, in order: all are checked before the first is taken. Raise as `publish`, then nothing is stored; but 429
    (some queue is full) names those that were rejected, and the others are stored."""
    envelopes: list[Envelope] = []
    known: dict[tuple[str, bytes], Envelope] = {}
    for index, draft in enumerate(drafts):
        try:
            envelope = _envelope(place, draft)
            envelope = known.setdefault((envelope.routing_key, envelope.header), envelope)
            _check_user(session, envelope)
            if not _leads_somewhere(session, envelope) and (place.mandatory or place.queue is not None):
                raise place.unroutable(session)
        except Refusal as refusal:
            refusal.extra["index"] = index
            raise
        envelopes.append(envelope)
    unrouted: list[int] = []
    rejected: list[int] = []
    start, count = 0, len(drafts)
    while start < count:  # a run of messages alike is one publish
        end = start + 1
        while end < count and envelopes[end] is envelopes[start]:
            end += 1
        published = session.publish(envelopes[start], [draft.body for draft in drafts[start:end]])
        if not published.is_routed:
            unrouted += range(start, end)
        rejected += range(end - published.rejected, end)
        start = end
    return Taken(count, unrouted, rejected)


def _full() -> Refusal:
    return Refusal(
        429,
        "queue_full",
        "a queue is full and rejects what is published (x-overflow: reject-publish)",
        headers=RETRY_SOON,
    )


def rejection(taken: Taken) -> Refusal:
    """Of a batch of which a part was rejected."""
    refusal = _full()
    refusal.extra.update(count=taken.count, rejected=list(taken.rejected), unrouted=list(taken.unrouted))
    return refusal


async def confirm(context: HttpContext) -> None:
    """Until what was published is durable. Raise Refusal (503) if that takes too long."""
    broker = context.broker
    broker.dispatcher.run()  # consumers need not wait for the disk
    if broker.store.has_pending:
        await context.durable()


async def confirmed(context: HttpContext, session: Session, decision: Callable[[], Taken]) -> Taken:
    taken = await context.decide(session, decision)
    counters = context.broker.traffic.of_protocol("http")
    count = taken.count - len(taken.rejected)
    counters.received_confirm += count
    await confirm(context)
    counters.confirmed += count
    return taken

"""Dead letters of a webhook: creating, listing and replaying them."""

from __future__ import annotations

from collections.abc import Callable, Collection
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import trio

from leveret.core.fields import FieldError, Int64
from leveret.core.message import Envelope
from leveret.core.properties import Properties

if TYPE_CHECKING:
    from leveret.core.message import Message
    from leveret.core.queue.queue import Queue
__all__ = [
    "WEBHOOK_ID_HEADER",
    "DeadLetter",
    "Replay",
    "Selection",
    "dead_envelope",
    "dead_letters",
    "replay",
]

PREFIX = "x-webhook-"
WEBHOOK_ID_HEADER = "x-webhook-id"
MAX_ERROR_CHARS = 512
MAX_HELD = 100_000  # messages out of a dead-letter queue at once, while a replay looks for the selected ones
MAX_HELD_BYTES = 256 << 20
BATCH = 256  # messages examined between two checkpoints


def dead_envelope(
    message: Message,
    *,
    subscription: str,
    webhook_id: str,
    reason: str,
    status: int | None,
    attempts: int,
    error: str,
    at_ms: int,
) -> Envelope:
    """The dead letter of a message. It keeps exchange and routing key, is persistent, and does not expire."""
    envelope = message.envelope
    before = envelope.properties
    headers: dict[str, Any] = _without_own_headers(before.headers or {})
    headers |= {
        "x-webhook-subscription": subscription,
        WEBHOOK_ID_HEADER: webhook_id,
        "x-webhook-reason": reason,
        "x-webhook-attempts": Int64(attempts),
        "x-webhook-time": Int64(at_ms),
    }
    if status is not None:
        headers["x-webhook-status"] = Int64(status)
    if error:
        headers["x-webhook-error"] = error[:MAX_ERROR_CHARS].encode("utf-8", "replace").decode()
    if before.expiration is not None:
        headers["x-webhook-original-expiration"] = before.expiration
    properties = replace(before, headers=headers, delivery_mode=2, expiration=None)
    try:
        return Envelope.of(envelope.exchange, envelope.routing_key, properties)
    except (
        FieldError
    ):  # the publisher's headers cannot be encoded, and are left out so that the message is kept
        properties.headers = {key: value for key, value in headers.items() if key.startswith(PREFIX)}
        return Envelope.of(envelope.exchange, envelope.routing_key, properties)


def _replayed_envelope(envelope: Envelope, exchange: str, routing_key: str) -> Envelope:
    before = envelope.properties
    headers = _without_own_headers(before.headers or {})
    webhook_id = (before.headers or {}).get(WEBHOOK_ID_HEADER)
    if webhook_id is not None:  # so that the receiver recognises the message
        headers[WEBHOOK_ID_HEADER] = webhook_id
    for key in ("x-death", "x-first-death-reason", "x-first-death-queue", "x-first-death-exchange",
                "x-last-death-reason", "x-last-death-queue", "x-last-death-exchange"):  # fmt: skip
        headers.pop(key, None)
    return Envelope.of(exchange, routing_key, replace(before, headers=headers, delivery_mode=2))


def _without_own_headers(headers: dict[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in headers.items() if not key.startswith(PREFIX)}


@dataclass(frozen=True, slots=True)
class Selection:
    """A choice of dead letters; None matches everything. ids: webhook ids or positions; since, until: milliseconds since the epoch."""

    ids: Collection[str | int] | None = None
    since: int | None = None
    until: int | None = None
    reason: str | None = None
    status: int | None = None

    def matches(self, letter: DeadLetter) -> bool:
        return (
            (self.ids is None or letter.position in self.ids or letter.webhook_id in self.ids)
            and (self.since is None or letter.at >= self.since)
            and (self.until is None or letter.at < self.until)
            and (self.reason is None or letter.reason == self.reason)
            and (self.status is None or letter.status == self.status)
        )


@dataclass(frozen=True, slots=True)
class DeadLetter:
    """A dead letter as its headers describe it. One that expired before any attempt is described by its x-death header."""

    position: int
    webhook_id: str
    reason: str
    status: int | None
    attempts: int
    at: int
    error: str
    exchange: str
    routing_key: str
    size: int

    @classmethod
    def of(
        cls, position: int, exchange: str, routing_key: str, properties: Properties, size: int
    ) -> DeadLetter:
        headers = properties.headers or {}
        status = headers.get("x-webhook-status")
        at = headers.get("x-webhook-time")
        reason = headers.get("x-webhook-reason", headers.get("x-first-death-reason", ""))
        deaths = headers.get("x-death")
        if isinstance(deaths, list) and deaths and isinstance(deaths[0], dict):
            death = deaths[0]
            if at is None and isinstance(death.get("time"), int):
                at = death["time"] * 1000
            if exchange == "" and isinstance(death.get("exchange"), str):
                exchange = death["exchange"]
                keys = death.get("routing-keys")
                routing_key = str(keys[0]) if isinstance(keys, list) and keys else routing_key
        return cls(
            position,
            _text(headers.get(WEBHOOK_ID_HEADER)),
            _text(reason),
            int(status) if isinstance(status, int) else None,
            int(headers["x-webhook-attempts"]) if isinstance(headers.get("x-webhook-attempts"), int) else 0,
            int(at) if isinstance(at, int) else 0,
            _text(headers.get("x-webhook-error")),
            exchange,
            routing_key,
            size,
        )

    def as_json(self) -> dict[str, Any]:
        return {name: getattr(self, name) for name in self.__slots__}


def _text(value: Any) -> str:
    return value if isinstance(value, str) else ""


def dead_letters(queue: Queue, selection: Selection, *, after: int, limit: int) -> list[DeadLetter]:
    """At most `limit` dead letters behind position `after`, in order. They stay in the queue."""
    found: list[DeadLetter] = []
    position = after + 1
    log = queue.fifos[0].log
    while log is not None and len(found) < limit:
        page = log.read(position, BATCH, 16 << 20)
        if not page:
            break
        for stored in page:
            properties = Properties.decode(stored.header)
            letter = DeadLetter.of(
                stored.position, stored.exchange, stored.routing_key, properties, len(stored.body)
            )
            if selection.matches(letter):
                found.append(letter)
                if len(found) >= limit:
                    break
        position = page[-1].position + 1
    return found


@dataclass(slots=True)
class Replay:
    """The result of a replay. is_complete: all messages of the queue were examined, or `limit` was reached."""

    replayed: int = 0
    is_complete: bool = True


async def replay(
    dead: Queue, target: Callable[[], Queue | None], selection: Selection, *, limit: int
) -> Replay:
    """Move the selected dead letters, in order, to the end of the target queue; the others keep their places.

    A message is in one queue or the other, never in both or none: both changes are in one commit. `is_complete` is false
    if the dead-letter queue is too long to be looked through at once, or the target refused.
    """
    result = Replay()
    held: list[Message] = []
    held_bytes = 0
    dispatcher = dead.dispatcher
    last = dead.next_position  # messages that are dead-lettered during the replay are left for the next one
    try:
        while result.replayed < limit:
            for _ in range(BATCH):
                message = dead.get(no_ack=False) if result.replayed < limit else None
                if message is None:
                    return result
                envelope = message.envelope
                letter = DeadLetter.of(
                    message.position, envelope.exchange, envelope.routing_key, envelope.properties,
                    len(message.body),
                )  # fmt: skip
                if message.position >= last or not selection.matches(letter):
                    held.append(message)
                    held_bytes += len(message.body)
                    if message.position >= last:
                        return result
                    if len(held) >= MAX_HELD or held_bytes >= MAX_HELD_BYTES:
                        result.is_complete = False
                        return result
                    continue
                queue = target()
                replayed_envelope = _replayed_envelope(envelope, letter.exchange, letter.routing_key)
                if queue is None or queue.publish(replayed_envelope, [message.body]):
                    held.append(message)
                    result.is_complete = False
                    return result
                dead.settle([message])
                result.replayed += 1
            dispatcher.run_soon()
            await trio.lowlevel.checkpoint()
        return result
    finally:
        if held:
            dead.requeue(held, counts=False)
        dispatcher.run_soon()

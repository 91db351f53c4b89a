"""Destinations, sans-IO: RabbitMQ's address forms to exchange, routing key and queue, and back (rabbit_routing_util.erl)."""

from __future__ import annotations

import re
from base64 import urlsafe_b64encode
from dataclasses import dataclass
from hashlib import md5

from leveret.adapters.stomp.faults import StompFault

__all__ = [
    "Destination",
    "format_destination",
    "parse_destination",
    "reply_address",
    "subscription_queue_name",
]

KINDS = ("exchange", "topic", "queue", "amq/queue", "reply-queue", "temp-queue")
# In RabbitMQ's order, as it shows them; also what makes a reply-to an address already.
SHOWN = "/temp-queue, /exchange, /topic, /queue, /amq/queue, /reply-queue/"
ADDRESS_PREFIXES = ("/exchange", "/topic", "/queue", "/amq/queue", "/reply-queue/")
_odd = re.compile(rb"[\x00-\x1f/%\x80-\xff]").sub


@dataclass(frozen=True, slots=True)
class Destination:
    """kind: one of KINDS. exchange and routing_key: where messages go, or what a subscription is bound to.

    queue: its name, where the kind means one queue; "" otherwise.
    """

    kind: str
    exchange: str
    routing_key: str
    queue: str = ""


def parse_destination(text: str, topic_exchange: str) -> Destination:
    """Raise StompFault with RabbitMQ's texts. Within a part only %2F is an escape, in capitals."""
    parts = text.split("/")
    if len(parts) == 1:
        if not text:
            raise StompFault("Invalid destination", "Destination cannot be blank")
        return _queue("queue", text)
    kind, rest = parts[1], parts[2:]
    if parts[0]:
        raise _unknown(text)
    if kind == "exchange":
        if not rest or not rest[0] or len(rest) > 2:
            raise _invalid(kind, rest)
        return Destination(kind, _unescape(rest[0]), _unescape(rest[1]) if len(rest) == 2 else "")
    if kind in ("queue", "topic", "temp-queue"):
        if len(rest) != 1 or not rest[0]:
            raise _invalid(kind, rest)
        if kind == "topic":
            return Destination(kind, topic_exchange, _unescape(rest[0]))
        return _queue(kind, rest[0])
    if kind == "amq" and rest and rest[0] == "queue":
        if len(rest) != 2 or not rest[1]:
            raise _invalid("amqqueue", rest[1:])
        return _queue("amq/queue", rest[1])
    if kind == "reply-queue" and rest:
        name = text[len("/reply-queue/") :]  # whatever it is, slashes too: nobody wrote it by hand
        if not name:
            raise _invalid("reply_queue", rest)
        return Destination("reply-queue", "", name, name)
    raise _unknown(text)


def _queue(kind: str, part: str) -> Destination:
    name = _unescape(part)
    return Destination(kind, "", name, name)


def _unescape(part: str) -> str:
    return part.replace("%2F", "/")


def _unknown(text: str) -> StompFault:
    return StompFault(
        "Unknown destination",
        f"'{text}' is not a valid destination.\nValid destination types are: {SHOWN}.\n",
    )


def _invalid(kind: str, rest: list[str]) -> StompFault:
    shown = "/" + "/".join(rest) if rest else ""
    return StompFault(
        "Invalid destination", f"'{shown}' is not a valid {kind.replace('-', '_')} destination\n"
    )


def format_destination(exchange: str, routing_key: str, topic_exchange: str) -> str:
    """Where a message was published to, as its `destination` header says it: RabbitMQ's form, its escapes too."""
    key = _escape(routing_key)
    if not exchange:
        return f"/queue/{key}"
    if exchange == topic_exchange:
        return f"/topic/{key}"
    return f"/exchange/{_escape(exchange)}/{key}" if routing_key else f"/exchange/{_escape(exchange)}"


def _escape(text: str) -> str:
    raw = text.encode("utf-8", "surrogateescape")
    return _odd(lambda found: b"%%%02X" % found[0][0], raw).decode("ascii")


def reply_address(reply_to: str) -> str:
    """A message's reply-to as something that can be sent to."""
    return reply_to if reply_to.startswith(ADDRESS_PREFIXES) else f"/reply-queue/{reply_to}"


def subscription_queue_name(routing_key: str, subscription_id: str) -> str:
    """The queue of a durable subscription: the very name that RabbitMQ gives it, so that one can take over.

    It is the MD5 of an Erlang term, {RoutingKey, Id}, in the external term format.
    """
    term = b"\x83h\x02" + _erlang_string(routing_key) + _erlang_string(subscription_id)
    digest = md5(term, usedforsecurity=False).digest()
    return "stomp-subscription-" + urlsafe_b64encode(digest).rstrip(b"=").decode("ascii")


def _erlang_string(text: str) -> bytes:
    raw = text.encode("utf-8", "surrogateescape")
    if not raw:
        return b"j"
    if len(raw) <= 0xFFFF:
        return b"k" + len(raw).to_bytes(2, "big") + raw
    items = b"".join(b"a%c" % byte for byte in raw)
    return b"l" + len(raw).to_bytes(4, "big") + items + b"j"

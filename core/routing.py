"""From an exchange to queues: exchange types, exchange-to-exchange, alternate exchanges, CC and BCC."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, cast

from leveret.core.errors import InvalidArgument
from leveret.core.fields import join_table, split_table, type_name
from leveret.core.message import Envelope
from leveret.core.properties import raw_headers, with_headers

if TYPE_CHECKING:
    from leveret.core.exchange import Exchange
    from leveret.core.queue.queue import Queue
__all__ = ["Routed", "route", "routing_keys"]

HAS_HEADERS = 1 << 5  # in the first byte of the property flags
REMEMBERED = "routing"  # what is worked out of an envelope's headers is kept with it


@dataclass(slots=True)
class Routed:
    """Where a message goes, each queue once, and what is delivered there (the envelope without its BCC).

    is_stable: while the virtual host's epoch stands, every message with this exchange and routing key, and without CC
    and BCC headers, goes there.
    """

    queues: tuple[Queue, ...]
    envelope: Envelope
    is_stable: bool


def route(exchange: Exchange, envelope: Envelope) -> Routed:
    """Decide; no mutation. Raise InvalidArgument for CC or BCC headers that are no arrays of strings."""
    header = envelope.header
    if header[0] & HAS_HEADERS and b"CC" in header:
        keys, delivered = _sender_selected(envelope)
        if len(keys) > 1 or delivered is not envelope:
            return _walk(exchange, envelope, keys, delivered)
    key = envelope.routing_key
    if not exchange.name:
        queue = cast("Queue | None", exchange.vhost.queues.get(key))
        return Routed((queue,) if queue is not None else (), envelope, True)
    if not exchange.link_count:
        queues = cast("tuple[Queue, ...]", tuple(exchange.router.route(envelope, key)))
        if queues or exchange.alternate_exchange is None:
            return Routed(queues, envelope, exchange.router.is_stable)
    return _walk(exchange, envelope, (key,), envelope)


def _walk(exchange: Exchange, envelope: Envelope, keys: tuple[str, ...], delivered: Envelope) -> Routed:
    """Each exchange once, however many ways lead to it. One that leads nowhere hands over to its alternate."""
    exchanges, queues = exchange.vhost.exchanges, exchange.vhost.queues
    found: dict[Queue, None] = {}
    seen = {exchange}
    work = [exchange]
    is_stable = True
    for current in work:  # grows while it is walked
        if not current.name:
            for key in keys:
                queue = queues.get(key)
                if queue is not None:
                    found[cast("Queue", queue)] = None
            continue
        router = current.router
        is_stable = is_stable and router.is_stable
        leads_nowhere = True
        for key in keys:
            for destination in router.route(envelope, key):
                leads_nowhere = False
                if destination.kind == "queue":
                    found[cast("Queue", destination)] = None
                elif destination not in seen:
                    seen.add(cast("Exchange", destination))
                    work.append(cast("Exchange", destination))
        if leads_nowhere and current.alternate_exchange is not None:
            alternate = exchanges.get(current.alternate_exchange)
            if alternate is not None and alternate not in seen:
                seen.add(alternate)
                work.append(alternate)
    return Routed(tuple(found), delivered, is_stable)


def routing_keys(envelope: Envelope) -> tuple[str, ...]:
    """Its own and those of CC and BCC, each once. Raise InvalidArgument."""
    if envelope.header[0] & HAS_HEADERS and b"CC" in envelope.header:
        return _sender_selected(envelope)[0]
    return (envelope.routing_key,)


def _sender_selected(envelope: Envelope) -> tuple[tuple[str, ...], Envelope]:
    """All routing keys, and what is delivered: the envelope itself, or one without BCC (rabbit_basic.erl)."""
    if envelope.encoded is not None and REMEMBERED in envelope.encoded:
        remembered: tuple[tuple[str, ...], Envelope] = envelope.encoded[REMEMBERED]
        return remembered
    headers = envelope.properties.headers or {}
    keys = {envelope.routing_key: None}
    for name in ("CC", "BCC"):
        if name in headers:
            keys.update(dict.fromkeys(_keys(name, headers[name])))
    delivered = _without_bcc(envelope) if "BCC" in headers else envelope
    selected = tuple(keys), delivered
    if envelope.encoded is None:
        envelope.encoded = {}
    envelope.encoded[REMEMBERED] = selected
    return selected


def _keys(name: str, value: Any) -> list[str]:
    """The keys in one of the two headers, which must be an array of strings."""
    if not isinstance(value, (list, tuple)):
        raise _unacceptable(name, value)
    keys = []
    for key in value:
        if type_name(key) != "longstr":
            raise _unacceptable(name, key)
        keys.append(key if isinstance(key, str) else key.decode("utf-8", "surrogateescape"))
    return keys


def _unacceptable(name: str, value: Any) -> InvalidArgument:
    return InvalidArgument(f'invalid message: {{unacceptable_type_in_header,"{name}",{type_name(value)}}}')


def _without_bcc(envelope: Envelope) -> Envelope:
    body = raw_headers(envelope.header) or b""
    pieces = [piece for piece in split_table(body) if piece[0] != b"BCC"]
    header = with_headers(envelope.header, join_table(pieces))
    return Envelope(envelope.exchange, envelope.routing_key, header)

"""Bindings, and the key that a binding has in paths (`properties_key`)."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Iterable, Iterator
from contextlib import suppress
from typing import TYPE_CHECKING, Any
from urllib.parse import quote_plus, unquote_plus

from leveret.adapters.http.errors import Refusal
from leveret.adapters.http.json_encoding import encode
from leveret.adapters.http.management.lists import Part, PublishView, Table, answer_list
from leveret.adapters.http.management.routes import Call, Route, not_found

if TYPE_CHECKING:
    from leveret.core.exchange import Binding, Exchange
    from leveret.core.queue.queue import Queue
    from leveret.core.vhost import Vhost
__all__ = [
    "BINDINGS",
    "ROUTES",
    "binding_item",
    "bindings_between",
    "exchange_name",
    "find_binding",
    "find_exchange",
    "properties_key",
]

DEFAULT_NAME = "amq.default"
"""What the default exchange, whose name is empty, is called in paths."""
KINDS = {"q": "queue", "e": "exchange"}


def properties_key(binding: Binding) -> str:
    """The quoted routing key, `~` if it is empty, and `~` with a digest behind it if there are arguments.

    As rabbit_mgmt_format:pack_binding_props; the digest is our own, and good for this broker alone, as RabbitMQ's is.
    """
    key = quote_plus(binding.routing_key, errors="surrogateescape").replace("~", "%7E")
    if binding.arguments:
        table = {name: binding.arguments[name] for name in sorted(binding.arguments)}
        digest = hashlib.blake2b(encode(table), digest_size=16).digest()
        return f"{key}~{base64.urlsafe_b64encode(digest).decode().rstrip('=')}"
    return key or "~"


def binding_item(source: Exchange, binding: Binding) -> dict[str, Any]:
    destination = binding.destination
    return {
        "source": source.name,
        "vhost": source.vhost.name,
        "destination": destination.name,
        "destination_type": destination.kind,
        "routing_key": binding.routing_key,
        "arguments": binding.arguments,
        "properties_key": properties_key(binding),
    }


def _put(item: dict[str, Any], pair: tuple[Exchange, Binding], view: PublishView) -> None:
    item.update(binding_item(*pair))


BINDINGS: Table[tuple[Exchange, Binding]] = Table(
    (
        Part(
            frozenset({
                "source", "vhost", "destination", "destination_type", "routing_key", "arguments", "properties_key",
            }),
            _put,
        ),
    ),
    lambda pair: pair[1].routing_key,
)  # fmt: skip


def exchange_name(part: str) -> str:
    """Of a part of a path."""
    return "" if part == DEFAULT_NAME else part


def find_exchange(vhost: Vhost, name: str) -> Exchange:
    """Raise Refusal (404)."""
    exchange = vhost.exchanges.get(exchange_name(name))
    if exchange is None:
        raise not_found()
    return exchange


def _destination(vhost: Vhost, call: Call) -> Queue | Exchange:
    kind, name = KINDS.get(call.part("kind")), call.part("destination")
    if kind is None:
        raise not_found()
    if kind == "exchange":
        return find_exchange(vhost, name)
    queue = vhost.queues.get(name)
    if queue is None:
        raise not_found()
    return queue


def bindings_between(vhost: Vhost, call: Call) -> Iterator[tuple[Exchange, Binding]]:
    """From `source` to `destination` (of `kind` q or e) of the path. Raise Refusal (404)."""
    source, destination = find_exchange(vhost, call.part("source")), _destination(vhost, call)
    return (pair for pair in vhost.bindings_to(destination) if pair[0] is source)


def find_binding(vhost: Vhost, call: Call) -> tuple[Exchange, Binding]:
    """The one with the key `props` of the path, as it is shown or decoded once more. Raise Refusal (404)."""
    wanted = call.part("props")
    for source, binding in bindings_between(vhost, call):
        key = properties_key(binding)
        if wanted in (key, unquote_plus(key, errors="surrogateescape")):
            return source, binding
    raise not_found()


async def bindings(call: Call) -> Any:
    """Bindings of the virtual hosts that the user may enter, those of the default exchange included."""
    pairs = [pair for vhost in await call.vhosts() for pair in vhost.bindings()]
    return await answer_list(call, pairs, BINDINGS)


async def between(call: Call) -> Any:
    """The bindings from one exchange to one queue or exchange; an empty list if one of them does not exist."""
    vhost = await call.vhost()
    if call.part("kind") not in KINDS:
        raise not_found()
    pairs: Iterable[tuple[Exchange, Binding]] = ()
    with suppress(Refusal):
        pairs = bindings_between(vhost, call)
    return await answer_list(call, pairs, BINDINGS)


async def binding(call: Call) -> dict[str, Any]:
    """One binding."""
    return binding_item(*find_binding(await call.vhost(), call))


ROUTES = (
    Route("GET", "/bindings", bindings),
    Route("GET", "/bindings/{vhost}", bindings),
    Route("GET", "/bindings/{vhost}/e/{source}/{kind}/{destination}", between),
    Route("GET", "/bindings/{vhost}/e/{source}/{kind}/{destination}/{props}", binding),
)

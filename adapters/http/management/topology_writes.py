"""Exchanges, queues and bindings declared and deleted, with the permissions of whoever asks."""

from __future__ import annotations

from urllib.parse import quote_plus

from aiohttp import web

from leveret.adapters.http.management.bindings import (
    DEFAULT_NAME,
    KINDS,
    find_binding,
    find_exchange,
    properties_key,
)
from leveret.adapters.http.management.payloads import (
    bad_request,
    check_length,
    created,
    done,
    payload,
    perform,
    session_for,
    terms,
)
from leveret.adapters.http.management.queues import find_queue
from leveret.adapters.http.management.routes import Call, Route, not_found
from leveret.core.exchange import Binding

__all__ = ["ROUTES"]

# -- exchanges


async def put_exchange(call: Call) -> web.Response:
    """Declare an exchange; an existing one must have the same properties."""
    given = await payload(call)
    name = check_length("exchange", call.part("exchange"))
    session = await session_for(call)
    type, arguments = given.text("type", "direct"), given.table()
    flags = {key: given.flag(key) for key in ("durable", "auto_delete", "internal")}

    def declare() -> bool:
        is_new = name not in session.vhost.exchanges
        session.exchange_declare(name, type, arguments=arguments, **flags)
        return is_new

    return created(await perform(call, session, declare))


async def delete_exchange(call: Call) -> web.Response:
    """Delete an exchange; with `if-unused=true` only if nothing is bound to it."""
    session = await session_for(call)
    name, if_unused = find_exchange(session.vhost, call.part("exchange")).name, call.flag("if-unused")
    await perform(call, session, lambda: session.exchange_delete(name, if_unused=if_unused))
    return done()


# -- queues


async def put_queue(call: Call) -> web.Response:
    """Declare a queue; an existing one must have the same properties."""
    given = await payload(call)
    name = check_length("queue", call.part("queue"))
    session = await session_for(call)
    node = given.get("node")
    if node not in (None, "", call.broker.node_name):
        raise bad_request(f"Node {node} could not be contacted")
    durable, auto_delete, arguments = given.flag("durable"), given.flag("auto_delete"), given.table()

    def declare() -> bool:
        is_new = name not in session.vhost.queues
        session.queue_declare(name, durable=durable, auto_delete=auto_delete, arguments=arguments)
        return is_new

    return created(await perform(call, session, declare))


async def delete_queue(call: Call) -> web.Response:
    """Delete a queue; with `if-unused=true` or `if-empty=true` only if it is unused or empty."""
    queue = await find_queue(call)
    session = await session_for(call)
    if_unused, if_empty = call.flag("if-unused"), call.flag("if-empty")
    await perform(
        call, session, lambda: session.queue_delete(queue.name, if_unused=if_unused, if_empty=if_empty)
    )
    return done()


async def purge_queue(call: Call) -> web.Response:
    """Drop all ready messages of a queue."""
    queue = await find_queue(call)
    session = await session_for(call)
    await perform(call, session, lambda: session.queue_purge(queue.name))
    return done()


async def act(call: Call) -> web.Response:
    """`{"action": "sync"}` or `cancel_sync`, for mirrors: no effect."""
    action = (await payload(call, "action")).get("action")
    await find_queue(call)
    if action not in ("sync", "cancel_sync"):
        raise terms("unknown", action)
    return done()


# -- bindings


async def post_binding(call: Call) -> web.Response:
    """Bind; the answer's Location ends with the binding's key."""
    given = await payload(call)
    kind = KINDS.get(call.part("kind"))
    if kind is None:
        raise not_found()
    session = await session_for(call)
    source, destination = (
        "" if name == DEFAULT_NAME else name for name in (call.part("source"), call.part("destination"))
    )
    if kind == "queue":
        destination = call.part("destination")
    key, arguments = check_length("routing key", given.text("routing_key", "")), given.table()
    bind = session.queue_bind if kind == "queue" else session.exchange_bind
    await perform(call, session, lambda: bind(destination, source, key, arguments))
    things = session.vhost.queues if kind == "queue" else session.vhost.exchanges
    props = properties_key(Binding(things[destination], key, arguments))
    location = f"{quote_plus(destination)}/{quote_plus(props)}"
    return web.Response(status=201, headers={"Location": location})


async def delete_binding(call: Call) -> web.Response:
    """Unbind, by the binding's key (`properties_key`)."""
    session = await session_for(call)
    source, binding = find_binding(session.vhost, call)
    unbind = session.queue_unbind if binding.destination.kind == "queue" else session.exchange_unbind
    await perform(
        call,
        session,
        lambda: unbind(binding.destination.name, source.name, binding.routing_key, binding.arguments),
    )
    return done()


ROUTES = (
    Route("PUT", "/exchanges/{vhost}/{exchange}", put_exchange),
    Route("DELETE", "/exchanges/{vhost}/{exchange}", delete_exchange),
    Route("PUT", "/queues/{vhost}/{queue}", put_queue),
    Route("DELETE", "/queues/{vhost}/{queue}", delete_queue),
    Route("DELETE", "/queues/{vhost}/{queue}/contents", purge_queue),
    Route("POST", "/queues/{vhost}/{queue}/actions", act, needs="administrator"),
    Route("POST", "/bindings/{vhost}/e/{source}/{kind}/{destination}", post_binding),
    Route("DELETE", "/bindings/{vhost}/e/{source}/{kind}/{destination}/{props}", delete_binding),
)

"""Virtual hosts made, changed and deleted."""

from __future__ import annotations

from typing import Any

from aiohttp import web

from leveret.adapters.http.errors import Refusal
from leveret.adapters.http.management.payloads import (
    bad_request,
    check_length,
    created,
    done,
    payload,
)
from leveret.adapters.http.management.routes import Call, Route
from leveret.adapters.http.management.vhosts import find_vhost
from leveret.auth.users import checked_name
from leveret.core.erlang_terms import erlang_term
from leveret.core.errors import PreconditionFailed
from leveret.core.queue.arguments import QUEUE_TYPES

__all__ = ["ROUTES"]

UNSET = ("", "undefined")


async def put_vhost(call: Call) -> web.Response:
    """Make a virtual host, or change its metadata; what is not given stays as it is."""
    name = checked_name("virtual host", check_length("vhost", call.part("vhost")))
    given = await payload(call)
    metadata: dict[str, Any] = {}
    if given.get("description") is not None:
        metadata["description"] = given.text("description")
    if (tags := given.words("tags")) is not None:
        metadata["tags"] = tags
    queue_type = given.get("default_queue_type", given.get("defaultqueuetype"))  # 3.11's name
    if queue_type is not None and queue_type not in UNSET:
        if queue_type not in QUEUE_TYPES:
            raise bad_request(f"{queue_type} is not a valid queue type")
        metadata["default_queue_type"] = queue_type
    tracing = given.flag("tracing") if given.get("tracing") is not None else None
    tracer = call.broker.services.get("tracing")
    if tracing and tracer is None:
        raise bad_request("plugin 'tracing' is not running: enable it first")
    if given.get("protected_from_deletion") is not None:
        metadata["is_protected"] = given.flag("protected_from_deletion")
    existing = call.broker.vhosts.get(name)
    if existing is None:
        call.broker.add_vhost(name, **metadata)
        call.broker.grant_all(call.principal.username, name)
    elif metadata:
        existing.update(**metadata)
    if tracing is not None and tracer is not None:
        (tracer.trace_on if tracing else tracer.trace_off)(name)
    return created(existing is None)


async def delete_vhost(call: Call) -> web.Response:
    """Delete a virtual host with everything in it; its connections are closed."""
    try:
        call.broker.delete_vhost(find_vhost(call).name)
    except PreconditionFailed as error:
        raise Refusal(412, "precondition_failed", str(error)) from None
    return done()


async def protect_vhost(call: Call) -> web.Response:
    """Protect a virtual host from deletion."""
    find_vhost(call).update(is_protected=True)
    return done()


async def unprotect_vhost(call: Call) -> web.Response:
    """Let a virtual host be deleted again."""
    find_vhost(call).update(is_protected=False)
    return done()


async def start_vhost(call: Call) -> web.Response:
    """Start a virtual host on a node: it runs already."""
    if call.part("node") != call.broker.node_name:
        raise bad_request(f"Request to node {call.part('node')} failed with nodedown")
    if call.part("vhost") not in call.broker.vhosts:
        term = erlang_term(call.part("vhost"))
        raise bad_request(f"Request to node {call.part('node')} failed with {{no_such_vhost,{term}}}")
    return done()


ROUTES = (
    Route("PUT", "/vhosts/{vhost}", put_vhost, needs="administrator"),
    Route("DELETE", "/vhosts/{vhost}", delete_vhost, needs="administrator"),
    Route("POST", "/vhosts/{vhost}/deletion/protection", protect_vhost, needs="administrator"),
    Route("DELETE", "/vhosts/{vhost}/deletion/protection", unprotect_vhost, needs="administrator"),
    Route("POST", "/vhosts/{vhost}/start/{node}", start_vhost, needs="administrator"),
)

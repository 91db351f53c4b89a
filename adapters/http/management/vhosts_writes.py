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
from leveret.core.arguments import QUEUE_TYPES

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
    queue_type = given.get("default_queue_type")
    if queue_type is not None and queue_type not in UNSET:
        if queue_type not in QUEUE_TYPES:
            raise bad_request(f"Unsupported default queue type '{queue_type}'")
        metadata["default_queue_type"] = queue_type
    tracing = given.flag("tracing") if given.get("tracing") is not None else None
    tracer = call.broker.services.get("tracing")
    if tracing and tracer is None:
        raise bad_request("plugin 'tracing' is not running: enable it first")
    existing = call.broker.vhosts.get(name)
    if existing is None:
        call.broker.add_vhost(name, **metadata)
    elif metadata:
        existing.update(**metadata)
    if tracing is not None and tracer is not None:
        (tracer.trace_on if tracing else tracer.trace_off)(name)
    return created(existing is None)


async def delete_vhost(call: Call) -> web.Response:
    """Delete a virtual host with everything in it; its connections are closed."""
    call.broker.delete_vhost(find_vhost(call).name)
    return done()


async def start_vhost(call: Call) -> web.Response:
    """Start a virtual host on a node: it runs already."""
    if call.part("node") != call.broker.node_name:
        raise bad_request(f"Request to node {call.part('node')} failed with nodedown")
    if call.part("vhost") not in call.broker.vhosts:
        raise Refusal(404, "not_found", "vhost_not_found")
    return done()


ROUTES = (
    Route("PUT", "/vhosts/{vhost}", put_vhost, needs="administrator"),
    Route("DELETE", "/vhosts/{vhost}", delete_vhost, needs="administrator"),
    Route("POST", "/vhosts/{vhost}/start/{node}", start_vhost, needs="administrator"),
)

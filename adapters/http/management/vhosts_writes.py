"""Virtual hosts made, changed and deleted."""

from __future__ import annotations

from aiohttp import web

from leveret.adapters.http.errors import Refusal
from leveret.adapters.http.management.payloads import Payload, bad_request, created, done, payload
from leveret.adapters.http.management.routes import Call, Route
from leveret.adapters.http.management.vhosts import find_vhost
from leveret.core.administration import vhosts
from leveret.core.administration.vhosts import VhostMetadata
from leveret.core.erlang_terms import erlang_term
from leveret.core.errors import PreconditionFailed

__all__ = ["ROUTES"]

UNSET = (None, "", "undefined")


async def put_vhost(call: Call) -> web.Response:
    """Create a virtual host, or change its metadata; members that are not given stay."""
    name, given = call.part("vhost"), await payload(call)
    tags = given.words("tags")
    queue_type = given.get("default_queue_type", given.get("defaultqueuetype"))  # 3.11's name
    metadata = VhostMetadata(
        given.text("description", None),
        None if tags is None else tuple(tags),
        None if queue_type in UNSET else queue_type,
        _flag(given, "protected_from_deletion"),
    )
    tracing = _flag(given, "tracing")
    if tracing:
        vhosts.check_tracing(call.broker)
    is_new = vhosts.put_vhost(call.broker, name, metadata, creator=call.principal.username)
    if tracing is not None and tracing != (call.broker.vhosts[name].tracer is not None):
        vhosts.set_tracing(call.broker, name, is_on=tracing)
    return created(is_new)


def _flag(given: Payload, key: str) -> bool | None:
    """None: not given."""
    return None if given.get(key) is None else given.flag(key)


async def delete_vhost(call: Call) -> web.Response:
    """Delete a virtual host with everything in it; its connections are closed."""
    try:
        vhosts.delete_vhost(call.broker, find_vhost(call).name)
    except PreconditionFailed as error:
        raise Refusal(412, "precondition_failed", str(error)) from None
    return done()


async def protect_vhost(call: Call) -> web.Response:
    """Protect a virtual host from deletion."""
    vhosts.set_protection(call.broker, find_vhost(call).name, is_protected=True)
    return done()


async def unprotect_vhost(call: Call) -> web.Response:
    """Remove the protection of a virtual host from deletion."""
    vhosts.set_protection(call.broker, find_vhost(call).name, is_protected=False)
    return done()


async def start_vhost(call: Call) -> web.Response:
    """Start a virtual host on a node: no effect, since it is running."""
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

"""Runtime parameters, limits and the cluster's name set and cleared."""

from __future__ import annotations

from aiohttp import web

from leveret.adapters.http.management.payloads import (
    bad_request,
    created,
    done,
    payload,
    refusals,
    terms,
    vhost_for,
)
from leveret.adapters.http.management.routes import ACCESS, Call, Route, not_authorised
from leveret.auth.users import NoSuchUser
from leveret.core.administration import limits, parameters
from leveret.core.errors import InvalidArgument

__all__ = ["ROUTES"]


def _check_component(call: Call, component: str) -> None:
    """Policymakers may not change the parameters of administrators, by whatever path. Raise Refusal (401)."""
    if component in parameters.RESERVED_COMPONENTS and not call.has("administrator"):
        raise not_authorised(ACCESS["administrator"][1])


async def put_parameter(call: Call) -> web.Response:
    """Set a parameter of a component in a virtual host."""
    component, name = call.part("component"), call.part("name")
    given = await payload(call, "value")
    vhost = await vhost_for(call, administrators_enter=True)
    _check_component(call, component)
    with refusals():
        return created(parameters.set_parameter(call.broker, vhost.name, component, name, given.get("value")))


async def delete_parameter(call: Call) -> web.Response:
    """Clear a parameter."""
    component, name = call.part("component"), call.part("name")
    vhost = await vhost_for(call, administrators_enter=True)
    _check_component(call, component)
    with refusals():
        parameters.clear_parameter(call.broker, vhost.name, component, name)
    return done()


async def put_global_parameter(call: Call) -> web.Response:
    """Set a global parameter."""
    given, name = await payload(call, "value"), call.part("name")
    return created(parameters.set_global_parameter(call.broker, name, given.get("value")))


async def delete_global_parameter(call: Call) -> web.Response:
    """Clear a global parameter."""
    with refusals():
        parameters.clear_global_parameter(call.broker, call.part("name"))
    return done()


async def put_cluster_name(call: Call) -> web.Response:
    """Set the name of the cluster, which clients see as cluster_name."""
    name = (await payload(call, "name")).text("name")
    if not name:
        raise bad_request("name must not be empty")
    parameters.set_global_parameter(call.broker, "cluster_name", name)
    return done()


# -- limits


async def put_vhost_limit(call: Call) -> web.Response:
    """Limit a virtual host's connections or queues; a negative number is no limit."""
    given = await payload(call, "value")
    vhost = await vhost_for(call, administrators_enter=True)
    with refusals():
        limits.set_vhost_limit(call.broker, vhost.name, call.part("name"), given.get("value"))
    return done()


async def delete_vhost_limit(call: Call) -> web.Response:
    """Remove a limit of a virtual host."""
    vhost = await vhost_for(call, administrators_enter=True)
    limits.clear_vhost_limit(call.broker, vhost.name, call.part("name"))
    return done()


async def put_user_limit(call: Call) -> web.Response:
    """Limit a user's connections or channels; a negative number is no limit."""
    given, user = await payload(call, "value"), call.part("user")
    try:
        limits.set_user_limits(call.broker, user, {call.part("name"): given.get("value")})
    except NoSuchUser:
        raise terms("no_such_user", user) from None
    except InvalidArgument as error:
        raise bad_request(str(error)) from None
    return done()


async def delete_user_limit(call: Call) -> web.Response:
    """Remove a limit of a user."""
    with refusals():
        limits.clear_user_limit(call.broker, call.part("user"), call.part("name"))
    return done()


ROUTES = (
    Route("PUT", "/parameters/{component}/{vhost}/{name}", put_parameter, needs="policymaker"),
    Route("DELETE", "/parameters/{component}/{vhost}/{name}", delete_parameter, needs="policymaker"),
    Route("PUT", "/global-parameters/{name}", put_global_parameter, needs="policymaker"),
    Route("DELETE", "/global-parameters/{name}", delete_global_parameter, needs="policymaker"),
    Route("PUT", "/cluster-name", put_cluster_name, needs="administrator"),
    Route("PUT", "/vhost-limits/{vhost}/{name}", put_vhost_limit, needs="administrator"),
    Route("DELETE", "/vhost-limits/{vhost}/{name}", delete_vhost_limit, needs="administrator"),
    Route("PUT", "/user-limits/{user}/{name}", put_user_limit, needs="administrator"),
    Route("DELETE", "/user-limits/{user}/{name}", delete_user_limit, needs="administrator"),
)

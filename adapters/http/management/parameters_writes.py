"""Runtime parameters, limits and the cluster's name set and cleared."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from aiohttp import web

from leveret.adapters.http.management.parameters import LIMITS, OPERATOR_POLICY, POLICY
from leveret.adapters.http.management.payloads import (
    Payload,
    bad_request,
    created,
    done,
    payload,
    terms,
    validation_failed,
    vhost_for,
)
from leveret.adapters.http.management.policies_writes import set_policy
from leveret.adapters.http.management.routes import ACCESS, Call, Route, not_authorised, not_found
from leveret.auth.users import LIMITS as USER_LIMITS
from leveret.auth.users import NoSuchUser, User
from leveret.core.erlang_terms import erlang_term
from leveret.core.errors import InvalidArgument

if TYPE_CHECKING:
    from leveret.core.vhost import Vhost
__all__ = ["ROUTES"]

VHOST_LIMITS = ("max-connections", "max-queues")
ADMINISTRATORS = (OPERATOR_POLICY, LIMITS)
"""Components that policymakers may not change, by whatever path."""


def _check_component(call: Call, component: str) -> None:
    if component in ADMINISTRATORS and not call.has("administrator"):
        raise not_authorised(ACCESS["administrator"][1])
    if component == POLICY:
        raise bad_request("policies may not be set using this method")


async def put_parameter(call: Call) -> web.Response:
    """Set a parameter of a component in a virtual host."""
    component, name = call.part("component"), call.part("name")
    given = await payload(call, "value")
    vhost = await vhost_for(call, administrators_enter=True)
    _check_component(call, component)
    value = given.get("value")
    if component == OPERATOR_POLICY:
        if not isinstance(value, Mapping):
            raise validation_failed(ValueError(f"Term is not a JSON object in {name}"))
        return created(set_policy(call, vhost.name, name, Payload(value), operator=True))
    if component == LIMITS:
        is_new = not vhost.limits
        _set_vhost_limits(vhost, value)
        return created(is_new)
    if component not in call.broker.components:
        raise validation_failed(ValueError(f"component {component} not found"))
    is_new = (component, name) not in vhost.parameters
    try:
        vhost.set_parameter(component, name, value)
    except InvalidArgument as error:
        raise validation_failed(error) from None
    return created(is_new)


async def delete_parameter(call: Call) -> web.Response:
    """Clear a parameter."""
    component, name = call.part("component"), call.part("name")
    vhost = await vhost_for(call, administrators_enter=True)
    _check_component(call, component)
    if component == OPERATOR_POLICY:
        if call.broker.policies.get(vhost.name, name, operator=True) is None:
            raise not_found()
        call.broker.policies.clear(vhost.name, name, operator=True)
    elif component == LIMITS:
        if not vhost.limits:
            raise not_found()
        for limit in list(vhost.limits):
            vhost.set_limit(limit, None)
    elif not vhost.clear_parameter(component, name):
        raise not_found()
    return done()


async def put_global_parameter(call: Call) -> web.Response:
    """Set a global parameter."""
    given, name = await payload(call, "value"), call.part("name")
    is_new = name not in call.broker.parameters
    call.broker.set_parameter(name, given.get("value"))
    return created(is_new)


async def delete_global_parameter(call: Call) -> web.Response:
    """Clear a global parameter."""
    if not call.broker.clear_parameter(call.part("name")):
        raise not_found()
    return done()


async def put_cluster_name(call: Call) -> web.Response:
    """Call the cluster something else: what clients see as cluster_name."""
    name = (await payload(call, "name")).text("name")
    if not name:
        raise bad_request("name must not be empty")
    call.broker.set_parameter("cluster_name", name)
    return done()


# -- limits


def _check_limit(known: tuple[str, ...], name: str, value: Any, where: str) -> int:
    """Raise InvalidArgument."""
    if name not in known:
        raise InvalidArgument(f"Unrecognised terms [{{{erlang_term(name)},{erlang_term(value)}}}] in {where}")
    if isinstance(value, bool) or not isinstance(value, int) or abs(value) >= 1 << 31:
        shown = "null" if value is None else erlang_term(value)
        raise InvalidArgument(f"{name} should be a number, actually was {shown}")
    return value


def _set_vhost_limits(vhost: Vhost, value: Any) -> None:
    """All of them at once. Raise Refusal (400)."""
    try:
        if not isinstance(value, Mapping):
            raise InvalidArgument("limits must be an object")
        limits = {name: _check_limit(VHOST_LIMITS, name, one, "limits") for name, one in value.items()}
    except InvalidArgument as error:
        raise validation_failed(error) from None
    for name in [name for name in vhost.limits if name not in limits]:
        vhost.set_limit(name, None)
    for name, one in limits.items():
        vhost.set_limit(name, one)


async def put_vhost_limit(call: Call) -> web.Response:
    """Limit a virtual host's connections or queues; a negative number is no limit."""
    given = await payload(call, "value")
    vhost, name = await vhost_for(call, administrators_enter=True), call.part("name")
    try:
        vhost.set_limit(name, _check_limit(VHOST_LIMITS, name, given.get("value"), "limits"))
    except InvalidArgument as error:
        raise validation_failed(error) from None
    return done()


async def delete_vhost_limit(call: Call) -> web.Response:
    """Take a virtual host's limit away."""
    vhost, name = await vhost_for(call, administrators_enter=True), call.part("name")
    if name in vhost.limits:
        vhost.set_limit(name, None)
    return done()


def _limited_user(call: Call) -> User:
    try:
        return call.broker.users.user(call.part("user"))
    except NoSuchUser:
        raise (
            not_found() if call.request.method == "DELETE" else terms("no_such_user", call.part("user"))
        ) from None


async def put_user_limit(call: Call) -> web.Response:
    """Limit a user's connections or channels; a negative number is no limit."""
    given, name = await payload(call, "value"), call.part("name")
    user = _limited_user(call)
    try:
        value = _check_limit(USER_LIMITS, name, given.get("value"), "user-limits")
    except InvalidArgument as error:
        raise bad_request(str(error)) from None
    call.broker.users.set_user_limits(user.name, {**user.limits, name: value})
    return done()


async def delete_user_limit(call: Call) -> web.Response:
    """Take a user's limit away."""
    user, name = _limited_user(call), call.part("name")
    if name in user.limits:
        limits = {key: value for key, value in user.limits.items() if key != name}
        call.broker.users.set_user_limits(user.name, limits)
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

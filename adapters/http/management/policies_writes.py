"""Policies and operator policies set and cleared."""

from __future__ import annotations

from aiohttp import web

from leveret.adapters.http.management.payloads import (
    Payload,
    created,
    done,
    payload,
    validation_failed,
    vhost_for,
)
from leveret.adapters.http.management.routes import Call, Route, not_found
from leveret.core.errors import InvalidArgument

__all__ = ["ROUTES", "set_policy"]


def set_policy(call: Call, vhost: str, name: str, given: Payload, *, operator: bool) -> bool:
    """True: it is new. Raise Refusal (400)."""
    policies = call.broker.policies
    is_new = policies.get(vhost, name, operator=operator) is None
    priority, apply_to = given.get("priority", 0), given.get("apply-to")
    try:
        policies.set(
            vhost,
            name,
            pattern=given.get("pattern"),
            definition=given.get("definition"),
            apply_to="all" if apply_to is None else apply_to,
            priority=priority,
            operator=operator,
        )
    except InvalidArgument as error:
        raise validation_failed(error) from None
    return is_new


async def _put(call: Call, *, operator: bool) -> web.Response:
    given = await payload(call, "pattern", "definition")
    vhost = await vhost_for(call, administrators_enter=True)
    return created(set_policy(call, vhost.name, call.part("policy"), given, operator=operator))


async def _delete(call: Call, *, operator: bool) -> web.Response:
    vhost, name = await vhost_for(call, administrators_enter=True), call.part("policy")
    if call.broker.policies.get(vhost.name, name, operator=operator) is None:
        raise not_found()
    call.broker.policies.clear(vhost.name, name, operator=operator)
    return done()


async def put_policy(call: Call) -> web.Response:
    """Set a policy: it applies at once to what is there."""
    return await _put(call, operator=False)


async def delete_policy(call: Call) -> web.Response:
    """Clear a policy."""
    return await _delete(call, operator=False)


async def put_operator_policy(call: Call) -> web.Response:
    """Set an operator policy: limits that users' policies and arguments cannot exceed."""
    return await _put(call, operator=True)


async def delete_operator_policy(call: Call) -> web.Response:
    """Clear an operator policy."""
    return await _delete(call, operator=True)


ROUTES = (
    Route("PUT", "/policies/{vhost}/{policy}", put_policy, needs="policymaker"),
    Route("DELETE", "/policies/{vhost}/{policy}", delete_policy, needs="policymaker"),
    Route("PUT", "/operator-policies/{vhost}/{policy}", put_operator_policy, needs="administrator"),
    Route("DELETE", "/operator-policies/{vhost}/{policy}", delete_operator_policy, needs="administrator"),
)

"""Policies and operator policies set and cleared."""

from __future__ import annotations

from aiohttp import web

from leveret.adapters.http.management.payloads import created, done, payload, refusals, vhost_for
from leveret.adapters.http.management.routes import Call, Route
from leveret.core.administration import policies
from leveret.core.administration.policies import PolicyValue

__all__ = ["ROUTES"]


async def _put(call: Call, *, operator: bool) -> web.Response:
    given = await payload(call, "pattern", "definition")
    vhost = await vhost_for(call, administrators_enter=True)
    value = PolicyValue(
        given.get("pattern"), given.get("definition"), given.get("apply-to"), given.get("priority", 0)
    )
    with refusals():
        return created(
            policies.set_policy(call.broker, vhost.name, call.part("policy"), value, operator=operator)
        )


async def _delete(call: Call, *, operator: bool) -> web.Response:
    vhost = await vhost_for(call, administrators_enter=True)
    with refusals():
        policies.clear_policy(call.broker, vhost.name, call.part("policy"), operator=operator)
    return done()


async def put_policy(call: Call) -> web.Response:
    """Set a policy, which applies to existing objects at once."""
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

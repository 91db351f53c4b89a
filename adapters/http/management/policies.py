"""Policies and operator policies."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from leveret.adapters.http.management.lists import answer_list, plain_table
from leveret.adapters.http.management.payloads import vhost_for
from leveret.adapters.http.management.routes import Call, Route, not_found

if TYPE_CHECKING:
    from leveret.core.policy import Policy
__all__ = ["ROUTES", "policy_item"]


def policy_item(policy: Policy) -> dict[str, Any]:
    return {
        "vhost": policy.vhost,
        "name": policy.name,
        "pattern": policy.pattern,
        "apply-to": policy.apply_to,
        "definition": policy.definition,
        "priority": policy.priority,
    }


async def _list(call: Call, *, operator: bool) -> Any:
    found = [
        policy_item(policy)
        for vhost in await call.vhosts()
        for policy in call.broker.policies.list(vhost.name, operator=operator)
    ]
    return await answer_list(call, found, plain_table())


async def _one(call: Call, *, operator: bool) -> dict[str, Any]:
    vhost = await vhost_for(call, administrators_enter=True)
    policy = call.broker.policies.get(vhost.name, call.part("policy"), operator=operator)
    if policy is None:
        raise not_found()
    return policy_item(policy)


async def policies(call: Call) -> Any:
    """Policies of the virtual hosts that the user may enter."""
    return await _list(call, operator=False)


async def policy(call: Call) -> dict[str, Any]:
    """One policy."""
    return await _one(call, operator=False)


async def operator_policies(call: Call) -> Any:
    """Operator policies of the virtual hosts that the user may enter."""
    return await _list(call, operator=True)


async def operator_policy(call: Call) -> dict[str, Any]:
    """One operator policy."""
    return await _one(call, operator=True)


ROUTES = (
    Route("GET", "/policies", policies),
    Route("GET", "/policies/{vhost}", policies),
    Route("GET", "/policies/{vhost}/{policy}", policy, needs="policymaker"),
    Route("GET", "/operator-policies", operator_policies),
    Route("GET", "/operator-policies/{vhost}", operator_policies),
    Route("GET", "/operator-policies/{vhost}/{policy}", operator_policy, needs="administrator"),
)

"""Runtime parameters: of virtual hosts by component and name, and global ones."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from leveret.adapters.http.management.lists import answer_list, plain_table
from leveret.adapters.http.management.payloads import vhost_for
from leveret.adapters.http.management.policies import policy_item
from leveret.adapters.http.management.routes import Call, Route, not_found

if TYPE_CHECKING:
    from leveret.core.policy import Policies, Policy
    from leveret.core.vhost import Vhost
__all__ = ["LIMITS", "OPERATOR_POLICY", "POLICY", "ROUTES", "parameters_of"]

OPERATOR_POLICY, LIMITS, POLICY = "operator_policy", "vhost-limits", "policy"
"""Components that RabbitMQ keeps as parameters, and we as what they are."""


def parameters_of(policies: Policies, vhost: Vhost) -> Iterator[dict[str, Any]]:
    """Operator policies and limits included, as RabbitMQ shows them."""
    name = vhost.name
    for (component, parameter), value in sorted(vhost.parameters.items()):
        yield {"value": value, "vhost": name, "component": component, "name": parameter}
    for policy in policies.list(name, operator=True):
        yield _of_policy(policy, OPERATOR_POLICY)
    if vhost.limits:
        yield {"value": vhost.limits, "vhost": name, "component": LIMITS, "name": "limits"}


def _of_policy(policy: Policy, component: str) -> dict[str, Any]:
    item = policy_item(policy)
    vhost, name = item.pop("vhost"), item.pop("name")
    return {"value": item, "vhost": vhost, "component": component, "name": name}


def _policies_of(policies: Policies, vhost: Vhost) -> Iterator[dict[str, Any]]:
    """For whoever asks for this component; the list of all has no policies, as RabbitMQ's."""
    for policy in policies.list(vhost.name):
        yield _of_policy(policy, POLICY)


def _shown(call: Call, item: dict[str, Any]) -> dict[str, Any]:
    """Without secrets, where the component's owner knows of some. Definitions have them all."""
    owner = call.broker.components.get(item["component"])
    return item if owner is None else item | {"value": owner.masked(item["value"])}


def _items(call: Call, vhost: Vhost, component: str | None) -> Iterator[dict[str, Any]]:
    policies = call.broker.policies
    return _policies_of(policies, vhost) if component == POLICY else parameters_of(policies, vhost)


async def parameters(call: Call) -> Any:
    """Parameters of the virtual hosts that the user may enter, of all components or of one."""
    component = call.request.match_info.get("component")
    if "vhost" in call.request.match_info:
        vhosts = [await vhost_for(call, administrators_enter=True)]
    else:
        vhosts = await call.vhosts()
    found = [
        _shown(call, item)
        for vhost in vhosts
        for item in _items(call, vhost, component)
        if component in (None, item["component"])
    ]
    return await answer_list(call, found, plain_table())


async def parameter(call: Call) -> dict[str, Any]:
    """One parameter."""
    component, name = call.part("component"), call.part("name")
    vhost = await vhost_for(call, administrators_enter=True)
    for item in _items(call, vhost, component):
        if (item["component"], item["name"]) == (component, name):
            return _shown(call, item)
    raise not_found()


async def global_parameters(call: Call) -> Any:
    """Global parameters."""
    items = [{"name": name, "value": value} for name, value in sorted(call.broker.parameters.items())]
    return await answer_list(call, items, plain_table())


async def global_parameter(call: Call) -> dict[str, Any]:
    """One global parameter."""
    name = call.part("name")
    if name not in call.broker.parameters:
        raise not_found()
    return {"name": name, "value": call.broker.parameters[name]}


ROUTES = (
    Route("GET", "/parameters", parameters, needs="policymaker"),
    Route("GET", "/parameters/{component}", parameters, needs="policymaker"),
    Route("GET", "/parameters/{component}/{vhost}", parameters, needs="policymaker"),
    Route("GET", "/parameters/{component}/{vhost}/{name}", parameter, needs="policymaker"),
    Route("GET", "/global-parameters", global_parameters, needs="policymaker"),
    Route("GET", "/global-parameters/{name}", global_parameter, needs="policymaker"),
)

"""Runtime parameters: of virtual hosts by component and name, and global ones."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from leveret.adapters.http.management.lists import answer_list, plain_table
from leveret.adapters.http.management.policies import policy_item
from leveret.adapters.http.management.routes import Call, Route, not_found

if TYPE_CHECKING:
    from leveret.core.vhost import Vhost

__all__ = ["LIMITS", "OPERATOR_POLICY", "ROUTES", "parameters_of"]

OPERATOR_POLICY, LIMITS = "operator_policy", "vhost-limits"
"""Components that RabbitMQ keeps as parameters, and we as what they are."""


def parameters_of(vhost: Vhost) -> Iterator[dict[str, Any]]:
    """Operator policies and limits included, as RabbitMQ shows them."""
    name = vhost.name
    for (component, parameter), value in sorted(vhost.parameters.items()):
        yield {"value": value, "vhost": name, "component": component, "name": parameter}
    for policy in vhost.broker.policies.list(name, operator=True):
        value = {key: one for key, one in policy_item(policy).items() if key not in ("vhost", "name")}
        yield {"value": value, "vhost": name, "component": OPERATOR_POLICY, "name": policy.name}
    if vhost.limits:
        yield {"value": vhost.limits, "vhost": name, "component": LIMITS, "name": "limits"}


def _shown(call: Call, item: dict[str, Any]) -> dict[str, Any]:
    """Without secrets, where the component's owner knows of some. Definitions have them all."""
    owner = call.broker.components.get(item["component"])
    return item if owner is None else item | {"value": owner.masked(item["value"])}


async def parameters(call: Call) -> Any:
    """Parameters of the virtual hosts that the user may enter, of all components or of one."""
    component = call.request.match_info.get("component")
    found = [
        _shown(call, item)
        for vhost in await call.vhosts()
        for item in parameters_of(vhost)
        if component in (None, item["component"])
    ]
    return await answer_list(call, found, plain_table())


async def parameter(call: Call) -> dict[str, Any]:
    """One parameter."""
    component, name = call.part("component"), call.part("name")
    for item in parameters_of(await call.vhost()):
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

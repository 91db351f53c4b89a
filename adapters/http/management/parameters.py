"""Runtime parameters: of virtual hosts by component and name, and global ones."""

from __future__ import annotations

from typing import Any

from leveret.adapters.http.management.lists import answer_list, plain_table
from leveret.adapters.http.management.payloads import vhost_for
from leveret.adapters.http.management.routes import Call, Route, not_found
from leveret.core.administration.parameters import list_global_parameters, list_parameters

__all__ = ["ROUTES"]


async def parameters(call: Call) -> Any:
    """Parameters of the virtual hosts that the user may enter, of all components or of one."""
    component = call.request.match_info.get("component")
    if "vhost" in call.request.match_info:
        vhosts = [await vhost_for(call, administrators_enter=True)]
    else:
        vhosts = await call.vhosts()
    found = [row for vhost in vhosts for row in list_parameters(call.broker, vhost.name, component)]
    return await answer_list(call, found, plain_table())


async def parameter(call: Call) -> dict[str, Any]:
    """One parameter."""
    vhost = await vhost_for(call, administrators_enter=True)
    for row in list_parameters(call.broker, vhost.name, call.part("component")):
        if row["name"] == call.part("name"):
            return row
    raise not_found()


async def global_parameters(call: Call) -> Any:
    """Global parameters."""
    return await answer_list(call, list(list_global_parameters(call.broker)), plain_table())


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

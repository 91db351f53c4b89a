"""Runtime parameters: of virtual hosts by component and name, and global ones.

RabbitMQ keeps policies, operator policies and the limits of virtual hosts as parameters of three components. Here they
are what they are, and are shown, set and cleared under those names too, except policies, which have their own
operations alone.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

from leveret.core.administration.limits import clear_vhost_limits, set_vhost_limits
from leveret.core.administration.policies import PolicyValue, set_policy
from leveret.core.definitions.exporter import policy_value
from leveret.core.definitions.names import LIMITS, OPERATOR_POLICY
from leveret.core.definitions.recovery import require_vhost
from leveret.core.errors import InvalidArgument, NotFound

if TYPE_CHECKING:
    from leveret.core.broker import Broker
__all__ = [
    "LIMITS", "OPERATOR_POLICY", "POLICY", "RESERVED_COMPONENTS", "PolicyIsNoParameter", "clear_global_parameter",
    "clear_parameter", "list_global_parameters", "list_parameters", "set_global_parameter", "set_parameter",
]  # fmt: skip

POLICY = "policy"
RESERVED_COMPONENTS = (OPERATOR_POLICY, LIMITS)
"""Components that only administrators may change."""


class PolicyIsNoParameter(InvalidArgument):
    """Policies have operations of their own."""

    def __init__(self) -> None:
        super().__init__("policies may not be set using this method")


# -- of virtual hosts


def set_parameter(broker: Broker, vhost: str, component: str, name: str, value: Any) -> bool:
    """Create or replace a parameter. Returns True for a new one.

    value: as JSON has it. Raise NotFound (virtual host), PolicyIsNoParameter, InvalidArgument for an unknown component
    and for a value that the component refuses.
    """
    found = require_vhost(broker, vhost)
    if component == POLICY:
        raise PolicyIsNoParameter
    if component == OPERATOR_POLICY:
        if not isinstance(value, Mapping):
            raise InvalidArgument(f"Term is not a JSON object in {name}")
        return set_policy(broker, vhost, name, _policy_value(value), operator=True)
    if component == LIMITS:
        return set_vhost_limits(broker, vhost, value)
    if component not in broker.components:
        raise InvalidArgument(f"component {component} not found")
    is_new = (component, name) not in found.parameters
    found.set_parameter(component, name, value)
    return is_new


def _policy_value(value: Mapping[str, Any]) -> PolicyValue:
    return PolicyValue(
        value.get("pattern"), value.get("definition"), value.get("apply-to"), value.get("priority", 0)
    )


def clear_parameter(broker: Broker, vhost: str, component: str, name: str) -> None:
    """Delete a parameter, also one of a component that is not there now.

    Raise NotFound (virtual host, parameter), PolicyIsNoParameter.
    """
    found = require_vhost(broker, vhost)
    if component == POLICY:
        raise PolicyIsNoParameter
    if component == OPERATOR_POLICY:
        broker.policies.clear(vhost, name, operator=True)
        return
    was_there = (
        clear_vhost_limits(broker, vhost) if component == LIMITS else found.clear_parameter(component, name)
    )
    if not was_there:
        raise NotFound(f"there is no parameter '{name}' of component '{component}' in vhost '{vhost}'")


def list_parameters(broker: Broker, vhost: str, component: str | None = None) -> Iterator[dict[str, Any]]:
    """Rows of vhost, component, name and value, by component and name; without the secrets that components know.

    component: of that one; None: of all but `policy`, as in RabbitMQ. Raise NotFound (virtual host).
    """
    found = require_vhost(broker, vhost)
    if component == POLICY:
        for policy in broker.policies.list(vhost):
            yield _row(vhost, POLICY, policy.name, policy_value(policy))
        return
    for (owner, name), value in sorted(found.parameters.items()):
        if component in (None, owner):
            known = broker.components.get(owner)
            yield _row(vhost, owner, name, value if known is None else known.masked(value))
    if component in (None, OPERATOR_POLICY):
        for policy in broker.policies.list(vhost, operator=True):
            yield _row(vhost, OPERATOR_POLICY, policy.name, policy_value(policy))
    if component in (None, LIMITS) and found.limits:
        yield _row(vhost, LIMITS, "limits", dict(found.limits))


def _row(vhost: str, component: str, name: str, value: Any) -> dict[str, Any]:
    return {"value": value, "vhost": vhost, "component": component, "name": name}


# -- global ones


def set_global_parameter(broker: Broker, name: str, value: Any) -> bool:
    """Create or replace a global parameter; value: as JSON has it. Returns True for a new one."""
    is_new = name not in broker.parameters
    broker.set_parameter(name, value)
    return is_new


def clear_global_parameter(broker: Broker, name: str) -> None:
    """Raise NotFound."""
    if not broker.clear_parameter(name):
        raise NotFound(f"there is no global parameter '{name}'")


def list_global_parameters(broker: Broker) -> Iterator[dict[str, Any]]:
    """Rows of name and value, by name."""
    return ({"name": name, "value": value} for name, value in sorted(broker.parameters.items()))

"""Runtime parameters, of a virtual host and global ones, as `rabbitmqctl` has them."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from leveret.adapters.control.listings import rows
from leveret.adapters.control.server import Operation, OperationRefused
from leveret.core.definitions.recovery import require_vhost
from leveret.core.errors import NotFound

if TYPE_CHECKING:
    from leveret.core.broker import Broker
__all__ = ["PARAMETERS"]


def _value(text: str) -> Any:
    try:
        return json.loads(text)
    except ValueError as error:
        raise OperationRefused(f"the value is not JSON: {error}", "invalid") from error


def _shown(value: Any) -> str:
    return json.dumps(value, separators=(",", ":"))


def set_parameter(broker: Broker, vhost: str, component: str, name: str, value: str) -> None:
    """value: JSON, as typed."""
    require_vhost(broker, vhost).set_parameter(component, name, _value(value))


def clear_parameter(broker: Broker, vhost: str, component: str, name: str) -> None:
    if not require_vhost(broker, vhost).clear_parameter(component, name):
        raise NotFound(f"there is no parameter '{name}' of component '{component}' in vhost '{vhost}'")


def list_parameters(broker: Broker, vhost: str) -> dict[str, Any]:
    """Without the secrets in them, where their owner knows of any."""
    shown: list[tuple[str, str, str]] = []
    for component, name in sorted(require_vhost(broker, vhost).parameters):
        value, owner = broker.vhosts[vhost].parameters[component, name], broker.components.get(component)
        shown.append((component, name, _shown(value if owner is None else owner.masked(value))))
    return rows(("component", "name", "value"), shown)


def set_global_parameter(broker: Broker, name: str, value: str) -> None:
    """value: JSON, as typed."""
    broker.set_parameter(name, _value(value))


def clear_global_parameter(broker: Broker, name: str) -> None:
    if not broker.clear_parameter(name):
        raise NotFound(f"there is no global parameter '{name}'")


def list_global_parameters(broker: Broker) -> dict[str, Any]:
    return rows(
        ("name", "value"), ((name, _shown(value)) for name, value in sorted(broker.parameters.items()))
    )


PARAMETERS: Mapping[str, Operation] = {
    "set_parameter": set_parameter,
    "clear_parameter": clear_parameter,
    "list_parameters": list_parameters,
    "set_global_parameter": set_global_parameter,
    "clear_global_parameter": clear_global_parameter,
    "list_global_parameters": list_global_parameters,
}

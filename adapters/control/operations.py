"""The table of what the control listener can be asked: a name, and a function `operation(broker, **arguments)`.

Most operations are core's (leveret.core.administration), and stand in the table as they are. The functions here read what
rabbitmqctl takes as text: JSON, or a list with commas. Listings are in listings.py. Everybody who can connect may do
everything: the socket belongs to the server's own user. The signature of a function declares its arguments; the server
checks them, and `leveret ctl` (leveret.adapters.cli) is tested against them.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from leveret.adapters.control.listings import LISTINGS
from leveret.core.administration import (
    connections,
    definitions,
    limits,
    node,
    parameters,
    permissions,
    policies,
    topology,
    users,
    vhosts,
)
from leveret.core.errors import InvalidArgument

if TYPE_CHECKING:
    from leveret.adapters.control.server import Operation
    from leveret.core.broker import Broker
__all__ = ["OPERATIONS"]


def _json(what: str, text: str) -> Any:
    """Raise InvalidArgument."""
    try:
        return json.loads(text)
    except ValueError as error:
        raise InvalidArgument(f"the {what} is not JSON: {error}") from error


def _json_object(what: str, text: str) -> dict[str, Any]:
    """Raise InvalidArgument."""
    value = _json(what, text)
    if not isinstance(value, dict):
        raise InvalidArgument(f"the {what} must be a JSON object")
    return value


def ping(broker: Broker) -> str:
    """Returns the node's name."""
    return broker.node_name


def add_vhost(
    broker: Broker, name: str, description: str = "", tags: str = "", default_queue_type: str = "classic"
) -> None:
    """tags: separated by commas."""
    words = tuple(tag.strip() for tag in tags.split(",") if tag.strip())
    vhosts.add_vhost(broker, name, vhosts.VhostMetadata(description, words, default_queue_type))


def trace_on(broker: Broker, vhost: str) -> None:
    vhosts.set_tracing(broker, vhost, is_on=True)


def trace_off(broker: Broker, vhost: str) -> None:
    vhosts.set_tracing(broker, vhost, is_on=False)


def set_policy(
    broker: Broker,
    vhost: str,
    name: str,
    pattern: str,
    definition: str,
    priority: int = 0,
    apply_to: str = "all",
) -> None:
    """definition: JSON."""
    value = policies.PolicyValue(pattern, _json_object("definition", definition), apply_to, priority)
    policies.set_policy(broker, vhost, name, value)


def set_operator_policy(
    broker: Broker,
    vhost: str,
    name: str,
    pattern: str,
    definition: str,
    priority: int = 0,
    apply_to: str = "all",
) -> None:
    """definition: JSON."""
    value = policies.PolicyValue(pattern, _json_object("definition", definition), apply_to, priority)
    policies.set_policy(broker, vhost, name, value, operator=True)


def clear_policy(broker: Broker, vhost: str, name: str) -> None:
    policies.clear_policy(broker, vhost, name)


def clear_operator_policy(broker: Broker, vhost: str, name: str) -> None:
    policies.clear_policy(broker, vhost, name, operator=True)


def set_vhost_limits(broker: Broker, vhost: str, definition: str) -> None:
    """definition: JSON. Replaces all limits, as rabbitmqctl does."""
    limits.set_vhost_limits(broker, vhost, _json_object("definition", definition))


def set_user_limits(broker: Broker, user: str, definition: str) -> None:
    """definition: JSON. Limits that it does not name stay, as with rabbitmqctl."""
    limits.set_user_limits(broker, user, _json_object("definition", definition))


def clear_user_limits(broker: Broker, user: str, limit: str) -> None:
    """limit: its name, or "all"."""
    if limit == "all":
        limits.clear_user_limits(broker, user)
    else:
        limits.clear_user_limit(broker, user, limit)


def set_parameter(broker: Broker, vhost: str, component: str, name: str, value: str) -> None:
    """value: JSON."""
    parameters.set_parameter(broker, vhost, component, name, _json("value", value))


def set_global_parameter(broker: Broker, name: str, value: str) -> None:
    """value: JSON."""
    parameters.set_global_parameter(broker, name, _json("value", value))


def export_definitions(broker: Broker) -> dict[str, Any]:
    return definitions.export_definitions(broker)


async def import_definitions(broker: Broker, document: dict[str, Any]) -> dict[str, Any]:
    """Returns how many items of each section were imported, and warnings."""
    import trio

    with trio.CancelScope(shield=True):
        report = await definitions.import_definitions(broker, document, trio.lowlevel.checkpoint)
    return {"counts": report.counts, "warnings": report.warnings}


def close_connection(broker: Broker, name: str, reason: str) -> None:
    connections.close_connection(broker, name, reason)


def close_all_connections(broker: Broker, vhost: str, reason: str) -> int:
    """Returns how many there were."""
    return connections.close_vhost_connections(broker, vhost, reason)


OPERATIONS: Mapping[str, Operation] = {
    # users and permissions
    "add_user": users.add_user,
    "authenticate_user": users.authenticate_user,
    "change_password": users.change_password,
    "clear_password": users.clear_password,
    "delete_user": users.delete_user,
    "set_user_tags": users.set_user_tags,
    "set_permissions": permissions.set_permissions,
    "clear_permissions": permissions.clear_permissions,
    "set_topic_permissions": permissions.set_topic_permissions,
    "clear_topic_permissions": permissions.clear_topic_permissions,
    # virtual hosts, limits, policies and parameters
    "add_vhost": add_vhost,
    "delete_vhost": vhosts.delete_vhost,
    "trace_on": trace_on,
    "trace_off": trace_off,
    "set_vhost_limits": set_vhost_limits,
    "clear_vhost_limits": limits.clear_vhost_limits,
    "set_user_limits": set_user_limits,
    "clear_user_limits": clear_user_limits,
    "set_policy": set_policy,
    "clear_policy": clear_policy,
    "set_operator_policy": set_operator_policy,
    "clear_operator_policy": clear_operator_policy,
    "set_parameter": set_parameter,
    "clear_parameter": parameters.clear_parameter,
    "set_global_parameter": set_global_parameter,
    "clear_global_parameter": parameters.clear_global_parameter,
    "export_definitions": export_definitions,
    "import_definitions": import_definitions,
    # queues and connections
    "purge_queue": topology.purge_queue,
    "delete_queue": topology.delete_queue,
    "close_connection": close_connection,
    "close_all_connections": close_all_connections,
    # the node
    "ping": ping,
    "status": node.status,
    "set_disk_free_limit": node.set_disk_free_limit,
    "set_log_level": node.set_log_level,
    "set_vm_memory_high_watermark": node.set_memory_watermark,
    **LISTINGS,
}

"""Export of definitions in RabbitMQ's JSON form: all of the broker's, or those of one virtual host.

The functions check no permissions: the caller decides who may export.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from functools import partial
from typing import TYPE_CHECKING, Any

from leveret.core.definitions.json_fields import json_of
from leveret.core.definitions.names import LIMITS, NODE_PREFIX, OPERATOR_POLICY, RESERVED_PREFIX
from leveret.core.definitions.recovery import require_vhost

if TYPE_CHECKING:
    from leveret.core.definitions.target import DefinitionsTarget
    from leveret.core.policy import Policies, Policy
    from leveret.core.vhost import Vhost
__all__ = ["all_permissions", "all_topic_permissions", "export", "policy_value"]


def export(broker: DefinitionsTarget, vhost: str | None = None) -> dict[str, Any]:
    """All definitions, password hashes included, for json.dumps. Exclusive queues and predeclared exchanges are left out.

    vhost: export this virtual host alone, without its name, so that the document can be imported into another one. Raise NotFound.
    """
    settings = broker.settings
    head = {
        "rabbit_version": settings.server.version,
        "rabbitmq_version": settings.server.version,
        "product_name": settings.server.product,
        "product_version": settings.server.version,
        "rabbitmq_definition_format": "cluster" if vhost is None else "single_virtual_host",
    }
    if vhost is not None:
        found = require_vhost(broker, vhost)
        metadata = _metadata(found)
        return {
            **head,
            "original_vhost_name": vhost,
            "explanation": f"Definitions of virtual host '{vhost}'",
            "metadata": metadata,
            "description": found.description,
            "default_queue_type": found.default_queue_type,
            "limits": dict(found.limits),
            **_of_vhosts(broker.policies, [found], is_named=False),
        }
    name = broker.parameters.get("cluster_name") or settings.server.cluster_name or broker.node_name
    vhosts = [one for _, one in sorted(broker.vhosts.items())]
    return {
        **head,
        "original_cluster_name": name,
        "explanation": f"Definitions of cluster '{name}'",
        "users": sorted((user.record() for user in broker.users.list_users()), key=lambda one: str(one["name"])),
        "vhosts": [_vhost(one) for one in vhosts],
        "permissions": list(all_permissions(broker)),
        "topic_permissions": list(all_topic_permissions(broker)),
        "global_parameters": [
            {"name": name, "value": value}
            for name, value in sorted(broker.parameters.items())
            if not name.startswith(NODE_PREFIX)
        ],
        **_of_vhosts(broker.policies, vhosts, is_named=True),
    }  # fmt: skip


def _metadata(vhost: Vhost) -> dict[str, Any]:
    metadata: dict[str, Any] = {
        "description": vhost.description,
        "tags": list(vhost.tags),
        "default_queue_type": vhost.default_queue_type,
    }
    return metadata | {"protected_from_deletion": True} if vhost.is_protected else metadata


def _vhost(vhost: Vhost) -> dict[str, Any]:
    metadata = _metadata(vhost)
    return {"name": vhost.name, **metadata, "metadata": metadata, "limits": dict(vhost.limits)}


def all_permissions(broker: DefinitionsTarget) -> Iterator[dict[str, Any]]:
    """The permissions of all users, sorted by virtual host and user, in the form of definitions and listings."""
    for vhost in sorted(broker.vhosts):
        for user, row in sorted(broker.users.list_permissions(vhost), key=lambda pair: pair[0]):
            yield {
                "user": user,
                "vhost": vhost,
                "configure": row.configure,
                "write": row.write,
                "read": row.read,
            }


def all_topic_permissions(broker: DefinitionsTarget) -> Iterator[dict[str, Any]]:
    """The topic permissions of all users, sorted by virtual host, user and exchange."""
    for vhost in sorted(broker.vhosts):
        rows = sorted(broker.users.list_topic_permissions(vhost), key=lambda row: row[:2])
        for user, exchange, row in rows:
            yield {"user": user, "vhost": vhost, "exchange": exchange, "write": row.write, "read": row.read}


def _of_vhosts(policies: Policies, vhosts: list[Vhost], *, is_named: bool) -> dict[str, list[dict[str, Any]]]:
    """The sections that belong to virtual hosts. is_named: each item has the name of its virtual host."""
    found: dict[str, list[dict[str, Any]]] = {}
    for section, items in (
        ("parameters", partial(_parameters, policies)),
        ("policies", partial(_policies, policies)),
        ("queues", _queues),
        ("exchanges", _exchanges),
        ("bindings", _bindings),
    ):
        found[section] = [
            {"vhost": vhost.name, **item} if is_named else item for vhost in vhosts for item in items(vhost)
        ]
    return found


def _parameters(policies: Policies, vhost: Vhost) -> Iterator[dict[str, Any]]:
    """Parameters, with operator policies and limits among them, as in RabbitMQ."""
    for (component, name), value in sorted(vhost.parameters.items()):
        yield {"component": component, "name": name, "value": value}
    for policy in policies.list(vhost.name, operator=True):
        yield {"component": OPERATOR_POLICY, "name": policy.name, "value": policy_value(policy)}
    if vhost.limits:
        yield {"component": LIMITS, "name": "limits", "value": dict(vhost.limits)}


def policy_value(policy: Policy) -> dict[str, Any]:
    """A policy without its name, in the form of definitions and parameters."""
    return {
        "pattern": policy.pattern,
        "apply-to": policy.apply_to,
        "definition": dict(policy.definition),
        "priority": policy.priority,
    }


def _policies(policies: Policies, vhost: Vhost) -> Iterator[dict[str, Any]]:
    for policy in policies.list(vhost.name):
        yield {"name": policy.name, **policy_value(policy)}


def _queues(vhost: Vhost) -> Iterator[dict[str, Any]]:
    for name, queue in sorted(vhost.queues.items()):
        if not queue.is_exclusive:
            yield {
                "name": name,
                "type": queue.type,
                "durable": queue.is_durable,
                "auto_delete": queue.is_auto_delete,
                "arguments": json_of(queue.arguments),
            }


def _exchanges(vhost: Vhost) -> Iterator[dict[str, Any]]:
    for name, exchange in sorted(vhost.exchanges.items()):
        if name and not name.startswith(RESERVED_PREFIX):
            yield {
                "name": name,
                "type": exchange.type,
                "durable": exchange.is_durable,
                "auto_delete": exchange.is_auto_delete,
                "internal": exchange.is_internal,
                "arguments": json_of(exchange.arguments),
            }


def _bindings(vhost: Vhost) -> Iterator[dict[str, Any]]:
    for source, binding in vhost.bindings():
        destination: Any = binding.destination
        things: Mapping[str, Any] = vhost.queues if destination.kind == "queue" else vhost.exchanges
        # Adapters also bind destinations that are not queues of the virtual host, such as MQTT sessions.
        is_listed = things.get(destination.name) is destination
        if source.name and is_listed and not _is_exclusive(destination):
            yield {
                "source": source.name,
                "destination": destination.name,
                "destination_type": destination.kind,
                "routing_key": binding.routing_key,
                "arguments": json_of(binding.arguments),
            }


def _is_exclusive(destination: Any) -> bool:
    return destination.kind == "queue" and bool(destination.is_exclusive)

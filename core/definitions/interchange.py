"""Definitions as JSON, in RabbitMQ's form: all of the broker's, or those of one virtual host.

    export(broker)                      -> a dict for json.dumps
    import_(broker, document)           -> Report; what is there already stays, nothing is deleted
    import_slices(broker, document)     the same, as an iterator: others may have their turn after each of its steps

All are synchronous and unchecked: whoever calls them decides who may. Files of RabbitMQ 3.x and 4.x are taken as they are.
"""

from __future__ import annotations

import gc
import json
import logging
from collections.abc import Generator, Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

from leveret.core.definitions.import_items import DefinitionsError, Report
from leveret.core.definitions.import_plan import LIMITS, OPERATOR_POLICY, Plan
from leveret.core.definitions.json_fields import json_of
from leveret.core.definitions.recovery import require_vhost

if TYPE_CHECKING:
    from leveret.core.definitions.target import DefinitionsTarget
    from leveret.core.policy import Policies, Policy
    from leveret.core.vhost import Vhost
__all__ = [
    "DefinitionsError",
    "Report",
    "all_permissions",
    "all_topic_permissions",
    "export",
    "import_",
    "import_slices",
    "paused_collector",
    "policy_value",
    "read_file",
]

log = logging.getLogger(__name__)

PRIVATE = "internal"
"""Global parameters whose names begin so are a node's own: RabbitMQ's internal_cluster_id."""
RESERVED = "amq."


def read_file(path: Path) -> Any | None:
    """A document for `import_`; None if there is no such file. Raise DefinitionsError for one that cannot be read."""
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError:
        return None
    except (OSError, ValueError) as error:
        raise DefinitionsError(f"{path} cannot be read: {error}") from error
    try:
        return json.loads(text, parse_constant=_refuse)
    except (ValueError, RecursionError) as error:
        raise DefinitionsError(f"{path} is no JSON: {error}") from error


def _refuse(text: str) -> NoReturn:
    raise ValueError(f"{text} is not allowed")


_pauses = 0
_was_enabled = False


@contextmanager
def paused_collector() -> Iterator[None]:
    """Python's collector of cycles left alone: while tens of thousands of things that stay are made, it would look at all
    of them again and again, up to half a second each time (measured with 20,000 queues), and find nothing."""
    global _pauses, _was_enabled
    if not _pauses:
        _was_enabled = gc.isenabled()
        gc.disable()
    _pauses += 1
    try:
        yield
    finally:
        _pauses -= 1
        if not _pauses and _was_enabled:
            if (
                not gc.get_freeze_count()
            ):  # of all that was made meanwhile none is young any more: no look at it now
                gc.freeze()
                gc.unfreeze()
            gc.enable()


def import_(
    broker: DefinitionsTarget, document: Any, vhost: str | None = None, *, user: str | None = None
) -> Report:
    """Make what the document defines; with `vhost` its exchanges, queues, bindings, policies and parameters, there.

    Users, permissions, policies and parameters that exist are replaced; exchanges, queues and bindings are left as they
    are. Everything is checked before anything is changed. user: who imports, and may do everything in virtual hosts that
    are new, unless the document says otherwise. Raise DefinitionsError, naming the item; NotFound for a virtual host that
    is not there.
    """
    slices = import_slices(broker, document, vhost, user=user)
    while True:
        try:
            next(slices)
        except StopIteration as end:
            return end.value  # type: ignore[no-any-return]


def import_slices(
    broker: DefinitionsTarget, document: Any, vhost: str | None = None, *, user: str | None = None
) -> Generator[None, None, Report]:
    """As `import_`, in slices of some milliseconds. Nothing has changed before all is checked; once it changes things it must
    be run to its end. What was deleted meanwhile, and would be needed, is left out with a warning.
    """
    with paused_collector():
        plan = Plan(broker, document, vhost, user)
        yield from plan.check()
        yield from plan.apply()
    for warning in plan.report.warnings:
        log.warning("definitions: %s", warning)
    counts = " ".join(f"{section}={count}" for section, count in plan.report.counts.items())
    log.info("definitions imported %s", counts or "nothing")
    return plan.report


def export(broker: DefinitionsTarget, vhost: str | None = None) -> dict[str, Any]:
    """All definitions, password hashes included. Exclusive queues, and what every virtual host has, are left out.

    vhost: of that one alone, without its name, so that they can be imported into another. Raise NotFound.
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
            if not name.startswith(PRIVATE)
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
    """As definitions and listings have them, by virtual host and user."""
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
    """The same, and by exchange."""
    for vhost in sorted(broker.vhosts):
        rows = sorted(broker.users.list_topic_permissions(vhost), key=lambda row: row[:2])
        for user, exchange, row in rows:
            yield {"user": user, "vhost": vhost, "exchange": exchange, "write": row.write, "read": row.read}


def _of_vhosts(policies: Policies, vhosts: list[Vhost], *, is_named: bool) -> dict[str, list[dict[str, Any]]]:
    """The sections that belong to virtual hosts; is_named: each item says to which."""
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
    """Operator policies and limits included, as RabbitMQ has them."""
    for (component, name), value in sorted(vhost.parameters.items()):
        yield {"component": component, "name": name, "value": value}
    for policy in policies.list(vhost.name, operator=True):
        yield {"component": OPERATOR_POLICY, "name": policy.name, "value": policy_value(policy)}
    if vhost.limits:
        yield {"component": LIMITS, "name": "limits", "value": dict(vhost.limits)}


def policy_value(policy: Policy) -> dict[str, Any]:
    """A policy without its name, as definitions and parameters have it."""
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
        if name and not name.startswith(RESERVED):
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
        # Doors bind what is no queue of the virtual host, too: MQTT its sessions.
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

"""What the control listener can be asked: one table of operations, each `operation(broker, **arguments)`."""

from __future__ import annotations

import json
import logging
import os
import platform
import sys
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

from leveret import __version__
from leveret.adapters.control.accounts import ACCOUNTS
from leveret.adapters.control.definitions import DEFINITIONS
from leveret.adapters.control.listings import LISTINGS, rows
from leveret.adapters.control.parameters import PARAMETERS
from leveret.adapters.control.server import Operation, OperationRefused
from leveret.conf import logs
from leveret.conf.load import parse_bytes
from leveret.core.definitions.recovery import require_vhost
from leveret.core.errors import NotFound

if TYPE_CHECKING:
    from leveret.core.broker import Broker
    from leveret.core.queue.queue import Queue
__all__ = ["OPERATIONS"]

log = logging.getLogger(__name__)

VHOST_LIMITS = ("max-connections", "max-queues")
USER_LIMITS = ("max-connections", "max-channels")


# -- virtual hosts and queues


def add_vhost(
    broker: Broker, name: str, description: str = "", tags: str = "", default_queue_type: str = "classic"
) -> None:
    """An existing one is left as it is, as by rabbitmqctl."""
    if not name:
        raise OperationRefused("a virtual host needs a name", "invalid")
    if default_queue_type not in ("classic", "quorum"):
        raise OperationRefused(f"there is no queue type '{default_queue_type}'", "invalid")
    broker.add_vhost(
        name,
        description=description,
        tags=[tag.strip() for tag in tags.split(",") if tag.strip()],
        default_queue_type=default_queue_type,
    )


def delete_vhost(broker: Broker, name: str) -> None:
    broker.delete_vhost(name)


def _require_queue(broker: Broker, vhost: str, name: str) -> Queue:
    queue = require_vhost(broker, vhost).queues.get(name)
    if queue is None:
        raise NotFound(f"there is no queue '{name}' in vhost '{vhost}'")
    return queue


def purge_queue(broker: Broker, queue: str, vhost: str) -> int:
    count = _require_queue(broker, vhost, queue).purge()
    log.info("queue=%r vhost=%r purged by the operator: %d messages", queue, vhost, count)
    return count


def delete_queue(
    broker: Broker, queue: str, vhost: str, if_empty: bool = False, if_unused: bool = False
) -> int:
    """Exclusive ones, too: the operator may. Returns how many ready messages it had."""
    found = _require_queue(broker, vhost, queue)
    count = found.message_count
    if if_empty and count:
        raise OperationRefused(f"queue '{queue}' in vhost '{vhost}' is not empty")
    if if_unused and found.consumer_count:
        raise OperationRefused(f"queue '{queue}' in vhost '{vhost}' is in use")
    found.vhost.remove_queue(found)
    log.info("queue=%r vhost=%r deleted by the operator", queue, vhost)
    return count


# -- policies


def _json_object(definition: str) -> dict[str, Any]:
    try:
        keys = json.loads(definition)
    except ValueError as error:
        raise OperationRefused(f"the definition is not JSON: {error}", "invalid") from error
    if not isinstance(keys, dict):
        raise OperationRefused("the definition must be a JSON object", "invalid")
    return keys


def _set_policy(
    broker: Broker,
    vhost: str,
    name: str,
    pattern: str,
    definition: str,
    priority: int,
    apply_to: str,
    *,
    operator: bool,
) -> None:
    keys = _json_object(definition)
    broker.policies.set(
        vhost, name, pattern=pattern, definition=keys, apply_to=apply_to, priority=priority, operator=operator
    )


def set_policy(
    broker: Broker,
    vhost: str,
    name: str,
    pattern: str,
    definition: str,
    priority: int = 0,
    apply_to: str = "all",
) -> None:
    """definition: JSON, as typed."""
    _set_policy(broker, vhost, name, pattern, definition, priority, apply_to, operator=False)


def set_operator_policy(
    broker: Broker,
    vhost: str,
    name: str,
    pattern: str,
    definition: str,
    priority: int = 0,
    apply_to: str = "all",
) -> None:
    _set_policy(broker, vhost, name, pattern, definition, priority, apply_to, operator=True)


def clear_policy(broker: Broker, vhost: str, name: str) -> None:
    broker.policies.clear(vhost, name)


def clear_operator_policy(broker: Broker, vhost: str, name: str) -> None:
    broker.policies.clear(vhost, name, operator=True)


def _list_policies(broker: Broker, vhost: str, *, operator: bool) -> dict[str, Any]:
    require_vhost(broker, vhost)
    return rows(
        ("vhost", "name", "pattern", "apply-to", "definition", "priority"),
        (
            (one.vhost, one.name, one.pattern, one.apply_to, json.dumps(one.definition, separators=(",", ":")), one.priority)
            for one in broker.policies.list(vhost, operator=operator)
        ),
    )  # fmt: skip


def list_policies(broker: Broker, vhost: str) -> dict[str, Any]:
    return _list_policies(broker, vhost, operator=False)


def list_operator_policies(broker: Broker, vhost: str) -> dict[str, Any]:
    return _list_policies(broker, vhost, operator=True)


# -- limits


def _limits(definition: str, known: tuple[str, ...]) -> dict[str, int]:
    limits = _json_object(definition)
    for name, value in limits.items():
        if name not in known:
            raise OperationRefused(f"there is no limit '{name}'; there are {' and '.join(known)}", "invalid")
        if not isinstance(value, int) or isinstance(value, bool):
            raise OperationRefused(f"{name} must be a whole number, not {value!r}", "invalid")
    return limits


def set_vhost_limits(broker: Broker, vhost: str, definition: str) -> None:
    """Those that are not named stay as they are."""
    found = require_vhost(broker, vhost)
    for name, value in _limits(definition, VHOST_LIMITS).items():
        found.set_limit(name, value if value >= 0 else None)


def clear_vhost_limits(broker: Broker, vhost: str) -> None:
    found = require_vhost(broker, vhost)
    for name in list(found.limits):
        found.set_limit(name, None)


def list_vhost_limits(broker: Broker, vhost: str) -> dict[str, Any]:
    return rows(("vhost", "limits"), [(vhost, dict(require_vhost(broker, vhost).limits))])


def set_user_limits(broker: Broker, user: str, definition: str) -> None:
    """Those that are not named stay as they are."""
    given = _limits(definition, USER_LIMITS)
    limits = {**broker.users.user(user).limits, **given}
    broker.users.set_user_limits(user, {name: value for name, value in limits.items() if value >= 0})


def clear_user_limits(broker: Broker, user: str, limit: str) -> None:
    if limit != "all" and limit not in USER_LIMITS:
        raise OperationRefused(
            f"there is no limit '{limit}'; there are {' and '.join(USER_LIMITS)}", "invalid"
        )
    limits = broker.users.user(user).limits
    broker.users.set_user_limits(
        user, {} if limit == "all" else {k: v for k, v in limits.items() if k != limit}
    )


def list_user_limits(broker: Broker, user: str) -> dict[str, Any]:
    return rows(("user", "limits"), [(user, dict(broker.users.user(user).limits))])


# -- connections


def close_connection(broker: Broker, name: str, reason: str) -> None:
    found = broker.connections.named(name)
    if not found:
        raise NotFound(f"there is no connection '{name}'")
    for connection in found:
        connection.close(reason)


def close_all_connections(broker: Broker, vhost: str, reason: str) -> int:
    require_vhost(broker, vhost)
    found = list(broker.connections.of_vhost(vhost))
    for connection in found:
        connection.close(reason)
    return len(found)


# -- the node


def ping(broker: Broker) -> str:
    return broker.node_name


def set_log_level(broker: Broker, level: str) -> None:
    if level not in ("debug", "info", "warning", "error", "critical"):
        raise OperationRefused(f"there is no log level '{level}'", "invalid")
    logs.set_level(level)


def set_vm_memory_high_watermark(broker: Broker, fraction: str) -> None:
    """Until the next restart or reload."""
    try:
        watermark = float(fraction)
    except ValueError as error:
        raise OperationRefused(
            f"the watermark is a fraction of all memory, not '{fraction}'", "invalid"
        ) from error
    if not 0 <= watermark <= 1:
        raise OperationRefused(f"the watermark is between 0 and 1, not {fraction}", "invalid")
    broker.alarms.set_memory_watermark(watermark)
    broker.alarms.check(broker.timers.now)


def set_disk_free_limit(broker: Broker, limit: str) -> None:
    """Until the next restart or reload."""
    try:
        number = parse_bytes(limit)
    except ValueError as error:
        raise OperationRefused(str(error), "invalid") from error
    broker.alarms.set_disk_free_limit(number)
    broker.alarms.check(broker.timers.now)


def status(broker: Broker) -> dict[str, Any]:
    queues = [queue for vhost in broker.vhosts.values() for queue in vhost.queues.values()]
    return {
        "node": broker.node_name,
        "version": __version__,
        "pid": os.getpid(),
        "python": platform.python_version(),
        "platform": sys.platform,
        "data_directory": str(broker.settings.server.data_dir),
        "listeners": {
            listener.name: f"{listener.host} port {listener.port}" for listener in broker.listeners
        },
        "alarms": sorted(broker.alarms.alarms),
        "memory": {
            "used_bytes": broker.alarms.memory_used,
            "high_watermark_bytes": broker.alarms.memory_limit,
        },
        "disk": {
            "free_bytes": broker.alarms.disk_free,
            "free_limit_bytes": broker.alarms.disk_free_limit,
        },
        "totals": {
            "virtual_hosts": len(broker.vhosts),
            "connections": len(broker.connections),
            "queues": len(queues),
            "consumers": sum(queue.consumer_count for queue in queues),
            "messages_ready": sum(queue.message_count for queue in queues),
            "messages_unacknowledged": sum(queue.unacked_count for queue in queues),
        },
        "store": dict(broker.store.statistics()),
    }


def _named(operations: Iterable[Operation]) -> dict[str, Operation]:
    return {operation.__name__: operation for operation in operations}


OPERATIONS: Mapping[str, Operation] = {
    **LISTINGS,
    **ACCOUNTS,
    **PARAMETERS,
    **DEFINITIONS,
    **_named((
        add_vhost, delete_vhost, purge_queue, delete_queue, set_policy, set_operator_policy, clear_policy,
        clear_operator_policy, list_policies, list_operator_policies, set_vhost_limits, clear_vhost_limits,
        list_vhost_limits, set_user_limits, clear_user_limits, list_user_limits, close_connection,
        close_all_connections, ping, set_log_level, set_vm_memory_high_watermark, set_disk_free_limit, status,
    )),
}  # fmt: skip

"""The node: its thresholds until the next restart or reload, its log level, and its state in one answer."""

from __future__ import annotations

import os
import platform
import sys
from typing import TYPE_CHECKING, Any

from leveret import __version__
from leveret.conf import logs
from leveret.conf.load import parse_bytes
from leveret.core.errors import InvalidArgument

if TYPE_CHECKING:
    from leveret.core.broker import Broker
__all__ = ["set_disk_free_limit", "set_log_level", "set_memory_watermark", "status"]

LOG_LEVELS = ("debug", "info", "warning", "error", "critical")


def set_log_level(broker: Broker, level: str) -> None:
    """Set the least level that is logged, until the next restart or reload. Raise InvalidArgument."""
    if level not in LOG_LEVELS:
        raise InvalidArgument(f"there is no log level '{level}'")
    logs.set_level(level)


def set_memory_watermark(broker: Broker, fraction: str) -> None:
    """Block publishers above this fraction of all memory, until the next restart or reload. Raise InvalidArgument."""
    try:
        watermark = float(fraction)
    except ValueError:
        raise InvalidArgument(f"the watermark is a fraction of all memory, not '{fraction}'") from None
    if not 0 <= watermark <= 1:
        raise InvalidArgument(f"the watermark is between 0 and 1, not {fraction}")
    broker.alarms.set_memory_watermark(watermark)
    broker.alarms.check(broker.timers.now)


def set_disk_free_limit(broker: Broker, limit: str) -> None:
    """Block publishers below this many free bytes ("2GB" is a number too), until the next restart or reload.

    Raise InvalidArgument.
    """
    try:
        number = parse_bytes(limit)
    except ValueError as error:
        raise InvalidArgument(str(error)) from None
    broker.alarms.set_disk_free_limit(number)
    broker.alarms.check(broker.timers.now)


def status(broker: Broker) -> dict[str, Any]:
    """The node's name, versions, listeners, alarms, memory, disk, totals and the store's statistics, as JSON has them."""
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

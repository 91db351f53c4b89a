"""Nodes: this one."""

from __future__ import annotations

import importlib.metadata
import os
import resource
import time
from typing import TYPE_CHECKING, Any

from leveret import __version__
from leveret.adapters.http.management.details import Details, Ranges
from leveret.adapters.http.management.lists import answer_list, plain_table
from leveret.adapters.http.management.overview import RATES_MODE, contexts, exchange_types
from leveret.adapters.http.management.routes import Call, Route, not_found
from leveret.adapters.http.rates import NODE
from leveret.adapters.queue_listing import MESSAGE_BYTES, QUEUE_BYTES

if TYPE_CHECKING:
    from leveret.adapters.http.context import HttpContext
__all__ = ["ROUTES", "check_node", "memory_parts"]

MECHANISMS = {
    "PLAIN": "SASL PLAIN authentication mechanism",
    "AMQPLAIN": "QPid AMQPLAIN mechanism",
    "EXTERNAL": "TLS peer verification mechanism",
    "ANONYMOUS": "SASL ANONYMOUS authentication mechanism",
}
ERLANGS = (
    "queue_slave_procs", "quorum_queue_procs", "quorum_queue_dlx_procs", "stream_queue_procs",
    "stream_queue_replica_reader_procs", "stream_queue_coordinator_procs", "plugins", "metadata_store", "metrics",
    "mnesia", "quorum_ets", "metadata_store_ets", "other_ets", "msg_index", "code", "atom", "other_system",
    "allocated_unused", "reserved_unallocated",
)  # fmt: skip
"""What only Erlang has, and clients' types demand."""
CONNECTION_BYTES, CHANNEL_BYTES = 24_000, 6_000
"""What a connection and a channel cost in memory beside the messages: estimates."""


def check_node(call: Call, part: str = "node") -> None:
    """There is one. Raise Refusal (404)."""
    if call.part(part) != call.broker.node_name:
        raise not_found()


def _applications() -> list[dict[str, str]]:
    """What this is made of."""
    found = [{"name": "leveret", "description": "Leveret", "version": __version__}]
    for name in ("trio", "aiohttp", "lmdb"):
        try:
            version = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:  # another store, perhaps
            continue
        found.append({"name": name, "description": name, "version": version})
    return found


def node_item(call: Call, ranges: Ranges) -> dict[str, Any]:
    broker, rates = call.broker, call.context.rates
    settings = broker.settings
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    item: dict[str, Any] = {
        "name": broker.node_name,
        "type": "disc",
        "running": True,
        "being_drained": False,
        "partitions": [],
        "os_pid": str(os.getpid()),
        "fd_total": soft,
        "sockets_total": soft,
        "mem_limit": broker.alarms.memory_limit,
        "mem_alarm": "memory" in broker.alarms.alarms,
        "mem_calculation_strategy": "rss",
        "disk_free_limit": broker.alarms.disk_free_limit,
        "disk_free_alarm": "disk" in broker.alarms.alarms,
        "proc_total": 1_048_576,
        "rates_mode": RATES_MODE,
        "uptime": int((time.time() - call.context.started_at) * 1000),
        "run_queue": 0,
        "processors": os.cpu_count() or 1,
        "exchange_types": exchange_types(call),
        "auth_mechanisms": [
            {"name": name, "description": description, "enabled": name in settings.auth.mechanisms}
            for name, description in MECHANISMS.items()
        ],
        "applications": _applications(),
        "contexts": contexts(call),
        "log_files": [settings.log.file or "<stderr>"],
        "db_dir": str(settings.server.data_dir),
        "config_files": [],
        "net_ticktime": 60,
        "enabled_plugins": sorted({"rabbitmq_management", *settings.plugins.enabled}),
        "cluster_links": [],
        "metrics_gc_queue_length": {},
    }
    values = dict(zip(NODE.names, rates.node_values(), strict=True))
    Details(rates, NODE, rates.node).put(item, values, ranges.node_stats)
    return item


def memory_parts(context: HttpContext) -> dict[str, int]:
    """Where the memory goes, roughly; the rest is code and what the interpreter keeps."""
    broker = context.broker
    queues = [queue for vhost in broker.vhosts.values() for queue in vhost.queues.values()]
    waiting = sum(fifo.in_memory_count for queue in queues for fifo in queue.fifos)
    bodies = sum(fifo.in_memory_bytes for queue in queues for fifo in queue.fifos)
    used = broker.alarms.memory_used
    parts = {
        "connection_readers": 0,
        "connection_writers": sum(connection.pending_bytes for connection in broker.connections),
        "connection_channels": broker.connections.channel_count * CHANNEL_BYTES,
        "connection_other": len(broker.connections) * CONNECTION_BYTES,
        "queue_procs": len(queues) * QUEUE_BYTES + waiting * MESSAGE_BYTES,
        "binary": bodies,
        "mgmt_db": context.rates.memory_bytes,
    }
    parts["other_proc"] = max(0, used - sum(parts.values()))
    return parts


def memory(call: Call) -> dict[str, Any]:
    """The same, as RabbitMQ's clients know it."""
    used = call.broker.alarms.memory_used
    parts = dict.fromkeys(ERLANGS, 0) | memory_parts(call.context)
    return {**parts, "strategy": "rss", "total": {"erlang": used, "rss": used, "allocated": used}}


async def nodes(call: Call) -> Any:
    """The nodes of the cluster: this one."""
    return await answer_list(call, [node_item(call, Ranges.of(call))], plain_table())


async def node(call: Call) -> dict[str, Any]:
    """This node; with `memory=true` its use of memory."""
    check_node(call)
    item = node_item(call, Ranges.of(call))
    if call.flag("memory"):
        item["memory"] = memory(call)
    if call.flag("binary"):
        item["binary"] = {}
    return item


async def node_memory(call: Call) -> dict[str, Any]:
    """The use of memory, in bytes."""
    check_node(call)
    return {"memory": memory(call)}


async def node_memory_relative(call: Call) -> dict[str, Any]:
    """The same, in percent."""
    check_node(call)
    parts = memory(call)
    total = parts["total"]["rss"] or 1
    shares = {
        name: -(-value * 100 // total) for name, value in parts.items() if name not in ("strategy", "total")
    }
    return {"memory": {"total": 100, **shares}}


ROUTES = (
    Route("GET", "/nodes", nodes, needs="monitoring"),
    Route("GET", "/nodes/{node}", node, needs="monitoring"),
    Route("GET", "/nodes/{node}/memory", node_memory, needs="monitoring"),
    Route("GET", "/nodes/{node}/memory/relative", node_memory_relative, needs="monitoring"),
)

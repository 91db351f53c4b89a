"""The node at a glance: /api/overview, /api/cluster-name, /api/version, /api/extensions."""

from __future__ import annotations

import platform
import sys
from typing import Any

from leveret import __version__
from leveret.adapters.base import Purpose
from leveret.adapters.http.management.details import DELIVER, Details, Ranges
from leveret.adapters.http.management.routes import Call, Route
from leveret.adapters.http.rates import MESSAGES, NODE, QUEUE_TOTALS, VHOST
from leveret.core.registry import BUILT_IN, Offer

__all__ = ["ROUTES", "cluster_name", "exchange_types", "listeners", "message_stats", "queue_totals"]

CHURN = (
    "channel_closed", "channel_created", "connection_closed", "connection_created", "queue_created",
    "queue_declared", "queue_deleted",
)  # fmt: skip
PUBLISHING = MESSAGES[:4]
DELIVERY_KEYS = (
    "ack",
    "deliver",
    "deliver_get",
    "deliver_no_ack",
    "get",
    "get_empty",
    "get_no_ack",
    "redeliver",
)
CONTEXTS = {Purpose.MANAGEMENT: "RabbitMQ Management", Purpose.METRICS: "RabbitMQ Prometheus"}
RETENTION = {"global": [600, 3600, 28800, 86400], "basic": [600], "detailed": [600]}
RATES_MODE = "basic"


def cluster_name(call: Call) -> str:
    """A parameter that can be set at run time, the setting, or the node's name."""
    name = call.broker.parameters.get("cluster_name")
    return str(name or call.broker.settings.server.cluster_name or call.broker.node_name)


def exchange_types(call: Call) -> list[dict[str, Any]]:
    registry = call.broker.registry
    return [
        {
            "name": offer.name,
            "description": _described(offer),
            "enabled": True,
        }
        for offer in registry.offers("exchanges")
        if not registry.is_withdrawn("exchanges", offer.name)
    ]


def _described(offer: Offer) -> str:
    if offer.name in BUILT_IN:
        return f"AMQP {offer.name} exchange, as per the AMQP specification"
    return offer.summary or f"exchange type of {offer.source}"


def listeners(call: Call) -> list[dict[str, Any]]:
    backlog = call.broker.settings.listeners.backlog
    return [
        {
            "node": call.broker.node_name,
            "protocol": listener.spec.protocol,
            "ip_address": listener.host,
            "port": listener.port,
            "socket_opts": {"backlog": backlog, "nodelay": True},
            "tls": listener.is_tls,
        }
        for listener in sorted(call.broker.listeners, key=lambda listener: listener.port)
    ]


def contexts(call: Call) -> list[dict[str, Any]]:
    """The listeners that speak HTTP, as RabbitMQ's web contexts."""
    return [
        {
            "node": call.broker.node_name,
            "description": CONTEXTS[listener.spec.purpose],
            "path": "/",
            "cowboy_opts": "[]",
            "ssl_opts": [],
            "ip": listener.host,
            "port": str(listener.port),
        }
        for listener in call.broker.listeners
        if listener.spec.purpose in CONTEXTS
    ]


def message_stats(values: dict[str, int], details: Details, ranges: Ranges) -> dict[str, Any]:
    """Empty when nothing has happened; else what has: the numbers of publishing together, and those of delivery."""
    publishing = {name: values[name] for name in PUBLISHING if name in values}
    shown = dict(publishing) if any(publishing.values()) else {}
    delivery = {name: values.get(name, 0) for name in MESSAGES[4:]}
    if any(delivery.values()):
        delivery["deliver_get"] = sum(delivery[name] for name in DELIVER)
        shown |= {name: delivery[name] for name in DELIVERY_KEYS}
    stats: dict[str, Any] = {}
    details.put(stats, shown, ranges.msg_rates, sums={"deliver_get": DELIVER})
    return stats


def queue_totals(values: dict[str, int], details: Details, ranges: Ranges) -> dict[str, Any]:
    """messages, messages_ready, messages_unacknowledged."""
    ready, unacknowledged = (values[name] for name in QUEUE_TOTALS)
    totals: dict[str, Any] = {}
    details.put(
        totals,
        {
            "messages": ready + unacknowledged,
            "messages_ready": ready,
            "messages_unacknowledged": unacknowledged,
        },
        ranges.lengths,
        sums={"messages": QUEUE_TOTALS},
    )
    return totals


async def overview(call: Call) -> dict[str, Any]:
    """Versions, totals and rates of what the user may see."""
    broker, rates, ranges = call.broker, call.context.rates, Ranges.of(call)
    version = broker.settings.server.version
    vhosts = await call.vhosts()
    is_all = call.sees_all
    seen = list(broker.vhosts.values()) if is_all else vhosts
    totals = dict.fromkeys(VHOST.names, 0)
    for vhost in seen:
        for name, value in zip(VHOST.names, rates.vhost_values(vhost.name), strict=True):
            totals[name] += value
    # Of some virtual hosts only there is no series of their own: their rates are the only one's, or unknown.
    series = rates.all if is_all else rates.of_vhost(seen[0].name) if len(seen) == 1 else None
    details = Details(rates, VHOST, series)
    churn: dict[str, Any] = {}
    node = dict(zip(NODE.names, rates.node_values(), strict=True))
    Details(rates, NODE, rates.node).put(churn, {name: node[name] for name in CHURN}, ranges.msg_rates)
    connections = broker.connections if is_all else broker.connections.of_user(call.principal.username)
    answer: dict[str, Any] = {
        "management_version": version,
        "rates_mode": RATES_MODE,
        "sample_retention_policies": RETENTION,
        "exchange_types": exchange_types(call),
        "product_version": version,
        "product_name": broker.settings.server.product,
        "rabbitmq_version": version,
        "leveret_version": __version__,
        "cluster_name": cluster_name(call),
        "cluster_tags": {},
        "node_tags": {},
        "default_queue_type": "classic",
        "erlang_version": platform.python_version(),
        "erlang_full_version": f"{platform.python_implementation()} {sys.version.split(' (')[0]} "
        f"[{platform.system()} {platform.machine()}]",
        "crypto_lib_version": _crypto_version(),
        "release_series_support_status": "supported",
        "disable_stats": False,
        "enable_queue_totals": False,
        "is_op_policy_updating_enabled": True,
        "require_definition_json_extension": False,
        "message_stats": message_stats(totals, details, ranges),
        "churn_rates": churn,
        "queue_totals": queue_totals(totals, details, ranges),
        "object_totals": {
            "channels": connections.channel_count,
            "connections": len(connections),
            "consumers": sum(len(queue.consumers) for vhost in seen for queue in vhost.queues.values()),
            "exchanges": sum(len(vhost.exchanges) for vhost in seen),
            "queues": sum(len(vhost.queues) for vhost in seen),
        },
        "statistics_db_event_queue": 0,
        "node": broker.node_name,
    }
    if is_all:
        answer["listeners"] = listeners(call)
        answer["contexts"] = contexts(call)
    return answer


def _crypto_version() -> str:
    import ssl

    return ssl.OPENSSL_VERSION


async def read_cluster_name(call: Call) -> dict[str, Any]:
    """The name of the cluster, which is this node."""
    return {"name": cluster_name(call)}


async def version(call: Call) -> dict[str, Any]:
    """The versions that clients are told, and Leveret's own."""
    server = call.broker.settings.server
    return {"product_name": server.product, "product_version": server.version, "leveret_version": __version__}


async def extensions(call: Call) -> list[dict[str, Any]]:
    """Extensions of RabbitMQ's management page."""
    return [{"javascript": "dispatcher.js"}]


ROUTES = (
    Route("GET", "/overview", overview),
    Route("GET", "/cluster-name", read_cluster_name),
    Route("GET", "/version", version),
    Route("GET", "/extensions", extensions),
)

"""Who this is: what every query of RabbitMQ's dashboards joins with."""

from __future__ import annotations

import importlib.metadata
import platform
from collections.abc import Iterator
from typing import TYPE_CHECKING

from prometheus_client.core import Metric, UnknownMetricFamily

from leveret import __version__

if TYPE_CHECKING:
    from leveret.adapters.http.context import HttpContext
__all__ = ["identity"]


def identity(context: HttpContext, endpoint: str) -> Iterator[Metric]:
    """endpoint: aggregated, per-object, detailed, memory-breakdown."""
    for name, help, labels in (
        ("identity", "RabbitMQ node & cluster identity info", identity_labels(context, endpoint)),
        (
            "build",
            "RabbitMQ & Erlang/OTP version info: as this server presents itself",
            build_labels(context),
        ),
    ):
        family = UnknownMetricFamily(f"rabbitmq_{name}_info", help)
        family.add_sample(f"rabbitmq_{name}_info", labels, 1)
        yield family


def identity_labels(context: HttpContext, endpoint: str) -> dict[str, str]:
    """What every query of RabbitMQ's dashboards joins with."""
    broker = context.broker
    cluster = str(
        broker.parameters.get("cluster_name") or broker.settings.server.cluster_name or broker.node_name
    )
    return {
        "rabbitmq_node": broker.node_name,
        "rabbitmq_cluster": cluster,
        "rabbitmq_cluster_permanent_id": f"leveret-{broker.node_name}",
        "rabbitmq_endpoint": endpoint,
    }


def build_labels(context: HttpContext) -> dict[str, str]:
    server = context.broker.settings.server
    return {
        "rabbitmq_version": server.version,
        "prometheus_plugin_version": __version__,
        "prometheus_client_version": importlib.metadata.version("prometheus-client"),
        "erlang_version": platform.python_version(),
        "product_name": server.product,
        "product_version": __version__,
    }

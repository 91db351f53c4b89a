"""/metrics: what RabbitMQ's aggregated endpoint shows, as far as it has a meaning here, and Leveret's own numbers."""

from __future__ import annotations

import gc
import importlib.metadata
import logging
import os
import platform
import resource
import threading
import time
from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress
from itertools import accumulate
from pathlib import Path
from typing import TYPE_CHECKING, Any

from prometheus_client.core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
    Metric,
    UnknownMetricFamily,
)
from prometheus_client.registry import Collector

from leveret import __version__
from leveret.adapters.http.metrics.snapshot import PROTOCOLS, Snapshot, login_counts
from leveret.adapters.http.rates import FD_DIRECTORY
from leveret.core.flow import resident_bytes
from leveret.core.traffic import BOUNDS, Measured
from leveret.core.traffic import Metric as Measurement

if TYPE_CHECKING:
    from leveret.adapters.http.app import HttpContext
    from leveret.adapters.http.metrics.lag import Lag

__all__ = ["Aggregated", "build_labels", "identity_labels", "node_numbers"]

log = logging.getLogger(__name__)

MQTT_SENT = ("leveret_mqtt_publish_sent_total", "leveret_mqtt_publish_sent_queued_total")
TICKS = os.sysconf("SC_CLK_TCK")
QUEUE_TYPES = {
    "classic": "rabbit_classic_queue",
    "quorum": "rabbit_quorum_queue",
    "stream": "rabbit_stream_queue",
}
MQTT_QOS0 = "rabbit_mqtt_qos0_queue"
REASONS = ("expired", "rejected", "maxlen", "delivery_limit")
# name -> help, the counter of Inflow
INFLOW = {
    "received": ("Total number of messages received from publishers", "received"),
    "received_confirm": (
        "Total number of messages received from publishers expecting confirmations",
        "received_confirm",
    ),
    "routed": ("Total number of messages routed to queues", "routed"),
    "confirmed": ("Total number of messages confirmed to publishers", "confirmed"),
    "unroutable_dropped": (
        "Total number of messages published as non-mandatory into an exchange and dropped as unroutable",
        "dropped",
    ),
    "unroutable_returned": (
        "Total number of messages published as mandatory into an exchange and returned to the publisher as unroutable",
        "returned",
    ),
}
OUTFLOW = {
    "delivered_consume_manual_ack": (
        "Total number of messages delivered to consumers with manual acknowledgment",
        "delivered",
    ),
    "delivered_consume_auto_ack": (
        "Total number of messages delivered to consumers with automatic acknowledgment",
        "delivered_no_ack",
    ),
    "delivered_get_manual_ack": ("Total number of messages fetched with manual acknowledgment", "got"),
    "delivered_get_auto_ack": (
        "Total number of messages fetched with automatic acknowledgment",
        "got_no_ack",
    ),
    "get_empty": ("Total number of times a fetch found no message", "get_empty"),
    "redelivered": ("Total number of messages put back, to be delivered again", "redelivered"),
    "acknowledged": ("Total number of messages acknowledged by consumers", "acknowledged"),
}
QUEUES = {
    "messages_ready": ("Messages ready to be delivered to consumers", "ready"),
    "messages_unacked": ("Messages delivered to consumers but not yet acknowledged", "unacked"),
    "consumers": ("Consumers on a queue", "consumers"),
    "messages_ready_bytes": ("Size in bytes of ready messages", "ready_bytes"),
    "messages_ready_ram": ("Ready messages stored in memory", "ram"),
    "messages_ram_bytes": ("Size in bytes of ready messages stored in memory", "ram_bytes"),
    "messages_persistent": ("Persistent messages, unacknowledged ones included", "persistent"),
    "messages_persistent_bytes": ("Size in bytes of persistent messages", "persistent_bytes"),
}


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
    amqp = context.broker.settings.amqp
    return {
        "rabbitmq_version": amqp.version,
        "prometheus_plugin_version": __version__,
        "prometheus_client_version": importlib.metadata.version("prometheus-client"),
        "erlang_version": platform.python_version(),
        "product_name": amqp.product,
        "product_version": __version__,
    }


def node_numbers(context: HttpContext) -> dict[str, float]:
    """Of the process and its limits, by RabbitMQ's names without a prefix."""
    flow = context.broker.flow
    files = 0
    with suppress(OSError):
        files = len(os.listdir(FD_DIRECTORY))
    memory = flow.memory_used
    with suppress(OSError):
        memory = resident_bytes()
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return {
        "process_open_fds": files,
        "process_max_fds": soft,
        "process_open_tcp_sockets": len(context.broker.connections),
        "process_max_tcp_sockets": soft,
        "process_resident_memory_bytes": memory,
        "resident_memory_limit_bytes": flow.memory_limit,
        "disk_space_available_bytes": flow.disk_free,
        "disk_space_available_limit_bytes": flow.disk_free_limit,
        "erlang_uptime_seconds": time.time() - context.started_at,
    }


def one(name: str, help: str, value: float) -> Metric:
    """A family with a single sample; its name says whether it is a counter."""
    if name.endswith("_total"):
        return CounterMetricFamily(name.removesuffix("_total"), help, value=value)
    return GaugeMetricFamily(name, help, value=value)


def labelled(name: str, help: str, samples: Iterable[tuple[Mapping[str, str], float]]) -> Metric:
    """A family with labels."""
    family: Metric
    is_counter = name.endswith("_total")
    if is_counter:
        family = CounterMetricFamily(name.removesuffix("_total"), help)
    else:
        family = GaugeMetricFamily(name, help)
    for labels, value in samples:
        family.add_sample(name, dict(labels), value)
    return family


class Aggregated(Collector):
    """One scrape."""

    def __init__(self, context: HttpContext, snapshot: Snapshot, lag: Lag) -> None:
        self.context = context
        self.broker = context.broker
        self.snapshot = snapshot
        self.lag = lag
        self._extra = list(_measured([*self.broker.adapters, *self.broker.services.values()]))

    def collect(self) -> Iterator[Metric]:
        yield from self._identity()
        yield from self._node()
        yield from self._churn()
        yield from self._totals()
        yield from self._global()
        yield from self._sizes()
        yield from self._attempts()
        yield from self._process()
        yield from self._store()
        yield from self._others()

    def _identity(self) -> Iterator[Metric]:
        for name, help, labels in (
            (
                "identity",
                "RabbitMQ node & cluster identity info",
                identity_labels(self.context, "aggregated"),
            ),
            (
                "build",
                "RabbitMQ & Erlang/OTP version info: as this server presents itself",
                build_labels(self.context),
            ),
        ):
            family = UnknownMetricFamily(f"rabbitmq_{name}_info", help)
            family.add_sample(f"rabbitmq_{name}_info", labels, 1)
            yield family
        yield labelled("leveret_info", "The version of Leveret", [({"version": __version__}, 1)])

    def _node(self) -> Iterator[Metric]:
        alarms = self.broker.flow.alarms
        for name, alarm in (("free_disk_space_watermark", "disk"), ("memory_used_watermark", "memory")):
            yield UnknownMetricFamily(
                f"rabbitmq_alarms_{name}",
                f"is 1 if {name.replace('_', ' ')} alarm is in effect",
                int(alarm in alarms),
            )
        help = {
            "process_open_fds": "Open file descriptors",
            "process_max_fds": "Open file descriptors limit",
            "process_open_tcp_sockets": "Open TCP sockets of clients",
            "process_max_tcp_sockets": "Open TCP sockets limit",
            "process_resident_memory_bytes": "Memory used in bytes",
            "resident_memory_limit_bytes": "Memory high watermark in bytes",
            "disk_space_available_bytes": "Disk space available in bytes",
            "disk_space_available_limit_bytes": "Free disk space low watermark in bytes",
            "erlang_uptime_seconds": "Node uptime",
        }
        for name, value in node_numbers(self.context).items():
            yield one(f"rabbitmq_{name}", help[name], value)

    def _churn(self) -> Iterator[Metric]:
        churn = self.broker.churn
        for name, verb in (
            ("connections_opened", "opened"), ("connections_closed", "closed or terminated"),
            ("channels_opened", "opened"), ("channels_closed", "closed"), ("queues_declared", "declared"),
            ("queues_created", "created"), ("queues_deleted", "deleted"),
        ):  # fmt: skip
            what = name.partition("_")[0]
            yield one(f"rabbitmq_{name}_total", f"Total number of {what} {verb}", getattr(churn, name))

    def _totals(self) -> Iterator[Metric]:
        found, churn = self.snapshot, self.broker.churn
        yield one("rabbitmq_connections", "Connections currently open", len(self.broker.connections))
        yield one(
            "rabbitmq_channels", "Channels currently open", churn.channels_opened - churn.channels_closed
        )
        yield one("rabbitmq_consumers", "Consumers currently connected", found.consumers)
        yield one("rabbitmq_queues", "Queues available", found.queues)
        for name, (help, field) in QUEUES.items():
            yield one(f"rabbitmq_queue_{name}", help, getattr(found, field))
        help = "Sum of ready and unacknowledged messages - total queue depth"
        yield one("rabbitmq_queue_messages", help, found.ready + found.unacked)
        published = sum(outflow.published for outflow in found.outflows.values())
        help = "Total number of messages published to queues"
        yield one("rabbitmq_queue_messages_published_total", help, published)
        for way in ("incoming", "outgoing"):
            field = "bytes_received" if way == "incoming" else "bytes_sent"
            value = sum(getattr(inflow, field) for inflow in found.inflows.values())
            word = "received" if way == "incoming" else "sent"
            help = f"Total number of bytes {word} on a connection"
            yield one(f"rabbitmq_connection_{way}_bytes_total", help, value)

    def _global(self) -> Iterator[Metric]:
        inflows, outflows = self.snapshot.inflows, self.snapshot.outflows
        for name, (help, field) in INFLOW.items():
            samples = [
                ({"protocol": protocol}, getattr(inflow, field)) for protocol, inflow in inflows.items()
            ]
            yield labelled(f"rabbitmq_global_messages_{name}_total", help, samples)
        for field in ("publishers", "consumers"):
            samples = [
                ({"protocol": protocol}, getattr(inflow, field)) for protocol, inflow in inflows.items()
            ]
            yield labelled(f"rabbitmq_global_{field}", f"Current number of {field}", samples)
        names = [({"queue_type": QUEUE_TYPES.get(type, type)}, outflow) for type, outflow in outflows.items()]
        qos0 = self._qos0_sent()
        direct = [({"queue_type": MQTT_QOS0}, qos0)]
        for name, (help, field) in OUTFLOW.items():
            samples = [(labels, getattr(outflow, field)) for labels, outflow in names]
            # What has no queue: the two that dashboards add up have the same labels.
            extra = direct if field == "delivered_no_ack" else [({"queue_type": MQTT_QOS0}, 0)]
            yield labelled(f"rabbitmq_global_messages_{name}_total", help, samples + extra)
        delivered = [
            (labels, outflow.delivered + outflow.delivered_no_ack + outflow.got + outflow.got_no_ack)
            for labels, outflow in names
        ]
        help = "Total number of messages delivered to consumers"
        yield labelled("rabbitmq_global_messages_delivered_total", help, delivered + direct)
        for reason in REASONS:
            samples = [(labels, outflow.dead_lettered.get(reason, 0)) for labels, outflow in names]
            help = f"Total number of messages that left a queue as dead letters, or for good: {reason}"
            yield labelled(f"rabbitmq_global_messages_dead_lettered_{reason}_total", help, samples)
        help = "Messages dropped from the head of queues over their limit"
        yield labelled(
            "leveret_queue_overflow_total", help, [(labels, outflow.dropped) for labels, outflow in names]
        )
        help = "Connections currently open, by protocol"
        connections = {protocol: 0 for protocol in PROTOCOLS[:-2]} | self.snapshot.connections
        yield labelled(
            "leveret_connections", help, [({"protocol": name}, count) for name, count in connections.items()]
        )

    def _qos0_sent(self) -> int:
        """MQTT's at most once goes by no queue; what did is in the queues' numbers."""
        sent = {metric.name: metric.samples[0][1] for metric in self._extra if metric.name in MQTT_SENT}
        total, queued = (sent.get(name, 0) for name in MQTT_SENT)
        return int(total - queued)

    def _sizes(self) -> Iterator[Metric]:
        family = HistogramMetricFamily(
            "rabbitmq_message_size_bytes", "Size of messages received from publishers", labels=["protocol"]
        )
        traffic = self.broker.traffic
        for protocol in self.snapshot.inflows:
            sizes = traffic.sizes.get(protocol)
            counts = list(accumulate(sizes.counts)) if sizes else [0] * (len(BOUNDS) + 1)
            bounds = [*[bound_text(bound) for bound in BOUNDS], "+Inf"]
            family.add_metric(
                [protocol], list(zip(bounds, counts, strict=True)), sizes.total_bytes if sizes else 0
            )
        yield family

    def _attempts(self) -> Iterator[Metric]:
        counts = login_counts(self.broker)
        for suffix, help, columns in (
            ("", "authentication attempts", (0, 1)),
            ("_succeeded", "successful authentication attempts", (0,)),
            ("_failed", "failed authentication attempts", (1,)),
        ):
            samples = [
                ({"protocol": protocol}, sum(row[column] for column in columns))
                for protocol, row in counts.items()
            ]
            yield labelled(f"rabbitmq_auth_attempts{suffix}_total", f"Total number of {help}", samples)

    def _process(self) -> Iterator[Metric]:
        usage = resource.getrusage(resource.RUSAGE_SELF)
        yield one("process_cpu_seconds_total", "User and system CPU time", usage.ru_utime + usage.ru_stime)
        yield one("process_start_time_seconds", "When the process started, since the epoch", _started_at())
        yield one("process_threads", "Threads", threading.active_count())
        stats = gc.get_stats()
        runs = [({"generation": str(number)}, row["collections"]) for number, row in enumerate(stats)]
        yield labelled("python_gc_collections_total", "Garbage collections", runs)
        yield labelled(
            "python_info",
            "Python",
            [({"implementation": platform.python_implementation(), "version": platform.python_version()}, 1)],
        )

    def _store(self) -> Iterator[Metric]:
        statistics = self.broker.store.statistics()
        commits = statistics.get("commits", 0)
        seconds = commits * statistics.get("commit_seconds_mean", 0.0)
        yield one("rabbitmq_io_sync_ops_total", "Total number of I/O sync operations", commits)
        yield one("rabbitmq_io_sync_time_seconds_total", "Total I/O sync time", seconds)
        yield one("leveret_store_commits_total", "Groups that were made durable", commits)
        yield one("leveret_store_commit_seconds_total", "Time that took", seconds)
        yield one(
            "leveret_store_commit_seconds_last",
            "Time the last took",
            statistics.get("commit_seconds_last", 0.0),
        )
        yield one(
            "leveret_store_backlog_bytes", "Taken, and not yet durable", self.broker.store.backlog_bytes
        )
        yield one("leveret_store_backlog_limit_bytes", "Above it publishers wait", self._backlog_limit())
        for name, help in (
            ("file_bytes", "Size of the store's file"), ("map_bytes", "Its address space"),
            ("spilled_messages", "Transient messages on the disk, for want of memory"),
        ):  # fmt: skip
            yield one(f"leveret_store_{name}", help, statistics.get(name, 0))
        yield one("leveret_store_full", "1 if the last group found no space", int(self.broker.store.is_full))

    def _backlog_limit(self) -> int:
        return self.broker.settings.store.max_backlog_bytes

    def _others(self) -> Iterator[Metric]:
        lag = HistogramMetricFamily(
            "leveret_loop_lag_seconds", "How late a timer was: everything that should run waits as long"
        )
        lag.add_metric([], list(self.lag.buckets()), self.lag.total_s)
        yield lag
        for metric in self._extra:
            yield labelled(metric.name, metric.help, metric.samples)


def _measured(sources: Iterable[Any]) -> Iterator[Measurement]:
    """What adapters and plugins tell themselves; one that cannot does not hide the others."""
    for source in sources:
        if isinstance(source, Measured):
            try:
                yield from list(source.metrics())
            except Exception:
                log.exception("metrics of %r failed", source)


def bound_text(bound: float) -> str:
    """As RabbitMQ writes them, and its dashboards ask for them: 100.0, 1e+06."""
    return f"{bound:.1f}" if bound < 1_000_000 else f"{bound:.0e}"


def _started_at() -> float:
    """Of the process. 0: not told here."""
    try:
        fields = Path("/proc/self/stat").read_text().rpartition(")")[2].split()
        boot = next(line for line in Path("/proc/stat").read_text().splitlines() if line.startswith("btime"))
        return int(boot.split()[1]) + int(fields[19]) / TICKS
    except (OSError, ValueError, IndexError, StopIteration):
        return 0.0

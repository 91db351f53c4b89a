"""/metrics: what RabbitMQ's aggregated endpoint shows, as far as it has a meaning here, and Leveret's own numbers."""

from __future__ import annotations

import gc
import logging
import platform
import resource
import threading
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, Any

from prometheus_client.core import HistogramMetricFamily, Metric, UnknownMetricFamily

from leveret import __version__
from leveret.adapters.base import Draining
from leveret.adapters.http.metrics.identity import identity
from leveret.adapters.http.metrics.process import node_numbers, started_at
from leveret.adapters.http.metrics.queue_numbers import SAMPLES
from leveret.adapters.http.metrics.samples import bound_text, buckets_of, histogram_of, labelled, one
from leveret.adapters.http.metrics.snapshot import Snapshot, login_counts
from leveret.core.counters import Metric as Measurement
from leveret.core.counters import MetricSource

if TYPE_CHECKING:
    from leveret.adapters.http.context import HttpContext
__all__ = ["Aggregated"]

log = logging.getLogger(__name__)

MQTT_SENT = ("leveret_mqtt_publish_sent_total", "leveret_mqtt_publish_sent_queued_total")
QUEUE_TYPES = {
    "classic": "rabbit_classic_queue",
    "quorum": "rabbit_quorum_queue",
    "stream": "rabbit_stream_queue",
}
MQTT_QOS0 = "rabbit_mqtt_qos0_queue"
REASONS = {
    "expired": "Total number of messages dead-lettered due to message TTL exceeded",
    "rejected": "Total number of messages dead-lettered due to basic.reject or basic.nack",
    "maxlen": "Total number of messages dead-lettered due to overflow drop-head or reject-publish-dlx",
    "delivery_limit": "Total number of messages dead-lettered due to delivery-limit exceeded",
}
"""Also of those that were dropped for good: strategy disabled."""
# name -> help, the field of PublishCounters (of QueueCounters below)
PUBLISH_COUNTERS = {
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
QUEUE_COUNTERS = {
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
CHANNELS = {
    "messages_published": ("Total number of messages published into an exchange", "received"),
    "messages_confirmed": ("Total number of messages published into an exchange and confirmed", "confirmed"),
    "messages_unroutable_returned": ("Total number of mandatory messages returned as unroutable", "returned"),
    "messages_unroutable_dropped": ("Total number of messages dropped as unroutable", "dropped"),
    "get_ack": ("Total number of messages fetched with manual acknowledgment", "got"),
    "get": ("Total number of messages fetched with automatic acknowledgment", "got_no_ack"),
    "get_empty": ("Total number of times a fetch found no message", "get_empty"),
    "messages_delivered_ack": ("Total number of messages delivered with manual acknowledgment", "delivered"),
    "messages_delivered": (
        "Total number of messages delivered with automatic acknowledgment",
        "delivered_no_ack",
    ),
    "messages_redelivered": ("Total number of messages put back, to be delivered again", "redelivered"),
    "messages_acked": ("Total number of messages acknowledged by consumers", "acknowledged"),
}
"""The names of before RabbitMQ 3.9, for dashboards of that time: the global counters over all protocols."""
STRATEGIES = {
    "classic": ("at_most_once", "disabled"),
    "quorum": ("at_least_once", "at_most_once", "disabled"),
}


class Aggregated:
    """One scrape."""

    def __init__(
        self,
        context: HttpContext,
        snapshot: Snapshot,
        endpoint: str = "aggregated",
        without: frozenset[str] = frozenset(),
    ) -> None:
        """without: names of samples that are shown per object, and not here."""
        self.context = context
        self.broker = context.broker
        self.snapshot = snapshot
        self.endpoint = endpoint
        self.without = without
        self._extra = list(_measured([*self.broker.adapters, *self.broker.services.values()]))

    def collect(self) -> Iterator[Metric]:
        for metric in self._collect():
            name = f"{metric.name}_total" if metric.type == "counter" else metric.name
            if name not in self.without:
                yield metric

    def _collect(self) -> Iterator[Metric]:
        yield from identity(self.context, self.endpoint)
        yield from self._node()
        yield from self._churn()
        yield from self._totals()
        yield from self._global()
        yield from self._sizes()
        yield from self._attempts()
        yield from self._process()
        yield from self._store()
        yield labelled("leveret_info", "The version of Leveret", [({"version": __version__}, 1)])
        yield from self._others()

    def _node(self) -> Iterator[Metric]:
        alarms = self.broker.alarms.alarms
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
        numbers = found.numbers
        yield one("rabbitmq_consumers", "Consumers currently connected", numbers.consumers)
        yield one("rabbitmq_queues", "Queues available", numbers.queues)
        for name, help, value in (
            ("ready", "Messages ready to be delivered to consumers", numbers.ready),
            ("unacked", "Messages delivered to consumers but not yet acknowledged", numbers.unacked),
        ):
            yield one(f"rabbitmq_queue_messages_{name}", help, value)
        for name, help, field in SAMPLES:
            yield one(f"rabbitmq_queue_{name}", help, getattr(numbers, field))
        help = "Sum of ready and unacknowledged messages - total queue depth"
        yield one("rabbitmq_queue_messages", help, numbers.ready + numbers.unacked)
        yield one("rabbitmq_channel_consumers", "Consumers on a channel", numbers.consumers)
        help = "Delivered but not yet acknowledged messages"
        yield one("rabbitmq_channel_messages_unacked", help, numbers.unacked)
        sources = [*found.by_protocol.values(), *found.by_queue_type.values()]
        for name, (help, field) in CHANNELS.items():
            yield one(
                f"rabbitmq_channel_{name}_total", help, sum(getattr(source, field, 0) for source in sources)
            )
        published = sum(counters.published for counters in found.by_queue_type.values())
        help = "Total number of messages published to queues"
        yield one("rabbitmq_queue_messages_published_total", help, published)
        for way in ("incoming", "outgoing"):
            field = "bytes_received" if way == "incoming" else "bytes_sent"
            value = sum(getattr(counters, field) for counters in found.by_protocol.values())
            word = "received" if way == "incoming" else "sent"
            help = f"Total number of bytes {word} on a connection"
            yield one(f"rabbitmq_connection_{way}_bytes_total", help, value)

    def _global(self) -> Iterator[Metric]:
        by_protocol, by_queue_type = self.snapshot.by_protocol, self.snapshot.by_queue_type
        for name, (help, field) in PUBLISH_COUNTERS.items():
            samples = [
                ({"protocol": protocol}, getattr(counters, field))
                for protocol, counters in by_protocol.items()
            ]
            yield labelled(f"rabbitmq_global_messages_{name}_total", help, samples)
        for field in ("publishers", "consumers"):
            samples = [
                ({"protocol": protocol}, getattr(counters, field))
                for protocol, counters in by_protocol.items()
            ]
            yield labelled(f"rabbitmq_global_{field}", f"Current number of {field}", samples)
        names = [
            ({"queue_type": QUEUE_TYPES.get(type, type)}, counters)
            for type, counters in by_queue_type.items()
        ]
        qos0 = self._qos0_sent()
        direct = [({"queue_type": MQTT_QOS0}, qos0)]
        for name, (help, field) in QUEUE_COUNTERS.items():
            samples = [(labels, getattr(counters, field)) for labels, counters in names]
            # What has no queue: the two that dashboards add up have the same labels.
            extra = direct if field == "delivered_no_ack" else [({"queue_type": MQTT_QOS0}, 0)]
            yield labelled(f"rabbitmq_global_messages_{name}_total", help, samples + extra)
        delivered = [
            (labels, counters.delivered + counters.delivered_no_ack + counters.got + counters.got_no_ack)
            for labels, counters in names
        ]
        help = "Total number of messages delivered to consumers"
        yield labelled("rabbitmq_global_messages_delivered_total", help, delivered + direct)
        yield from self._dead_lettered()
        help = "Messages dropped from the head of queues over their limit"
        yield labelled(
            "leveret_queue_overflow_total", help, [(labels, counters.dropped) for labels, counters in names]
        )
        help = "Connections currently open, by protocol"
        connections = {
            protocol: 0
            for adapter in self.broker.adapters
            if not isinstance(adapter, Draining)  # their connections are not the broker's
            for protocol in adapter.protocols
        } | self.snapshot.connections
        yield labelled(
            "leveret_connections", help, [({"protocol": name}, count) for name, count in connections.items()]
        )

    def _dead_lettered(self) -> Iterator[Metric]:
        """By RabbitMQ's labels. At least once is confirmed at once here: copy and removal are one commit."""
        by_queue_type = self.snapshot.by_queue_type
        for reason, help in REASONS.items():
            samples = [
                (
                    {"queue_type": QUEUE_TYPES.get(type, type), "dead_letter_strategy": strategy},
                    counters.dead_lettered.get((reason, strategy), 0),
                )
                for type, counters in by_queue_type.items()
                for strategy in STRATEGIES.get(type, ())
            ]
            yield labelled(f"rabbitmq_global_messages_dead_lettered_{reason}_total", help, samples)
        confirmed = sum(
            count
            for counters in by_queue_type.values()
            for (_, strategy), count in counters.dead_lettered.items()
            if strategy == "at_least_once"
        )
        labels = {"queue_type": QUEUE_TYPES["quorum"], "dead_letter_strategy": "at_least_once"}
        help = "Total number of messages dead-lettered and confirmed by target queues"
        yield labelled("rabbitmq_global_messages_dead_lettered_confirmed_total", help, [(labels, confirmed)])

    def _qos0_sent(self) -> int:
        """MQTT's at most once goes by no queue; what did is in the queues' numbers."""
        sent = {metric.name: metric.samples[0][1] for metric in self._extra if metric.name in MQTT_SENT}
        total, queued = (sent.get(name, 0) for name in MQTT_SENT)
        return int(total - queued)

    def _sizes(self) -> Iterator[Metric]:
        family = HistogramMetricFamily(
            "rabbitmq_message_size_bytes", "Size of messages received from publishers", labels=["protocol"]
        )
        for protocol in self.snapshot.by_protocol:
            sizes = self.broker.traffic.sizes_of(protocol)
            family.add_metric([protocol], buckets_of(sizes, bound_text), sizes.total)
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
        yield one("process_start_time_seconds", "When the process started, since the epoch", started_at())
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
        latency = getattr(self.broker.store, "commit_latency", None)  # not every store tells
        if latency is not None:
            yield histogram_of("leveret_store_commit_seconds", "How long commits of the store took", latency)
        yield one(
            "leveret_store_pending_bytes", "Taken, and not yet durable", self.broker.store.pending_bytes
        )
        yield one("leveret_store_pending_limit_bytes", "Above it publishers wait", self._backlog_limit())
        for name, help in (
            ("file_bytes", "Size of the store's file"), ("map_bytes", "Its address space"),
            ("spilled_messages", "Transient messages on the disk, for want of memory"),
        ):  # fmt: skip
            yield one(f"leveret_store_{name}", help, statistics.get(name, 0))
        yield one("leveret_store_full", "1 if the last group found no space", int(self.broker.store.is_full))

    def _backlog_limit(self) -> int:
        return self.broker.settings.store.max_pending_bytes

    def _others(self) -> Iterator[Metric]:
        help = "How late a timer was: everything that should run waits as long"
        yield histogram_of("leveret_loop_lag_seconds", help, self.context.lag.seconds)
        for metric in self._extra:
            yield labelled(metric.name, metric.help, metric.samples)


def _measured(sources: Iterable[Any]) -> Iterator[Measurement]:
    """What adapters and plugins tell themselves; one that cannot does not hide the others."""
    for source in sources:
        if isinstance(source, MetricSource):
            try:
                yield from list(source.metrics())
            except Exception:
                log.exception("metrics of %r failed", source)

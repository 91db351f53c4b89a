"""Metrics of single queues, exchanges, connections and channels: RabbitMQ's groups ("families" of /metrics/detailed), as
tables from a name to what it reads.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from operator import attrgetter, itemgetter
from typing import TYPE_CHECKING, Any

from leveret.adapters.http.metrics.exposition import escaped, label_text
from leveret.adapters.http.metrics.process import node_numbers
from leveret.adapters.http.metrics.queue_numbers import SAMPLES, QueueNumbers
from leveret.adapters.http.metrics.snapshot import login_counts

if TYPE_CHECKING:
    from leveret.adapters.http.context import HttpContext
    from leveret.core.broker import Broker
    from leveret.core.queue.queue import Queue
    from leveret.core.vhost import Vhost
__all__ = ["CLUSTER", "GROUPS", "PER_OBJECT", "FilteredMessages", "Group", "Row", "Things"]


@dataclass(frozen=True, slots=True)
class FilteredMessages:
    """Which queues and exchanges: of these virtual hosts (none named: all), with these names."""

    vhosts: frozenset[str] = frozenset()
    queue: Callable[[str], bool] | None = None

    def has_vhost(self, name: str) -> bool:
        return not self.vhosts or name in self.vhosts

    def has_queue(self, name: str) -> bool:
        return self.queue is None or self.queue(name)


Things = Callable[["HttpContext", FilteredMessages], "Iterator[tuple[str, Any] | None]"]
"""(labels as text, thing); None: one that is not wanted. What is listed is listed in one turn: it may be gone later."""


@dataclass(frozen=True, slots=True)
class Row:
    """One family of samples: read(thing) is a thing's. Its name says whether it is a counter."""

    name: str
    help: str
    read: Callable[[Any], float]

    @property
    def kind(self) -> str:
        return "counter" if self.name.endswith("_total") else "gauge"


@dataclass(frozen=True, slots=True)
class Group:
    """Families of the same things."""

    things: Things
    rows: tuple[Row, ...]
    more_labels: Callable[[Any], str] | None = None


def vhosts(broker: Broker, wanted: FilteredMessages) -> list[Vhost]:
    return [vhost for vhost in broker.vhosts.values() if wanted.has_vhost(vhost.name)]


def node(context: HttpContext, wanted: FilteredMessages) -> Iterator[tuple[str, Any]]:
    yield "", node_numbers(context)


def churn(context: HttpContext, wanted: FilteredMessages) -> Iterator[tuple[str, Any]]:
    yield "", context.broker.churn


def attempts(context: HttpContext, wanted: FilteredMessages) -> Iterator[tuple[str, Any]]:
    for protocol, row in login_counts(context.broker).items():
        yield label_text([("protocol", protocol)]), row


def queues(context: HttpContext, wanted: FilteredMessages) -> Iterator[tuple[str, Any] | None]:
    for vhost in vhosts(context.broker, wanted):
        start = label_text([("vhost", vhost.name)])
        for queue in list(vhost.queues.values()):
            name = queue.name
            yield (f'{start},queue="{escaped(name)}"', queue) if wanted.has_queue(name) else None


def queue_numbers(context: HttpContext, wanted: FilteredMessages) -> Iterator[tuple[str, Any] | None]:
    for found in queues(context, wanted):
        yield None if found is None else (found[0], NUMBERS_OF(QueueNumbers.of(found[1])))


def queue_heads(context: HttpContext, wanted: FilteredMessages) -> Iterator[tuple[str, Any] | None]:
    """Those whose first message has a timestamp, and that. What is on the disk is not read for it."""
    for found in queues(context, wanted):
        timestamp = None if found is None else _head_timestamp(found[1])
        yield None if found is None or timestamp is None else (found[0], timestamp)


def _head_timestamp(queue: Queue) -> int | None:
    if queue.is_closed or not any(fifo.in_memory_count for fifo in queue.fifos):
        return None
    head = queue.ready.head()
    return None if head is None else head.envelope.properties.timestamp


def exchanges(context: HttpContext, wanted: FilteredMessages) -> Iterator[tuple[str, Any]]:
    for vhost in vhosts(context.broker, wanted):
        for exchange in list(vhost.exchanges.values()):
            yield label_text([("vhost", vhost.name), ("exchange", exchange.name)]), exchange


def typed_exchanges(context: HttpContext, wanted: FilteredMessages) -> Iterator[tuple[str, Any]]:
    for vhost in vhosts(context.broker, wanted):
        for exchange in list(vhost.exchanges.values()):
            if exchange.name:
                labels = [("vhost", vhost.name), ("exchange", exchange.name), ("type", exchange.type)]
                yield label_text(labels), exchange


def up_vhosts(context: HttpContext, wanted: FilteredMessages) -> Iterator[tuple[str, Any]]:
    for vhost in vhosts(context.broker, wanted):
        yield label_text([("vhost", vhost.name)]), vhost


def connections(context: HttpContext, wanted: FilteredMessages) -> Iterator[tuple[str, Any]]:
    for connection in list(context.broker.connections):
        yield label_text([("connection", connection.name)]), connection


def channels(context: HttpContext, wanted: FilteredMessages) -> Iterator[tuple[str, Any]]:
    for connection in list(context.broker.connections):
        for channel in list(connection.channels.values()):
            yield label_text([("channel", channel.name)]), channel


def channel_totals(context: HttpContext, wanted: FilteredMessages) -> Iterator[tuple[str, Any]]:
    for labels, channel in channels(context, wanted):
        yield labels, channel.totals()


def _capacity(queue: Queue) -> float:
    """As the management API says it: can what waits be delivered at once?"""
    consumers = queue.consumers
    if not len(consumers):
        return 0
    return 1 if not queue.message_count or consumers.eligible() else 0


def _type_labels(queue: Queue) -> str:
    return f',queue_type="rabbit_{queue.type}_queue",membership="leader"'


def _one(thing: object) -> float:
    return 1


def _attributes(rows: Iterable[tuple[str, str, str]]) -> tuple[Row, ...]:
    return tuple(Row(name, help, attrgetter(field)) for name, help, field in rows)


QUEUE_CONSUMERS = Row("queue_consumers", "Consumers on a queue", lambda queue: len(queue.consumers))
COARSE = (
    Row("queue_messages_ready", "Messages ready to be delivered to consumers", lambda queue: queue.message_count),
    Row("queue_messages_unacked", "Messages delivered to consumers but not yet acknowledged",
        lambda queue: queue.unacked_count),
    Row("queue_messages", "Sum of ready and unacknowledged messages - total queue depth",
        lambda queue: queue.message_count + queue.unacked_count),
)  # fmt: skip
CAPACITY = (
    Row("queue_consumer_capacity", "Consumer capacity", _capacity),
    Row("queue_consumer_utilisation", "Same as consumer capacity", _capacity),
)
NUMBERS_OF = attrgetter(*[field for _, _, field in SAMPLES])
"""A tuple of plain integers, which the garbage collector leaves alone."""
NUMBERS = tuple(Row(f"queue_{name}", help, itemgetter(at)) for at, (name, help, _) in enumerate(SAMPLES))
HEAD = (Row("queue_head_message_timestamp", "Timestamp of the first message in the queue, if any", float),)
DELIVERY = (
    Row("queue_get_ack_total", "Total number of messages fetched from a queue with manual acknowledgement",
        lambda queue: queue.get_total),
    Row("queue_get_total", "Total number of messages fetched from a queue with automatic acknowledgement",
        lambda queue: queue.get_no_ack_total),
    Row("queue_messages_delivered_ack_total", "Total number of messages delivered with manual acknowledgement",
        lambda queue: queue.delivered_total),
    Row("queue_messages_delivered_total", "Total number of messages delivered with automatic acknowledgement",
        lambda queue: queue.delivered_no_ack_total),
    Row("queue_messages_redelivered_total", "Total number of messages redelivered from a queue",
        lambda queue: queue.redelivered_total),
    Row("queue_messages_acked_total", "Total number of messages acknowledged on a queue",
        lambda queue: queue.acknowledged_total),
    Row("queue_get_empty_total", "Total number of times a fetch found no message", lambda queue: queue.get_empty_total),
)  # fmt: skip
PUBLISHED = (
    Row("queue_messages_published_total", "Total number of messages published to a queue", attrgetter("published_total")),
)  # fmt: skip
PUBLISHED_THROUGH = (
    Row("queue_exchange_messages_published_total", "Total number of messages published to a queue, through any exchange",
        attrgetter("published_total")),
)  # fmt: skip
QUEUE_INFO = (Row("queue_info", "A queue's type", _one),)
EXCHANGE = (
    Row("exchange_messages_published_total", "Total number of messages published into an exchange",
        lambda exchange: exchange.published_in),
    Row("exchange_messages_routed_total", "Total number of copies that an exchange passed on",
        lambda exchange: exchange.published_out),
)  # fmt: skip
CONNECTION_COARSE = (
    Row("connection_incoming_bytes_total", "Total number of bytes received on a connection",
        attrgetter("received_bytes")),
    Row("connection_outgoing_bytes_total", "Total number of bytes sent on a connection",
        attrgetter("sent_bytes")),
)  # fmt: skip
CONNECTION = (
    Row("connection_pending_bytes", "Bytes waiting to be sent on a connection", attrgetter("pending_bytes")),
    Row("connection_channels", "Channels on a connection", lambda connection: len(connection.channels)),
)  # fmt: skip
CHANNEL = (
    Row("channel_consumers", "Consumers on a channel", lambda channel: len(channel.consumers)),
    Row("channel_messages_unacked", "Delivered but not yet acknowledged messages", attrgetter("unacked_count")),
    Row("channel_messages_unconfirmed", "Published but not yet confirmed messages", attrgetter("unconfirmed_count")),
    Row("consumer_prefetch", "Limit of unacknowledged messages for each consumer", attrgetter("prefetch")),
    Row("channel_prefetch", "Limit of unacknowledged messages of a whole channel", attrgetter("global_prefetch")),
)  # fmt: skip
CHANNEL_EXCHANGE = _attributes((  # of ChannelTotals
    ("channel_messages_published_total", "Total number of messages published on a channel", "publish"),
    ("channel_messages_confirmed_total", "Total number of messages confirmed on a channel", "confirm"),
    ("channel_messages_unroutable_returned_total", "Total number of messages returned as unroutable", "return_unroutable"),
    ("channel_messages_unroutable_dropped_total", "Total number of messages dropped as unroutable", "drop_unroutable"),
))  # fmt: skip
CHANNEL_QUEUE = _attributes((  # of ChannelTotals
    ("channel_get_ack_total", "Total number of messages fetched with manual acknowledgement", "get"),
    ("channel_get_total", "Total number of messages fetched with automatic acknowledgement", "get_no_ack"),
    ("channel_messages_delivered_ack_total", "Total number of messages delivered with manual acknowledgement", "deliver"),
    ("channel_messages_delivered_total", "Total number of messages delivered with automatic acknowledgement",
     "deliver_no_ack"),
    ("channel_messages_acked_total", "Total number of messages acknowledged on a channel", "ack"),
    ("channel_get_empty_total", "Total number of times a fetch found no message", "get_empty"),
))  # fmt: skip
ATTEMPTS = (
    Row("auth_attempts_total", "Total number of authentication attempts", sum),
    Row(
        "auth_attempts_succeeded_total",
        "Total number of successful authentication attempts",
        lambda row: row[0],
    ),
    Row("auth_attempts_failed_total", "Total number of failed authentication attempts", lambda row: row[1]),
)


def _keys(rows: Iterable[tuple[str, str]]) -> tuple[Row, ...]:
    return tuple(Row(name, help, itemgetter(name)) for name, help in rows)


CHURN = _attributes(
    (f"{what}_{verb}_total", f"Total number of {what} {verb}", f"{what}_{verb}")
    for what, verb in (
        ("connections", "opened"), ("connections", "closed"), ("channels", "opened"), ("channels", "closed"),
        ("queues", "declared"), ("queues", "created"), ("queues", "deleted"),
    )
)  # fmt: skip
NODE_COARSE = _keys((
    ("process_open_fds", "Open file descriptors"), ("process_open_tcp_sockets", "Open TCP sockets of clients"),
    ("process_resident_memory_bytes", "Memory used in bytes"), ("disk_space_available_bytes", "Disk space available in bytes"),
))  # fmt: skip
NODE = _keys((
    ("process_max_fds", "Open file descriptors limit"), ("process_max_tcp_sockets", "Open TCP sockets limit"),
    ("resident_memory_limit_bytes", "Memory high watermark in bytes"),
    ("disk_space_available_limit_bytes", "Free disk space low watermark in bytes"), ("erlang_uptime_seconds", "Node uptime"),
))  # fmt: skip

GROUPS: dict[str, tuple[Group, ...]] = {
    "connection_churn_metrics": (Group(churn, CHURN),),
    "node_coarse_metrics": (Group(node, NODE_COARSE),),
    "node_metrics": (Group(node, NODE),),
    "auth_attempt_metrics": (Group(attempts, ATTEMPTS),),
    "queue_coarse_metrics": (Group(queues, COARSE), Group(queues, QUEUE_INFO, _type_labels)),
    "queue_consumer_count": (Group(queues, (QUEUE_CONSUMERS,)), Group(queues, QUEUE_INFO, _type_labels)),
    "queue_metrics": (
        Group(queue_numbers, NUMBERS),
        Group(queues, CAPACITY),
        Group(queue_heads, HEAD),
        Group(queues, QUEUE_INFO, _type_labels),
    ),
    "queue_delivery_metrics": (Group(queues, DELIVERY),),
    "queue_exchange_metrics": (Group(queues, PUBLISHED_THROUGH),),
    "channel_queue_exchange_metrics": (Group(queues, PUBLISHED),),
    "exchange_metrics": (Group(exchanges, EXCHANGE),),
    "connection_coarse_metrics": (Group(connections, CONNECTION_COARSE),),
    "connection_metrics": (Group(connections, CONNECTION),),
    "channel_metrics": (Group(channels, CHANNEL),),
    "channel_exchange_metrics": (Group(channel_totals, CHANNEL_EXCHANGE),),
    "channel_queue_metrics": (Group(channel_totals, CHANNEL_QUEUE),),
}
"""By RabbitMQ's names. Those that have no meaning here (ra_metrics, stream_consumer_metrics, ...) give nothing."""
PER_OBJECT = tuple(GROUPS)
CLUSTER: dict[str, tuple[Group, ...]] = {
    "vhost_status": (Group(up_vhosts, (Row("vhost_status", "Whether a given vhost is running", _one),)),),
    "exchange_bindings": (
        Group(
            typed_exchanges,
            (
                Row(
                    "exchange_bindings",
                    "Number of bindings for an exchange",
                    lambda exchange: len(exchange.bindings),
                ),
            ),
        ),
    ),
    "exchange_names": (Group(typed_exchanges, (Row("exchange_name", "Enumerates exchanges", _one),)),),
}
"""Of /metrics/detailed alone, with a prefix of their own."""

"""What the control listener lists: a table of columns for each kind of thing, with rabbitmqctl's names.

A column is a function from a thing to its value. Values that are more than an attribute are shared with the management
API: leveret.adapters.queue_listing and connection_listing.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from leveret.adapters.connection_listing import describe_channel, describe_connection
from leveret.adapters.control.server import OperationRefused
from leveret.adapters.queue_listing import (
    activity_status,
    consumer_capacity,
    effective_definition,
    is_active,
    message_numbers,
)
from leveret.core.administration import parameters, permissions
from leveret.core.definitions.exporter import policy_value
from leveret.core.definitions.recovery import require_vhost
from leveret.core.fields import type_name

if TYPE_CHECKING:
    from leveret.core.broker import Broker
    from leveret.core.exchange import Binding, Exchange
    from leveret.core.queue.consumer import Consumer
    from leveret.core.queue.queue import Queue
__all__ = ["LISTINGS"]

Column = Callable[[Any], Any]


def _field_table(table: Mapping[str, Any]) -> list[list[Any]]:
    """A field table as JSON, with the types of its values: [[name, type, value], ...]."""
    return [[name, type_name(value), _field(value)] for name, value in table.items()]


def _field(value: Any) -> Any:
    if isinstance(value, bytes):
        return value.decode("utf-8", "backslashreplace")
    if isinstance(value, Mapping):
        return _field_table(value)
    if isinstance(value, list | tuple):
        return [_field(item) for item in value]
    return value if value is None or isinstance(value, bool | int | float | str) else str(value)


def _rows(columns: tuple[str, ...], items: Iterable[Mapping[str, Any]]) -> dict[str, Any]:
    """A listing without a choice of columns."""
    return {"columns": columns, "rows": [{name: item[name] for name in columns} for item in items]}


def _json(value: Any) -> str:
    return json.dumps(value, separators=(",", ":"))


@dataclass(frozen=True, slots=True)
class Listing:
    """columns: functions by name; defaults: the columns that are shown if none are asked for."""

    columns: Mapping[str, Column]
    defaults: tuple[str, ...]

    def show(self, things: Iterable[Any], columns: list[str]) -> dict[str, Any]:
        """{"columns": [...], "rows": [{...}]}. Raise OperationRefused for unknown columns."""
        names = columns or list(self.defaults)
        if unknown := [name for name in names if name not in self.columns]:
            raise OperationRefused(
                f"Info key(s) {', '.join(unknown)} are not supported; there are {', '.join(self.columns)}",
                "usage",
            )
        shown = [(name, self.columns[name]) for name in names]
        return {
            "columns": names,
            "rows": [{name: column(thing) for name, column in shown} for thing in things],
        }


def _exclusive_consumer(queue: Queue) -> Consumer | None:
    return next((consumer for consumer in queue.consumers if consumer.is_exclusive), None)


def _channel_pid(consumer: Consumer) -> str:
    return str(consumer.sink.describe().get("name", ""))


def _exclusive_tag(queue: Queue) -> str:
    consumer = _exclusive_consumer(queue)
    return "" if consumer is None else consumer.tag


def _exclusive_pid(queue: Queue) -> str:
    consumer = _exclusive_consumer(queue)
    return "" if consumer is None else _channel_pid(consumer)


def _number(name: str) -> Column:
    return lambda queue: message_numbers(queue)[name]


def _queues(broker: Broker) -> Listing:
    return Listing(
        {
            "name": lambda queue: queue.name,
            "durable": lambda queue: queue.is_durable,
            "auto_delete": lambda queue: queue.is_auto_delete,
            "arguments": lambda queue: _field_table(queue.arguments),
            "policy": lambda queue: queue.policy_name or "",
            "operator_policy": lambda queue: queue.operator_policy_name or "",
            "effective_policy_definition": lambda queue: effective_definition(broker.policies, queue),
            "exclusive": lambda queue: queue.is_exclusive,
            "owner_pid": lambda queue: getattr(queue.owner, "name", ""),
            "exclusive_consumer_pid": _exclusive_pid,
            "exclusive_consumer_tag": _exclusive_tag,
            "messages_ready": lambda queue: queue.message_count,
            "messages_unacknowledged": lambda queue: queue.unacked_count,
            "messages": lambda queue: queue.message_count + queue.unacked_count,
            **{
                name: _number(name)
                for name in (
                    "messages_ready_ram", "messages_unacknowledged_ram", "messages_ram", "messages_persistent",
                    "message_bytes", "message_bytes_ready", "message_bytes_unacknowledged", "message_bytes_ram",
                    "message_bytes_persistent", "memory",
                )
            },
            "consumers": lambda queue: queue.consumer_count,
            "consumer_capacity": consumer_capacity,
            "consumer_utilisation": consumer_capacity,
            "state": lambda queue: "running",
            "type": lambda queue: queue.type,
            "leader": lambda queue: broker.node_name,
            "members": lambda queue: [broker.node_name],
            "online": lambda queue: [broker.node_name],
            "messages_published": lambda queue: queue.published_total,
            "messages_delivered": lambda queue: queue.delivered_total + queue.delivered_no_ack_total,
            "messages_acknowledged": lambda queue: queue.acknowledged_total,
            "messages_redelivered": lambda queue: queue.redelivered_total,
        },
        ("name", "messages"),
    )  # fmt: skip


EXCHANGES = Listing(
    {
        "name": lambda exchange: exchange.name,
        "type": lambda exchange: exchange.type,
        "durable": lambda exchange: exchange.is_durable,
        "auto_delete": lambda exchange: exchange.is_auto_delete,
        "internal": lambda exchange: exchange.is_internal,
        "arguments": lambda exchange: _field_table(exchange.arguments),
        "policy": lambda exchange: exchange.policy_name or "",
    },
    ("name", "type"),
)

BINDINGS = Listing(  # of (source, binding)
    {
        "source_name": lambda bound: bound[0].name,
        "source_kind": lambda bound: "exchange",
        "destination_name": lambda bound: bound[1].destination.name,
        "destination_kind": lambda bound: bound[1].destination.kind,
        "routing_key": lambda bound: bound[1].routing_key,
        "arguments": lambda bound: _field_table(bound[1].arguments),
        "vhost": lambda bound: bound[0].vhost.name,
    },
    ("source_name", "source_kind", "destination_name", "destination_kind", "routing_key", "arguments"),
)


CONSUMERS = Listing(
    {
        "queue_name": lambda consumer: consumer.queue.name,
        "channel_pid": _channel_pid,
        "consumer_tag": lambda consumer: consumer.tag,
        "ack_required": lambda consumer: not consumer.no_ack,
        "prefetch_count": lambda consumer: consumer.prefetch,
        "active": is_active,
        "activity_status": activity_status,
        "arguments": lambda consumer: _field_table(consumer.arguments),
        "exclusive": lambda consumer: consumer.is_exclusive,
        "priority": lambda consumer: consumer.priority,
    },
    ("queue_name", "channel_pid", "consumer_tag", "ack_required", "prefetch_count", "active", "arguments"),
)


def _info(name: str) -> Column:
    """A field of a connection or channel as it describes itself."""

    def column(info: Mapping[str, Any]) -> Any:
        value = info.get(name)
        return _field_table(value) if isinstance(value, Mapping) else _field(value)

    return column


CONNECTIONS = Listing(
    {
        name: _info(name)
        for name in (
            "name", "user", "peer_host", "peer_port", "state", "host", "port", "vhost", "protocol", "channels",
            "auth_mechanism", "timeout", "frame_max", "channel_max", "client_properties", "connected_at", "recv_oct",
            "recv_cnt", "send_oct", "send_cnt", "send_pend", "ssl", "ssl_protocol", "ssl_cipher", "peer_cert_subject",
            "peer_cert_issuer", "peer_cert_validity",
        )
    },
    ("user", "peer_host", "peer_port", "state"),
)  # fmt: skip

CHANNELS = Listing(
    {
        name: _info(name)
        for name in (
            "pid", "connection", "name", "number", "user", "vhost", "transactional", "confirm", "consumer_count",
            "messages_unacknowledged", "messages_unconfirmed", "prefetch_count", "global_prefetch_count",
        )
    },
    ("pid", "user", "consumer_count", "messages_unacknowledged"),
)  # fmt: skip


def _vhosts(broker: Broker) -> Listing:
    return Listing(
        {
            "name": lambda vhost: vhost.name,
            "tracing": lambda vhost: vhost.tracer is not None,
            "description": lambda vhost: vhost.description,
            "tags": lambda vhost: list(vhost.tags),
            "default_queue_type": lambda vhost: vhost.default_queue_type,
            "cluster_state": lambda vhost: {broker.node_name: "running"},
        },
        ("name",),
    )


def _channel_infos(broker: Broker) -> Iterator[dict[str, Any]]:
    """Of every connection whose protocol has channels."""
    for connection in sorted(broker.connections, key=lambda one: one.name):
        for _, channel in sorted(connection.channels.items()):
            yield describe_channel(channel) | {"pid": channel.name, "connection": connection.name}


def list_queues(broker: Broker, vhost: str, columns: list[str]) -> dict[str, Any]:
    return _queues(broker).show(require_vhost(broker, vhost).queues.values(), columns)


def list_exchanges(broker: Broker, vhost: str, columns: list[str]) -> dict[str, Any]:
    return EXCHANGES.show(require_vhost(broker, vhost).exchanges.values(), columns)


def list_bindings(broker: Broker, vhost: str, columns: list[str]) -> dict[str, Any]:
    bindings: Iterable[tuple[Exchange, Binding]] = require_vhost(broker, vhost).bindings()
    return BINDINGS.show(bindings, columns)


def list_consumers(broker: Broker, vhost: str, columns: list[str]) -> dict[str, Any]:
    queues = require_vhost(broker, vhost).queues.values()
    return CONSUMERS.show((consumer for queue in queues for consumer in queue.consumers), columns)


def list_connections(broker: Broker, columns: list[str]) -> dict[str, Any]:
    connections = sorted(broker.connections, key=lambda connection: connection.name)
    return CONNECTIONS.show(map(describe_connection, connections), columns)


def list_channels(broker: Broker, columns: list[str]) -> dict[str, Any]:
    return CHANNELS.show(_channel_infos(broker), columns)


def list_vhosts(broker: Broker, columns: list[str]) -> dict[str, Any]:
    return _vhosts(broker).show(broker.vhosts.values(), columns)


# -- without a choice of columns


def list_users(broker: Broker) -> dict[str, Any]:
    users = broker.users.list_users()
    return _rows(("user", "tags"), ({"user": user.name, "tags": list(user.tags)} for user in users))


def list_permissions(broker: Broker, vhost: str) -> dict[str, Any]:
    require_vhost(broker, vhost)
    return _rows(("user", "configure", "write", "read"), permissions.list_permissions(broker, vhost=vhost))


def list_user_permissions(broker: Broker, user: str) -> dict[str, Any]:
    broker.users.user(user)
    return _rows(("vhost", "configure", "write", "read"), permissions.list_permissions(broker, user=user))


def list_topic_permissions(broker: Broker, vhost: str) -> dict[str, Any]:
    require_vhost(broker, vhost)
    listed = permissions.list_topic_permissions(broker, vhost=vhost)
    return _rows(("user", "exchange", "write", "read"), listed)


def _list_policies(broker: Broker, vhost: str, *, operator: bool) -> dict[str, Any]:
    require_vhost(broker, vhost)
    return _rows(
        ("vhost", "name", "pattern", "apply-to", "definition", "priority"),
        (
            {"vhost": vhost, "name": policy.name, **policy_value(policy), "definition": _json(policy.definition)}
            for policy in broker.policies.list(vhost, operator=operator)
        ),
    )  # fmt: skip


def list_policies(broker: Broker, vhost: str) -> dict[str, Any]:
    return _list_policies(broker, vhost, operator=False)


def list_operator_policies(broker: Broker, vhost: str) -> dict[str, Any]:
    return _list_policies(broker, vhost, operator=True)


def list_vhost_limits(broker: Broker, vhost: str) -> dict[str, Any]:
    return _rows(("vhost", "limits"), [{"vhost": vhost, "limits": dict(require_vhost(broker, vhost).limits)}])


def list_user_limits(broker: Broker, user: str) -> dict[str, Any]:
    return _rows(("user", "limits"), [{"user": user, "limits": dict(broker.users.user(user).limits)}])


def list_parameters(broker: Broker, vhost: str) -> dict[str, Any]:
    listed = parameters.list_parameters(broker, vhost)
    return _rows(("component", "name", "value"), ({**row, "value": _json(row["value"])} for row in listed))


def list_global_parameters(broker: Broker) -> dict[str, Any]:
    listed = parameters.list_global_parameters(broker)
    return _rows(("name", "value"), ({**row, "value": _json(row["value"])} for row in listed))


LISTINGS: Mapping[str, Callable[..., dict[str, Any]]] = {
    operation.__name__: operation
    for operation in (
        list_queues, list_exchanges, list_bindings, list_consumers, list_connections, list_channels, list_vhosts,
        list_users, list_permissions, list_user_permissions, list_topic_permissions, list_policies,
        list_operator_policies, list_vhost_limits, list_user_limits, list_parameters, list_global_parameters,
    )
}  # fmt: skip

"""Things that answers are made of. Members that are always there are not `required`: `columns` cuts them, too."""

from __future__ import annotations

from leveret.adapters.http.openapi.builders import Json, boolean, integer, list_of, obj, ref, string

__all__ = ["SCHEMAS"]

COUNT = integer(0)
NAMED = {"name": string(), "vhost": string()}
FLAGS = {"durable": boolean(), "auto_delete": boolean()}
STATS: Json = {
    "type": "object",
    "description": "Counters, and beside each NAME_details {rate, samples, avg, avg_rate}; those that were never used are absent.",
}
ARGUMENTS: Json = {"type": "object", "description": "x-arguments"}

SCHEMAS: dict[str, Json] = {
    "ManagementError": obj(
        "error reason",
        error=string(description="A word for programs"),
        reason={"description": "A sentence; of some errors a list"},
    ),
    "Problem": obj(
        "type title status detail error",
        type=string(),
        title=string(),
        status=integer(400, 599),
        detail=string(),
        error=string(description="A word for programs"),
    ),
    "Status": obj("status", status=string(enum=["ok", "failed"]), reason=string()),
    "Overview": obj(
        management_version=string(), rabbitmq_version=string(), product_name=string(), leveret_version=string(),
        cluster_name=string(), node=string(), message_stats=STATS, queue_totals=STATS, churn_rates=STATS,
        object_totals=obj(channels=COUNT, connections=COUNT, consumers=COUNT, exchanges=COUNT, queues=COUNT),
        listeners=list_of(obj(protocol=string(), ip_address=string(), port=integer(0, 65535), node=string())),
    ),
    "Node": obj(
        name=string(), type=string(), running=boolean(), os_pid=string(), uptime=COUNT, processors=COUNT,
        mem_used=COUNT, mem_limit=COUNT, mem_alarm=boolean(), disk_free=COUNT, disk_free_limit=COUNT,
        disk_free_alarm=boolean(), fd_used=COUNT, fd_total=COUNT, enabled_plugins=list_of(string()),
    ),
    "Connection": obj(
        name=string(), vhost=string(), user=string(), protocol=string(), state=string(), channels=COUNT,
        peer_host=string(), peer_port=integer(0, 65535), ssl=boolean(), recv_oct=COUNT, send_oct=COUNT,
        client_properties={"type": "object"}, connected_at=COUNT,
    ),
    "Channel": obj(
        name=string(), number=COUNT, user=string(), vhost=string(), consumer_count=COUNT, messages_unacknowledged=COUNT,
        messages_unconfirmed=COUNT, prefetch_count=COUNT, confirm=boolean(), message_stats=STATS,
    ),
    "Consumer": obj(
        consumer_tag=string(), queue=obj(name=string(), vhost=string()), prefetch_count=COUNT, ack_required=boolean(),
        exclusive=boolean(), active=boolean(), arguments=ARGUMENTS,
    ),
    "Exchange": obj(**NAMED, type=string(), **FLAGS, internal=boolean(), arguments=ARGUMENTS, message_stats=STATS),
    "Queue": obj(
        **NAMED, type=string(), **FLAGS, exclusive=boolean(), arguments=ARGUMENTS, state=string(), node=string(),
        messages=COUNT, messages_ready=COUNT, messages_unacknowledged=COUNT, consumers=COUNT, message_bytes=COUNT,
        memory=COUNT, message_stats=STATS,
    ),
    "Binding": obj(
        source=string(), vhost=string(), destination=string(), destination_type=string(enum=["queue", "exchange"]),
        routing_key=string(), properties_key=string(), arguments=ARGUMENTS,
    ),
    "Vhost": obj(
        name=string(), description=string(), tags=list_of(string()), tracing=boolean(), default_queue_type=string(),
        messages=COUNT, message_stats=STATS,
    ),
    "User": obj(name=string(), tags=list_of(string()), password_hash=string(), hashing_algorithm=string()),
    "Permission": obj(user=string(), vhost=string(), configure=string(), write=string(), read=string()),
    "TopicPermission": obj(user=string(), vhost=string(), exchange=string(), write=string(), read=string()),
    "Policy": obj(
        **NAMED, pattern=string(), definition={"type": "object"}, priority=integer(),
        **{"apply-to": string()},
    ),
    "Parameter": obj(**NAMED, component=string(), value={}),
    "GlobalParameter": obj(name=string(), value={}),
    "Limits": obj(vhost=string(), user=string(), value={"type": "object"}),
    "Definitions": obj(
        users=list_of(ref("User")), vhosts=list_of(ref("Vhost")), permissions=list_of(ref("Permission")),
        topic_permissions=list_of(ref("TopicPermission")), parameters=list_of({"type": "object"}),
        global_parameters=list_of({"type": "object"}), policies=list_of({"type": "object"}),
        queues=list_of(ref("Queue")), exchanges=list_of(ref("Exchange")), bindings=list_of(ref("Binding")),
    ),
    "Got": obj(
        "payload payload_encoding payload_bytes redelivered exchange routing_key message_count properties",
        payload=string(), payload_encoding=string(enum=["string", "base64"]), payload_bytes=COUNT,
        redelivered=boolean(), exchange=string(), routing_key=string(), message_count=COUNT,
        properties={"type": ["object", "array"], "description": "An empty object is an empty list, as in RabbitMQ"},
    ),
    "Properties": {
        "type": "object",
        "description": "AMQP's basic properties",
        "properties": {
            **{
                name: string(maxLength=255)
                for name in (
                    "content_type", "content_encoding", "correlation_id", "reply_to", "expiration", "message_id", "type",
                    "user_id", "app_id",
                )
            },
            "delivery_mode": {"enum": [1, 2]},
            "priority": integer(0, 255),
            "timestamp": COUNT,
            "headers": {"type": "object"},
        },
    },
    "Published": obj("routed", routed=boolean()),
}  # fmt: skip
"""By name, for `#/components/schemas/`."""

"""Which members the management API's objects have: recorded from RabbitMQ 3.10.8."""

from __future__ import annotations

from typing import Any

# Recorded from RabbitMQ 3.10.8; without what only Erlang has (reductions, garbage_collection, backing_queue_status,
# io_*, mnesia_*, msg_store_*, queue_index_*, ra_*), and without numbers we do not keep (recv_cnt, send_cnt,
# disk_reads, disk_writes), mirrors (recoverable_slaves), and who declared an exchange (user_who_performed_action).
DETAILS = {"rate"}
SAMPLED = {"rate", "samples", "avg", "avg_rate"}
OVERVIEW = {
    "management_version", "rates_mode", "sample_retention_policies", "exchange_types", "product_version", "product_name",
    "rabbitmq_version", "cluster_name", "erlang_version", "erlang_full_version", "release_series_support_status",
    "disable_stats", "enable_queue_totals", "message_stats", "churn_rates", "queue_totals", "object_totals",
    "statistics_db_event_queue", "node", "listeners", "contexts",
}  # fmt: skip
CHURN = {
    "channel_closed", "channel_created", "connection_closed", "connection_created", "queue_created", "queue_declared",
    "queue_deleted",
}  # fmt: skip
NODE = {
    "partitions", "os_pid", "fd_total", "sockets_total", "mem_limit", "mem_alarm", "disk_free_limit", "disk_free_alarm",
    "proc_total", "rates_mode", "uptime", "run_queue", "processors", "exchange_types", "auth_mechanisms", "applications",
    "contexts", "log_files", "db_dir", "config_files", "net_ticktime", "enabled_plugins", "mem_calculation_strategy",
    "name", "type", "running", "mem_used", "mem_used_details", "fd_used", "fd_used_details", "sockets_used",
    "sockets_used_details", "proc_used", "proc_used_details", "disk_free", "disk_free_details", "gc_num",
    "gc_num_details", "context_switches", "context_switches_details", "connection_created", "connection_closed",
    "channel_created", "channel_closed", "queue_declared", "queue_created", "queue_deleted", "cluster_links",
    "metrics_gc_queue_length", "being_drained",
}  # fmt: skip
QUEUE = {
    "arguments", "auto_delete", "consumer_capacity", "consumer_utilisation", "consumers", "durable",
    "effective_policy_definition", "exclusive", "exclusive_consumer_tag", "head_message_timestamp", "memory",
    "message_bytes", "message_bytes_paged_out", "message_bytes_persistent", "message_bytes_ram", "message_bytes_ready",
    "message_bytes_unacknowledged", "messages", "messages_details", "messages_paged_out", "messages_persistent",
    "messages_ram", "messages_ready", "messages_ready_details", "messages_ready_ram", "messages_unacknowledged",
    "messages_unacknowledged_details", "messages_unacknowledged_ram", "name", "node", "operator_policy", "policy",
    "single_active_consumer_tag", "state", "type", "vhost",
}  # fmt: skip
DELIVERY = {"ack", "deliver", "deliver_get", "deliver_no_ack", "get", "get_empty", "get_no_ack", "redeliver"}
PUBLISHING = {"publish", "confirm", "drop_unroutable", "return_unroutable"}
EXCHANGE = {"arguments", "auto_delete", "durable", "internal", "name", "type", "vhost"}
BINDING = {
    "source", "vhost", "destination", "destination_type", "routing_key", "arguments", "properties_key",
}  # fmt: skip
CONNECTION = {
    "auth_mechanism", "channel_max", "channels", "client_properties", "connected_at", "frame_max", "host", "name",
    "node", "peer_cert_issuer", "peer_cert_subject", "peer_cert_validity", "peer_host", "peer_port", "port", "protocol",
    "recv_oct", "recv_oct_details", "send_oct", "send_oct_details", "send_pend", "ssl", "ssl_cipher", "ssl_hash",
    "ssl_key_exchange", "ssl_protocol", "state", "timeout", "type", "user", "user_provided_name",
    "user_who_performed_action", "vhost",
}  # fmt: skip
CHANNEL = {
    "acks_uncommitted", "confirm", "connection_details", "consumer_count", "global_prefetch_count",
    "messages_unacknowledged", "messages_uncommitted", "messages_unconfirmed", "name", "node", "number",
    "prefetch_count", "state", "transactional", "user", "user_who_performed_action", "vhost",
}  # fmt: skip
CONSUMER = {
    "consumer_timeout",
    "arguments", "ack_required", "active", "activity_status", "channel_details", "consumer_tag", "exclusive",
    "prefetch_count", "queue",
}  # fmt: skip
CHANNEL_DETAILS = {"connection_name", "name", "node", "number", "peer_host", "peer_port", "user"}
VHOST_KEYS = {
    "cluster_state", "default_queue_type", "description", "messages", "messages_details", "messages_ready",
    "messages_ready_details", "messages_unacknowledged", "messages_unacknowledged_details", "metadata", "name", "tags",
    "tracing",
}  # fmt: skip
MEMORY = {
    "connection_readers", "connection_writers", "connection_channels", "connection_other", "queue_procs",
    "queue_slave_procs", "quorum_queue_procs", "quorum_queue_dlx_procs", "stream_queue_procs",
    "stream_queue_replica_reader_procs", "stream_queue_coordinator_procs", "plugins", "other_proc", "metrics",
    "mgmt_db", "mnesia", "quorum_ets", "other_ets", "binary", "msg_index", "code", "atom", "other_system",
    "allocated_unused", "reserved_unallocated", "strategy", "total",
}  # fmt: skip


def has(item: dict[str, Any], keys: set[str]) -> None:
    missing = keys - item.keys()
    assert not missing, f"missing {sorted(missing)} in {sorted(item)}"

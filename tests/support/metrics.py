"""Prometheus text as clients read it."""

from __future__ import annotations

from collections.abc import Iterator

from prometheus_client.metrics_core import Metric
from prometheus_client.parser import text_string_to_metric_families

__all__ = ["OVERVIEW_QUERIES", "Scrape"]

OVERVIEW_QUERIES = (
    "rabbitmq_build_info", "rabbitmq_channels", "rabbitmq_channels_closed_total", "rabbitmq_channels_opened_total",
    "rabbitmq_connections", "rabbitmq_connections_closed_total", "rabbitmq_connections_opened_total",
    "rabbitmq_disk_space_available_bytes", "rabbitmq_disk_space_available_limit_bytes", "rabbitmq_erlang_uptime_seconds",
    "rabbitmq_global_consumers", "rabbitmq_global_messages_acknowledged_total", "rabbitmq_global_messages_confirmed_total",
    "rabbitmq_global_messages_delivered_consume_auto_ack_total",
    "rabbitmq_global_messages_delivered_consume_manual_ack_total",
    "rabbitmq_global_messages_delivered_get_auto_ack_total", "rabbitmq_global_messages_delivered_get_manual_ack_total",
    "rabbitmq_global_messages_delivered_total", "rabbitmq_global_messages_get_empty_total",
    "rabbitmq_global_messages_received_confirm_total", "rabbitmq_global_messages_received_total",
    "rabbitmq_global_messages_redelivered_total", "rabbitmq_global_messages_routed_total",
    "rabbitmq_global_messages_unroutable_dropped_total", "rabbitmq_global_messages_unroutable_returned_total",
    "rabbitmq_global_publishers", "rabbitmq_identity_info", "rabbitmq_message_size_bytes_bucket",
    "rabbitmq_message_size_bytes_count", "rabbitmq_message_size_bytes_sum", "rabbitmq_process_max_fds",
    "rabbitmq_process_open_fds", "rabbitmq_process_resident_memory_bytes", "rabbitmq_queue_messages_ready",
    "rabbitmq_queue_messages_unacked", "rabbitmq_queues", "rabbitmq_queues_created_total",
    "rabbitmq_queues_declared_total", "rabbitmq_queues_deleted_total", "rabbitmq_resident_memory_limit_bytes",
)  # fmt: skip
"""All that the dashboard "RabbitMQ-Overview" (10991, of 4.2) asks for."""


class Scrape:
    """Parsed, and checked: no family twice, no sample twice."""

    def __init__(self, text: str) -> None:
        self.text = text
        self.families: dict[str, Metric] = {}
        seen: set[tuple[str, tuple[tuple[str, str], ...]]] = set()
        self.values: dict[str, list[tuple[dict[str, str], float]]] = {}
        for family in text_string_to_metric_families(text):
            assert family.name not in self.families, f"{family.name} is there twice"
            self.families[family.name] = family
            for sample in family.samples:
                key = sample.name, tuple(sorted(sample.labels.items()))
                assert key not in seen, f"{key} is there twice"
                seen.add(key)
                self.values.setdefault(sample.name, []).append((sample.labels, sample.value))

    def sum(self, name: str, **labels: str) -> float:
        """Of the samples with these labels; fails if there is none."""
        found = [value for one, value in self.values[name] if labels.items() <= one.items()]
        assert found, f"no {name}{labels}"
        return sum(found)

    def counters(self) -> Iterator[tuple[str, dict[str, str], float]]:
        """Samples that must never fall."""
        for family in self.families.values():
            if family.type in ("counter", "histogram"):
                for sample in family.samples:
                    yield sample.name, sample.labels, sample.value

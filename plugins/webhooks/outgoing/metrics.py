"""The metrics of outgoing webhooks, with one sample for each webhook."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import TYPE_CHECKING

from leveret.core.counters import Metric

if TYPE_CHECKING:
    from leveret.plugins.webhooks.outgoing.webhook import Webhook
__all__ = ["metrics_of"]

CIRCUIT = {"half-open": 1, "open": 2}


def _pending(webhook: Webhook) -> int:
    queue = webhook.vhost.queues.get(webhook.subscription.queue or webhook.subscription.queue_name)
    return 0 if queue is None else queue.message_count + queue.unacked_count


def _failing_s(webhook: Webhook, now_ms: int) -> float:
    since = webhook.state.failing_since
    return 0.0 if since is None else max(0, now_ms - since) / 1000


def _oldest_s(webhook: Webhook, now_ms: int) -> float:
    first = webhook.first_failure_ms
    return 0.0 if first is None else max(0, now_ms - first) / 1000


NUMBERS: tuple[tuple[str, str, Callable[[Webhook, int], float]], ...] = (
    ("attempts_total", "Requests sent by a webhook", lambda webhook, now: webhook.delivered_total + webhook.failed_total),
    ("failed_attempts_total", "Requests of a webhook that failed", lambda webhook, now: webhook.failed_total),
    ("deliveries_total", "Messages that a webhook delivered", lambda webhook, now: webhook.delivered_total),
    ("dead_letters_total", "Messages that a webhook has dead-lettered", lambda webhook, now: webhook.dead_total),
    ("enabled", "1 if the webhook is enabled; 0 if its subscription, an operator or lasting failure has disabled it",
        lambda webhook, now: int(not webhook.state.disabled_by and webhook.subscription.is_enabled)),
    ("pending_messages", "Messages in a webhook's queue, including those that are being sent", lambda webhook, now: _pending(webhook)),
    ("in_flight", "Requests under way", lambda webhook, now: webhook.activity.get("in_flight", 0)),
    ("retrying_messages", "Messages that failed and wait for their next attempt",
        lambda webhook, now: webhook.activity.get("retrying", 0)),
    ("oldest_retry_seconds", "Time since the first failure of the message that has been retried for the longest time", _oldest_s),
    ("failing_seconds", "Time since the first failure after the last success", _failing_s),
    ("paused_seconds", "Time until the end of a pause that the endpoint asked for",
        lambda webhook, now: webhook.activity.get("paused_for_s", 0)),
    ("circuit_state", "State of the circuit breaker: 0 closed or switched off, 1 half-open, 2 open",
        lambda webhook, now: CIRCUIT.get(webhook.activity.get("circuit_breaker", ""), 0)),
)  # fmt: skip
"""(name after leveret_webhook_, help, function that returns the value at a time in milliseconds since the epoch)."""


def metrics_of(webhooks: Iterable[Webhook], now_ms: int) -> Iterator[Metric]:
    """All metrics at a time in milliseconds since the epoch."""
    rows = [({"vhost": webhook.vhost.name, "webhook": webhook.name}, webhook) for webhook in webhooks]
    for name, help, read in NUMBERS:
        kind = "counter" if name.endswith("_total") else "gauge"
        samples = tuple((labels, read(webhook, now_ms)) for labels, webhook in rows)
        yield Metric(f"leveret_webhook_{name}", help, kind, samples)

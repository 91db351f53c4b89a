"""What monitoring is told of subscriptions, at work and not."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

from leveret.plugins.webhooks.outgoing.metrics import metrics_of

NOW_MS = 1_000_000


def webhook(name: str, **changes: Any) -> Any:
    queue = SimpleNamespace(message_count=3, unacked_count=2)
    found: dict[str, Any] = {
        "name": name, "vhost": SimpleNamespace(name="/", queues={f"webhook.{name}": queue}),
        "subscription": SimpleNamespace(queue=None, queue_name=f"webhook.{name}", is_enabled=True),
        "state": SimpleNamespace(disabled_by="", failing_since=None), "activity": {}, "first_failure_ms": None,
        "delivered_total": 0, "failed_total": 0, "dead_total": 0,
    }  # fmt: skip
    return SimpleNamespace(**found | changes)


def numbers(*webhooks: Any) -> dict[str, list[float]]:
    found: dict[str, list[float]] = {}
    for metric in metrics_of(webhooks, NOW_MS):
        assert metric.kind == ("counter" if metric.name.endswith("_total") else "gauge")
        assert [labels for labels, _ in metric.samples] == [
            {"vhost": "/", "webhook": one.name} for one in webhooks
        ]
        found[metric.name.removeprefix("leveret_webhook_")] = [value for _, value in metric.samples]
    return found


def test_numbers_of_one_that_works_and_one_that_fails() -> None:
    failing = webhook(
        "failing", delivered_total=5, failed_total=7, dead_total=1, first_failure_ms=NOW_MS - 90_500,
        state=SimpleNamespace(disabled_by="", failing_since=NOW_MS - 60_000),
        activity={"in_flight": 1, "retrying": 4, "paused_for_s": 2.5, "circuit_breaker": "open"},
    )  # fmt: skip
    assert numbers(webhook("new"), failing) == {
        "attempts_total": [0, 12], "failed_attempts_total": [0, 7], "deliveries_total": [0, 5],
        "dead_letters_total": [0, 1], "enabled": [1, 1], "pending_messages": [5, 5], "in_flight": [0, 1],
        "retrying_messages": [0, 4], "oldest_retry_seconds": [0, 90.5], "failing_seconds": [0, 60.0],
        "paused_seconds": [0, 2.5], "circuit_state": [0, 2],
    }  # fmt: skip


def test_one_that_is_disabled_and_whose_queue_is_gone() -> None:
    state = SimpleNamespace(disabled_by="410", failing_since=NOW_MS + 1)  # the clock was set back
    found = numbers(webhook("off", state=state, vhost=SimpleNamespace(name="/", queues={})))
    assert (found["enabled"], found["pending_messages"], found["failing_seconds"]) == ([0], [0], [0])
    assert numbers()["attempts_total"] == []

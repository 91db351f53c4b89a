"""/metrics as an area: RabbitMQ's names, so that its dashboards work, and Leveret's own. See docs/metrics.md."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import ClassVar

from leveret.adapters.http.areas import Area, Route
from leveret.adapters.http.context import HttpContext
from leveret.adapters.http.metrics.handlers import Metrics
from leveret.adapters.http.openapi.builders import TEXT, Json, answer, list_of, operation, query, string

__all__ = ["MetricsArea"]

OPENMETRICS = "application/openmetrics-text"
AGGREGATED = {200: answer("Prometheus text.", string(), TEXT, OPENMETRICS)}
PER_OBJECT = {200: answer("Prometheus text.", string(), TEXT)}
OPTIONAL_LOGIN: list[Json] = [{}, {"basic": []}, {"bearer": []}]
"""A login is needed if the setting http.metrics_auth says so."""
FILTERS = (
    query(
        "family", list_of(string()), "Families of metrics, by RabbitMQ's names; without any, none is shown"
    ),
    query("vhost", list_of(string()), "Only objects of these virtual hosts"),
    query("queue", string(maxLength=1000), "Only queues whose name matches this pattern"),
)


class MetricsArea(Area):
    """Also served by the listener for metrics."""

    name: ClassVar[str] = "metrics"
    tags: ClassVar[Mapping[str, str]] = {"monitoring": "Prometheus text, and health"}
    serves_metrics: ClassVar[bool] = True

    def __init__(self, context: HttpContext) -> None:
        super().__init__(context)
        self._metrics = Metrics(context)

    def routes(self) -> Sequence[Route]:
        """Aggregated, per object, filtered, and the memory by its use."""
        metrics = self._metrics
        return [
            Route("GET", "/metrics", metrics.aggregated, operation(ok=AGGREGATED, security=OPTIONAL_LOGIN)),
            Route(
                "GET",
                "/metrics/per-object",
                metrics.per_object,
                operation(ok=PER_OBJECT, also="429", security=OPTIONAL_LOGIN),
            ),
            Route(
                "GET",
                "/metrics/detailed",
                metrics.detailed,
                operation(ok=PER_OBJECT, also="429", security=OPTIONAL_LOGIN, parameters=FILTERS),
            ),
            Route(
                "GET",
                "/metrics/memory-breakdown",
                metrics.memory_breakdown,
                operation(ok=PER_OBJECT, security=OPTIONAL_LOGIN),
            ),
        ]

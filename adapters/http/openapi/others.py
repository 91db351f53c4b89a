"""Answers of metrics, of the page at /, and of this description itself."""

from __future__ import annotations

from leveret.adapters.http.openapi.pieces import JSON, TEXT, Json, answer, list_of, operation, query, string

__all__ = ["OPENAPI"]

OPENMETRICS = "application/openmetrics-text"
METRICS = {200: answer("Prometheus text.", string(), TEXT, OPENMETRICS)}
PROMETHEUS = {200: answer("Prometheus text.", string(), TEXT)}
MAYBE: list[Json] = [{}, {"basic": []}, {"bearer": []}]
"""With http.metrics_auth a login; else none."""

OPENAPI: dict[str, Json] = {
    "get /": operation(ok={200: answer("A page for people.", string(), "text/html")}, security=[]),
    "get /metrics": operation(ok=METRICS, security=MAYBE),
    "get /metrics/per-object": operation(ok=PROMETHEUS, also="429", security=MAYBE),
    "get /metrics/memory-breakdown": operation(ok=PROMETHEUS, security=MAYBE),
    "get /metrics/detailed": operation(
        ok=PROMETHEUS,
        also="429",
        security=MAYBE,
        parameters=(
            query("family", list_of(string()), "Which, by RabbitMQ's names; none: nothing"),
            query("vhost", list_of(string()), "Only of these virtual hosts"),
            query("queue", string(maxLength=1000), "Only queues that match this pattern"),
        ),
    ),
    "get /openapi.json": operation(ok={200: answer("OpenAPI 3.1.", {"type": "object"}, JSON)}, security=[]),
    "get /api/openapi.json": operation(
        ok={200: answer("OpenAPI 3.1.", {"type": "object"}, JSON)}, security=[]
    ),
}
"""Partial operations by "method /path"."""

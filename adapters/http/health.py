"""/health/live and /health/ready, for supervisors and load balancers. They need no login and show nothing secret."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

from aiohttp import web

from leveret.adapters.http.areas import Area, Route
from leveret.adapters.http.json_encoding import json_response
from leveret.adapters.http.openapi.builders import JSON, PROBLEM, answer, list_of, obj, operation, ref

__all__ = ["REASONS", "HealthArea"]

NO_STORE = {"Cache-Control": "no-store"}
REASONS = {
    "starting": "the listeners are not open yet",
    "stopping": "the server is shutting down",
    "alarm_memory": "memory is short: publishers are blocked",
    "alarm_disk": "disk space is short: publishers are blocked",
    "store_full": "the store finds no space",
    "store_behind": "more waits for the disk than may: publishers wait",
}
"""Why a server is not ready: words for programs, and sentences for people."""


OK = answer("The server is live, or ready.", obj("status", status={"const": "ok"}), JSON)
NOT_READY = answer(
    "The server is not ready; `reasons` says why.",
    {"allOf": [ref("Problem"), obj("reasons", reasons=list_of({"enum": list(REASONS)}))]},
    PROBLEM,
)


class HealthArea(Area):
    """Liveness and readiness."""

    name: ClassVar[str] = "health"
    tags: ClassVar[Mapping[str, str]] = {"monitoring": "Prometheus text, and health"}

    def routes(self) -> Sequence[Route]:
        """Without a login."""
        return [
            Route("GET", "/health/live", self.live, operation(ok={200: OK}, security=[])),
            Route("GET", "/health/ready", self.ready, operation(ok={200: OK, 503: NOT_READY}, security=[])),
        ]

    async def live(self, request: web.Request) -> web.StreamResponse:
        """Check that the process serves. Supervisors should restart a process that does not answer."""
        return json_response({"status": "ok"}, headers=NO_STORE)

    async def ready(self, request: web.Request) -> web.StreamResponse:
        """Check that listeners are open, no alarm is set and the store accepts data; otherwise 503 with the reasons."""
        reasons = self.reasons()
        if not reasons:
            return json_response({"status": "ok"}, headers=NO_STORE)
        body: dict[str, Any] = {
            "type": "about:blank",
            "title": "Service Unavailable",
            "status": 503,
            "detail": "; ".join(REASONS[reason] for reason in reasons),
            "error": "not_ready",
            "reasons": reasons,
        }
        headers = {**NO_STORE, "Retry-After": "5"}
        return json_response(body, 503, headers, content_type="application/problem+json")

    def reasons(self) -> list[str]:
        """Keys of REASONS; an empty list if the server is ready."""
        broker, alarms = self.context.broker, self.context.broker.alarms.alarms
        found = {
            "starting": not broker.listeners,
            "stopping": self.context.is_stopping,
            "alarm_memory": "memory" in alarms,
            "alarm_disk": "disk" in alarms,
            "store_full": broker.store.is_full,
            "store_behind": broker.backpressure.is_store_behind,
        }
        return [name for name, holds in found.items() if holds]

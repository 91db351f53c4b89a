"""/health/live and /health/ready, for supervisors and load balancers. They need no login and show nothing secret."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from aiohttp import web

from leveret.adapters.http.json_encoding import json_response

if TYPE_CHECKING:
    from leveret.adapters.http.app import HttpContext
__all__ = ["OPENAPI", "REASONS", "Health", "routes"]

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


class Health:
    """The handlers."""

    def __init__(self, context: HttpContext) -> None:
        self._context = context

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
        """Keys of REASONS; none: it is ready."""
        broker, flow = self._context.broker, self._context.broker.alarms
        found = {
            "starting": not broker.listeners,
            "stopping": self._context.stopping.is_set(),
            "alarm_memory": "memory" in flow.alarms,
            "alarm_disk": "disk" in flow.alarms,
            "store_full": broker.store.is_full,
            "store_behind": broker.backpressure.is_store_behind,
        }
        return [name for name, holds in found.items() if holds]


def routes(context: HttpContext) -> list[web.RouteDef]:
    health = Health(context)
    return [web.get("/health/live", health.live), web.get("/health/ready", health.ready)]


OK = {
    "description": "It is.",
    "content": {
        "application/json": {
            "schema": {
                "type": "object",
                "required": ["status"],
                "properties": {"status": {"const": "ok"}},
            }
        }
    },
}
NOT_READY = {
    "description": "It is not: the reasons.",
    "content": {
        "application/problem+json": {
            "schema": {
                "allOf": [
                    {"$ref": "#/components/schemas/Problem"},
                    {
                        "type": "object",
                        "required": ["reasons"],
                        "properties": {"reasons": {"type": "array", "items": {"enum": list(REASONS)}}},
                    },
                ]
            }
        }
    },
}
OPENAPI: dict[str, Any] = {
    "get /health/live": {"security": [], "responses": {"200": OK}},
    "get /health/ready": {"security": [], "responses": {"200": OK, "503": NOT_READY}},
}

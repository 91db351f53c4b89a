"""Resources of RabbitMQ's plugins that Leveret does not have: their lists are empty, and their paths exist."""

from __future__ import annotations

from typing import Any

from leveret.adapters.http.management.routes import Call, Route

__all__ = ["ROUTES"]


async def nothing(call: Call) -> list[Any]:
    """Not available here: always an empty list."""
    return []


async def nothing_there(call: Call) -> list[Any]:
    """Not available here: always an empty list."""
    await call.vhost()
    return []


ROUTES = (
    Route("GET", "/shovels", nothing, needs="monitoring"),
    Route("GET", "/shovels/{vhost}", nothing_there, needs="monitoring"),
    Route("GET", "/federation-links", nothing, needs="monitoring"),
    Route("GET", "/federation-links/state/down", nothing, needs="monitoring"),
    Route("GET", "/federation-links/{vhost}", nothing_there, needs="monitoring"),
    Route("GET", "/stream/connections", nothing),
    Route("GET", "/stream/connections/{vhost}", nothing_there),
    Route("GET", "/stream/publishers", nothing),
    Route("GET", "/stream/publishers/{vhost}", nothing_there),
    Route("GET", "/stream/consumers", nothing),
    Route("GET", "/stream/consumers/{vhost}", nothing_there),
    Route("GET", "/traces", nothing, needs="administrator"),
    Route("GET", "/traces/{vhost}", nothing_there, needs="administrator"),
    Route("GET", "/trace-files", nothing, needs="administrator"),
)

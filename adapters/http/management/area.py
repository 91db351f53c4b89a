"""The management API: RabbitMQ's paths, field names and answers, below /api. One module per resource, each with its table."""

from __future__ import annotations

import importlib
from collections.abc import Iterator
from typing import TYPE_CHECKING

from leveret.adapters.http.management.routes import Route, route_defs

if TYPE_CHECKING:
    from aiohttp import web

    from leveret.adapters.http.app import HttpContext
__all__ = ["RESOURCES", "routes", "table"]

RESOURCES = (
    "overview", "nodes", "connections", "channels", "consumers", "exchanges", "queues", "bindings", "vhosts", "users",
    "permissions", "parameters", "policies", "limits", "checks", "features", "whoami", "definitions",
    "vhosts_writes", "users_writes", "topology_writes", "messages", "policies_writes", "parameters_writes",
    "connections_writes", "maintenance", "absent",
)  # fmt: skip
"""Modules beside this one, each with `ROUTES`."""


def table() -> Iterator[Route]:
    """Every route, for whoever describes the API."""
    for name in RESOURCES:
        yield from importlib.import_module(f"leveret.adapters.http.management.{name}").ROUTES


def routes(context: HttpContext) -> list[web.RouteDef]:
    return route_defs(context, table())

"""The management API: RabbitMQ's paths, field names and answers, below /api. One module per resource, each with its table."""

from __future__ import annotations

import importlib
from collections.abc import Iterator, Mapping, Sequence
from typing import ClassVar

from leveret.adapters.http.areas import Area
from leveret.adapters.http.areas import Route as HttpRoute
from leveret.adapters.http.management.routes import Route, http_route
from leveret.adapters.http.openapi.management import OPENAPI

__all__ = ["RESOURCES", "ManagementArea", "table"]

RESOURCES = (
    "overview", "nodes", "connections", "channels", "consumers", "exchanges", "queues", "bindings", "vhosts", "users",
    "permissions", "parameters", "policies", "limits", "checks", "features", "whoami", "definitions",
    "vhosts_writes", "users_writes", "topology_writes", "messages", "policies_writes", "parameters_writes",
    "connections_writes", "maintenance", "absent",
)  # fmt: skip
"""Modules beside this one, each with `ROUTES`."""


def table() -> Iterator[Route]:
    """Every route."""
    for name in RESOURCES:
        yield from importlib.import_module(f"leveret.adapters.http.management.{name}").ROUTES


class ManagementArea(Area):
    """RabbitMQ's management API."""

    name: ClassVar[str] = "management"
    tags: ClassVar[Mapping[str, str]] = {"management": "RabbitMQ's management API"}

    def routes(self) -> Sequence[HttpRoute]:
        """A route for each row of each resource."""
        return [
            http_route(self.context, row, OPENAPI.get(f"{row.method.lower()} /api{row.path}", {}))
            for row in table()
        ]

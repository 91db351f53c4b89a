"""The contract of an area: a group of HTTP paths, such as the management API or the routes of a plugin.

Areas are offered by the entry-point group `leveret.http`. The adapter builds each of them once, adds its routes to the
listeners that it serves, describes them at /openapi.json, collects its metrics, runs its task and drains it at the end.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, ClassVar

from aiohttp import web

from leveret.adapters.http.openapi.builders import Json
from leveret.core.counters import Metric
from leveret.core.registry import PluginError

if TYPE_CHECKING:
    from leveret.adapters.http.context import HttpContext
__all__ = ["Area", "Handler", "Route", "build_areas", "openapi_path"]

log = logging.getLogger(__name__)

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


@dataclass(frozen=True, slots=True)
class Route:
    """One operation: where it is, what handles it, and its row in the OpenAPI description.

    path         as aiohttp takes it: `{name}` is one part of the path, which may contain any character but a slash
    handler      a coroutine function; the first paragraph of its docstring is the summary, unless `operation` has one
    operation    the rest of the OpenAPI operation: parameters, requestBody, responses (see openapi/builders.py)
    tag          a key of the area's `tags`; by default the first
    allow_head   GET also answers HEAD
    """

    method: str
    path: str
    handler: Handler
    operation: Json = field(default_factory=dict)
    tag: str = ""
    allow_head: bool = True


class Area:
    """Subclass it, and override what the area needs; `name`, `tags` and `routes` at least.

    name            unique among all areas; the name of the entry point
    tags            the area's headings in the OpenAPI description, with a sentence for each
    serves_metrics  the area is also served by the listener for metrics
    """

    name: ClassVar[str] = ""
    tags: ClassVar[Mapping[str, str]] = {}
    serves_metrics: ClassVar[bool] = False

    def __init__(self, context: HttpContext) -> None:
        self.context = context

    def routes(self) -> Sequence[Route]:
        """All routes. Called once, before the first request."""
        raise NotImplementedError

    def schemas(self) -> Mapping[str, Json]:
        """Schemas that the routes refer to, by name (see `openapi.builders.ref`)."""
        return {}

    def metrics(self) -> Iterator[Metric]:
        """Numbers for /metrics (see core/counters.py)."""
        return iter(())

    async def run(self) -> None:
        """A trio task that lives as long as the adapter and is cancelled at its end. If it raises, that is logged."""

    def drain(self) -> None:
        """The server shuts down: end what makes requests wait. Synchronous; `context.is_stopping` is set already."""


def build_areas(context: HttpContext) -> list[Area]:
    """All areas that are offered, by name; they are also set as `context.areas`.

    Raise PluginError for an area that cannot be loaded or built.
    """
    registry = context.broker.registry
    areas: list[Area] = []
    for name in registry.names("http"):
        area_type = registry.load("http", name)
        try:
            areas.append(area_type(context))
        except Exception as error:
            raise PluginError(
                f"HTTP area '{name}' cannot be built: {type(error).__name__}: {error}"
            ) from error
    context.areas = areas
    return areas


def openapi_path(path: str) -> str:
    """The path as OpenAPI writes it: parameters without their patterns, and without those that may be empty."""
    return re.sub(r"\{(\w+)[^{}]*\}", r"{\1}", re.sub(r"\{\w+:\(/\.\*\)\?\}", "", path))

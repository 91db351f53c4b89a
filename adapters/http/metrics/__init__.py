"""/metrics: RabbitMQ's names, so that its dashboards work, and Leveret's own. See docs/metrics.md."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from aiohttp import web

    from leveret.adapters.http.app import HttpContext
__all__ = ["routes"]


def routes(context: HttpContext) -> list[web.RouteDef]:
    from leveret.adapters.http.metrics.handlers import Metrics

    return Metrics(context).routes()

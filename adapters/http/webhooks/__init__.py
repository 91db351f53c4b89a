"""Webhooks: those that go out, managed at /v1/webhooks; those that come in, at /hooks."""

from __future__ import annotations

from typing import TYPE_CHECKING

from leveret.adapters.http.webhooks import outgoing

if TYPE_CHECKING:
    from aiohttp import web

    from leveret.adapters.http.app import HttpContext

__all__ = ["routes"]


def routes(context: HttpContext) -> list[web.RouteDef]:
    return outgoing.routes(context)

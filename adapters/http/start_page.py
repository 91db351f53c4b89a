"""GET /: for people who open the listener's address in a browser, what is where. Static, without a login."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from html import escape
from typing import ClassVar

from aiohttp import web

from leveret.adapters.http.areas import Area, Route
from leveret.adapters.http.openapi.builders import answer, operation, string

__all__ = ["StartPageArea"]

PLACES = (
    ("/api/overview", "the management API, as RabbitMQ's; rabbitmqadmin works with it"),
    ("/openapi.json", "all of this listener, described in OpenAPI 3.1"),
    ("/metrics", "numbers for Prometheus"),
    ("/health/ready", "is it ready?"),
)
STYLE = "body{font:1rem/1.5 system-ui,sans-serif;max-width:44rem;margin:3rem auto;padding:0 1rem;color-scheme:light dark}"
HEADERS = {
    "Cache-Control": "max-age=3600",
    "Content-Security-Policy": "default-src 'none'; style-src 'unsafe-inline'",
    "X-Content-Type-Options": "nosniff",
}
PAGE = (
    '<!doctype html><html lang="en"><meta charset="utf-8"><title>Leveret</title>'
    '<meta name="viewport" content="width=device-width">'
    f"<style>{STYLE}</style><h1>Leveret</h1>"
    "<p>A message broker: AMQP, MQTT, STOMP and HTTP. This is its HTTP listener.</p><ul>"
    + "".join([f'<li><a href="{path}">{path}</a>: {escape(what)}</li>' for path, what in PLACES])
    + "</ul><p>Messages are published and received below <code>/v1</code>, webhooks come in at <code>/hooks</code>.</p></html>"
)


class StartPageArea(Area):
    """One page."""

    name: ClassVar[str] = "start-page"
    tags: ClassVar[Mapping[str, str]] = {"about": "What this server shows of itself"}

    def routes(self) -> Sequence[Route]:
        """At the root."""
        described = operation(ok={200: answer("A page for people.", string(), "text/html")}, security=[])
        return [Route("GET", "/", self.index, described)]

    async def index(self, request: web.Request) -> web.StreamResponse:
        """A page for people that lists the paths."""
        return web.Response(text=PAGE, content_type="text/html", headers=HEADERS)

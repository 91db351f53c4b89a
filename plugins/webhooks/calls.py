"""Requests that manage webhooks, in either direction: who may make them, and the running plugin that answers them."""

from __future__ import annotations

import functools
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING

from aiohttp import web

from leveret.adapters.http.areas import Route
from leveret.adapters.http.errors import Refusal
from leveret.adapters.http.openapi.builders import Json
from leveret.plugins.webhooks.plugin import WebhooksPlugin

if TYPE_CHECKING:
    from leveret.adapters.http.context import HttpContext
    from leveret.core.broker import Broker
    from leveret.core.session import Session
    from leveret.core.vhost import Vhost
    from leveret.plugins.webhooks.outgoing.webhook import Webhook
__all__ = ["MAY_CHANGE", "MAY_LOOK", "Call", "Handler", "check_tags", "plugin_of", "route", "running_plugin"]

MAY_CHANGE = frozenset({"policymaker", "administrator"})
MAY_LOOK = MAY_CHANGE | {"monitoring"}


class Call:
    """A request whose sender may make it, for the virtual host in its path. name: the webhook or source in the path, or ""."""

    def __init__(
        self, context: HttpContext, request: web.Request, session: Session, plugin: WebhooksPlugin
    ) -> None:
        self.context = context
        self.request = request
        self.session = session
        self.plugin = plugin
        self.name = request.match_info.get("name", "")

    @property
    def vhost(self) -> Vhost:
        return self.session.vhost

    @property
    def webhook(self) -> Webhook:
        """The one in the path. Raise NotFound."""
        return self.plugin.find(self.vhost.name, self.name)


Handler = Callable[[Call], Awaitable[web.StreamResponse]]


def plugin_of(broker: Broker) -> WebhooksPlugin | None:
    """The plugin; None while it is disabled."""
    plugin = broker.services.get(WebhooksPlugin.name)
    return plugin if isinstance(plugin, WebhooksPlugin) else None


def running_plugin(context: HttpContext) -> WebhooksPlugin:
    """Raise Refusal (503) while the plugin is disabled."""
    plugin = plugin_of(context.broker)
    if plugin is None:
        raise Refusal(
            503,
            "plugin_disabled",
            "the plugin 'webhooks' is not running: enable it (leveret plugins enable webhooks)",
        )
    return plugin


async def check_tags(context: HttpContext, request: web.Request, needed: frozenset[str]) -> None:
    """Raise Refusal: 401 without a login, 403 without one of the tags."""
    principal = await context.authenticate(request)
    if not principal.tags & needed:
        raise Refusal(403, "not_authorised", f"this needs one of the tags {', '.join(sorted(needed))}")


def route(
    context: HttpContext,
    method: str,
    path: str,
    handler: Handler,
    operation: Json,
    *,
    tag: str,
    needs: frozenset[str] = MAY_LOOK,
) -> Route:
    """A route below a virtual host, for users with one of the tags `needs` who may enter the virtual host."""

    @functools.wraps(handler)
    async def handle(request: web.Request) -> web.StreamResponse:
        await check_tags(context, request, needs)
        session = await context.session(request, request.match_info["vhost"])
        return await handler(Call(context, request, session, running_plugin(context)))

    return Route(method, path, handle, operation, tag)

"""The routes of webhooks: out at /v1/webhooks; in at /hooks, with their sources at /v1/webhook-sources.

The routes exist whether the plugin runs or not. While it is disabled they answer 503 `plugin_disabled`, so that senders of webhooks
try again later, and `ParameterOwner`s keep the secrets of webhooks and sources masked in listings of parameters.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from aiohttp import web

from leveret.plugins.webhooks import incoming, outgoing
from leveret.plugins.webhooks.calls import plugin_of
from leveret.plugins.webhooks.incoming import masking as incoming_masking
from leveret.plugins.webhooks.incoming import routes as incoming_routes
from leveret.plugins.webhooks.incoming.receiver import Receiver
from leveret.plugins.webhooks.masking import ParameterOwner
from leveret.plugins.webhooks.outgoing import masking as outgoing_masking
from leveret.plugins.webhooks.outgoing import routes as outgoing_routes

if TYPE_CHECKING:
    from leveret.adapters.http.app import HttpContext
    from leveret.core.broker import Broker
    from leveret.plugins.webhooks.incoming.source import Sources
__all__ = ["routes"]


def routes(context: HttpContext) -> list[web.RouteDef]:
    _own_parameters(context.broker)
    receiver = Receiver(context)
    context.measured.append(receiver)
    hook = "/hooks/{vhost}/{name}{rest:(/.*)?}"
    return [
        *outgoing_routes.routes(context),
        web.post(hook, receiver.receive),
        web.get(hook, receiver.ask, allow_head=False),
        web.options(hook, receiver.handshake),
        *incoming_routes.routes(context, receiver),
    ]


def _own_parameters(broker: Broker) -> None:
    def sources() -> Sources | None:
        plugin = plugin_of(broker)
        return None if plugin is None else plugin.sources

    out, in_ = outgoing_masking, incoming_masking
    broker.components |= {
        outgoing.COMPONENT: ParameterOwner(
            outgoing.COMPONENT, lambda: plugin_of(broker), out.normalized, out.masked
        ),
        incoming.COMPONENT: ParameterOwner(incoming.COMPONENT, sources, in_.normalized, in_.masked),
    }

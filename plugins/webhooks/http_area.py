"""The HTTP routes of webhooks as an area: out at /v1/webhooks; in at /hooks, with their sources at /v1/webhook-sources.

The routes exist whether the plugin runs or not. While it is disabled they answer 503 `plugin_disabled`, so that senders of webhooks
try again later, and `ParameterOwner`s keep the secrets of webhooks and sources masked in listings of parameters.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, ClassVar

from leveret.adapters.http.areas import Area, Route
from leveret.adapters.http.context import HttpContext
from leveret.adapters.http.openapi.builders import Json, boolean, integer, list_of, obj, string
from leveret.core.counters import Metric
from leveret.plugins.webhooks import incoming, outgoing
from leveret.plugins.webhooks.calls import plugin_of
from leveret.plugins.webhooks.incoming import masking as incoming_masking
from leveret.plugins.webhooks.incoming import routes as incoming_routes
from leveret.plugins.webhooks.incoming.receiver import Receiver
from leveret.plugins.webhooks.masking import ParameterOwner
from leveret.plugins.webhooks.outgoing import masking as outgoing_masking
from leveret.plugins.webhooks.outgoing import routes as outgoing_routes

if TYPE_CHECKING:
    from leveret.core.broker import Broker
    from leveret.plugins.webhooks.incoming.source import Sources
__all__ = ["WebhooksArea"]

COUNT = integer(0)


class WebhooksArea(Area):
    """Managing webhooks in both directions, and receiving those that come in."""

    name: ClassVar[str] = "webhooks"
    tags: ClassVar[Mapping[str, str]] = {
        outgoing_routes.TAG: "Subscriptions that send messages to URLs",
        incoming_routes.TAG: "Where webhooks may come in, and how they are verified",
    }

    def __init__(self, context: HttpContext) -> None:
        super().__init__(context)
        self._receiver = Receiver(context)
        _own_parameters(context.broker)

    def routes(self) -> Sequence[Route]:
        """Of both directions."""
        return [
            *outgoing_routes.routes(self.context),
            *incoming_routes.routes(self.context, self._receiver),
        ]

    def schemas(self) -> Mapping[str, Json]:
        """Webhooks, subscriptions and sources."""
        return {
            "Webhook": obj(
                "vhost name subscription status",
                vhost=string(), name=string(), subscription={"type": "object"},
                status=string(enum=["running", "disabled", "waiting"]), queue=string(), dead_letter_queue=string(),
                messages_ready=COUNT, messages_dead=COUNT, delivered_total=COUNT, failed_attempts_total=COUNT, dead_total=COUNT,
                secrets={"type": "array", "description": "Once, when it was made without any"},
            ),
            "WebhookSubscription": obj(
                "url",
                url=string(format="uri"), exchange=string(), queue=string(), routing_keys=list_of(string()), enabled=boolean(),
                secrets={"type": "array"}, headers={"type": "object"}, auth={"type": "object"}, method=string(enum=["POST", "PUT", "PATCH"]),
                format=string(), timeout_s={"type": "number"}, concurrency=integer(1, 256), retry={"type": "object"},
            ),
            "WebhookSource": obj(
                "name vhost path statistics",
                name=string(), vhost=string(), path=string(), exchange=string(), queue=string(), verification={"type": "object"},
                statistics=obj(received=COUNT, duplicates=COUNT, refused=COUNT, failed=COUNT),
            ),
        }  # fmt: skip

    def metrics(self) -> Iterator[Metric]:
        """Of webhooks that come in. Those that go out are the plugin's."""
        return self._receiver.metrics()


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

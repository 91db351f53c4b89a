"""The plugin of webhooks in both directions.

Webhooks out are runtime parameters of the component "webhook"; for each of them the plugin runs a `Webhook` (outgoing/webhook.py).
Webhooks in come from sources, parameters of the component "webhook-source"; they need no task of their own: the HTTP listener's
routes (http_area.py) receive them and look their sources up here.
"""

from __future__ import annotations

import logging
import ssl
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, ClassVar

import trio

from leveret.core.counters import Metric
from leveret.core.errors import InvalidArgument, NotFound
from leveret.plugins.webhooks.incoming import COMPONENT as SOURCE_COMPONENT
from leveret.plugins.webhooks.incoming.source import Sources
from leveret.plugins.webhooks.outgoing import COMPONENT
from leveret.plugins.webhooks.outgoing.addresses import AddressPolicy
from leveret.plugins.webhooks.outgoing.connector import Connector
from leveret.plugins.webhooks.outgoing.masking import masked, normalized
from leveret.plugins.webhooks.outgoing.metrics import metrics_of
from leveret.plugins.webhooks.outgoing.retry_store import RetryStore, identity, known_retry_logs
from leveret.plugins.webhooks.outgoing.subscription import Subscription
from leveret.plugins.webhooks.outgoing.webhook import Webhook
from leveret.plugins.webhooks.settings import WebhooksSettings

if TYPE_CHECKING:
    from leveret.core.broker import Broker
    from leveret.core.vhost import ParameterComponent, Vhost
__all__ = ["WebhooksPlugin"]

log = logging.getLogger(__name__)

FLUSH_S = 1.0


class WebhooksPlugin:
    """Webhooks in both directions.

    sources: the sources of incoming webhooks. connector: opens connections to endpoints of outgoing webhooks.
    """

    name: ClassVar[str] = "webhooks"
    description: ClassVar[str] = (
        "Webhooks: messages as signed HTTP requests, retried and recorded; requests as messages, verified"
    )
    requires: ClassVar[Sequence[str]] = ()
    exchanges: ClassVar[Sequence[str]] = ()
    settings_type: ClassVar[type | None] = WebhooksSettings

    def __init__(self, settings: WebhooksSettings) -> None:
        self.policy = AddressPolicy(settings.allowed_networks)
        self._policies = {
            vhost: AddressPolicy([*settings.allowed_networks, *networks])
            for vhost, networks in settings.vhost_allowed_networks.items()
        }
        self._https_only = settings.https_only
        self._max_bytes = settings.max_bytes
        try:
            self.connector = Connector(self.policy, ca_file=settings.ca_file)
        except (OSError, ssl.SSLError) as error:
            raise ValueError(f"ca_file: {error}") from None
        self._broker: Broker | None = None
        self._nursery: trio.Nursery | None = None
        self._identity = b""
        self.sources = Sources()
        self._webhooks: dict[tuple[str, str], Webhook] = {}

    async def run(
        self, broker: Broker, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED
    ) -> None:
        self._broker = broker
        self._identity = identity(broker.store)
        unsubscribe = broker.events.subscribe(self._on_event)
        unregister = self._register_components(broker)
        broker.services[self.name] = self
        try:
            async with trio.open_nursery() as self._nursery:
                for vhost in list(broker.vhosts.values()):
                    for component, name in list(vhost.parameters):
                        if component == COMPONENT:
                            self._set(vhost, name)
                self._sweep(broker)
                broker.dispatcher.run_soon()
                task_status.started()
                while True:
                    await trio.sleep(FLUSH_S)
                    self._flush()
        finally:
            unsubscribe()
            del broker.services[self.name]
            unregister()
            self._flush()
            self._webhooks.clear()
            self._nursery = None

    def _register_components(self, broker: Broker) -> Callable[[], None]:
        """Own the parameters, unless the HTTP area owns them and asks this plugin (`ParameterOwner`). Returns a function that ends this."""
        components = broker.components
        owners: dict[str, ParameterComponent] = {COMPONENT: self, SOURCE_COMPONENT: self.sources}
        mine = {component: owner for component, owner in owners.items() if component not in components}
        components.update(mine)

        def unregister() -> None:
            for component, owner in mine.items():
                if components.get(component) is owner:
                    del components[component]

        return unregister

    def _flush(self) -> None:
        for webhook in self._webhooks.values():
            webhook.flush()

    def _sweep(self, broker: Broker) -> None:
        """Delete the records of queues that were deleted while the plugin was not running."""
        logs = {
            log_id
            for vhost in broker.vhosts.values()
            for queue in vhost.queues.values()
            for log_id in queue.log_ids
        }
        for log_id in known_retry_logs(broker.store) - logs:
            RetryStore.forget(broker.store, log_id)

    # -- a component of runtime parameters (core/vhost.py)

    def check(self, vhost: Vhost, name: str, value: Any) -> Any:
        """The value to store. Raise InvalidArgument."""
        kept = normalized(value, vhost.parameters.get((COMPONENT, name)))
        self._subscription(vhost, name, kept)
        return kept

    def masked(self, value: Any) -> Any:
        """The value for answers, events and logs."""
        return masked(value)

    def _subscription(self, vhost: Vhost, name: str, value: Any) -> Subscription:
        policy = self._policies.get(vhost.name, self.policy)
        return Subscription.of(name, value, policy=policy, https_only=self._https_only)

    def _connector_of(self, vhost: Vhost) -> Connector:
        policy = self._policies.get(vhost.name)
        return self.connector if policy is None else self.connector.under(policy)

    # -- events

    def _on_event(self, event: str, fields: Mapping[str, Any]) -> None:
        if event in ("queue.created", "exchange.created", "queue.deleted"):
            for webhook in list(self._webhooks.values()):
                if webhook.vhost.name == fields["vhost"]:
                    webhook.resume_if_waiting()
            return
        if fields.get("component") != COMPONENT:
            return
        vhost = self._vhosts().get(fields["vhost"])
        if vhost is None:
            return
        if event == "parameter.set":
            self._set(vhost, fields["name"])
        elif event == "parameter.cleared":
            removed = self._webhooks.pop((vhost.name, fields["name"]), None)
            if removed is not None:
                removed.remove()
                log.info("vhost=%s webhook=%s removed", vhost.name, removed.name)

    def _set(self, vhost: Vhost, name: str) -> None:
        """Create or update a webhook, its queues and bindings. An invalid value, which may have been set while the plugin was not
        running, is logged."""
        value = vhost.parameters[COMPONENT, name]
        try:
            if isinstance(value, Mapping) and value.get("secrets") is None:
                vhost.set_parameter(
                    COMPONENT, name, value
                )  # this generates a secret, and its event calls this method again
                return
            subscription = self._subscription(vhost, name, value)
        except InvalidArgument as error:
            log.error("vhost=%s webhook=%s is ignored: %s", vhost.name, name, error)
            return
        webhook = self._webhooks.get((vhost.name, name))
        if webhook is not None:
            if (webhook.subscription.queue_name, webhook.subscription.queue) == (
                subscription.queue_name, subscription.queue,
            ):  # fmt: skip
                webhook.update(subscription)
                return
            # The queue changes from the webhook's own one to an existing one, or back. Messages are not moved.
            del self._webhooks[vhost.name, name]
            webhook.remove()
        connector = self._connector_of(vhost)
        webhook = Webhook(vhost, subscription, connector, identity=self._identity, max_bytes=self._max_bytes)
        self._webhooks[vhost.name, name] = webhook
        webhook.ensure_queues()
        assert self._nursery is not None
        self._nursery.start_soon(webhook.run, name=f"webhook {name}")

    def metrics(self) -> Iterator[Metric]:
        """The metrics of all webhooks."""
        return metrics_of(self._webhooks.values(), int(time.time() * 1000))

    # -- for routes

    def _vhosts(self) -> Mapping[str, Vhost]:
        return {} if self._broker is None else self._broker.vhosts

    def find(self, vhost: str, name: str) -> Webhook:
        """The webhook of that name. Raise NotFound."""
        webhook = self._webhooks.get((vhost, name))
        if webhook is None:
            raise NotFound(f"no webhook '{name}' in vhost '{vhost}'")
        return webhook

    def describe_all(self, vhost: str) -> list[dict[str, Any]]:
        """All webhooks of a virtual host, by name."""
        return [self._webhooks[key].describe() for key in sorted(self._webhooks) if key[0] == vhost]

"""The plugin: a desk for every subscription that the virtual hosts' parameters say, and the answers of the API."""

from __future__ import annotations

import logging
import ssl
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING, Any, ClassVar

import trio

from leveret.core.counters import Metric
from leveret.core.errors import InvalidArgument, NotFound
from leveret.core.message import Envelope
from leveret.core.properties import Properties
from leveret.plugins.webhooks.addresses import AddressPolicy
from leveret.plugins.webhooks.attempts import AttemptQuery
from leveret.plugins.webhooks.deadletters import Selection, dead_letters, replay
from leveret.plugins.webhooks.desk import Desk
from leveret.plugins.webhooks.dialer import Dialer
from leveret.plugins.webhooks.ledger import RetryLedger, identity, known_retry_logs
from leveret.plugins.webhooks.masking import masked, normalized
from leveret.plugins.webhooks.numbers import metrics_of
from leveret.plugins.webhooks.settings import WebhooksSettings
from leveret.plugins.webhooks.signing import MAX_SECRETS, new_secret
from leveret.plugins.webhooks.subscription import COMPONENT, Subscription

if TYPE_CHECKING:
    from leveret.core.broker import Broker
    from leveret.core.vhost import Vhost
__all__ = ["WebhooksPlugin"]

log = logging.getLogger(__name__)

FLUSH_S = 1.0
ROTATION_S = 86400.0  # how long the old secret signs beside the new one
MAX_PAGE = 1000


class WebhooksPlugin:
    """Webhooks out. Subscriptions are runtime parameters of the component "webhook"."""

    name: ClassVar[str] = "webhooks"
    description: ClassVar[str] = (
        "Webhooks out: messages of a queue as signed HTTP requests, retried and recorded"
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
            self.dialer = Dialer(self.policy, ca_file=settings.ca_file)
        except (OSError, ssl.SSLError) as error:
            raise ValueError(f"ca_file: {error}") from None
        self._broker: Broker | None = None
        self._nursery: trio.Nursery | None = None
        self._identity = b""
        self._desks: dict[tuple[str, str], Desk] = {}

    async def run(
        self, broker: Broker, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED
    ) -> None:
        self._broker = broker
        self._identity = identity(broker.store)
        unsubscribe = broker.events.subscribe(self._on_event)
        broker.components[COMPONENT] = self
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
            del broker.components[COMPONENT], broker.services[self.name]
            self._flush()
            self._desks.clear()
            self._nursery = None

    def _flush(self) -> None:
        for desk in self._desks.values():
            desk.flush()

    def _sweep(self, broker: Broker) -> None:
        """Records of queues that went while the plugin was away."""
        logs = {
            log_id
            for vhost in broker.vhosts.values()
            for queue in vhost.queues.values()
            for log_id in queue.log_ids
        }
        for log_id in known_retry_logs(broker.store) - logs:
            RetryLedger.forget(broker.store, log_id)

    # -- a component of runtime parameters (core/vhost.py)

    def check(self, vhost: Vhost, name: str, value: Any) -> Any:
        """The value as it is kept. Raise InvalidArgument."""
        kept = normalized(value, vhost.parameters.get((COMPONENT, name)))
        self._subscription(vhost, name, kept)
        return kept

    def masked(self, value: Any) -> Any:
        """The value as it may be shown."""
        return masked(value)

    def _subscription(self, vhost: Vhost, name: str, value: Any) -> Subscription:
        policy = self._policies.get(vhost.name, self.policy)
        return Subscription.of(name, value, policy=policy, https_only=self._https_only)

    def _dialer_of(self, vhost: Vhost) -> Dialer:
        policy = self._policies.get(vhost.name)
        return self.dialer if policy is None else self.dialer.under(policy)

    # -- what happens

    def _on_event(self, event: str, fields: Mapping[str, Any]) -> None:
        if event in ("queue.created", "exchange.created", "queue.deleted"):
            for desk in list(self._desks.values()):
                if desk.vhost.name == fields["vhost"]:
                    desk.look()
            return
        if fields.get("component") != COMPONENT:
            return
        vhost = self._vhosts().get(fields["vhost"])
        if vhost is None:
            return
        if event == "parameter.set":
            self._set(vhost, fields["name"])
        elif event == "parameter.cleared":
            removed = self._desks.pop((vhost.name, fields["name"]), None)
            if removed is not None:
                removed.remove()
                log.info("vhost=%s webhook=%s removed", vhost.name, removed.name)

    def _set(self, vhost: Vhost, name: str) -> None:
        """Queues and bindings are there when it returns. One that cannot be used (set while nobody checked) is logged."""
        value = vhost.parameters[COMPONENT, name]
        try:
            if isinstance(value, Mapping) and value.get("secrets") is None:
                vhost.set_parameter(COMPONENT, name, value)  # which makes one, and comes here again
                return
            subscription = self._subscription(vhost, name, value)
        except InvalidArgument as error:
            log.error("vhost=%s webhook=%s is ignored: %s", vhost.name, name, error)
            return
        desk = self._desks.get((vhost.name, name))
        if desk is not None:
            if (desk.subscription.queue_name, desk.subscription.queue) == (
                subscription.queue_name, subscription.queue,
            ):  # fmt: skip
                desk.update(subscription)
                return
            # From a queue of its own to somebody else's, or back: what was there is not taken along.
            del self._desks[vhost.name, name]
            desk.remove()
        dialer = self._dialer_of(vhost)
        desk = Desk(vhost, subscription, dialer, identity=self._identity, max_bytes=self._max_bytes)
        self._desks[vhost.name, name] = desk
        desk.ensure()
        assert self._nursery is not None
        self._nursery.start_soon(desk.run, name=f"webhook {name}")

    def metrics(self) -> Iterator[Metric]:
        """See core/counters.py."""
        return metrics_of(self._desks.values(), int(time.time() * 1000))

    # -- answers (adapters/http/webhooks/outgoing.py). All raise NotFound where it says a name.

    def _vhosts(self) -> Mapping[str, Vhost]:
        return {} if self._broker is None else self._broker.vhosts

    def desk(self, vhost: str, name: str) -> Desk:
        desk = self._desks.get((vhost, name))
        if desk is None:
            raise NotFound(f"no webhook '{name}' in vhost '{vhost}'")
        return desk

    def webhooks(self, vhost: str) -> Iterator[dict[str, Any]]:
        """All of a virtual host, by name."""
        for key in sorted(self._desks):
            if key[0] == vhost:
                yield self._desks[key].describe()

    def webhook(self, vhost: str, name: str) -> dict[str, Any]:
        return self.desk(vhost, name).describe()

    def enable(self, vhost: str, name: str) -> None:
        """After an operator, 410 or lasting failure has disabled it."""
        desk = self.desk(vhost, name)
        desk.enable()

    def disable(self, vhost: str, name: str) -> None:
        self.desk(vhost, name).disable("by an operator")

    def attempts(self, vhost: str, name: str, filters: Mapping[str, Any]) -> list[dict[str, Any]]:
        """Newest first. filters: AttemptQuery's fields."""
        query = AttemptQuery(**filters)
        return [one.as_json() for one in self.desk(vhost, name).attempts.find(query)]

    def dead_letters(
        self, vhost: str, name: str, filters: Mapping[str, Any], *, after: int, limit: int
    ) -> list[dict[str, Any]]:
        """Oldest first, from position `after` on (exclusive). filters: Selection's fields."""
        queue = self.desk(vhost, name).dead_queue()
        found = dead_letters(queue, Selection(**filters), after=after, limit=min(limit, MAX_PAGE))
        return [one.as_json() for one in found]

    async def replay(self, vhost: str, name: str, filters: Mapping[str, Any], limit: int) -> dict[str, Any]:
        """Dead letters back into the queue. One replay of a subscription at a time."""
        desk = self.desk(vhost, name)
        async with desk.replaying:
            result = await replay(desk.dead_queue(), desk.ensure, Selection(**filters), limit=limit)
        log.info("vhost=%s webhook=%s replayed=%d", vhost, name, result.replayed)
        return asdict(result)

    def rotate_secret(
        self, vhost: str, name: str, secret: str | None = None, keep_s: float = ROTATION_S
    ) -> str:
        """A new secret signs from now on, the old ones for `keep_s` more. Returns the new one, for this one time.

        Raise InvalidArgument.
        """
        desk = self.desk(vhost, name)
        value = desk.vhost.parameters[COMPONENT, name]
        made = secret or new_secret()
        now = time.time()
        kept: list[Any] = []
        for one in value.get("secrets", []):
            old = dict(one) if isinstance(one, Mapping) else {"secret": one}
            ends_at = min(old.get("expires_at") or now + keep_s, now + keep_s)
            if ends_at > now and old["secret"] != made:
                kept.append({**old, "expires_at": round(ends_at, 3)})
        secrets = [made, *kept[: MAX_SECRETS - 1]]
        desk.vhost.set_parameter(COMPONENT, name, {**value, "secrets": secrets})
        return made

    def send_test(self, vhost: str, name: str, body: bytes, content_type: str) -> None:
        """A message into the subscription's queue, as if it had been published. Raise NotFound."""
        desk = self.desk(vhost, name)
        queue = desk.ensure()
        if queue is None:
            raise NotFound(desk.waits_for)
        properties = Properties(
            content_type=content_type, delivery_mode=2, type="webhook.test", timestamp=int(time.time())
        )
        exchange = desk.subscription.exchange or ""
        queue.publish(Envelope.of(exchange, "webhook.test", properties), [body])
        queue.dispatcher.run_soon()

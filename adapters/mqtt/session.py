"""A session: what the broker knows of a client id, connected or not (5.0 4.1)."""

from __future__ import annotations

import hashlib
import logging
from typing import TYPE_CHECKING

from leveret.adapters.mqtt.records import SessionRecord
from leveret.adapters.mqtt.session_destination import SessionDestination
from leveret.adapters.mqtt.spec import NEVER_EXPIRES, Subscription
from leveret.adapters.mqtt.topics import FilterTree, matches
from leveret.core.exchange import Binding

if TYPE_CHECKING:
    from leveret.adapters.mqtt.adapter import MqttAdapter
    from leveret.adapters.mqtt.connection import MqttConnection
    from leveret.adapters.mqtt.delivery import Delivery
    from leveret.core.message import Envelope
    from leveret.core.queue.queue import Queue
    from leveret.core.timers import Timer
    from leveret.core.vhost import Vhost
__all__ = ["EffectiveSubscription", "MqttSession", "queue_name"]

log = logging.getLogger(__name__)

REMEMBERED_GRANTS = 64  # topics per session; then all are forgotten
FEW_FILTERS = 8  # are tried one by one; more are worth a tree
NAME_BYTES = 200  # a longer client id is hashed in the names of queues


def queue_name(client_id: str, qos: int) -> str:
    """RabbitMQ's names: mqtt-subscription-<client id>qos<0 or 1>."""
    raw = client_id.encode()
    if len(raw) > NAME_BYTES:
        client_id = hashlib.sha256(raw).hexdigest()
    return f"mqtt-subscription-{client_id}qos{qos}"


class EffectiveSubscription:
    """What a session gets of one topic: the union of its matching subscriptions (5.0 3.3.4)."""

    __slots__ = ("identifiers", "qos", "retain_as_published")

    def __init__(self, subscriptions: list[Subscription]) -> None:
        self.qos = max(one.qos for one in subscriptions)
        self.identifiers = tuple(one.identifier for one in subscriptions if one.identifier is not None)
        self.retain_as_published = any(one.retain_as_published for one in subscriptions)


class MqttSession:
    """State of one client id in one virtual host.

    grants     by topic: what was worked out of the subscriptions; dropped when they change
    delivery   the way to the client while it is connected
    received   packet ids of QoS 2 messages that the client has not released yet
    released   packet ids of QoS 2 messages that the client has, whose PUBCOMP has not come yet; in order
    queue      for QoS 1 and 2; made by the first subscription that needs it
    """

    __slots__ = (
        "_bound", "_expiry_timer", "_tree", "adapter", "client_id", "connection", "created_at_ms", "delivery",
        "disconnected_at_ms", "dropped_total", "expiry_s", "grants", "has_no_local", "inbox", "is_durable",
        "is_ended",
        "keymap", "queue", "received", "released", "shared", "subscriptions", "username", "vhost",
    )  # fmt: skip

    def __init__(
        self, adapter: MqttAdapter, vhost: Vhost, client_id: str, username: str, expiry_s: int
    ) -> None:
        self.adapter = adapter
        self.keymap = adapter.keymap
        self.vhost = vhost
        self.client_id = client_id
        self.username = username
        self.expiry_s = expiry_s
        self.is_durable = expiry_s > 0
        self.subscriptions: dict[str, Subscription] = {}  # those with $share are in `shared`
        self.shared: dict[str, Subscription] = {}
        self.grants: dict[str, EffectiveSubscription | None] = {}
        self.has_no_local = False
        self.connection: MqttConnection | None = None
        self.delivery: Delivery | None = None
        self.received: set[int] = set()
        self.released: dict[int, None] = {}
        self.queue: Queue | None = None
        self.inbox = SessionDestination(self, queue_name(client_id, 0))
        timers = adapter.broker.timers
        self.created_at_ms = timers.wall_ms(timers.now)
        self.disconnected_at_ms: int | None = None
        self.dropped_total = 0
        self.is_ended = False
        self._bound: dict[str, int] = {}  # binding keys, each with the number of filters that need it
        self._tree: FilterTree[Subscription] | None = None
        self._expiry_timer: Timer | None = None

    def __repr__(self) -> str:
        return f"<MqttSession {self.client_id!r} vhost={self.vhost.name!r} subscriptions={len(self.subscriptions)}>"

    # -- subscriptions

    def subscribe(self, subscription: Subscription) -> bool:
        """Add or replace, whatever was allowed before. True: there was one with this filter."""
        text = subscription.filter
        existed = text in self.subscriptions
        self.subscriptions[text] = subscription
        self._changed()
        if not existed:
            if self.adapter.sys_tree.is_filter(text):
                self.adapter.sys_listeners.add(self)
            else:
                self._bind(self.keymap.binding_key(text))
        if self.is_durable:
            self.adapter.records.save_subscription(self.vhost.name, self.client_id, subscription)
        return existed

    def unsubscribe(self, text: str) -> bool:
        """False: there was none."""
        if self.subscriptions.pop(text, None) is None:
            return False
        self._changed()
        if self.adapter.sys_tree.is_filter(text):
            if not any(map(self.adapter.sys_tree.is_filter, self.subscriptions)):
                self.adapter.sys_listeners.discard(self)
        else:
            self._unbind(self.keymap.binding_key(text))
        if self.is_durable:
            self.adapter.records.delete_subscription(self.vhost.name, self.client_id, text)
        return True

    def _changed(self) -> None:
        self.grants.clear()
        self._tree = None
        if self.delivery is not None:
            self.delivery.forget()
        self.has_no_local = any(one.no_local for one in self.subscriptions.values())

    def _bind(self, key: str) -> None:
        count = self._bound.get(key, 0)
        self._bound[key] = count + 1
        exchange = self.vhost.exchanges.get(self.adapter.settings.exchange)
        if not count and exchange is not None:
            # Never a record of its own: it is made again from the session's.
            self.vhost.bind(exchange, Binding(self.inbox, key), is_recovered=True)

    def _unbind(self, key: str) -> None:
        count = self._bound.pop(key) - 1
        if count:
            self._bound[key] = count
            return
        exchange = self.vhost.exchanges.get(self.adapter.settings.exchange)
        if exchange is not None:
            self.vhost.unbind(exchange, Binding(self.inbox, key))

    def matching(self, topic: str) -> list[Subscription]:
        """Its subscriptions that match, shared ones not among them."""
        if len(self.subscriptions) <= FEW_FILTERS:
            pattern = self.keymap.pattern
            return [one for text, one in self.subscriptions.items() if matches(pattern(text), topic)]
        if self._tree is None:
            self._tree = FilterTree()
            for text, one in self.subscriptions.items():
                self._tree.add(self.keymap.pattern(text), text, one)
        return self._tree.match(topic)

    def grant(self, topic: str) -> EffectiveSubscription | None:
        """What it gets of this topic; None: nothing. Remembered in `grants`."""
        found = self.matching(topic)
        if len(self.grants) >= REMEMBERED_GRANTS:
            self.grants.clear()
        grant = self.grants[topic] = EffectiveSubscription(found) if found else None
        return grant

    def own_grant(self, topic: str) -> EffectiveSubscription | None:
        """The same for what it has published itself (No Local, 5.0 3.8.3.1)."""
        if not self.has_no_local:
            return self.grants[topic] if topic in self.grants else self.grant(topic)
        found = [one for one in self.matching(topic) if not one.no_local]
        return EffectiveSubscription(found) if found else None

    # -- messages

    def keep(self, envelope: Envelope, bodies: list[bytes]) -> int:
        """QoS 1 or 2: into the queue, within its bounds. How many were rejected."""
        queue = self.queue
        if queue is None or queue.is_closed:
            return 0
        settings = self.adapter.settings
        limit = settings.max_queued_messages
        over = queue.message_count + len(bodies) - limit if limit else 0
        if over > 0:
            if settings.queue_overflow == "reject-publish":
                self.dropped_total += over
                kept = bodies[: max(0, len(bodies) - over)]
                return over + (queue.publish(envelope, kept) if kept else 0)
            over = min(over, len(bodies))
            rejected = queue.publish(envelope, bodies)
            self.dropped_total += queue.drop_oldest(over)
            return rejected
        return queue.publish(envelope, bodies)

    def use_queue(self, queue: Queue) -> None:
        """It has one now: the first subscription with QoS 1 or 2, or recovery."""
        self.queue = queue
        self.inbox.is_durable = queue.is_durable
        if self.delivery is not None:
            self.delivery.consume_queue()

    # -- its life

    def record(self) -> SessionRecord:
        return SessionRecord(
            vhost=self.vhost.name, client_id=self.client_id, username=self.username, expiry_s=self.expiry_s,
            disconnected_at_ms=self.disconnected_at_ms, subscriptions={**self.subscriptions, **self.shared},
            created_at_ms=self.created_at_ms,
        )  # fmt: skip

    def set_expiry(self, expiry_s: int) -> None:
        """What CONNECT or DISCONNECT asked for. From 0 to more makes it durable, with all it has."""
        self.expiry_s = expiry_s
        if not self.is_durable and expiry_s:
            self.is_durable = True
        if self.is_durable:
            self.adapter.records.save(self.record())

    def attach(self, connection: MqttConnection, delivery: Delivery) -> None:
        """The client is here."""
        self.connection, self.delivery = connection, delivery
        self.disconnected_at_ms = None
        if self._expiry_timer is not None:
            self._expiry_timer.cancel()
            self._expiry_timer = None
        delivery.start()

    def detach(self) -> None:
        """The client is gone: what it has not acknowledged goes back; the session ends, now or when it expires."""
        if self.delivery is not None:
            self.delivery.release()
        self.connection = self.delivery = None
        if self.is_ended:
            return
        if not self.expiry_s:
            self.end()
            return
        timers = self.adapter.broker.timers
        self.disconnected_at_ms = timers.wall_ms(timers.now)
        self.adapter.records.save(self.record())
        self.expire_later()

    def expire_later(self) -> None:
        """Its clock runs from the disconnection, whatever happened to the broker meanwhile."""
        if self.expiry_s >= NEVER_EXPIRES or self.disconnected_at_ms is None:
            return
        timers = self.adapter.broker.timers
        due = timers.monotonic(self.disconnected_at_ms) + self.expiry_s
        self._expiry_timer = timers.at(due, self._expire)

    def _expire(self) -> None:
        if self.connection is None and not self.is_ended:
            log.info("client=%r vhost=%s session expired", self.client_id, self.vhost.name)
            self.end()

    def end(self) -> None:
        """It is over: subscriptions, queue, ids and record go."""
        if self.is_ended:
            return
        self.is_ended = True
        adapter = self.adapter
        if self._expiry_timer is not None:
            self._expiry_timer.cancel()
        if self.delivery is not None:
            self.delivery.release()
        exchange = self.vhost.exchanges.get(adapter.settings.exchange)
        if exchange is not None:
            for key in self._bound:
                self.vhost.unbind(exchange, Binding(self.inbox, key))
        self._bound.clear()
        adapter.sys_listeners.discard(self)
        for text in list(self.shared):
            adapter.groups.leave(self, text)
        self.shared.clear()
        self.subscriptions.clear()
        self._changed()
        if self.queue is not None and not self.queue.is_closed:
            self.vhost.remove_queue(self.queue)
        if self.is_durable:
            adapter.records.delete(self.vhost.name, self.client_id)
        adapter.forget(self)

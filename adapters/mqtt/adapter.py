"""The MQTT specs as the broker sees them: all sessions, and what they share."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any, ClassVar

import trio

from leveret.adapters.base import ListenerSpec, WebSocketSpec
from leveret.adapters.mqtt.connection import MqttConnection
from leveret.adapters.mqtt.mapping import to_core
from leveret.adapters.mqtt.publish_view import Fanout, PublishView
from leveret.adapters.mqtt.publishing import PROTOCOLS, forwarded
from leveret.adapters.mqtt.records import SessionRecords
from leveret.adapters.mqtt.retained import Retained, RetainedMessage
from leveret.adapters.mqtt.session import MqttSession, queue_name
from leveret.adapters.mqtt.settings import MqttSettings
from leveret.adapters.mqtt.shared_subscriptions import SharedSubscriptions
from leveret.adapters.mqtt.statistics import METRICS, TOTALS, MqttStatistics
from leveret.adapters.mqtt.sys_tree import SysTree
from leveret.adapters.mqtt.topics import KeyMap, split_shared
from leveret.adapters.mqtt.wills import StoredWill, Wills
from leveret.auth.contracts import Principal
from leveret.core.counters import Metric
from leveret.core.errors import AuthorizationPending, BrokerError
from leveret.core.message import Envelope
from leveret.core.session import Session

if TYPE_CHECKING:
    from leveret.adapters.transport import Transport
    from leveret.core.broker import Broker
__all__ = ["MqttAdapter"]

log = logging.getLogger(__name__)

WEBSOCKET = WebSocketSpec(("mqtt", "mqttv3.1"))


class MqttAdapter:
    """All MQTT connections and sessions of a broker."""

    name: ClassVar[str] = "mqtt"
    settings_type: ClassVar[type | None] = MqttSettings
    listeners: ClassVar[Sequence[ListenerSpec]] = (
        ListenerSpec("mqtt", "MQTT 3.1, 3.1.1 and 5.0", port=1883),
        ListenerSpec("mqtts", "MQTT over TLS", "mqtt/ssl", customary_port=8883, is_tls=True),
        ListenerSpec("web-mqtt", "MQTT over WebSocket", "http/web-mqtt", port=15675, websocket=WEBSOCKET),
        ListenerSpec(
            "web-mqtts", "MQTT over WebSocket and TLS", "https/web-mqtt", customary_port=15676, is_tls=True,
            websocket=WEBSOCKET,
        ),
    )  # fmt: skip
    protocols: ClassVar[Sequence[str]] = tuple(PROTOCOLS.values())
    login_protocol: ClassVar[str] = "mqtt"

    def __init__(self, broker: Broker) -> None:
        self.broker = broker
        self.settings = settings = MqttSettings.of(broker.settings)
        broker.replies.topic_exchange = settings.exchange
        self.keymap = KeyMap(settings.topic_escape, settings.sparkplug)
        self.statistics = MqttStatistics()
        self.records = SessionRecords(broker.store)
        self.retained = Retained(broker)
        self.wills = Wills(broker, self._publish_will)
        self.groups = SharedSubscriptions(self)
        self.fanout = Fanout()
        self.sessions: dict[tuple[str, str], MqttSession] = {}
        self._nursery: trio.Nursery | None = None
        self.sys_listeners: set[MqttSession] = set()
        self.sys_tree = SysTree(broker, self._deliver_sys, self.statistics, self._refresh_gauges)

    async def run(self, *, task_status: trio.TaskStatus[None]) -> None:
        """Sessions, retained messages and wills come back; then there is only $SYS to be kept."""
        self._recover()
        self.sys_tree.start()
        unsubscribe = self.broker.events.subscribe(self._on_event)
        try:
            async with trio.open_nursery() as nursery:
                self._nursery = nursery
                task_status.started()
                await trio.sleep_forever()
        finally:
            self._nursery = None
            unsubscribe()
            self.sys_tree.stop()

    async def serve(self, transport: Transport) -> None:
        self.settings = MqttSettings.of(self.broker.settings)  # as reloaded
        self.statistics.sockets_total += 1
        await MqttConnection(self, transport).run()

    # -- sessions

    def session(
        self, connection: MqttConnection, clean_start: bool, expiry_s: int
    ) -> tuple[MqttSession, bool]:
        """The session that CONNECT asks for, and whether it was there. Whoever had the client id is taken over."""
        assert connection.session is not None
        vhost = connection.session.vhost
        key = vhost.name, connection.client_id
        found = self.sessions.get(key)
        self.wills.reconnected(*key, clean_start=clean_start)
        if found is not None:
            other = found.connection
            if other is not None:
                other.taken_over()
            if found.is_ended:  # with its connection
                found = None
        if found is not None and (clean_start or found.username != connection.session.principal.username):
            # Somebody else's session with the same client id is not handed over.
            found.end()
            found = None
        if found is not None:
            found.set_expiry(expiry_s)
            return found, True
        mine = self.sessions[key] = MqttSession(
            self, vhost, connection.client_id, connection.session.principal.username, expiry_s
        )
        if mine.is_durable:
            self.records.save(mine.record())
        return mine, False

    def forget(self, session: MqttSession) -> None:
        """It has ended."""
        key = session.vhost.name, session.client_id
        if self.sessions.get(key) is session:
            del self.sessions[key]

    def _recover(self) -> None:
        broker = self.broker
        now_ms = broker.timers.wall_ms(broker.timers.now)
        for record in self.records.load():
            vhost = broker.vhosts.get(record.vhost)
            if vhost is None:
                self.records.delete(record.vhost, record.client_id)
                continue
            mine = MqttSession(self, vhost, record.client_id, record.username, record.expiry_s)
            mine.created_at_ms = record.created_at_ms
            self.sessions[record.vhost, record.client_id] = mine
            queue = vhost.queues.get(queue_name(record.client_id, 1))
            if queue is not None:
                mine.use_queue(queue)
            for text, one in record.subscriptions.items():
                if split_shared(text) is not None:
                    mine.shared[text] = one
                    self.groups.restore(mine, text)
                else:
                    mine.subscribe(one)
            mine.received = self.records.received(record.vhost, record.client_id)
            mine.released = dict.fromkeys(sorted(self.records.released(record.vhost, record.client_id)))
            mine.disconnected_at_ms = record.disconnected_at_ms
            if mine.disconnected_at_ms is None:  # the broker was killed under it
                mine.disconnected_at_ms = now_ms
                self.records.save(mine.record())
            mine.expire_later()
        self.groups.drop_orphans()
        self.retained.recover()
        self.wills.recover()
        if self.sessions:
            log.info("recovered sessions=%d retained=%d", len(self.sessions), self.retained.count())

    def _on_event(self, event: str, fields: Any) -> None:
        if event == "vhost.deleted":
            name = fields["name"]
            for key, session in list(self.sessions.items()):
                if key[0] == name:
                    session.end()
            self.retained.forget_vhost(name)
            self.wills.forget_vhost(name)

    # -- wills and $SYS

    def _publish_will(self, vhost_name: str, stored: StoredWill) -> None:
        """In its client's name, if it may still publish there."""
        vhost = self.broker.vhosts.get(vhost_name)
        if vhost is None:
            return
        try:
            tags = frozenset(self.broker.users.user(stored.username).tags)
        except BrokerError:  # a user of another backend, or none any more: permissions decide
            tags = frozenset()
        principal = Principal(stored.username, tags, attributes={"client_id": stored.client_id})
        self._publish_as(Session(self.broker, vhost, principal, self), stored)

    def _publish_as(self, session: Session, stored: StoredWill) -> None:
        will = stored.will
        core = to_core(will.properties, qos=will.qos, retain=will.retain, keymap=self.keymap)
        key = self.keymap.routing_key(will.topic)
        topic = self.keymap.topic(key) or will.topic
        envelope = Envelope.of(self.settings.exchange, key, core)
        origin = self.sessions.get((stored.vhost, stored.client_id))  # No Local holds for wills, too
        properties = forwarded(will.properties)
        envelope.encoded = {
            "mqtt": PublishView(
                topic, will.qos, will.retain, properties, will.properties.message_expiry_s, origin
            )
        }
        try:
            session.publish(envelope, will.payload)
        except AuthorizationPending as pending:
            if self._nursery is not None:
                self._nursery.start_soon(self._ask_and_publish, session, stored, pending)
            return
        except BrokerError as error:
            log.warning("client=%r vhost=%s will dropped: %s", stored.client_id, stored.vhost, error)
            return
        if will.retain:
            timers = self.broker.timers
            now_ms = timers.wall_ms(timers.now)
            if will.payload:
                expires_at_ms = None if envelope.expiration is None else now_ms + envelope.expiration
                self.retained.set(
                    stored.vhost, topic, RetainedMessage(envelope, will.payload, expires_at_ms, now_ms)
                )
            else:
                self.retained.clear(stored.vhost, topic)
        self.broker.dispatcher.run_soon()

    async def _ask_and_publish(
        self, session: Session, stored: StoredWill, pending: AuthorizationPending
    ) -> None:
        """A backend must be asked whether the will may be published."""
        with trio.move_on_after(self.broker.settings.auth.backend_timeout_s):
            await session.authorize(pending)
            self.broker.timers.tick()
            self._publish_as(session, stored)
            return
        log.warning(
            "client=%r vhost=%s will dropped: no answer from a backend", stored.client_id, stored.vhost
        )

    def _deliver_sys(self, topic: str, payload: bytes) -> None:
        view = PublishView(topic, 0, False, None, None)
        bodies = [payload]
        for session in self.sys_listeners:
            delivery = session.delivery
            if delivery is None:
                continue
            grant = session.grants.get(topic) or session.grant(topic)
            if grant is not None:
                delivery.writer.qos0(view, grant, bodies)
        self.fanout.forget()

    def metrics(self) -> Iterator[Metric]:
        """See core/counters.py: the numbers of $SYS that are not told by protocol elsewhere."""
        statistics = self.statistics
        self._refresh_gauges(statistics)
        for field, help in METRICS.items():
            name = field.removesuffix("_total") + ("_total" if field in TOTALS else "")
            yield Metric.of(f"leveret_mqtt_{name}", help, getattr(statistics, field))

    def _refresh_gauges(self, statistics: MqttStatistics) -> None:
        """What nobody counts as it happens."""
        statistics.clients_total = len(self.sessions)
        statistics.subscriptions = sum(len(session.subscriptions) for session in self.sessions.values())
        statistics.shared_subscriptions = self.groups.subscriptions_count
        statistics.retained_messages = self.retained.count()
        queues = [session.queue for session in self.sessions.values() if session.queue is not None]
        statistics.stored_messages = statistics.retained_messages + sum(
            queue.message_count for queue in queues
        )
        statistics.stored_bytes = self.retained.bytes + sum(queue.message_bytes for queue in queues)

"""SUBSCRIBE and UNSUBSCRIBE: who may, what is granted, and the retained messages (5.0 3.8 to 3.11)."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

from leveret.adapters.mqtt.mapping import from_core
from leveret.adapters.mqtt.packets import suback, unsuback
from leveret.adapters.mqtt.publish_view import RETAINED_COPY, PublishView, marked_copy, publish_view_of
from leveret.adapters.mqtt.session import queue_name
from leveret.adapters.mqtt.spec import MqttFault, Reason, Subscribe, Subscription, Unsubscribe
from leveret.adapters.mqtt.topics import check_filter, split_shared
from leveret.auth.contracts import Permission
from leveret.core.errors import AccessRefused, AuthorizationPending, BrokerError, LimitReached, NotAllowed

if TYPE_CHECKING:
    from leveret.adapters.mqtt.connection import MqttConnection
    from leveret.adapters.mqtt.session import MqttSession
    from leveret.core.session import Session
__all__ = ["on_subscribe", "on_unsubscribe"]

log = logging.getLogger(__name__)

MAX_LEVELS = 200  # of a filter, as Mosquitto: each level is a node of the exchange, whatever it is for
RETAINED = 0x31  # first byte of a PUBLISH with QoS 0 and the retain flag


def on_subscribe(connection: MqttConnection, packet: Subscribe) -> None:
    """All checks come before any change: if a backend must be asked, the packet is offered again."""
    refusals = [_refusal(connection, one) for one in packet.subscriptions]
    codes: list[int] = []
    wanted: list[tuple[Subscription, bool]] = []  # for the retained messages, behind SUBACK
    for one, refusal in zip(packet.subscriptions, refusals, strict=True):
        if refusal is None:
            refusal = _take(connection, one, wanted)
        codes.append(one.qos if refusal is None else refusal)
    connection.answer(suback(connection.version, packet.packet_id, codes))
    for one, existed in wanted:
        if one.retain_handling == 0 or (one.retain_handling == 1 and not existed):
            _send_retained(connection, one)


def _refusal(connection: MqttConnection, subscription: Subscription) -> Reason | None:
    """Why it may not be; None: it may. Raise AuthorizationPending."""
    adapter, session = connection.adapter, connection.session
    assert session is not None
    text = subscription.filter
    if text.count("/") > MAX_LEVELS:
        return Reason.TOPIC_FILTER_INVALID
    try:
        check_filter(text)
        shared = split_shared(text)
    except MqttFault as fault:
        return fault.reason
    if shared is not None:
        text = shared[1]
        try:
            check_filter(text)
        except MqttFault as fault:
            return fault.reason
    try:
        if adapter.sys_tree.is_filter(text):
            return None if shared is None else Reason.NOT_AUTHORIZED
        exchange = session.vhost.exchanges.get(adapter.settings.exchange)
        if exchange is None:
            return Reason.UNSPECIFIED_ERROR
        name = queue_name(connection.client_id, 1 if subscription.qos else 0)
        if shared is None:
            session.require(Permission.CONFIGURE, "queue", name)
            session.require(Permission.WRITE, "queue", name)
            session.require(Permission.READ, "queue", name)
        session.require(Permission.READ, "exchange", exchange.name)
        session.require_topic(Permission.READ, exchange, adapter.keymap.binding_key(text))
    except AuthorizationPending:
        raise
    except BrokerError as error:
        log.warning("conn=%s client=%r filter=%r %s", connection.name, connection.client_id, text, error)
        return Reason.NOT_AUTHORIZED
    return None


def _take(
    connection: MqttConnection, subscription: Subscription, wanted: list[tuple[Subscription, bool]]
) -> Reason | None:
    """Subscribe; a reason if it cannot be after all."""
    adapter, session, mine = connection.adapter, connection.session, connection.mqtt_session
    assert session is not None
    try:
        if split_shared(subscription.filter) is not None:
            adapter.groups.check(session, subscription.filter)
            if subscription.qos == 2 and mine.is_durable:
                _need_queue(session, mine)
            adapter.groups.join(mine, subscription)
            return None
        if subscription.qos:
            _need_queue(session, mine)
        existed = mine.subscribe(subscription)
        wanted.append((subscription, existed))
    except (AccessRefused, NotAllowed) as error:
        log.warning(
            "conn=%s client=%r filter=%r %s", connection.name, mine.client_id, subscription.filter, error
        )
        return Reason.NOT_AUTHORIZED
    except BrokerError as error:
        log.warning(
            "conn=%s client=%r filter=%r %s", connection.name, mine.client_id, subscription.filter, error
        )
        return Reason.QUOTA_EXCEEDED if isinstance(error, LimitReached) else Reason.UNSPECIFIED_ERROR
    return None


def _need_queue(session: Session, mine: MqttSession) -> None:
    """For QoS 1 and 2. Raises as the core does."""
    if mine.queue is None or mine.queue.is_closed:
        name = queue_name(mine.client_id, 1)
        mine.use_queue(session.queue_declare(name, durable=mine.is_durable, exclusive=not mine.is_durable))


def _send_retained(connection: MqttConnection, subscription: Subscription) -> None:
    """What is retained and matches, with the retain flag, at the lesser QoS (MQTT-3.3.1-8)."""
    adapter, mine = connection.adapter, connection.mqtt_session
    delivery = mine.delivery
    if delivery is None:
        return
    identifiers = () if subscription.identifier is None else (subscription.identifier,)
    if adapter.sys_tree.is_filter(subscription.filter):
        for topic, payload in adapter.sys_tree.match(subscription.filter):
            view = PublishView(topic, 0, True, None, None)
            delivery.writer.publish(
                view, payload, first=RETAINED, packet_id=0, identifiers=identifiers, expiry_s=None
            )
        return
    now_ms = adapter.broker.timers.wall_ms(adapter.broker.timers.now)
    for topic, message in adapter.retained.match(
        mine.vhost.name, adapter.keymap.pattern(subscription.filter)
    ):
        known = publish_view_of(message.envelope, adapter.keymap)
        if known is not None and known.topic == topic:
            view = known
        else:  # routing keys do not tell all topics apart
            facts = from_core(message.envelope.properties, adapter.keymap)
            view = PublishView(topic, facts.qos, True, facts.properties, None)
        left_ms = None if message.expires_at_ms is None else max(1, message.expires_at_ms - now_ms)
        if view.qos and subscription.qos and mine.queue is not None:
            mine.keep(marked_copy(message.envelope, view, RETAINED_COPY, True, left_ms), [message.body])
        else:
            expiry_s = None if left_ms is None else -(-left_ms // 1000)
            delivery.writer.publish(
                view, message.body, first=RETAINED, packet_id=0, identifiers=identifiers, expiry_s=expiry_s
            )


def on_unsubscribe(connection: MqttConnection, packet: Unsubscribe) -> None:
    mine = connection.mqtt_session
    codes: list[int] = []
    for text in packet.filters:
        is_gone = connection.adapter.groups.leave(mine, text) or mine.unsubscribe(text)
        codes.append(Reason.SUCCESS if is_gone else Reason.NO_SUBSCRIPTION_EXISTED)
    connection.answer(unsuback(connection.version, packet.packet_id, codes))

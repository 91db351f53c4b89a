"""Publishing by one client: from PUBLISH packets to queues, with routes and envelopes remembered."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

from leveret.adapters.mqtt.acks import short_acks
from leveret.adapters.mqtt.mapping import REPLY_TOPIC, to_core
from leveret.adapters.mqtt.packets import ack
from leveret.adapters.mqtt.property_codec import decode_publish_properties
from leveret.adapters.mqtt.publish_view import PublishView
from leveret.adapters.mqtt.retained import RetainedMessage
from leveret.adapters.mqtt.spec import V5, MqttFault, PacketType, Properties, Reason
from leveret.adapters.mqtt.topics import check_topic
from leveret.core.errors import AccessRefused, BrokerError
from leveret.core.message import Envelope
from leveret.core.publishing import PublishPipeline, PublishTarget
from leveret.core.remembered import Remembered

if TYPE_CHECKING:
    from leveret.adapters.mqtt.connection import MqttConnection
    from leveret.core.session import Session
__all__ = ["PROTOCOLS", "Publisher", "forwarded"]

log = logging.getLogger(__name__)

PROTOCOLS = {3: "mqtt310", 4: "mqtt311", 5: "mqtt50"}  # in metrics
RETAIN = 1
DUP = 8
PUBACK, PUBREC, PUBCOMP = 0x4002, 0x5002, 0x7002


class Publication:
    """What alike publishes lead to, as long as the virtual host's epoch holds. refusal: they may not."""

    __slots__ = ("alias", "envelope", "refusal", "target", "view")

    def __init__(
        self, target: PublishTarget | None, envelope: Envelope | None, view: PublishView, refusal: Reason
    ) -> None:
        self.alias = 0  # that came with the topic, or in its place
        self.target = target
        self.envelope = envelope
        self.view = view
        self.refusal = refusal


class Publisher:
    """The publishing half of a connection."""

    __slots__ = (
        "_adapter", "_aliases", "_connection", "_publications", "_session", "_statistics", "_vhost", "confirmable_total",
        "is_v5", "pipeline", "receive_maximum",
    )  # fmt: skip

    def __init__(self, connection: MqttConnection, session: Session, receive_maximum: int) -> None:
        self._connection = connection
        self._adapter = connection.adapter
        self._statistics = connection.adapter.statistics
        self._session = session
        self._vhost = session.vhost
        self.is_v5 = connection.version == V5
        self.receive_maximum = receive_maximum
        self.confirmable_total = 0  # messages published with QoS 1 and 2
        self.pipeline = PublishPipeline(
            self._vhost,
            connection.broker.replies,
            session.route,
            connection.broker.traffic.sizes_of(PROTOCOLS[connection.version]),
            connection_name=connection.name,
            username=session.principal.username,
        )
        self._aliases: dict[int, bytes] = {}
        self._publications: Remembered[tuple[bytes, bytes, int], Publication] = Remembered(
            connection.broker.connections
        )

    # -- what is published

    def publish(
        self, flags: int, topic: bytes, properties: bytes, packet_ids: list[int], payloads: list[bytes]
    ) -> None:
        """A run of PUBLISH packets, from the parser. Raise MqttFault, AuthorizationPending."""
        publication = self._publications.get((topic, properties, flags & 7))
        if (
            publication is None
            or publication.target is None
            or publication.target.epoch != self._vhost.epoch
            or (publication.alias and topic)
        ):
            publication = self._publication(flags, topic, properties)
        qos = flags >> 1 & 3
        connection = self._connection
        if qos:
            acks = connection.acks
            acks.unsent_publishes += len(payloads)
            if qos == 2:
                packet_ids, payloads, again = self._unknown(packet_ids, payloads)
                if again:
                    acks.unsent_publishes -= len(again)
                    acks.add(short_acks(PUBREC, again), needs_store=True)
                    if not payloads:
                        return
            if self.is_v5 and acks.unsent_publishes > self.receive_maximum:
                raise MqttFault(
                    Reason.RECEIVE_MAXIMUM_EXCEEDED,
                    f"more than {self.receive_maximum} messages of QoS 1 and 2 in flight",
                )
        elif flags & DUP and connection.version > 3:
            raise MqttFault(Reason.MALFORMED_PACKET, "PUBLISH with QoS 0 and DUP")
        count = len(payloads)
        if qos:
            self.confirmable_total += count
        self._statistics.publish_received += count
        target, envelope = publication.target, publication.envelope
        if target is None or envelope is None:
            self.pipeline.refused(payloads)
            self._refuse(publication, qos, packet_ids)
            return
        is_routed, rejected, needs_store = self.pipeline.publish(target, envelope, payloads)
        if flags & RETAIN:
            self._retain(publication, payloads[-1])
        if qos == 1:
            self._acknowledge(
                PacketType.PUBACK,
                packet_ids,
                rejected,
                is_routed,
                needs_store=needs_store or bool(flags & RETAIN),
            )
        elif qos == 2:
            session = connection.mqtt_session
            taken = packet_ids[: len(packet_ids) - rejected] if rejected else packet_ids
            session.received.update(taken)
            if session.is_durable:
                records, vhost = self._adapter.records, self._vhost.name
                for packet_id in taken:
                    records.add_received(vhost, session.client_id, packet_id)
            self._acknowledge(
                PacketType.PUBREC, packet_ids, rejected, is_routed,
                needs_store=needs_store or session.is_durable or bool(flags & RETAIN),
            )  # fmt: skip

    def _unknown(
        self, packet_ids: list[int], payloads: list[bytes]
    ) -> tuple[list[int], list[bytes], list[int]]:
        """QoS 2: those that are new, and the ids of those that are not (5.0 4.3.3)."""
        received = self._connection.mqtt_session.received
        if received.isdisjoint(packet_ids) and len(set(packet_ids)) == len(packet_ids):
            return packet_ids, payloads, []
        seen: set[int] = set(received)
        fresh: list[int] = []
        bodies: list[bytes] = []
        again: list[int] = []
        for packet_id, payload in zip(packet_ids, payloads, strict=True):
            if packet_id in seen:
                again.append(packet_id)
            else:
                seen.add(packet_id)
                fresh.append(packet_id)
                bodies.append(payload)
        return fresh, bodies, again

    def _acknowledge(
        self,
        packet: PacketType,
        packet_ids: list[int],
        rejected: int,
        is_routed: bool,
        *,
        needs_store: bool,
    ) -> None:
        """rejected: the last ones, that some queue was too full for. A version 3 client cannot be told: silence."""
        acks = self._connection.acks
        taken = packet_ids[: len(packet_ids) - rejected] if rejected else packet_ids
        is_final = packet is PacketType.PUBACK
        if taken:
            settles = len(taken) if is_final else 0
            if self.is_v5 and not is_routed:
                reason = Reason.NO_MATCHING_SUBSCRIBERS
                data = b"".join([ack(packet, packet_id, V5, reason) for packet_id in taken])
            else:
                data = short_acks(PUBACK if is_final else PUBREC, taken)
            acks.add(data, needs_store=needs_store, settles=settles)
        if rejected:
            refused = packet_ids[len(packet_ids) - rejected :]
            if self.is_v5:
                data = b"".join([ack(packet, packet_id, V5, Reason.QUOTA_EXCEEDED) for packet_id in refused])
                acks.add(data, needs_store=False, settles=len(refused))
            else:
                acks.unsent_publishes -= len(refused)

    def release(self, packet_ids: list[int]) -> None:
        """PUBREL: the ids are free again. An unknown one is answered all the same (5.0 4.3.3)."""
        session, acks = self._connection.mqtt_session, self._connection.acks
        received = session.received
        if received.issuperset(packet_ids):
            received.difference_update(packet_ids)
            if session.is_durable:
                records, vhost = self._adapter.records, self._vhost.name
                for packet_id in packet_ids:
                    records.remove_received(vhost, session.client_id, packet_id)
            acks.add(short_acks(PUBCOMP, packet_ids), needs_store=session.is_durable, settles=len(packet_ids))
            return
        for packet_id in packet_ids:
            if packet_id in received:
                self.release([packet_id])
            else:
                reason = Reason.PACKET_IDENTIFIER_NOT_FOUND if self.is_v5 else 0
                acks.add(
                    ack(PacketType.PUBCOMP, packet_id, self._connection.version, reason), needs_store=True
                )

    def _retain(self, publication: Publication, payload: bytes) -> None:
        retained, vhost, topic = self._adapter.retained, self._vhost.name, publication.view.topic
        if not payload:
            retained.clear(vhost, topic)
            return
        envelope = publication.envelope
        assert envelope is not None
        timers = self._adapter.broker.timers
        now_ms = timers.wall_ms(timers.now)
        expires_at_ms = None if envelope.expiration is None else now_ms + envelope.expiration
        retained.set(vhost, topic, RetainedMessage(envelope, payload, expires_at_ms, now_ms))

    # -- where it goes

    def _publication(self, flags: int, topic: bytes, raw: bytes) -> Publication:
        """Look at a topic and properties for the first time, or again. Raise MqttFault, AuthorizationPending."""
        properties: Properties | None = None
        key_topic = topic
        if raw:
            properties = decode_publish_properties(raw)
            if properties.subscription_identifiers:
                raise MqttFault(Reason.PROTOCOL_ERROR, "a client's PUBLISH with a subscription identifier")
            topic = self._resolve_alias(properties, topic)
        elif not topic and self.is_v5:
            raise MqttFault(Reason.PROTOCOL_ERROR, "PUBLISH without topic and topic alias")
        try:
            text = topic.decode()
        except UnicodeDecodeError:
            raise MqttFault(Reason.MALFORMED_PACKET, "PUBLISH with a topic that is not UTF-8") from None
        check_topic(text)
        alias = 0 if properties is None else properties.topic_alias or 0
        publication = self._publications.get((key_topic, raw, flags & 7))
        if (
            publication is None
            or publication.target is None
            or publication.target.epoch != self._vhost.epoch
            or publication.view.topic != text
        ):
            publication = self._resolve(text, flags, properties)
            publication.alias = alias
            self._publications.remember((key_topic, raw, flags & 7), publication)
        if alias and key_topic and self._aliases.get(alias) != topic:
            if alias in self._aliases:  # what was remembered of the alias alone is wrong now
                self._publications.forget(lambda key: not key[0])
            self._aliases[alias] = topic
        return publication

    def _resolve_alias(self, properties: Properties, topic: bytes) -> bytes:
        """The topic that is meant (5.0 3.3.2.3.4)."""
        alias = properties.topic_alias
        if alias is None:
            if not topic:
                raise MqttFault(Reason.PROTOCOL_ERROR, "PUBLISH without topic and topic alias")
            return topic
        if not 0 < alias <= self._adapter.settings.topic_alias_maximum:
            raise MqttFault(Reason.TOPIC_ALIAS_INVALID, f"topic alias {alias}")
        if topic:
            return topic
        known = self._aliases.get(alias)
        if known is None:
            raise MqttFault(Reason.PROTOCOL_ERROR, f"topic alias {alias} was never given a topic")
        return known

    def _resolve(self, topic: str, flags: int, properties: Properties | None) -> Publication:
        adapter = self._adapter
        qos, retain = flags >> 1 & 3, bool(flags & RETAIN)
        expiry_s = None
        if properties is not None:
            expiry_s = properties.message_expiry_s
        mine = self._connection.mqtt_session
        view = PublishView(topic, qos, retain, forwarded(properties), expiry_s, mine)
        if topic == "$SYS" or topic.startswith("$SYS/"):
            return Publication(None, None, view, Reason.NOT_AUTHORIZED)
        if topic.startswith(REPLY_TOPIC):  # an answer to an AMQP client's request
            exchange, key = "", topic[len(REPLY_TOPIC) :]
        else:
            exchange, key = adapter.settings.exchange, adapter.keymap.routing_key(topic)
            seen = (
                adapter.keymap.topic(key) or topic
            )  # as all see it: a dot in a level may have become a slash
            if seen != topic:
                view = PublishView(seen, qos, retain, view.properties, expiry_s, mine)
        try:
            target = self._session.target(exchange, key)
        except AccessRefused as error:
            log.warning("conn=%s client=%r %s", self._connection.name, self._connection.client_id, error)
            return Publication(None, None, view, Reason.NOT_AUTHORIZED)
        except BrokerError as error:  # the exchange is gone
            log.warning("conn=%s client=%r %s", self._connection.name, self._connection.client_id, error)
            return Publication(None, None, view, Reason.UNSPECIFIED_ERROR)
        lost = topic if adapter.keymap.topic(key) is None else None
        core = to_core(properties, qos=qos, retain=retain, keymap=adapter.keymap, topic=lost)
        envelope = Envelope.of(target.exchange.name, target.routing_key, core)
        envelope.encoded = {"mqtt": view}
        return Publication(target, envelope, view, Reason.SUCCESS)

    def _refuse(self, publication: Publication, qos: int, packet_ids: list[int]) -> None:
        """It may not: version 5 is told why; then, and for version 3, the connection ends (RabbitMQ's default)."""
        connection = self._connection
        acks = connection.acks
        if qos and self.is_v5:
            packet = PacketType.PUBACK if qos == 1 else PacketType.PUBREC
            data = b"".join([ack(packet, one, V5, publication.refusal) for one in packet_ids])
            acks.add(data, needs_store=False, settles=len(packet_ids))
        if self._adapter.settings.disconnect_on_unauthorized:
            acks.close_chunk()
            raise MqttFault(publication.refusal, f"may not publish to topic {publication.view.topic!r}")
        if qos and not self.is_v5:  # it cannot be told, and would send it for ever
            head = PUBACK if qos == 1 else PUBREC
            acks.add(short_acks(head, packet_ids), needs_store=False, settles=len(packet_ids))


def forwarded(properties: Properties | None) -> Properties | None:
    """What of a publisher's properties its receivers get; None if nothing."""
    if properties is None:
        return None
    kept = Properties(
        payload_format=properties.payload_format,
        content_type=properties.content_type,
        response_topic=properties.response_topic,
        correlation_data=properties.correlation_data,
        user_properties=properties.user_properties,
    )
    return kept if kept != Properties() else None

"""PUBLISH packets to one client: topic aliases, its maximum packet size, and QoS 0."""

from __future__ import annotations

from typing import TYPE_CHECKING

from leveret.adapters.mqtt.publish_view import PublishView, publish_packet
from leveret.adapters.mqtt.spec import V5
from leveret.core.queue.consumer import UNLIMITED

if TYPE_CHECKING:
    from leveret.adapters.mqtt.connection import MqttConnection
    from leveret.adapters.mqtt.session import EffectiveSubscription, MqttSession
__all__ = ["PacketWriter"]

NO_TOPIC = b"\0\0"  # the alias stands for it


class PacketWriter:
    """What a client asked for in CONNECT, and how packets to it look therefore.

    is_plain    neither: what is encoded for it may be everybody's
    max_packet  bytes; larger packets are not sent, and count as dropped (MQTT-3.1.2-25)
    """

    __slots__ = (
        "_adapter", "_alias_maximum", "_aliases", "_outbox", "_session", "_statistics", "is_plain", "is_v5", "max_packet",
    )  # fmt: skip

    def __init__(
        self, connection: MqttConnection, session: MqttSession, max_packet: int | None, alias_maximum: int
    ) -> None:
        self._adapter = connection.adapter
        self._statistics = connection.adapter.statistics
        self._outbox = connection.outbox
        self._session = session
        self.is_v5 = connection.version == V5
        self.max_packet = max_packet or UNLIMITED
        self.is_plain = max_packet is None and not alias_maximum
        self._alias_maximum = alias_maximum
        self._aliases: dict[str, int] | None = {} if alias_maximum else None

    @property
    def has_aliases(self) -> bool:
        """No two packets to a topic are alike: the first one tells the alias."""
        return self._aliases is not None

    def publish(
        self,
        view: PublishView,
        body: bytes,
        *,
        first: int,
        packet_id: int,
        identifiers: tuple[int, ...],
        expiry_s: int | None,
    ) -> bool:
        """One PUBLISH, now. first: its first byte; packet_id 0: QoS 0. False: it is too large for the client."""
        middle, tail, alias = self._head(view, identifiers, expiry_s)
        pieces = publish_packet(first, middle, packet_id, tail, body)
        size = sum(map(len, pieces))
        if size > self.max_packet:
            self.count_dropped(1)
            return False
        if alias and self._aliases is not None:
            self._aliases[view.topic] = alias  # from now on the client knows it
        self._outbox.chunks += pieces
        self._outbox.added(size)
        self._statistics.publish_sent += 1
        return True

    def _head(
        self, view: PublishView, identifiers: tuple[int, ...], expiry_s: int | None
    ) -> tuple[bytes, bytes, int]:
        """Topic, properties, and the alias that the packet tells, 0: none (5.0 3.3.2.3.4)."""
        if not self.is_v5:
            return view.topic_bytes, b"", 0
        aliases = self._aliases
        if aliases is not None:
            alias = aliases.get(view.topic)
            if alias is not None:
                return NO_TOPIC, view.aliased(alias, identifiers, expiry_s), 0
            if len(aliases) < self._alias_maximum:
                alias = len(aliases) + 1
                return view.topic_bytes, view.aliased(alias, identifiers, expiry_s), alias
        return view.topic_bytes, view.properties_bytes(identifiers, expiry_s), 0

    def packet(
        self,
        view: PublishView,
        body: bytes,
        *,
        first: int,
        packet_id: int,
        identifiers: tuple[int, ...],
        expiry_s: int | None,
    ) -> bytes | None:
        """One PUBLISH for later: without a topic alias, which what is sent meanwhile would have to know. None: too
        large for the client."""
        tail = view.properties_bytes(identifiers, expiry_s) if self.is_v5 else b""
        data = b"".join(publish_packet(first, view.topic_bytes, packet_id, tail, body))
        if len(data) > self.max_packet:
            self.count_dropped(1)
            return None
        self._statistics.publish_sent += 1
        return data

    def qos0(self, view: PublishView, grant: EffectiveSubscription, bodies: list[bytes]) -> None:
        """At most once: not at all if the client is too slow."""
        outbox = self._outbox
        if outbox.is_congested:
            self.count_dropped(len(bodies))
            return
        retain = view.retain and grant.retain_as_published
        if self.is_plain:
            packets = self._adapter.fanout.packets(view, bodies, (self.is_v5, retain, grant.identifiers))
            outbox.chunks.append(packets)
            outbox.added(len(packets))
            self._statistics.publish_sent += len(bodies)
            return
        for body in bodies:
            self.publish(
                view, body, first=0x31 if retain else 0x30, packet_id=0, identifiers=grant.identifiers,
                expiry_s=view.expiry_s,
            )  # fmt: skip

    def count_dropped(self, count: int) -> None:
        self._session.dropped_total += count
        self._statistics.publish_dropped += count

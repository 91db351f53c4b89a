"""One MQTT connection: CONNECT, packets in, keep alive, blocking, DISCONNECT."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import TYPE_CHECKING

import trio

from leveret.adapters.connection import DRAIN_S, AuthorizationTimeout, Connection, ConnectionState
from leveret.adapters.mqtt import subscribing
from leveret.adapters.mqtt.acks import Acks
from leveret.adapters.mqtt.handshake import Handshake, Refusal
from leveret.adapters.mqtt.keep_alive import KeepAlive
from leveret.adapters.mqtt.packets import (
    PINGRESP,
    decode_ack,
    decode_auth,
    decode_disconnect,
    decode_subscribe,
    decode_unsubscribe,
    disconnect,
)
from leveret.adapters.mqtt.parser import PacketParser
from leveret.adapters.mqtt.publishing import PROTOCOLS, Publisher
from leveret.adapters.mqtt.spec import V5, MqttFault, PacketType, Properties, Reason
from leveret.adapters.read_coalescing import ReadCoalescer
from leveret.core.connections import ConnectionDetails
from leveret.core.counters import PublishCounters

if TYPE_CHECKING:
    from leveret.adapters.mqtt.adapter import MqttAdapter
    from leveret.adapters.mqtt.session import MqttSession
    from leveret.adapters.mqtt.statistics import MqttStatistics
    from leveret.adapters.transport import Transport
    from leveret.core.session import Session
__all__ = ["MqttConnection"]

log = logging.getLogger(__name__)

VERSIONS = {3: "MQTT 3.1", 4: "MQTT 3.1.1", 5: "MQTT 5.0"}


class MqttConnection(Connection):
    """State of one connection.

    version 3, 4 or 5 once CONNECT was seen
    """

    parser: PacketParser
    fault_type = MqttFault

    __slots__ = (
        "_handshake",
        "_is_lost",
        "_publisher",
        "acks",
        "adapter",
        "client_id",
        "keep_alive",
        "mqtt_session",
        "parser",
        "settings",
        "version",
    )  # fmt: skip

    mqtt_session: MqttSession

    def __init__(self, adapter: MqttAdapter, transport: Transport) -> None:
        super().__init__(adapter.broker, transport, adapter.settings.outbox_bytes)
        self.adapter = adapter
        self.settings = adapter.settings
        self.version = 0
        self.client_id = ""
        self.parser = PacketParser(self, self.settings.max_packet_size_unauthenticated)
        self._handshake: Handshake | None = Handshake(self)
        self._is_lost = True  # until DISCONNECT says otherwise: the will is due
        self._publisher: Publisher | None = None  # created at its first use: most connections only subscribe
        self.keep_alive = KeepAlive(self)
        self.acks = Acks(self.outbox, self.broker.store)

    def __repr__(self) -> str:
        return f"<MqttConnection {self.name!r} {self.state} client={self.client_id!r}>"

    # -- the life of it

    @property
    def handshake_timeout_s(self) -> float:
        return self.settings.handshake_timeout_s

    @property
    def byte_totals(self) -> MqttStatistics:
        return self.adapter.statistics

    def end_of_chunk(self) -> None:
        self.acks.close_chunk()

    def on_error(self, error: Exception) -> bool:
        """The reason code that fits: version 5 is told, then it is over."""
        if isinstance(error, MqttFault):
            self.fail(error)
        elif isinstance(error, AuthorizationTimeout):
            self.fail(MqttFault(Reason.SERVER_BUSY, str(error)))
        else:
            self.fail(MqttFault(Reason.UNSPECIFIED_ERROR, str(error)))
        return False

    def on_lost(self, error: OSError) -> None:
        log.info("conn=%s client=%r lost: %s", self.name, self.client_id, error)

    def on_eof(self) -> None:
        if self.state is ConnectionState.RUNNING:
            log.info("conn=%s client=%r closed by the peer", self.name, self.client_id)

    async def say_goodbye(self) -> None:
        """The session is handed back. What was answered leaves, and what waits for the store."""
        self._hand_back()
        with trio.move_on_after(DRAIN_S):
            committed = trio.Event()
            if not self.broker.store.after_commit(committed.set):
                await committed.wait()
            await self.outbox.drain()

    def _hand_back(self) -> None:
        """The session goes on without us, or ends; the will, if we are missed, is due."""
        self.move_to(ConnectionState.CLOSED)
        self.broker.timers.tick()  # clocks start now: of the session's expiry, of the will's delay
        mine = self.mqtt_session if self.session is not None else None
        if mine is None or mine.connection is not self:
            return
        expiry_s, vhost = mine.expiry_s, mine.vhost.name
        mine.detach()
        if self._is_lost:
            self.adapter.wills.fire(vhost, self.client_id, session_expiry_s=expiry_s)

    def release(self) -> None:
        self._hand_back()
        self.keep_alive.stop()
        self.acks.close()
        statistics = self.adapter.statistics
        statistics.bytes_sent += self.outbox.sent_total
        if self.session is not None:
            statistics.client_disconnected()
            log.info("conn=%s client=%r closed", self.name, self.client_id)

    def _on_drained(self) -> None:
        super()._on_drained()
        if self.session is not None and self.mqtt_session.delivery is not None:
            self.mqtt_session.delivery.on_drained()

    # -- packets (PacketHandler)

    def on_publish(
        self, flags: int, topic: bytes, properties: bytes, packet_ids: list[int], payloads: list[bytes]
    ) -> None:
        if not self.is_publisher:
            self.is_publisher = True
            self.coalescer = ReadCoalescer()
        publisher = self._publisher or self._create_publisher()
        publisher.publish(flags, topic, properties, packet_ids, payloads)

    def _create_publisher(self) -> Publisher:
        assert self.session is not None
        self._publisher = Publisher(self, self.session, self.settings.receive_maximum)
        return self._publisher

    def on_acks(self, packet: PacketType, packet_ids: list[int]) -> None:
        if packet is PacketType.PUBREL:
            publisher = self._publisher or self._create_publisher()
            publisher.release(packet_ids)
            return
        delivery = self.mqtt_session.delivery
        if delivery is None:  # taken over a moment ago
            return
        if packet is PacketType.PUBACK:
            delivery.on_puback(packet_ids)
        elif packet is PacketType.PUBREC:
            delivery.on_pubrec(packet_ids)
        else:
            delivery.on_pubcomp(packet_ids)

    def on_packet(self, first: int, payload: bytes) -> None:
        if self.state is ConnectionState.CLOSED:
            return
        self.adapter.statistics.messages_received += 1
        packet, flags = first >> 4, first & 15
        if self.session is None:
            if packet != PacketType.CONNECT or flags:
                raise MqttFault(Reason.PROTOCOL_ERROR, f"packet of type {packet} instead of CONNECT")
            self._on_connect(payload)
        else:
            handle = HANDLERS.get(packet)
            if handle is None:
                raise _unexpected(packet)
            handle(self, packet, flags, payload)

    def _on_pingreq(self, packet: int, flags: int, payload: bytes) -> None:
        if flags or payload:
            raise MqttFault(Reason.MALFORMED_PACKET, "PINGREQ with flags or payload")
        self.answer(PINGRESP)

    def _on_subscribe(self, packet: int, flags: int, payload: bytes) -> None:
        request = decode_subscribe(payload, self.version, flags)
        self._with_definitions(lambda: subscribing.on_subscribe(self, request))

    def _on_unsubscribe(self, packet: int, flags: int, payload: bytes) -> None:
        request = decode_unsubscribe(payload, self.version, flags)
        self._with_definitions(lambda: subscribing.on_unsubscribe(self, request))

    def _on_auth(self, packet: int, flags: int, payload: bytes) -> None:
        if self.version != V5:
            raise _unexpected(packet)
        decode_auth(payload)
        raise MqttFault(Reason.PROTOCOL_ERROR, "AUTH without an authentication method")

    def _on_long_ack(self, number: int, flags: int, payload: bytes) -> None:
        """An acknowledgement with a reason; most have none, and come to `on_acks` in runs."""
        packet = PacketType(number)
        if flags != (2 if packet is PacketType.PUBREL else 0):
            raise MqttFault(Reason.MALFORMED_PACKET, "an acknowledgement with wrong flags")
        packet_id, reason = decode_ack(payload, self.version)
        delivery = self.mqtt_session.delivery
        if reason >= 0x80 and packet in (PacketType.PUBACK, PacketType.PUBREC):
            if delivery is not None:
                delivery.on_refused(packet, packet_id)
            return
        self.on_acks(packet, [packet_id])

    def _with_definitions(self, act: Callable[[], None]) -> None:
        """What changes durable sessions is answered when they are durable."""
        store = self.broker.store
        before = store.definition_writes
        act()
        if store.definition_writes != before:
            self.hold_until_durable()

    def answer(self, data: bytes) -> None:
        self.acks.close_chunk()  # what was asked before is answered before
        self.adapter.statistics.messages_sent += 1
        self.outbox.write(data)

    # -- coming and going

    def _on_connect(self, payload: bytes) -> None:
        handshake = self._handshake
        assert handshake is not None
        try:
            packet = handshake.decode(payload)
        except Refusal as refusal:
            self._refuse(refusal)
            return

        async def accept() -> None:
            try:
                await handshake.accept(packet)
            except Refusal as refusal:
                if refusal.is_login:
                    await trio.sleep(self.broker.settings.auth.login_failure_delay_s)
                self._refuse(refusal)

        self.parser.version = self.version
        self.defer(accept)

    def _refuse(self, refusal: Refusal) -> None:
        assert self._handshake is not None
        self.outbox.write(self._handshake.refuse(refusal))
        self.move_to(ConnectionState.CLOSED)
        self.broker.dispatcher.run()

    def opened(self, session: Session, mine: MqttSession) -> None:
        """CONNECT is accepted."""
        self.log_in(session)
        self.mqtt_session = mine
        self.acks.unsent_publishes = len(mine.received)  # a resumed session's are in flight still
        self.parser.max_size = self.settings.max_packet_size
        self._handshake = None
        self.adapter.statistics.client_connected()

    def _on_disconnect(self, packet_type: int, flags: int, payload: bytes) -> None:
        if flags:
            raise MqttFault(Reason.MALFORMED_PACKET, "DISCONNECT with flags")
        packet = decode_disconnect(payload, self.version)
        expiry_s = packet.properties.session_expiry_s
        mine = self.mqtt_session
        if expiry_s is not None and mine.connection is self:
            if expiry_s and not mine.expiry_s:
                raise MqttFault(Reason.PROTOCOL_ERROR, "DISCONNECT gives a session that had none an expiry")
            mine.set_expiry(min(expiry_s, self.settings.max_session_expiry_s))
        if packet.reason == Reason.SUCCESS:  # after any other, the will is due (MQTT-3.14.4-3)
            self._is_lost = False
            if mine.connection is self:
                self.adapter.wills.discard(mine.vhost.name, self.client_id)
        self.acks.close_chunk()
        self.move_to(ConnectionState.CLOSED)
        self.parser.is_suspended = True  # nothing behind it counts

    def taken_over(self) -> None:
        """Another connection has our client id now, and our session (5.0 3.1.4)."""
        self._is_lost = False  # whoever comes decides about the will
        self._end(Reason.SESSION_TAKEN_OVER, "the session was taken over")

    def fail(self, fault: MqttFault) -> None:
        """The peer's mistake, or our refusal: version 5 is told, then it is over."""
        if self.state is ConnectionState.CLOSED:
            return
        log.warning("conn=%s client=%r error=0x%02x %s", self.name, self.client_id, fault.reason, fault.text)
        if self.session is None:
            handshake = self._handshake
            if self.version and handshake is not None:
                self.outbox.write(handshake.refuse(Refusal(fault.reason, fault.text)))
            self._close()
            return
        self._end(fault.reason, fault.text)

    def _end(self, reason: Reason, text: str) -> None:
        """Tell it, hand the session back at once, and close when the last bytes are out."""
        self.acks.close_chunk()
        if self.state is not ConnectionState.CLOSED and self.version == V5 and self.session is not None:
            self.outbox.write(disconnect(reason, Properties(reason_string=text[:1000])))
        self._close()

    def _close(self) -> None:
        """No more is read; what was written leaves."""
        self.parser.is_suspended = True
        self._hand_back()
        self.transport.stop_reading()
        self._cancel_deadline()
        # Who waits for something else than the peer's bytes has a moment to get there.
        self._deadline = self.broker.timers.after(2 * DRAIN_S, self.cancel)
        self.broker.dispatcher.run_soon()

    def close(self, reason: str, *, code: int = 320, is_shutdown: bool = False) -> None:
        """The broker ends it: shutdown, an operator, a deleted virtual host."""
        if self.state is ConnectionState.RUNNING:
            self._end(Reason.SERVER_SHUTTING_DOWN if is_shutdown else Reason.ADMINISTRATIVE_ACTION, reason)
        elif self.state is not ConnectionState.CLOSED:
            self.cancel()

    def traffic(self) -> tuple[str, PublishCounters]:
        """See core/counters.py. confirmed: answered with PUBACK or PUBCOMP."""
        total = PublishCounters(bytes_received=self.received_bytes, bytes_sent=self.outbox.sent_total)
        protocol = PROTOCOLS.get(self.version, PROTOCOLS[4])
        if self.session is None:
            return protocol, total
        mine = self.mqtt_session
        publisher = self._publisher
        if publisher is not None:
            pipeline = publisher.pipeline
            pipeline.note_sizes()
            total.received = pipeline.published_total
            total.received_confirm = publisher.confirmable_total
            total.confirmed = self.acks.settled_total
            total.routed = pipeline.published_total - pipeline.unroutable_total
            total.dropped = pipeline.unroutable_total
            total.publishers = 1 if pipeline.published_total else 0
        total.consumers = len(mine.subscriptions) if mine.connection is self else 0
        return protocol, total

    @property
    def protocol(self) -> str:
        return VERSIONS.get(self.version, "MQTT")

    @property
    def is_blocked(self) -> bool:
        return self.state is ConnectionState.RUNNING and self.is_publisher and self.broker.alarms.is_blocking

    def details(self) -> ConnectionDetails:
        return ConnectionDetails(
            mechanism="MQTT",
            heartbeat_s=self.keep_alive.seconds,
            client_properties={"client_id": self.client_id, "product": "MQTT client"},
            extra={"client_id": self.client_id},
        )


def _unexpected(packet: int) -> MqttFault:
    return MqttFault(Reason.PROTOCOL_ERROR, f"packet of type {packet} from a client that is connected")


HANDLERS: dict[int, Callable[[MqttConnection, int, int, bytes], None]] = {
    PacketType.PUBACK: MqttConnection._on_long_ack,
    PacketType.PUBREC: MqttConnection._on_long_ack,
    PacketType.PUBREL: MqttConnection._on_long_ack,
    PacketType.PUBCOMP: MqttConnection._on_long_ack,
    PacketType.SUBSCRIBE: MqttConnection._on_subscribe,
    PacketType.UNSUBSCRIBE: MqttConnection._on_unsubscribe,
    PacketType.PINGREQ: MqttConnection._on_pingreq,
    PacketType.DISCONNECT: MqttConnection._on_disconnect,
    PacketType.AUTH: MqttConnection._on_auth,
}
"""What a client that is connected may send: packet type to handler(connection, packet type, flags, payload)."""

"""One STOMP connection: its life from accept to end; reading, answering, closing."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import trio

from leveret.adapters.connection import Connection, ConnectionState
from leveret.adapters.read_coalescing import ReadCoalescer
from leveret.adapters.stomp.acks import Deliveries
from leveret.adapters.stomp.commands import Commands
from leveret.adapters.stomp.faults import StompFault, fault_of
from leveret.adapters.stomp.frames import VERSIONS, encode_frame
from leveret.adapters.stomp.handshake import Handshake, new_session_id
from leveret.adapters.stomp.heartbeat import Heartbeat
from leveret.adapters.stomp.parser import FrameParser, Limits
from leveret.adapters.stomp.publishing import PROTOCOL, Publisher
from leveret.adapters.stomp.receipts import Receipts
from leveret.adapters.stomp.settings import StompSettings
from leveret.adapters.stomp.subscriptions import Subscriptions
from leveret.adapters.stomp.transactions import Transactions
from leveret.adapters.websocket.transport import WebSocketTransport
from leveret.core.connections import ConnectionDetails
from leveret.core.counters import PublishCounters
from leveret.core.errors import BrokerError

if TYPE_CHECKING:
    from leveret.adapters.stomp.subscriptions import Subscription
    from leveret.adapters.transport import Transport
    from leveret.core.broker import Broker
    from leveret.core.session import Session
__all__ = ["StompConnection"]

log = logging.getLogger(__name__)

CLOSE_TIMEOUT_S = 30.0  # how long an ERROR or the last receipts wait for the store
# What the peer had sent behind a fault is read before we close, or its system would throw our ERROR away (RFC 1122,
# 4.2.2.13): until nothing came for a moment, or it closed, or too much of it came.
QUIET_S, LINGER_S = 0.05, 1.0


class StompConnection(Connection):
    """State of one connection.

    In the state "closing", the last frames leave; nothing more is read.
    """

    parser: FrameParser
    fault_type = StompFault
    is_blocked = False  # by an alarm, as listings show it
    prompt_bytes = 2048  # a client that sends less than this waits, rather than streams

    def __init__(self, broker: Broker, transport: Transport) -> None:
        super().__init__(broker, transport, StompSettings.of(broker.settings).outbox_bytes)
        self.settings = broker.settings
        self.version = VERSIONS[0]
        self.session_id = new_session_id()
        self.handshake = Handshake(self)
        self.heartbeat = Heartbeat(self)
        self.coalescer = ReadCoalescer()
        stomp = StompSettings.of(self.settings)
        self.parser = FrameParser(
            Commands(self),
            Limits(stomp.max_frame_size_unauthenticated, stomp.max_headers, stomp.max_header_length),
        )
        self._reading = trio.CancelScope()
        self.receipts = Receipts(self.outbox, broker.store)
        self.deliveries = Deliveries(broker.dispatcher, self.session_id, requeues=stomp.default_nack_requeue)
        self.transactions = Transactions(stomp)
        self.publisher: Publisher
        self.subscriptions: Subscriptions

    def __repr__(self) -> str:
        return f"<StompConnection {self.name!r} {self.state} version={self.version}>"

    # -- the life of it

    @property
    def handshake_timeout_s(self) -> float:
        return StompSettings.of(self.settings).handshake_timeout_s

    def started(self) -> None:
        self._unsubscribe = self.broker.alarms.on_change(self._on_alarm)

    async def _read(self) -> None:
        with self._reading:
            await super()._read()

    def end_of_chunk(self) -> None:
        self.receipts.close_chunk()

    def on_error(self, error: Exception) -> bool:
        """ERROR, and the end: nothing behind the offending frame is looked at."""
        if isinstance(error, StompFault):
            self.fail(error)
        elif isinstance(error, BrokerError):
            self.fail(fault_of(error))
        return False

    def on_eof(self) -> None:
        if self.state is ConnectionState.RUNNING:
            log.info("conn=%s closed by the peer without DISCONNECT", self.name)

    async def say_goodbye(self) -> None:
        """The last answers leave, as far as they may and the peer takes them."""
        is_ours = self.state is ConnectionState.CLOSING
        if self.state in (ConnectionState.STARTING, ConnectionState.RUNNING):
            self._give_back()  # it will not read messages, but it may still read receipts
            self.move_to(ConnectionState.CLOSING)
        self.receipts.close_chunk()
        self.broker.dispatcher.run()
        if self.receipts.is_waiting:
            answered = trio.Event()
            self.receipts.on_empty = answered.set
            with trio.move_on_after(CLOSE_TIMEOUT_S):
                await answered.wait()
        await super().say_goodbye()
        if is_ours:
            await self._linger()

    async def _linger(self) -> None:
        try:
            with trio.move_on_after(LINGER_S):
                while True:
                    with trio.fail_after(QUIET_S):
                        if not await self.transport.receive():
                            return
        except (OSError, trio.TooSlowError):  # it is gone, or it is quiet
            return

    def release(self) -> None:
        self._unsubscribe()
        self._give_back()
        self.heartbeat.stop()
        self.receipts.close()
        if self.session is not None:
            log.info("conn=%s vhost=%s user=%s closed", self.name, self.vhost_name, self.username)

    def _give_back(self) -> None:
        """Consumers and deliveries; open transactions are as if they had never been."""
        self.transactions.clear()
        if self.session is not None:
            self.subscriptions.release()

    def _on_drained(self) -> None:
        """The peer took what was waiting: its subscriptions may go on, in the next pass."""
        super()._on_drained()
        if self.session is not None:
            for subscription in self.subscriptions:
                consumer = subscription.consumer
                if consumer is not None and consumer.queue.ready.count:
                    self.broker.dispatcher.dispatch_later(consumer.queue)

    # -- answers

    def answer(self, receipt: str, *, needs_store: bool, then: Callable[[], None] | None = None) -> None:
        """RECEIPT, in its turn."""
        data = encode_frame("RECEIPT", (("receipt-id", receipt),), b"", self.version)
        self.receipts.add(data, needs_store=needs_store, then=then)

    def write(self, command: str, *headers: tuple[str, str], body: bytes = b"") -> None:
        self.outbox.write(encode_frame(command, headers, body, self.version))

    # -- what happens to it

    def opened(self, session: Session, version: str) -> None:
        """The handshake is done."""
        self.version = version
        stomp = StompSettings.of(self.settings)
        self.publisher = Publisher(self, session)
        self.subscriptions = Subscriptions(self, session)
        parser = self.parser
        parser.version = version
        parser.limits = Limits(stomp.max_frame_size, stomp.max_headers, stomp.max_header_length)
        parser.is_open = True
        parser.forget()
        self.log_in(session)
        log.info(
            "conn=%s vhost=%s user=%s mechanism=%s version=%s opened",
            self.name,
            session.vhost.name,
            session.principal.username,
            self.handshake.mechanism,
            version,
        )

    def on_first_publish(self) -> None:
        """The first since it was opened, or since an alarm was set."""
        self.is_publisher = True
        self.is_blocked = self.broker.alarms.is_blocking

    def _on_alarm(self) -> None:
        """An alarm was set or cleared. Who publishes from now on is paused; who only consumes never is."""
        if not self.broker.alarms.is_blocking:
            self.is_blocked = False
        elif not self.is_blocked:
            self.is_publisher = False

    def on_cancelled(self, subscription: Subscription) -> None:
        """The queue is gone: say so; only that subscription ends (the one ERROR after which we stay, as RabbitMQ)."""
        self.subscriptions.forget(subscription)
        if self.state is not ConnectionState.RUNNING:
            return
        shown = f"id='{subscription.id}'" if subscription.id is not None else subscription.tag
        self.write(
            *self._error(
                "Server cancelled subscription", ("subscription", subscription.id or subscription.tag)
            ),
            body=(
                "The server has canceled a subscription.\n"
                f'No more messages will be delivered for "{shown}".\n'
            ).encode("utf-8", "surrogateescape"),
        )

    def check_timeouts(self, now: float) -> None:
        """Called once a minute: deliveries older than the consumer timeout end the connection."""
        timeout_ms = self.deliveries.overdue(now, self.settings.limits.consumer_timeout_ms)
        if timeout_ms is not None and self.state is ConnectionState.RUNNING:
            self.fail(
                StompFault(
                    "precondition_failed",
                    f"PRECONDITION_FAILED - delivery acknowledgement timed out. Timeout value used: {timeout_ms} ms",
                )
            )

    # -- the end

    def leave(self) -> None:
        """DISCONNECT: what it says behind is not looked at."""
        self.parser.ignores_input = self.parser.is_suspended = True
        self._give_back()
        self._end()

    def fail(self, fault: StompFault, *, level: int = logging.ERROR) -> None:
        """Give everything back, say why behind what was earned before, and end."""
        if self.state in (ConnectionState.CLOSING, ConnectionState.CLOSED):
            return
        log.log(
            level,
            "conn=%s vhost=%s user=%s state=%s error=%r %r",
            self.name,
            self.vhost_name,
            self.username,
            self.state,
            fault.message,
            fault.detail.strip(),
        )
        self.parser.ignores_input = True
        self._give_back()
        extra = () if fault.receipt is None else (("receipt-id", fault.receipt),)
        command, *headers = self._error(fault.message, *extra)
        body = fault.detail.encode("utf-8", "surrogateescape")
        self.receipts.add(encode_frame(command, headers, body, self.version), needs_store=False)
        self._end()

    @staticmethod
    def _error(message: str, *extra: tuple[str, str]) -> Any:
        return (
            "ERROR",
            ("message", message),
            ("content-type", "text/plain"),
            ("version", ",".join(VERSIONS)),
            *extra,
        )

    def _end(self) -> None:
        self.move_to(ConnectionState.CLOSING)
        self._reading.cancel()

    def close(self, reason: str, *, code: int = 320, is_shutdown: bool = False) -> None:
        """The broker ends it: shutdown, an operator, a deleted virtual host."""
        if self.state is ConnectionState.RUNNING:
            fault = StompFault("connection_forced", f"CONNECTION_FORCED - {reason}")
            self.fail(fault, level=logging.WARNING)
        elif self.state is ConnectionState.STARTING:
            self.cancel()

    def traffic(self) -> tuple[str, PublishCounters]:
        """See core/counters.py. A receipt is its frame's affair, not a confirm."""
        total = PublishCounters(bytes_received=self.received_bytes, bytes_sent=self.outbox.sent_total)
        if self.session is None:
            return PROTOCOL, total
        pipeline = self.publisher.pipeline
        pipeline.note_sizes()
        total.received = pipeline.published_total
        total.routed = pipeline.published_total - pipeline.unroutable_total
        total.dropped = pipeline.unroutable_total
        total.publishers = 1 if pipeline.published_total else 0
        total.consumers = len(self.subscriptions)
        return PROTOCOL, total

    @property
    def protocol(self) -> str:
        is_web = isinstance(self.transport, WebSocketTransport)
        return f"{'Web STOMP' if is_web else 'STOMP'} {self.version}"

    @property
    def channel_count(self) -> int:
        return 1 if self.session else 0

    def details(self) -> ConnectionDetails:
        return ConnectionDetails(
            mechanism=self.handshake.mechanism,
            heartbeat_s=int(self.heartbeat.expected_s),
            channel_max=1,
            frame_max=self.parser.limits.size,
            client_properties={"product": "STOMP client"},
        )

"""One AMQP connection: handshake, channels, heartbeats, blocking, closing."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

from leveret.adapters.amqp import handlers, methods
from leveret.adapters.amqp.channel import Channel
from leveret.adapters.amqp.faults import ConnectionFault, fault_of, reply_text
from leveret.adapters.amqp.handshake import Handshake
from leveret.adapters.amqp.heartbeat import Heartbeat
from leveret.adapters.amqp.methods import Method, MethodError, decode_method, method_frame
from leveret.adapters.amqp.protocol import PROTOCOL_HEADER, FrameParser
from leveret.adapters.amqp.publishing import PROTOCOL
from leveret.adapters.amqp.settings import AmqpSettings
from leveret.adapters.connection import Connection, ConnectionState
from leveret.adapters.read_coalescing import ReadCoalescer
from leveret.core.connections import ConnectionDetails
from leveret.core.counters import PublishCounters
from leveret.core.errors import BrokerError, InternalError

if TYPE_CHECKING:
    from leveret.adapters.amqp.adapter import AmqpAdapter
    from leveret.adapters.transport import Transport
    from leveret.core.session import Session
__all__ = ["AmqpConnection"]

log = logging.getLogger(__name__)

CLOSE_TIMEOUT_S = 30.0  # how long a close of ours waits for close-ok
FRAME_FAULT_LINGER_S = (
    3.0  # after a framing error nothing can be understood: the close is sent, then the socket ends
)
PAUSED_CLOSE_S = 1.0  # for the close to leave, where an alarm keeps us from reading the answer


class AmqpConnection(Connection):
    """State of one connection, from the protocol header to the end.

    In the state "closing", our connection.close waits for close-ok; input is read until then.
    """

    parser: FrameParser
    fault_type = ConnectionFault
    is_blocked = False  # connection.blocked was sent
    reads_in = (*Connection.reads_in, ConnectionState.CLOSING)

    def __init__(self, adapter: AmqpAdapter, transport: Transport) -> None:
        super().__init__(adapter.broker, transport, AmqpSettings.of(adapter.broker.settings).outbox_bytes)
        self.adapter = adapter
        self.settings = adapter.broker.settings
        self.channels: dict[int, Channel] = {}
        self.confirming: set[Channel] = set()  # channels that published in confirm mode during this chunk
        self.handshake = Handshake(self)
        self.heartbeat = Heartbeat(self)
        self.frame_max = AmqpSettings.of(self.settings).frame_max
        self.channel_max = AmqpSettings.of(self.settings).channel_max
        self.coalescer = ReadCoalescer()
        self.parser = FrameParser(self, max(AmqpSettings.of(self.settings).frame_max, 4096))

    def __repr__(self) -> str:
        return f"<AmqpConnection {self.name!r} {self.state} channels={len(self.channels)}>"

    # -- the life of it

    @property
    def handshake_timeout_s(self) -> float:
        return AmqpSettings.of(self.settings).handshake_timeout_s

    def started(self) -> None:
        self._unsubscribe = self.broker.alarms.on_change(self._on_alarm)

    def end_of_chunk(self) -> None:
        """Confirm what was published during this chunk."""
        if self.confirming:
            for channel in self.confirming:
                if channel.confirms is not None:
                    channel.confirms.close_chunk()
            self.confirming.clear()

    def on_error(self, error: Exception) -> bool:
        """Close the connection with the error's code. Frames behind the offending one are parsed: close-ok may come."""
        if isinstance(error, ConnectionFault):
            if error.code == 501 or self.state in (ConnectionState.CLOSING, ConnectionState.CLOSED):
                self.parser.ignores_input = True  # nothing it says can be understood any more
            self.fail(error)
            return True
        assert isinstance(error, BrokerError)
        fault = fault_of(error)
        self.fail(fault if isinstance(fault, ConnectionFault) else ConnectionFault(541, str(error)))
        if isinstance(error, InternalError):
            self.parser.ignores_input = True
        return False

    def on_eof(self) -> None:
        if self.state not in (ConnectionState.CLOSING, ConnectionState.CLOSED):
            log.warning("conn=%s state=%s closed unexpectedly by the peer", self.name, self.state)

    def release(self) -> None:
        self._unsubscribe()
        self.heartbeat.stop()
        self.release_channels()
        if self.session is not None:
            log.info("conn=%s vhost=%s user=%s closed", self.name, self.vhost_name, self.username)

    def _on_drained(self) -> None:
        """The peer took what was waiting: its consumers may go on, in the next pass."""
        super()._on_drained()
        again = self.broker.dispatcher.dispatch_later
        for channel in self.channels.values():
            for consumer in channel.consumers.values():
                if consumer.queue.ready.count:
                    again(consumer.queue)

    # -- frames (ConnectionHandler)

    def on_protocol_header(self, header: bytes) -> None:
        self.handshake.on_header(header)

    def on_heartbeat(self) -> None:
        """Any byte counts; the reader has seen to it."""

    def publisher(self, number: int) -> Channel:
        channel = self.channels.get(number)
        if channel is None:
            if not number or self.state is not ConnectionState.RUNNING:
                raise ConnectionFault(503, f"content method on channel {number} in state {self.state}")
            raise ConnectionFault(504, "expected 'channel.open'", (60, 40))
        return channel

    def on_method(self, number: int, payload: bytes) -> None:
        try:
            method = decode_method(payload)
        except MethodError as error:
            if self.state in (ConnectionState.CLOSING, ConnectionState.CLOSED):
                return
            raise ConnectionFault(error.code, error.text, error.method) from error
        if self.state is ConnectionState.CLOSING or self.state is ConnectionState.CLOSED:
            self._on_method_while_closing(method)
        elif self.state is not ConnectionState.RUNNING:
            if number:
                raise ConnectionFault(
                    505, f"method on channel {number} before the connection is open", method.id
                )
            self.handshake.on_method(method)
        elif number:
            self._on_channel_method(number, method)
        else:
            handlers.on_connection_method(self, method)

    def _on_method_while_closing(self, method: Method) -> None:
        if isinstance(method, methods.ConnectionCloseOk):
            self.move_to(ConnectionState.CLOSED)
        elif isinstance(method, methods.ConnectionClose):
            self.send(methods.ConnectionCloseOk())

    def _on_channel_method(self, number: int, method: Method) -> None:
        channel = self.channels.get(number)
        if channel is None:
            if isinstance(method, methods.ChannelOpen):
                self._open_channel(number)
            elif not isinstance(method, (methods.ChannelCloseOk, methods.ChannelClose)):
                raise ConnectionFault(504, "expected 'channel.open'", method.id)
            elif isinstance(method, methods.ChannelClose):
                self.outbox.write(method_frame(number, methods.ChannelCloseOk()))
        elif channel.is_closing:
            if isinstance(method, methods.ChannelCloseOk):
                self.forget_channel(number)
            elif isinstance(method, methods.ChannelClose):
                # Both closes crossed: answer, and go on waiting for the answer to ours.
                channel.send(methods.ChannelCloseOk())
        elif channel.content is not None:
            raise ConnectionFault(
                505, f"expected content header or body, got method '{method.name}' instead", method.id
            )
        else:
            store = self.broker.store
            before = store.definition_writes
            handlers.on_channel_method(channel, method)
            if store.definition_writes != before:
                self.hold_until_durable()

    def _open_channel(self, number: int) -> None:
        if self.channel_max and (count := len(self.channels)) >= self.channel_max:
            raise ConnectionFault(
                530,
                f"number of channels opened ({count}) has reached the negotiated channel_max ({self.channel_max})",
                (20, 10),
            )
        assert self.session is not None
        self.broker.connection_limits.check_channel(self.username)
        self.channels[number] = Channel(self, number)
        self.broker.connections.open_channel(self)
        self.outbox.write(method_frame(number, methods.ChannelOpenOk()))

    def forget_channel(self, number: int) -> None:
        """It is closed on both sides: its number may be used again."""
        del self.channels[number]
        self.broker.connections.close_channel(self)

    def release_channels(self) -> None:
        """The connection ends: all channels give back what they hold."""
        for channel in list(self.channels.values()):
            channel.release()
            self.forget_channel(channel.number)

    # -- what happens to it

    def opened(self, session: Session) -> None:
        """The handshake is done."""
        self.log_in(session)
        self.heartbeat.start(self.handshake.heartbeat_s)
        log.info(
            "conn=%s vhost=%s user=%s mechanism=%s opened",
            self.name,
            session.vhost.name,
            session.principal.username,
            self.handshake.mechanism,
        )

    def has_capability(self, name: str) -> bool:
        return self.handshake.capabilities.get(name) is True

    def on_first_publish(self) -> None:
        """The first since it was opened, or since an alarm was set."""
        self.is_publisher = True
        if self.broker.alarms.is_blocking:
            self._set_blocked(True)

    def _on_alarm(self) -> None:
        """An alarm was set or cleared. Who publishes from now on is blocked; who only consumes never is."""
        if not self.broker.alarms.is_blocking:
            self._set_blocked(False)
        elif not self.is_blocked:
            self.is_publisher = False

    def _set_blocked(self, is_blocked: bool) -> None:
        """Tell it, once per episode."""
        if self.state is not ConnectionState.RUNNING or is_blocked == self.is_blocked:
            return
        self.is_blocked = is_blocked
        if self.has_capability("connection.blocked"):
            self.send(
                methods.ConnectionBlocked(reason=self.broker.alarms.reason)
                if is_blocked
                else methods.ConnectionUnblocked()
            )
            self.broker.dispatcher.run_soon()

    # -- the end

    def send(self, method: Method) -> None:
        self.outbox.write(method_frame(0, method))

    def fail(self, fault: ConnectionFault) -> None:
        """A connection exception: give everything back, say why, wait for close-ok."""
        if self.state in (ConnectionState.CLOSING, ConnectionState.CLOSED):
            return
        text = reply_text(fault.code, fault.text)
        log.error(
            "conn=%s vhost=%s user=%s state=%s error=%d method=%d.%d %s",
            self.name,
            self.vhost_name,
            self.username,
            self.state,
            fault.code,
            *fault.method,
            text,
        )
        is_unreadable = fault.code == 501
        if self.state is ConnectionState.STARTING and not self.handshake.is_started:
            self.outbox.write(PROTOCOL_HEADER)  # it does not speak our protocol: name the one we do
            self.move_to(ConnectionState.CLOSED)
            return
        self._send_close(
            fault.code, text, fault.method, FRAME_FAULT_LINGER_S if is_unreadable else CLOSE_TIMEOUT_S
        )

    def close(self, reason: str, *, code: int = 320, is_shutdown: bool = False) -> None:
        """The broker ends it: shutdown, an operator, a deleted virtual host."""
        if self.state is ConnectionState.RUNNING:
            self._send_close(code, reply_text(code, reason), (0, 0), CLOSE_TIMEOUT_S)
            self.broker.dispatcher.run_soon()
        elif self.state not in (ConnectionState.CLOSING, ConnectionState.CLOSED):
            self.cancel()

    def _send_close(self, code: int, text: str, method: tuple[int, int], timeout_s: float) -> None:
        self.release_channels()
        self.move_to(ConnectionState.CLOSING)
        self.parser.is_discarding = True
        self.send(
            methods.ConnectionClose(reply_code=code, reply_text=text, class_id=method[0], method_id=method[1])
        )
        if self.is_reading_paused:
            timeout_s = PAUSED_CLOSE_S  # its close-ok would not be read
        self.broker.timers.after(timeout_s, self.cancel)

    def traffic(self) -> tuple[str, PublishCounters]:
        """See core/counters.py. Channels that are closing have handed over what they counted."""
        total = PublishCounters(bytes_received=self.received_bytes, bytes_sent=self.outbox.sent_total)
        for channel in self.channels.values():
            if not channel.is_closing:
                own = channel.traffic()
                total.add(own)
                total.publishers += own.publishers
                total.consumers += own.consumers
        return PROTOCOL, total

    @property
    def protocol(self) -> str:
        return "AMQP 0-9-1"

    def details(self) -> ConnectionDetails:
        return ConnectionDetails(
            mechanism=self.handshake.mechanism,
            heartbeat_s=self.handshake.heartbeat_s,
            channel_max=self.channel_max,
            frame_max=self.frame_max,
            client_properties=self.handshake.client_properties,
        )

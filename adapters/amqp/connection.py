"""One AMQP connection: handshake, channels, heartbeats, blocking, closing."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

import trio

from leveret.adapters.amqp import handlers, methods
from leveret.adapters.amqp.channel import Channel
from leveret.adapters.amqp.faults import ConnectionFault, fault_of, reply_text
from leveret.adapters.amqp.handshake import Handshake
from leveret.adapters.amqp.heartbeat import Heartbeat
from leveret.adapters.amqp.methods import Method, MethodError, decode_method, method_frame
from leveret.adapters.amqp.protocol import PROTOCOL_HEADER, FrameParser
from leveret.adapters.amqp.publishing import PROTOCOL
from leveret.adapters.amqp.settings import AmqpSettings
from leveret.adapters.connection import Connection
from leveret.adapters.read_coalescing import PAUSE_S, ReadCoalescer
from leveret.adapters.transport import READ_BULK_BYTES, READ_BYTES
from leveret.core.connections import ConnectionDetails
from leveret.core.counters import PublishCounters
from leveret.core.errors import AuthorizationPending, BrokerError

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
DRAIN_S = 5.0  # for the last bytes to a slow peer


class AmqpConnection(Connection):
    """State of one connection, from the protocol header to the end.

    state   starting, tuning, opening, running, closing (our close waits for close-ok), closed
    """

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
        self.is_blocked = False  # connection.blocked was sent
        self.coalescer = ReadCoalescer()
        self.parser = FrameParser(self, max(AmqpSettings.of(self.settings).frame_max, 4096))

    def __repr__(self) -> str:
        return f"<AmqpConnection {self.name!r} {self.state} channels={len(self.channels)}>"

    # -- the life of it

    async def run(self) -> None:
        """From accept to end. Leaves nothing behind: consumers, deliveries and exclusive queues are given back."""
        broker = self.broker
        broker.connections.add(self)
        deadline = broker.timers.at(
            trio.current_time() + AmqpSettings.of(self.settings).handshake_timeout_s,
            self._on_handshake_timeout,
        )
        unsubscribe = broker.alarms.on_change(self._on_alarm)
        try:
            async with trio.open_nursery() as nursery:
                self._nursery = nursery
                await self._read()
                with trio.move_on_after(DRAIN_S):
                    await self.outbox.drain()
                nursery.cancel_scope.cancel()
        finally:
            deadline.cancel()
            unsubscribe()
            self._teardown()
            broker.connections.discard(self)

    async def _read(self) -> None:
        broker, transport, parser = self.broker, self.transport, self.parser
        while self.state != "closed":
            if self.deferred is not None:
                await self._settle_deferred()
                parser.is_suspended = False
                data = b""
            else:
                if not self.may_read:
                    await self.wait_until_readable()
                try:
                    data = await transport.receive()
                except OSError as error:  # reset: the peer's way to leave in a hurry
                    log.warning("conn=%s state=%s lost: %s", self.name, self.state, error)
                    return
                if not data:
                    if self.state not in ("closing", "closed"):
                        log.warning("conn=%s state=%s closed unexpectedly by the peer", self.name, self.state)
                    return
                self.received_bytes += len(data)
                self.heartbeat.has_received = True
            now = broker.timers.tick()
            parser.is_bulk = False
            self._feed(data)
            transport.read_bytes = READ_BULK_BYTES if parser.is_bulk else READ_BYTES
            if self.confirming:
                for channel in self.confirming:
                    if channel.confirms is not None:
                        channel.confirms.close_chunk()
                self.confirming.clear()
            broker.dispatcher.run()
            size = len(data)
            del data  # an idle connection holds on to nothing
            if self.coalescer.after(size, now):
                transport.acknowledge()
                await trio.sleep(PAUSE_S)

    def _feed(self, data: bytes) -> None:
        while True:
            try:
                self.parser.feed(data)
            except ConnectionFault as fault:
                if fault.code == 501 or self.state in ("closing", "closed"):
                    self.parser.ignores_input = True  # nothing it says can be understood any more
                self.fail(fault)
                data = b""  # frames behind the offending one: close-ok may be among them
                continue
            except AuthorizationPending as pending:
                self._ask(pending)
            except Exception:
                log.exception("conn=%s internal error", self.name)
                self.fail(ConnectionFault(541, "internal error"))
                self.parser.ignores_input = True
            return

    def _ask(self, pending: AuthorizationPending) -> None:
        """A backend must be asked: the same frame is offered again with the answer."""
        session = self.session
        assert session is not None

        async def ask() -> None:
            try:
                with trio.fail_after(self.settings.auth.backend_timeout_s):
                    await session.authorize(pending)
            except trio.TooSlowError as error:
                raise ConnectionFault(541, "an authorization backend did not answer in time") from error

        self.parser.is_suspended = True
        self.deferred = ask

    async def _settle_deferred(self) -> None:
        """A frame of its own, so that nothing of the handshake stays alive with the connection."""
        deferred, self.deferred = self.deferred, None
        assert deferred is not None
        try:
            await deferred()
        except ConnectionFault as fault:
            self.fail(fault)
        except BrokerError as error:
            answer = fault_of(error)
            self.fail(answer if isinstance(answer, ConnectionFault) else ConnectionFault(541, str(error)))

    def _teardown(self) -> None:
        self.state = "closed"
        self.heartbeat.stop()
        self.outbox.is_closed = True
        self.release_channels()
        if self.session is not None:
            self.session.close()
            log.info(
                "conn=%s vhost=%s user=%s closed",
                self.name,
                self.vhost_name,
                self.username,
            )
        self.broker.timers.tick()
        self.broker.dispatcher.run()

    def _on_handshake_timeout(self) -> None:
        if self.state in ("starting", "tuning", "opening"):
            log.error("conn=%s handshake_timeout in state %s", self.name, self.state)
            self.cancel()

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
            if not number or self.state != "running":
                raise ConnectionFault(503, f"content method on channel {number} in state {self.state}")
            raise ConnectionFault(504, "expected 'channel.open'", (60, 40))
        return channel

    def on_method(self, number: int, payload: bytes) -> None:
        try:
            method = decode_method(payload)
        except MethodError as error:
            if self.state in ("closing", "closed"):
                return
            raise ConnectionFault(error.code, error.text, error.method) from error
        if self.state == "closing" or self.state == "closed":
            self._on_method_while_closing(method)
        elif self.state != "running":
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
            self.state = "closed"
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
        self.session = session
        self.broker.connections.log_in(self)
        self.state = "running"
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
        if self.state != "running" or is_blocked == self.is_blocked:
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

    def hold_until_durable(self) -> None:
        """What was just done changed the store: the answer, and all behind it, leaves after the commit."""
        if not self.broker.store.after_commit(self.outbox.release):
            self.outbox.hold()

    def send(self, method: Method) -> None:
        self.outbox.write(method_frame(0, method))

    def fail(self, fault: ConnectionFault) -> None:
        """A connection exception: give everything back, say why, wait for close-ok."""
        if self.state in ("closing", "closed"):
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
        if self.state == "starting" and not self.handshake.is_started:
            self.outbox.write(PROTOCOL_HEADER)  # it does not speak our protocol: name the one we do
            self.state = "closed"
            return
        self._send_close(
            fault.code, text, fault.method, FRAME_FAULT_LINGER_S if is_unreadable else CLOSE_TIMEOUT_S
        )

    def close(self, reason: str, *, code: int = 320) -> None:
        """The broker ends it: shutdown, an operator, a deleted virtual host."""
        if self.state == "running":
            self._send_close(code, reply_text(code, reason), (0, 0), CLOSE_TIMEOUT_S)
            self.broker.dispatcher.run_soon()
        elif self.state not in ("closing", "closed"):
            self.cancel()

    def _send_close(self, code: int, text: str, method: tuple[int, int], timeout_s: float) -> None:
        self.release_channels()
        self.state = "closing"
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

"""What a connection is in every protocol: its states, the loop that reads, questions to backends, and its end.

AMQP, MQTT and STOMP subclass `Connection`. A subclass brings a parser, which calls the protocol's handlers, and hooks:

    handshake_timeout_s  how long the client may take to log in
    started, release     what the connection takes at its start, and gives back at its end
    end_of_chunk         sends the answers of a chunk of input
    on_error             tells the client about an error, in the words of the protocol
    on_lost, on_eof      the client is gone
    say_goodbye          sends what is left to be sent

All hooks decide without waiting, except `say_goodbye`. What has to wait is handed to `defer`: the parser pauses, the
loop awaits it, and the parser goes on.
"""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable, Mapping
from enum import StrEnum
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, ClassVar, Protocol

import trio

from leveret.adapters.outbox import Outbox
from leveret.adapters.read_coalescing import PAUSE_S, ReadCoalescer
from leveret.adapters.transport import READ_BULK_BYTES, READ_BYTES
from leveret.core.errors import AuthorizationPending, BrokerError, InternalError

if TYPE_CHECKING:
    from leveret.adapters.transport import Transport
    from leveret.core.broker import Broker
    from leveret.core.connections import ClientChannel, ConnectionDetails
    from leveret.core.counters import PublishCounters
    from leveret.core.session import Session
    from leveret.core.timers import Timer
__all__ = ["DRAIN_S", "AuthorizationTimeout", "Connection", "ConnectionState", "IllegalStep"]

log = logging.getLogger(__name__)

DRAIN_S = 5.0  # for the last bytes to a slow peer


class ConnectionState(StrEnum):
    """Where a connection is in its life. The values are RabbitMQ's words, which listings show."""

    STARTING = "starting"  # accepted, not logged in
    TUNING = "tuning"  # AMQP: logged in, the limits are negotiated
    OPENING = "opening"  # AMQP: the virtual host is opened
    RUNNING = "running"
    CLOSING = "closing"  # the last words are being exchanged; the client holds nothing any more
    CLOSED = "closed"


STARTING, TUNING, OPENING, RUNNING, CLOSING, CLOSED = ConnectionState
LEGAL_STEPS: Mapping[ConnectionState, frozenset[ConnectionState]] = {
    STARTING: frozenset({TUNING, RUNNING, CLOSING, CLOSED}),
    TUNING: frozenset({OPENING, CLOSING, CLOSED}),
    OPENING: frozenset({RUNNING, CLOSING, CLOSED}),
    RUNNING: frozenset({CLOSING, CLOSED}),
    CLOSING: frozenset({CLOSED}),
    CLOSED: frozenset({CLOSED}),  # several sides may end a connection in the same pass
}
"""From each state to those that may follow."""


class IllegalStep(Exception):
    """A connection was told to take a step that its state does not allow: a mistake of ours."""


class AuthorizationTimeout(BrokerError):
    """An authorization backend did not answer within auth.backend_timeout_s."""

    def __init__(self) -> None:
        super().__init__("an authorization backend did not answer in time")


class InputParser(Protocol):
    """What the loop needs of a protocol's parser.

    is_suspended  the parser keeps its input; after it is set to False, `feed(b"")` goes on
    is_bulk       a large body is being read: larger reads pay
    """

    is_suspended: bool

    @property
    def is_bulk(self) -> bool: ...
    def feed(self, data: bytes) -> None: ...


class ByteTotals(Protocol):
    """Counts the bytes of all connections of a listener."""

    bytes_received: int


class Connection:
    """Base of the connections of AMQP, MQTT and STOMP.

    state         changed by `move_to` alone
    session       once the client is logged in
    deferred      to be awaited before more of the peer's bytes are looked at
    is_publisher  it published since it was opened, or since an alarm was set
    last_received when the last chunk was read, on the broker's clock
    coalescer     None until it pays to pause between reads
    """

    __slots__ = (
        "_deadline", "_drained", "_nursery", "broker", "coalescer", "connected_at", "deferred", "is_publisher",
        "last_received", "name", "outbox", "received_bytes", "session", "state", "transport",
    )  # fmt: skip

    fault_type: ClassVar[type[Exception]]
    """The client's mistakes, as the protocol's parser and handlers raise them."""
    parser: InputParser
    channels: Mapping[int, ClientChannel] = MappingProxyType({})  # of protocols that have none
    reads_in: ClassVar[tuple[ConnectionState, ...]] = (RUNNING, STARTING, TUNING, OPENING)
    """The loop goes on in these states."""
    prompt_bytes: ClassVar[int] = 0
    """Chunks smaller than this that were answered with nothing are acknowledged to the peer's system at once."""

    def __init__(self, broker: Broker, transport: Transport, outbox_bytes: int) -> None:
        self.broker = broker
        self.transport = transport
        peer, local = self.peer, self.local
        self.name = f"{peer[0]}:{peer[1]} -> {local[0]}:{local[1]}"
        self.state = STARTING
        self.session: Session | None = None
        self.connected_at = broker.timers.wall_ms(broker.timers.now)
        self.received_bytes = 0
        self.is_publisher = False
        self.deferred: Callable[[], Awaitable[None]] | None = None
        self.last_received = 0.0
        self.coalescer: ReadCoalescer | None = None
        self._deadline: Timer | None = None  # of the handshake, or of our last words
        self._nursery: trio.Nursery | None = None
        self._drained: trio.Event | None = None
        self.outbox = Outbox(
            transport, broker.dispatcher, outbox_bytes, spawn=self._spawn, on_drained=self._on_drained, on_lost=self.cancel
        )  # fmt: skip

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.name!r} {self.state}>"

    @property
    def username(self) -> str:
        return self.session.principal.username if self.session is not None else ""

    @property
    def vhost_name(self) -> str:
        return self.session.vhost.name if self.session is not None else ""

    # -- what the broker is told (core.connections.ClientConnection)

    @property
    def peer(self) -> tuple[str, int]:
        return self.transport.peer or ("", 0)

    @property
    def local(self) -> tuple[str, int]:
        return self.transport.local or ("", 0)

    @property
    def tls_info(self) -> Mapping[str, object]:
        return self.transport.tls_info

    @property
    def sent_bytes(self) -> int:
        return self.outbox.sent_total

    @property
    def pending_bytes(self) -> int:
        return self.outbox.bytes

    @property
    def channel_count(self) -> int:
        return len(self.channels)

    # -- hooks

    @property
    def handshake_timeout_s(self) -> float:
        """Seconds from accept to the login."""
        raise NotImplementedError

    @property
    def byte_totals(self) -> ByteTotals | None:
        """Where received bytes are counted for the listener as a whole."""
        return None

    def started(self) -> None:
        """The connection begins."""

    def end_of_chunk(self) -> None:
        """A chunk of input was handled: send its answers."""
        raise NotImplementedError

    def on_error(self, error: Exception) -> bool:
        """Tell the client, and end the connection.

        Args:
            error: of `fault_type`, or a BrokerError; InternalError for a mistake of ours.

        Returns True if the input behind the offending frame is to be looked at.
        """
        raise NotImplementedError

    def on_lost(self, error: OSError) -> None:
        """The connection was reset."""
        log.warning("conn=%s state=%s lost: %s", self.name, self.state, error)

    def on_eof(self) -> None:
        """The client closed its side."""

    async def say_goodbye(self) -> None:
        """The loop has ended: what was written leaves, as far as a slow peer takes it in a moment."""
        with trio.move_on_after(DRAIN_S):
            await self.outbox.drain()

    def release(self) -> None:
        """The connection is over, in whatever way: give back everything it holds. Called once, when it is closed."""
        raise NotImplementedError

    # -- the life of it

    def move_to(self, state: ConnectionState) -> None:
        """Take a step of the table. Raise IllegalStep."""
        if state not in LEGAL_STEPS[self.state]:
            raise IllegalStep(f"from {self.state} to {state}")
        self.state = state

    def log_in(self, session: Session) -> None:
        """The client has logged in, and may go on."""
        self.session = session
        self.broker.connections.log_in(self)
        self.move_to(RUNNING)
        self._cancel_deadline()

    async def run(self) -> None:
        """Serve the connection from accept to end. It leaves nothing behind that its protocol does not keep."""
        broker = self.broker
        broker.connections.add(self)
        self._deadline = broker.timers.at(
            trio.current_time() + self.handshake_timeout_s, self._on_handshake_timeout
        )
        self.started()
        try:
            async with trio.open_nursery() as nursery:
                self._nursery = nursery
                await self._read()
                await self.say_goodbye()
                nursery.cancel_scope.cancel()
        finally:
            self._teardown()
            broker.connections.discard(self)

    async def _read(self) -> None:
        broker, transport, parser, outbox = self.broker, self.transport, self.parser, self.outbox
        backpressure, totals = broker.backpressure, self.byte_totals
        while self.state in self.reads_in:
            if self.deferred is not None:
                await self._settle_deferred()
                data = b""
            else:
                if (self.is_publisher and backpressure.must_wait) or outbox.bytes > 2 * outbox.limit:
                    await self.wait_until_readable()
                try:
                    data = await transport.receive()
                except OSError as error:  # reset: the peer's way to leave in a hurry
                    self.on_lost(error)
                    return
                if not data:
                    self.on_eof()
                    return
                self.received_bytes += len(data)
                if totals is not None:
                    totals.bytes_received += len(data)
            now = self.last_received = broker.timers.tick()
            sent = outbox.sent_total
            self._feed(data)
            transport.read_bytes = READ_BULK_BYTES if parser.is_bulk else READ_BYTES
            self.end_of_chunk()
            broker.dispatcher.run()
            size = len(data)
            data = b""  # an idle connection holds on to nothing
            if self.coalescer is not None and self.coalescer.after(size, now):
                transport.acknowledge()
                await trio.sleep(PAUSE_S)
            elif 0 < size < self.prompt_bytes and outbox.sent_total == sent:
                # Clients that leave Nagle's algorithm on keep their next frame until this one is acknowledged; nothing
                # of ours would carry that.
                transport.acknowledge()

    def _feed(self, data: bytes) -> None:
        while True:
            try:
                self.parser.feed(data)
            except AuthorizationPending as pending:
                self._ask(pending)
            except (self.fault_type, BrokerError) as error:
                if self.on_error(error):
                    data = b""
                    continue
            except Exception:
                log.exception("conn=%s internal error", self.name)
                self.on_error(InternalError("internal error"))
            return

    def defer(self, action: Callable[[], Awaitable[None]]) -> None:
        """Await it before more of the client's input is looked at."""
        self.parser.is_suspended = True
        self.deferred = action

    def _ask(self, pending: AuthorizationPending) -> None:
        """A backend must be asked: the parser offers the same frame again, with the answer."""
        session = self.session
        assert session is not None

        async def ask() -> None:
            try:
                with trio.fail_after(self.broker.settings.auth.backend_timeout_s):
                    await session.authorize(pending)
            except trio.TooSlowError as error:
                raise AuthorizationTimeout from error

        self.defer(ask)

    async def _settle_deferred(self) -> None:
        """A function of its own, so that nothing of the handshake stays alive with the connection."""
        deferred, self.deferred = self.deferred, None
        assert deferred is not None
        try:
            await deferred()
        except (self.fault_type, BrokerError) as error:
            self.on_error(error)
        except Exception:
            log.exception("conn=%s internal error", self.name)
            self.on_error(InternalError("internal error"))
        if self.state is not CLOSED:
            self.parser.is_suspended = False

    def _on_handshake_timeout(self) -> None:
        if self.state in (STARTING, TUNING, OPENING):
            log.warning("conn=%s handshake_timeout in state %s", self.name, self.state)
            self.cancel()

    def _cancel_deadline(self) -> None:
        if self._deadline is not None:
            self._deadline.cancel()
            self._deadline = None

    def _teardown(self) -> None:
        self._cancel_deadline()
        self.move_to(CLOSED)
        self.outbox.is_closed = True
        self.release()
        if self.session is not None:
            self.session.close()
        self.broker.timers.tick()
        self.broker.dispatcher.run()

    def hold_until_durable(self) -> None:
        """What was just done changed the store: the answer, and all behind it, leaves after the commit."""
        if not self.broker.store.after_commit(self.outbox.release):
            self.outbox.hold()

    @property
    def protocol(self) -> str:
        """The protocol and its version, for listings."""
        raise NotImplementedError

    @property
    def is_blocked(self) -> bool:
        """It publishes and is not read, because of an alarm."""
        raise NotImplementedError

    def details(self) -> ConnectionDetails:
        """What was negotiated, for listings."""
        raise NotImplementedError

    def traffic(self) -> tuple[str, PublishCounters]:
        """See core/counters.py."""
        raise NotImplementedError

    def close(self, reason: str, *, code: int = 320, is_shutdown: bool = False) -> None:
        """The broker ends it: shutdown, an operator, a deleted virtual host. See core.connections.ClientConnection."""
        raise NotImplementedError

    # -- reading

    @property
    def is_reading_paused(self) -> bool:
        """We do not read from it, so that its silence proves nothing."""
        return self.is_publisher and self.broker.backpressure.must_wait

    async def wait_until_readable(self) -> None:
        """Until there is room for what it publishes, and it reads our answers."""
        if self.is_reading_paused:
            await self.broker.backpressure.wait_for_room()
        if self.outbox.bytes > 2 * self.outbox.limit:
            # It asks and does not read the answers: no more questions until it has.
            self._drained = trio.Event()
            await self._drained.wait()

    def _on_drained(self) -> None:
        """The peer took what was waiting."""
        if self._drained is not None:
            self._drained.set()

    # -- the end

    def cancel(self) -> None:
        """End it now, without a word."""
        self.move_to(CLOSED)
        if self._nursery is not None:
            self._nursery.cancel_scope.cancel()

    def _spawn(self, task: Callable[[], Any]) -> None:
        assert self._nursery is not None
        self._nursery.start_soon(task)

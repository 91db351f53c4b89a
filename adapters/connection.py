"""What a connection is in every protocol: an address, a session, an outbox, and when it is read from."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

import trio

from leveret.adapters.outbox import Outbox

if TYPE_CHECKING:
    from leveret.adapters.transport import Transport
    from leveret.core.broker import Broker
    from leveret.core.connections import ClientChannel
    from leveret.core.session import Session
__all__ = ["Connection"]


class Connection:
    """Base of the connections of AMQP, MQTT and STOMP. Theirs are the loop that reads, and the words.

    state         a word for listings; starts as "starting", and "closed" ends the loop
    session       once the client is logged in
    deferred      to be awaited before more of the peer's bytes are looked at
    is_publisher  it published since it was opened, or since an alarm was set
    """

    __slots__ = (
        "_drained", "_nursery", "broker", "connected_at", "deferred", "is_publisher", "name", "outbox", "received_bytes",
        "session", "state", "transport",
    )  # fmt: skip

    channels: Mapping[int, ClientChannel] = MappingProxyType({})  # of protocols that have none

    def __init__(self, broker: Broker, transport: Transport, outbox_bytes: int) -> None:
        self.broker = broker
        self.transport = transport
        peer, local = self.peer, self.local
        self.name = f"{peer[0]}:{peer[1]} -> {local[0]}:{local[1]}"
        self.state = "starting"
        self.session: Session | None = None
        self.connected_at = broker.timers.wall_ms(broker.timers.now)
        self.received_bytes = 0
        self.is_publisher = False
        self.deferred: Callable[[], Awaitable[None]] | None = None
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

    # -- reading

    @property
    def is_reading_paused(self) -> bool:
        """We do not read from it, so that its silence proves nothing."""
        return self.is_publisher and self.broker.backpressure.must_wait

    @property
    def may_read(self) -> bool:
        """May it say more? If not, await `until_welcome` before the next read."""
        return not self.is_reading_paused and self.outbox.bytes <= 2 * self.outbox.limit

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
        self.state = "closed"
        if self._nursery is not None:
            self._nursery.cancel_scope.cancel()

    def _spawn(self, task: Callable[[], Any]) -> None:
        assert self._nursery is not None
        self._nursery.start_soon(task)

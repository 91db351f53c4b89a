"""The STOMP specs as the broker sees them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, ClassVar

from leveret.adapters.base import ListenerSpec, WebSocketSpec
from leveret.adapters.stomp.connection import StompConnection
from leveret.adapters.stomp.frames import EOL

if TYPE_CHECKING:
    import trio

    from leveret.adapters.transport import Transport
    from leveret.core.broker import Broker
__all__ = ["StompAdapter"]

WEBSOCKET = WebSocketSpec(
    ("v12.stomp", "v11.stomp", "v10.stomp"), is_text=True, takes_text=True, message_end=EOL
)
SWEEP_S = 60.0  # the consumer timeout is looked at once a minute, as at the AMQP listener


class StompAdapter:
    """All STOMP connections of a broker."""

    name: ClassVar[str] = "stomp"

    def __init__(self, broker: Broker) -> None:
        self.broker = broker
        self.connections: set[StompConnection] = set()
        self.sweep_s = min(SWEEP_S, max(0.1, broker.settings.limits.consumer_timeout_ms / 2000))
        self._is_sweeping = False

    def listeners(self) -> Sequence[ListenerSpec]:
        listeners = self.broker.settings.listeners
        specs = [
            ListenerSpec("stomp", listeners.stomp) if listeners.stomp is not None else None,
            ListenerSpec("stomps", listeners.stomps, is_tls=True) if listeners.stomps is not None else None,
            ListenerSpec("web-stomp", listeners.web_stomp, websocket=WEBSOCKET)
            if listeners.web_stomp is not None
            else None,
            ListenerSpec("web-stomps", listeners.web_stomps, is_tls=True, websocket=WEBSOCKET)
            if listeners.web_stomps is not None
            else None,
        ]
        return [spec for spec in specs if spec is not None]

    async def run(self, *, task_status: trio.TaskStatus[None]) -> None:
        """Nothing of it outlives its connections."""
        task_status.started()

    async def serve(self, transport: Transport) -> None:
        if not self._is_sweeping:
            self._is_sweeping = True
            self.broker.timers.after(self.sweep_s, self._sweep)
        connection = StompConnection(self.broker, transport)
        self.connections.add(connection)
        try:
            await connection.run()
        finally:
            self.connections.discard(connection)

    def _sweep(self) -> None:
        """Deliveries that nobody settles: the consumer timeout."""
        now = self.broker.timers.now
        for connection in list(self.connections):
            connection.check_timeouts(now)
        if self.connections:
            self.broker.timers.after(self.sweep_s, self._sweep)
        else:
            self._is_sweeping = False

"""The STOMP specs as the broker sees them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, ClassVar

from leveret.adapters.base import ListenerSpec, WebSocketSpec
from leveret.adapters.stomp.connection import StompConnection
from leveret.adapters.stomp.frames import EOL
from leveret.adapters.stomp.settings import StompSettings

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
    settings_type: ClassVar[type | None] = StompSettings
    listeners: ClassVar[Sequence[ListenerSpec]] = (
        ListenerSpec("stomp", "STOMP 1.0, 1.1 and 1.2", port=61613),
        ListenerSpec("stomps", "STOMP over TLS", "stomp/ssl", customary_port=61614, is_tls=True),
        ListenerSpec("web-stomp", "STOMP over WebSocket", "http/web-stomp", port=15674, websocket=WEBSOCKET),
        ListenerSpec(
            "web-stomps", "STOMP over WebSocket and TLS", "https/web-stomp", customary_port=15673, is_tls=True,
            websocket=WEBSOCKET,
        ),
    )  # fmt: skip
    protocols: ClassVar[Sequence[str]] = ("stomp",)
    login_protocol: ClassVar[str] = "stomp"

    def __init__(self, broker: Broker) -> None:
        self.broker = broker
        self.connections: set[StompConnection] = set()
        self.sweep_s = min(SWEEP_S, max(0.1, broker.settings.limits.consumer_timeout_ms / 2000))
        self._is_sweeping = False

    @property
    def settings(self) -> StompSettings:
        """As they are now."""
        return StompSettings.of(self.broker.settings)

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

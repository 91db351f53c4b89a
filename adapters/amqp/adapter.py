"""The AMQP 0-9-1 listener as the broker sees it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, ClassVar

from leveret.adapters.amqp.connection import AmqpConnection
from leveret.adapters.amqp.settings import AmqpSettings
from leveret.adapters.base import ListenerSpec

if TYPE_CHECKING:
    import trio

    from leveret.adapters.transport import Transport
    from leveret.core.broker import Broker
__all__ = ["AmqpAdapter"]

SWEEP_S = 60.0  # consumer timeouts are looked at once a minute, as RabbitMQ does


class AmqpAdapter:
    """All AMQP connections of a broker."""

    name: ClassVar[str] = "amqp"
    settings_type: ClassVar[type | None] = AmqpSettings
    listeners: ClassVar[Sequence[ListenerSpec]] = (
        ListenerSpec("amqp", "AMQP 0-9-1", port=5672, aliases=("amqp091", "amqp0.9.1", "amqp-0-9-1")),
        ListenerSpec("amqps", "AMQP 0-9-1 over TLS", "amqp/ssl", customary_port=5671, is_tls=True),
    )
    protocols: ClassVar[Sequence[str]] = ("amqp091",)
    login_protocol: ClassVar[str] = "amqp091"

    def __init__(self, broker: Broker) -> None:
        self.broker = broker
        self.connections: set[AmqpConnection] = set()
        self.sweep_s = min(SWEEP_S, max(0.1, broker.settings.limits.consumer_timeout_ms / 2000))
        self._is_sweeping = False

    @property
    def settings(self) -> AmqpSettings:
        """As they are now."""
        return AmqpSettings.of(self.broker.settings)

    async def run(self, *, task_status: trio.TaskStatus[None]) -> None:
        """Nothing of it outlives its connections."""
        task_status.started()

    async def serve(self, transport: Transport) -> None:
        if not self._is_sweeping:
            self._is_sweeping = True
            self.broker.timers.after(self.sweep_s, self._sweep)
        connection = AmqpConnection(self, transport)
        self.connections.add(connection)
        try:
            await connection.run()
        finally:
            self.connections.discard(connection)

    def _sweep(self) -> None:
        """Deliveries that nobody settles: the consumer timeout."""
        now = self.broker.timers.now
        for connection in list(self.connections):
            for channel in list(connection.channels.values()):
                channel.check_timeouts(now)
        if self.connections:
            self.broker.timers.after(self.sweep_s, self._sweep)
        else:
            self._is_sweeping = False

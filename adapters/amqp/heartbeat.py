"""Heartbeats both ways, on the broker's timers: no task and no clock read per connection."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

from leveret.adapters.connection import ConnectionState
from leveret.core.timers import Timer

if TYPE_CHECKING:
    from leveret.adapters.amqp.connection import AmqpConnection
__all__ = ["Heartbeat"]

log = logging.getLogger(__name__)

FRAME = b"\x08\x00\x00\x00\x00\x00\x00\xce"


class Heartbeat:
    """Send every half interval if nothing else was; drop the peer after two silent intervals (AMQP 4.2.7).

    Any byte counts. While the connection is blocked by an alarm we do not read, so silence proves nothing.
    """

    def __init__(self, connection: AmqpConnection) -> None:
        self._connection = connection
        self._interval_s = 0
        self._silent = 0
        self._half = False
        self._sent_total = self._received_bytes = 0
        self._timer: Timer | None = None

    def start(self, interval_s: int) -> None:
        """0: off, as the client asked."""
        self._interval_s = interval_s
        if interval_s:
            self._arm()

    def stop(self) -> None:
        if self._timer is not None:
            self._timer.cancel()

    def _arm(self) -> None:
        self._timer = self._connection.broker.timers.after(self._interval_s / 2, self._beat)

    def _beat(self) -> None:
        connection = self._connection
        outbox = connection.outbox
        if (
            outbox.sent_total == self._sent_total
            and not outbox.chunks
            and connection.state is ConnectionState.RUNNING
        ):
            outbox.write(FRAME)
        self._sent_total = outbox.sent_total
        self._half = not self._half
        if not self._half:
            if connection.received_bytes != self._received_bytes or connection.is_reading_paused:
                self._silent = 0
            else:
                self._silent += 1
                if self._silent >= 2:
                    log.error(
                        "conn=%s missed heartbeats from client, timeout: %ds",
                        connection.name,
                        self._interval_s,
                    )
                    connection.cancel()
                    return
            self._received_bytes = connection.received_bytes
        self._arm()

"""Keep alive: a client that is silent for one and a half times what was agreed is gone (5.0 3.1.2.10)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from leveret.adapters.mqtt.spec import MqttFault, Reason
from leveret.core.timers import Timer

if TYPE_CHECKING:
    from leveret.adapters.mqtt.connection import MqttConnection
__all__ = ["KeepAlive"]

AGAIN_S = 1.0  # while we do not read, silence proves nothing: look again later


class KeepAlive:
    """One timer, set anew when it fires: no clock is read and no timer moved per packet."""

    __slots__ = ("_connection", "_limit_s", "_timer", "seconds")

    def __init__(self, connection: MqttConnection) -> None:
        self._connection = connection
        self._limit_s = 0.0
        self._timer: Timer | None = None
        self.seconds = 0

    def start(self, seconds: int) -> None:
        """0: the client may be silent for ever."""
        timers = self._connection.broker.timers
        self.seconds = seconds
        self._limit_s = seconds * 1.5
        self._connection.last_received = timers.now
        if seconds:
            self._timer = timers.after(self._limit_s, self._look)

    def stop(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _look(self) -> None:
        connection = self._connection
        timers = connection.broker.timers
        due = connection.last_received + self._limit_s
        if connection.is_reading_paused or due > timers.now + 0.001:
            self._timer = timers.at(max(due, timers.now + AGAIN_S), self._look)
            return
        connection.fail(MqttFault(Reason.KEEP_ALIVE_TIMEOUT, f"silent for {self._limit_s:g} s"))

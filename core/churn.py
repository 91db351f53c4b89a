"""What came and went since the start: plain counters for whoever shows rates."""

from __future__ import annotations

from typing import Any

from leveret.core.counters import CountsTraffic, Traffic

__all__ = ["Churn", "Connections"]


class Churn:
    """Totals since the start of this node."""

    __slots__ = (
        "channels_closed",
        "channels_opened",
        "connections_closed",
        "connections_opened",
        "queues_created",
        "queues_declared",
        "queues_deleted",
    )

    def __init__(self) -> None:
        self.connections_opened = 0
        self.connections_closed = 0
        self.channels_opened = 0
        self.channels_closed = 0
        self.queues_declared = 0
        self.queues_created = 0
        self.queues_deleted = 0


class Connections(set[Any]):
    """`broker.connections`: counts who comes and goes by `add` and `discard`, and what they have counted."""

    def __init__(self, churn: Churn, traffic: Traffic) -> None:
        super().__init__()
        self._churn = churn
        self._traffic = traffic

    def add(self, connection: Any) -> None:
        if connection not in self:
            self._churn.connections_opened += 1
        super().add(connection)

    def discard(self, connection: Any) -> None:
        if connection in self:
            self._churn.connections_closed += 1
            if isinstance(connection, CountsTraffic):
                self._traffic.retire(*connection.traffic())
        super().discard(connection)

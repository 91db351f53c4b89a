"""$SYS/broker/...: the topics that Mosquitto publishes about itself, under its names and in its formats.

They are no retained messages: nothing is stored, nobody can publish to them, `#` does not match them. A new subscriber
gets the present values, and every mqtt.sys_interval_s those that have changed.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

from leveret import __version__
from leveret.adapters.mqtt.settings import MqttSettings
from leveret.adapters.mqtt.statistics import MqttStatistics
from leveret.core.alarms import resident_bytes

if TYPE_CHECKING:
    from leveret.core.broker import Broker
    from leveret.core.timers import Timer
__all__ = ["MqttStatistics", "SysTree"]

ROOT = "$SYS/broker/"
MINUTES = (1, 5, 15)
COUNTED: tuple[tuple[str, str], ...] = (
    ("clients/total", "clients_total"),
    ("clients/connected", "clients_connected"),
    ("clients/active", "clients_connected"),  # its older name
    ("clients/maximum", "clients_maximum"),
    ("clients/expired", "clients_expired"),
    ("messages/received", "messages_received"),
    ("messages/sent", "messages_sent"),
    ("messages/stored", "stored_messages"),  # its older name
    ("store/messages/count", "stored_messages"),
    ("store/messages/bytes", "stored_bytes"),
    ("subscriptions/count", "subscriptions"),
    ("shared_subscriptions/count", "shared_subscriptions"),
    ("retained messages/count", "retained_messages"),
    ("publish/messages/dropped", "publish_dropped"),
    ("publish/messages/received", "publish_received"),
    ("publish/messages/sent", "publish_sent"),
    ("publish/bytes/received", "publish_bytes_received"),
    ("publish/bytes/sent", "publish_bytes_sent"),
    ("bytes/received", "bytes_received"),
    ("bytes/sent", "bytes_sent"),
)
"""Topics and the fields of MqttStatistics that they show as they are."""
LOADS: tuple[tuple[str, str], ...] = (
    ("messages/received", "messages_received"),
    ("messages/sent", "messages_sent"),
    ("publish/dropped", "publish_dropped"),
    ("publish/received", "publish_received"),
    ("publish/sent", "publish_sent"),
    ("bytes/received", "bytes_received"),
    ("bytes/sent", "bytes_sent"),
    ("sockets", "sockets_total"),
    ("connections", "connections_total"),
)
"""Topics below `load/`, with the fields whose growth per minute they average."""


class SysTree:
    """The tree of one broker, the same in all virtual hosts.

    deliver(topic, payload) is called for each value that has changed, for those who are subscribed. measure is called
    before, to set the gauges of the statistics.
    """

    def __init__(
        self,
        broker: Broker,
        deliver: Callable[[str, bytes], None],
        statistics: MqttStatistics | None = None,
        measure: Callable[[MqttStatistics], None] | None = None,
    ) -> None:
        self.statistics = MqttStatistics() if statistics is None else statistics
        self._broker = broker
        self._deliver = deliver
        self._measure = measure
        self._values: dict[str, bytes] = {}
        self._loads = {(name, minutes): 0.0 for name, _ in LOADS for minutes in MINUTES}
        self._before = dict.fromkeys([field for _, field in LOADS], 0)
        self._heap_maximum = 0
        self._started_at = self._updated_at = 0.0
        self._timer: Timer | None = None

    def start(self) -> None:
        """The first values are there at once; then every mqtt.sys_interval_s, which is never if it is 0."""
        if MqttSettings.of(self._broker.settings).sys_interval_s > 0:
            self._started_at = self._updated_at = self._broker.timers.now
            self.update()
            self._schedule()

    def stop(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _schedule(self) -> None:
        self._timer = self._broker.timers.after(
            MqttSettings.of(self._broker.settings).sys_interval_s, self._on_timer
        )

    def _on_timer(self) -> None:
        self._schedule()
        self.update()

    @staticmethod
    def is_filter(filter: str) -> bool:
        """Can it match anything here? Only those that say `$SYS` themselves can (5.0 4.7.2)."""
        return filter.startswith("$SYS/")

    def match(self, filter: str) -> Iterator[tuple[str, bytes]]:
        """The present values for a new subscriber. Only filters that begin with `$SYS/` match any."""
        if not self.is_filter(filter):
            return
        levels = filter.split("/")
        for topic, payload in list(self._values.items()):
            if _matches(levels, topic.split("/")):
                yield topic, payload

    def update(self) -> None:
        """Compute everything anew, and deliver what has changed."""
        if self._measure is not None:
            self._measure(self.statistics)
        for topic, payload in self._compute():
            if self._values.get(topic) != payload:
                self._values[topic] = payload
                self._deliver(topic, payload)

    def _compute(self) -> list[tuple[str, bytes]]:
        statistics = self.statistics
        now = self._broker.timers.now
        disconnected = max(0, statistics.clients_total - statistics.clients_connected)
        heap = resident_bytes()
        self._heap_maximum = max(self._heap_maximum, heap)
        texts = [
            ("version", f"leveret version {__version__}"),
            ("uptime", f"{int(now - self._started_at)} seconds"),
            ("clients/disconnected", str(disconnected)),
            ("clients/inactive", str(disconnected)),  # its older name
            *[(topic, str(getattr(statistics, field))) for topic, field in COUNTED],
            ("heap/current", str(heap)),
            ("heap/maximum", str(self._heap_maximum)),
        ]
        self._advance_loads(now - self._updated_at)
        self._updated_at = now
        texts += [
            (f"load/{name}/{minutes}min", f"{load:.2f}") for (name, minutes), load in self._loads.items()
        ]
        return [(ROOT + topic, text.encode()) for topic, text in texts]

    def _advance_loads(self, elapsed_s: float) -> None:
        """Averages per minute in which the past fades exponentially."""
        if elapsed_s <= 0:
            return
        for name, field in LOADS:
            value = getattr(self.statistics, field)
            per_minute = (value - self._before[field]) * 60 / elapsed_s
            self._before[field] = value
            for minutes in MINUTES:
                fading = math.exp(-elapsed_s / (60 * minutes))
                load = self._loads[name, minutes]
                self._loads[name, minutes] = per_minute + fading * (load - per_minute)


def _matches(filter: list[str], topic: list[str]) -> bool:
    for index, level in enumerate(filter):
        if level == "#":
            return True
        if index == len(topic) or level not in ("+", topic[index]):
            return False
    return len(filter) == len(topic)

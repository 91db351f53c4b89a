"""How late the loop is: a timer looks at the clock, and everything that should have run waits as long as it does."""

from __future__ import annotations

from typing import TYPE_CHECKING

from leveret.core.histogram import Histogram

if TYPE_CHECKING:
    from leveret.core.timers import Timers
__all__ = ["Lag"]

INTERVAL_S = 0.5
BOUNDS_S = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5)


class Lag:
    """Measured from `start` on. seconds: a histogram."""

    def __init__(self, timers: Timers) -> None:
        self.seconds = Histogram(BOUNDS_S)
        self._timers = timers
        self._due = 0.0

    def start(self) -> None:
        self._due = self._timers.tick() + INTERVAL_S
        self._timers.at(self._due, self._look)

    def _look(self) -> None:
        self.seconds.add(max(0.0, self._timers.now - self._due))
        self.start()

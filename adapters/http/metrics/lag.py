"""How late the loop is: a timer looks at the clock, and everything that should have run waits as long as it does."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterator
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from leveret.core.timers import Timers

__all__ = ["Lag"]

INTERVAL_S = 0.5
BOUNDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5)


class Lag:
    """A histogram of seconds."""

    def __init__(self, timers: Timers) -> None:
        self._timers = timers
        self._counts = [0] * (len(BOUNDS) + 1)
        self.total_s = 0.0
        self._due = 0.0

    def start(self) -> None:
        self._due = self._timers.tick() + INTERVAL_S
        self._timers.at(self._due, self._look)

    def _look(self) -> None:
        lag = max(0.0, self._timers.now - self._due)
        self._counts[bisect_left(BOUNDS, lag)] += 1
        self.total_s += lag
        self.start()

    def buckets(self) -> Iterator[tuple[str, float]]:
        """Cumulative, by upper bound."""
        total = 0
        for bound, count in zip((*BOUNDS, float("inf")), self._counts, strict=True):
            total += count
            yield "+Inf" if bound == float("inf") else repr(bound), total

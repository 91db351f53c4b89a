"""How values such as sizes and durations are distributed: for monitoring."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterator, Sequence

__all__ = ["Histogram"]


class Histogram:
    """Counts values by bucket. A value above the last upper bound is in a last bucket of its own.

    total: the sum of all values.
    """

    __slots__ = ("_bounds", "_counts", "total")

    def __init__(self, bounds: Sequence[float]) -> None:
        """bounds: the upper bounds of the buckets, inclusive and ascending."""
        self._bounds = tuple(bounds)
        self._counts = [0] * (len(bounds) + 1)
        self.total = 0.0

    def __repr__(self) -> str:
        return f"<Histogram count={self.count} total={self.total:g}>"

    @property
    def count(self) -> int:
        return sum(self._counts)

    def add(self, value: float, count: int = 1) -> None:
        """Count a value, or several that are the same."""
        self._counts[bisect_left(self._bounds, value)] += count
        self.total += value * count

    def buckets(self) -> Iterator[tuple[float, int]]:
        """Each upper bound with the number of values up to it, the last bound being infinity."""
        total = 0
        for bound, count in zip((*self._bounds, float("inf")), self._counts, strict=True):
            total += count
            yield bound, total

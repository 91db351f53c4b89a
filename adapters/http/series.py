"""Counters over time: bounded rings of samples, and the numbers that dashboards read from them."""

from __future__ import annotations

from array import array
from bisect import bisect_right
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

__all__ = ["Plan", "Range", "Series"]

Plan = Sequence[tuple[int, int]]
"""How long what is kept: (at most one sample per so many milliseconds, samples); finest first."""


@dataclass(frozen=True, slots=True)
class Range:
    """What a client asks for by `..._age` and `..._incr`, in seconds."""

    age_s: int
    step_s: int


class Ring:
    """Rows of integers in one array, [time in ms, values...]; a row is only added when something has changed.

    8 bytes a number: a queue's row of 11 takes 88, a ring of 120 such rows 10 KiB.
    """

    __slots__ = ("capacity", "data", "interval_ms", "width")

    def __init__(self, width: int, interval_ms: int, capacity: int) -> None:
        self.width = width + 1
        self.interval_ms = interval_ms
        self.capacity = capacity
        self.data = array("q")

    def __len__(self) -> int:
        return len(self.data) // self.width

    def add(self, now_ms: int, values: Sequence[int]) -> None:
        data, width = self.data, self.width
        if data and now_ms - data[-width] < self.interval_ms:
            return
        data.append(now_ms)
        data.extend(values)
        over = len(data) - self.capacity * width
        if over >= 8 * width or (self.capacity < 16 and over > 0):  # in slices: the rest moves each time
            del data[:over]

    def times(self) -> array[int]:
        return self.data[:: self.width]

    def value(self, row: int, column: int) -> int:
        return self.data[row * self.width + 1 + column]


class Series:
    """One thing's counters.

    last     the newest values, also when they have not changed for long
    seen     in which round they were looked at
    """

    __slots__ = ("changed_ms", "group", "last", "previous", "rings", "seen")

    def __init__(self, width: int, plan: Plan, group: str = "") -> None:
        self.rings = [Ring(width, interval_ms, capacity) for interval_ms, capacity in plan]
        self.last: tuple[int, ...] = ()
        self.previous: tuple[int, ...] = ()
        self.changed_ms = 0
        self.seen = 0
        self.group = group

    def add(self, now_ms: int, values: tuple[int, ...]) -> None:
        if values != self.last:
            self.previous = self.last
            self.last = values
            self.changed_ms = now_ms
            for ring in self.rings:
                ring.add(now_ms, values)

    def bound(self, capacity: int) -> None:
        """There are more things than there were: each keeps less of its past."""
        self.rings[0].capacity = capacity

    def rate(self, column: int, now_ms: int, before_ms: int) -> float:
        """Per second, between the last two looks at everything."""
        if self.changed_ms != now_ms or not self.previous or now_ms <= before_ms:
            return 0.0
        return (self.last[column] - self.previous[column]) * 1000 / (now_ms - before_ms)

    def samples(self, column: int, wanted: Range, now_ms: int) -> Iterator[tuple[int, int]]:
        """(value, time in ms), newest first, at multiples of the step, as RabbitMQ has them: the newest is at the next
        multiple, with the value of now; before the first look it is 0, unless there was something that is forgotten: then
        they end there.
        """
        if not self.last:
            return
        step_ms = wanted.step_s * 1000
        ring = self._ring(now_ms - wanted.age_s * 1000)
        times = ring.times()
        at_ms = -(-now_ms // step_ms) * step_ms
        yield self.last[column], at_ms
        for _ in range(wanted.age_s // wanted.step_s):
            at_ms -= step_ms
            row = bisect_right(times, at_ms) - 1
            if row >= 0:
                yield ring.value(row, column), at_ms
            elif len(ring) < ring.capacity:
                yield 0, at_ms
            else:
                return

    def _ring(self, since_ms: int) -> Ring:
        """The finest that reaches back so far, or else the one that reaches furthest."""
        best = self.rings[0]
        for ring in self.rings:
            best = ring
            if not ring.data or ring.data[0] <= since_ms or len(ring) < ring.capacity:
                break
        return best

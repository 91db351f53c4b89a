"""One heap of timers, one task; and the one clock that is read once per entry from I/O."""

from __future__ import annotations

import heapq
import itertools
import logging
import time
from collections.abc import Callable

import trio

__all__ = ["Timer", "Timers"]

log = logging.getLogger(__name__)


SWEEP_AT = 1024  # timers in the heap before the cancelled ones are looked for


class Timer:
    """A callback at a time. `cancel` is immediate; the heap forgets it when its time comes, or at the next sweep."""

    __slots__ = ("callback", "when")

    def __init__(self, when: float, callback: Callable[[], None]) -> None:
        self.when = when
        self.callback: Callable[[], None] | None = callback

    def cancel(self) -> None:
        self.callback = None


class Timers:
    """Timers of one broker.

    now: monotonic seconds, as of the last `tick`. Callbacks run in the timer task, after a tick, and are followed
    by one call of `after` (the broker's dispatcher).
    """

    def __init__(self, after: Callable[[], None] = lambda: None) -> None:
        self.now = 0.0
        self._after = after
        self._heap: list[tuple[float, int, Timer]] = []
        self._sweep_at = SWEEP_AT
        self._order = itertools.count()
        self._wake = trio.Event()
        self._offset = 0.0  # wall clock minus trio's clock, so that stored expiries survive a restart

    def tick(self) -> float:
        """Read the clock; call once per entry from I/O."""
        self.now = now = trio.current_time()
        return now

    def wall_ms(self, when: float) -> int:
        """Monotonic seconds to wall-clock milliseconds since the epoch."""
        return int((when + self._offset) * 1000)

    def monotonic(self, wall_ms: int) -> float:
        """Wall-clock milliseconds since the epoch to monotonic seconds."""
        return wall_ms / 1000 - self._offset

    def start(self) -> None:
        """Call inside trio, before anything reads `now`."""
        self.tick()
        self._offset = time.time() - self.now

    def at(self, when: float, callback: Callable[[], None]) -> Timer:
        timer = Timer(when, callback)
        if not self._heap or when < self._heap[0][0]:
            self._wake.set()
        heapq.heappush(self._heap, (when, next(self._order), timer))
        if len(self._heap) >= self._sweep_at:
            self._sweep()
        return timer

    def _sweep(self) -> None:
        """Forget the cancelled ones: whoever comes and goes quickly has long timers (heartbeats, expiries), too."""
        self._heap[:] = [entry for entry in self._heap if entry[2].callback is not None]
        heapq.heapify(self._heap)
        self._sweep_at = max(SWEEP_AT, 2 * len(self._heap))

    def after(self, seconds: float, callback: Callable[[], None]) -> Timer:
        return self.at(self.now + seconds, callback)

    async def run(self) -> None:
        """Fire timers until cancelled. A callback that raises is logged and does not stop the others."""
        heap = self._heap
        while True:
            if heap:
                with trio.move_on_at(heap[0][0]):
                    await self._wake.wait()
            else:
                await self._wake.wait()
            self._wake = trio.Event()
            await trio.lowlevel.checkpoint()
            now = self.tick()
            fired = False
            while heap and heap[0][0] <= now:
                callback = heapq.heappop(heap)[2].callback
                if callback is None:
                    continue
                fired = True
                try:
                    callback()
                except Exception:
                    log.exception("timer callback=%r failed", callback)
            if fired:
                self._after()

"""When to let a stream of crumbs collect for a millisecond before it is read."""

from __future__ import annotations

__all__ = ["PAUSE_S", "ReadCoalescer"]

PAUSE_S = 0.001  # the kernel's own granularity for our waits
STREAK = 16  # chunks in close succession that make a stream
GAP_S = 0.0002  # apart at most
CRUMB_BYTES = 16384  # larger chunks are batches already
STREAM_BYTES_S = 1_000_000  # slower than this, latency is worth more than throughput
EARNED = 0.8  # of what arrives per second without pauses; the measure is a short one
STRIKES = 3  # pauses in a row that did not earn that
HOLD_OFF, HOLD_OFF_MAX = 1024, 65536  # chunks without a further try, after one that did not pay


class ReadCoalescer:
    """One connection's reading rhythm.

    A fast broker reads a streaming peer in ever smaller chunks: each wake-up then serves a handful of messages and
    costs what a batch of hundreds would, on a processor that the peer needs as well. Measured: 182,000 messages/s
    with chunks of about ten messages, 200,000 to 280,000 with pauses of a millisecond. A peer that waits for our answers (a
    small confirm window, a small prefetch) would only be slowed: so a pause is a trial, kept up as long as no less
    arrives per second than without it.
    """

    __slots__ = (
        "_bytes",
        "_count",
        "_hold_off",
        "_last",
        "_next_hold_off",
        "_paused_at",
        "_start",
        "_strikes",
        "_unpaced_rate",
    )

    def __init__(self) -> None:
        self._start = self._last = 0.0
        self._count = self._bytes = self._hold_off = self._strikes = 0
        self._next_hold_off = HOLD_OFF
        self._unpaced_rate = 0.0
        self._paused_at = 0.0  # 0: not pausing

    def after(self, size: int, now: float) -> bool:
        """A chunk of size bytes was read at `now` (monotonic seconds). True: pause before the next."""
        if self._paused_at:
            self._count += 1
            self._bytes += size
            if self._count == 1:
                # The peer's congestion window, counted in crumbs, ended the collecting early; this read opened it,
                # and what the peer could not send meanwhile arrives in one piece now.
                return False
            is_earned = self._bytes >= EARNED * self._unpaced_rate * (now - self._paused_at)
            self._count = self._bytes = 0
            self._strikes = 0 if is_earned else self._strikes + 1
            if self._strikes >= STRIKES:
                self._paused_at = 0.0
                self._strikes = 0
                self._hold_off = self._next_hold_off
                self._next_hold_off = min(self._next_hold_off * 2, HOLD_OFF_MAX)
                return False
            if is_earned:
                self._next_hold_off = HOLD_OFF
            self._paused_at = now
            return True
        if self._hold_off:
            self._hold_off -= 1
            return False
        if size > CRUMB_BYTES or now - self._last > GAP_S or not self._count:
            self._start = self._last = now
            self._bytes = 0
            self._count = 1
            return False
        self._last = now
        self._bytes += size
        self._count += 1
        if self._count < STREAK:
            return False
        self._unpaced_rate = self._bytes / (now - self._start) if now > self._start else 0.0
        self._count = self._bytes = 0
        if self._unpaced_rate < STREAM_BYTES_S:
            return False
        self._paused_at = now
        return True

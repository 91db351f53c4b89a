"""A rate limit that allows bursts. The clock is an argument."""

from __future__ import annotations

import math

__all__ = ["TokenBucket"]


class TokenBucket:
    """`requests` per `per_s` seconds, and up to `burst` at once after a pause. Times are monotonic seconds."""

    __slots__ = ("_burst", "_rate", "_tokens", "_updated_at")

    def __init__(self, requests: float, per_s: float, burst: float | None = None) -> None:
        self._rate = requests / per_s
        self._burst = max(1.0, requests if burst is None else burst)
        self._tokens = self._burst
        self._updated_at = -math.inf

    def wait_s(self, now: float) -> float:
        """The seconds until `take` may be called; 0: now."""
        if now > self._updated_at:
            if self._updated_at != -math.inf:
                self._tokens = min(self._burst, self._tokens + (now - self._updated_at) * self._rate)
            self._updated_at = now
        # The tolerance is for rounding, which could keep the number of tokens slightly below one.
        return 0.0 if self._tokens >= 1 - 1e-9 else (1 - self._tokens) / self._rate

    def take(self) -> None:
        self._tokens -= 1

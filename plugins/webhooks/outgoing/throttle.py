"""May the next request to an endpoint start now? What it asked for, the circuit breaker, the rate limit: in this order."""

from __future__ import annotations

from typing import TYPE_CHECKING

from leveret.plugins.webhooks.outgoing.retry_policy import Breaker, Bucket

if TYPE_CHECKING:
    from leveret.plugins.webhooks.outgoing.subscription import Subscription
__all__ = ["Throttle", "rest_s"]

THROTTLED = {429: 60.0, 502: 1.0, 503: 1.0, 504: 1.0}
"""Statuses that are meant for all messages (Standard Webhooks): how long all rest at most if the answer does not say."""


def rest_s(status: int, asked_s: float | None, delay_s: float) -> float | None:
    """How long nothing is sent after this answer; None: it is about its own message alone.

    asked_s: of its Retry-After; delay_s: until that message's next attempt.
    """
    longest_s = THROTTLED.get(status)
    if longest_s is None:
        return None
    return min(delay_s, longest_s) if asked_s is None else asked_s


class Throttle:
    """Synchronous; the clock is an argument (monotonic seconds). paused_until: as the endpoint asked before a restart."""

    def __init__(self, subscription: Subscription, paused_until: float) -> None:
        self._breaker = Breaker(subscription.breaker) if subscription.breaker is not None else None
        limit = self._rate_limit = subscription.rate_limit
        self._bucket = None if limit is None else Bucket(limit.requests, limit.per_s, limit.burst)
        self.paused_until = paused_until

    @property
    def breaker_state(self) -> str:
        return "off" if self._breaker is None else self._breaker.state

    def limit(self, per_minute: int) -> None:
        """The endpoint wants no more than that."""
        mine = self._rate_limit
        if mine is None or mine.requests / mine.per_s > per_minute / 60:
            self._bucket = Bucket(per_minute, 60.0, max(1.0, per_minute / 60))

    def wait_s(self, now: float) -> float | None:
        """0: `start` now; else in so many seconds; None: when a request that is under way has ended."""
        if now < self.paused_until:
            return self.paused_until - now
        if self._breaker is not None:
            wait = self._breaker.wait_s(now)
            if wait is None or wait > 0:
                return wait
        return 0.0 if self._bucket is None else self._bucket.wait_s(now)

    def start(self) -> None:
        if self._bucket is not None:
            self._bucket.take()
        if self._breaker is not None:
            self._breaker.started()

    def succeeded(self, now: float) -> None:
        if self._breaker is not None:
            self._breaker.succeeded(now)

    def failed(self, now: float) -> None:
        if self._breaker is not None:
            self._breaker.failed(now)

    def abandoned(self) -> None:
        """What was started has ended without saying anything about the endpoint."""
        if self._breaker is not None:
            self._breaker.abandoned()

    def pause(self, until: float) -> bool:
        """False: it is shut for longer already."""
        if until <= self.paused_until:
            return False
        self.paused_until = until
        return True

"""Decides when the next request to an endpoint may start: after pauses it asked for, by the circuit breaker and by the rate limit."""

from __future__ import annotations

from typing import TYPE_CHECKING

from leveret.plugins.webhooks.outgoing.circuit_breaker import CircuitBreaker
from leveret.plugins.webhooks.outgoing.token_bucket import TokenBucket

if TYPE_CHECKING:
    from leveret.plugins.webhooks.outgoing.subscription import Subscription
__all__ = ["Throttle", "pause_s"]

THROTTLED = {429: 60.0, 502: 1.0, 503: 1.0, 504: 1.0}
"""Statuses that concern all messages (Standard Webhooks): the longest pause if the answer has no Retry-After."""


def pause_s(status: int, asked_s: float | None, delay_s: float) -> float | None:
    """How long nothing is sent after an answer with this status; None: the answer concerns its own message alone.

    asked_s: what Retry-After says, or None; delay_s: until the next attempt at its message.
    """
    longest_s = THROTTLED.get(status)
    if longest_s is None:
        return None
    return min(delay_s, longest_s) if asked_s is None else asked_s


class Throttle:
    """The state of one endpoint. Synchronous; the clock is an argument (monotonic seconds).

    paused_until: when a pause ends that the endpoint asked for, perhaps before a restart.
    """

    def __init__(self, subscription: Subscription, paused_until: float) -> None:
        self._breaker = CircuitBreaker(subscription.breaker) if subscription.breaker is not None else None
        limit = self._rate_limit = subscription.rate_limit
        self._bucket = None if limit is None else TokenBucket(limit.requests, limit.per_s, limit.burst)
        self.paused_until = paused_until

    @property
    def breaker_state(self) -> str:
        return "off" if self._breaker is None else self._breaker.state

    def limit(self, per_minute: int) -> None:
        """Limit the rate to what the endpoint accepts, in requests a minute."""
        mine = self._rate_limit
        if mine is None or mine.requests / mine.per_s > per_minute / 60:
            self._bucket = TokenBucket(per_minute, 60.0, max(1.0, per_minute / 60))

    def wait_s(self, now: float) -> float | None:
        """The seconds until `start` may be called; 0: now; None: not before a request that is under way has ended."""
        if now < self.paused_until:
            return self.paused_until - now
        if self._breaker is not None:
            wait = self._breaker.wait_s(now)
            if wait is None or wait > 0:
                return wait
        return 0.0 if self._bucket is None else self._bucket.wait_s(now)

    def start(self) -> None:
        """A request starts; `succeeded`, `failed` or `abandoned` follows."""
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
        """A request has ended without a result that says something about the endpoint."""
        if self._breaker is not None:
            self._breaker.abandoned()

    def pause(self, until: float) -> bool:
        """Send nothing until then. Returns False if a longer pause is in force."""
        if until <= self.paused_until:
            return False
        self.paused_until = until
        return True

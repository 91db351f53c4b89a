"""When to try again: backoff with jitter, Retry-After, a token bucket, a circuit breaker. Time is an argument."""

from __future__ import annotations

import email.utils
import math
import re
from collections import deque
from dataclasses import dataclass
from datetime import UTC

__all__ = ["Breaker", "BreakerRules", "Bucket", "RetrySchedule", "retry_after_s"]

SECONDS = re.compile(r"[0-9]{1,9}(\.[0-9]{1,6})?")


@dataclass(frozen=True, slots=True)
class RetrySchedule:
    """Delays before the second, third, ... attempt: `delays_s` if given, else exponential.

    initial_s * factor ** n, at most max_s, each moved by up to `jitter` of itself in either direction.
    attempts: how often at all; afterwards the message is dead.
    """

    attempts: int = 12
    initial_s: float = 5.0
    factor: float = 3.0
    max_s: float = 36000.0
    jitter: float = 0.2
    delays_s: tuple[float, ...] | None = None

    @property
    def max_attempts(self) -> int:
        return self.attempts if self.delays_s is None else len(self.delays_s) + 1

    def delay_s(self, attempts: int, chance: float) -> float | None:
        """After so many failed attempts (1, 2, ...); None: there is none left. chance: from 0 to 1."""
        if attempts >= self.max_attempts:
            return None
        if self.delays_s is not None:
            delay = self.delays_s[attempts - 1]
        else:
            try:
                delay = min(self.initial_s * self.factor ** (attempts - 1), self.max_s)
            except OverflowError:
                delay = self.max_s
        return delay * (1 + self.jitter * (2 * chance - 1))


def retry_after_s(value: str | None, now: float) -> float | None:
    """Seconds from `now` (since the epoch) of a Retry-After header, in seconds or as an HTTP date; None: it is none."""
    if value is None:
        return None
    value = value.strip()
    if SECONDS.fullmatch(value):
        return float(value)
    try:
        when = email.utils.parsedate_to_datetime(value)
    except (ValueError, TypeError):
        return None
    try:
        if when.tzinfo is None:  # "-0000"; HTTP knows GMT alone
            when = when.replace(tzinfo=UTC)
        return max(0.0, when.timestamp() - now)
    except (OverflowError, ValueError):
        return None


class Bucket:
    """`requests` per `per_s` seconds; after a rest as many as `burst` at once."""

    __slots__ = ("_burst", "_rate", "_tokens", "_updated_at")

    def __init__(self, requests: float, per_s: float, burst: float | None = None) -> None:
        self._rate = requests / per_s
        self._burst = max(1.0, requests if burst is None else burst)
        self._tokens = self._burst
        self._updated_at = -math.inf

    def wait_s(self, now: float) -> float:
        """0: take one now (`take`); else in so many seconds."""
        if now > self._updated_at:
            if self._updated_at != -math.inf:
                self._tokens = min(self._burst, self._tokens + (now - self._updated_at) * self._rate)
            self._updated_at = now
        # A float's rounding must not leave a waiter a hair below one for ever.
        return 0.0 if self._tokens >= 1 - 1e-9 else (1 - self._tokens) / self._rate

    def take(self) -> None:
        self._tokens -= 1


@dataclass(frozen=True, slots=True)
class BreakerRules:
    """window_s in samples of sample_s; opens at `failure_ratio` of at least `min_requests`, for open_s."""

    window_s: float = 300.0
    sample_s: float = 30.0
    min_requests: int = 10
    failure_ratio: float = 0.7
    open_s: float = 30.0


class Breaker:
    """closed -> open -> half-open (one request as a probe) -> closed, or open again.

    openings: how often in a row it opened without a success in between.
    """

    __slots__ = ("_open_until", "_samples", "is_probing", "openings", "rules", "state")

    def __init__(self, rules: BreakerRules | None = None) -> None:
        self.rules = rules or BreakerRules()
        self.state = "closed"
        self.openings = 0
        self.is_probing = False
        self._open_until = 0.0
        self._samples: deque[list[float]] = deque()  # [begins, requests, failures]

    def wait_s(self, now: float) -> float | None:
        """0: go on (`started`); else in so many seconds; None: when the probe is back."""
        if self.state == "closed":
            return 0.0
        if self.state == "open":
            if now < self._open_until - 1e-9:
                return self._open_until - now
            self.state = "half-open"
        return None if self.is_probing else 0.0

    def started(self) -> None:
        if self.state == "half-open":
            self.is_probing = True

    def abandoned(self) -> None:
        """A request that was started ended without saying anything about the endpoint."""
        self.is_probing = False

    def succeeded(self, now: float) -> None:
        self.openings = 0
        if self.state != "closed":
            self._close()
        self._sample(now)[1] += 1

    def failed(self, now: float) -> None:
        if self.state == "half-open":
            self._open(now)
            return
        if self.state == "open":  # one of those that were under way
            return
        sample = self._sample(now)
        sample[1] += 1
        sample[2] += 1
        requests = sum([one[1] for one in self._samples])
        failures = sum([one[2] for one in self._samples])
        if requests >= self.rules.min_requests and failures >= requests * self.rules.failure_ratio:
            self._open(now)

    def _sample(self, now: float) -> list[float]:
        samples, rules = self._samples, self.rules
        if not samples or now >= samples[-1][0] + rules.sample_s:
            samples.append([now, 0, 0])
            while samples[0][0] <= now - rules.window_s:
                samples.popleft()
        return samples[-1]

    def _open(self, now: float) -> None:
        self.state = "open"
        self.is_probing = False
        self.openings += 1
        self._open_until = now + self.rules.open_s

    def _close(self) -> None:
        self.state = "closed"
        self.is_probing = False
        self._samples.clear()

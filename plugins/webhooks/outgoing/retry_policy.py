"""When another attempt is made: exponential backoff with jitter, or fixed delays; and Retry-After."""

from __future__ import annotations

import email.utils
import re
from dataclasses import dataclass
from datetime import UTC

__all__ = ["RetrySchedule", "retry_after_s"]

SECONDS = re.compile(r"[0-9]{1,9}(\.[0-9]{1,6})?")


@dataclass(frozen=True, slots=True)
class RetrySchedule:
    """The delays before the second and further attempts: `delays_s`, or else exponential ones,

    initial_s * factor ** n, at most max_s, each moved by up to `jitter` of itself in either direction.
    attempts: the number of all attempts, after which the message is dead-lettered.
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
        """The delay after so many failed attempts (1, 2, ...); None: there are no attempts left. chance: random, from 0 to 1."""
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
    """Seconds to wait as a Retry-After header says, in seconds or as an HTTP date; None for an invalid one. now: since the epoch."""
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
        if when.tzinfo is None:  # "-0000"; dates of HTTP are in GMT
            when = when.replace(tzinfo=UTC)
        return max(0.0, when.timestamp() - now)
    except (OverflowError, ValueError):
        return None

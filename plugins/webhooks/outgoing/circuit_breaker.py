"""A circuit breaker: after too many failures no request starts for a while, and then a single one probes the endpoint."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass

__all__ = ["BreakerRules", "CircuitBreaker"]


@dataclass(frozen=True, slots=True)
class BreakerRules:
    """The breaker counts the requests of the last window_s seconds, in samples of sample_s seconds. If there are at least min_requests,
    and failure_ratio of them have failed, it opens for open_s seconds."""

    window_s: float = 300.0
    sample_s: float = 30.0
    min_requests: int = 10
    failure_ratio: float = 0.7
    open_s: float = 30.0


class CircuitBreaker:
    """States: closed -> open -> half-open (one request as a probe) -> closed, or open again. The clock is an argument (monotonic seconds).

    openings: how often it has opened since the last success.
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
        """The seconds until a request may start; 0: now; None: not before the probe has ended."""
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
        """A request that was started has ended without a result that says something about the endpoint."""
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
        if self.state == "open":  # the request started before the breaker opened
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

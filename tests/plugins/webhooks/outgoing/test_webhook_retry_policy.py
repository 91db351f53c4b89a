"""When to try again: backoff, Retry-After, the bucket, the breaker. Numbers in, numbers out."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from leveret.plugins.webhooks.outgoing.circuit_breaker import BreakerRules, CircuitBreaker
from leveret.plugins.webhooks.outgoing.retry_policy import RetrySchedule, retry_after_s
from leveret.plugins.webhooks.outgoing.token_bucket import TokenBucket

NOW = 1_700_000_000.0  # Tue, 14 Nov 2023 22:13:20 GMT


def test_exponential_without_jitter() -> None:
    schedule = RetrySchedule(attempts=5, initial_s=5, factor=3, max_s=100, jitter=0)
    assert [schedule.delay_s(n, 0.5) for n in range(1, 6)] == [5, 15, 45, 100, None]


def test_a_given_list_of_delays() -> None:
    schedule = RetrySchedule(delays_s=(0.0, 5.0, 300.0), jitter=0)
    assert schedule.max_attempts == 4
    assert [schedule.delay_s(n, 0.5) for n in range(1, 5)] == [0, 5, 300, None]


@given(st.integers(1, 2000), st.floats(0, 1), st.floats(0, 1), st.floats(1, 100))
def test_jitter_stays_in_its_bounds(attempts: int, chance: float, jitter: float, factor: float) -> None:
    schedule = RetrySchedule(attempts=5000, initial_s=1, factor=factor, max_s=3600, jitter=jitter)
    delay = schedule.delay_s(attempts, chance)
    assert delay is not None
    plain = RetrySchedule(attempts=5000, initial_s=1, factor=factor, max_s=3600, jitter=0).delay_s(
        attempts, 0.5
    )
    assert plain is not None
    assert plain * (1 - jitter) - 1e-6 <= delay <= plain * (1 + jitter) + 1e-6


@pytest.mark.parametrize(
    ("value", "seconds"),
    [
        ("120", 120.0),
        (" 7 ", 7.0),
        ("1.5", 1.5),
        ("0", 0.0),
        ("Tue, 14 Nov 2023 22:14:20 GMT", 60.0),
        ("Tuesday, 14-Nov-23 22:14:20 GMT", 60.0),
        ("Tue Nov 14 22:14:20 2023", 60.0),
        ("Tue, 14 Nov 2023 22:13:00 GMT", 0.0),
        (None, None),
        ("", None),
        ("-5", None),
        ("soon", None),
        ("9" * 30, None),
        ("Tue, 99 Nov 2023 22:14:20 GMT", None),
    ],
)
def test_retry_after_in_both_forms(value: str | None, seconds: float | None) -> None:
    assert retry_after_s(value, NOW) == seconds


@given(st.text())
def test_retry_after_takes_anything(value: str) -> None:
    found = retry_after_s(value, NOW)
    assert found is None or found >= 0


def test_bucket_lets_a_burst_through_and_then_the_rate() -> None:
    bucket = TokenBucket(requests=10, per_s=5, burst=3)
    sent: list[float] = []
    now = 0.0
    while len(sent) < 9:
        wait = bucket.wait_s(now)
        if wait:
            now += wait
            continue
        bucket.take()
        sent.append(now)
    assert sent == pytest.approx([0, 0, 0, 0.5, 1, 1.5, 2, 2.5, 3])


def test_bucket_does_not_save_up_more_than_its_burst() -> None:
    bucket = TokenBucket(requests=1, per_s=1, burst=2)
    for _ in range(2):
        assert bucket.wait_s(0) == 0
        bucket.take()
    for _ in range(2):
        assert bucket.wait_s(1000) == 0
        bucket.take()
    assert bucket.wait_s(1000) == pytest.approx(1)


def test_breaker_opens_at_the_ratio_of_enough_requests() -> None:
    breaker = CircuitBreaker()
    for number in range(9):
        breaker.failed(number)
        assert breaker.wait_s(number) == 0
    breaker.failed(9)
    assert (breaker.state, breaker.wait_s(9), breaker.wait_s(20)) == ("open", 30, 19)


def test_breaker_stays_closed_below_the_ratio() -> None:
    breaker = CircuitBreaker()
    for number in range(100):
        (breaker.succeeded if number % 10 < 4 else breaker.failed)(number)
        assert breaker.state == "closed"


def test_old_samples_do_not_count() -> None:
    breaker = CircuitBreaker()
    for _ in range(9):
        breaker.failed(0)
    breaker.failed(400)
    assert breaker.state == "closed"


def test_one_probe_decides() -> None:
    breaker = CircuitBreaker(BreakerRules(min_requests=1, open_s=30))
    breaker.failed(0)
    assert breaker.wait_s(30) == 0
    breaker.started()
    assert breaker.wait_s(30) is None  # until the probe is back
    breaker.failed(31)
    assert (breaker.state, breaker.openings, breaker.wait_s(31)) == ("open", 2, 30)
    assert breaker.wait_s(61) == 0
    breaker.started()
    breaker.succeeded(62)
    assert (breaker.state, breaker.openings, breaker.wait_s(62)) == ("closed", 0, 0)


def test_a_probe_that_says_nothing_is_not_waited_for() -> None:
    breaker = CircuitBreaker(BreakerRules(min_requests=1, open_s=30))
    breaker.failed(0)
    assert breaker.wait_s(30) == 0
    breaker.started()
    breaker.abandoned()
    assert breaker.wait_s(31) == 0


def test_late_answers_do_not_reopen() -> None:
    breaker = CircuitBreaker(BreakerRules(min_requests=1, open_s=30))
    breaker.failed(0)
    breaker.failed(29)
    assert breaker.wait_s(30) == 0

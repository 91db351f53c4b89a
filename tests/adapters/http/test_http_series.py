"""Samples over time: rates, ranges, bounds."""

from __future__ import annotations

from itertools import pairwise

from leveret.adapters.http.series import Range, Series

PLAN = ((0, 16),)


def filled(*values: int, interval_ms: int = 5000) -> Series:
    series = Series(1, PLAN)
    for number, value in enumerate(values):
        series.add(number * interval_ms, (value,))
    return series


def test_a_rate_is_what_happened_between_the_last_two_looks() -> None:
    series = filled(0, 10, 30)
    assert series.rate(0, 10_000, 5000) == 4.0


def test_there_is_no_rate_without_a_change_or_a_look_before() -> None:
    assert filled(7).rate(0, 0, -5000) == 0.0
    unchanged = filled(7, 9, 9)
    assert unchanged.rate(0, 10_000, 5000) == 0.0


def test_only_changes_take_room() -> None:
    series = filled(*[7] * 1000, 8)
    assert len(series.rings[0]) == 2
    assert series.last == (8,)


def test_samples_are_at_multiples_of_the_step_newest_first() -> None:
    series = filled(1, 2, 3, 3, 5)
    assert list(series.samples(0, Range(20, 5), 21_000)) == [
        (5, 25_000), (5, 20_000), (3, 15_000), (3, 10_000), (2, 5000),
    ]  # fmt: skip
    assert list(series.samples(0, Range(20, 10), 20_000)) == [(5, 20_000), (3, 10_000), (1, 0)]
    assert list(series.samples(0, Range(20, 10), 20_001)) == [(5, 30_000), (5, 20_000), (3, 10_000)]


def test_nothing_was_there_before_the_first_look() -> None:
    series = Series(1, PLAN)
    series.add(12_000, (4,))
    assert list(series.samples(0, Range(20, 5), 21_000)) == [
        (4, 25_000), (4, 20_000), (4, 15_000), (0, 10_000), (0, 5000),
    ]  # fmt: skip
    # Clients read the first without looking whether there is one.
    assert list(series.samples(0, Range(1800, 1800), 14_000)) == [(4, 1_800_000), (0, 0)]


def test_what_is_forgotten_is_not_made_up() -> None:
    series = filled(*range(500))
    oldest = series.rings[0].times()[0]
    samples = list(series.samples(0, Range(5000, 5), 499 * 5000))
    assert samples[-1][1] == oldest
    assert [value for value, _ in samples] == list(range(499, 499 - len(samples), -1))


def test_a_ring_is_bounded_and_can_shrink() -> None:
    series = filled(*range(500))
    assert 16 <= len(series.rings[0]) < 16 + 8
    assert series.rings[0].value(len(series.rings[0]) - 1, 0) == 499
    series.bound(4)
    series.add(500 * 5000, (1000,))
    assert len(series.rings[0]) == 4


def test_coarser_rings_reach_further_back() -> None:
    series = Series(1, ((0, 12), (60_000, 100)))
    for number in range(1200):
        series.add(number * 5000, (number,))
    now = 1199 * 5000
    short = list(series.samples(0, Range(30, 5), now))
    assert [value for value, _ in short] == [1199, 1198, 1197, 1196, 1195, 1194, 1193]
    hour = list(series.samples(0, Range(3600, 60), now))
    assert len(hour) == 61
    steps = [first - second for (first, _), (second, _) in pairwise(hour)]
    assert steps == [11] + [12] * 59  # the newest is 5 s ahead

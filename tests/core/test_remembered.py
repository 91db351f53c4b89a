"""What publishers remember: bounded for each and in all, and no cliff where it is full."""

from __future__ import annotations

import pytest

from leveret.core.remembered import MIN_REMEMBERED, Remembered, remembered_by_each


def test_publishers_share_what_may_be_remembered() -> None:
    assert remembered_by_each(0) == remembered_by_each(1) == 1 << 18
    assert remembered_by_each(64) == 4096
    assert remembered_by_each(1_000_000) == MIN_REMEMBERED


def room(limit: int) -> Remembered[int, int]:
    """With so many entries for each publisher."""
    return Remembered(range((1 << 18) // limit))


def test_nothing_is_forgotten_while_there_is_room() -> None:
    entries = room(1024)
    for number in range(1024):
        entries.remember(number, number)
    assert len(entries) == 1024


def test_an_entry_that_is_there_is_replaced() -> None:
    entries = room(1024)
    for number in range(2000):
        entries.remember(number, 0)
    key = next(iter(entries))
    size = len(entries)
    entries.remember(key, 1)
    assert (entries[key], len(entries)) == (1, size)


def test_a_limit_that_has_fallen_is_kept() -> None:
    publishers = [object()]
    entries: Remembered[int, int] = Remembered(publishers)
    for number in range(10_000):
        entries.remember(number, 0)
    assert len(entries) == 10_000
    publishers *= 1000
    for number in range((1 << 18) + 8):
        entries.remember(number, 0)
    assert len(entries) <= 512


@pytest.mark.parametrize("keys", [1100, 2048, 4096, 16384])
def test_with_more_keys_than_room_the_share_that_is_found_falls_in_proportion(keys: int) -> None:
    entries = room(1024)
    found = 0
    for number in range(keys * 20):  # in turn, which finds nothing where the oldest are forgotten
        key = number % keys
        if key in entries:
            found += number >= keys * 10
        else:
            entries.remember(key, number)
    assert found / (keys * 10) >= 0.3 * 1024 / keys


def test_keys_that_come_into_use_are_remembered() -> None:
    entries = room(1024)
    for number in range(20_000):
        entries.remember(number, 0)
    for number in range(100 * 100):
        entries.remember(-1 - number % 100, 0)
    assert sum(key < 0 for key in entries) > 80


def test_entries_are_forgotten_by_their_key() -> None:
    entries = room(1024)
    for number in range(10):
        entries.remember(number, number)
    entries.forget(lambda key: key % 2 == 0)
    assert list(entries) == [1, 3, 5, 7, 9]
    entries.clear()
    for number in range(2000):
        entries.remember(number, number)
    assert len(entries) == 1024

"""Timers: when they fire, in which order, and that cancelled ones take no room."""

from __future__ import annotations

import random

import pytest
import trio

from leveret.core import timers as module
from leveret.core.timers import Timers


async def running(nursery: trio.Nursery) -> Timers:
    timers = Timers()
    timers.start()
    nursery.start_soon(timers.run)
    return timers


async def test_they_fire_in_order_and_once(autojump_clock: object, nursery: trio.Nursery) -> None:
    timers = await running(nursery)
    began, fired = timers.now, []
    for seconds in (5, 1, 3, 1):
        timers.after(seconds, lambda seconds=seconds: fired.append((seconds, timers.now - began)))  # type: ignore[misc]
    timers.after(2, lambda: fired.append((2, 0))).cancel()
    await trio.sleep(10)
    assert [seconds for seconds, _ in fired] == [1, 1, 3, 5]
    assert all(seconds <= at < seconds + 0.1 for seconds, at in fired)


async def test_one_that_comes_earlier_wakes_the_task(autojump_clock: object, nursery: trio.Nursery) -> None:
    timers = await running(nursery)
    fired: list[str] = []
    timers.after(1000, lambda: fired.append("late"))
    await trio.sleep(1)
    timers.tick()
    timers.after(1, lambda: fired.append("early"))
    await trio.sleep(2)
    assert fired == ["early"]


async def test_one_that_raises_stops_nothing(
    autojump_clock: object, nursery: trio.Nursery, caplog: pytest.LogCaptureFixture
) -> None:
    timers = await running(nursery)
    fired: list[int] = []
    timers.after(1, lambda: fired.append(1 // 0))
    timers.after(1, lambda: fired.append(1))
    await trio.sleep(2)
    assert fired == [1]
    assert "ZeroDivisionError" in caplog.text


async def test_cancelled_ones_take_no_room(autojump_clock: object, nursery: trio.Nursery) -> None:
    timers = await running(nursery)
    kept = [timers.after(90, lambda: None) for _ in range(100)]
    for _ in range(50_000):
        timers.after(90, lambda: None).cancel()
    assert len(timers._heap) <= module.SWEEP_AT
    live = [timers.after(90, lambda: None) for _ in range(5000)]
    for _ in range(50_000):
        timers.after(90, lambda: None).cancel()
    assert len(timers._heap) <= 4 * (len(live) + len(kept))


async def test_what_is_kept_fires_through_any_number_of_sweeps(
    autojump_clock: object, nursery: trio.Nursery, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "SWEEP_AT", 16)
    timers = await running(nursery)
    rng = random.Random(5)
    fired: list[int] = []
    expected: list[tuple[float, int]] = []
    for number in range(3000):
        seconds = rng.uniform(0, 100)
        timer = timers.after(seconds, lambda number=number: fired.append(number))  # type: ignore[misc]
        if rng.random() < 0.7:
            timer.cancel()
        else:
            expected.append((timers.now + seconds, number))
        if number % 100 == 0:
            await trio.sleep(0.5)
            timers.tick()
    await trio.sleep(200)
    assert fired == [number for _, number in sorted(expected)]
    assert not timers._heap

"""Lingering is a trial that must pay."""

from __future__ import annotations

import trio

from leveret.core.store.lmdb.group import Group
from leveret.core.store.lmdb.linger import MISSES, PASSES, SMALL_OPERATIONS, TRIAL_EVERY, Linger


def group(operations: int) -> Group:
    made = Group()
    made.operations = operations
    return made


async def steps(linger: Linger, waiting: Group, *, settles: bool = False) -> int:
    """How many passes of the scheduler it waited. settles: on the third, all operations have cancelled out."""
    count = 0

    async def others() -> None:
        nonlocal count
        while True:
            await trio.lowlevel.checkpoint()
            count += 1
            if settles and count == 3:
                waiting.operations = 0

    async with trio.open_nursery() as nursery:
        nursery.start_soon(others)
        await linger.wait(waiting)
        nursery.cancel_scope.cancel()
    return count


async def test_now_and_then_a_group_is_kept_to_see() -> None:
    linger = Linger()
    waits = [await steps(linger, group(1)) for _ in range(TRIAL_EVERY)]
    assert all(count <= 1 for count in waits[:-1])
    assert waits[-1] >= PASSES // 2


async def test_what_settles_in_time_makes_it_go_on_until_it_misses() -> None:
    linger = Linger()
    for _ in range(TRIAL_EVERY):
        await steps(linger, group(1), settles=True)
    for _ in range(10):
        waiting = group(2)
        assert await steps(linger, waiting, settles=True) <= 4
        assert not waiting.operations
    for _ in range(MISSES):
        assert await steps(linger, group(1)) >= PASSES // 2
    assert await steps(linger, group(1)) <= 1


async def test_large_groups_and_definitions_are_never_kept() -> None:
    linger = Linger()
    defined = group(1)
    defined.definitions[b"k"] = b"v"
    for _ in range(TRIAL_EVERY * 2):
        assert await steps(linger, group(SMALL_OPERATIONS + 1)) <= 1
        assert await steps(linger, defined) <= 1

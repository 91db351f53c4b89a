"""Publishers wait for room, and go on when there is some."""

from __future__ import annotations

from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest
import trio
import trio.testing
from support.in_process import broker_in_process

from leveret.conf.settings import Settings
from leveret.core.alarms import Alarms
from leveret.core.backpressure import Backpressure
from leveret.core.broker import Broker


def made() -> tuple[Backpressure, Alarms, Any]:
    store: Any = SimpleNamespace(pending_bytes=0, is_full=False)
    alarms = Alarms(Settings(), store)
    return Backpressure(alarms, store, 100), alarms, store


def an_alarm(alarms: Alarms, store: Any) -> Callable[[Backpressure], None]:
    alarms.set_alarm("memory")
    return lambda backpressure: alarms.clear_alarm("memory")


def a_slow_disk(alarms: Alarms, store: Any) -> Callable[[Backpressure], None]:
    store.pending_bytes = 101

    def catch_up(backpressure: Backpressure) -> None:
        store.pending_bytes = 100
        backpressure.on_committed()

    return catch_up


@pytest.mark.parametrize("trouble", [an_alarm, a_slow_disk])
async def test_publishers_wait_until_there_is_room(trouble: Any) -> None:
    backpressure, alarms, store = made()
    assert not backpressure.must_wait
    await backpressure.wait_for_room()
    end = trouble(alarms, store)
    assert backpressure.must_wait
    gone_on = []

    async def wait() -> None:
        await backpressure.wait_for_room()
        gone_on.append(True)

    async with trio.open_nursery() as nursery:
        nursery.start_soon(wait)
        nursery.start_soon(wait)
        await trio.testing.wait_all_tasks_blocked()
        backpressure.on_committed()  # not enough yet
        await trio.testing.wait_all_tasks_blocked()
        assert not gone_on
        end(backpressure)
    assert gone_on == [True, True]


async def test_the_longest_queues_move_to_disk_first() -> None:
    settings = Settings()
    async with broker_in_process() as server:
        broker: Broker = server.broker
        assert broker.settings.store.window_messages == settings.store.window_messages
        moved: list[tuple[str, int]] = []

        def spilling(name: str, size: int) -> Callable[[int], int]:
            def spill(limit: int) -> int:
                moved.append((name, limit))
                return size

            return spill

        for name, size in (("short", 10), ("long", 1000), ("middle", 100)):
            queue = broker.vhosts["/"].add_queue(
                name, durable=False, exclusive=False, auto_delete=False, arguments={}
            )
            queue.ready = SimpleNamespace(  # type: ignore[assignment]
                bytes=size, count=1, spill=spilling(name, size), clear=lambda: 0, fifos=[]
            )
        broker.alarms.relieve(1050)
        assert moved == [("long", 1050), ("middle", 50)]

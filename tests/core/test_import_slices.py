"""Imports in slices: checked as a whole first; what others do in between is survived; nobody waits long."""

from __future__ import annotations

import gc
from typing import Any

import pytest
from support.registries import installed

from leveret.conf.settings import Settings
from leveret.core.broker import Broker
from leveret.core.definitions.import_plan import SLICE
from leveret.core.definitions.importer import DefinitionsError, import_slices
from leveret.core.garbage_collection import paused_collector
from leveret.core.store.memory import MemoryStore

COUNT = 3 * SLICE


def document(count: int = COUNT) -> dict[str, Any]:
    queue = {"vhost": "v", "durable": True, "auto_delete": False, "arguments": {}}
    binding = {"vhost": "v", "source": "x", "destination_type": "queue", "arguments": {}}
    return {
        "vhosts": [{"name": "v"}],
        "exchanges": [{"vhost": "v", "name": "x", "type": "topic", "durable": True, "arguments": {}}],
        "queues": [{**queue, "name": f"q{number}"} for number in range(count)],
        "bindings": [{**binding, "destination": f"q{number}", "routing_key": "k"} for number in range(count)],
    }


def broker() -> Broker:
    return Broker(Settings(), installed(), MemoryStore())


async def test_each_turn_does_a_slice() -> None:
    async with broker().running() as running:
        turns, before, largest = 0, 0, 0
        for _ in import_slices(running, document()):
            turns += 1
            vhost = running.vhosts.get("v")
            now = 0 if vhost is None else len(vhost.queues) + len(list(vhost.bindings()))
            largest = max(largest, now - before)
            before = now
        assert turns >= 4 * COUNT // SLICE  # queues and bindings, checked and done
        assert largest <= 3 * SLICE  # a queue has an implicit binding, too
        assert len(running.vhosts["v"].queues) == COUNT
        assert gc.isenabled()


async def test_a_mistake_at_the_end_changes_nothing() -> None:
    given = document()
    given["bindings"].append(
        {"vhost": "nope", "source": "x", "destination": "q", "destination_type": "queue"}
    )
    async with broker().running() as running:
        slices = import_slices(running, given)
        with pytest.raises(DefinitionsError, match=rf"^bindings\[{COUNT}\]"):
            list(slices)
        assert "v" not in running.vhosts
        assert gc.isenabled()


async def test_what_is_deleted_meanwhile_is_left_out(caplog: pytest.LogCaptureFixture) -> None:
    async with broker().running() as running:
        report = None
        slices = import_slices(running, document())
        while report is None:
            try:
                next(slices)
            except StopIteration as end:
                report = end.value
            vhost = running.vhosts.get("v")
            if vhost is not None and len(vhost.queues) >= 2 * SLICE:
                running.delete_vhost("v")
        assert "v" not in running.vhosts
        assert len(report.warnings) > COUNT
        assert all("was deleted during the import" in warning for warning in report.warnings)


async def test_what_is_declared_meanwhile_stays() -> None:
    async with broker().running() as running:
        running.add_vhost("v")
        slices = import_slices(running, document(), user=None)
        next(slices)
        vhost = running.vhosts["v"]
        mine = vhost.add_queue(
            f"q{COUNT - 1}", durable=False, exclusive=False, auto_delete=True, arguments={}
        )
        for _ in slices:
            pass
        assert vhost.queues[f"q{COUNT - 1}"] is mine
        assert len(vhost.queues) == COUNT


def test_the_collector_pauses_for_all_who_ask() -> None:
    with paused_collector():
        with paused_collector():
            assert not gc.isenabled()
        assert not gc.isenabled()
    assert gc.isenabled()
    assert gc.get_freeze_count() == 0


def test_a_collector_that_was_off_stays_off() -> None:
    gc.disable()
    try:
        with paused_collector():
            pass
        assert not gc.isenabled()
    finally:
        gc.enable()

"""HTTP areas: built once, described, run and drained; a broken one is named, and does not hurt the others."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import pytest
import trio
from aiohttp import web
from support.in_process import broker_in_process
from support.registries import installed
from support.rest import Rest

from leveret.adapters.http.adapter import HttpAdapter
from leveret.adapters.http.areas import Area, Route
from leveret.conf.settings import Settings
from leveret.core.broker import Broker
from leveret.core.registry import PluginError
from leveret.core.store.memory import MemoryStore
from leveret.plugins.checks import check_area


class Example(Area):
    """One path."""

    name: ClassVar[str] = "example"
    tags: ClassVar[Mapping[str, str]] = {"example": "Of the tests"}
    events: ClassVar[list[str]] = []

    def routes(self) -> Sequence[Route]:
        return [Route("GET", "/example/{name}", self.get)]

    async def get(self, request: web.Request) -> web.StreamResponse:
        """The name."""
        return web.Response(text=request.match_info["name"])

    async def run(self) -> None:
        self.events.append("run")
        try:
            await trio.sleep_forever()
        finally:
            self.events.append("cancelled")

    def drain(self) -> None:
        self.events.append("drain")


class Broken(Example):
    """Its task and its end fail."""

    name: ClassVar[str] = "broken"

    def routes(self) -> Sequence[Route]:
        return [Route("GET", "/broken", self.get)]

    async def run(self) -> None:
        raise ZeroDivisionError("run")

    def drain(self) -> None:
        raise ZeroDivisionError("drain")


class Unbuildable(Example):
    name: ClassVar[str] = "unbuildable"

    def __init__(self, context: Any) -> None:
        raise ValueError("no")


class Thief(Example):
    name: ClassVar[str] = "thief"

    def routes(self) -> Sequence[Route]:
        return [Route("GET", "/api/users/{name}", self.get)]


class SamePath(Example):
    name: ClassVar[str] = "same-path"

    def routes(self) -> Sequence[Route]:
        return [Route("GET", "/health/live", self.get)]


@pytest.mark.parametrize(
    "name", ["health", "management", "messaging", "metrics", "openapi", "start-page", "webhooks"]
)
async def test_built_in_areas_fulfil_the_contract(name: str) -> None:
    await check_area(installed().load("http", name))


async def test_an_area_runs_and_drains_with_the_adapter() -> None:
    Example.events.clear()
    async with broker_in_process(HttpAdapter, areas=(Example,)) as listener, Rest(listener) as rest:
        assert (await rest.call("GET", "/example/%7Ba%2Fb%7D")).body == b"{a/b}"
        assert Example.events == ["run"]
        listener.adapter.drain()
        assert Example.events == ["run", "drain"]
        listener.adapter.drain()
    assert Example.events == ["run", "drain", "cancelled"]


async def test_an_area_that_fails_does_not_hurt_the_others(caplog: pytest.LogCaptureFixture) -> None:
    Example.events.clear()
    async with broker_in_process(HttpAdapter, areas=(Broken, Example)) as listener, Rest(listener) as rest:
        assert (await rest.call("GET", "/example/a")).status == 200
        listener.adapter.drain()
        assert "drain" in Example.events
    errors = [record.getMessage() for record in caplog.records if record.levelname == "ERROR"]
    assert errors == ["area=broken its task has failed; its routes remain", "area=broken does not drain"]


@pytest.mark.parametrize(
    ("area", "message"),
    [
        (Unbuildable, "HTTP area 'unbuildable' cannot be built: ValueError: no"),
        (SamePath, "HTTP areas 'health' and 'same-path' both have GET /health/live"),
        (Thief, "HTTP areas 'management' and 'thief' both have GET /api/users/{name}"),
    ],
)
async def test_an_area_that_cannot_be_added_is_named(area: type[Area], message: str) -> None:
    registry = installed()
    registry.register("http", area.name, area)
    async with Broker(Settings(), registry, MemoryStore()).running() as broker:
        task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED
        with pytest.RaisesGroup(
            pytest.RaisesExc(PluginError, match=re.escape(message)), flatten_subgroups=True
        ):
            await HttpAdapter(broker).run(task_status=task_status)

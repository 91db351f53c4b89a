"""Functions that check the contracts of extensions, for the tests of their authors. All of them can be imported from here.

async def test_my_plugin():
    await check_plugin(MyPlugin)
"""

from __future__ import annotations

import inspect
import json
import re
from typing import Any

import trio

from leveret.adapters.checks import check_adapter, check_connections
from leveret.adapters.http.adapter import HttpAdapter
from leveret.adapters.http.areas import Area
from leveret.adapters.http.openapi.document import document
from leveret.auth.checks import check_authenticator, check_authorizer
from leveret.conf.checks import check_settings, check_settings_of
from leveret.conf.settings import Settings
from leveret.core.broker import Broker
from leveret.core.exchanges.checks import check_exchange
from leveret.core.store.checks import check_store
from leveret.core.store.memory import MemoryStore
from leveret.plugins.base import Plugin
from leveret.plugins.host import START_TIMEOUT_S, STOP_TIMEOUT_S
from leveret.plugins.loader import load_registry

__all__ = [
    "check_adapter",
    "check_area",
    "check_authenticator",
    "check_authorizer",
    "check_connections",
    "check_exchange",
    "check_plugin",
    "check_settings",
    "check_store",
]


async def check_plugin(plugin_type: type[Plugin], *settings: Any) -> None:
    """Check a plugin: its description and settings, and that it starts, stops when it is cancelled, leaves nothing registered and can
    start again.

    settings: an instance of its `settings_type`, if the defaults cannot be used. Raise AssertionError.
    """
    _check_description(plugin_type)
    declaration = plugin_type.settings_type
    own = settings if settings or declaration is None else (declaration(),)
    broker = Broker(Settings(), load_registry(), MemoryStore())
    async with broker.running():
        for _ in range(2):  # as if it was disabled and enabled again
            before = set(broker.services), set(broker.components)
            plugin = plugin_type(*own)
            with trio.CancelScope() as scope:
                async with trio.open_nursery() as nursery:
                    with trio.fail_after(START_TIMEOUT_S):
                        await nursery.start(plugin.run, broker)
                    if own and hasattr(plugin, "reconfigure"):
                        plugin.reconfigure(own[0])
                    scope.deadline = trio.current_time() + STOP_TIMEOUT_S
                    nursery.cancel_scope.cancel()
            assert not scope.cancelled_caught, "it does not stop when it is cancelled"
            assert (set(broker.services), set(broker.components)) == before, "it leaves something registered"


async def check_area(area_type: type[Area]) -> None:
    """An HTTP area works beside the installed ones.

    Its routes have summaries, tags and schemas that exist, and paths of their own; it has metrics and drains, also twice.
    """
    assert area_type.name, "it has no name"
    assert area_type.tags, "it has no tags"
    registry = load_registry()
    if registry.find("http", area_type.name) is None:
        registry.register("http", area_type.name, area_type)
    broker = Broker(Settings(), registry, MemoryStore())
    async with broker.running(), trio.open_nursery() as nursery:
        adapter = HttpAdapter(broker)
        await nursery.start(adapter.run)
        assert adapter.context is not None
        area = next(one for one in adapter.context.areas if one.name == area_type.name)
        for route in area.routes():
            where = f"{route.method} {route.path}"
            assert route.path.startswith("/"), f"{where}: a path begins with a slash"
            assert inspect.iscoroutinefunction(route.handler), (
                f"{where}: the handler is not a coroutine function"
            )
            assert route.operation.get("summary") or inspect.getdoc(route.handler), f"{where} has no summary"
            assert not route.tag or route.tag in area.tags, f"{where} has an unknown tag"
        _check_references(document(adapter.context.areas))
        for metric in area.metrics():
            assert metric.help, f"{metric.name} has no help"
        adapter.drain()
        area.drain()
        nursery.cancel_scope.cancel()


def _check_references(document: Any) -> None:
    for name in set(re.findall(r'"#/components/schemas/([^"]+)"', json.dumps(document))):
        assert name in document["components"]["schemas"], f"there is no schema {name}"


def _check_description(plugin_type: type[Plugin]) -> None:
    check_settings_of(plugin_type)
    assert plugin_type.name, "it has no name"
    assert plugin_type.description, "it has no description"
    assert "\n" not in plugin_type.description, "its description is one line"
    for names in (plugin_type.requires, plugin_type.exchanges):
        assert not isinstance(names, str), "requires and exchanges are sequences of names"

"""Plugins at work: started in order, stopped, broken, enabled and disabled over restarts."""

from __future__ import annotations

import json
import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, ClassVar

import pytest
import trio
import trio.testing
from support.distributions import install
from support.routes import Place, message
from support.topology import FakeBroker

from leveret.conf.declare import seconds, setting
from leveret.conf.settings import Plugins, Settings
from leveret.core.errors import InvalidArgument, NotFound, PreconditionFailed
from leveret.core.exchange import Binding, Exchange
from leveret.core.exchanges.fanout import FanoutExchange
from leveret.core.registry import PluginError, Registry
from leveret.core.store.memory import MemoryStore
from leveret.core.vhost import Vhost
from leveret.plugins.base import Plugin, PluginStatus
from leveret.plugins.host import START_TIMEOUT_S, STOP_TIMEOUT_S, PluginHost
from leveret.plugins.loader import load_registry

RECORD = b"plugins/enabled"


def a_store(record: str = "") -> MemoryStore:
    store = MemoryStore()
    store.open()
    if record:
        store.put_definition(RECORD, record.encode())
    return store


def recorded(broker: FakeBroker) -> dict[str, list[str]]:
    (record,) = [json.loads(value) for key, value in broker.store.definitions(RECORD)]
    assert record == json.loads(broker.store.state.definitions[RECORD]), "it is not durable yet"
    return record  # type: ignore[no-any-return]


Event = tuple[str, str]


def plugin(journal: list[Event], name: str, **attributes: Any) -> type[Plugin]:
    """A plugin that writes down what happens to it."""

    class Noted:
        description: ClassVar[str] = f"{name} does it"

        def __init__(self, *settings: Any) -> None:
            self.given = settings

        async def run(
            self, broker: Any, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED
        ) -> None:
            journal.append(("start", name))
            task_status.started()
            try:
                await trio.sleep_forever()
            finally:
                journal.append(("stop", name))

    for key, value in attributes.items():
        setattr(Noted, key, value)
    Noted.name = name  # type: ignore[attr-defined]  # set late
    return Noted  # type: ignore[return-value]


def a_broker(
    registry: Registry, enabled: tuple[str, ...] = (), store: MemoryStore | None = None
) -> FakeBroker:
    broker = FakeBroker(store or a_store())
    broker.settings = replace(Settings(), plugins=Plugins(enabled=enabled))
    for name in ("direct", "fanout", "topic", "headers"):
        if registry.find("exchanges", name) is None:
            registry.register("exchanges", name, broker.registry.exchange_type(name))
    broker.registry = registry
    return broker


@asynccontextmanager
async def running(host: PluginHost) -> AsyncIterator[PluginHost]:
    async with trio.open_nursery() as nursery:
        await nursery.start(host._broker.store.run)
        await nursery.start(host.run)
        yield host
        nursery.cancel_scope.cancel()


def host_of(broker: FakeBroker) -> PluginHost:
    return PluginHost(broker, broker.registry)  # type: ignore[arg-type]  # a fake


def status(host: PluginHost, name: str) -> PluginStatus:
    (found,) = [one for one in host.list() if one.name == name]
    return found


def registry_of(*plugins: type[Plugin]) -> Registry:
    registry = Registry()
    for one in plugins:
        registry.register("plugins", one.name, one)
    return registry


async def test_only_what_is_enabled_runs_and_required_ones_start_first() -> None:
    journal: list[Event] = []
    registry = registry_of(
        plugin(journal, "a", requires=("c",)), plugin(journal, "b"), plugin(journal, "c", requires=("d",)),
        plugin(journal, "d"),
    )  # fmt: skip
    host = host_of(a_broker(registry, ("a",)))
    async with running(host):
        assert journal == [("start", "d"), ("start", "c"), ("start", "a")]
        assert status(host, "a").is_running
        assert not status(host, "b").is_running
        assert not status(host, "b").is_enabled
        assert host.plugin("a").name == "a"
        with pytest.raises(PreconditionFailed, match="plugin 'b' is not running"):
            host.plugin("b")
    assert {event for event in journal if event[0] == "stop"} == {("stop", "a"), ("stop", "c"), ("stop", "d")}


async def test_enable_and_disable_while_running_and_over_restarts() -> None:
    journal: list[Event] = []
    registry = registry_of(plugin(journal, "a"), plugin(journal, "b", requires=("c",)), plugin(journal, "c"))
    broker = a_broker(registry, ("a",))
    async with running(host_of(broker)) as host:
        assert await host.enable("b") == ["c", "b"]
        assert await host.enable("b") == []
        assert await host.disable("a") == ["a"]
        assert await host.disable("a") == []
        assert ("stop", "a") in journal
        assert not status(host, "a").is_enabled
    assert recorded(broker) == {"enabled": ["b", "c"], "disabled": ["a"]}
    journal.clear()
    broker = a_broker(registry, ("a",), broker.store)
    async with running(host_of(broker)) as host:
        assert journal == [("start", "c"), ("start", "b")]
        assert await host.disable("c") == ["b", "c"], "who requires it goes with it, first"
        assert await host.enable("a") == ["a"]
    assert recorded(broker) == {"enabled": [], "disabled": ["b", "c"]}


async def test_a_plugin_that_crashes_is_logged_and_listed_and_harms_nobody(
    caplog: pytest.LogCaptureFixture,
) -> None:
    journal: list[Event] = []
    explode = trio.Event()

    async def run(self: Any, broker: Any, *, task_status: Any) -> None:
        task_status.started()
        await explode.wait()
        raise RuntimeError("boom")

    registry = registry_of(plugin(journal, "bad", run=run), plugin(journal, "good"))
    async with running(host_of(a_broker(registry, ("bad", "good")))) as host:
        explode.set()
        await trio.testing.wait_all_tasks_blocked()
        assert status(host, "bad").error == "RuntimeError: boom"
        assert not status(host, "bad").is_running
        assert status(host, "bad").is_enabled
        assert status(host, "good").is_running
        assert "boom" in caplog.text
        explode = trio.Event()
        assert await host.enable("bad") == ["bad"], "enabling it again is another try"
        assert status(host, "bad").is_running


async def test_a_plugin_that_crashes_in_several_tasks_or_exits_is_only_a_crash() -> None:
    async def run_many(self: Any, broker: Any, *, task_status: Any) -> None:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(crash)
            nursery.start_soon(crash)

    async def crash() -> None:
        raise ValueError("no")

    async def run_exit(self: Any, broker: Any, *, task_status: Any) -> None:
        raise SystemExit(3)

    registry = registry_of(plugin([], "many", run=run_many), plugin([], "exit", run=run_exit))
    async with running(host_of(a_broker(registry, ("many", "exit")))) as host:
        assert status(host, "many").error.startswith("ExceptionGroup")
        assert status(host, "exit").error == "SystemExit: 3"


async def test_one_that_cannot_be_built_or_fails_at_once_is_listed_at_start_and_refused_by_enable() -> None:
    def unwilling(self: Any) -> None:
        raise ValueError("port is missing")

    async def fail(self: Any, broker: Any, *, task_status: Any) -> None:
        raise OSError("no route to host")

    registry = registry_of(plugin([], "unwilling", __init__=unwilling), plugin([], "failing", run=fail))
    async with running(host_of(a_broker(registry, ("unwilling",)))) as host:
        assert status(host, "unwilling").error == "ValueError: port is missing"
        with pytest.raises(PluginError, match="plugin 'failing' does not start: OSError: no route to host"):
            await host.enable("failing")
        assert not status(host, "failing").is_enabled


async def test_a_plugin_may_be_done_without_a_word() -> None:
    async def run(self: Any, broker: Any, *, task_status: Any) -> None:
        await trio.lowlevel.checkpoint()

    async with running(host_of(a_broker(registry_of(plugin([], "brief", run=run)), ("brief",)))) as host:
        assert status(host, "brief") == PluginStatus(
            "brief", "plugin", status(host, "brief").distribution, "", "brief does it", True, False
        )


async def test_a_plugin_that_is_never_ready_does_not_keep_the_broker(
    autojump_clock: trio.testing.MockClock,
) -> None:
    async def run(self: Any, broker: Any, *, task_status: Any) -> None:
        await trio.sleep_forever()

    before = trio.current_time()
    async with running(host_of(a_broker(registry_of(plugin([], "slow", run=run)), ("slow",)))) as host:
        assert trio.current_time() - before == pytest.approx(START_TIMEOUT_S, abs=1)
        assert status(host, "slow").error == "was not ready after 30 seconds"
        assert not status(host, "slow").is_running


async def test_a_plugin_that_does_not_stop_is_reported(autojump_clock: trio.testing.MockClock) -> None:
    async def run(self: Any, broker: Any, *, task_status: Any) -> None:
        task_status.started()
        try:
            await trio.sleep_forever()
        finally:
            with trio.CancelScope(shield=True):
                await trio.sleep(STOP_TIMEOUT_S * 3)

    async with running(
        host_of(a_broker(registry_of(plugin([], "stubborn", run=run)), ("stubborn",)))
    ) as host:
        assert await host.disable("stubborn") == ["stubborn"]
        assert status(host, "stubborn").error == "did not stop within 10 seconds"


async def test_an_unknown_plugin_in_the_settings_is_fatal_and_says_what_there_is() -> None:
    host = host_of(a_broker(registry_of(plugin([], "tracing")), ("tracin",)))
    with pytest.RaisesGroup(
        pytest.RaisesExc(PluginError, match=r"no plugin named 'tracin' \(there are: tracing\)")
    ):
        await host.run()


async def test_plugins_that_require_each_other_are_refused() -> None:
    registry = registry_of(plugin([], "a", requires=("b",)), plugin([], "b", requires=("a",)))
    async with running(host_of(a_broker(registry))) as host:
        with pytest.raises(PluginError, match="plugins require each other: a -> b -> a"):
            await host.enable("a")


async def test_a_plugin_that_was_enabled_and_is_gone_does_not_keep_the_broker_from_starting(
    caplog: pytest.LogCaptureFixture,
) -> None:
    store = a_store('{"enabled": ["gone"], "disabled": ["gone-too"]}')
    async with running(host_of(a_broker(registry_of(plugin([], "a")), ("a",), store))) as host:
        assert status(host, "a").is_running
        assert "plugin=gone is enabled, but cannot be used" in caplog.text


async def test_a_plugin_that_got_broken_can_be_disabled(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    install(
        monkeypatch, tmp_path / "s", "bad", {"bad_one": "1 / 0"}, "[leveret.plugins]\nbad = bad_one:Bad\n"
    )
    store = a_store('{"enabled": ["bad"], "disabled": []}')
    async with running(host_of(a_broker(load_registry(), (), store))) as host:
        assert "ZeroDivisionError" in status(host, "bad").error
        assert status(host, "bad").description == "bad does it"
        assert await host.disable("bad") == ["bad"]
        assert not status(host, "bad").is_enabled


@dataclass(frozen=True, slots=True)
class Configuration:
    """A plugin's settings."""

    url: str = setting("", "where")
    interval_s: float = seconds(5.0, "how often", reloadable=True)


async def test_settings_of_a_plugin() -> None:
    class Configured(plugin([], "configured")):  # type: ignore[misc]  # a made-up base
        settings_type: ClassVar[type] = Configuration
        given: tuple[Configuration, ...]

        def reconfigure(self, settings: Configuration) -> None:
            self.given = (*self.given, settings)

    broker = a_broker(registry_of(Configured, plugin([], "plain")), ("configured", "plain"))
    async with running(host_of(broker)) as host:
        assert host.plugin("configured").given == (Configuration(),)  # type: ignore[attr-defined]
        assert host.plugin("plain").given == ()  # type: ignore[attr-defined]
    before = broker.settings = replace(broker.settings, owned={"plugins.configured": Configuration("x")})
    async with running(host_of(broker)) as host:
        configured = host.plugin("configured")
        assert configured.given == (Configuration("x"),)  # type: ignore[attr-defined]
        host.reconfigure(before)
        broker.settings = replace(broker.settings, owned={"plugins.configured": Configuration("x", 1.0)})
        host.reconfigure(before)
        assert configured.given == (Configuration("x"), Configuration("x", 1.0))  # type: ignore[attr-defined]


# -- exchange types that come and go


class OwnExchange(FanoutExchange):
    """Like fanout."""

    name = "x-own"

    def validate(self, binding: Binding) -> None:
        if binding.routing_key == "bad":
            raise InvalidArgument("bad key")


def declare(vhost: Vhost, name: str, type: str) -> Exchange:
    exchange = Exchange(
        vhost, name, type, vhost.services.registry.exchange_type(type)({}), durable=False, auto_delete=False,
        internal=False, arguments={},
    )  # fmt: skip
    vhost.add_exchange(exchange)
    return exchange


def routed(exchange: Exchange) -> list[str]:
    return [one.name for one in exchange.router.route(message("k"), "k")]


class QueueLike(Place):
    is_durable = False


@pytest.mark.parametrize("switched", ["own-plugin", "x-own"])
async def test_exchanges_of_a_disabled_type_refuse_politely_until_it_is_back(switched: str) -> None:
    registry = registry_of(plugin([], "own-plugin", exchanges=("x-own",)))
    registry.register("exchanges", "x-own", OwnExchange)
    broker = a_broker(registry, ("own-plugin",))
    vhost = broker.add_vhost("/")
    async with running(host_of(broker)) as host:
        exchange, other = declare(vhost, "mine", "x-own"), declare(vhost, "other", "fanout")
        places = [QueueLike("q1"), QueueLike("q2")]
        for place in places:
            vhost.bind(exchange, Binding(place, "k"))
        vhost.bind(other, Binding(places[0], "k"))
        epoch = vhost.epoch
        assert await host.disable(switched) == [switched]
        assert vhost.epoch > epoch, "remembered routes must be forgotten"
        with pytest.raises(
            PreconditionFailed, match="exchange 'mine' in vhost '/': exchange type x-own not found"
        ):
            routed(exchange)
        with pytest.raises(InvalidArgument, match="unknown exchange type 'x-own'"):
            declare(vhost, "another", "x-own")
        assert routed(other) == ["q1"]
        assert not status(host, "x-own").is_running
        vhost.unbind(exchange, Binding(places[0], "k"))
        vhost.bind(exchange, Binding(QueueLike("q3"), "k"))
        vhost.bind(exchange, Binding(QueueLike("q4"), "bad"))
        assert await host.enable(switched) == [switched]
        assert routed(exchange) == ["q2", "q3"]
        assert status(host, "x-own").is_running


async def test_a_disabled_exchange_type_stays_disabled_over_a_restart() -> None:
    registry = registry_of(plugin([], "own-plugin", exchanges=("x-own",)))
    registry.register("exchanges", "x-own", OwnExchange)
    broker = a_broker(registry, ("own-plugin",))
    async with running(host_of(broker)) as host:
        await host.disable("own-plugin")
    again = registry_of(plugin([], "own-plugin", exchanges=("x-own",)))
    again.register("exchanges", "x-own", OwnExchange)
    broker = a_broker(again, ("own-plugin",), broker.store)
    exchange = declare(broker.add_vhost("/"), "mine", "x-own")  # recovered before plugins start
    async with running(host_of(broker)):
        with pytest.raises(PreconditionFailed):
            routed(exchange)


async def test_what_cannot_be_switched() -> None:
    async with running(host_of(a_broker(load_registry()))) as host:
        with pytest.raises(InvalidArgument, match="exchange type 'direct' is part of AMQP"):
            await host.disable("direct")
        with pytest.raises(NotFound, match="there is no plugin 'nothing'"):
            await host.disable("nothing")
        with pytest.raises(NotFound):
            await host.enable("nothing")


async def test_the_list_names_where_everything_comes_from(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    broker = a_broker(load_registry(), ("tracing",))
    broker.add_vhost("/")
    async with running(host_of(broker)) as host:
        found = {one.name: one for one in host.list()}
        assert found["topic"].kind == "exchange"
        assert found["topic"].distribution == "leveret"
        assert found["topic"].description.startswith("The topic exchange")
        assert found["tracing"].kind == "plugin"
        assert found["tracing"].is_running
        assert found["tracing"].description.startswith("The firehose")
        assert found["tracing"].version == found["topic"].version != ""
    assert "plugin=tracing started" in caplog.text

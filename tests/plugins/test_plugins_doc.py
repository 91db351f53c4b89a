"""docs/plugins.md is true: its examples are installed as strangers' distributions and run."""

from __future__ import annotations

import importlib
import re
import tomllib
from collections import Counter
from dataclasses import replace
from pathlib import Path

import pytest
import trio
from support.distributions import install
from support.in_process import broker_in_process
from support.rest import Rest
from support.routes import bound, message, names
from support.topology import FakeBroker

from leveret.adapters.http.adapter import HttpAdapter
from leveret.core.exchange import Binding
from leveret.core.registry import KINDS
from leveret.plugins.checks import check_adapter, check_area
from leveret.plugins.host import PluginHost
from leveret.plugins.loader import load_registry

DOC = (Path(__file__).parents[2] / "docs" / "plugins.md").read_text(encoding="utf-8")


def modules() -> dict[str, str]:
    return dict(re.findall(r"```python\n# (\w+)\.py\n(.*?)```", DOC, re.DOTALL))


def entry_points() -> str:
    groups: dict[str, dict[str, str]] = {}
    for block in re.findall(r"```toml\n(.*?)```", DOC, re.DOTALL):
        groups |= tomllib.loads(block)["project"]["entry-points"]
    return "\n".join(
        f"[{group}]\n" + "\n".join(f"{name} = {value}" for name, value in points.items())
        for group, points in groups.items()
    )


@pytest.fixture
def installed(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    assert set(modules()) == {
        "random_exchange",
        "test_random_exchange",
        "census",
        "test_census",
        "parrot",
        "depth",
    }
    install(monkeypatch, tmp_path / "site", "documented", modules(), entry_points())


@pytest.mark.usefixtures("installed")
def test_the_exchange_type() -> None:
    made = load_registry().exchange_type("x-random")
    exchange = made({})
    bound(exchange, ("a", ""), ("b", ""))
    chosen = Counter(name for _ in range(200) for name in names(exchange, message("k")))
    assert chosen.keys() == {"a", "b"}
    assert sum(chosen.values()) == 200


@pytest.mark.usefixtures("installed")
def test_the_test_of_the_exchange_type() -> None:
    importlib.import_module("test_random_exchange").test_the_contract()


@pytest.mark.usefixtures("installed")
async def test_the_test_of_the_plugin() -> None:
    await importlib.import_module("test_census").test_the_contract()


@pytest.mark.usefixtures("installed")
async def test_the_adapter() -> None:
    await check_adapter(load_registry().load("adapters", "parrot"), [b"lora"])


@pytest.mark.usefixtures("installed")
async def test_the_area() -> None:
    area = load_registry().load("http", "depth")
    await check_area(area)
    async with broker_in_process(HttpAdapter, areas=(area,)) as listener, Rest(listener) as rest:
        listener.broker.vhosts["/"].add_queue(
            "q", durable=True, exclusive=False, auto_delete=False, arguments={}
        )
        assert (await rest.call("GET", "/v1/depth/%2F/q")).json == {"messages": 0}
        assert (await rest.call("GET", "/v1/depth/%2F/none")).status == 404
        assert "depth_requests_total 2" in (await rest.call("GET", "/metrics")).body.decode()
        described = (await rest.call("GET", "/openapi.json")).json
        assert described["paths"]["/v1/depth/{vhost}/{queue}"]["get"]["tags"] == ["depth"]


@pytest.mark.usefixtures("installed")
async def test_the_plugin(autojump_clock: object) -> None:
    broker = FakeBroker()
    broker.registry = load_registry()
    vhost = broker.add_vhost("/")
    queue = vhost.add_queue("q", durable=False, exclusive=False, auto_delete=False, arguments={})
    vhost.bind(vhost.exchanges["amq.topic"], Binding(queue, "census.#"))
    census = broker.registry.settings_type("plugins", "census")
    broker.settings = replace(broker.settings, owned={"plugins.census": census(5.0)})
    host = PluginHost(broker, broker.registry)  # type: ignore[arg-type]  # a fake
    async with trio.open_nursery() as nursery:
        await nursery.start(broker.store.run)
        await nursery.start(host.run)
        assert await host.enable("census") == ["census"]
        await trio.sleep(12)
        assert await host.disable("census") == ["census"]
        await trio.sleep(12)
        nursery.cancel_scope.cancel()
    bodies = [got.body for _ in range(queue.message_count) if (got := queue.get(no_ack=True)) is not None]
    assert bodies == [b"1", b"1", b"1"]


def test_the_table_lists_every_group() -> None:
    table = "".join(line for line in DOC.splitlines() if line.startswith("| `leveret."))
    assert {group for group in re.findall(r"`leveret\.(\w+)`[,| ]", table) if group in KINDS} == set(KINDS)

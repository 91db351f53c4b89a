"""$SYS/broker: the topics and formats of Mosquitto 2.0.11, as recorded from it with `mosquitto_sub -t '$SYS/#' -v`."""

from __future__ import annotations

import re
from dataclasses import replace
from typing import Any

import pytest
import trio
import trio.testing
from support.topology import FakeBroker

from leveret.adapters.mqtt.settings import MqttSettings
from leveret.adapters.mqtt.statistics import MqttStatistics
from leveret.adapters.mqtt.sys_tree import SysTree

INTEGER, LOAD = r"[0-9]+", r"[0-9]+\.[0-9]{2}"
RECORDED = {
    "version": r"[a-z]+ version [0-9]+\.[0-9]+\.[0-9]+",
    "uptime": r"[0-9]+ seconds",
    **dict.fromkeys([
        "bytes/received", "bytes/sent", "clients/active", "clients/connected", "clients/disconnected",
        "clients/expired", "clients/inactive", "clients/maximum", "clients/total", "heap/current", "heap/maximum",
        "messages/received", "messages/sent", "messages/stored", "publish/bytes/received", "publish/bytes/sent",
        "publish/messages/dropped", "publish/messages/received", "publish/messages/sent",
        "retained messages/count", "shared_subscriptions/count", "store/messages/bytes", "store/messages/count",
        "subscriptions/count",
    ], INTEGER),
    **{
        f"load/{name}/{minutes}min": LOAD
        for name in (
            "bytes/received", "bytes/sent", "connections", "messages/received", "messages/sent", "publish/dropped",
            "publish/received", "publish/sent", "sockets",
        )
        for minutes in (1, 5, 15)
    },
}  # fmt: skip


@pytest.fixture
def broker() -> Any:
    broker = FakeBroker()
    broker.timers.now = 50.0
    return broker


class Delivered(dict[str, bytes]):
    def deliver(self, topic: str, payload: bytes) -> None:
        self[topic] = payload

    def take(self) -> dict[str, bytes]:
        taken = dict(self)
        self.clear()
        return taken


def started(broker: Any, statistics: MqttStatistics | None = None, **more: Any) -> tuple[SysTree, Delivered]:
    delivered = Delivered()
    tree = SysTree(broker, delivered.deliver, statistics, **more)
    tree.start()
    return tree, delivered


def test_topics_and_formats_are_mosquittos(broker: Any) -> None:
    tree, delivered = started(broker)
    values = dict(tree.match("$SYS/#"))
    assert values == delivered
    assert values.keys() == {f"$SYS/broker/{name}" for name in RECORDED}
    assert len(values) == 53
    for name, pattern in RECORDED.items():
        assert re.fullmatch(pattern, values[f"$SYS/broker/{name}"].decode()), name
    assert values["$SYS/broker/uptime"] == b"0 seconds"
    assert values["$SYS/broker/load/bytes/sent/15min"] == b"0.00"
    assert int(values["$SYS/broker/heap/current"]) > 1 << 20


@pytest.mark.parametrize(
    "filter", ["#", "+/broker/uptime", "+/+/uptime", "$SYS", "$SYS/broker", "$SYSTEM/#", "$SYS/+"]
)
def test_filters_that_match_nothing_here(broker: Any, filter: str) -> None:
    tree, _ = started(broker)
    assert list(tree.match(filter)) == []


def test_filters_that_do(broker: Any) -> None:
    tree, _ = started(broker)

    def count(filter: str) -> int:
        return len(list(tree.match(filter)))

    assert count("$SYS/broker/#") == count("$SYS/#") == count("$SYS/+/#") == 53
    assert count("$SYS/broker/clients/+") == count("$SYS/broker/clients/#") == 7
    assert count("$SYS/broker/load/+/+/1min") == 7
    assert count("$SYS/broker/+/1min") == 0
    assert dict(tree.match("$SYS/broker/uptime")) == {"$SYS/broker/uptime": b"0 seconds"}
    assert count("$SYS/broker/uptime/#") == 1
    assert [tree.is_filter(filter) for filter in ("$SYS/#", "$SYS/x", "$SYS", "#", "$share/g/$SYS/#")] == [
        True, True, False, False, False,
    ]  # fmt: skip


def test_only_what_has_changed_is_delivered(broker: Any) -> None:
    tree, delivered = started(broker)
    delivered.clear()
    tree.update()
    assert {topic for topic in delivered.take() if "/heap/" not in topic} == set()
    statistics = tree.statistics
    statistics.client_connected()
    statistics.client_connected()
    statistics.client_disconnected()
    statistics.clients_total = 3
    broker.timers.now += 10
    tree.update()
    assert {topic: payload for topic, payload in delivered.take().items() if "/heap/" not in topic} == {
        "$SYS/broker/uptime": b"10 seconds",
        "$SYS/broker/clients/total": b"3",
        "$SYS/broker/clients/connected": b"1",
        "$SYS/broker/clients/active": b"1",
        "$SYS/broker/clients/disconnected": b"2",
        "$SYS/broker/clients/inactive": b"2",
        "$SYS/broker/clients/maximum": b"2",
    }


def test_loads_fade_as_mosquittos_do(broker: Any) -> None:
    """Recorded: two connections in the first three seconds, 57 bytes, five packets; then none, every three seconds."""
    tree, _ = started(broker)
    statistics = tree.statistics
    statistics.connections_total, statistics.bytes_received, statistics.messages_received = 2, 57, 5
    loads: dict[str, list[str]] = {}
    for _ in range(3):
        broker.timers.now += 3
        tree.update()
        for topic, payload in tree.match("$SYS/broker/load/#"):
            loads.setdefault(topic.removeprefix("$SYS/broker/load/"), []).append(payload.decode())
    assert loads["connections/1min"] == ["1.95", "1.86", "1.77"]
    assert loads["connections/5min"][0] == "0.40"
    assert loads["connections/15min"][0] == "0.13"
    assert loads["bytes/received/1min"] == ["55.60", "52.89", "50.31"]
    assert loads["bytes/received/5min"] == ["11.34", "11.23", "11.12"]
    assert loads["bytes/received/15min"] == ["3.79", "3.78", "3.77"]
    assert loads["messages/received/1min"] == ["4.88", "4.64", "4.41"]
    assert loads["messages/sent/1min"] == ["0.00"] * 3


def test_gauges_are_measured_before(broker: Any) -> None:
    def measure(statistics: MqttStatistics) -> None:
        statistics.retained_messages, statistics.stored_messages, statistics.stored_bytes = 3, 5, 70

    tree, _ = started(broker, MqttStatistics(publish_dropped=4), measure=measure)
    values = dict(tree.match("$SYS/#"))
    assert values["$SYS/broker/retained messages/count"] == b"3"
    assert values["$SYS/broker/store/messages/count"] == values["$SYS/broker/messages/stored"] == b"5"
    assert values["$SYS/broker/store/messages/bytes"] == b"70"
    assert values["$SYS/broker/publish/messages/dropped"] == b"4"


async def test_it_is_published_at_the_interval(autojump_clock: trio.testing.MockClock) -> None:
    broker: Any = FakeBroker()
    broker.timers.tick()
    uptimes: list[bytes] = []
    tree = SysTree(
        broker, lambda topic, payload: uptimes.append(payload) if topic.endswith("/uptime") else None
    )
    tree.start()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(broker.timers.run)
        await trio.sleep(25)
        tree.stop()
        await trio.sleep(25)
        nursery.cancel_scope.cancel()
    assert uptimes == [b"0 seconds", b"10 seconds", b"20 seconds"]


def test_no_interval_no_tree(broker: Any) -> None:
    broker.settings = replace(
        broker.settings, owned={"mqtt": replace(MqttSettings.of(broker.settings), sys_interval_s=0.0)}
    )
    tree, delivered = started(broker)
    assert not delivered
    assert list(tree.match("$SYS/#")) == []
    tree.stop()

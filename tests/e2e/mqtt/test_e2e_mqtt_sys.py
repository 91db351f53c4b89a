"""The $SYS tree: Mosquitto's names, retained, read-only, hidden from wildcards."""

from __future__ import annotations

import re
from collections.abc import Iterator

import pytest
from e2e.mqtt.mqtt_broker import MQTT_REFERENCE, no_errors
from support.mqtt_peer import MqttPeer, Packet, Will
from support.server import LeveretServer, poll

NUMBERS = [
    "clients/connected", "clients/disconnected", "clients/total", "clients/maximum", "clients/active",
    "clients/inactive", "clients/expired", "messages/received", "messages/sent", "messages/stored",
    "publish/messages/received", "publish/messages/sent", "publish/messages/dropped", "bytes/received", "bytes/sent",
    "subscriptions/count", "retained messages/count", "store/messages/count", "store/messages/bytes",
]  # fmt: skip


@pytest.fixture(scope="module")
def port(tmp_path_factory: pytest.TempPathFactory) -> Iterator[int]:
    """Of a server that tells five times a second, and does not close connections for publishing where one may not."""
    if MQTT_REFERENCE:
        pytest.skip("these tests start a server of their own")
    settings = {"LEVERET_MQTT_SYS_INTERVAL_S": "0.2", "LEVERET_MQTT_DISCONNECT_ON_UNAUTHORIZED": "false"}
    with LeveretServer(tmp_path_factory.mktemp("sys") / "data", settings=settings) as server:
        yield server.ports["mqtt"]
        no_errors(server)


def value(port: int, topic: str) -> bytes:
    with MqttPeer.open(port) as peer:
        payload: bytes = peer.subscribed(f"$SYS/broker/{topic}").receive(retain=True).payload
        return payload


def test_version_and_uptime(port: int) -> None:
    assert re.match(rb"leveret version \d+\.\d+", value(port, "version"))
    assert re.match(rb"\d+ seconds", value(port, "uptime"))


def tree(port: int, version: int) -> dict[str, Packet]:
    """What a new subscriber is sent, by names: the first of each topic, for a change may come right behind it."""
    found: dict[str, Packet] = {}
    with MqttPeer.open(port, version, "x") as peer:
        peer.subscribed("$SYS/#")
        for message in peer.barrier():
            found.setdefault(message.topic.removeprefix("$SYS/broker/"), message)
    return found


@pytest.mark.parametrize("version", [3, 4, 5])
def test_the_tree_is_retained(port: int, version: int) -> None:
    poll(lambda: set(NUMBERS) <= tree(port, version).keys(), "the whole tree")
    found = tree(port, version)
    for name in NUMBERS:
        assert re.fullmatch(rb"\d+", found[name].payload), name
        assert found[name].retain


def test_the_numbers_are_true(port: int) -> None:
    def are_true() -> bool:
        found = {name: int(message.payload) for name, message in tree(port, 5).items() if name in NUMBERS}
        return (
            found["clients/connected"] >= 1
            and found["clients/disconnected"] == 1
            and found["publish/messages/received"] >= 5
            and found["subscriptions/count"] >= 2
            and found["retained messages/count"] >= 5
        )

    with MqttPeer.open(port) as publisher, MqttPeer.open(port, 5, "s", session_expiry=60) as sleeper:
        sleeper.subscribed("a", "b", qos=1)
        sleeper.disconnect()
        for number in range(5):
            publisher.publish(f"t/{number}", b"x", retain=True)
        poll(are_true, "the numbers")
        MqttPeer.open(port, 5, "s").disconnect()  # ends its session
        for number in range(5):
            publisher.publish(f"t/{number}", b"", retain=True)


def test_changes_are_sent_as_they_come(port: int) -> None:
    """To a subscriber that is there they are ordinary messages: no retain flag."""
    with MqttPeer.open(port) as peer:
        peer.subscribed("$SYS/broker/uptime")
        first = peer.receive(retain=True)
        later = peer.receive(retain=False, timeout=5)
        assert first.topic == later.topic == "$SYS/broker/uptime"


def test_38_wildcards_at_the_start_do_not_see_it(port: int) -> None:
    """[MQTT-4.7.2-1]"""
    with MqttPeer.open(port) as peer:
        peer.subscribed("#", "+/#", "+/broker/version", "+/broker/#", "/#")
        peer.nothing(0.5)
        peer.subscribed("$SYS/broker/+")
        assert peer.barrier()


@pytest.mark.parametrize("version", [3, 4, 5])
@pytest.mark.parametrize("qos", [0, 1, 2])
def test_nobody_may_publish_to_it(port: int, version: int, qos: int) -> None:
    with MqttPeer.open(port) as watcher, MqttPeer.open(port, version, "liar") as liar:
        watcher.subscribed("$SYS/broker/uptime/mine", "$SYS/broker/version", qos=2)
        watcher.barrier()
        for topic in ("$SYS/broker/version", "$SYS/broker/uptime/mine"):
            answer = liar.publish(topic, b"mine", qos=qos, retain=True, code=None)
            if version == 5 and qos:
                assert answer.code == 0x87
            MqttPeer.open(port, version, "will", will=Will(topic, b"mine", qos, retain=True)).close()
        watcher.nothing(0.1)
    with MqttPeer.open(port) as late:
        late.subscribed("$SYS/#", qos=1)
        assert b"mine" not in [message.payload for message in late.barrier()]


def test_it_may_be_off(brief: int) -> None:
    with MqttPeer.open(brief) as peer:
        peer.subscribed("$SYS/#").nothing(0.3)

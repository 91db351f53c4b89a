"""Fixtures of the MQTT tests: clients of a shared broker, which leave nothing behind."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from e2e.mqtt.mqtt_broker import MQTT_REFERENCE, MqttReference, no_errors
from support.mqtt_peer import MqttPeer
from support.server import LeveretServer


@pytest.fixture
def broker(request: pytest.FixtureRequest) -> LeveretServer | MqttReference:
    """The broker that most tests share; afterwards nothing of the test may be left there."""
    if MQTT_REFERENCE:
        return MqttReference()
    shared: LeveretServer = request.getfixturevalue("shared")
    return shared


@pytest.fixture
def own_server(request: pytest.FixtureRequest) -> Callable[..., LeveretServer]:
    """Starts servers of this test's own, as the fixture `server` does."""
    if MQTT_REFERENCE:
        pytest.skip("this test starts servers of its own")
    start: Callable[..., LeveretServer] = request.getfixturevalue("server")
    return start


@pytest.fixture
def client(broker: LeveretServer | MqttReference, name: str) -> Iterator[Callable[..., MqttPeer]]:
    """Opens clients, connected unless `raw`; ids that are not given are this test's own. Cleans up after them."""
    peers: list[MqttPeer] = []

    def client(
        version: int = 5, client_id: str | None = None, *, raw: bool = False, **login: Any
    ) -> MqttPeer:
        peer = MqttPeer(broker.ports["mqtt"], version)
        peers.append(peer)
        if not raw:
            peer.connect(f"{name}-c{len(peers)}" if client_id is None else client_id, **login)
        return peer

    yield client
    sessions = {peer.client_id for peer in peers if peer.keeps_session}
    retained = {topic for peer in peers for topic in peer.retained}
    for peer in peers:
        peer.close()
    for client_id in sessions:
        MqttPeer.open(broker.ports["mqtt"], 5, client_id).disconnect()
    if retained:
        cleaner = MqttPeer.open(broker.ports["mqtt"], 5, f"{name}-cleaner")
        for topic in retained:
            cleaner.publish(topic, b"", retain=True)
        cleaner.disconnect()


@pytest.fixture
def start(own_server: Callable[..., LeveretServer]) -> Callable[..., LeveretServer]:
    """A server of this test's own with these settings of the section mqtt, in lower case: `start(receive_maximum=5)`."""

    def start(
        data_dir: Path | None = None, *, others: dict[str, str] | None = None, **settings: Any
    ) -> LeveretServer:
        named = {f"LEVERET_MQTT_{key.upper()}": str(value) for key, value in settings.items()}
        return own_server(data_dir, settings=named | (others or {}))

    return start


Limited = Callable[[dict[str, Any]], LeveretServer]


@pytest.fixture(scope="session")
def limited(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Limited]:
    """Starts servers with these settings of the section mqtt that live as long as the tests."""
    if MQTT_REFERENCE:
        pytest.skip("this test needs a server with settings of its own")
    with contextlib.ExitStack() as stack:
        servers: list[LeveretServer] = []

        def limited(mqtt: dict[str, Any]) -> LeveretServer:
            settings = {f"LEVERET_MQTT_{key.upper()}": str(value) for key, value in mqtt.items()}
            folder = tmp_path_factory.mktemp("limited") / "data"
            servers.append(stack.enter_context(LeveretServer(folder, settings=settings)))
            return servers[-1]

        yield limited
        for server in servers:
            no_errors(server)


@pytest.fixture(scope="session")
def tuned(limited: Limited) -> int:
    """The MQTT port of a server with 3 messages in flight either way, 5 queued, 2 retained, packets of 2048 bytes, and
    0.3 s for the handshake."""
    limits = {
        "receive_maximum": 3,
        "max_inflight": 3,
        "max_queued_messages": 5,
        "max_retained_messages": 2,
        "max_packet_size": 2048,
        "handshake_timeout_s": 0.3,
    }
    return limited(limits).ports["mqtt"]


@pytest.fixture(scope="session")
def brief(limited: Limited) -> int:
    """The MQTT port of a server where sessions and keep alives last one second at most, with escaped topics and without
    $SYS."""
    limits = {
        "max_session_expiry_s": 1,
        "max_keep_alive_s": 1,
        "topic_escape": "percent",
        "sys_interval_s": 0,
    }
    return limited(limits).ports["mqtt"]

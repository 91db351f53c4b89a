"""Which broker the MQTT tests talk to: Leveret, or with LEVERET_TEST_MQTT_REFERENCE=host:port another one.

So the tests themselves are checked against Mosquitto. What only Leveret promises, and what needs a server of its own, is
left out then, and says so. With LEVERET_TEST_REFERENCE beside it the other broker is RabbitMQ, version 3.10: it has no
MQTT 5, but the tests of MQTT 3 and AMQP together can be checked (`-k "amqp and not v5"`).
"""

from __future__ import annotations

import os

import pytest
from support.mqtt_peer import MqttPeer
from support.server import REFERENCE, LeveretServer

__all__ = [
    "MQTT_REFERENCE",
    "MqttReference",
    "leveret_only",
    "mosquitto_differs",
    "needs_amqp",
    "shares",
    "versions",
]

MQTT_REFERENCE = os.environ.get("LEVERET_TEST_MQTT_REFERENCE", "")

versions = pytest.mark.parametrize("version", [3, 4, 5], ids=["v3.1", "v3.1.1", "v5"])


def leveret_only(why: str) -> pytest.MarkDecorator:
    """Another broker need not do this, or cannot be configured for it here."""
    return pytest.mark.skipif(bool(MQTT_REFERENCE), reason=why)


def mosquitto_differs(why: str) -> pytest.MarkDecorator:
    """Mosquitto 2.0.11 fails this test, or some of its cases."""
    return pytest.mark.xfail(bool(MQTT_REFERENCE), reason=why, strict=False)


needs_amqp = pytest.mark.skipif(bool(MQTT_REFERENCE) and not REFERENCE, reason="AMQP beside MQTT")


class MqttReference:
    """The other broker."""

    def __init__(self) -> None:
        host, _, port = MQTT_REFERENCE.rpartition(":")
        self.host = host or "127.0.0.1"
        self.ports = {"mqtt": int(port)}
        self.url = REFERENCE


def shares(peers: list[MqttPeer]) -> dict[MqttPeer, list[bytes]]:
    """Payloads that each of these clients was sent until now, settled."""
    found: dict[MqttPeer, list[bytes]] = {}
    for peer in peers:
        found[peer] = []
        for message in peer.barrier():
            peer.acknowledge(message)
            found[peer].append(message.payload)
    return found


def no_errors(server: LeveretServer) -> None:
    """The server has written no traceback; show the first one if it has."""
    errors = server.errors
    at = errors.find("Traceback")
    assert at < 0, f"the server met an error:\n{errors[max(at - 500, 0) : at + 3000]}"

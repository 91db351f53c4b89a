"""MQTT over TLS, and certificates as logins."""

from __future__ import annotations

import ssl
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from e2e.amqp.test_tls import Authority
from e2e.mqtt.mqtt_broker import no_errors
from support.mqtt_peer import MqttPeer
from support.server import LeveretServer

Start = Callable[..., LeveretServer]


@pytest.fixture
def authority(tmp_path: Path) -> Authority:
    return Authority(tmp_path)


def begin(
    own_server: Start, authority: Authority, mqtt: dict[str, str] | None = None, **tls: str
) -> LeveretServer:
    named = {f"LEVERET_{key}": value for key, value in (mqtt or {}).items()}
    return own_server(settings=authority.settings(**tls) | named, arguments=["--mqtts", "0"])


def test_both_doors_lead_to_the_same_broker(own_server: Start, authority: Authority) -> None:
    mine = begin(own_server, authority)
    payload = bytes(range(256)) * 10_000  # many records, both ways
    for version in (3, 4, 5):
        with (
            MqttPeer.open(mine.ports["mqtts"], version, "a", tls=authority.client()) as secret,
            MqttPeer.open(mine.ports["mqtt"], version, "b") as plain,
        ):
            for sender, receiver in ((secret, plain), (plain, secret)):
                receiver.subscribed("t", qos=2)
                sender.publish("t", payload, qos=2)
                assert receiver.receive(qos=2).payload == payload
                receiver.unsubscribe("t")
            secret.disconnect()
    with MqttPeer(mine.ports["mqtts"], 4) as peer:  # not TLS
        peer.say_connect("x")
        assert peer.socket.recv(100)[:1] in (b"", b"\x15")  # at most an alert
    MqttPeer.open(mine.ports["mqtts"], tls=authority.client()).close()
    no_errors(mine)


def test_a_certificate_may_be_demanded(own_server: Start, authority: Authority) -> None:
    names = {"AUTH_CERT_LOGIN_FROM": "common_name"}
    mine = begin(own_server, authority, names, VERIFY_PEER="true", FAIL_IF_NO_PEER_CERT="true")
    MqttPeer.open(mine.ports["mqtts"], tls=authority.client("guest")).close()
    with MqttPeer(mine.ports["mqtts"], tls=authority.client("guest")) as peer:  # no login unless that is set
        peer.connect("x", username=None, password=None, code=0x87)
    with pytest.raises((ssl.SSLError, ConnectionError, AssertionError)):
        MqttPeer.open(mine.ports["mqtts"], tls=authority.client())


def test_a_certificate_may_be_enough(own_server: Start, authority: Authority) -> None:
    """Setting mqtt.ssl_cert_login: without a user name, the certificate's user."""
    mine = begin(
        own_server,
        authority,
        {"MQTT_SSL_CERT_LOGIN": "true", "AUTH_CERT_LOGIN_FROM": "common_name"},
        VERIFY_PEER="true",
    )
    mine.ctl("add_user", "alice", "unused")
    mine.ctl("set_permissions", "alice", ".*", ".*", ".*")
    nobody: dict[str, Any] = {"username": None, "password": None}
    for version in (4, 5):
        with MqttPeer.open(
            mine.ports["mqtts"], version, "x", tls=authority.client("alice"), **nobody
        ) as peer:
            peer.ping()
            assert "alice" in str(mine.rows("list_connections", "user"))
    for context in (authority.client("bob"), authority.client()):
        with MqttPeer(mine.ports["mqtts"], tls=context) as peer:
            peer.say_connect("x", **nobody)
            assert peer.expect("CONNACK").code in (0x86, 0x87)
    with MqttPeer.open(mine.ports["mqtts"], tls=authority.client("bob")) as peer:  # a user name goes first
        peer.ping()

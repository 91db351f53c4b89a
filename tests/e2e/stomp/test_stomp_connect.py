"""CONNECT, versions, logins, virtual hosts, heart-beats, DISCONNECT."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable

import pytest
from e2e.stomp.stomp_broker import STOMP_REFERENCE, VERSIONS, fault, leveret_only, stomp_reference_differs
from support.server import LeveretServer, Server
from support.stomp_peer import StompClosed, StompPeer

Open = Callable[..., StompPeer]
LOGIN = {"login": "guest", "passcode": "guest"}


@pytest.mark.parametrize("command", ["CONNECT", "STOMP"])
@pytest.mark.parametrize("version", VERSIONS)
def test_connected(raw: StompPeer, version: str, command: str) -> None:
    raw.send(command, headers=LOGIN | {"host": "/", "accept-version": version})
    connected = raw.expect("CONNECTED", version=version, heart_beat="0,0")
    assert connected.body == b""
    assert connected["session"]
    name, _, number = connected["server"].partition("/")
    assert name == "RabbitMQ"  # clients look for it; see the setting of the AMQP listener
    assert number


def test_without_accept_version_it_is_1_0(raw: StompPeer) -> None:
    raw.send("CONNECT", headers=LOGIN)
    raw.expect("CONNECTED", version="1.0")


@pytest.mark.parametrize(
    ("accepted", "chosen"), [("1.0,1.1", "1.1"), ("1.2,1.0", "1.2"), ("1.1,9.9", "1.1"), ("2.0,1.0", "1.0")]
)
def test_the_highest_common_version(raw: StompPeer, accepted: str, chosen: str) -> None:
    raw.send("CONNECT", headers=LOGIN | {"accept-version": accepted})
    raw.expect("CONNECTED", version=chosen)


def test_no_common_version(raw: StompPeer) -> None:
    """RabbitMQ lists versions ascending."""
    raw.send("CONNECT", headers=LOGIN | {"accept-version": "2.0,9.9"})
    fault(raw, "Version mismatch", "Supported versions are 1.0,1.1,1.2", version="1.0,1.1,1.2")


def test_sessions_differ(stomp: Open) -> None:
    one, other = stomp().connected, stomp().connected
    assert one is not None
    assert other is not None
    assert one["session"] != other["session"]


def test_bad_password(raw: StompPeer) -> None:
    raw.send("CONNECT", login="guest", passcode="wrong", accept_version="1.2", host="/")
    fault(raw, "Bad CONNECT", "Access refused for user 'guest'")


def test_unknown_user(raw: StompPeer) -> None:
    raw.send("CONNECT", login="nobody", passcode="x", accept_version="1.2", host="/")
    fault(raw, "Bad CONNECT", "Access refused for user 'nobody'")


@leveret_only("RabbitMQ's default configuration has a default user")
def test_no_login(raw: StompPeer) -> None:
    raw.send("CONNECT", accept_version="1.2", host="/")
    fault(raw, "Bad CONNECT")


def test_unknown_vhost(raw: StompPeer) -> None:
    raw.send("CONNECT", headers=LOGIN | {"host": "nowhere", "accept-version": "1.2"})
    fault(raw, "Bad CONNECT", "Virtual host 'nowhere' access denied")


def test_without_host_it_is_the_default_vhost(stomp: Open, name: str) -> None:
    peer = stomp(None)
    peer.send("CONNECT", headers=LOGIN | {"accept-version": "1.2"})
    peer.expect("CONNECTED")
    peer.publish(f"/queue/{name}", b"x")
    other = stomp()
    other.subscribe(f"/queue/{name}")
    other.message(b"x")


def test_the_host_header_is_the_vhost(stomp: Open, shared: Server, name: str) -> None:
    shared.ctl("add_vhost", name)
    try:
        shared.ctl("set_permissions", "-p", name, "guest", ".*", ".*", ".*")
        inside, outside = stomp(host=name), stomp()
        inside.publish(f"/queue/{name}", b"inside")
        outside.subscribe(f"/queue/{name}")
        outside.quiet()
        inside.subscribe(f"/queue/{name}")
        inside.message(b"inside")
        inside.goodbye()
    finally:
        shared.ctl("delete_vhost", name)


def test_a_vhost_without_permission(raw: StompPeer, shared: Server, name: str) -> None:
    shared.ctl("add_vhost", name)
    try:
        raw.send("CONNECT", headers=LOGIN | {"host": name, "accept-version": "1.2"})
        frame = fault(raw, "Bad CONNECT")
        assert name in frame.body.decode() or "guest" in frame.body.decode()
    finally:
        shared.ctl("delete_vhost", name)


def test_a_command_before_connect(raw: StompPeer) -> None:
    raw.send("SEND", destination="/queue/x")
    fault(raw, "Illegal command", "You must log in using CONNECT first")


def test_a_second_connect_ends_the_connection(stomper: StompPeer) -> None:
    """RabbitMQ closes without a word; here there may be one."""
    stomper.send("CONNECT", headers=LOGIN | {"accept-version": "1.2"})
    if STOMP_REFERENCE:
        stomper.expect_close()
    else:
        stomper.expect("ERROR")
        stomper.expect_close()


def test_the_wrong_protocol_is_refused(raw: StompPeer) -> None:
    raw.send_raw(b"AMQP\x00\x00\x09\x01")
    raw.send_raw(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n\0")
    with contextlib.suppress(StompClosed):
        assert raw.receive(2).command == "ERROR"


@pytest.mark.parametrize("version", VERSIONS)
def test_disconnect(stomp: Open, version: str) -> None:
    """Its RECEIPT is the last frame."""
    stomp(version).goodbye()


def test_disconnect_without_receipt(stomper: StompPeer) -> None:
    stomper.send("DISCONNECT")
    stomper.expect_close()


# -- 51, 84: heart-beats


@pytest.mark.parametrize(
    ("asked", "answered"),
    [("0,0", "0,0"), ("3000,0", "0,3000"), ("0,4000", "4000,0"), ("2000,5000", "5000,2000")],
)
def test_51_heart_beats_are_agreed_on(stomp: Open, asked: str, answered: str) -> None:
    """The server takes what the client wants: MAX(cx, sy) with a mind of its own that is as large."""
    connected = stomp(heart_beat=asked).connected
    assert connected is not None
    assert connected["heart-beat"] == answered


def test_51_no_header_is_no_heart_beats(stomp: Open) -> None:
    connected = stomp().connected
    assert connected is not None
    assert connected["heart-beat"] == "0,0"


@pytest.mark.parametrize("header", ["5", "a,b", "1,2,3", "-1,0", ",", "1.5,1"])
@stomp_reference_differs("3.10: 'Processing error', or it goes on")
def test_51_a_malformed_heart_beat_header_is_refused(raw: StompPeer, header: str) -> None:
    raw.send("CONNECT", headers=LOGIN | {"accept-version": "1.2", "heart-beat": header})
    frame = raw.expect("ERROR")
    assert "heart-beat" in (frame["message"] + frame.body.decode())
    raw.expect_close()


def test_51_84_the_server_beats(stomp: Open) -> None:
    """A beat is a lone line feed; the rate is the larger of what both want; 1 s at least."""
    peer = stomp(heart_beat="0,1000")
    with pytest.raises(TimeoutError):
        peer.receive(2.4)
    assert 2 <= len(peer.beats) <= 5


def test_51_beats_are_not_inside_of_frames(stomp: Open, name: str) -> None:
    peer = stomp(heart_beat="0,1000")
    peer.subscribe(f"/queue/{name}")
    body = b"x" * 1_000_000
    deadline = time.monotonic() + 1.5
    while time.monotonic() < deadline:
        peer.publish(f"/queue/{name}", body)
        peer.message(body)


def test_84_a_silent_client_is_dropped(stomp: Open) -> None:
    """At twice the agreed time, at the earliest."""
    peer = stomp(heart_beat="1000,0")
    began = time.monotonic()
    while True:
        try:
            frame = peer.receive(8)
        except AssertionError:
            break
        assert frame.command == "ERROR"
    assert 1.9 <= time.monotonic() - began <= 6


def test_84_any_byte_is_a_heart_beat(stomp: Open) -> None:
    peer = stomp(heart_beat="1000,0")
    for _ in range(5):
        with pytest.raises(TimeoutError):
            peer.receive(0.5)
        peer.send_raw(b"\n")
    peer.goodbye()


def test_84_zero_switches_the_direction_off(stomp: Open) -> None:
    peer = stomp(heart_beat="0,0")
    with pytest.raises(TimeoutError):
        peer.receive(1.5)
    assert peer.beats == []
    peer.goodbye()


# -- settings


@leveret_only("settings of its own")
def test_default_user_and_implicit_connect(server: Callable[..., LeveretServer]) -> None:
    mine = server(
        settings={
            "LEVERET_STOMP_DEFAULT_USER": "guest",
            "LEVERET_STOMP_DEFAULT_PASS": "guest",
            "LEVERET_STOMP_IMPLICIT_CONNECT": "true",
        }
    )
    port = mine.ports["stomp"]
    with StompPeer(port) as peer:
        peer.send("CONNECT", accept_version="1.2", host="/")
        peer.expect("CONNECTED", version="1.2")
    with StompPeer(port) as peer:  # and without CONNECT at all, in 1.0; CONNECTED is not sent
        peer.send("SUBSCRIBE", destination="/queue/q", receipt="r")
        peer.expect("RECEIPT", receipt_id="r")
        peer.send("SEND", b"x", destination="/queue/q")
        peer.message(b"x")


@leveret_only("settings of its own")
def test_a_client_that_says_nothing_is_dropped(server: Callable[..., LeveretServer]) -> None:
    mine = server(settings={"LEVERET_STOMP_HANDSHAKE_TIMEOUT_S": "0.3"})
    with StompPeer(mine.ports["stomp"]) as peer, StompPeer(mine.ports["stomp"]) as slow:
        slow.send_raw(b"CONNECT\naccept-version:1.2\n")
        for each in (peer, slow):
            try:
                assert each.receive(5).command == "ERROR"
                each.expect_close()
            except AssertionError as error:
                assert "closed" in str(error)  # noqa: PT017  # either answer will do

"""CONNECT and its answers, keep alive, takeover, in all three versions (3.1.1 and 5.0, chapters 3.1, 3.2)."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import pytest
from e2e.mqtt.mqtt_broker import leveret_only, mosquitto_differs, versions
from support import mqtt_wire
from support.mqtt_peer import MqttPeer, Will
from support.server import LeveretServer, poll

Client = Callable[..., MqttPeer]
Start = Callable[..., LeveretServer]

LOGIN: dict[str, Any] = {"username": "guest", "password": "guest"}


@versions
def test_connect_ping_disconnect(client: Client, version: int) -> None:
    """[MQTT-3.2.0-1] [MQTT-3.12.4-1] [MQTT-3.14.4-1]"""
    peer = client(version)
    assert not peer.connack.session_present
    peer.ping()
    peer.disconnect()


@versions
def test_connack_is_first_even_when_all_comes_at_once(client: Client, version: int, name: str) -> None:
    """[MQTT-3.2.0-1]; a client may send before CONNACK (3.1.4)."""
    peer = client(version, raw=True)
    peer.send_raw(
        mqtt_wire.connect(version, name, **LOGIN)
        + mqtt_wire.subscribe(version, 1, [mqtt_wire.Sub(name, 1)])
        + mqtt_wire.publish(version, name, b"early", qos=1, packet_id=7)
        + mqtt_wire.packet("PINGREQ")
    )
    peer.expect_connack()
    peer.expect("SUBACK", packet_id=1, codes=[1])
    rest = [peer.next() for _ in range(3)]
    assert {packet.name for packet in rest} == {"PUBLISH", "PUBACK", "PINGRESP"}
    for packet in rest:
        if packet.name == "PUBLISH":
            peer.acknowledge(packet)


@versions
def test_byte_by_byte(client: Client, version: int, name: str) -> None:
    peer = client(version, raw=True)
    for byte in mqtt_wire.connect(version, name, **LOGIN):
        peer.send_raw(bytes([byte]))
    peer.expect_connack()
    for byte in mqtt_wire.subscribe(version, 1, [mqtt_wire.Sub(name)]) + mqtt_wire.publish(
        version, name, b"x"
    ):
        peer.send_raw(bytes([byte]))
    peer.expect("SUBACK")
    peer.expect("PUBLISH", topic=name, payload=b"x")


@leveret_only("values of Leveret's settings")
def test_connack_tells_the_limits(client: Client) -> None:
    """5.0 3.2.2.3: what differs from the specification's default must be said."""
    properties = client().connack.properties
    assert properties["receive_maximum"] == 1000
    assert properties["topic_alias_maximum"] == 16
    assert properties["maximum_packet_size"] == 16 << 20
    for name in (
        "maximum_qos", "retain_available", "wildcard_available", "subscription_id_available", "shared_available"
    ):  # fmt: skip
        assert properties.get(name, 1) == 1
    assert "session_expiry" not in properties
    assert "server_keep_alive" not in properties


# Refusals


@pytest.mark.parametrize("level", [2, 6, 77])
def test_unknown_protocol_level(client: Client, level: int) -> None:
    """[MQTT-3.1.2-2]; 0x01 to version 3, 0x84 to version 5."""
    peer = client(raw=True)
    peer.send_raw(mqtt_wire.connect(4 if level < 4 else 5, "x", level=level))
    data = b""
    while chunk := peer.socket.recv(100):
        data += chunk
    assert data[:1] == b"\x20"
    assert data[3] == (0x01 if len(data) == 4 else 0x84)


def test_unknown_protocol_name(client: Client) -> None:
    """[MQTT-3.1.2-1]"""
    peer = client(raw=True)
    peer.send_raw(mqtt_wire.connect(5, "x", protocol="MQTX"))
    peer.expect_end(0x84, 0x81, 0x82)


@leveret_only("Mosquitto needs a setting to accept them")
@pytest.mark.parametrize("version", [3, 4])
def test_bridges_set_the_high_bit_of_the_level(client: Client, version: int, name: str) -> None:
    peer = client(version, raw=True)
    peer.send_raw(mqtt_wire.connect(version, name, level=version | 0x80, **LOGIN))
    peer.expect_connack()


def test_the_first_packet_must_be_connect(client: Client) -> None:
    """[MQTT-3.1.0-1]"""
    for packet in (
        mqtt_wire.packet("PINGREQ"),
        mqtt_wire.publish(4, "a", b"x"),
        mqtt_wire.subscribe(4, 1, [mqtt_wire.Sub("a")]),
    ):
        peer = client(4, raw=True)
        peer.send_raw(packet)
        peer.expect_eof()


@mosquitto_differs("no DISCONNECT")
@versions
def test_45_a_second_connect_ends_the_connection(client: Client, version: int, name: str) -> None:
    """[MQTT-3.1.0-2]"""
    peer = client(version, name)
    peer.say_connect(name)
    peer.expect_disconnect(0x82)


@pytest.mark.parametrize("version", [4, 5], ids=["v3.1.1", "v5"])
def test_45_the_reserved_connect_flag_must_be_zero(client: Client, version: int) -> None:
    """[MQTT-3.1.2-3]"""
    peer = client(version, raw=True)
    peer.send_raw(mqtt_wire.connect(version, "x", flags=0x03))
    peer.expect_end(0x81, 0x82)


@pytest.mark.parametrize(
    "flags",
    [0x06 | 0x18, 0x02 | 0x08, 0x02 | 0x20],
    ids=["will QoS 3", "will QoS without will", "will retain without will"],
)
@pytest.mark.parametrize("version", [4, 5], ids=["v3.1.1", "v5"])
def test_will_flags_that_make_no_sense(client: Client, version: int, flags: int) -> None:
    """[MQTT-3.1.2-11] [MQTT-3.1.2-12] [MQTT-3.1.2-13] (5.0), [MQTT-3.1.2-13..15] (3.1.1)"""
    peer = client(version, raw=True)
    body = mqtt_wire.connect(version, "x", flags=flags)
    if flags & 4:
        body = mqtt_wire.connect(version, "x", flags=flags, will=Will("t", b"w"))
    peer.send_raw(body)
    peer.expect_end(0x81, 0x82)


def test_45_password_without_username_is_refused_in_3_1_1(client: Client) -> None:
    """[MQTT-3.1.2-22] of 3.1.1"""
    peer = client(4, raw=True)
    peer.send_raw(mqtt_wire.connect(4, "x", password="p"))
    peer.expect_eof()


def test_45_password_without_username_is_well_formed_in_5(client: Client) -> None:
    """5.0 3.1.2.9: a token may stand alone. Who may come in with it is another question."""
    peer = client(5, raw=True)
    peer.say_connect("", username=None, password="token")
    assert peer.expect("CONNACK").code in (0x00, 0x86, 0x87)


@pytest.mark.parametrize(
    "broken",
    [
        pytest.param(lambda v: mqtt_wire.connect(v, b"\xff\xfe"), id="client id is not UTF-8"),
        pytest.param(lambda v: mqtt_wire.connect(v, b"\xed\xa0\x80"), id="client id with a surrogate"),
        pytest.param(lambda v: mqtt_wire.connect(v, "a\0b"), id="client id with NUL"),
        pytest.param(lambda v: mqtt_wire.connect(v, "x", username=b"\xc3"), id="user name is not UTF-8"),
        pytest.param(lambda v: mqtt_wire.connect(v, "x", flags=0x82), id="user name is missing"),
        pytest.param(lambda v: mqtt_wire.connect(v, "x", flags=0x06), id="will is missing"),
        pytest.param(
            lambda v: mqtt_wire.packet("CONNECT", b"\0\x04MQTT", bytes([v, 2]), b"\0"),
            id="cut in the keep alive",
        ),
        pytest.param(
            lambda v: mqtt_wire.packet("CONNECT", mqtt_wire.connect(v, "x")[2:], b"rest"), id="too long"
        ),
        pytest.param(
            lambda v: mqtt_wire.packet("CONNECT", mqtt_wire.connect(v, "x")[2:], flags=1), id="reserved flags"
        ),
    ],
)
@pytest.mark.parametrize("version", [4, 5], ids=["v3.1.1", "v5"])
def test_malformed_connect(client: Client, version: int, broken: Callable[[int], bytes]) -> None:
    """[MQTT-1.5.4-1] [MQTT-1.5.4-2] [MQTT-2.1.3-1]; 5.0 4.13.1: CONNACK may tell, the connection must end."""
    peer = client(version, raw=True)
    peer.send_raw(broken(version))
    peer.expect_end(0x81, 0x82, 0x85, 0x02)


@mosquitto_differs("takes authentication data without a method")
@pytest.mark.parametrize(
    "properties",
    [
        pytest.param({"receive_maximum": 0}, id="receive maximum 0"),
        pytest.param({"maximum_packet_size": 0}, id="maximum packet size 0"),
        pytest.param({"receive_maximum": [3, 3]}, id="receive maximum twice"),
        pytest.param({"session_expiry": [3, 3]}, id="session expiry twice"),
        pytest.param({"request_problem_info": 2}, id="request problem information 2"),
        pytest.param({"request_response_info": 2}, id="request response information 2"),
        pytest.param({"auth_data": b"x"}, id="authentication data without method"),
        pytest.param({"topic_alias": 1}, id="a property of PUBLISH"),
        pytest.param({"will_delay": 1}, id="a property of wills"),
    ],
)
def test_connect_properties_that_are_errors(client: Client, properties: dict[str, Any]) -> None:
    """5.0 3.1.2.11: "It is a Protocol Error to ..."; 2.2.2.2 for properties of other packets."""
    peer = client(raw=True)
    peer.say_connect("", **properties)
    peer.expect_end(0x81, 0x82)


def test_extended_authentication_is_refused(client: Client) -> None:
    """[MQTT-4.12.0-1]"""
    client(raw=True).connect("", auth_method="SCRAM-SHA-256", auth_data=b"x", code=0x8C)


@leveret_only("Mosquitto is run without users")
@pytest.mark.parametrize(("version", "code"), [(3, 4), (4, 4), (5, 0x86)], ids=["v3.1", "v3.1.1", "v5"])
@pytest.mark.parametrize(
    "login",
    [
        {"username": "guest", "password": "wrong"},
        {"username": "nobody", "password": "guest"},
        {"username": "guest", "password": None},
        {"username": "guest", "password": b"\0\xff"},
        {"username": "", "password": ""},
    ],
    ids=["wrong password", "no such user", "no password", "binary password", "empty"],
)
def test_wrong_credentials(client: Client, version: int, code: int, login: dict[str, Any]) -> None:
    """[MQTT-3.2.2-7]; 3.1.1 table 3.1"""
    client(version, raw=True).connect("x", code=code, **login)


@leveret_only("Mosquitto is run without users")
def test_a_failed_login_says_nothing_about_why(broker: LeveretServer) -> None:
    answers = []
    for login in ({"username": "nobody"}, {"password": "a-secret"}):
        with MqttPeer(broker.ports["mqtt"]) as peer:
            answers.append(peer.connect("x", code=0x86, **login).properties)
    assert answers[0] == answers[1] == {}
    assert "a-secret" not in broker.errors


def test_who_says_nothing_is_shown_out(tuned: int) -> None:
    """5.0 3.1.4: "within a reasonable amount of time"."""
    with MqttPeer(tuned) as silent, MqttPeer(tuned) as slow:
        slow.send_raw(mqtt_wire.connect(5, "x", **LOGIN)[:5])
        silent.expect_eof(timeout=3)
        slow.expect_eof(timeout=3)


# Client ids


def test_an_empty_client_id_in_3_1_is_refused(client: Client) -> None:
    client(3, raw=True).connect("", code=2)


def test_an_empty_client_id_with_a_session_is_refused_in_3_1_1(client: Client) -> None:
    """[MQTT-3.1.3-8] of 3.1.1"""
    peer = client(4, raw=True)
    peer.say_connect("", clean_start=False)
    peer.keeps_session = False
    assert peer.expect("CONNACK").code == 2
    peer.expect_eof()


def test_an_empty_client_id_is_filled_in(client: Client) -> None:
    """[MQTT-3.1.3-6]; [MQTT-3.2.2-16]"""
    client(4, "").ping()
    first, second = client(5, ""), client(5, "", clean_start=False)
    assigned = first.connack.properties["assigned_client_id"]
    assert assigned
    assert assigned != second.connack.properties["assigned_client_id"]


def test_the_assigned_id_is_the_clients_own(client: Client, name: str) -> None:
    """5.0 3.2.2.3.7: it may come back to its session with it."""
    first = client(5, "", session_expiry=60).subscribed(name, qos=1)
    first.disconnect()
    client().publish(name, b"kept")
    second = client(5, first.client_id, clean_start=False, session_expiry=60)
    assert second.connack.session_present
    second.receive(b"kept")


def test_an_id_is_not_assigned_where_there_is_one(client: Client, name: str) -> None:
    assert "assigned_client_id" not in client(5, name).connack.properties


@versions
def test_long_and_strange_client_ids(client: Client, version: int, name: str) -> None:
    """3.1.3.1: more than the 23 letters that every server must take."""
    for client_id in (f"{name} /+#$.*ü€𝄞", name + "x" * 1000):
        client(version, client_id).disconnect()


# Takeover


@mosquitto_differs("no DISCONNECT")
@versions
@pytest.mark.parametrize("other", [3, 4, 5], ids=["by v3.1", "by v3.1.1", "by v5"])
def test_a_second_connection_takes_the_client_id_over(
    client: Client, version: int, other: int, name: str
) -> None:
    """[MQTT-3.1.4-2] of 3.1.1, [MQTT-3.1.4-3] of 5.0"""
    first = client(version, name)
    second = client(other, name)
    first.expect_disconnect(0x8E)
    second.ping()


@versions
def test_a_refused_connect_takes_nothing_over(client: Client, version: int, name: str) -> None:
    """3.1.4: the checks come first."""
    first = client(version, name)
    peer = client(version, raw=True)
    peer.say_connect(name, will=Will("bad/#/topic"))
    peer.expect_end(0x90, 0x81, 0x82, 0x8F, 0x05)
    first.ping()


@mosquitto_differs("no DISCONNECT")
def test_many_takeovers(client: Client, name: str) -> None:
    peers = [client(5, name) for _ in range(10)]
    for peer in peers[:-1]:
        peer.expect_disconnect(0x8E)
    peers[-1].ping()


# Keep alive


@mosquitto_differs("looks every five seconds only")
def test_keep_alive(client: Client, name: str) -> None:
    """[MQTT-3.1.2-22] of 5.0, [MQTT-3.1.2-24] of 3.1.1: one and a half times. Whatever a client sends counts, nothing
    that it is sent; with keep alive 0 nothing is wanted."""
    silent = [client(version, keep_alive=1) for version in (3, 4, 5)]
    pinging, publishing, free = client(keep_alive=1), client(keep_alive=1), client(keep_alive=0)
    listening = client(keep_alive=1).subscribed(name)
    since = time.monotonic()
    while time.monotonic() - since < 1.9:
        pinging.ping()
        publishing.publish(name, b"x", qos=0)
        time.sleep(0.2)  # clients with the least keep alive, a second, that send something in time
    for peer in silent:
        peer.expect_disconnect(0x8D)
    packets = 0
    while listening.next().name == "PUBLISH":
        packets += 1
    assert 5 <= packets <= 8, packets  # until 1.5 s
    listening.expect_eof()
    for peer in (pinging, publishing, free):
        peer.ping()


def test_the_server_may_impose_a_keep_alive(brief: int) -> None:
    """[MQTT-3.1.2-21] [MQTT-3.2.2-21]"""
    for asked in (0, 60):
        with MqttPeer.open(brief, keep_alive=asked) as peer:
            assert peer.connack.properties["server_keep_alive"] == 1
            if asked:
                peer.expect_disconnect(0x8D, timeout=6)
    with MqttPeer.open(brief, keep_alive=1) as peer:
        assert "server_keep_alive" not in peer.connack.properties


# The end


def test_a_shutdown_says_goodbye(start: Start) -> None:
    """5.0 4.13.1, reason 0x8B"""
    mine = start()
    port = mine.ports["mqtt"]
    with MqttPeer.open(port) as fifth, MqttPeer.open(port, 4, "x") as fourth:
        mine.process.terminate()
        fifth.expect_disconnect(0x8B)
        fourth.expect_disconnect()
    assert mine.process.wait(10) == 0


@leveret_only("ctl is Leveret's")
@versions
def test_connections_are_listed(client: Client, broker: LeveretServer, version: int) -> None:
    peer = client(version)
    port = peer.socket.getsockname()[1]

    def row() -> dict[str, object] | None:
        rows = broker.rows("list_connections", "peer_port", "protocol", "user", "vhost")
        return next((row for row in rows if row["peer_port"] == port), None)

    found = poll(row, "not listed")
    assert (found["user"], found["vhost"]) == ("guest", "/")
    assert "MQTT" in str(found["protocol"])


@leveret_only("ctl is Leveret's")
def test_an_administrator_may_close_connections(client: Client, broker: LeveretServer) -> None:
    peer = client()
    broker.ctl("close_all_connections", "maintenance")
    peer.expect_disconnect(0x98, 0x8B)

"""Handshake, tuning, heartbeats, channels, closing: the frames of a connection's life."""

from __future__ import annotations

import time
from collections.abc import Callable

import pytest
from support.amqp_peer import CAPABILITIES, Peer
from support.amqp_wire import CLASS_METHOD, Typed, encode_table
from support.server import LeveretServer, Server, own_server_only, reference_differs

Connect = Callable[..., Peer]
PROTOCOL = b"AMQP\0\0\x09\x01"


def start_of(server: Server) -> Peer:
    peer = Peer(server.port)
    peer.say_hello()
    return peer


def tune_of(server: Server) -> Peer:
    peer = start_of(server)
    peer.authenticate()
    peer.tune = peer.expect(0, "connection.tune").arguments
    return peer


# Protocol header


@pytest.mark.parametrize(
    "greeting",
    [b"AMQP\0\0\x09\x02", b"AMQP\0\0\x08\0", b"HELO\0\0\x09\x01", b"GET / HTTP/1.1\r\nHost: x\r\n\r\n"],
    ids=["revision", "version", "word", "http"],
)
def test_wrong_protocol_header_is_answered_with_ours(shared: Server, greeting: bytes) -> None:
    with Peer(shared.port) as peer:
        peer.send_raw(greeting)
        assert peer.expect_eof() == PROTOCOL


def test_tls_hello_on_the_plain_port_is_answered_with_ours(shared: Server) -> None:
    with Peer(shared.port) as peer:
        peer.send_raw(bytes.fromhex("16030100c8010000c40303") + bytes(64))
        assert peer.expect_eof() == PROTOCOL


def test_the_0_9_header_is_taken_as_0_9_1(shared: Server) -> None:
    with Peer(shared.port) as peer:
        peer.send_raw(b"AMQP\x01\x01\0\x09")
        start = peer.expect(0, "connection.start")
        assert (start.version_major, start.version_minor) == (0, 9)


def test_a_protocol_header_in_pieces(shared: Server) -> None:
    with Peer(shared.port) as peer:
        for octet in PROTOCOL:
            peer.send_raw(bytes([octet]))
        peer.expect(0, "connection.start")


# Start and tune


def test_start_tells_what_the_server_can(shared: Server) -> None:
    with start_of(shared) as peer:
        properties = peer.start["server_properties"]
        mechanisms = peer.start["mechanisms"].decode().split()
        assert peer.start["locales"] == b"en_US"
    assert {"PLAIN", "AMQPLAIN"} <= set(mechanisms)
    assert properties["product"] == "RabbitMQ"
    assert properties["version"].split(".")[0] in ("3", "4")
    assert {"platform", "copyright", "information", "cluster_name"} <= properties.keys()
    capabilities = properties["capabilities"]
    assert all(
        capabilities[what] is True
        for what in [
            "publisher_confirms", "exchange_exchange_bindings", "basic.nack", "consumer_cancel_notify",
            "connection.blocked", "consumer_priorities", "authentication_failure_close", "per_consumer_qos",
            "direct_reply_to",
        ]
    )  # fmt: skip


def test_tune_offers_the_defaults(shared: Server) -> None:
    with tune_of(shared) as peer:
        assert peer.tune == {"channel_max": 2047, "frame_max": 131072, "heartbeat": 60}


@reference_differs("3.10: drops the connection without a word")
@pytest.mark.parametrize(
    ("answer", "text"),
    [
        (
            {"channel_max": 0},
            "negotiated channel_max = 0 (no limit) is higher than the maximum allowed value (2047)",
        ),
        ({"frame_max": 0}, "negotiated frame_max = 0"),
        (
            {"channel_max": 2048},
            "negotiated channel_max = 2048 is higher than the maximum allowed value (2047)",
        ),
        (
            {"frame_max": 131073},
            "negotiated frame_max = 131073 is higher than the maximum allowed value (131072)",
        ),
        ({"frame_max": 1024}, "negotiated frame_max = 1024 is lower than the minimum allowed value ("),
    ],
    ids=["any channels", "any frames", "channels", "frames", "small frames"],
)
def test_tune_ok_outside_the_offer_is_refused(shared: Server, answer: dict[str, int], text: str) -> None:
    with tune_of(shared) as peer:
        peer.send(0, "connection.tune-ok", **(peer.tune | answer))
        said = peer.expect_connection_close(530, "connection.tune-ok")
        assert said.startswith(f"NOT_ALLOWED - {text}")


def test_frame_max_4096_is_still_accepted(connect: Connect) -> None:
    # older clients send 4096
    connect(frame_max=4096).barrier()


def test_one_channel_too_many(connect: Connect) -> None:
    # AMQP 4.9
    peer = connect(channel_max=3)
    peer.open_channel(2)
    peer.open_channel(3)
    peer.send(4, "channel.open")
    text = peer.expect_connection_close(530, "any")
    assert text == "NOT_ALLOWED - number of channels opened (3) has reached the negotiated channel_max (3)"


# Login


def test_amqplain(connect: Connect) -> None:
    response = encode_table({"LOGIN": "guest", "PASSWORD": "guest"})[4:]
    connect(mechanism="AMQPLAIN", response=response).barrier()


def test_amqplain_without_a_password(shared: Server) -> None:
    with start_of(shared) as peer:
        peer.authenticate(mechanism="AMQPLAIN", response=encode_table({"LOGIN": "guest"})[4:])
        peer.expect_refusal(403, 501, 502)


@pytest.mark.parametrize("mechanism", ["PLAIN", "AMQPLAIN"])
def test_a_refused_login_says_so_to_clients_that_understand(shared: Server, mechanism: str) -> None:
    with start_of(shared) as peer:
        response = (
            encode_table({"LOGIN": "guest", "PASSWORD": "wrong"})[4:] if mechanism == "AMQPLAIN" else None
        )
        peer.authenticate("guest", "wrong", mechanism=mechanism, response=response)
        peer.expect_connection_close(
            403,
            None,
            f"ACCESS_REFUSED - Login was refused using authentication mechanism {mechanism}. "
            "For details see the broker logfile.",
        )


def test_a_refused_login_is_silent_to_others(shared: Server) -> None:
    with start_of(shared) as peer:
        peer.authenticate("nobody", "wrong", capabilities={})
        assert peer.expect_eof() == b""


@own_server_only("the delay is a setting of the server")
def test_a_refused_login_waits_for_the_delay(server: Callable[..., LeveretServer]) -> None:
    mine = server(settings={"LEVERET_AMQP_LOGIN_FAILURE_DELAY_S": "0.5"})
    with start_of(mine) as peer:
        began = time.monotonic()
        peer.authenticate("guest", "wrong")
        peer.expect_connection_close(403)
        assert time.monotonic() - began >= 0.45


@reference_differs("3.10: drops the connection without a word")
def test_an_unknown_mechanism(shared: Server) -> None:
    with start_of(shared) as peer:
        peer.authenticate(mechanism="SCRAM")
        peer.expect_connection_close(
            503, "connection.start-ok", "COMMAND_INVALID - unknown authentication mechanism 'SCRAM'"
        )


def test_an_unknown_virtual_host(shared: Server) -> None:
    with tune_of(shared) as peer:
        peer.send(0, "connection.tune-ok", **peer.tune)
        peer.send(0, "connection.open", virtual_host="nowhere")
        peer.expect_connection_close(530, "connection.open", "NOT_ALLOWED - vhost nowhere not found")


def test_a_virtual_host_without_permissions(shared: Server, name: str) -> None:
    shared.ctl("add_user", name, "secret")
    try:
        with start_of(shared) as peer:
            peer.authenticate(name, "secret")
            tune = peer.expect(0, "connection.tune").arguments
            peer.send(0, "connection.tune-ok", **tune)
            peer.send(0, "connection.open", virtual_host="/")
            peer.expect_connection_close(
                530, "connection.open", f"NOT_ALLOWED - access to vhost '/' refused for user '{name}'"
            )
    finally:
        shared.ctl("delete_user", name)


@own_server_only("the time limit is a setting of the server")
@pytest.mark.parametrize("stage", ["silent", "half a header", "start"])
def test_whoever_does_not_shake_hands_is_dropped(server: Callable[..., LeveretServer], stage: str) -> None:
    mine = server(settings={"LEVERET_AMQP_HANDSHAKE_TIMEOUT_S": "0.3"})
    with Peer(mine.port) as peer:
        if stage == "half a header":
            peer.send_raw(b"AMQ")
        elif stage == "start":
            peer.say_hello()
        peer.expect_eof(timeout=5)


def test_a_method_before_the_handshake_is_over(shared: Server) -> None:
    with tune_of(shared) as peer:
        peer.send(1, "channel.open")
        peer.expect_refusal(503, 504, 505)


# Heartbeats


def test_the_server_sends_heartbeats(connect: Connect) -> None:
    # every half interval
    peer = connect(heartbeat=1)
    began = time.monotonic()
    assert peer.expect(0, "heartbeat", timeout=3).name == "heartbeat"
    peer.send_raw(Peer.frame(8, 0, b""))
    peer.expect(0, "heartbeat", timeout=3)
    assert time.monotonic() - began < 2.5


def test_a_silent_client_is_dropped_after_two_to_three_intervals(connect: Connect) -> None:
    peer = connect(heartbeat=1)
    began = time.monotonic()
    peer.expect_eof(timeout=6)
    assert 1.8 < time.monotonic() - began < 4


def test_any_octet_counts_as_a_heartbeat(connect: Connect) -> None:
    peer = connect(heartbeat=1)
    frame = Peer.frame(8, 0, b"")
    until = time.monotonic() + 3.6
    while time.monotonic() < until:
        for octet in frame:
            peer.send_raw(bytes([octet]))
            assert peer.heartbeats(0.2) <= 1
    peer.barrier()


def test_a_heartbeat_on_a_channel(peer: Peer) -> None:
    peer.send_raw(Peer.frame(8, 1, b""))
    peer.expect_connection_close(505, "any")


# Channels


def test_opening_a_channel_twice(peer: Peer) -> None:
    peer.send(1, "channel.open")
    peer.expect_connection_close(504, "channel.open", "CHANNEL_ERROR - second 'channel.open' seen")


@pytest.mark.parametrize("method", ["queue.declare", "basic.publish", "basic.ack", "tx.select"])
def test_a_method_on_a_channel_never_opened(peer: Peer, method: str) -> None:
    if method == "basic.publish":
        peer.publish(5, "", "k", b"x")
    else:
        peer.send(5, method)
    text = peer.expect_connection_close(504, "any")
    assert text == "CHANNEL_ERROR - expected 'channel.open'"


def test_a_channel_number_may_be_used_again_after_close(peer: Peer) -> None:
    for _ in range(3):
        peer.rpc(1, "channel.close", reply_code=200)
        peer.open_channel(1)
    peer.barrier()


def test_channels_are_independent(peer: Peer, name: str) -> None:
    peer.open_channel(2)
    peer.send(1, "queue.purge", queue=name)
    peer.expect_channel_close(1, 404, "queue.purge")
    peer.barrier(2)
    peer.open_channel(1)
    peer.barrier(1)


def test_after_a_channel_error_everything_is_ignored_until_close_ok(peer: Peer, name: str) -> None:
    peer.confirm()
    peer.declare(1, name)
    peer.open_channel(2)
    peer.publish(1, "no-such-exchange", "k")
    peer.send_raw(
        peer.publish_frames(1, "", name, b"late", mandatory=True)
        + peer.publish_frames(1, "", "nowhere", b"late", mandatory=True)
        + peer.method_frame(1, "basic.qos")
    )
    close = peer.expect(1, "channel.close")
    assert close.reply_code == 404
    peer.publish(1, "", name, b"later")
    peer.barrier(2)
    peer.send(1, "channel.close-ok")
    assert peer.counts(2, name) == (0, 0)
    peer.open_channel(1)
    assert peer.barrier(1) == []


def test_closes_of_a_channel_that_cross(peer: Peer, name: str) -> None:
    peer.open_channel(2)
    peer.send_raw(
        peer.method_frame(1, "queue.purge", queue=name)
        + peer.method_frame(1, "channel.close", reply_code=200)
        + peer.method_frame(1, "basic.qos")
    )
    peer.expect(1, "channel.close")
    peer.expect(1, "channel.close-ok")
    peer.send(1, "channel.close-ok")
    peer.open_channel(1)
    assert peer.barrier(1) == []


def test_unacked_messages_are_back_before_channel_close_ok(connect: Connect, name: str) -> None:
    peer, other = connect(), connect()
    peer.declare(1, name)
    peer.confirm()
    for number in range(3):
        peer.publish_confirmed(1, "", name, b"%d" % number)
    peer.open_channel(2)
    peer.consume(2, name)
    for _ in range(3):
        peer.deliver(2)
    peer.rpc(2, "channel.close", reply_code=200)
    assert other.drain(1, name) == [b"0", b"1", b"2"]


def test_channel_flow_on(peer: Peer) -> None:
    assert peer.rpc(1, "channel.flow", active=True).active is True


def test_channel_flow_off(peer: Peer) -> None:
    peer.send(1, "channel.flow", active=False)
    peer.expect_connection_close(540, "channel.flow", "NOT_IMPLEMENTED - active=false")


def test_access_request(peer: Peer) -> None:
    assert peer.rpc(1, "access.request", realm="/data", active=True, read=True).ticket == 1


@reference_differs("3.10: drops the connection without a word")
@pytest.mark.parametrize("ids", [(60, 999), (77, 10)], ids=["method", "class"])
def test_an_unknown_method(peer: Peer, ids: tuple[int, int]) -> None:
    peer.send_raw(Peer.frame(1, 1, b"".join(number.to_bytes(2, "big") for number in ids)))
    peer.expect_connection_close(503, "any")


@pytest.mark.parametrize("method", ["queue.declare-ok", "basic.consume-ok", "connection.tune"])
def test_a_method_that_only_servers_send(peer: Peer, method: str) -> None:
    peer.send(0 if method.startswith("connection") else 1, method)
    assert peer.expect(0, "connection.close").reply_code in (503, 504, 505, 540)


def test_methods_may_be_pipelined(peer: Peer, name: str) -> None:
    peer.send_raw(
        peer.method_frame(1, "queue.declare", queue=name)
        + peer.method_frame(1, "queue.bind", queue=name, exchange="amq.direct", routing_key="k")
        + peer.method_frame(1, "confirm.select")
        + peer.publish_frames(1, "amq.direct", "k", b"x")
        + peer.method_frame(1, "queue.delete", queue=name)
    )
    peer.expect(1, "queue.declare-ok")
    peer.expect(1, "queue.bind-ok")
    peer.expect(1, "confirm.select-ok")
    rest = [peer.expect(1, "basic.ack", "queue.delete-ok") for _ in range(2)]
    assert {event.name for event in rest} == {"basic.ack", "queue.delete-ok"}
    assert next(event.message_count for event in rest if event.name == "queue.delete-ok") == 1


def test_a_connection_opened_in_one_breath(shared: Server) -> None:
    # a client that knows the answers need not wait for them
    with Peer(shared.port) as peer:
        peer.send_raw(
            PROTOCOL
            + peer.method_frame(
                0, "connection.start-ok", mechanism="PLAIN", response=b"\0guest\0guest", locale="en_US",
                client_properties={"capabilities": CAPABILITIES},
            )
            + peer.method_frame(0, "connection.tune-ok", channel_max=10, frame_max=131072, heartbeat=0)
            + peer.method_frame(0, "connection.open", virtual_host="/")
            + peer.method_frame(1, "channel.open")
        )  # fmt: skip
        for answer in ("connection.start", "connection.tune", "connection.open-ok"):
            peer.expect(0, answer)
        peer.expect(1, "channel.open-ok")
        peer.goodbye()


# Secrets and closing


def test_update_secret(peer: Peer) -> None:
    peer.rpc(0, "connection.update-secret", new_secret=b"guest", reason="rotation")
    peer.barrier()


def test_closing_from_the_client(connect: Connect, name: str) -> None:
    peer, other = connect(), connect()
    peer.declare(1, name)
    peer.confirm()
    peer.publish_confirmed(1, "", name, b"x")
    peer.consume(1, name)
    peer.deliver()
    peer.send_raw(
        peer.method_frame(0, "connection.close", reply_code=200)
        + peer.method_frame(1, "queue.delete", queue=name)
    )
    peer.expect(0, "connection.close-ok")
    # The channels are shut before close-ok: whoever sees it can get what was unacked.
    got = other.get(1, name)
    assert got is not None
    assert got.redelivered is True


def test_a_second_close_is_answered_too(peer: Peer) -> None:
    close = peer.method_frame(0, "connection.close", reply_code=200)
    peer.send_raw(close + close)
    peer.expect(0, "connection.close-ok")


def test_close_crossing_a_server_close(peer: Peer) -> None:
    peer.send(1, "channel.flow", active=False)
    assert peer.expect(0, "connection.close").reply_code == 540
    peer.send(0, "connection.close", reply_code=200)
    peer.expect(0, "connection.close-ok")


def test_client_properties_of_any_type(connect: Connect) -> None:
    properties = {
        "a": Typed("b", -1),
        "b": Typed("L", 2**60),
        "c": [1, {"d": None}],
        "e": Typed("D", (2, 314)),
    }
    connect(properties=properties).barrier()


def test_unknown_connection_methods_name_themselves(peer: Peer) -> None:
    # ids of the offending method
    peer.send(1, "basic.publish", immediate=True)
    peer.send_raw(Peer.frame(2, 1, (60).to_bytes(2, "big") + bytes(12)))
    close = peer.expect(0, "connection.close")
    assert (close.class_id, close.method_id) == CLASS_METHOD["basic.publish"]

"""Frames, contents, properties and field tables, octet by octet; and what a server answers to broken ones."""

from __future__ import annotations

import struct
from collections.abc import Callable
from typing import Any

import pytest
from support.amqp_peer import Event, Peer
from support.amqp_wire import PROPERTIES, Typed, encode_properties, encode_table
from support.server import reference_differs

Connect = Callable[..., Peer]


@pytest.fixture
def queue(peer: Peer, name: str) -> str:
    return peer.declare(1, name, exclusive=True)


def header(size: int, properties: bytes = b"\0\0") -> bytes:
    return Peer.frame(2, 1, struct.pack(">HHQ", 60, 0, size) + properties)


def publish(peer: Peer, queue: str) -> bytes:
    return peer.method_frame(1, "basic.publish", routing_key=queue)


def echo(peer: Peer, queue: str, body: bytes = b"x", **properties: Any) -> Event:
    """Publish, and take it out again."""
    peer.publish(1, "", queue, body, **properties)
    event = peer.get(1, queue)
    assert event is not None
    return event


# Frames


def test_a_body_frame_of_frame_max_is_accepted(peer: Peer, queue: str) -> None:
    # 8 octets more than the specification allows
    size = peer.frame_max
    assert echo(peer, queue, b"b" * size, split=size).body == b"b" * size


def test_a_frame_over_frame_max(peer: Peer, queue: str) -> None:
    size = peer.frame_max + 1
    peer.send_raw(publish(peer, queue) + header(size) + struct.pack(">BHI", 3, 1, size))
    assert peer.expect(0, "connection.close").reply_code == 501


def test_the_servers_frames_keep_to_frame_max(connect: Connect, name: str) -> None:
    # the peer checks every frame it reads
    peer = connect(frame_max=4096)
    queue = peer.declare(1, name, exclusive=True)
    body = bytes(range(256)) * 64
    assert echo(peer, queue, body).body == body


def test_a_body_too_large_for_the_consumers_frames(connect: Connect, name: str) -> None:
    # the publisher's frames are not passed on as they came
    peer, small = connect(), connect(frame_max=4096)
    peer.declare(1, name)
    peer.confirm()
    body = bytes(range(256)) * 300
    peer.publish_confirmed(1, "", name, body)
    got = small.get(1, name)
    assert got is not None
    assert got.body == body


@pytest.mark.parametrize("end", [0, 0xCD, 0xFF])
def test_a_wrong_frame_end(peer: Peer, end: int) -> None:
    peer.send_raw(peer.method_frame(1, "basic.qos")[:-1] + bytes([end]))
    assert peer.expect(0, "connection.close").reply_code == 501


@pytest.mark.parametrize("kind", [0, 4, 9, 255])
def test_an_unknown_frame_type(peer: Peer, kind: int) -> None:
    peer.send_raw(Peer.frame(kind, 1, b""))
    assert peer.expect(0, "connection.close").reply_code == 501


@pytest.mark.parametrize(
    "what", ["header", "body", "body for header", "method for header", "method for body", "header twice"]
)
def test_frames_out_of_turn(peer: Peer, queue: str, what: str) -> None:
    body = Peer.frame(3, 1, b"x")
    peer.send_raw(
        {
            "header": header(1),
            "body": body,
            "body for header": publish(peer, queue) + body,
            "method for header": publish(peer, queue) * 2,
            "method for body": publish(peer, queue) + header(1) + publish(peer, queue),
            "header twice": publish(peer, queue) + header(1) + header(1),
        }[what]
    )
    peer.expect_connection_close(505, "any")


def test_a_header_of_another_class(peer: Peer, queue: str) -> None:
    peer.send_raw(publish(peer, queue) + Peer.frame(2, 1, struct.pack(">HHQ", 50, 0, 0) + b"\0\0"))
    peer.expect_connection_close(505, "any")


@reference_differs("3.10: takes what comes")
def test_a_body_longer_than_its_header_says(peer: Peer, queue: str) -> None:
    peer.send_raw(publish(peer, queue) + header(2) + Peer.frame(3, 1, b"xyz"))
    assert peer.expect(0, "connection.close").reply_code in (501, 505)


def test_contents_of_different_channels_interleave(peer: Peer, queue: str) -> None:
    # AMQP 4.2.6
    peer.open_channel(2)
    one = peer.publish_frames(1, "", queue, b"one" * 10, split=10)
    two = peer.publish_frames(2, "", queue, b"two" * 10, split=10)

    def frames(data: bytes) -> list[bytes]:
        out = []
        while data:
            size = int.from_bytes(data[3:7], "big") + 8
            out.append(data[:size])
            data = data[size:]
        return out

    for pair in zip(frames(one), frames(two), strict=True):
        peer.send_raw(b"".join(pair))
    peer.barrier(1, queue), peer.barrier(2, queue)
    assert sorted(peer.drain(1, queue)) == [b"one" * 10, b"two" * 10]


def test_an_empty_body_has_no_body_frame(peer: Peer, queue: str) -> None:
    assert echo(peer, queue, b"").body == b""
    assert echo(peer, queue, b"next").body == b"next"


def test_empty_body_frames_are_tolerated(peer: Peer, queue: str) -> None:
    empty = Peer.frame(3, 1, b"")
    peer.send_raw(
        publish(peer, queue) + header(2) + empty + Peer.frame(3, 1, b"a") + empty + Peer.frame(3, 1, b"b")
    )
    got = peer.get(1, queue)
    assert got is not None
    assert got.body == b"ab"


def test_a_body_in_many_small_frames(peer: Peer, queue: str) -> None:
    body = bytes(range(256)) * 8
    assert echo(peer, queue, body, split=1).body == body


def test_frames_octet_by_octet(peer: Peer, queue: str) -> None:
    for octet in peer.publish_frames(1, "", queue, b"slow", content_type="text/plain", headers={"a": 1}):
        peer.send_raw(bytes([octet]))
    got = peer.get(1, queue)
    assert got is not None
    assert (got.body, got.properties) == (b"slow", {"content_type": "text/plain", "headers": {"a": 1}})


def test_a_large_body(peer: Peer, queue: str) -> None:
    body = bytes(range(256)) * 20_000
    assert echo(peer, queue, body).body == body


# Properties


def test_all_properties_come_back_as_they_were(peer: Peer, queue: str) -> None:
    properties: dict[str, Any] = {
        "content_type": "text/plain", "content_encoding": "utf-8", "headers": {"h": "v"}, "delivery_mode": 1,
        "priority": 7, "correlation_id": "c", "reply_to": "r", "expiration": "100000", "message_id": "m",
        "timestamp": 2**63, "type": "t", "user_id": "guest", "app_id": "a", "cluster_id": "k",
    }  # fmt: skip
    assert properties.keys() == PROPERTIES.keys()
    event = echo(peer, queue, **properties)
    assert event.properties == properties
    assert event.content is not None
    assert event.content.header[12:] == encode_properties(properties)


def test_an_empty_property_is_not_an_absent_one(peer: Peer, queue: str) -> None:
    assert echo(peer, queue, content_type="", headers={}).properties == {"content_type": "", "headers": {}}
    assert echo(peer, queue).properties == {}


@pytest.mark.parametrize("timestamp", [0, 1_700_000_000, 1_700_000_000_000, 2**64 - 1])
def test_timestamps_are_not_interpreted(peer: Peer, queue: str, timestamp: int) -> None:
    assert echo(peer, queue, timestamp=timestamp).properties == {"timestamp": timestamp}


# Field tables

VALUES: dict[str, tuple[bytes, bytes | None]] = {  # sent, and what comes back if that is different
    "bool": (b"t\x01", None),
    "int8": (b"b\xff", None),
    "uint8": (b"B\xff", None),
    "int16": (b"s\xff\xfe", None),
    "uint16": (b"u\xff\xfe", None),
    "int32": (b"I\xff\xff\xff\xfe", None),
    "uint32": (b"i\xff\xff\xff\xfe", None),
    "int64": (b"l" + bytes([255] * 7) + b"\xfe", None),
    "int64 as L": (b"L" + bytes(7) + b"\x05", b"l" + bytes(7) + b"\x05"),
    "float32": (b"f" + struct.pack(">f", 0.5), None),
    "float64": (b"d" + struct.pack(">d", 0.1), None),
    "decimal": (b"D\x02\x00\x00\x01\x3a", None),
    "decimal unsigned": (b"D\x02\xff\xff\xff\xff", None),
    "longstr": (b"S\x00\x00\x00\x02hi", None),
    "longstr of octets": (b"S\x00\x00\x00\x02\xff\xfe", None),
    "array": (b"A\x00\x00\x00\x07I\x00\x00\x00\x01t\x00", None),
    "empty array": (b"A\x00\x00\x00\x00", None),
    "timestamp": (b"T\xff" + bytes(7), None),
    "table": (b"F\x00\x00\x00\x04\x01at\x01", None),
    "void": (b"V", None),
    "octets": (b"x\x00\x00\x00\x02\x00\xff", None),
}


def table_of(*pairs: tuple[bytes, bytes]) -> bytes:
    inner = b"".join(bytes([len(key)]) + key + value for key, value in pairs)
    return struct.pack(">I", len(inner)) + inner


def raw_headers(event: Event) -> bytes:
    assert event.content is not None
    assert event.content.header[12:14] == struct.pack(">H", 1 << 13)
    return event.content.header[14:]


@pytest.mark.parametrize("kind", VALUES)
def test_field_values_of_every_type_pass_through(peer: Peer, queue: str, kind: str) -> None:
    sent, expected = VALUES[kind]
    peer.publish(1, "", queue, b"x", headers=table_of((b"k", sent)))
    event = peer.get(1, queue)
    assert event is not None
    # L is read as l; a server that passes the octets on unread may leave it.
    assert raw_headers(event) in (table_of((b"k", sent)), table_of((b"k", expected or sent)))


def test_order_and_duplicates_of_a_table_are_kept(peer: Peer, queue: str) -> None:
    table = encode_table([("z", 1), ("a", 2), ("z", 3), ("m", None)])
    assert raw_headers(echo(peer, queue, headers=table)) == table


def test_tables_in_tables(peer: Peer, queue: str) -> None:
    deep: dict[str, Any] = {"end": Typed("T", 1)}
    for _ in range(20):
        deep = {"deeper": [deep]}
    table = encode_table(deep)
    assert raw_headers(echo(peer, queue, headers=table)) == table


@pytest.mark.parametrize(
    "value", [b"U\x00\x01", b"?", b"S\x00\x00\xff\xffshort", b"A\x00\x00\x00\x02I\x00", b"I\x00"],
    ids=["U", "unknown", "string too short", "array too short", "int too short"],
)  # fmt: skip
def test_a_broken_table_in_a_method(peer: Peer, name: str, value: bytes) -> None:
    # the connection goes
    peer.send(1, "queue.declare", queue=name, exclusive=True, arguments=table_of((b"k", value)))
    peer.expect_refusal(501, 502, 505, 541)


@pytest.mark.parametrize("payload", [b"", b"\0", b"\0\x32", b"\0\x32\0\x0a", b"\0\x32\0\x0a\0\0\xffshort"])
def test_a_method_cut_short(peer: Peer, payload: bytes) -> None:
    peer.send_raw(Peer.frame(1, 1, payload))
    peer.expect_refusal(501, 502, 503, 505, 541)


@pytest.mark.parametrize("properties", [b"", b"\x80", b"\x80\0", b"\x80\0\x05abc", b"\x20\0\0\0\0\x09"])
def test_a_content_header_cut_short(peer: Peer, queue: str, properties: bytes) -> None:
    peer.send_raw(publish(peer, queue) + header(0, properties) + peer.method_frame(1, "tx.select"))
    peer.expect_refusal(501, 502, 505, 541)


# Checked properties


@pytest.mark.parametrize("expiration", ["", "-1", "10s", "1.5", "0x10", " 5"])
def test_an_invalid_expiration(peer: Peer, queue: str, expiration: str) -> None:
    peer.publish(1, "", queue, b"x", expiration=expiration)
    text = peer.expect_channel_close(1, 406, "basic.publish")
    assert text.startswith(f"PRECONDITION_FAILED - invalid expiration '{expiration}': ")


def test_an_expiration_of_more_than_ten_years(peer: Peer, queue: str) -> None:
    peer.publish(1, "", queue, b"x", expiration="315360000001")
    text = peer.expect_channel_close(1, 406, "basic.publish")
    assert text.startswith("PRECONDITION_FAILED - invalid expiration '315360000001'")


@pytest.mark.parametrize("expiration", ["0100000", "315360000000"])
def test_a_valid_expiration(peer: Peer, queue: str, expiration: str) -> None:
    assert echo(peer, queue, expiration=expiration).properties == {"expiration": expiration}


def test_somebody_elses_user_id(peer: Peer, queue: str) -> None:
    peer.publish(1, "", queue, b"x", user_id="bob")
    peer.expect_channel_close(
        1,
        406,
        "basic.publish",
        "PRECONDITION_FAILED - user_id property set to 'bob' but authenticated user was 'guest'",
    )


@pytest.mark.parametrize("header_name", ["CC", "BCC"])
@pytest.mark.parametrize(
    "value",
    ["a", 5, {"a": 1}, pytest.param([5], marks=reference_differs("3.10: ignores what is no string"))],
    ids=["string", "int", "table", "ints"],
)
def test_cc_of_a_wrong_type(peer: Peer, queue: str, header_name: str, value: Any) -> None:
    peer.publish(1, "", queue, b"x", headers={header_name: value})
    text = peer.expect_channel_close(1, 406, "basic.publish")
    assert text.startswith("PRECONDITION_FAILED - ")


@reference_differs("3.10: refuses unknown delivery modes with 406")
def test_an_unknown_priority_and_delivery_mode_pass(peer: Peer, queue: str) -> None:
    assert echo(peer, queue, priority=255, delivery_mode=7).properties == {
        "priority": 255,
        "delivery_mode": 7,
    }


def test_a_message_too_large(peer: Peer, queue: str) -> None:
    size = 128 * 1024 * 1024 + 1
    peer.publish(1, "", queue, b"\0" * size)
    text = peer.expect_channel_close(1, 406, "basic.publish")
    assert text in (
        f"PRECONDITION_FAILED - message size {size} is larger than configured max size {size - 1}",
        f"PRECONDITION_FAILED - message size {size} is larger than max size {size - 1}",
    )
    peer.open_channel(1)
    assert peer.counts(1, queue) == (0, 0)


def test_a_header_frame_over_frame_max(connect: Connect, name: str) -> None:
    peer = connect(frame_max=4096)
    queue = peer.declare(1, name, exclusive=True)
    peer.publish(1, "", queue, b"", headers={"a": "x" * 5000})
    assert peer.expect(0, "connection.close").reply_code == 501

"""Limits of size in every protocol: exactly the limit passes, one byte more is refused."""

from __future__ import annotations

import struct
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
import trio
import trio.testing
from support.in_process import HANDSHAKE, broker_in_process
from support.websocket_peer import frame as websocket_frame

from leveret.adapters.amqp.faults import ConnectionFault
from leveret.adapters.amqp.protocol import PROTOCOL_HEADER, FrameParser
from leveret.adapters.mqtt.parser import PacketParser
from leveret.adapters.mqtt.spec import MqttFault, Reason
from leveret.adapters.stomp import parser as stomp
from leveret.adapters.stomp.faults import StompFault
from leveret.adapters.websocket.frames import FrameReader
from leveret.conf.settings import Settings

LIMIT = 5000


class Calls:
    """Takes whatever a parser calls."""

    def __init__(self) -> None:
        self.made: list[tuple[str, tuple[Any, ...]]] = []

    def __getattr__(self, name: str) -> Callable[..., None]:
        return lambda *arguments: self.made.append((name, arguments))


def in_pieces(feed: Callable[[bytes], Any], data: bytes, piece: int) -> None:
    for start in range(0, len(data), piece):
        feed(data[start : start + piece])


PIECES = pytest.mark.parametrize("piece", [100, 4096, 1 << 20])


@PIECES
def test_amqp_frames(piece: int) -> None:
    def feed(size: int) -> Calls:
        calls = Calls()
        payload = b"\0\x0a\0\x33" + b"x" * (size - 4)  # connection.close-ok: any method will do
        data = PROTOCOL_HEADER + struct.pack(">BHI", 1, 0, size) + payload + b"\xce"
        in_pieces(FrameParser(calls, LIMIT).feed, data, piece)  # type: ignore[arg-type]
        return calls

    assert [name for name, _ in feed(LIMIT).made] == ["on_protocol_header", "on_method"]
    with pytest.raises(ConnectionFault, match=f"payload size {LIMIT + 1} is larger than frame_max {LIMIT}"):
        feed(LIMIT + 1)


async def test_amqp_messages() -> None:
    limits = replace(Settings().limits, max_message_size=LIMIT)

    def publish(size: int) -> bytes:
        pieces = [
            (1, struct.pack(">HHH", 60, 40, 0) + b"\0\x01q\0"),
            (2, struct.pack(">HHQH", 60, 0, size, 0)),
            (3, b"x" * size),
        ]
        return b"".join(struct.pack(">BHI", kind, 1, len(data)) + data + b"\xce" for kind, data in pieces)

    async with broker_in_process(limits=limits) as server:
        queue = server.broker.vhosts["/"].add_queue(
            "q", durable=True, exclusive=False, auto_delete=False, arguments={}
        )
        client, _, ended = server.connect()
        await client.send_all(HANDSHAKE + publish(LIMIT))
        await trio.testing.wait_all_tasks_blocked(0.01)
        assert queue.message_count == 1
        await client.send_all(publish(LIMIT + 1))
        received = b""
        refusal = b"PRECONDITION_FAILED - message size %d is larger than configured max size %d" % (
            LIMIT + 1,
            LIMIT,
        )
        with trio.fail_after(5):
            while refusal not in received:
                received += await client.receive_some()
        assert queue.message_count == 1
        await client.aclose()
        await ended.wait()


@PIECES
def test_mqtt_packets(piece: int) -> None:
    def feed(size: int) -> Calls:
        calls = Calls()
        parser = PacketParser(calls, LIMIT)
        parser.version = 4
        left = size - 3
        body = b"\0\x01t" + b"x" * (left - 3)
        in_pieces(parser.feed, b"\x30" + bytes((left & 127 | 128, left >> 7)) + body, piece)
        return calls

    assert [name for name, _ in feed(LIMIT).made] == ["on_publish"]
    with pytest.raises(MqttFault) as caught:
        feed(LIMIT + 1)
    assert caught.value.reason is Reason.PACKET_TOO_LARGE


@PIECES
@pytest.mark.parametrize("has_length", [False, True])
@pytest.mark.parametrize("command", ["SEND", "BEGIN"])
def test_stomp_bodies(piece: int, has_length: bool, command: str) -> None:
    def feed(size: int) -> Calls:
        calls = Calls()
        parser = stomp.FrameParser(calls, stomp.Limits(LIMIT, 10, 100))
        parser.version, parser.is_open = "1.2", True
        length = f"content-length:{size}\n" if has_length else ""
        head = f"{command}\ndestination:/queue/q\ntransaction:t\n{length}\n".encode()
        in_pieces(parser.feed, head + b"x" * size + b"\0", piece)
        return calls

    assert [name for name, _ in feed(LIMIT).made] == ["on_send" if command == "SEND" else "on_frame"]
    with pytest.raises(StompFault) as caught:
        feed(LIMIT + 1)
    assert caught.value.message == "Frame too large"
    assert caught.value.detail.startswith(f"The body of a frame may have at most {LIMIT} bytes")


@PIECES
@pytest.mark.parametrize("command", ["SEND", "BEGIN"])
def test_stomp_heads(piece: int, command: str) -> None:
    def feed(size: int) -> Calls:
        calls = Calls()
        parser = stomp.FrameParser(calls, stomp.Limits(LIMIT, 10, LIMIT))
        parser.version, parser.is_open = "1.2", True
        head = f"{command}\na:{'x' * 2000}\nb:"
        in_pieces(parser.feed, (head + "x" * (size - len(head) - 2) + "\n\n").encode() + b"body\0", piece)
        return calls

    assert len(feed(LIMIT).made) == 1
    with pytest.raises(StompFault, match=f"The headers of a frame may have at most {LIMIT} bytes"):
        feed(LIMIT + 1)


@PIECES
@pytest.mark.parametrize("is_fragmented", [False, True])
def test_websocket_messages(piece: int, is_fragmented: bool) -> None:
    def read(size: int) -> tuple[int, FrameReader]:
        reader = FrameReader(LIMIT, takes_text=False)
        if is_fragmented:
            data = websocket_frame(b"x" * 1000, is_final=False) + websocket_frame(b"x" * (size - 1000), 0)
        else:
            data = websocket_frame(b"x" * size)
        payload = b"".join(reader.feed(data[start : start + piece]) for start in range(0, len(data), piece))
        return len(payload), reader

    size, reader = read(LIMIT)
    assert (size, reader.ending) == (LIMIT, None)
    _, reader = read(LIMIT + 1)
    assert reader.ending is not None
    assert reader.ending.code == 1009

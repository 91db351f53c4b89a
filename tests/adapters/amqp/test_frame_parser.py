"""The frame parser: any split of the bytes gives the same calls, and any bytes give calls or ConnectionFault."""

from __future__ import annotations

import itertools
import struct
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from leveret.adapters.amqp.faults import ConnectionFault
from leveret.adapters.amqp.protocol import PROTOCOL_HEADER, Content, FrameParser

FRAME_MAX = 8192


def frame(kind: int, channel: int, payload: bytes) -> bytes:
    return struct.pack(">BHI", kind, channel, len(payload)) + payload + b"\xce"


def publish(
    channel: int, key: bytes, body: bytes, header: bytes = b"\x10\x00\x02", split: int = FRAME_MAX - 8
) -> bytes:
    arguments = b"\x00\x00" + b"\x00" + bytes((len(key),)) + key + b"\x00"
    data = frame(1, channel, b"\x00\x3c\x00\x28" + arguments)
    data += frame(2, channel, struct.pack(">HHQ", 60, 0, len(body)) + header)
    for start in range(0, len(body), split):
        data += frame(3, channel, body[start : start + split])
    return data


def ack(channel: int, tag: int, multiple: bool = False) -> bytes:
    return frame(1, channel, struct.pack(">HHQB", 60, 80, tag, multiple))


class RecordingChannel:
    def __init__(self, number: int, calls: list[Any]) -> None:
        self.number = number
        self.calls = calls
        self.content: Content | None = None
        self.is_closing = False

    def on_publish(self, key: bytes, header: bytes, bodies: list[bytes]) -> None:
        self.calls += [("publish", self.number, key, header, body) for body in bodies]

    def on_publishes(self, keys: list[bytes], headers: list[bytes], bodies: list[bytes]) -> int:
        """Takes all, none, or some: what it takes is the same calls."""
        taken = (len(keys), 0, len(keys) // 2, 1)[len(self.calls) % 4]
        for key, header, body in list(zip(keys, headers, bodies, strict=True))[:taken]:
            self.on_publish(key, header, [body])
        return taken

    def on_publish_method(self, key: bytes) -> None: ...
    def on_content_size(self, size: int) -> None: ...
    def on_acks(self, tags: list[int]) -> None:
        self.calls += [("ack", self.number, tag) for tag in tags]

    def on_ack_multiple(self, tag: int) -> None:
        self.calls.append(("multiple", self.number, tag))


class Recorder:
    """A handler that knows channels 1 to 3 and notes what the parser calls."""

    def __init__(self) -> None:
        self.calls: list[Any] = []
        self.channels = {number: RecordingChannel(number, self.calls) for number in (1, 2, 3)}

    def on_protocol_header(self, header: bytes) -> None:
        if header != PROTOCOL_HEADER:
            raise ConnectionFault(501, "bad header")

    def on_method(self, number: int, payload: bytes) -> None:
        self.calls.append(("method", number, payload))

    def on_heartbeat(self) -> None:
        self.calls.append("heartbeat")

    def publisher(self, number: int) -> RecordingChannel:
        if number not in self.channels:
            raise ConnectionFault(504, "expected 'channel.open'")
        return self.channels[number]


def parse(chunks: list[bytes]) -> tuple[list[Any], ConnectionFault | None]:
    recorder = Recorder()
    parser = FrameParser(recorder, FRAME_MAX)
    try:
        for chunk in chunks:
            parser.feed(chunk)
    except ConnectionFault as fault:
        return recorder.calls, fault
    return recorder.calls, None


def pieces(data: bytes, size: int) -> list[bytes]:
    return [data[start : start + size] for start in range(0, len(data), size)]


STREAM = PROTOCOL_HEADER + b"".join(
    [
        frame(1, 1, b"\x00\x14\x00\x0a\x00"),
        publish(1, b"q", b"a" * 16),
        publish(1, b"q", b"b" * 16),
        publish(1, b"q", b"c" * 16),  # a run
        publish(1, b"q", b"longer body"),
        publish(2, b"q", b""),
        publish(2, b"r", b"x" * 20000),  # in frames
        frame(8, 0, b""),
        publish(3, b"q", b"y" * 7000),
        publish(3, b"q", b"z" * 7000),  # large enough to be streamed
        ack(1, 1),
        ack(1, 2),
        ack(1, 3),
        ack(2, 9),
        ack(1, 7, multiple=True),
        ack(1, 8),
        publish(1, b"q", b"split", split=2),
        frame(1, 1, b"\x00\x3c\x00\x28\x00\x00\x00\x01q\x00")
        + frame(2, 1, struct.pack(">HHQ", 60, 0, 3) + b"\x00\x00")
        + frame(3, 1, b"")
        + frame(3, 1, b"abc"),  # an empty body frame is tolerated
    ]
)


def test_whole_stream_gives_every_message_once_and_in_order() -> None:
    calls, fault = parse([STREAM])
    assert fault is None
    bodies = [call[4] for call in calls if call[0] == "publish"]
    assert bodies == [
        b"a" * 16,
        b"b" * 16,
        b"c" * 16,
        b"longer body",
        b"",
        b"x" * 20000,
        b"y" * 7000,
        b"z" * 7000,
        b"split",
        b"abc",
    ]
    assert [call[1:] for call in calls if call[0] == "ack"] == [(1, 1), (1, 2), (1, 3), (2, 9), (1, 8)]
    assert ("multiple", 1, 7) in calls


@pytest.mark.parametrize("size", [1, 2, 3, 7, 8, 21, 64, 1000, 4096, 5000, 8191])
def test_any_split_gives_the_same_calls(size: int) -> None:
    assert parse(pieces(STREAM, size)) == parse([STREAM])


@given(st.lists(st.integers(1, len(STREAM) - 1), max_size=12))
@settings(max_examples=200, deadline=None)
def test_random_splits_give_the_same_calls(cuts: list[int]) -> None:
    edges = [0, *sorted(set(cuts)), len(STREAM)]
    chunks = [STREAM[a:b] for a, b in itertools.pairwise(edges)]
    assert parse(chunks) == parse([STREAM])


@given(st.binary(max_size=400), st.integers(1, 9))
@settings(max_examples=500, deadline=None)
def test_any_bytes_are_calls_or_a_connection_fault(noise: bytes, size: int) -> None:
    whole = parse([PROTOCOL_HEADER + noise])
    split = parse(pieces(PROTOCOL_HEADER + noise, size))
    assert (whole[1] is None) == (split[1] is None)
    assert whole[0] == split[0]


@given(st.integers(8, len(STREAM) - 1), st.integers(0, 255), st.integers(1, 50))
@settings(max_examples=500, deadline=None)
def test_one_wrong_byte_is_survived_alike_whole_and_split(at: int, value: int, size: int) -> None:
    data = STREAM[:at] + bytes((value,)) + STREAM[at + 1 :]
    whole, split = parse([data]), parse(pieces(data, size))
    assert whole[0] == split[0]
    assert (whole[1] is None) == (split[1] is None)


@pytest.mark.parametrize(
    ("data", "code"),
    [
        (struct.pack(">BHI", 1, 1, 4) + b"\x00\x14\x00\x0a\xcd", 501),  # wrong end octet
        (frame(9, 0, b""), 501),  # unknown frame type
        (frame(8, 1, b""), 505),  # heartbeat on a channel
        (frame(2, 1, struct.pack(">HHQ", 60, 0, 3) + b"\x00\x00"), 505),  # header out of turn
        (frame(3, 1, b"abc"), 505),  # body out of turn
        (frame(1, 9, b"\x00\x3c\x00\x28\x00\x00\x00\x01q\x00"), 504),  # channel not open
        (struct.pack(">BHI", 1, 1, FRAME_MAX + 1), 501),  # larger than frame_max: refused before it arrives
        (frame(1, 1, b"\x00"), 501),
    ],
)
def test_faults_carry_their_codes(data: bytes, code: int) -> None:
    _, fault = parse([PROTOCOL_HEADER + data])
    assert fault is not None
    assert fault.code == code


def test_a_method_between_publish_and_its_body_is_unexpected() -> None:
    begun = frame(1, 1, b"\x00\x3c\x00\x28\x00\x00\x00\x01q\x00")
    _, fault = parse([PROTOCOL_HEADER + begun + publish(1, b"q", b"x")])
    assert fault is not None
    assert fault.code == 505


def test_suspension_keeps_what_follows_for_later() -> None:
    recorder = Recorder()
    parser = FrameParser(recorder, FRAME_MAX)

    def suspend(number: int, payload: bytes) -> None:
        parser.is_suspended = True

    recorder.on_method = suspend  # type: ignore[method-assign]
    parser.feed(PROTOCOL_HEADER + frame(1, 1, b"\x00\x14\x00\x0a\x00") + publish(1, b"q", b"later"))
    assert recorder.calls == []
    parser.feed(ack(1, 1))
    assert recorder.calls == []
    parser.is_suspended = False
    parser.feed(b"")
    assert [call[0] for call in recorder.calls] == ["publish", "ack"]

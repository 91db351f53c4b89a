"""The MQTT parser: packets and runs of packets, however the chunks are cut."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from leveret.adapters.mqtt.parser import RUN_BYTES, PacketParser
from leveret.adapters.mqtt.spec import MqttFault, PacketType, Reason


class Recorder:
    """What the parser said, runs taken apart."""

    def __init__(self) -> None:
        self.calls: list[tuple[object, ...]] = []
        self.runs: list[int] = []
        self.fail_at = -1

    def on_publish(
        self, flags: int, topic: bytes, properties: bytes, packet_ids: list[int], payloads: list[bytes]
    ) -> None:
        if self.fail_at == len(self.calls):
            self.fail_at = -1
            raise RuntimeError("asked for")
        self.runs.append(len(payloads))
        for number, payload in enumerate(payloads):
            packet_id = packet_ids[number] if packet_ids else 0
            self.calls.append(("publish", flags, topic, properties, packet_id, payload))

    def on_acks(self, packet: PacketType, packet_ids: list[int]) -> None:
        self.runs.append(len(packet_ids))
        self.calls += [("ack", packet, one) for one in packet_ids]

    def on_packet(self, first: int, payload: bytes) -> None:
        self.calls.append(("packet", first, payload))


def parser(version: int = 4, max_size: int = 1 << 20) -> tuple[PacketParser, Recorder]:
    recorder = Recorder()
    made = PacketParser(recorder, max_size)
    made.version = version
    return made, recorder


def length(size: int) -> bytes:
    out = b""
    while True:
        size, low = size >> 7, size & 0x7F
        out += bytes((low | (0x80 if size else 0),))
        if not size:
            return out


def publish(
    topic: bytes, payload: bytes, qos: int = 0, packet_id: int = 0, properties: bytes | None = None
) -> bytes:
    body = len(topic).to_bytes(2, "big") + topic
    if qos:
        body += packet_id.to_bytes(2, "big")
    if properties is not None:
        body += length(len(properties)) + properties
    body += payload
    return bytes((0x30 | qos << 1,)) + length(len(body)) + body


STREAM = (
    publish(b"a/b", b"1") + publish(b"a/b", b"2") + publish(b"a/b", b"longer") + publish(b"a", b"")
    + publish(b"q", b"x", 1, 1) + publish(b"q", b"y", 1, 2) + publish(b"q", b"z", 2, 3)
    + b"\x40\x02\x00\x01\x40\x02\x00\x02\x62\x02\x00\x03\x50\x02\x00\x04\x70\x02\x00\x04"
    + b"\xc0\x00" + publish(b"big", b"b" * 300) + b"\x82\x06\x00\x07\x00\x01a\x00" + b"\xe0\x00"
)  # fmt: skip
EXPECTED = [
    ("publish", 0, b"a/b", b"", 0, b"1"), ("publish", 0, b"a/b", b"", 0, b"2"),
    ("publish", 0, b"a/b", b"", 0, b"longer"), ("publish", 0, b"a", b"", 0, b""),
    ("publish", 2, b"q", b"", 1, b"x"), ("publish", 2, b"q", b"", 2, b"y"), ("publish", 4, b"q", b"", 3, b"z"),
    ("ack", PacketType.PUBACK, 1), ("ack", PacketType.PUBACK, 2), ("ack", PacketType.PUBREL, 3),
    ("ack", PacketType.PUBREC, 4), ("ack", PacketType.PUBCOMP, 4), ("packet", 0xC0, b""),
    ("publish", 0, b"big", b"", 0, b"b" * 300), ("packet", 0x82, b"\x00\x07\x00\x01a\x00"), ("packet", 0xE0, b""),
]  # fmt: skip


def test_a_chunk_is_taken_apart_and_alike_publishes_are_one_call() -> None:
    made, recorder = parser()
    made.feed(STREAM)
    assert recorder.calls == EXPECTED
    assert recorder.runs[:3] == [2, 1, 1]
    assert 2 in recorder.runs[3:5]


@pytest.mark.parametrize("cut", range(1, len(STREAM)))
def test_a_cut_anywhere_changes_nothing(cut: int) -> None:
    made, recorder = parser()
    made.feed(STREAM[:cut])
    made.feed(STREAM[cut:])
    assert recorder.calls == EXPECTED


def test_byte_by_byte() -> None:
    made, recorder = parser()
    for at in range(len(STREAM)):
        made.feed(STREAM[at : at + 1])
    assert recorder.calls == EXPECTED


def test_properties_of_version_5_are_handed_on_raw_and_part_of_what_is_alike() -> None:
    made, recorder = parser(5)
    expiry = b"\x02\x00\x00\x00\x05"
    made.feed(
        publish(b"t", b"1", 1, 1, b"") + publish(b"t", b"2", 1, 2, b"") + publish(b"t", b"3", 1, 3, expiry)
        + publish(b"t", b"4", 0, 0, expiry) + publish(b"t", b"5", 0, 0, expiry) + publish(b"t", b"6", 0, 0, b"\x26" * 200)
    )  # fmt: skip
    assert recorder.calls == [
        ("publish", 2, b"t", b"", 1, b"1"), ("publish", 2, b"t", b"", 2, b"2"),
        ("publish", 2, b"t", expiry, 3, b"3"), ("publish", 0, b"t", expiry, 0, b"4"),
        ("publish", 0, b"t", expiry, 0, b"5"), ("publish", 0, b"t", b"\x26" * 200, 0, b"6"),
    ]  # fmt: skip
    assert recorder.runs == [2, 1, 2, 1]


def test_a_packet_of_many_chunks_is_joined_once() -> None:
    made, recorder = parser(max_size=1 << 22)
    packet = publish(b"t", b"x" * (1 << 21))
    for at in range(0, len(packet), 262144):
        made.feed(packet[at : at + 262144])
    made.feed(b"\xc0\x00")
    assert recorder.calls == [("publish", 0, b"t", b"", 0, b"x" * (1 << 21)), ("packet", 0xC0, b"")]


def test_a_long_run_is_cut_so_that_it_is_handed_on_in_time() -> None:
    made, recorder = parser()
    packet = publish(b"t", b"x" * 1000)
    made.feed(packet * (2 * RUN_BYTES // len(packet)))
    assert len(recorder.calls) == 2 * RUN_BYTES // len(packet)
    assert len(recorder.runs) >= 2


def test_what_a_handler_refused_for_now_is_offered_again() -> None:
    made, recorder = parser()
    recorder.fail_at = 2
    with pytest.raises(RuntimeError):
        made.feed(publish(b"a", b"1") * 2 + publish(b"b", b"2") * 2 + b"\xc0\x00")
    assert len(recorder.calls) == 2
    made.feed(b"")
    assert [call[-1] for call in recorder.calls] == [b"1", b"1", b"2", b"2", b""]


def test_suspended_it_keeps_what_comes() -> None:
    made, recorder = parser()
    made.is_suspended = True
    made.feed(STREAM)
    assert recorder.calls == []
    made.is_suspended = False
    made.feed(b"")
    assert recorder.calls == EXPECTED


@pytest.mark.parametrize(
    ("version", "data", "reason"),
    [
        pytest.param(4, b"\x36\x05\x00\x01t\x00\x01", Reason.MALFORMED_PACKET, id="MQTT-3.3.1-4 QoS 3"),
        pytest.param(4, b"\x30\x01\x00", Reason.MALFORMED_PACKET, id="PUBLISH cut off"),
        pytest.param(4, b"\x30\x02\x00\x05", Reason.MALFORMED_PACKET, id="topic longer than the packet"),
        pytest.param(4, b"\x32\x03\x00\x01t", Reason.MALFORMED_PACKET, id="no packet id"),
        pytest.param(4, b"\x32\x05\x00\x01t\x00\x00", Reason.PROTOCOL_ERROR, id="MQTT-2.2.1-3 packet id 0"),
        pytest.param(5, b"\x30\x03\x00\x01t", Reason.MALFORMED_PACKET, id="no properties"),
        pytest.param(
            5, b"\x30\x04\x00\x01t\x05", Reason.MALFORMED_PACKET, id="properties longer than the packet"
        ),
        pytest.param(5, b"\x30\x04\x00\x01t\x80", Reason.MALFORMED_PACKET, id="property length cut off"),
        pytest.param(4, b"\x40\x02\x00\x00", Reason.PROTOCOL_ERROR, id="PUBACK of packet id 0"),
        pytest.param(4, b"\x30\xff\xff\xff\xff\x01", Reason.MALFORMED_PACKET, id="length of five bytes"),
        pytest.param(4, b"\x30\x81\x00", Reason.MALFORMED_PACKET, id="MQTT-1.5.5-1 length in too many bytes"),
        pytest.param(
            4, b"\x30\xff\xff\xff\x7f", Reason.PACKET_TOO_LARGE, id="too large, known from its head"
        ),
        pytest.param(
            0, b"\x30\x10\x00", Reason.PROTOCOL_ERROR, id="MQTT-3.1.0-1 the first packet is no CONNECT"
        ),
    ],
)
def test_what_is_wrong_is_said(version: int, data: bytes, reason: Reason) -> None:
    made, _ = parser(version, 1 << 16)
    with pytest.raises(MqttFault) as caught:
        made.feed(data)
    assert caught.value.reason == reason


@given(st.binary(max_size=200), st.sampled_from([0, 3, 4, 5]), st.integers(1, 50))
def test_any_bytes_are_parsed_or_refused(data: bytes, version: int, piece: int) -> None:
    made, _ = parser(version, 1 << 16)
    try:
        for at in range(0, len(data), piece):
            made.feed(data[at : at + piece])
    except MqttFault:
        pass

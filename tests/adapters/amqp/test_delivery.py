"""Deliveries on the wire: what leaves is what came, whatever the sizes, and the remembered shape never lies."""

from __future__ import annotations

import struct
from dataclasses import dataclass

from hypothesis import given, settings
from hypothesis import strategies as st

from leveret.adapters.amqp import methods
from leveret.adapters.amqp.delivery import DeliveryEncoder, content_frames
from leveret.core.message import Envelope
from leveret.core.properties import Properties


@dataclass
class Copy:
    envelope: Envelope
    body: bytes
    is_redelivered: bool = False


def frames(data: bytes) -> list[tuple[int, int, bytes]]:
    found = []
    pos = 0
    while pos < len(data):
        kind, channel, size = struct.unpack_from(">BHI", data, pos)
        assert data[pos + 7 + size] == 0xCE
        found.append((kind, channel, data[pos + 7 : pos + 7 + size]))
        pos += 8 + size
    return found


def decode(data: bytes, frame_max: int) -> list[tuple[methods.BasicDeliver, bytes, bytes]]:
    """(deliver, property bytes, body) of each message; checks channel, sizes and frame_max on the way."""
    messages = []
    rest = frames(data)
    while rest:
        kind, channel, payload = rest.pop(0)
        assert (kind, channel) == (1, 3)
        deliver = methods.decode_method(payload)
        assert isinstance(deliver, methods.BasicDeliver)
        kind, channel, payload = rest.pop(0)
        assert (kind, channel) == (2, 3)
        class_id, weight, size = struct.unpack_from(">HHQ", payload)
        assert (class_id, weight) == (60, 0)
        body = b""
        while len(body) < size:
            kind, channel, part = rest.pop(0)
            assert (kind, channel) == (3, 3)
            assert part
            if frame_max:
                assert len(part) <= frame_max - 8  # never larger on the way out
            body += part
        messages.append((deliver, payload[12:], body))
    return messages


ENVELOPES = [
    Envelope.of("", "q", Properties()),
    Envelope.of(
        "amq.topic", "a.b.c", Properties(delivery_mode=2, headers={"k": "v", "n": 1}, message_id="m")
    ),
    Envelope.of("ex\udcff", "k\udc80", Properties(content_type="", expiration="10")),
]
copies = st.builds(
    Copy,
    st.sampled_from(ENVELOPES),
    st.sampled_from([0, 1, 16, 17, 1000, 4087, 4088, 4089, 8191, 8192, 9000, 131064, 131065, 300000]).map(
        lambda size: bytes([size % 256]) * size
    ),
    st.booleans(),
)


@given(st.lists(st.lists(copies, max_size=6), max_size=4), st.sampled_from([4096, 8192, 131072, 0]))
@settings(max_examples=150, deadline=None)
def test_what_leaves_is_what_came(batches: list[list[Copy]], frame_max: int) -> None:
    encoder = DeliveryEncoder(3, "tag", frame_max)
    tag = 1
    for batch in batches:
        chunks: list[bytes] = []
        assert encoder.encode(batch, tag, chunks) == sum(map(len, chunks))
        decoded = decode(b"".join(chunks), frame_max)
        assert len(decoded) == len(batch)
        for (deliver, header, body), copy in zip(decoded, batch, strict=True):
            assert deliver == methods.BasicDeliver(
                consumer_tag="tag",
                delivery_tag=tag,
                redelivered=copy.is_redelivered,
                exchange=copy.envelope.exchange,
                routing_key=copy.envelope.routing_key,
            )
            assert header == copy.envelope.header
            assert body == copy.body
            tag += 1


def test_runs_of_alike_messages() -> None:
    encoder = DeliveryEncoder(3, "tag", 131072)
    batch = [Copy(ENVELOPES[1], bytes([n]) * 16) for n in range(50)]
    chunks: list[bytes] = []
    encoder.encode(batch, 1, chunks)
    encoder.encode(batch, 51, chunks)
    decoded = decode(b"".join(chunks), 131072)
    assert [deliver.delivery_tag for deliver, _, _ in decoded] == list(range(1, 101))
    assert [body for _, _, body in decoded] == [copy.body for copy in batch] * 2


def test_an_empty_body_has_no_body_frame() -> None:
    data = b"".join(content_frames(3, b"\x00\x00", b"", 4096))
    assert [kind for kind, _, _ in frames(data)] == [2]

"""Content on its way out: basic.deliver, basic.get-ok and basic.return with their header and body frames."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from struct import Struct
from typing import Protocol

from leveret.core.message import Envelope

__all__ = ["DeliveryEncoder", "content_frames"]

FRAME_END = b"\xce"
DELIVER = b"\x00\x3c\x00\x3c"
BY_REFERENCE_BYTES = 8192  # bodies at least this large go to the socket without being copied into a frame

_frame = Struct(">BHI").pack
_header = Struct(">BHIHHQ").pack
_tag = Struct(">Q").pack
_packers: dict[tuple[int, int, int], Callable[..., bytes]] = {}  # by sizes of head, tail and body; bounded


def _short(text: str) -> bytes:
    raw = text.encode("utf-8", "surrogateescape")
    if len(raw) > 255:  # other listeners know longer keys; AMQP cannot say them (4.2.5.3)
        raw = raw[:255].decode("utf-8", "ignore").encode()
    return bytes((len(raw),)) + raw


def content_frames(number: int, header: bytes, body: bytes, frame_max: int) -> list[bytes]:
    """The header frame and body frames of one message; an empty body has no body frame."""
    size = len(body)
    pieces = [_header(2, number, 12 + len(header), 60, 0, size), header, FRAME_END]
    room = frame_max - 8 if frame_max else size
    if size <= room:
        if size:
            pieces += (_frame(3, number, size), body, FRAME_END)
        return pieces
    view = memoryview(body)
    for start in range(0, size, room):
        part = bytes(view[start : start + room])
        pieces += (_frame(3, number, len(part)), part, FRAME_END)
    return pieces


class Deliverable(Protocol):
    """What is encoded of a message."""

    envelope: Envelope
    body: bytes
    is_redelivered: bool


class DeliveryEncoder:
    """Encodes deliveries to one consumer.

    All but the delivery tag and the body of a delivery is the same for a run of alike messages: it is kept from the
    last one, and a further delivery is one `Struct.pack`.
    """

    __slots__ = (
        "_consumer_tag",
        "_envelope",
        "_frame_max",
        "_head",
        "_is_redelivered",
        "_large",
        "_number",
        "_pack",
        "_size",
        "_tail",
    )

    def __init__(self, number: int, consumer_tag: str, frame_max: int) -> None:
        self._number = number
        self._consumer_tag = _short(consumer_tag)
        self._frame_max = frame_max
        # Bodies from this size on bring their own frame headers: they go by reference, or in several frames.
        self._large = min(BY_REFERENCE_BYTES, frame_max - 7) if frame_max else BY_REFERENCE_BYTES
        self._envelope: Envelope | None = None
        self._size = -1
        self._is_redelivered = False
        self._head = self._tail = b""
        self._pack: Callable[..., bytes] | None = None

    def encode(self, messages: Sequence[Deliverable], tag: int, chunks: list[bytes]) -> int:
        """Append deliveries to chunks, with delivery tags from `tag` on; how many bytes that were."""
        total = 0
        append = chunks.append
        envelope, size, redelivered = self._envelope, self._size, self._is_redelivered
        pack, head, tail = self._pack, self._head, self._tail
        large = self._large
        overhead = len(head) + len(tail) + 9
        for message in messages:
            body = message.body
            if message.envelope is envelope and len(body) == size and message.is_redelivered is redelivered:
                if pack is None:
                    if size >= large:
                        total += self._encode_large(head, tag, tail, body, chunks)
                        tag += 1
                        continue
                    pack = self._pack = self._packer(len(head), len(tail), size)
                append(pack(head, tag, tail, body, 0xCE))
                total += overhead + size
            else:
                envelope, size, redelivered = message.envelope, len(body), message.is_redelivered
                self._shape(envelope, size, redelivered)
                pack, head, tail = None, self._head, self._tail
                overhead = len(head) + len(tail) + 9
                if size >= large:
                    total += self._encode_large(head, tag, tail, body, chunks)
                elif size:
                    append(b"".join((head, _tag(tag), tail, body, FRAME_END)))
                    total += overhead + size
                else:
                    append(head + _tag(tag) + tail[:-1])
                    total += overhead - 2
                    self._envelope = envelope = None  # no body frame: not worth a packer
            tag += 1
        return total

    def _shape(self, envelope: Envelope, size: int, is_redelivered: bool) -> None:
        """What is alike in deliveries of this envelope with bodies of this size."""
        self._envelope, self._size, self._is_redelivered, self._pack = envelope, size, is_redelivered, None
        exchange, key = _short(envelope.exchange), _short(envelope.routing_key)
        consumer_tag, header = self._consumer_tag, envelope.header
        length = 4 + len(consumer_tag) + 9 + len(exchange) + len(key)
        self._head = _frame(1, self._number, length) + DELIVER + consumer_tag
        tail = (
            (b"\x01" if is_redelivered else b"\x00")
            + exchange
            + key
            + FRAME_END
            + _header(2, self._number, 12 + len(header), 60, 0, size)
            + header
            + FRAME_END
        )
        if size < self._large:
            tail += _frame(3, self._number, size) if size else b"\xce"
        self._tail = tail

    @staticmethod
    def _packer(head: int, tail: int, size: int) -> Callable[..., bytes]:
        shape = (head, tail, size)
        packer = _packers.get(shape)
        if packer is None:
            if len(_packers) >= 1024:
                _packers.clear()
            packer = _packers[shape] = Struct(f">{head}sQ{tail}s{size}sB").pack
        return packer

    def _encode_large(self, head: bytes, tag: int, tail: bytes, body: bytes, chunks: list[bytes]) -> int:
        """The body by reference, in as many frames as it needs."""
        start = head + _tag(tag) + tail
        size, room = len(body), self._frame_max - 8 if self._frame_max else len(body)
        if size <= room:
            chunks += (start + _frame(3, self._number, size), body, FRAME_END)
            return len(start) + 8 + size
        total = len(start) + size
        view = memoryview(body)
        for at in range(0, size, room):
            part = bytes(view[at : at + room])
            chunks += (start + _frame(3, self._number, len(part)), part, FRAME_END)
            start = b""
            total += 8
        return total

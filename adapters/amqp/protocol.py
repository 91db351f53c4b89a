"""The AMQP 0-9-1 wire, sans-IO: chunks of bytes in, calls of the handler out.

Publish and ack, the hot frames, are parsed here in one loop over one `bytes`: no object, no exception and no await
per frame. A run of publishes that differ only in their bodies, or a run of acks, is one call. Every other method
goes to the handler as its payload.

The law: whatever bytes a peer sends, they are parsed or they raise ConnectionFault, and nothing else.
"""

from __future__ import annotations

from struct import Struct
from typing import Protocol as Contract

from leveret.adapters.amqp.faults import ConnectionFault

__all__ = ["PROTOCOL_HEADER", "ChannelHandler", "ConnectionHandler", "Content", "FrameParser"]

PROTOCOL_HEADER = b"AMQP\x00\x00\x09\x01"
FRAME_END = 0xCE
PUBLISH = 60 << 16 | 40
ACK = 60 << 16 | 80
PUBLISH_BYTES = PUBLISH.to_bytes(4, "big")
MIN_PUBLISH = (
    7 + 9 + 1 + 7 + 14 + 1
)  # bytes: the method frame with empty names, and a content header without properties
STREAMED_BYTES = 4096  # a body frame at least this large is taken in pieces as they arrive, not joined first

_frame = Struct(">BHI").unpack_from
_method_id = Struct(">I").unpack_from
_header = Struct(">BHIHHQ").unpack_from
_content = Struct(">HHQ").unpack_from
_acks = Struct(">11sQBB").iter_unpack
_ack = Struct(">QB").unpack_from
MAX_BATCH, MAX_BATCH_BYTES = 512, 1 << 20  # messages that are not alike, in one call
HOLD_OFF = 64  # messages that are published one by one after one that had to be
_runs: dict[tuple[int, int], Struct] = {}  # (prefix, body) sizes of runs seen; bounded


class Content:
    """A message that is arriving in pieces: the publish was seen, its header or body is still to come."""

    __slots__ = ("header", "key", "missing", "parts")

    def __init__(self, key: bytes) -> None:
        self.key = key  # the publish method's arguments
        self.header: bytes | None = None
        self.missing = 0  # body bytes
        self.parts: list[bytes] = []


class ChannelHandler(Contract):
    """What the parser calls per channel."""

    content: Content | None
    is_closing: bool

    def on_publish(self, key: bytes, header: bytes, bodies: list[bytes]) -> None:
        """Messages published alike. key: arguments of basic.publish behind the ticket; header: property flags on."""

    def on_publishes(self, keys: list[bytes], headers: list[bytes], bodies: list[bytes]) -> int:
        """Messages in a row that are not alike, as many of each. Returns how many were published, from the first on;
        the next one is then offered to `on_publish`, which answers for what is special about it."""

    def on_publish_method(self, key: bytes) -> None:
        """A publish whose content is still to come: refuse it now if it is to be refused."""

    def on_content_size(self, size: int) -> None:
        """The announced body size of a message that comes in pieces."""

    def on_acks(self, tags: list[int]) -> None:
        """basic.ack, not multiple, once for each tag."""

    def on_ack_multiple(self, tag: int) -> None:
        """basic.ack with multiple."""


class ConnectionHandler(Contract):
    """What the parser calls per connection."""

    def on_protocol_header(self, header: bytes) -> None: ...
    def on_method(self, number: int, payload: bytes) -> None: ...
    def on_heartbeat(self) -> None: ...
    def publisher(self, number: int) -> ChannelHandler:
        """The channel a publish, ack or content frame is for; ConnectionFault 504 if there is none."""


def scan_publishes(
    data: bytes, pos: int, end: int, frame_max: int, limit: int
) -> tuple[list[bytes], list[bytes], list[bytes], list[int]]:
    """Complete publishes in a row on one channel, from pos on, each with at most one body frame.

    Returns:
        The publish methods' arguments, the properties, the bodies, and where each message ends. What follows may be
        anything, malformed frames too. Equal neighbours are one object.
    """
    keys: list[bytes] = []
    headers: list[bytes] = []
    bodies: list[bytes] = []
    ends: list[int] = []
    start = data[pos : pos + 3]  # a method frame on this channel
    max_size = frame_max or end
    key = header = b""
    while len(keys) < limit and end - pos >= MIN_PUBLISH:
        kind, number, size = _frame(data, pos)
        stop = pos + 7 + size
        after = stop + 1
        if (
            size > max_size
            or end - after < 22
            or data[stop] != FRAME_END
            or data[pos : pos + 3] != start
            or data[pos + 7 : pos + 11] != PUBLISH_BYTES
        ):
            break
        kind, header_number, header_size, class_id, _, body_size = _header(data, after)
        header_stop = after + 7 + header_size
        if (
            kind != 2
            or header_number != number
            or class_id != 60
            or not 14 <= header_size <= max_size
            or header_stop >= end
            or data[header_stop] != FRAME_END
        ):
            break
        at = header_stop + 1
        body = b""
        if body_size:
            body_stop = at + 7 + body_size
            if body_stop >= end:
                break
            kind, body_number, size = _frame(data, at)
            if (
                kind != 3
                or body_number != number
                or size != body_size
                or size > max_size
                or data[body_stop] != FRAME_END
            ):
                break
            body = data[at + 7 : body_stop]
            at = body_stop + 1
        if (found := data[pos + 13 : stop]) != key:
            key = found
        if (found := data[after + 19 : header_stop]) != header:
            header = found
        keys.append(key)
        headers.append(header)
        bodies.append(body)
        ends.append(at)
        pos = at
    return keys, headers, bodies, ends


class FrameParser:
    """One connection's incoming half.

    `is_suspended`: the handler needs an await before the next frame; `feed(b"")` goes on from there.
    """

    def __init__(self, handler: ConnectionHandler, frame_max: int) -> None:
        self.handler = handler
        self.frame_max = frame_max  # payloads up to this are accepted (8 more than the specification's)
        self.is_suspended = False
        self.is_discarding = False  # after connection.close was sent: only close and close-ok are looked at
        self.is_bulk = False  # a large body frame was cut in two by the end of the last chunk
        self.ignores_input = False  # after a framing error: what follows means nothing
        self._rest = b""
        self._is_started = False  # the protocol header was seen
        self._batch = 8  # how many messages that are not alike are tried in one call
        self._hold_off = 0
        self._streaming: ChannelHandler | None = None  # whose body frame is arriving in pieces
        self._stream_size = 0  # payload bytes of that frame
        self._stream_missing = 0  # those still to come; then its end octet

    def feed(self, data: bytes) -> None:
        if self.ignores_input:
            return
        self.is_bulk = False
        if self._rest:
            data = self._rest + data
            self._rest = b""
        pos = 0
        if not self._is_started:
            if len(data) < 8 and PROTOCOL_HEADER.startswith(data[:4]) and data:
                self._rest = data
                return
            if not data:
                return
            self._is_started = True
            self.handler.on_protocol_header(data[:8])
            pos = 8
        if self._streaming is not None and not self.is_suspended:
            pos = self._stream(data, pos)
            if self._streaming is not None:
                return
        self._parse(data, pos)

    def _parse(self, data: bytes, pos: int) -> None:
        handler, frame_max = self.handler, self.frame_max
        end = len(data)
        stop = end
        try:
            while end - pos >= 7 and not self.is_suspended:
                kind, number, size = _frame(data, pos)
                stop = pos + 7 + size
                if size > frame_max > 0:
                    raise ConnectionFault(
                        501,
                        f"type {kind}, channel {number}, payload size {size} is larger than frame_max {frame_max}",
                    )
                if stop >= end:
                    if kind == 3 and size >= STREAMED_BYTES:
                        pos = self._begin_stream(data, pos, number, size)
                    elif kind not in (1, 2, 3, 8):
                        raise ConnectionFault(501, f"unknown frame type {kind} on channel {number}")
                    break
                if data[stop] != FRAME_END:
                    raise ConnectionFault(
                        501, f"frame of type {kind} on channel {number} does not end in 206"
                    )
                if kind == 1:
                    if size < 4:
                        raise ConnectionFault(501, "method frame too short")
                    method = _method_id(data, pos + 7)[0]
                    if method == PUBLISH and not self.is_discarding:
                        pos = self._publish(handler.publisher(number), data, pos, stop, end)
                        continue
                    if method == ACK and size == 13 and not self.is_discarding:
                        pos = self._ack(handler.publisher(number), data, pos, end)
                        continue
                    handler.on_method(number, data[pos + 7 : stop])
                elif kind == 8:
                    if number:
                        raise ConnectionFault(505, f"heartbeat frame on channel {number}")
                    handler.on_heartbeat()
                elif self.is_discarding:
                    pass
                elif kind == 2:
                    self._content_header(handler.publisher(number), data, pos + 7, stop)
                elif kind == 3:
                    self._content_body(handler.publisher(number), data[pos + 7 : stop])
                else:
                    raise ConnectionFault(501, f"unknown frame type {kind} on channel {number}")
                pos = stop + 1
        except ConnectionFault:
            pos = min(stop + 1, end)  # the offending frame is dealt with
            raise
        finally:
            # What is not parsed yet, or raised AuthorizationPending and will be offered again, waits here.
            if pos < end:
                self._rest = data[pos:] if pos else data

    def _publish(self, channel: ChannelHandler, data: bytes, pos: int, stop: int, end: int) -> int:
        """A publish at pos. If all of it is here, and as many more alike as are here: one call."""
        if channel.content is not None:
            raise ConnectionFault(
                505, "expected content header or body, got method 'basic.publish' instead", (60, 40)
            )
        key = data[pos + 13 : stop]
        after = stop + 1
        if end - after >= 22:
            kind, number, header_size, class_id, _, body_size = _header(data, after)
            header_stop: int = after + 7 + header_size
            if (
                kind == 2
                and class_id == 60
                and 14 <= header_size <= (self.frame_max or header_size)
                and header_stop < end
                and data[header_stop] == FRAME_END
                and data[after + 1 : after + 3] == data[pos + 1 : pos + 3]
            ):
                header = data[after + 19 : header_stop]
                body_at = header_stop + 1
                if not body_size:
                    channel.on_publish(key, header, [b""])
                    return body_at
                next_at: int = body_at + 8 + body_size
                if next_at <= end:
                    kind, body_number, size = _frame(data, body_at)
                    if (
                        kind == 3
                        and body_number == number
                        and size == body_size <= (self.frame_max or size)
                        and data[next_at - 1] == FRAME_END
                    ):
                        bodies = [data[body_at + 7 : next_at - 1]]
                        stride = next_at - pos
                        if end - next_at >= stride and data[next_at + stride - 1] == FRAME_END:
                            prefix = data[pos : body_at + 7]
                            if data.startswith(prefix, next_at):
                                next_at = self._run(data, next_at, end, prefix, body_size, bodies)
                                channel.on_publish(key, header, bodies)
                                return next_at
                        if end - next_at >= MIN_PUBLISH and (
                            batch_end := self._publish_batch(channel, data, pos, end)
                        ):
                            return batch_end
                        channel.on_publish(key, header, bodies)
                        return next_at
        if not channel.is_closing:
            channel.on_publish_method(key)
        channel.content = Content(key)
        return after

    def _publish_batch(self, channel: ChannelHandler, data: bytes, pos: int, end: int) -> int:
        """Publishes at pos that are not alike, in one call. Returns where they end, or 0: the first goes by itself."""
        if self._hold_off:
            self._hold_off -= 1
            return 0
        stop = min(end, pos + MAX_BATCH_BYTES)
        keys, headers, bodies, ends = scan_publishes(data, pos, stop, self.frame_max, self._batch)
        count = len(keys)
        if count < 2:
            return 0
        published = channel.on_publishes(keys, headers, bodies)
        if published == count:
            self._batch = min(MAX_BATCH, count * 2)
        else:
            self._batch = max(8, self._batch // 2)
            if published < 8:
                self._hold_off = HOLD_OFF
        return ends[published - 1] if published else 0

    @staticmethod
    def _run(data: bytes, pos: int, end: int, prefix: bytes, body_size: int, bodies: list[bytes]) -> int:
        """Collect the bodies of following publishes that begin with the same bytes; where they end."""
        shape = (len(prefix), body_size)
        run = _runs.get(shape)
        if run is None:
            if len(_runs) >= 1024:
                _runs.clear()
            run = _runs[shape] = Struct(f"{len(prefix)}s{body_size}sB")
        stride = run.size
        count = (end - pos) // stride
        if body_size > 1024:  # no longer a matter of parsing, but of copying: only what is taken
            while count and data.startswith(prefix, pos) and data[pos + stride - 1] == FRAME_END:
                bodies.append(data[pos + len(prefix) : pos + stride - 1])
                pos += stride
                count -= 1
            return pos
        before = len(bodies)
        for head, body, last in run.iter_unpack(memoryview(data)[pos : pos + count * stride]):
            if head != prefix or last != FRAME_END:
                break
            bodies.append(body)
        return pos + (len(bodies) - before) * stride

    def _ack(self, channel: ChannelHandler, data: bytes, pos: int, end: int) -> int:
        """An ack at pos, and those that follow it."""
        if channel.content is not None:
            raise ConnectionFault(
                505, "expected content header or body, got method 'basic.ack' instead", (60, 80)
            )
        tag, multiple = _ack(data, pos + 11)
        if multiple & 1:
            channel.on_ack_multiple(tag)
            return pos + 21
        prefix = data[pos : pos + 11]
        if not data.startswith(prefix, pos + 21):
            channel.on_acks([tag])
            return pos + 21
        tags: list[int] = []
        append = tags.append
        count = (end - pos) // 21
        for head, tag, multiple, last in _acks(memoryview(data)[pos : pos + count * 21]):
            if multiple & 1 or head != prefix or last != FRAME_END:
                break
            append(tag)
        channel.on_acks(tags)
        return pos + 21 * len(tags)

    # -- content in pieces

    def _content_header(self, channel: ChannelHandler, data: bytes, start: int, stop: int) -> None:
        content = channel.content
        if content is None or content.header is not None:
            if channel.is_closing:
                return
            raise ConnectionFault(505, "expected method frame, got content header frame instead")
        if stop - start < 14:
            raise ConnectionFault(501, "content header frame too short")
        class_id, _, size = _content(data, start)
        if class_id != 60:
            raise ConnectionFault(
                505, f"expected content header for class 60, got one for class {class_id} instead"
            )
        content.header = data[start + 12 : stop]
        content.missing = size
        if not channel.is_closing:
            channel.on_content_size(size)
        if not size:
            self._complete(channel, content)

    def _content_body(self, channel: ChannelHandler, part: bytes) -> None:
        content = self._expect_body(channel, len(part))
        if content is None:
            return
        content.parts.append(part)
        content.missing -= len(part)
        if not content.missing:
            self._complete(channel, content)

    def _expect_body(self, channel: ChannelHandler, size: int) -> Content | None:
        content = channel.content
        if content is None or content.header is None:
            if channel.is_closing:
                return None
            raise ConnectionFault(
                505, "expected method or content header frame, got content body frame instead"
            )
        if size > content.missing:
            raise ConnectionFault(501, f"content body of {size} bytes where {content.missing} were announced")
        return content

    @staticmethod
    def _complete(channel: ChannelHandler, content: Content) -> None:
        channel.content = None
        if not channel.is_closing:
            assert content.header is not None
            parts = content.parts
            channel.on_publish(
                content.key, content.header, [parts[0] if len(parts) == 1 else b"".join(parts)]
            )

    def _begin_stream(self, data: bytes, pos: int, number: int, size: int) -> int:
        """A large body frame, of which a part is here: take that by reference, not by joining."""
        if self.is_discarding:
            return pos
        self.is_bulk = True
        channel = self.handler.publisher(number)
        content = self._expect_body(channel, size)
        part = data[pos + 7 :]
        if content is not None:
            content.parts.append(part)
        self._streaming, self._stream_size, self._stream_missing = channel, size, size - len(part)
        return len(data)

    def _stream(self, data: bytes, pos: int) -> int:
        """More of that body frame; where the next frame begins."""
        channel, missing = self._streaming, self._stream_missing
        assert channel is not None
        content = channel.content
        if missing:
            part = data[pos : pos + missing]
            if content is not None:
                content.parts.append(part)
            self._stream_missing = missing = missing - len(part)
            pos += len(part)
        if missing or pos >= len(data):
            return pos
        self._streaming = None
        if data[pos] != FRAME_END:
            raise ConnectionFault(501, "content body frame does not end in 206")
        if content is not None:
            content.missing -= self._stream_size
            if not content.missing:
                self._complete(channel, content)
        return pos + 1

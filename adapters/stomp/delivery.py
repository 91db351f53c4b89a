"""Messages on their way out: MESSAGE frames, encoded once per envelope and subscription. Sans-IO."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from typing import TYPE_CHECKING

from leveret.adapters.stomp.destinations import format_destination
from leveret.adapters.stomp.frames import EOL, header_line
from leveret.adapters.stomp.headers import message_headers

if TYPE_CHECKING:
    from leveret.core.message import Envelope, Message
__all__ = ["MessageEncoder"]

BY_REFERENCE_BYTES = 8192  # bodies at least this large go to the socket without being copied into a frame
CHUNK_BYTES = 65536  # of frames formatted at once; a WebSocket client gets them as one message
REMEMBERED = "stomp"  # an envelope's lines, by version, for all its subscribers


class MessageEncoder:
    """Encodes the messages of one subscription.

    All but the delivery tag, the content-length and the body is the same for a run of alike messages: it is a template,
    and a run is one bytes formatting.
    """

    __slots__ = (
        "_envelope",
        "_has_ack",
        "_head",
        "_is_redelivered",
        "_middle",
        "_middle_again",
        "_start",
        "_template",
        "_topic_exchange",
        "_version",
    )

    def __init__(
        self,
        version: str,
        *,
        subscription: str | None,
        message_id_prefix: str,
        has_ack: bool,
        topic_exchange: str,
    ) -> None:
        """subscription: None without an id (1.0). has_ack: tell the ack id (1.2, unless auto)."""
        self._version = version
        # All lines here are formats: what is to stand there has its percent signs doubled.
        self._start = b"MESSAGE\n"
        if subscription is not None:
            self._start += header_line("subscription", subscription, version).replace(b"%", b"%%")
        message_id = header_line("message-id", message_id_prefix, version)[:-1].replace(b"%", b"%%")
        ack = b"ack:%d\n" if has_ack else b""
        self._middle = message_id + b"%d\nredelivered:false\n" + ack
        self._middle_again = message_id + b"%d\nredelivered:true\n" + ack
        self._has_ack = has_ack
        self._topic_exchange = topic_exchange
        self._envelope: Envelope | None = None
        self._is_redelivered = False
        self._head = b""  # up to the blank line, a format of tags and content-length
        self._template = b""  # with body and end

    def encode(self, messages: Sequence[Message], tag: int, chunks: list[bytes]) -> int:
        """Append MESSAGE frames to chunks, with delivery tags from `tag` on; how many bytes that was."""
        total = 0
        index, count = 0, len(messages)
        has_ack = self._has_ack
        while index < count:
            message = messages[index]
            envelope, redelivered = message.envelope, message.is_redelivered
            if envelope is not self._envelope or redelivered is not self._is_redelivered:
                self._shape(envelope, redelivered)
            if len(message.body) >= BY_REFERENCE_BYTES:
                head = self._head % self._tags(tag, len(message.body))
                chunks += (head, message.body, EOL)
                total += len(head) + len(message.body) + len(EOL)
                index += 1
                tag += 1
                continue
            start = index
            room = CHUNK_BYTES
            overhead = len(self._head)
            values: list[int | bytes] = []
            while True:
                body = message.body
                size = len(body)
                if size >= BY_REFERENCE_BYTES:
                    break
                if has_ack:
                    values += (tag, tag, size, body)
                else:
                    values += (tag, size, body)
                tag += 1
                index += 1
                room -= overhead + size
                if index == count or room <= 0:
                    break
                message = messages[index]
                if message.envelope is not envelope or message.is_redelivered is not redelivered:
                    break
            run = index - start
            data = (self._template * run if run > 1 else self._template) % tuple(values)
            chunks.append(data)
            total += len(data)
        return total

    def _tags(self, tag: int, size: int) -> tuple[int, ...]:
        return (tag, tag, size) if self._has_ack else (tag, size)

    def _shape(self, envelope: Envelope, is_redelivered: bool) -> None:
        """What is alike in messages of this envelope."""
        self._envelope, self._is_redelivered = envelope, is_redelivered
        destination, rest = self._lines(envelope)
        middle = self._middle_again if is_redelivered else self._middle
        self._head = head = self._start + destination + middle + rest + b"content-length:%d\n\n"
        self._template = head + b"%b\0\n"

    def _lines(self, envelope: Envelope) -> tuple[bytes, bytes]:
        """destination, and the lines of properties and user headers, both ready for a format."""
        known: dict[str, tuple[bytes, bytes]] | None
        if envelope.encoded is None:
            envelope.encoded = {}
            known = None
        else:
            known = envelope.encoded.get(REMEMBERED)
        if known is None:
            known = envelope.encoded[REMEMBERED] = {}
        version = self._version
        lines = known.get(version)
        if lines is None:
            rest = b"".join(
                [header_line(name, value, version) for name, value in message_headers(envelope.properties)]
            )
            destination = _destination(envelope.exchange, envelope.routing_key, self._topic_exchange, version)
            lines = known[version] = destination, rest.replace(b"%", b"%%")
        return lines


@lru_cache(1024)
def _destination(exchange: str, routing_key: str, topic_exchange: str, version: str) -> bytes:
    text = format_destination(exchange, routing_key, topic_exchange)
    return header_line("destination", text, version).replace(b"%", b"%%")

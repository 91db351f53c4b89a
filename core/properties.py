"""The fourteen basic properties, and what can be read from their encoding without decoding it (AMQP 4.2.6.1)."""

from __future__ import annotations

from dataclasses import dataclass
from struct import Struct
from struct import error as StructError
from typing import Any

from leveret.core.errors import InvalidArgument
from leveret.core.fields import FieldError, decode_table, encode_table

__all__ = ["Properties", "delivery_hints", "raw_headers", "validate_header", "with_headers"]

_u16, _u32, _u64 = Struct(">H"), Struct(">I"), Struct(">Q")

CONTENT_TYPE, CONTENT_ENCODING, HEADERS, DELIVERY_MODE = 1 << 15, 1 << 14, 1 << 13, 1 << 12
PRIORITY, EXPIRATION = 1 << 11, 1 << 8
# In the order of their flags, from bit 15 down: name and kind (s short string, t table, o octet, T timestamp).
FIELDS: tuple[tuple[int, str, str], ...] = tuple(
    (1 << (15 - index), name, kind)
    for index, (name, kind) in enumerate(
        (
            ("content_type", "s"),
            ("content_encoding", "s"),
            ("headers", "t"),
            ("delivery_mode", "o"),
            ("priority", "o"),
            ("correlation_id", "s"),
            ("reply_to", "s"),
            ("expiration", "s"),
            ("message_id", "s"),
            ("timestamp", "T"),
            ("type", "s"),
            ("user_id", "s"),
            ("app_id", "s"),
            ("cluster_id", "s"),
        )
    )
)
MAX_EXPIRATION_MS = 315360000000  # ten years, RabbitMQ's limit


@dataclass(slots=True)
class Properties:
    """Absent is None; an empty string was set. Strings keep bytes that are not UTF-8 (surrogateescape).

    timestamp: seconds since the epoch; expiration: a string of decimal milliseconds; delivery_mode: 2 is persistent.
    """

    content_type: str | None = None
    content_encoding: str | None = None
    headers: dict[str, Any] | None = None
    delivery_mode: int | None = None
    priority: int | None = None
    correlation_id: str | None = None
    reply_to: str | None = None
    expiration: str | None = None
    message_id: str | None = None
    timestamp: int | None = None
    type: str | None = None
    user_id: str | None = None
    app_id: str | None = None
    cluster_id: str | None = None

    @classmethod
    def decode(cls, header: bytes) -> Properties:
        """From property flags and list. Raise FieldError."""
        properties = cls()
        try:
            flags, pos = _flags(header)
            for flag, name, kind in FIELDS:
                if not flags & flag:
                    continue
                value: Any
                if kind == "s":
                    end = pos + 1 + header[pos]
                    if end > len(header):
                        raise FieldError(f"property {name} is cut off")
                    value = header[pos + 1 : end].decode("utf-8", "surrogateescape")
                    pos = end
                elif kind == "o":
                    value = header[pos]
                    pos += 1
                elif kind == "t":
                    value, pos = decode_table(header, pos)
                else:
                    value = _u64.unpack_from(header, pos)[0]
                    pos += 8
                setattr(properties, name, value)
        except (IndexError, StructError) as error:
            raise FieldError("the properties are cut off") from error
        return properties

    def encode(self) -> bytes:
        """Property flags and list. Raise FieldError for what does not fit."""
        flags = 0
        pieces: list[bytes] = []
        for flag, name, kind in FIELDS:
            value = getattr(self, name)
            if value is None:
                continue
            flags |= flag
            if kind == "s":
                raw = value.encode("utf-8", "surrogateescape")
                if len(raw) > 255:
                    raise FieldError(f"property {name} is longer than 255 bytes")
                pieces.append(bytes((len(raw),)) + raw)
            elif kind == "o":
                if not 0 <= value <= 255:
                    raise FieldError(f"property {name} is not within 0 to 255")
                pieces.append(bytes((value,)))
            elif kind == "t":
                pieces.append(encode_table(value))
            else:
                pieces.append(_u64.pack(value))
        return _u16.pack(flags) + b"".join(pieces)


def _flags(header: bytes) -> tuple[int, int]:
    """The flag word and where the list begins. Further words (bit 0) have no properties in 0-9-1."""
    flags = _u16.unpack_from(header, 0)[0]
    pos, word = 2, flags
    while word & 1:
        word = _u16.unpack_from(header, pos)[0]
        pos += 2
    return flags, pos


def delivery_hints(header: bytes) -> tuple[bool, int | None, int | None]:
    """(is persistent, priority, expiration in milliseconds), skipping all else.

    Raise InvalidArgument for an expiration that is not decimal digits (RabbitMQ 406), FieldError for no header.
    """
    try:
        flags = header[0] << 8 | header[1]
        if not flags & (DELIVERY_MODE | PRIORITY | EXPIRATION):
            return False, None, None
        pos = 2 if not flags & 1 else _flags(header)[1]
        if flags & CONTENT_TYPE:
            pos += 1 + header[pos]
        if flags & CONTENT_ENCODING:
            pos += 1 + header[pos]
        if flags & HEADERS:
            pos += 4 + _u32.unpack_from(header, pos)[0]
        is_persistent = False
        priority = expiration = None
        if flags & DELIVERY_MODE:
            is_persistent = header[pos] == 2
            pos += 1
        if flags & PRIORITY:
            priority = header[pos]
            pos += 1
        if flags & EXPIRATION:
            for flag in (1 << 10, 1 << 9):  # correlation_id, reply_to
                if flags & flag:
                    pos += 1 + header[pos]
            expiration = _expiration(header[pos + 1 : pos + 1 + header[pos]])
    except (IndexError, StructError) as error:
        raise FieldError("the properties are cut off") from error
    return is_persistent, priority, expiration


def _expiration(raw: bytes) -> int:
    text = raw.decode("utf-8", "replace")
    if not (raw.isdigit() and text.isascii()):
        reason = (
            "no_integer" if not raw or (not raw[:1].isdigit() and raw[:1] not in b"+-") else "leftover_string"
        )
        raise InvalidArgument(f"invalid expiration '{text}': {reason}")
    value = int(raw)
    if value > MAX_EXPIRATION_MS:
        raise InvalidArgument(f"invalid expiration '{text}': value_too_big")
    return value


def _headers_span(header: bytes) -> tuple[int, int]:
    """Where the headers table stands, or would stand: start and end (equal if there is none)."""
    flags, pos = _flags(header)
    if flags & CONTENT_TYPE:
        pos += 1 + header[pos]
    if flags & CONTENT_ENCODING:
        pos += 1 + header[pos]
    return (pos, pos + 4 + _u32.unpack_from(header, pos)[0]) if flags & HEADERS else (pos, pos)


def raw_headers(header: bytes) -> bytes | None:
    """The headers table as it is, without its length; None if there is none."""
    start, end = _headers_span(header)
    return header[start + 4 : end] if end > start else None


def with_headers(header: bytes, body: bytes | None, *, drop_expiration: bool = False) -> bytes:
    """The same properties with another headers table (its body, without length; None: none), byte-exact elsewhere."""
    start, end = _headers_span(header)
    flags = _u16.unpack_from(header, 0)[0]
    rest = header[end:]
    if drop_expiration and flags & EXPIRATION:
        pos = 0
        for flag, _, kind in FIELDS[3:]:
            if flag == EXPIRATION:
                break
            if flags & flag:
                pos += 1 if kind == "o" else 1 + rest[pos]
        rest = rest[:pos] + rest[pos + 1 + rest[pos] :]
        flags &= ~EXPIRATION
    flags = flags | HEADERS if body is not None else flags & ~HEADERS
    table = b"" if body is None else _u32.pack(len(body)) + body
    return _u16.pack(flags) + header[2:start] + table + rest


def validate_header(header: bytes) -> None:
    """Well-formed to the end? Done once per distinct header. Raise FieldError, InvalidArgument (expiration)."""
    flags = header[0] << 8 | header[1] if len(header) >= 2 else 1
    if flags in (0, DELIVERY_MODE) and len(header) == (3 if flags else 2):
        return
    Properties.decode(header)

"""The fourteen basic properties, and what can be read from their encoding without decoding it (AMQP 4.2.6.1)."""

from __future__ import annotations

import re
from dataclasses import dataclass
from struct import Struct
from struct import error as StructError
from typing import Any

from leveret.core.errors import InvalidArgument
from leveret.core.fields import ENCODE_ERRORS, FieldError, decode_table, encode_table, table_end

__all__ = ["Properties", "delivery_hints", "is_well_formed", "raw_headers", "validate_header", "with_headers"]

_u8, _u16, _u32, _u64 = Struct(">B"), Struct(">H"), Struct(">I"), Struct(">Q")

CONTENT_TYPE, CONTENT_ENCODING, HEADERS, DELIVERY_MODE = 1 << 15, 1 << 14, 1 << 13, 1 << 12
PRIORITY, CORRELATION_ID, REPLY_TO, EXPIRATION = 1 << 11, 1 << 10, 1 << 9, 1 << 8
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
NUMBER = re.compile(rb"[+-]?[0-9]+")  # what RabbitMQ's conversion accepts: a sign, too

WANTED = {
    "s": "text of at most 255 bytes in UTF-8",
    "o": "a whole number from 0 to 255",
    "T": "a whole number from 0 to 18446744073709551615",
}
"""What a property of each kind must be, for clients whose value is something else."""


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
        """From property flags and list, which must end where the header does. Raise FieldError."""
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
        if pos != len(header):
            raise FieldError("there is more behind the properties")
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
            try:
                if kind == "s":
                    raw = value.encode("utf-8", "surrogateescape")
                    pieces.append(_u8.pack(len(raw)) + raw)
                elif kind == "t":
                    pieces.append(encode_table(value))
                else:
                    pieces.append((_u8 if kind == "o" else _u64).pack(value))
            except ENCODE_ERRORS as error:
                raise FieldError(f"property {name} must be {WANTED[kind]}") from error
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

    Raise InvalidArgument for an expiration that is no number of milliseconds (RabbitMQ 406), FieldError for no header.
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
            if flags & CORRELATION_ID:
                pos += 1 + header[pos]
            if flags & REPLY_TO:
                pos += 1 + header[pos]
            end = pos + 1 + header[pos]
            if end > len(header):
                raise FieldError("the expiration is cut off")
            expiration = _expiration(header[pos + 1 : end])
    except (IndexError, StructError) as error:
        raise FieldError("the properties are cut off") from error
    return is_persistent, priority, expiration


def _expiration(raw: bytes) -> int:
    """Milliseconds. The refusals are RabbitMQ's, Erlang terms and all: clients show and match them."""
    number = NUMBER.match(raw)
    reason = "no_integer"
    if number is not None:
        value = int(number[0])
        if number.end() != len(raw):
            left_over = (
                raw[number.end() :].decode("utf-8", "replace").replace("\\", "\\\\").replace('"', '\\"')
            )
            reason = f'{{leftover_string,"{left_over}"}}'
        elif value < 0:
            reason = f"{{value_negative,{value}}}"
        elif value > MAX_EXPIRATION_MS:
            reason = f"{{value_too_large,{value}}}"
        else:
            return value
    raise InvalidArgument(f"invalid expiration '{raw.decode('utf-8', 'replace')}': {reason}")


def _headers_span(header: bytes) -> tuple[int, int, int]:
    """The flags, and where the headers table stands, or would stand: start and end (equal if there is none)."""
    try:
        flags, pos = _flags(header)
        if flags & CONTENT_TYPE:
            pos += 1 + header[pos]
        if flags & CONTENT_ENCODING:
            pos += 1 + header[pos]
        end = pos + 4 + _u32.unpack_from(header, pos)[0] if flags & HEADERS else pos
    except (IndexError, StructError) as error:
        raise FieldError("the properties are cut off") from error
    if end > len(header):
        raise FieldError("the headers are cut off")
    return flags, pos, end


def raw_headers(header: bytes) -> bytes | None:
    """The headers table as it is, without its length; None if there is none. Raise FieldError."""
    _, start, end = _headers_span(header)
    return header[start + 4 : end] if end > start else None


def with_headers(header: bytes, body: bytes | None, *, drop_expiration: bool = False) -> bytes:
    """The same properties with another headers table (its body, without length; None: none), byte-exact elsewhere.

    Raise FieldError.
    """
    flags, start, end = _headers_span(header)
    rest = header[end:]
    if drop_expiration and flags & EXPIRATION:
        rest = _without_expiration(rest, flags)
        flags &= ~EXPIRATION
    flags = flags | HEADERS if body is not None else flags & ~HEADERS
    table = b"" if body is None else _u32.pack(len(body)) + body
    return _u16.pack(flags) + header[2:start] + table + rest


def _without_expiration(rest: bytes, flags: int) -> bytes:
    """The property list behind the headers, less its expiration."""
    pos = 0
    try:
        if flags & DELIVERY_MODE:
            pos += 1
        if flags & PRIORITY:
            pos += 1
        if flags & CORRELATION_ID:
            pos += 1 + rest[pos]
        if flags & REPLY_TO:
            pos += 1 + rest[pos]
        end = pos + 1 + rest[pos]
    except IndexError as error:
        raise FieldError("the properties are cut off") from error
    return rest[:pos] + rest[end:]


def validate_header(header: bytes) -> None:
    """Check that the properties are well-formed to their end. Raises FieldError.

    Nothing is decoded; what the values mean is for `delivery_hints`.
    """
    if len(header) == 3 and header[0] == DELIVERY_MODE >> 8 and not header[1]:
        return  # nothing but a delivery mode: most messages
    if not is_well_formed(header):
        Properties.decode(header)  # raises, and says what is wrong


SHORT_STRING, OCTET, TIMESTAMP = 0, 1, 8
SIZES = tuple(
    (flag, {"s": SHORT_STRING, "t": -1, "o": OCTET, "T": TIMESTAMP}[kind]) for flag, _, kind in FIELDS
)
"""Bytes of each property, in the order of the flags; a short string tells its own length, and -1 is the table."""


def is_well_formed(header: bytes) -> bool:
    """Whether `Properties.decode` takes these properties."""
    try:
        flags, pos = _flags(header)
        for flag, size in SIZES:
            if flags & flag:
                if size > 0:
                    pos += size
                elif size:
                    pos = table_end(header, pos)
                else:
                    pos += 1 + header[pos]
    except (IndexError, StructError, FieldError):
        return False
    return pos == len(header)

"""Field tables as RabbitMQ reads and writes them; typed values, bounded nesting, one error.

The type letters are RabbitMQ's, not the 0-9-1 specification's, wherever the two differ (rabbit_binary_parser.erl):
t bool, b int8, B uint8, s int16, u uint16, I int32, i uint32, l and L int64, f float, d double, D decimal,
S long string, A array, T timestamp, F table, V void, x byte array.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from struct import Struct
from struct import error as StructError
from typing import Any

__all__ = [
    "ENCODE_ERRORS",
    "ByteArray",
    "Decimal",
    "FieldError",
    "Float32",
    "Int8",
    "Int16",
    "Int64",
    "Timestamp",
    "UInt8",
    "UInt16",
    "UInt32",
    "decode_table",
    "encode_table",
    "join_table",
    "split_table",
    "table_end",
    "type_name",
]

MAX_DEPTH = 64  # tables within tables; deeper is nobody's data


class FieldError(ValueError):
    """Bytes that are no field table, or a value that fits in none. The only error this module raises."""


# What struct and the codecs raise for a number out of range and for text that is neither UTF-8 nor escaped bytes.
ENCODE_ERRORS = (StructError, OverflowError, UnicodeEncodeError)


class Int8(int):
    """`b`"""


class UInt8(int):
    """`B`"""


class Int16(int):
    """`s`"""


class UInt16(int):
    """`u`"""


class UInt32(int):
    """`i`"""


class Int64(int):
    """`l`; a plain int is `I` if it fits 32 bits, else `l`"""


class Timestamp(int):
    """`T`: seconds since the epoch, unsigned 64 bits; passed through, never validated"""


class Float32(float):
    """`f`"""


class ByteArray(bytes):
    """`x`"""


@dataclass(frozen=True, slots=True)
class Decimal:
    """`D`: value / 10**scale; the value is unsigned, as RabbitMQ reads it (the specification says signed)."""

    scale: int
    value: int


_u8, _u16, _u32, _u64 = Struct(">B"), Struct(">H"), Struct(">I"), Struct(">Q")
_i8, _i16, _i32, _i64 = Struct(">b"), Struct(">h"), Struct(">i"), Struct(">q")
_f32, _f64, _decimal = Struct(">f"), Struct(">d"), Struct(">BI")

Reader = Callable[[bytes, int, int], tuple[Any, int]]


def _text(raw: bytes) -> str | bytes:
    """`S` is bytes; what is UTF-8 is a str, the rest survives as bytes."""
    try:
        return raw.decode()
    except UnicodeDecodeError:
        return raw


def _sized(data: bytes, pos: int) -> tuple[bytes, int]:
    start = pos + 4
    end = start + _u32.unpack_from(data, pos)[0]
    if end > len(data):
        raise FieldError("a length reaches past the end")
    return data[start:end], end


def _read_number(packed: Struct, kind: Callable[[Any], Any]) -> Reader:
    size = packed.size

    def read(data: bytes, pos: int, depth: int) -> tuple[Any, int]:
        return kind(packed.unpack_from(data, pos)[0]), pos + size

    return read


def _read_string(data: bytes, pos: int, depth: int) -> tuple[Any, int]:
    raw, end = _sized(data, pos)
    return _text(raw), end


def _read_bytes(data: bytes, pos: int, depth: int) -> tuple[Any, int]:
    raw, end = _sized(data, pos)
    return ByteArray(raw), end


def _read_decimal(data: bytes, pos: int, depth: int) -> tuple[Any, int]:
    return Decimal(*_decimal.unpack_from(data, pos)), pos + 5


def _read_void(data: bytes, pos: int, depth: int) -> tuple[Any, int]:
    return None, pos


def _read_table(data: bytes, pos: int, depth: int) -> tuple[Any, int]:
    if depth > MAX_DEPTH:
        raise FieldError(f"tables nested deeper than {MAX_DEPTH}")
    body, end = _sized(data, pos)
    table: dict[str, Any] = {}
    at, stop = 0, len(body)
    while at < stop:
        key_end = at + 1 + body[at]
        key = body[at + 1 : key_end].decode("utf-8", "surrogateescape")
        value, at = _read_value(body, key_end, depth + 1)
        table.setdefault(key, value)  # of duplicates the first counts, as a key search in a list finds it
    return table, end


def _read_array(data: bytes, pos: int, depth: int) -> tuple[Any, int]:
    if depth > MAX_DEPTH:
        raise FieldError(f"arrays nested deeper than {MAX_DEPTH}")
    body, end = _sized(data, pos)
    values: list[Any] = []
    at, stop = 0, len(body)
    while at < stop:
        value, at = _read_value(body, at, depth + 1)
        values.append(value)
    return values, end


READERS: dict[int, Reader] = {
    ord("t"): _read_number(_u8, bool),
    ord("b"): _read_number(_i8, Int8),
    ord("B"): _read_number(_u8, UInt8),
    ord("s"): _read_number(_i16, Int16),
    ord("u"): _read_number(_u16, UInt16),
    ord("I"): _read_number(_i32, int),
    ord("i"): _read_number(_u32, UInt32),
    ord("l"): _read_number(_i64, Int64),
    ord("L"): _read_number(_i64, Int64),
    ord("f"): _read_number(_f32, Float32),
    ord("d"): _read_number(_f64, float),
    ord("T"): _read_number(_u64, Timestamp),
    ord("D"): _read_decimal,
    ord("S"): _read_string,
    ord("A"): _read_array,
    ord("F"): _read_table,
    ord("V"): _read_void,
    ord("x"): _read_bytes,
}


def _read_value(data: bytes, pos: int, depth: int) -> tuple[Any, int]:
    reader = READERS.get(data[pos])
    if reader is None:
        raise FieldError(f"unknown field type {chr(data[pos])!r}")
    return reader(data, pos + 1, depth)  # each reader sees to it that it stays within data


def decode_table(data: bytes, offset: int = 0) -> tuple[dict[str, Any], int]:
    """The table at offset (its 4-byte length first), and where it ends. Raise FieldError."""
    try:
        return _read_table(data, offset, 0)
    except (StructError, IndexError) as error:
        raise FieldError("the table is cut off") from error


# Bytes of a value behind its type letter, where that is fixed; strings, byte arrays, tables and arrays tell their own.
FIXED_SIZES = {
    ord(letter): size
    for letter, size in zip("tbBsuIilLfdTDV", (1, 1, 1, 2, 2, 4, 4, 8, 8, 4, 8, 8, 5, 0), strict=True)
}
LONG_STRING, BYTE_ARRAY, ARRAY, TABLE = b"SxAF"


def table_end(data: bytes, offset: int = 0) -> int:
    """Where the table at offset (its 4-byte length first) ends, after a look at its structure; no value is decoded.

    Raises FieldError: `decode_table` would, too.
    """
    try:
        return _skip_table(data, offset, 0)
    except (StructError, IndexError) as error:
        raise FieldError("the table is cut off") from error


def _skip_table(data: bytes, pos: int, depth: int) -> int:
    if depth > MAX_DEPTH:
        raise FieldError(f"tables nested deeper than {MAX_DEPTH}")
    end = _end_of_sized(data, pos)
    pos += 4
    while pos < end:
        pos = _skip_value(data, pos + 1 + data[pos], end, depth + 1)
    if pos != end:
        raise FieldError("the table is cut off")
    return end


def _skip_array(data: bytes, pos: int, depth: int) -> int:
    if depth > MAX_DEPTH:
        raise FieldError(f"arrays nested deeper than {MAX_DEPTH}")
    end = _end_of_sized(data, pos)
    pos += 4
    while pos < end:
        pos = _skip_value(data, pos, end, depth + 1)
    if pos != end:
        raise FieldError("the table is cut off")
    return end


def _skip_value(data: bytes, pos: int, stop: int, depth: int) -> int:
    """Where the value at pos ends; stop: where what it stands in does."""
    if pos >= stop:
        raise FieldError("the table is cut off")
    letter = data[pos]
    size = FIXED_SIZES.get(letter)
    if size is not None:
        return pos + 1 + size
    if letter in (LONG_STRING, BYTE_ARRAY):
        return pos + 5 + int(_u32.unpack_from(data, pos + 1)[0])
    if letter == TABLE:
        return _skip_table(data, pos + 1, depth)
    if letter == ARRAY:
        return _skip_array(data, pos + 1, depth)
    raise FieldError(f"unknown field type {chr(letter)!r}")


def _end_of_sized(data: bytes, pos: int) -> int:
    end = pos + 4 + int(_u32.unpack_from(data, pos)[0])
    if end > len(data):
        raise FieldError("the table is cut off")
    return end


def _short(key: str) -> bytes:
    if not isinstance(key, str):
        raise FieldError(f"a key is a {type(key).__name__}, not a string")
    raw = key.encode("utf-8", "surrogateescape")
    if len(raw) > 255:
        raise FieldError("a key is longer than 255 bytes")
    return bytes((len(raw),)) + raw


# From exact type to (letter, packed form).
NUMBERS: dict[type, tuple[bytes, Struct]] = {
    bool: (b"t", _u8),
    Int8: (b"b", _i8),
    UInt8: (b"B", _u8),
    Int16: (b"s", _i16),
    UInt16: (b"u", _u16),
    UInt32: (b"i", _u32),
    Int64: (b"l", _i64),
    Timestamp: (b"T", _u64),
    Float32: (b"f", _f32),
    float: (b"d", _f64),
}


def _encode_value(value: Any, depth: int) -> bytes:
    number = NUMBERS.get(type(value))
    if number is not None:
        return number[0] + number[1].pack(value)
    if isinstance(value, str):
        raw = value.encode("utf-8", "surrogateescape")
        return b"S" + _u32.pack(len(raw)) + raw
    if isinstance(value, int):
        return b"I" + _i32.pack(value) if -(1 << 31) <= value < 1 << 31 else b"l" + _i64.pack(value)
    if value is None:
        return b"V"
    if isinstance(value, ByteArray):
        return b"x" + _u32.pack(len(value)) + value
    if isinstance(value, bytes):
        return b"S" + _u32.pack(len(value)) + value
    if isinstance(value, Decimal):
        return b"D" + _decimal.pack(value.scale, value.value)
    if depth > MAX_DEPTH:
        raise FieldError(f"values nested deeper than {MAX_DEPTH}")
    if isinstance(value, Mapping):
        return b"F" + _encode_table(value, depth)
    if isinstance(value, (list, tuple)):
        body = b"".join([_encode_value(item, depth + 1) for item in value])
        return b"A" + _u32.pack(len(body)) + body
    raise FieldError(f"a {type(value).__name__} has no field type")


def _encode_table(table: Mapping[str, Any], depth: int) -> bytes:
    body = b"".join([_short(key) + _encode_value(value, depth + 1) for key, value in table.items()])
    return _u32.pack(len(body)) + body


def encode_table(table: Mapping[str, Any]) -> bytes:
    """With the 4-byte length. Raise FieldError for a value that has no type or does not fit."""
    try:
        return _encode_table(table, 0)
    except ENCODE_ERRORS as error:
        raise FieldError(_complaint(table)) from error


def _complaint(table: Mapping[str, Any]) -> str:
    """What is wrong with a table that cannot be encoded, in a sentence for the client."""
    for key, value in table.items():
        try:
            _short(key)
        except ENCODE_ERRORS:
            return f"the key {key!a} is not text that UTF-8 can write"
        try:
            _encode_value(value, 1)
        except ENCODE_ERRORS:
            return (
                f"the value of '{key}' is not text that UTF-8 can write, or not a number of at most 64 bits"
            )
    raise AssertionError("the table can be encoded")


def split_table(body: bytes) -> list[tuple[bytes, bytes]]:
    """A table's body (without its length) as (key, type letter and value) pieces: for edits that leave the rest as
    it is to the byte, in order, duplicates included. Raise FieldError."""
    pieces: list[tuple[bytes, bytes]] = []
    at, stop = 0, len(body)
    try:
        while at < stop:
            key_end = at + 1 + body[at]
            _, end = _read_value(body, key_end, 1)
            pieces.append((body[at + 1 : key_end], body[key_end:end]))
            at = end
    except (StructError, IndexError) as error:
        raise FieldError("the table is cut off") from error
    return pieces


def join_table(pieces: list[tuple[bytes, bytes]]) -> bytes:
    """The inverse of `split_table`. Keys are at most 255 bytes, as `split_table` gives them."""
    return b"".join([bytes((len(key),)) + key + value for key, value in pieces])


NAMES: dict[type, str] = {
    bool: "bool",
    Int8: "byte",
    UInt8: "unsignedbyte",
    Int16: "short",
    UInt16: "unsignedshort",
    UInt32: "unsignedint",
    Int64: "long",
    Timestamp: "timestamp",
    Float32: "float",
    float: "double",
    ByteArray: "binary",
    Decimal: "decimal",
}


def type_name(value: Any) -> str:
    """RabbitMQ's name of a value's type, as its error texts and its API have it."""
    name = NAMES.get(type(value))
    if name is not None:
        return name
    if value is None:
        return "void"
    if isinstance(value, (str, bytes)):
        return "longstr"
    if isinstance(value, int):
        return "signedint" if -(1 << 31) <= value < 1 << 31 else "long"
    return "table" if isinstance(value, Mapping) else "array"

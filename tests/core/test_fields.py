"""Field tables: RabbitMQ's letters to the octet, pass-through, and the one error."""

from __future__ import annotations

import datetime
import decimal
import math
import struct
from typing import Any

import pamqp.encode
import pika.data
import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.field_values import tables, typed

from leveret.core.fields import (
    MAX_DEPTH,
    ByteArray,
    Decimal,
    FieldError,
    Float32,
    Int8,
    Int16,
    Int64,
    Timestamp,
    UInt8,
    UInt16,
    UInt32,
    decode_table,
    encode_table,
    join_table,
    split_table,
    type_name,
)

# octets, value, RabbitMQ's name of the type
LETTERS: list[tuple[bytes, Any, str]] = [
    (b"t\x01", True, "bool"),
    (b"t\x00", False, "bool"),
    (b"b\xff", Int8(-1), "byte"),
    (b"B\xff", UInt8(255), "unsignedbyte"),
    (b"s\xff\xfe", Int16(-2), "short"),
    (b"u\xff\xfe", UInt16(65534), "unsignedshort"),
    (b"I\xff\xff\xff\xfd", -3, "signedint"),
    (b"i\xff\xff\xff\xfd", UInt32(4294967293), "unsignedint"),
    (b"l\xff\xff\xff\xff\xff\xff\xff\xfc", Int64(-4), "long"),
    (b"f\x3f\xc0\x00\x00", Float32(1.5), "float"),
    (b"d\x3f\xf8\x00\x00\x00\x00\x00\x00", 1.5, "double"),
    (b"D\x02\xff\xff\xff\xff", Decimal(2, 4294967295), "decimal"),
    (b"S\x00\x00\x00\x02hi", "hi", "longstr"),
    (b"S\x00\x00\x00\x02\xff\xfe", b"\xff\xfe", "longstr"),
    (b"x\x00\x00\x00\x02hi", ByteArray(b"hi"), "binary"),
    (b"T\xff\xff\xff\xff\xff\xff\xff\xff", Timestamp(2**64 - 1), "timestamp"),
    (b"A\x00\x00\x00\x04t\x01b\x05", [True, Int8(5)], "array"),
    (b"F\x00\x00\x00\x04\x01kt\x01", {"k": True}, "table"),
    (b"V", None, "void"),
]


def table_of(*pieces: tuple[bytes, bytes]) -> bytes:
    body = b"".join(bytes((len(key),)) + key + value for key, value in pieces)
    return struct.pack(">I", len(body)) + body


@pytest.mark.parametrize(("octets", "value", "name"), LETTERS, ids=[repr(case[0][:3]) for case in LETTERS])
def test_every_letter(octets: bytes, value: Any, name: str) -> None:
    data = table_of((b"k", octets))
    table, end = decode_table(data)
    assert typed(table) == typed({"k": value})
    assert end == len(data)
    assert encode_table({"k": value}) == data
    assert type_name(table["k"]) == name


def test_capital_l_is_signed_and_sent_as_l() -> None:
    table, _ = decode_table(table_of((b"k", b"L" + b"\xff" * 8)))
    assert typed(table["k"]) == (Int64, -1)
    assert encode_table(table) == table_of((b"k", b"l" + b"\xff" * 8))


def test_any_octet_but_zero_is_true() -> None:
    assert decode_table(table_of((b"k", b"t\x07")))[0] == {"k": True}


@pytest.mark.parametrize(
    ("value", "letter"), [(0, b"I"), (2**31 - 1, b"I"), (-(2**31), b"I"), (2**31, b"l"), (-(2**63), b"l")]
)
def test_the_letter_of_a_plain_int(value: int, letter: bytes) -> None:
    data = encode_table({"": value})
    assert data[5:6] == letter
    assert decode_table(data)[0] == {"": value}
    assert type_name(value) == ("signedint" if letter == b"I" else "long")


def test_the_first_of_duplicates_counts() -> None:
    assert decode_table(table_of((b"a", b"b\x01"), (b"b", b"V"), (b"a", b"b\x02")))[0] == {"a": 1, "b": None}


def test_keys_that_are_not_utf8_survive() -> None:
    data = table_of((b"\xff\x00k", b"V"))
    assert encode_table(decode_table(data)[0]) == data


def test_a_table_within_other_bytes() -> None:
    data = table_of((b"a", b"t\x01"))
    assert decode_table(b"xyz" + data + b"more", 3) == ({"a": True}, 3 + len(data))


def test_nan_and_infinities_pass() -> None:
    table = decode_table(encode_table({"a": math.nan, "b": math.inf, "c": Float32(-math.inf)}))[0]
    assert math.isnan(table["a"])
    assert (table["b"], table["c"]) == (math.inf, -math.inf)


@given(tables)
def test_round_trip(table: dict[str, Any]) -> None:
    data = encode_table(table)
    decoded, end = decode_table(data)
    assert end == len(data)
    assert typed(decoded) == typed(table)
    assert list(decoded) == list(table)


# What is refused

BROKEN = {
    "no length": b"\x00\x00",
    "shorter than its length": b"\x00\x00\x00\x05\x01k",
    "U, the specification's int16": table_of((b"k", b"U\x00\x01")),
    "unknown letter": table_of((b"k", b"?")),
    "no value": table_of((b"k", b"")),
    "short int": table_of((b"k", b"I\x00")),
    "short string": table_of((b"k", b"S\x00\x00\xff\xffhi")),
    "key over the end": b"\x00\x00\x00\x02\xffk",
    "short decimal": table_of((b"k", b"D\x01\x00")),
    "value over the end of its array": table_of((b"k", b"A\x00\x00\x00\x02I\x00\x00\x00\x01")),
    "value over the end of its table": table_of((b"k", b"F\x00\x00\x00\x03\x01aI\x00\x00\x00\x01")),
}


@pytest.mark.parametrize("data", BROKEN.values(), ids=BROKEN)
def test_broken_tables(data: bytes) -> None:
    with pytest.raises(FieldError):
        decode_table(data)
    if len(data) >= 4:
        with pytest.raises(FieldError):
            split_table(data[4:])


@pytest.mark.parametrize("octets", [b"A", b"F"])
def test_depth_is_bounded(octets: bytes) -> None:
    value = b"V"
    for _ in range(2_000):
        inner = value if octets == b"A" else b"\x00" + value
        value = octets + struct.pack(">I", len(inner)) + inner
    with pytest.raises(FieldError, match="deeper"):
        decode_table(table_of((b"k", value)))


@pytest.mark.parametrize("wrap", [lambda value: [value], lambda value: {"k": value}], ids=["array", "table"])
def test_what_can_be_encoded_can_be_decoded_at_any_depth(wrap: Any) -> None:
    value: Any = True
    for _ in range(MAX_DEPTH):
        value = wrap(value)
    assert decode_table(encode_table({"k": value}))[0] == {"k": value}
    with pytest.raises(FieldError, match="deeper"):
        encode_table({"k": wrap(value)})


@pytest.mark.parametrize(
    "value",
    [
        2**63, -(2**63) - 1, Int8(128), UInt8(-1), Int16(2**15), UInt16(2**16), UInt32(-1), Int64(2**63),
        Timestamp(-1), Float32(1e300), Decimal(256, 0), Decimal(0, -1), "\ud800", ..., {1, 2}, 1j,
        {5: "key"}, {"k" * 256: None}, {"\ud800": None}, [[...]],
    ],
    ids=repr,
)  # fmt: skip
def test_values_that_do_not_fit(value: Any) -> None:
    with pytest.raises(FieldError):
        encode_table({"k": value})


# Byte-exact editing


def test_split_and_join_keep_order_duplicates_and_octets() -> None:
    pieces = [(b"z", b"L" + b"\xff" * 8), (b"\xff", b"t\x09"), (b"z", b"V"), (b"", b"S\x00\x00\x00\x01\xfe")]
    body = table_of(*pieces)[4:]
    assert split_table(body) == pieces
    assert join_table(pieces) == body
    assert split_table(b"") == []


@given(tables)
def test_join_is_the_inverse_of_split(table: dict[str, Any]) -> None:
    body = encode_table(table)[4:]
    assert join_table(split_table(body)) == body


# Others' encoders, for the letters they share with RabbitMQ

shared_by_all = st.recursive(
    st.one_of(st.none(), st.booleans(), st.text(st.characters(exclude_categories=["Cs"]), max_size=20)),
    lambda inner: st.one_of(
        st.lists(inner, max_size=4), st.dictionaries(st.text("abcdé", max_size=5), inner, max_size=4)
    ),
    max_leaves=10,
)


@given(
    st.dictionaries(
        st.text("xyz", max_size=5), st.one_of(shared_by_all, st.integers(-(2**63), 2**63 - 1)), max_size=5
    )
)
def test_as_pika_encodes(table: dict[str, Any]) -> None:
    pieces: list[bytes] = []
    pika.data.encode_table(pieces, table)
    assert encode_table(table) == b"".join(pieces)
    assert pika.data.decode_table(encode_table(table), 0)[0] == table


def test_as_pika_encodes_typed_values() -> None:
    pieces: list[bytes] = []
    when = datetime.datetime(2026, 1, 2, 3, 4, 5, tzinfo=datetime.UTC)
    theirs = {"T": when, "D": decimal.Decimal("12.34"), "x": b"\x00\xff"}
    pika.data.encode_table(pieces, theirs)
    ours = {"T": Timestamp(int(when.timestamp())), "D": Decimal(2, 1234), "x": ByteArray(b"\x00\xff")}
    assert encode_table(ours) == b"".join(pieces)


def as_pamqp_chooses(value: Any) -> Any:
    """Keys sorted; the smallest of its letters that holds an integer; floats are single."""
    if isinstance(value, dict):
        return {key: as_pamqp_chooses(item) for key, item in sorted(value.items())}
    if isinstance(value, list):
        return [as_pamqp_chooses(item) for item in value]
    if isinstance(value, float):
        return Float32(value)
    if type(value) is not int:
        return value
    for kind, low, high in (
        (Int8, -(2**7), 2**7), (Int16, -(2**15), 2**15), (UInt16, 0, 2**16), (int, -(2**31), 2**31), (UInt32, 0, 2**32),
    ):  # fmt: skip
        if low <= value < high:
            return kind(value)
    return Int64(value)


@given(
    st.dictionaries(
        st.text("xyz", max_size=5),
        st.one_of(
            shared_by_all,
            st.integers(-(2**63), 2**63 - 1),
            st.floats(allow_nan=False, width=32, allow_infinity=False),
        ),
        max_size=5,
    )
)
def test_as_pamqp_encodes(table: dict[str, Any]) -> None:
    theirs = pamqp.encode.field_table(table)
    assert encode_table(as_pamqp_chooses(table)) == theirs
    assert decode_table(theirs)[0] == table

"""Basic properties: decoded, encoded, read and edited without decoding."""

from __future__ import annotations

from typing import Any

import pika
import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.amqp_wire import decode_properties, encode_properties
from support.field_values import short_strings, tables, typed

from leveret.core.errors import InvalidArgument
from leveret.core.fields import FieldError, Int64, encode_table
from leveret.core.properties import (
    FIELDS,
    Properties,
    delivery_hints,
    is_well_formed,
    raw_headers,
    validate_header,
    with_headers,
)

EVERYTHING: dict[str, Any] = {
    "content_type": "text/plain", "content_encoding": "gzip", "headers": {"a": 1, "b": [True, None]},
    "delivery_mode": 2, "priority": 7, "correlation_id": "c", "reply_to": "r", "expiration": "1500",
    "message_id": "m", "timestamp": 1700000000, "type": "t", "user_id": "guest", "app_id": "a", "cluster_id": "x",
}  # fmt: skip
NAMES = [name for _, name, _ in FIELDS]

optional = {
    "s": st.none() | short_strings,
    "t": st.none() | tables,
    "o": st.none() | st.integers(0, 255),
    "T": st.none() | st.integers(0, 2**64 - 1),
}
# Expirations are numbers here: what they must be is another matter.
any_properties = st.builds(
    Properties,
    **{
        name: optional[kind] if name != "expiration" else st.none() | st.integers(0, 10**11).map(str)
        for _, name, kind in FIELDS
    },
)


def as_dict(properties: Properties) -> dict[str, Any]:
    return {name: value for name in NAMES if (value := getattr(properties, name)) is not None}


def test_all_fourteen() -> None:
    # cluster_id, too
    header = Properties(**EVERYTHING).encode()
    assert header == encode_properties(EVERYTHING)
    assert as_dict(Properties.decode(header)) == EVERYTHING


@pytest.mark.parametrize("name", NAMES)
def test_each_alone(name: str) -> None:
    header = encode_properties({name: EVERYTHING[name]})
    assert as_dict(Properties.decode(header)) == {name: EVERYTHING[name]}
    assert Properties(**{name: EVERYTHING[name]}).encode() == header


@pytest.mark.parametrize(
    "empty",
    [{"content_type": ""}, {"headers": {}}, {"priority": 0}, {"delivery_mode": 0}, {"timestamp": 0}, {}],
)
def test_empty_is_not_absent(empty: dict[str, Any]) -> None:
    assert as_dict(Properties.decode(Properties(**empty).encode())) == empty


def test_strings_that_are_not_utf8_survive() -> None:
    header = b"\x80\x00\x03\xff\x00a"
    assert Properties.decode(header).encode() == header


def test_as_pika_encodes() -> None:
    theirs = pika.BasicProperties(**EVERYTHING)
    assert b"".join(theirs.encode()) == Properties(**EVERYTHING).encode()


@given(any_properties)
def test_round_trip(properties: Properties) -> None:
    header = properties.encode()
    decoded = Properties.decode(header)
    assert typed(as_dict(decoded)) == typed(as_dict(properties))
    validate_header(header)


@given(any_properties)
def test_hints_agree_with_decoding(properties: Properties) -> None:
    expiration = None if properties.expiration is None else int(properties.expiration)
    expected = (properties.delivery_mode == 2, properties.priority, expiration)
    assert delivery_hints(properties.encode()) == expected


@pytest.mark.parametrize("mode", [0, 1, 3, 255])
def test_any_delivery_mode_but_two_is_transient(mode: int) -> None:
    assert delivery_hints(Properties(delivery_mode=mode).encode()) == (False, None, None)


def test_further_flag_words_are_read_over() -> None:
    # AMQP 4.2.6.1: bit 0 says that another word follows
    header = b"\x90\x01\x00\x01\x00\x00" + b"\x01t\x02"
    assert as_dict(Properties.decode(header)) == {"content_type": "t", "delivery_mode": 2}
    assert delivery_hints(header) == (True, None, None)
    assert raw_headers(header) is None
    assert (
        with_headers(header, b"\x01kV")
        == b"\xb0\x01\x00\x01\x00\x00" + b"\x01t" + b"\0\0\0\x03\x01kV" + b"\x02"
    )


# Expirations

REFUSED = {
    "": "no_integer",
    "s": "no_integer",
    " 5": "no_integer",
    "+": "no_integer",
    "-": "no_integer",
    "é": "no_integer",
    "٣": "no_integer",
    "10s": '{leftover_string,"s"}',
    "1.5": '{leftover_string,".5"}',
    "5 ": '{leftover_string," "}',
    "0x10": '{leftover_string,"x10"}',
    '1"\\': '{leftover_string,"\\"\\\\"}',
    "-1": "{value_negative,-1}",
    "315360000001": "{value_too_large,315360000001}",
}


@pytest.mark.parametrize("expiration", REFUSED)
def test_refused_expirations(expiration: str) -> None:
    # the reasons as RabbitMQ 3.10 words them
    header = Properties(expiration=expiration).encode()
    with pytest.raises(InvalidArgument) as caught:
        delivery_hints(header)
    assert str(caught.value) == f"invalid expiration '{expiration}': {REFUSED[expiration]}"
    validate_header(header)  # well-formed all the same


@pytest.mark.parametrize(
    ("expiration", "ms"), [("0", 0), ("007", 7), ("+5", 5), ("-0", 0), ("315360000000", 315360000000)]
)
def test_accepted_expirations(expiration: str, ms: int) -> None:
    assert delivery_hints(Properties(expiration=expiration).encode())[2] == ms


# What is refused

BROKEN = {
    "nothing": b"",
    "half a flag word": b"\x80",
    "no string": b"\x80\x00",
    "short string cut off": b"\x80\x00\x05abc",
    "table cut off": b"\x20\x00\x00\x00\x00\x09",
    "table broken": b"\x20\x00\x00\x00\x00\x04\x01k??",
    "no octet": b"\x10\x00",
    "short timestamp": b"\x00\x40\x00\x00",
    "no second flag word": b"\x10\x01",
    "octets left over": b"\x10\x00\x02zz",
    "octets left over, no flags": b"\x00\x00z",
    "flags of a second word": b"\x10\x01\x80\x00\x02\x01a",
}


@pytest.mark.parametrize("header", BROKEN.values(), ids=BROKEN)
def test_broken_headers(header: bytes) -> None:
    with pytest.raises(FieldError):
        validate_header(header)
    with pytest.raises(FieldError):
        Properties.decode(header)


def test_a_cut_expiration_is_no_expiration() -> None:
    with pytest.raises(FieldError):
        delivery_hints(b"\x01\x00\x0512")


@pytest.mark.parametrize(
    "header", [b"", b"\x80\x00", b"\x20\x00\x00", b"\x20\x00\x00\x00\x00\x09", b"\x00\x01"]
)
def test_broken_headers_are_not_edited(header: bytes) -> None:
    with pytest.raises(FieldError):
        raw_headers(header)
    with pytest.raises(FieldError):
        with_headers(header, None)


@pytest.mark.parametrize(
    "properties",
    [
        {"content_type": "x" * 256}, {"app_id": "é" * 128}, {"app_id": "\ud800"}, {"priority": 256},
        {"delivery_mode": -1}, {"timestamp": -1}, {"timestamp": 2**64}, {"headers": {"k": ...}},
    ],
    ids=str,
)  # fmt: skip
def test_values_that_do_not_fit(properties: dict[str, Any]) -> None:
    with pytest.raises(FieldError):
        Properties(**properties).encode()


# Editing

bodies = st.none() | tables.map(lambda table: encode_table(table)[4:])


@given(any_properties, bodies, st.booleans())
def test_other_headers_and_nothing_else(properties: Properties, body: bytes | None, drop: bool) -> None:
    header = properties.encode()
    edited = with_headers(header, body, drop_expiration=drop)
    assert raw_headers(edited) == body
    expected = as_dict(properties)
    expected.pop("headers", None)
    if drop:
        expected.pop("expiration", None)
    assert {
        key: value for key, value in as_dict(Properties.decode(edited)).items() if key != "headers"
    } == expected
    # The same as was there gives the same.
    assert with_headers(header, raw_headers(header)) == header


def test_headers_as_they_were_to_the_octet() -> None:
    body = b"\x01zL" + b"\xff" * 8 + b"\x01zV" + b"\x01\xfft\x07"
    header = with_headers(Properties(**EVERYTHING).encode(), body, drop_expiration=True)
    assert raw_headers(header) == body
    assert decode_properties(with_headers(header, None)) == {
        name: value for name, value in EVERYTHING.items() if name not in ("headers", "expiration")
    }


def test_a_header_of_another_width_stays_that_wide() -> None:
    header = Properties(headers={"n": Int64(5)}).encode()
    assert Properties.decode(header).encode() == header


HEADERS = st.dictionaries(
    st.text(max_size=5),
    st.recursive(
        st.none() | st.booleans() | st.integers(-(1 << 31), 1 << 62) | st.floats(allow_nan=False) | st.text(max_size=5),
        lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3),
        max_leaves=8,
    ),
    max_size=4,
)  # fmt: skip


@given(
    HEADERS, st.text(max_size=4), st.lists(st.tuples(st.integers(0, 200), st.integers(0, 255)), max_size=2), st.integers(-3, 3)
)  # fmt: skip
def test_a_look_at_the_form_agrees_with_decoding(
    headers: dict[str, Any], text: str, changes: list[tuple[int, int]], cut: int
) -> None:
    data = bytearray(Properties(content_type=text, headers=headers, timestamp=1, app_id=text).encode())
    for at, value in changes:
        data[at % len(data)] = value
    header = bytes(data[:cut] if cut < 0 else data + b"\0" * cut)
    try:
        Properties.decode(header)
    except FieldError:
        assert not is_well_formed(header)
    else:
        assert is_well_formed(header)

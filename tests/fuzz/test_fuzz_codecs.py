"""The law of the codecs: whatever the octets, they are understood or they raise the one error, and nothing else.

What is understood must hold: it encodes again, and reads the same then.
"""

from __future__ import annotations

import contextlib

import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.field_values import damaged, tables, typed

from leveret.adapters.amqp.methods import METHODS, MethodError, decode_method, encode_method
from leveret.core.errors import InvalidArgument
from leveret.core.fields import FieldError, decode_table, encode_table, join_table, split_table
from leveret.core.properties import Properties, delivery_hints, raw_headers, validate_header, with_headers

valid_tables = tables.map(encode_table)
valid_headers = st.builds(
    lambda table, rest: with_headers(rest, table[4:]),
    valid_tables,
    st.sampled_from(
        [
            b"\x00\x00",
            b"\x10\x00\x02",
            b"\x10\x01\x00\x00\x02",
            Properties(content_type="a/b", content_encoding="gzip", delivery_mode=2, priority=3).encode(),
            Properties(correlation_id="c", reply_to="r", expiration="60000", message_id="m").encode(),
            Properties(timestamp=1, type="t", user_id="u", app_id="a", cluster_id="c").encode(),
        ]
    ),
)
valid_methods = st.builds(
    lambda kind, table: encode_method(kind(**{name: table for name, what in kind.kinds if what == "table"})),
    st.sampled_from(sorted(METHODS.values(), key=lambda kind: kind.id)),
    tables,
)
method_ids = st.sampled_from([encode_method(kind())[:4] for kind in METHODS.values()])


def nan_proof(value: object) -> str:
    """Not a number is not equal to itself, but prints alike."""
    return repr(typed(value))


@given(st.one_of(st.binary(max_size=64), damaged(valid_tables)))
def test_tables(data: bytes) -> None:
    try:
        table, end = decode_table(data)
    except FieldError:
        return
    assert end <= len(data)
    again = decode_table(encode_table(table))[0]
    assert nan_proof(again) == nan_proof(table)


@given(st.one_of(st.binary(max_size=64), damaged(valid_tables).map(lambda data: data[4:])))
def test_split_tables(body: bytes) -> None:
    """Taken apart if and only if it can be decoded; put together to the octet."""
    data = len(body).to_bytes(4, "big") + body
    try:
        pieces = split_table(body)
    except FieldError:
        with pytest.raises(FieldError):
            decode_table(data)
        return
    assert join_table(pieces) == body
    assert len(decode_table(data)[0]) <= len(pieces)


@given(st.one_of(st.binary(max_size=64), damaged(valid_headers)))
def test_headers(header: bytes) -> None:
    try:
        validate_header(header)
    except FieldError:
        # Not for use; but whoever uses it all the same gets no other error.
        with contextlib.suppress(FieldError, InvalidArgument):
            delivery_hints(header)
        with contextlib.suppress(FieldError):
            raw_headers(header)
        with contextlib.suppress(FieldError):
            with_headers(header, b"", drop_expiration=True)
        return
    properties = Properties.decode(header)
    assert nan_proof(Properties.decode(properties.encode())) == nan_proof(properties)
    with contextlib.suppress(InvalidArgument):
        is_persistent, priority, _ = delivery_hints(header)
        assert (is_persistent, priority) == (properties.delivery_mode == 2, properties.priority)
    assert with_headers(header, raw_headers(header)) == header
    edited = Properties.decode(with_headers(header, b"\x01kV", drop_expiration=True))
    assert (edited.headers, edited.expiration) == ({"k": None}, None)
    assert (edited.app_id, edited.cluster_id) == (properties.app_id, properties.cluster_id)


@given(
    st.one_of(
        st.binary(max_size=64),
        st.builds(bytes.__add__, method_ids, st.binary(max_size=64)),
        damaged(valid_methods),
    )
)
def test_methods(payload: bytes) -> None:
    try:
        method = decode_method(payload)
    except MethodError:
        return
    assert nan_proof(decode_method(encode_method(method))) == nan_proof(method)

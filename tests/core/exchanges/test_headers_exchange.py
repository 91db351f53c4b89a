"""The headers exchange: cases checked against the reference (3.10.8), and a naive matcher to agree with."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support.routes import Place, bound, message, names

from leveret.core.bindings import canonical
from leveret.core.errors import InvalidArgument
from leveret.core.exchange import Binding
from leveret.core.exchanges.headers import HeadersExchange
from leveret.core.fields import ByteArray, Int64, Timestamp


def matches(arguments: dict[str, Any], headers: dict[str, Any] | None) -> bool:
    """The definition (rabbit_exchange_type_headers.erl)."""
    mode = arguments.get("x-match", "all")
    headers = headers or {}
    asked = {
        key: value
        for key, value in arguments.items()
        if key != "x-match" and (mode.endswith("with-x") or not key.startswith("x-"))
    }
    fits = [
        key in headers
        and (value is None or (headers[key] is not None and canonical(value) == canonical(headers[key])))
        for key, value in asked.items()
    ]
    return all(fits) if mode.startswith("all") else any(fits)


CASES: list[tuple[dict[str, Any], dict[str, Any] | None, bool]] = [
    ({}, {}, True), ({}, None, True), ({}, {"a": 1}, True), ({"x-match": "all"}, None, True),
    ({"x-match": "any"}, {}, False), ({"x-match": "any"}, {"a": 1}, False),
    ({"a": None}, {"a": 1}, True), ({"a": None}, {"a": None}, True), ({"a": 1}, {"a": None}, False),
    ({"a": None}, {}, False), ({"a": None}, {"b": 1}, False), ({"x-match": "any", "a": None}, {"a": 1}, True),
    ({"x-match": "any", "a": None, "b": 2}, {"c": 1}, False), ({"x-match": "any", "a": 1, "b": 2}, {"b": 2}, True),
    ({"a": 1}, {"a": Int64(1)}, True), ({"a": 1}, {"a": 2**40}, False), ({"a": 1}, {"a": True}, False),
    ({"a": "1"}, {"a": 1}, False), ({"a": "x"}, {"a": ByteArray(b"x")}, True), ({"a": True}, {"a": "true"}, False),
    ({"a": Timestamp(5)}, {"a": 5}, True), ({"a": 1, "b": 2}, {"a": 1}, False),
    ({"a": 1, "b": 2}, {"a": 1, "b": 2, "c": 3}, True),
    ({"x-a": 1}, {}, True), ({"x-a": 1, "x-match": "all"}, {"x-a": 2}, True),
    ({"x-a": 1, "x-match": "all-with-x"}, {}, False), ({"x-a": 1, "x-match": "all-with-x"}, {"x-a": 1}, True),
    ({"x-a": 1, "x-match": "any-with-x"}, {"x-a": 1}, True), ({"x-a": 1, "x-match": "any"}, {"x-a": 1}, False),
    ({"x-match": "all-with-x"}, {}, True), ({"x-match": "any-with-x"}, {"x-match": "any-with-x"}, False),
    ({"a": [1, 2**40]}, {"a": [1, 2**40]}, True), ({"a": [1]}, {"a": [2]}, False), ({"a": []}, {"a": []}, True),
    ({"a": {"b": 1}}, {"a": {"b": 1}}, True), ({"a": b"\xff"}, {"a": b"\xff"}, True),
]  # fmt: skip


@pytest.mark.parametrize(("arguments", "headers", "is_match"), CASES)
def test_as_the_reference(arguments: dict[str, Any], headers: dict[str, Any] | None, is_match: bool) -> None:
    exchange = HeadersExchange({})
    bound(exchange, ("q", "the key does not matter", arguments))
    assert names(exchange, message("k", headers)) == (["q"] if is_match else [])
    assert matches(arguments, headers) is is_match


@pytest.mark.parametrize(
    ("mode", "text"),
    [
        ("foo", 'Invalid x-match field value <<"foo">>; expected all, any, all-with-x, or any-with-x'),
        ('fo"o', 'Invalid x-match field value <<"fo\\"o">>; expected all, any, all-with-x, or any-with-x'),
        ("", "Invalid x-match field value <<>>; expected all, any, all-with-x, or any-with-x"),
        (23, "Invalid x-match field type signedint (value 23); expected longstr"),
        (True, "Invalid x-match field type bool (value true); expected longstr"),
        (None, "Invalid x-match field type void (value undefined); expected longstr"),
        ([1], "Invalid x-match field type array (value [{signedint,1}]); expected longstr"),
        ({"a": 1}, 'Invalid x-match field type table (value [{<<"a">>,signedint,1}]); expected longstr'),
        (ByteArray(b"all"), 'Invalid x-match field type binary (value <<"all">>); expected longstr'),
    ],
)
def test_a_bad_x_match_is_refused_in_the_words_of_the_reference(mode: object, text: str) -> None:
    with pytest.raises(InvalidArgument) as refusal:
        HeadersExchange({}).validate(Binding(Place("q"), "", {"x-match": mode}))
    assert str(refusal.value) == text


names_of_headers = st.sampled_from(["a", "b", "x-c", "d"])
values = st.sampled_from([None, 1, True, 1.0, "1", "", [1], {"n": None}, Int64(1), 2])
tables = st.dictionaries(names_of_headers, values, max_size=4)
modes = st.sampled_from(
    [{}, {"x-match": "all"}, {"x-match": "any"}, {"x-match": "all-with-x"}, {"x-match": "any-with-x"}]
)
arguments = st.tuples(modes, tables).map(lambda parts: {**parts[1], **parts[0]})


@given(st.lists(arguments, max_size=10), st.lists(st.none() | tables, min_size=1, max_size=5), st.data())
@settings(deadline=None)
def test_agrees_with_the_naive_matcher_while_bindings_come_and_go(
    bound_arguments: list[dict[str, Any]], published: list[dict[str, Any] | None], data: st.DataObject
) -> None:
    exchange = HeadersExchange({})
    bindings = [Binding(Place(f"q{index}"), "", one) for index, one in enumerate(bound_arguments)]
    for binding in bindings:
        assert exchange.bind(binding)
    for _ in range(2):
        for headers in published:
            expected = sorted(
                one.destination.name for one in bindings if matches(dict(one.arguments), headers)
            )
            assert names(exchange, message("", headers)) == expected
        for binding in data.draw(st.lists(st.sampled_from(bindings), unique_by=id)) if bindings else []:
            assert exchange.unbind(binding)
            bindings.remove(binding)
    for binding in bindings:
        assert exchange.unbind(binding)
    assert not exchange._patterns
    assert not exchange._by_handle


def test_a_message_looks_only_at_bindings_that_ask_for_its_headers() -> None:
    exchange = HeadersExchange({})
    bound(exchange, *[(f"q{index}", "", {"device": index, "kind": "event"}) for index in range(1000)])
    assert names(exchange, message("", {"device": 7, "kind": "event"})) == ["q7"]
    assert max(len(patterns) for patterns in exchange._by_handle.values()) <= 2

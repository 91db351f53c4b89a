"""Direct and fanout exchanges, and the identity of bindings."""

from __future__ import annotations

import pytest
from support.routes import Place, bound, message, names

from leveret.core.bindings import binding_identity, canonical
from leveret.core.exchange import Binding
from leveret.core.exchanges.direct import DirectExchange
from leveret.core.exchanges.fanout import FanoutExchange
from leveret.core.fields import ByteArray, Decimal, Float32, Int64, Timestamp, UInt8


def test_direct_routes_by_the_exact_key() -> None:
    exchange = DirectExchange({})
    bound(exchange, ("a", "k"), ("b", "k"), ("c", "other"), ("d", ""), ("e", "#"))
    assert names(exchange, message("k")) == ["a", "b"]
    assert names(exchange, message("")) == ["d"]
    assert names(exchange, message("K")) == []
    assert names(exchange, message("#")) == ["e"]


def test_fanout_routes_to_all() -> None:
    exchange = FanoutExchange({})
    places = bound(exchange, ("a", "k"), ("b", ""), ("a", "second"))
    assert names(exchange, message("whatever")) == ["a", "b"]
    assert exchange.unbind(Binding(places["a"], "k"))
    assert names(exchange, message("whatever")) == ["a", "b"]
    assert exchange.unbind(Binding(places["a"], "second"))
    assert names(exchange, message("whatever")) == ["b"]


def test_a_queue_bound_several_times_gets_one_copy() -> None:
    """Seen with the reference."""
    exchange = DirectExchange({})
    places = bound(exchange, ("q", "k"), ("q", "k", {"a": 1}), ("q", "k", {"a": 2}))
    assert names(exchange, message("k")) == ["q"]
    assert exchange.unbind(Binding(places["q"], "k", {"a": 1}))
    assert exchange.unbind(Binding(places["q"], "k"))
    assert names(exchange, message("k")) == ["q"]
    assert exchange.unbind(Binding(places["q"], "k", {"a": 2}))
    assert names(exchange, message("k")) == []


def test_destinations_are_told_apart_by_identity_not_by_name() -> None:
    exchange = DirectExchange({})
    queue, other = Place("q"), Place("q", "exchange")
    assert exchange.bind(Binding(queue, "k"))
    assert exchange.bind(Binding(other, "k"))
    assert set(exchange.route(message("k"), "k")) == {queue, other}


def test_a_key_without_bindings_leaves_nothing_behind() -> None:
    exchange, place = DirectExchange({}), Place("q")
    for index in range(100):
        assert exchange.bind(Binding(place, f"reply.{index}"))
        assert exchange.unbind(Binding(place, f"reply.{index}"))
    assert not exchange._tallies
    assert not exchange._bindings


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (1, Int64(1)), (1, 1.0), (Float32(0.5), 0.5), (5, Timestamp(5)), (UInt8(7), 7), ("x", b"x"),
        ("x", ByteArray(b"x")), (b"\xff", "\udcff"), ([1, "a"], (1, "a")), ({"a": 1, "b": 2}, {"b": 2, "a": 1}),
        (None, None), (Decimal(1, 5), Decimal(1, 5)),
    ],
)  # fmt: skip
def test_values_that_are_equal_whatever_their_type(one: object, other: object) -> None:
    assert canonical(one) == canonical(other)
    assert hash(canonical(one)) == hash(canonical(other))


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (1, True), (0, False), ("1", 1), (None, ""), (None, 0), ("true", True), ([1], 1), ([1], [True]), ([], {}),
        ([1, 2], [2, 1]), ({"a": 1}, {"a": True}), (Decimal(1, 5), 0.5), (Decimal(1, 5), Decimal(2, 50)),
    ],
)  # fmt: skip
def test_values_that_differ(one: object, other: object) -> None:
    assert canonical(one) != canonical(other)


def test_identity_of_bindings() -> None:
    place = Place("q")
    assert binding_identity(Binding(place, "k", {})) == binding_identity(Binding(place, "k"))
    assert binding_identity(Binding(place, "k", {"a": 1})) != binding_identity(
        Binding(place, "k", {"a": True})
    )
    assert binding_identity(Binding(place, "k")) != binding_identity(Binding(Place("q"), "k"))

"""The topic exchange: RabbitMQ's corner cases (checked against 3.10.8), and a naive matcher to agree with."""

from __future__ import annotations

from functools import cache

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support.routes import Place, bound, message, names

from leveret.core.exchange import Binding
from leveret.core.exchanges.topic import REMEMBERED_KEYS, TopicExchange, split


def matches(pattern: str, key: str) -> bool:
    """The definition, word for word."""
    patterns, words = tuple(split(pattern)), tuple(split(key))

    @cache
    def fits(i: int, j: int) -> bool:
        if i == len(patterns):
            return j == len(words)
        if patterns[i] == "#":
            return fits(i + 1, j) or (j < len(words) and fits(i, j + 1))
        return j < len(words) and patterns[i] in ("*", words[j]) and fits(i + 1, j + 1)

    return fits(0, 0)


@pytest.mark.parametrize(
    ("pattern", "key", "is_match"),
    [
        ("#", "", True), ("*", "", False), ("", "", True), ("", "a", False), ("*.*", ".", True), ("a.#", "a", True),
        ("#.#", "", True), ("#.#.#", "a", True), ("a.#.b", "a.b", True), ("*", "a.b", False), ("a..b", "a..b", True),
        ("a.*.b", "a..b", True), ("a.#", "a.", True), ("*", "*", True), ("#.*", "#", True), ("#.*", "", False),
        ("a.*", "a.", True), ("a", "a.", False), ("#", "a.b.c", True), ("#.*.#", "", False), ("*.#", ".", True),
        ("*.stock.#", "usd.stock", True), ("*.stock.#", "eur.stock.db", True), ("*.stock.#", "stock.nasdaq", False),
        ("#.a.#.b.#.c.#", "x.a.y.b.z.c", True), ("#.a.#.b.#.c.#", "c.b.a", False), ("a.b", "A.b", False),
    ],
)  # fmt: skip
def test_as_the_reference(pattern: str, key: str, is_match: bool) -> None:
    exchange = TopicExchange({})
    bound(exchange, ("q", pattern))
    assert names(exchange, message(key)) == (["q"] if is_match else [])
    assert matches(pattern, key) is is_match


word = st.sampled_from(["a", "b", "", "*", "#", "#"])
patterns = st.lists(word, max_size=6).map(".".join)
keys = st.lists(st.sampled_from(["a", "b", "c", "", "*", "#"]), max_size=6).map(".".join)


@given(st.lists(patterns, max_size=12), st.lists(keys, min_size=1, max_size=6), st.data())
@settings(deadline=None)
def test_agrees_with_the_naive_matcher_while_bindings_come_and_go(
    bound_patterns: list[str], routed: list[str], data: st.DataObject
) -> None:
    exchange = TopicExchange({})
    bindings = [Binding(Place(f"q{index % 5}.{index}"), one) for index, one in enumerate(bound_patterns)]
    for binding in bindings:
        assert exchange.bind(binding)
    for _ in range(2):
        for key in routed * 2:  # the second time from memory
            expected = sorted(one.destination.name for one in bindings if matches(one.routing_key, key))
            assert names(exchange, message(key)) == expected
        for binding in data.draw(st.lists(st.sampled_from(bindings), unique_by=id)) if bindings else []:
            assert exchange.unbind(binding)
            bindings.remove(binding)


@given(st.lists(patterns, min_size=1, max_size=8))
def test_a_queue_with_many_bindings_comes_once(bound_patterns: list[str]) -> None:
    exchange, place = TopicExchange({}), Place("q")
    for one in bound_patterns:
        exchange.bind(Binding(place, one))
    for key in ("", "a", "a.b", "b.a.a", "a.."):
        assert names(exchange, message(key)) == ["q"] * any(matches(one, key) for one in bound_patterns)


def test_many_hashes_and_a_long_key_take_no_time() -> None:
    """A backtracking matcher would need longer than the universe has."""
    exchange = TopicExchange({})
    bound(exchange, ("q", ".".join(["#", "a"] * 20 + ["b"])), ("r", ".".join(["#.a"] * 20)))
    assert names(exchange, message(".".join(["a"] * 127))) == ["r"]


def test_the_trie_shrinks_with_its_bindings() -> None:
    exchange, place = TopicExchange({}), Place("q")
    for key in ("a.b.c", "a.*.c", "a.#", "#", "", "a.b"):
        assert exchange.bind(Binding(place, key))
    for key in ("a.b", "a.b.c", "#", "a.*.c", "a.#", ""):
        assert exchange.unbind(Binding(place, key))
    assert exchange._root.is_leaf
    assert not exchange._root.tally


def test_a_shorter_binding_survives_the_longer_one() -> None:
    exchange = TopicExchange({})
    places = bound(exchange, ("short", "a.b"), ("long", "a.b.c"))
    assert exchange.unbind(Binding(places["long"], "a.b.c"))
    assert names(exchange, message("a.b")) == ["short"]
    assert exchange.unbind(Binding(places["short"], "a.b"))
    assert names(exchange, message("a.b")) == []


def test_memory_of_keys_is_bounded() -> None:
    exchange = TopicExchange({})
    bound(exchange, ("q", "#"))
    for index in range(REMEMBERED_KEYS + 10):
        exchange.route(message(), f"k{index}")
    assert len(exchange._remembered) <= REMEMBERED_KEYS

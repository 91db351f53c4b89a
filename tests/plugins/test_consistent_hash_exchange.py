"""The consistent-hash exchange: texts, evenness, weights, the least movement, stability."""

from __future__ import annotations

import subprocess
import sys
from collections import Counter
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support.routes import Place, bound, message, names

from leveret.core.errors import InvalidArgument
from leveret.core.exchange import Binding
from leveret.core.fields import Int64
from leveret.core.message import Envelope
from leveret.plugins.consistent_hash import ConsistentHashExchange


def placed(exchange: ConsistentHashExchange, count: int) -> dict[str, str]:
    """Routing key to queue name, for so many keys."""
    owners: dict[str, str] = {}
    for index in range(count):
        key = f"device/{index}"
        (owner,) = exchange.route(Envelope("x", key, b"\0\0"), key)
        owners[key] = owner.name
    return owners


def shares(owners: dict[str, str]) -> dict[str, float]:
    return {name: count / len(owners) for name, count in Counter(owners.values()).items()}


def exchange_of(**weights: int) -> ConsistentHashExchange:
    exchange = ConsistentHashExchange({})
    bound(exchange, *[(name, str(weight)) for name, weight in weights.items()])
    return exchange


# -- texts (features/plugins.md 8.1)


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        ({"hash-property": "foo"}, "Unsupported property: foo"),
        ({"hash-property": "routing_key"}, "Unsupported property: routing_key"),
        (
            {"hash-header": "a", "hash-property": "timestamp"},
            "hash-header and hash-property are mutually exclusive",
        ),
        ({"hash-header": "a", "x-hash-on": "b"}, "hash-header and x-hash-on are mutually exclusive"),
        ({"hash-header": 5}, "invalid type 'signedint' for arg 'hash-header': a longstr is needed"),
        ({"hash-property": True}, "invalid type 'bool' for arg 'hash-property': a longstr is needed"),
        ({"x-algorithm": "dice"}, "x-algorithm must be one of ring, jump"),
    ],
)
def test_bad_arguments_are_refused(arguments: dict[str, Any], text: str) -> None:
    with pytest.raises(InvalidArgument) as error:
        ConsistentHashExchange(arguments)
    assert str(error.value) == text


@pytest.mark.parametrize(
    "arguments", [{"x-algorithm": "ring"}, {"x-algorithm": "jump", "x-hash-on": "h"}, {"other": 1}]
)
def test_the_other_dialect_is_understood(arguments: dict[str, Any]) -> None:
    exchange = ConsistentHashExchange(arguments)
    bound(exchange, ("q", "1"))
    assert names(exchange, message("k", {"h": "v"})) == ["q"]


@pytest.mark.parametrize(
    ("key", "text"),
    [
        ("x", 'The binding key must be an integer: <<"x">>'),
        ("", "The binding key must be an integer: <<>>"),
        (" 1", 'The binding key must be an integer: <<" 1">>'),
        ("1_0", 'The binding key must be an integer: <<"1_0">>'),
        ("1\n", 'The binding key must be an integer: <<"1\\n">>'),
        ("\u0661", 'The binding key must be an integer: <<"\u0661"/utf8>>'),
        ("0", "The binding key must be greater than 0"),
        ("-5", "The binding key must be greater than 0"),
        ("10001", "The binding key must not exceed 10000"),
    ],
)
def test_bad_weights_are_refused(key: str, text: str) -> None:
    with pytest.raises(InvalidArgument) as error:
        ConsistentHashExchange({}).validate(Binding(Place("q"), key))
    assert str(error.value) == text


@pytest.mark.parametrize("key", ["1", "+5", "007", "10000"])
def test_good_weights(key: str) -> None:
    ConsistentHashExchange({}).validate(Binding(Place("q"), key))


# -- where messages go


def test_nothing_bound_routes_nowhere() -> None:
    assert names(ConsistentHashExchange({}), message("k")) == []


def test_even_within_ten_percent_over_ten_queues() -> None:
    owners = placed(exchange_of(**{f"q{index}": 1 for index in range(10)}), 50_000)
    assert len(shares(owners)) == 10
    for share in shares(owners).values():
        assert 0.09 < share < 0.11


@given(
    st.lists(
        st.text(st.characters(codec="utf-8"), min_size=1, max_size=20), min_size=10, max_size=10, unique=True
    )
)
@settings(max_examples=5, deadline=None)
def test_even_whatever_the_names(queue_names: list[str]) -> None:
    owners = placed(exchange_of(**dict.fromkeys(queue_names, 1)), 20_000)
    for name in queue_names:
        assert 0.09 < shares(owners)[name] < 0.11


def test_shares_go_by_weight() -> None:
    found = shares(placed(exchange_of(light=1, middle=3, heavy=6), 50_000))
    assert found["light"] == pytest.approx(0.1, rel=0.1)
    assert found["middle"] == pytest.approx(0.3, rel=0.1)
    assert found["heavy"] == pytest.approx(0.6, rel=0.1)


def test_the_same_weights_on_another_scale_share_alike() -> None:
    assert placed(exchange_of(a=1, b=3), 2000) == placed(exchange_of(a=100, b=300), 2000)


def test_a_queue_that_is_added_takes_its_share_and_moves_nothing_else() -> None:
    exchange = exchange_of(**{f"q{index}": 2 for index in range(9)})
    before = placed(exchange, 20_000)
    bound(exchange, ("new", "2"))
    after = placed(exchange, 20_000)
    moved = [key for key in before if before[key] != after[key]]
    assert {after[key] for key in moved} == {"new"}
    assert 0.09 < len(moved) / len(before) < 0.11


def test_a_queue_that_goes_gives_up_its_own_and_nothing_else_moves() -> None:
    exchange = ConsistentHashExchange({})
    places = bound(exchange, *[(f"q{index}", "5") for index in range(10)])
    before = placed(exchange, 20_000)
    assert exchange.unbind(Binding(places["q3"], "5"))
    after = placed(exchange, 20_000)
    assert {before[key] for key in before if before[key] != after[key]} == {"q3"}
    assert "q3" not in after.values()


@given(st.permutations([("a", "1"), ("b", "2"), ("c", "7"), ("d", "1"), ("a", "3")]))
@settings(max_examples=10, deadline=None)
def test_the_order_of_bindings_decides_nothing(bindings: list[tuple[str, str]]) -> None:
    exchange, sorted_exchange = ConsistentHashExchange({}), ConsistentHashExchange({})
    bound(exchange, *bindings)
    bound(sorted_exchange, *sorted(bindings))
    assert placed(exchange, 500) == placed(sorted_exchange, 500)


def test_stable_over_restarts() -> None:
    """Another process, with another seed of Python's own hash."""
    program = (
        "from leveret.plugins.consistent_hash import ConsistentHashExchange as E\n"
        "from leveret.core.exchange import Binding\n"
        "from leveret.core.message import Envelope\n"
        "from types import SimpleNamespace\n"
        "class P:\n"
        "    kind = 'queue'\n"
        "    def __init__(self, name): self.name = name\n"
        "e = E({})\n"
        "for n in 'cab': e.bind(Binding(P(n), '1'))\n"
        "print(''.join(d.name for i in range(200) for d in e.route(Envelope('x', f'device/{i}', b'\\0\\0'), '')))\n"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "".join(placed(exchange_of(a=1, b=1, c=1), 200).values())


def test_placement_is_for_ever() -> None:
    """A change of the hash would move every device to another queue at the next upgrade."""
    assert "".join(placed(exchange_of(a=1, b=2, c=3), 24).values()) == PINNED


PINNED = "abcbcbaccaccbbbbbccacaca"


# -- several bindings of one queue


def test_unbinding_one_of_two_bindings_does_not_starve_the_queue() -> None:
    """RabbitMQ drops all of its buckets."""
    exchange = ConsistentHashExchange({})
    places = bound(exchange, ("a", "5"), ("a", "1"), ("b", "5"))
    only_first = exchange_of(a=5, b=5)
    assert placed(exchange, 500) == placed(only_first, 500)
    assert exchange.unbind(Binding(places["a"], "1"))
    assert placed(exchange, 500) == placed(only_first, 500)
    assert exchange.unbind(Binding(places["a"], "5"))
    assert set(placed(exchange, 500).values()) == {"b"}


def test_when_the_greater_weight_goes_the_other_counts() -> None:
    exchange = ConsistentHashExchange({})
    places = bound(exchange, ("a", "9"), ("a", "1"), ("b", "9"))
    assert exchange.unbind(Binding(places["a"], "9"))
    assert placed(exchange, 500) == placed(exchange_of(a=1, b=9), 500)


# -- what is hashed


def test_only_by_routing_key_it_is_stable() -> None:
    assert ConsistentHashExchange({}).is_stable
    for name in ("hash-header", "x-hash-on"):
        assert not ConsistentHashExchange({name: "h"}).is_stable
    assert not ConsistentHashExchange({"hash-property": "message_id"}).is_stable


def test_of_several_keys_only_the_messages_own_counts() -> None:
    exchange = exchange_of(**{f"q{index}": 1 for index in range(10)})
    envelope = message("own", {"CC": ["other"]})
    assert set(exchange.route(envelope, "other")) == set(exchange.route(envelope, "own"))


def ten(arguments: dict[str, Any]) -> ConsistentHashExchange:
    exchange = ConsistentHashExchange(arguments)
    bound(exchange, *[(f"q{index}", "1") for index in range(10)])
    return exchange


@pytest.mark.parametrize("name", ["hash-header", "x-hash-on"])
def test_by_header(name: str) -> None:
    exchange = ten({name: "device"})
    owners = {index: names(exchange, message(f"{index}", {"device": f"d{index}"})) for index in range(200)}
    assert len({tuple(owner) for owner in owners.values()}) == 10
    assert owners == {
        index: names(exchange, message("k", {"device": f"d{index}", "n": 1})) for index in range(200)
    }


@pytest.mark.parametrize("value", [5, True, None, 1.5, [1], {"a": 1}, b"\xff", ""])
def test_by_a_header_of_any_type(value: object) -> None:
    exchange = ten({"hash-header": "device"})
    assert len(names(exchange, message("k", {"device": value}))) == 1


def test_numbers_hash_by_their_value() -> None:
    exchange = ten({"hash-header": "n"})
    for number in range(50):
        assert names(exchange, message("", {"n": number})) == names(
            exchange, message("", {"n": Int64(number)})
        )


@pytest.mark.parametrize(
    ("name", "values"),
    [
        ("message_id", [f"m{index}" for index in range(200)]),
        ("correlation_id", [f"c{index}" for index in range(200)]),
        ("timestamp", list(range(1700000000, 1700000200))),
    ],
)
def test_by_property(name: str, values: list[Any]) -> None:
    exchange = ten({"hash-property": name})
    owners = [names(exchange, message(f"k{value}", None, **{name: value})) for value in values]
    assert len({tuple(owner) for owner in owners}) == 10
    assert owners == [names(exchange, message("k", {"h": 1}, **{name: value})) for value in values]


@pytest.mark.parametrize("arguments", [{"hash-header": "h"}, {"hash-property": "message_id"}])
def test_messages_without_it_go_to_one_queue(arguments: dict[str, Any]) -> None:
    exchange = ten(arguments)
    assert len({tuple(names(exchange, message(f"k{index}"))) for index in range(100)}) == 1
    assert len({tuple(names(exchange, message(f"k{index}", {"other": index}))) for index in range(100)}) == 1

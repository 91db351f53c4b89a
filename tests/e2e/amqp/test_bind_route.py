"""Bindings and what exchanges make of them: direct, fanout, topic, headers, alternates, chains, CC and BCC."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from support.amqp_peer import Peer
from support.amqp_wire import Typed

Connect = Callable[..., Peer]


class Bench:
    """An exchange and a few queues; `routed` publishes in confirm mode, mandatory, and says which queues got it."""

    def __init__(self, peer: Peer, name: str) -> None:
        self.peer, self.name = peer, name
        self.queues: list[str] = []
        peer.confirm()

    def exchange(self, kind: str, suffix: str = "x", **options: Any) -> str:
        exchange = f"{self.name}-{suffix}"
        self.peer.rpc(1, "exchange.declare", exchange=exchange, type=kind, **options)
        return exchange

    def queue(self) -> str:
        queue = self.peer.declare(1, f"{self.name}-q{len(self.queues)}", exclusive=True)
        self.queues.append(queue)
        return queue

    def bind(self, queue: str, exchange: str, key: str = "", **arguments: Any) -> None:
        self.peer.rpc(1, "queue.bind", queue=queue, exchange=exchange, routing_key=key, arguments=arguments)

    def unbind(self, queue: str, exchange: str, key: str = "", **arguments: Any) -> None:
        self.peer.rpc(1, "queue.unbind", queue=queue, exchange=exchange, routing_key=key, arguments=arguments)

    def routed(self, exchange: str, key: str = "", **properties: Any) -> list[int]:
        """Indexes of the queues, once for each copy; [] if it came back."""
        self.peer.publish(1, exchange, key, b"x", mandatory=True, **properties)
        returned = self.peer.expect(1, "basic.ack", "basic.return").name == "basic.return"
        if returned:
            self.peer.expect(1, "basic.ack")
        got = [index for index, queue in enumerate(self.queues) for _ in self.peer.drain(1, queue)]
        assert returned == (not got)
        return got


@pytest.fixture
def bench(peer: Peer, name: str) -> Bench:
    return Bench(peer, name)


def test_direct(bench: Bench) -> None:
    exchange, one, two = bench.exchange("direct"), bench.queue(), bench.queue()
    bench.bind(one, exchange, "a")
    bench.bind(two, exchange, "a")
    bench.bind(two, exchange, "b")
    assert bench.routed(exchange, "a") == [0, 1]
    assert bench.routed(exchange, "b") == [1]
    assert bench.routed(exchange, "A") == []
    bench.unbind(two, exchange, "b")
    assert bench.routed(exchange, "b") == []


def test_fanout(bench: Bench) -> None:
    exchange = bench.exchange("fanout")
    for _ in range(3):
        bench.bind(bench.queue(), exchange, "ignored")
    assert bench.routed(exchange, "k") == [0, 1, 2]


TOPICS = [
    ("#", ["", "a", "a.b", "."], []),
    ("*", ["a"], ["", "a.b"]),
    ("a.#", ["a", "a.b", "a.b.c", "a."], ["b", "", "aa"]),
    ("#.a", ["a", "b.a", "a.a", ".a"], ["a.b"]),
    ("a.#.b", ["a.b", "a.c.b", "a.c.d.b", "a..b"], ["a", "b", "ab"]),
    ("#.#", ["", "a", "a.b.c"], []),
    ("a.*", ["a.b", "a."], ["a", "a.b.c"]),
    ("*.b", ["a.b", ".b"], ["b", "a.b.c"]),
    ("*.*", ["a.b", "."], ["a", "a.b.c"]),
    ("#.*", ["a", "a.b"], [""]),
    ("a..b", ["a..b"], ["a.b", "a.x.b"]),
    ("a.b", ["a.b"], ["a.B", "a.b.", ".a.b", "a"]),
    ("", [""], ["a", "."]),
    ("a*", ["a*"], ["ab", "a"]),
    ("#a", ["#a"], ["a", "ba"]),
    ("stock.#.nyse.*", ["stock.nyse.x", "stock.a.b.nyse.x"], ["stock.nyse", "stock.nyse.x.y"]),
]


@pytest.mark.parametrize(
    ("pattern", "matching", "others"), TOPICS, ids=[repr(pattern) for pattern, _, _ in TOPICS]
)
def test_topic(bench: Bench, pattern: str, matching: list[str], others: list[str]) -> None:
    exchange, queue = bench.exchange("topic"), bench.queue()
    bench.bind(queue, exchange, pattern)
    assert [key for key in matching + others if bench.routed(exchange, key)] == matching


def test_topic_wildcards_are_letters_in_a_routing_key(bench: Bench) -> None:
    exchange, queue = bench.exchange("topic"), bench.queue()
    bench.bind(queue, exchange, "a.b")
    assert bench.routed(exchange, "a.*") == []
    assert bench.routed(exchange, "#") == []


def test_overlapping_topics_give_one_copy(bench: Bench) -> None:
    exchange, queue = bench.exchange("topic"), bench.queue()
    for pattern in ("#", "a.*", "*.b", "a.b"):
        bench.bind(queue, exchange, pattern)
    assert bench.routed(exchange, "a.b") == [0]
    for pattern in ("a.*", "a.b", "#"):
        bench.unbind(queue, exchange, pattern)
        assert bench.routed(exchange, "a.b") == [0]
    bench.unbind(queue, exchange, "*.b")
    assert bench.routed(exchange, "a.b") == []


HEADERS: list[tuple[dict[str, Any], dict[str, Any] | None, bool]] = [
    ({"x-match": "all", "a": 1, "b": "x"}, {"a": 1, "b": "x", "c": 0}, True),
    ({"x-match": "all", "a": 1, "b": "x"}, {"a": 1}, False),
    ({"a": 1, "b": 2}, {"a": 1}, False),
    ({"x-match": "any", "a": 1, "b": "x"}, {"b": "x"}, True),
    ({"x-match": "any", "a": 1, "b": "x"}, {"a": 2, "b": "y"}, False),
    ({"x-match": "all"}, {}, True),
    ({"x-match": "all"}, None, True),
    ({"x-match": "any"}, {"a": 1}, False),
    ({}, {"a": 1}, True),
    ({"x-match": "all", "a": None}, {"a": "anything"}, True),
    ({"x-match": "all", "a": None}, {"b": 1}, False),
    ({"x-match": "all", "a": 1}, {"a": "1"}, False),
    ({"x-match": "all", "a": 1}, {"a": Typed("l", 1)}, True),
    ({"x-match": "all", "a": True}, {"a": True}, True),
    ({"x-match": "all", "a": True}, {"a": "true"}, False),
    ({"x-match": "all", "a": 1, "x-other": 5}, {"a": 1}, True),
    ({"x-match": "any", "x-other": 5}, {"x-other": 5}, False),
    ({"x-match": "all-with-x", "x-other": 5}, {"x-other": 5}, True),
    ({"x-match": "all-with-x", "x-other": 5}, {"x-other": 6}, False),
    ({"x-match": "any-with-x", "x-other": 5, "a": 1}, {"x-other": 5}, True),
    ({"x-match": "any-with-x", "x-other": 5, "a": 1}, {"x-other": 6}, False),
]


@pytest.mark.parametrize(("arguments", "headers", "expected"), HEADERS, ids=str)
def test_headers(
    bench: Bench, arguments: dict[str, Any], headers: dict[str, Any] | None, expected: bool
) -> None:
    exchange, queue = bench.exchange("headers"), bench.queue()
    bench.bind(queue, exchange, "ignored", **arguments)
    properties = {} if headers is None else {"headers": headers}
    assert bench.routed(exchange, "other", **properties) == ([0] if expected else [])


@pytest.mark.parametrize("match", ["some", 5, "ALL"])
def test_headers_with_an_unknown_match(bench: Bench, match: Any) -> None:
    exchange, queue = bench.exchange("headers"), bench.queue()
    bench.peer.send(1, "queue.bind", queue=queue, exchange=exchange, arguments={"x-match": match})
    bench.peer.expect_channel_close(1, 406, "queue.bind")


def test_arguments_are_part_of_a_bindings_identity(bench: Bench) -> None:
    exchange, queue = bench.exchange("headers"), bench.queue()
    bench.bind(queue, exchange, "k", a=1)
    bench.bind(queue, exchange, "k", a=2)
    assert bench.routed(exchange, headers={"a": 1}) == [0]
    bench.unbind(queue, exchange, "k", a=1)
    assert bench.routed(exchange, headers={"a": 1}) == []
    assert bench.routed(exchange, headers={"a": 2}) == [0]


def test_binding_twice_is_binding_once(bench: Bench) -> None:
    exchange, queue = bench.exchange("direct"), bench.queue()
    for _ in range(2):
        bench.bind(queue, exchange, "k")
    assert bench.routed(exchange, "k") == [0]
    bench.unbind(queue, exchange, "k")
    assert bench.routed(exchange, "k") == []


def test_unbinding_what_is_not_bound_is_fine(bench: Bench) -> None:
    exchange, queue = bench.exchange("direct"), bench.queue()
    bench.bind(queue, exchange, "k")
    bench.unbind(queue, exchange, "nothing")
    assert bench.routed(exchange, "k") == [0]


@pytest.mark.parametrize("missing", ["queue", "exchange"])
def test_binding_what_is_missing(bench: Bench, missing: str) -> None:
    exchange, queue = bench.exchange("direct"), bench.queue()
    if missing == "queue":
        queue += "-missing"
    else:
        exchange += "-missing"
    bench.peer.send(1, "queue.bind", queue=queue, exchange=exchange, routing_key="k")
    thing = queue if missing == "queue" else exchange
    bench.peer.expect_channel_close(1, 404, "queue.bind", f"NOT_FOUND - no {missing} '{thing}' in vhost '/'")


def test_the_default_exchange_routes_by_queue_name(bench: Bench) -> None:
    bench.queue(), bench.queue()
    assert bench.routed("", bench.queues[1]) == [1]
    assert bench.routed("", "no-such-queue") == []


def test_deleting_a_queue_takes_its_bindings(bench: Bench) -> None:
    exchange, queue = bench.exchange("fanout"), bench.queue()
    bench.bind(queue, exchange)
    bench.peer.rpc(1, "queue.delete", queue=queue)
    bench.peer.declare(1, queue, exclusive=True)
    assert bench.routed(exchange) == []


def test_deleting_an_exchange_takes_its_bindings(bench: Bench) -> None:
    exchange, queue = bench.exchange("fanout"), bench.queue()
    bench.bind(queue, exchange)
    bench.peer.rpc(1, "exchange.delete", exchange=exchange)
    assert bench.exchange("fanout") == exchange
    assert bench.routed(exchange) == []


# Exchange to exchange


def test_exchanges_bound_to_exchanges(bench: Bench) -> None:
    source, middle = bench.exchange("topic", "s"), bench.exchange("direct", "m")
    bench.bind(bench.queue(), middle, "a.b")
    bench.peer.rpc(1, "exchange.bind", source=source, destination=middle, routing_key="a.*")
    assert bench.routed(source, "a.b") == [0]
    assert bench.routed(source, "a.c") == []
    bench.peer.rpc(1, "exchange.unbind", source=source, destination=middle, routing_key="a.*")
    assert bench.routed(source, "a.b") == []


def test_many_paths_give_one_copy(bench: Bench) -> None:
    source, left, right = (bench.exchange("fanout", letter) for letter in "slr")
    queue = bench.queue()
    for middle in (left, right):
        bench.peer.rpc(1, "exchange.bind", source=source, destination=middle)
        bench.bind(queue, middle)
    bench.bind(queue, source)
    assert bench.routed(source, queue, headers={"CC": [queue]}) == [0]


def test_a_circle_of_exchanges(bench: Bench) -> None:
    # cycles are safe
    one, two = bench.exchange("fanout", "1"), bench.exchange("fanout", "2")
    bench.peer.rpc(1, "exchange.bind", source=one, destination=two)
    bench.peer.rpc(1, "exchange.bind", source=two, destination=one)
    bench.bind(bench.queue(), one)
    bench.bind(bench.queue(), two)
    assert bench.routed(one) == [0, 1]
    assert bench.routed(two) == [0, 1]


def test_deleting_the_middle_cuts_the_path(bench: Bench) -> None:
    source, middle = bench.exchange("fanout", "s"), bench.exchange("fanout", "m")
    bench.peer.rpc(1, "exchange.bind", source=source, destination=middle)
    bench.bind(bench.queue(), middle)
    bench.peer.rpc(1, "exchange.delete", exchange=middle)
    assert bench.routed(source) == []


@pytest.mark.parametrize("missing", ["source", "destination"])
def test_binding_exchanges_that_are_missing(bench: Bench, missing: str) -> None:
    ends = {"source": "amq.fanout", "destination": "amq.direct"} | {missing: bench.name}
    bench.peer.send(1, "exchange.bind", **ends)
    bench.peer.expect_channel_close(
        1, 404, "exchange.bind", f"NOT_FOUND - no exchange '{bench.name}' in vhost '/'"
    )


# Alternate and internal exchanges


def test_an_alternate_exchange_takes_what_is_unroutable(bench: Bench) -> None:
    last = bench.exchange("fanout", "last")
    middle = bench.exchange("direct", "middle", arguments={"alternate-exchange": last})
    first = bench.exchange("direct", "first", arguments={"alternate-exchange": middle})
    one, two = bench.queue(), bench.queue()
    bench.bind(one, first, "k")
    bench.bind(two, last)
    assert bench.routed(first, "k") == [0]
    assert bench.routed(first, "other") == [1]


def test_a_missing_alternate_exchange_is_as_none(bench: Bench) -> None:
    exchange = bench.exchange("direct", arguments={"alternate-exchange": f"{bench.name}-missing"})
    assert bench.routed(exchange, "k") == []


def test_a_circle_of_alternates(bench: Bench) -> None:
    # loop-safe
    one = bench.exchange("direct", "1", arguments={"alternate-exchange": f"{bench.name}-2"})
    bench.exchange("direct", "2", arguments={"alternate-exchange": one})
    assert bench.routed(one, "k") == []


def test_an_internal_exchange(bench: Bench) -> None:
    inner, outer = bench.exchange("fanout", "i", internal=True), bench.exchange("fanout", "o")
    bench.bind(bench.queue(), inner)
    bench.peer.rpc(1, "exchange.bind", source=outer, destination=inner)
    assert bench.routed(outer) == [0]
    bench.peer.publish(1, inner, "k", b"x")
    bench.peer.expect_channel_close(
        1, 403, "basic.publish",
        f"ACCESS_REFUSED - cannot publish to internal exchange '{inner}' in vhost '/'",
    )  # fmt: skip


# CC and BCC


def test_cc_and_bcc_are_keys_too(bench: Bench) -> None:
    one, two, three = bench.queue(), bench.queue(), bench.queue()
    headers = {"CC": [two, one], "BCC": [three], "a": 1}
    bench.peer.publish(1, "", one, b"x", headers=headers)
    bench.peer.expect(1, "basic.ack")
    for queue in (one, two, three):
        event = bench.peer.get(1, queue)
        assert event is not None
        assert event.headers == {"CC": [two, one], "a": 1}
        assert event.routing_key == one
        assert bench.peer.get(1, queue) is None


def test_cc_through_a_topic(bench: Bench) -> None:
    exchange = bench.exchange("topic")
    for pattern in ("a.*", "b.*", "c.*"):
        bench.bind(bench.queue(), exchange, pattern)
    assert bench.routed(exchange, "a.1", headers={"CC": ["b.1"]}) == [0, 1]
    assert bench.routed(exchange, "x", headers={"BCC": ["c.1"]}) == [2]
    assert bench.routed(exchange, "x", headers={"CC": []}) == []


def test_more_than_two_wildcards_are_accepted(bench: Bench) -> None:
    # older users have them
    exchange, queue = bench.exchange("topic"), bench.queue()
    bench.bind(queue, exchange, "#.a.#.b.#.c.#")
    assert bench.routed(exchange, "x.a.b.y.z.c") == [0]
    assert bench.routed(exchange, "x.a.c.b") == []

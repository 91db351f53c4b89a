"""Retained messages: found by wildcards exactly, durable, bounded, gone when they expire."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import trio
import trio.testing
from hypothesis import example, given, settings
from hypothesis import strategies as st
from support.mqtt_places import Place
from support.topology import FakeBroker, envelope

from leveret.adapters.mqtt.retained import Retained, RetainedMessage
from leveret.adapters.mqtt.settings import MqttSettings
from leveret.adapters.mqtt.topic_tree import Node, TopicTree

# -- the tree against a matcher that is plainly right

LEVELS = ["", "a", "b", "ab", "$SYS", "$"]
topics = st.lists(st.sampled_from(LEVELS), min_size=1, max_size=5).map("/".join).filter(bool)


@st.composite
def filters(draw: Any) -> str:
    levels = draw(st.lists(st.sampled_from([*LEVELS, "+", "+"]), max_size=5))
    if not levels or draw(st.booleans()):
        levels.append("#")
    return "/".join(levels)


def is_match(filter: str, topic: str) -> bool:
    """5.0 4.7.1 and 4.7.2, word for word."""

    def rest(filter: list[str], topic: list[str]) -> bool:
        if not filter:
            return not topic
        if filter[0] == "#":
            return True
        return bool(topic) and filter[0] in ("+", topic[0]) and rest(filter[1:], topic[1:])

    if topic.startswith("$") and filter[:1] in ("#", "+"):
        return False
    return rest(filter.split("/"), topic.split("/"))


def check_shape(node: Node, is_root: bool = True) -> int:
    """How many values there are; no node is superfluous, each is where it is looked for."""
    children = node.children or {}
    assert is_root or node.value is not None or len(children) > 1
    for first, child in children.items():
        assert child.label.split("/")[0] == first
    return (node.value is not None) + sum(check_shape(child, False) for child in children.values())


@settings(max_examples=300, deadline=None)
@given(st.lists(st.tuples(topics, st.booleans()), max_size=40), st.lists(filters() | topics, max_size=8))
@example([("a/b/ab", True), ("a", True), ("a/b/b", True), ("a/b/ab", False)], ["a/#", "a/+/+", "#"])
@example([("a/", True), ("a//b", True), ("/", True), ("/a", True)], ["a/+", "+/+", "/#", "+"])
def test_the_tree_finds_what_a_naive_matcher_finds(steps: list[tuple[str, bool]], wanted: list[str]) -> None:
    tree = TopicTree()
    model: set[str] = set()
    for topic, is_set in steps:
        if is_set:
            tree.set(topic, topic.encode())
            model.add(topic)
        else:
            removed = tree.remove(topic)
            assert (removed is not None) == (topic in model)
            model.discard(topic)
        assert check_shape(tree.root) == tree.count == len(model)
        assert tree.bytes == sum(len(topic.encode()) for topic in model)
    for filter in wanted:
        found = [(node.value or b"").decode() for node in tree.match(filter)]
        assert sorted(found) == sorted(topic for topic in model if is_match(filter, topic))
        exact = tree.find(filter)
        assert (exact is not None) == (filter in model)
    assert {(node.value or b"").decode() for node in tree.nodes()} == model


def test_a_filter_does_not_look_where_nothing_can_match() -> None:
    tree = TopicTree()
    for number in range(100):
        for name in ("temp", "deep/er/still"):
            tree.set(f"sensors/{number}/{name}", b"x")
            tree.set(f"others/{number}/{name}", b"x")

    class Untouchable(dict[str, Node]):
        def get(self, *_: Any) -> Any:
            raise AssertionError

        values = items = get

    assert tree.root.children is not None
    tree.root.children["others"].children = Untouchable()
    assert len(tree.match("sensors/+/temp")) == 100
    assert len(tree.match("sensors/7/#")) == 2


def test_topics_of_very_many_levels_cost_little_and_are_found() -> None:
    tree = TopicTree()
    deep = "/" * 60_000
    tree.set(deep + "a", b"1")
    tree.set(deep + "b", b"2")
    tree.set(deep, b"3")
    assert len(tree.nodes()) == 3
    assert [node.value for node in tree.match(deep + "+")]
    assert tree.find(deep + "b") is not None
    assert len(tree.match("/#")) == 3
    for topic in (deep, deep + "a", deep + "b"):
        assert tree.remove(topic) is not None
    assert tree.root.children == {}


# -- messages


@pytest.fixture
def broker() -> Any:
    broker = FakeBroker()
    broker.add_vhost("/")
    broker.timers.now = 1000.0
    return broker


@pytest.fixture(params=["memory", "lmdb"])
def place(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Place]:
    place = Place(request.param, tmp_path)
    yield place
    place.stop()


def message(body: bytes = b"21.5", expires_at_ms: int | None = None, **properties: Any) -> RetainedMessage:
    return RetainedMessage(envelope("amq.topic", "a.b", **properties), body, expires_at_ms, 77)


def found(retained: Retained, filter: str, vhost: str = "/") -> dict[str, bytes]:
    return {topic: one.body for topic, one in retained.match(vhost, filter)}


def limited(broker: Any, **changes: Any) -> Retained:
    broker.settings = replace(
        broker.settings, owned={"mqtt": replace(MqttSettings.of(broker.settings), **changes)}
    )
    return Retained(broker)


def test_the_last_one_counts_and_an_empty_one_clears(broker: Any) -> None:
    retained = Retained(broker)
    assert retained.set("/", "a/b", message(b"1"))
    assert retained.set("/", "a/b", message(b"2"))
    assert found(retained, "a/+") == {"a/b": b"2"}
    assert retained.count("/") == retained.count() == 1
    assert retained.set("/", "a/b", message(b""))
    assert found(retained, "#") == {}
    assert retained.get("/", "a/b") is None
    assert (retained.count("/"), retained.bytes) == (0, 0)
    assert not retained.clear("/", "a/b")
    assert list(broker.store.definitions(b"mqtt/")) == []


def test_virtual_hosts_are_apart(broker: Any) -> None:
    retained = Retained(broker)
    retained.set("/", "a", message(b"1"))
    retained.set("other", "a", message(b"2"))
    retained.set("other", "b", message(b"3"))
    assert found(retained, "#", "other") == {"a": b"2", "b": b"3"}
    assert found(retained, "#", "third") == {}
    retained.forget_vhost("other")
    retained.forget_vhost("third")
    assert (retained.count(), retained.count("other")) == (1, 0)
    assert len(list(broker.store.definitions(b"mqtt/"))) == 1


@pytest.mark.parametrize("is_killed", [False, True])
async def test_they_survive(place: Place, is_killed: bool) -> None:
    broker = place.start("/", "v")
    retained = Retained(broker)
    body = bytes(range(256)) * 300
    one = message(
        body, 10**15, delivery_mode=2, headers={"x": "y"}, content_type="text/plain", expiration="5000"
    )
    long = "ü/" * 20_000 + "end"
    retained.set("v", long, one)
    retained.set("/", "cleared", message())
    retained.set("/", "kept", message(b"old"))
    retained.clear("/", "cleared")
    retained.set("/", "kept", message(b"new"))
    if is_killed:
        await place.commit()
        retained.set("/", "late", message())
        place.kill()

    again = Retained(place.start("/", "v"))
    again.recover()

    assert found(again, "#") == {"kept": b"new"}
    restored = again.get("v", long)
    assert restored is not None
    assert (restored.body, restored.expires_at_ms, restored.stored_at_ms) == (body, 10**15, 77)
    assert restored.envelope.properties == one.envelope.properties
    assert (restored.envelope.exchange, restored.envelope.routing_key) == ("amq.topic", "a.b")
    assert again.bytes == retained.bytes - (0 if not is_killed else _size(message(), "/", "late"))


def _size(one: RetainedMessage, vhost: str, topic: str) -> int:
    broker: Any = FakeBroker()
    retained = Retained(broker)
    retained.set(vhost, topic, one)
    return retained.bytes


def test_recovery_leaves_out_what_it_must(place: Place, caplog: pytest.LogCaptureFixture) -> None:
    broker = place.start("/", "gone")
    broker.timers.now = 1.0
    retained = Retained(broker)
    retained.set("gone", "a", message())
    retained.set("/", "expired", message(b"x", 2000))
    retained.set("/", "kept", message(b"x", 10**15))
    broker.store.put_definition(b"mqtt/retained/broken", b"\x01cut off")
    broker.store.put_definition(b"mqtt/retained/newer", b"\x63" + b"\0" * 80)

    broker = place.start("/")
    broker.timers.now = 2.0
    again = Retained(broker)
    again.recover()

    assert found(again, "#") == {"kept": b"x"}
    assert len(list(broker.store.definitions(b"mqtt/"))) == 3  # the one, and the two that cannot be read
    assert caplog.text.count("cannot be read") == 2


def test_while_matches_are_taken_messages_may_change(broker: Any) -> None:
    retained = Retained(broker)
    for number in range(10):
        retained.set("/", f"a/{number}", message())
    matches = retained.match("/", "a/#")
    seen = [next(matches)[0]]
    for number in range(10):
        if f"a/{number}" not in seen:
            retained.clear("/", f"a/{number}")
    retained.set("/", "a/new", message())
    assert list(matches) == []
    assert found(retained, "#").keys() == {*seen, "a/new"}


def test_beyond_the_limits_no_new_topic_is_retained(broker: Any, caplog: pytest.LogCaptureFixture) -> None:
    retained = limited(broker, max_retained_messages=2)
    assert retained.set("/", "a", message())
    assert retained.set("/", "b", message())
    assert not retained.set("/", "c", message())
    assert not retained.set("/", "d", message())
    assert retained.set("/", "a", message(b"a longer body than before"))
    assert retained.set("other", "c", message())  # a limit for each virtual host
    assert retained.set("/", "c", message(b""))
    retained.clear("/", "b")
    assert retained.set("/", "c", message())
    assert retained.refused_count == 2
    assert [record.levelno for record in caplog.records] == [logging.WARNING]
    broker.timers.now += 61
    assert not retained.set("/", "e", message())
    assert len(caplog.records) == 2


def test_bytes_are_limited_too(broker: Any) -> None:
    size = _size(message(b"x" * 100), "/", "a")
    retained = limited(broker, max_retained_bytes=2 * size)
    assert retained.set("/", "a", message(b"x" * 100))
    assert retained.set("/", "b", message(b"x" * 100))
    assert not retained.set("/", "a", message(b"x" * 101))
    assert retained.get("/", "a").body == b"x" * 100  # type: ignore[union-attr]  # it is there
    assert retained.set("/", "a", message(b"x" * 99))
    assert retained.set("/", "b", message(b"x" * 101))
    assert retained.bytes == 2 * size


def test_what_has_expired_makes_room(broker: Any) -> None:
    retained = limited(broker, max_retained_messages=1)
    assert retained.set("/", "a", message(b"x", 1_001_000))
    broker.timers.now = 1031.0
    assert retained.set("/", "b", message())
    assert found(retained, "#") == {"b": b"21.5"}


# -- expiry


def test_what_has_expired_is_not_given_and_is_dropped(broker: Any) -> None:
    retained = Retained(broker)
    retained.set("/", "a", message(b"x", 1_005_000))
    retained.set("/", "b", message(b"x", 1_005_001))
    broker.timers.now = 1005.0
    assert found(retained, "#") == {"b": b"x"}
    assert retained.count() == 1
    assert retained.get("/", "b") is not None
    broker.timers.now = 1005.5
    assert retained.get("/", "b") is None
    assert (retained.count(), retained.bytes, list(broker.store.definitions(b"mqtt/"))) == (0, 0, [])


def test_a_new_message_has_its_own_expiry(broker: Any) -> None:
    retained = Retained(broker)
    retained.set("/", "a", message(b"x", 1_005_000))
    retained.set("/", "a", message(b"y"))
    broker.timers.now = 2000.0
    assert found(retained, "a") == {"a": b"y"}


async def test_what_has_expired_goes_unasked(autojump_clock: trio.testing.MockClock) -> None:
    broker: Any = FakeBroker()
    broker.timers.tick()
    retained = Retained(broker)
    now_ms = broker.timers.wall_ms(broker.timers.now)
    for number in range(100):
        retained.set("/", f"a/{number}", message(b"x", now_ms + 1000 + 10 * number))
        retained.set("/", f"b/{number}", message(b"x", now_ms + 1000 + 10 * number))
        retained.set("/", f"b/{number}", message(b"x"))
    retained.set("/", "later", message(b"x", now_ms + 3_600_000))
    async with trio.open_nursery() as nursery:
        nursery.start_soon(broker.timers.run)
        await trio.sleep(65)
        assert retained.count() == 101
        await trio.sleep(3600)
        assert retained.count() == 100
        nursery.cancel_scope.cancel()


def test_remaining_expiry_is_told_in_whole_seconds() -> None:
    one = message(b"x", 10_000)
    assert [one.remaining_s(now) for now in (0, 1, 8_999, 9_000, 9_999, 10_000, 20_000)] == [
        10,
        10,
        2,
        1,
        1,
        1,
        1,
    ]
    assert message().remaining_s(0) is None

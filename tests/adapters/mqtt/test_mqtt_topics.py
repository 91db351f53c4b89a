"""Topics and filters (3.1.1 and 5.0, 4.7 and 4.8.2), and how they look as routing keys."""

from __future__ import annotations

import time
from collections.abc import Callable
from fnmatch import fnmatchcase

import pytest
from hypothesis import given
from hypothesis import strategies as st

from leveret.adapters.mqtt.spec import MqttFault, Reason
from leveret.adapters.mqtt.topics import FilterTree, KeyMap, check_filter, check_topic, matches, split_shared


def refusal(check: Callable[[str], object], text: str) -> Reason | None:
    try:
        check(text)
    except MqttFault as fault:
        return fault.reason
    return None


@pytest.mark.parametrize(
    "topic",
    [
        "a",
        "/",
        "//",
        "a b",
        "/finance",
        "finance/",
        "$SYS/x",
        "\ufeffa",
        "a*b",
        "a.b",
        "\U0001f407",
        "a" * 65535,
    ],
    ids=lambda text: text[:10],
)
def test_topics(topic: str) -> None:
    assert refusal(check_topic, topic) is None
    assert refusal(check_filter, topic) is None


@pytest.mark.parametrize(
    "topic",
    [
        pytest.param("", id="MQTT-4.7.3-1 empty"),
        pytest.param("a/+", id="MQTT-3.3.2-2 MQTT-4.7.1-1 MQTT-4.7.0-1 plus"),
        pytest.param("a+b", id="MQTT-3.3.2-2 plus within a level"),
        pytest.param("#", id="MQTT-3.3.2-2 MQTT-4.7.1-1 MQTT-4.7.0-1 number sign"),
        pytest.param("a\0", id="MQTT-4.7.3-2 NUL"),
        pytest.param("a" * 65536, id="MQTT-4.7.3-3 65536 bytes"),
        pytest.param("\u20ac" * 21846, id="MQTT-4.7.3-3 65538 bytes in fewer characters"),
    ],
)
def test_no_topics(topic: str) -> None:
    assert refusal(check_topic, topic) == Reason.TOPIC_NAME_INVALID


@pytest.mark.parametrize(
    "filter",
    [
        "#",
        "+",
        "+/+",
        "/+",
        "/#",
        "+/#",
        "+/tennis/#",
        "sport/+/player1",
        "a//#",
        "a/+/",
        "$SYS/#",
        "$share",
        "a/$b",
    ],
)
def test_filters(filter: str) -> None:
    assert refusal(check_filter, filter) is None


@pytest.mark.parametrize(
    "filter",
    [
        pytest.param("", id="MQTT-4.7.3-1 empty"),
        pytest.param("sport/tennis#", id="3.1.1 MQTT-4.7.1-2 5.0 MQTT-4.7.1-1 number sign within a level"),
        pytest.param("sport/tennis/#/ranking", id="3.1.1 MQTT-4.7.1-2 5.0 MQTT-4.7.1-1 number sign not last"),
        pytest.param("#/", id="3.1.1 MQTT-4.7.1-2 5.0 MQTT-4.7.1-1 level behind"),
        pytest.param("##", id="3.1.1 MQTT-4.7.1-2 5.0 MQTT-4.7.1-1 two"),
        pytest.param("sport+", id="3.1.1 MQTT-4.7.1-3 5.0 MQTT-4.7.1-2 plus within the last level"),
        pytest.param("a+/b", id="3.1.1 MQTT-4.7.1-3 5.0 MQTT-4.7.1-2 plus within a level"),
        pytest.param("++", id="3.1.1 MQTT-4.7.1-3 5.0 MQTT-4.7.1-2 two"),
        pytest.param("+#", id="MQTT-4.7.1-2 both"),
        pytest.param("a\0", id="MQTT-4.7.3-2 NUL"),
        pytest.param("a" * 65536, id="MQTT-4.7.3-3 65536 bytes"),
    ],
)
def test_no_filters(filter: str) -> None:
    assert refusal(check_filter, filter) == Reason.TOPIC_FILTER_INVALID
    assert refusal(split_shared, "$share/g/" + filter) == Reason.TOPIC_FILTER_INVALID
    assert refusal(split_shared, "$queue/" + filter) == Reason.TOPIC_FILTER_INVALID


@pytest.mark.parametrize(
    ("filter", "expected"),
    [
        ("$share/g/a/b", ("g", "a/b")),
        ("$share/g/#", ("g", "#")),
        ("$share/g//finance", ("g", "/finance")),
        ("$share/g//", ("g", "/")),
        ("$share/g/$SYS/+", ("g", "$SYS/+")),
        ("$share/ g.x /a", (" g.x ", "a")),
        ("$queue/a/+", ("", "a/+")),
        ("a/$share/g/b", None),
        ("$shared/g/b", None),
        ("/$share/g/b", None),
        ("$SHARE/g/b", None),
        ("#", None),
    ],
)
def test_shared_filters(filter: str, expected: tuple[str, str] | None) -> None:
    assert split_shared(filter) == expected


@pytest.mark.parametrize(
    "filter",
    [
        pytest.param("$share//a", id="MQTT-4.8.2-1 no name"),
        pytest.param("$share/g+/a", id="MQTT-4.8.2-2 plus"),
        pytest.param("$share/+/a", id="MQTT-4.8.2-2 plus alone"),
        pytest.param("$share/#/a", id="MQTT-4.8.2-2 number sign"),
        pytest.param("$share/g", id="MQTT-4.8.2-2 no slash"),
        pytest.param("$share/g/", id="MQTT-4.8.2-2 no filter"),
        pytest.param("$share/", id="MQTT-4.8.2-1 nothing"),
        pytest.param("$share", id="4.8.2 the prefix alone"),
    ],
)
def test_shared_filters_that_are_none(filter: str) -> None:
    assert refusal(split_shared, filter) == Reason.TOPIC_FILTER_INVALID


# The examples of 4.7.1 and 4.7.2, word by word, and the corners of them.
MATCHES = [
    ("sport/tennis/player1/#", "sport/tennis/player1", True),
    ("sport/tennis/player1/#", "sport/tennis/player1/ranking", True),
    ("sport/tennis/player1/#", "sport/tennis/player1/score/wimbledon", True),
    ("sport/tennis/player1/#", "sport/tennis/player10", False),
    ("sport/tennis/player1/#", "sport/tennis", False),
    ("sport/#", "sport", True),
    ("sport/#", "sports", False),
    ("#", "sport/tennis", True),
    ("#", "/", True),
    ("sport/tennis/+", "sport/tennis/player1", True),
    ("sport/tennis/+", "sport/tennis/player1/ranking", False),
    ("sport/+", "sport", False),
    ("sport/+", "sport/", True),
    ("+/+", "/finance", True),
    ("/+", "/finance", True),
    ("+", "/finance", False),
    ("+", "finance", True),
    ("+/tennis/#", "sport/tennis", True),
    ("+/tennis/#", "sport/tennis/x/y", True),
    ("sport/+/player1", "sport/tennis/player1", True),
    ("sport/+/player1", "sport//player1", True),
    ("+/#", "a", True),
    ("+/+/#", "a", False),
    ("/#", "a", False),
    ("/#", "/", True),
    ("a//b", "a/b", False),
    ("/a", "a", False),
    ("a/", "a", False),
    ("a/", "a/", True),
    ("ACCOUNTS", "Accounts", False),
    ("a.b", "a/b", False),
    ("a*", "ab", False),
    ("#", "$SYS/broker", False),
    ("+/monitor/Clients", "$SYS/monitor/Clients", False),
    ("+", "$SYS", False),
    ("+/#", "$SYS", False),
    ("$SYS/#", "$SYS/broker/x", True),
    ("$SYS/#", "$SYS", True),
    ("$SYS/monitor/+", "$SYS/monitor/Clients", True),
    ("a/#", "a/$b", True),
    ("a/+", "a/$b", True),
    ("/+", "/$b", True),
    ("\u00e9", "e\u0301", False),
    ("\ufeffa", "a", False),
]


@pytest.mark.parametrize(("filter", "topic", "expected"), MATCHES)
def test_matching(filter: str, topic: str, expected: bool) -> None:
    """[MQTT-4.7.2-1] $, [MQTT-4.7.3-4] no normalization; 4.7.1.2 `#` stands for the parent level too."""
    assert matches(filter, topic) is expected
    tree: FilterTree[int] = FilterTree()
    tree.add(filter, "me", 1)
    assert tree.match(topic) == ([1] if expected else [])


level = st.sampled_from(["", "a", "b", "aa", "$x", "\u20ac"])
topics = st.lists(level, min_size=1, max_size=5).map("/".join).filter(bool)
filters = st.builds(
    lambda levels, rest: "/".join(levels + rest),
    st.lists(st.one_of(level, st.just("+")), min_size=1, max_size=4),
    st.sampled_from([[], ["#"]]),
).filter(bool)


def by_the_book(filter: str, topic: str) -> bool:
    """4.7 said again, in another way: shell patterns, level by level."""
    if topic.startswith("$") and filter[0] in "+#":
        return False
    wanted, had = filter.split("/"), topic.split("/")
    if wanted[-1] == "#":
        wanted.pop()
        had = had[: len(wanted)] if len(had) > len(wanted) else had
    return len(wanted) == len(had) and all(
        fnmatchcase(one, "*" if pattern == "+" else pattern) for pattern, one in zip(wanted, had, strict=True)
    )


@given(filters, topics)
def test_matching_by_the_book(filter: str, topic: str) -> None:
    assert matches(filter, topic) == by_the_book(filter, topic)


@given(
    st.lists(st.tuples(st.booleans(), filters, st.integers(0, 1)), max_size=25),
    st.lists(topics, min_size=1, max_size=5),
)
def test_the_tree_is_a_list_of_filters(steps: list[tuple[bool, str, int]], asked: list[str]) -> None:
    """Whatever is added and removed, in whatever order, it finds what trying one by one finds."""
    tree: FilterTree[int] = FilterTree()
    model: dict[tuple[str, int], int] = {}
    for number, (is_new, filter, key) in enumerate(steps):
        if is_new:
            tree.add(filter, key, number)
            model[filter, key] = number
        else:
            assert tree.remove(filter, key) == (model.pop((filter, key), None) is not None)
        for topic in asked:
            expected = sorted(value for (text, _), value in model.items() if matches(text, topic))
            assert sorted(tree.match(topic)) == expected
    for filter, key in model:
        assert tree.remove(filter, key)
    assert all(tree.match(topic) == [] for topic in asked)
    assert not tree._root.children  # nothing is left behind


def test_the_tree_replaces_a_value() -> None:
    tree: FilterTree[str] = FilterTree()
    tree.add("a/+", 1, "old")
    tree.add("a/+", 1, "new")
    tree.add("a/+", 2, "other")
    assert sorted(tree.match("a/b")) == ["new", "other"]
    assert not tree.remove("a/+", 3)
    assert not tree.remove("a", 1)
    assert not tree.remove("a/+/c", 1)


def test_a_deep_filter_costs_little() -> None:
    """4.7.3: there is no limit to the number of levels; memory must not be one node for each."""
    tree: FilterTree[int] = FilterTree()
    begun = time.perf_counter()
    for number in range(20):
        tree.add("/" * (30000 + number) + "a", 0, number)
        tree.add("+/" * 30000 + str(number), 0, number)
    assert tree.match("/" * 30005 + "a") == [5]
    assert len(tree.match("x/" * 30000 + "7")) == 1
    assert time.perf_counter() - begun < 20
    nodes, waiting = 0, [tree._root]
    while waiting:
        node = waiting.pop()
        waiting += node.children.values()
        nodes += 1
    assert nodes <= 4 * 40


# -- routing keys


@pytest.mark.parametrize(
    ("topic", "key"),
    [
        ("a/b", "a.b"),
        ("/a", ".a"),
        ("a//b", "a..b"),
        ("a/", "a."),
        ("/", "."),
        ("\u20ac/x", "\u20ac.x"),
        ("a*b", "a*b"),
    ],
)
def test_keys(topic: str, key: str) -> None:
    """As RabbitMQ; empty levels are kept (features, topic and key)."""
    keymap = KeyMap("none", False)
    assert keymap.routing_key(topic) == key
    assert keymap.topic(key) == topic


@pytest.mark.parametrize(
    ("filter", "key"),
    [
        ("a/+/b", "a.*.b"),
        ("a/#", "a.#"),
        ("#", "#"),
        ("+", "*"),
        ("+/+", "*.*"),
        ("/+", ".*"),
        ("a.b/c", "a.b.c"),
    ],
)
def test_binding_keys(filter: str, key: str) -> None:
    assert KeyMap("none", False).binding_key(filter) == key


@pytest.mark.parametrize("escape", ["none", "percent"])
@pytest.mark.parametrize("key", ["", "*", "a.*", "#", "a.#", "a+", "+", "a#b", "a\0b", "\udcff", "a" * 65536])
def test_keys_that_are_no_topics(key: str, escape: str) -> None:
    """A wildcard in an AMQP key becomes none in MQTT; nor is a client sent what it must refuse."""
    assert KeyMap(escape, False).topic(key) is None


def test_a_dot_is_lost_without_escape() -> None:
    keymap = KeyMap("none", False)
    assert keymap.topic(keymap.routing_key("a.b/c")) == "a/b/c"


@pytest.mark.parametrize(
    ("topic", "key"),
    [
        ("1.5/x", "1%2E5.x"), ("a*", "a%2A"), ("*/b", "%2A.b"), ("50%", "50%25"), ("%2E", "%252E"), ("a/b", "a.b"),
        ("..", "%2E%2E"), ("%", "%25"),
    ],
)  # fmt: skip
def test_escaped_keys(topic: str, key: str) -> None:
    keymap = KeyMap("percent", False)
    assert keymap.routing_key(topic) == key
    assert keymap.topic(key) == topic


def test_escaped_binding_keys() -> None:
    keymap = KeyMap("percent", False)
    assert keymap.binding_key("1.5/+/*/#") == "1%2E5.*.%2A.#"
    assert keymap.topic("a%2Fb") == "a%2Fb"  # no escape of ours
    assert keymap.topic("a%23") is None
    assert keymap.topic("%2") == "%2"


@pytest.mark.parametrize("escape", ["none", "percent"])
def test_sparkplug(escape: str) -> None:
    """The first dot of the namespace, no other, and only where it is the first level."""
    keymap = KeyMap(escape, True)
    assert keymap.routing_key("spBv1.0/group/NDATA/node") == "spBv1___0.group.NDATA.node"
    assert keymap.topic("spBv1___0.group.NDATA.node") == "spBv1.0/group/NDATA/node"
    assert keymap.binding_key("spBv1.0/+/#") == "spBv1___0.*.#"
    assert keymap.routing_key("x/spBv1.0/a") == ("x.spBv1.0.a" if escape == "none" else "x.spBv1%2E0.a")
    assert KeyMap("none", False).routing_key("spBv1.0/group") == "spBv1.0.group"
    assert KeyMap("none", False).topic("spBv1___0.group") == "spBv1___0/group"


wild_level = st.text(st.sampled_from("ab.*%25E/$\u20ac"), max_size=6)
wild_topics = st.lists(wild_level, min_size=1, max_size=4).map("/".join).filter(bool)


@given(wild_topics)
def test_escaping_loses_nothing(topic: str) -> None:
    keymap = KeyMap("percent", False)
    key = keymap.routing_key(topic)
    assert keymap.topic(key) == topic
    assert key.count(".") == topic.count("/")


@given(wild_topics, st.sampled_from(["none", "percent"]))
def test_a_written_topic_is_believed_if_it_has_the_key(topic: str, escape: str) -> None:
    keymap = KeyMap(escape, False)
    key = keymap.routing_key(topic)
    assert keymap.is_topic_of(topic, key)
    assert keymap.topic(key, topic) == (topic.replace(".", "/") if escape == "none" else topic)
    assert not keymap.is_topic_of(topic, "other." + key)
    assert keymap.topic("other." + key, topic) == keymap.topic("other." + key)


@pytest.mark.parametrize("written", [None, 1, True, b"a.b", "", "a/+", "c", "a\0b", "\udcff", ["a.b"]])
def test_a_written_topic_that_is_none(written: object) -> None:
    assert KeyMap("none", False).topic("a.b", written) == "a/b"


@pytest.mark.parametrize(
    ("filter", "pattern"),
    [
        ("a.b/+", "a/b/+"),
        ("a/b/#", "a/b/#"),
        ("..", "//"),
        ("spBv1.0/g.1/+", "spBv1.0/g/1/+"),
        ("x/spBv1.0", "x/spBv1/0"),
    ],
)
def test_patterns(filter: str, pattern: str) -> None:
    """A dot in a filter is a slash where it is one in a topic, and stays one where it is escaped."""
    assert KeyMap("none", True).pattern(filter) == pattern
    assert KeyMap("percent", True).pattern(filter) == filter


@given(wild_topics, st.sampled_from(["none", "percent"]), st.booleans())
def test_a_topic_matches_itself(topic: str, escape: str, sparkplug: bool) -> None:
    """Whoever subscribes to a topic gets what is published to it, whatever became of it in the core."""
    keymap = KeyMap(escape, sparkplug)
    seen = keymap.topic(keymap.routing_key(topic), topic)
    assert seen is not None
    assert matches(keymap.pattern(topic), seen)


def amqp_matches(binding: list[str], words: list[str]) -> bool:
    """AMQP 3.1.3.3: `*` one word, `#` any number."""
    if not binding:
        return not words
    if binding[0] == "#":
        return any(amqp_matches(binding[1:], words[at:]) for at in range(len(words) + 1))
    return bool(words) and binding[0] in ("*", words[0]) and amqp_matches(binding[1:], words[1:])


@given(filters, topics)
def test_a_binding_finds_what_the_filter_matches(filter: str, topic: str) -> None:
    """For topics without dots; with escape for all others, too."""
    keymap = KeyMap("percent", False)
    if matches(filter, topic):
        assert amqp_matches(keymap.binding_key(filter).split("."), keymap.routing_key(topic).split("."))

"""Topics and filters: what is one (5.0 4.7), which match, and how they look as routing keys. Sans-IO."""

from __future__ import annotations

import re
from collections.abc import Hashable
from typing import Generic, TypeVar

from leveret.adapters.mqtt.spec import MqttFault, Reason

__all__ = ["FilterTree", "KeyMap", "check_filter", "check_topic", "matches", "split_shared"]

T = TypeVar("T")

SHARE = "$share/"
QUEUE = "$queue/"  # EMQX's shorthand: a group without a name
MAX_BYTES = 65535
SPARKPLUG, SPARKPLUG_KEY = "spBv1.0/", "spBv1___0."  # the first dot of Sparkplug's namespace is no separator
ESCAPES = {"%": "%25", ".": "%2E", "*": "%2A", "#": "%23"}
ESCAPED = re.compile(r"[%.*#]")
UNESCAPED = re.compile(r"%(25|2E|2A|23)")


def check_topic(topic: str) -> None:
    """A topic name: raise MqttFault TOPIC_NAME_INVALID for wildcards, NUL, none at all, or too many bytes."""
    if not topic or "+" in topic or "#" in topic or "\0" in topic or len(topic.encode()) > MAX_BYTES:
        raise MqttFault(Reason.TOPIC_NAME_INVALID, f"no topic: {topic[:100]!r}")


def check_filter(filter: str) -> None:
    """A topic filter: raise MqttFault TOPIC_FILTER_INVALID. `+` is a whole level, `#` the last one (4.7.1)."""
    levels = filter.split("/")
    is_good = bool(filter) and "\0" not in filter and len(filter.encode()) <= MAX_BYTES
    for level in levels[:-1]:
        is_good = is_good and "#" not in level and (level == "+" or "+" not in level)
    last = levels[-1]
    if not is_good or (last not in ("+", "#") and ("+" in last or "#" in last)):
        raise MqttFault(Reason.TOPIC_FILTER_INVALID, f"no filter: {filter[:100]!r}")


def split_shared(filter: str) -> tuple[str, str] | None:
    """Group and filter of a shared subscription; None if it is none. Raise MqttFault TOPIC_FILTER_INVALID (4.8.2)."""
    if filter.startswith(QUEUE):
        group, rest = "", filter[len(QUEUE) :]
    elif filter.startswith(SHARE) or filter == SHARE[:-1]:
        group, slash, rest = filter[len(SHARE) :].partition("/")
        if not group or not slash or "+" in group or "#" in group:
            raise MqttFault(Reason.TOPIC_FILTER_INVALID, f"no shared subscription: {filter[:100]!r}")
    else:
        return None
    check_filter(rest)
    return group, rest


def matches(filter: str, topic: str) -> bool:
    """`+` is any one level, `#` any number of them, none included; neither matches `$` at the beginning (4.7.2)."""
    if filter == topic:
        return True
    if topic[:1] == "$" and filter[:1] in ("+", "#"):
        return False
    if "+" not in filter:
        # At most a `#` at the end.
        if filter[-1:] != "#":
            return False
        return filter == "#" or topic.startswith(filter[:-1]) or topic == filter[:-2]
    levels, names = filter.split("/"), topic.split("/")
    for at, level in enumerate(levels):
        if level == "#":
            return True
        if at >= len(names) or (level != "+" and level != names[at]):
            return False
    return len(levels) == len(names)


class KeyMap:
    """Topics to routing keys and back, as RabbitMQ does it; with escape "percent" without loss.

    "none": `/` is `.`, so that `a.b` and `a/b` are one key, which comes back as `a/b`. A level `*` is a word
    that AMQP gives a meaning to: such a topic travels in a header (mapping.py).
    "percent": a `%`, `.`, `*` or `#` within a level is `%25`, `%2E`, `%2A`, `%23` in the key.
    """

    def __init__(self, escape: str = "none", sparkplug: bool = False) -> None:
        self._is_escaping = escape == "percent"
        self._is_sparkplug = sparkplug

    def routing_key(self, topic: str) -> str:
        prefix = ""
        if self._is_sparkplug and topic.startswith(SPARKPLUG):
            prefix, topic = SPARKPLUG_KEY, topic[len(SPARKPLUG) :]
        if self._is_escaping:
            topic = ESCAPED.sub(lambda found: ESCAPES[found[0]], topic)
        return prefix + topic.replace("/", ".")

    def binding_key(self, filter: str) -> str:
        """`+` becomes `*`. A superset: what has come is matched again, by `matches`."""
        if self._is_sparkplug and filter.startswith(SPARKPLUG):
            return SPARKPLUG_KEY + self.binding_key(filter[len(SPARKPLUG) :])
        return ".".join([self._binding_word(level) for level in filter.split("/")])

    def _binding_word(self, level: str) -> str:
        if level == "+":
            return "*"
        if level == "#" or not self._is_escaping:
            return level
        return ESCAPED.sub(lambda found: ESCAPES[found[0]], level)

    def pattern(self, filter: str) -> str:
        """What to match topics with that have been routing keys: with escape "none" a dot is a slash by then. Of a
        topic: what all see of it."""
        if self._is_escaping or "." not in filter:
            return filter
        if self._is_sparkplug and filter.startswith(SPARKPLUG):
            return SPARKPLUG + filter[len(SPARKPLUG) :].replace(".", "/")
        return filter.replace(".", "/")

    def topic(self, routing_key: str, written: object = None) -> str | None:
        """None: no topic that a client may be sent: it has wildcards for words, or is no UTF-8, or empty.

        written: the topic as the message itself tells it. If it is believed the answer is what all see of it, and
        never None.
        """
        if isinstance(written, str) and self.is_topic_of(written, routing_key):
            return self.pattern(written)
        prefix = ""
        if self._is_sparkplug and routing_key.startswith(SPARKPLUG_KEY):
            prefix, routing_key = SPARKPLUG, routing_key[len(SPARKPLUG_KEY) :]
        words = routing_key.split(".")
        if "*" in words or "#" in words:
            return None
        topic = "/".join(words)
        if self._is_escaping and "%" in topic:
            topic = UNESCAPED.sub(lambda found: chr(int(found[1], 16)), topic)
        topic = prefix + topic
        try:
            check_topic(topic)
        except (MqttFault, UnicodeEncodeError):  # surrogates: bytes that are no UTF-8
            return None
        return topic

    def is_topic_of(self, topic: str, routing_key: str) -> bool:
        """Is a topic that a message tells to be believed? It must have this very routing key, so that nobody sends
        under a topic that he may not publish to."""
        try:
            check_topic(topic)
        except (MqttFault, UnicodeEncodeError):
            return False
        return self.routing_key(topic) == routing_key


class _Node(Generic[T]):
    """The levels of `label` behind its parent's. Never one child and no values, but for the root."""

    __slots__ = ("children", "label", "values")

    def __init__(self, label: str) -> None:
        self.label = label  # one level or more, with the `/` between them
        self.children: dict[str, _Node[T]] = {}  # by the first level of the child's label
        self.values: dict[Hashable, T] = {}


class FilterTree(Generic[T]):
    """Filters with values, found by topic. A key tells apart the values of one filter.

    A radix tree of levels: a filter of 30,000 levels is one node, or two.
    """

    __slots__ = ("_root",)

    def __init__(self) -> None:
        self._root: _Node[T] = _Node("")

    def add(self, filter: str, key: Hashable, value: T) -> None:
        """The filter's value of this key, new or in place of the old one."""
        node, rest = self._root, filter
        while True:
            first = rest.partition("/")[0]
            child = node.children.get(first)
            if child is None:
                child = node.children[first] = _Node(rest)
                break
            shared = _shared_levels(child.label, rest)
            if shared < len(child.label):
                child = node.children[first] = _split(child, shared)
            if shared == len(rest):
                break
            node, rest = child, rest[shared + 1 :]
        child.values[key] = value

    def remove(self, filter: str, key: Hashable) -> bool:
        """False: it was not there."""
        way, node, rest = [self._root], self._root, filter
        while True:
            found = node.children.get(rest.partition("/")[0])
            if found is None or _shared_levels(found.label, rest) < len(found.label):
                return False
            node = found
            if rest == node.label:
                break
            way.append(node)
            rest = rest[len(node.label) + 1 :]
        if key not in node.values:
            return False
        del node.values[key]
        parent = way[-1]
        if not node.values and not node.children:
            del parent.children[node.label.partition("/")[0]]
            node = parent
            parent = way[-2] if len(way) > 1 else parent
        if node is not self._root:
            _join_child(node, parent)
        return True

    def match(self, topic: str) -> list[T]:
        """The values of all filters that match."""
        found: list[T] = []
        levels = topic.split("/")
        is_hidden = topic[:1] == "$"  # from wildcards at the beginning (MQTT-4.7.2-1)
        ways: list[tuple[_Node[T], int]] = [
            (self._root, 0)
        ]  # nodes, and the levels used up on the way to them
        while ways:
            node, at = ways.pop()
            children = node.children
            if at == len(levels):
                found += node.values.values()
                candidates = [children.get("#")]  # `a/#` matches `a`, too
            elif at == 0 and is_hidden:
                candidates = [children.get(levels[0])]
            else:
                candidates = [children.get("#"), children.get("+"), children.get(levels[at])]
            for child in candidates:
                if child is None:
                    continue
                label = child.label
                if "/" not in label:
                    used = -1 if label == "#" else at + 1
                else:
                    used = _match_label(label.split("/"), levels, at)
                if used < 0:
                    found += child.values.values()
                elif used:
                    ways.append((child, used))
        return found


def _match_label(label: list[str], levels: list[str], at: int) -> int:
    """How many levels of the topic are used up behind this label, whose first level matches; -1: all, by a `#`;
    0: no match."""
    for name in label[1:]:
        at += 1
        if name == "#":
            return -1
        if at == len(levels) or (name != "+" and name != levels[at]):
            return 0
    return at + 1


def _shared_levels(label: str, rest: str) -> int:
    """The length of the whole levels that both begin with; their first levels are the same."""
    shorter = min(len(label), len(rest))
    if label[:shorter] == rest[:shorter]:
        longer = label if len(label) > shorter else rest
        if len(longer) == shorter or longer[shorter] == "/":
            return shorter
    shared = at = 0
    for one, other in zip(label.split("/"), rest.split("/"), strict=False):
        if one != other:
            break
        shared = at + len(one)
        at = shared + 1
    return shared


def _split(node: _Node[T], shared: int) -> _Node[T]:
    """A new node for the first `shared` characters of the label, above the old one."""
    upper: _Node[T] = _Node(node.label[:shared])
    node.label = node.label[shared + 1 :]
    upper.children[node.label.partition("/")[0]] = node
    return upper


def _join_child(node: _Node[T], parent: _Node[T]) -> None:
    """A node that has no values and one child is one with its child."""
    if node.values or len(node.children) != 1:
        return
    (child,) = node.children.values()
    child.label = f"{node.label}/{child.label}"
    parent.children[node.label.partition("/")[0]] = child

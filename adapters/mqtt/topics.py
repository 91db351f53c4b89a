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
    if not rest:
        raise MqttFault(Reason.TOPIC_FILTER_INVALID, f"no shared subscription: {filter[:100]!r}")
    return group, rest


def matches(filter: str, topic: str) -> bool:
    """`+` is any one level, `#` any number of them, none included; neither matches `$` at the beginning (4.7.2)."""
    if filter == topic:
        return True
    if topic[0] == "$" and filter[0] in "+#":
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

    "none": `/` is `.`, so that `a.b` and `a/b` are one key, which comes back as `a/b`.
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

    def topic(self, routing_key: str) -> str | None:
        """None: no topic that a client may be sent: it has wildcards for words, or is no UTF-8, or empty."""
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


class _Node(Generic[T]):
    __slots__ = ("children", "values")

    def __init__(self) -> None:
        self.children: dict[str, _Node[T]] = {}
        self.values: dict[Hashable, T] = {}


class FilterTree(Generic[T]):
    """Filters with values, found by topic. A key tells apart the values of one filter."""

    __slots__ = ("_root",)

    def __init__(self) -> None:
        self._root: _Node[T] = _Node()

    def add(self, filter: str, key: Hashable, value: T) -> None:
        """The filter's value of this key, new or in place of the old one."""
        node = self._root
        for level in filter.split("/"):
            node = node.children.setdefault(level, _Node())
        node.values[key] = value

    def remove(self, filter: str, key: Hashable) -> bool:
        """False: it was not there."""
        way: list[tuple[_Node[T], str]] = []
        node = self._root
        for level in filter.split("/"):
            way.append((node, level))
            found = node.children.get(level)
            if found is None:
                return False
            node = found
        if key not in node.values:
            return False
        del node.values[key]
        while way and not node.values and not node.children:
            node, level = way.pop()
            del node.children[level]
        return True

    def match(self, topic: str) -> list[T]:
        """The values of all filters that match."""
        found: list[T] = []
        nodes = [self._root]
        is_first = topic[:1] == "$"
        for level in topic.split("/"):
            following: list[_Node[T]] = []
            for node in nodes:
                children = node.children
                if not is_first:
                    rest = children.get("#")
                    if rest is not None:
                        found += rest.values.values()
                    one = children.get("+")
                    if one is not None:
                        following.append(one)
                exact = children.get(level)
                if exact is not None and level not in ("+", "#"):
                    following.append(exact)
            nodes = following
            is_first = False
            if not nodes:
                return found
        for node in nodes:
            found += node.values.values()
            rest = node.children.get("#")
            if rest is not None:  # `a/#` matches `a`, too
                found += rest.values.values()
        return found

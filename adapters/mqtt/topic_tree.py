"""Topics in a tree of levels, found again by filters with wildcards (5.0 4.7): what the retained messages are kept in."""

from __future__ import annotations

import sys

__all__ = ["Node", "TopicTree"]


class Node:
    """The levels of `label` behind its parent. Never one child and no value, but for the root."""

    __slots__ = ("children", "expires_at_ms", "label", "value")

    def __init__(self, label: str) -> None:
        self.label = label  # one level or more, with the `/` between them
        self.children: dict[str, Node] | None = None  # by the first level of the child's label
        self.value: bytes | None = None
        self.expires_at_ms = 0  # 0: never


class TopicTree:
    """Topics and values. A radix tree of levels: a topic of 30,000 levels costs no more nodes than any other."""

    def __init__(self) -> None:
        self.root = Node("")
        self.count = 0
        self.bytes = 0

    def find(self, topic: str) -> Node | None:
        node, rest = self.root, topic
        while True:
            child = (node.children or {}).get(rest.partition("/")[0])
            if child is None:
                return None
            if rest == child.label:
                return child if child.value is not None else None
            if not rest.startswith(child.label) or rest[len(child.label)] != "/":
                return None
            node, rest = child, rest[len(child.label) + 1 :]

    def set(self, topic: str, value: bytes) -> Node:
        node = self._grow(topic)
        if node.value is None:
            self.count += 1
        else:
            self.bytes -= len(node.value)
        node.value = value
        self.bytes += len(value)
        return node

    def _grow(self, topic: str) -> Node:
        node, rest = self.root, topic
        while True:
            if node.children is None:
                node.children = {}
            first = rest.partition("/")[0]
            child = node.children.get(first)
            if child is None:
                child = node.children[sys.intern(first)] = Node(sys.intern(rest) if first == rest else rest)
                return child
            shared = _shared_levels(child.label, rest)
            if shared < len(child.label):
                child = node.children[first] = _split(child, shared)
            if shared == len(rest):
                return child
            node, rest = child, rest[shared + 1 :]

    def remove(self, topic: str) -> Node | None:
        """The node that had the topic's value; its value is None now."""
        way = [self.root]
        rest = topic
        while rest is not None:
            child = (way[-1].children or {}).get(rest.partition("/")[0])
            if child is None or _shared_levels(child.label, rest) != len(child.label):
                return None
            way.append(child)
            if rest == child.label:
                break
            rest = rest[len(child.label) + 1 :]
        node = way.pop()
        if node.value is None:
            return None
        self.count -= 1
        self.bytes -= len(node.value)
        node.value = None
        parent = way.pop()
        if not node.children:
            assert parent.children is not None
            del parent.children[node.label.partition("/")[0]]
            if way:
                _join_child(parent, way[-1])
        else:
            _join_child(node, parent)
        return node

    def nodes(self) -> list[Node]:
        """All that have values."""
        found: list[Node] = []
        _collect(self.root, found, False)
        return found

    def match(self, filter: str) -> list[Node]:
        """The nodes with values whose topics match, in no particular order."""
        levels = filter.split("/")
        found: list[Node] = []
        ways = [(self.root, 0)]  # nodes, and how many levels of the filter the way to them has used up
        while ways:
            node, at = ways.pop()
            if at == len(levels):
                if node.value is not None:
                    found.append(node)
                continue
            level = levels[at]
            is_root = node is self.root
            if level == "#":  # the parent level, too (4.7.1.2)
                _collect(node, found, is_root)
                continue
            children = node.children
            if children is None:
                continue
            if level != "+":
                child = children.get(level)
                candidates = [] if child is None else [child]
            elif is_root:  # [MQTT-4.7.2-1]
                candidates = [child for first, child in children.items() if not first.startswith("$")]
            else:
                candidates = list(children.values())
            for child in candidates:
                if "/" not in child.label:
                    ways.append((child, at + 1))
                    continue
                used = _match_label(child.label.split("/"), levels, at)
                if used is None:
                    continue
                if used < 0:
                    _collect(child, found, False)
                else:
                    ways.append((child, used))
        return found


def _match_label(label: list[str], levels: list[str], at: int) -> int | None:
    """How many levels of the filter are used up behind this label whose first level matches; -1: a `#` took all
    the rest; None: no match."""
    for name in label[1:]:
        at += 1
        if at == len(levels):
            return None
        level = levels[at]
        if level == "#":
            return -1
        if level not in ("+", name):
            return None
    return at + 1


def _collect(node: Node, found: list[Node], is_root: bool) -> None:
    """The node and all below; from the root without `$...` [MQTT-4.7.2-1]."""
    nodes = [node]
    if is_root:
        nodes = [child for first, child in (node.children or {}).items() if not first.startswith("$")]
    while nodes:
        node = nodes.pop()
        if node.value is not None:
            found.append(node)
        if node.children is not None:
            nodes.extend(node.children.values())


def _shared_levels(label: str, rest: str) -> int:
    """The length of the whole levels that both begin with; their first levels are the same."""
    if rest == label or (rest.startswith(label) and rest[len(label)] == "/"):
        return len(label)
    if label.startswith(rest) and label[len(rest)] == "/":
        return len(rest)
    shared = at = 0
    for one, other in zip(label.split("/"), rest.split("/"), strict=False):
        if one != other:
            break
        shared = at + len(one)
        at = shared + 1
    return shared


def _split(node: Node, shared: int) -> Node:
    """A new node for the first `shared` characters of the label, above the old one."""
    upper, node.label = Node(sys.intern(node.label[:shared])), sys.intern(node.label[shared + 1 :])
    upper.children = {sys.intern(node.label.partition("/")[0]): node}
    return upper


def _join_child(node: Node, parent: Node) -> None:
    """A node that has no value and one child is one with its child."""
    if node.value is not None or node.children is None or len(node.children) != 1:
        return
    (child,) = node.children.values()
    assert parent.children is not None
    child.label = f"{node.label}/{child.label}"
    parent.children[node.label.partition("/")[0]] = child

"""The topic exchange: keys are words between dots; in a binding `*` is one word, `#` any number (AMQP 3.1.3.3)."""

from __future__ import annotations

from collections.abc import Hashable, Iterable
from typing import ClassVar

from leveret.core.bindings import DestinationCounts, binding_identity
from leveret.core.exchange import Arguments, Binding, Destination
from leveret.core.message import Envelope

__all__ = ["TopicExchange"]

REMEMBERED_KEYS = 8192  # then all are forgotten: ever new keys are not worth remembering


class Node:
    """One word of a binding key; the way from the root to it is the key's beginning."""

    __slots__ = ("any_words", "is_any_words", "one_word", "tally", "words")

    def __init__(self, *, is_any_words: bool = False) -> None:
        self.words: dict[str, Node] = {}
        self.one_word: Node | None = None  # *
        self.any_words: Node | None = None  # #
        self.is_any_words = is_any_words
        self.tally = DestinationCounts()

    @property
    def is_leaf(self) -> bool:
        return not self.words and self.one_word is None and self.any_words is None

    def child(self, word: str) -> Node | None:
        if word == "*":
            return self.one_word
        return self.any_words if word == "#" else self.words.get(word)

    def grow(self, word: str) -> Node:
        """The child for this word of a binding key, new if need be."""
        child = self.child(word)
        if child is not None:
            return child
        child = Node(is_any_words=word == "#")
        if word == "*":
            self.one_word = child
        elif word == "#":
            self.any_words = child
        else:
            self.words[word] = child
        return child

    def cut(self, word: str) -> None:
        if word == "*":
            self.one_word = None
        elif word == "#":
            self.any_words = None
        else:
            del self.words[word]


def split(key: str) -> list[str]:
    """The empty key has no words; `a..b` has three, one of them empty (RabbitMQ's reading)."""
    return key.split(".") if key else []


class TopicExchange:
    """A trie, walked with the set of all nodes the words so far lead to: no backtracking, however many `#` there are.

    RabbitMQ's main branch allows two `#` in a binding key at most, for fear of that backtracking; older ones do not,
    and neither do we.
    """

    name: ClassVar[str] = "topic"
    is_stable = True

    def __init__(self, arguments: Arguments) -> None:
        self._bindings: set[Hashable] = set()
        self._root = Node()
        self._remembered: dict[str, tuple[Destination, ...]] = {}

    def validate(self, binding: Binding) -> None:
        pass

    def bind(self, binding: Binding) -> bool:
        identity = binding_identity(binding)
        if identity in self._bindings:
            return False
        self._bindings.add(identity)
        self._remembered.clear()
        node = self._root
        for word in split(binding.routing_key):
            node = node.grow(word)
        node.tally.add(binding.destination)
        return True

    def unbind(self, binding: Binding) -> bool:
        identity = binding_identity(binding)
        if identity not in self._bindings:
            return False
        self._bindings.remove(identity)
        self._remembered.clear()
        node = self._root
        way: list[tuple[Node, str]] = []
        for word in split(binding.routing_key):
            way.append((node, word))
            node = node.grow(word)
        node.tally.remove(binding.destination)
        # Cut what leads nowhere, or a churn of reply keys would grow the trie for ever.
        while way and node.is_leaf and not node.tally:
            node, word = way.pop()
            node.cut(word)
        return True

    def route(self, envelope: Envelope, routing_key: str) -> Iterable[Destination]:
        destinations = self._remembered.get(routing_key)
        if destinations is None:
            destinations = self._match(routing_key)
            if len(self._remembered) >= REMEMBERED_KEYS:
                self._remembered.clear()
            self._remembered[routing_key] = destinations
        return destinations

    def _match(self, key: str) -> tuple[Destination, ...]:
        found: list[DestinationCounts] = []
        nodes: dict[Node, None] = {}  # an ordered set
        _reach(self._root, nodes, found)
        for word in split(key):
            following: dict[Node, None] = {}
            for node in nodes:
                if node.is_any_words:
                    following[node] = None  # swallows the word; what is behind its own `#` does too
                child = node.words.get(word)
                if child is not None:
                    _reach(child, following, found)
                child = node.one_word
                if child is not None:
                    _reach(child, following, found)
            nodes = following
            if not nodes:
                break
        found += [node.tally for node in nodes if node.tally]
        if not found:
            return ()
        if len(found) == 1:
            return found[0].destinations
        return tuple(dict.fromkeys([destination for tally in found for destination in tally.destinations]))


def _reach(node: Node, nodes: dict[Node, None], found: list[DestinationCounts]) -> None:
    """Enter a node, and with it the `#` behind it, which may stand for no word at all.

    A `#` at the end of a binding key matches from here on, whatever follows: it need not be walked on.
    """
    nodes[node] = None
    behind = node.any_words
    while behind is not None:
        if behind.is_leaf:
            found.append(behind.tally)
            return
        nodes[behind] = None
        behind = behind.any_words

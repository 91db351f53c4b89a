"""The headers exchange: a binding's arguments against a message's headers (AMQP 3.1.3.4)."""

from __future__ import annotations

from collections.abc import Hashable, Iterable
from typing import Any, ClassVar

from leveret.core.bindings import DestinationCounts, binding_identity, canonical
from leveret.core.erlang_terms import erlang_term
from leveret.core.errors import InvalidArgument
from leveret.core.exchange import Arguments, Binding, Destination
from leveret.core.fields import type_name
from leveret.core.message import Envelope

__all__ = ["HeadersExchange"]

MODES = ("all", "any", "all-with-x", "any-with-x")

# A requirement is a header that must be there (its key), or must have this value (key and value).
Requirement = str | tuple[str, Hashable]


def _mode(arguments: Arguments) -> str:
    mode = arguments.get("x-match", "all")
    return mode if mode in MODES else "all"  # from definitions that nobody validated: as RabbitMQ


def _requirements(arguments: Arguments, *, with_x: bool) -> frozenset[Requirement]:
    """x-match itself never counts, other x-* only in the with-x modes; a void value asks for presence."""
    return frozenset(
        key if value is None else (key, canonical(value))
        for key, value in arguments.items()
        if key != "x-match" and (with_x or not key.startswith("x-"))
    )


class Pattern:
    """What bindings with equal arguments ask for, and where they lead."""

    __slots__ = ("handles", "is_all", "requirements", "tally")

    def __init__(
        self, requirements: frozenset[Requirement], handles: Iterable[Requirement], *, is_all: bool
    ) -> None:
        self.requirements = requirements
        self.handles = tuple(handles)  # the requirements under which to look for it
        self.is_all = is_all
        self.tally = DestinationCounts()


class HeadersExchange:
    """An index from requirement to patterns: a message meets only the patterns that ask for one of its headers."""

    name: ClassVar[str] = "headers"
    is_stable = False  # the key decides nothing

    def __init__(self, arguments: Arguments) -> None:
        self._bindings: set[Hashable] = set()
        self._patterns: dict[tuple[bool, frozenset[Requirement]], Pattern] = {}
        self._by_handle: dict[Requirement, list[Pattern]] = {}

    def validate(self, binding: Binding) -> None:
        if "x-match" not in binding.arguments:
            return
        mode: Any = binding.arguments["x-match"]
        if not isinstance(mode, (str, bytes)) or type_name(mode) != "longstr":
            raise InvalidArgument(
                f"Invalid x-match field type {type_name(mode)} (value {erlang_term(mode)}); expected longstr"
            )
        if mode not in MODES:
            raise InvalidArgument(
                f"Invalid x-match field value {erlang_term(mode)}; expected all, any, all-with-x, or any-with-x"
            )

    def bind(self, binding: Binding) -> bool:
        identity = binding_identity(binding)
        if identity in self._bindings:
            return False
        self._bindings.add(identity)
        key = self._pattern_key(binding)
        pattern = self._patterns.get(key)
        if pattern is None:
            pattern = self._patterns[key] = self._add_pattern(key[1], is_all=key[0])
        pattern.tally.add(binding.destination)
        return True

    def _add_pattern(self, requirements: frozenset[Requirement], *, is_all: bool) -> Pattern:
        handles: Iterable[Requirement] = requirements
        if is_all and requirements:  # one is enough to find it: the one that the fewest others have
            handles = [min(requirements, key=lambda one: len(self._by_handle.get(one, ())))]
        pattern = Pattern(requirements, handles, is_all=is_all)
        for handle in pattern.handles:
            self._by_handle.setdefault(handle, []).append(pattern)
        return pattern

    def unbind(self, binding: Binding) -> bool:
        identity = binding_identity(binding)
        if identity not in self._bindings:
            return False
        self._bindings.remove(identity)
        key = self._pattern_key(binding)
        pattern = self._patterns[key]
        pattern.tally.remove(binding.destination)
        if not pattern.tally:
            del self._patterns[key]
            for handle in pattern.handles:
                patterns = self._by_handle[handle]
                patterns.remove(pattern)
                if not patterns:
                    del self._by_handle[handle]
        return True

    @staticmethod
    def _pattern_key(binding: Binding) -> tuple[bool, frozenset[Requirement]]:
        mode = _mode(binding.arguments)
        return mode.startswith("all"), _requirements(binding.arguments, with_x=mode.endswith("-with-x"))

    def route(self, envelope: Envelope, routing_key: str) -> Iterable[Destination]:
        found: dict[Destination, None] = {}
        # Nothing asked for: all of it is there. (`any` of nothing has no handle, so it is never found.)
        everything = self._patterns.get((True, frozenset()))
        if everything is not None:
            found = dict.fromkeys(everything.tally.destinations)
        headers = envelope.properties.headers
        if not headers or not self._by_handle:
            return tuple(found)
        facts: set[Requirement] = set(headers)
        for key, value in headers.items():
            if value is not None:
                facts.add((key, canonical(value)))
        by_handle = self._by_handle
        for fact in facts & by_handle.keys():
            for pattern in by_handle[fact]:
                if not pattern.is_all or pattern.requirements <= facts:
                    found.update(dict.fromkeys(pattern.tally.destinations))
        return tuple(found)

"""The direct exchange: to the destinations bound with exactly this key (AMQP 3.1.3.1)."""

from __future__ import annotations

from collections.abc import Hashable, Iterable
from typing import ClassVar

from leveret.core.bindings import DestinationCounts, binding_identity
from leveret.core.exchange import Arguments, Binding, Destination
from leveret.core.message import Envelope

__all__ = ["DirectExchange"]


class DirectExchange:
    """A dict from key to destinations."""

    name: ClassVar[str] = "direct"
    is_stable = True

    def __init__(self, arguments: Arguments) -> None:
        self._bindings: set[Hashable] = set()
        self._tallies: dict[str, DestinationCounts] = {}

    def validate(self, binding: Binding) -> None:
        pass

    def bind(self, binding: Binding) -> bool:
        identity = binding_identity(binding)
        if identity in self._bindings:
            return False
        self._bindings.add(identity)
        tally = self._tallies.get(binding.routing_key)
        if tally is None:
            tally = self._tallies[binding.routing_key] = DestinationCounts()
        tally.add(binding.destination)
        return True

    def unbind(self, binding: Binding) -> bool:
        identity = binding_identity(binding)
        if identity not in self._bindings:
            return False
        self._bindings.remove(identity)
        tally = self._tallies[binding.routing_key]
        tally.remove(binding.destination)
        if not tally:
            del self._tallies[binding.routing_key]
        return True

    def route(self, envelope: Envelope, routing_key: str) -> Iterable[Destination]:
        tally = self._tallies.get(routing_key)
        return tally.destinations if tally is not None else ()

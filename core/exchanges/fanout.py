"""The fanout exchange: to everything that is bound, whatever the key (AMQP 3.1.3.2)."""

from __future__ import annotations

from collections.abc import Hashable, Iterable
from typing import ClassVar

from leveret.core.bindings import DestinationCounts, binding_identity
from leveret.core.exchange import Arguments, Binding, Destination
from leveret.core.message import Envelope

__all__ = ["FanoutExchange"]


class FanoutExchange:
    """One tally."""

    name: ClassVar[str] = "fanout"
    is_stable = True

    def __init__(self, arguments: Arguments) -> None:
        self._bindings: set[Hashable] = set()
        self._tally = DestinationCounts()

    def validate(self, binding: Binding) -> None:
        pass

    def bind(self, binding: Binding) -> bool:
        identity = binding_identity(binding)
        if identity in self._bindings:
            return False
        self._bindings.add(identity)
        self._tally.add(binding.destination)
        return True

    def unbind(self, binding: Binding) -> bool:
        identity = binding_identity(binding)
        if identity not in self._bindings:
            return False
        self._bindings.remove(identity)
        self._tally.remove(binding.destination)
        return True

    def route(self, envelope: Envelope, routing_key: str) -> Iterable[Destination]:
        return self._tally.destinations

"""Destinations and messages for tests of exchange types."""

from __future__ import annotations

from typing import Any

from leveret.core.exchange import Binding, ExchangeType
from leveret.core.message import Envelope
from leveret.core.properties import Properties

__all__ = ["Place", "bound", "message", "names"]


class Place:
    """A destination that receives nothing."""

    def __init__(self, name: str, kind: str = "queue") -> None:
        self.name, self.kind = name, kind

    def __repr__(self) -> str:
        return f"<{self.kind} {self.name!r}>"


def message(key: str = "", headers: dict[str, Any] | None = None, **properties: Any) -> Envelope:
    """As it comes in: decoded from its wire form."""
    return Envelope("x", key, Properties(headers=headers, **properties).encode())


def bound(
    exchange: ExchangeType, *bindings: tuple[str, str] | tuple[str, str, dict[str, Any]]
) -> dict[str, Place]:
    """Bind (queue, key, arguments) after validation; one place per queue name."""
    places: dict[str, Place] = {}
    for queue, key, *arguments in bindings:
        place = places.setdefault(queue, Place(queue))
        binding = Binding(place, key, *arguments)
        exchange.validate(binding)
        assert exchange.bind(binding)
    return places


def names(exchange: ExchangeType, envelope: Envelope) -> list[str]:
    """Where it goes: names, sorted; a duplicate would show."""
    return sorted(one.name for one in exchange.route(envelope, envelope.routing_key))

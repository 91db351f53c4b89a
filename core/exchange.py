"""The exchange contract: pure routing; no I/O, no await, no knowledge of queue contents."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar, Protocol

from leveret.core.message import Envelope

__all__ = ["Arguments", "Binding", "Destination", "ExchangeType"]

Arguments = Mapping[str, Any]


class Destination(Protocol):
    """Something a binding leads to: a queue or another exchange. Compared by identity."""

    @property
    def name(self) -> str: ...
    @property
    def kind(self) -> str: ...  # "queue" or "exchange"


@dataclass(frozen=True, slots=True)
class Binding:
    """One line from an exchange to a destination. Identity: (destination, routing_key, arguments)."""

    destination: Destination
    routing_key: str
    arguments: Arguments = field(default_factory=dict, hash=False)


class ExchangeType(Protocol):
    """How one exchange routes. An instance belongs to one declared exchange and holds that exchange's bindings.

    Called only from the broker's task; every method is synchronous and must not block.
    """

    name: ClassVar[str]
    """As clients declare it: "topic"."""

    def __init__(self, arguments: Arguments) -> None:
        """Raise InvalidArgument for arguments it cannot work with, before the exchange exists."""

    def validate(self, binding: Binding) -> None:
        """Raise InvalidArgument for a binding it cannot work with. Called before `bind`."""

    def bind(self, binding: Binding) -> bool:
        """Add a binding. False: an equal one was already there."""

    def unbind(self, binding: Binding) -> bool:
        """Remove a binding. False: it was not there."""

    def route(self, envelope: Envelope, routing_key: str) -> Iterable[Destination]:
        """Where a message goes, each destination at most once; no mutation.

        `routing_key` is the key to route by: the envelope's own, or one of its CC and BCC keys.
        """

    @property
    def is_stable(self) -> bool:
        """True: while the bindings stay, the same routing key always gives the same destinations (may be cached)."""

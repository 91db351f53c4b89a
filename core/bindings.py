"""What every exchange type needs of bindings: their identity, values that compare as RabbitMQ's do, and tallies."""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from typing import Any

from leveret.core.exchange import Arguments, Binding, Destination

__all__ = ["DestinationCounts", "binding_identity", "canonical"]


def canonical(value: Any) -> Hashable:
    """A field value as something hashable that is equal exactly if the values are.

    Types and widths of numbers do not count, booleans are no numbers, and a byte array equals the string of the same
    bytes: RabbitMQ drops the type tags and compares with Erlang's `==` (rabbit_exchange_type_headers.erl).
    Unlike there, the order of keys within a nested table does not count either.
    """
    if type(value) is str or value is None:
        return value
    if isinstance(value, bool):
        return (bool, value)
    if isinstance(value, bytes):
        return value.decode("utf-8", "surrogateescape")
    if isinstance(value, Mapping):
        return (dict, frozenset((key, canonical(item)) for key, item in value.items()))
    if isinstance(value, (list, tuple)):
        return (list, tuple(canonical(item) for item in value))
    return value  # type: ignore[no-any-return]  # numbers, text, Decimal: all hashable


def _frozen(arguments: Arguments) -> Hashable:
    return canonical(arguments) if arguments else ()


def binding_identity(binding: Binding) -> tuple[Destination, str, Hashable]:
    """Two bindings of one exchange with the same identity are the same binding (arguments count)."""
    return binding.destination, binding.routing_key, _frozen(binding.arguments)


class DestinationCounts:
    """Destinations, each with the number of bindings that lead to it; in the order in which they came."""

    __slots__ = ("_counts", "_destinations")

    def __init__(self) -> None:
        self._counts: dict[Destination, int] = {}
        self._destinations: tuple[Destination, ...] | None = ()

    def __bool__(self) -> bool:
        return bool(self._counts)

    def __len__(self) -> int:
        return len(self._counts)

    def add(self, destination: Destination) -> None:
        count = self._counts.get(destination, 0)
        self._counts[destination] = count + 1
        if not count:
            self._destinations = None

    def remove(self, destination: Destination) -> None:
        """One binding less; the destination stays while another one leads to it."""
        count = self._counts[destination] - 1
        if count:
            self._counts[destination] = count
        else:
            del self._counts[destination]
            self._destinations = None

    @property
    def destinations(self) -> tuple[Destination, ...]:
        """Each once. Built when asked for, so that ten thousand binds in a row do not build ten thousand tuples."""
        destinations = self._destinations
        if destinations is None:
            destinations = self._destinations = tuple(self._counts)
        return destinations

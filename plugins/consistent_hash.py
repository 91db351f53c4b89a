"""The consistent-hash exchange: each message goes to one of the bound queues, which share the keys in proportion to their weights."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Hashable, Iterable
from hashlib import blake2b
from typing import Any, ClassVar

from leveret.core.bindings import binding_identity
from leveret.core.erlang_terms import erlang_term
from leveret.core.errors import InvalidArgument
from leveret.core.exchange import Arguments, Binding, Destination
from leveret.core.fields import encode_table, type_name
from leveret.core.message import Envelope

__all__ = ["ConsistentHashExchange"]

# Keys are hashed to slots, and each slot has a destination. With this number, ten equal destinations get 10 % +- 0.12 % each.
SLOTS = 1 << 16
MAX_WEIGHT = 10000  # as RabbitMQ's
WEIGHT = re.compile(r"[+-]?[0-9]+", re.ASCII)  # what Erlang's list_to_integer takes
PROPERTIES = ("message_id", "correlation_id", "timestamp")
HASHED_BY = ("hash-header", "hash-property", "x-hash-on")  # the last is LavinMQ's name for the first
ALGORITHMS = ("ring", "jump")  # of LavinMQ's x-algorithm; the algorithm here has the properties of both
MASK = (1 << 64) - 1


def _text(arguments: Arguments, name: str) -> str:
    value = arguments[name]
    if not isinstance(value, str):
        raise InvalidArgument(f"invalid type '{type_name(value)}' for arg '{name}': a longstr is needed")
    return value


def _weight(key: str) -> int:
    if not WEIGHT.fullmatch(key):
        raise InvalidArgument(f"The binding key must be an integer: {erlang_term(key)}")
    weight = int(key)
    if weight < 1:
        raise InvalidArgument("The binding key must be greater than 0")
    if weight > MAX_WEIGHT:
        raise InvalidArgument(f"The binding key must not exceed {MAX_WEIGHT}")
    return weight


def _digest(raw: bytes) -> int:
    return int.from_bytes(blake2b(raw, digest_size=8).digest(), "big")


def _mix(number: int) -> int:
    """Hash a number of 64 bits to a number of 64 bits (the finalizer of splitmix64)."""
    number = ((number ^ (number >> 30)) * 0xBF58476D1CE4E5B9) & MASK
    number = ((number ^ (number >> 27)) * 0x94D049BB133111EB) & MASK
    return number ^ (number >> 31)


class ConsistentHashExchange:
    """Weighted rendezvous hashing over a fixed number of slots.

    For each slot, every destination gets a pseudo-random number, which depends on its name and the slot and is scaled by its weight.
    The destination with the lowest number owns the slot. The owners depend on names and weights alone, and not on the order of
    bindings or on restarts; a destination that is added or removed changes only the slots that it gains or loses. The owner of a
    slot is computed when the first message is hashed to it.

    A destination that is bound several times counts with its greatest weight. (RabbitMQ counts the first binding, and the queue gets
    no messages if another one is removed: rabbit_exchange_type_consistent_hash.erl, ch_hash_ring_delete_fun.)
    """

    name: ClassVar[str] = "x-consistent-hash"

    def __init__(self, arguments: Arguments) -> None:
        given = [name for name in HASHED_BY if name in arguments]
        texts = [_text(arguments, name) for name in given]
        if len(given) > 1:
            raise InvalidArgument(f"{given[0]} and {given[1]} are mutually exclusive")
        if given == ["hash-property"] and texts[0] not in PROPERTIES:
            raise InvalidArgument(f"Unsupported property: {texts[0]}")
        if "x-algorithm" in arguments and _text(arguments, "x-algorithm") not in ALGORITHMS:
            raise InvalidArgument(f"x-algorithm must be one of {', '.join(ALGORITHMS)}")
        self.is_stable = not given
        self._value: Callable[[Envelope], Any] = _routing_key
        if given == ["hash-property"]:
            self._value = _property(texts[0])
        elif given:
            self._value = _header(texts[0])
        self._bindings: set[Hashable] = set()
        self._weights: dict[Destination, list[int]] = {}
        # (seed, 1 / weight, destination), sorted by name: the order decides between equal numbers.
        self._contenders: list[tuple[int, float, Destination]] = []
        self._owners: list[Destination | None] = []  # by slot; empty after a change

    def validate(self, binding: Binding) -> None:
        _weight(binding.routing_key)

    def bind(self, binding: Binding) -> bool:
        identity = binding_identity(binding)
        if identity in self._bindings:
            return False
        weight = _weight(binding.routing_key)
        self._bindings.add(identity)
        self._weights.setdefault(binding.destination, []).append(weight)
        self._owners = []
        return True

    def unbind(self, binding: Binding) -> bool:
        identity = binding_identity(binding)
        if identity not in self._bindings:
            return False
        self._bindings.remove(identity)
        weights = self._weights[binding.destination]
        weights.remove(_weight(binding.routing_key))
        if not weights:
            del self._weights[binding.destination]
        self._owners = []
        return True

    def route(self, envelope: Envelope, routing_key: str) -> Iterable[Destination]:
        """Route to one destination, by the message's own routing key even where `routing_key` is one of its CC keys, as in RabbitMQ."""
        if not self._weights:
            return ()
        owners = self._owners
        if not owners:
            owners = self._owners = [None] * SLOTS
            self._contenders = self._sorted_contenders()
        value = self._value(envelope)
        raw = value.encode("utf-8", "surrogateescape") if type(value) is str else _raw(value)
        slot = _digest(raw) % SLOTS
        owner = owners[slot]
        if owner is None:
            owner = owners[slot] = self._compute_owner(slot)
        return (owner,)

    def _sorted_contenders(self) -> list[tuple[int, float, Destination]]:
        named = sorted(self._weights.items(), key=lambda item: (item[0].name, item[0].kind))
        return [
            (_digest(f"{one.kind}\0{one.name}".encode("utf-8", "surrogateescape")), 1 / max(weights), one)
            for one, weights in named
        ]

    def _compute_owner(self, slot: int) -> Destination:
        salt = _mix((slot + 1) * 0x9E3779B97F4A7C15 & MASK)
        log, best, owner = math.log, math.inf, None
        for seed, inverse_weight, destination in self._contenders:
            # -ln(uniform) / weight is exponentially distributed with the rate weight. The least of such numbers is a destination's with
            # a probability in proportion to its weight.
            number = -log(((_mix(seed ^ salt) >> 11) + 0.5) * 2.0**-53) * inverse_weight
            if number < best:
                best, owner = number, destination
        assert owner is not None
        return owner


# -- the value that is hashed. All messages without this value go to one queue, as in RabbitMQ


def _routing_key(envelope: Envelope) -> Any:
    return envelope.routing_key


def _property(name: str) -> Callable[[Envelope], Any]:
    return lambda envelope: getattr(envelope.properties, name)


def _header(name: str) -> Callable[[Envelope], Any]:
    def value(envelope: Envelope) -> Any:
        headers = envelope.properties.headers
        return headers.get(name) if headers else None

    return value


def _raw(value: Any) -> bytes:
    """The bytes to hash: the decimal digits of an integer of any type, and the encoding of a table or another value."""
    if value is None:
        return b""
    if isinstance(value, bytes):
        return value
    if isinstance(value, int) and not isinstance(value, bool):
        return b"%d" % value
    return encode_table({"": value})

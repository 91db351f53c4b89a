"""What stands in for an exchange whose type is gone: a plugin was switched off, or is not installed any more."""

from __future__ import annotations

from collections.abc import Hashable, Iterable
from typing import ClassVar

from leveret.core.bindings import binding_identity
from leveret.core.errors import PreconditionFailed
from leveret.core.exchange import Arguments, Binding, Destination
from leveret.core.message import Envelope

__all__ = ["UnavailableExchange"]


class UnavailableExchange:
    """The exchange survives, its bindings can be changed, publishing is refused (rabbit_exchange_type_invalid.erl).

    It keeps the bindings only by their identity: who owns the exchange has them, and gives them to the real type when
    that comes back. `exchange`, `vhost` and `missing` are for the refusal's text.
    """

    name: ClassVar[str] = "vanished"
    is_stable = False  # a refusal must not be remembered as a route

    def __init__(
        self, arguments: Arguments, *, exchange: str = "", vhost: str = "/", missing: str = "vanished"
    ) -> None:
        self.exchange, self.vhost, self.missing = exchange, vhost, missing
        self._bindings: set[Hashable] = set()

    def validate(self, binding: Binding) -> None:
        pass

    def bind(self, binding: Binding) -> bool:
        identity = binding_identity(binding)
        is_new = identity not in self._bindings
        self._bindings.add(identity)
        return is_new

    def unbind(self, binding: Binding) -> bool:
        identity = binding_identity(binding)
        was_there = identity in self._bindings
        self._bindings.discard(identity)
        return was_there

    def route(self, envelope: Envelope, routing_key: str) -> Iterable[Destination]:
        raise PreconditionFailed(
            f"Cannot route message through exchange '{self.exchange}' in vhost '{self.vhost}': "
            f"exchange type {self.missing} not found"
        )

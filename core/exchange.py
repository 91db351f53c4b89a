"""Exchanges: the contract of their types (pure routing, without I/O and without knowledge of queues), and a declared one."""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar, Protocol

from leveret.core.message import Envelope

__all__ = ["Arguments", "Binding", "Destination", "Exchange", "ExchangeHost", "ExchangeType"]

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


class ExchangeHost(Protocol):
    """The virtual host of an exchange, as routing needs it: where names lead. core.vhost.Vhost is one."""

    name: str

    @property
    def exchanges(self) -> Mapping[str, Exchange]: ...
    @property
    def queues(self) -> Mapping[str, Destination]: ...


class Exchange:
    """A declared exchange. `router` knows its bindings as its type needs them, `bindings` as they are listed."""

    kind = "exchange"

    __slots__ = (
        "alternate_exchange", "arguments", "bindings", "is_auto_delete", "is_durable", "is_internal",
        "link_count", "name", "policy_name", "published_in", "published_out", "router", "type", "vhost",
    )  # fmt: skip

    def __init__(
        self,
        vhost: ExchangeHost,
        name: str,
        type: str,
        router: ExchangeType,
        *,
        durable: bool,
        auto_delete: bool,
        internal: bool,
        arguments: Arguments,
    ) -> None:
        self.vhost = vhost
        self.name = name
        self.type = type
        self.router = router
        self.is_durable = durable
        self.is_auto_delete = auto_delete
        self.is_internal = internal
        self.arguments = arguments
        self.bindings: dict[Hashable, Binding] = {}
        self.link_count = 0  # bindings that lead to exchanges; 0: all that is bound to it are queues
        self.alternate_exchange: str | None = None  # by argument or policy
        self.policy_name: str | None = None
        self.published_in = 0
        self.published_out = 0

    def __repr__(self) -> str:
        return f"<Exchange {self.name!r} type={self.type} vhost={self.vhost.name!r} bindings={len(self.bindings)}>"

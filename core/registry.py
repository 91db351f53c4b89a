"""The registry: types by kind and name, of which the broker is made.

The plugin loader fills it with what installed distributions offer; a type is imported when it is first needed.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from leveret.core.errors import InvalidArgument, PreconditionFailed
from leveret.core.exchange import Arguments, ExchangeType
from leveret.core.exchanges.unavailable import UnavailableExchange

if TYPE_CHECKING:
    from leveret.conf.settings import Settings

__all__ = ["BUILT_IN", "KINDS", "Kind", "Offer", "PluginError", "Registry"]

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Kind:
    """A kind of type, which is also an entry-point group, "leveret." and its name.

    singular: for messages.
    needed: the attributes a type must have, so that a mistake shows when it is loaded and not in the middle of a message.
    section: the section of the configuration where a type's own settings stand, with {} for its name; empty: none.
    """

    name: str
    singular: str
    needed: tuple[str, ...]
    section: str


KINDS = {
    kind.name: kind
    for kind in (
        Kind("exchanges", "exchange type", ("validate", "bind", "unbind", "route", "name"), "exchanges.{}"),
        Kind(
            "adapters", "adapter", ("name", "listeners", "protocols", "login_protocol", "run", "serve"), "{}"
        ),
        Kind("http", "HTTP area", ("name", "tags", "routes", "schemas", "metrics", "run", "drain"), ""),
        Kind("authenticators", "authenticator", ("name", "authenticate"), "auth.{}"),
        Kind("authorizers", "authorizer", ("name", "authorize"), "auth.{}"),
        Kind(
            "stores",
            "store",
            ("open", "run", "close", "put_definition", "create_log", "after_commit"),
            "store.{}",
        ),
        Kind("plugins", "plugin", ("run", "description"), "plugins.{}"),
        Kind("commands", "command", ("name", "params", "invoke"), ""),
    )
}
"""Every kind, by name."""

BUILT_IN = frozenset({"direct", "fanout", "topic", "headers"})
"""Exchange types that AMQP demands, and every virtual host is made of: they cannot be withdrawn."""


class PluginError(PreconditionFailed):
    """Something that is plugged in cannot be used; names the distribution it comes from. Fatal at start, 406 later."""


@dataclass(frozen=True, slots=True)
class Offer:
    """A distribution says that it has a type of this name. `load` imports it."""

    kind: str
    name: str
    distribution: str
    version: str
    load: Callable[[], Any]
    summary: str = ""

    @property
    def source(self) -> str:
        return f"{self.distribution} {self.version}".strip()


class Registry:
    """Offers by kind and name, and those that are switched off."""

    def __init__(self, offers: Iterable[Offer] = ()) -> None:
        self._offers: dict[tuple[str, str], Offer] = {}
        self._loaded: dict[tuple[str, str], Any] = {}
        self._withdrawn: set[tuple[str, str]] = set()
        self.settings: Settings | None = None  # of the broker, for exchange types that have some
        for offer in offers:
            self.add(offer)

    def add(self, offer: Offer) -> None:
        """Raise PluginError if another distribution offers the same name, naming both."""
        key = (offer.kind, offer.name)
        other = self._offers.get(key)
        if other is not None:
            raise PluginError(
                f"{other.source} and {offer.source} both offer {_a(offer.kind)} named '{offer.name}': uninstall one"
            )
        self._offers[key] = offer

    def register(self, kind: str, name: str, type: Any) -> None:
        """A type that is at hand: for tests, and for programs that embed the broker."""
        self.add(Offer(kind, name, distribution=type.__module__, version="", load=lambda: type))

    # -- asking

    def find(self, kind: str, name: str) -> Offer | None:
        return self._offers.get((kind, name))

    def offers(self, kind: str) -> list[Offer]:
        """All of a kind, by name; also those that are withdrawn."""
        return [self._offers[key] for key in sorted(self._offers) if key[0] == kind]

    def names(self, kind: str) -> list[str]:
        """Those that can be used."""
        return [offer.name for offer in self.offers(kind) if (kind, offer.name) not in self._withdrawn]

    def loaded(self, kind: str, name: str) -> Any | None:
        """The type if it was needed before, or None."""
        return self._loaded.get((kind, name))

    def load(self, kind: str, name: str) -> Any:
        """The type. Raise PluginError if there is none, or it cannot be imported, or is not of its kind."""
        key = (kind, name)
        if key in self._loaded:
            return self._loaded[key]
        offer = self._offers.get(key)
        if offer is None:
            known = ", ".join(self.names(kind)) or "none"
            raise PluginError(f"there is no {_one(kind)} named '{name}' (there are: {known})")
        try:
            loaded = offer.load()
        except Exception as error:
            raise PluginError(
                f"{_one(kind)} '{name}' of {offer.source} cannot be loaded: {type(error).__name__}: {error}"
            ) from error
        missing = [needed for needed in KINDS[kind].needed if not hasattr(loaded, needed)]
        if missing:
            raise PluginError(
                f"{_one(kind)} '{name}' of {offer.source} cannot be used: it has no '{missing[0]}'"
            )
        self._loaded[key] = loaded
        return loaded

    # -- settings

    def settings_type(self, kind: str, name: str) -> type | None:
        """The dataclass with which a type declares its settings (see conf/declare.py). Raise PluginError."""
        return getattr(self.load(kind, name), "settings_type", None)

    def own_settings(self, kind: str, name: str, settings: Settings) -> tuple[Any, ...]:
        """What a type is built with, behind the other arguments: its section, or nothing if it declares none."""
        declaration = self.settings_type(kind, name)
        if declaration is None:
            return ()
        return (settings.section(KINDS[kind].section.format(name), declaration),)

    # -- exchange types

    def exchange_type(self, name: str) -> Callable[[Arguments], ExchangeType]:
        """For a declaration: imports the type when it is first declared. Returns what builds an exchange of it.

        Raise InvalidArgument for a name that nobody offers, PluginError for one that cannot be loaded (both 406).
        """
        key = ("exchanges", name)
        if key not in self._offers or key in self._withdrawn:
            raise InvalidArgument(f"unknown exchange type '{name}'")
        loaded = self.load("exchanges", name)
        if loaded.name != name:
            raise PluginError(
                f"exchange type '{name}' of {self._offers[key].source} calls itself '{loaded.name}': it must be the same"
            )
        built: Callable[..., ExchangeType] = loaded
        if self.settings is None or self.settings_type("exchanges", name) is None:
            return built
        own = self.own_settings("exchanges", name, self.settings)
        return lambda arguments: built(arguments, *own)

    def restore_exchange(
        self, type_name: str, arguments: Arguments, *, exchange: str, vhost: str
    ) -> ExchangeType:
        """For an exchange that exists already: at recovery, and when plugins come and go. Never raises.

        If its type is gone, or does not take its arguments any more, a stand-in that refuses what is published.
        """
        try:
            return self.exchange_type(type_name)(arguments)
        except Exception as error:  # a plugin may raise anything here; the other exchanges must come up
            log.error("vhost=%s exchange=%r refuses messages: %s", vhost, exchange, error, exc_info=error)
            return UnavailableExchange(arguments, exchange=exchange, vhost=vhost, missing=type_name)

    # -- switching off

    def withdraw(self, kind: str, name: str) -> None:
        """From now on as if it were not installed. Raise InvalidArgument for what AMQP demands."""
        if kind == "exchanges" and name in BUILT_IN:
            raise InvalidArgument(f"exchange type '{name}' is part of AMQP and cannot be switched off")
        self._withdrawn.add((kind, name))

    def readmit(self, kind: str, name: str) -> None:
        self._withdrawn.discard((kind, name))

    def is_withdrawn(self, kind: str, name: str) -> bool:
        return (kind, name) in self._withdrawn


def _one(kind: str) -> str:
    return KINDS[kind].singular


def _a(kind: str) -> str:
    word = _one(kind)
    return f"an {word}" if word[0] in "aeiou" else f"a {word}"

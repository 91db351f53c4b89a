"""The conformance checks: our types pass them, and each rule is noticed when it is broken."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import pytest
from support.routes import Place, message

from leveret.core.errors import PreconditionFailed
from leveret.core.exchange import Arguments, Binding, Destination
from leveret.core.exchanges.checks import check_exchange
from leveret.core.exchanges.direct import DirectExchange
from leveret.core.exchanges.unavailable import UnavailableExchange
from leveret.core.message import Envelope
from leveret.plugins.loader import load_registry

TYPES = ("direct", "fanout", "topic", "headers", "x-consistent-hash")


@pytest.mark.parametrize("name", TYPES)
def test_every_type_passes(name: str) -> None:
    made = load_registry().exchange_type(name)
    check_exchange(lambda: made({}))


@pytest.mark.parametrize(
    "arguments",
    [
        {"hash-header": "h"},
        {"hash-property": "message_id"},
        {"hash-property": "timestamp"},
        {"x-hash-on": "h"},
    ],
)
def test_consistent_hash_passes_however_it_hashes(arguments: dict[str, Any]) -> None:
    made = load_registry().exchange_type("x-consistent-hash")
    check_exchange(lambda: made(arguments))


class Doubling(DirectExchange):
    def route(self, envelope: Envelope, routing_key: str) -> Iterable[Destination]:
        return [*super().route(envelope, routing_key)] * 2


class Forgetful(DirectExchange):
    """One unbind, and the destination is gone, whatever else leads to it."""

    def route(self, envelope: Envelope, routing_key: str) -> Iterable[Destination]:
        return [one for one in super().route(envelope, routing_key) if one not in self._gone]

    def __init__(self, arguments: Arguments) -> None:
        super().__init__(arguments)
        self._gone: set[Destination] = set()

    def unbind(self, binding: Binding) -> bool:
        self._gone.add(binding.destination)
        return super().unbind(binding)


class Careless(DirectExchange):
    """Says True whatever happens."""

    def bind(self, binding: Binding) -> bool:
        super().bind(binding)
        return True


class ArgumentBlind(DirectExchange):
    def bind(self, binding: Binding) -> bool:
        return super().bind(Binding(binding.destination, binding.routing_key))

    def unbind(self, binding: Binding) -> bool:
        return super().unbind(Binding(binding.destination, binding.routing_key))


class Sharing(DirectExchange):
    everything: set[Any] = set()  # noqa: RUF012 - the mistake
    tallies: dict[str, Any] = {}  # noqa: RUF012

    def __init__(self, arguments: Arguments) -> None:
        self._bindings = self.everything
        self._tallies = self.tallies


class Crashing(DirectExchange):
    def route(self, envelope: Envelope, routing_key: str) -> Iterable[Destination]:
        return super().route(envelope, routing_key) if routing_key.encode() else ()


class Fickle(DirectExchange):
    """Says that the key decides, and looks at the headers."""

    def route(self, envelope: Envelope, routing_key: str) -> Iterable[Destination]:
        return () if envelope.properties.headers else super().route(envelope, routing_key)


class Nameless(DirectExchange):
    name = ""


@pytest.mark.parametrize(
    ("broken", "complaint"),
    [
        (Doubling, "twice"),
        (Forgetful, "the destination with it"),
        (Careless, "bind must say False"),
        (ArgumentBlind, "bind must say True"),
        (Fickle, "more than the key decides"),
        (Nameless, "name"),
    ],
)
def test_a_broken_type_is_told_what_is_wrong(broken: type[DirectExchange], complaint: str) -> None:
    with pytest.raises(AssertionError, match=complaint):
        check_exchange(lambda: broken({}))


def test_types_that_share_state_are_noticed() -> None:
    with pytest.raises(AssertionError, match="a destination"):
        check_exchange(lambda: Sharing({}))


def test_a_type_that_crashes_on_odd_keys_is_noticed() -> None:
    with pytest.raises(UnicodeEncodeError):
        check_exchange(lambda: Crashing({}))


def test_the_stand_in_for_a_vanished_type_keeps_bindings_and_refuses_messages() -> None:
    exchange = UnavailableExchange({}, exchange="x", vhost="/", missing="t")
    binding = Binding(Place("q"), "k")
    exchange.validate(binding)
    assert exchange.bind(binding)
    assert not exchange.bind(binding)
    with pytest.raises(PreconditionFailed) as refusal:
        exchange.route(message("k"), "k")
    assert str(refusal.value) == (
        "Cannot route message through exchange 'x' in vhost '/': exchange type t not found"
    )
    assert exchange.unbind(binding)
    assert not exchange.unbind(binding)
    assert not exchange.is_stable

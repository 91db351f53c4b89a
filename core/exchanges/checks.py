"""What every exchange type must do, as a function: run it in the tests of your own."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any

from leveret.core.errors import InvalidArgument
from leveret.core.exchange import Binding, Destination, ExchangeType
from leveret.core.message import Envelope
from leveret.core.properties import Properties

__all__ = ["check_exchange"]

# What clients may send: all of it must be refused as InvalidArgument or routed, never anything else.
ODD_KEYS = (
    "",
    "#",
    "*",
    ".",
    "..",
    "a..b",
    "#.#.#.#",
    "*.#.*",
    "x" * 255,
    "ä",
    "\udcff",
    "\n",
    "0",
    "-1",
    "1e9",
)
ODD_HEADERS: tuple[dict[str, Any], ...] = (
    {}, {"x-match": "any"}, {"x-match": 1}, {"x-match": None}, {"a": None}, {"a": [1, {"b": None}]}, {"": ""},
    {"a": b"\xff", "x-delay": -1, "CC": ["a"]},
)  # fmt: skip


class Place:
    """A destination that receives nothing."""

    def __init__(self, name: str, kind: str = "queue") -> None:
        self.name, self.kind = name, kind

    def __repr__(self) -> str:
        return f"<{self.kind} {self.name!r}>"


def _envelope(key: str, headers: dict[str, Any] | None = None) -> Envelope:
    return Envelope.of("the exchange", key, Properties(headers=headers, message_id=f"id of {key[:200]!r}"))


def _routed(exchange: ExchangeType, envelope: Envelope) -> set[Destination]:
    destinations = list(exchange.route(envelope, envelope.routing_key))
    assert len(set(destinations)) == len(destinations), f"a destination comes twice: {destinations}"
    return set(destinations)


def check_exchange(
    make: Callable[[], ExchangeType],
    *,
    binding_keys: Sequence[str] = ("1", "2", "3"),
    make_envelope: Callable[[str], Envelope] = _envelope,
) -> None:
    """Raise AssertionError if what `make` makes breaks the contract of ExchangeType.

    make: a new exchange of the type; called often.
    binding_keys: three different ones that the type accepts.
    make_envelope: for a binding key, a message that such a binding, without arguments, lets through if it is the
        only one; by default one published with that very key.
    """
    exchange = make()
    assert isinstance(exchange.name, str), "the type needs a name"
    assert 0 < len(exchange.name) <= 255, "the type needs a name of 1 to 255 characters"
    assert isinstance(exchange.is_stable, bool)
    for check in (
        _check_identity, _check_destinations, _check_round_trip, _check_independence, _check_purity, _check_odd_input,
    ):  # fmt: skip
        check(make, tuple(binding_keys), make_envelope)


def _bind(exchange: ExchangeType, binding: Binding) -> bool:
    exchange.validate(binding)
    return exchange.bind(binding)


Maker = Callable[[], ExchangeType]
Envelopes = Callable[[str], Envelope]


def _check_identity(make: Maker, keys: Sequence[str], envelope: Envelopes) -> None:
    """(destination, key, arguments) is a binding's identity; adding and removing say whether they did."""
    exchange, place = make(), Place("q")
    different = [
        Binding(place, keys[0]),
        Binding(place, keys[1]),
        Binding(place, keys[0], {"x-check": 1}),
        Binding(Place("q"), keys[0]),  # another destination of the same name
        Binding(Place("q", "exchange"), keys[0]),
    ]
    assert not exchange.unbind(different[0]), "unbind must say False: it was not there"
    for binding in different:
        assert _bind(exchange, binding), f"bind must say True: {binding} is new"
    for binding in different:
        again = Binding(binding.destination, binding.routing_key, dict(binding.arguments))
        assert not _bind(exchange, again), f"bind must say False: {again} is there"
    for binding in different:
        again = Binding(binding.destination, binding.routing_key, dict(binding.arguments))
        assert exchange.unbind(again), f"unbind must say True: {again} was there"
        assert not exchange.unbind(binding), f"unbind must say False: {binding} is gone"
    assert not any(_routed(exchange, envelope(key)) for key in keys), "all bindings are gone, it still routes"


def _check_destinations(make: Maker, keys: Sequence[str], envelope: Envelopes) -> None:
    """The only binding gets its messages; a destination comes once, and stays until its last binding goes."""
    for key in keys:
        exchange, place = make(), Place("q")
        assert not _routed(exchange, envelope(key)), "no bindings, yet it routes"
        _bind(exchange, Binding(place, key))
        assert _routed(exchange, envelope(key)) == {place}, (
            f"the only binding, {key!r}, does not get its message"
        )
        second = Binding(place, key, {"x-check": 1})
        _bind(exchange, second)
        assert _routed(exchange, envelope(key)) == {place}
        exchange.unbind(second)
        assert _routed(exchange, envelope(key)) == {place}, (
            "one of two bindings went, and the destination with it"
        )
    exchange = make()
    places = [Place(f"q{index}") for index in range(20)]
    for index, place in enumerate(places):
        for key in keys[: 1 + index % 3]:
            _bind(exchange, Binding(place, key))
    for key in keys:
        assert _routed(exchange, envelope(key)) <= set(places), "a destination that nobody bound"


def _check_round_trip(make: Maker, keys: Sequence[str], envelope: Envelopes) -> None:
    """A binding that comes and goes leaves nothing behind; the same from any order of bindings."""
    exchange, reversed_exchange = make(), make()
    bindings = [Binding(Place(f"q{index}"), keys[index % len(keys)]) for index in range(12)]
    for binding in bindings:
        _bind(exchange, binding)
    for binding in reversed(bindings):
        _bind(reversed_exchange, binding)
    messages = [envelope(key) for key in keys]
    before = [_routed(exchange, message) for message in messages]
    if exchange.is_stable:
        assert before == [_routed(reversed_exchange, message) for message in messages], (
            "the order of bindings decides: after a restart it may be another"
        )
    is_steady = all(before == [_routed(exchange, message) for message in messages] for _ in range(10))
    for key in keys:
        guest = Binding(Place("guest", "exchange"), key, {"x-check": [1, {"a": None}]})
        _bind(exchange, guest)
        for message in messages:
            _routed(exchange, message)
        assert exchange.unbind(guest)
        after = [_routed(exchange, message) for message in messages for _ in range(10)]
        assert not any(guest.destination in one for one in after), (
            "a binding that is gone still gets messages"
        )
    if is_steady:  # a type may route by chance
        assert before == [_routed(exchange, message) for message in messages], "a binding left a trace"


def _check_independence(make: Maker, keys: Sequence[str], envelope: Envelopes) -> None:
    """Exchanges of one type share nothing."""
    one, other = make(), make()
    binding = Binding(Place("q"), keys[0])
    _bind(one, binding)
    assert not _routed(other, envelope(keys[0])), "two exchanges share their bindings"
    assert not other.unbind(binding)


def _check_purity(make: Maker, keys: Sequence[str], envelope: Envelopes) -> None:
    """Routing changes nothing; what `is_stable` looks at the key alone."""
    exchange = make()
    for index in range(10):
        _bind(exchange, Binding(Place(f"q{index}"), keys[index % len(keys)]))
    for key in keys:
        plain = envelope(key)
        header = plain.header
        first = _routed(exchange, plain)
        assert plain.header == header, "routing changed the message"
        if not exchange.is_stable:
            continue
        assert all(_routed(exchange, plain) == first for _ in range(10)), "is_stable, but it changes its mind"
        other = Envelope.of(
            "another exchange", plain.routing_key, Properties(headers={"a": 1}, message_id="other")
        )
        assert _routed(exchange, other) == first, "is_stable, but more than the key decides"


def _check_odd_input(make: Maker, keys: Sequence[str], envelope: Envelopes) -> None:
    """Whatever a client sends is refused as InvalidArgument, or taken; never anything else."""
    exchange, taken = make(), list[Binding]()
    for key in ODD_KEYS:
        for arguments in ODD_HEADERS:
            binding = Binding(Place("odd"), key, arguments)
            try:
                exchange.validate(binding)
            except InvalidArgument:
                continue
            assert exchange.bind(binding)
            taken.append(binding)
    odd: Iterable[Envelope] = [
        _envelope(key, headers) for key in ODD_KEYS for headers in (None, *ODD_HEADERS)
    ]
    for message in odd:
        _routed(exchange, message)
    for binding in taken:
        assert exchange.unbind(binding), f"{binding} cannot be unbound"
    for message in odd:
        assert not _routed(exchange, message)

"""From entry points to types: what is found, what is loaded when, and what is said if it cannot be."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from support.distributions import install
from support.routes import Place, bound, message, names

from leveret.auth.internal import InternalBackend
from leveret.conf.declare import setting
from leveret.conf.load import SettingsError, load
from leveret.core.errors import InvalidArgument, PreconditionFailed
from leveret.core.exchange import Binding
from leveret.core.exchanges.checks import check_exchange
from leveret.core.exchanges.fanout import FanoutExchange
from leveret.core.registry import KINDS, PluginError, Registry
from leveret.core.store.memory import MemoryStore
from leveret.plugins.loader import declarations_of, load_registry

LVC = '''
from leveret.core.bindings import DestinationCounts, binding_identity
class LastValueExchange:
    """Routes as direct; written by somebody who does not know how ours do it."""

    name = "x-lvc"
    is_stable = True

    def __init__(self, arguments):
        self.bindings = []

    def validate(self, binding):
        pass

    def bind(self, binding):
        is_new = all(binding_identity(one) != binding_identity(binding) for one in self.bindings)
        if is_new:
            self.bindings.append(binding)
        return is_new

    def unbind(self, binding):
        rest = [one for one in self.bindings if binding_identity(one) != binding_identity(binding)]
        was_there = len(rest) < len(self.bindings)
        self.bindings = rest
        return was_there

    def route(self, envelope, routing_key):
        return {one.destination for one in self.bindings if one.routing_key == routing_key}
'''


def test_our_own_types_come_in_by_entry_points() -> None:
    registry = load_registry()
    assert {"direct", "fanout", "topic", "headers", "x-consistent-hash"} <= set(registry.names("exchanges"))
    assert "amqp" in registry.names("adapters")
    assert {"lmdb", "memory"} <= set(registry.names("stores"))
    assert "tracing" in registry.names("plugins")
    offer = registry.find("exchanges", "topic")
    assert offer is not None
    assert offer.distribution == "leveret"


def test_a_strangers_exchange_type_comes_in_by_the_same_door(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    install(
        monkeypatch, tmp_path / "site", "last-values", {"last_values": LVC},
        "[leveret.exchanges]\nx-lvc = last_values:LastValueExchange\n",
    )  # fmt: skip
    registry = load_registry()
    assert "x-lvc" in registry.names("exchanges")
    assert "last_values" not in sys.modules, "it must not be imported before it is declared"
    made = registry.exchange_type("x-lvc")
    check_exchange(lambda: made({}))
    exchange = made({})
    bound(exchange, ("q", "k"))
    assert names(exchange, message("k")) == ["q"]


def test_two_distributions_with_one_name_are_an_error_that_names_both(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    for name in ("first-one", "second-one"):
        install(
            monkeypatch, tmp_path / name, name, {},
            "[leveret.exchanges]\nx-lvc = nowhere:Nothing\n",
        )  # fmt: skip
    with pytest.raises(PluginError) as error:
        load_registry()
    assert str(error.value) in (
        "first-one 1.0 and second-one 1.0 both offer an exchange type named 'x-lvc': uninstall one",
        "second-one 1.0 and first-one 1.0 both offer an exchange type named 'x-lvc': uninstall one",
    )


def test_nobody_can_take_the_place_of_a_built_in_type(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    install(monkeypatch, tmp_path / "s", "impostor", {}, "[leveret.exchanges]\ndirect = evil:Exchange\n")
    with pytest.raises(PluginError, match=r"leveret .*impostor|impostor .*leveret"):
        load_registry()


@pytest.mark.parametrize(
    ("source", "complaint"),
    [
        ("import nothing_of_that_name", "ModuleNotFoundError: No module named 'nothing_of_that_name'"),
        ("1 / 0", "ZeroDivisionError"),
        ("x = 1", "AttributeError"),
        ("class Type: pass", "it has no 'validate'"),
        (LVC.replace('"x-lvc"', '"x-other"').replace("LastValueExchange", "Type"), "calls itself 'x-other'"),
    ],
)
def test_a_type_that_cannot_be_loaded_names_its_distribution(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, source: str, complaint: str
) -> None:
    install(
        monkeypatch, tmp_path / "site", "broken-thing", {"broken_thing": source},
        "[leveret.exchanges]\nx-lvc = broken_thing:Type\n",
    )  # fmt: skip
    registry = load_registry()
    with pytest.raises(PluginError, match=r"broken-thing 1\.0") as error:
        registry.exchange_type("x-lvc")
    assert complaint in str(error.value)
    assert isinstance(error.value, PreconditionFailed), "at declare it is the channel's error"


def test_other_groups_are_none_of_our_business(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    install(
        monkeypatch, tmp_path / "s", "other", {}, "[leveret.colours]\nred = a:b\n[console_scripts]\nx = a:b\n"
    )
    registry = load_registry()
    assert "red" not in {name for kind in KINDS for name in registry.names(kind)}


def registry_with(**types: Any) -> Registry:
    registry = Registry()
    for name, made in types.items():
        registry.register("exchanges", name.replace("_", "-"), made)
    return registry


def test_an_unknown_exchange_type() -> None:
    with pytest.raises(InvalidArgument) as error:
        Registry().exchange_type("x-foo")
    assert str(error.value) == "unknown exchange type 'x-foo'"


def test_what_is_asked_for_and_not_there_is_told_with_what_is_there() -> None:
    registry = load_registry()
    with pytest.raises(PluginError, match=r"there is no store named 'cloud' \(there are: lmdb, memory\)"):
        registry.load("stores", "cloud")


def test_a_withdrawn_type_is_unknown_until_it_is_back() -> None:
    class Own(FanoutExchange):
        name = "x-own"

    registry = registry_with(x_own=Own)
    assert registry.exchange_type("x-own") is Own
    registry.withdraw("exchanges", "x-own")
    assert registry.names("exchanges") == []
    assert [offer.name for offer in registry.offers("exchanges")] == ["x-own"]
    with pytest.raises(InvalidArgument, match="unknown exchange type 'x-own'"):
        registry.exchange_type("x-own")
    registry.readmit("exchanges", "x-own")
    assert registry.exchange_type("x-own") is Own


def test_exchange_types_and_stores_declare_settings(tmp_path: Path) -> None:
    @dataclass(frozen=True, slots=True)
    class LimitSettings:
        """A limit."""

        limit: int = setting(1, "how many", minimum=0)

    class Limited(FanoutExchange):
        name = "x-limited"
        settings_type = LimitSettings

        def __init__(self, arguments: Any, settings: LimitSettings) -> None:
            super().__init__(arguments)
            self.limit = settings.limit

    class LimitedStore(MemoryStore):
        settings_type = LimitSettings

    registry = registry_with(x_limited=Limited)
    registry.register("stores", "limited", LimitedStore)
    file = tmp_path / "leveret.toml"
    file.write_text(
        "[exchanges.x-limited]\nlimit = 2\n[store]\nengine = 'limited'\n[store.limited]\nlimit = 3\n"
    )
    environ = {"LEVERET_AUTH_BACKENDS": "internal", "LEVERET_PLUGINS_ENABLED": ""}
    registry.register("authenticators", "internal", InternalBackend)
    registry.settings = load(file, environ, {}, declarations_of(registry))
    exchange: Any = registry.exchange_type("x-limited")({})
    assert exchange.limit == 2
    assert registry.own_settings("stores", "limited", registry.settings) == (LimitSettings(3),)
    assert registry.own_settings("authenticators", "internal", registry.settings) == ()
    environ["LEVERET_EXCHANGES_X_LIMITED_LIMIT"] = "-1"
    with pytest.raises(SettingsError, match="LEVERET_EXCHANGES_X_LIMITED_LIMIT must be at least 0"):
        load(file, environ, {}, declarations_of(registry))


def test_what_amqp_demands_cannot_be_withdrawn() -> None:
    with pytest.raises(InvalidArgument, match="part of AMQP"):
        load_registry().withdraw("exchanges", "topic")


def test_an_exchange_whose_type_is_gone_survives_and_refuses() -> None:
    exchange = Registry().restore_exchange("x-lvc", {}, exchange="old", vhost="v")
    assert exchange.bind(Binding(Place("q"), "k"))
    with pytest.raises(PreconditionFailed) as error:
        exchange.route(message("k"), "k")
    assert str(error.value) == (
        "Cannot route message through exchange 'old' in vhost 'v': exchange type x-lvc not found"
    )


def test_an_exchange_whose_type_does_not_take_its_arguments_any_more_survives(
    caplog: pytest.LogCaptureFixture,
) -> None:
    class Moody(FanoutExchange):
        name = "x-moody"

        def __init__(self, arguments: Any) -> None:
            raise RuntimeError("not today")

    exchange = registry_with(x_moody=Moody).restore_exchange("x-moody", {}, exchange="old", vhost="v")
    with pytest.raises(PreconditionFailed):
        exchange.route(message("k"), "k")
    assert "not today" in caplog.text

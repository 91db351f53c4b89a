"""Finds the extensions that installed distributions offer as entry points, and the settings that they declare."""

from __future__ import annotations

import importlib.metadata
from collections.abc import Callable, Iterable
from importlib.metadata import Distribution, EntryPoint, EntryPoints
from typing import NamedTuple

from leveret.conf.declare import DeclarationError, Setting
from leveret.conf.load import Declarations
from leveret.conf.settings import declarations, shared_sections
from leveret.core.registry import KINDS, Offer, PluginError, Registry
from leveret.plugins.base import PluginStatus
from leveret.plugins.host import PluginHost

__all__ = ["PluginError", "PluginHost", "PluginStatus", "declarations_of", "load_registry"]

OURS = "leveret"
GROUP_PREFIX = "leveret."


def load_registry(entry_points: Iterable[EntryPoint] | None = None) -> Registry:
    """A registry of all extensions of installed distributions; the built-in ones are found in the same way. Nothing is imported.

    entry_points: for tests; by default those of every distribution on sys.path. Raise PluginError, which names both distributions, if
    two of them offer the same name.
    """
    registry = Registry()
    found = importlib.metadata.entry_points() if entry_points is None else EntryPoints(entry_points)
    # By the identity of the distribution, because each access to its metadata parses all of it.
    sources: dict[int, Source] = {}
    for kind in KINDS:
        for point in found.select(group=GROUP_PREFIX + kind):
            distribution = point.dist
            if distribution is None:  # an entry point that was created directly, as in tests
                source = Source(point.value.partition(":")[0], "", "")
            elif (known := sources.get(id(distribution))) is not None:
                source = known
            else:
                source = sources[id(distribution)] = _source(distribution)
            registry.add(Offer(kind, point.name, source.name, source.version, point.load, source.summary))
    return registry


def declarations_of(registry: Registry) -> Declarations:
    """The settings that installed types declare, for the loader of the configuration (conf/load.py).

    Imports the adapters. Raise PluginError for an adapter that cannot be used, or whose names are taken.
    """
    owners: dict[str, list[Offer]] = {}
    for kind in KINDS.values():
        for offer in registry.offers(kind.name) if kind.section else ():
            owners.setdefault(kind.section.format(offer.name), []).append(offer)
    sections = {name: _declaration(registry, name, offers) for name, offers in owners.items()}
    rows: dict[str, Setting] = {}
    tls: set[str] = set()
    taken = {row.flag: key for key, row in declarations().items() if row.flag}
    adapters = registry.names("adapters")
    for name in adapters:
        if name in shared_sections():
            raise PluginError(f"an adapter cannot be named '{name}': the section [{name}] is the broker's")
        for spec in registry.load("adapters", name).listeners:
            row = spec.setting()
            if row.flag in taken:
                raise PluginError(
                    f"adapter '{name}' has a listener named '{spec.name}', but {row.flag} is the flag of {taken[row.flag]}"
                )
            rows[row.key] = row
            taken[row.flag] = row.key
            if spec.is_tls:
                tls.add(row.key)
    return Declarations(sections, tuple(adapters), tuple(rows.values()), frozenset(tls))


def _declaration(registry: Registry, section: str, offers: list[Offer]) -> Callable[[], type | None]:
    """An authenticator and an authorizer of one name share a section."""

    def imported() -> type | None:
        try:
            found = {registry.settings_type(offer.kind, offer.name) for offer in offers} - {None}
        except PluginError as error:
            raise DeclarationError(str(error)) from error
        if len(found) > 1:
            raise DeclarationError(f"the section [{section}] is declared twice, by {offers[0].source}")
        return next(iter(found), None)

    return imported


class Source(NamedTuple):
    """The distribution of an extension."""

    name: str
    version: str
    summary: str


def _source(distribution: Distribution) -> Source:
    metadata = distribution.metadata
    name = metadata["Name"]
    summary = metadata["Summary"] if "Summary" in metadata else ""  # noqa: SIM401 - the protocol has no `get`
    if name == OURS:  # the summary describes the broker, and not its plugins
        summary = ""
    return Source(name, metadata["Version"], summary)

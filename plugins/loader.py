"""From installed distributions to the registry: entry points, found but not yet imported."""

from __future__ import annotations

import importlib.metadata
from collections.abc import Iterable
from importlib.metadata import Distribution, EntryPoint, EntryPoints
from typing import NamedTuple

from leveret.core.registry import KINDS, Offer, PluginError, Registry
from leveret.plugins.base import PluginStatus
from leveret.plugins.host import PluginHost

__all__ = ["PluginError", "PluginHost", "PluginStatus", "load_registry"]

OURS = "leveret"
GROUP_PREFIX = "leveret."


def load_registry(entry_points: Iterable[EntryPoint] | None = None) -> Registry:
    """What all installed distributions offer, ours among them and by the same listener; nothing is imported yet.

    entry_points: for tests; by default those of every distribution on sys.path.
    Raise PluginError, naming both distributions, if two offer one name.
    """
    registry = Registry()
    found = importlib.metadata.entry_points() if entry_points is None else EntryPoints(entry_points)
    sources: dict[int, Source] = {}  # by the identity of the distribution: each look parses all its metadata
    for kind in KINDS:
        for point in found.select(group=GROUP_PREFIX + kind):
            distribution = point.dist
            if distribution is None:  # an entry point that somebody made by hand
                source = Source(point.value.partition(":")[0], "", "")
            elif (known := sources.get(id(distribution))) is not None:
                source = known
            else:
                source = sources[id(distribution)] = _source(distribution)
            registry.add(Offer(kind, point.name, source.name, source.version, point.load, source.summary))
    return registry


class Source(NamedTuple):
    """Where a plugin comes from."""

    name: str
    version: str
    summary: str


def _source(distribution: Distribution) -> Source:
    metadata = distribution.metadata
    name = metadata["Name"]
    summary = metadata["Summary"] if "Summary" in metadata else ""  # noqa: SIM401 - the protocol has no `get`
    if name == OURS:  # what the whole is says nothing about its parts
        summary = ""
    return Source(name, metadata["Version"], summary)

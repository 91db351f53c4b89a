"""From installed distributions to the registry: entry points, found but not yet imported."""

from __future__ import annotations

import importlib.metadata
from collections.abc import Iterable
from importlib.metadata import EntryPoint, EntryPoints

from leveret.core.registry import KINDS, Offer, PluginError, Registry
from leveret.plugins.base import PluginStatus
from leveret.plugins.host import PluginHost

__all__ = ["PluginError", "PluginHost", "PluginStatus", "load_registry"]

OURS = "leveret"
GROUP_PREFIX = "leveret."


def load_registry(entry_points: Iterable[EntryPoint] | None = None) -> Registry:
    """What all installed distributions offer, ours among them and by the same door; nothing is imported yet.

    entry_points: for tests; by default those of every distribution on sys.path.
    Raise PluginError, naming both distributions, if two offer one name.
    """
    registry = Registry()
    found = importlib.metadata.entry_points() if entry_points is None else EntryPoints(entry_points)
    for kind in KINDS:
        for point in found.select(group=GROUP_PREFIX + kind):
            registry.add(_offer(kind, point))
    return registry


def _offer(kind: str, point: EntryPoint) -> Offer:
    distribution = point.dist
    if distribution is None:  # an entry point that somebody made by hand
        return Offer(kind, point.name, point.value.partition(":")[0], "", point.load)
    metadata = distribution.metadata
    summary = metadata["Summary"] if "Summary" in metadata else ""  # noqa: SIM401 - the protocol has no `get`
    if distribution.name == OURS:  # what the whole is says nothing about its parts
        summary = ""
    return Offer(kind, point.name, distribution.name, distribution.version, point.load, summary)

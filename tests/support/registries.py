"""A registry for each broker of a test, without reading the descriptions of all installed distributions for each."""

from __future__ import annotations

import functools

from leveret.core.registry import KINDS, Offer, Registry
from leveret.plugins.loader import load_registry

__all__ = ["installed"]


@functools.cache
def _offers() -> list[Offer]:
    registry = load_registry()
    return [offer for kind in KINDS for offer in registry.offers(kind)]


def installed() -> Registry:
    """What `load_registry()` gives: a new registry, nothing loaded and nothing withdrawn."""
    return Registry(_offers())

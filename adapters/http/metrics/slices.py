"""Turns: a hundred thousand queues are looked at in pieces, and others run in between."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable
from time import perf_counter
from typing import TypeVar

__all__ = ["SLICE_S", "in_slices"]

T = TypeVar("T")

SLICE_S = 0.005


async def in_slices(items: Iterable[T | None], take: Callable[[T], object]) -> None:
    """take(item) for each but None; a checkpoint after every SLICE_S."""
    until = perf_counter() + SLICE_S
    for item in items:
        if item is not None:
            take(item)
        if perf_counter() > until:
            await asyncio.sleep(0)
            until = perf_counter() + SLICE_S

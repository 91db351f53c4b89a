"""Both bundled stores keep the contract."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from leveret.core.store.base import Store
from leveret.core.store.checks import CHECKS, check_store
from leveret.core.store.lmdb.store import LmdbStore
from leveret.core.store.memory import MemoryState, MemoryStore


@dataclass(frozen=True)
class Settings:
    durability: str = "flush"
    map_size: int = 1 << 40


MakeStore = Callable[[str], Store]


@pytest.fixture(params=["flush", "os", "tiny map", "memory"])
def make_store(request: pytest.FixtureRequest, tmp_path: Path) -> MakeStore:
    states: dict[str, MemoryState] = {}

    def make(place: str) -> Store:
        if request.param == "memory":
            return MemoryStore(state=states.setdefault(place, MemoryState()))
        if request.param == "tiny map":
            return LmdbStore(tmp_path / place, Settings(map_size=64 << 10))
        return LmdbStore(tmp_path / place, Settings(request.param))

    return make


def abandon(store: Any) -> None:
    store.abandon()


@pytest.mark.parametrize("check", CHECKS, ids=lambda check: check.__name__)
async def test_contract(check: Callable[..., Any], make_store: MakeStore) -> None:
    await check(make_store, abandon)


async def test_check_store_as_a_plugin_would(tmp_path: Path) -> None:
    await check_store(lambda place: LmdbStore(tmp_path / place, Settings()))

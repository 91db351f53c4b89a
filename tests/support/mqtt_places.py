"""Brokers with nothing around them, one after another on the same disk, for what the MQTT listener keeps there.

Their wall clock is trio's clock in milliseconds, so that it goes on from one to the next; `timers.tick()` reads it.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import trio
from support.topology import FakeBroker

from leveret.conf.settings import Settings
from leveret.core.store.lmdb.store import LmdbStore
from leveret.core.store.memory import MemoryState, MemoryStore

__all__ = ["Place"]


class Place:
    """What outlives a broker. kind: memory or lmdb."""

    def __init__(self, kind: str, path: Path) -> None:
        self._kind, self._path, self._state = kind, path, MemoryState()
        self._store: Any = None

    def start(self, *vhosts: str) -> Any:
        """The next broker, with these virtual hosts; the one before is stopped if it was not killed."""
        self.stop()
        if self._kind == "memory":
            self._store = MemoryStore(state=self._state)
        else:
            self._store = LmdbStore(self._path, Settings().store)
        self._store.open()
        broker: Any = FakeBroker(self._store)
        for vhost in vhosts or ("/",):
            broker.add_vhost(vhost)
        try:
            broker.timers.tick()
        except RuntimeError:  # not inside trio: no time passes
            broker.timers.now = 0.0
        return broker

    def stop(self) -> None:
        """Cleanly: what is not written yet is written now."""
        if self._store is not None:
            self._store.close()

    async def commit(self) -> None:
        """Until everything taken so far is durable."""
        done = trio.Event()
        async with trio.open_nursery() as nursery:
            await nursery.start(self._store.run)
            if not self._store.after_commit(done.set):
                await done.wait()
            nursery.cancel_scope.cancel()

    def kill(self) -> None:
        """What is not durable is lost."""
        self._store.abandon()
        self._store = None

"""What has to be given back when the server stops, before its connections end."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from leveret.adapters.http.app import HttpContext
__all__ = ["AtStop"]


class AtStop:
    """Calls everything that is registered when `context.stopping` is set."""

    def __init__(self, context: HttpContext) -> None:
        self._context = context
        self._callbacks: dict[object, Callable[[], None]] = {}
        self._watcher: asyncio.Task[None] | None = None

    @property
    def is_stopping(self) -> bool:
        return self._context.stopping.is_set()

    def add(self, callback: Callable[[], None]) -> Callable[[], None]:
        """Synchronous, and never raising. Returns what forgets it. Call it from a handler."""
        if self._watcher is None:
            self._watcher = asyncio.get_running_loop().create_task(self._watch())
        token = object()
        self._callbacks[token] = callback

        def forget() -> None:
            self._callbacks.pop(token, None)

        return forget

    async def _watch(self) -> None:
        await self._context.stopping.wait()
        self._context.broker.timers.tick()
        for callback in list(self._callbacks.values()):
            callback()
        self._context.broker.dispatcher.run()

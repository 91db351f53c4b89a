"""The asyncio loop inside trio that aiohttp runs on."""

from __future__ import annotations

import asyncio
import heapq
import logging
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import sniffio
import trio
import trio_asyncio  # type: ignore[import-untyped]  # it has no types

__all__ = ["open_loop"]

log = logging.getLogger(__name__)

BATCH, BATCH_S = (
    256,
    0.002,
)  # callbacks, seconds in one pass of trio's scheduler; then the other tasks have their turn


@asynccontextmanager
async def open_loop() -> AsyncIterator[Any]:
    """A trio-asyncio loop that runs all callbacks that are ready in one go.

    trio-asyncio itself takes one per pass of the scheduler, with an epoll each: a request of aiohttp needs three or
    four, and that was most of its time (measured: 7,600 against 15,600 requests/s). An error in a callback is logged;
    trio-asyncio would end the loop, and the broker with it.
    """
    async with trio_asyncio.open_loop() as loop:
        loop._main_loop_one = _Batches(loop)
        loop.set_exception_handler(_log_error)
        yield loop


class _Batches:
    """Stands in for `_main_loop_one`: waits for one callback as before, then runs what else is ready."""

    def __init__(self, loop: Any) -> None:
        self._loop = loop
        self._one = loop._main_loop_one

    async def __call__(self, no_wait: bool = False) -> None:
        await self._one(no_wait)
        loop = self._loop
        receive = loop._q_recv.receive_nowait
        library = sniffio.thread_local
        before, library.name = library.name, "asyncio"
        handle: Any = None
        until = time.perf_counter() + BATCH_S
        try:
            for _ in range(BATCH):
                if time.perf_counter() > until:
                    return
                try:
                    handle = receive()
                except (trio.WouldBlock, trio.EndOfChannel):
                    return
                if isinstance(handle, asyncio.TimerHandle):
                    heapq.heappush(loop._timers, handle)
                elif hasattr(handle, "_started"):  # a trio function
                    handle._context.run(loop._nursery.start_soon, handle._run, name=handle._callback)
                elif not handle._cancelled:
                    handle._run()
        finally:
            library.name = before


def _log_error(loop: Any, context: dict[str, Any]) -> None:
    log.error("asyncio: %s", context.get("message"), exc_info=context.get("exception"))

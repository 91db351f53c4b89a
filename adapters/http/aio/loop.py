"""The asyncio loop inside trio that aiohttp runs on."""

from __future__ import annotations

import asyncio
import heapq
import logging
import time
from collections import deque
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from contextvars import Context
from typing import Any

import sniffio
import trio
import trio_asyncio  # type: ignore[import-untyped]  # it has no types

__all__ = ["open_loop"]

log = logging.getLogger(__name__)

BATCH, BATCH_S = 256, 0.002
"""Callbacks, seconds in one pass of trio's scheduler; then the other tasks have their turn."""
MANY_TIMERS = 1024
"""From this number on those that were cancelled are looked for, each time it has doubled."""


@asynccontextmanager
async def open_loop() -> AsyncIterator[Any]:
    """A trio-asyncio loop that runs all callbacks that are ready in one go.

    trio-asyncio itself takes one per pass of the scheduler, with an epoll each, and sends each through a channel: a
    request of aiohttp needs three to five, and that was most of its time (measured: 7,600 against 15,600 requests/s for
    the passes, a further tenth for the channel). An error in a callback is logged; trio-asyncio would end the loop, and
    the broker with it.
    """
    async with trio_asyncio.open_loop() as loop:
        batches = _Batches(loop)
        loop._main_loop_one = batches
        loop.call_soon = batches.call_soon
        batches.wake()  # it waits in the old one
        loop.set_exception_handler(_log_error)
        yield loop


class _Batches:
    """Stands in for `_main_loop_one` and `call_soon`: what is ready is a deque of our own, run a batch at a time.

    Timers, and what comes from other threads or from trio's side of the loop, take the channel as before.
    """

    def __init__(self, loop: Any) -> None:
        self._loop = loop
        self._one = loop._main_loop_one
        self._ready: deque[asyncio.Handle] = deque()
        self._is_waiting = False  # in the channel: the first callback must wake it
        self._many = MANY_TIMERS

    def call_soon(
        self, callback: Callable[..., object], *arguments: Any, context: Context | None = None
    ) -> asyncio.Handle:
        handle = asyncio.Handle(callback, arguments, self._loop, context)
        self._ready.append(handle)
        if self._is_waiting:
            self.wake()
        return handle

    def _forget_cancelled(self, timers: list[asyncio.TimerHandle]) -> None:
        """A request that ends in time leaves its timeout behind, for as long as it would have waited."""
        timers[:] = [timer for timer in timers if not timer._cancelled]
        heapq.heapify(timers)
        self._many = max(MANY_TIMERS, 2 * len(timers))

    def wake(self) -> None:
        self._is_waiting = False
        self._loop._q_send.send_nowait(asyncio.Handle(_nothing, (), self._loop))

    async def __call__(self, no_wait: bool = False) -> None:
        ready = self._ready
        if ready:
            if not no_wait:
                await trio.lowlevel.checkpoint()
        else:
            self._is_waiting = True
            try:
                await self._one(no_wait)
            finally:
                self._is_waiting = False
        loop = self._loop
        receive, timers = loop._q_recv.receive_nowait, loop._timers
        while timers and timers[0]._when <= loop.time():
            ready.append(heapq.heappop(timers))
        library = sniffio.thread_local
        before, library.name = library.name, "asyncio"
        clock = time.perf_counter
        until = clock() + BATCH_S
        try:
            for _ in range(BATCH):
                if not ready:
                    break
                handle = ready.popleft()
                if not handle._cancelled:
                    handle._run()
                if clock() > until:
                    break
            for _ in range(BATCH):
                try:
                    other = receive()
                except (trio.WouldBlock, trio.EndOfChannel):
                    return
                if isinstance(other, asyncio.TimerHandle):
                    heapq.heappush(timers, other)
                    if len(timers) > self._many:
                        self._forget_cancelled(timers)
                elif hasattr(other, "_started"):  # a trio function
                    other._context.run(loop._nursery.start_soon, other._run, name=other._callback)
                elif not other._cancelled:
                    ready.append(other)
        finally:
            library.name = before


def _nothing() -> None:
    """What wakes the loop."""


def _log_error(loop: Any, context: dict[str, Any]) -> None:
    log.error("asyncio: %s", context.get("message"), exc_info=context.get("exception"))

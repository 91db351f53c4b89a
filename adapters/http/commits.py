"""Waiting for the disk before an answer: bounded, for a disk that is full does not say when it will have room."""

from __future__ import annotations

import asyncio
from collections import deque
from typing import TYPE_CHECKING

from leveret.adapters.http.errors import Refusal

if TYPE_CHECKING:
    from leveret.core.broker import Broker
__all__ = ["CONFIRM_S", "Commits"]

CONFIRM_S, STEP_S = 30.0, 1.0
RETRY_LATER = {"Retry-After": "5"}


class Commits:
    """Requests that wait for a commit, in the order of their deadlines, with one timer for all of them.

    A timer for each would stay in the loop's heap until it is due, long after its request was answered.
    """

    def __init__(self, broker: Broker) -> None:
        self._broker = broker
        self._deadlines: deque[tuple[float, asyncio.Future[bool]]] = deque()

    async def wait(self) -> None:
        """Until everything that was done so far is durable.

        Raise Refusal (503 confirm_timeout) after 30 s: it may be durable by then, or become it later, or never.
        """
        if not await self._future():
            raise Refusal(
                503,
                "confirm_timeout",
                f"the disk did not confirm within {CONFIRM_S:g} s; what was asked for may be stored, or be stored later",
                headers=RETRY_LATER,
            )

    def _future(self) -> asyncio.Future[bool]:
        """True when all that was done so far is durable, False if that takes too long."""
        future: asyncio.Future[bool] = asyncio.get_running_loop().create_future()
        if self._broker.store.after_commit(lambda: _resolve(future, True)):
            future.set_result(True)
            return future
        timers = self._broker.timers
        if not self._deadlines:
            timers.after(STEP_S, self._look)
        self._deadlines.append((timers.now + CONFIRM_S, future))
        return future

    def _look(self) -> None:
        deadlines, timers = self._deadlines, self._broker.timers
        while deadlines and (deadlines[0][1].done() or deadlines[0][0] <= timers.now):
            _resolve(deadlines.popleft()[1], False)
        if deadlines:
            timers.after(STEP_S, self._look)


def _resolve(future: asyncio.Future[bool], is_durable: bool) -> None:
    if not future.done():
        future.set_result(is_durable)

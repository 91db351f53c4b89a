"""Dispatch after the batch: touched queues hand over once, dirty sinks flush once."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Protocol

import trio

if TYPE_CHECKING:
    from leveret.core.message import HasName
__all__ = ["Dispatchable", "Dispatcher", "Flushable"]

log = logging.getLogger(__name__)


class Dispatchable(Protocol):
    """A queue. is_scheduled: it is dispatched at the end of this entry; only the dispatcher changes it."""

    name: str
    is_scheduled: bool

    @property
    def vhost(self) -> HasName: ...
    def dispatch(self) -> None:
        """Hand ready messages to consumers with credit."""


class Flushable(Protocol):
    """Something with bytes to send: a connection's outbox."""

    is_dirty: bool

    def flush(self) -> None:
        """Send what is waiting, without waiting for the peer."""


class Dispatcher:
    """What must happen at the end of every entry from I/O, once.

    `run` is called by whoever entered (a chunk, a commit, a timer). What a flush frees again (`again`) is dispatched
    in a later pass of the scheduler, by `serve`, so that a fast consumer cannot starve the others.
    """

    def __init__(self) -> None:
        self._queues: list[Dispatchable] = []
        self._sinks: list[Flushable] = []
        self._later: list[Dispatchable] = []
        self._wake = trio.Event()
        self._is_running = False

    def schedule(self, queue: Dispatchable) -> None:
        """Messages or credit have changed: dispatch it at the end of this entry."""
        if not queue.is_scheduled:
            queue.is_scheduled = True
            self._queues.append(queue)

    def schedule_flush(self, sink: Flushable) -> None:
        """It has bytes: flush it at the end of this entry."""
        if not sink.is_dirty:
            sink.is_dirty = True
            self._sinks.append(sink)

    def dispatch_later(self, queue: Dispatchable) -> None:
        """Dispatch it in the next pass of the scheduler."""
        self._later.append(queue)
        self._wake.set()

    def run_soon(self) -> None:
        """Run in the next pass of the scheduler: for callers that are not an entry from I/O themselves."""
        self._wake.set()

    def run(self) -> None:
        if self._is_running:
            return  # the run in progress takes what was added
        self._is_running = True
        try:
            while self._queues or self._sinks:
                while self._queues:
                    queues, self._queues = self._queues, []
                    for queue in queues:
                        queue.is_scheduled = False
                        try:
                            queue.dispatch()
                        except Exception:
                            log.exception("queue=%r vhost=%r dispatch failed", queue.name, queue.vhost.name)
                sinks, self._sinks = self._sinks, []
                for sink in sinks:
                    sink.is_dirty = False
                    try:
                        sink.flush()
                    except Exception:
                        log.exception("sink=%r flush failed", sink)
        finally:
            self._is_running = False

    async def serve(self) -> None:
        """Run the later passes until cancelled."""
        while True:
            await self._wake.wait()
            self._wake = trio.Event()
            await trio.lowlevel.checkpoint()
            dispatch_later, self._later = self._later, []
            for queue in dispatch_later:
                self.schedule(queue)
            self.run()

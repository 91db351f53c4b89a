"""What messaging ends or gives back when the server drains, before its connections end."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from leveret.adapters.http.context import HttpContext
__all__ = ["DrainCallbacks"]


class DrainCallbacks:
    """Synchronous functions that never raise, called once when the server drains."""

    def __init__(self, context: HttpContext) -> None:
        self._context = context
        self._callbacks: dict[object, Callable[[], None]] = {}

    @property
    def is_stopping(self) -> bool:
        """The callbacks have been called, or are being called: nothing may wait any more."""
        return self._context.is_stopping

    def add(self, callback: Callable[[], None]) -> Callable[[], None]:
        """Register a callback. Returns a function that removes it."""
        token = object()
        self._callbacks[token] = callback

        def remove() -> None:
            self._callbacks.pop(token, None)

        return remove

    def run(self) -> None:
        """Call all of them, then deliver what they have made ready."""
        self._context.broker.timers.tick()
        for callback in list(self._callbacks.values()):
            callback()
        self._context.broker.dispatcher.run()

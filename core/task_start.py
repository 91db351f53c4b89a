"""Starting tasks that strangers wrote."""

from __future__ import annotations

import trio

__all__ = ["Started"]


class Started:
    """Passes `started()` on once: a task that calls it twice, or ends without it, must not confuse the nursery."""

    def __init__(self, outer: trio.TaskStatus[None]) -> None:
        self._outer = outer
        self.is_called = False

    def started(self, value: None = None) -> None:
        """As trio's, but harmless when it is called again."""
        if not self.is_called:
            self.is_called = True
            self._outer.started()

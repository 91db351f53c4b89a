"""What a test may not leave behind in the shared server."""

from __future__ import annotations

import json
import subprocess
from typing import Any

from support.server import LeveretServer, poll

__all__ = ["Audit"]

LISTS = ("list_queues", "list_connections", "list_consumers")


class Audit:
    """Compares the server after a test with what it was before the first one.

    Queues, connections and consumers are asked of `leveret ctl`; file descriptors of /proc; tracebacks are looked for in
    what the server wrote meanwhile.
    """

    def __init__(self, server: LeveretServer) -> None:
        self._server = server
        with server.peer() as peer:  # whatever is opened once, at the first connection, is open now
            peer.goodbye()
        poll(lambda: not self._lists(), "left over from the first connection")
        self._files = len(server.open_files())
        self._errors_read = 0

    def check(self) -> None:
        """Fail if something is left over; waits a moment for what closes by itself."""
        errors = self._server.errors
        written, self._errors_read = errors[self._errors_read :], len(errors)
        assert "Traceback" not in written, f"the server met an error:\n{written}"
        assert self._server.process.poll() is None, f"the server has died:\n{errors}"
        poll(lambda: len(self._server.open_files()) <= self._files, f"file descriptors beyond {self._files}")

    def check_lists(self) -> None:
        """Fail if a queue, connection or consumer is left over. Slow: once a module."""
        for _ in range(5):
            if not (left := self._lists()):
                return
        raise AssertionError(f"left over: {left}")

    def _lists(self) -> dict[str, list[Any]]:
        left = {}
        for command in LISTS:
            done = subprocess.run(
                [*self._server.ctl_command(), command, "--formatter", "json"],
                capture_output=True, text=True, timeout=30, check=False,
            )  # fmt: skip
            assert done.returncode == 0, f"ctl {command}: {done.stderr}"
            if rows := json.loads(done.stdout):
                left[command] = rows
        return left

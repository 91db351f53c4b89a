"""What a test may not leave behind in the shared server."""

from __future__ import annotations

import json
import socket
from typing import Any

from support.server import LeveretServer, poll

__all__ = ["Audit"]

LISTS: dict[str, dict[str, Any]] = {
    "list_queues": {"vhost": "/", "columns": ["name"]},
    "list_connections": {"columns": ["name"]},
    "list_consumers": {"vhost": "/", "columns": []},
}


class Audit:
    """Compares the server after a test with what it was before the first one.

    Queues, connections and consumers are asked at the control socket, as `leveret ctl` does, but without starting a
    program for each; file descriptors of /proc; tracebacks are looked for in what the server wrote meanwhile.
    """

    def __init__(self, server: LeveretServer) -> None:
        self._server = server
        with server.peer() as peer:  # whatever is opened once, at the first connection, is open now
            peer.goodbye()
        poll(lambda: not self.left(), "left over from the first connection")
        self._files = len(server.open_files())
        self._errors_read = 0

    def check(self) -> None:
        """Fail if something is left over; waits a moment for what closes by itself."""
        errors = self._server.errors
        written, self._errors_read = errors[self._errors_read :], len(errors)
        assert "Traceback" not in written, f"the server met an error:\n{written}"
        assert self._server.process.poll() is None, f"the server has died:\n{errors}"
        try:
            poll(lambda: not self.left(), "left over", timeout=3)
        except AssertionError:
            raise AssertionError(f"left over: {self.left()}") from None
        poll(
            lambda: len(self._server.open_files()) <= self._files,
            f"more than {self._files} file descriptors: {self._server.open_files()}",
        )

    def left(self) -> dict[str, list[Any]]:
        """What there is of each kind, empty kinds left out."""
        with socket.socket(socket.AF_UNIX) as control:
            control.connect(str(self._server.data_dir / "control.sock"))
            with control.makefile("rw") as stream:
                found = {}
                for command, arguments in LISTS.items():
                    stream.write(json.dumps({"command": command, "arguments": arguments}) + "\n")
                    stream.flush()
                    answer = json.loads(stream.readline())
                    if rows := answer["ok"]["rows"]:
                        found[command] = rows
        return found

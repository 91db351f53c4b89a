"""The client of the control listener: plain blocking sockets, so that a command starts at once."""

from __future__ import annotations

import json
import os
import socket
from collections.abc import Mapping
from pathlib import Path
from typing import Any

__all__ = ["Refused", "Unavailable", "call"]


class Unavailable(Exception):
    """No server answers; the text is one sentence."""


class Refused(Exception):
    """The server refuses; the text is its sentence. reason: one of leveret.adapters.control.server.REASONS."""

    def __init__(self, text: str, reason: str) -> None:
        super().__init__(text)
        self.reason = reason


def call(path: Path, command: str, arguments: Mapping[str, Any], timeout_s: float | None = 60.0) -> Any:
    """Send one command to the server that listens at `path`, and return its answer. Raise Unavailable, Refused."""
    request = json.dumps({"command": command, "arguments": dict(arguments)}) + "\n"
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as connection:
        connection.settimeout(timeout_s)
        try:
            connection.connect(os.fspath(path))
            connection.sendall(request.encode())
            line = _read_line(connection)
        except (FileNotFoundError, ConnectionRefusedError) as error:
            raise Unavailable(f"no leveret server is running with the control socket {path}") from error
        except PermissionError as error:
            raise Unavailable(f"the control socket {path} belongs to another user") from error
        except TimeoutError as error:
            raise Unavailable(f"the server did not answer within {timeout_s:g} seconds") from error
        except OSError as error:
            raise Unavailable(f"the connection to {path} failed: {error}") from error
    if not line.endswith(b"\n"):
        raise Unavailable("the server ended the connection without an answer")
    answer = json.loads(line)
    if "error" in answer:
        raise Refused(answer["error"], answer["reason"])
    return answer["ok"]


def _read_line(connection: socket.socket) -> bytes:
    chunks = []
    while chunk := connection.recv(1 << 16):
        chunks.append(chunk)
        if chunk.endswith(b"\n"):  # an answer is one line
            break
    return b"".join(chunks)

"""STOMP bytes for tests inside the process: frames to send, frames that came, a client step by step."""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from typing import Any

import trio
import trio.testing
from support.in_process import InProcess

__all__ = ["Got", "StompClient", "connect_frame", "frame", "frames_of"]


def frame(command: str, body: bytes | str = b"", **headers: Any) -> bytes:
    """`_` in names stands for `-`; nothing is escaped."""
    lines = "".join(f"{name.replace('_', '-')}:{value}\n" for name, value in headers.items())
    raw = body.encode() if isinstance(body, str) else body
    return f"{command}\n{lines}\n".encode("utf-8", "surrogateescape") + raw + b"\0"


def connect_frame(version: str = "1.2", **headers: Any) -> bytes:
    given = {"accept-version": version, "host": "/", "login": "guest", "passcode": "guest"} | headers
    return frame("CONNECT", **{name: value for name, value in given.items() if value is not None})


@dataclass(frozen=True)
class Got:
    """One frame that came, not unescaped."""

    command: str
    headers: dict[str, str] = field(default_factory=dict)
    body: bytes = b""

    def __getitem__(self, name: str) -> str:
        return self.headers[name]


def frames_of(data: bytes) -> list[Got]:
    """All frames in data, which must be whole ones."""
    found = []
    while data := data.lstrip(b"\n"):
        head, separator, rest = data.partition(b"\n\n")
        assert separator, data
        command, *lines = head.decode("utf-8", "surrogateescape").split("\n")
        headers: dict[str, str] = {}
        for line in lines:
            name, _, value = line.partition(":")
            headers.setdefault(name, value)
        size = int(headers["content-length"]) if "content-length" in headers else rest.index(b"\0")
        assert rest[size : size + 1] == b"\0", data
        found.append(Got(command, headers, rest[:size]))
        data = rest[size + 1 :]
    return found


class StompClient:
    """A connection to the broker in this process."""

    def __init__(self, server: InProcess) -> None:
        self.stream, self.scope, self.ended = server.connect()
        self.is_closed = False

    @classmethod
    async def open(cls, server: InProcess, version: str = "1.2", **headers: Any) -> StompClient:
        client = cls(server)
        answer = await client.ask(connect_frame(version, **headers))
        assert [one.command for one in answer] == ["CONNECTED"], answer
        return client

    async def send(self, *data: bytes) -> None:
        await self.stream.send_all(b"".join(data))

    async def ask(self, *data: bytes) -> list[Got]:
        """Send, and wait until the broker has nothing more to say; what it said."""
        await self.send(*data)
        return await self.read()

    async def read(self) -> list[Got]:
        """All that comes until the broker has nothing more to say."""
        received = b""
        while not self.is_closed:
            await trio.testing.wait_all_tasks_blocked(0.002)
            try:
                chunk = os.read(self.stream.socket.fileno(), 1 << 20)
            except BlockingIOError:
                break
            except ConnectionResetError:
                chunk = b""
            self.is_closed = not chunk
            received += chunk
        return frames_of(received)

    async def closed(self) -> None:
        """The broker ends it, after a moment, and says nothing more."""
        with trio.fail_after(5):
            while not self.is_closed:
                assert not await self.read()

    async def close(self) -> None:
        await self.stream.aclose()
        with trio.fail_after(5):
            await self.ended.wait()

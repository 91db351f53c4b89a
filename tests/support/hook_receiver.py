"""Receivers of webhooks for tests: a scripted one in the test's own trio, and aiohttp's server in a thread."""

from __future__ import annotations

import asyncio
import functools
import threading
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any, Self

import trio
from aiohttp import web

__all__ = [
    "Answer",
    "HookReceiver",
    "RawReceiver",
    "Received",
    "raw_receiver",
    "read_request",
    "reply",
    "serve_on",
]


@dataclass
class Received:
    """headers: by lower-case names; at: monotonic seconds."""

    method: str
    path: str
    headers: dict[str, str]
    body: bytes
    at: float = field(default_factory=time.monotonic)

    @property
    def id(self) -> str:
        return self.headers["webhook-id"]


# -- in trio: says whatever bytes the test wants it to say


async def read_request(stream: trio.abc.Stream, rest: bytearray) -> Received | None:
    """The next one; None at the end. What is behind it stays in `rest`."""
    while b"\r\n\r\n" not in rest:
        data = await stream.receive_some(65536)
        if not data:
            return None
        rest += data
    head, _, behind = bytes(rest).partition(b"\r\n\r\n")
    first, *lines = head.decode("latin-1").split("\r\n")
    method, path, _ = first.split(" ", 2)
    headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines)}
    assert len(headers) == len(lines), f"a header twice: {lines}"
    length = int(headers["content-length"])
    while len(behind) < length:
        data = await stream.receive_some(65536)
        if not data:
            return None
        behind += data
    rest[:] = behind[length:]
    return Received(method, path, headers, behind[:length], trio.current_time())


def reply(status: int, body: bytes = b"", **headers: str) -> bytes:
    lines = [f"HTTP/1.1 {status} X", f"Content-Length: {len(body)}"]
    lines += [f"{name.replace('_', '-')}: {value}" for name, value in headers.items()]
    return "\r\n".join(lines).encode() + b"\r\n\r\n" + body


Script = Callable[[trio.abc.Stream, Received], Awaitable[bool | None]]


class RawReceiver:
    """`script(stream, request)` answers; it returns True to end the connection."""

    def __init__(self, script: Script) -> None:
        self.script = script
        self.received: list[Received] = []
        self.connections = 0
        self.port = 0

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}/hook"

    async def serve(self, stream: trio.abc.Stream) -> None:
        self.connections += 1
        rest = bytearray()
        async with stream:
            try:
                while (request := await read_request(stream, rest)) is not None:
                    self.received.append(request)
                    if await self.script(stream, request):
                        return
            except (trio.BrokenResourceError, trio.ClosedResourceError):
                return  # the client has given up: its right


async def serve_on(nursery: trio.Nursery, handler: Callable[[trio.SocketStream], Awaitable[None]]) -> int:
    """On a port of this machine, which is returned, until the nursery is cancelled."""
    serve = functools.partial(trio.serve_tcp, handler, 0, host="127.0.0.1")
    listeners: list[trio.SocketListener] = await nursery.start(serve)
    port: int = listeners[0].socket.getsockname()[1]
    return port


@asynccontextmanager
async def raw_receiver(script: Script) -> AsyncIterator[RawReceiver]:
    """On a port of this machine."""
    receiver = RawReceiver(script)
    async with trio.open_nursery() as nursery:
        receiver.port = await serve_on(nursery, receiver.serve)
        yield receiver
        nursery.cancel_scope.cancel()


# -- aiohttp, in a thread of its own


@dataclass
class Answer:
    status: int = 200
    body: bytes = b"ok"
    headers: dict[str, str] = field(default_factory=dict)
    delay_s: float = 0.0


class HookReceiver:
    """`answer(request, count)` says what it answers to the count-th request (1, 2, ...); the default is 200."""

    def __init__(self, answer: Callable[[Received, int], Answer] | None = None, *, port: int = 0) -> None:
        self.answer = answer or (lambda request, count: Answer())
        self.received: list[Received] = []
        self.port = port
        self._loop: Any = None
        self._stop: asyncio.Event | None = None
        self._ready = threading.Event()
        self._thread = threading.Thread(target=lambda: asyncio.run(self._main()))

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}/hook"

    async def _main(self) -> None:
        self._loop, self._stop = asyncio.get_running_loop(), asyncio.Event()
        app = web.Application(client_max_size=64 << 20)
        app.router.add_route("*", "/{tail:.*}", self._handle)
        runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.1)
        await runner.setup()
        site = web.TCPSite(runner, "127.0.0.1", self.port)
        await site.start()
        assert site._server is not None
        self.port = site._server.sockets[0].getsockname()[1]  # type: ignore[attr-defined]  # asyncio's server has them
        self._ready.set()
        await self._stop.wait()
        await runner.cleanup()

    async def _handle(self, request: web.Request) -> web.Response:
        headers = {name.lower(): value for name, value in request.headers.items()}
        received = Received(request.method, request.path_qs, headers, await request.read())
        self.received.append(received)
        answer = self.answer(received, len(self.received))
        await asyncio.sleep(answer.delay_s)
        return web.Response(status=answer.status, body=answer.body, headers=answer.headers)

    def wait(self, count: int, timeout: float = 15.0) -> list[Received]:
        """Until so many requests have come."""
        deadline = time.monotonic() + timeout
        while len(self.received) < count:
            assert time.monotonic() < deadline, f"{len(self.received)} requests of {count} after {timeout} s"
            time.sleep(0.005)
        return self.received

    def __enter__(self) -> Self:
        self._thread.start()
        assert self._ready.wait(10)
        return self

    def __exit__(self, *exc: object) -> None:
        assert self._stop is not None
        self._loop.call_soon_threadsafe(self._stop.set)
        self._thread.join(10)

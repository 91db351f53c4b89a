"""Prometheus text in pieces: ten thousand queues are a quarter of a million lines, and others want their turn."""

from __future__ import annotations

import asyncio
import math
import zlib
from typing import TYPE_CHECKING

from aiohttp import web

if TYPE_CHECKING:
    from collections.abc import Iterable

__all__ = ["CONTENT_TYPE", "TextStream", "accepts_gzip", "escaped", "header", "label_text", "number"]

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"
CHUNK_BYTES = 64 << 10
LINES = 2000  # between two checkpoints


def escaped(value: str) -> str:
    """For a label: no quote, no line's end. Names that were no UTF-8 are shown with their bytes."""
    if value.isascii() and value.isprintable() and '"' not in value and "\\" not in value:  # most
        return value
    value = value.encode("utf-8", "backslashreplace").decode()
    return value.replace("\\", "\\\\").replace("\n", "\\n").replace('"', '\\"')


def label_text(labels: Iterable[tuple[str, str]]) -> str:
    return ",".join([f'{name}="{escaped(value)}"' for name, value in labels])


def number(value: float) -> str:
    if isinstance(value, int):
        return str(value)
    if math.isnan(value):
        return "NaN"
    return repr(value)


def header(name: str, help: str, kind: str) -> str:
    return f"# HELP {name} {help}\n# TYPE {name} {kind}\n"


def accepts_gzip(request: web.Request) -> bool:
    for part in request.headers.get("Accept-Encoding", "").lower().split(","):
        name, _, parameters = part.partition(";")
        if name.strip() == "gzip":
            return parameters.replace(" ", "") not in ("q=0", "q=0.0")
    return False


class TextStream:
    """A response that is written as it is made. `line` collects; `pass_on` sends what is there, and lets others run."""

    def __init__(self, request: web.Request) -> None:
        self._request = request
        self._lines: list[str] = []
        self._deflate = zlib.compressobj(1, wbits=31) if accepts_gzip(request) else None
        self.response = web.StreamResponse(headers={"Content-Type": CONTENT_TYPE, "Server": "Leveret"})
        self.response.headers["Vary"] = "Accept-Encoding"
        if self._deflate is not None:
            self.response.headers["Content-Encoding"] = "gzip"
        self._held = bytearray()

    async def start(self) -> None:
        await self.response.prepare(self._request)

    @property
    def is_full(self) -> bool:
        return len(self._lines) >= LINES

    def line(self, text: str) -> None:
        self._lines.append(text)

    async def pass_on(self, *, at_end: bool = False) -> None:
        data = "".join(self._lines).encode()
        self._lines.clear()
        if self._request.method == "HEAD":
            return
        if self._deflate is not None:
            data = self._deflate.compress(data) + (self._deflate.flush() if at_end else b"")
        self._held += data
        if self._held and (at_end or len(self._held) >= CHUNK_BYTES):
            held, self._held = bytes(self._held), bytearray()
            await self.response.write(held)  # waits for a reader that is slow
        await asyncio.sleep(0)

    async def end(self) -> web.StreamResponse:
        await self.pass_on(at_end=True)
        await self.response.write_eof()
        return self.response

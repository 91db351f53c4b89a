"""A WebSocket client in raw bytes (RFC 6455), independent of the code under test: it may break every rule.

peer = WebSocketPeer.open(port, subprotocols=["mqtt"])
peer.send(b"...")
assert peer.read() == Frame(BINARY, b"...")
"""

from __future__ import annotations

import base64
import hashlib
import itertools
import socket
import ssl
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Self

import trio

__all__ = [
    "BINARY", "CLOSE", "CONTINUATION", "PING", "PONG", "TEXT", "Frame", "FrameBuffer", "Response", "StreamPeer",
    "WebSocketPeer", "basic", "check_accepted", "close_payload", "frame", "request",
]  # fmt: skip

CONTINUATION, TEXT, BINARY, CLOSE, PING, PONG = 0, 1, 2, 8, 9, 10
KEY = "dGhlIHNhbXBsZSBub25jZQ=="  # RFC 6455 1.3
MASK = b"\x37\xfa\x21\x3d"  # RFC 6455 5.7


@dataclass(frozen=True)
class Frame:
    opcode: int
    payload: bytes
    is_final: bool = True

    @property
    def close_code(self) -> int | None:
        assert self.opcode == CLOSE, self
        return int.from_bytes(self.payload[:2], "big") if self.payload else None


@dataclass(frozen=True)
class Response:
    status: int
    headers: dict[str, str]  # names in lower case
    body: bytes


def frame(
    payload: bytes, opcode: int = BINARY, *, is_final: bool = True, mask: bytes = MASK, flags: int = 0
) -> bytes:
    """A client's frame; mask b"": unmasked, which no client may."""
    first = bytes([(0x80 if is_final else 0) | flags | opcode])
    bit = 0x80 if mask else 0
    size = len(payload)
    if size < 126:
        length = bytes([bit | size])
    elif size < 1 << 16:
        length = bytes([bit | 126]) + size.to_bytes(2, "big")
    else:
        length = bytes([bit | 127]) + size.to_bytes(8, "big")
    if mask:
        payload = bytes(byte ^ key for byte, key in zip(payload, itertools.cycle(mask), strict=False))
    return first + length + mask + payload


def close_payload(code: int, reason: str = "") -> bytes:
    return code.to_bytes(2, "big") + reason.encode()


def request(
    path: str = "/ws",
    *,
    subprotocols: Iterable[str] = (),
    method: str = "GET",
    http: str = "HTTP/1.1",
    **headers: str | None,
) -> bytes:
    """An opening handshake; `headers` replace or, with None, omit: `Sec_WebSocket_Version="8"`, `Upgrade=None`."""
    lines: dict[str, str | None] = {
        "Host": "localhost",
        "Upgrade": "websocket",
        "Connection": "Upgrade",
        "Sec-WebSocket-Key": KEY,
        "Sec-WebSocket-Version": "13",
        "Sec-WebSocket-Protocol": ", ".join(subprotocols) or None,
    }
    lines |= {name.replace("_", "-"): value for name, value in headers.items()}
    head = [
        f"{method} {path} {http}",
        *(f"{name}: {value}" for name, value in lines.items() if value is not None),
    ]
    return "\r\n".join(head).encode() + b"\r\n\r\n"


def basic(user: str, password: str) -> str:
    return "Basic " + base64.b64encode(f"{user}:{password}".encode()).decode()


class FrameBuffer:
    """What a server sent: first its response, then frames, which must not be masked."""

    def __init__(self) -> None:
        self.data = b""

    def response(self) -> Response | None:
        """None: more is needed."""
        head, end, rest = self.data.partition(b"\r\n\r\n")
        if not end:
            return None
        lines = head.decode("ascii").split("\r\n")
        headers = {
            name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines[1:])
        }
        size = int(headers.get("content-length", "0"))
        if len(rest) < size:
            return None
        self.data = rest[size:]
        return Response(int(lines[0].split(" ")[1]), headers, rest[:size])

    def frame(self) -> Frame | None:
        """None: more is needed."""
        data = self.data
        if len(data) < 2:
            return None
        first, size = data[0], data[1]
        assert not first & 0x70, f"reserved bits in {data[:16]!r}"
        assert size < 128, f"masked: {data[:16]!r}"
        start = 2
        if size == 126:
            start, size = 4, int.from_bytes(data[2:4], "big")
            assert len(data) < 4 or size >= 126
        elif size == 127:
            start, size = 10, int.from_bytes(data[2:10], "big")
            assert len(data) < 10 or size >= 1 << 16
        if len(data) < start + size:
            return None
        self.data = data[start + size :]
        return Frame(first & 15, data[start : start + size], bool(first & 0x80))


def check_accepted(response: Response, key: str = KEY) -> None:
    assert response.status == 101, response
    assert response.headers["upgrade"].lower() == "websocket"
    assert response.headers["connection"].lower() == "upgrade"
    digest = hashlib.sha1(key.encode() + b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11").digest()
    assert response.headers["sec-websocket-accept"] == base64.b64encode(digest).decode()


class WebSocketPeer:
    """Over a blocking socket, for servers of their own process. None from `read`: the server's end of the stream."""

    def __init__(self, sock: socket.socket) -> None:
        self.socket = sock
        self.buffer = FrameBuffer()
        self.response: Response | None = None

    @classmethod
    def connect(cls, port: int, *, tls: ssl.SSLContext | None = None, timeout: float = 10.0) -> Self:
        """Without a request yet."""
        sock = socket.create_connection(("127.0.0.1", port), timeout)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        return cls(tls.wrap_socket(sock, server_hostname="localhost") if tls else sock)

    @classmethod
    def open(
        cls, port: int, path: str = "/ws", *, tls: ssl.SSLContext | None = None, **options: object
    ) -> Self:
        """Connected and upgraded; options as for `request`."""
        peer = cls.connect(port, tls=tls)
        check_accepted(peer.ask(request(path, **options)))  # type: ignore[arg-type]
        return peer

    def ask(self, data: bytes) -> Response:
        self.socket.sendall(data)
        while (response := self.buffer.response()) is None:
            chunk = self.socket.recv(65536)
            assert chunk, f"no response, only {self.buffer.data!r}"
            self.buffer.data += chunk
        self.response = response
        return response

    def send(self, payload: bytes, opcode: int = BINARY, **options: object) -> None:
        self.socket.sendall(frame(payload, opcode, **options))  # type: ignore[arg-type]

    def read(self) -> Frame | None:
        while (found := self.buffer.frame()) is None:
            chunk = self.socket.recv(65536)
            if not chunk:
                assert not self.buffer.data, f"cut frame: {self.buffer.data!r}"
                return None
            self.buffer.data += chunk
        return found

    def close(self) -> None:
        self.socket.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.close()


class StreamPeer:
    """The same over a trio stream, for servers in this process."""

    def __init__(self, stream: trio.abc.Stream) -> None:
        self.stream = stream
        self.buffer = FrameBuffer()

    async def ask(self, data: bytes) -> Response:
        await self.stream.send_all(data)
        return await self.response()

    async def response(self) -> Response:
        while (response := self.buffer.response()) is None:
            chunk = await self.stream.receive_some()
            assert chunk, f"no response, only {self.buffer.data!r}"
            self.buffer.data += chunk
        return response

    async def open(self, path: str = "/ws", **options: object) -> Response:
        response = await self.ask(request(path, **options))  # type: ignore[arg-type]
        check_accepted(response)
        return response

    async def send(self, payload: bytes, opcode: int = BINARY, **options: object) -> None:
        await self.stream.send_all(frame(payload, opcode, **options))  # type: ignore[arg-type]

    async def read(self) -> Frame | None:
        while (found := self.buffer.frame()) is None:
            chunk = await self.stream.receive_some()
            if not chunk:
                assert not self.buffer.data, f"cut frame: {self.buffer.data!r}"
                return None
            self.buffer.data += chunk
        return found

"""A bare STOMP client for tests: synchronous sockets, frames in and out, nothing hidden, malformed input welcome."""

from __future__ import annotations

import contextlib
import re
import socket
import ssl
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Self

__all__ = ["Frame", "StompClosed", "StompPeer"]

TIMEOUT_S = 10.0
"""How long to wait for a frame that must come. Failing tests only."""

ESCAPES = {
    "1.0": {},
    "1.1": {"\\": "\\\\", "\n": "\\n", ":": "\\c"},
    "1.2": {"\\": "\\\\", "\n": "\\n", ":": "\\c", "\r": "\\r"},
}


class StompClosed(AssertionError):
    """The server has closed the socket while a frame was expected."""


@dataclass(frozen=True)
class Frame:
    """One frame from the server, as it was: `pairs` with repetitions, and the bytes it was made of."""

    command: str
    pairs: list[tuple[str, str]]
    body: bytes
    raw: bytes = field(repr=False, default=b"")

    def __getitem__(self, name: str) -> str:
        for key, value in self.pairs:
            if key == name:
                return value
        raise KeyError(f"{self} has no {name}")

    def get(self, name: str, default: str | None = None) -> str | None:
        return dict(reversed(self.pairs)).get(name, default)

    def __contains__(self, name: object) -> bool:
        return any(key == name for key, _ in self.pairs)

    @property
    def names(self) -> set[str]:
        return {key for key, _ in self.pairs}


class StompPeer:
    """One connection. `StompPeer(port)` only connects; `login()` shakes hands; `StompPeer.open(port)` does both.

    `version` says how headers are escaped, both ways. `beats` are the times at which lone line feeds came between frames;
    one right behind a frame is not one: RabbitMQ ends its frames so.
    Headers of `send` are keywords, `_` standing for `-`; others go into `headers`.
    """

    def __init__(self, port: int, tls: ssl.SSLContext | None = None, host: str = "127.0.0.1") -> None:
        self.socket: socket.socket = socket.create_connection((host, port), TIMEOUT_S)
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        if tls is not None:
            plain = self.socket
            try:
                self.socket = tls.wrap_socket(plain, server_hostname="localhost")
            except BaseException:
                plain.close()
                raise
        self.version = "1.0"
        self.connected: Frame | None = None
        self.beats: list[float] = []
        self.destinations: set[str] = set()  # named in what was sent, for cleaning up
        self._received = bytearray()
        self._receipts = 0
        self._early: list[Frame] = []
        self._is_behind_frame = False

    @classmethod
    def open(cls, port: int, version: str = "1.2", tls: ssl.SSLContext | None = None, **headers: Any) -> Self:
        peer = cls(port, tls)
        try:
            peer.login(version, **headers)
        except BaseException:
            peer.close()
            raise
        return peer

    def login(self, version: str = "1.2", **headers: Any) -> Frame:
        """CONNECT as guest, of one version; what CONNECTED said."""
        asked = {"login": "guest", "passcode": "guest", "host": "/"}
        if version != "1.0":
            asked["accept-version"] = version
        self.send("CONNECT", headers=asked | {key.replace("_", "-"): value for key, value in headers.items()})
        self.connected = self.expect("CONNECTED")
        self.version = self.connected.get("version") or "1.0"
        return self.connected

    # -- out

    def send_raw(self, data: bytes) -> None:
        for match in re.finditer(rb"^destination: *([^\r\n]+)", data, re.MULTILINE):
            self.destinations.add(match[1].decode("utf-8", "replace"))
        with contextlib.suppress(
            BrokenPipeError, ConnectionResetError
        ):  # what was said before is still to be read
            self.socket.sendall(data)

    def send(
        self, command: str, body: bytes = b"", *, headers: Mapping[str, str] | None = None, **named: Any
    ) -> None:
        self.send_raw(self.encode(command, body, headers=headers, **named))

    def encode(
        self, command: str, body: bytes = b"", *, headers: Mapping[str, str] | None = None, **named: Any
    ) -> bytes:
        pairs = {key.replace("_", "-"): value for key, value in named.items()} | dict(headers or {})
        escapes = {} if command in ("CONNECT", "STOMP") else ESCAPES[self.version]
        lines = [command]
        for key, value in pairs.items():
            lines.append(f"{_escape(key, escapes)}:{_escape(value, escapes)}")
        return "\n".join(lines).encode() + b"\n\n" + body + b"\0"

    def ask(
        self, command: str, body: bytes = b"", *, headers: Mapping[str, str] | None = None, **named: Any
    ) -> Frame:
        """With a receipt, which is waited for; messages that come before it are kept for later."""
        self._receipts += 1
        receipt = f"r-{self._receipts}"
        self.send(command, body, headers=headers, receipt=receipt, **named)
        early, self._early = self._early, []
        while (frame := self.receive()).command == "MESSAGE":
            early.append(frame)
        assert (frame.command, frame.get("receipt-id")) == ("RECEIPT", receipt), (
            f"expected {receipt}, got {frame}"
        )
        self._early = early
        return frame

    def publish(self, destination: str, body: bytes = b"", **named: Any) -> None:
        """SEND, and its receipt."""
        self.ask("SEND", body, destination=destination, **named)

    def subscribe(self, destination: str, id: str = "s", **named: Any) -> None:
        """SUBSCRIBE, and its receipt."""
        self.ask("SUBSCRIBE", destination=destination, id=id, **named)

    # -- in

    def receive(self, timeout: float = TIMEOUT_S) -> Frame:
        """The next frame. Raise StompClosed at the end, TimeoutError if nothing comes."""
        if self._early:
            return self._early.pop(0)
        deadline = time.monotonic() + timeout
        while True:
            frame = self._take()
            if frame is not None:
                return frame
            self._read(deadline - time.monotonic())

    def _read(self, timeout: float) -> None:
        if timeout <= 0:
            raise TimeoutError(f"no frame; unfinished: {bytes(self._received)!r}")
        self.socket.settimeout(timeout)
        try:
            data = self.socket.recv(65536)
        except (ConnectionResetError, ssl.SSLEOFError):
            data = b""
        if not data:
            raise StompClosed(f"closed; unfinished: {bytes(self._received)!r}")
        self._received += data

    def _take(self) -> Frame | None:
        received = self._received
        while received.startswith((b"\n", b"\r")):
            if received.startswith(b"\n") and not self._is_behind_frame:
                self.beats.append(time.monotonic())
            self._is_behind_frame = False
            del received[0]
        end = received.find(b"\n\n")
        crlf = received.find(b"\r\n\r\n")
        if end < 0 and crlf < 0:
            return None
        width = 2
        if end < 0 or 0 <= crlf < end:
            end, width = crlf, 4
        head = bytes(received[:end]).decode()
        command, *lines = re.split("\r?\n", head) if self.version == "1.2" else head.split("\n")
        is_raw = command == "CONNECTED" or self.version == "1.0"
        pairs = []
        for line in lines:
            key, value = line.split(":", 1)
            pairs.append((key, value) if is_raw else (self._unescape(key), self._unescape(value)))
        length = next((value for key, value in pairs if key == "content-length"), None)
        start = end + width
        if length is None:
            stop = received.find(b"\0", start)
            if stop < 0:
                return None
        else:
            stop = start + int(length)
            if len(received) <= stop:
                return None
            assert received[stop] == 0, f"no NUL behind the body of {head!r}"
        frame = Frame(command, pairs, bytes(received[start:stop]), bytes(received[: stop + 1]))
        del received[: stop + 1]
        self._is_behind_frame = True
        return frame

    def _unescape(self, text: str) -> str:
        known = {escaped[1]: plain for plain, escaped in ESCAPES[self.version].items()}

        def plain(match: re.Match[str]) -> str:
            assert match[1] in known, f"{match[0]!r} is no escape of STOMP {self.version}"
            return known[match[1]]

        return re.sub(r"\\(.)", plain, text)

    def expect(
        self, command: str, body: bytes | None = None, timeout: float = TIMEOUT_S, **named: Any
    ) -> Frame:
        """The next frame must be this one."""
        frame = self.receive(timeout)
        assert frame.command == command, f"expected {command} {named}, got {frame}"
        for key, value in named.items():
            assert frame.get(key.replace("_", "-")) == value, f"expected {command} {named}, got {frame}"
        assert body is None or frame.body == body, f"expected {body!r}, got {frame}"
        return frame

    def message(self, body: bytes | None = None, **named: Any) -> Frame:
        return self.expect("MESSAGE", body, **named)

    def messages(self, count: int) -> list[Frame]:
        return [self.message() for _ in range(count)]

    def fault(self, message: str | None = None, **named: Any) -> Frame:
        """ERROR, and then the end of the connection."""
        frame = self.expect("ERROR", **named)
        assert message is None or message in frame["message"], frame
        self.expect_close()
        return frame

    def expect_close(self, timeout: float = TIMEOUT_S) -> None:
        """The server closes, and says nothing before that."""
        try:
            frame = self.receive(timeout)
        except StompClosed:
            return
        raise AssertionError(f"expected the end, got {frame}")

    def nothing(self, seconds: float = 0.1) -> None:
        """No frame comes for a while. Prefer a receipt to this where one orders things."""
        try:
            frame = self.receive(seconds)
        except TimeoutError:
            return
        raise AssertionError(f"expected nothing, got {frame}")

    def quiet(self, **named: Any) -> None:
        """All that was asked for before is done, and nothing came of it."""
        self.send("BEGIN", transaction="quiet")
        self.ask("ABORT", transaction="quiet", **named)

    # -- end

    def goodbye(self) -> None:
        """DISCONNECT with a receipt, and the end."""
        self.ask("DISCONNECT")
        self._early.clear()
        self.expect_close()
        self.close()

    def close(self) -> None:
        self.socket.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.close()


def _escape(text: str, escapes: dict[str, str]) -> str:
    return "".join([escapes.get(character, character) for character in text])

"""The opening handshake (RFC 6455 section 4.2), sans-IO: a request's head in; an acceptance or a refusal out."""

from __future__ import annotations

import base64
import binascii
import re
from dataclasses import dataclass, field
from http import HTTPStatus
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from wsproto import ConnectionType, WSConnection
from wsproto.events import AcceptConnection, RejectConnection, Request
from wsproto.utilities import RemoteProtocolError

if TYPE_CHECKING:
    from leveret.adapters.base import WebSocketSpec
    from leveret.conf.settings import Websocket
__all__ = ["HEAD_END", "Acceptance", "Refusal", "answer"]

HEAD_END = re.compile(rb"\n\r?\n")
DEFAULT_PORTS = {"http": 80, "https": 443, "ws": 80, "wss": 443}


class Refusal(Exception):
    """An HTTP status, one sentence for the client, and headers that the status demands."""

    def __init__(self, status: int, text: str, *, headers: tuple[tuple[str, str], ...] = ()) -> None:
        super().__init__(text)
        self.status = status
        self.text = text
        self.headers = headers

    @property
    def response(self) -> bytes:
        body = f"{self.text}\n".encode()
        lines = [
            f"HTTP/1.1 {self.status} {HTTPStatus(self.status).phrase}",
            "Content-Type: text/plain; charset=utf-8",
            f"Content-Length: {len(body)}",
            "Connection: close",
            *(f"{name}: {value}" for name, value in self.headers),
        ]
        return "\r\n".join(lines).encode() + b"\r\n\r\n" + body


@dataclass(frozen=True, slots=True)
class Acceptance:
    """response: the 101, to be sent as it is; http_login: user and password, if the request has Basic credentials."""

    response: bytes
    subprotocol: str | None
    http_login: tuple[str, str] | None = field(repr=False)


def answer(head: bytes, spec: WebSocketSpec, settings: Websocket) -> Acceptance:
    """Judge a whole request head, with its empty line. Raise Refusal, and nothing else."""
    _check_request_line(head.split(b"\n", 1)[0].rstrip(b"\r"), settings.path)
    connection = WSConnection(ConnectionType.SERVER)
    try:
        connection.receive_data(head)
        request = next(connection.events(), None)
    except RemoteProtocolError as error:
        hint = error.event_hint
        if isinstance(hint, RejectConnection) and hint.status_code == 426:
            # RFC 6455 4.4; that a 426 names the protocol to upgrade to is RFC 9110 15.5.22.
            named = (("Upgrade", "websocket"), ("Sec-WebSocket-Version", "13"))
            raise Refusal(426, "WebSocket version 13 is spoken here", headers=named) from error
        raise Refusal(400, str(error)) from error
    except UnicodeError as error:  # wsproto decodes header values without a net
        raise Refusal(400, "a header is not ASCII") from error
    if not isinstance(request, Request):
        raise Refusal(400, "this is no HTTP request")
    headers: dict[bytes, list[bytes]] = {}
    for name, value in request.extra_headers:
        headers.setdefault(name, []).append(value)
    _check_key(headers.get(b"sec-websocket-key", []))
    if b"transfer-encoding" in headers or headers.get(b"content-length", [b"0"]) != [b"0"]:
        raise Refusal(400, "a WebSocket request has no body")
    _check_origin(headers.get(b"origin", []), settings.origins)
    login = _basic_login(headers.get(b"authorization", []))
    # Ours in our order, so that the best one wins whatever the client's order is. A client that offers none of them
    # is let in without one, as RabbitMQ does: those that insist (browsers) end the connection themselves.
    subprotocol = next((name for name in spec.subprotocols if name in request.subprotocols), None)
    return Acceptance(connection.send(AcceptConnection(subprotocol=subprotocol)), subprotocol, login)


def _check_request_line(line: bytes, path: str) -> None:
    words = line.split(b" ")
    if len(words) != 3 or not words[2].startswith(b"HTTP/"):
        raise Refusal(400, "this is no HTTP request")
    method, target, version = words
    if version != b"HTTP/1.1":
        raise Refusal(400, "WebSocket needs HTTP/1.1")
    try:
        asked = urlsplit(target.decode("ascii")).path
    except ValueError:
        raise Refusal(400, "the request's target is malformed") from None
    if asked.strip("/") != path.strip("/"):
        raise Refusal(404, f"nothing is here; WebSocket is at /{path.strip('/')}")
    if method != b"GET":
        raise Refusal(405, "a WebSocket request is a GET", headers=(("Allow", "GET"),))


def _check_key(values: list[bytes]) -> None:
    """RFC 6455 4.2.1: one key, 16 bytes in base64."""
    try:
        is_valid = len(values) == 1 and len(base64.b64decode(values[0], validate=True)) == 16
    except binascii.Error:
        is_valid = False
    if not is_valid:
        raise Refusal(400, "Sec-WebSocket-Key is malformed")


def _origin(text: str) -> tuple[str, str, int | None] | None:
    """Scheme, host and port, comparable; None: it is no such thing ("null", a path)."""
    try:
        parts = urlsplit(text.strip())
        port = parts.port
    except ValueError:
        return None
    if not parts.scheme or not parts.hostname:
        return None
    scheme = parts.scheme.lower()
    return scheme, parts.hostname.lower(), DEFAULT_PORTS.get(scheme) if port is None else port


def _check_origin(values: list[bytes], allowed: tuple[str, ...]) -> None:
    """A request without Origin is no browser's: no page of a stranger is behind it."""
    if not allowed or not values:
        return
    origin = _origin(values[0].decode("latin-1")) if len(values) == 1 else None
    if origin is None or origin not in {_origin(text) for text in allowed}:
        raise Refusal(403, "this origin is not allowed")


def _basic_login(values: list[bytes]) -> tuple[str, str] | None:
    """RFC 7617. Another scheme is none of our business; a broken login is refused, not forgotten."""
    if not values:
        return None
    scheme, _, credentials = values[0].strip().partition(b" ")
    if len(values) == 1 and scheme.lower() != b"basic":
        return None
    try:
        user, colon, password = base64.b64decode(credentials.strip(), validate=True).decode().partition(":")
    except (binascii.Error, UnicodeDecodeError):
        colon = ""
    if len(values) != 1 or not colon:
        raise Refusal(400, "Authorization is malformed")
    return user, password

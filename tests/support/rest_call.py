"""Requests to the messaging API of a server, by urllib."""

from __future__ import annotations

import base64
import urllib.error
import urllib.request

from support.server import LeveretServer, Server

__all__ = ["LOGIN", "call", "v1"]

LOGIN = {"Authorization": "Basic " + base64.b64encode(b"guest:guest").decode()}


def v1(server: Server, path: str) -> str:
    assert isinstance(server, LeveretServer)
    return f"http://127.0.0.1:{server.ports['http']}/v1{path}"


def call(
    server: Server, path: str, body: bytes = b"", method: str = "POST", headers: dict[str, str] | None = None
) -> tuple[int, bytes, dict[str, str]]:
    """By urllib: status, body, headers with their names in lower case."""
    request = urllib.request.Request(
        v1(server, path), data=body, headers=LOGIN | (headers or {}), method=method
    )
    try:
        with urllib.request.urlopen(request, timeout=15) as answer:
            return answer.status, answer.read(), {k.lower(): v for k, v in answer.headers.items()}
    except urllib.error.HTTPError as error:
        with error:
            return error.code, error.read(), {k.lower(): v for k, v in error.headers.items()}

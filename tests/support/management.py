"""A client of the management API, and of the control socket: as small as can be."""

from __future__ import annotations

import base64
import http.client
import json
import socket
from typing import Any, Self
from urllib.parse import quote

from support.server import LeveretServer

__all__ = ["Answer", "Management", "control"]


class Answer:
    """status, headers (lower case), and the body: `json` of it, or `text`."""

    def __init__(self, response: http.client.HTTPResponse) -> None:
        self.status = response.status
        self.headers = {name.lower(): value for name, value in response.getheaders()}
        self.body = response.read()

    @property
    def json(self) -> Any:
        return json.loads(self.body)

    @property
    def text(self) -> str:
        return self.body.decode()

    def __repr__(self) -> str:
        return f"<Answer {self.status} {self.body[:300]!r}>"


class Management:
    """Requests below /api on one connection, as one user. Use as a context manager, or close it."""

    def __init__(
        self, port: int, user: str | None = "guest", password: str = "guest", *, host: str = "127.0.0.1"
    ) -> None:
        self._connection = http.client.HTTPConnection(host, port, timeout=10)
        self._headers = {}
        if user is not None:
            token = base64.b64encode(f"{user}:{password}".encode()).decode()
            self._headers["Authorization"] = f"Basic {token}"

    def request(
        self, method: str, path: str, body: Any = None, headers: dict[str, str] | None = None
    ) -> Answer:
        """body: bytes as they are, anything else as JSON."""
        if body is not None and not isinstance(body, bytes):
            body = json.dumps(body).encode()
        self._connection.request(method, f"/api{path}", body, {**self._headers, **(headers or {})})
        return Answer(self._connection.getresponse())

    def get(self, path: str, *parts: str) -> Any:
        """The JSON of an answer that must be 200. parts: quoted, and filled in for each `%`."""
        for part in parts:
            path = path.replace("%", "\0", 1)
            path = path.replace("\0", quote(part, safe="").replace("%", "\1"), 1)
        path = path.replace("\1", "%")
        answer = self.request("GET", path)
        assert answer.status == 200, (path, answer)
        return answer.json

    def close(self) -> None:
        self._connection.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.close()


def control(server: LeveretServer, *commands: tuple[str, dict[str, Any]]) -> None:
    """Run operations of `leveret ctl`, without a program for each. Fails if one is refused."""
    with socket.socket(socket.AF_UNIX) as sock:
        sock.connect(str(server.data_dir / "control.sock"))
        with sock.makefile("rw") as stream:
            for command, arguments in commands:
                stream.write(json.dumps({"command": command, "arguments": arguments}) + "\n")
                stream.flush()
                answer = json.loads(stream.readline())
                assert "ok" in answer, (command, answer)

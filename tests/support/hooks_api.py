"""/v1/webhooks of a real server, and messages for it."""

from __future__ import annotations

import json
import urllib.error
import urllib.request
from base64 import b64encode
from typing import Any

from support.hook_receiver import HookReceiver
from support.server import LeveretServer

__all__ = ["FAST", "HooksApi", "fence", "publish"]

FAST = {"initial_s": 0.05, "factor": 1.0, "attempts": 50, "jitter": 0.1}


class HooksApi:
    """/v1/webhooks of one server, as one user."""

    def __init__(self, server: LeveretServer, user: str = "guest", password: str = "guest") -> None:
        self.server = server
        self._login = "Basic " + b64encode(f"{user}:{password}".encode()).decode()

    def call(self, method: str, path: str, value: Any = None) -> tuple[int, Any]:
        request = urllib.request.Request(
            f"http://127.0.0.1:{self.server.ports['http']}{path}",
            method=method,
            data=None if value is None else json.dumps(value).encode(),
            headers={"Authorization": self._login, "Content-Type": "application/json"},
        )
        try:
            with urllib.request.urlopen(request, timeout=15) as response:
                body = response.read()
                return response.status, json.loads(body) if body else None
        except urllib.error.HTTPError as error:
            with error:
                return error.code, json.loads(error.read())

    def hook(self, method: str, rest: str = "", value: Any = None, expect: int = 200) -> Any:
        status, answer = self.call(method, f"/v1/webhooks/%2F/w{rest}", value)
        assert status == expect, answer
        return answer

    def put(self, receiver: HookReceiver, **value: Any) -> Any:
        return self.hook(
            "PUT",
            value={"url": receiver.url, "exchange": "amq.topic", "routing_key": "t.#", "retry": FAST} | value,
            expect=201,
        )


def publish(server: LeveretServer, *bodies: bytes, key: str = "t.x", **properties: Any) -> None:
    """Persistent, and confirmed."""
    with server.peer() as peer:
        peer.rpc(1, "confirm.select")
        for body in bodies:
            peer.publish(1, "amq.topic", key, body, **({"delivery_mode": 2} | properties))
        confirmed = 0
        while confirmed < len(bodies):
            confirmed = peer.expect(1, "basic.ack").delivery_tag
        peer.goodbye()


def fence(api: HooksApi) -> None:
    """Returns when all that was written before is on the disk."""
    assert api.call("PUT", "/api/vhosts/fence")[0] == 201

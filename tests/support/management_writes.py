"""What tests of the management API's writing half ask, and what they expect."""

from __future__ import annotations

from typing import Any

from support.management import Management

__all__ = ["ALL", "DOUBLY", "NOT_FOUND", "NO_VHOST", "check"]

ALL = {"configure": ".*", "write": ".*", "read": ".*"}
NOT_FOUND = {"error": "Object Not Found", "reason": "Not Found"}
NO_VHOST = {"error": "not_found", "reason": "vhost_not_found"}
DOUBLY = "invalid payload: the request body JSON-decoded to a string. Is the input doubly-JSON-encoded?"


def check(api: Management, method: str, path: str, body: Any, status: int, answer: Any = None) -> None:
    """answer: a dict is the whole body, a string or list is the reason of bad_request."""
    got = api.request(method, path, body)
    assert got.status == status, (method, path, body, got)
    if answer is None:
        if status in (201, 204):
            assert got.body == b"", got
        return
    expected = answer if isinstance(answer, dict) else {"error": "bad_request", "reason": answer}
    assert got.json == expected, (method, path, body)

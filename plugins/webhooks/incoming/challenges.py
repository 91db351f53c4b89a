"""Challenges: requests by which senders check, before they send webhooks, that the URL belongs to the receiver."""

from __future__ import annotations

import hmac
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from leveret.core.errors import InvalidArgument
from leveret.core.json_object import JsonObject
from leveret.plugins.webhooks.incoming.template import MISSING

if TYPE_CHECKING:
    from leveret.plugins.webhooks.incoming.template import RequestValues
__all__ = ["Challenge", "challenge_of"]

MAX_CHARS = 4096


@dataclass(frozen=True, slots=True)
class Challenge:
    """How a source answers challenges.

    query        the parameter of the query that is sent back; with token_query only if that parameter equals token
    body         a JSON pointer to the text in the body that is sent back, once the request is verified
    kind, secret the type of the verification, if it is slack or zoom, which have challenges of their own, and the secret
    """

    kind: str = ""
    query: str = ""
    token_query: str = ""
    body: str = ""
    token: bytes = field(default=b"", repr=False)
    secret: bytes = field(default=b"", repr=False)

    def of_query(self, query: Mapping[str, str]) -> str | None:
        """The plain text that answers a request before it is verified; None if the request is not a challenge."""
        asked = query.get(self.query) if self.query else None
        if asked is None or len(asked) > MAX_CHARS:
            return None
        if self.token_query:
            given = query.get(self.token_query, "").encode("utf-8", "surrogateescape")
            if not hmac.compare_digest(given, self.token):
                return None
        return asked

    def of_body(self, values: RequestValues) -> str | dict[str, str] | None:
        """The text or JSON value that answers a verified request; None if the request is not a challenge."""
        if self.body:
            asked = values.find("body", self.body)
            return asked if asked is not MISSING and isinstance(asked, str) else None
        value = values.parsed if self.kind else None
        if not isinstance(value, dict):
            return None
        if self.kind == "slack" and value.get("type") == "url_verification":
            return _text(value.get("challenge"))
        if self.kind == "zoom" and value.get("event") == "endpoint.url_validation":
            payload = value.get("payload")
            plain = _text(payload.get("plainToken")) if isinstance(payload, dict) else None
            if plain is not None:
                encrypted = hmac.digest(self.secret, plain.encode("utf-8", "surrogatepass"), "sha256").hex()
                return {"plainToken": plain, "encryptedToken": encrypted}
        return None


def _text(value: Any) -> str | None:
    return value if isinstance(value, str) and len(value) <= MAX_CHARS else None


def challenge_of(kind: str, value: Any, secrets: Sequence[str]) -> Challenge | None:
    """The challenge of a source. kind: the type of its verification; value: its member `challenge`. Raise InvalidArgument."""
    if value is None:
        if kind == "slack":
            return Challenge(kind)
        return Challenge(kind, secret=secrets[0].encode()) if kind == "zoom" else None
    if kind in ("slack", "zoom"):
        raise InvalidArgument(f"the type {kind} has its own challenge")
    given = JsonObject(value, "challenge")
    query, body, token_query, token = [
        given.text(name, "") for name in ("query", "body", "token_query", "token")
    ]
    given.refuse_unknown()
    if bool(query) == bool(body):
        raise InvalidArgument("challenge needs either query or body")
    if body and not body.startswith("/"):
        raise InvalidArgument("challenge.body must be a JSON pointer, which begins with /")
    if bool(token_query) != bool(token) or (token and not query):
        raise InvalidArgument(
            "challenge.token_query and challenge.token must be given together, and beside challenge.query"
        )
    return Challenge("", query, token_query, body, token.encode())

"""OAuth 2 client credentials (RFC 6749 4.4) for requests that go out: a token is requested once and kept while it is valid."""

from __future__ import annotations

import base64
import json
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any
from urllib.parse import quote_plus, urlencode

import trio

from leveret.plugins.webhooks.outgoing.client import Connection
from leveret.plugins.webhooks.outgoing.connector import Connector, RequestFailed, Target

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["ClientCredentials", "TokenSource"]

MAX_ANSWER_BYTES = 32768
MAX_TOKEN_CHARS = 16384
TIMEOUT_S = 15.0
DEFAULT_LIFETIME_S = 300.0  # if the answer has no lifetime; after a 401 a new token is requested in any case
MAX_LIFETIME_S = 86400.0
EARLY = 0.1  # the part of the lifetime, at its end, in which the token is not used any more
AGAIN_S = 5.0  # for which a refusal is remembered before the server is asked again


@dataclass(frozen=True, slots=True)
class ClientCredentials:
    """Credentials, and where to use them.

    style: "basic" (the client's id and secret are sent as a login) or "body" (as fields of the form)
    """

    target: Target
    client_id: str
    client_secret: str = field(repr=False)
    scope: str = ""
    audience: str = ""
    style: str = "basic"

    def request(self) -> tuple[list[tuple[str, str]], bytes]:
        """The headers and the body of a request for a token."""
        form = {"grant_type": "client_credentials"}
        form |= {name: value for name, value in (("scope", self.scope), ("audience", self.audience)) if value}
        headers = [("Accept", "application/json"), ("Content-Type", "application/x-www-form-urlencoded")]
        if self.style == "basic":  # both are encoded as in a form first (2.3.1)
            login = f"{quote_plus(self.client_id)}:{quote_plus(self.client_secret)}"
            headers.append(("Authorization", "Basic " + base64.b64encode(login.encode()).decode()))
        else:
            form |= {"client_id": self.client_id, "client_secret": self.client_secret}
        return headers, urlencode(form).encode()


class TokenSource:
    """The token of one worker pool. Workers that need it while it is being requested wait for the same answer."""

    def __init__(self, connector: Connector, credentials: ClientCredentials) -> None:
        self._connector = connector
        self._credentials = credentials
        self._asking = trio.Lock()
        self._good_until = 0.0
        self._refused: RequestFailed | None = None
        self._refused_until = 0.0
        self.token = ""
        """The last token, or "" before the first one."""

    async def get(self) -> str:
        """A valid token. Raise RequestFailed (reason "oauth"), which shows no more of the server's answer than its status."""
        if trio.current_time() < self._good_until:
            return self.token
        async with self._asking:
            now = trio.current_time()
            if now < self._good_until:
                return self.token
            if self._refused is not None and now < self._refused_until:
                raise self._refused
            try:
                lifetime_s = await self._ask()
            except RequestFailed as error:
                self._refused = RequestFailed("oauth", f"no token: {error}")
                self._refused_until = trio.current_time() + AGAIN_S
                raise self._refused from None
            self._good_until = trio.current_time() + lifetime_s * (1 - EARLY)
            return self.token

    def expire(self, token: str) -> None:
        """The endpoint has refused the token (401): request another one for the next attempt."""
        if token == self.token:
            self._good_until = 0.0

    async def _ask(self) -> float:
        connection = Connection(self._connector, self._credentials.target)
        headers, body = self._credentials.request()
        try:
            reply = await connection.request(
                "POST", headers, body, timeout_s=TIMEOUT_S, snippet_bytes=MAX_ANSWER_BYTES
            )
        finally:
            connection.close()
        if reply.status != 200:
            raise RequestFailed("oauth", f"the token server answered {reply.status}")
        try:
            answer: Mapping[str, Any] = json.loads(reply.snippet)
            token, lifetime_s = answer["access_token"], answer.get("expires_in", DEFAULT_LIFETIME_S)
            kind = answer.get("token_type", "bearer")
        except (ValueError, KeyError, AttributeError, TypeError, RecursionError):
            raise RequestFailed("oauth", "the token server's answer is invalid") from None
        if not isinstance(token, str) or not 0 < len(token) <= MAX_TOKEN_CHARS or not _is_visible(token):
            raise RequestFailed("oauth", "the token server's token is invalid")
        if not isinstance(kind, str) or kind.lower() != "bearer":
            raise RequestFailed("oauth", "the token server's token is of another type than bearer")
        self.token = token
        if isinstance(lifetime_s, str) and lifetime_s.isascii() and lifetime_s.isdigit():
            lifetime_s = int(lifetime_s[:9])  # some servers quote it
        if isinstance(lifetime_s, bool) or not isinstance(lifetime_s, (int, float)) or not lifetime_s > 0:
            return DEFAULT_LIFETIME_S
        return min(float(lifetime_s), MAX_LIFETIME_S)


def _is_visible(text: str) -> bool:
    return all("!" <= char <= "~" for char in text)

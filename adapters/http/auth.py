"""Who sends a request: Basic, or a bearer token as the password, through the broker's chain of backends."""

from __future__ import annotations

import base64
import binascii
import hashlib
import secrets
import time
from collections import OrderedDict
from collections.abc import Callable
from typing import TYPE_CHECKING

from leveret.adapters.http.errors import Refusal
from leveret.auth.contracts import Credentials, Principal

if TYPE_CHECKING:
    from leveret.core.broker import Broker
__all__ = ["PROTOCOL", "RecentLogins", "credentials_of", "login_failed"]

PROTOCOL = "http"
CHALLENGE = {"WWW-Authenticate": 'Basic realm="Leveret", charset="UTF-8"'}
CAPACITY = 4096


def login_failed() -> Refusal:
    """For every reason the same words: the real one is in the log."""
    return Refusal(401, "not_authorized", "Login failed", headers=CHALLENGE)


def credentials_of(header: str, peer_host: str | None, certificate: object = None) -> Credentials:
    """Of an Authorization header. Raise Refusal (401) for none, and for what is none."""
    scheme, _, value = header.partition(" ")
    value = value.strip()
    match scheme.lower():
        case "basic":
            try:
                text = base64.b64decode(value, validate=True).decode()
            except (binascii.Error, ValueError):
                raise login_failed() from None
            username, colon, password = text.partition(":")
            if not colon:
                raise login_failed()
        case "bearer" if value:
            username, password = "", value
        case _:
            raise login_failed()
    return Credentials("PLAIN", username, password, peer_host=peer_host, protocol=PROTOCOL)


class RecentLogins:
    """Logins that the chain has accepted a moment ago: a dashboard sends its password with every request.

    Keyed by a digest of the whole header and the peer's address, with a key of this process alone. Any change of users
    or permissions forgets all of them at once; backends elsewhere are asked again after `auth.cache_ttl_s`.
    """

    def __init__(self, broker: Broker, clock: Callable[[], float] = time.monotonic) -> None:
        self._broker = broker
        self._clock = clock
        self._key = secrets.token_bytes(32)
        self._known: OrderedDict[bytes, tuple[Principal, float]] = OrderedDict()
        self._revision = -1

    def __len__(self) -> int:
        return len(self._known)

    def _mark(self, header: str, peer_host: str | None) -> bytes:
        data = f"{peer_host}\0{header}".encode("utf-8", "surrogatepass")
        return hashlib.blake2b(data, key=self._key, digest_size=16).digest()

    def find(self, header: str, peer_host: str | None) -> Principal | None:
        revision = self._broker.users.revision
        if revision != self._revision:
            self._known.clear()
            self._revision = revision
            return None
        found = self._known.get(self._mark(header, peer_host))
        if found is None or self._clock() >= found[1]:
            return None
        expires_at = found[0].expires_at
        return found[0] if expires_at is None or time.time() < expires_at else None

    def remember(self, header: str, peer_host: str | None, principal: Principal) -> None:
        ttl_s = self._broker.settings.auth.cache_ttl_s
        if ttl_s <= 0 or self._broker.users.revision != self._revision:
            return
        mark = self._mark(header, peer_host)
        self._known[mark] = principal, self._clock() + ttl_s
        self._known.move_to_end(mark)
        if len(self._known) > CAPACITY:
            self._known.popitem(last=False)

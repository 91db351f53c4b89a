"""Passwords that were verified a moment ago: ten thousand devices come back at once."""

from __future__ import annotations

import hashlib
import hmac
import secrets
import time
from collections import OrderedDict
from collections.abc import Callable

__all__ = ["VerifiedPasswords"]

CAPACITY = 65536
"""Users; then the one who has not logged in for longest is forgotten."""


class VerifiedPasswords:
    """One keyed digest per user, with a key of this process alone; short-lived, forgotten when the user changes.

    clock gives monotonic seconds. `ttl_s` 0: nothing is remembered.
    """

    def __init__(
        self, ttl_s: float, clock: Callable[[], float] = time.monotonic, capacity: int = CAPACITY
    ) -> None:
        self._ttl_s = ttl_s
        self._clock = clock
        self._capacity = capacity
        self._key = secrets.token_bytes(32)
        self._known: OrderedDict[str, tuple[bytes, float]] = OrderedDict()  # user: digest, until when

    def __len__(self) -> int:
        return len(self._known)

    def __repr__(self) -> str:
        return f"<VerifiedPasswords users={len(self._known)}>"

    def _mark(self, password: str, password_hash: str) -> bytes:
        data = f"{password_hash}\0{password}".encode("utf-8", "surrogatepass")
        # Keyed BLAKE2: cheaper than what it saves, which HMAC-SHA-256 beside a salted SHA-256 is not.
        return hashlib.blake2b(data, key=self._key, digest_size=16).digest()

    def knows(self, username: str, password: str, password_hash: str) -> bool:
        """Was this verified against this hash? The work is the same if nothing is known of the user."""
        mark = self._mark(password, password_hash)
        known, until = self._known.get(username, (b"", 0.0))
        return hmac.compare_digest(mark, known) and self._clock() < until

    def remember(self, username: str, password: str, password_hash: str) -> None:
        if self._ttl_s <= 0:
            return
        self._known[username] = (self._mark(password, password_hash), self._clock() + self._ttl_s)
        self._known.move_to_end(username)
        if len(self._known) > self._capacity:
            self._known.popitem(last=False)

    def forget(self, username: str) -> None:
        self._known.pop(username, None)

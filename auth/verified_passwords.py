"""Passwords that were verified a moment ago, so that ten thousand devices that reconnect cost ten thousand digests less."""

from __future__ import annotations

import hashlib
import hmac
import secrets
import time
from collections import OrderedDict
from collections.abc import Callable

__all__ = ["VerifiedPasswords"]

CAPACITY = 65536
"""Users remembered; beyond it, the one whose last verification is oldest is forgotten."""


class VerifiedPasswords:
    """One keyed digest per user, under a random key of this process; forgotten when it is old or the user changes.

    ttl_s: how long a password is remembered, in seconds; 0: not at all. clock: returns monotonic seconds.
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
        """Return whether this password was verified against this hash. Unknown users cost the same work."""
        mark = self._mark(password, password_hash)
        known, until = self._known.get(username, (b"", 0.0))
        return hmac.compare_digest(mark, known) and self._clock() < until

    def remember(self, username: str, password: str, password_hash: str) -> None:
        """Keep that this password was verified against this hash."""
        if self._ttl_s <= 0:
            return
        self._known[username] = (self._mark(password, password_hash), self._clock() + self._ttl_s)
        self._known.move_to_end(username)
        if len(self._known) > self._capacity:
            self._known.popitem(last=False)

    def forget(self, username: str) -> None:
        """The user was changed or deleted."""
        self._known.pop(username, None)

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


class VerifiedPasswords:
    """Keyed digests, with a key of this process alone; bounded in number and in time; forgotten when a user changes."""

    def __init__(self, ttl_s: float, clock: Callable[[], float] = time.monotonic) -> None:
        self._ttl_s = ttl_s
        self._clock = clock
        self._key = secrets.token_bytes(32)
        self._until: OrderedDict[bytes, float] = OrderedDict()
        self._by_user: dict[str, set[bytes]] = {}

    def _mark(self, username: str, password: str, password_hash: str) -> bytes:
        data = f"{username}\x00{password_hash}\x00{password}".encode("utf-8", "surrogateescape")
        return hmac.digest(self._key, data, hashlib.sha256)

    def knows(self, username: str, password: str, password_hash: str) -> bool:
        until = self._until.get(self._mark(username, password, password_hash))
        return until is not None and until > self._clock()

    def remember(self, username: str, password: str, password_hash: str) -> None:
        if not self._ttl_s:
            return
        mark = self._mark(username, password, password_hash)
        self._until[mark] = self._clock() + self._ttl_s
        self._until.move_to_end(mark)
        self._by_user.setdefault(username, set()).add(mark)
        while len(self._until) > CAPACITY:
            self._until.popitem(last=False)

    def forget(self, username: str) -> None:
        for mark in self._by_user.pop(username, ()):
            self._until.pop(mark, None)

"""A request as verifiers see it, and what they answer."""

from __future__ import annotations

import hmac
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

__all__ = ["TOLERANCE_S", "Given", "Unverified", "Verifier", "same_as_any"]

TOLERANCE_S = 300


class Unverified(Exception):
    """`str` says why, for the log and for the sender; it never shows a secret. challenge: WWW-Authenticate, or ""."""

    def __init__(self, reason: str, challenge: str = "") -> None:
        super().__init__(reason)
        self.challenge = challenge


@dataclass(frozen=True, slots=True)
class Given:
    """A request, as far as it matters. header names are lower case; now: seconds since the epoch."""

    headers: Mapping[str, Sequence[str]]
    query: Mapping[str, str]
    now: float
    target: str = ""
    """Path and query, as they came."""

    def header(self, name: str) -> str:
        """The first of that name. Raise Unverified if there is none."""
        values = self.headers.get(name)
        if not values:
            raise Unverified(f"the header {name} is missing")
        return values[0]

    def check_time(self, text: str, tolerance_s: float, *, future_too: bool = True) -> None:
        """text: seconds since the epoch. Raise Unverified."""
        if not (text.isascii() and text.isdigit() and len(text) <= 15):
            raise Unverified("the timestamp is no number")
        self.check_age(int(text), tolerance_s, future_too=future_too)

    def check_age(self, at: float, tolerance_s: float, *, future_too: bool = True) -> None:
        """at: seconds since the epoch. Raise Unverified."""
        age = self.now - at
        if age > tolerance_s:
            raise Unverified("the timestamp is too old")
        if future_too and age < -tolerance_s:
            raise Unverified("the timestamp is in the future")


class Verifier(Protocol):
    """Both raise Unverified. `check_head` is asked before the body is read."""

    def check_head(self, given: Given) -> None: ...

    def check(self, given: Given, body: bytes) -> None: ...


def same_as_any(given: bytes, expected: Sequence[bytes]) -> bool:
    found = False
    for one in expected:
        found |= hmac.compare_digest(given, one)
    return found

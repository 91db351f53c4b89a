"""The parts of a request that verifiers need, and the contract of verifiers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

__all__ = ["TOLERANCE_S", "SignedRequest", "Unverified", "Verifier"]

TOLERANCE_S = 300


class Unverified(Exception):
    """The request does not come from the source's sender.

    `str` says why, for the log and the sender, and never shows a secret. challenge: the answer's WWW-Authenticate, or "".
    """

    def __init__(self, reason: str, challenge: str = "") -> None:
        super().__init__(reason)
        self.challenge = challenge


@dataclass(frozen=True, slots=True)
class SignedRequest:
    """The parts of a request that verifiers need.

    headers  values by name in lower case, in the order of arrival
    query    the first value of each parameter
    now      seconds since the epoch
    target   path and query as they were received
    """

    headers: Mapping[str, Sequence[str]]
    query: Mapping[str, str]
    now: float
    target: str = ""

    def header(self, name: str) -> str:
        """The first header of that name. Raise Unverified if it is missing."""
        values = self.headers.get(name)
        if not values:
            raise Unverified(f"the header {name} is missing")
        return values[0]

    def check_time(self, text: str, tolerance_s: float, *, future_too: bool = True) -> None:
        """Check a timestamp in seconds since the epoch, in decimal. Raise Unverified."""
        if not (text.isascii() and text.isdigit() and len(text) <= 15):
            raise Unverified("the timestamp is not a number")
        self.check_age(int(text), tolerance_s, future_too=future_too)

    def check_age(self, at: float, tolerance_s: float, *, future_too: bool = True) -> None:
        """Check a time in seconds since the epoch. future_too: it must not be ahead of ours either. Raise Unverified."""
        age = self.now - at
        if age > tolerance_s:
            raise Unverified("the timestamp is too old")
        if future_too and age < -tolerance_s:
            raise Unverified("the timestamp is in the future")


class Verifier(Protocol):
    """Decides whether a request comes from the source's sender. Both methods raise Unverified."""

    def check_head(self, request: SignedRequest) -> None:
        """Check the headers. Called before the body is read, so that most unverified requests are refused without it."""

    def check(self, request: SignedRequest, body: bytes) -> None:
        """Check the headers and the whole body."""

"""Logins counted by protocol and outcome, for /api/auth/attempts and metrics."""

from __future__ import annotations

__all__ = ["LoginCounts"]


class LoginCounts:
    """counts: [succeeded, failed] by protocol, as `Credentials.protocol` names it."""

    __slots__ = ("counts",)

    def __init__(self) -> None:
        self.counts: dict[str, list[int]] = {}

    def count(self, protocol: str, *, succeeded: bool) -> None:
        counts = self.counts.get(protocol)
        if counts is None:
            counts = self.counts[protocol] = [0, 0]
        counts[0 if succeeded else 1] += 1

    def reset(self) -> None:
        self.counts.clear()

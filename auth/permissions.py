"""What a user may do in a virtual host: three regular expressions, and two more per topic exchange."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache

from leveret.auth.contracts import Permission

__all__ = ["Permissions", "TopicPermissions", "check_pattern", "matches"]

MAX_PATTERN = 1024  # characters, as RabbitMQ bounds it


@lru_cache(maxsize=4096)
def _compiled(pattern: str) -> re.Pattern[str] | None:
    """None denies: the empty pattern, one that is too long, one that is none."""
    if not pattern or len(pattern) > MAX_PATTERN:
        return None
    try:
        return re.compile(pattern)
    except re.error:
        return None


def matches(pattern: str, name: str) -> bool:
    """An unanchored search, case-sensitive; the empty pattern matches nothing but the empty name (RabbitMQ's ^$)."""
    if not pattern:
        return not name
    compiled = _compiled(pattern)
    return compiled is not None and compiled.search(name) is not None


def check_pattern(pattern: str) -> str | None:
    """What is wrong with it, in one sentence; None: nothing."""
    if len(pattern) > MAX_PATTERN:
        return f"the pattern is longer than {MAX_PATTERN} characters"
    try:
        re.compile(pattern)
    except re.error as error:
        return f"the pattern {pattern!r} is no regular expression: {error}"
    return None


@dataclass(frozen=True, slots=True)
class Permissions:
    """The triple of one user in one virtual host."""

    configure: str
    write: str
    read: str

    def allow(self, permission: Permission, name: str) -> bool:
        return matches(getattr(self, permission.value), name)


@dataclass(frozen=True, slots=True)
class TopicPermissions:
    """Of one user, in one virtual host, on one topic exchange; {username}, {vhost} and {client_id} are filled in."""

    write: str
    read: str

    def allow(self, permission: Permission, routing_key: str, variables: Mapping[str, str]) -> bool:
        pattern = self.write if permission is Permission.WRITE else self.read
        if "{" in pattern:
            for name, value in variables.items():
                pattern = pattern.replace("{" + name + "}", re.escape(value))
        return matches(pattern, routing_key)

"""What a user may do in a virtual host: three regular expressions, and two more per topic exchange."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache

import regex  # not re: clients choose the names that are searched, and re may take for ever over one

from leveret.auth.contracts import Permission

__all__ = ["DEFAULT_EXCHANGE", "Permissions", "TopicPermissions", "check_pattern", "matches"]

log = logging.getLogger(__name__)

DEFAULT_EXCHANGE = "amq.default"
"""What the default exchange, whose name is empty, is checked as."""
MAX_PATTERN_BYTES = 1024  # RabbitMQ's bound
MATCH_LIMIT_S = 0.02
"""Processor time for one search; RabbitMQ bounds its steps (match limit 50 000). Over it: denied."""


def _compile(pattern: str) -> regex.Pattern[str]:
    """Raise regex.error, or ValueError if it is too long."""
    if len(pattern.encode("utf-8", "surrogatepass")) > MAX_PATTERN_BYTES:
        raise ValueError(f"it is longer than {MAX_PATTERN_BYTES} bytes")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of what may mean something else in a later version
        return regex.compile(pattern)


@lru_cache(maxsize=4096)
def _compiled(pattern: str) -> regex.Pattern[str] | None:
    """None denies: a pattern that is too long, or is none."""
    try:
        return _compile(pattern)
    except (regex.error, ValueError, OverflowError, RecursionError):
        return None


def matches(pattern: str, name: str) -> bool:
    """An unanchored search, case-sensitive; the empty pattern matches nothing but the empty name (RabbitMQ's ^$)."""
    if not pattern:
        return not name
    compiled = _compiled(pattern)
    if compiled is None:
        return False
    try:
        return compiled.search(name, timeout=MATCH_LIMIT_S) is not None
    except TimeoutError:
        log.warning("pattern=%r takes too long over a name of %d characters; denied", pattern, len(name))
        return False


def check_pattern(pattern: str) -> str | None:
    """What is wrong with it, in one sentence; None: nothing."""
    try:
        _compile(pattern)
    except (regex.error, ValueError, OverflowError, RecursionError) as error:
        return f"{pattern!r} is no regular expression: {error}"
    return None


@dataclass(frozen=True, slots=True)
class Permissions:
    """The triple of one user in one virtual host."""

    configure: str
    write: str
    read: str

    def allow(self, permission: Permission, name: str) -> bool:
        match permission:
            case Permission.CONFIGURE:
                return matches(self.configure, name)
            case Permission.WRITE:
                return matches(self.write, name)
            case Permission.READ:
                return matches(self.read, name)


@dataclass(frozen=True, slots=True)
class TopicPermissions:
    """Of one user, in one virtual host, on one topic exchange; {username}, {vhost} and {client_id} are filled in."""

    write: str
    read: str

    def allow(self, permission: Permission, routing_key: str, variables: Mapping[str, str]) -> bool:
        """A variable's value stands for itself: whatever is special in a regular expression is escaped."""
        match permission:
            case Permission.WRITE:
                pattern = self.write
            case Permission.READ:
                pattern = self.read
            case _:
                return False  # there is nothing to configure about a topic
        return matches(_filled(pattern, variables) if "{" in pattern else pattern, routing_key)


def _filled(pattern: str, variables: Mapping[str, str]) -> str:
    """In one pass, so that a value that looks like a variable is none. Unknown variables stay as they are."""

    def value(found: regex.Match[str]) -> str:
        name = found[1]
        return regex.escape(variables[name], special_only=True) if name in variables else found[0]

    return _VARIABLE.sub(value, pattern)


_VARIABLE = regex.compile(r"\{([A-Za-z_][A-Za-z0-9_.]*)\}")

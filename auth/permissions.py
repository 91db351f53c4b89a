"""What a user may do in a virtual host: three regular expressions, and two more per topic exchange."""

from __future__ import annotations

import logging
import re
from collections.abc import Mapping
from dataclasses import dataclass

from leveret.auth.contracts import Permission
from leveret.auth.patterns import InvalidPattern, PatternTooSlow, compile_pattern

__all__ = ["DEFAULT_EXCHANGE", "Permissions", "TopicPermissions", "check_pattern", "matches"]

log = logging.getLogger(__name__)

DEFAULT_EXCHANGE = "amq.default"
"""What the default exchange, whose name is empty, is checked as."""


def matches(pattern: str, name: str) -> bool:
    """Whether a permission's pattern allows a name.

    The empty pattern matches only the empty name, as in RabbitMQ. An invalid pattern, and one that takes too long over the
    name, match nothing: permissions fail closed.
    """
    if not pattern:
        return not name
    try:
        return compile_pattern(pattern).search(name)
    except InvalidPattern:
        return False
    except PatternTooSlow:
        log.warning("pattern=%r takes too long over a name of %d characters; denied", pattern, len(name))
        return False


def check_pattern(pattern: str) -> str | None:
    """What is wrong with a pattern, as a sentence; None if it is valid."""
    try:
        compile_pattern(pattern)
    except InvalidPattern as error:
        return f"{pattern!r} is not a valid regular expression: {error}"
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

    def value(found: re.Match[str]) -> str:
        name = found[1]
        return re.escape(variables[name]) if name in variables else found[0]

    return _VARIABLE.sub(value, pattern)


_VARIABLE = re.compile(r"\{([A-Za-z_][A-Za-z0-9_.]*)\}")

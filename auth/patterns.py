"""Patterns that users and operators write: permissions, topic permissions, policies, filters of listings.

One dialect everywhere, RabbitMQ's: PCRE, searched for anywhere in the bytes of a name (UTF-8), as Erlang's `re:run` does
without options. The engine is PCRE2 itself, so that definitions files mean here what they mean there. Two things keep a
pattern from holding the broker up: it is at most 1,024 bytes long, and a search takes at most MATCH_LIMIT steps, a few
milliseconds; a pattern that would take more does not match.

Most patterns are one of `.*`, `^name$`, `^prefix`, `suffix$`, or alternatives of these. They are recognised when they are
compiled and decided by string methods, in a tenth of the engine's time. The two ways give equal answers, which
tests/auth/test_patterns.py proves; names with a line break always go to the engine, because `.` and `$` treat those
specially.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Callable
from functools import lru_cache

import pcre2

__all__ = ["MAX_PATTERN_BYTES", "InvalidPattern", "Pattern", "PatternTooSlow", "compile_pattern"]

log = logging.getLogger(__name__)

MAX_PATTERN_BYTES = 1024  # RabbitMQ's bound
MATCH_LIMIT = 50_000
"""Steps of one search. Erlang's `re` stops at ten million and a few seconds, which one client must not cost the others."""
_LIMIT = (
    b"(*LIMIT_MATCH=%d)" % MATCH_LIMIT
)  # a pattern may lower it, and not raise it (pcre2pattern, "Setting limits")

_POSITION = re.compile(r" at position (\d+)")
_LITERAL = re.compile(r"(?:[^\\.^$*+?()[\]{}|\n]|\\[^\w\s])*")
"""Characters that stand for themselves, and escaped punctuation."""


_ESCAPE = re.compile(
    rb"\\Q.*?(?:\\E|\Z)|\\x\{([0-9A-Fa-f]+)\}|\\x([0-9A-Fa-f]{0,2})|\\([uULl])|\\.", re.DOTALL
)


class InvalidPattern(ValueError):
    """Not a regular expression. `reason`: the engine's text; `position`: where in the pattern, in bytes."""

    def __init__(self, reason: str, position: int = 0) -> None:
        super().__init__(f"{reason} at position {position}")
        self.reason = reason
        self.position = position


class PatternTooSlow(Exception):
    """A search needs more than MATCH_LIMIT steps."""


class Pattern:
    """A compiled pattern. Immutable.

    text       as it was written
    is_simple  it is decided without the engine, for names without line breaks
    """

    __slots__ = ("_decide", "_search", "text")

    def __init__(self, text: str, *, is_caseless: bool = False) -> None:
        """Compile; see `compile_pattern`, which remembers.

        Raises:
            InvalidPattern: it is too long, or not a regular expression.
        """
        data = text.encode("utf-8", "surrogatepass")
        if len(data) > MAX_PATTERN_BYTES:
            raise InvalidPattern(f"longer than {MAX_PATTERN_BYTES} bytes", MAX_PATTERN_BYTES)
        try:
            compiled = pcre2.compile(
                _LIMIT + _ESCAPE.sub(_plain_escape, data), pcre2.IGNORECASE if is_caseless else 0, jit=False
            )
        except pcre2.PatternError as error:
            reason = str(error).partition("; ")[2] or str(error)
            found = _POSITION.search(str(error))
            raise InvalidPattern(reason, max(0, int(found[1]) - len(_LIMIT)) if found else 0) from error
        self.text = text
        self._search: Callable[[bytes], object] = compiled.search
        self._decide = None if is_caseless else _simplified(text)

    def __repr__(self) -> str:
        return f"<Pattern {self.text!r}>"

    @property
    def is_simple(self) -> bool:
        return self._decide is not None

    def search(self, name: str) -> bool:
        """Whether the pattern matches somewhere in a name.

        Raises:
            PatternTooSlow
        """
        decide = self._decide
        if decide is not None and "\n" not in name:
            return decide(name)
        return self.search_by_engine(name)

    def search_by_engine(self, name: str) -> bool:
        """As `search`, without the short cut."""
        try:
            return self._search(name.encode("utf-8", "surrogateescape")) is not None
        except pcre2.LibraryError as error:
            raise PatternTooSlow(str(error)) from error


def _plain_escape(found: re.Match[bytes]) -> bytes:
    r"""The binding switches on JavaScript's \x and \u (PCRE2_ALT_BSUX); Erlang does not. Write \x as both understand it.

    Raises:
        InvalidPattern: \u and its kin, which PCRE refuses.
    """
    braced, plain, unsupported = found.groups()
    if unsupported is not None:
        raise InvalidPattern(r"PCRE does not support \L, \l, \N{name}, \U, or \u", found.end())
    if braced is None and plain is None:
        return found[0]
    code = int(braced or plain or b"0", 16)
    if code > 0xFF:
        raise InvalidPattern(r"character value in \x{} or \o{} is too large", found.end())
    return b"\\x%02x" % code


@lru_cache(maxsize=4096)
def compile_pattern(text: str) -> Pattern:
    """Compile a pattern, or find it among those compiled lately.

    Raises:
        InvalidPattern
    """
    return Pattern(text)


# -- patterns that need no engine


def _simplified(text: str) -> Callable[[str], bool] | None:
    """A function that decides as the pattern does for names without a line break; None: only the engine can tell."""
    group = re.fullmatch(r"(\^?)\((?:\?:)?([^()[\]]*)\)(\$|\.\*\$?|)", text)
    if group is not None:  # ^(a|b)$ is ^a$|^b$
        start, inner, end = group.groups()
        branches = [f"{start}{branch}{end}" for branch in inner.split("|")]
        if any(branch.startswith("^", len(start)) for branch in branches) or "$" in inner:
            return None
    else:
        branches = text.split("|")
    exact: set[str] = set()
    prefixes: list[str] = []
    suffixes: list[str] = []
    parts: list[str] = []
    for branch in branches:
        is_start = branch.startswith("^")
        body = branch[is_start:]
        if body.startswith(".*"):
            body, is_start = body[2:], False
        is_end = body.endswith("$") and not body.endswith("\\$")
        body = body[: len(body) - is_end]
        if body.endswith(".*") and not body.endswith("\\.*"):
            body, is_end = body[:-2], False
        if not _LITERAL.fullmatch(body):
            return None
        literal = re.sub(r"\\(.)", r"\1", body)
        if is_start and is_end:
            exact.add(literal)
        elif is_start:
            prefixes.append(literal)
        elif is_end:
            suffixes.append(literal)
        else:
            parts.append(literal)
    if "" in parts or "" in prefixes or "" in suffixes:
        return lambda name: True
    starts, ends = tuple(prefixes), tuple(suffixes)
    if starts and not (exact or ends or parts):
        return lambda name: name.startswith(starts)
    if exact and not (starts or ends or parts):
        return exact.__contains__
    if ends and not (exact or starts or parts):
        return lambda name: name.endswith(ends)
    return lambda name: (
        name in exact or name.startswith(starts) or name.endswith(ends) or any(part in name for part in parts)
    )

"""Reading a JSON object member by member, with types.

A reader takes the members it knows, each with its type, its limits and its default, and at the end refuses the members that it
did not take:

    given = JsonObject(value, "retry")
    attempts = given.integer("attempts", 12, 1, 1000)
    max_s = given.number("max_s", 36000.0, 0.01, 604800.0)
    given.refuse_unknown()

Each error names the member by its path and the rule that it breaks ("retry.attempts must be an integer from 1 to 1000"). What
differs between callers is a `JsonDialect`: which exception is raised, whether null means absent, and whether "true" and "12" are
accepted for true and 12, as in the query of a URL.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import Enum, auto
from typing import Any, TypeVar

from leveret.core.errors import InvalidArgument

__all__ = ["REQUIRED", "STRICT", "JsonDialect", "JsonObject", "Rule", "Violation"]

REQUIRED: Any = object()
"""As a default: the member must be there."""
MAX_DIGITS = 20

T = TypeVar("T")


class Rule(Enum):
    """The rules of a reader, for those who translate its errors."""

    OBJECT = auto()
    MISSING = auto()
    UNKNOWN = auto()
    STRING = auto()
    LENGTH = auto()
    BOOLEAN = auto()
    INTEGER = auto()
    NUMBER = auto()
    LIST = auto()
    CHOICE = auto()
    OTHER = auto()


@dataclass(frozen=True, slots=True)
class Violation:
    """A member breaks a rule. path: "retry.attempts"; text: the whole sentence; value: what was given, which may be secret."""

    rule: Rule
    path: str
    text: str
    value: Any = field(default=None, repr=False)

    def __str__(self) -> str:
        return self.text


def _invalid_argument(violation: Violation) -> Exception:
    return InvalidArgument(violation.text)


@dataclass(frozen=True, slots=True)
class JsonDialect:
    """How members are read.

    error           makes the exception that is raised
    null_is_absent  null counts as a member that is not there
    accepts_text    "true", "false" and numbers in decimal are accepted as strings, too
    max_chars       the longest string, where the reader of a member sets no other limit
    noun            what a member is called when it is unknown: "there is no field x"
    """

    error: Callable[[Violation], Exception] = _invalid_argument
    null_is_absent: bool = True
    accepts_text: bool = False
    max_chars: float | None = None
    noun: str = "field"


STRICT = JsonDialect()


class JsonObject:
    """One JSON object.

    Every reader takes the member's name, a default and its limits, and raises `dialect.error` if the member breaks a rule. The default
    is `REQUIRED` (the member must be there), None, or a value, which is checked like one that was given. `rule` replaces the standard
    words of a rule in the error's text.
    """

    __slots__ = ("_dialect", "_prefix", "_taken", "_values")

    def __init__(
        self, values: Any, where: str = "", dialect: JsonDialect = STRICT, *, what: str = "it"
    ) -> None:
        """where: the path of this object in what was given, "" at the top; what: how errors call an object without a path."""
        if not isinstance(values, Mapping):
            path = where or what
            raise dialect.error(Violation(Rule.OBJECT, where, f"{path} must be an object", values))
        self._values: Mapping[str, Any] = values
        self._dialect = dialect
        self._prefix = f"{where}." if where else ""
        self._taken: set[str] = set()

    def __contains__(self, name: str) -> bool:
        if self._dialect.null_is_absent:
            return self._values.get(name) is not None
        return name in self._values

    # -- errors

    def error(self, name: str, rule: str, kind: Rule = Rule.OTHER) -> Exception:
        """The exception for a member that breaks a rule of the caller: "retry.delays_s" and "must be ...". To be raised."""
        path = self._prefix + name
        return self._dialect.error(Violation(kind, path, f"{path} {rule}", self._values.get(name)))

    def refuse_unknown(self) -> None:
        """Raise if there are members that nobody has read."""
        unknown = self._values.keys() - self._taken
        if unknown:
            path = self._prefix + min(unknown)
            text = f"there is no {self._dialect.noun} {path}"
            raise self._dialect.error(Violation(Rule.UNKNOWN, path, text))

    # -- any type

    def get(self, name: str, default: Any = REQUIRED) -> Any:
        """The member, whatever its type."""
        self._taken.add(name)
        value = self._values.get(name, default)
        if value is None and self._dialect.null_is_absent:
            value = default
        if value is REQUIRED:
            raise self.error(name, "is missing", Rule.MISSING)
        return value

    def value(self, name: str) -> Any:
        """The member, whatever its type, null included. It must be there."""
        self._taken.add(name)
        if name not in self._values:
            raise self.error(name, "is missing", Rule.MISSING)
        return self._values[name]

    # -- typed

    def text(
        self,
        name: str,
        default: T = REQUIRED,
        *,
        max_chars: float | None = None,
        max_bytes: int | None = None,
        check: Callable[[str], object] | None = None,
        rule: str = "must be a string",
    ) -> str | T:
        """A string. max_bytes: of its UTF-8; check: is false for strings that are not accepted."""
        value = self.get(name, default)
        if value is None and default is None:
            return default
        if max_chars is None:
            max_chars = self._dialect.max_chars
        if (
            not isinstance(value, str)
            or (max_chars is not None and len(value) > max_chars)
            or (check is not None and not check(value))
        ):
            raise self.error(name, rule, Rule.STRING)
        if max_bytes is not None and len(value.encode("utf-8", "surrogateescape")) > max_bytes:
            raise self.error(name, f"is longer than {max_bytes} bytes", Rule.LENGTH)
        return value

    def choice(
        self, name: str, choices: Sequence[str], default: T = REQUIRED, *, rule: str | None = None
    ) -> str | T:
        """One of several strings."""
        value = self.get(name, default)
        if value is None and default is None:
            return default
        if not isinstance(value, str) or value not in choices:
            raise self.error(name, rule or f"must be one of {', '.join(choices)}", Rule.CHOICE)
        return value

    def flag(self, name: str, default: T = REQUIRED, *, rule: str = "must be true or false") -> bool | T:
        """true or false."""
        value = self.get(name, default)
        if value is None and default is None:
            return default
        if self._dialect.accepts_text and value in ("true", "false"):
            return bool(value == "true")
        if not isinstance(value, bool):
            raise self.error(name, rule, Rule.BOOLEAN)
        return value

    def integer(
        self,
        name: str,
        default: T = REQUIRED,
        minimum: float = -math.inf,
        maximum: float = math.inf,
        *,
        rule: str | None = None,
    ) -> int | T:
        """An integer in a range, its ends included."""
        value = self.get(name, default)
        if value is None and default is None:
            return default
        if self._dialect.accepts_text and isinstance(value, str) and _is_integer(value):
            value = int(value)
        if isinstance(value, bool) or not isinstance(value, int) or not minimum <= value <= maximum:
            is_bounded = math.isfinite(minimum) and math.isfinite(maximum)
            rule = rule or ("must be an integer" + (f" from {minimum} to {maximum}" if is_bounded else ""))
            raise self.error(name, rule, Rule.INTEGER)
        return value

    def number(
        self, name: str, default: T = REQUIRED, minimum: float = -math.inf, maximum: float = math.inf, *,
        rule: str | None = None,
    ) -> float | T:  # fmt: skip
        """A number in a range, its ends included."""
        value = self.get(name, default)
        if value is None and default is None:
            return default
        if self._dialect.accepts_text and isinstance(value, str):
            value = _float(value)
        if isinstance(value, bool) or not isinstance(value, (int, float)) or not minimum <= value <= maximum:
            is_bounded = math.isfinite(minimum) and math.isfinite(maximum)
            rule = rule or ("must be a number" + (f" from {minimum:g} to {maximum:g}" if is_bounded else ""))
            raise self.error(name, rule, Rule.NUMBER)
        return float(value)

    # -- lists and objects

    def list(
        self,
        name: str,
        default: T = REQUIRED,
        *,
        check: Callable[[Any], object] | None = None,
        minimum: int = 0,
        maximum: float = math.inf,
        rule: str = "must be a list",
    ) -> list[Any] | T:
        """A list of `minimum` to `maximum` items. check: is false for items that are not accepted."""
        value = self.get(name, default)
        if value is None and default is None:
            return default
        if (
            not isinstance(value, list)
            or not minimum <= len(value) <= maximum
            or (check is not None and not all(map(check, value)))
        ):
            raise self.error(name, rule, Rule.LIST)
        return value

    def words(
        self,
        name: str,
        default: T = REQUIRED,
        *,
        check: Callable[[Any], object] | None = None,
        rule: str = "must be a list of strings",
    ) -> Sequence[str] | T:
        """A list of strings, or one string with commas between them."""
        value = self.get(name, default)
        if isinstance(value, str):
            return [word.strip() for word in value.split(",") if word.strip()]
        return self.list(name, default, check=check or _is_string, rule=rule)

    def mapping(self, name: str, default: T = REQUIRED) -> dict[str, Any] | T:
        """An object as a dictionary of its own, its members unread."""
        value = self.get(name, default)
        if value is None and default is None:
            return default
        if not isinstance(value, Mapping):
            raise self.error(name, "must be an object", Rule.OBJECT)
        return dict(value)

    def nested(self, name: str) -> JsonObject:
        """A reader of the object that is a member; absent, it is an empty one."""
        return JsonObject(self.get(name, {}), self._prefix + name, self._dialect)


def _is_string(value: Any) -> bool:
    return isinstance(value, str)


def _is_integer(text: str) -> bool:
    return len(text) <= MAX_DIGITS and text.isascii() and text.removeprefix("-").isdecimal()


def _float(text: str) -> float:
    """nan, which is in no range, for a string that is no number."""
    try:
        return float(text)
    except ValueError:
        return math.nan

"""What selectors do with values: comparisons of like types only, Java's arithmetic, LIKE. None is NULL, or unknown."""

from __future__ import annotations

import math
import operator
import re
from collections.abc import Callable
from typing import Any

__all__ = ["ORDERS", "arithmetic", "equal", "like", "number", "ordered", "truth"]

Number = int | float
LONG = (
    1 << 63
)  # beyond Java's long a result goes on as a double, so that no expression can grow without bound
NUMERAL = re.compile(r"\s*[+-]?(?:[0-9]+(?:\.[0-9]*)?|\.[0-9]+)(?:[eE][+-]?[0-9]+)?\s*", re.ASCII)
LONGEST_NUMERAL = 64  # characters; a longer string is text

ORDERS: dict[str, Callable[[Any, Any], bool]] = {
    "<": operator.lt,
    "<=": operator.le,
    ">": operator.gt,
    ">=": operator.ge,
}


def number(value: Any, *, converts: bool) -> Number | None:
    """The value as a number, or None. converts: a string that is a numeral is one."""
    if isinstance(value, (int, float)):
        return None if isinstance(value, bool) else value
    if converts and isinstance(value, str) and len(value) <= LONGEST_NUMERAL and NUMERAL.fullmatch(value):
        try:
            return int(value)
        except ValueError:
            return float(value)
    return None


def truth(value: Any, *, converts: bool) -> bool | None:
    """The value as a boolean, or None. converts: the strings true and false are such, in any case of letters."""
    if isinstance(value, bool):
        return value
    if converts and isinstance(value, str):
        lower = value.lower()
        return lower == "true" if lower in ("true", "false") else None
    return None


def _alike(left: Any, right: Any, converts: bool) -> tuple[Any, Any] | None:
    """Both of one type, the one converted to the other's if that may be; None: they cannot be compared."""
    if isinstance(left, str) and isinstance(right, str):
        return left, right
    one: Any
    other: Any
    if isinstance(left, bool) or isinstance(right, bool):
        one, other = truth(left, converts=converts), truth(right, converts=converts)
    else:
        one, other = number(left, converts=converts), number(right, converts=converts)
    return None if one is None or other is None else (one, other)


def equal(left: Any, right: Any, *, wanted: bool, converts: bool) -> bool | None:
    """`=` (wanted) and `<>`: false, both of them, for values of types that cannot be compared (JMS 1.1, 3.8.1.2)."""
    if left is None or right is None:
        return None
    pair = _alike(left, right, converts)
    return False if pair is None else (pair[0] == pair[1]) is wanted


def ordered(compare: Callable[[Any, Any], bool], left: Any, right: Any, *, converts: bool) -> bool | None:
    """Numbers have an order, nothing else has; two strings have one if both are numerals and `converts`."""
    if left is None or right is None:
        return None
    one, other = number(left, converts=converts), number(right, converts=converts)
    return False if one is None or other is None else compare(one, other)


def arithmetic(sign: str, left: Any, right: Any, *, converts: bool) -> Number | None:
    """As Java's: whole numbers divide to whole ones. Unknown for what is no number, and for a division by zero."""
    one, other = number(left, converts=converts), number(right, converts=converts)
    if one is None or other is None:
        return None
    try:
        result: Number
        if sign == "+":
            result = one + other
        elif sign == "-":
            result = one - other
        elif sign == "*":
            result = one * other
        elif isinstance(one, int) and isinstance(other, int):
            quotient = abs(one) // abs(other) * (1 if (one < 0) == (other < 0) else -1)  # towards zero
            result = quotient if sign == "/" else one - quotient * other
        else:
            result = one / other if sign == "/" else math.fmod(one, other)
        return float(result) if isinstance(result, int) and not -LONG <= result < LONG else result
    except (ArithmeticError, ValueError):
        return None


def like(pattern: str, escape: str | None) -> Callable[[str], bool]:
    """`%` is any run of characters, `_` any one, both themselves behind the escape character.

    The runs between the `%` are of fixed length, so the leftmost place of each is the right one: no backtracking,
    and no pattern that takes long.
    """
    parts: list[tuple[int, str]] = [(0, "")]  # of each: how many characters, and their regular expression
    is_escaped = False
    for character in pattern:
        length, expression = parts[-1]
        if is_escaped:
            parts[-1] = length + 1, expression + re.escape(character)
            is_escaped = False
        elif character == escape:
            is_escaped = True
        elif character == "%":
            parts.append((0, ""))
        else:
            parts[-1] = length + 1, expression + ("." if character == "_" else re.escape(character))
    if len(parts) == 1:
        whole = re.compile(parts[0][1], re.DOTALL)
        return lambda text: whole.fullmatch(text) is not None

    first_length, first = parts[0][0], re.compile(parts[0][1], re.DOTALL)
    last_length, last = parts[-1][0], re.compile(parts[-1][1], re.DOTALL)
    middle = [re.compile(expression, re.DOTALL) for length, expression in parts[1:-1] if length]

    def matches(text: str) -> bool:
        position, end = first_length, len(text) - last_length
        if end < position or not first.match(text) or not last.match(text, end):
            return False
        for part in middle:
            found = part.search(text, position, end)
            if found is None:
                return False
            position = found.end()
        return True

    return matches

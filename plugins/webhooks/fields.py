"""Members of a JSON object, taken one by one and checked."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Any, TypeVar

from leveret.core.errors import InvalidArgument

__all__ = ["HEADER_VALUE", "Fields"]

HEADER_VALUE = re.compile(r"[\x21-\x7e]([\x20-\x7e\t]*[\x21-\x7e])?")

T = TypeVar("T")


class Fields:
    """A JSON object's members, taken one by one; what is left in the end nobody knows. All raise InvalidArgument."""

    def __init__(self, value: Any, where: str = "") -> None:
        if not isinstance(value, Mapping):
            raise InvalidArgument(f"{where or 'a webhook'} must be an object")
        self._left = dict(value)
        self._where = f"{where}." if where else ""

    def take(self, name: str, default: Any) -> Any:
        value = self._left.pop(name, default)
        return default if value is None else value

    def _typed(self, name: str, default: T, check: Callable[[Any], bool], what: str) -> T:
        value: T = self.take(name, default)
        if not check(value):
            raise InvalidArgument(f"{self._where}{name} must be {what}")
        return value

    def text(self, name: str, default: str, longest: int = 16384) -> str:
        return self._typed(
            name, default, lambda value: isinstance(value, str) and len(value) <= longest, "a string"
        )

    def optional_text(self, name: str) -> str | None:
        return self._typed(name, None, lambda value: value is None or isinstance(value, str), "a string")

    def texts(self, name: str, default: list[str]) -> list[str]:
        return self._typed(
            name, default,
            lambda value: isinstance(value, list) and 0 < len(value) <= 100 and all(isinstance(one, str) for one in value),
            "a list of 1 to 100 strings",
        )  # fmt: skip

    def mapping(self, name: str) -> dict[str, Any]:
        return dict(self._typed(name, {}, lambda value: isinstance(value, Mapping), "an object"))

    def flag(self, name: str, default: bool) -> bool:
        return self._typed(name, default, lambda value: isinstance(value, bool), "true or false")

    def choice(self, name: str, choices: tuple[str, ...], default: str) -> str:
        return self._typed(name, default, lambda value: value in choices, f"one of {', '.join(choices)}")

    def number(self, name: str, default: float, minimum: float, maximum: float) -> float:
        return float(self._typed(
            name, default,
            lambda value: isinstance(value, (int, float)) and not isinstance(value, bool) and minimum <= value <= maximum,
            f"a number from {minimum:g} to {maximum:g}",
        ))  # fmt: skip

    def integer(self, name: str, default: int, minimum: int, maximum: int) -> int:
        return self._typed(
            name, default,
            lambda value: isinstance(value, int) and not isinstance(value, bool) and minimum <= value <= maximum,
            f"an integer from {minimum} to {maximum}",
        )  # fmt: skip

    def finish(self) -> None:
        if self._left:
            raise InvalidArgument(f"there is no field {self._where}{min(self._left)}")

"""Members of a JSON object, taken one by one."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from leveret.core.errors import InvalidArgument

__all__ = ["TOKEN", "Members"]

TOKEN = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]{1,256}")
"""A header's name."""


class Members:
    """A JSON object's members, taken one by one; what is left in the end nobody knows. All raise InvalidArgument."""

    def __init__(self, value: Any, where: str = "") -> None:
        if not isinstance(value, Mapping):
            raise InvalidArgument(f"{where or 'a webhook source'} must be an object")
        self._left = dict(value)
        self._where = f"{where}." if where else ""

    def take(self, name: str, default: Any = None) -> Any:
        value = self._left.pop(name, default)
        return default if value is None else value

    def flag(self, name: str, default: bool) -> bool:
        value = self.take(name, default)
        if not isinstance(value, bool):
            raise InvalidArgument(f"{self._where}{name} must be true or false")
        return value

    def number(self, name: str, default: float, minimum: float, maximum: float) -> float:
        value = self.take(name, default)
        if isinstance(value, bool) or not isinstance(value, (int, float)) or not minimum <= value <= maximum:
            raise InvalidArgument(f"{self._where}{name} must be a number from {minimum:g} to {maximum:g}")
        return value

    def text(self, name: str, default: str, pattern: re.Pattern[str] | None = None) -> str:
        value = self.take(name, default)
        if not isinstance(value, str) or (pattern is not None and not pattern.fullmatch(value)):
            raise InvalidArgument(f"{self._where}{name} is not what it should be")
        return value

    def choice(self, name: str, choices: tuple[str, ...], default: str) -> str:
        value = self.take(name, default)
        if value not in choices:
            raise InvalidArgument(f"{self._where}{name} must be one of {', '.join(choices)}")
        return str(value)

    def finish(self) -> None:
        if self._left:
            raise InvalidArgument(f"there is no field {self._where}{min(self._left)}")

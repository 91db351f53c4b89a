"""What an import is made of. One item of a definitions document: its members read with their types, and what of them can be checked alone."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from leveret.auth import passwords
from leveret.core.definitions.json_fields import is_text, table_of
from leveret.core.errors import InvalidArgument

__all__ = ["DefinitionsError", "Item", "Named", "Report", "called", "check_hash", "limits_of"]

MISSING: Any = object()


class DefinitionsError(InvalidArgument):
    """A document cannot be imported: `section[index] (name): why`."""


@dataclass(frozen=True, slots=True)
class Report:
    """counts: items taken, by section. warnings: what was left out or has no effect, a sentence each."""

    counts: dict[str, int] = field(default_factory=dict)
    warnings: list[str] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class Named:
    """Stands for a queue or exchange that will be there."""

    name: str
    kind: str


class Item:
    """One object of a section. Every reader raises InvalidArgument in words that need no context."""

    __slots__ = ("_values",)

    def __init__(self, values: Any) -> None:
        if not isinstance(values, Mapping):
            raise InvalidArgument("it must be an object")
        self._values = values

    def __contains__(self, key: str) -> bool:
        return self._values.get(key) is not None

    def get(self, key: str, default: Any = MISSING) -> Any:
        """null is as good as absent."""
        value = self._values.get(key)
        if value is not None:
            return value
        if default is MISSING:
            raise InvalidArgument(f"{key} is missing")
        return default

    def value(self, key: str) -> Any:
        """Whatever it is, null included."""
        if key not in self._values:
            raise InvalidArgument(f"{key} is missing")
        return self._values[key]

    def text(self, key: str, default: Any = MISSING) -> str:
        value = self.get(key, default)
        if value is not default and not is_text(value):
            raise InvalidArgument(f"{key} must be a string")
        return value  # type: ignore[no-any-return]

    def name(self, key: str = "name") -> str:
        """At most what AMQP can say."""
        value = self.text(key)
        if len(value.encode("utf-8", "surrogateescape")) > 255:
            raise InvalidArgument(f"{key} is longer than 255 bytes")
        return value

    def flag(self, key: str, default: bool = False) -> bool:
        value = self.get(key, default)
        if value in ("true", "false"):
            return bool(value == "true")
        if not isinstance(value, bool):
            raise InvalidArgument(f"{key} must be true or false")
        return value

    def table(self, key: str = "arguments") -> dict[str, Any]:
        return table_of(self.get(key, {}), key, has_nulls=True)

    def words(self, key: str) -> list[str] | None:
        """A list, or a string with commas; None if it is not there."""
        value = self.get(key, None)
        if isinstance(value, str):
            value = [word.strip() for word in value.split(",") if word.strip()]
        if value is not None and not (isinstance(value, list) and all(map(is_text, value))):
            raise InvalidArgument(f"{key} must be a list of strings")
        return value


def limits_of(value: Any, known: tuple[str, ...]) -> dict[str, int]:
    """An object, or a list of names and values. Unknown ones are left out."""
    if isinstance(value, list):
        value = {one.get("name"): one.get("value") for one in value if isinstance(one, Mapping)}
    if not isinstance(value, Mapping):
        raise InvalidArgument("limits must be an object")
    limits = {name: value[name] for name in known if value.get(name) is not None}
    for name, limit in limits.items():
        if isinstance(limit, bool) or not isinstance(limit, int) or abs(limit) >> 31:
            raise InvalidArgument(f"{name} should be a number")
    return limits


def check_hash(password_hash: str, algorithm: str | None) -> None:
    """Raise InvalidArgument unless it is one of RabbitMQ's; the empty one is: no login by password."""
    if algorithm is not None and algorithm not in passwords.ALGORITHMS:
        raise InvalidArgument(f"there is no hashing algorithm '{algorithm}'")
    if not password_hash:
        return
    try:
        found = passwords.algorithm_of(password_hash)
    except ValueError as error:
        raise InvalidArgument(str(error)) from None
    if algorithm is not None and found != algorithm:
        raise InvalidArgument(f"this password hash is none of {algorithm}")


def called(values: Any) -> str:
    """What an item calls itself, for whoever looks for it."""
    if not isinstance(values, Mapping):
        return ""
    known = [values.get(key) for key in ("vhost", "user", "name", "component", "source", "destination")]
    named = "/".join(one for one in known if is_text(one) and one)
    return f" ({named})" if named else ""

"""Reading the items of a definitions document. An item is a `JsonObject`; the functions here read what is special to definitions."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from leveret.core.definitions.json_fields import is_text, table_of
from leveret.core.errors import InvalidArgument
from leveret.core.json_object import REQUIRED, JsonDialect, JsonObject
from leveret.core.limit_values import check_limit_values

__all__ = [
    "DefinitionsError", "PlannedDestination", "Report", "describe_item", "item_of", "read_limits", "read_name", "read_table",
    "read_text", "read_words",
]  # fmt: skip

ITEM = JsonDialect(accepts_text=True)  # RabbitMQ exports some flags of old definitions as "true" and "false"
MAX_NAME_BYTES = 255  # of an AMQP shortstr


class DefinitionsError(InvalidArgument):
    """A document cannot be imported. The text is `section[index] (name): reason`."""


@dataclass(frozen=True, slots=True)
class Report:
    """The result of an import.

    counts    the number of items that were imported, by section
    warnings  one sentence for each item that was left out or has no effect
    """

    counts: dict[str, int] = field(default_factory=dict)
    warnings: list[str] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class PlannedDestination:
    """A queue or an exchange that the import will declare, as the destination of a binding that is checked before."""

    name: str
    kind: str


def item_of(values: Any) -> JsonObject:
    """A reader of an item. Raise InvalidArgument if the item is not an object."""
    return JsonObject(values, dialect=ITEM)


def describe_item(values: Any) -> str:
    """The names in an item, in parentheses after a space, so that a person can find it in the document; "" without names."""
    if not isinstance(values, Mapping):
        return ""
    known = [values.get(key) for key in ("vhost", "user", "name", "component", "source", "destination")]
    names = "/".join(one for one in known if is_text(one) and one)
    return f" ({names})" if names else ""


# -- members. All readers raise InvalidArgument, whose text names the member.


def read_text(item: JsonObject, key: str, default: Any = REQUIRED) -> Any:
    """A string that can be stored, or the default."""
    return item.text(key, default, check=is_text)


def read_name(item: JsonObject, key: str = "name") -> str:
    """A string that fits into an AMQP shortstr."""
    name: str = item.text(key, check=is_text, max_bytes=MAX_NAME_BYTES)
    return name


def read_table(item: JsonObject, key: str = "arguments") -> dict[str, Any]:
    """An object as a field table; an absent one is empty."""
    return table_of(item.get(key, {}), key, has_nulls=True)


def read_words(item: JsonObject, key: str) -> Sequence[str] | None:
    """A list of strings, or one string with commas between them; None if it is absent."""
    words = item.words(key, None)
    if words is not None and not all(map(is_text, words)):
        raise item.error(key, "must be a list of strings")
    return words


def read_limits(value: Any, known: tuple[str, ...]) -> dict[str, int]:
    """Limits by name, from an object or a list of objects with `name` and `value`. Unknown limits are left out."""
    if isinstance(value, list):
        value = {one.get("name"): one.get("value") for one in value if isinstance(one, Mapping)}
    if not isinstance(value, Mapping):
        raise InvalidArgument("limits must be an object")
    limits = {name: value[name] for name in known if value.get(name) is not None}
    check_limit_values(limits)
    return limits

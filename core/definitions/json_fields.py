"""Conversion between JSON and AMQP field tables. Integers stay integers, and floats stay floats; other JSON values are refused."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from leveret.core.errors import InvalidArgument
from leveret.core.fields import Decimal, Int64

__all__ = ["is_text", "json_of", "table_of"]

MAX_DEPTH = 60  # levels of nesting; field tables allow a few more
INT64 = range(-(1 << 63), 1 << 63)


def is_text(value: Any) -> bool:
    """The value is a string that field tables and the store can hold: valid Unicode, or bytes that were decoded with surrogateescape."""
    if not isinstance(value, str):
        return False
    try:
        value.encode("utf-8", "surrogateescape")
    except UnicodeEncodeError:
        return False
    return True


def table_of(value: Any, what: str = "arguments", *, has_nulls: bool = False) -> dict[str, Any]:
    """Convert a JSON object into a field table. An empty list counts as an empty object, because Erlang does not tell them apart.

    what: the name of the member, for errors. has_nulls: null becomes AMQP's void; otherwise it is refused, as in RabbitMQ. Raise
    InvalidArgument.
    """
    if value is None or value == []:
        return {}
    if not isinstance(value, Mapping):
        raise InvalidArgument(f"{what} must be an object")
    table: dict[str, Any] = _field(value, what, has_nulls, 0)
    return table


def _field(value: Any, what: str, has_nulls: bool, depth: int) -> Any:
    if depth > MAX_DEPTH:
        raise InvalidArgument(f"{what}: values are nested deeper than {MAX_DEPTH}")
    match value:
        case bool():
            return value
        case int():
            if value not in INT64:
                raise InvalidArgument(f"{what}: {value} does not fit 64 bits")
            return Int64(value)  # as RabbitMQ types all integers of JSON
        case float():
            if not math.isfinite(value):
                raise InvalidArgument(f"{what}: a number is too large")
            return value
        case str():
            if not is_text(value):
                raise InvalidArgument(f"{what}: a string is not valid Unicode")
            return value
        case None:
            if not has_nulls:
                raise InvalidArgument("null_not_allowed")
            return None
        case Mapping():
            for key in value:
                if not is_text(key) or len(key.encode("utf-8", "surrogateescape")) > 255:
                    raise InvalidArgument(f"{what}: a key is longer than 255 bytes, or not valid Unicode")
            return {key: _field(item, what, has_nulls, depth + 1) for key, item in value.items()}
        case _:
            return [_field(item, what, has_nulls, depth + 1) for item in value]


def json_of(value: Any) -> Any:
    """Convert a field value into JSON: numbers of all types become numbers, byte strings become strings."""
    match value:
        case bool() | None | str():
            return value
        case int():
            return int(value)
        case float():
            return float(value) if math.isfinite(value) else str(value)
        case bytes() | bytearray():
            return bytes(value).decode("utf-8", "surrogateescape")
        case Decimal():
            return value.value / 10**value.scale
        case Mapping():
            return {str(key): json_of(item) for key, item in value.items()}
        case list() | tuple():
            return [json_of(item) for item in value]
        case _:
            return str(value)

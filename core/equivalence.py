"""When two declarations are the same (AMQP 1.7.2.1): RabbitMQ's comparison, and its words (rabbit_misc.erl)."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from leveret.core.bindings import canonical
from leveret.core.erlang_terms import erlang_term
from leveret.core.errors import PreconditionFailed
from leveret.core.exchange import Arguments
from leveret.core.fields import type_name

__all__ = ["assert_equal_arguments", "assert_equal_field", "describe_resource"]

INTEGERS = ("byte", "unsignedbyte", "short", "unsignedshort", "signedint", "unsignedint", "long", "timestamp")
FLOATS = ("float", "double")


def describe_resource(kind: str, name: str, vhost: str) -> str:
    """As RabbitMQ's texts name a thing: queue 'q' in vhost '/'."""
    return f"{kind} '{name}' in vhost '{vhost}'"


def _plain(value: Any) -> str:
    """Text as it is, everything else as a term."""
    if isinstance(value, bytes):
        return value.decode("utf-8", "replace")
    return value if isinstance(value, str) else erlang_term(value)


def _typed(arguments: Arguments, key: str) -> str:
    if key not in arguments:
        return "none"
    value = arguments[key]
    return f"the value '{_plain(value)}' of type '{type_name(value)}'"


def _class(value: Any) -> str:
    """Widths of integers and of floats do not count; other types do."""
    name = type_name(value)
    if name in INTEGERS:
        return "integer"
    return "float" if name in FLOATS else name


def _inequivalent(thing: str, key: str, received: str, current: str) -> PreconditionFailed:
    return PreconditionFailed(
        f"inequivalent arg '{key}' for {thing}: received {received} but current is {current}"
    )


def assert_equal_field(thing: str, key: str, current: Any, received: Any) -> None:
    """Raise PreconditionFailed unless a declaration's field (durable, type, ...) is what it was.

    thing: as `resource` names it.
    """
    if current != received:
        raise _inequivalent(thing, key, f"'{_plain(received)}'", f"'{_plain(current)}'")


def assert_equal_arguments(thing: str, keys: Iterable[str], current: Arguments, received: Arguments) -> None:
    """Raise PreconditionFailed unless these arguments are equal or absent in both; others do not count."""
    for key in keys:
        if key not in current and key not in received:
            continue
        if key in current and key in received:
            old, new = current[key], received[key]
            if _class(old) != _class(new) or canonical(old) != canonical(new):
                raise _inequivalent(thing, key, f"'{_plain(new)}'", f"'{_plain(old)}'")
            continue
        if key == "x-queue-type" and {*map(_plain, (current.get(key), received.get(key)))} == {
            "classic",
            "undefined",
        }:
            continue  # absent is classic
        raise _inequivalent(thing, key, _typed(received, key), _typed(current, key))

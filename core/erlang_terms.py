"""Values as RabbitMQ's error texts print them: Erlang terms, by the format ~tp."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from leveret.core.fields import type_name

__all__ = ["erlang_term"]

ESCAPES = {ord(raw): f"\\{letter}" for raw, letter in zip('\\"\n\t\r\b\v\f\x1b', '\\"ntrbvfe', strict=True)}


def erlang_term(value: Any) -> str:
    """Strings are binaries: <<"text">>, <<"täxt"/utf8>>, or <<1,255>> if unprintable."""
    if value is None:
        return "undefined"
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, str):
        return _binary(value.encode("utf-8", "surrogateescape"))
    if isinstance(value, bytes):
        return _binary(value)
    if isinstance(value, Mapping):
        items = (f"{{{erlang_term(key)},{_typed(item)}}}" for key, item in value.items())
        return f"[{','.join(items)}]"
    if isinstance(value, (list, tuple)):
        return f"[{','.join(f'{{{_typed(item)}}}' for item in value)}]"
    return str(value)


def _typed(value: Any) -> str:
    return f"{type_name(value)},{erlang_term(value)}"


def _binary(raw: bytes) -> str:
    if not raw:
        return "<<>>"
    try:
        text = raw.decode()
    except UnicodeDecodeError:
        text = "\0"
    escaped = text.translate(ESCAPES)
    if not escaped.isprintable():
        return f"<<{','.join(map(str, raw))}>>"
    return f'<<"{escaped}">>' if text.isascii() else f'<<"{escaped}"/utf8>>'

"""JSON out and in: field tables included, names that are no Unicode too."""

from __future__ import annotations

import datetime
import json
import math
from collections.abc import Mapping
from decimal import Decimal
from typing import Any

from aiohttp import web

__all__ = ["encode", "json_response", "plain"]


def _default(value: Any) -> Any:
    """Of field tables: what JSON has no word for."""
    if isinstance(value, (bytes, bytearray, memoryview)):
        return bytes(value).decode("utf-8", "backslashreplace")
    if isinstance(value, datetime.datetime):
        return int(value.timestamp())
    if isinstance(value, Decimal):
        return float(value)
    if isinstance(value, Mapping):
        return dict(value)
    if isinstance(value, (set, frozenset)):
        return sorted(value)
    return str(value)


# ASCII: a name that was no UTF-8 comes out as lone surrogates, which no encoder takes.
_encoder = json.JSONEncoder(separators=(",", ":"), default=_default, ensure_ascii=True, allow_nan=False)


def encode(value: Any) -> bytes:
    """JSON has no words for what is not finite: "NaN", "Infinity" and "-Infinity" stand for it."""
    try:
        return _encoder.encode(value).encode()
    except ValueError:
        return _encoder.encode(_finite(value)).encode()


def _finite(value: Any) -> Any:
    if isinstance(value, float) and not math.isfinite(value):
        return "NaN" if math.isnan(value) else "Infinity" if value > 0 else "-Infinity"
    if isinstance(value, Mapping):
        return {key: _finite(one) for key, one in value.items()}
    if isinstance(value, (list, tuple, set, frozenset)):
        return [_finite(one) for one in value]
    return _finite(float(value)) if isinstance(value, Decimal) else value


def plain(value: Any) -> Any:
    """A field value as it would be after JSON: for whoever compares it, or looks into it."""
    return json.loads(encode(value))


def json_response(
    value: Any,
    status: int = 200,
    headers: Mapping[str, str] | None = None,
    *,
    content_type: str = "application/json",
) -> web.Response:
    return web.Response(body=encode(value), status=status, headers=headers, content_type=content_type)

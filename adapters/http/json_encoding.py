"""JSON that every parser takes, of values as the broker holds them: field tables, and names that are not UTF-8.

Strings of the broker keep bytes that are not UTF-8 as lone surrogates. Strict parsers refuse these, so `encode` writes
such a string as RabbitMQ does (rabbit_mgmt_format:utf8_safe): "Not UTF-8, base64 is: " and its bytes in base64.
"""

from __future__ import annotations

import base64
import datetime
import json
import math
from collections.abc import Mapping
from decimal import Decimal
from typing import Any

from aiohttp import web

__all__ = ["encode", "encode_exactly", "json_response", "plain"]

NOT_UTF8 = "Not UTF-8, base64 is: "


def _default(value: Any) -> Any:
    """Of field tables: what JSON has no word for."""
    if isinstance(value, (bytes, bytearray, memoryview)):
        return bytes(value).decode("utf-8", "surrogateescape")
    if isinstance(value, datetime.datetime):
        return int(value.timestamp())
    if isinstance(value, Decimal):
        return float(value)
    if isinstance(value, Mapping):
        return dict(value)
    if isinstance(value, (set, frozenset)):
        return sorted(value)
    return str(value)


_encoder = json.JSONEncoder(separators=(",", ":"), default=_default, ensure_ascii=True, allow_nan=False)


def encode(value: Any) -> bytes:
    """JSON without lone surrogates. Numbers that are not finite are "NaN", "Infinity" and "-Infinity"."""
    encoded = encode_exactly(value)
    # Surrogates are written as \ud800 to \udfff: valid pairs and lone ones, so this may walk once too often.
    return encode_exactly(_valid(value)) if b"\\ud" in encoded else encoded


def encode_exactly(value: Any) -> bytes:
    """As `encode`, with bytes that are not UTF-8 as lone surrogates: an import of definitions reads them back unchanged."""
    try:
        return _encoder.encode(value).encode()
    except ValueError:
        return _encoder.encode(_finite(value)).encode()


def _valid(value: Any) -> Any:
    """The value with all strings in it, keys included, as valid Unicode."""
    if isinstance(value, str):
        return _valid_text(value)
    if isinstance(value, Mapping):
        return {_valid(key): _valid(one) for key, one in value.items()}
    if isinstance(value, (set, frozenset)):
        return [_valid(one) for one in sorted(value)]
    if isinstance(value, (list, tuple)):
        return [_valid(one) for one in value]
    if value is None or isinstance(value, (int, float)):
        return value
    return _valid(_default(value))


def _valid_text(text: str) -> str:
    try:
        text.encode()
    except UnicodeEncodeError:
        try:
            raw = text.encode("utf-8", "surrogateescape")
        except UnicodeEncodeError:  # surrogates that stand for no byte: a client wrote them as JSON escapes
            raw = text.encode("utf-8", "surrogatepass")
        return NOT_UTF8 + base64.b64encode(raw).decode()
    return text


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

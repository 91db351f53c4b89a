"""Properties of a message as HTTP headers: X-Leveret-Message-Id and its like, the same that webhooks out carry."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from typing import Any
from urllib.parse import quote, unquote

from leveret.adapters.http.errors import Refusal
from leveret.adapters.http.json_encoding import encode
from leveret.core.fields import Timestamp
from leveret.core.message import Envelope
from leveret.core.properties import Properties

__all__ = [
    "SANDBOX", "bad", "check_properties", "content_headers", "message_headers", "properties_of", "refuse_properties",
]  # fmt: skip

PREFIX, HEADER_PREFIX, TYPED = "x-leveret-", "x-leveret-header-", "x-leveret-headers"
CONTEXT = ("traceparent", "tracestate", "baggage")
"""W3C trace context and baggage: headers of the same names on both sides."""
OURS = frozenset(
    {"subscription", "exchange", "routing-key", "attempt", "redelivered", "delivery-count", "lease"}
)
"""Of answers and of webhooks out; a message that is passed on may have them, and they say nothing."""
PASSED = frozenset(
    {"host", "authorization", "content-length", "user-agent", "accept", "accept-encoding", "connection"}
)
"""Of nearly every request, and nothing of the message."""
MAX_TYPED_CHARS = 8192
VISIBLE = re.compile(r"[\x21-\x7e]+")
TOKEN = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]{1,256}")
SAFE = "".join(chr(code) for code in range(0x21, 0x7F) if chr(code) not in '"%')
SANDBOX = {
    # A message may say that it is HTML; its reader's browser must not take it for a page of this origin.
    "Content-Security-Policy": "sandbox; default-src 'none'",
    "X-Content-Type-Options": "nosniff",
    "Cache-Control": "no-store",
}


def bad(reason: str, **extra: Any) -> Refusal:
    return Refusal(400, "bad_request", reason, **extra)


def _number(maximum: int) -> Callable[[str, str], int]:
    def read(name: str, text: str) -> int:
        if not (text.isascii() and text.isdigit() and len(text) <= 20 and int(text) <= maximum):
            raise bad(f"{name} must be a number from 0 to {maximum}")
        return int(text)

    return read


def _text(name: str, text: str) -> str:
    return text


def _delivery_mode(name: str, text: str) -> int:
    if text not in ("1", "2"):
        raise bad(f"{name} must be 1 (transient) or 2 (persistent)")
    return int(text)


MAX_TIMESTAMP = (1 << 63) - 1
MAX_TIME = 253402300800  # the year 10000, which RFC 3339 has not
READERS: dict[str, tuple[str, Callable[[str, str], Any]]] = {
    "message-id": ("message_id", _text),
    "correlation-id": ("correlation_id", _text),
    "reply-to": ("reply_to", _text),
    "type": ("type", _text),
    "app-id": ("app_id", _text),
    "user-id": ("user_id", _text),
    "expiration": ("expiration", _text),
    "priority": ("priority", _number(255)),
    "timestamp": ("timestamp", _number(MAX_TIMESTAMP)),
    "delivery-mode": ("delivery_mode", _delivery_mode),
}
STRINGS = (
    "content_type", "content_encoding", "correlation_id", "reply_to", "expiration", "message_id", "type", "user_id",
    "app_id", "cluster_id",
)  # fmt: skip
KNOWN = frozenset({*STRINGS, "headers", "delivery_mode", "priority", "timestamp"})


def properties_of(headers: Mapping[str, str]) -> Properties:
    """Of a request. Persistent, unless it says otherwise. Raise Refusal (400), for misspelt names and repeated ones too."""
    properties = Properties(delivery_mode=2)
    table: dict[str, Any] = {}
    context: dict[str, str] = {}
    typed: dict[str, Any] | None = None
    seen: set[str] = set()
    for name, value in headers.items():
        key = name.lower()
        if key in PASSED:
            continue
        if key == "content-encoding":
            before = properties.content_encoding  # a list may come in several headers (RFC 9110 5.3)
            properties.content_encoding = value if before is None else f"{before}, {value}"
        elif key in CONTEXT:
            context[key] = f"{context[key]},{value}" if key in context else value
        elif key == "content-type" or key.startswith(PREFIX):
            if key in seen:
                raise _repeated(name)
            seen.add(key)
            if key == TYPED:
                typed = _typed(value)
            elif key.startswith(HEADER_PREFIX):
                if len(key) == len(HEADER_PREFIX):
                    raise bad("X-Leveret-Header- must be followed by a name")
                table[key[len(HEADER_PREFIX) :]] = _unquoted(name, value)
            elif key == "content-type":
                properties.content_type = value
            else:
                _set(properties, name, key[len(PREFIX) :], value)
    if typed is not None:
        for key in table.keys() & typed.keys():
            if table[key] != typed[key]:
                raise bad(f"the header {key} is given twice: by itself, and in X-Leveret-Headers")
        table.update(typed)
    if context:
        table.update(context)
    if table:
        properties.headers = table
    return properties


def _repeated(name: str) -> Refusal:
    """Which of them counts would be a guess, and another's guess may be another."""
    return bad(f"there is more than one header {name}")


def refuse_properties(headers: Mapping[str, str]) -> None:
    """For forms whose messages bring their own. Raise Refusal (400)."""
    for name in headers:
        key = name.lower()
        if key.startswith(PREFIX) and key[len(PREFIX) :] not in OURS:
            raise bad(f"{name} says nothing here: the properties of this form are in the body")


def _set(properties: Properties, name: str, key: str, value: str) -> None:
    reader = READERS.get(key)
    if reader is None:
        if key in OURS:
            return
        known = ", ".join(f"X-Leveret-{one.title()}" for one in READERS)
        raise bad(
            f"there is no property {name}; there are {known}, X-Leveret-Header-NAME and X-Leveret-Headers"
        )
    attribute, read = reader
    setattr(properties, attribute, read(name, _unquoted(name, value)))


def _unquoted(name: str, value: str) -> str:
    if "%" not in value:
        return value
    try:
        return unquote(value, errors="strict")
    except UnicodeDecodeError:
        raise bad(f"{name} is not UTF-8, percent-encoded") from None


def _typed(value: str) -> dict[str, Any]:
    try:
        table = json.loads(value, parse_constant=_no_constant)
    except (ValueError, RecursionError):
        table = None
    if not isinstance(table, dict):
        raise bad("X-Leveret-Headers must be a JSON object")
    return table


def _no_constant(text: str) -> Any:
    raise ValueError(text)


# -- of JSON


def check_properties(given: Any, where: str = "properties") -> Properties:
    """From the member of a JSON message, with AMQP's names. Raise Refusal (400)."""
    if not isinstance(given, dict):
        raise bad(f"{where} must be an object")
    if unknown := given.keys() - KNOWN:
        raise bad(f"there is no property {where}.{min(unknown)}")
    for name in STRINGS:
        value = given.get(name)
        if value is not None and not isinstance(value, str):
            raise bad(f"{where}.{name} must be a string")
    for name, minimum, maximum in (
        ("priority", 0, 255),
        ("timestamp", 0, MAX_TIMESTAMP),
        ("delivery_mode", 1, 2),
    ):
        value = given.get(name)
        if value is not None and not (type(value) is int and minimum <= value <= maximum):
            raise bad(f"{where}.{name} must be an integer from {minimum} to {maximum}")
    table = given.get("headers")
    if table is not None and not isinstance(table, dict):
        raise bad(f"{where}.headers must be an object")
    properties = Properties(**given)
    if properties.delivery_mode is None:
        properties.delivery_mode = 2
    return properties


# -- of answers


def content_headers(properties: Properties) -> dict[str, str]:
    """Content-Type and Content-Encoding, if headers can hold them; and what keeps browsers from running it."""
    found = dict(SANDBOX)
    content_type = properties.content_type or ""
    is_type = content_type.isascii() and content_type.isprintable() and "/" in content_type
    found["Content-Type"] = content_type if is_type else "application/octet-stream"
    encoding = properties.content_encoding or ""
    if TOKEN.fullmatch(encoding):
        found["Content-Encoding"] = encoding
    return found


def message_headers(envelope: Envelope) -> dict[str, str]:
    """A message's headers in an answer: properties, header table, CloudEvents attributes, trace context."""
    properties = envelope.properties
    found = content_headers(properties)
    found["X-Leveret-Exchange"] = _quoted(envelope.exchange)
    found["X-Leveret-Routing-Key"] = _quoted(envelope.routing_key)
    for key, (attribute, _) in READERS.items():
        value = getattr(properties, attribute)
        if value is not None:
            found[f"X-Leveret-{key.title()}"] = _quoted(str(value))
    table = properties.headers or {}
    if table:
        typed = encode(table).decode()
        if len(typed) <= MAX_TYPED_CHARS and typed.isprintable():
            found["X-Leveret-Headers"] = typed
    for key, value in table.items():
        name = key.removeprefix("cloudEvents:").removeprefix("cloudEvents_")
        if name != key:
            text = _canonical(value)
            if text and name.isascii() and name.isalnum() and name != "datacontenttype":
                found[f"ce-{name}"] = _quoted(text)
        elif key in CONTEXT and isinstance(value, str) and VISIBLE.fullmatch(value):
            found[key] = value
    return found


def _canonical(value: Any) -> str:
    """An attribute's string (CloudEvents 3.1: the type system); empty for what is none."""
    if isinstance(value, str):
        return value
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, Timestamp):
        return (
            datetime.fromtimestamp(value, UTC).isoformat().replace("+00:00", "Z") if value < MAX_TIME else ""
        )
    return str(int(value)) if isinstance(value, int) else ""


def _quoted(text: str) -> str:
    """As CloudEvents has it (HTTP binding 3.1.3.2): all but U+0021 to U+007E, and `"` and `%`, as %XX of UTF-8."""
    return quote(text, safe=SAFE, errors="replace")

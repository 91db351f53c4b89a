"""Header mapping, sans-IO: STOMP headers to AMQP's properties and back; queue arguments from headers.

The table is docs/stomp.md's. What the broker itself says in a MESSAGE wins over a header of the same name.
"""

from __future__ import annotations

import decimal
import json
import re
from collections.abc import Mapping
from operator import attrgetter
from typing import Any

from leveret.adapters.stomp.destinations import reply_address
from leveret.adapters.stomp.faults import StompFault
from leveret.core.fields import Decimal
from leveret.core.properties import Properties
from leveret.core.queue.arguments import ARGUMENTS

__all__ = [
    "boolean",
    "integer",
    "message_headers",
    "properties_of",
    "queue_arguments",
    "require_boolean",
]

TEXTS = {  # header -> property
    "content-type": "content_type",
    "content-encoding": "content_encoding",
    "correlation-id": "correlation_id",
    "reply-to": "reply_to",
    "expiration": "expiration",
    "amqp-message-id": "message_id",
    "type": "type",
    "user-id": "user_id",
    "app-id": "app_id",
    "cluster-id": "cluster_id",
}
_texts_of = attrgetter(*TEXTS.values())
NUMBERS = (("priority", 255), ("timestamp", (1 << 63) - 1))
# Not user headers of a message: properties, and what is said to the broker about this one frame.
NOT_FOR_USERS = frozenset(
    (*TEXTS, "destination", "persistent", "priority", "timestamp", "content-length", "receipt", "transaction")
)
# Of a MESSAGE these are the broker's words; a sender's header of that name would be taken for one.
RESERVED = frozenset(("subscription", "destination", "message-id", "redelivered", "ack", "content-length"))

_integer = re.compile(r"[+-]?[0-9]{1,19}").fullmatch
ARGUMENT_KINDS = {row.argument_name: row.kind for row in ARGUMENTS if row.argument is not None} | {
    "x-queue-type": "text"
}
BOOLEANS = {"true": True, "True": True, "false": False, "False": False}  # as Python clients write them, too


def boolean(headers: Mapping[str, str], name: str) -> bool | None:
    """None: it is not there, or is something else, which RabbitMQ ignores."""
    return BOOLEANS.get(headers.get(name, "").strip(" "))


def require_boolean(headers: Mapping[str, str], name: str) -> bool:
    value = boolean(headers, name)
    if value is None:
        raise _invalid(name, headers[name], "true or false")
    return value


def integer(headers: Mapping[str, str], name: str) -> int | None:
    """None: it is not there. Raise StompFault for what is no number."""
    text = headers.get(name)
    if text is None:
        return None
    if not _integer(text.strip(" ")):
        raise _invalid(name, text, "a number")
    return int(text)


def _invalid(name: str, value: str, wanted: str) -> StompFault:
    return StompFault("Invalid header", f"'{name}' must be {wanted}, not '{value[:100]}'\n")


def properties_of(headers: Mapping[str, str], reply_to: str | None) -> Properties:
    """A SEND's headers as properties. reply_to: instead of the header's, if that named a temporary queue.

    Raise StompFault for numbers that are none or do not fit.
    """
    properties = Properties()
    user: dict[str, str] = {}
    for name, value in headers.items():
        attribute = TEXTS.get(name)
        if attribute is not None:
            setattr(properties, attribute, value)
        elif name not in NOT_FOR_USERS:
            user[name] = value
    if user:
        properties.headers = user
    if reply_to is not None:
        properties.reply_to = reply_to
    if "persistent" in headers and boolean(headers, "persistent"):
        properties.delivery_mode = 2
    for name, maximum in NUMBERS:
        if name in headers:
            number = integer(headers, name)
            if number is None or not 0 <= number <= maximum:
                raise _invalid(name, headers[name], f"a number from 0 to {maximum}")
            setattr(properties, name, number)
    return properties


def queue_arguments(headers: Mapping[str, str]) -> dict[str, Any]:
    """Arguments of the queue that a SUBSCRIBE or SEND declares. Raise StompFault for values of the wrong kind."""
    arguments: dict[str, Any] = {}
    for name in headers:
        kind = ARGUMENT_KINDS.get(name)
        if kind == "integer":
            arguments[name] = integer(headers, name)
        elif kind == "text":
            arguments[name] = headers[name].strip(" ")
        elif kind == "boolean":
            arguments[name] = require_boolean(headers, name)
    return arguments


def message_headers(properties: Properties) -> list[tuple[str, str]]:
    """A MESSAGE's headers from its properties: user headers first, as RabbitMQ has them, then the properties."""
    found: list[tuple[str, str]] = []
    user = properties.headers
    if user:
        found = [
            (name, text)
            for name, value in user.items()
            if name not in RESERVED and (text := _text(value)) is not None
        ]
    for name, value in zip(TEXTS, _texts_of(properties), strict=True):
        if value is not None:
            found.append((name, reply_address(value) if name == "reply-to" else value))
    if properties.delivery_mode == 2:
        found.append(("persistent", "true"))
    if properties.priority is not None:
        found.append(("priority", str(properties.priority)))
    if properties.timestamp is not None:
        found.append(("timestamp", str(properties.timestamp)))
    return found


def _text(value: Any) -> str | None:
    """A field value as text; None for what has none (a void)."""
    if isinstance(value, str):
        return value
    if value is None:
        return None
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, (bytes, bytearray)):
        return bytes(value).decode("utf-8", "surrogateescape")
    if isinstance(value, (dict, list, tuple)):
        return json.dumps(_plain(value), separators=(",", ":"), ensure_ascii=False)
    return _number(value) if isinstance(value, Decimal) else str(value)


def _number(value: Decimal) -> str:
    return f"{decimal.Decimal(value.value).scaleb(-value.scale):f}"


def _plain(value: Any) -> Any:
    """As JSON can say it."""
    if isinstance(value, Mapping):
        return {name: _plain(item) for name, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(item) for item in value]
    if isinstance(value, (bytes, bytearray)):
        return bytes(value).decode("utf-8", "replace")
    if isinstance(value, Decimal):
        return _number(value)
    return value if value is None or isinstance(value, (bool, int, float, str)) else str(value)

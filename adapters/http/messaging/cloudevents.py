"""CloudEvents 1.0 over HTTP: binary, structured and batched mode, as messages with cloudEvents:NAME headers (AMQP binding)."""

from __future__ import annotations

import base64
import binascii
import json
import re
from collections.abc import Mapping
from datetime import datetime
from typing import Any
from urllib.parse import unquote_to_bytes

from leveret.adapters.http.errors import Refusal
from leveret.adapters.http.messaging.message_json import json_of, utf8_of
from leveret.adapters.http.messaging.properties import bad
from leveret.core.properties import Properties

__all__ = ["PREFIX", "binary_attributes", "is_batch", "is_structured", "read_batch", "read_event"]

PREFIX = "cloudEvents:"
STRUCTURED, BATCH = "application/cloudevents", "application/cloudevents-batch"
REQUIRED = ("id", "source", "specversion", "type")
NAME = re.compile(r"[a-z0-9]{1,64}")
FORBIDDEN = re.compile("[\\x00-\\x1f\\x7f-\\x9f\\ud800-\\udfff\\ufdd0-\\ufdef\\ufffe\\uffff]")
"""In strings of attributes (CloudEvents 3.1)."""
TIME = re.compile(r"(\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d)(\.\d+)?(Z|[+-]\d\d:\d\d)", re.IGNORECASE)
JSON_TYPE = re.compile(r"[^;]*/(json|[^;]*\+json)\s*(;.*)?", re.IGNORECASE)


def is_batch(content_type: str) -> bool:
    return content_type.lower().startswith(BATCH)


def is_structured(content_type: str) -> bool:
    """Ask `is_batch` first: the prefix of the one is that of the other (HTTP binding 3)."""
    return content_type.lower().startswith(STRUCTURED)


# -- binary mode: attributes are headers


def binary_attributes(headers: Mapping[str, str]) -> dict[str, str] | None:
    """The ce- headers of a request; None if it is no event. Raise Refusal (400) for one that is malformed."""
    attributes: dict[str, str] = {}
    for name, value in headers.items():
        key = name.lower()
        if key.startswith("ce-"):
            if key[3:] in attributes:
                raise bad(f"there is more than one header {name}")
            attributes[key[3:]] = _decoded(name, value)
    if not attributes:
        return None
    if "datacontenttype" in attributes:
        raise bad("ce-datacontenttype is none: it is Content-Type (CloudEvents HTTP binding 3.1.1)")
    _check(attributes, "ce-")
    return {PREFIX + name: value for name, value in attributes.items()}


def _decoded(name: str, value: str) -> str:
    """HTTP binding 3.1.3.2: unquote, decode one round of percent-encoding, refuse what is no UTF-8."""
    if len(value) >= 2 and value[0] == value[-1] == '"':
        value = re.sub(r"\\(.)", r"\1", value[1:-1])
    try:
        return unquote_to_bytes(value.encode("utf-8", "surrogateescape")).decode()
    except UnicodeDecodeError:
        raise bad(f"{name} is not UTF-8") from None


# -- structured and batched mode: attributes are members


def read_event(body: bytes, content_type: str) -> tuple[Properties, bytes]:
    """Raise Refusal (400, 415)."""
    _check_format(content_type)
    return _event(_json(body), "the event")


def read_batch(body: bytes, content_type: str) -> list[tuple[Properties, bytes]]:
    """Raise Refusal (400, 415)."""
    _check_format(content_type)
    events = _json(body)
    if not isinstance(events, list):
        raise bad("a batch of CloudEvents must be a JSON array")
    return [_event(event, f"event {index}") for index, event in enumerate(events)]


def _check_format(content_type: str) -> None:
    media_type = content_type.partition(";")[0].strip().lower()
    if not media_type.endswith("+json"):
        raise Refusal(
            415, "unsupported_media_type", f"CloudEvents are understood as JSON, not as {media_type}"
        )


def _json(body: bytes) -> Any:
    try:
        return json.loads(body)
    except (ValueError, RecursionError):
        raise bad("the body is not valid JSON") from None


def _event(event: Any, where: str) -> tuple[Properties, bytes]:
    if not isinstance(event, dict):
        raise bad(f"{where} must be a JSON object")
    attributes: dict[str, Any] = {}
    for name, value in event.items():
        if name in ("data", "data_base64") or value is None:
            continue
        if type(value) not in (str, bool, int) or (type(value) is int and not -(1 << 31) <= value < 1 << 31):
            raise bad(f"{where}: attribute {name} must be a string, a boolean or an integer of 32 bits")
        attributes[name] = value
    content_type = attributes.pop("datacontenttype", None)
    if content_type is not None and (not isinstance(content_type, str) or FORBIDDEN.search(content_type)):
        raise bad(f"{where}: datacontenttype must be a string without control characters")
    _check(attributes, f"{where}: ")
    body, content_type = _data(event, content_type, where)
    table = {PREFIX + name: value for name, value in attributes.items()}
    return Properties(content_type=content_type, delivery_mode=2, headers=table), body


def _data(event: dict[str, Any], content_type: str | None, where: str) -> tuple[bytes, str | None]:
    """The body, and what it is (JSON format 3.1)."""
    if "data_base64" in event:
        if "data" in event:
            raise bad(f"{where} has data and data_base64")
        try:
            return base64.b64decode(event["data_base64"], validate=True), content_type
        except (binascii.Error, ValueError, TypeError):
            raise bad(f"{where}: data_base64 is not base64") from None
    if "data" not in event:
        return b"", content_type
    data = event["data"]
    if isinstance(data, str) and content_type is not None and not JSON_TYPE.fullmatch(content_type):
        return utf8_of(data, f"{where}: data"), content_type
    return json_of(data, f"{where}: data"), content_type or "application/json"


def _check(attributes: Mapping[str, Any], where: str) -> None:
    for name in REQUIRED:
        if not isinstance(attributes.get(name), str) or not attributes[name]:
            raise bad(f"{where}{name} is missing or empty")
    if attributes["specversion"] != "1.0":
        raise bad(f"{where}specversion is not 1.0, the only one that is understood")
    for name, value in attributes.items():
        if not NAME.fullmatch(name):
            raise bad(f"{where}{name} is no name of an attribute: lower-case letters and digits")
        if value == "":
            raise bad(f"{where}{name} is empty")
        if isinstance(value, str) and FORBIDDEN.search(value):
            raise bad(f"{where}{name} has control characters")
    time = attributes.get("time")
    if time is not None and not _is_time(time):
        raise bad(f"{where}time is no time of RFC 3339")


def _is_time(value: Any) -> bool:
    match = TIME.fullmatch(value) if isinstance(value, str) else None
    if match is None:
        return False
    try:
        datetime.fromisoformat(match[1])
    except ValueError:
        return match[1].endswith(":60")  # a leap second
    return True

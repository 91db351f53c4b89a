"""Messages as JSON, in and out: RabbitMQ's words (properties, payload, payload_encoding), and lists of them."""

from __future__ import annotations

import base64
import binascii
import json
from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, Any

from leveret.adapters.http.errors import Refusal
from leveret.adapters.http.messaging.properties import bad, check_properties
from leveret.core.properties import Properties

if TYPE_CHECKING:
    from leveret.core.message import Envelope, Message
__all__ = ["MAX_BATCH", "Draft", "as_json", "json_of", "read_list", "read_one", "utf8_of"]

MAX_BATCH = 1000
"""Messages in one request: all of them are checked, then taken, without a break for anybody else."""
MEMBERS = frozenset({"routing_key", "properties", "payload", "payload_encoding"})
NAMES = tuple(field.name for field in fields(Properties) if field.name != "headers")


@dataclass(slots=True)
class Draft:
    """A message that somebody wants to publish. routing_key None: that of the request."""

    properties: Properties
    body: bytes
    routing_key: str | None = None


def read_one(body: bytes) -> Draft:
    """Raise Refusal (400)."""
    return _draft(_json(body, "the body"), "the message")


def read_list(body: bytes, media_type: str) -> list[Draft]:
    """A JSON array (or {"messages": [...]}), or one object a line. Raise Refusal (400, 413, 415)."""
    found: Any
    if media_type in ("application/x-ndjson", "application/ndjson", "application/jsonl"):
        lines = [line for line in body.split(b"\n") if line.strip()]
        _check_count(len(lines))
        found = [_json(line, f"line {number}") for number, line in enumerate(lines, 1)]
    elif media_type == "application/json":
        value = _json(body, "the body")
        found = value.get("messages") if isinstance(value, dict) else value
        if not isinstance(found, list):
            raise bad('a batch must be a JSON array, or {"messages": [...]}')
        _check_count(len(found))
    else:
        raise Refusal(
            415,
            "unsupported_media_type",
            "a batch is application/json, application/x-ndjson or application/cloudevents-batch+json",
        )
    return [_draft(one, f"message {index}") for index, one in enumerate(found)]


def _check_count(count: int) -> None:
    if not count:
        raise bad("the batch is empty")
    if count > MAX_BATCH:
        raise Refusal(413, "payload_too_large", f"a batch has at most {MAX_BATCH} messages, this one {count}")


def _json(body: bytes, where: str) -> Any:
    try:
        return json.loads(body, parse_constant=_no_constant)
    except (ValueError, RecursionError):
        raise bad(f"{where} is not valid JSON") from None


def _no_constant(text: str) -> Any:
    raise ValueError(text)


def json_of(value: Any, where: str) -> bytes:
    """Raise Refusal (400) for numbers that are not finite, and for strings that are no Unicode."""
    try:
        text = json.dumps(value, separators=(",", ":"), ensure_ascii=False, allow_nan=False)
    except ValueError:
        raise bad(f"{where}: a number is not finite") from None
    return utf8_of(text, where)


def utf8_of(text: str, where: str) -> bytes:
    """Raise Refusal (400): JSON can say surrogates that belong to no character."""
    try:
        return text.encode()
    except UnicodeEncodeError:
        raise bad(f"{where} is no Unicode text") from None


def _draft(given: Any, where: str) -> Draft:
    if not isinstance(given, dict):
        raise bad(f"{where} must be a JSON object")
    if unknown := given.keys() - MEMBERS:
        raise bad(f"{where}: there is no member {min(unknown)}; there are {', '.join(sorted(MEMBERS))}")
    if "payload" not in given:
        raise bad(f"{where}: payload is missing")
    key = given.get("routing_key")
    if key is not None and not isinstance(key, str):
        raise bad(f"{where}: routing_key must be a string")
    properties = check_properties(given.get("properties", {}), f"{where}: properties")
    payload = given["payload"]
    encoding = given.get("payload_encoding", "string" if isinstance(payload, str) else "json")
    if encoding == "json":
        body = json_of(payload, f"{where}: payload")
        properties.content_type = properties.content_type or "application/json"
    elif not isinstance(payload, str):
        raise bad(f"{where}: payload must be a string")
    elif encoding == "string":
        body = utf8_of(payload, f"{where}: payload")
    elif encoding == "base64":
        try:
            body = base64.b64decode(payload, validate=True)
        except (binascii.Error, ValueError):
            raise bad(f"{where}: payload is not base64") from None
    else:
        raise bad(f"{where}: payload_encoding must be string, base64 or json")
    return Draft(properties, body, key)


def _properties(envelope: Envelope) -> dict[str, Any]:
    properties = envelope.properties
    found = {name: value for name in NAMES if (value := getattr(properties, name)) is not None}
    if properties.headers:
        found["headers"] = properties.headers
    return found


def as_json(message: Message) -> dict[str, Any]:
    """As `_draft` takes it, and where it was and how often it was out."""
    envelope, body = message.envelope, message.body
    try:
        payload, encoding = body.decode(), "string"
    except UnicodeDecodeError:
        payload, encoding = base64.b64encode(body).decode(), "base64"
    return {
        "exchange": envelope.exchange,
        "routing_key": envelope.routing_key,
        "redelivered": message.is_redelivered,
        "delivery_count": message.delivery_count,
        "properties": _properties(envelope),
        "payload": payload,
        "payload_encoding": encoding,
    }

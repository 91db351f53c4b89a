"""Renders a message as a request: the exact bytes of the body, and the headers, in the format of the subscription."""

from __future__ import annotations

import base64
import json
import math
from collections.abc import Mapping
from dataclasses import fields
from datetime import UTC, datetime
from decimal import Decimal
from typing import TYPE_CHECKING, Any

from leveret import __version__
from leveret.core.properties import Properties
from leveret.plugins.webhooks.outgoing.subscription import TOKEN, TemplateRefused
from leveret.plugins.webhooks.standard_webhooks import signatures

if TYPE_CHECKING:
    from leveret.core.message import Envelope
    from leveret.plugins.webhooks.outgoing.subscription import Subscription
__all__ = ["Headers", "Rendering", "percent_encoded", "render", "signed"]

Headers = list[tuple[str, str]]

USER_AGENT = f"Leveret/{__version__}"
PREFIX = "X-Leveret-"
MAX_VALUE_CHARS = 4096  # of a message's header; longer ones are left out
MAX_FORWARDED = 64
MAX_FORWARDED_CHARS = 16384
MAX_PARSED = 1 << 20  # longer JSON is sent as data_base64: parsing it would block the broker
PROPERTIES = ("correlation_id", "reply_to", "type", "app_id", "message_id", "priority", "timestamp")
CE_ATTRIBUTES = ("id", "source", "type", "time", "subject", "dataschema", "datacontenttype")
CE_PREFIXES = ("cloudEvents:", "cloudEvents_")
MISSING: Any = object()


class Rendering:
    """The parts of a request that are the same in all attempts."""

    __slots__ = ("body", "headers")

    def __init__(self, headers: Headers, body: bytes) -> None:
        self.headers = headers
        self.body = body


def percent_encoded(value: str) -> str:
    """For header values (CloudEvents HTTP binding 3.1.3.2): all but U+0021 to U+007E, and `"` and `%`, as %XX of UTF-8."""
    if value.isascii() and value.isprintable() and not any(char in ' "%' for char in value):
        return value
    return "".join(
        [
            chr(byte) if 0x21 <= byte <= 0x7E and byte not in b'"%' else f"%{byte:02X}"
            for byte in value.encode("utf-8", "replace")
        ]
    )


def render(subscription: Subscription, envelope: Envelope, body: bytes, webhook_id: str) -> Rendering:
    """Render a message. Raise TemplateRefused if the template fails."""
    properties = envelope.properties
    headers: Headers = [("User-Agent", USER_AGENT)]
    form = subscription.format
    if form == "raw":
        content_type, content = properties.content_type or "application/octet-stream", body
    elif form == "json":
        content_type, content = "application/json", _dump(_json_envelope(envelope, body, webhook_id))
    elif form == "template":
        assert subscription.template is not None
        content_type = "application/json"
        if len(body) > subscription.template.max_input:
            raise TemplateRefused(f"the message is longer than {subscription.template.max_input} bytes")
        content = subscription.template.render(_template_values(subscription, envelope, body, webhook_id))
    else:
        attributes = cloud_event(subscription, envelope, webhook_id)
        if form == "cloudevents-binary":
            content_type, content = attributes.pop("datacontenttype", "application/octet-stream"), body
            headers += [(f"ce-{name}", percent_encoded(value)) for name, value in attributes.items()]
        else:
            content_type = "application/cloudevents+json; charset=UTF-8"
            content = _dump(attributes | _data(attributes.get("datacontenttype", ""), body))
    headers.append(("Content-Type", subscription.content_type or _visible(content_type)))
    if form == "raw" and properties.content_encoding:
        headers.append(("Content-Encoding", _visible(properties.content_encoding)))
    headers += [
        (f"{PREFIX}Subscription", subscription.name),
        (f"{PREFIX}Exchange", percent_encoded(envelope.exchange)),
        (f"{PREFIX}Routing-Key", percent_encoded(envelope.routing_key)),
    ]
    if subscription.forward_headers:
        headers += _forwarded(properties)
    headers += subscription.headers
    if subscription.origin:
        headers.append(("WebHook-Request-Origin", subscription.origin))
    headers.append(("webhook-id", webhook_id))
    return Rendering(headers, content)


def signed(
    subscription: Subscription, rendering: Rendering, webhook_id: str, attempt: int, now: float
) -> Headers:
    """All headers of one attempt. now: seconds since the epoch."""
    headers = [
        *rendering.headers,
        ("webhook-timestamp", str(int(now))),
        (f"{PREFIX}Attempt", str(attempt)),
    ]
    signature = signatures(subscription.secrets, webhook_id, now, rendering.body)
    if signature:
        headers.append(("webhook-signature", signature))
    return headers


def _forwarded(properties: Properties) -> Headers:
    """Properties as X-Leveret-NAME and headers as X-Leveret-Header-NAME; tables, lists and names that HTTP does not allow are left out."""
    found: Headers = []
    for name in PROPERTIES:
        value = getattr(properties, name)
        if value is not None:
            title = "-".join([part.capitalize() for part in name.split("_")])
            found.append((PREFIX + title, percent_encoded(str(value))))
    left = MAX_FORWARDED_CHARS
    for key, value in (properties.headers or {}).items():
        if not TOKEN.fullmatch(key) or key in ("CC", "BCC"):
            continue
        text = _scalar(value)
        if text is None or len(text) > MAX_VALUE_CHARS:
            continue
        text = percent_encoded(text)
        left -= len(key) + len(text)
        if left < 0 or len(found) >= MAX_FORWARDED:
            break
        found.append((f"{PREFIX}Header-{key}", text))
    return found


def _scalar(value: Any) -> str | None:
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, bytes):
        return value.decode("utf-8", "replace")
    if isinstance(value, (str, int, float, Decimal)):
        return str(value)
    if isinstance(value, datetime):
        return value.isoformat()
    return None


def _visible(value: str) -> str:
    """A content type for a header, where it is not percent-encoded; an invalid one is replaced by application/octet-stream."""
    return (
        value
        if value.isascii() and value.isprintable() and value.strip() == value
        else "application/octet-stream"
    )


# -- bodies


def _dump(value: Any) -> bytes:
    return _encoded(value).encode()


def _plain(value: Any) -> Any:
    """A JSON value for types of field tables that JSON lacks."""
    if isinstance(value, (bytes, bytearray)):
        return bytes(value).decode("utf-8", "backslashreplace")
    if isinstance(value, datetime):
        return int(value.timestamp())
    if isinstance(value, Decimal):
        return float(value)  # without loss, because its mantissa has 32 bits
    return dict(value) if isinstance(value, Mapping) else str(value)


def _simple(value: Any) -> Any:
    """A field table without infinities and NaN, which JSON lacks."""
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, Mapping):
        return {str(key): _simple(one) for key, one in value.items()}
    return [_simple(one) for one in value] if isinstance(value, list) else value


_encoded = json.JSONEncoder(separators=(",", ":"), default=_plain, allow_nan=False).encode


def _is_json(content_type: str | None) -> bool:
    kind = (content_type or "").partition(";")[0].strip().lower()
    return kind == "application/json" or kind.endswith("+json")


def _data(content_type: str, body: bytes, suffix: str = "data") -> dict[str, Any]:
    """data: JSON as it is, text as a string; data_base64: everything else (CloudEvents JSON format 3.1)."""
    if _is_json(content_type):
        value = _json_of(body) if len(body) <= MAX_PARSED else MISSING
        if value is not MISSING:
            return {suffix: value}
    elif content_type.startswith("text/") or not content_type:
        try:
            return {suffix: body.decode()}
        except UnicodeDecodeError:
            pass
    return {f"{suffix}_base64": base64.b64encode(body).decode()}


def _time(properties: Properties) -> str | None:
    """The timestamp property in RFC 3339; None if it is missing or out of range."""
    if properties.timestamp is None:
        return None
    try:
        return datetime.fromtimestamp(properties.timestamp, UTC).isoformat().replace("+00:00", "Z")
    except (ValueError, OverflowError, OSError):
        return None


def _json_envelope(envelope: Envelope, body: bytes, webhook_id: str) -> dict[str, Any]:
    """The JSON of Standard Webhooks (type, timestamp, data), with the exchange, the routing key and the headers of the message."""
    properties = envelope.properties
    return {
        "type": properties.type or envelope.routing_key,
        "timestamp": _time(properties),
        "id": webhook_id,
        "exchange": envelope.exchange,
        "routing_key": envelope.routing_key,
        "headers": _simple(properties.headers or {}),
        **_data(properties.content_type or "", body),
    }


def _template_values(
    subscription: Subscription, envelope: Envelope, body: bytes, webhook_id: str
) -> dict[str, Any]:
    properties = envelope.properties
    parsed = _json_of(body)
    known = {one.name: getattr(properties, one.name) for one in fields(Properties) if one.name != "headers"}
    return {
        "id": webhook_id,
        "subscription": subscription.name,
        "exchange": envelope.exchange,
        "routing_key": envelope.routing_key,
        "properties": {name: value for name, value in known.items() if value is not None},
        "headers": json.loads(_dump(_simple(properties.headers or {}))),
        "body": body.decode("utf-8", "replace"),
        "body_base64": base64.b64encode(body).decode(),
        "json": None if parsed is MISSING else parsed,
    }


def _json_of(body: bytes) -> Any:
    """The parsed body; MISSING for invalid JSON, and for values that other parsers refuse (NaN, infinite numbers)."""
    try:
        return json.loads(body, parse_constant=_no_number, parse_float=_finite)
    except (ValueError, RecursionError):
        return MISSING


def _no_number(text: str) -> Any:
    raise ValueError(f"{text} is not JSON")


def _finite(text: str) -> float:
    value = float(text)
    if not math.isfinite(value):
        raise ValueError("a number that is too large")
    return value


def cloud_event(subscription: Subscription, envelope: Envelope, webhook_id: str) -> dict[str, str]:
    """The attributes of the event (CloudEvents 1.0): those in the message's headers (cloudEvents:NAME), others from its properties."""
    properties = envelope.properties
    attributes = {
        "specversion": "1.0",
        "id": webhook_id,
        "source": subscription.source or f"/{envelope.exchange or 'amq.default'}",
        "type": properties.type or envelope.routing_key or "message",
    }
    if properties.content_type:
        attributes["datacontenttype"] = properties.content_type
    time = _time(properties)
    if time is not None:
        attributes["time"] = time
    for key, value in (properties.headers or {}).items():
        prefix = next((one for one in CE_PREFIXES if key.startswith(one)), None)
        text = _scalar(value)
        if prefix is None or text is None:
            continue
        name = key.removeprefix(prefix)
        if name == "datacontenttype" or not (name.isascii() and name.isalnum() and name.islower()):
            continue
        if name == "specversion" and text != "1.0":
            continue
        attributes[name] = text
    return attributes

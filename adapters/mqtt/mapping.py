"""Version 5 properties and the core's fourteen, both ways (RabbitMQ's mapping, mc_mqtt.erl, and where that loses, ours).

Headers that carry what AMQP has no words for:

    x-mqtt-publish-qos      2; QoS 1 is delivery mode 2
    x-mqtt-retain           true: it was published with the retain flag
    x-mqtt-payload-format   1: the payload is UTF-8
    x-mqtt-user-properties  all names and values in turn, if they could not come back from the headers as they were
    x-reply-to-topic        the response topic as a routing key
    x-correlation-id        correlation data that is no text of at most 255 bytes

A response topic is also a `reply_to` that AMQP services answer to as usual, over the default exchange; and a `reply_to`
of an AMQP client is a response topic that MQTT clients answer to as usual (core/reply_to.py).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from leveret.adapters.mqtt import spec
from leveret.core.fields import ByteArray
from leveret.core.properties import Properties
from leveret.core.reply_to import TOPIC_REPLY

if TYPE_CHECKING:
    from leveret.adapters.mqtt.topics import KeyMap

__all__ = ["REPLY_TOPIC", "PublishFacts", "from_core", "to_core"]

REPLY_TOPIC = "$reply-to/"  # and the name of a queue: what an MQTT client answers an AMQP request on
QOS, RETAIN, FORMAT = "x-mqtt-publish-qos", "x-mqtt-retain", "x-mqtt-payload-format"
PAIRS, REPLY, CORRELATION = "x-mqtt-user-properties", "x-reply-to-topic", "x-correlation-id"
SHORT = 255  # bytes of AMQP's short strings, and of header names
NO_HEADERS = frozenset({"CC", "BCC"})  # they mean something to routing


@dataclass(frozen=True, slots=True)
class PublishFacts:
    """What MQTT sees of a message that came from elsewhere, or from the disk. properties: None if there are none."""

    qos: int
    retain: bool
    properties: spec.Properties | None


def to_core(properties: spec.Properties | None, *, qos: int, retain: bool, keymap: KeyMap) -> Properties:
    """Of a PUBLISH, or a will."""
    headers: dict[str, Any] = {}
    core = Properties(delivery_mode=2 if qos else 1)
    if qos == 2:
        headers[QOS] = 2
    if retain:
        headers[RETAIN] = True
    if properties is not None:
        if properties.payload_format:
            headers[FORMAT] = 1
        if properties.message_expiry_s is not None:
            core.expiration = str(properties.message_expiry_s * 1000)
        if properties.content_type is not None and len(properties.content_type.encode()) <= SHORT:
            core.content_type = properties.content_type
        if properties.correlation_data is not None:
            _correlate(core, headers, properties.correlation_data)
        if properties.response_topic:
            key = keymap.routing_key(properties.response_topic)
            headers[REPLY] = key
            if len((TOPIC_REPLY + key).encode()) <= SHORT:
                core.reply_to = TOPIC_REPLY + key
            if properties.response_topic.startswith(REPLY_TOPIC):
                core.reply_to = properties.response_topic[len(REPLY_TOPIC) :]
                del headers[REPLY]
        if properties.user_properties:
            _user_headers(headers, properties.user_properties)
    core.headers = headers or None
    return core


def _correlate(core: Properties, headers: dict[str, Any], data: bytes) -> None:
    try:
        text = data.decode()
    except UnicodeDecodeError:
        text = None
    if text is not None and len(data) <= SHORT:
        core.correlation_id = text
    else:
        headers[CORRELATION] = ByteArray(data)


def _user_headers(headers: dict[str, Any], pairs: tuple[tuple[str, str], ...]) -> None:
    names = [name for name, _ in pairs]
    for name, text in pairs:
        if _is_header(name) and name not in headers:
            headers[name] = text
    if len(set(names)) < len(names) or not all(map(_is_header, names)):
        headers[PAIRS] = [piece for pair in pairs for piece in pair]


def _is_header(name: str) -> bool:
    """A user property by this name comes back from a header."""
    return not name.startswith("x-") and name not in NO_HEADERS and 0 < len(name.encode()) <= SHORT


def from_core(properties: Properties, keymap: KeyMap) -> PublishFacts:
    """Strings among the headers become user properties, but for those that begin with x-."""
    headers = properties.headers or {}
    qos = 1 if properties.delivery_mode == 2 else 0
    if qos and headers.get(QOS) == 2:
        qos = 2
    found = spec.Properties(
        payload_format=1 if headers.get(FORMAT) == 1 else None,
        content_type=_text(properties.content_type),
        response_topic=_response_topic(properties, headers, keymap),
        correlation_data=_correlation_data(properties, headers),
        user_properties=_user_properties(headers),
    )
    is_empty = found == spec.Properties()
    return PublishFacts(qos, headers.get(RETAIN) is True, None if is_empty else found)


def _text(value: Any) -> str | None:
    """As an MQTT string, or None if it cannot be one."""
    if isinstance(value, bytes):
        value = value.decode("utf-8", "surrogateescape")
    if not isinstance(value, str) or "\0" in value:
        return None
    try:
        return value if len(value.encode()) <= 65535 else None
    except UnicodeEncodeError:
        return None


def _correlation_data(properties: Properties, headers: dict[str, Any]) -> bytes | None:
    value = headers.get(CORRELATION, properties.correlation_id)
    if isinstance(value, str):
        value = value.encode("utf-8", "surrogateescape")
    return bytes(value) if isinstance(value, bytes) and len(value) <= 65535 else None


def _response_topic(properties: Properties, headers: dict[str, Any], keymap: KeyMap) -> str | None:
    key = _text(headers.get(REPLY))
    if key is not None:
        return keymap.topic(key)
    reply_to = _text(properties.reply_to)
    if not reply_to:
        return None
    if reply_to.startswith(TOPIC_REPLY):
        return keymap.topic(reply_to[len(TOPIC_REPLY) :])
    return None if "+" in reply_to or "#" in reply_to else REPLY_TOPIC + reply_to


def _user_properties(headers: dict[str, Any]) -> tuple[tuple[str, str], ...]:
    pieces = headers.get(PAIRS)
    if isinstance(pieces, list) and len(pieces) % 2 == 0:
        texts = [_text(piece) for piece in pieces]
        if None not in texts:
            return tuple(zip(texts[::2], texts[1::2], strict=True))  # type: ignore[arg-type]  # no None in it
    pairs: list[tuple[str, str]] = []
    for name, value in headers.items():
        key, text = _text(name), _text(value)
        if key is not None and text is not None and not key.startswith("x-") and key not in NO_HEADERS:
            pairs.append((key, text))
    return tuple(pairs)

"""Version 5 properties and the core's fourteen, both ways (RabbitMQ's mapping, mc_mqtt.erl, and where that loses, ours).

Headers that carry what AMQP has no words for:

    x-mqtt-publish-qos      2; QoS 1 is delivery mode 2
    x-mqtt-retain           true: it was published with the retain flag
    x-mqtt-topic            the topic, if the routing key does not tell it
    x-mqtt-payload-format   0 or 1 (the payload is UTF-8), if it was given
    x-mqtt-content-type     a content type of more than 255 bytes
    x-mqtt-response-topic   the response topic, if its routing key does not tell it
    x-mqtt-user-properties  all names and values in turn, if they could not come back from the headers as they were
    x-reply-to-topic        the response topic as a routing key (as RabbitMQ 4)
    x-correlation-id        correlation data that is no text of at most 255 bytes (as RabbitMQ 4)

A response topic is also a `reply_to` that AMQP services answer to as usual, over the default exchange; and a `reply_to`
of an AMQP client is a response topic that MQTT clients answer to as usual (core/reply_to.py).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from leveret.adapters.mqtt import spec
from leveret.core.properties import MAX_EXPIRATION_MS, Properties
from leveret.core.reply_to import TOPIC_REPLY

if TYPE_CHECKING:
    from leveret.adapters.mqtt.topics import KeyMap
__all__ = ["REPLY_TOPIC", "PublishFacts", "from_core", "to_core", "topic_of"]

REPLY_TOPIC = "$reply-to/"  # and the name of a queue: what an MQTT client answers an AMQP request on
QOS, RETAIN, TOPIC, FORMAT = "x-mqtt-publish-qos", "x-mqtt-retain", "x-mqtt-topic", "x-mqtt-payload-format"
CONTENT_TYPE, RESPONSE_TOPIC = "x-mqtt-content-type", "x-mqtt-response-topic"
PAIRS, REPLY, CORRELATION = "x-mqtt-user-properties", "x-reply-to-topic", "x-correlation-id"
SHORT = 255  # bytes of AMQP's short strings, and of header names
LONG = 65535  # bytes of MQTT's strings and data
# Headers that mean something to the broker: never made from a user property, and never one.
OWN = frozenset({"CC", "BCC", "x-death", "x-delivery-count", "x-acquired-count", REPLY, CORRELATION})
OWN_PREFIXES = ("x-mqtt-", "x-first-death-", "x-last-death-", "x-stream-")


@dataclass(frozen=True, slots=True)
class PublishFacts:
    """What MQTT sees of a message that came from elsewhere, or from the disk. properties: None if there are none.

    What is left of the expiration is worked out when it is delivered, and is not among them.
    """

    qos: int
    retain: bool
    properties: spec.Properties | None


def to_core(
    properties: spec.Properties | None, *, qos: int, retain: bool, keymap: KeyMap, topic: str | None = None
) -> Properties:
    """Of a PUBLISH, or a will. With its topic, what all see of it comes back even where the routing key does not tell."""
    headers: dict[str, Any] = {}
    core = Properties(delivery_mode=2 if qos else 1)
    if qos == 2:
        headers[QOS] = 2
    if retain:
        headers[RETAIN] = True
    if topic is not None and keymap.topic(keymap.routing_key(topic)) != keymap.pattern(topic):
        headers[TOPIC] = topic
    if properties is not None:
        if properties.payload_format is not None:
            headers[FORMAT] = properties.payload_format
        if properties.message_expiry_s is not None:
            core.expiration = str(min(properties.message_expiry_s * 1000, MAX_EXPIRATION_MS))
        if properties.content_type is not None:
            if _is_short(properties.content_type):
                core.content_type = properties.content_type
            else:
                headers[CONTENT_TYPE] = properties.content_type
        if properties.correlation_data is not None:
            _correlate(core, headers, properties.correlation_data)
        if properties.response_topic:
            _reply(core, headers, properties.response_topic, keymap)
        if properties.user_properties:
            _user_headers(headers, properties.user_properties)
    core.headers = headers or None
    return core


def _is_short(text: str) -> bool:
    return len(text.encode()) <= SHORT


def _correlate(core: Properties, headers: dict[str, Any], data: bytes) -> None:
    try:
        text = data.decode()
    except UnicodeDecodeError:
        text = None
    if text is not None and len(data) <= SHORT and "\0" not in text:
        core.correlation_id = text
    else:
        headers[CORRELATION] = data  # a long string: RabbitMQ's type, and one that every client can read


def _reply(core: Properties, headers: dict[str, Any], topic: str, keymap: KeyMap) -> None:
    if topic.startswith(REPLY_TOPIC):  # a queue: it came from an AMQP client, or is to reach one
        queue = topic[len(REPLY_TOPIC) :]
        if queue and _is_short(queue):
            core.reply_to = queue
            return
    key = keymap.routing_key(topic)
    headers[REPLY] = key
    if keymap.topic(key) != topic:
        headers[RESPONSE_TOPIC] = topic
    if _is_short(TOPIC_REPLY + key):
        core.reply_to = TOPIC_REPLY + key


def _user_headers(headers: dict[str, Any], pairs: tuple[tuple[str, str], ...]) -> None:
    names = [name for name, _ in pairs]
    for name, text in pairs:
        if _is_header(name) and name not in headers:
            headers[name] = text
    if len(set(names)) < len(names) or not all(map(_is_header, names)):
        headers[PAIRS] = [piece for pair in pairs for piece in pair]


def _is_header(name: str) -> bool:
    """A user property by this name comes back from a header."""
    return bool(name) and not _is_own(name) and _is_short(name)


def _is_own(name: str) -> bool:
    return name in OWN or name.startswith(OWN_PREFIXES)


def from_core(properties: Properties, keymap: KeyMap) -> PublishFacts:
    """Strings among the headers become user properties, but for the broker's own."""
    headers = properties.headers or {}
    qos = 1 if properties.delivery_mode == 2 else 0
    if qos and headers.get(QOS) == 2:
        qos = 2
    payload_format: Any = headers.get(FORMAT)
    is_format = isinstance(payload_format, int) and payload_format in (0, 1)
    found = spec.Properties(
        payload_format=int(payload_format) if is_format else None,
        content_type=_text(headers.get(CONTENT_TYPE, properties.content_type)),
        response_topic=_response_topic(properties, headers, keymap),
        correlation_data=_correlation_data(properties, headers),
        user_properties=_user_properties(headers),
    )
    is_empty = found == spec.Properties()
    return PublishFacts(qos, headers.get(RETAIN) is True, None if is_empty else found)


def topic_of(routing_key: str, properties: Properties, keymap: KeyMap) -> str | None:
    """The topic of a message; None: none that a client may be sent."""
    return keymap.topic(routing_key, (properties.headers or {}).get(TOPIC))


def _text(value: Any) -> str | None:
    """As an MQTT string, or None if it cannot be one."""
    if not isinstance(value, str) or "\0" in value:
        return None
    try:
        return value if len(value.encode()) <= LONG else None
    except UnicodeEncodeError:  # bytes that are no UTF-8
        return None


def _correlation_data(properties: Properties, headers: dict[str, Any]) -> bytes | None:
    value: Any = properties.correlation_id
    if value is None:
        value = headers.get(CORRELATION)
    if isinstance(value, str):
        value = value.encode("utf-8", "surrogateescape")
    return bytes(value) if isinstance(value, bytes) and len(value) <= LONG else None


def _response_topic(properties: Properties, headers: dict[str, Any], keymap: KeyMap) -> str | None:
    key = _text(headers.get(REPLY))
    if key is not None:
        written = _text(headers.get(RESPONSE_TOPIC))
        is_good = written is not None and keymap.is_topic_of(written, key)
        return written if is_good else keymap.topic(key)
    reply_to = _text(properties.reply_to)
    if not reply_to:
        return None
    if reply_to.startswith(TOPIC_REPLY):
        return keymap.topic(reply_to[len(TOPIC_REPLY) :])
    return None if "+" in reply_to or "#" in reply_to else REPLY_TOPIC + reply_to


def _user_properties(headers: dict[str, Any]) -> tuple[tuple[str, str], ...]:
    pieces = headers.get(PAIRS)
    if isinstance(pieces, list) and len(pieces) % 2 == 0:
        texts = [text for text in map(_text, pieces) if text is not None]
        if len(texts) == len(pieces):
            return tuple(zip(texts[::2], texts[1::2], strict=True))
    pairs: list[tuple[str, str]] = []
    for name, value in headers.items():
        key, text = _text(name), _text(value)
        if key is not None and text is not None and not _is_own(key):
            pairs.append((key, text))
    return tuple(pairs)

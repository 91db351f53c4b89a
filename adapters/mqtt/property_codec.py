"""Version 5 properties, to and from bytes (5.0 2.2.2, table 2-4). Sans-IO.

Malformed bytes, and a property that is none or none of this packet, raise MqttFault 0x81 (2.2.2.2); one that is there
twice, or has a value of the right form that it must not have, 0x82.
"""

from __future__ import annotations

from collections.abc import Callable
from operator import attrgetter
from typing import Any, NamedTuple

from leveret.adapters.mqtt.spec import MqttFault, PacketType, Properties, Reason

__all__ = [
    "decode_properties",
    "decode_publish_properties",
    "encode_properties",
    "read_data",
    "read_string",
    "read_varint",
    "varint",
]

WILL = 0  # the properties of a will stand in no packet of their own
CONNECT, CONNACK, PUBLISH, SUBSCRIBE, DISCONNECT, AUTH = 1, 2, 3, 8, 14, 15
ACKS = (4, 5, 6, 7, 9, 11)  # PUBACK PUBREC PUBREL PUBCOMP SUBACK UNSUBACK


class Kind(NamedTuple):
    """How one property is written. form: 1, 2, 4 bytes; v varint, s string, d data, p pair of strings."""

    identifier: int
    name: str
    form: str
    packets: tuple[int, ...]
    check: Callable[[Any], bool] | None = None


def _is_flag(value: int) -> bool:
    return value <= 1


def _is_positive(value: int) -> bool:
    return value > 0


def _is_topic(value: str) -> bool:
    return value != "" and "+" not in value and "#" not in value  # MQTT-3.3.2-14, MQTT-4.7.3-1


KINDS = (
    Kind(0x01, "payload_format", "1", (PUBLISH, WILL), _is_flag),
    Kind(0x02, "message_expiry_s", "4", (PUBLISH, WILL)),
    Kind(0x03, "content_type", "s", (PUBLISH, WILL)),
    Kind(0x08, "response_topic", "s", (PUBLISH, WILL), _is_topic),
    Kind(0x09, "correlation_data", "d", (PUBLISH, WILL)),
    Kind(0x0B, "subscription_identifiers", "v", (PUBLISH, SUBSCRIBE), _is_positive),
    Kind(0x11, "session_expiry_s", "4", (CONNECT, CONNACK, DISCONNECT)),
    Kind(0x12, "assigned_client_id", "s", (CONNACK,)),
    Kind(0x13, "server_keep_alive_s", "2", (CONNACK,)),
    Kind(0x15, "auth_method", "s", (CONNECT, CONNACK, AUTH)),
    Kind(0x16, "auth_data", "d", (CONNECT, CONNACK, AUTH)),
    Kind(0x17, "request_problem_information", "1", (CONNECT,), _is_flag),
    Kind(0x18, "will_delay_s", "4", (WILL,)),
    Kind(0x19, "request_response_information", "1", (CONNECT,), _is_flag),
    Kind(0x1A, "response_information", "s", (CONNACK,)),
    Kind(0x1C, "server_reference", "s", (CONNACK, DISCONNECT)),
    Kind(0x1F, "reason_string", "s", (CONNACK, *ACKS, DISCONNECT, AUTH)),
    Kind(0x21, "receive_maximum", "2", (CONNECT, CONNACK), _is_positive),
    Kind(0x22, "topic_alias_maximum", "2", (CONNECT, CONNACK)),
    # Alias 0 has a reason code of its own, and is refused where aliases are kept.
    Kind(0x23, "topic_alias", "2", (PUBLISH,)),
    Kind(0x24, "maximum_qos", "1", (CONNACK,), _is_flag),
    Kind(0x25, "retain_available", "1", (CONNACK,), _is_flag),
    Kind(
        0x26,
        "user_properties",
        "p",
        (CONNECT, CONNACK, PUBLISH, WILL, *ACKS, SUBSCRIBE, 10, DISCONNECT, AUTH),
    ),
    Kind(0x27, "maximum_packet_size", "4", (CONNECT, CONNACK), _is_positive),
    Kind(0x28, "wildcard_subscriptions_available", "1", (CONNACK,), _is_flag),
    Kind(0x29, "subscription_identifiers_available", "1", (CONNACK,), _is_flag),
    Kind(0x2A, "shared_subscriptions_available", "1", (CONNACK,), _is_flag),
)
BY_IDENTIFIER = {kind.identifier: kind for kind in KINDS}
_values_of = attrgetter(*[kind.name for kind in KINDS])


def varint(value: int) -> bytes:
    """A variable byte integer (5.0 1.5.5), up to 268,435,455."""
    if value < 0x80:
        return bytes((value,))
    out = bytearray()
    while value >= 0x80:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)
    return bytes(out)


def read_varint(data: bytes, position: int) -> tuple[int, int]:
    """Its value, and where it ends. Raise MqttFault: cut off, longer than four bytes, or than it need be."""
    value = shift = 0
    for at in range(position, min(position + 4, len(data))):
        byte = data[at]
        value |= (byte & 0x7F) << shift
        if not byte & 0x80:
            if at > position and not byte:
                raise _malformed("a length in more bytes than it needs")
            return value, at + 1
        shift += 7
    raise _malformed("a length that is cut off, or has more than four bytes")


def _malformed(text: str) -> MqttFault:
    return MqttFault(Reason.MALFORMED_PACKET, text)


def read_data(data: bytes, position: int) -> tuple[bytes, int]:
    """Binary data with its length (5.0 1.5.6)."""
    start = position + 2
    end = start + int.from_bytes(data[position:start], "big")
    if start > len(data) or end > len(data):
        raise _malformed("a string or data that is cut off")
    return data[start:end], end


def read_string(data: bytes, position: int) -> tuple[str, int]:
    """A UTF-8 string (5.0 1.5.4): no surrogates, no NUL."""
    raw, end = read_data(data, position)
    try:
        text = raw.decode()
    except UnicodeDecodeError:
        raise _malformed("a string that is not UTF-8") from None
    if "\0" in text:
        raise _malformed("a string with a NUL")
    return text, end


def decode_properties(
    data: bytes, position: int, packet: PacketType, *, is_will: bool = False
) -> tuple[Properties, int]:
    """The properties of a packet, their length included, and where they end. Raise MqttFault."""
    if position < len(data) and not data[position]:
        return Properties(), position + 1
    length, start = read_varint(data, position)
    end = start + length
    if end > len(data):
        raise _malformed("properties that are cut off")
    return _decode(data[start:end], WILL if is_will else int(packet)), end


def decode_publish_properties(raw: bytes) -> Properties:
    """Those of a PUBLISH, without their length. Raise MqttFault."""
    return _decode(raw, PUBLISH)


def _decode(raw: bytes, packet: int) -> Properties:
    properties = Properties()
    seen: set[int] = set()
    pairs: list[tuple[str, str]] = []
    identifiers: list[int] = []
    position, size = 0, len(raw)
    while position < size:
        kind = BY_IDENTIFIER.get(raw[position])
        if kind is None:
            raise _malformed(f"property 0x{raw[position]:02x} is none")
        position += 1
        if packet not in kind.packets:
            raise _malformed(f"property {kind.name} does not belong here")
        if kind.form == "p":
            name, position = read_string(raw, position)
            text, position = read_string(raw, position)
            pairs.append((name, text))
            continue
        value, position = _value(kind, raw, position)
        if kind.check is not None and not kind.check(value):
            raise MqttFault(Reason.PROTOCOL_ERROR, f"property {kind.name} cannot be {str(value)[:100]!r}")
        if kind.form == "v" and packet == PUBLISH:
            identifiers.append(value)
            continue
        if kind.identifier in seen:
            raise MqttFault(Reason.PROTOCOL_ERROR, f"property {kind.name} twice")
        seen.add(kind.identifier)
        if kind.form == "v":
            identifiers.append(value)
        else:
            setattr(properties, kind.name, value)
    properties.user_properties = tuple(pairs)
    properties.subscription_identifiers = tuple(identifiers)
    return properties


def _value(kind: Kind, raw: bytes, position: int) -> tuple[Any, int]:
    match kind.form:
        case "s":
            return read_string(raw, position)
        case "d":
            return read_data(raw, position)
        case "v":
            return read_varint(raw, position)
    end = position + int(kind.form)
    if end > len(raw):
        raise _malformed(f"property {kind.name} is cut off")
    return int.from_bytes(raw[position:end], "big"), end


def encode_properties(properties: Properties) -> bytes:
    """With their length, in the order of their identifiers."""
    pieces: list[bytes] = []
    for (identifier, _, form, _, _), value in zip(KINDS, _values_of(properties), strict=True):
        if value is None or value == ():
            continue
        head = bytes((identifier,))
        match form:
            case "s":
                pieces.append(head + _string(value))
            case "d":
                pieces.append(head + len(value).to_bytes(2, "big") + value)
            case "p":
                pieces += [head + _string(key) + _string(text) for key, text in value]
            case "v":
                pieces += [head + varint(one) for one in value]
            case _:
                pieces.append(head + value.to_bytes(int(form), "big"))
    body = b"".join(pieces)
    return varint(len(body)) + body


def _string(text: str) -> bytes:
    """At most 65,535 bytes; what is longer is cut: it did not come from an MQTT client."""
    raw = text.encode("utf-8", "replace")
    if len(raw) > 65535:
        raw = raw[:65535].decode("utf-8", "ignore").encode()
    return len(raw).to_bytes(2, "big") + raw

"""MQTT 3.1, 3.1.1 and 5.0 packets to bytes and back, for tests: written from the specifications, shared with nobody.

Encoders say what they are told, however wrong. The decoder is a strict client: whatever a server may not send fails.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

__all__ = [
    "Packet", "Sub", "Will", "connect", "decode", "disconnect", "packet", "properties_block", "publish", "settle",
    "string", "subscribe", "unsubscribe", "varint",
]  # fmt: skip

TYPES = (
    "", "CONNECT", "CONNACK", "PUBLISH", "PUBACK", "PUBREC", "PUBREL", "PUBCOMP", "SUBSCRIBE", "SUBACK", "UNSUBSCRIBE",
    "UNSUBACK", "PINGREQ", "PINGRESP", "DISCONNECT", "AUTH",
)  # fmt: skip
NUMBERS = {name: number for number, name in enumerate(TYPES) if name}
FLAGS = {"PUBREL": 2, "SUBSCRIBE": 2, "UNSUBSCRIBE": 2}
"""Low half of the first byte; 0 for all others but PUBLISH (5.0 2.1.3)."""

# Name: identifier, kind, and the packets a server may send it in (5.0 table 2-4).
_PROPERTIES: dict[str, tuple[int, str, tuple[str, ...]]] = {
    "payload_format": (0x01, "byte", ("PUBLISH",)),
    "message_expiry": (0x02, "u32", ("PUBLISH",)),
    "content_type": (0x03, "string", ("PUBLISH",)),
    "response_topic": (0x08, "string", ("PUBLISH",)),
    "correlation_data": (0x09, "binary", ("PUBLISH",)),
    "subscription_id": (0x0B, "varint", ("PUBLISH",)),
    "session_expiry": (0x11, "u32", ("CONNACK",)),  # in DISCONNECT by a client only, 3.14.2.2.2
    "assigned_client_id": (0x12, "string", ("CONNACK",)),
    "server_keep_alive": (0x13, "u16", ("CONNACK",)),
    "auth_method": (0x15, "string", ("CONNACK", "AUTH")),
    "auth_data": (0x16, "binary", ("CONNACK", "AUTH")),
    "request_problem_info": (0x17, "byte", ()),
    "will_delay": (0x18, "u32", ()),
    "request_response_info": (0x19, "byte", ()),
    "response_info": (0x1A, "string", ("CONNACK",)),
    "server_reference": (0x1C, "string", ("CONNACK", "DISCONNECT")),
    "reason_string": (
        0x1F,
        "string",
        ("CONNACK", "PUBACK", "PUBREC", "PUBREL", "PUBCOMP", "SUBACK", "UNSUBACK", "DISCONNECT", "AUTH"),
    ),
    "receive_maximum": (0x21, "u16", ("CONNACK",)),
    "topic_alias_maximum": (0x22, "u16", ("CONNACK",)),
    "topic_alias": (0x23, "u16", ("PUBLISH",)),
    "maximum_qos": (0x24, "byte", ("CONNACK",)),
    "retain_available": (0x25, "byte", ("CONNACK",)),
    "user_properties": (
        0x26,
        "pair",
        (
            "CONNACK",
            "PUBLISH",
            "PUBACK",
            "PUBREC",
            "PUBREL",
            "PUBCOMP",
            "SUBACK",
            "UNSUBACK",
            "DISCONNECT",
            "AUTH",
        ),
    ),
    "maximum_packet_size": (0x27, "u32", ("CONNACK",)),
    "wildcard_available": (0x28, "byte", ("CONNACK",)),
    "subscription_id_available": (0x29, "byte", ("CONNACK",)),
    "shared_available": (0x2A, "byte", ("CONNACK",)),
}
_BY_IDENTIFIER = {identifier: (name, kind, where) for name, (identifier, kind, where) in _PROPERTIES.items()}
_REPEATED = ("user_properties", "subscription_id")


@dataclass(frozen=True)
class Sub:
    """A filter with its options (5.0 3.8.3.1). `raw`: the whole options byte instead."""

    filter: str | bytes
    qos: int = 0
    no_local: bool = False
    rap: bool = False
    retain_handling: int = 0
    raw: int | None = None

    def options(self, version: int) -> int:
        if self.raw is not None:
            return self.raw
        if version < 5:
            return self.qos
        return self.qos | self.no_local << 2 | self.rap << 3 | self.retain_handling << 4


@dataclass(frozen=True)
class Will:
    topic: str | bytes
    payload: bytes = b"will"
    qos: int = 0
    retain: bool = False
    properties: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Packet:
    """What came: its name, its fields by name, version 5 properties."""

    name: str
    fields: dict[str, Any] = field(default_factory=dict)
    properties: dict[str, Any] = field(default_factory=dict)

    def __getattr__(self, name: str) -> Any:
        try:
            return self.fields[name]
        except KeyError:
            raise AttributeError(f"{self.name} has no {name}") from None

    @property
    def user_properties(self) -> list[tuple[str, str]]:
        pairs: list[tuple[str, str]] = self.properties.get("user_properties", [])
        return pairs


# Out


def varint(value: int) -> bytes:
    out = bytearray()
    while True:
        value, low = divmod(value, 128)
        out.append(low | 0x80 if value else low)
        if not value:
            return bytes(out)


def string(text: str | bytes) -> bytes:
    data = text.encode() if isinstance(text, str) else text
    return struct.pack(">H", len(data)) + data


def packet(name: str, *parts: bytes, flags: int | None = None) -> bytes:
    """A whole packet around these parts of its variable header and payload."""
    body = b"".join(parts)
    return (
        bytes([NUMBERS[name] << 4 | (FLAGS.get(name, 0) if flags is None else flags)])
        + varint(len(body))
        + body
    )


def _value(kind: str, value: Any) -> bytes:
    match kind:
        case "byte":
            return bytes([value])
        case "u16":
            return struct.pack(">H", value)
        case "u32":
            return struct.pack(">I", value)
        case "varint":
            return varint(value)
        case "pair":
            return string(value[0]) + string(value[1])
        case _:
            return string(value)


def properties_block(properties: dict[str, Any]) -> bytes:
    """Length and properties. A list is one property several times, which may or may not be allowed."""
    out = b""
    for name, value in properties.items():
        identifier, kind, _ = _PROPERTIES[name]
        for each in value if isinstance(value, list) else [value]:
            out += bytes([identifier]) + _value(kind, each)
    return varint(len(out)) + out


def _block(version: int, properties: dict[str, Any]) -> bytes:
    assert version == 5 or not properties, f"version {version} has no properties: {properties}"
    return properties_block(properties) if version == 5 else b""


def connect(
    version: int,
    client_id: str | bytes,
    *,
    clean_start: bool = True,
    keep_alive: int = 0,
    username: str | bytes | None = None,
    password: str | bytes | None = None,
    will: Will | None = None,
    flags: int | None = None,
    protocol: str | None = None,
    level: int | None = None,
    properties: dict[str, Any] | None = None,
) -> bytes:
    """CONNECT. flags, protocol, level: say something else there than what belongs."""
    computed = clean_start << 1 | (username is not None) << 7 | (password is not None) << 6
    payload = string(client_id)
    if will is not None:
        computed |= 4 | will.qos << 3 | will.retain << 5
        payload += _block(version, will.properties) + string(will.topic) + string(will.payload)
    for text in (username, password):
        if text is not None:
            payload += string(text)
    return packet(
        "CONNECT",
        string(protocol or ("MQIsdp" if version == 3 else "MQTT")),
        bytes([version if level is None else level, computed if flags is None else flags]),
        struct.pack(">H", keep_alive),
        _block(version, properties or {}),
        payload,
    )


def publish(
    version: int,
    topic: str | bytes,
    payload: bytes = b"",
    *,
    qos: int = 0,
    retain: bool = False,
    dup: bool = False,
    packet_id: int | None = None,
    properties: dict[str, Any] | None = None,
) -> bytes:
    return packet(
        "PUBLISH",
        string(topic),
        b"" if packet_id is None else struct.pack(">H", packet_id),
        _block(version, properties or {}),
        payload,
        flags=dup << 3 | qos << 1 | retain,
    )


def settle(
    version: int, name: str, packet_id: int, reason: int = 0, properties: dict[str, Any] | None = None
) -> bytes:
    """PUBACK, PUBREC, PUBREL, PUBCOMP; the short form where nothing is to be said (5.0 3.4.2.1)."""
    tail = b""
    if version == 5 and (reason or properties):
        tail = bytes([reason]) + (properties_block(properties) if properties else b"")
    return packet(name, struct.pack(">H", packet_id), tail)


def subscribe(
    version: int, packet_id: int, subs: Iterable[Sub], properties: dict[str, Any] | None = None
) -> bytes:
    filters = b"".join(string(sub.filter) + bytes([sub.options(version)]) for sub in subs)
    return packet("SUBSCRIBE", struct.pack(">H", packet_id), _block(version, properties or {}), filters)


def unsubscribe(
    version: int, packet_id: int, filters: Iterable[str], properties: dict[str, Any] | None = None
) -> bytes:
    return packet(
        "UNSUBSCRIBE", struct.pack(">H", packet_id), _block(version, properties or {}),
        *(string(each) for each in filters),
    )  # fmt: skip


def disconnect(version: int, reason: int = 0, properties: dict[str, Any] | None = None) -> bytes:
    if version < 5 or (reason == 0 and not properties):
        return packet("DISCONNECT")
    return packet("DISCONNECT", bytes([reason]), properties_block(properties) if properties else b"")


# In


class _Reader:
    """Takes a packet's body apart."""

    def __init__(self, name: str, data: bytes) -> None:
        self.name = name
        self.data = data
        self.at = 0

    def take(self, count: int) -> bytes:
        assert self.at + count <= len(self.data), f"{self.name} is cut short: {self.data!r}"
        self.at += count
        return self.data[self.at - count : self.at]

    def rest(self) -> bytes:
        return self.take(len(self.data) - self.at)

    @property
    def is_done(self) -> bool:
        return self.at == len(self.data)

    def number(self, size: int) -> int:
        return int.from_bytes(self.take(size), "big")

    def binary(self) -> bytes:
        return self.take(self.number(2))

    def string(self) -> str:
        text = self.binary().decode()
        assert "\0" not in text, f"NUL in a string of {self.name}"  # [MQTT-1.5.4-2]
        return text

    def varint(self) -> int:
        value = 0
        for shift in (0, 7, 14, 21):
            byte = self.number(1)
            value |= (byte & 0x7F) << shift
            if byte < 0x80:
                assert byte or not shift, f"a variable integer longer than needed in {self.name}"  # 1.5.5-1
                return value
        raise AssertionError(f"a variable integer of five bytes in {self.name}")

    def value(self, kind: str) -> Any:
        match kind:
            case "byte":
                return self.number(1)
            case "u16":
                return self.number(2)
            case "u32":
                return self.number(4)
            case "varint":
                return self.varint()
            case "pair":
                return self.string(), self.string()
            case "string":
                return self.string()
            case _:
                return self.binary()

    def properties(self) -> dict[str, Any]:
        block = _Reader(self.name, self.take(self.varint()))
        found: dict[str, Any] = {}
        while not block.is_done:
            identifier = block.number(1)
            assert identifier in _BY_IDENTIFIER, f"property {identifier:#x} in {self.name}"
            name, kind, where = _BY_IDENTIFIER[identifier]
            assert self.name in where, f"{name} in {self.name}"
            value = block.value(kind)
            if name in _REPEATED:
                found.setdefault(name, []).append(value)
            else:
                assert name not in found, f"{name} twice in {self.name}"
                found[name] = value
        return found


def decode(version: int, first: int, body: bytes) -> Packet:
    """One packet of a server. AssertionError: a server may not send this."""
    name = TYPES[first >> 4]
    flags = first & 15
    assert name not in ("", "CONNECT", "SUBSCRIBE", "UNSUBSCRIBE", "PINGREQ"), (
        f"a server sent type {first >> 4}"
    )
    if name != "PUBLISH":
        assert flags == FLAGS.get(name, 0), f"{name} with flags {flags}"
    reader = _Reader(name, body)
    fields: dict[str, Any] = {}
    properties: dict[str, Any] = {}
    match name:
        case "CONNACK":
            acknowledge = reader.number(1)
            assert acknowledge in (0, 1), f"CONNACK flags {acknowledge}"
            fields = {"session_present": bool(acknowledge), "code": reader.number(1)}
            assert not (acknowledge and fields["code"]), "a session with a refusal"  # [MQTT-3.2.2-6]
            if version == 5:
                properties = reader.properties()
        case "PUBLISH":
            qos = flags >> 1 & 3
            assert qos < 3, "PUBLISH with QoS 3"
            fields = {"dup": bool(flags & 8), "qos": qos, "retain": bool(flags & 1), "topic": reader.string()}
            assert qos or not fields["dup"], "DUP with QoS 0"  # [MQTT-3.3.1-2]
            fields["packet_id"] = reader.number(2) if qos else None
            assert fields["packet_id"] != 0, "packet id 0"
            if version == 5:
                properties = reader.properties()
            fields["payload"] = reader.rest()
        case "PUBACK" | "PUBREC" | "PUBREL" | "PUBCOMP":
            fields = {"packet_id": reader.number(2), "code": 0}
            if version == 5 and not reader.is_done:
                fields["code"] = reader.number(1)
                properties = {} if reader.is_done else reader.properties()
        case "SUBACK" | "UNSUBACK":
            fields["packet_id"] = reader.number(2)
            if version == 5:
                properties = reader.properties()
            if version == 5 or name == "SUBACK":
                fields["codes"] = list(reader.rest())
        case "DISCONNECT" | "AUTH":
            assert version == 5, f"{name} of a server in version {version}"
            fields["code"] = 0 if reader.is_done else reader.number(1)
            properties = {} if reader.is_done else reader.properties()
    assert reader.is_done, f"{name} is too long: {body!r}"
    return Packet(name, fields, properties)

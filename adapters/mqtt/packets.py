"""Packets that are no hot path, to and from bytes (3.1, 3.1.1, 5.0 chapter 3). Sans-IO.

Decoders take what follows the remaining length, and raise MqttFault. Filters that are no filters are kept: they are
answered one by one in SUBACK.
"""

from __future__ import annotations

from collections.abc import Sequence

from leveret.adapters.mqtt.property_codec import (
    decode_properties,
    encode_properties,
    read_data,
    read_string,
    varint,
)
from leveret.adapters.mqtt.spec import (
    V3,
    V4,
    V5,
    Auth,
    Connect,
    Disconnect,
    MqttFault,
    PacketType,
    Properties,
    Reason,
    Subscribe,
    Subscription,
    Unsubscribe,
    Will,
)

__all__ = [
    "PINGRESP", "ack", "connack", "decode_ack", "decode_auth", "decode_connect", "decode_disconnect",
    "decode_subscribe", "decode_unsubscribe", "disconnect", "encode_remaining_length", "publish", "suback", "unsuback",
]  # fmt: skip

PINGRESP = b"\xd0\x00"
SHARED = ("$share/", "$queue/")
PROTOCOLS = {"MQIsdp": (V3,), "MQTT": (V4, V5)}
# What a client may say; anything else is a protocol error (5.0 table 2-6, tables 3-4 to 3-7, 3-10, 3-11).
ACK_REASONS = frozenset((0x00, 0x10, 0x80, 0x83, 0x87, 0x90, 0x91, 0x92, 0x97, 0x99))
DISCONNECT_REASONS = frozenset(
    (0x00, 0x04, 0x80, 0x81, 0x82, 0x83, 0x90, 0x93, 0x94, 0x95, 0x96, 0x97, 0x98, 0x99)
)
AUTH_REASONS = frozenset((0x00, 0x18, 0x19))
RETURN_CODES = {
    Reason.SUCCESS: 0, Reason.UNSUPPORTED_PROTOCOL_VERSION: 1, Reason.CLIENT_IDENTIFIER_NOT_VALID: 2,
    Reason.BAD_USER_NAME_OR_PASSWORD: 4, Reason.NOT_AUTHORIZED: 5, Reason.BANNED: 5,
}  # fmt: skip
"""CONNACK's return codes of version 3 (3.1.1 table 3.1); whatever else is 3, server unavailable."""

encode_remaining_length = varint


def _malformed(text: str) -> MqttFault:
    return MqttFault(Reason.MALFORMED_PACKET, text)


def _wrong(text: str) -> MqttFault:
    return MqttFault(Reason.PROTOCOL_ERROR, text)


# -- CONNECT


def decode_connect(payload: bytes) -> Connect:
    """Raise MqttFault: UNSUPPORTED_PROTOCOL_VERSION for another protocol or level, else what is wrong."""
    name, position = read_string(payload, 0)
    if len(payload) < position + 4:
        raise _malformed("CONNECT is cut off")
    level, flags = payload[position], payload[position + 1]
    keep_alive_s = int.from_bytes(payload[position + 2 : position + 4], "big")
    position += 4
    is_bridge = bool(level & 0x80)
    version = level & 0x7F
    if version not in PROTOCOLS.get(name, ()):
        raise MqttFault(Reason.UNSUPPORTED_PROTOCOL_VERSION, f"protocol {name[:20]!r}, level {level}")
    if flags & 1:
        raise _malformed("CONNECT with the reserved flag")  # MQTT-3.1.2-3
    has_will, will_qos, will_retain = bool(flags & 4), flags >> 3 & 3, bool(flags & 0x20)
    has_password, has_username = bool(flags & 0x40), bool(flags & 0x80)
    if will_qos == 3 or (not has_will and (will_qos or will_retain)):
        # 3.1.1 MQTT-3.1.2-13 to 15, 5.0 MQTT-3.1.2-11 to 13
        raise _malformed("CONNECT with wrong flags for the will")
    if has_password and not has_username and version < V5:
        raise _malformed("CONNECT with a password and no user name")  # 3.1.1 MQTT-3.1.2-22
    properties = Properties()
    if version == V5:
        properties, position = decode_properties(payload, position, PacketType.CONNECT)
        if properties.auth_data is not None and properties.auth_method is None:
            raise _wrong("authentication data without a method")
    client_id, position = read_string(payload, position)
    will = None
    if has_will:
        will_properties = Properties()
        if version == V5:
            will_properties, position = decode_properties(payload, position, PacketType.CONNECT, is_will=True)
        topic, position = read_string(payload, position)
        message, position = read_data(payload, position)
        will = Will(topic, message, will_qos, will_retain, will_properties)
    username: str | None = None
    password: bytes | None = None
    if has_username:
        if version == V3 and position == len(payload):
            has_password = False  # 3.1 3.1: the flags may promise what the payload does not have
        else:
            username, position = read_string(payload, position)
    if has_password and not (version == V3 and position == len(payload)):
        password, position = read_data(payload, position)
    if position != len(payload):
        raise _malformed("more behind CONNECT's payload")
    return Connect(
        version, client_id, bool(flags & 2), keep_alive_s, username, password, will, properties, is_bridge
    )


def connack(
    version: int, reason: Reason, session_present: bool = False, properties: Properties | None = None
) -> bytes:
    """Version 3 gets the return code that stands for the reason; 3.1 knows no session present."""
    present = bool(session_present and not reason)
    if version == V5:
        return _packet(0x20, bytes((present, reason)), properties)
    return bytes((0x20, 2, present and version > V3, RETURN_CODES.get(reason, 3)))


# -- SUBSCRIBE, UNSUBSCRIBE


def decode_subscribe(payload: bytes, version: int, flags: int) -> Subscribe:
    """flags: the low half of the first byte."""
    packet_id, properties, position = _head(payload, version, flags, PacketType.SUBSCRIBE)
    identifier = properties.subscription_identifiers[0] if properties.subscription_identifiers else None
    found: list[Subscription] = []
    while position < len(payload):
        text, position = read_string(payload, position)
        if position >= len(payload):
            raise _malformed("a filter without options")
        options = payload[position]
        position += 1
        qos = options & 3
        if options & (0xC0 if version == V5 else 0xFC):  # 3.1.1 MQTT-3-8.3-4, 5.0 MQTT-3.8.3-5
            raise _malformed("subscription options with reserved bits")
        if qos == 3:
            raise _wrong("subscription to QoS 3") if version == V5 else _malformed("subscription to QoS 3")
        no_local = bool(options & 4)
        if options >> 4 & 3 == 3:
            raise _wrong("retain handling 3")
        if no_local and text.startswith(SHARED):
            raise _wrong("no local on a shared subscription")  # MQTT-3.8.3-4
        found.append(Subscription(text, qos, no_local, bool(options & 8), options >> 4 & 3, identifier))
    if not found:
        raise _wrong("SUBSCRIBE without a filter")  # MQTT-3.8.3-2
    return Subscribe(packet_id, tuple(found), properties)


def decode_unsubscribe(payload: bytes, version: int, flags: int) -> Unsubscribe:
    packet_id, properties, position = _head(payload, version, flags, PacketType.UNSUBSCRIBE)
    found: list[str] = []
    while position < len(payload):
        text, position = read_string(payload, position)
        found.append(text)
    if not found:
        raise _wrong("UNSUBSCRIBE without a filter")  # MQTT-3.10.3-2
    return Unsubscribe(packet_id, tuple(found), properties)


def _head(payload: bytes, version: int, flags: int, packet: PacketType) -> tuple[int, Properties, int]:
    if flags != (2 if version > V3 else flags & 0x0A | 2):  # 3.1 lets clients set DUP
        raise _malformed(f"{packet.name} with wrong flags")
    if len(payload) < 2:
        raise _malformed(f"{packet.name} is cut off")
    packet_id = payload[0] << 8 | payload[1]
    if not packet_id:
        raise _wrong(f"{packet.name} with packet id 0")
    if version == V5:
        properties, position = decode_properties(payload, 2, packet)
        return packet_id, properties, position
    return packet_id, Properties(), 2


def suback(version: int, packet_id: int, codes: Sequence[int], properties: Properties | None = None) -> bytes:
    """One code a filter; version 3 knows one failure, 0x80."""
    if version != V5:
        body = bytes([code if code < 3 else 0x80 for code in codes])
        return b"".join((b"\x90", varint(2 + len(body)), packet_id.to_bytes(2, "big"), body))
    return _packet(0x90, packet_id.to_bytes(2, "big"), properties, bytes(codes))


def unsuback(
    version: int, packet_id: int, codes: Sequence[int], properties: Properties | None = None
) -> bytes:
    """Version 3 has no codes."""
    if version != V5:
        return b"\xb0\x02" + packet_id.to_bytes(2, "big")
    return _packet(0xB0, packet_id.to_bytes(2, "big"), properties, bytes(codes))


# -- acknowledgements


def decode_ack(payload: bytes, version: int) -> tuple[int, int]:
    """PUBACK, PUBREC, PUBREL or PUBCOMP in any form: packet id and reason."""
    if len(payload) < 2 or (version != V5 and len(payload) > 2):
        raise _malformed("an acknowledgement of wrong length")
    packet_id = payload[0] << 8 | payload[1]
    if not packet_id:
        raise _wrong("an acknowledgement of packet id 0")
    if len(payload) == 2:
        return packet_id, 0
    if payload[2] not in ACK_REASONS:
        raise _wrong(f"an acknowledgement with reason 0x{payload[2]:02x}")
    if len(payload) > 3:
        _, end = decode_properties(payload, 3, PacketType.PUBACK)
        if end != len(payload):
            raise _malformed("more behind an acknowledgement")
    return packet_id, payload[2]


def ack(
    packet: PacketType, packet_id: int, version: int, reason: int = 0, properties: Properties | None = None
) -> bytes:
    first = packet << 4 | (2 if packet == PacketType.PUBREL else 0)
    if version != V5 or (not reason and properties is None):
        return bytes((first, 2, packet_id >> 8, packet_id & 0xFF))
    if properties is None:
        return bytes((first, 3, packet_id >> 8, packet_id & 0xFF, reason))
    return _packet(first, bytes((packet_id >> 8, packet_id & 0xFF, reason)), properties)


# -- DISCONNECT, AUTH


def decode_disconnect(payload: bytes, version: int) -> Disconnect:
    if version != V5:
        if payload:
            raise _malformed("DISCONNECT with a payload")
        return Disconnect()
    if not payload:
        return Disconnect()
    if payload[0] not in DISCONNECT_REASONS:
        raise _wrong(f"a client's DISCONNECT with reason 0x{payload[0]:02x}")  # MQTT-3.14.2-1
    properties = Properties()
    if len(payload) > 1:
        properties, end = decode_properties(payload, 1, PacketType.DISCONNECT)
        if end != len(payload):
            raise _malformed("more behind DISCONNECT")
    if properties.server_reference is not None:
        raise _wrong("a client's DISCONNECT with a server reference")
    return Disconnect(payload[0], properties)


def disconnect(reason: Reason, properties: Properties | None = None) -> bytes:
    """Version 5 only: a server of version 3 just closes."""
    return _packet(0xE0, bytes((reason,)), properties)


def decode_auth(payload: bytes) -> Auth:
    """A method must be in every AUTH that has anything at all (3.15.2.2.2)."""
    if not payload:
        return Auth(0)
    if payload[0] not in AUTH_REASONS:
        raise _wrong(f"AUTH with reason 0x{payload[0]:02x}")  # MQTT-3.15.2-1
    properties = Properties()
    if len(payload) > 1:
        properties, end = decode_properties(payload, 1, PacketType.AUTH)
        if end != len(payload):
            raise _malformed("more behind AUTH")
    if properties.auth_method is None:
        raise _wrong("AUTH without a method")
    return Auth(payload[0], properties)


# -- PUBLISH, for whoever is in no hurry


def publish(
    version: int,
    topic: str,
    payload: bytes,
    qos: int = 0,
    retain: bool = False,
    dup: bool = False,
    packet_id: int = 0,
    properties: Properties | None = None,
) -> bytes:
    raw = topic.encode()
    body = [len(raw).to_bytes(2, "big"), raw]
    if qos:
        body.append(packet_id.to_bytes(2, "big"))
    if version == V5:
        body.append(encode_properties(properties or Properties()))
    body.append(payload)
    return b"".join((bytes((0x30 | dup << 3 | qos << 1 | retain,)), varint(sum(map(len, body))), *body))


def _packet(first: int, head: bytes, properties: Properties | None, tail: bytes = b"") -> bytes:
    middle = b"\0" if properties is None else encode_properties(properties)
    return b"".join((bytes((first,)), varint(len(head) + len(middle) + len(tail)), head, middle, tail))

"""What an MQTT client says, as bytes, for tests over socket pairs. Made by the codec's own reference encoders."""

from __future__ import annotations

from leveret.adapters.mqtt.packets import ack, publish
from leveret.adapters.mqtt.property_codec import encode_properties, varint
from leveret.adapters.mqtt.spec import V5, PacketType, Properties

__all__ = ["connect", "disconnect", "script", "subscribe", "unsubscribe"]


def string(text: str | bytes) -> bytes:
    raw = text.encode() if isinstance(text, str) else text
    return len(raw).to_bytes(2, "big") + raw


def packet(first: int, body: bytes) -> bytes:
    return bytes((first,)) + varint(len(body)) + body


def connect(
    client_id: str,
    version: int = 5,
    *,
    clean: bool = True,
    expiry_s: int | None = None,
    keep_alive_s: int = 0,
    will: tuple[str, bytes] | None = None,
    properties: Properties | None = None,
) -> bytes:
    """As guest. will: topic and payload, QoS 1."""
    flags = 0xC0 | (2 if clean else 0) | (0x0C if will else 0)
    body = (
        string("MQIsdp" if version == 3 else "MQTT")
        + bytes((version, flags))
        + keep_alive_s.to_bytes(2, "big")
    )
    if version == V5:
        asked = properties or Properties()
        asked.session_expiry_s = expiry_s
        body += encode_properties(asked)
    body += string(client_id)
    if will:
        body += (b"\0" if version == V5 else b"") + string(will[0]) + string(will[1])
    return packet(0x10, body + string("guest") + string("guest"))


def subscribe(*filters: tuple[str, int], version: int = 5, packet_id: int = 1) -> bytes:
    """Filters with their options bytes."""
    body = packet_id.to_bytes(2, "big") + (b"\0" if version == V5 else b"")
    for text, options in filters:
        body += string(text) + bytes((options,))
    return packet(0x82, body)


def unsubscribe(*filters: str, version: int = 5, packet_id: int = 1) -> bytes:
    body = packet_id.to_bytes(2, "big") + (b"\0" if version == V5 else b"") + b"".join(map(string, filters))
    return packet(0xA2, body)


def disconnect(version: int = 5, reason: int = 0) -> bytes:
    return b"\xe0\x00" if version != V5 or not reason else bytes((0xE0, 1, reason))


def script(client_id: str = "script", version: int = 5, *, expiry_s: int = 60) -> bytes:
    """A bit of everything, pipelined: a session that stays, a will, subscriptions, all QoS, a group, acknowledgements."""
    said = [connect(client_id, version, clean=False, expiry_s=expiry_s, will=("script/will", b"gone"))]
    said.append(
        subscribe(("script/#", 2), ("$share/g/script/+", 1), ("$SYS/broker/version", 0), version=version)
    )
    for qos in (0, 1, 2):
        said += [
            publish(version, f"script/{number}", b"%d" % number, qos, packet_id=10 * qos + number + 1)
            for number in range(3)
        ]
    said.append(publish(version, "script/kept", b"kept", 1, True, packet_id=40))
    said += [ack(PacketType.PUBREL, 20 + number, version) for number in (1, 2, 3)]
    said += [ack(PacketType.PUBACK, 1, version), ack(PacketType.PUBREC, 2, version), b"\xc0\x00"]
    said.append(unsubscribe("script/#", version=version, packet_id=2))
    return b"".join(said)

"""AMQP 0-9-1 on paper: method numbers, field tables and properties, written by hand from the specification.

Independent of the broker's codec on purpose: the two must agree without sharing a mistake. Types of field table
values are those RabbitMQ reads and writes (not the letters of the specification, AMQP 4.2.5.5).
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

__all__ = [
    "CLASS_METHOD",
    "PROPERTIES",
    "Typed",
    "decode_method",
    "decode_properties",
    "decode_table",
    "encode_method",
    "encode_properties",
    "encode_table",
]


@dataclass(frozen=True)
class Typed:
    """A field table value with its type letter given; `value` is packed as that letter says."""

    code: str
    value: Any


_PACK = {
    "b": ">b", "B": ">B", "s": ">h", "u": ">H", "I": ">i", "i": ">I", "l": ">q", "L": ">q",
    "f": ">f", "d": ">d", "T": ">Q",
}  # fmt: skip


def _encode_value(value: Any) -> bytes:
    if isinstance(value, Typed):
        code, value = value.code, value.value
        if code == "t":
            return b"t" + bytes([bool(value)])
        if code in "Sx":
            raw = value.encode() if isinstance(value, str) else value
            return code.encode() + struct.pack(">I", len(raw)) + raw
        if code == "D":
            scale, unscaled = value
            return b"D" + struct.pack(">BI", scale, unscaled)
        return code.encode() + struct.pack(_PACK[code], value)
    if value is None:
        return b"V"
    if isinstance(value, bool):
        return b"t" + bytes([value])
    if isinstance(value, int):
        return _encode_value(Typed("I" if -(2**31) <= value < 2**31 else "l", value))
    if isinstance(value, float):
        return _encode_value(Typed("d", value))
    if isinstance(value, str | bytes):
        return _encode_value(Typed("S", value))
    if isinstance(value, dict):
        return b"F" + encode_table(value)
    if isinstance(value, list):
        inner = b"".join(map(_encode_value, value))
        return b"A" + struct.pack(">I", len(inner)) + inner
    raise TypeError(f"no field type for {value!r}")


def encode_table(table: dict[str, Any] | list[tuple[str, Any]]) -> bytes:
    """A field table with its length; a list of pairs allows duplicates and any order."""
    pairs = table.items() if isinstance(table, dict) else table
    inner = b"".join(_shortstr(key) + _encode_value(value) for key, value in pairs)
    return struct.pack(">I", len(inner)) + inner


def _shortstr(text: str | bytes) -> bytes:
    raw = text.encode() if isinstance(text, str) else text
    return bytes([len(raw)]) + raw


def _decode_value(data: bytes, at: int) -> tuple[Any, int]:
    code = chr(data[at])
    at += 1
    if code == "t":
        return bool(data[at]), at + 1
    if code == "V":
        return None, at
    if code in "Sx":
        (size,) = struct.unpack_from(">I", data, at)
        raw = data[at + 4 : at + 4 + size]
        try:
            return (raw if code == "x" else raw.decode()), at + 4 + size
        except UnicodeDecodeError:
            return raw, at + 4 + size
    if code == "F":
        return decode_table(data, at)
    if code == "A":
        (size,) = struct.unpack_from(">I", data, at)
        at += 4
        end, values = at + size, []
        while at < end:
            value, at = _decode_value(data, at)
            values.append(value)
        return values, at
    if code == "D":
        scale, unscaled = struct.unpack_from(">BI", data, at)
        return Decimal(unscaled).scaleb(-scale), at + 5
    form = _PACK[code]
    return struct.unpack_from(form, data, at)[0], at + struct.calcsize(form)


def decode_table(data: bytes, at: int = 0) -> tuple[dict[str, Any], int]:
    """The table at `at`, and where it ends."""
    (size,) = struct.unpack_from(">I", data, at)
    at += 4
    end, table = at + size, {}
    while at < end:
        length = data[at]
        key = data[at + 1 : at + 1 + length].decode()
        table[key], at = _decode_value(data, at + 1 + length)
    return table, at


# name: class, method, fields ("name:type ..."; o octet, h short, l long, L longlong, s shortstr, S longstr, t table,
# b bit: bits that follow each other share octets)
_METHODS = {
    "connection.start": (10, 10, "version_major:o version_minor:o server_properties:t mechanisms:S locales:S"),
    "connection.start-ok": (10, 11, "client_properties:t mechanism:s response:S locale:s"),
    "connection.secure": (10, 20, "challenge:S"),
    "connection.secure-ok": (10, 21, "response:S"),
    "connection.tune": (10, 30, "channel_max:h frame_max:l heartbeat:h"),
    "connection.tune-ok": (10, 31, "channel_max:h frame_max:l heartbeat:h"),
    "connection.open": (10, 40, "virtual_host:s capabilities:s insist:b"),
    "connection.open-ok": (10, 41, "known_hosts:s"),
    "connection.close": (10, 50, "reply_code:h reply_text:s class_id:h method_id:h"),
    "connection.close-ok": (10, 51, ""),
    "connection.blocked": (10, 60, "reason:s"),
    "connection.unblocked": (10, 61, ""),
    "connection.update-secret": (10, 70, "new_secret:S reason:s"),
    "connection.update-secret-ok": (10, 71, ""),
    "channel.open": (20, 10, "out_of_band:s"),
    "channel.open-ok": (20, 11, "channel_id:S"),
    "channel.flow": (20, 20, "active:b"),
    "channel.flow-ok": (20, 21, "active:b"),
    "channel.close": (20, 40, "reply_code:h reply_text:s class_id:h method_id:h"),
    "channel.close-ok": (20, 41, ""),
    "access.request": (30, 10, "realm:s exclusive:b passive:b active:b write:b read:b"),
    "access.request-ok": (30, 11, "ticket:h"),
    "exchange.declare": (
        40, 10, "ticket:h exchange:s type:s passive:b durable:b auto_delete:b internal:b nowait:b arguments:t"),
    "exchange.declare-ok": (40, 11, ""),
    "exchange.delete": (40, 20, "ticket:h exchange:s if_unused:b nowait:b"),
    "exchange.delete-ok": (40, 21, ""),
    "exchange.bind": (40, 30, "ticket:h destination:s source:s routing_key:s nowait:b arguments:t"),
    "exchange.bind-ok": (40, 31, ""),
    "exchange.unbind": (40, 40, "ticket:h destination:s source:s routing_key:s nowait:b arguments:t"),
    "exchange.unbind-ok": (40, 51, ""),
    "queue.declare": (
        50, 10, "ticket:h queue:s passive:b durable:b exclusive:b auto_delete:b nowait:b arguments:t"),
    "queue.declare-ok": (50, 11, "queue:s message_count:l consumer_count:l"),
    "queue.bind": (50, 20, "ticket:h queue:s exchange:s routing_key:s nowait:b arguments:t"),
    "queue.bind-ok": (50, 21, ""),
    "queue.purge": (50, 30, "ticket:h queue:s nowait:b"),
    "queue.purge-ok": (50, 31, "message_count:l"),
    "queue.delete": (50, 40, "ticket:h queue:s if_unused:b if_empty:b nowait:b"),
    "queue.delete-ok": (50, 41, "message_count:l"),
    "queue.unbind": (50, 50, "ticket:h queue:s exchange:s routing_key:s arguments:t"),
    "queue.unbind-ok": (50, 51, ""),
    "basic.qos": (60, 10, "prefetch_size:l prefetch_count:h global:b"),
    "basic.qos-ok": (60, 11, ""),
    "basic.consume": (
        60, 20, "ticket:h queue:s consumer_tag:s no_local:b no_ack:b exclusive:b nowait:b arguments:t"),
    "basic.consume-ok": (60, 21, "consumer_tag:s"),
    "basic.cancel": (60, 30, "consumer_tag:s nowait:b"),
    "basic.cancel-ok": (60, 31, "consumer_tag:s"),
    "basic.publish": (60, 40, "ticket:h exchange:s routing_key:s mandatory:b immediate:b"),
    "basic.return": (60, 50, "reply_code:h reply_text:s exchange:s routing_key:s"),
    "basic.deliver": (60, 60, "consumer_tag:s delivery_tag:L redelivered:b exchange:s routing_key:s"),
    "basic.get": (60, 70, "ticket:h queue:s no_ack:b"),
    "basic.get-ok": (60, 71, "delivery_tag:L redelivered:b exchange:s routing_key:s message_count:l"),
    "basic.get-empty": (60, 72, "cluster_id:s"),
    "basic.ack": (60, 80, "delivery_tag:L multiple:b"),
    "basic.reject": (60, 90, "delivery_tag:L requeue:b"),
    "basic.recover-async": (60, 100, "requeue:b"),
    "basic.recover": (60, 110, "requeue:b"),
    "basic.recover-ok": (60, 111, ""),
    "basic.nack": (60, 120, "delivery_tag:L multiple:b requeue:b"),
    "tx.select": (90, 10, ""),
    "tx.select-ok": (90, 11, ""),
    "tx.commit": (90, 20, ""),
    "tx.commit-ok": (90, 21, ""),
    "tx.rollback": (90, 30, ""),
    "tx.rollback-ok": (90, 31, ""),
    "confirm.select": (85, 10, "nowait:b"),
    "confirm.select-ok": (85, 11, ""),
}  # fmt: skip

CLASS_METHOD = {name: (cls, method) for name, (cls, method, _) in _METHODS.items()}
_NAMES = {ids: name for name, ids in CLASS_METHOD.items()}
_FIELDS = {
    name: [tuple(field.split(":")) for field in fields.split()] for name, (_, _, fields) in _METHODS.items()
}
_INTEGERS = {"o": ">B", "h": ">H", "l": ">I", "L": ">Q"}


def encode_method(name: str, arguments: dict[str, Any]) -> bytes:
    """The payload of a method frame; arguments not given are zero, empty or false."""
    unknown = arguments.keys() - {field for field, _ in _FIELDS[name]}
    assert not unknown, f"{name} has no {unknown}"
    out = bytearray(struct.pack(">HH", *CLASS_METHOD[name]))
    bits: list[bool] = []

    def flush_bits() -> None:
        if bits:
            out.append(sum(bit << index for index, bit in enumerate(bits)))
            bits.clear()

    for field, kind in _FIELDS[name]:
        value = arguments.get(field)
        if kind == "b":
            bits.append(bool(value))
            continue
        flush_bits()
        if kind in _INTEGERS:
            out += struct.pack(_INTEGERS[kind], value or 0)
        elif kind == "s":
            out += _shortstr(value or "")
        elif kind == "S":
            raw = value.encode() if isinstance(value, str) else value or b""
            out += struct.pack(">I", len(raw)) + raw
        else:
            out += value if isinstance(value, bytes) else encode_table(value or {})
    flush_bits()
    return bytes(out)


def decode_method(payload: bytes) -> tuple[str, dict[str, Any]]:
    """Name and arguments of a method frame's payload; every octet must be used."""
    name = _NAMES[struct.unpack_from(">HH", payload)]
    at, bit = 4, 0
    arguments: dict[str, Any] = {}
    for field, kind in _FIELDS[name]:
        if kind == "b":
            arguments[field] = bool(payload[at] >> bit & 1)
            bit += 1
            continue
        at, bit = at + (1 if bit else 0), 0
        if kind in _INTEGERS:
            (arguments[field],) = struct.unpack_from(_INTEGERS[kind], payload, at)
            at += struct.calcsize(_INTEGERS[kind])
        elif kind == "s":
            arguments[field] = payload[at + 1 : at + 1 + payload[at]].decode()
            at += 1 + payload[at]
        elif kind == "S":
            (size,) = struct.unpack_from(">I", payload, at)
            arguments[field] = payload[at + 4 : at + 4 + size]
            at += 4 + size
        else:
            arguments[field], at = decode_table(payload, at)
    assert at + (1 if bit else 0) == len(payload), f"{name}: octets left over in {payload!r}"
    return name, arguments


PROPERTIES = {
    "content_type": (15, "s"), "content_encoding": (14, "s"), "headers": (13, "t"), "delivery_mode": (12, "o"),
    "priority": (11, "o"), "correlation_id": (10, "s"), "reply_to": (9, "s"), "expiration": (8, "s"),
    "message_id": (7, "s"), "timestamp": (6, "L"), "type": (5, "s"), "user_id": (4, "s"), "app_id": (3, "s"),
    "cluster_id": (2, "s"),
}  # fmt: skip


def encode_properties(properties: dict[str, Any]) -> bytes:
    """Flags and values as in a content header; `headers` may be the bytes of an encoded table."""
    unknown = properties.keys() - PROPERTIES.keys()
    assert not unknown, f"no property {unknown}"
    flags, out = 0, b""
    for name, (bit, kind) in PROPERTIES.items():
        if name not in properties:
            continue
        value = properties[name]
        flags |= 1 << bit
        if kind == "s":
            out += _shortstr(value)
        elif kind == "t":
            out += value if isinstance(value, bytes) else encode_table(value)
        else:
            out += struct.pack(_INTEGERS[kind], value)
    return struct.pack(">H", flags) + out


def decode_properties(data: bytes) -> dict[str, Any]:
    """Only the properties that are set."""
    (flags,) = struct.unpack_from(">H", data)
    at = 2
    properties: dict[str, Any] = {}
    for name, (bit, kind) in PROPERTIES.items():
        if not flags >> bit & 1:
            continue
        if kind == "s":
            properties[name] = data[at + 1 : at + 1 + data[at]].decode()
            at += 1 + data[at]
        elif kind == "t":
            properties[name], at = decode_table(data, at)
        else:
            (properties[name],) = struct.unpack_from(_INTEGERS[kind], data, at)
            at += struct.calcsize(_INTEGERS[kind])
    assert at == len(data), f"octets left over behind the properties: {data[at:]!r}"
    return properties

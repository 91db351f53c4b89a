"""The MQTT wire, sans-IO: chunks of bytes in, calls of the handler out.

PUBLISH and its four acknowledgements, the hot packets, are parsed here in one loop over one `bytes`: no object, no
exception and no await per packet. A run of publishes that differ only in packet id and payload, or a run of
acknowledgements, is one call. Every other packet goes to the handler as its payload.

The law: whatever bytes a peer sends, they are parsed or they raise MqttFault, and nothing else.
"""

from __future__ import annotations

from typing import Protocol as Contract

from leveret.adapters.mqtt.spec import V5, MqttFault, PacketType, Reason

__all__ = ["PacketHandler", "PacketParser"]

PUBLISH = 3
# The first bytes of acknowledgements without reason code and properties: type, flags, length 2.
SHORT_ACKS = {b"\x40\x02": PacketType.PUBACK, b"\x50\x02": PacketType.PUBREC, b"\x62\x02": PacketType.PUBREL,
              b"\x70\x02": PacketType.PUBCOMP}  # fmt: skip
RUN_BYTES = 1 << 20  # a run is cut here: what it holds is routed and handed on before more is parsed


class PacketHandler(Contract):
    """What the parser calls."""

    def on_publish(
        self, flags: int, topic: bytes, properties: bytes, packet_ids: list[int], payloads: list[bytes]
    ) -> None:
        """Messages published alike. flags: low half of the first byte; properties: version 5, without their length;
        packet_ids: as many as payloads, or none (QoS 0)."""

    def on_acks(self, packet: PacketType, packet_ids: list[int]) -> None:
        """PUBACK, PUBREC, PUBREL or PUBCOMP, successful, once for each id."""

    def on_packet(self, first: int, payload: bytes) -> None:
        """Any other packet. first: its first byte."""


class PacketParser:
    """One connection's incoming half.

    `is_suspended`: the handler needs an await before the next packet; `feed(b"")` goes on from there. A handler that
    raises is offered the same packets again by the next `feed`.
    """

    is_bulk = False  # larger reads do not pay: packets are joined from pieces

    __slots__ = ("_missing", "_parts", "_rest", "handler", "is_suspended", "max_size", "version")

    def __init__(self, handler: PacketHandler, max_size: int) -> None:
        self.handler = handler
        self.max_size = max_size  # of a whole packet
        self.version = 0  # of the protocol, as soon as it is known
        self.is_suspended = False
        self._rest = b""
        self._parts: list[
            bytes
        ] = []  # of a packet that is larger than a chunk: joined once, when it is whole
        self._missing = 0

    def feed(self, data: bytes) -> None:
        if self._missing:
            self._parts.append(data)
            self._missing -= len(data)
            if self._missing > 0:
                return
            data = b"".join(self._parts)
            self._parts.clear()
            self._missing = 0
        elif self._rest:
            data = self._rest + data
        self._rest = b""
        self._parse(data)

    def _parse(self, data: bytes) -> None:
        pos, size = 0, len(data)
        try:
            while pos + 1 < size and not self.is_suspended:
                first = data[pos]
                length = data[pos + 1]
                start = pos + 2
                if length & 0x80:
                    length, start = _length(data, pos + 1, size)
                    if not start:
                        return
                end = start + length
                if end - pos > self.max_size:
                    raise MqttFault(
                        Reason.PACKET_TOO_LARGE, f"a packet of {end - pos} bytes, {self.max_size} are allowed"
                    )
                if end > size:
                    if not self.version and first != 0x10:
                        raise MqttFault(Reason.PROTOCOL_ERROR, "the first packet is no CONNECT")
                    if length > 65536:
                        self._parts.append(data[pos:])
                        self._missing = end - size
                        pos = size
                    return
                if first >> 4 == PUBLISH and self.version:
                    pos = self._publish(data, pos, start, end, size)
                elif length == 2 and data[pos:start] in SHORT_ACKS and self.version:
                    pos = self._acks(data, pos, size)
                else:
                    # On its way it may suspend us; a packet that was taken is not offered again.
                    self.handler.on_packet(first, data[start:end])
                    pos = end
        finally:
            if pos < size:
                self._rest = data[pos:] if pos else data

    def _publish(self, data: bytes, pos: int, start: int, end: int, size: int) -> int:
        """A run of PUBLISH packets that begins at pos; where it ends."""
        flags = data[pos] & 15
        after_topic = start + 2 + (data[start] << 8 | data[start + 1]) if end - start >= 2 else end + 1
        qos = flags >> 1 & 3
        after_id = after_topic + 2 if qos else after_topic
        if after_id > end or qos == 3:
            raise MqttFault(
                Reason.MALFORMED_PACKET, "PUBLISH with QoS 3" if qos == 3 else "PUBLISH is cut off"
            )
        properties_at, payload_at = after_id, after_id
        if self.version == V5:
            if after_id >= end:
                raise MqttFault(Reason.MALFORMED_PACKET, "PUBLISH is cut off")
            length = data[after_id]
            if length & 0x80:
                length, properties_at = _length(data, after_id, end)
            else:
                properties_at = after_id + 1
            payload_at = properties_at + length
            if not properties_at or payload_at > end:
                raise MqttFault(Reason.MALFORMED_PACKET, "PUBLISH's properties are cut off")
        topic, properties = data[start + 2 : after_topic], data[properties_at:payload_at]
        payloads = [data[payload_at:end]]
        packet_ids: list[int] = []
        whole = end - pos
        last = min(size, pos + RUN_BYTES) - whole
        if not qos:
            head = data[pos:payload_at]
            at = end
            if at <= last and data.startswith(head, at):
                skip = payload_at - pos
                append = payloads.append
                while at <= last and data.startswith(head, at):
                    append(data[at + skip : at + whole])
                    at += whole
        else:
            packet_ids.append(data[after_topic] << 8 | data[after_topic + 1])
            head, tail = data[pos:after_topic], data[after_id:payload_at]
            skip, to_id, to_tail = payload_at - pos, after_topic - pos, after_id - pos
            at = end
            while at <= last and data.startswith(head, at) and data.startswith(tail, at + to_tail):
                packet_ids.append(data[at + to_id] << 8 | data[at + to_id + 1])
                payloads.append(data[at + skip : at + whole])
                at += whole
            if 0 in packet_ids:
                raise MqttFault(Reason.PROTOCOL_ERROR, "PUBLISH with packet id 0")
        self.handler.on_publish(flags, topic, properties, packet_ids, payloads)
        return at

    def _acks(self, data: bytes, pos: int, size: int) -> int:
        """A run of short acknowledgements of one type; where it ends."""
        head = data[pos : pos + 2]
        packet_ids = [data[pos + 2] << 8 | data[pos + 3]]
        pos += 4
        while pos + 4 <= size and data.startswith(head, pos):
            packet_ids.append(data[pos + 2] << 8 | data[pos + 3])
            pos += 4
        if 0 in packet_ids:
            raise MqttFault(Reason.PROTOCOL_ERROR, "an acknowledgement of packet id 0")
        self.handler.on_acks(SHORT_ACKS[head], packet_ids)
        return pos


def _length(data: bytes, pos: int, size: int) -> tuple[int, int]:
    """A variable byte integer (5.0 1.5.5): its value, and where it ends; (0, 0) if it is not whole yet."""
    value = shift = 0
    for at in range(pos, min(pos + 4, size)):
        byte = data[at]
        value |= (byte & 0x7F) << shift
        if not byte & 0x80:
            if at > pos and not byte:
                raise MqttFault(Reason.MALFORMED_PACKET, "a length in more bytes than it needs")
            return value, at + 1
        shift += 7
    if size - pos >= 4:
        raise MqttFault(Reason.MALFORMED_PACKET, "a length of more than four bytes")
    return 0, 0

"""An envelope as MQTT has it, worked out once for all its receivers; and PUBLISH packets made of it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from struct import Struct
from typing import TYPE_CHECKING

from leveret.adapters.mqtt.mapping import from_core, topic_of
from leveret.adapters.mqtt.packets import encode_remaining_length
from leveret.adapters.mqtt.property_codec import encode_properties
from leveret.adapters.mqtt.spec import Properties
from leveret.core.message import Envelope

if TYPE_CHECKING:
    from leveret.adapters.mqtt.topics import KeyMap
__all__ = [
    "BY_REFERENCE_BYTES",
    "RETAINED_COPY",
    "SHARED",
    "Fanout",
    "PublishView",
    "Shape",
    "marked_copy",
    "packer",
    "publish_packet",
    "publish_view_of",
]

BY_REFERENCE_BYTES = 8192  # payloads at least this large go to the socket without being copied into a packet
RETAINED_COPY = "x-mqtt-retained"  # header of a retained message that waits in the queue of a new subscriber
SHARED = "x-mqtt-shared"  # header of a message that came from a group: the subscription's filter
EMPTY = Properties()

# What of a PUBLISH depends on its receiver: is it version 5, is the retain flag set, subscription identifiers.
Shape = tuple[bool, bool, tuple[int, ...]]


class PublishView:
    """topic   as clients see it; topic_bytes is its wire form
    qos        as it was published; receivers get the lesser of this and what they were granted
    retain     as it was published
    properties of version 5, None if it has none; expiry_s is not among them
    origin     the session that published it, for No Local; None for other listeners
    shared     of a message that came from a group: the filter of that subscription
    """

    __slots__ = (
        "_properties_bytes", "expiry_s", "is_retained_copy", "origin", "properties", "qos", "retain", "shared",
        "topic", "topic_bytes",
    )  # fmt: skip

    def __init__(
        self,
        topic: str,
        qos: int,
        retain: bool,
        properties: Properties | None,
        expiry_s: int | None,
        origin: object | None = None,
        *,
        is_retained_copy: bool = False,
        shared: str | None = None,
    ) -> None:
        self.topic = topic
        raw = topic.encode()
        self.topic_bytes = len(raw).to_bytes(2, "big") + raw
        self.qos = qos
        self.retain = retain
        self.properties = properties
        self.expiry_s = expiry_s
        self.origin = origin
        self.is_retained_copy = is_retained_copy
        self.shared = shared
        self._properties_bytes: tuple[tuple[tuple[int, ...], int | None], bytes] | None = None

    def properties_bytes(self, identifiers: tuple[int, ...], expiry_s: int | None) -> bytes:
        """With their length. The last answer is kept: all receivers of a message tend to ask the same."""
        if self.properties is None and not identifiers and expiry_s is None:
            return b"\0"
        key = identifiers, expiry_s
        kept = self._properties_bytes
        if kept is not None and kept[0] == key:
            return kept[1]
        base = self.properties or EMPTY
        encoded = encode_properties(
            replace(base, subscription_identifiers=identifiers, message_expiry_s=expiry_s)
        )
        self._properties_bytes = key, encoded
        return encoded

    def aliased(self, alias: int, identifiers: tuple[int, ...], expiry_s: int | None) -> bytes:
        """The same with a topic alias."""
        return encode_properties(
            replace(
                self.properties or EMPTY,
                subscription_identifiers=identifiers,
                message_expiry_s=expiry_s,
                topic_alias=alias,
            )
        )


def publish_view_of(envelope: Envelope, keymap: KeyMap) -> PublishView | None:
    """Kept with the envelope. None: no topic that an MQTT client may see."""
    encoded = envelope.encoded
    if encoded is not None and "mqtt" in encoded:
        known: PublishView | None = encoded["mqtt"]
        return known
    topic = topic_of(envelope.routing_key, envelope.properties, keymap)
    view = None
    if topic is not None:
        facts = from_core(envelope.properties, keymap)
        expiry_s = None if envelope.expiration is None else envelope.expiration // 1000
        headers = envelope.properties.headers or {}
        shared = headers.get(SHARED)
        view = PublishView(
            topic, facts.qos, facts.retain, facts.properties, expiry_s,
            is_retained_copy=headers.get(RETAINED_COPY) is True, shared=shared if isinstance(shared, str) else None,
        )  # fmt: skip
    if encoded is None:
        encoded = envelope.encoded = {}
    encoded["mqtt"] = view
    return view


def marked_copy(
    envelope: Envelope, view: PublishView, header: str, value: bool | str, left_ms: int | None
) -> Envelope:
    """For one session's queue: with a header that says what it is (RETAINED_COPY, SHARED), and what is left of its
    expiry, milliseconds."""
    properties = replace(envelope.properties)
    properties.headers = {**(properties.headers or {}), header: value}
    properties.expiration = None if left_ms is None else str(left_ms)
    is_retained_copy = header == RETAINED_COPY
    copy = Envelope.of(envelope.exchange, envelope.routing_key, properties)
    copy.encoded = {
        "mqtt": PublishView(
            view.topic, view.qos, view.retain or is_retained_copy, view.properties, view.expiry_s,
            is_retained_copy=is_retained_copy, shared=value if isinstance(value, str) else None,
        )
    }  # fmt: skip
    return copy


class Fanout:
    """The packets of the last run, by shape: one encoding serves all receivers of QoS 0."""

    __slots__ = ("_bodies", "_packets", "_view")

    def __init__(self) -> None:
        self._view: PublishView | None = None
        self._bodies: Sequence[bytes] = ()
        self._packets: dict[Shape, bytes] = {}

    def packets(self, view: PublishView, bodies: Sequence[bytes], shape: Shape) -> bytes:
        if view is not self._view or bodies is not self._bodies:
            self._view, self._bodies = view, bodies
            self._packets.clear()
        else:
            kept = self._packets.get(shape)
            if kept is not None:
                return kept
        is_v5, retain, identifiers = shape
        middle = view.topic_bytes
        if is_v5:
            middle += view.properties_bytes(identifiers, view.expiry_s)
        first = b"\x31" if retain else b"\x30"
        pieces: list[bytes] = []
        size, head = -1, b""
        for body in bodies:
            if len(body) != size:
                size = len(body)
                head = first + encode_remaining_length(len(middle) + size) + middle
            pieces.append(head)
            pieces.append(body)
        packets = self._packets[shape] = b"".join(pieces)
        return packets

    def forget(self) -> None:
        """What was published last need not be kept."""
        self._view, self._bodies = None, ()
        self._packets.clear()


_packers: dict[tuple[int, int, int], Callable[..., bytes]] = {}  # by sizes of head, tail and payload; bounded


def packer(head: int, tail: int, size: int) -> Callable[..., bytes]:
    """pack(head, packet id, tail, payload)"""
    shape = (head, tail, size)
    found = _packers.get(shape)
    if found is None:
        if len(_packers) >= 1024:
            _packers.clear()
        found = _packers[shape] = Struct(f">{head}sH{tail}s{size}s").pack
    return found


def publish_packet(first: int, middle: bytes, packet_id: int, tail: bytes, payload: bytes) -> list[bytes]:
    """One PUBLISH; a large payload by reference. middle: the topic; tail: properties; packet_id 0: QoS 0."""
    head = b"".join((
        bytes((first,)),
        encode_remaining_length(len(middle) + (2 if packet_id else 0) + len(tail) + len(payload)),
        middle,
        packet_id.to_bytes(2, "big") if packet_id else b"",
        tail,
    ))  # fmt: skip
    return [head, payload] if len(payload) >= BY_REFERENCE_BYTES else [head + payload]

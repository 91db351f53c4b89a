"""The law of MQTT's codec: whatever the bytes, they are understood or they raise MqttFault, and nothing else.

What is understood holds: encoded again it is the same; and it goes through the core and comes back. It takes time in
proportion to its size.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.field_values import damaged

from leveret.adapters.mqtt.mapping import from_core, to_core, topic_of
from leveret.adapters.mqtt.packets import (
    ack,
    connack,
    decode_ack,
    decode_auth,
    decode_connect,
    decode_disconnect,
    decode_subscribe,
    decode_unsubscribe,
    disconnect,
    publish,
)
from leveret.adapters.mqtt.parser import PacketParser
from leveret.adapters.mqtt.property_codec import (
    decode_properties,
    decode_publish_properties,
    encode_properties,
)
from leveret.adapters.mqtt.spec import V3, V4, V5, MqttFault, PacketType, Properties, Reason
from leveret.adapters.mqtt.topics import FilterTree, KeyMap, check_filter, check_topic, matches, split_shared
from leveret.core.message import Envelope

versions = st.sampled_from([V3, V4, V5])
text = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=12)
numbers = st.integers(0, 3)
properties = st.builds(
    Properties,
    payload_format=st.none() | st.integers(0, 2),
    message_expiry_s=st.none() | numbers,
    content_type=st.none() | text,
    response_topic=st.none() | text,
    correlation_data=st.none() | st.binary(max_size=12),
    subscription_identifiers=st.lists(numbers, max_size=2).map(tuple),
    session_expiry_s=st.none() | numbers,
    auth_method=st.none() | text,
    auth_data=st.none() | st.binary(max_size=5),
    will_delay_s=st.none() | numbers,
    reason_string=st.none() | text,
    receive_maximum=st.none() | numbers,
    topic_alias=st.none() | numbers,
    user_properties=st.lists(st.tuples(text, text), max_size=3).map(tuple),
    maximum_packet_size=st.none() | numbers,
).map(encode_properties)
few_properties = st.one_of(st.just(b"\0"), properties)


def string(raw: str | bytes) -> bytes:
    data = raw.encode() if isinstance(raw, str) else raw
    return len(data).to_bytes(2, "big") + data


@st.composite
def connects(draw: st.DrawFn) -> bytes:
    """Most of them right, but for properties that do not belong there."""
    version, flags = draw(versions), draw(st.integers(0, 127)) << 1
    head = {V3: b"\0\6MQIsdp\3", V4: b"\0\4MQTT\4", V5: b"\0\4MQTT\5"}[version]
    parts = [
        head,
        bytes((flags,)),
        b"\0\x0a",
        draw(few_properties) if version == V5 else b"",
        string(draw(text)),
    ]
    if flags & 4:
        parts += [draw(few_properties) if version == V5 else b"", string(draw(text)), string(draw(text))]
    parts += [string(draw(text)) for flag in (0x80, 0x40) if flags & flag]
    return b"".join(parts)


@st.composite
def subscribes(draw: st.DrawFn, tail: st.SearchStrategy[bytes]) -> bytes:
    """SUBSCRIBE or UNSUBSCRIBE of one version or another."""
    parts = [
        draw(st.sampled_from([b"\0\1", b"\xff\xff", b"\0\0"])),
        draw(st.sampled_from([b"", b"\0"]) | properties),
    ]
    for _ in range(draw(st.integers(0, 3))):
        parts += [string(draw(text)), draw(tail)]
    return b"".join(parts)


acknowledgements = st.builds(
    lambda packet_id, reason, rest: packet_id + reason + rest,
    st.binary(min_size=2, max_size=2), st.binary(max_size=1), st.just(b"") | properties,
)  # fmt: skip
reasons = st.builds(bytes.__add__, st.binary(max_size=1), st.just(b"") | properties)


def understood(decode: Callable[[], Any]) -> Any:
    """What it is; None if it is nothing: then for a reason that can be told to any client."""
    try:
        return decode()
    except MqttFault as fault:
        reason = fault.reason
    assert disconnect(reason)[2] == connack(V5, reason)[3] == reason
    assert connack(V4, reason)[3] in range(1, 6)
    return None


def noisy(valid: st.SearchStrategy[bytes]) -> st.SearchStrategy[bytes]:
    return st.one_of(st.binary(max_size=80), valid, damaged(valid))


@given(noisy(few_properties), st.sampled_from(PacketType), st.booleans())
def test_properties(data: bytes, packet: PacketType, is_will: bool) -> None:
    found = understood(lambda: decode_properties(data, 0, packet, is_will=is_will))
    if found is None:
        return
    value, end = found
    assert end <= len(data)
    again = encode_properties(value)
    assert decode_properties(again, 0, packet, is_will=is_will) == (value, len(again))
    assert len(again) == end


@given(noisy(properties.map(lambda data: data[1:])))
def test_published_properties(raw: bytes) -> None:
    """What a client publishes goes into the core, on the disk, and comes back."""
    found = understood(lambda: decode_publish_properties(raw))
    if found is None:
        return
    for keymap in (KeyMap("none", False), KeyMap("percent", True)):
        envelope = Envelope.of(
            "amq.topic", "k", to_core(found, qos=2, retain=True, keymap=keymap, topic="a.b")
        )
        stored = Envelope("amq.topic", "k", envelope.header).properties
        facts = from_core(stored, keymap)
        assert (facts.qos, facts.retain) == (2, True)
        forwarded = facts.properties or Properties()
        for name in (
            "payload_format",
            "content_type",
            "response_topic",
            "correlation_data",
            "user_properties",
        ):
            assert getattr(forwarded, name) == getattr(found, name)
        assert topic_of(keymap.routing_key("a.b"), stored, keymap) == keymap.pattern("a.b")


@given(noisy(connects()))
def test_connect(payload: bytes) -> None:
    found = understood(lambda: decode_connect(payload))
    if found is not None:
        assert found.version in (V3, V4, V5)
        assert found.version == V5 or found.properties == Properties()
        assert found.will is None or found.will.qos < 3


@given(noisy(subscribes(st.binary(min_size=1, max_size=1))), versions, st.integers(0, 15))
def test_subscribe(payload: bytes, version: int, flags: int) -> None:
    for low in (2, flags):
        found = understood(lambda low=low: decode_subscribe(payload, version, low))  # type: ignore[misc]
        if found is not None:
            assert 0 < found.packet_id < 65536
            assert found.subscriptions
            assert all(one.qos < 3 and one.retain_handling < 3 for one in found.subscriptions)


@given(noisy(subscribes(st.just(b""))), versions, st.integers(0, 15))
def test_unsubscribe(payload: bytes, version: int, flags: int) -> None:
    for low in (2, flags):
        found = understood(lambda low=low: decode_unsubscribe(payload, version, low))  # type: ignore[misc]
        if found is not None:
            assert 0 < found.packet_id < 65536
            assert found.filters


@given(noisy(acknowledgements), versions)
def test_acknowledgements(payload: bytes, version: int) -> None:
    found = understood(lambda: decode_ack(payload, version))
    if found is not None:
        packet_id, reason = found
        again = ack(PacketType.PUBREC, packet_id, version, reason)
        assert decode_ack(again[2:], version) == (packet_id, reason)


@given(noisy(reasons), versions)
def test_disconnect_and_auth(payload: bytes, version: int) -> None:
    understood(lambda: decode_disconnect(payload, version))
    understood(lambda: decode_auth(payload))


def passes(check: Callable[[str], None], text: str) -> bool:
    try:
        check(text)
    except MqttFault:
        return False
    return True


wild = st.text(st.sampled_from("ab/+#$.*%2E\0\u20ac"), max_size=14) | st.sampled_from(
    ["$share/g/a", "$share//a", "$share/g/#", "$queue/a/+", "$share", "$queue/"]
)


@given(st.lists(wild, max_size=6), wild, st.sampled_from(["none", "percent"]), st.booleans())
def test_topics_and_filters(filters: list[str], topic: str, escape: str, sparkplug: bool) -> None:
    """Each text is a filter, a topic, both or none; keys come back as topics or not at all."""
    keymap = KeyMap(escape, sparkplug)
    back = keymap.topic(topic)
    if back is not None:
        check_topic(back)
    if not passes(check_topic, topic):
        return
    assert keymap.topic(keymap.routing_key(topic), topic) == keymap.pattern(topic)
    tree: FilterTree[str] = FilterTree()
    good = [one for one in dict.fromkeys(filters) if passes(check_filter, one)]
    for one in good:
        tree.add(one, one, one)
        keymap.binding_key(one)
        shared = understood(lambda one=one: split_shared(one))  # type: ignore[misc]
        if shared is not None:
            check_filter(shared[1])
    assert sorted(tree.match(topic)) == sorted(one for one in good if matches(one, topic))


class Decoding:
    """A parser's handler that decodes all it gets, as a connection does."""

    def __init__(self, version: int) -> None:
        self.version = version
        self.found: list[Any] = []

    def on_publish(
        self, flags: int, topic: bytes, properties: bytes, packet_ids: list[int], payloads: list[bytes]
    ) -> None:
        value = decode_publish_properties(properties)
        for number, payload in enumerate(payloads):
            self.found.append((flags, topic, value, packet_ids[number] if packet_ids else 0, payload))

    def on_acks(self, packet: PacketType, packet_ids: list[int]) -> None:
        self.found += [(packet, one) for one in packet_ids]

    def on_packet(self, first: int, payload: bytes) -> None:
        flags = first & 15
        match first >> 4:
            case PacketType.CONNECT:
                self.found.append(decode_connect(payload))
            case PacketType.SUBSCRIBE:
                self.found.append(decode_subscribe(payload, self.version, flags))
            case PacketType.UNSUBSCRIBE:
                self.found.append(decode_unsubscribe(payload, self.version, flags))
            case PacketType.DISCONNECT:
                self.found.append(decode_disconnect(payload, self.version))
            case PacketType.AUTH:
                self.found.append(decode_auth(payload))
            case PacketType.PUBACK | PacketType.PUBREC | PacketType.PUBREL | PacketType.PUBCOMP as packet:
                self.found.append((packet, *decode_ack(payload, self.version)))
            case _:
                self.found.append((first, payload))


def packet(first: int, payloads: st.SearchStrategy[bytes]) -> st.SearchStrategy[bytes]:
    return payloads.map(lambda payload: bytes((first,)) + _varint(len(payload)) + payload)


def _varint(value: int) -> bytes:
    out = b""
    while value >= 128:
        out, value = out + bytes((value & 127 | 128,)), value >> 7
    return out + bytes((value,))


streams = st.lists(
    st.one_of(
        packet(0x10, connects()),
        packet(0x82, subscribes(st.sampled_from([b"\0", b"\1", b"\2"]))),
        packet(0xA2, subscribes(st.just(b""))),
        packet(0x40, acknowledgements),
        packet(0x62, acknowledgements),
        packet(0xE0, reasons),
        st.builds(
            publish,
            versions,
            text,
            st.binary(max_size=20),
            st.integers(0, 2),
            packet_id=st.integers(1, 65535),
        ),
        st.just(b"\xc0\0"),
    ),
    max_size=4,
).map(b"".join)


@given(noisy(streams), versions)
def test_streams_whole_and_byte_by_byte(data: bytes, version: int) -> None:
    """However it is cut, the same is found, and then the same is wrong; of a run with a mistake in it nothing need be."""
    results = []
    for pieces in ([data], [data[at : at + 1] for at in range(len(data))]):
        handler = Decoding(version)
        parser = PacketParser(handler, 200)
        parser.version = version
        reason: Reason | None = None
        try:
            for piece in pieces:
                parser.feed(piece)
        except MqttFault as fault:
            reason = fault.reason
        results.append((handler.found, reason))
    (whole, reason), (by_byte, same_reason) = results
    assert reason == same_reason
    assert whole == (by_byte if reason is None else by_byte[: len(whole)])


MEGABYTE = 1 << 20


@pytest.mark.parametrize(
    ("decode", "unit"),
    [
        pytest.param(lambda data: decode_publish_properties(data), b"\x26\0\0\0\0", id="empty user properties"),
        pytest.param(lambda data: decode_publish_properties(data), b"\x0b\1", id="subscription identifiers"),
        pytest.param(lambda data: decode_subscribe(b"\0\1\0" + data, V5, 2), b"\0\0\0", id="empty filters"),
        pytest.param(lambda data: decode_subscribe(b"\0\1" + data, V4, 2), b"\xff\xff" + b"/" * 65535 + b"\0", id="levels"),
        pytest.param(lambda data: decode_unsubscribe(b"\0\1" + data, V4, 2), b"\0\0", id="empty filters, unsubscribe"),
        pytest.param(lambda data: decode_connect(b"\0\4MQTT\4\2\0\0" + data), b"\0\0", id="CONNECT and more"),
    ],
)  # fmt: skip
def test_time_is_in_proportion(decode: Callable[[bytes], Any], unit: bytes) -> None:
    """Sixteen times as much takes sixteen times as long, not the square of it: a second is plenty for a megabyte."""
    data = unit * (MEGABYTE // len(unit))
    begun = time.perf_counter()
    understood(lambda: decode(data))
    assert time.perf_counter() - begun < 10


def test_time_of_filters_and_topics() -> None:
    """The longest there are, and as many wildcards as fit."""
    filter, topic = "+/" * 32767 + "#", "a/" * 32767 + "b"
    begun = time.perf_counter()
    for _ in range(20):
        check_filter(filter)
        check_topic(topic)
        assert matches(filter, topic)
        assert not matches(filter[:-1] + "c", topic)
    for escape in ("none", "percent"):
        keymap = KeyMap(escape, True)
        assert keymap.topic(keymap.routing_key(topic)) == topic
        keymap.binding_key(filter)
    assert time.perf_counter() - begun < 10

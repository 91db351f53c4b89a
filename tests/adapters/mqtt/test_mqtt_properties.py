"""MQTT 5.0 properties: bytes and their meaning, what belongs where, and every way to be wrong (2.2.2, table 2-4)."""

from __future__ import annotations

from dataclasses import fields, replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from leveret.adapters.mqtt.property_codec import (
    decode_properties,
    decode_publish_properties,
    encode_properties,
    read_string,
    read_varint,
    varint,
)
from leveret.adapters.mqtt.spec import MqttFault, PacketType, Properties, Reason

MALFORMED, PROTOCOL = Reason.MALFORMED_PACKET, Reason.PROTOCOL_ERROR
CONNECT, CONNACK, PUBLISH, SUBSCRIBE = (
    PacketType.CONNECT, PacketType.CONNACK, PacketType.PUBLISH, PacketType.SUBSCRIBE,
)  # fmt: skip
WILL = "will"

# Written from table 2-4 of the specification: field, identifier, one encoded value, the value, where it may be.
ACKS = {
    PacketType.PUBACK, PacketType.PUBREC, PacketType.PUBREL, PacketType.PUBCOMP, PacketType.SUBACK, PacketType.UNSUBACK,
}  # fmt: skip
DISCONNECT, AUTH = PacketType.DISCONNECT, PacketType.AUTH
ANYWHERE = {CONNECT, CONNACK, PUBLISH, WILL, SUBSCRIBE, PacketType.UNSUBSCRIBE, DISCONNECT, AUTH} | ACKS
TABLE: list[tuple[str, int, bytes, Any, set[Any]]] = [
    ("payload_format", 1, b"\1", 1, {PUBLISH, WILL}),
    ("message_expiry_s", 2, b"\0\0\1\0", 256, {PUBLISH, WILL}),
    ("content_type", 3, b"\0\3a/b", "a/b", {PUBLISH, WILL}),
    ("response_topic", 8, b"\0\3r/t", "r/t", {PUBLISH, WILL}),
    ("correlation_data", 9, b"\0\2\xff\0", b"\xff\0", {PUBLISH, WILL}),
    ("subscription_identifiers", 11, b"\x80\1", (128,), {PUBLISH, SUBSCRIBE}),
    ("session_expiry_s", 17, b"\xff\xff\xff\xff", 0xFFFFFFFF, {CONNECT, CONNACK, DISCONNECT}),
    ("assigned_client_id", 18, b"\0\2id", "id", {CONNACK}),
    ("server_keep_alive_s", 19, b"\0\x3c", 60, {CONNACK}),
    ("auth_method", 21, b"\0\1m", "m", {CONNECT, CONNACK, AUTH}),
    ("auth_data", 22, b"\0\1\xfe", b"\xfe", {CONNECT, CONNACK, AUTH}),
    ("request_problem_information", 23, b"\0", 0, {CONNECT}),
    ("will_delay_s", 24, b"\0\0\0\5", 5, {WILL}),
    ("request_response_information", 25, b"\1", 1, {CONNECT}),
    ("response_information", 26, b"\0\2r/", "r/", {CONNACK}),
    ("server_reference", 28, b"\0\1s", "s", {CONNACK, DISCONNECT}),
    ("reason_string", 31, b"\0\3why", "why", {CONNACK, DISCONNECT, AUTH} | ACKS),
    ("receive_maximum", 33, b"\0\x0a", 10, {CONNECT, CONNACK}),
    ("topic_alias_maximum", 34, b"\0\0", 0, {CONNECT, CONNACK}),
    ("topic_alias", 35, b"\0\3", 3, {PUBLISH}),
    ("maximum_qos", 36, b"\1", 1, {CONNACK}),
    ("retain_available", 37, b"\0", 0, {CONNACK}),
    ("user_properties", 38, b"\0\1k\0\1v", (("k", "v"),), ANYWHERE),
    ("maximum_packet_size", 39, b"\0\1\0\0", 65536, {CONNECT, CONNACK}),
    ("wildcard_subscriptions_available", 40, b"\0", 0, {CONNACK}),
    ("subscription_identifiers_available", 41, b"\1", 1, {CONNACK}),
    ("shared_subscriptions_available", 42, b"\0", 0, {CONNACK}),
]
NAMES = [row[0] for row in TABLE]


def decode(raw: bytes, packet: Any = PUBLISH) -> Properties:
    """Properties without their length, of a packet or a will, decoded to the last byte."""
    data = varint(len(raw)) + raw
    is_will = packet == WILL
    found, end = decode_properties(data, 0, CONNECT if is_will else packet, is_will=is_will)
    assert end == len(data)
    return found


def fault(raw: bytes, packet: Any = PUBLISH) -> Reason:
    with pytest.raises(MqttFault) as caught:
        decode(raw, packet)
    return caught.value.reason


def test_the_table_is_complete() -> None:
    assert set(NAMES) == {field.name for field in fields(Properties)}


@pytest.mark.parametrize(("name", "identifier", "raw", "value", "places"), TABLE, ids=NAMES)
def test_each_property(name: str, identifier: int, raw: bytes, value: Any, places: set[Any]) -> None:
    """2.2.2.2: read where it belongs, refused as malformed elsewhere; written as it was read; cut off at no place."""
    encoded = bytes((identifier,)) + raw
    expected = replace(Properties(), **{name: value})
    for place in [*PacketType, WILL]:
        if place in places:
            assert decode(encoded, place) == expected
        else:
            assert fault(encoded, place) == MALFORMED
    assert encode_properties(expected) == varint(len(encoded)) + encoded
    for size in range(1, len(encoded)):
        assert fault(encoded[:size], next(iter(places))) == MALFORMED


@pytest.mark.parametrize(("name", "identifier", "raw", "value", "places"), TABLE, ids=NAMES)
def test_each_property_twice(name: str, identifier: int, raw: bytes, value: Any, places: set[Any]) -> None:
    """A protocol error, but for user properties, and subscription identifiers of a server's PUBLISH (3.3.2.3.8)."""
    twice = (bytes((identifier,)) + raw) * 2
    for place in places:
        if name == "user_properties" or (name == "subscription_identifiers" and place == PUBLISH):
            assert getattr(decode(twice, place), name) == value * 2
        else:
            assert fault(twice, place) == PROTOCOL


@pytest.mark.parametrize(
    ("raw", "packet"),
    [
        pytest.param(b"\x01\x02", PUBLISH, id="payload format 2"),
        pytest.param(b"\x08\0\0", PUBLISH, id="MQTT-4.7.3-1 empty response topic"),
        pytest.param(b"\x08\0\3a/+", PUBLISH, id="MQTT-3.3.2-14 response topic with +"),
        pytest.param(b"\x08\0\1#", WILL, id="MQTT-3.3.2-14 response topic with #, of a will"),
        pytest.param(b"\x0b\0", SUBSCRIBE, id="3.8.2.1.2 subscription identifier 0"),
        pytest.param(b"\x21\0\0", CONNECT, id="3.1.2.11.3 receive maximum 0"),
        pytest.param(b"\x27\0\0\0\0", CONNECT, id="3.1.2.11.4 maximum packet size 0"),
        pytest.param(b"\x19\2", CONNECT, id="3.1.2.11.6 request response information 2"),
        pytest.param(b"\x17\2", CONNECT, id="3.1.2.11.7 request problem information 2"),
    ],
)
def test_values_that_are_protocol_errors(raw: bytes, packet: Any) -> None:
    assert fault(raw, packet) == PROTOCOL


@pytest.mark.parametrize("packet", [*PacketType, WILL])
@pytest.mark.parametrize("identifier", [0, 4, 5, 7, 10, 12, 20, 27, 43, 127, 128, 255])
def test_identifiers_that_are_none(identifier: int, packet: Any) -> None:
    assert fault(bytes((identifier, 0, 0, 0, 0)), packet) == MALFORMED


STRINGS = [
    pytest.param(b"\xc3\xa9\xe2\x82\xac\xf0\x9f\x90\x87", "\u00e9\u20ac\U0001f407", id="of all lengths"),
    pytest.param(b"\xef\xbb\xbfa", "\ufeffa", id="MQTT-1.5.4-3 MQTT-1.4.0-3 U+FEFF is kept"),
    pytest.param(b"\x01\x7f\xc2\x9f", "\x01\x7f\x9f", id="1.5.4 control characters may be"),
    pytest.param(b"\xef\xbf\xbf", "\uffff", id="1.5.4 non-characters may be"),
    pytest.param(b"a" * 65535, "a" * 65535, id="the longest"),
]


@pytest.mark.parametrize(("raw", "text"), STRINGS)
def test_strings(raw: bytes, text: str) -> None:
    assert read_string(len(raw).to_bytes(2, "big") + raw, 0) == (text, len(raw) + 2)
    found = decode(b"\x03" + len(raw).to_bytes(2, "big") + raw)
    assert found.content_type == text
    assert decode_properties(encode_properties(found), 0, PUBLISH)[0] == found


@pytest.mark.parametrize("place", [b"\x03%b", b"\x08%b", b"\x26%b\0\0", b"\x26\0\0%b"])
@pytest.mark.parametrize(
    "raw",
    [
        pytest.param(b"\xff", id="MQTT-1.5.4-1 MQTT-1.4.0-1 no UTF-8"),
        pytest.param(b"\xed\xa0\x80", id="MQTT-1.5.4-1 MQTT-1.4.0-1 high surrogate"),
        pytest.param(b"\xed\xbf\xbf", id="MQTT-1.5.4-1 MQTT-1.4.0-1 low surrogate"),
        pytest.param(b"\xed\xa0\xbd\xed\xb0\x87", id="MQTT-1.5.4-1 pair of surrogates"),
        pytest.param(b"\xc0\x80", id="MQTT-1.5.4-1 NUL in two bytes"),
        pytest.param(b"\xf4\x90\x80\x80", id="MQTT-1.5.4-1 above U+10FFFF"),
        pytest.param(b"\xe2\x82", id="MQTT-1.5.4-1 cut off"),
        pytest.param(b"a\0b", id="MQTT-1.5.4-2 MQTT-1.4.0-2 NUL"),
    ],
)
def test_strings_that_are_malformed(place: bytes, raw: bytes) -> None:
    assert fault(place.replace(b"%b", len(raw).to_bytes(2, "big") + raw)) == MALFORMED


@pytest.mark.parametrize(
    ("value", "raw"),
    [
        (0, b"\0"), (127, b"\x7f"), (128, b"\x80\1"), (16383, b"\xff\x7f"), (16384, b"\x80\x80\1"),
        (2097151, b"\xff\xff\x7f"), (2097152, b"\x80\x80\x80\1"), (268435455, b"\xff\xff\xff\x7f"),
    ],
)  # fmt: skip
def test_variable_byte_integers(value: int, raw: bytes) -> None:
    """1.5.5, table 1-1."""
    assert varint(value) == raw
    assert read_varint(b"?" + raw + b"?", 1) == (value, 1 + len(raw))


@pytest.mark.parametrize(
    "raw",
    [
        pytest.param(b"", id="nothing"),
        pytest.param(b"\x80", id="cut off"),
        pytest.param(b"\xff\xff\xff", id="cut off after three"),
        pytest.param(b"\xff\xff\xff\xff\x7f", id="five bytes"),
        pytest.param(b"\x80\x80\x80\x80", id="no end"),
        pytest.param(b"\x80\0", id="MQTT-1.5.5-1 0 in two bytes"),
        pytest.param(b"\xff\x80\0", id="MQTT-1.5.5-1 127 in three bytes"),
    ],
)
def test_variable_byte_integers_that_are_malformed(raw: bytes) -> None:
    with pytest.raises(MqttFault) as caught:
        read_varint(raw, 0)
    assert caught.value.reason == MALFORMED
    with pytest.raises(MqttFault) as caught:
        decode_properties(raw, 0, CONNECT)
    assert caught.value.reason == MALFORMED


def test_no_properties_are_one_byte() -> None:
    """[MQTT-2.2.2-1]"""
    assert encode_properties(Properties()) == b"\0"
    assert decode_properties(b"?\0?", 1, CONNECT) == (Properties(), 2)
    assert decode_publish_properties(b"") == Properties()


def test_the_length_counts() -> None:
    found, end = decode_properties(b"\2\x01\1\x01\1", 0, PUBLISH)
    assert (found, end) == (Properties(payload_format=1), 3)
    with pytest.raises(MqttFault) as caught:
        decode_properties(b"\3\x01\1", 0, PUBLISH)
    assert caught.value.reason == MALFORMED


def test_a_value_stays_within_the_properties() -> None:
    """What is behind them is no part of them, even if it is there."""
    with pytest.raises(MqttFault) as caught:
        decode_properties(b"\3\x03\0\5hello", 0, PUBLISH)
    assert caught.value.reason == MALFORMED


def test_user_properties_keep_their_order() -> None:
    """[MQTT-3.3.2-18]: names may repeat, and the order is kept."""
    raw = b"".join(
        b"\x26\0\1" + name + b"\0\1" + text for name, text in [(b"b", b"1"), (b"a", b"2"), (b"b", b"1")]
    )
    found = decode_publish_properties(raw)
    assert found.user_properties == (("b", "1"), ("a", "2"), ("b", "1"))
    assert encode_properties(found)[1:] == raw


def test_order_does_not_matter() -> None:
    """2.2.2.2"""
    pieces = [b"\x01\1", b"\x02\0\0\0\7", b"\x03\0\1t"]
    assert decode(b"".join(pieces)) == decode(b"".join(reversed(pieces)))


def test_texts_of_ours_that_fit_no_string() -> None:
    """Reason strings may have been made of anything; they are cut, between characters, and never fail."""
    for text in ("x" * 70000, "\u20ac" * 30000, "\udcff"):
        data = encode_properties(Properties(reason_string=text))
        found, end = decode_properties(data, 0, DISCONNECT)
        assert end == len(data)
        assert found.reason_string == ("?" if text == "\udcff" else text[: len(found.reason_string or "")])


text = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=40)
topic = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0+#"), min_size=1, max_size=40)
u32 = st.integers(0, 0xFFFFFFFF)
published = st.builds(
    Properties,
    payload_format=st.none() | st.integers(0, 1),
    message_expiry_s=st.none() | u32,
    content_type=st.none() | text,
    response_topic=st.none() | topic,
    correlation_data=st.none() | st.binary(max_size=300),
    subscription_identifiers=st.lists(st.integers(1, 268435455), max_size=4).map(tuple),
    topic_alias=st.none() | st.integers(1, 65535),
    user_properties=st.lists(st.tuples(text, text), max_size=6).map(tuple),
)


@given(published, st.binary(max_size=20), st.binary(max_size=20))
def test_round_trip(properties: Properties, before: bytes, behind: bytes) -> None:
    data = encode_properties(properties)
    found, end = decode_properties(before + data + behind, len(before), PUBLISH)
    assert (found, end) == (properties, len(before) + len(data))
    _, start = read_varint(data, 0)
    assert decode_publish_properties(data[start:]) == properties

"""MQTT packets that are no hot path: transcripts of bytes, by the statements of 3.1.1 and 5.0 that ask for them."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from leveret.adapters.mqtt.packets import (
    PINGRESP,
    ack,
    connack,
    decode_ack,
    decode_auth,
    decode_connect,
    decode_disconnect,
    decode_subscribe,
    decode_unsubscribe,
    disconnect,
    encode_remaining_length,
    publish,
    suback,
    unsuback,
)
from leveret.adapters.mqtt.parser import PacketParser
from leveret.adapters.mqtt.property_codec import decode_publish_properties
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

MALFORMED, PROTOCOL = Reason.MALFORMED_PACKET, Reason.PROTOCOL_ERROR
UNSUPPORTED = Reason.UNSUPPORTED_PROTOCOL_VERSION
ALL = [pytest.param(V3, id="3.1"), pytest.param(V4, id="3.1.1"), pytest.param(V5, id="5.0")]
HEADS = {V3: b"\0\6MQIsdp\3", V4: b"\0\4MQTT\4", V5: b"\0\4MQTT\5"}


def fault(decode: Callable[[], object]) -> Reason:
    with pytest.raises(MqttFault) as caught:
        decode()
    assert caught.value.text
    assert len(caught.value.text) < 200
    return caught.value.reason


def connect(
    version: int, flags: int, payload: bytes, properties: bytes = b"\0", keep_alive: bytes = b"\0\x0a"
) -> bytes:
    """CONNECT's variable header and payload."""
    return HEADS[version] + bytes((flags,)) + keep_alive + (properties if version == V5 else b"") + payload


# -- CONNECT


@pytest.mark.parametrize("version", ALL)
def test_a_plain_connect(version: int) -> None:
    """[MQTT-3.1.3-3] the client id is all that must be there."""
    found = decode_connect(connect(version, 2, b"\0\2me"))
    assert found == Connect(version, "me", True, 10, None, None, None)
    found = decode_connect(connect(version, 0, b"\0\0", keep_alive=b"\xff\xff"))
    assert found == Connect(version, "", False, 65535, None, None, None)


@pytest.mark.parametrize("version", ALL)
def test_a_full_connect(version: int) -> None:
    """[MQTT-3.1.3-1] client id, will properties, topic and message, user name, password, in this order."""
    will_properties = b"\5\x18\0\0\0\1" if version == V5 else b""
    payload = b"\0\2me" + will_properties + b"\0\3w/t\0\2\xff\0" + b"\0\1u" + b"\0\2\0p"
    found = decode_connect(connect(version, 0b11110110, payload, b"\x05\x11\0\0\0\x64"))
    expected = Properties(will_delay_s=1) if version == V5 else Properties()
    assert found.will == Will("w/t", b"\xff\0", 2, True, expected)
    assert (found.username, found.password) == ("u", b"\0p")
    assert found.properties == (Properties(session_expiry_s=100) if version == V5 else Properties())
    assert found.clean_start
    assert "p'" not in repr(found)  # a password is in no log


@pytest.mark.parametrize("version", ALL)
def test_a_bridge_says_so_in_the_level(version: int) -> None:
    head = HEADS[version]
    data = connect(version, 2, b"\0\0").replace(head, head[:-1] + bytes((head[-1] | 0x80,)))
    found = decode_connect(data)
    assert found.is_bridge
    assert found.version == version


@pytest.mark.parametrize(
    "head",
    [
        pytest.param(b"\0\4mqtt\4", id="MQTT-3.1.2-1 name in small letters"),
        pytest.param(b"\0\4AMQP\0", id="MQTT-3.1.2-1 another protocol"),
        pytest.param(b"\0\0\4", id="MQTT-3.1.2-1 no name"),
        pytest.param(b"\0\4MQTT\0", id="MQTT-3.1.2-2 level 0"),
        pytest.param(b"\0\4MQTT\3", id="MQTT-3.1.2-2 level 3"),
        pytest.param(b"\0\4MQTT\6", id="MQTT-3.1.2-2 level 6"),
        pytest.param(b"\0\4MQTT\xff", id="MQTT-3.1.2-2 level 255"),
        pytest.param(b"\0\6MQIsdp\4", id="MQTT-3.1.2-2 the old name with level 4"),
        pytest.param(b"\x40\0" + b"x" * 0x4000 + b"\5", id="a name without end"),
    ],
)
def test_other_protocols_and_levels(head: bytes) -> None:
    assert fault(lambda: decode_connect(head + b"\2\0\x0a\0\0\0")) == UNSUPPORTED


FLAGS = [
    (V4, 0b00000011, MALFORMED, "3.1.1 MQTT-3.1.2-3 reserved flag"),
    (V5, 0b00000011, MALFORMED, "5.0 MQTT-3.1.2-3 reserved flag"),
    (V4, 0b00001010, MALFORMED, "3.1.1 MQTT-3.1.2-11 MQTT-3.1.2-13 QoS of no will"),
    (V5, 0b00001010, MALFORMED, "5.0 MQTT-3.1.2-11 QoS of no will"),
    (V4, 0b00100010, MALFORMED, "3.1.1 MQTT-3.1.2-15 retain of no will"),
    (V5, 0b00100010, MALFORMED, "5.0 MQTT-3.1.2-13 retain of no will"),
    (V4, 0b00011110, MALFORMED, "3.1.1 MQTT-3.1.2-14 will QoS 3"),
    (V5, 0b00011110, MALFORMED, "5.0 MQTT-3.1.2-12 will QoS 3"),
    (V3, 0b00011110, MALFORMED, "3.1 will QoS 3"),
    (V4, 0b01000010, MALFORMED, "3.1.1 MQTT-3.1.2-22 password without user name"),
    (V3, 0b01000010, MALFORMED, "3.1 password without user name"),
]


@pytest.mark.parametrize(("version", "flags", "reason"), [pytest.param(*row[:3], id=row[3]) for row in FLAGS])
def test_connect_flags(version: int, flags: int, reason: Reason) -> None:
    will = (b"\0" if version == V5 else b"") + b"\0\1t\0\1m" if flags & 4 else b""
    assert fault(lambda: decode_connect(connect(version, flags, b"\0\0" + will + b"\0\1p"))) == reason


def test_a_password_alone_is_fine_in_version_5() -> None:
    """3.1.2.9, non-normative comment."""
    found = decode_connect(connect(V5, 0b01000010, b"\0\0\0\1p"))
    assert (found.username, found.password) == (None, b"p")


PRESENCE = [
    (V4, 0b00000010, b"\0\2me\0\1u", "3.1.1 MQTT-3.1.2-18 user name without flag"),
    (V5, 0b00000010, b"\0\2me\0\1u", "5.0 MQTT-3.1.2-16 user name without flag"),
    (V4, 0b10000010, b"\0\2me", "3.1.1 MQTT-3.1.2-19 no user name"),
    (V5, 0b10000010, b"\0\2me", "5.0 MQTT-3.1.2-17 no user name"),
    (V4, 0b10000010, b"\0\2me\0\1u\0\1p", "3.1.1 MQTT-3.1.2-20 password without flag"),
    (V5, 0b10000010, b"\0\2me\0\1u\0\1p", "5.0 MQTT-3.1.2-18 password without flag"),
    (V4, 0b11000010, b"\0\2me\0\1u", "3.1.1 MQTT-3.1.2-21 no password"),
    (V5, 0b11000010, b"\0\2me\0\1u", "5.0 MQTT-3.1.2-19 no password"),
    (V4, 0b00000110, b"\0\2me", "3.1.1 MQTT-3.1.2-9 no will"),
    (V5, 0b00000110, b"\0\2me", "5.0 MQTT-3.1.2-9 no will"),
    (V4, 0b00000110, b"\0\2me\0\1t", "3.1.1 MQTT-3.1.2-9 no will message"),
    (V5, 0b00000110, b"\0\2me\0\0\1t", "5.0 MQTT-3.1.2-9 no will message"),
    (V4, 0b00000010, b"", "3.1.1 MQTT-3.1.3-3 no client id"),
    (V5, 0b00000010, b"", "5.0 MQTT-3.1.3-3 no client id"),
    (V4, 0b00000010, b"\0\2\xff\xfe", "3.1.1 MQTT-3.1.3-4 client id"),
    (V5, 0b00000010, b"\0\2\xff\xfe", "5.0 MQTT-3.1.3-4 client id"),
    (V4, 0b00000110, b"\0\0\0\3\xed\xa0\x80\0\0", "3.1.1 MQTT-3.1.3-10 will topic"),
    (V5, 0b00000110, b"\0\0\0\0\3\xed\xa0\x80\0\0", "5.0 MQTT-3.1.3-11 will topic"),
    (V4, 0b10000010, b"\0\0\0\1\0", "3.1.1 MQTT-3.1.3-11 user name with NUL"),
    (V5, 0b10000010, b"\0\0\0\1\0", "5.0 MQTT-3.1.3-12 user name with NUL"),
    (V4, 0b00000010, b"\0\2me\0", "3.1.1 MQTT-3.1.4-1 one byte too much"),
    (V5, 0b00000010, b"\0\2me\0", "5.0 MQTT-3.1.4-1 one byte too much"),
    (V3, 0b00000010, b"\0\2me\0", "3.1 one byte too much"),
]


@pytest.mark.parametrize(
    ("version", "flags", "payload"), [pytest.param(*row[:3], id=row[3]) for row in PRESENCE]
)
def test_connect_payload(version: int, flags: int, payload: bytes) -> None:
    assert fault(lambda: decode_connect(connect(version, flags, payload))) == MALFORMED


@pytest.mark.parametrize("version", ALL)
def test_connect_cut_anywhere(version: int) -> None:
    """[MQTT-3.1.4-1]. But of 3.1 the user name and password may be missing, whatever the flags say (3.1, CONNECT)."""
    payload = b"\0\2me" + (b"\0" if version == V5 else b"") + b"\0\1t\0\1m\0\1u\0\1p"
    data = connect(version, 0b11000110, payload)
    decode_connect(data)
    missing = [len(data) - 3, len(data) - 6] if version == V3 else []
    for size in range(len(data)):
        if size in missing:
            found = decode_connect(data[:size])
            assert found.password is None
            assert found.username == (None if size == missing[1] else "u")
        else:
            assert fault(lambda size=size: decode_connect(data[:size])) == MALFORMED  # type: ignore[misc]


def test_connect_properties() -> None:
    """3.1.2.11.10: authentication data needs a method; 3.1.3.2: what is no property of a will is malformed there."""
    assert fault(lambda: decode_connect(connect(V5, 2, b"\0\0", b"\4\x16\0\1d"))) == PROTOCOL
    found = decode_connect(connect(V5, 2, b"\0\0", b"\x08\x15\0\1m\x16\0\1d"))
    assert (found.properties.auth_method, found.properties.auth_data) == ("m", b"d")
    assert (
        fault(lambda: decode_connect(connect(V5, 6, b"\0\0" + b"\5\x11\0\0\0\1" + b"\0\1t\0\0"))) == MALFORMED
    )
    assert fault(lambda: decode_connect(connect(V5, 2, b"\0\0", b"\5\x18\0\0\0\1"))) == MALFORMED


# -- CONNACK


RETURN_CODES = [
    (Reason.SUCCESS, 0), (Reason.UNSUPPORTED_PROTOCOL_VERSION, 1), (Reason.CLIENT_IDENTIFIER_NOT_VALID, 2),
    (Reason.SERVER_UNAVAILABLE, 3), (Reason.QUOTA_EXCEEDED, 3), (Reason.SERVER_BUSY, 3), (Reason.USE_ANOTHER_SERVER, 3),
    (Reason.BAD_USER_NAME_OR_PASSWORD, 4), (Reason.NOT_AUTHORIZED, 5), (Reason.BANNED, 5),
]  # fmt: skip


@pytest.mark.parametrize(("reason", "code"), RETURN_CODES)
def test_connack_of_version_3(reason: Reason, code: int) -> None:
    """3.1.1 table 3.1. [MQTT-3.2.2-4] no session present with a refusal; 3.1 has no such flag at all."""
    assert connack(V4, reason) == bytes((0x20, 2, 0, code))
    assert connack(V4, reason, True) == bytes((0x20, 2, not code, code))
    assert connack(V3, reason, True) == bytes((0x20, 2, 0, code))
    assert connack(V4, reason, False, Properties(reason_string="no")) == bytes((0x20, 2, 0, code))


def test_every_reason_has_a_return_code() -> None:
    """[MQTT-3.2.2-6] of 3.1.1: nothing but 0 to 5."""
    for reason in Reason:
        assert connack(V4, reason)[3] in range(6)
        assert bool(connack(V4, reason)[3]) == bool(reason)


def test_connack_of_version_5() -> None:
    """[MQTT-3.2.2-1] flags, [MQTT-3.2.2-6] no session present with a refusal, [MQTT-3.2.2-8] the reason itself."""
    assert connack(V5, Reason.SUCCESS) == b"\x20\3\0\0\0"
    assert connack(V5, Reason.SUCCESS, True) == b"\x20\3\1\0\0"
    assert connack(V5, Reason.QUOTA_EXCEEDED, True) == b"\x20\3\0\x97\0"
    properties = Properties(assigned_client_id="x", receive_maximum=10)
    assert connack(V5, Reason.SUCCESS, False, properties) == b"\x20\x0a\0\0\7\x12\0\1x\x21\0\x0a"


# -- SUBSCRIBE, UNSUBSCRIBE


@pytest.mark.parametrize("version", ALL)
def test_subscribe(version: int) -> None:
    """3.1.1 figure 3.23: a/b with QoS 1 and c/d with QoS 2."""
    properties = b"\0" if version == V5 else b""
    data = b"\0\x0a" + properties + b"\0\3a/b\1\0\3c/d\2"
    assert decode_subscribe(data, version, 2) == Subscribe(
        10, (Subscription("a/b", 1), Subscription("c/d", 2))
    )


def test_subscription_options_and_identifier() -> None:
    """5.0 3.8.2.1.2, 3.8.3.1"""
    data = b"\xff\xff\3\x0b\x80\2" + b"\0\1#\x2e" + b"\0\1a\x10"
    found = decode_subscribe(data, V5, 2)
    assert found.packet_id == 65535
    assert found.subscriptions == (
        Subscription("#", 2, True, True, 2, 256),
        Subscription("a", 0, False, False, 1, 256),
    )


@pytest.mark.parametrize("version", ALL)
@pytest.mark.parametrize("text", ["", "a/#/b", "a+", "$share/g", "$share//x", "$share/+/x"])
def test_filters_that_are_none_are_kept(version: int, text: str) -> None:
    """They are answered one by one, in SUBACK and UNSUBACK."""
    head = b"\0\1" + (b"\0" if version == V5 else b"")
    string = len(text).to_bytes(2, "big") + text.encode()
    assert decode_subscribe(head + string + b"\0", version, 2).subscriptions[0].filter == text
    assert decode_unsubscribe(head + string, version, 2).filters == (text,)


@pytest.mark.parametrize("version", ALL)
def test_unsubscribe(version: int) -> None:
    """3.1.1 figure 3.30: a/b and c/d."""
    data = b"\0\x0a" + (b"\0" if version == V5 else b"") + b"\0\3a/b\0\3c/d"
    assert decode_unsubscribe(data, version, 2) == Unsubscribe(10, ("a/b", "c/d"))


@pytest.mark.parametrize("version", ALL)
@pytest.mark.parametrize("flags", range(16))
def test_flags_of_subscribe_and_unsubscribe(version: int, flags: int) -> None:
    """[MQTT-2.2.2-2] [MQTT-3.8.1-1] [MQTT-3.10.1-1] [MQTT-2.1.3-1]; 3.1 has DUP there."""
    data = b"\0\1" + (b"\0" if version == V5 else b"") + b"\0\1a"
    if flags == 2 or (version == V3 and flags == 10):
        decode_subscribe(data + b"\0", version, flags)
        decode_unsubscribe(data, version, flags)
    else:
        assert fault(lambda: decode_subscribe(data + b"\0", version, flags)) == MALFORMED
        assert fault(lambda: decode_unsubscribe(data, version, flags)) == MALFORMED


SUBSCRIBES = [
    (V4, b"\0\0" + b"\0\1a\0", PROTOCOL, "3.1.1 MQTT-2.3.1-1 packet id 0"),
    (V5, b"\0\0\0" + b"\0\1a\0", PROTOCOL, "5.0 MQTT-2.2.1-3 packet id 0"),
    (V4, b"\0\1", PROTOCOL, "3.1.1 MQTT-3.8.3-3 no filter"),
    (V5, b"\0\1\0", PROTOCOL, "5.0 MQTT-3.8.3-2 no filter"),
    (V4, b"\0\1" + b"\0\1\xff\0", MALFORMED, "3.1.1 MQTT-3.8.3-1 filter is not UTF-8"),
    (V5, b"\0\1\0" + b"\0\1\xff\0", MALFORMED, "5.0 MQTT-3.8.3-1 filter is not UTF-8"),
    (V5, b"\0\1\0" + b"\0\2a\0\0", MALFORMED, "5.0 MQTT-1.5.4-2 MQTT-4.7.3-2 NUL"),
    (V4, b"\0\1" + b"\0\2a\0\0", MALFORMED, "3.1.1 MQTT-1.4.0-2 MQTT-4.7.3-2 NUL"),
    (V4, b"\0\1" + b"\0\1a\4", MALFORMED, "3.1.1 MQTT-3-8.3-4 reserved bit 2"),
    (V4, b"\0\1" + b"\0\1a\x80", MALFORMED, "3.1.1 MQTT-3-8.3-4 reserved bit 7"),
    (V4, b"\0\1" + b"\0\1a\3", MALFORMED, "3.1.1 MQTT-3-8.3-4 QoS 3"),
    (V5, b"\0\1\0" + b"\0\1a\x40", MALFORMED, "5.0 MQTT-3.8.3-5 reserved bit 6"),
    (V5, b"\0\1\0" + b"\0\1a\x80", MALFORMED, "5.0 MQTT-3.8.3-5 reserved bit 7"),
    (V5, b"\0\1\0" + b"\0\1a\3", PROTOCOL, "5.0 3.8.3.1 QoS 3"),
    (V5, b"\0\1\0" + b"\0\1a\x30", PROTOCOL, "5.0 3.8.3.1 retain handling 3"),
    (V5, b"\0\1\0" + b"\0\x0a$share/g/a\4", PROTOCOL, "5.0 MQTT-3.8.3-4 no local on a shared subscription"),
    (V5, b"\0\1\0" + b"\0\x08$queue/a\4", PROTOCOL, "5.0 MQTT-3.8.3-4 no local on a queue"),
    (V5, b"\0\1\2\x0b\0" + b"\0\1a\0", PROTOCOL, "5.0 3.8.2.1.2 subscription identifier 0"),
    (V5, b"\0\1\4\x0b\1\x0b\1" + b"\0\1a\0", PROTOCOL, "5.0 3.8.2.1.2 two subscription identifiers"),
    (V4, b"\0\1" + b"\0\1a", MALFORMED, "3.1.1 no options"),
    (V5, b"\0\1\0" + b"\0\1a", MALFORMED, "5.0 no options"),
    (V5, b"\0\1", MALFORMED, "5.0 no properties"),
    (V4, b"\0", MALFORMED, "3.1.1 half a packet id"),
    (V4, b"", MALFORMED, "3.1.1 nothing"),
    (V5, b"\0\1\0" + b"\0\1a\0\0", MALFORMED, "5.0 one byte too much"),
]  # fmt: skip


@pytest.mark.parametrize(
    ("version", "data", "reason"), [pytest.param(*row[:3], id=row[3]) for row in SUBSCRIBES]
)
def test_subscribe_refused(version: int, data: bytes, reason: Reason) -> None:
    assert fault(lambda: decode_subscribe(data, version, 2)) == reason


UNSUBSCRIBES = [
    (V4, b"\0\0" + b"\0\1a", PROTOCOL, "3.1.1 MQTT-2.3.1-1 packet id 0"),
    (V5, b"\0\0\0" + b"\0\1a", PROTOCOL, "5.0 MQTT-2.2.1-3 packet id 0"),
    (V4, b"\0\1", PROTOCOL, "3.1.1 MQTT-3.10.3-2 no filter"),
    (V5, b"\0\1\0", PROTOCOL, "5.0 MQTT-3.10.3-2 no filter"),
    (V4, b"\0\1" + b"\0\1\xff", MALFORMED, "3.1.1 MQTT-3.10.3-1 not UTF-8"),
    (V5, b"\0\1\0" + b"\0\1\xff", MALFORMED, "5.0 MQTT-3.10.3-1 not UTF-8"),
    (V5, b"\0\1\2\x0b\1" + b"\0\1a", MALFORMED, "5.0 a property that it cannot have"),
    (V4, b"\0\1" + b"\0\2a", MALFORMED, "3.1.1 cut off"),
    (V5, b"\0", MALFORMED, "5.0 half a packet id"),
]  # fmt: skip


@pytest.mark.parametrize(
    ("version", "data", "reason"), [pytest.param(*row[:3], id=row[3]) for row in UNSUBSCRIBES]
)
def test_unsubscribe_refused(version: int, data: bytes, reason: Reason) -> None:
    assert fault(lambda: decode_unsubscribe(data, version, 2)) == reason


def test_suback() -> None:
    """[MQTT-3.8.4-2] the packet id, [MQTT-3.9.3-1] the order, [MQTT-3.9.3-2] the codes of the version."""
    codes = [0, 1, 2, 0x80, 0x87, 0x8F, 0x97]
    assert suback(V4, 258, codes) == b"\x90\x09\1\2" + b"\0\1\2\x80\x80\x80\x80"
    assert suback(V3, 258, codes) == suback(V4, 258, codes)
    assert suback(V5, 258, codes) == b"\x90\x0a\1\2\0" + bytes(codes)
    assert suback(V5, 1, [0], Properties(reason_string="r")) == b"\x90\x08\0\1\4\x1f\0\1r\0"
    assert suback(V4, 1, [0], Properties(reason_string="r")) == b"\x90\3\0\1\0"
    assert suback(V4, 1, [0] * 200)[:4] == b"\x90\xca\1\0"


def test_unsuback() -> None:
    """[MQTT-3.10.4-4] the packet id; [MQTT-3.11.3-1] the order; version 3 has no codes."""
    assert unsuback(V4, 258, [0, 0x11]) == b"\xb0\2\1\2"
    assert unsuback(V3, 258, [0, 0x11]) == b"\xb0\2\1\2"
    assert unsuback(V5, 258, [0, 0x11]) == b"\xb0\5\1\2\0\0\x11"
    assert (
        unsuback(V5, 1, [0], Properties(user_properties=(("a", "b"),))) == b"\xb0\x0b\0\1\7\x26\0\1a\0\1b\0"
    )


# -- acknowledgements


@pytest.mark.parametrize(
    ("packet", "first"),
    [
        pytest.param(PacketType.PUBACK, 0x40, id="PUBACK"),
        pytest.param(PacketType.PUBREC, 0x50, id="PUBREC"),
        pytest.param(PacketType.PUBREL, 0x62, id="MQTT-3.6.1-1 PUBREL"),
        pytest.param(PacketType.PUBCOMP, 0x70, id="PUBCOMP"),
    ],
)
def test_acknowledgements(packet: PacketType, first: int) -> None:
    """3.4.2.1: success is two bytes; version 3 has no other form."""
    head = bytes((first,))
    for version in (V3, V4, V5):
        assert ack(packet, 258, version) == head + b"\2\1\2"
    assert ack(packet, 258, V4, 0x97) == head + b"\2\1\2"
    assert ack(packet, 258, V5, 0x97) == head + b"\3\1\2\x97"
    assert ack(packet, 258, V5, 0x97, Properties(reason_string="r")) == head + b"\x08\1\2\x97\4\x1f\0\1r"
    assert ack(packet, 258, V5, 0, Properties(reason_string="r")) == head + b"\x08\1\2\0\4\x1f\0\1r"
    assert decode_ack(ack(packet, 258, V5, 0x92, Properties(reason_string="r"))[2:], V5) == (258, 0x92)


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        pytest.param(b"\0\1", (1, 0), id="3.4.2.1 no reason"),
        pytest.param(b"\1\0\x10", (256, 0x10), id="3.4.2.2.1 no properties"),
        pytest.param(b"\0\1\x97\0", (1, 0x97), id="empty properties"),
        pytest.param(b"\0\1\x80\7\x26\0\1a\0\1b", (1, 0x80), id="user property"),
    ],
)
def test_acknowledgements_of_version_5(data: bytes, expected: tuple[int, int]) -> None:
    assert decode_ack(data, V5) == expected


ACKS = [
    (V4, b"\0\0", PROTOCOL, "3.1.1 packet id 0"),
    (V5, b"\0\0", PROTOCOL, "5.0 packet id 0"),
    (V4, b"\0\1\0", MALFORMED, "3.1.1 with a reason"),
    (V3, b"\0\1\0", MALFORMED, "3.1 with a reason"),
    (V4, b"\0", MALFORMED, "3.1.1 half a packet id"),
    (V5, b"", MALFORMED, "5.0 nothing"),
    (
        V5,
        b"\0\1\1",
        PROTOCOL,
        "5.0 MQTT-3.4.2-1 MQTT-3.5.2-1 MQTT-3.6.2-1 MQTT-3.7.2-1 a reason that is none",
    ),
    (V5, b"\0\1\0\2", MALFORMED, "5.0 properties cut off"),
    (V5, b"\0\1\0\0\0", MALFORMED, "5.0 one byte too much"),
    (V5, b"\0\1\0\2\x01\1", MALFORMED, "5.0 a property that it cannot have"),
    (V5, b"\0\1\0\x08\x1f\0\1r\x1f\0\1r", PROTOCOL, "5.0 3.4.2.2.2 two reason strings"),
]


@pytest.mark.parametrize(("version", "data", "reason"), [pytest.param(*row[:3], id=row[3]) for row in ACKS])
def test_acknowledgements_refused(version: int, data: bytes, reason: Reason) -> None:
    assert fault(lambda: decode_ack(data, version)) == reason


# -- DISCONNECT, AUTH, PINGRESP


def test_disconnect_of_a_client() -> None:
    """3.14.2.1: nothing is reason 0; 3.14.2.2.1: no properties are none."""
    for version in (V3, V4, V5):
        assert decode_disconnect(b"", version) == Disconnect()
    assert decode_disconnect(b"\4", V5) == Disconnect(4)
    assert decode_disconnect(b"\0\5\x11\0\0\0\x0a", V5) == Disconnect(0, Properties(session_expiry_s=10))


DISCONNECTS = [
    (V4, b"\0", MALFORMED, "3.1.1 with a reason"),
    (V5, b"\0\0\0", MALFORMED, "5.0 one byte too much"),
    (V5, b"\0\5", MALFORMED, "5.0 properties cut off"),
    (V5, b"\1", PROTOCOL, "5.0 MQTT-3.14.2-1 a reason that is none"),
    (V5, b"\x8b", PROTOCOL, "5.0 MQTT-3.14.2-1 a server's reason"),
    (V5, b"\0\4\x1c\0\1s", PROTOCOL, "5.0 3.14.2.2.5 a server's property"),
    (V5, b"\0\x0a\x11\0\0\0\1\x11\0\0\0\1", PROTOCOL, "5.0 3.14.2.2.2 two session expiries"),
]


@pytest.mark.parametrize(
    ("version", "data", "reason"), [pytest.param(*row[:3], id=row[3]) for row in DISCONNECTS]
)
def test_disconnect_refused(version: int, data: bytes, reason: Reason) -> None:
    assert fault(lambda: decode_disconnect(data, version)) == reason


def test_disconnect_of_a_server() -> None:
    assert disconnect(Reason.SESSION_TAKEN_OVER) == b"\xe0\2\x8e\0"
    assert disconnect(Reason.SERVER_SHUTTING_DOWN, Properties(reason_string="r")) == b"\xe0\6\x8b\4\x1f\0\1r"


def test_auth() -> None:
    assert decode_auth(b"") == Auth(0)
    expected = Auth(0x18, Properties(auth_method="m", auth_data=b"d"))
    assert decode_auth(b"\x18\x08\x15\0\1m\x16\0\1d") == expected


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        pytest.param(b"\x17\4\x15\0\1m", PROTOCOL, id="MQTT-3.15.2-1 a reason that is none"),
        pytest.param(b"\x18", PROTOCOL, id="3.15.2.2.2 no properties, so no method"),
        pytest.param(b"\x18\4\x16\0\1d", PROTOCOL, id="3.15.2.2.2 no method"),
        pytest.param(b"\x18\4\x15\0\1m\0", MALFORMED, id="one byte too much"),
        pytest.param(b"\x18\5\x15\0\1m", MALFORMED, id="cut off"),
    ],
)
def test_auth_refused(data: bytes, reason: Reason) -> None:
    assert fault(lambda: decode_auth(data)) == reason


def test_pingresp() -> None:
    """[MQTT-3.12.4-1]"""
    assert PINGRESP == b"\xd0\0"


@pytest.mark.parametrize(
    ("length", "raw"),
    [
        (0, b"\0"), (127, b"\x7f"), (128, b"\x80\1"), (321, b"\xc1\2"), (16383, b"\xff\x7f"),
        (2097152, b"\x80\x80\x80\1"), (268435455, b"\xff\xff\xff\x7f"),
    ],
)  # fmt: skip
def test_remaining_length(length: int, raw: bytes) -> None:
    """3.1.1 table 2.4"""
    assert encode_remaining_length(length) == raw


# -- PUBLISH


def test_publish() -> None:
    """3.1.1 figure 3.11: a/b, packet id 10. [MQTT-2.3.1-5] [MQTT-2.2.1-2] QoS 0 has no packet id."""
    assert publish(V4, "a/b", b"!", 1, False, False, 10) == b"\x32\x08\0\3a/b\0\x0a!"
    assert publish(V4, "a/b", b"") == b"\x30\5\0\3a/b"
    assert publish(V5, "a/b", b"", packet_id=10) == b"\x30\6\0\3a/b\0"
    assert publish(V4, "t", b"", 2, True, True, 1) == b"\x3d\5\0\1t\0\1"
    expected = b"\x35\x0b\0\1t\1\2\4\x03\0\1x!"
    assert publish(V5, "t", b"!", 2, True, False, 258, Properties(content_type="x")) == expected


class Received:
    """A parser's handler that keeps the messages."""

    def __init__(self) -> None:
        self.messages: list[tuple[int, bytes, bytes, list[int], list[bytes]]] = []

    def on_publish(
        self, flags: int, topic: bytes, properties: bytes, packet_ids: list[int], payloads: list[bytes]
    ) -> None:
        self.messages.append((flags, topic, properties, packet_ids, payloads))

    def on_acks(self, packet: PacketType, packet_ids: list[int]) -> None:
        raise AssertionError

    def on_packet(self, first: int, payload: bytes) -> None:
        raise AssertionError


@given(
    st.sampled_from([V3, V4, V5]),
    st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0+#"), min_size=1, max_size=30),
    st.binary(max_size=300),
    st.integers(0, 2),
    st.booleans(),
    st.integers(1, 65535),
    st.none() | st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=200),
)
def test_the_hot_path_reads_what_is_written(
    version: int, topic: str, payload: bytes, qos: int, retain: bool, packet_id: int, content_type: str | None
) -> None:
    received = Received()
    parser = PacketParser(received, 1 << 20)
    parser.version = version
    properties = Properties(content_type=content_type)
    parser.feed(publish(version, topic, payload, qos, retain, False, packet_id, properties))
    ((flags, raw_topic, raw_properties, packet_ids, payloads),) = received.messages
    assert (flags, raw_topic.decode(), payloads) == (qos << 1 | retain, topic, [payload])
    assert packet_ids == ([packet_id] if qos else [])
    assert decode_publish_properties(raw_properties) == (properties if version == V5 else Properties())

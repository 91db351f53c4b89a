"""What becomes of a message between MQTT 5 and AMQP 0-9-1, both ways, and what survives a stay on the disk."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.field_values import tables

from leveret.adapters.mqtt import spec
from leveret.adapters.mqtt.mapping import REPLY_TOPIC, PublishFacts, from_core, to_core, topic_of
from leveret.adapters.mqtt.property_codec import decode_publish_properties, encode_properties, read_varint
from leveret.adapters.mqtt.topics import KeyMap
from leveret.core.fields import ByteArray
from leveret.core.message import Envelope
from leveret.core.properties import MAX_EXPIRATION_MS, Properties
from leveret.core.reply_to import TOPIC_REPLY

PLAIN, ESCAPED = KeyMap("none", False), KeyMap("percent", False)
NOTHING = spec.Properties()


def core(
    properties: spec.Properties | None = None, qos: int = 0, retain: bool = False, **rest: Any
) -> Properties:
    return to_core(properties, qos=qos, retain=retain, keymap=PLAIN, **rest)


def stored(properties: Properties) -> Properties:
    """As it is read again, by another listener or after a restart."""
    return Properties.decode(Envelope.of("amq.topic", "k", properties).header)


def facts(properties: Properties, keymap: KeyMap = PLAIN) -> PublishFacts:
    found = from_core(properties, keymap)
    # Whatever came of it can be sent, and is what a client reads.
    data = encode_properties(found.properties or NOTHING)
    _, start = read_varint(data, 0)
    assert decode_publish_properties(data[start:]) == (found.properties or NOTHING)
    return found


def mqtt(properties: Properties, keymap: KeyMap = PLAIN) -> spec.Properties:
    return facts(properties, keymap).properties or NOTHING


# -- quality of service, retain


@pytest.mark.parametrize(
    ("qos", "expected"),
    [
        (0, Properties(delivery_mode=1)),
        (1, Properties(delivery_mode=2)),
        (2, Properties(delivery_mode=2, headers={"x-mqtt-publish-qos": 2})),
    ],
)
def test_qos(qos: int, expected: Properties) -> None:
    assert core(qos=qos) == expected
    assert facts(stored(expected)) == PublishFacts(qos, False, None)


def test_retain() -> None:
    assert core(retain=True).headers == {"x-mqtt-retain": True}
    assert facts(stored(core(qos=1, retain=True))) == PublishFacts(1, True, None)


@pytest.mark.parametrize(
    ("properties", "qos"),
    [
        (Properties(), 0),
        (Properties(delivery_mode=1, headers={"x-mqtt-publish-qos": 2}), 0),
        (Properties(delivery_mode=2, headers={"x-mqtt-publish-qos": 7}), 1),
        (Properties(delivery_mode=2, headers={"x-mqtt-publish-qos": "2"}), 1),
        (Properties(delivery_mode=3), 0),
    ],
)
def test_qos_of_other_doors(properties: Properties, qos: int) -> None:
    """Delivery mode 2 is QoS 1, as RabbitMQ has it; a header alone makes nothing persistent."""
    assert facts(properties).qos == qos


@pytest.mark.parametrize("value", ["true", 1, None, {}])
def test_retain_of_other_doors_is_true_or_nothing(value: object) -> None:
    assert not facts(Properties(headers={"x-mqtt-retain": value})).retain


# -- the table of properties (features, section 2)


def test_to_amqp() -> None:
    found = core(
        spec.Properties(
            payload_format=1,
            message_expiry_s=30,
            content_type="text/plain",
            response_topic="reply/me",
            correlation_data=b"c-1",
            user_properties=(("b", "1"), ("a", "2")),
        ),
        qos=1,
    )
    assert found == Properties(
        content_type="text/plain",
        delivery_mode=2,
        correlation_id="c-1",
        expiration="30000",
        reply_to="amq.mqtt.reply-to.reply.me",
        headers={"x-mqtt-payload-format": 1, "x-reply-to-topic": "reply.me", "b": "1", "a": "2"},
    )
    assert list(found.headers or ()) == ["x-mqtt-payload-format", "x-reply-to-topic", "b", "a"]


def test_from_amqp() -> None:
    """Strings among the headers, and nothing else; what is left of the expiration is another's to work out."""
    headers = {
        "n": 1,
        "s": "text",
        "x-custom": "mine",
        "t": {"a": "b"},
        "b": b"\xff",
        "x": ByteArray(b"x"),
        "f": True,
    }
    found = mqtt(
        Properties(
            content_type="text/plain",
            content_encoding="gzip",
            headers=headers,
            priority=3,
            correlation_id="c-1",
            expiration="30000",
            message_id="m",
            app_id="a",
        )
    )
    assert found == spec.Properties(
        content_type="text/plain",
        correlation_data=b"c-1",
        user_properties=(("s", "text"), ("x-custom", "mine")),
    )


@pytest.mark.parametrize(
    "name",
    [
        "CC", "BCC", "x-death", "x-first-death-queue", "x-last-death-reason", "x-delivery-count", "x-correlation-id",
        "x-mqtt-anything", "x-stream-offset",
    ],
)  # fmt: skip
def test_the_brokers_own_headers(name: str) -> None:
    """They are no user properties, and no user property makes one; from MQTT to MQTT it comes through all the same."""
    assert mqtt(Properties(headers={name: "x", "mine": "y"})).user_properties == (("mine", "y"),)
    pairs = ((name, "x"), ("mine", "y"))
    found = core(spec.Properties(user_properties=pairs))
    assert found.headers == {"mine": "y", "x-mqtt-user-properties": [name, "x", "mine", "y"]}
    assert mqtt(stored(found)).user_properties == pairs


@pytest.mark.parametrize(
    ("seconds", "expiration"),
    [(0, "0"), (1, "1000"), (315360000, str(MAX_EXPIRATION_MS)), (0xFFFFFFFF, str(MAX_EXPIRATION_MS))],
)
def test_message_expiry(seconds: int, expiration: str) -> None:
    """AMQP's ends at ten years (RabbitMQ's limit); a longer one is that long."""
    found = core(spec.Properties(message_expiry_s=seconds))
    assert found.expiration == expiration
    assert Envelope.of("amq.topic", "k", found).expiration == int(expiration)


@pytest.mark.parametrize(
    ("data", "is_text"),
    [
        (b"", True), (b"c-1", True), ("\u20ac".encode() * 85, True), (b"x" * 256, False), (b"\xff", False),
        (b"a\0b", False), (b"\xed\xa0\x80", False), (b"x" * 65535, False),
    ],
)  # fmt: skip
def test_correlation_data(data: bytes, is_text: bool) -> None:
    """Text of at most 255 bytes is a correlation id, anything else a header, as in RabbitMQ 4 [MQTT-3.3.2-16]."""
    found = core(spec.Properties(correlation_data=data))
    if is_text:
        assert (found.correlation_id, found.headers) == (data.decode(), None)
    else:
        assert (found.correlation_id, found.headers) == (None, {"x-correlation-id": data})
    assert mqtt(stored(found)).correlation_data == data


def test_a_correlation_id_is_better_than_a_header() -> None:
    """RabbitMQ 4 looks in this order."""
    both = Properties(correlation_id="id", headers={"x-correlation-id": "header"})
    assert mqtt(both) == spec.Properties(correlation_data=b"id")


def test_a_correlation_id_that_is_no_text() -> None:
    """AMQP's short strings are bytes; so is correlation data."""
    assert (
        mqtt(Properties(correlation_id=b"\xff\0".decode("utf-8", "surrogateescape"))).correlation_data
        == b"\xff\0"
    )


@pytest.mark.parametrize("size", [0, 255, 256, 65535])
def test_content_type(size: int) -> None:
    """[MQTT-3.3.2-20], however long."""
    found = core(spec.Properties(content_type="x" * size))
    assert (found.content_type is None) == (size > 255)
    assert mqtt(stored(found)).content_type == "x" * size


@pytest.mark.parametrize("text", ["a\0b", "\udcff"])
def test_texts_of_amqp_that_mqtt_forbids(text: str) -> None:
    """[MQTT-1.5.4-1] [MQTT-1.5.4-2]: a client would have to hang up."""
    properties = Properties(content_type=text, reply_to=text, headers={text: "v", "n": text, "ok": "v"})
    assert mqtt(properties) == spec.Properties(user_properties=(("ok", "v"),))


def test_headers_too_long_for_mqtt() -> None:
    headers = {"n": "x" * 65536, "x-correlation-id": b"x" * 65536, "x-reply-to-topic": "a" * 65536}
    assert facts(Properties(headers=headers)).properties is None


@pytest.mark.parametrize(
    ("value", "expected"),
    [(0, 0), (1, 1), (True, 1), (2, None), ("1", None), (1.0, None), (None, None), ([], None)],
)
def test_payload_format(value: Any, expected: int | None) -> None:
    """[MQTT-3.3.2-4]"""
    assert mqtt(Properties(headers={"x-mqtt-payload-format": value})).payload_format == expected
    if value in (0, 1):
        assert core(spec.Properties(payload_format=value)).headers == {"x-mqtt-payload-format": value}


@pytest.mark.parametrize(
    ("pairs", "is_listed"),
    [
        ((("a", "1"), ("b", "2")), False),
        ((("b", "1"), ("a", "2")), False),
        ((("a", "1"), ("a", "1")), True),
        ((("a", "1"), ("b", "2"), ("a", "3")), True),
        ((("", ""),), True),
        ((("n" * 256, "v"),), True),
        ((("x-own", "v"),), False),
    ],
)
def test_user_properties(pairs: tuple[tuple[str, str], ...], is_listed: bool) -> None:
    """[MQTT-3.3.2-17] [MQTT-3.3.2-18]: all of them, in order, however often one repeats; AMQP sees the first."""
    found = core(spec.Properties(user_properties=pairs))
    headers = found.headers or {}
    assert ("x-mqtt-user-properties" in headers) == is_listed
    assert mqtt(stored(found)).user_properties == pairs
    for name, value in headers.items():
        if name != "x-mqtt-user-properties":
            assert value == next(text for key, text in pairs if key == name)


@pytest.mark.parametrize(
    "listed", [["a"], ["a", 1], "a", [["a", "b"]], ["a", "x\0"], ["a", b"\xff"], {"a": "b"}, 7]
)
def test_a_list_of_user_properties_that_is_none(listed: Any) -> None:
    """Anybody can write that header."""
    found = mqtt(Properties(headers={"x-mqtt-user-properties": listed, "k": "v"}))
    assert found.user_properties == (("k", "v"),)


# -- request and response


def test_an_mqtt_request_is_answered_over_amqp() -> None:
    """The service answers to reply_to over the default exchange, as always; or to x-reply-to-topic on amq.topic."""
    request = core(spec.Properties(response_topic="reply/me"))
    assert request.reply_to == TOPIC_REPLY + "reply.me"
    assert (request.headers or {})["x-reply-to-topic"] == "reply.me"
    for answered_to in (
        (request.reply_to or "").removeprefix(TOPIC_REPLY),
        (request.headers or {})["x-reply-to-topic"],
    ):
        assert PLAIN.topic(answered_to) == "reply/me"


def test_an_amqp_request_is_answered_over_mqtt() -> None:
    request = mqtt(Properties(reply_to="amq.gen-Ab_c-D", correlation_id="7"))
    assert request == spec.Properties(response_topic="$reply-to/amq.gen-Ab_c-D", correlation_data=b"7")
    assert (request.response_topic or "").removeprefix(REPLY_TOPIC) == "amq.gen-Ab_c-D"
    direct = mqtt(Properties(reply_to="amq.rabbitmq.reply-to.g1h2"))
    assert direct.response_topic == "$reply-to/amq.rabbitmq.reply-to.g1h2"


@pytest.mark.parametrize("reply_to", ["", "a+b", "q#"])
def test_a_reply_to_that_no_topic_can_say(reply_to: str) -> None:
    """[MQTT-3.3.2-14]"""
    assert mqtt(Properties(reply_to=reply_to)).response_topic is None


def test_a_forwarded_request_keeps_its_address() -> None:
    """From AMQP through an MQTT client that passes it on, back to AMQP; and from MQTT through AMQP to MQTT."""
    assert core(mqtt(Properties(reply_to="answers"))) == Properties(delivery_mode=1, reply_to="answers")
    assert mqtt(Properties(reply_to=TOPIC_REPLY + "reply.me")).response_topic == "reply/me"
    assert mqtt(stored(core(spec.Properties(response_topic="reply/me")))).response_topic == "reply/me"


@pytest.mark.parametrize("key", ["a.*", "#", "", "a\0"])
def test_a_reply_key_that_is_no_topic(key: str) -> None:
    assert mqtt(Properties(headers={"x-reply-to-topic": key})).response_topic is None
    assert mqtt(Properties(reply_to=TOPIC_REPLY + key)).response_topic is None


@pytest.mark.parametrize(
    "topic",
    [
        "r", "r/1.5", "*/r", "$reply-to/", "$reply-to/" + "q" * 255, "$reply-to/" + "q" * 256, "t/" + "x" * 250,
        "x" * 65535, "$SYS/x", "amq.mqtt.reply-to.x",
    ],
)  # fmt: skip
@pytest.mark.parametrize("keymap", [PLAIN, ESCAPED], ids=["none", "percent"])
def test_response_topics_come_back(topic: str, keymap: KeyMap) -> None:
    """[MQTT-3.3.2-15]; none is too long for AMQP."""
    found = to_core(spec.Properties(response_topic=topic), qos=0, retain=False, keymap=keymap)
    assert mqtt(stored(found), keymap).response_topic == topic


# -- topics that a routing key does not tell


@pytest.mark.parametrize(
    ("topic", "is_written"),
    [("a/b", False), ("a.b/c", False), ("a/*", True), ("a.b/*", True), ("a*b", False)],
)
def test_the_topic_itself(topic: str, is_written: bool) -> None:
    """A level `*` would be lost; that dots are slashes is RabbitMQ's way, and the setting's default."""
    found = core(topic=topic)
    assert found.headers == ({"x-mqtt-topic": topic} if is_written else None)
    assert topic_of(PLAIN.routing_key(topic), stored(found), PLAIN) == topic.replace(".", "/")
    assert to_core(None, qos=0, retain=False, keymap=ESCAPED, topic=topic).headers is None


def test_nobody_sends_under_a_topic_that_is_not_his() -> None:
    """The header of an AMQP client that may publish to open.* does not make it a message of secret/1."""
    forged = Properties(headers={"x-mqtt-topic": "secret/1"})
    assert topic_of("open.1", forged, PLAIN) == "open/1"
    assert topic_of("open.*", forged, PLAIN) is None


# -- all of it


text = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=30)
names = st.one_of(
    text, st.sampled_from(["a", "b", "CC", "x-death", "x-mqtt-retain", "x-reply-to-topic", "x-a"])
)
topics = st.text(st.sampled_from("ab.*/$%\u20ac"), min_size=1, max_size=12)
published = st.builds(
    spec.Properties,
    payload_format=st.none() | st.integers(0, 1),
    content_type=st.none() | text,
    response_topic=st.none() | topics,
    correlation_data=st.none() | st.binary(max_size=300),
    user_properties=st.lists(st.tuples(names, text), max_size=6).map(tuple),
)


@given(
    published,
    st.integers(0, 2),
    st.booleans(),
    topics,
    st.sampled_from([PLAIN, ESCAPED, KeyMap("none", True)]),
)
def test_mqtt_to_mqtt_loses_nothing(
    properties: spec.Properties, qos: int, retain: bool, topic: str, keymap: KeyMap
) -> None:
    """Through the core, and its bytes on the disk."""
    kept = stored(to_core(properties, qos=qos, retain=retain, keymap=keymap, topic=topic))
    found = facts(kept, keymap)
    assert (found.qos, found.retain, found.properties or NOTHING) == (qos, retain, properties)
    assert topic_of(keymap.routing_key(topic), kept, keymap) == keymap.pattern(topic)


short = st.none() | st.binary(max_size=40).map(lambda raw: raw.decode("utf-8", "surrogateescape"))


@given(
    st.builds(
        Properties,
        content_type=short,
        headers=st.none() | tables,
        delivery_mode=st.none() | st.integers(0, 255),
        correlation_id=short,
        reply_to=short,
    ),
    st.sampled_from([PLAIN, ESCAPED]),
)
def test_whatever_amqp_sends_is_something(properties: Properties, keymap: KeyMap) -> None:
    """And what came of it goes back into the core."""
    found = facts(properties, keymap)
    back = to_core(found.properties, qos=found.qos, retain=found.retain, keymap=keymap)
    back.encode()

"""Destinations, headers and properties, escapes on the way out: tables."""

from __future__ import annotations

from typing import Any

import pytest

from leveret.adapters.stomp.destinations import (
    Destination,
    format_destination,
    parse_destination,
    reply_address,
    subscription_queue_name,
)
from leveret.adapters.stomp.faults import StompFault
from leveret.adapters.stomp.frames import encode_frame, escape, header_line, unescape
from leveret.adapters.stomp.handshake import choose_version
from leveret.adapters.stomp.headers import boolean, integer, message_headers, properties_of, queue_arguments
from leveret.adapters.stomp.heartbeat import negotiate
from leveret.core.fields import Decimal, Int64, Timestamp
from leveret.core.properties import Properties


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("/queue/a", Destination("queue", "", "a", "a")),
        ("/queue/a%2Fb%2fc%25", Destination("queue", "", "a/b%2fc%25", "a/b%2fc%25")),
        ("plain", Destination("queue", "", "plain", "plain")),
        ("/topic/a.b", Destination("topic", "amq.topic", "a.b")),
        ("/topic/a%2Fb", Destination("topic", "amq.topic", "a/b")),
        ("/exchange/x", Destination("exchange", "x", "")),
        ("/exchange/x/", Destination("exchange", "x", "")),
        ("/exchange/x%2Fy/k%2Fl", Destination("exchange", "x/y", "k/l")),
        ("/amq/queue/a", Destination("amq/queue", "", "a", "a")),
        ("/temp-queue/a", Destination("temp-queue", "", "a", "a")),
        ("/reply-queue/a/b%2F", Destination("reply-queue", "", "a/b%2F", "a/b%2F")),
        ("/queue/\u00e9 b", Destination("queue", "", "\u00e9 b", "\u00e9 b")),
    ],
)
def test_destinations(text: str, found: Destination) -> None:
    assert parse_destination(text, "amq.topic") == found


@pytest.mark.parametrize(
    ("text", "message", "detail"),
    [
        ("", "Invalid destination", "Destination cannot be blank"),
        ("/queue", "Invalid destination", "'' is not a valid queue destination\n"),
        ("/queue/", "Invalid destination", "'/' is not a valid queue destination\n"),
        ("/queue/a/b", "Invalid destination", "'/a/b' is not a valid queue destination\n"),
        ("/topic/a/b", "Invalid destination", "'/a/b' is not a valid topic destination\n"),
        ("/exchange//k", "Invalid destination", "'//k' is not a valid exchange destination\n"),
        ("/exchange/x/y/z", "Invalid destination", "'/x/y/z' is not a valid exchange destination\n"),
        ("/temp-queue/", "Invalid destination", "'/' is not a valid temp_queue destination\n"),
        ("/amq/queue/", "Invalid destination", "'/' is not a valid amqqueue destination\n"),
        (
            "/foo/bar",
            "Unknown destination",
            "'/foo/bar' is not a valid destination.\n"
            + "Valid destination types are: /temp-queue, /exchange, /topic, /queue, /amq/queue, /reply-queue/.\n",
        ),
    ],
)
def test_destinations_that_are_none(text: str, message: str, detail: str) -> None:
    with pytest.raises(StompFault) as caught:
        parse_destination(text, "amq.topic")
    assert (caught.value.message, caught.value.detail) == (message, detail)


@pytest.mark.parametrize("text", ["queue/a", "/", "//", "/amq/exchange/x", "/Queue/a", "/reply-queue"])
def test_destinations_of_unknown_kinds(text: str) -> None:
    with pytest.raises(StompFault, match="not a valid"):
        parse_destination(text, "amq.topic")


@pytest.mark.parametrize(
    ("exchange", "key", "shown"),
    [
        ("", "a/b", "/queue/a%2Fb"),
        ("", "50%\u00e9", "/queue/50%25%C3%A9"),
        ("amq.topic", "a.b", "/topic/a.b"),
        ("x", "", "/exchange/x"),
        ("x/y", "k", "/exchange/x%2Fy/k"),
    ],
)
def test_destinations_of_messages(exchange: str, key: str, shown: str) -> None:
    assert format_destination(exchange, key, "amq.topic") == shown


def test_reply_addresses() -> None:
    assert reply_address("amq.gen-x") == "/reply-queue/amq.gen-x"
    assert reply_address("/queue/a") == "/queue/a"
    assert reply_address("/other") == "/reply-queue//other"


def test_durable_subscriptions_have_the_reference_s_names() -> None:
    # As RabbitMQ 3.10.8 lists them.
    assert subscription_queue_name("my-durable", "1234") == "stomp-subscription-ywnduRGdS9QBdgzKJKz3-A"
    assert subscription_queue_name("d2", "a") == "stomp-subscription-OFPX13_fFOF1OIDL7cRk6g"
    assert subscription_queue_name("", "x" * 70000) != subscription_queue_name("", "x" * 70001)


PROPERTIES: list[tuple[str, str, Any]] = [
    ("content-type", "content_type", "text/plain"),
    ("content-encoding", "content_encoding", "gzip"),
    ("correlation-id", "correlation_id", "c"),
    ("reply-to", "reply_to", "/queue/x"),
    ("expiration", "expiration", "1000"),
    ("amqp-message-id", "message_id", "m"),
    ("type", "type", "t"),
    ("user-id", "user_id", "guest"),
    ("app-id", "app_id", "a"),
    ("cluster-id", "cluster_id", "c"),
    ("priority", "priority", 7),
    ("timestamp", "timestamp", 123),
    ("persistent", "delivery_mode", 2),
]


@pytest.mark.parametrize(("header", "attribute", "value"), PROPERTIES)
def test_properties_both_ways(header: str, attribute: str, value: Any) -> None:
    text = "true" if header == "persistent" else str(value)
    properties = properties_of({"destination": "/queue/a", header: text}, None)
    assert properties == Properties(**{attribute: value})
    assert message_headers(properties) == [(header, text)]


def test_user_headers_both_ways() -> None:
    sent = {
        "destination": "/queue/a", "foo": "bar", "Ünï": "a:b\n", "x-message-ttl": "5", "receipt": "1",
        "transaction": "2", "content-length": "3", "": "empty",
    }  # fmt: skip
    properties = properties_of(sent, "amq.gen-1")
    assert properties.headers == {"foo": "bar", "Ünï": "a:b\n", "x-message-ttl": "5", "": "empty"}
    assert properties.reply_to == "amq.gen-1"
    assert message_headers(properties) == [
        ("foo", "bar"), ("Ünï", "a:b\n"), ("x-message-ttl", "5"), ("", "empty"),
        ("reply-to", "/reply-queue/amq.gen-1"),
    ]  # fmt: skip
    assert Properties.decode(properties.encode()) == properties


def test_field_values_as_texts() -> None:
    headers = {
        "int": -5, "long": Int64(1 << 40), "yes": True, "no": False, "float": 1.5, "bytes": b"\xffa", "none": None,
        "when": Timestamp(7), "decimal": Decimal(2, 314), "table": {"a": [1, "b", None, b"\xff", Decimal(1, 5)]},
        "message-id": "mine", "ack": "mine", "subscription": "mine", "destination": "mine", "redelivered": "mine",
    }  # fmt: skip
    assert dict(message_headers(Properties(headers=headers))) == {
        "int": "-5", "long": str(1 << 40), "yes": "true", "no": "false", "float": "1.5", "bytes": "\udcffa",
        "when": "7", "decimal": "3.14", "table": '{"a":[1,"b",null,"\ufffd","0.5"]}',
    }  # fmt: skip


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("priority", "x"),
        ("priority", "256"),
        ("priority", "-1"),
        ("timestamp", "1.5"),
        ("timestamp", "9" * 30),
    ],
)
def test_numbers_that_are_none(name: str, value: str) -> None:
    with pytest.raises(StompFault) as caught:
        properties_of({name: value}, None)
    assert caught.value.message == "Invalid header"


def test_queue_arguments() -> None:
    assert queue_arguments(
        {
            "destination": "/queue/a", "x-message-ttl": " 5000 ", "x-dead-letter-exchange": " dlx ", "x-expires": "1",
            "x-dead-letter-routing-key": "k", "x-max-length": "2", "x-max-length-bytes": "3", "x-max-priority": "4",
            "x-queue-type": "quorum", "x-overflow": "reject-publish", "x-delivery-limit": "5",
            "x-single-active-consumer": "true", "x-other": "left alone", "x-queue-name": "n",
        }
    ) == {
        "x-message-ttl": 5000, "x-dead-letter-exchange": "dlx", "x-expires": 1, "x-dead-letter-routing-key": "k",
        "x-max-length": 2, "x-max-length-bytes": 3, "x-max-priority": 4, "x-queue-type": "quorum",
        "x-overflow": "reject-publish", "x-delivery-limit": 5, "x-single-active-consumer": True,
    }  # fmt: skip
    for headers in ({"x-expires": "soon"}, {"x-single-active-consumer": "maybe"}, {"x-max-length": "9" * 20}):
        with pytest.raises(StompFault):
            queue_arguments(headers)


def test_small_readers() -> None:
    assert [boolean({"a": text}, "a") for text in ("true", "True", "false", "False", "yes", "")] == [
        True, True, False, False, None, None,
    ]  # fmt: skip
    assert boolean({}, "a") is None
    assert integer({}, "a") is None
    assert integer({"a": " 7 "}, "a") == 7


@pytest.mark.parametrize(
    ("version", "text"), [("1.0", "a\\:b"), ("1.1", "a\\b:c\nd\r"), ("1.2", "a\\b:c\nd\re"), ("1.2", "")]
)
def test_escapes_both_ways(version: str, text: str) -> None:
    assert unescape(escape(text, version), version) == text


def test_what_a_version_cannot_say() -> None:
    assert header_line("a", "b\nc:d\re", "1.0") == b"a:b c:d e\n"
    assert header_line("a:b", "c", "1.0") == b""
    assert header_line("a:b", "c\r", "1.1") == b"a\\cb:c\r\n"
    for version in ("1.0", "1.1", "1.2"):
        assert header_line("a", "b\0c", version) == b"a:bc\n"
    assert encode_frame("CONNECTED", [("session", "a:b")], b"", "1.2") == b"CONNECTED\nsession:a:b\n\n\0\n"
    assert encode_frame("ERROR", [("message", "a:b")], b"x\0", "1.2") == (
        b"ERROR\nmessage:a\\cb\ncontent-length:2\n\nx\0\0\n"
    )


@pytest.mark.parametrize(
    ("offered", "chosen"),
    [
        (None, "1.0"),
        ("1.0", "1.0"),
        ("1.0,1.1", "1.1"),
        ("1.2,1.1", "1.2"),
        ("1.1, 1.3", "1.1"),
        ("2.0,1.2", "1.2"),
    ],
)
def test_versions(offered: str | None, chosen: str) -> None:
    assert choose_version(offered) == chosen


@pytest.mark.parametrize("offered", ["", "1.3", "1", "1.2.0", "one"])
def test_no_common_version(offered: str) -> None:
    with pytest.raises(StompFault) as caught:
        choose_version(offered)
    assert caught.value.message == "Version mismatch"
    assert caught.value.detail == "Supported versions are 1.0,1.1,1.2\n"


@pytest.mark.parametrize(
    ("text", "own_ms", "answer"),
    [
        (None, 0, (0, 0, 0, 0)),
        ("0,0", 0, (0, 0, 0, 0)),
        ("4000,6000", 0, (6000, 4000, 6000, 4000)),
        ("500,500", 0, (1000, 1000, 1000, 1000)),
        ("0,2000", 0, (2000, 0, 2000, 0)),
        ("2000,0", 0, (0, 2000, 0, 2000)),
        ("0,0", 5000, (5000, 5000, 0, 0)),  # offered and asked for; the client wants neither
        (" 2000 , 0 ", 5000, (5000, 2000, 0, 2000)),
    ],
)
def test_heart_beats(text: str | None, own_ms: int, answer: tuple[int, int, int, int]) -> None:
    assert negotiate(text, own_ms) == answer


@pytest.mark.parametrize(
    "text", ["1000", "a,b", "1,2,3", "-1,0", "1000,", "1.5,2", "9" * 5000 + ",0", "1e3,0"]
)
def test_heart_beats_that_are_none(text: str) -> None:
    with pytest.raises(StompFault) as caught:
        negotiate(text, 0)
    assert caught.value.message == "Bad CONNECT"

"""From a message to a request: formats, headers, CloudEvents."""

from __future__ import annotations

import json
from base64 import b64encode
from typing import Any
from urllib.parse import unquote

import pytest
from hypothesis import given
from hypothesis import strategies as st

from leveret.core.errors import InvalidArgument
from leveret.core.fields import ByteArray, Int64
from leveret.core.message import Envelope
from leveret.core.properties import Properties
from leveret.plugins.webhooks.masking import MASK
from leveret.plugins.webhooks.outgoing.masking import masked, normalized
from leveret.plugins.webhooks.outgoing.rendering import percent_encoded, render, signed
from leveret.plugins.webhooks.outgoing.subscription import Subscription, TemplateRefused

SECRET = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"


def subscription(**value: Any) -> Subscription:
    return Subscription.of(
        "w", {"url": "https://hooks.example/", "exchange": "x", "secrets": [SECRET]} | value
    )


def made(
    body: bytes,
    value: dict[str, Any] | None = None,
    exchange: str = "shop",
    key: str = "order.new",
    **properties: Any,
) -> tuple[dict[str, str], bytes]:
    envelope = Envelope.of(exchange, key, Properties(**properties))
    rendering = render(subscription(**(value or {})), envelope, body, "msg_1")
    headers = dict(rendering.headers)
    assert len(headers) == len(rendering.headers)
    assert all(text.isascii() and text.isprintable() for text in headers.values())
    return headers, rendering.body


def test_raw_is_the_body_as_it_is() -> None:
    headers, body = made(b"\x00\xff", content_type="image/png", content_encoding="gzip")
    assert body == b"\x00\xff"
    assert (headers["Content-Type"], headers["Content-Encoding"]) == ("image/png", "gzip")
    headers, _ = made(b"x")
    assert headers["Content-Type"] == "application/octet-stream"
    headers, _ = made(b"x", {"content_type": "text/plain"}, content_type="image/png")
    assert headers["Content-Type"] == "text/plain"


def test_a_content_type_that_no_header_can_hold() -> None:
    assert made(b"", content_type="a\r\nX: y")[0]["Content-Type"] == "application/octet-stream"


def test_headers_are_forwarded_where_they_can_be() -> None:
    headers, _ = made(
        b"",
        headers={
            "text": "a b", "int": Int64(5), "yes": True, "bytes": ByteArray(b"raw"), "float": 1.5, "list": [1],
            "none": None, "no token": "x", "CC": ["k"], "crlf": "a\r\nb", "long": "x" * 5000, "table": {"a": 1},
        },
        type="t", app_id="app", timestamp=5, priority=3,
    )  # fmt: skip
    assert {name: value for name, value in headers.items() if name.startswith("X-Leveret-Header-")} == {
        "X-Leveret-Header-text": "a%20b", "X-Leveret-Header-int": "5", "X-Leveret-Header-yes": "true",
        "X-Leveret-Header-bytes": "raw", "X-Leveret-Header-float": "1.5", "X-Leveret-Header-crlf": "a%0D%0Ab",
    }  # fmt: skip
    assert (headers["X-Leveret-Type"], headers["X-Leveret-Timestamp"], headers["X-Leveret-Priority"]) == (
        "t", "5", "3",
    )  # fmt: skip
    headers, _ = made(b"", {"forward_headers": False}, headers={"text": "a"}, type="t")
    assert not [name for name in headers if "Header-" in name or name == "X-Leveret-Type"]


def test_many_headers_are_bounded() -> None:
    headers, _ = made(b"", headers={f"h{number}": "x" * 1000 for number in range(200)})
    assert sum(len(name) + len(value) for name, value in headers.items()) < 20_000


@given(st.text())
def test_percent_encoding_goes_there_and_back(text: str) -> None:
    encoded = percent_encoded(text)
    assert all(0x21 <= ord(char) <= 0x7E and char != '"' for char in encoded)
    assert unquote(encoded, errors="strict") == text.encode("utf-8", "replace").decode()


def test_percent_encoding_as_the_binding_says() -> None:
    assert (
        percent_encoded('Euro \u20ac "\U0001f600" 100%') == "Euro%20%E2%82%AC%20%22%F0%9F%98%80%22%20100%25"
    )
    assert percent_encoded("a/b?c=d") == "a/b?c=d"


def test_json_envelope() -> None:
    headers, body = made(
        b'{"n": 1}',
        {"format": "json"},
        content_type="application/json",
        timestamp=1614265330,
        headers={"h": 1},
    )
    assert headers["Content-Type"] == "application/json"
    assert json.loads(body) == {
        "type": "order.new", "timestamp": "2021-02-25T15:02:10Z", "id": "msg_1", "exchange": "shop",
        "routing_key": "order.new", "headers": {"h": 1}, "data": {"n": 1},
    }  # fmt: skip


@pytest.mark.parametrize(
    ("body", "content_type", "member"),
    [
        (b'{"a":1}', "application/json; charset=utf-8", {"data": {"a": 1}}),
        (b'{"a":1}', "application/vnd.x+json", {"data": {"a": 1}}),
        (b"{no", "application/json", {"data_base64": "e25v"}),
        ("ä".encode(), "text/plain", {"data": "ä"}),
        (b"\xff", "text/plain", {"data_base64": "/w=="}),
        (b"text", None, {"data": "text"}),
        (b"\x00\x01", "application/octet-stream", {"data_base64": "AAE="}),
        (b"[NaN]", "application/json", {"data_base64": "W05hTl0="}),
        (b"[1e999]", "application/json", {"data_base64": "WzFlOTk5XQ=="}),
        (b'"\\ud800"', "application/json", {"data": "\ud800"}),
        (
            b" " * (1 << 20) + b"1",
            "application/json",
            {"data_base64": b64encode(b" " * (1 << 20) + b"1").decode()},
        ),
    ],
)
def test_data_or_data_base64(body: bytes, content_type: str | None, member: dict[str, Any]) -> None:
    for form in ("json", "cloudevents-structured"):
        _, made_body = made(body, {"format": form}, content_type=content_type)
        found = json.loads(made_body)
        assert {
            name: value
            for name, value in found.items()
            if name.startswith("data") and name != "datacontenttype"
        } == member


def test_numbers_that_json_does_not_have_are_null() -> None:
    _, body = made(
        b"x", {"format": "json"}, headers={"inf": float("inf"), "list": [{"nan": float("nan"), "n": 1.5}]}
    )
    assert json.loads(body)["headers"] == {"inf": None, "list": [{"nan": None, "n": 1.5}]}


def test_a_template_is_not_given_what_it_cannot_take() -> None:
    with pytest.raises(TemplateRefused, match="the message is longer than 262144 bytes"):
        made(bytes((1 << 18) + 1), {"template": "x"})


def test_cloudevents_binary() -> None:
    headers, body = made(
        b"\x00", {"format": "cloudevents-binary"}, content_type="application/avro", timestamp=1614265330,
        headers={"cloudEvents:subject": "a \u20ac", "cloudEvents_traceparent": "00-x", "cloudEvents:BAD": "x", "other": 1},
    )  # fmt: skip
    assert body == b"\x00"
    assert headers["Content-Type"] == "application/avro"
    assert {name: value for name, value in headers.items() if name.startswith("ce-")} == {
        "ce-specversion": "1.0", "ce-id": "msg_1", "ce-source": "/shop", "ce-type": "order.new",
        "ce-time": "2021-02-25T15:02:10Z", "ce-subject": "a%20%E2%82%AC", "ce-traceparent": "00-x",
    }  # fmt: skip
    assert "ce-datacontenttype" not in headers


def test_cloudevents_structured() -> None:
    headers, body = made(
        b'{"a":1}', {"format": "cloudevents-structured", "source": "urn:me"}, content_type="application/json",
        type="com.example.made", headers={"cloudEvents:id": "mine"},
    )  # fmt: skip
    assert headers["Content-Type"].startswith("application/cloudevents+json")
    assert json.loads(body) == {
        "specversion": "1.0", "id": "mine", "source": "urn:me", "type": "com.example.made",
        "datacontenttype": "application/json", "data": {"a": 1},
    }  # fmt: skip


def test_the_attempts_headers() -> None:
    one = subscription()
    rendering = render(one, Envelope.of("", "q", Properties()), b"b", "msg_1")
    headers = dict(signed(one, rendering, "msg_1", 3, 1614265330.9))
    assert (headers["webhook-timestamp"], headers["X-Leveret-Attempt"]) == ("1614265330", "3")
    assert headers["webhook-signature"].startswith("v1,")


# -- subscriptions


@pytest.mark.parametrize(
    ("value", "text"),
    [
        ({"url": "https://u:p@h.example/"}, "credentials belong"),
        ({"exchange": None}, "either 'exchange' or 'queue'"),
        ({"routing_keys": []}, "routing_keys must be a list"),
        ({"routing_keys": "a"}, "routing_keys must be a list"),
        ({"headers": {"Content-Length": "1"}}, "cannot be set"),
        ({"headers": {"webhook-id": "1"}}, "cannot be set"),
        ({"headers": {"X": "a\r\nb"}}, "headers.X must be"),
        ({"headers": {"X": "a" * 4097}}, "headers.X must be"),
        ({"headers": {"X": "a", "x": "b"}}, "twice"),
        ({"headers": {"a b": "x"}}, "not the name of a header"),
        ({"auth": {"type": "digest"}}, "auth.type must be one of"),
        ({"auth": {"type": "bearer"}}, "auth.token"),
        ({"auth": {"type": "basic", "username": "a:b"}}, "colon"),
        ({"secrets": "whsec_x"}, "secrets must be a list"),
        ({"secrets": [SECRET] * 11}, "at most 10"),
        ({"retry": {"delays_s": [-1]}}, "delays_s"),
        ({"retry": {"what": 1}}, "there is no field retry.what"),
        ({"concurrency": 0}, "concurrency must be an integer from 1 to 256"),
        ({"concurrency": True}, "concurrency must be"),
        ({"timeout_s": "5"}, "timeout_s must be a number"),
        ({"dead_letter_on": [200]}, "dead_letter_on"),
        ({"rate_limit": 5}, "rate_limit must be an object"),
        ({"circuit_breaker": {"failure_ratio": 2}}, "circuit_breaker.failure_ratio"),
        ({"format": "xml"}, "format must be one of"),
        ({"format": "template"}, "must be given together"),
        ({"template": "x", "format": "raw"}, "must be given together"),
        ({"order_by": "header:"}, "order_by must be"),
        ({"method": "GET"}, "method must be one of"),
        ({"enabled": "yes"}, "enabled must be true or false"),
        ({"arguments": []}, "arguments must be an object"),
        ({"unknown": 1}, "there is no field unknown"),
    ],
)
def test_what_makes_no_sense(value: dict[str, Any], text: str) -> None:
    with pytest.raises(InvalidArgument, match=text):
        subscription(**value)


@pytest.mark.parametrize("name", ["", "a b", "a/b", "x.dead", "x" * 201, "\u00e4"])
def test_bad_names(name: str) -> None:
    with pytest.raises(InvalidArgument, match="webhook name"):
        Subscription.of(name, {"url": "https://hooks.example/", "queue": "q"})


@pytest.mark.parametrize("value", [None, [], "x", 5])
def test_no_object(value: Any) -> None:
    with pytest.raises(InvalidArgument):
        Subscription.of("w", value)
    with pytest.raises(InvalidArgument):
        normalized(value)


def test_masked_and_back() -> None:
    before = {
        "url": "https://hooks.example/", "queue": "q", "headers": {"X-Key": "k"},
        "auth": {"type": "basic", "username": "u", "password": "p"},
        "secrets": [SECRET, {"secret": SECRET, "expires_at": 5}],
    }  # fmt: skip
    shown = masked(before)
    assert shown["headers"] == {"X-Key": MASK}
    assert shown["auth"] == {"type": "basic", "username": "u", "password": MASK}
    assert shown["secrets"] == [MASK, {"secret": MASK, "expires_at": 5}]
    assert normalized(shown, before) == before
    for name in ("headers", "auth", "secrets"):
        with pytest.raises(InvalidArgument, match="masked"):
            normalized(shown | {"headers": {}, "auth": {}, "secrets": []} | {name: shown[name]})


def test_basic_and_bearer() -> None:
    one = subscription(auth={"type": "basic", "username": "Aladdin", "password": "open sesame"})
    assert ("Authorization", "Basic QWxhZGRpbjpvcGVuIHNlc2FtZQ==") in one.headers
    assert "sesame" not in repr(one)

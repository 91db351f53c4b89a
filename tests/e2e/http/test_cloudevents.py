"""CloudEvents over HTTP: the binary and the structured mode, and batches."""

from __future__ import annotations

import json
import urllib.error
import urllib.request
from typing import Any

import pytest
from support.amqp_peer import Peer
from support.rest_call import call
from support.server import REFERENCE, Server, poll

EVENT = {"specversion": "1.0", "id": "e-1", "source": "/shop", "type": "order.placed"}


BINARY = {f"ce-{key}": value for key, value in EVENT.items()}


@pytest.fixture
def queue(shared: Server, peer: Peer, name: str) -> str:
    if REFERENCE:
        pytest.skip("the reference has no REST API for messages")
    return peer.declare(1, name)


def attributes(headers: dict[str, Any]) -> dict[str, Any]:
    return {
        key.removeprefix("cloudEvents:"): value
        for key, value in headers.items()
        if key.startswith("cloudEvents:")
    }


@pytest.mark.parametrize(
    ("value", "text"),
    [
        ("Euro%20%E2%82%AC%20%F0%9F%98%80", "Euro € 😀"),  # the specification's own example
        ("100%25", "100%"),
        ("100%2525", "100%25"),  # one round of decoding, no more
        ("%22quoted%22", '"quoted"'),
        ('"quoted \\"string\\""', 'quoted "string"'),  # a quoted string of HTTP: unquoted first
        ("a+b", "a+b"),  # no form encoding
        ("%c3%bc", "ü"),  # lower-case hexadecimal digits are understood
    ],
)
def test_binary_values_are_percent_decoded_and_encoded_again(
    shared: Server, peer: Peer, queue: str, value: str, text: str
) -> None:
    messages = f"/queues/%2F/{queue}/messages"
    assert call(shared, messages, b"{}", headers=BINARY | {"ce-subject": value})[0] == 200
    got = peer.get(1, queue)
    assert got is not None
    assert attributes(got.headers) == EVENT | {"subject": text}
    # And out: space, double quote, percent and everything beyond U+0021 to U+007E, in upper-case hexadecimal.
    assert call(shared, messages, b"{}", headers=BINARY | {"ce-subject": value})[0] == 200
    status, body, headers = call(shared, f"/queues/%2F/{queue}/receive?format=raw&ack=auto")
    assert (status, body) == (200, b"{}")
    sent = headers["ce-subject"]
    assert all("!" <= character <= "~" and character != '"' for character in sent)
    assert urllib.request.unquote(sent) == text  # type: ignore[attr-defined]
    assert sent == sent.replace("%c3", "%C3")
    assert {key: headers[key] for key in BINARY} == BINARY


@pytest.mark.parametrize("value", ["%ff", "%C3", "%ED%A0%80", "%C0%80"])
def test_binary_values_that_are_no_utf8_are_refused(
    shared: Server, peer: Peer, queue: str, value: str
) -> None:
    status, content, _ = call(
        shared, f"/queues/%2F/{queue}/messages", b"", headers=BINARY | {"ce-subject": value}
    )
    assert (status, json.loads(content)["error"]) == (400, "bad_request")
    assert peer.counts(1, queue)[0] == 0


def test_the_type_of_the_data_is_content_type_and_never_a_ce_header(
    shared: Server, peer: Peer, queue: str
) -> None:
    messages = f"/queues/%2F/{queue}/messages"
    status, content, _ = call(
        shared,
        messages,
        b"x",
        headers=BINARY | {"ce-datacontenttype": "text/xml", "Content-Type": "text/xml"},
    )
    assert (status, "Content-Type" in json.loads(content)["detail"]) == (400, True)
    assert peer.counts(1, queue)[0] == 0
    assert (
        call(shared, messages, b"<x/>", headers=BINARY | {"Content-Type": "text/xml; charset=utf-8"})[0]
        == 200
    )
    got = peer.get(1, queue)
    assert got is not None
    assert (got.properties["content_type"], got.body) == ("text/xml; charset=utf-8", b"<x/>")
    assert "cloudEvents:datacontenttype" not in got.headers
    # Not even if an AMQP client has written one.
    peer.publish(
        1, "", queue, b"{}", content_type="application/json",
        headers={f"cloudEvents:{key}": value for key, value in EVENT.items()}
        | {"cloudEvents:datacontenttype": "text/xml"},
    )  # fmt: skip
    poll(lambda: peer.counts(1, queue)[0] == 1, "published")
    _, _, headers = call(shared, f"/queues/%2F/{queue}/receive?format=raw&ack=auto")
    assert headers["content-type"] == "application/json"
    assert "ce-datacontenttype" not in headers
    assert headers["ce-id"] == "e-1"


@pytest.mark.parametrize(
    ("members", "body", "content_type"),
    [
        ({"data": {"a": [1, "ü", None]}}, '{"a":[1,"ü",null]}'.encode(), "application/json"),
        (
            {"data": "text"},
            b'"text"',
            "application/json",
        ),  # a string is a JSON value unless the type says otherwise
        ({"data": "text", "datacontenttype": "text/plain"}, b"text", "text/plain"),
        ({"data": "<x/>", "datacontenttype": "application/xml"}, b"<x/>", "application/xml"),
        ({"data": "text", "datacontenttype": "application/json"}, b'"text"', "application/json"),
        ({"data": "text", "datacontenttype": "application/vnd.x+json"}, b'"text"', "application/vnd.x+json"),
        ({"data": 5}, b"5", "application/json"),
        ({"data": None}, b"null", "application/json"),
        ({"data_base64": "AP8="}, b"\x00\xff", None),
        ({"data_base64": "AP8=", "datacontenttype": "image/png"}, b"\x00\xff", "image/png"),
        (
            {"data_base64": "eyJhIjoxfQ==", "datacontenttype": "application/json"},
            b'{"a":1}',
            "application/json",
        ),
        ({}, b"", None),
    ],
)
def test_data_and_data_base64_in_structured_mode(
    shared: Server, peer: Peer, queue: str, members: dict[str, Any], body: bytes, content_type: str | None
) -> None:
    event = json.dumps(EVENT | {"comexampleflag": True, "n": 7, "time": "2024-01-01T00:00:00Z"} | members)
    status, content, _ = call(
        shared, f"/queues/%2F/{queue}/messages", event.encode(),
        headers={"Content-Type": "Application/CloudEvents+JSON; charset=utf-8"},
    )  # fmt: skip
    assert (status, content) == (200, b'{"routed":true}')
    got = peer.get(1, queue)
    assert got is not None
    assert (got.body, got.properties.get("content_type")) == (body, content_type)
    assert attributes(got.headers) == EVENT | {"comexampleflag": True, "n": 7, "time": "2024-01-01T00:00:00Z"}


@pytest.mark.parametrize(
    ("members", "status"),
    [
        ({"data": 1, "data_base64": "AA=="}, 400),
        ({"data_base64": "not base64"}, 400),
        ({"data_base64": 5}, 400),
        ({"id": ""}, 400),
        ({"id": None}, 400),
        ({"specversion": "0.3"}, 400),
        ({"time": "yesterday"}, 400),
        ({"UPPER": "x"}, 400),
        ({"nested": {"a": 1}}, 400),
        ({"big": 1 << 40}, 400),
    ],
)
def test_structured_events_that_are_none_are_refused(
    shared: Server, peer: Peer, queue: str, members: dict[str, Any], status: int
) -> None:
    answer = call(
        shared, f"/queues/%2F/{queue}/messages", json.dumps(EVENT | members).encode(),
        headers={"Content-Type": "application/cloudevents+json"},
    )  # fmt: skip
    assert answer[0] == status, answer
    assert answer[2]["content-type"] == "application/problem+json"
    assert peer.counts(1, queue)[0] == 0


def test_formats_that_are_not_understood_are_415(shared: Server, peer: Peer, queue: str) -> None:
    for kind in (
        "application/cloudevents+protobuf",
        "application/cloudevents",
        "application/cloudevents-batch+avro",
    ):
        assert call(shared, f"/queues/%2F/{queue}/messages", b"x", headers={"Content-Type": kind})[0] == 415
    assert peer.counts(1, queue)[0] == 0


def test_a_batch_is_a_batch_and_not_one_event(shared: Server, peer: Peer, queue: str) -> None:
    """`application/cloudevents-batch` begins like `application/cloudevents`: it is looked for first."""
    events = [EVENT | {"id": "1", "data": 1}, EVENT | {"id": "2", "data_base64": "Ag=="}, EVENT | {"id": "3"}]
    kind = {"Content-Type": "application/cloudevents-batch+json; charset=utf-8"}
    for path in ("messages", "messages/batch"):
        status, content, _ = call(
            shared, f"/queues/%2F/{queue}/{path}", json.dumps(events).encode(), headers=kind
        )
        assert (status, json.loads(content)) == (200, {"count": 3, "routed": 3, "unrouted": []})
        got = [peer.get(1, queue) for _ in range(3)]
        assert [event and (event.headers["cloudEvents:id"], event.body) for event in got] == [
            ("1", b"1"), ("2", b"\x02"), ("3", b""),
        ]  # fmt: skip
    # One that is none, and none of them is stored; an empty one is valid (JSON format 4.1).
    broken = [*events, EVENT | {"id": ""}]
    assert call(shared, f"/queues/%2F/{queue}/messages", json.dumps(broken).encode(), headers=kind)[0] == 400
    assert peer.counts(1, queue)[0] == 0
    status, content, _ = call(shared, f"/queues/%2F/{queue}/messages", b"[]", headers=kind)
    assert (status, json.loads(content)) == (200, {"count": 0, "routed": 0, "unrouted": []})

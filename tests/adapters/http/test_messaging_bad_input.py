"""What peers do wrong to the REST API: each gets problem details (RFC 9457) with the right status, and nothing is stored."""

from __future__ import annotations

import base64
import contextlib
import json
import re
from collections.abc import Sequence
from typing import Any

import pytest
import trio
from support.rest import Rest, declare, rest_door

from leveret.adapters.http.settings import HttpSettings
from leveret.core.fields import Timestamp
from leveret.core.message import Envelope
from leveret.core.properties import Properties

LOGIN = b"Authorization: Basic " + base64.b64encode(b"guest:guest") + b"\r\n"
PATH = b"/v1/queues/%2F/q/messages"
POST = b"POST " + PATH + b" HTTP/1.1\r\nHost: x\r\n" + LOGIN


async def talk(
    rest: Rest, *pieces: bytes, pause_s: float = 0.0, wait_s: float = 40.0
) -> list[tuple[int, Any]]:
    """The answers to raw bytes, up to the end of the connection or until nothing more comes; status and JSON."""
    stream, _, _ = rest._door.connect()
    received = b""

    async def read() -> None:
        nonlocal received
        with contextlib.suppress(trio.BrokenResourceError):
            async for chunk in stream:
                received += chunk
        nursery.cancel_scope.cancel()

    async with stream, trio.open_nursery() as nursery:
        nursery.start_soon(read)
        with contextlib.suppress(trio.BrokenResourceError):
            for piece in pieces:
                await stream.send_all(piece)
                await trio.sleep(pause_s)
        await trio.sleep(wait_s)
        nursery.cancel_scope.cancel()
    return answers_in(received)


def answers_in(data: bytes) -> list[tuple[int, Any]]:
    found: list[tuple[int, Any]] = []
    while data:
        head, _, rest = data.partition(b"\r\n\r\n")
        match = re.match(rb"HTTP/1\.[01] (\d{3}) ", head)
        assert match is not None, data
        status = int(match[1])
        if status == 100:
            found.append((100, None))
            data = rest
            continue
        assert re.search(rb"(?m)^Server: Leveret\r?$", head), head
        length = int(re.search(rb"(?mi)^content-length: (\d+)\r?$", head)[1])  # type: ignore[index]
        body, data = rest[:length], rest[length:]
        value: Any = json.loads(body) if body else None
        if status >= 400:
            assert re.search(rb"(?mi)^content-type: application/problem\+json", head), head
            assert value["status"] == status
            assert value["title"]
            assert value["detail"]
            assert value["error"]
        found.append((status, value))
    return found


@pytest.mark.parametrize(
    ("request_bytes", "statuses"),
    [
        (POST + b"Content-Length: abc\r\n\r\n", [400]),
        (POST + b"Content-Length: -1\r\n\r\n", [400]),
        (POST + b"Content-Length: 3\r\nContent-Length: 4\r\n\r\nabcd", [400]),
        (POST + b"Content-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n", [400]),
        (POST + b"Transfer-Encoding: chunked\r\n\r\nzz\r\nabc\r\n0\r\n\r\n", [400]),
        (POST + b"Transfer-Encoding: chunked\r\n\r\n3\r\nabcdef\r\n0\r\n\r\n", [400]),
        (POST + b"Transfer-Encoding: identity\r\n\r\nabc", [400]),
        (POST + b"Transfer-Encoding: gzip, chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n", [501]),
        (POST + b"Content-Length: 100000000\r\n\r\n", [413]),
        (POST + b"X-Long: " + b"a" * 20_000 + b"\r\n\r\n", [431]),
        (POST + b"".join([b"X-%d: a\r\n" % number for number in range(1000)]) + b"\r\n", [431]),
        (b"POST " + PATH + b"?routing_key=" + b"a" * 40_000 + b" HTTP/1.1\r\nHost: x\r\n" + LOGIN + b"\r\n", [414]),
        (b"POST " + PATH + b"?x=" + b"a" * 20_000 + b" HTTP/1.1\r\nHost: x\r\n" + LOGIN + b"\r\n", [400]),
        (b"POST " + PATH + b" HTTP/1.1\r\n" + LOGIN + b"\r\n", [400]),  # no Host
        (b"POST " + PATH + b" HTTP/7.0\r\nHost: x\r\n\r\n", [505]),
        (POST + b"Bad Name: a\r\n\r\n", [400]),
        (POST + b"X-Nul: a\0b\r\n\r\n", [400]),
        (POST + b"X-Folded: a\r\n b\r\n\r\n", [400]),
        (POST + b"Expect: the-worst\r\nContent-Length: 3\r\n\r\nabc", [417]),
        (b"AMQP\x00\x00\x09\x01", [400]),
        (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03", [400]),
        (b"\r\n" * 40_000, [431]),
        (b"POST " + PATH + b" HTTP/1.1\r\nHost: x\r\nContent-Length: 3\r\n\r\nabc", [401]),
        (POST.replace(LOGIN, b"Authorization: Basic !!!\r\n") + b"Content-Length: 3\r\n\r\nabc", [401]),
        (POST + b"X-Leveret-Message-Id: a\r\nX-Leveret-Message-Id: b\r\nContent-Length: 0\r\n\r\n", [400]),
        (POST + b"Content-Type: a/b\r\nContent-Type: c/d\r\nContent-Length: 0\r\n\r\n", [400]),
        (POST + b"Idempotency-Key: a\r\nIdempotency-Key: b\r\nContent-Length: 0\r\n\r\n", [400]),
        (POST + b"Idempotency-Key: \r\nContent-Length: 0\r\n\r\n", [400]),
        (POST + b'X-Leveret-Header-A: 1\r\nX-Leveret-Headers: {"a": 2}\r\nContent-Length: 0\r\n\r\n', [400]),
        (POST + b"ce-specversion: 1.0\r\nce-id: 1\r\nce-id: 2\r\nce-source: s\r\nce-type: t\r\nContent-Length: 0\r\n\r\n", [400]),
        (POST + b"ce-id: 1\r\nce-source: s\r\nce-type: t\r\nContent-Length: 0\r\n\r\n", [400]),
        (b"GET " + PATH + b" HTTP/1.1\r\nHost: x\r\n" + LOGIN + b"\r\n", [405]),
        (b"POST /v1/nothing HTTP/1.1\r\nHost: x\r\n" + LOGIN + b"\r\n", [404]),
        (b"POST /v1/queues/%2F/%0d%0aX-Evil:1/messages HTTP/1.1\r\nHost: x\r\n" + LOGIN + b"\r\n", [404]),
        (b"POST /v1/queues/%2F/" + b"q" * 300 + b"/messages HTTP/1.1\r\nHost: x\r\n" + LOGIN + b"\r\n", [400]),
        (b"GET /v1/queues/%2F/q/events HTTP/1.1\r\nHost: x\r\nAccept: application/json\r\n" + LOGIN + b"\r\n", [406]),
        (
            b"GET /v1/queues/%2F/q/events HTTP/1.1\r\nHost: x\r\nAccept: text/event-stream;q=0, text/html\r\n"
            + LOGIN + b"\r\n", [406],
        ),
        (b"POST /v1/queues/%2F/q/receive HTTP/1.1\r\nHost: x\r\nAccept: text/html\r\n" + LOGIN + b"\r\n", [406]),
    ],
)  # fmt: skip
async def test_what_is_wrong_is_refused_with_problem_details(
    request_bytes: bytes, statuses: Sequence[int], autojump_clock: Any
) -> None:
    async with rest_door() as rest:
        queue = declare(rest, "q")
        assert [status for status, _ in await talk(rest, request_bytes, wait_s=3)] == statuses
        assert queue.message_count == 0
        await rest.publish("q", b"x")  # the others are served


async def test_a_refused_method_says_which_are_there(autojump_clock: Any) -> None:
    async with rest_door() as rest:
        answer = await rest.call("PUT", "/v1/queues/%2F/q/messages", b"x")
        problem = answer.problem(405, "method_not_allowed")
        assert answer.headers["allow"] == "OPTIONS, POST"
        assert problem["detail"] == "PUT is not allowed here; what is: POST"


async def test_what_a_peer_sent_is_neither_logged_nor_told(
    autojump_clock: Any, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO")
    async with rest_door() as rest:
        for line in (b"Authorization: Basic s3cret\0", b"Authorization: " + b"s3cret" * 4000):
            answers = await talk(
                rest, b"POST " + PATH + b" HTTP/1.1\r\nHost: x\r\n" + line + b"\r\n\r\n", wait_s=3
            )
            assert len(answers) == 1
            assert "s3cret" not in str(answers)
    assert "not HTTP" in caplog.text
    assert "s3cret" not in caplog.text


@pytest.mark.parametrize(
    ("pieces", "expected"),
    [
        ((POST + b"Content-Length: 10\r\n\r\n", b"half"), (408, "timeout")),
        ((POST + b"Transfer-Encoding: chunked\r\n\r\n", b"4\r\nhalf\r\n"), (408, "timeout")),
        ((POST + b"Transfer-Encoding: chunked\r\n\r\n", b"4\r\nhalf\r\n", b"zz\r\n"), (400, "bad_request")),
        ((POST + b"Content-Length: 60\r\n\r\n", *[b"x"] * 50), (408, "timeout")),  # a byte a second
        ((POST, b"X-Some: header\r\n"), (408, "timeout")),
        ((POST, *[b"X-%d: a\r\n" % number for number in range(30)]), (408, "timeout")),
        ((POST, *[b"X-%d: %s\r\n" % (number, b"a" * 15_000) for number in range(6)]), (431, "header_fields_too_large")),
    ],
)  # fmt: skip
async def test_what_comes_in_parts_is_bounded_in_time_and_size(
    pieces: Sequence[bytes], expected: tuple[int, str], autojump_clock: Any
) -> None:
    async with rest_door() as rest:
        queue = declare(rest, "q")
        began = trio.current_time()
        answers = await talk(rest, *pieces, pause_s=1.0)
        assert [(status, value["error"]) for status, value in answers] == [expected]
        assert trio.current_time() - began < 90
        assert queue.message_count == 0


async def test_an_idle_connection_ends_without_a_word(autojump_clock: Any) -> None:
    async with rest_door() as rest:
        assert await talk(rest, wait_s=100) == []
        [(status, _)] = await talk(rest, POST[:40], wait_s=100)  # one that has begun is told
        assert status == 408
        adapter: Any = rest._door.adapter
        assert not adapter._bridges


async def test_a_client_that_goes_away_in_a_body_stores_nothing(autojump_clock: Any) -> None:
    async with rest_door() as rest:
        queue = declare(rest, "q")
        for framing in (
            b"Content-Length: 10\r\n\r\nhalf",
            b"Transfer-Encoding: chunked\r\n\r\n4\r\nhalf\r\n",
        ):
            stream, _, ended = rest._door.connect()
            await stream.send_all(POST + framing)
            await trio.testing.wait_all_tasks_blocked(0.01)
            await stream.aclose()
            await ended.wait()
        assert queue.message_count == 0


async def test_a_length_that_lies_is_the_next_request(autojump_clock: Any) -> None:
    async with rest_door() as rest:
        queue = declare(rest, "q")
        whole = POST + b"Content-Length: 3\r\n\r\nabc"
        answers = await talk(rest, whole, b"def", pause_s=0.1, wait_s=3)
        assert [status for status, _ in answers] == [200, 400]
        assert [message.body for message in queue.ready.take(9)] == [b"abc"]
        # With what makes no sense in the same packet nothing of the packet is carried out.
        assert [status for status, _ in await talk(rest, whole + b"def", wait_s=3)] == [400]
        assert queue.message_count == 0


async def test_requests_in_one_go_are_answered_in_order(autojump_clock: Any) -> None:
    async with rest_door() as rest:
        queue = declare(rest, "q")
        one = POST + b"Content-Length: 1\r\n\r\n"
        bad = one.replace(b"/q/", b"/none/")
        answers = await talk(rest, b"".join([one + b"1", bad + b"2", one + b"3"] * 30), wait_s=3)
        assert [status for status, _ in answers] == [200, 404, 200] * 30
        assert [message.body for message in queue.ready.take(99)] == [b"1", b"3"] * 30


async def test_a_body_that_is_refused_need_not_be_sent(autojump_clock: Any) -> None:
    """RFC 9110 10.1.1: 100 Continue comes when the body is wanted, not before."""
    async with rest_door() as rest:
        queue = declare(rest, "q")
        asking = b"Expect: 100-continue\r\nContent-Length: 3\r\n\r\n"
        assert await talk(rest, POST + asking, b"abc", pause_s=1.0, wait_s=3) == [
            (100, None), (200, {"routed": True}),
        ]  # fmt: skip
        for head, status in (
            (POST.replace(LOGIN, b""), 401),
            (POST.replace(b"%2F/q", b"none/q"), 404),
            (POST.replace(b"messages", b"messages?x=1"), 400),
        ):
            assert [one for one, _ in await talk(rest, head + asking, wait_s=5)] == [status]
        rest.broker.alarms.set_alarm("memory")
        assert [one for one, _ in await talk(rest, POST + asking, wait_s=5)] == [503]
        rest.broker.alarms.clear_alarm("memory")
        assert queue.message_count == 1


async def test_properties_cannot_break_out_of_an_answers_headers(autojump_clock: Any) -> None:
    evil = "a\r\nX-Evil: 1\r\n\r\n\x00\x7f\u0085 \u2028€"
    async with rest_door() as rest:
        queue = declare(rest, "q")
        properties = Properties(
            content_type=evil, content_encoding=evil, correlation_id=evil, reply_to=evil, message_id=evil, type=evil,
            app_id=evil, headers={
                evil: evil, "traceparent": evil, "cloudEvents:id": evil, f"cloudEvents:{evil}": "x", "b": b"\xff\r\n",
                "cloudEvents:flag": True, "cloudEvents:n": -3, "cloudEvents:time": Timestamp(0),
            },
        )  # fmt: skip
        queue.publish(Envelope.of("", "q", properties), [b"body"])
        answer = await rest.post("/v1/queues/%2F/q/receive?format=raw&ack=auto")
        assert (answer.status, answer.body) == (200, b"body")
        headers = answer.headers
        assert "x-evil" not in headers
        assert headers["content-type"] == "application/octet-stream"
        assert "content-encoding" not in headers
        assert (
            headers["x-leveret-message-id"]
            == "a%0D%0AX-Evil:%201%0D%0A%0D%0A%00%7F%C2%85%20%E2%80%A8%E2%82%AC"
        )
        assert (headers["ce-flag"], headers["ce-n"], headers["ce-time"]) == (
            "true",
            "-3",
            "1970-01-01T00:00:00Z",
        )
        assert all(value.isascii() and value.isprintable() for value in headers.values())


async def test_many_pollers_share_the_room_for_leases(autojump_clock: Any) -> None:
    """The bound holds for those who were waiting when there was room for each of them."""
    from dataclasses import replace

    async with rest_door(http=replace(HttpSettings(), leases_max=8)) as rest:
        queue = declare(rest, "q")
        pollers = [rest.another() for _ in range(4)]
        for poller in pollers:
            await poller.send("POST", "/v1/queues/%2F/q/receive?max=2&wait=20")
        await trio.testing.wait_all_tasks_blocked(0.01)
        queue.publish(Envelope.of("", "q", Properties()), [b"%d" % number for number in range(8)])
        rest.broker.dispatcher.run()
        answers = [await poller.answer() for poller in pollers]
        granted = [
            message for answer in answers if answer.status == 200 for message in answer.json["messages"]
        ]
        assert len(granted) == 2
        for answer in answers:
            if answer.status != 200:
                answer.problem(429, "too_many_leases")
                assert answer.headers["retry-after"] == "1"
        assert queue.message_count == 6
        for poller in pollers:
            await poller.close()


MESSAGE, EVENT = "application/vnd.leveret.message+json", "application/cloudevents+json"
HEAD_OF_EVENT = b'{"specversion":"1.0","id":"1","source":"s","type":"t",'


@pytest.mark.parametrize(
    ("kind", "body"),
    [
        (MESSAGE, b'{"payload": NaN}'),
        (MESSAGE, b'{"payload": 1e999}'),
        (MESSAGE, b'{"payload": "\\ud800"}'),
        (MESSAGE, b'{"payload": ["\\ud800"]}'),
        (MESSAGE, b'{"payload": "", "properties": {"message_id": "\\ud800"}}'),
        (MESSAGE, b'{"payload": "", "properties": {"headers": {"\\ud800": 1}}}'),
        (MESSAGE, b'{"payload": "", "properties": {"headers": {"a": 100000000000000000000}}}'),
        (MESSAGE, b'{"payload": "", "properties": {"headers": {"' + b"k" * 256 + b'": 1}}}'),
        (MESSAGE, b'{"payload": "", "properties": {"headers": {"a": ' + b"[" * 100 + b"]" * 100 + b"}}}"),
        (MESSAGE, b'{"payload": "", "properties": {"headers": {"a": "' + b"x" * 70_000 + b'"}}}'),
        (MESSAGE, b'{"payload": "", "properties": {"headers": {"CC": "no list"}}}'),
        (MESSAGE, b'{"payload": "", "properties": {"expiration": "soon"}}'),
        (MESSAGE, b"[" * 200_000),
        (MESSAGE, b"\xff"),
        (EVENT, HEAD_OF_EVENT + b'"data": NaN}'),
        (EVENT, HEAD_OF_EVENT + b'"data": 1e999}'),
        (EVENT, HEAD_OF_EVENT + b'"data": "\\ud800", "datacontenttype": "text/plain"}'),
        (EVENT, HEAD_OF_EVENT + b'"subject": "a\\r\\nb"}'),
        (EVENT, HEAD_OF_EVENT + b'"subject": "\\uffff"}'),
        (EVENT, HEAD_OF_EVENT + b'"datacontenttype": "a/b\\r\\nX-Evil: 1"}'),
        (EVENT, HEAD_OF_EVENT + b'"number": 1.5}'),
    ],
)  # fmt: skip
async def test_json_that_makes_no_message(kind: str, body: bytes, autojump_clock: Any) -> None:
    async with rest_door() as rest:
        queue = declare(rest, "q")
        (await rest.post("/v1/queues/%2F/q/messages", body, Content_Type=kind)).problem(400, "bad_request")
        good = b'{"payload": "x"}' if kind == MESSAGE else HEAD_OF_EVENT[:-1] + b"}"
        path, batch = "/v1/queues/%2F/q/messages/batch", b"[" + good + b"," + body + b"]"
        batch_kind = "application/json" if kind == MESSAGE else "application/cloudevents-batch+json"
        answer = await rest.post(path, batch, Content_Type=batch_kind)
        answer.problem(400, "bad_request")
        assert queue.message_count == 0


@pytest.mark.parametrize(
    "path",
    [
        "exchanges/%2F/amq.topic/messages?routing_key=a&routing_key=b",
        "exchanges/%2F/amq.topic/messages?mandatory=true&mandatory=false",
        "exchanges/%2F/amq.topic/messages?mandatory=yes",
        "queues/%2F/q/receive?max=1&max=2",
        "queues/%2F/q/receive?max=1.5",
        "queues/%2F/q/receive?max=nan",
        "queues/%2F/q/receive?max=101",
        "queues/%2F/q/receive?wait=inf",
        "queues/%2F/q/receive?wait=-1",
        "queues/%2F/q/receive?visibility=1e400",
    ],
)
async def test_parameters_that_say_two_things_or_nothing(path: str, autojump_clock: Any) -> None:
    async with rest_door() as rest:
        declare(rest, "q")
        (await rest.post(f"/v1/{path}", b"x")).problem(400, "bad_request")


async def test_header_values_that_are_no_utf8(autojump_clock: Any) -> None:
    async with rest_door() as rest:
        queue = declare(rest, "q")
        for value in ("%ff", "%ED%A0%80"):
            for name in ("X-Leveret-Message-Id", "X-Leveret-Header-Name"):
                answer = await rest.call("POST", "/v1/queues/%2F/q/messages", b"x", {name: value})
                answer.problem(400, "bad_request")
        assert queue.message_count == 0


async def test_numbers_that_json_has_no_words_for_are_received_as_strings(autojump_clock: Any) -> None:
    async with rest_door() as rest:
        queue = declare(rest, "q")
        table = {"a": float("nan"), "b": [float("inf"), {"c": float("-inf")}], "d": 1.5}
        queue.publish(Envelope.of("", "q", Properties(headers=table)), [b"x"])
        [message] = await rest.receive("q")
        assert message["properties"]["headers"] == {
            "a": "NaN",
            "b": ["Infinity", {"c": "-Infinity"}],
            "d": 1.5,
        }

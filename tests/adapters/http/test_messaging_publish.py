"""Publishing by REST: properties, places, JSON and CloudEvents, batches, refusals, idempotency."""

from __future__ import annotations

import base64
import json
from dataclasses import replace
from typing import Any

import pytest
import trio
from support.rest import Rest, basic, declare, rest_door

from leveret.adapters.http import idempotency_store
from leveret.adapters.http.settings import HttpSettings
from leveret.core.exchange import Binding
from leveret.core.message import Message
from leveret.core.queue.queue import Queue

EXCHANGE = "/v1/exchanges/%2F"
QUEUE = "/v1/queues/%2F"


def stored(queue: Queue) -> list[Message]:
    """All ready messages, taken."""
    messages = queue.ready.take(queue.message_count)
    queue.ready.discard(messages)
    return messages


def bodies(queue: Queue) -> list[bytes]:
    return [message.body for message in stored(queue)]


async def test_the_body_is_the_message_and_headers_are_its_properties(autojump_clock: Any) -> None:
    async with rest_door() as rest:
        queue = declare(rest, "q")
        answer = await rest.call(
            "POST",
            f"{QUEUE}/q/messages",
            b"\x00\xff body",
            {
                "Content-Type": "text/plain; charset=utf-8",
                "Content-Encoding": "gzip",
                "X-Leveret-Message-Id": "m%201",
                "x-leveret-correlation-id": "c",
                "X-Leveret-Reply-To": "r",
                "X-Leveret-Type": "caf\u00e9",
                "X-Leveret-App-Id": "a",
                "X-Leveret-User-Id": "guest",
                "X-Leveret-Expiration": "60000",
                "X-Leveret-Priority": "3",
                "X-Leveret-Timestamp": "1700000000",
                "X-Leveret-Delivery-Mode": "1",
                "X-Leveret-Header-Tenant": "t%25",
                "X-Leveret-Headers": '{"n": 1, "deep": {"l": [true, null]}, "Case": "x"}',
                "traceparent": "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
            },
        )
        assert (answer.status, answer.json) == (200, {"routed": True})
        [message] = stored(queue)
        assert message.body == b"\x00\xff body"
        properties = message.envelope.properties
        assert properties.headers == {
            "tenant": "t%", "n": 1, "deep": {"l": [True, None]}, "Case": "x",
            "traceparent": "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
        }  # fmt: skip
        found = {name: getattr(properties, name) for name in properties.__slots__ if name != "headers"}
        assert found == {
            "content_type": "text/plain; charset=utf-8", "content_encoding": "gzip", "message_id": "m 1",
            "correlation_id": "c", "reply_to": "r", "type": "café", "app_id": "a", "user_id": "guest",
            "expiration": "60000", "priority": 3, "timestamp": 1700000000, "delivery_mode": 1, "cluster_id": None,
        }  # fmt: skip


async def test_messages_are_persistent_unless_they_say_otherwise(autojump_clock: Any) -> None:
    async with rest_door() as rest:
        queue = declare(rest, "q")
        await rest.publish("q", b"")
        [message] = stored(queue)
        assert message.body == b""
        assert message.envelope.is_persistent


async def test_exchanges_route_by_key_and_mandatory_messages_must_have_somewhere_to_go(
    autojump_clock: Any,
) -> None:
    async with rest_door() as rest:
        queue = declare(rest, "q")
        vhost = rest.broker.vhosts["/"]
        vhost.bind(vhost.exchanges["amq.topic"], Binding(queue, "a.*"))
        path = f"{EXCHANGE}/amq.topic/messages?routing_key="
        assert (await rest.post(f"{path}a.b", b"1")).json == {"routed": True}
        assert (await rest.post(f"{path}a.b&mandatory=true", b"2")).json == {"routed": True}
        answer = await rest.post(f"{path}b", b"3")
        assert (answer.status, answer.json) == (200, {"routed": False})
        (await rest.post(f"{path}b&mandatory=true", b"4")).problem(422, "unroutable")
        assert (await rest.post(f"{EXCHANGE}/amq.default/messages?routing_key=q", b"5")).json == {
            "routed": True
        }
        assert bodies(queue) == [b"1", b"2", b"5"]


async def test_names_in_paths_are_decoded_once(autojump_clock: Any) -> None:
    async with rest_door() as rest:
        queue = declare(rest, "a/b %2F+ü")
        answer = await rest.post(f"{QUEUE}/a%2fb%20%252F+%C3%BC/messages", b"x")
        assert answer.json == {"routed": True}
        assert bodies(queue) == [b"x"]


@pytest.mark.parametrize(
    ("path", "headers", "status", "error"),
    [
        (f"{QUEUE}/none/messages", {}, 404, "not_found"),
        (f"{EXCHANGE}/none/messages", {}, 404, "not_found"),
        ("/v1/queues/none/q/messages", {}, 404, "not_found"),
        (f"{EXCHANGE}/amq.rabbitmq.trace/messages", {}, 403, "not_authorised"),
        (f"{QUEUE}/q/messages?routing_key=x", {}, 400, "bad_request"),
        (f"{EXCHANGE}/amq.topic/messages?mandatory=yes", {}, 400, "bad_request"),
        (f"{EXCHANGE}/amq.topic/messages?routing-key=x", {}, 400, "bad_request"),
        (f"{EXCHANGE}/amq.topic/messages?routing_key={'k' * 256}", {}, 400, "bad_request"),
        (f"{QUEUE}/q/messages", {"X-Leveret-Priority": "256"}, 400, "bad_request"),
        (f"{QUEUE}/q/messages", {"X-Leveret-Priority": "high"}, 400, "bad_request"),
        (f"{QUEUE}/q/messages", {"X-Leveret-Timestamp": "-1"}, 400, "bad_request"),
        (f"{QUEUE}/q/messages", {"X-Leveret-Delivery-Mode": "3"}, 400, "bad_request"),
        (f"{QUEUE}/q/messages", {"X-Leveret-Expiration": "soon"}, 400, "bad_request"),
        (f"{QUEUE}/q/messages", {"X-Leveret-Message-Id": "m" * 256}, 400, "bad_request"),
        (f"{QUEUE}/q/messages", {"X-Leveret-Mesage-Id": "m"}, 400, "bad_request"),
        (f"{QUEUE}/q/messages", {"X-Leveret-Header-": "m"}, 400, "bad_request"),
        (f"{QUEUE}/q/messages", {"X-Leveret-Headers": "[1]"}, 400, "bad_request"),
        (f"{QUEUE}/q/messages", {"X-Leveret-Headers": "{"}, 400, "bad_request"),
        (f"{QUEUE}/q/messages", {"X-Leveret-Headers": '{"n": NaN}'}, 400, "bad_request"),
        (f"{QUEUE}/q/messages", {"X-Leveret-Headers": '{"n": 99999999999999999999}'}, 400, "bad_request"),
        (f"{QUEUE}/q/messages", {"X-Leveret-Headers": '{"CC": "q"}'}, 400, "bad_request"),
        (f"{QUEUE}/q/messages", {"X-Leveret-User-Id": "other"}, 403, "user_id_refused"),
        (f"{QUEUE}/q/messages", {"Idempotency-Key": ""}, 400, "bad_request"),
        (f"{QUEUE}/q/messages", {"Authorization": "Basic eDp5"}, 401, "not_authorized"),
    ],
)
async def test_what_is_wrong_is_refused_and_nothing_is_stored(
    path: str, headers: dict[str, str], status: int, error: str
) -> None:
    async with rest_door() as rest:
        queue = declare(rest, "q")
        client = rest
        if "Authorization" in headers:
            client = rest.another(headers.pop("Authorization"))
        answer = await client.call("POST", path, b"x", headers)
        answer.problem(status, error)
        assert queue.message_count == 0
        await client.close()


async def test_permissions_are_those_of_amqp(autojump_clock: Any) -> None:
    async with rest_door() as rest:
        queue = declare(rest, "q")
        users = rest.broker.users
        users.add_user("reader", "secret")
        users.set_permissions("reader", "/", "", "", ".*")
        async with rest.another(basic("reader", "secret")) as reader:
            (await reader.post(f"{QUEUE}/q/messages", b"x")).problem(403, "not_authorised")
            (await reader.post(f"{QUEUE}/none/messages", b"x")).problem(403, "not_authorised")
        assert queue.message_count == 0


async def test_a_full_queue_that_rejects_says_so(autojump_clock: Any) -> None:
    async with rest_door() as rest:
        queue = declare(rest, "q", max_length=1, overflow="reject-publish")
        await rest.publish("q", b"1")
        answer = await rest.post(f"{QUEUE}/q/messages", b"2")
        answer.problem(429, "queue_full")
        assert answer.headers["retry-after"] == "1"
        assert bodies(queue) == [b"1"]


async def test_alarms_refuse_publishing_and_nothing_else(autojump_clock: Any) -> None:
    async with rest_door() as rest:
        queue = declare(rest, "q")
        await rest.publish("q", b"1")
        rest.broker.alarms.set_alarm("memory")
        answer = await rest.post(f"{QUEUE}/q/messages", b"2")
        answer.problem(503, "alarm")
        assert answer.headers["retry-after"] == "5"
        assert [one["payload"] for one in await rest.receive("q", "ack=auto")] == ["1"]
        rest.broker.alarms.clear_alarm("memory")
        await rest.publish("q", b"3")
        assert bodies(queue) == [b"3"]


async def test_too_large_a_body_is_refused(autojump_clock: Any) -> None:
    async with rest_door(http=replace(HttpSettings(), max_body_size=1024)) as rest:
        queue = declare(rest, "q")
        await rest.publish("q", b"x" * 1024)
        (await rest.post(f"{QUEUE}/q/messages", b"x" * 1025)).problem(413, "payload_too_large")
        assert queue.message_count == 1


async def test_a_body_that_does_not_come_times_out_and_half_of_it_is_not_stored(autojump_clock: Any) -> None:
    async with rest_door(http=replace(HttpSettings(), body_timeout_s=0.2)) as rest:
        queue = declare(rest, "q")
        head = (
            f"POST {QUEUE}/q/messages HTTP/1.1\r\nHost: x\r\nAuthorization: {basic('guest', 'guest')}\r\n"
            "Content-Length: 10\r\n\r\nhalf"
        )
        await rest.stream.send_all(head.encode())
        answer = b""
        with trio.fail_after(20):
            while chunk := await rest.stream.receive_some():
                answer += chunk
        assert answer.startswith(b"HTTP/1.1 408 ")
        assert b'"error":"timeout"' in answer
        assert queue.message_count == 0


# -- JSON


async def test_a_message_as_json(autojump_clock: Any) -> None:
    async with rest_door() as rest:
        queue = declare(rest, "q")
        kind = "application/vnd.leveret.message+json"
        message = {
            "properties": {"content_type": "text/x", "priority": 1, "headers": {"n": 5, "Case": "x"}},
            "payload": base64.b64encode(b"\xff\x00").decode(), "payload_encoding": "base64",
        }  # fmt: skip
        answer = await rest.post(f"{QUEUE}/q/messages", message, Content_Type=kind)
        assert (answer.status, answer.json) == (200, {"routed": True})
        [one] = stored(queue)
        assert one.body == b"\xff\x00"
        assert (one.envelope.properties.content_type, one.envelope.priority) == ("text/x", 1)
        assert one.envelope.properties.headers == {"n": 5, "Case": "x"}
        assert one.envelope.is_persistent
        await rest.post(
            f"{EXCHANGE}/amq.default/messages", {"routing_key": "q", "payload": "ü"}, Content_Type=kind
        )
        await rest.post(f"{QUEUE}/q/messages", {"payload": {"a": [1, "ü"]}}, Content_Type=kind)
        text, value = stored(queue)
        assert text.body == "ü".encode()
        assert (value.body, value.envelope.properties.content_type) == (
            '{"a":[1,"ü"]}'.encode(),
            "application/json",
        )


@pytest.mark.parametrize(
    "message",
    [
        [], {}, {"payload": 1, "payload_encoding": "string"}, {"payload": "x", "payload_encoding": "hex"},
        {"payload": "x!", "payload_encoding": "base64"}, {"payload": "x", "extra": 1},
        {"payload": "x", "routing_key": "k"}, {"payload": "x", "properties": []},
        {"payload": "x", "properties": {"priority": "1"}}, {"payload": "x", "properties": {"priority": 256}},
        {"payload": "x", "properties": {"priority": True}}, {"payload": "x", "properties": {"expiration": 5}},
        {"payload": "x", "properties": {"delivery_mode": 3}}, {"payload": "x", "properties": {"nonsense": 1}},
        {"payload": "x", "properties": {"headers": []}}, {"payload": "x", "properties": {"headers": {"k" * 256: 1}}},
        {"payload": "x", "properties": {"headers": {"big": "x" * 70000}}},
        {"payload": "x", "properties": {"timestamp": -1}}, {"payload": "x", "properties": {"expiration": "1x"}},
    ],
)  # fmt: skip
async def test_malformed_json_messages_are_refused(message: Any) -> None:
    async with rest_door() as rest:
        queue = declare(rest, "q")
        kind = "application/vnd.leveret.message+json"
        (await rest.post(f"{QUEUE}/q/messages", message, Content_Type=kind)).problem(400, "bad_request")
        assert queue.message_count == 0


async def test_a_batch_is_checked_before_any_of_it_is_taken(autojump_clock: Any) -> None:
    async with rest_door() as rest:
        queue = declare(rest, "q")
        path = f"{EXCHANGE}/amq.default/messages/batch"
        batch = [{"routing_key": "q", "payload": str(n)} for n in range(3)]
        answer = await rest.post(path, [*batch, {"routing_key": "none", "payload": "x"}])
        assert (answer.status, answer.json) == (200, {"count": 4, "routed": 3, "unrouted": [3]})
        assert bodies(queue) == [b"0", b"1", b"2"]
        for wrong, status, error in (
            ({"payload": 1, "payload_encoding": "string"}, 400, "bad_request"),
            ({"payload": "", "properties": {"user_id": "other"}}, 403, "user_id_refused"),
            ({"payload": "", "properties": {"expiration": "x"}}, 400, "bad_request"),
            ({"payload": "", "routing_key": "k" * 256}, 400, "bad_request"),
        ):
            (await rest.post(path, [*batch, wrong])).problem(status, error)
        problem = (await rest.post(f"{path}?mandatory=true", [*batch, {"payload": ""}])).problem(
            422, "unroutable"
        )
        assert problem["index"] == 3
        assert queue.message_count == 0
        (await rest.post(path, [])).problem(400, "bad_request")
        (await rest.post(path, [{"payload": ""}] * 1001)).problem(413, "payload_too_large")
        (await rest.post(path, b"[]", Content_Type="text/plain")).problem(415, "unsupported_media_type")
        (await rest.post(path, batch, X_Leveret_Type="t")).problem(400, "bad_request")


async def test_batches_of_lines_and_a_batch_that_does_not_fit(autojump_clock: Any) -> None:
    async with rest_door() as rest:
        queue = declare(rest, "q", max_length=2, overflow="reject-publish")
        lines = b"\n".join(json.dumps({"payload": str(n)}).encode() for n in range(4)) + b"\n"
        answer = await rest.post(f"{QUEUE}/q/messages/batch", lines, Content_Type="application/x-ndjson")
        problem = answer.problem(429, "queue_full")
        assert (problem["count"], problem["rejected"]) == (4, [2, 3])
        assert bodies(queue) == [b"0", b"1"]
        answer = await rest.post(f"{QUEUE}/q/messages/batch", {"messages": [{"payload": {"a": 1}}]})
        assert answer.json == {"count": 1, "routed": 1, "unrouted": []}
        assert bodies(queue) == [b'{"a":1}']


# -- CloudEvents

EVENT = {"specversion": "1.0", "id": "1", "source": "/s", "type": "t", "subject": "a b%ü", "ext": 5}


async def test_cloudevents_in_binary_mode(autojump_clock: Any) -> None:
    async with rest_door() as rest:
        queue = declare(rest, "q")
        answer = await rest.call(
            "POST", f"{QUEUE}/q/messages", b"<x/>",
            {
                "Content-Type": "application/xml", "ce-specversion": "1.0", "CE-Id": "1", "ce-source": "/s",
                "ce-type": "t", "ce-subject": "a%20b%25%C3%BC", "ce-ext": '"q\\"uoted"',
                "ce-time": "2024-02-29T23:59:59.5Z",
            },
        )  # fmt: skip
        assert answer.status == 200, answer
        [message] = stored(queue)
        assert message.body == b"<x/>"
        assert message.envelope.properties.content_type == "application/xml"
        assert message.envelope.properties.headers == {
            "cloudEvents:specversion": "1.0", "cloudEvents:id": "1", "cloudEvents:source": "/s",
            "cloudEvents:type": "t", "cloudEvents:subject": "a b%ü", "cloudEvents:ext": 'q"uoted',
            "cloudEvents:time": "2024-02-29T23:59:59.5Z",
        }  # fmt: skip


@pytest.mark.parametrize(
    ("event", "content_type", "body"),
    [
        (EVENT | {"data": {"a": [1]}}, "application/json", b'{"a":[1]}'),
        (EVENT | {"data": "text"}, "application/json", b'"text"'),
        (EVENT | {"data": "text", "datacontenttype": "text/plain"}, "text/plain", b"text"),
        (EVENT | {"data": "text", "datacontenttype": "application/x+json"}, "application/x+json", b'"text"'),
        (EVENT | {"data_base64": "/wA=", "datacontenttype": "image/png"}, "image/png", b"\xff\x00"),
        (EVENT, None, b""),
    ],
)
async def test_cloudevents_in_structured_mode(
    event: dict[str, Any], content_type: str | None, body: bytes
) -> None:
    async with rest_door() as rest:
        queue = declare(rest, "q")
        kind = "Application/CloudEvents+json; charset=utf-8"
        assert (await rest.post(f"{QUEUE}/q/messages", event, Content_Type=kind)).status == 200
        kind = "application/cloudevents-batch+json"
        for path in (f"{QUEUE}/q/messages", f"{QUEUE}/q/messages/batch"):
            answer = await rest.post(path, [event, event], Content_Type=kind)
            assert answer.json == {"count": 2, "routed": 2, "unrouted": []}
        messages = stored(queue)
        assert len(messages) == 5
        for message in messages:
            assert message.body == body
            properties = message.envelope.properties
            assert properties.content_type == content_type
            assert properties.headers is not None
            assert properties.headers["cloudEvents:subject"] == "a b%ü"
            assert properties.headers["cloudEvents:ext"] == 5


@pytest.mark.parametrize(
    ("headers", "body", "status"),
    [
        ({"ce-specversion": "1.0", "ce-id": "1", "ce-source": "/s"}, b"", 400),
        ({"ce-specversion": "0.3", "ce-id": "1", "ce-source": "/s", "ce-type": "t"}, b"", 400),
        ({"ce-specversion": "1.0", "ce-id": "1", "ce-source": "/s", "ce-type": "t", "ce-datacontenttype": "x/y"}, b"", 400),
        ({"ce-specversion": "1.0", "ce-id": "%ff", "ce-source": "/s", "ce-type": "t"}, b"", 400),
        ({"ce-specversion": "1.0", "ce-id": "1", "ce-source": "/s", "ce-type": "t", "ce-time": "today"}, b"", 400),
        ({"ce-specversion": "1.0", "ce-id": "1", "ce-source": "/s", "ce-type": "t", "ce-a_b": "x"}, b"", 400),
        ({"Content-Type": "application/cloudevents+json"}, b"{", 400),
        ({"Content-Type": "application/cloudevents+json"}, b"[]", 400),
        ({"Content-Type": "application/cloudevents+json"}, b"{}", 400),
        ({"Content-Type": "application/cloudevents+json"}, json.dumps(EVENT | {"Big": "x"}).encode(), 400),
        ({"Content-Type": "application/cloudevents+json"}, json.dumps(EVENT | {"x": {}}).encode(), 400),
        ({"Content-Type": "application/cloudevents+json"}, json.dumps(EVENT | {"data": 1, "data_base64": ""}).encode(), 400),
        ({"Content-Type": "application/cloudevents+avro"}, b"", 415),
        ({"Content-Type": "application/cloudevents-batch+json"}, b"{}", 400),
        ({"Content-Type": "application/cloudevents-batch+json"}, b"[1]", 400),
    ],
)  # fmt: skip
async def test_malformed_events_are_refused(headers: dict[str, str], body: bytes, status: int) -> None:
    async with rest_door() as rest:
        queue = declare(rest, "q")
        answer = await rest.call("POST", f"{QUEUE}/q/messages", body, headers)
        assert answer.status == status, answer
        assert queue.message_count == 0


# -- Idempotency-Key


async def test_a_repeated_request_is_answered_and_not_repeated(autojump_clock: Any) -> None:
    async with rest_door() as rest:
        queue = declare(rest, "q")
        path = f"{QUEUE}/q/messages"
        first = await rest.post(path, b"x", Idempotency_Key='"k1"')
        again = await rest.post(path, b"x", Idempotency_Key="k1")
        assert first.json == again.json == {"routed": True}
        assert "idempotency-replayed" not in first.headers
        assert again.headers["idempotency-replayed"] == "true"
        (await rest.post(path, b"y", Idempotency_Key="k1")).problem(422, "idempotency_key_reused")
        (await rest.post(path, b"x", Idempotency_Key="k1", X_Leveret_Type="t")).problem(
            422, "idempotency_key_reused"
        )
        await rest.publish("q", b"x", Idempotency_Key="k2")
        assert bodies(queue) == [b"x", b"x"]
        batch = [{"payload": "1"}, {"payload": "2"}]
        answers = [await rest.post(f"{path}/batch", batch, Idempotency_Key="k1") for _ in range(2)]
        assert answers[0].json == answers[1].json
        assert bodies(queue) == [b"1", b"2"]


async def test_what_failed_may_be_tried_again_under_its_key(autojump_clock: Any) -> None:
    async with rest_door() as rest:
        path = f"{QUEUE}/q/messages"
        (await rest.post(path, b"x", Idempotency_Key="k")).problem(404, "not_found")
        queue = declare(rest, "q", max_length=1, overflow="reject-publish")
        await rest.publish("q", b"first")
        (await rest.post(path, b"x", Idempotency_Key="k")).problem(429, "queue_full")
        stored(queue)
        await rest.publish("q", b"x", Idempotency_Key="k")
        assert bodies(queue) == [b"x"]


async def test_keys_are_a_users_own(autojump_clock: Any) -> None:
    async with rest_door() as rest:
        queue = declare(rest, "q")
        rest.broker.users.add_user("other", "secret")
        rest.broker.users.set_permissions("other", "/", ".*", ".*", ".*")
        await rest.publish("q", b"x", Idempotency_Key="k")
        async with rest.another(basic("other", "secret")) as other:
            await other.publish("q", b"y", Idempotency_Key="k")
        assert bodies(queue) == [b"x", b"y"]


async def test_a_key_whose_request_is_under_way_conflicts(
    monkeypatch: pytest.MonkeyPatch, autojump_clock: Any
) -> None:
    async with rest_door() as rest, rest.another() as other:
        queue = declare(rest, "q", durable=True)
        store = rest.broker.store
        waiting: list[Any] = []
        monkeypatch.setattr(store, "after_commit", lambda callback: waiting.append(callback))
        monkeypatch.setattr(type(store), "has_pending", property(lambda self: True))
        await rest.send("POST", f"{QUEUE}/q/messages", b"x", {"Idempotency-Key": "k"})
        while not waiting:
            await trio.lowlevel.checkpoint()
        answer = await other.post(f"{QUEUE}/q/messages", b"x", Idempotency_Key="k")
        answer.problem(409, "idempotency_key_in_use")
        monkeypatch.undo()
        for callback in waiting:
            callback()
        assert (await rest.answer()).json == {"routed": True}
        assert bodies(queue) == [b"x"]


async def test_nothing_is_answered_before_the_commit(
    monkeypatch: pytest.MonkeyPatch, autojump_clock: Any
) -> None:
    async with rest_door() as rest:
        queue = declare(rest, "q", durable=True)
        store = rest.broker.store
        waiting: list[Any] = []
        monkeypatch.setattr(store, "after_commit", lambda callback: waiting.append(callback))
        monkeypatch.setattr(type(store), "has_pending", property(lambda self: True))
        await rest.send("POST", f"{QUEUE}/q/messages", b"x")
        while not waiting:
            await trio.lowlevel.checkpoint()
        assert queue.message_count == 1
        with trio.move_on_after(0.05) as scope:
            await rest.next()
        assert scope.cancelled_caught
        monkeypatch.undo()
        for callback in waiting:
            callback()
        assert (await rest.answer()).json == {"routed": True}


async def test_the_oldest_keys_are_forgotten_when_there_are_too_many(autojump_clock: Any) -> None:
    async with rest_door(http=replace(HttpSettings(), idempotency_keys_max=2)) as rest:
        queue = declare(rest, "q")
        for key in ("a", "b", "c", "c", "a"):
            await rest.post(f"{QUEUE}/q/messages", key.encode(), Idempotency_Key=key)
        assert bodies(queue) == [b"a", b"b", b"c", b"a"]
        records = list(rest.broker.store.definitions(b"http/idempotency/"))
        assert len(records) == 2


async def test_kept_answers_are_bounded_in_bytes(
    monkeypatch: pytest.MonkeyPatch, autojump_clock: Any
) -> None:
    monkeypatch.setattr(idempotency_store, "MAX_BYTES", 100)
    async with rest_door() as rest:
        queue = declare(rest, "q")
        for key in ("a", "b", "c", "d", "e", "f", "g", "h", "a", "h"):  # fifteen bytes each
            await trio.sleep(1)
            await rest.post(f"{QUEUE}/q/messages", key.encode(), Idempotency_Key=key)
        assert bodies(queue) == [b"a", b"b", b"c", b"d", b"e", b"f", b"g", b"h", b"a"]
        assert len(list(rest.broker.store.definitions(b"http/idempotency/"))) == 6


async def test_concurrent_publishers_on_many_connections(autojump_clock: Any) -> None:
    async with rest_door() as rest:
        queue = declare(rest, "q")

        async def work(index: int) -> None:
            async with Rest(rest._door) as client:
                for number in range(20):
                    await client.publish("q", b"%d.%d" % (index, number))

        async with trio.open_nursery() as nursery:
            for index in range(10):
                nursery.start_soon(work, index)
        found = bodies(queue)
        assert len(found) == 200
        for index in range(10):
            own = [body for body in found if body.startswith(b"%d." % index)]
            assert own == [b"%d.%d" % (index, number) for number in range(20)]


async def test_a_disk_that_does_not_confirm_is_told_after_a_while(
    monkeypatch: pytest.MonkeyPatch, autojump_clock: Any
) -> None:
    async with rest_door() as rest, rest.another() as other:
        declare(rest, "q", durable=True)
        store = rest.broker.store
        monkeypatch.setattr(store, "after_commit", lambda callback: False)
        monkeypatch.setattr(type(store), "has_pending", property(lambda self: True))
        began = trio.current_time()
        await rest.send("POST", f"{QUEUE}/q/messages", b"x")
        await other.send("POST", f"{QUEUE}/q/messages", b"x")
        for client in (rest, other):
            answer = await client.answer()
            answer.problem(503, "confirm_timeout")
            assert 30 <= trio.current_time() - began <= 32
        monkeypatch.undo()

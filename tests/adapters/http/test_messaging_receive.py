"""Consuming by REST: long polls, leases, requests with replies."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import pytest
import trio
import trio.testing
from support.rest import Rest, basic, declare, rest_door

from leveret.adapters.http.settings import HttpSettings
from leveret.core.message import Envelope
from leveret.core.properties import Properties

QUEUE = "/v1/queues/%2F"


async def test_messages_come_with_all_there_is_to_know_and_go_when_they_are_acknowledged(
    autojump_clock: Any,
) -> None:
    async with rest_door() as rest:
        queue = declare(rest, "q")
        await rest.publish(
            "q", b"text", Content_Type="text/plain", X_Leveret_Message_Id="m", X_Leveret_Headers='{"n":1}'
        )
        await rest.publish("q", b"\xff")
        first, second = await rest.receive("q", "max=10")
        lease = first.pop("lease")
        assert first == {
            "exchange": "", "routing_key": "q", "redelivered": False, "delivery_count": 0,
            "properties": {
                "content_type": "text/plain", "message_id": "m", "delivery_mode": 2, "headers": {"n": 1},
            },
            "payload": "text", "payload_encoding": "string",
        }  # fmt: skip
        assert (second["payload"], second["payload_encoding"]) == ("/w==", "base64")
        assert (queue.message_count, queue.unacked_count, queue.consumer_count) == (0, 2, 0)
        assert (await rest.post(f"/v1/leases/{lease}/ack")).status == 204
        assert queue.unacked_count == 1
        (await rest.post(f"/v1/leases/{lease}/ack")).problem(404, "lease_not_found")
        answer = await rest.post("/v1/leases/ack", {"leases": [second["lease"], lease]})
        assert answer.json == {"count": 1, "unknown": [lease]}
        assert (queue.message_count, queue.unacked_count) == (0, 0)
        assert await rest.receive("q") == []


async def test_what_was_received_can_be_published_as_it_is(autojump_clock: Any) -> None:
    async with rest_door() as rest:
        declare(rest, "q")
        await rest.publish("q", b"\xff", X_Leveret_Priority="3", X_Leveret_Header_A="b")
        [message] = await rest.receive("q", "ack=auto")
        again = {name: message[name] for name in ("properties", "payload", "payload_encoding")}
        assert (await rest.post(f"{QUEUE}/q/messages/batch", [again])).status == 200
        assert await rest.receive("q", "ack=auto") == [message]


async def test_acknowledged_at_once_if_that_is_wanted(autojump_clock: Any) -> None:
    async with rest_door() as rest:
        queue = declare(rest, "q", durable=True)
        for number in range(5):
            await rest.publish("q", b"%d" % number)
        assert [one["payload"] for one in await rest.receive("q", "ack=auto&max=3")] == ["0", "1", "2"]
        assert "lease" not in (await rest.receive("q", "ack=auto"))[0]
        assert (queue.message_count, queue.unacked_count) == (1, 0)


async def test_one_message_as_it_was_published(autojump_clock: Any) -> None:
    async with rest_door() as rest:
        declare(rest, "q")
        assert (await rest.post(f"{QUEUE}/q/receive?format=raw")).status == 204
        await rest.call(
            "POST", f"{QUEUE}/q/messages", b"<script>",
            {
                "Content-Type": "text/html", "ce-specversion": "1.0", "ce-id": "1", "ce-source": "/s", "ce-type": "t%20t",
                "X-Leveret-Message-Id": "caf%C3%A9%0d%0aSet-Cookie: x", "traceparent": "00-1-2-01",
            },
        )  # fmt: skip
        answer = await rest.post(f"{QUEUE}/q/receive?format=raw&visibility=60")
        assert (answer.status, answer.body) == (200, b"<script>")
        headers = answer.headers
        assert headers["content-type"] == "text/html"
        assert headers["content-security-policy"] == "sandbox; default-src 'none'"
        assert headers["x-content-type-options"] == "nosniff"
        assert headers["x-leveret-message-id"] == "caf%C3%A9%0D%0ASet-Cookie:%20x"
        assert headers["x-leveret-routing-key"] == "q"
        assert headers["x-leveret-redelivered"] == "false"
        assert (headers["ce-id"], headers["ce-type"], headers["traceparent"]) == ("1", "t%20t", "00-1-2-01")
        assert json.loads(headers["x-leveret-headers"])["cloudEvents:type"] == "t t"
        assert "set-cookie" not in headers
        assert (await rest.post(f"/v1/leases/{headers['x-leveret-lease']}/ack")).status == 204


async def test_headers_that_no_answer_can_hold_do_not_break_it(autojump_clock: Any) -> None:
    async with rest_door() as rest:
        queue = declare(rest, "q")
        headers = {
            "a\r\nb": "\x00",
            "cloudEvents:x": "1\r\n2",
            "cloudEvents:X y": "1",
            "big": "x" * 9000,
            "b": b"\xff",
        }
        properties = Properties(
            content_type="a\r\nb", content_encoding="x\ny", headers=headers, type="\udcff"
        )
        queue.publish(Envelope.of("", "q", properties), [b"x"])
        answer = await rest.post(f"{QUEUE}/q/receive?format=raw&ack=auto")
        assert (answer.status, answer.body) == (200, b"x")
        assert answer.headers["content-type"] == "application/octet-stream"
        assert answer.headers["ce-x"] == "1%0D%0A2"
        queue.publish(Envelope.of("", "q", properties), [b"x"])
        assert (await rest.receive("q", "ack=auto"))[0]["properties"]["headers"]["b"] == (
            "Not UTF-8, base64 is: /w=="
        )


async def test_a_poll_waits_for_the_first_message(autojump_clock: Any) -> None:
    async with rest_door() as rest, rest.another() as other:
        queue = declare(rest, "q")
        await other.send("POST", f"{QUEUE}/q/receive?wait=20&max=5")
        while not queue.consumer_count:
            await trio.lowlevel.checkpoint()
        await rest.publish("q", b"x")
        with trio.fail_after(5):
            answer = await other.answer()
        await rest.publish("q", b"y")
        assert [one["payload"] for one in answer.json["messages"]] == ["x"]
        assert (queue.message_count, queue.consumer_count) == (1, 0)


async def test_a_poll_ends_empty_when_its_time_has_passed(autojump_clock: Any) -> None:
    async with rest_door() as rest:
        queue = declare(rest, "q")
        began = trio.current_time()
        assert await rest.receive("q", "wait=20") == []
        assert trio.current_time() - began >= 20
        assert queue.consumer_count == 0


async def test_a_client_that_leaves_its_poll_takes_nothing_along(autojump_clock: Any) -> None:
    async with rest_door() as rest:
        queue = declare(rest, "q")
        async with rest.another() as other:
            await other.send("POST", f"{QUEUE}/q/receive?wait=60&ack=auto")
            while not queue.consumer_count:
                await trio.lowlevel.checkpoint()
        assert queue.consumer_count == 0
        await rest.publish("q", b"x")
        assert (queue.message_count, queue.unacked_count) == (1, 0)


async def test_pollers_take_turns_and_each_message_goes_to_one(autojump_clock: Any) -> None:
    async with rest_door() as rest:
        declare(rest, "q")
        found: list[str] = []

        async def work() -> None:
            async with rest.another() as client:
                while messages := await client.receive("q", "wait=0.3&max=7"):
                    found.extend(one["payload"] for one in messages)
                    leases = [one["lease"] for one in messages]
                    assert (await client.post("/v1/leases/ack", {"leases": leases})).json["unknown"] == []

        async with trio.open_nursery() as nursery:
            for _ in range(5):
                nursery.start_soon(work)
            batch = [{"payload": str(number)} for number in range(100)]
            for _ in range(3):
                await rest.post(f"{QUEUE}/q/messages/batch", batch)
        assert sorted(found) == sorted([str(number) for number in range(100)] * 3)


async def test_a_lease_that_ends_gives_the_message_back(autojump_clock: Any) -> None:
    async with rest_door() as rest:
        queue = declare(rest, "q")
        await rest.publish("q", b"1")
        await rest.publish("q", b"2")
        [first] = await rest.receive("q", "visibility=30&max=1")
        await trio.sleep(29)
        assert (await rest.post(f"/v1/leases/{first['lease']}/extend?visibility=60")).status == 204
        await trio.sleep(59)
        assert queue.unacked_count == 1
        await trio.sleep(2)
        assert queue.unacked_count == 0
        (await rest.post(f"/v1/leases/{first['lease']}/ack")).problem(404, "lease_not_found")
        (await rest.post(f"/v1/leases/{first['lease']}/extend")).problem(404, "lease_not_found")
        again, other = await rest.receive("q")
        assert (again["payload"], again["redelivered"], again["delivery_count"]) == ("1", True, 1)
        assert (other["payload"], other["redelivered"], other["delivery_count"]) == ("2", False, 0)
        await rest.post("/v1/leases/ack", {"leases": [again["lease"], other["lease"]]})


async def test_nack_requeues_or_dead_letters(autojump_clock: Any) -> None:
    async with rest_door() as rest:
        dead = declare(rest, "dead")
        queue = declare(rest, "q", dead_letter_exchange="", dead_letter_routing_key="dead")
        await rest.publish("q", b"x")
        [one] = await rest.receive("q")
        assert (await rest.post(f"/v1/leases/{one['lease']}/nack")).status == 204
        [one] = await rest.receive("q")
        assert one["redelivered"]
        assert (await rest.post(f"/v1/leases/{one['lease']}/nack?requeue=false")).status == 204
        assert (queue.message_count, queue.unacked_count, dead.message_count) == (0, 0, 1)


async def test_leases_belong_to_their_user_and_are_bounded(autojump_clock: Any) -> None:
    async with rest_door(http=replace(HttpSettings(), leases_max=8)) as rest:
        queue = declare(rest, "q")
        await rest.post(f"{QUEUE}/q/messages/batch", [{"payload": "x"}] * 10)
        rest.broker.users.add_user("other", "secret")
        rest.broker.users.set_permissions("other", "/", ".*", ".*", ".*")
        leases = [one["lease"] for one in await rest.receive("q")]
        assert len(leases) == 2  # a quarter of all
        answer = await rest.post(f"{QUEUE}/q/receive")
        answer.problem(429, "too_many_leases")
        assert answer.headers["retry-after"] == "1"
        async with rest.another(basic("other", "secret")) as other:
            (await other.post(f"/v1/leases/{leases[0]}/ack")).problem(404, "lease_not_found")
            [theirs] = await other.receive("q", "max=1")
            assert (await other.post(f"/v1/leases/{theirs['lease']}/ack")).status == 204
        assert (await rest.post("/v1/leases/ack", {"leases": leases})).json["unknown"] == []
        assert len(await rest.receive("q", "ack=auto&max=100")) == 7
        assert queue.unacked_count == 0


async def test_what_is_out_is_given_back_when_the_server_stops(autojump_clock: Any) -> None:
    async with rest_door() as rest, rest.another() as other:
        queue = declare(rest, "q")
        await rest.publish("q", b"x")
        await rest.receive("q")
        empty = declare(rest, "empty")
        await other.send("POST", f"{QUEUE}/empty/receive?wait=60")
        while not empty.consumer_count:
            await trio.lowlevel.checkpoint()
        rest.broker.adapters[0].drain()
        assert (await other.answer()).json == {"messages": []}
        assert (queue.message_count, queue.unacked_count) == (1, 0)
        [message] = queue.ready.take(1)
        assert (message.is_redelivered, message.delivery_count) == (True, 0)


async def test_polling_an_auto_delete_queue_does_not_delete_it(autojump_clock: Any) -> None:
    async with rest_door() as rest:
        queue = declare(rest, "q", auto_delete=True)
        assert await rest.receive("q", "wait=0.05") == []
        await rest.publish("q", b"x")
        assert len(await rest.receive("q", "ack=auto")) == 1
        assert not queue.is_closed


async def test_a_queue_that_is_deleted_ends_polls_and_leases(autojump_clock: Any) -> None:
    async with rest_door() as rest, rest.another() as other:
        queue = declare(rest, "q", durable=True)
        await rest.publish("q", b"x")
        [one] = await rest.receive("q")
        await other.send("POST", f"{QUEUE}/q/receive?wait=60")
        while not queue.consumer_count:
            await trio.lowlevel.checkpoint()
        rest.broker.vhosts["/"].remove_queue(queue)
        assert (await other.answer()).json == {"messages": []}
        assert (await rest.post(f"/v1/leases/{one['lease']}/nack")).status == 204
        (await rest.post(f"{QUEUE}/q/receive")).problem(404, "not_found")


@pytest.mark.parametrize(
    ("path", "status", "error"),
    [
        (f"{QUEUE}/none/receive", 404, "not_found"),
        (f"{QUEUE}/q/receive?max=0", 400, "bad_request"),
        (f"{QUEUE}/q/receive?max=101", 400, "bad_request"),
        (f"{QUEUE}/q/receive?wait=61", 400, "bad_request"),
        (f"{QUEUE}/q/receive?wait=nan", 400, "bad_request"),
        (f"{QUEUE}/q/receive?visibility=0", 400, "bad_request"),
        (f"{QUEUE}/q/receive?ack=maybe", 400, "bad_request"),
        (f"{QUEUE}/q/receive?format=raw&max=2", 400, "bad_request"),
        (f"{QUEUE}/q/receive?count=2", 400, "bad_request"),
        ("/v1/leases/x/drop", 404, "not_found"),
        ("/v1/leases/x/ack", 404, "lease_not_found"),
        ("/v1/leases/x/nack?requeue=1", 400, "bad_request"),
        ("/v1/leases/ack", 400, "bad_request"),
        (f"{QUEUE}/q/requests?timeout=0", 400, "bad_request"),
        (f"{QUEUE}/none/requests", 404, "not_found"),
        ("/v1/exchanges/%2F/amq.topic/requests?routing_key=x", 422, "unroutable"),
    ],
)
async def test_wrong_calls_are_refused(path: str, status: int, error: str) -> None:
    async with rest_door() as rest:
        declare(rest, "q")
        (await rest.post(path)).problem(status, error)


async def test_reading_needs_the_permission(autojump_clock: Any) -> None:
    async with rest_door() as rest:
        declare(rest, "q")
        rest.broker.users.add_user("writer", "secret")
        rest.broker.users.set_permissions("writer", "/", "", ".*", "")
        async with rest.another(basic("writer", "secret")) as writer:
            (await writer.post(f"{QUEUE}/q/receive")).problem(403, "not_authorised")
            (await writer.call("GET", f"{QUEUE}/q/events")).problem(403, "not_authorised")


# -- requests


async def answer_one(rest: Rest, queue: str) -> dict[str, Any]:
    """A worker over REST: take a request, answer it."""
    [request] = await rest.receive(queue, "wait=20&ack=auto")
    reply_to = request["properties"]["reply_to"]
    await rest.publish(
        reply_to,
        b"re: " + request["payload"].encode(),
        Content_Type="text/plain",
        X_Leveret_Correlation_Id=request["properties"]["correlation_id"],
    )
    return request


async def test_a_request_is_answered_with_its_reply(autojump_clock: Any) -> None:
    async with rest_door() as rest, rest.another() as worker:
        declare(rest, "q")
        async with trio.open_nursery() as nursery:
            nursery.start_soon(answer_one, worker, "q")
            answer = await rest.post(
                f"{QUEUE}/q/requests?timeout=10", b"hello", X_Leveret_Correlation_Id="c 1"
            )
        assert (answer.status, answer.body) == (200, b"re: hello")
        assert answer.headers["content-type"] == "text/plain"
        assert answer.headers["x-leveret-correlation-id"] == "c%201"


async def test_many_requests_at_once_get_their_own_replies(autojump_clock: Any) -> None:
    async with rest_door() as rest:
        declare(rest, "q")

        async def work() -> None:
            async with rest.another() as worker:
                for _ in range(10):
                    await answer_one(worker, "q")

        async def ask(number: int) -> None:
            async with rest.another() as client:
                answer = await client.post(f"{QUEUE}/q/requests", b"%d" % number)
                assert answer.body == b"re: %d" % number

        async with trio.open_nursery() as nursery:
            for _ in range(2):
                nursery.start_soon(work)
            for number in range(20):
                nursery.start_soon(ask, number)


async def test_a_request_that_nobody_answers_times_out_and_expires(autojump_clock: Any) -> None:
    async with rest_door() as rest:
        queue = declare(rest, "q")
        began = trio.current_time()
        (await rest.post(f"{QUEUE}/q/requests?timeout=5", b"x")).problem(504, "reply_timeout")
        assert trio.current_time() - began >= 5
        await trio.sleep(1)
        assert queue.message_count == 0
        assert not rest.broker.replies._requesters
        (await rest.post(f"{QUEUE}/q/requests", b"x", X_Leveret_Reply_To="mine")).problem(400, "bad_request")
        (await rest.post(f"{QUEUE}/q/requests", b"x", Idempotency_Key="k")).problem(400, "bad_request")

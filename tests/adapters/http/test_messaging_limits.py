"""What holds on one connection, and on a disk that does not keep up: logins, commits, answers in time."""

from __future__ import annotations

from dataclasses import replace
from typing import Any
from urllib.parse import quote

import pytest
import trio
from support.rest import Rest, basic, declare, rest_door

from leveret.adapters.http.settings import HttpSettings
from leveret.core.message import Envelope
from leveret.core.properties import Properties

QUEUE = "/v1/queues/%2F/q/messages"


async def test_a_kept_connection_is_asked_anew_when_users_or_permissions_change(autojump_clock: Any) -> None:
    async with rest_door() as rest:
        queue = declare(rest, "q")
        users = rest.broker.users
        users.add_user("writer", "secret")
        users.set_permissions("writer", "/", "", ".*", "")
        async with rest.another(basic("writer", "secret")) as writer:
            assert [(await writer.post(QUEUE, b"x")).status for _ in range(3)] == [200] * 3
            users.set_permissions("writer", "/", "", "^other$", "")
            (await writer.post(QUEUE, b"x")).problem(403, "not_authorised")
            users.set_permissions("writer", "/", "", ".*", "")
            assert (await writer.post(QUEUE, b"x")).status == 200
            users.clear_permissions("writer", "/")
            (await writer.post(QUEUE, b"x")).problem(403, "bad_request")
            users.set_permissions("writer", "/", "", ".*", "")
            assert (await writer.post(QUEUE, b"x")).status == 200
            users.delete_user("writer")
            (await writer.post(QUEUE, b"x")).problem(401, "not_authorized")
        assert queue.message_count == 5


async def test_two_users_and_two_virtual_hosts_on_one_connection(autojump_clock: Any) -> None:
    async with rest_door() as rest:
        declare(rest, "q")
        users = rest.broker.users
        users.add_user("other", "secret")
        rest.broker.add_vhost("second")
        for _ in range(3):
            assert (await rest.post(QUEUE, b"x")).status == 200
            login = {"Authorization": basic("other", "secret")}
            answer = await Rest.call(_without_login(rest), "POST", QUEUE, b"x", login)
            answer.problem(403, "bad_request")
            assert (await rest.post(QUEUE.replace("%2F", "second"), b"x")).status in (403, 404)
            wrong = {"Authorization": basic("guest", "wrong")}
            (await Rest.call(_without_login(rest), "POST", QUEUE, b"x", wrong)).problem(401, "not_authorized")


def _without_login(rest: Rest) -> Rest:
    """The same connection, for calls that bring a login of their own."""
    copy = object.__new__(Rest)
    copy.__dict__.update(rest.__dict__, _authorization=None)
    return copy


async def test_the_short_answer_says_what_the_long_one_says(autojump_clock: Any) -> None:
    async with rest_door(http=replace(HttpSettings(), cors_origins=("https://page.test",))) as rest:
        declare(rest, "q")
        short = await rest.post(QUEUE, b"x")
        long = await rest.post(QUEUE, b"x", Origin="https://page.test")
        closing = await rest.post(QUEUE, b"x", Connection="close")
        assert short.status == long.status == closing.status == 200
        assert short.body == long.body == closing.body == b'{"routed":true}'
        assert short.headers.keys() == long.headers.keys() - {
            name for name in long.headers if name.startswith("access-control-") or name == "vary"
        }
        assert long.headers["access-control-allow-origin"] == "https://page.test"
        assert closing.headers["connection"] == "close"
        for name in ("content-type", "content-length", "server"):
            assert short.headers[name] == long.headers[name] == closing.headers[name]


async def test_a_disk_that_does_not_confirm_bounds_every_wait(
    monkeypatch: pytest.MonkeyPatch, autojump_clock: Any
) -> None:
    """With and without a key, and its repetition; and below /api. Afterwards the key is answered, once."""
    async with rest_door() as rest, rest.another() as other, rest.another() as third:
        queue = declare(rest, "q", durable=True)
        store = rest.broker.store
        with monkeypatch.context() as stuck:
            stuck.setattr(store, "after_commit", lambda callback: False)
            stuck.setattr(type(store), "has_pending", property(lambda self: True))
            began = trio.current_time()
            await rest.send("POST", QUEUE, b"x", {"Idempotency-Key": "k"})
            await other.send("POST", QUEUE, b"y")
            await third.send("PUT", "/api/queues/%2F/made", b'{"durable":true}')
            for client in (rest, other):
                answer = await client.answer()
                answer.problem(503, "confirm_timeout")
                assert answer.headers["retry-after"] == "5"
            answer = await third.answer()
            assert (answer.status, answer.json["error"]) == (503, "confirm_timeout")
            assert 30 <= trio.current_time() - began <= 32
            # Whoever repeats the request waits as well, and no longer.
            await rest.send("POST", QUEUE, b"x", {"Idempotency-Key": "k"})
            (await rest.answer()).problem(503, "confirm_timeout")
            assert trio.current_time() - began <= 64
        answer = await rest.post(QUEUE, b"x", Idempotency_Key="k")
        assert (answer.status, answer.json) == (200, {"routed": True})
        assert answer.headers["idempotency-replayed"] == "true"
        assert queue.message_count == 2  # x and y, each once


async def test_a_keyed_request_waits_for_one_commit(
    monkeypatch: pytest.MonkeyPatch, autojump_clock: Any
) -> None:
    async with rest_door() as rest:
        declare(rest, "q", durable=True)
        store: Any = rest.broker.store
        asked: list[Any] = []

        def after_commit(callback: Any) -> bool:
            asked.append(callback)
            callback()
            return False

        monkeypatch.setattr(store, "after_commit", after_commit)
        monkeypatch.setattr(type(store), "has_pending", property(lambda self: True))
        assert (await rest.post(QUEUE, b"x", Idempotency_Key="k")).status == 200
        assert len(asked) == 1
        monkeypatch.undo()


@pytest.mark.parametrize("path", ["receive?wait=60&ack=auto", "events?ack=auto", "events"])
async def test_who_has_gone_is_given_nothing_more(path: str, autojump_clock: Any) -> None:
    """From the moment that the end of the connection has come in, what is published waits for somebody else."""
    async with rest_door() as rest:
        queue = declare(rest, "q")
        leaver = rest.another()
        if path.startswith("events"):
            await leaver.listen(f"/v1/queues/%2F/q/{path}")
        else:
            await leaver.send("POST", f"/v1/queues/%2F/q/{path}")
        while not queue.consumer_count:
            await trio.lowlevel.checkpoint()
        await leaver.stream.send_eof()
        await trio.testing.wait_all_tasks_blocked(0.001)
        assert queue.consumer_count == 0
        await rest.publish("q", b"x")
        assert [one["payload"] for one in await rest.receive("q", "ack=auto")] == ["x"]
        await leaver.close()


async def test_leases_that_were_settled_leave_nothing_behind(autojump_clock: Any) -> None:
    """However long they would have lasted."""
    async with rest_door() as rest:
        queue = declare(rest, "q")
        timers = len(rest.broker.timers._heap)
        for _ in range(30):
            queue.publish(Envelope.of("", "q", Properties()), [b"x"] * 100)
            messages = await rest.receive("q", "max=100&visibility=43200")
            leases = [message["lease"] for message in messages]
            assert (await rest.post("/v1/leases/extend?visibility=43000", {"leases": leases})).status == 200
            assert (await rest.post("/v1/leases/ack", {"leases": leases})).json == {
                "count": 100,
                "unknown": [],
            }
        assert len(rest.broker.timers._heap) <= timers + 5


async def test_leases_end_in_their_order_whenever_they_were_made_or_extended(autojump_clock: Any) -> None:
    async with rest_door() as rest:
        queue = declare(rest, "q")
        for number, seconds in enumerate((300, 100, 200, 5)):
            await rest.publish("q", b"%d" % number)
            [message] = await rest.receive("q", f"visibility={seconds}")
            if number == 1:
                extended = message["lease"]
        assert (await rest.post(f"/v1/leases/{extended}/extend?visibility=400")).status == 204
        for wait_s, back in ((6, "3"), (195, "2"), (100, "0"), (101, "1")):
            assert queue.message_count == 0
            await trio.sleep(wait_s)
            async with rest.another() as client:
                [message] = await client.receive("q", "ack=auto&max=9")
            assert (message["payload"], message["delivery_count"]) == (back, 1)


async def test_timeouts_of_requests_that_were_answered_are_forgotten(autojump_clock: Any) -> None:
    async with rest_door() as rest:
        declare(rest, "q")
        adapter: Any = rest._door.adapter

        async def ask() -> None:
            async with rest.another() as client:
                for _ in range(150):
                    await client.send("POST", "/v1/queues/%2F/q/requests?timeout=300", b"?")
                    [message] = await answer_from.receive("q", "ack=auto&wait=1&max=1")
                    address = message["properties"]["reply_to"]
                    await answer_from.post(f"/v1/queues/%2F/{quote(address, safe='')}/messages", b"!")
                    assert (await client.answer()).body == b"!"

        async with rest.another() as answer_from:
            await ask()
        batches = adapter._loop._main_loop_one
        timers = adapter._loop._timers
        batches._forget_cancelled(timers)
        assert len(timers) < 20
        assert batches._many == 1024

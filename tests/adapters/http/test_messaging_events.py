"""Server-sent events: confirmed by Last-Event-ID, resumed, bounded."""

from __future__ import annotations

import base64
from typing import Any

import pytest
import trio
from support.rest import Rest, basic, declare, rest_door

from leveret.adapters.http.messaging import streams as streams_module
from leveret.adapters.http.messaging.streams import EventId
from leveret.core.queue.queue import Queue

QUEUE = "/v1/queues/%2F"
EXCHANGE = "/v1/exchanges/%2F"


async def publish(rest: Rest, queue: str, first: int, last: int) -> None:
    batch = [{"payload": str(number)} for number in range(first, last + 1)]
    assert (await rest.post(f"{QUEUE}/{queue}/messages/batch", batch)).status == 200


def payloads(events: list[Any]) -> list[str]:
    return [event.json["payload"] for event in events]


def own(rest: Rest, client: str) -> Queue:
    return rest.broker.vhosts["/"].queues[f"events.{client}"]


async def settled(condition: Any) -> None:
    with trio.fail_after(5):
        while not condition():
            await trio.lowlevel.checkpoint()


async def test_events_are_messages_with_ids(autojump_clock: Any) -> None:
    async with rest_door() as rest, rest.another() as listener:
        queue = declare(rest, "q")
        answer = await listener.listen(f"{QUEUE}/q/events")
        assert answer.status == 200
        assert answer.headers["content-type"] == "text/event-stream; charset=utf-8"
        assert answer.headers["cache-control"] == "no-store"
        assert answer.headers["server"] == "Leveret"
        assert await listener.block() == ["retry: 2000"]
        await rest.publish("q", "ü\n".encode(), X_Leveret_Type="t")
        event = await listener.event()
        assert event is not None
        assert event.json == {
            "exchange": "", "routing_key": "q", "redelivered": False, "delivery_count": 0,
            "properties": {"type": "t", "delivery_mode": 2}, "payload": "ü\n", "payload_encoding": "string",
        }  # fmt: skip
        assert EventId.of(event.id) is not None
        assert (queue.message_count, queue.unacked_count) == (0, 1)


async def test_bodies_alone(autojump_clock: Any) -> None:
    async with rest_door() as rest, rest.another() as listener:
        declare(rest, "q")
        await listener.listen(f"{QUEUE}/q/events?format=payload&ack=auto")
        for body in (b"one", b"two\nlines", b"a\r\nb\rc", b"", b" blank", b"\xff\x00", "\u2028".encode()):
            await rest.publish("q", body)
        events = await listener.events(7)
        assert [event.data for event in events] == [
            "one", "two\nlines", "a\nb\nc", "", " blank", base64.b64encode(b"\xff\x00").decode(), "\u2028",
        ]  # fmt: skip
        assert [event.type for event in events] == ["message"] * 5 + ["base64", "message"]


async def test_the_next_connection_confirms_what_was_seen_and_gets_the_rest(autojump_clock: Any) -> None:
    async with rest_door() as rest:
        queue = declare(rest, "q", durable=True)
        await publish(rest, "q", 1, 6)
        listener = rest.another()
        await listener.listen(f"{QUEUE}/q/events")
        events = await listener.events(4)
        await listener.close()
        assert (queue.message_count, queue.unacked_count, queue.consumer_count) == (0, 6, 0)
        async with rest.another() as again:
            await again.listen(f"{QUEUE}/q/events", events[2].id)
            rest_of_it = await again.events(3)
            assert payloads(rest_of_it) == ["4", "5", "6"]
            assert all(event.json["redelivered"] for event in rest_of_it)
            assert queue.unacked_count == 3
            await rest.publish("q", b"7")
            assert payloads(await again.events(1)) == ["7"]


async def test_a_window_that_is_full_ends_the_stream_and_reconnecting_goes_on(autojump_clock: Any) -> None:
    async with rest_door() as rest, rest.another() as listener:
        queue = declare(rest, "q")
        await publish(rest, "q", 1, 10)
        found: list[str] = []
        last: str | None = None
        for _ in range(3):
            await listener.listen(f"{QUEUE}/q/events?window=3", last)
            while (event := await listener.event()) is not None:
                found.append(event.json["payload"])
                last = event.id
        assert found == [str(number) for number in range(1, 10)]
        await listener.listen(f"{QUEUE}/q/events?window=3", last)
        assert payloads(await listener.events(1)) == ["10"]
        assert (queue.message_count, queue.unacked_count) == (0, 1)


async def test_confirming_by_a_request_keeps_the_stream_going(autojump_clock: Any) -> None:
    async with rest_door() as rest, rest.another() as listener:
        queue = declare(rest, "q")
        await publish(rest, "q", 1, 8)
        await listener.listen(f"{QUEUE}/q/events?window=5")
        events = await listener.events(5)
        assert await listener.event() is None
        await listener.listen(f"{QUEUE}/q/events?window=5", events[4].id)
        events = await listener.events(3)
        assert (await rest.post(f"/v1/events/ack?id={events[1].id}")).status == 204
        assert queue.unacked_count == 1
        await publish(rest, "q", 9, 11)
        events = await listener.events(3)
        assert payloads(events) == ["9", "10", "11"]
        assert (await rest.post(f"/v1/events/ack?id={events[0].id}")).status == 204
        assert (await rest.post(f"/v1/events/ack?id={events[0].id}")).status == 204
        assert queue.unacked_count == 2
        (await rest.post("/v1/events/ack?id=x.1.1")).problem(404, "stream_not_found")
        (await rest.post("/v1/events/ack?id=x")).problem(400, "bad_request")


async def test_who_does_not_come_back_in_time_gives_messages_to_others(autojump_clock: Any) -> None:
    async with rest_door() as rest:
        queue = declare(rest, "q")
        await publish(rest, "q", 1, 3)
        listener = rest.another()
        await listener.listen(f"{QUEUE}/q/events?resume=20")
        events = await listener.events(3)
        await listener.close()
        assert queue.unacked_count == 3
        await trio.sleep(21)
        assert (queue.message_count, queue.unacked_count) == (3, 0)
        async with rest.another() as late:
            await late.listen(f"{QUEUE}/q/events", events[2].id)
            assert payloads(await late.events(3)) == ["1", "2", "3"]


async def test_a_reconnection_before_the_end_was_noticed_takes_over(autojump_clock: Any) -> None:
    async with rest_door() as rest, rest.another() as old, rest.another() as new:
        queue = declare(rest, "q")
        await publish(rest, "q", 1, 4)
        await old.listen(f"{QUEUE}/q/events")
        events = await old.events(4)
        await new.listen(f"{QUEUE}/q/events", events[1].id)
        assert payloads(await new.events(2)) == ["3", "4"]
        assert await old.event() is None
        assert queue.consumer_count == 1


async def test_the_id_of_somebody_else_says_nothing(autojump_clock: Any) -> None:
    async with rest_door() as rest:
        queue = declare(rest, "q")
        await publish(rest, "q", 1, 2)
        rest.broker.users.add_user("other", "secret")
        rest.broker.users.set_permissions("other", "/", ".*", ".*", ".*")
        listener = rest.another()
        await listener.listen(f"{QUEUE}/q/events")
        events = await listener.events(2)
        await listener.close()
        async with rest.another(basic("other", "secret")) as other:
            await other.listen(f"{QUEUE}/q/events", events[1].id)
            assert queue.unacked_count == 2
        async with rest.another() as back:
            await back.listen(f"{QUEUE}/q/events", events[1].id)
            await settled(lambda: queue.unacked_count == 0)


async def test_acknowledged_when_written_if_that_is_wanted(autojump_clock: Any) -> None:
    async with rest_door() as rest, rest.another() as listener:
        queue = declare(rest, "q")
        await listener.listen(f"{QUEUE}/q/events?ack=auto")
        await publish(rest, "q", 1, 900)
        await publish(rest, "q", 901, 1500)
        assert payloads(await listener.events(1500)) == [str(number) for number in range(1, 1501)]
        await settled(lambda: queue.unacked_count == 0)


async def test_a_reader_that_is_slow_holds_back_no_more_than_a_buffer(autojump_clock: Any) -> None:
    async with rest_door() as rest, rest.another() as listener:
        queue = declare(rest, "q")
        await listener.listen(f"{QUEUE}/q/events?ack=auto")
        body = b"x" * 100_000
        for _ in range(40):
            await rest.publish("q", body)
        await trio.testing.wait_all_tasks_blocked(0.01)
        assert queue.message_count > 20
        events = await listener.events(40)
        assert all(len(event.json["payload"]) == 100_000 for event in events)
        await settled(lambda: queue.unacked_count == 0)


async def test_a_stream_is_alive_while_nothing_happens(autojump_clock: Any) -> None:
    async with rest_door() as rest, rest.another() as listener:
        declare(rest, "q")
        await listener.listen(f"{QUEUE}/q/events")
        began = trio.current_time()
        assert await listener.block() == ["retry: 2000"]
        assert await listener.block() == [":"]
        assert 14 <= trio.current_time() - began <= 16
        assert await listener.block() == [":"]


async def test_a_stream_ends_when_its_user_may_read_no_more(autojump_clock: Any) -> None:
    async with rest_door() as rest:
        queue = declare(rest, "q")
        rest.broker.users.add_user("other", "secret")
        rest.broker.users.set_permissions("other", "/", "", "", ".*")
        async with rest.another(basic("other", "secret")) as listener:
            await listener.listen(f"{QUEUE}/q/events")
            rest.broker.users.set_permissions("other", "/", "", "", "")
            assert await listener.event() is None
        assert queue.consumer_count == 0


async def test_streams_end_with_their_queue_and_with_the_server(autojump_clock: Any) -> None:
    async with rest_door() as rest, rest.another() as one, rest.another() as two:
        queue, other = declare(rest, "q"), declare(rest, "other")
        await rest.publish("q", b"x")
        await rest.publish("other", b"x")
        await one.listen(f"{QUEUE}/q/events")
        await two.listen(f"{QUEUE}/other/events")
        await one.events(1)
        await two.events(1)
        rest.broker.vhosts["/"].remove_queue(queue)
        assert await one.event() is None
        rest.broker.adapters[0].drain()
        assert await two.event() is None
        assert (other.message_count, other.unacked_count) == (1, 0)


# -- exchanges


async def test_what_is_published_from_now_on(autojump_clock: Any) -> None:
    async with rest_door() as rest:
        before = set(rest.broker.vhosts["/"].queues)
        listener = rest.another()
        await listener.listen(f"{EXCHANGE}/amq.topic/events?routing_key=a.*&routing_key=b")
        for key in ("a.1", "x", "b", "a.2"):
            await rest.post(f"{EXCHANGE}/amq.topic/messages?routing_key={key}", key.encode())
        assert [event.json["routing_key"] for event in await listener.events(3)] == ["a.1", "b", "a.2"]
        await listener.close()
        assert set(rest.broker.vhosts["/"].queues) == before


async def test_a_named_client_misses_nothing_between_its_connections(autojump_clock: Any) -> None:
    async with rest_door() as rest:
        path = f"{EXCHANGE}/amq.fanout/events?client=c1"
        listener = rest.another()
        await listener.listen(path)
        for number in range(1, 4):
            await rest.post(f"{EXCHANGE}/amq.fanout/messages", b"%d" % number)
        events = await listener.events(3)
        await listener.close()
        for number in range(4, 6):
            await rest.post(f"{EXCHANGE}/amq.fanout/messages", b"%d" % number)
        assert own(rest, "c1").message_count == 5
        async with rest.another() as again:
            await again.listen(path, events[1].id)
            assert payloads(await again.events(3)) == ["3", "4", "5"]
            assert own(rest, "c1").unacked_count == 3
            async with rest.another() as newer:  # a new page: it knows of nothing
                await newer.listen(path)
                assert payloads(await newer.events(3)) == ["3", "4", "5"]
                assert await again.event() is None
                (await rest.post(f"{QUEUE}/events.c1/receive")).problem(403, "not_authorised")


async def test_a_named_client_of_a_queue_that_was_made_anew_loses_nothing(autojump_clock: Any) -> None:
    async with rest_door() as rest:
        path = f"{EXCHANGE}/amq.fanout/events?client=c1"
        listener = rest.another()
        await listener.listen(path)
        for number in range(5):
            await rest.post(f"{EXCHANGE}/amq.fanout/messages", b"%d" % number)
        last = (await listener.events(5))[-1]
        await listener.close()
        rest.broker.vhosts["/"].remove_queue(own(rest, "c1"))
        async with rest.another() as again:
            await again.listen(path, last.id)
            await rest.post(f"{EXCHANGE}/amq.fanout/messages", b"new")
            gap, event = await again.events(2)
            assert (gap.type, gap.json) == (
                "gap",
                {"missed": None},
            )  # what there was is gone, and nobody counted it
            assert payloads([event]) == ["new"]


async def test_a_client_of_an_exchange_without_a_name_is_told_that_it_may_have_missed_something(
    autojump_clock: Any,
) -> None:
    async with rest_door() as rest:
        path = f"{EXCHANGE}/amq.fanout/events"
        async with rest.another() as listener:
            await listener.listen(path)
            await rest.post(f"{EXCHANGE}/amq.fanout/messages", b"1")
            [first] = await listener.events(1)
        async with rest.another() as again:
            await again.listen(path, first.id)
            await rest.post(f"{EXCHANGE}/amq.fanout/messages", b"2")
            gap, event = await again.events(2)
            assert (gap.type, gap.json, event.json["payload"]) == ("gap", {"missed": None}, "2")


async def test_a_named_client_changes_its_keys(autojump_clock: Any) -> None:
    async with rest_door() as rest:
        async with rest.another() as listener:
            await listener.listen(f"{EXCHANGE}/amq.topic/events?client=c1&routing_key=a&routing_key=b")
        async with rest.another() as listener:
            await listener.listen(f"{EXCHANGE}/amq.topic/events?client=c1&routing_key=b&routing_key=c")
            for key in ("a", "b", "c"):
                await rest.post(f"{EXCHANGE}/amq.topic/messages?routing_key={key}", b"")
            assert [event.json["routing_key"] for event in await listener.events(2)] == ["b", "c"]


async def test_a_client_that_was_away_too_long_is_told_what_it_missed(autojump_clock: Any) -> None:
    async with rest_door() as rest:
        path = f"{EXCHANGE}/amq.fanout/events?client=c1&max_length=3"
        listener = rest.another()
        await listener.listen(path)
        await rest.post(f"{EXCHANGE}/amq.fanout/messages", b"0")
        [first] = await listener.events(1)
        await listener.close()
        for number in range(1, 8):
            await rest.post(f"{EXCHANGE}/amq.fanout/messages", b"%d" % number)
        async with rest.another() as again:
            await again.listen(path, first.id)
            gap, *events = await again.events(4)
            assert (gap.type, gap.json, gap.id) == ("gap", {"missed": 4}, "")
            assert payloads(events) == ["5", "6", "7"]


async def test_ids_of_the_start_before_count_for_what_was_there_at_recovery(
    monkeypatch: pytest.MonkeyPatch, autojump_clock: Any
) -> None:
    async with rest_door() as rest:
        async with rest.another() as listener:
            await listener.listen(f"{EXCHANGE}/amq.fanout/events?client=c1")
        queue = own(rest, "c1")
        queue.next_position = 11  # recovered: 1 to 10 may be there
        streams = streams_module.Streams(rest.broker)
        token = queue.arguments[streams_module.EPOCH]
        boot = streams.boot
        queue.next_position = 16

        def position(*id: Any) -> int:
            return streams.confirmed_position(queue, EventId(*id))

        assert position(token, boot, 13) == 13
        assert position(token, boot, 99) == 15
        assert position(token, boot - 1, 7) == 7
        assert position(token, boot - 1, 13) == 10
        assert position(token, boot - 2, 7) == 0
        assert position("other", boot, 7) == 0
        assert streams.confirmed_position(queue, None) == 0


@pytest.mark.parametrize(
    ("path", "status", "error"),
    [
        (f"{QUEUE}/none/events", 404, "not_found"),
        (f"{QUEUE}/q/events?window=0", 400, "bad_request"),
        (f"{QUEUE}/q/events?acknowledge=auto", 400, "bad_request"),
        (f"{EXCHANGE}/none/events", 404, "not_found"),
        (f"{EXCHANGE}/amq.default/events", 400, "bad_request"),
        (f"{EXCHANGE}/amq.topic/events?client=a/b", 400, "bad_request"),
        (f"{EXCHANGE}/amq.topic/events?client=taken", 409, "not_a_stream"),
        (f"{EXCHANGE}/amq.topic/events?ack=auto", 400, "bad_request"),
        (f"{EXCHANGE}/amq.topic/events?routing_key={'k' * 256}", 400, "bad_request"),
    ],
)
async def test_streams_that_cannot_be(path: str, status: int, error: str) -> None:
    async with rest_door() as rest:
        declare(rest, "q")
        before = set(rest.broker.vhosts["/"].queues)
        if "taken" in path:
            declare(
                rest,
                "events.taken",
                durable=True,
                max_length=10_000,
                max_length_bytes=64 << 20,
                expires=3_600_000,
            )
            before.add("events.taken")
        async with rest.another() as listener:
            answer = await listener.listen(path)
            answer.problem(status, error)
        assert set(rest.broker.vhosts["/"].queues) == before


async def test_a_head_request_opens_no_stream(autojump_clock: Any) -> None:
    async with rest_door() as rest:
        queue = declare(rest, "q")
        await rest.stream.send_all(
            f"HEAD {QUEUE}/q/events HTTP/1.1\r\nHost: x\r\nAuthorization: {basic('guest', 'guest')}\r\n\r\n".encode()
        )
        assert (await rest.stream.receive_some()).startswith(b"HTTP/1.1 200 ")
        assert queue.consumer_count == 0

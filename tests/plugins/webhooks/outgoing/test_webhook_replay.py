"""Dead letters sent again."""

from __future__ import annotations

import trio
import trio.testing
from support.hook_receiver import reply
from support.hook_world import World, world
from trio.testing import MockClock

from leveret.plugins.webhooks.outgoing.dead_letters import Selection, dead_letters


async def dead_ones(w: World, count: int) -> None:
    """So many, ten seconds apart."""
    w.subscribe(retry={"delays_s": []}, circuit_breaker=False)
    for number in range(count):
        w.publish(str(number), message_id=f"m{number}")
        await trio.sleep(10)
    assert len(w.dead()) == count


async def test_replay_of_all_in_order_with_the_same_ids(autojump_clock: MockClock) -> None:
    async with world(lambda request, count: reply(500 if count <= 5 else 200)) as w:
        await dead_ones(w, 5)
        result = await w.webhook().replay(Selection(), 1000)
        assert (result.replayed, result.is_complete) == (5, True)
        await w.settled()
        assert w.endpoint.bodies[5:] == [b"0", b"1", b"2", b"3", b"4"]
        assert [one.id for one in w.endpoint.received[5:]] == ["m0", "m1", "m2", "m3", "m4"]
        assert w.endpoint.received[5].headers["x-leveret-attempt"] == "1"
        assert w.endpoint.received[5].headers["x-leveret-exchange"] == "amq.topic"
        assert w.dead() == []


async def test_replay_of_some(autojump_clock: MockClock) -> None:
    async with world(lambda request, count: reply(500 if count <= 6 else 200)) as w:
        await dead_ones(w, 6)
        letters = w.dead()
        result = await w.webhook().replay(Selection(ids=frozenset({"m1", letters[3]["position"]})), 1000)
        assert result.replayed == 2
        await w.settled()
        assert w.endpoint.bodies[6:] == [b"1", b"3"]
        result = await w.webhook().replay(Selection(since=letters[2]["at"], until=letters[5]["at"]), 1000)
        assert result.replayed == 2
        await w.settled()
        assert w.endpoint.bodies[8:] == [b"2", b"4"]
        assert [one["webhook_id"] for one in w.dead()] == ["m0", "m5"]
        assert (await w.webhook().replay(Selection(reason="gone"), 1000)).replayed == 0
        assert (await w.webhook().replay(Selection(reason="exhausted"), 1)).replayed == 1
        assert [one["webhook_id"] for one in w.dead()] == ["m5"]


async def test_replay_by_status(autojump_clock: MockClock) -> None:
    statuses = {b"0": 500, b"1": 404, b"2": 500}
    async with world(lambda request, count: reply(statuses[request.body] if count <= 3 else 200)) as w:
        w.subscribe(concurrency=1, retry={"delays_s": []})
        w.publish("0", "1", "2")
        await w.settled()
        found = dead_letters(w.webhook().dead_queue(), Selection(status=404), after=0, limit=10)
        assert [one.status for one in found] == [404]
        assert (await w.webhook().replay(Selection(status=500), 1000)).replayed == 2
        await w.settled()
        assert w.endpoint.bodies[3:] == [b"0", b"2"]
        assert [one["status"] for one in w.dead()] == [404]


async def test_a_replay_that_is_cancelled_leaves_nothing_out(autojump_clock: MockClock) -> None:
    async with world(lambda request, count: reply(500)) as w:
        await dead_ones(w, 3)
        with trio.CancelScope() as scope:
            scope.cancel()
            await w.webhook().replay(Selection(ids=frozenset({"none"})), 1000)
        assert w.queue("webhook.w.dead").unacked_count == 0
        assert len(w.dead()) == 3

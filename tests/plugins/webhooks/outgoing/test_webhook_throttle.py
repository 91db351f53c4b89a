"""Told to wait, in order, over a restart: when the next request may go."""

from __future__ import annotations

import random
from email.utils import formatdate
from pathlib import Path

import pytest
import trio
import trio.testing
from support.hook_receiver import Received, reply
from support.hook_world import first_fails, ok, world
from trio.testing import MockClock

from leveret.conf.settings import Settings
from leveret.core.store.lmdb.store import LmdbStore

# -- told to wait


@pytest.mark.parametrize("form", ["seconds", "date"])
async def test_retry_after_holds_the_whole_endpoint(autojump_clock: MockClock, form: str) -> None:
    def answer(request: Received, count: int) -> bytes:
        if count > 1:
            return reply(200)
        import time

        after = "120" if form == "seconds" else formatdate(time.time() + 121, usegmt=True)
        return reply(429, Retry_After=after)

    async with world(answer) as w:
        w.subscribe(concurrency=1)
        w.publish("1", "2")
        await w.settled()
        first, second, third = w.endpoint.times()
        assert (first, second) == pytest.approx((0, 120), abs=1.5)
        assert third == pytest.approx(second, abs=1)


async def test_retry_after_is_clamped(autojump_clock: MockClock) -> None:
    async with world(first_fails(1, 503, Retry_After="1000000")) as w:
        w.subscribe(max_retry_after_s=200)
        w.publish("1")
        await w.settled()
        assert w.endpoint.times() == pytest.approx([0, 200], abs=0.01)


async def test_429_without_a_time_holds_the_endpoint_too(autojump_clock: MockClock) -> None:
    async with world(first_fails(1, 429)) as w:
        w.subscribe(concurrency=1)
        w.publish("1", "2")
        await w.settled()
        assert w.endpoint.times()[1] == pytest.approx(5, abs=0.01)


@pytest.mark.parametrize("status", [502, 503, 504])
async def test_an_overloaded_endpoint_has_a_moment_of_rest(autojump_clock: MockClock, status: int) -> None:
    async with world(first_fails(1, status)) as w:
        w.subscribe(concurrency=1)
        w.publish("1", "2")
        await w.settled()
        assert w.endpoint.bodies == [b"1", b"2", b"1"]
        assert w.endpoint.times() == pytest.approx([0, 1, 5], abs=0.01)


async def test_retry_after_of_another_failure_is_that_messages_alone(autojump_clock: MockClock) -> None:
    async with world(first_fails(1, 500, Retry_After="50")) as w:
        w.subscribe(concurrency=1)
        w.publish("1", "2")
        await w.settled()
        assert w.endpoint.bodies == [b"1", b"2", b"1"]
        assert w.endpoint.times() == pytest.approx([0, 0, 50], abs=0.01)


async def test_rate_limit(autojump_clock: MockClock) -> None:
    async with world() as w:
        w.subscribe(rate_limit={"requests": 2, "per_s": 1, "burst": 3})
        w.publish(*map(str, range(7)))
        await w.settled()
        assert w.endpoint.times() == pytest.approx([0, 0, 0, 0.5, 1, 1.5, 2], abs=0.01)


async def test_the_breaker_stops_and_probes(autojump_clock: MockClock) -> None:
    async with world(lambda request, count: reply(500 if count <= 11 else 200)) as w:
        w.subscribe(concurrency=1, retry={"initial_s": 1000, "jitter": 0})
        w.publish(*map(str, range(13)))
        await trio.sleep(20)
        assert len(w.endpoint.received) == 10  # ten failures of ten: open
        assert w.facts["circuit_breaker"] == "open"
        await trio.sleep(15)  # half-open: one probe, which fails
        assert len(w.endpoint.received) == 11
        await trio.sleep(30)
        assert len(w.endpoint.received) == 13  # the next probe succeeds, and the rest follows
        assert w.facts["circuit_breaker"] == "closed"
        await w.settled()


# -- order


async def test_order_per_key(autojump_clock: MockClock) -> None:
    """A message that fails holds those behind it of its key, and no others."""
    async with world(lambda request, count: reply(500 if request.body == b"a1" and count < 4 else 200)) as w:
        w.subscribe(order_by="header:customer", concurrency=1)
        for body in ("a1", "a2", "b1", "a3", "b2"):
            w.publish(body, headers={"customer": body[0]})
        await w.settled()
        assert w.endpoint.bodies == [b"a1", b"b1", b"b2", b"a1", b"a2", b"a3"]


async def test_messages_without_the_key_are_in_no_order(autojump_clock: MockClock) -> None:
    async with world(lambda request, count: reply(500 if count == 1 else 200)) as w:
        w.subscribe(order_by="header:customer", concurrency=1)
        w.publish("1", "2")
        await w.settled()
        assert w.endpoint.bodies == [b"1", b"2", b"1"]


@pytest.mark.parametrize("order_by", ["queue", "routing_key", "correlation_id"])
async def test_order_of_the_whole_queue(autojump_clock: MockClock, order_by: str) -> None:
    async with world(lambda request, count: reply(500 if count in (2, 3, 6) else 200)) as w:
        w.subscribe(order_by=order_by, concurrency=8)
        w.publish(*map(str, range(6)), correlation_id="same")
        await w.settled()
        assert w.endpoint.bodies == [b"0", b"1", b"1", b"1", b"2", b"3", b"3", b"4", b"5"]
        assert w.endpoint.most_in_flight == 1


async def test_a_dead_message_lets_the_next_one_go(autojump_clock: MockClock) -> None:
    async with world(lambda request, count: reply(500 if request.body == b"1" else 200)) as w:
        w.subscribe(order_by="queue", retry={"delays_s": [1.0]})
        w.publish("1", "2")
        await w.settled()
        assert w.endpoint.bodies == [b"1", b"1", b"2"]


# -- over a restart


async def test_pauses_retries_and_records_outlive_a_restart(
    autojump_clock: MockClock, tmp_path: Path
) -> None:
    def store() -> LmdbStore:
        return LmdbStore(tmp_path, Settings().store)

    async with world(lambda request, count: reply(429, Retry_After="1000"), store()) as w:
        w.subscribe(concurrency=1)
        w.publish("1", "2", message_id="m")
        await trio.sleep(5)
        assert w.endpoint.bodies == [b"1"]
    begun = trio.current_time()
    async with world(ok, store()) as w:
        await trio.sleep(1)
        assert w.facts["paused_for_s"] > 900
        await w.settled()
        assert w.endpoint.bodies == [b"1", b"2"]
        assert w.endpoint.received[0].at - begun > 900
        assert [one.headers["x-leveret-attempt"] for one in w.endpoint.received] == ["2", "1"]
        outcomes = [(one["outcome"], one["status"]) for one in w.attempts()]
        assert outcomes == [("delivered", 200), ("delivered", 200), ("retry", 429)]
        assert list(w.broker.store.definitions(b"webhooks/retry/")) == []


async def test_order_per_key_outlives_restarts(autojump_clock: MockClock, tmp_path: Path) -> None:
    """Whatever fails whenever: no message of a key is sent before the one in front of it was taken."""
    chance = random.Random(54)
    taken: dict[str, int] = {}
    sent = 0

    def answer(request: Received, count: int) -> bytes:
        nonlocal sent
        key, number = request.body.decode().split("-")
        assert int(number) <= taken.get(key, -1) + 1, f"{request.body!r} before its turn"
        sent += 1
        if chance.random() < 0.4:
            return reply(chance.choice([500, 404, 302]))
        taken[key] = max(taken.get(key, -1), int(number))
        return reply(200)

    for turn in range(4):
        async with world(answer, LmdbStore(tmp_path, Settings().store)) as w:
            if turn == 0:
                w.subscribe(
                    order_by="header:key", concurrency=8, circuit_breaker=False,
                    retry={"initial_s": 3, "factor": 1.5, "attempts": 100, "jitter": 0.3},
                )  # fmt: skip
                for number in range(25):
                    for key in "abcd":
                        w.publish(f"{key}-{number}", headers={"key": key})
            if turn < 3:
                await trio.sleep(20)  # torn down in the middle of it
            else:
                await w.settled()
                assert w.dead() == []
    assert taken == dict.fromkeys("abcd", 24)
    assert sent > 130


async def test_a_schedule_goes_on_where_it_was_after_a_restart(
    autojump_clock: MockClock, tmp_path: Path
) -> None:
    """Neither at once nor from the beginning: the third attempt when it was due, with the same id."""
    async with world(lambda request, count: reply(500), LmdbStore(tmp_path, Settings().store)) as w:
        w.subscribe(retry={"delays_s": [10, 1000, 5000], "jitter": 0})
        w.publish("x")
        await trio.sleep(100)
        begun, ids = w.endpoint.received[1].at, {one.id for one in w.endpoint.received}
        assert len(w.endpoint.received) == 2
    async with world(ok, LmdbStore(tmp_path, Settings().store)) as w:
        await w.settled()
        (request,) = w.endpoint.received
        # The wall clock of the second broker has not seen the hundred seconds that the test's clock has jumped.
        assert request.at - begun == pytest.approx(1000 + 100, abs=2)
        assert ({request.id}, request.headers["x-leveret-attempt"]) == (ids, "3")
        assert [one["attempt"] for one in w.attempts()] == [3, 2, 1]


async def test_a_message_that_expires_while_it_waits_is_dead_once(autojump_clock: MockClock) -> None:
    async with world(lambda request, count: reply(500)) as w:
        w.subscribe(retry={"delays_s": [5.0, 100.0], "jitter": 0})
        w.publish("x", expiration="20000")
        await w.settled()
        assert len(w.endpoint.received) == 2
        assert [(one["reason"], one["attempts"]) for one in w.dead()] == [("expired", 2)]

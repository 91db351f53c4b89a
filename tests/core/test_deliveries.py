"""Consuming with structured concurrency: credit, order, settlement, cancellation; nothing is ever lost or kept."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import Any

import pytest
import trio
import trio.testing
from support.registries import installed
from support.topology import FakeBroker, envelope

from leveret.auth.contracts import Permission, Principal
from leveret.conf.settings import Settings
from leveret.core.broker import Broker
from leveret.core.deliveries import Deliveries, Delivery, consume, consume_queue
from leveret.core.errors import AccessRefused, DeliveryTagUnknown, NotFound
from leveret.core.queue.queue import Queue
from leveret.core.session import Session
from leveret.core.store.memory import MemoryStore


@asynccontextmanager
async def a_broker(**changes: Any) -> AsyncIterator[tuple[Broker, Session]]:
    """A whole broker and a session in it; in the end nothing may be out of any queue."""
    async with Broker(replace(Settings(), **changes), installed(), MemoryStore()).running() as broker:
        yield broker, Session(broker, broker.vhosts["/"], Principal("guest"), object())
        for vhost in broker.vhosts.values():
            for queue in vhost.queues.values():
                assert queue.consumer_count == 0
                assert queue.unacked_count == 0


def fill(session: Session, name: str, count: int, **arguments: Any) -> Queue:
    queue = session.queue_declare(name, durable=True, arguments=arguments)
    for number in range(count):
        session.publish(envelope("", name, delivery_mode=2), b"%d" % number)
    return queue


def ready(queue: Queue) -> list[bytes]:
    found = []
    while (message := queue.get(no_ack=True)) is not None:
        found.append(message.body)
    return found


async def test_messages_come_in_order_and_acks_give_credit_back() -> None:
    async with a_broker() as (_, session):
        queue = fill(session, "q", 100)
        bodies = []
        async with consume(session, "q", credit=7) as deliveries:
            async for delivery in deliveries:
                assert deliveries.out_count <= 7
                assert queue.unacked_count == deliveries.out_count
                bodies.append(delivery.body)
                delivery.ack()
                if len(bodies) == 100:
                    break
        assert bodies == [b"%d" % number for number in range(100)]
        assert queue.message_count == queue.unacked_count == 0


async def test_what_is_not_settled_goes_back_to_its_place() -> None:
    async with a_broker() as (_, session):
        queue = fill(session, "q", 10)
        async with consume(session, "q", credit=6) as deliveries:
            taken = [await anext(deliveries) for _ in range(4)]
            taken[1].ack()
        assert queue.message_count == 9
        assert ready(queue) == [b"0", b"2", b"3", b"4", b"5", b"6", b"7", b"8", b"9"]


async def test_only_what_was_taken_has_failed() -> None:
    async with a_broker() as (_, session):
        queue = fill(session, "q", 3)
        async with consume(session, "q", credit=3) as deliveries:
            await anext(deliveries)
        counts = []
        while (message := queue.get(no_ack=True)) is not None:
            counts.append(message.delivery_count)
            assert message.is_redelivered
        assert counts == [1, 0, 0]


async def test_a_consumer_that_does_not_count_leaves_no_trace() -> None:
    async with a_broker() as (_, session):
        queue = fill(session, "q", 1)
        async with consume(session, "q", credit=3, counts=False) as deliveries:
            await anext(deliveries)
        message = queue.get(no_ack=True)
        assert message is not None
        assert message.delivery_count == 0


async def test_rejected_is_dead_lettered_or_requeued() -> None:
    async with a_broker() as (_, session):
        dead = session.queue_declare("dead")
        queue = fill(session, "q", 2, **{"x-dead-letter-exchange": "", "x-dead-letter-routing-key": "dead"})
        async with consume(session, "q", credit=1) as deliveries:
            (await anext(deliveries)).reject()
            (await anext(deliveries)).reject(requeue=True)
            again = await anext(deliveries)
            assert again.is_redelivered
            again.ack()
        assert ready(dead) == [b"0"]
        assert queue.message_count == 0


async def test_a_delivery_is_settled_once() -> None:
    async with a_broker() as (_, session):
        fill(session, "q", 2)
        async with consume(session, "q", credit=2) as deliveries:
            delivery = await anext(deliveries)
            delivery.ack()
            with pytest.raises(DeliveryTagUnknown, match="delivery 1 of queue 'q' is settled already"):
                delivery.reject()
            late = await anext(deliveries)
        with pytest.raises(DeliveryTagUnknown):
            late.ack()


async def test_with_a_delivery() -> None:
    async with a_broker() as (_, session):
        queue = fill(session, "q", 3)
        async with consume(session, "q", credit=3) as deliveries:
            with await anext(deliveries):
                pass
            with pytest.raises(ZeroDivisionError), await anext(deliveries):
                _ = 1 / 0
            with await anext(deliveries) as third:
                third.reject()
        assert ready(queue) == [b"1"]


async def test_credit_may_change_while_it_runs() -> None:
    async with a_broker() as (_, session):
        queue = fill(session, "q", 10)
        async with consume(session, "q", credit=2) as deliveries:
            await trio.testing.wait_all_tasks_blocked()
            assert queue.unacked_count == 2
            deliveries.credit = 5
            await trio.testing.wait_all_tasks_blocked()
            assert queue.unacked_count == 5
            deliveries.credit = 1
            for expected in (4, 3, 2, 1, 0):
                (await anext(deliveries)).ack()
                assert deliveries.out_count == expected
            await trio.testing.wait_all_tasks_blocked()
            assert deliveries.out_count == 1


async def test_bytes_are_bounded_whatever_the_credit() -> None:
    async with a_broker() as (_, session):
        session.queue_declare("q")
        for _ in range(10):
            session.publish(envelope("", "q"), bytes(1 << 20))
        async with consume(session, "q", credit=100, max_bytes=2 << 20) as deliveries:
            await trio.testing.wait_all_tasks_blocked()
            assert deliveries.out_bytes <= 4 << 20
            for _ in range(10):
                (await anext(deliveries)).ack()


async def test_iteration_ends_when_the_queue_is_deleted() -> None:
    async with a_broker() as (_, session):
        fill(session, "q", 3)
        seen = []
        async with consume(session, "q", credit=3) as deliveries:
            async for delivery in deliveries:
                seen.append(delivery)
                if len(seen) == 1:
                    session.queue_delete("q")
            assert deliveries.cancelled == "deleted"
            seen[0].ack()  # without effect, without harm
        assert len(seen) == 1


async def test_a_waiting_consumer_is_woken_by_the_deletion() -> None:
    async with a_broker() as (_, session):
        session.queue_declare("q")
        ended = trio.Event()

        async def work() -> None:
            async with consume(session, "q", credit=1) as deliveries:
                async for _ in deliveries:
                    pytest.fail("there is none")
            ended.set()

        async with trio.open_nursery() as nursery:
            nursery.start_soon(work)
            await trio.testing.wait_all_tasks_blocked()
            session.queue_delete("q")
            with trio.fail_after(1):
                await ended.wait()


@pytest.mark.parametrize("workers", [1, 3])
async def test_cancellation_at_any_moment_loses_nothing(workers: int) -> None:
    """Cancelled after every possible number of scheduler passes: each message is done once or back in the queue."""
    for passes in range(30):
        async with a_broker() as (_, session):
            queue = fill(session, "q", 12)
            done: list[bytes] = []

            async def work(deliveries: Deliveries, done: list[bytes]) -> None:
                async for delivery in deliveries:
                    with delivery:
                        await trio.lowlevel.checkpoint()
                        done.append(delivery.body)

            async def consume_all(session: Session, done: list[bytes]) -> None:
                async with consume(session, "q", credit=4) as deliveries, trio.open_nursery() as nursery:
                    for _ in range(workers):
                        nursery.start_soon(work, deliveries, done)

            async with trio.open_nursery() as nursery:
                nursery.start_soon(consume_all, session, done)
                for _ in range(passes):
                    await trio.lowlevel.checkpoint()
                nursery.cancel_scope.cancel()
            left = ready(queue)
            assert sorted(done + left, key=int) == [b"%d" % number for number in range(12)]
            assert left == sorted(left, key=int)


async def test_several_tasks_share_one_consumer() -> None:
    async with a_broker() as (_, session):
        fill(session, "q", 50)
        done: dict[int, list[bytes]] = {0: [], 1: [], 2: []}

        async def work(deliveries: Deliveries, number: int) -> None:
            async for delivery in deliveries:
                await trio.lowlevel.checkpoint()
                done[number].append(delivery.body)
                delivery.ack()

        async with consume(session, "q", credit=10) as deliveries, trio.open_nursery() as nursery:
            for number in done:
                nursery.start_soon(work, deliveries, number)
            await trio.testing.wait_all_tasks_blocked()
            nursery.cancel_scope.cancel()
        assert sum(map(len, done.values())) == 50
        assert all(done.values())


async def test_an_error_in_the_block_requeues_and_goes_on() -> None:
    async with a_broker() as (_, session):
        queue = fill(session, "q", 1)

        async def work() -> None:
            async with consume(session, "q", credit=1) as deliveries:
                await anext(deliveries)
                raise RuntimeError("ours")

        with pytest.raises(RuntimeError, match="ours"):
            await work()
        assert queue.message_count == 1


async def test_permissions_are_the_sessions() -> None:
    broker = FakeBroker()
    broker.auth.rule = lambda principal, vhost, permission, resource: permission is not Permission.READ
    session = broker.session()
    session.queue_declare("q")
    with pytest.raises(AccessRefused, match="read access to queue 'q'"):
        async with consume(session, "q", credit=1):
            pass
    with pytest.raises(NotFound):
        async with consume(FakeBroker().session(), "none", credit=1):
            pass


async def test_a_slow_backend_is_asked_and_waited_for() -> None:
    broker = FakeBroker()
    session = broker.session()
    session.queue_declare("slow")
    broker.auth.rule = lambda principal, vhost, permission, resource: None
    async with consume(session, "slow", credit=1) as deliveries:
        assert deliveries.queue.consumer_count == 1


async def test_exclusive_use() -> None:
    async with a_broker() as (_, session):
        session.queue_declare("q")
        async with consume(session, "q", credit=1, exclusive=True):
            with pytest.raises(AccessRefused, match="exclusive use"):
                async with consume(session, "q", credit=1):
                    pass


async def test_on_the_brokers_own_behalf_and_in_listings() -> None:
    async with a_broker() as (_, session):
        queue = fill(session, "q", 1)
        async with consume_queue(queue, credit=1, tag="mine", facts={"name": "a bridge"}) as deliveries:
            assert deliveries.describe() == {"name": "a bridge", "vhost": "/"}
            assert [consumer.tag for consumer in queue.consumers] == ["mine"]
            delivery: Delivery = await anext(deliveries)
            assert (delivery.exchange, delivery.routing_key, delivery.properties.delivery_mode) == (
                "",
                "q",
                2,
            )
            delivery.ack()


def test_no_credit_is_a_mistake() -> None:
    broker = FakeBroker()
    queue = broker.session().queue_declare("q")
    with pytest.raises(ValueError, match="credit of 0"):
        Deliveries(queue, credit=0)

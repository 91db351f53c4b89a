"""Exercises of the tutorials with aio-pika: robust connections, balanced routing, and a consumer that retries."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable
from typing import Any

import aio_pika
import aio_pika.exceptions
import pytest
from aio_pika.abc import AbstractIncomingMessage, AbstractRobustChannel
from support.server import LeveretServer, Server

TIMEOUT_S = 20.0


async def until(done: Callable[[], bool], what: str) -> None:
    deadline = asyncio.get_running_loop().time() + TIMEOUT_S
    while not done():
        assert asyncio.get_running_loop().time() < deadline, what
        await asyncio.sleep(0.01)


def on_channel(url: str, act: Callable[[AbstractRobustChannel], Awaitable[None]]) -> None:
    async def main() -> None:
        connection = await aio_pika.connect_robust(url)
        async with connection, asyncio.timeout(2 * TIMEOUT_S):
            channel = await connection.channel(on_return_raises=True)
            assert isinstance(channel, AbstractRobustChannel)
            await act(channel)

    asyncio.run(main())


def persistent(body: str, **properties: Any) -> aio_pika.Message:
    return aio_pika.Message(body.encode(), delivery_mode=aio_pika.DeliveryMode.PERSISTENT, **properties)


def test_tasks_are_balanced_over_three_queues(shared: Server, name: str) -> None:
    async def act(channel: AbstractRobustChannel) -> None:
        await channel.set_qos(prefetch_count=1)
        exchange = await channel.declare_exchange(name, aio_pika.ExchangeType.DIRECT, durable=True)
        got: dict[int, list[bytes]] = {0: [], 1: [], 2: []}
        queues = []
        for number in range(3):
            queue = await channel.declare_queue(f"{name}-{number}", durable=True, auto_delete=False)
            await queue.bind(exchange, routing_key=f"route.{number}")

            async def take(message: AbstractIncomingMessage, number: int = number) -> None:
                async with message.process():
                    assert message.routing_key == f"route.{number}"
                    assert message.delivery_mode == aio_pika.DeliveryMode.PERSISTENT
                    got[number].append(message.body)

            await queue.consume(take, consumer_tag=f"{name}-{number}")
            queues.append(queue)
        for task in range(10):
            await exchange.publish(persistent(f"task {task}"), routing_key=f"route.{task % 3}")
        await until(lambda: sum(map(len, got.values())) == 10, "ten tasks")
        assert got == {n: [b"task %d" % task for task in range(n, 10, 3)] for n in range(3)}
        for number, queue in enumerate(queues):
            await queue.cancel(f"{name}-{number}")
            await queue.delete()
        await exchange.delete()

    on_channel(shared.url, act)


def test_unbound_keys_are_dropped_or_returned(shared: Server, name: str) -> None:
    async def act(channel: AbstractRobustChannel) -> None:
        exchange = await channel.declare_exchange(name, aio_pika.ExchangeType.TOPIC, durable=True)
        queue = await channel.declare_queue(name, exclusive=True)
        await queue.bind(exchange, routing_key="order.#")
        await exchange.publish(persistent("kept"), routing_key="order.paid.late")
        with pytest.raises(aio_pika.exceptions.PublishError, match="NO_ROUTE"):
            await exchange.publish(persistent("returned"), routing_key="log.info")
        await exchange.publish(persistent("dropped"), routing_key="log.info", mandatory=False)
        message = await queue.get()
        assert message.body == b"kept"
        await message.ack()
        assert await queue.get(fail=False) is None
        await exchange.delete()

    on_channel(shared.url, act)


def test_reliable_producer_and_consumer(shared: Server, name: str) -> None:
    """Confirmed and persistent; duplicates by message id are skipped; what fails three times goes to the dead."""

    async def act(channel: AbstractRobustChannel) -> None:
        await channel.set_qos(prefetch_count=1)
        graveyard = await channel.declare_exchange(f"{name}-dlx", aio_pika.ExchangeType.DIRECT, durable=True)
        dead = await channel.declare_queue(f"{name}-dead", durable=True)
        await dead.bind(graveyard, routing_key="dead")
        exchange = await channel.declare_exchange(name, aio_pika.ExchangeType.DIRECT, durable=True)
        arguments = {
            "x-message-ttl": 300_000,
            "x-dead-letter-exchange": f"{name}-dlx",
            "x-dead-letter-routing-key": "dead",
        }
        queue = await channel.declare_queue(name, durable=True, arguments=arguments)
        await queue.bind(exchange, routing_key="work")
        done: dict[str, int] = {}
        skipped: list[str] = []
        buried: list[tuple[str, Any]] = []

        async def consume(message: AbstractIncomingMessage) -> None:
            assert message.message_id is not None
            if message.message_id in done:
                skipped.append(message.message_id)
                await message.ack()
            elif json.loads(message.body)["fails"]:
                await message.reject(requeue=False)
            else:
                done[message.message_id] = done.get(message.message_id, 0) + 1
                await message.ack()

        async def bury(message: AbstractIncomingMessage) -> None:
            async with message.process():
                deaths: Any = message.headers["x-death"]
                buried.append((str(message.message_id), deaths[0]["reason"]))

        await queue.consume(consume)
        await dead.consume(bury)
        for message_id, fails in (("a", False), ("b", False), ("b", False), ("bad", True), ("worse", True)):
            confirmation = await exchange.publish(
                persistent(json.dumps({"fails": fails}), message_id=message_id), routing_key="work"
            )
            assert confirmation is not None
        await until(lambda: len(buried) == 2 and len(skipped) == 1, "all dealt with")
        assert done == {"a": 1, "b": 1}
        assert skipped == ["b"]
        assert buried == [("bad", "rejected"), ("worse", "rejected")]
        for each in (queue, dead):
            await each.delete(if_unused=False, if_empty=False)
        for exchange_ in (exchange, graveyard):
            await exchange_.delete()

    on_channel(shared.url, act)


def test_a_robust_connection_outlives_the_broker(server: Callable[..., LeveretServer], name: str) -> None:
    """The broker is killed and started again; the client restores channel and consumer, and nothing is lost."""
    broker = server()
    broker.arguments = ["--amqp", str(broker.port)]  # the same listener again

    async def main() -> None:
        connection = await aio_pika.connect_robust(broker.url, reconnect_interval=0.1)
        async with connection, asyncio.timeout(2 * TIMEOUT_S):
            channel = await connection.channel()
            queue = await channel.declare_queue(name, durable=True)
            got: list[bytes] = []

            async def take(message: AbstractIncomingMessage) -> None:
                async with message.process():
                    got.append(message.body)

            await channel.default_exchange.publish(persistent("before"), routing_key=name)
            restored = asyncio.Event()
            connection.reconnect_callbacks.add(lambda *_: restored.set())
            await asyncio.to_thread(broker.kill)
            await asyncio.to_thread(broker.start)
            await restored.wait()
            await queue.consume(take)
            await channel.default_exchange.publish(persistent("after"), routing_key=name)
            await until(lambda: got == [b"before", b"after"], f"both messages: {got}")

    asyncio.run(main())

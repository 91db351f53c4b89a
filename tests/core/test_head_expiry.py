"""However a message becomes the head of its queue, it expires on time, is dead-lettered, and nobody has to look first."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
import trio
from support.topology import FakeBroker, envelope
from trio.testing import MockClock

from leveret.core.message import Envelope, Message
from leveret.core.queue.consumer import Consumer
from leveret.core.queue.queue import Queue


class Holder:
    """A sink that keeps what it is given, and takes up to `window` messages."""

    def __init__(self) -> None:
        self.taken: list[Message] = []

    def capacity(self, consumer: Consumer) -> int:
        return consumer.credit

    def deliver(self, consumer: Consumer, messages: list[Message]) -> None:
        self.taken += messages

    def on_cancelled(self, consumer: Consumer, reason: str) -> None: ...
    def describe(self) -> dict[str, Any]:
        return {}


class OnlyFirst:
    """A filter that wants the message that stands at the head at first."""

    def matches(self, envelope: Envelope) -> bool:
        return envelope.properties.message_id == "first"


def get(queue: Queue) -> None:
    assert queue.get(no_ack=False) is not None


def get_no_ack(queue: Queue) -> None:
    assert queue.get(no_ack=True) is not None


def get_and_settle(queue: Queue) -> None:
    message = queue.get(no_ack=False)
    assert message is not None
    queue.settle([message])


def get_and_reject(queue: Queue) -> None:
    message = queue.get(no_ack=False)
    assert message is not None
    queue.reject([message])


def get_requeue_and_get_again(queue: Queue) -> None:
    message = queue.get(no_ack=False)
    assert message is not None
    queue.requeue([message], counts=True)
    queue.dispatcher.run()
    assert queue.get(no_ack=False) is message


def drop_oldest(queue: Queue) -> None:
    assert queue.drop_oldest(1) == 1


def policy(queue: Queue) -> None:
    queue.apply(replace(queue.limits, max_length=1))


def overflow(queue: Queue) -> None:
    queue.apply(replace(queue.limits, max_length=2))
    queue.publish(envelope("", "q", expiration="1000"), [b"third"])


def consume_one(queue: Queue) -> None:
    queue.attach(Consumer(queue, Holder(), "c", prefetch=1))
    queue.dispatcher.schedule(queue)


def consume_filtered(queue: Queue) -> None:
    consumer = Consumer(queue, Holder(), "c", prefetch=10)
    consumer.filter = OnlyFirst()
    queue.attach(consumer)
    queue.dispatcher.schedule(queue)


WAYS = [
    get, get_no_ack, get_and_settle, get_and_reject, get_requeue_and_get_again, drop_oldest, policy, overflow,
    consume_one, consume_filtered,
]  # fmt: skip


@pytest.mark.parametrize("max_priority", [None, 3])
@pytest.mark.parametrize("way", WAYS)
async def test_the_new_head_expires_on_time(
    way: Callable[[Queue], None], max_priority: int | None, autojump_clock: MockClock
) -> None:
    broker = FakeBroker()
    vhost = broker.add_vhost()
    arguments: dict[str, Any] = {"x-dead-letter-exchange": "", "x-dead-letter-routing-key": "dead"}
    if max_priority is not None:
        arguments["x-max-priority"] = max_priority
    queue = vhost.add_queue("q", durable=False, exclusive=False, auto_delete=False, arguments=arguments)
    dead = vhost.add_queue("dead", durable=False, exclusive=False, auto_delete=False, arguments={})
    async with trio.open_nursery() as nursery:
        nursery.start_soon(broker.timers.run)
        broker.timers.tick()
        queue.publish(envelope("", "q", message_id="first"), [b"first"])
        queue.publish(envelope("", "q", expiration="1000"), [b"second"])
        broker.dispatcher.run()
        way(queue)
        broker.dispatcher.run()
        await trio.sleep(0.9)
        assert queue.message_count
        await trio.sleep(0.2)
        assert queue.message_count == 0
        bodies = [message.body for message in dead.ready.take(10)]
        assert b"second" in bodies
        nursery.cancel_scope.cancel()

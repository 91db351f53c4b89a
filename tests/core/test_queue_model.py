"""One queue against a model: a list of what is ready, a list of what is out. Both kinds of backlog, windows of a few
messages, so that paging, spilling and requeueing meet all the time."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule
from support.topology import FakeBroker, envelope

from leveret.core.message import Message
from leveret.core.queue.consumer import UNLIMITED, Consumer
from leveret.core.queue.queue import Queue

Expected = tuple[int, int, bytes]  # minus priority, position, body: sorted as they must come


class Taker:
    """A sink that keeps what it is given."""

    def __init__(self) -> None:
        self.taken: list[Message] = []

    def capacity(self, consumer: Consumer) -> int:
        return UNLIMITED

    def deliver(self, consumer: Consumer, messages: list[Message]) -> None:
        for message in messages:
            message.consumer = consumer
        self.taken += messages

    def on_cancelled(self, consumer: Consumer, reason: str) -> None: ...
    def describe(self) -> dict[str, Any]:
        return {}


class QueueModel(RuleBasedStateMachine):
    queue: Queue

    @initialize(
        durable=st.booleans(),
        max_priority=st.sampled_from([None, 3]),
        window=st.sampled_from([1, 3, 1000]),
    )
    def make(self, durable: bool, max_priority: int | None, window: int) -> None:
        broker = FakeBroker()
        broker.settings = replace(
            broker.settings,
            store=replace(broker.settings.store, window_messages=window, window_bytes=1 << 20),
        )
        self.broker = broker
        vhost = broker.add_vhost()
        arguments = {} if max_priority is None else {"x-max-priority": max_priority}
        self.queue = vhost.add_queue(
            "q", durable=durable, exclusive=False, auto_delete=False, arguments=arguments
        )
        self.max_priority = max_priority
        self.sink = Taker()
        self.consumer: Consumer | None = None
        self.ready: list[Expected] = []
        self.out: list[tuple[Expected, Message]] = []
        self.number = 0

    # -- in

    @rule(count=st.integers(1, 5), persistent=st.booleans(), priority=st.sampled_from([None, 0, 2, 9]))
    def publish(self, count: int, persistent: bool, priority: int | None) -> None:
        bodies = []
        for _ in range(count):
            self.number += 1
            bodies.append(b"%d" % self.number)
        rank = 0 if self.max_priority is None else min(priority or 0, self.max_priority)
        self.ready += [(-rank, int(body), body) for body in bodies]
        self.ready.sort()
        properties = {"delivery_mode": 2} if persistent else {}
        if priority is not None:
            properties["priority"] = priority
        assert self.queue.publish(envelope("", "q", **properties), bodies) == 0
        self.dispatch()

    @rule()
    def spill(self) -> None:
        self.queue.ready.spill(1 << 30)

    # -- out

    @precondition(lambda self: self.consumer is None)
    @rule(prefetch=st.integers(1, 4))
    def consume(self, prefetch: int) -> None:
        self.consumer = Consumer(self.queue, self.sink, "c", prefetch=prefetch)
        self.queue.attach(self.consumer)
        self.dispatch()

    @precondition(lambda self: self.consumer is not None)
    @rule()
    def cancel(self) -> None:
        assert self.consumer is not None
        self.queue.detach(self.consumer)
        self.consumer = None
        self.dispatch()

    @rule()
    def get(self) -> None:
        message = self.queue.get(no_ack=False)
        if message is None:
            assert not self.ready
        else:
            self.took([message])

    @precondition(lambda self: self.out)
    @rule(data=st.data(), how=st.sampled_from(["settle", "requeue", "reject"]))
    def settle(self, data: st.DataObject, how: str) -> None:
        chosen = data.draw(st.lists(st.sampled_from(range(len(self.out))), min_size=1, unique=True))
        picked = [self.out[index] for index in chosen]
        self.out = [entry for entry in self.out if entry not in picked]
        messages = [message for _, message in picked]
        for message in messages:
            if message.consumer is not None:
                message.consumer.credit += 1
        if how == "requeue":
            self.ready = sorted(self.ready + [expected for expected, _ in picked])
            self.queue.requeue(messages, counts=True)
            assert all(message.is_redelivered for message in messages)
        else:
            getattr(self.queue, how)(messages)
        self.broker.dispatcher.schedule(self.queue)  # as a channel does: credit came back
        self.dispatch()

    @rule()
    def purge(self) -> None:
        assert self.queue.purge() == len(self.ready)
        self.ready.clear()

    def dispatch(self) -> None:
        self.broker.dispatcher.run()
        taken, self.sink.taken = self.sink.taken, []
        self.took(taken)

    def took(self, messages: list[Message]) -> None:
        """They must be the first of what was ready, in order."""
        for message in messages:
            expected = self.ready.pop(0)
            assert message.body == expected[2]
            self.out.append((expected, message))

    # -- always

    @invariant()
    def counts_agree(self) -> None:
        if not hasattr(self, "queue"):
            return
        queue = self.queue
        assert queue.message_count == len(self.ready)
        assert queue.message_bytes == sum(len(body) for _, _, body in self.ready)
        assert queue.unacked_count == len(self.out)
        if self.consumer is not None and self.ready:
            assert self.consumer.credit == 0  # nobody waits while there is work

    @invariant()
    def the_store_holds_what_it_must(self) -> None:
        if not hasattr(self, "queue") or not self.queue.is_durable:
            return
        stored = sum(fifo.log.count for fifo in self.queue.fifos if fifo.log is not None)
        assert stored <= len(self.ready) + len(self.out)

    def teardown(self) -> None:
        """Drained, nothing is left, in memory or in the store."""
        if not hasattr(self, "queue"):
            return
        if self.consumer is not None:
            self.queue.detach(self.consumer)
        while (message := self.queue.get(no_ack=True)) is not None:
            assert message.body == self.ready.pop(0)[2]
        assert not self.ready
        if self.out:
            self.queue.settle([message for _, message in self.out])
        assert self.queue.message_count == self.queue.message_bytes == self.queue.unacked_count == 0
        assert sum(fifo.log.count for fifo in self.queue.fifos if fifo.log is not None) == 0


TestQueueModel = QueueModel.TestCase
TestQueueModel.settings = settings(max_examples=150, stateful_step_count=40, deadline=None)

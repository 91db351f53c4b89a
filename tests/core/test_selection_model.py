"""Consumers with filters against a naive model: each message to the first in turn that wants it and has credit."""

from __future__ import annotations

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule
from support.selecting import Taker, Wants, make_queue
from support.topology import envelope

from leveret.core.message import Message
from leveret.core.queue.consumer import UNLIMITED, Consumer
from leveret.core.queue.queue import Queue

Expected = tuple[int, int, bytes, str]  # minus priority, position, body, letter: sorted as they must come


class SelectionModel(RuleBasedStateMachine):
    """Three consumers that come and go, each with a filter or none, on one queue."""

    queue: Queue

    @initialize(
        durable=st.booleans(),
        max_priority=st.sampled_from([None, None, 2]),
        window=st.sampled_from([1, 3, 1000]),
    )
    def make(self, durable: bool, max_priority: int | None, window: int) -> None:
        arguments = {} if max_priority is None else {"x_max_priority": max_priority}
        self.broker, self.queue = make_queue(window=window, durable=durable, **arguments)
        self.max_priority = max_priority
        self.consumers: dict[int, Consumer] = {}
        self.ready: list[Expected] = []
        self.out: list[tuple[Expected, Message]] = []
        self.number = 0
        self.order: list[int] = []  # consumers, the longest unserved first

    # -- in

    @rule(
        letters=st.text("abc", min_size=1, max_size=4),
        persistent=st.booleans(),
        priority=st.sampled_from([None, 1, 9]),
    )
    def publish(self, letters: str, persistent: bool, priority: int | None) -> None:
        for letter in letters:
            self.number += 1
            body = b"%d" % self.number
            rank = 0 if self.max_priority is None else min(priority or 0, self.max_priority)
            self.ready = sorted([*self.ready, (-rank, self.number, body, letter)])
            properties = {"delivery_mode": 2} if persistent else {}
            if priority is not None:
                properties["priority"] = priority
            assert self.queue.publish(envelope("", letter, **properties), [body]) == 0
        self.dispatch()

    @rule()
    def spill(self) -> None:
        self.queue.ready.spill(1 << 30)

    # -- out

    @rule(
        number=st.integers(0, 2),
        letters=st.sampled_from(["a", "b", "ab", "", None]),
        prefetch=st.integers(0, 3),
        priority=st.sampled_from([0, 0, 5]),
    )
    def come_or_go(self, number: int, letters: str | None, prefetch: int, priority: int) -> None:
        if number in self.consumers:
            self.queue.detach(self.consumers.pop(number))
            self.order.remove(number)
        else:
            consumer = Consumer(self.queue, Taker(), str(number), prefetch=prefetch, priority=priority)
            consumer.filter = None if letters is None else Wants(letters)
            self.consumers[number] = consumer
            self.order.append(number)
            self.queue.attach(consumer)
            if self.queue.filtered is not None:
                self.queue.filtered.limit_messages = 1000  # the look ahead; the store's window stays small
        self.dispatch()

    @rule()
    def get(self) -> None:
        message = self.queue.get(no_ack=False)
        assert (message is None) == (not self.ready)
        if message is not None:
            expected = self.ready.pop(0)
            assert message.body == expected[2]
            self.out.append((expected, message))
        self.dispatch()

    @precondition(lambda self: self.out)
    @rule(data=st.data(), how=st.sampled_from(["settle", "requeue", "reject"]))
    def settle(self, data: st.DataObject, how: str) -> None:
        chosen = data.draw(st.lists(st.sampled_from(range(len(self.out))), min_size=1, unique=True))
        picked = [self.out[index] for index in chosen]
        self.out = [entry for entry in self.out if entry not in picked]
        messages = [message for _, message in picked]
        for message in messages:
            if message.consumer is not None and message.consumer.credit != UNLIMITED:
                message.consumer.credit += 1
        if how == "requeue":
            self.ready = sorted(self.ready + [expected for expected, _ in picked])
            self.queue.requeue(messages, counts=True)
        else:
            getattr(self.queue, how)(messages)
        self.broker.dispatcher.schedule(self.queue)
        self.dispatch()

    @rule()
    def purge(self) -> None:
        assert self.queue.purge() == len(self.ready)
        self.ready.clear()

    @precondition(lambda self: self.ready)
    @rule()
    def drop_oldest(self) -> None:
        assert self.queue.drop_oldest(1) == 1
        del self.ready[0]
        self.dispatch()

    # -- the model

    def dispatch(self) -> None:
        filtered = any(consumer.filter is not None for consumer in self.consumers.values())
        credits = {number: consumer.credit for number, consumer in self.consumers.items()}
        self.broker.dispatcher.run()
        taken = {number: consumer.sink.taken for number, consumer in self.consumers.items()}  # type: ignore[attr-defined]
        for consumer in self.consumers.values():
            consumer.sink.taken = []  # type: ignore[attr-defined]
        for expected in list(self.ready):
            able = [
                number
                for number in self.order
                if credits[number] > 0
                and ((wants := self.consumers[number].filter) is None or expected[3] in wants.letters)  # type: ignore[attr-defined]
            ]
            if not able:
                continue
            best = max(self.consumers[number].priority for number in able)
            able = [number for number in able if self.consumers[number].priority == best]
            if filtered:
                chosen = able[0]
                assert taken[chosen], f"{expected} was for {chosen}"
            else:  # turns of consumers without filters are tested elsewhere
                chosen = next(
                    number for number in able if taken[number] and taken[number][0].body == expected[2]
                )
            message = taken[chosen].pop(0)
            assert message.body == expected[2]
            credits[chosen] -= 1
            self.order.remove(chosen)
            self.order.append(chosen)
            self.ready.remove(expected)
            self.out.append((expected, message))
        assert not any(taken.values()), f"nobody should have got {taken}"
        if not filtered:
            self.order = [int(consumer.tag) for consumer in self.queue.consumers]
        else:
            levels: dict[int, list[int]] = {}
            for consumer in self.queue.consumers:
                levels.setdefault(consumer.priority, []).append(int(consumer.tag))
            for priority, level in levels.items():
                assert level == [n for n in self.order if self.consumers[n].priority == priority]

    @invariant()
    def counts_agree(self) -> None:
        if not hasattr(self, "queue"):
            return
        queue = self.queue
        assert queue.message_count == len(self.ready)
        assert queue.message_bytes == sum(len(expected[2]) for expected in self.ready)
        assert queue.unacked_count == len(self.out)
        head = queue.ready.head()
        assert (head and head.body) == (self.ready[0][2] if self.ready else None)
        assert (queue.filtered is None) == (queue.ready is not queue.filtered)

    @invariant()
    def the_store_holds_what_it_must(self) -> None:
        if hasattr(self, "queue") and self.queue.is_durable:
            stored = sum(fifo.log.count for fifo in self.queue.fifos if fifo.log is not None)
            assert stored <= len(self.ready) + len(self.out)

    def teardown(self) -> None:
        if not hasattr(self, "queue"):
            return
        for consumer in self.consumers.values():
            self.queue.detach(consumer)
        self.broker.dispatcher.run()
        while (message := self.queue.get(no_ack=True)) is not None:
            assert message.body == self.ready.pop(0)[2]
        assert not self.ready
        if self.out:
            self.queue.settle([message for _, message in self.out])
        assert self.queue.message_count == self.queue.message_bytes == self.queue.unacked_count == 0
        assert sum(fifo.log.count for fifo in self.queue.fifos if fifo.log is not None) == 0
        self.broker.dispatcher.schedule(self.queue)
        self.broker.dispatcher.run()
        assert self.queue.filtered is None  # ordinary again


TestSelectionModel = SelectionModel.TestCase
TestSelectionModel.settings = settings(max_examples=200, stateful_step_count=40, deadline=None)

"""Consumers with filters: against a naive model, and case by case."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule
from support.topology import FakeBroker, envelope

from leveret.core.consumer import UNLIMITED, Consumer
from leveret.core.message import Envelope, Message
from leveret.core.queue import Queue
from leveret.core.selection import Selection

Expected = tuple[int, int, bytes, str]  # minus priority, position, body, color: sorted as they must come


class Wants:
    """A filter: the messages whose routing key has one of these letters."""

    def __init__(self, letters: str) -> None:
        self.letters = letters
        self.asked = 0

    def matches(self, envelope: Envelope) -> bool:
        self.asked += 1
        return envelope.routing_key in self.letters


class Taker:
    """A sink of one consumer; `window` is what it takes at all."""

    def __init__(self, window: int = UNLIMITED) -> None:
        self.taken: list[Message] = []
        self.window = window

    def capacity(self, consumer: Consumer) -> int:
        return self.window

    def deliver(self, consumer: Consumer, messages: list[Message]) -> None:
        for message in messages:
            message.consumer = consumer
        self.taken += messages
        if self.window != UNLIMITED:
            self.window -= len(messages)
            assert self.window >= 0

    def on_cancelled(self, consumer: Consumer, reason: str) -> None: ...
    def describe(self) -> dict[str, Any]:
        return {}

    def bodies(self) -> list[bytes]:
        bodies, self.taken = [message.body for message in self.taken], []
        return bodies


def make_queue(*, window: int = 1000, durable: bool = False, **arguments: Any) -> tuple[FakeBroker, Queue]:
    broker = FakeBroker()
    store = replace(broker.settings.store, window_messages=window, window_bytes=1 << 20)
    broker.settings = replace(broker.settings, store=store)
    vhost = broker.add_vhost()
    named = {name.replace("_", "-"): value for name, value in arguments.items()}
    return broker, vhost.add_queue("q", durable=durable, exclusive=False, auto_delete=False, arguments=named)


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
        self.pump()

    @rule()
    def spill(self) -> None:
        self.queue.backlog.spill(1 << 30)

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
            if self.queue.selection is not None:
                self.queue.selection.limit_messages = 1000  # the look ahead; the store's window stays small
        self.pump()

    @rule()
    def get(self) -> None:
        message = self.queue.get(no_ack=False)
        assert (message is None) == (not self.ready)
        if message is not None:
            expected = self.ready.pop(0)
            assert message.body == expected[2]
            self.out.append((expected, message))
        self.pump()

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
        self.broker.pump.touch(self.queue)
        self.pump()

    @rule()
    def purge(self) -> None:
        assert self.queue.purge() == len(self.ready)
        self.ready.clear()

    @precondition(lambda self: self.ready)
    @rule()
    def drop_oldest(self) -> None:
        assert self.queue.drop_oldest(1) == 1
        del self.ready[0]
        self.pump()

    # -- the model

    def pump(self) -> None:
        filtered = any(consumer.filter is not None for consumer in self.consumers.values())
        credits = {number: consumer.credit for number, consumer in self.consumers.items()}
        self.broker.pump.run()
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
        head = queue.backlog.head()
        assert (head and head.body) == (self.ready[0][2] if self.ready else None)
        assert (queue.selection is None) == (queue.backlog is not queue.selection)

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
        self.broker.pump.run()
        while (message := self.queue.get(no_ack=True)) is not None:
            assert message.body == self.ready.pop(0)[2]
        assert not self.ready
        if self.out:
            self.queue.settle([message for _, message in self.out])
        assert self.queue.message_count == self.queue.message_bytes == self.queue.unacked_count == 0
        assert sum(fifo.log.count for fifo in self.queue.fifos if fifo.log is not None) == 0
        self.broker.pump.touch(self.queue)
        self.broker.pump.run()
        assert self.queue.selection is None  # ordinary again


TestSelectionModel = SelectionModel.TestCase
TestSelectionModel.settings = settings(max_examples=200, stateful_step_count=40, deadline=None)


# -- case by case


def consume(queue: Queue, letters: str | None, *, sink: Taker | None = None, **options: Any) -> Consumer:
    drops = options.pop("drops", False)
    consumer = Consumer(queue, sink or Taker(), letters or "all", **options)
    consumer.filter = None if letters is None else Wants(letters)
    consumer.drops_unmatched = drops
    queue.attach(consumer)
    queue.vhost.broker.pump.run()
    return consumer


def publish(queue: Queue, letters: str, **properties: Any) -> None:
    """One message per letter; the bodies are letter and number."""
    for letter in letters:
        queue.publish(
            envelope("", letter, **properties), [b"%s%d" % (letter.encode(), queue.published_total + 1)]
        )
    queue.vhost.broker.pump.run()


def got(consumer: Consumer) -> list[bytes]:
    assert isinstance(consumer.sink, Taker)
    return consumer.sink.bodies()


def settle(consumer: Consumer, messages: list[Message]) -> None:
    if consumer.credit != UNLIMITED:
        consumer.credit += len(messages)
    consumer.queue.settle(messages)
    consumer.queue.vhost.broker.pump.touch(consumer.queue)
    consumer.queue.vhost.broker.pump.run()


def test_what_one_does_not_want_stays_for_others_in_order() -> None:
    _, queue = make_queue()
    only_b = consume(queue, "b")
    publish(queue, "abcab")
    assert got(only_b) == [b"b2", b"b5"]
    assert queue.message_count == 3
    everything = consume(queue, None)
    assert got(everything) == [b"a1", b"c3", b"a4"]
    publish(queue, "bb")
    assert got(everything) + got(only_b) in ([b"b6", b"b7"], [b"b7", b"b6"])  # in turn


def test_a_queue_without_filtered_consumers_is_ordinary_again() -> None:
    _, queue = make_queue()
    publish(queue, "a")
    assert queue.selection is None
    only_b = consume(queue, "b")
    publish(queue, "ab")
    assert isinstance(queue.selection, Selection)
    assert queue.backlog is queue.selection
    queue.detach(only_b)
    everything = consume(queue, None)
    assert got(everything) == [b"a1", b"a2"]
    publish(queue, "c")
    assert queue.selection is None
    assert got(everything) == [b"c4"]


def test_each_message_is_tested_once() -> None:
    _, queue = make_queue()
    only_b = consume(queue, "b", prefetch=1)
    publish(queue, "a" * 50)
    for _ in range(10):
        publish(queue, "b")
    for _ in range(10):
        settle(only_b, only_b.sink.taken[-1:])  # type: ignore[attr-defined]
    assert len(got(only_b)) == 10
    assert only_b.filter.asked <= 60  # type: ignore[union-attr]


def test_the_look_ahead_has_an_end() -> None:
    """As many are set aside as the window has; one that goes makes room for one more."""
    _, queue = make_queue(window=4)
    only_b = consume(queue, "b")
    publish(queue, "aaaaab")
    assert got(only_b) == []
    assert queue.message_count == 6
    message = queue.get(no_ack=True)
    assert message is not None
    assert message.body == b"a1"
    queue.vhost.broker.pump.touch(queue)
    queue.vhost.broker.pump.run()
    assert got(only_b) == []
    queue.get(no_ack=True)
    queue.vhost.broker.pump.touch(queue)
    queue.vhost.broker.pump.run()
    assert got(only_b) == [b"b6"]


def test_what_came_back_is_seen_though_the_window_is_full() -> None:
    _, queue = make_queue(window=3)
    only_b = consume(queue, "b", prefetch=1)
    publish(queue, "baaaaa")
    (message,) = only_b.sink.taken  # type: ignore[attr-defined]
    got(only_b)
    queue.requeue([message], counts=True)
    only_b.credit += 1
    queue.vhost.broker.pump.run()
    assert only_b.sink.taken == [message]  # type: ignore[attr-defined]
    assert message.is_redelivered


def test_messages_that_come_back_again_and_again_cost_no_memory() -> None:
    """A filter whose consumer has no credit is told of each; it forgets them."""
    _, queue = make_queue()
    stuck = consume(queue, "b", prefetch=1)
    other = consume(queue, "c", prefetch=1)
    publish(queue, "ba" + "c")
    assert got(stuck) == [b"b1"]
    for _ in range(2000):
        (message,) = other.sink.taken  # type: ignore[attr-defined]
        got(other)
        other.credit += 1
        queue.requeue([message], counts=True)
        queue.vhost.broker.pump.run()
    assert queue.selection is not None
    assert all(len(view.behind) < 1000 for view in queue.selection._views.values())
    assert len(queue.selection._keys) < 1000


def test_expired_messages_are_not_delivered() -> None:
    broker, queue = make_queue(x_dead_letter_exchange="", x_dead_letter_routing_key="dead")
    dead = broker.vhosts["/"].add_queue(
        "dead", durable=False, exclusive=False, auto_delete=False, arguments={}
    )
    only_b = consume(queue, "b", prefetch=1)
    publish(queue, "b")
    publish(queue, "a")  # lives, and stands before the others
    publish(queue, "bb", expiration="1000")
    publish(queue, "b")
    assert got(only_b) == [b"b1"]
    broker.timers.now += 2
    only_b.credit += 1
    broker.pump.touch(queue)
    broker.pump.run()
    assert got(only_b) == [b"b5"]
    assert queue.message_count == 1
    assert dead.message_count == 2
    assert queue.dead_lettered == {"expired": 2}


def test_the_head_expires_though_it_is_set_aside() -> None:
    broker, queue = make_queue(x_message_ttl=1000)
    only_b = consume(queue, "b")
    publish(queue, "aa")
    broker.timers.now += 2
    publish(queue, "b")
    assert got(only_b) == [b"b3"]
    assert queue.message_count == 0


def test_an_own_queue_drops_what_its_consumer_does_not_want() -> None:
    _, queue = make_queue(window=3, durable=True)
    publish(queue, "ab", delivery_mode=2)
    only_b = consume(queue, "b", prefetch=1, drops=True)
    publish(queue, "aabacab" * 10, delivery_mode=2)
    assert got(only_b) == [b"b2"]
    assert queue.message_count == 63  # it looked until a window was full of what is wanted, without credit too
    (fifo,) = queue.fifos
    assert fifo.log is not None
    taken = [b"b2"]
    for _ in range(20):
        settle(only_b, [Message(envelope("", "b"), b"", queue, 0)])
        taken += got(only_b)
    assert len(taken) == 21
    assert queue.message_count == 0
    assert queue.dropped_total == 51
    assert fifo.log.count == 21  # the settlements above were not of the real messages


def test_an_own_queue_keeps_what_another_consumer_of_it_wants() -> None:
    _, queue = make_queue()
    only_a = consume(queue, "a", drops=True)
    everything = consume(queue, None, prefetch=1)
    publish(queue, "bbab")
    assert got(only_a) == [b"a3"]
    assert got(everything) == [b"b1"]
    assert queue.message_count == 2


def test_drop_head_drops_what_is_set_aside_first() -> None:
    _, queue = make_queue(x_max_length=2)
    only_b = consume(queue, "b")
    publish(queue, "aaab")
    assert got(only_b) == [b"b4"]
    assert queue.message_count == 2
    message = queue.get(no_ack=True)
    assert message is not None
    assert message.body == b"a2"


def test_reject_publish_counts_what_is_set_aside() -> None:
    _, queue = make_queue(x_max_length=2, x_overflow="reject-publish")
    only_b = consume(queue, "b")
    publish(queue, "aa")
    assert queue.publish(envelope("", "b"), [b"x"]) == 1
    queue.purge()
    assert queue.publish(envelope("", "b"), [b"x", b"y", b"z"]) == 0
    queue.vhost.broker.pump.run()
    assert got(only_b) == [b"x", b"y", b"z"]


def test_a_queue_without_room_takes_what_an_idle_consumer_wants() -> None:
    _, queue = make_queue(x_max_length=0, x_overflow="reject-publish")
    only_b = consume(queue, "b")
    assert queue.publish(envelope("", "a"), [b"x"]) == 1
    assert queue.publish(envelope("", "b"), [b"y"]) == 0
    queue.vhost.broker.pump.run()
    assert got(only_b) == [b"y"]


def test_the_single_active_consumer_alone_selects() -> None:
    _, queue = make_queue(x_single_active_consumer=True)
    active = consume(queue, "a")
    waiting = consume(queue, None)
    publish(queue, "ab")
    assert got(active) == [b"a1"]
    assert got(waiting) == []
    queue.detach(active)
    queue.vhost.broker.pump.run()
    assert got(waiting) == [b"b2"]


def test_consumers_of_one_sink_share_its_window() -> None:
    _, queue = make_queue()
    sink = Taker(window=3)
    consume(queue, "a", sink=sink)
    consume(queue, "ab", sink=sink)
    consume(queue, None, sink=sink)
    publish(queue, "abab")
    assert sink.bodies() == [b"a1", b"b2", b"a3"]
    assert queue.message_count == 1


def test_no_ack_consumers_leave_nothing_behind() -> None:
    _, queue = make_queue(durable=True)
    only_b = consume(queue, "b", no_ack=True)
    publish(queue, "abb", delivery_mode=2)
    assert got(only_b) == [b"b2", b"b3"]
    (fifo,) = queue.fifos
    assert fifo.log is not None
    assert fifo.log.count == 1
    assert queue.unacked_count == 0


def test_a_closed_queue_selects_nothing() -> None:
    broker, queue = make_queue(durable=True)
    only_b = consume(queue, "b", drops=True)
    queue.publish(envelope("", "b", delivery_mode=2), [b"x"])
    broker.vhosts["/"].remove_queue(queue)
    broker.pump.run()
    assert got(only_b) == []


def test_large_messages_go_out_in_rounds() -> None:
    _, queue = make_queue()
    publish(queue, "a")
    queue.publish(envelope("", "b"), [bytes(700_000)] * 4)
    only_b = consume(queue, "b")
    assert [len(body) for body in got(only_b)] == [700_000] * 4
    assert queue.message_bytes == 2

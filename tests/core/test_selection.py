"""Consumers with filters, case by case."""

from __future__ import annotations

from typing import Any

from support.selecting import Taker, Wants, make_queue
from support.topology import envelope

from leveret.core.message import Message
from leveret.core.queue.consumer import UNLIMITED, Consumer
from leveret.core.queue.filtered import FilteredMessages
from leveret.core.queue.queue import Queue


def consume(queue: Queue, letters: str | None, *, sink: Taker | None = None, **options: Any) -> Consumer:
    drops = options.pop("drops", False)
    consumer = Consumer(queue, sink or Taker(), letters or "all", **options)
    consumer.filter = None if letters is None else Wants(letters)
    consumer.drops_unmatched = drops
    queue.attach(consumer)
    queue.dispatcher.run()
    return consumer


def publish(queue: Queue, letters: str, **properties: Any) -> None:
    """One message per letter; the bodies are letter and number."""
    for letter in letters:
        queue.publish(
            envelope("", letter, **properties), [b"%s%d" % (letter.encode(), queue.published_total + 1)]
        )
    queue.dispatcher.run()


def got(consumer: Consumer) -> list[bytes]:
    assert isinstance(consumer.sink, Taker)
    return consumer.sink.bodies()


def settle(consumer: Consumer, messages: list[Message]) -> None:
    if consumer.credit != UNLIMITED:
        consumer.credit += len(messages)
    queue = consumer.queue
    assert isinstance(queue, Queue)
    queue.settle(messages)
    queue.dispatcher.schedule(queue)
    queue.dispatcher.run()


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
    assert queue.filtered is None
    only_b = consume(queue, "b")
    publish(queue, "ab")
    assert isinstance(queue.filtered, FilteredMessages)
    assert queue.ready is queue.filtered
    queue.detach(only_b)
    everything = consume(queue, None)
    assert got(everything) == [b"a1", b"a2"]
    publish(queue, "c")
    assert queue.filtered is None
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
    queue.dispatcher.schedule(queue)
    queue.dispatcher.run()
    assert got(only_b) == []
    queue.get(no_ack=True)
    queue.dispatcher.schedule(queue)
    queue.dispatcher.run()
    assert got(only_b) == [b"b6"]


def test_what_came_back_is_seen_though_the_window_is_full() -> None:
    _, queue = make_queue(window=3)
    only_b = consume(queue, "b", prefetch=1)
    publish(queue, "baaaaa")
    (message,) = only_b.sink.taken  # type: ignore[attr-defined]
    got(only_b)
    queue.requeue([message], counts=True)
    only_b.credit += 1
    queue.dispatcher.run()
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
        queue.dispatcher.run()
    assert queue.filtered is not None
    assert all(len(view.behind) < 1000 for view in queue.filtered._views.values())
    assert len(queue.filtered._keys) < 1000


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
    broker.dispatcher.schedule(queue)
    broker.dispatcher.run()
    assert got(only_b) == [b"b5"]
    assert queue.message_count == 1
    assert dead.message_count == 2
    assert queue.dead_lettered == {("expired", "at_most_once"): 2}


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
    assert (
        queue.message_count == 63
    )  # it looked until a window was full of what is wanted, without credit too
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
    queue.dispatcher.run()
    assert got(only_b) == [b"x", b"y", b"z"]


def test_a_queue_without_room_takes_what_an_idle_consumer_wants() -> None:
    _, queue = make_queue(x_max_length=0, x_overflow="reject-publish")
    only_b = consume(queue, "b")
    assert queue.publish(envelope("", "a"), [b"x"]) == 1
    assert queue.publish(envelope("", "b"), [b"y"]) == 0
    queue.dispatcher.run()
    assert got(only_b) == [b"y"]


def test_the_single_active_consumer_alone_selects() -> None:
    _, queue = make_queue(x_single_active_consumer=True)
    active = consume(queue, "a")
    waiting = consume(queue, None)
    publish(queue, "ab")
    assert got(active) == [b"a1"]
    assert got(waiting) == []
    queue.detach(active)
    queue.dispatcher.run()
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
    broker.dispatcher.run()
    assert got(only_b) == []


def test_large_messages_go_out_in_rounds() -> None:
    _, queue = make_queue()
    publish(queue, "a")
    queue.publish(envelope("", "b"), [bytes(700_000)] * 4)
    only_b = consume(queue, "b")
    assert [len(body) for body in got(only_b)] == [700_000] * 4
    assert queue.message_bytes == 2

"""The publishing pipeline: routes remembered and not, what is counted, what it says of a run of messages."""

from __future__ import annotations

from typing import Any

import pytest
from support.topology import FakeBroker, envelope

from leveret.core.errors import PreconditionFailed
from leveret.core.exchange import Binding
from leveret.core.message import Envelope
from leveret.core.publishing import PublishPipeline
from leveret.core.queue.queue import Queue
from leveret.core.session import Session


class World:
    """A session, its pipeline, and the histogram of the protocol."""

    def __init__(self, **options: Any) -> None:
        self.broker = FakeBroker()
        self.session: Session = self.broker.session()
        self.vhost = self.session.vhost
        self.sizes = self.broker.traffic.sizes_of("test")
        self.pipeline = PublishPipeline(
            self.vhost, self.broker.replies, self.session.route, self.sizes, connection_name="c", username="u", **options
        )  # fmt: skip

    def queue(self, name: str, *, durable: bool = False, key: str | None = None, **arguments: Any) -> Queue:
        found: Queue = self.vhost.add_queue(
            name,
            durable=durable,
            exclusive=False,
            auto_delete=False,
            arguments={name.replace("_", "-"): value for name, value in arguments.items()},
        )
        if key is not None:
            self.vhost.bind(self.vhost.exchanges["amq.direct"], Binding(found, key, {}))
        return found


class Requester:
    def __init__(self) -> None:
        self.replies: list[bytes] = []

    def deliver_reply(self, envelope: Envelope, bodies: list[bytes]) -> None:
        self.replies += bodies


def test_a_route_is_remembered_and_counted_per_run() -> None:
    world = World()
    queue = world.queue("q", durable=True, key="k")
    target = world.session.target("amq.direct", "k")
    persistent = envelope("amq.direct", "k", delivery_mode=2)
    for _ in range(2):
        assert world.pipeline.publish(target, persistent, [b"a", b"b"]) == (True, 0, True)
    assert target.queues == (queue,)
    assert world.pipeline.publish(target, envelope("amq.direct", "k"), [b"c"]) == (True, 0, False)
    exchange = target.exchange
    assert (exchange.published_in, exchange.published_out) == (5, 5)
    assert (world.pipeline.published_total, world.pipeline.unroutable_total) == (5, 0)
    assert queue.message_count == 5


@pytest.mark.parametrize("is_remembered", [False, True])
def test_messages_with_cc_and_bcc_are_routed_by_themselves(is_remembered: bool) -> None:
    """Before and after plain messages with the same exchange and key."""
    world = World()
    one, two, three = (world.queue(key, key=key) for key in ("one", "two", "three"))
    target = world.session.target("amq.direct", "one")
    if is_remembered:
        world.pipeline.publish(target, envelope("amq.direct", "one"), [b"plain"])
    copied = envelope("amq.direct", "one", headers={"CC": ["two"], "BCC": ["three"]})
    for_headers = target.for_headers()
    assert world.pipeline.publish(for_headers, copied, [b"x"]) == (True, 0, False)
    assert for_headers.queues is None
    assert [queue.message_count for queue in (two, three)] == [1, 1]
    (delivered,) = three.ready.take(1)
    assert delivered.envelope.properties.headers == {"CC": ["two"]}
    world.pipeline.publish(for_headers, envelope("amq.direct", "one", headers={"CC": ["three"]}), [b"y"])
    assert (two.message_count, three.message_count) == (1, 1)
    world.pipeline.publish(target, envelope("amq.direct", "one"), [b"plain"])
    assert one.message_count == 3 + is_remembered
    assert target.exchange.published_out == target.exchange.published_in + 3


def test_several_queues_the_fullest_decides_what_was_rejected() -> None:
    world = World()
    for name, limit in (("roomy", 9), ("small", 2), ("smaller", 1)):
        world.queue(name, key="k", x_max_length=limit, x_overflow="reject-publish")
    target = world.session.target("amq.direct", "k")
    outcome = world.pipeline.publish(target, envelope("amq.direct", "k"), [b"a", b"b", b"c"])
    assert outcome == (True, 2, False)
    assert (target.exchange.published_in, target.exchange.published_out) == (3, 9)


def test_unroutable_and_refused_messages_count_as_such() -> None:
    world = World()
    target = world.session.target("amq.direct", "nowhere")
    outcome = world.pipeline.publish(target, envelope("amq.direct", "nowhere"), [b"a", b"b"])
    assert outcome == (False, 0, False)
    assert (world.pipeline.published_total, world.pipeline.unroutable_total) == (2, 2)
    assert (target.exchange.published_in, target.exchange.published_out) == (2, 0)
    world.pipeline.refused([b"c"])
    assert (world.pipeline.published_total, world.pipeline.unroutable_total) == (3, 3)


def test_replies_go_to_the_requester_and_to_no_queue() -> None:
    world = World()
    requester = Requester()
    address = world.broker.replies.register(requester)
    target = world.session.target("", address)
    assert world.pipeline.publish(target, envelope("", address), [b"a", b"b"]) == (True, 0, False)
    assert requester.replies == [b"a", b"b"]
    world.broker.replies.forget(address)
    assert world.pipeline.publish(target, envelope("", address), [b"c"]) == (False, 0, False)
    assert (world.pipeline.published_total, world.pipeline.unroutable_total) == (3, 1)


def test_the_histogram_has_every_size_once() -> None:
    world = World(has_sizes=True)
    world.queue("q")
    target = world.session.target("", "q")
    runs = [[b"x"], [b"x", b"x"], [b"x" * 200, b"x"], [b"x" * 2000], [b""]]
    for bodies in runs:
        world.pipeline.publish(target, envelope("", "q"), bodies)
    world.pipeline.refused([b"x" * 200])
    world.pipeline.note_sizes()
    world.pipeline.note_sizes()
    sizes = [len(body) for bodies in runs for body in bodies] + [200]
    assert (world.sizes.count, world.sizes.total) == (len(sizes), sum(sizes))
    for bound, count in world.sizes.buckets():
        assert count == len([size for size in sizes if size <= bound])


def test_a_body_that_is_too_large_changes_nothing() -> None:
    world = World(max_size=3)
    queue = world.queue("q")
    target = world.session.target("", "q")
    with pytest.raises(PreconditionFailed, match="message size 4 is larger than configured max size 3"):
        world.pipeline.publish(target, envelope("", "q"), [b"abcd"])
    assert queue.message_count == world.pipeline.published_total == target.exchange.published_in == 0

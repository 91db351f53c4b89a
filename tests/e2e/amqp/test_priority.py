"""x-max-priority."""

from __future__ import annotations

import time

import pytest
from support.amqp_peer import Peer
from support.server import poll, reference_differs


def declare(peer: Peer, name: str, highest: int = 10, **arguments: object) -> str:
    return peer.declare(1, name, arguments={"x-max-priority": highest, **arguments})


def publish(peer: Peer, queue: str, *messages: tuple[bytes, int | None]) -> None:
    for body, priority in messages:
        properties = {} if priority is None else {"priority": priority}
        peer.publish(1, "", queue, body, **properties)
    poll(lambda: peer.counts(1, queue)[0] == len(messages), "the messages have not come")


def test_the_highest_first_and_in_order(peer: Peer, name: str) -> None:
    declare(peer, name)
    publish(peer, name, (b"a1", 1), (b"b5", 5), (b"c1", 1), (b"d5", 5), (b"e0", 0))
    assert peer.drain(1, name) == [b"b5", b"d5", b"a1", b"c1", b"e0"]


def test_no_priority_is_the_lowest(peer: Peer, name: str) -> None:
    declare(peer, name)
    publish(peer, name, (b"none", None), (b"zero", 0), (b"one", 1))
    assert peer.drain(1, name) == [b"one", b"none", b"zero"]


def test_a_priority_over_the_maximum_is_capped(peer: Peer, name: str) -> None:
    declare(peer, name, 3)
    publish(peer, name, (b"3", 3), (b"200", 200), (b"2", 2))
    assert peer.drain(1, name) == [b"3", b"200", b"2"]
    peer.publish(1, "", name, b"x", priority=200)
    got = peer.get(1, name)
    assert got is not None
    assert got.properties == {"priority": 200}  # the property itself is left alone


@pytest.mark.parametrize("highest", [1, 255])
def test_the_ends_of_the_range(peer: Peer, name: str, highest: int) -> None:
    declare(peer, name, highest)
    publish(peer, name, (b"low", 0), (b"high", highest))
    assert peer.drain(1, name) == [b"high", b"low"]


def test_a_queue_without_priorities_ignores_them(peer: Peer, name: str) -> None:
    peer.declare(1, name)
    publish(peer, name, (b"low", 0), (b"high", 9))
    assert peer.drain(1, name) == [b"low", b"high"]


def test_a_requeue_goes_back_to_its_place(peer: Peer, name: str) -> None:
    declare(peer, name)
    publish(peer, name, (b"a1", 1), (b"b1", 1), (b"c5", 5), (b"d5", 5))
    for _ in range(3):
        assert peer.get(1, name, no_ack=False)
    peer.send(1, "basic.nack", delivery_tag=0, multiple=True, requeue=True)
    assert peer.drain(1, name) == [b"c5", b"d5", b"a1", b"b1"]


def test_what_a_consumer_holds_is_not_overtaken(peer: Peer, name: str) -> None:
    declare(peer, name)
    peer.rpc(1, "basic.qos", prefetch_count=1)
    peer.consume(1, name)
    peer.publish(1, "", name, b"low", priority=0)
    assert peer.deliver().body == b"low"
    publish(peer, name, (b"mid", 3), (b"high", 9))
    peer.send(1, "basic.ack", delivery_tag=1)
    assert peer.deliver().body == b"high"


def test_an_expired_lower_priority_is_not_delivered(peer: Peer, name: str) -> None:
    declare(peer, name)
    peer.publish(1, "", name, b"low", priority=0, expiration="20")
    peer.publish(1, "", name, b"high", priority=9)
    until = time.monotonic() + 0.05
    while time.monotonic() < until:
        peer.barrier()
    assert peer.drain(1, name) == [b"high"]


@reference_differs("3.10: may deliver it all the same: its timer watches the lower one")
def test_an_expired_higher_priority_makes_way(peer: Peer, name: str) -> None:
    declare(peer, name)
    peer.publish(1, "", name, b"low", priority=0)
    peer.publish(1, "", name, b"high", priority=9, expiration="20")
    until = time.monotonic() + 0.05
    while time.monotonic() < until:
        peer.barrier()
    assert peer.drain(1, name) == [b"low"]


def test_the_length_limit_drops_the_head(peer: Peer, name: str) -> None:
    # the head is the highest priority: surprising, documented, and as RabbitMQ does it
    declare(peer, name, **{"x-max-length": 2})
    peer.confirm()
    for body, priority in [(b"a5", 5), (b"b1", 1), (b"c5", 5), (b"d1", 1)]:
        peer.publish_confirmed(1, "", name, body, priority=priority)
    assert peer.drain(1, name) == [b"b1", b"d1"]


def test_purge_and_counts_cover_all_priorities(peer: Peer, name: str) -> None:
    declare(peer, name)
    publish(peer, name, *((b"x", priority) for priority in range(10)))
    assert peer.rpc(1, "queue.purge", queue=name).message_count == 10
    assert peer.get(1, name) is None

"""basic.qos: windows of consumers, of channels, and both."""

from __future__ import annotations

import pytest
from support.amqp_peer import Event, Peer


def publish(peer: Peer, queue: str, count: int) -> None:
    for number in range(count):
        peer.publish(1, "", queue, b"%d" % number)


def delivered(peer: Peer, queue: str, channel: int = 1) -> list[Event]:
    """What is delivered until nothing more comes; asks in a way that does not touch basic.qos."""
    events = peer.barrier(channel, queue)
    assert {event.name for event in events} <= {"basic.deliver"}
    return events


def test_a_window_for_each_consumer(peer: Peer, name: str) -> None:
    peer.declare(1, name)
    publish(peer, name, 10)
    peer.rpc(1, "basic.qos", prefetch_count=2)
    peer.consume(1, name, consumer_tag="a")
    assert [event.body for event in delivered(peer, name)] == [b"0", b"1"]
    peer.consume(1, name, consumer_tag="b")
    assert [event.body for event in delivered(peer, name)] == [b"2", b"3"]
    peer.send(1, "basic.ack", delivery_tag=1)
    assert [(event.body, event.consumer_tag) for event in delivered(peer, name)] == [(b"4", "a")]
    peer.send(1, "basic.ack", delivery_tag=4, multiple=True)
    assert sorted(event.consumer_tag for event in delivered(peer, name)) == ["a", "b", "b"]


def test_the_window_is_that_of_the_moment_of_consuming(peer: Peer, name: str) -> None:
    peer.declare(1, name)
    peer.rpc(1, "basic.qos", prefetch_count=1)
    peer.consume(1, name, consumer_tag="narrow")
    peer.rpc(1, "basic.qos", prefetch_count=3)
    publish(peer, name, 10)
    assert len(delivered(peer, name)) == 1
    peer.consume(1, name, consumer_tag="wide")
    assert [event.consumer_tag for event in delivered(peer, name)] == ["wide"] * 3


def test_zero_is_no_limit(peer: Peer, name: str) -> None:
    peer.declare(1, name)
    publish(peer, name, 300)
    peer.rpc(1, "basic.qos", prefetch_count=5)
    peer.rpc(1, "basic.qos", prefetch_count=0)
    peer.consume(1, name)
    assert len([peer.deliver() for _ in range(300)]) == 300


@pytest.mark.parametrize("settle", ["basic.ack", "basic.nack", "basic.reject"])
def test_every_way_of_settling_makes_room(peer: Peer, name: str, settle: str) -> None:
    peer.declare(1, name)
    publish(peer, name, 3)
    peer.rpc(1, "basic.qos", prefetch_count=1)
    peer.consume(1, name)
    for number in range(3):
        event = peer.deliver()
        assert event.body == b"%d" % number
        assert delivered(peer, name) == []
        peer.send(1, settle, delivery_tag=event.delivery_tag)


def test_a_window_for_the_channel(peer: Peer, name: str) -> None:
    peer.declare(1, name)
    publish(peer, name, 10)
    peer.rpc(1, "basic.qos", prefetch_count=3, **{"global": True})
    peer.consume(1, name, consumer_tag="a")
    assert len(delivered(peer, name)) == 3
    peer.send(1, "basic.consume", queue=name, consumer_tag="b")
    peer.expect(1, "basic.consume-ok")
    assert delivered(peer, name) == []
    peer.send(1, "basic.ack", delivery_tag=2, multiple=True)
    assert len(delivered(peer, name)) == 2


def test_a_window_for_the_channel_applies_at_once(peer: Peer, name: str) -> None:
    peer.declare(1, name)
    peer.consume(1, name)
    peer.rpc(1, "basic.qos", prefetch_count=2, **{"global": True})
    publish(peer, name, 10)
    assert len(delivered(peer, name)) == 2
    peer.rpc(1, "basic.qos", prefetch_count=5, **{"global": True})
    assert len(delivered(peer, name)) == 3
    peer.rpc(1, "basic.qos", prefetch_count=0, **{"global": True})
    assert len(delivered(peer, name)) == 5


def test_both_windows_hold(peer: Peer, name: str) -> None:
    # the smaller counts
    peer.declare(1, name)
    peer.rpc(1, "basic.qos", prefetch_count=2)
    peer.rpc(1, "basic.qos", prefetch_count=3, **{"global": True})
    for tag in "ab":
        peer.consume(1, name, consumer_tag=tag)
    publish(peer, name, 10)
    events = delivered(peer, name)
    assert len(events) == 3
    assert max(sum(event.consumer_tag == tag for event in events) for tag in "ab") == 2


def test_a_window_is_not_shared_between_channels(peer: Peer, name: str) -> None:
    peer.open_channel(2)
    peer.declare(1, name)
    peer.rpc(1, "basic.qos", prefetch_count=1, **{"global": True})
    for channel in (1, 2):
        peer.consume(channel, name)
    publish(peer, name, 10)
    assert len(delivered(peer, name)) == 1
    assert len(delivered(peer, name, 2)) == 9


def test_no_ack_is_not_limited(peer: Peer, name: str) -> None:
    peer.declare(1, name)
    peer.rpc(1, "basic.qos", prefetch_count=1)
    peer.rpc(1, "basic.qos", prefetch_count=1, **{"global": True})
    peer.consume(1, name, no_ack=True)
    publish(peer, name, 5)
    assert len([peer.deliver() for _ in range(5)]) == 5


def test_a_prefetch_size_is_not_implemented(peer: Peer) -> None:
    peer.send(1, "basic.qos", prefetch_size=10)
    peer.expect_connection_close(540, "basic.qos", "NOT_IMPLEMENTED - prefetch_size!=0 (10)")


def test_a_full_consumer_leaves_the_rest_to_others(peer: Peer, name: str) -> None:
    peer.open_channel(2)
    peer.declare(1, name)
    peer.rpc(1, "basic.qos", prefetch_count=1)
    peer.consume(1, name)
    publish(peer, name, 5)
    assert len(delivered(peer, name)) == 1
    peer.consume(2, name)
    assert [event.body for event in (peer.deliver(2) for _ in range(4))] == [b"1", b"2", b"3", b"4"]

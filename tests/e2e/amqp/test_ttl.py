"""Time to live: of messages by queue and by publisher, of queues."""

from __future__ import annotations

import time
from typing import Any

import pytest
from support.amqp_peer import Peer
from support.server import poll


def declare(peer: Peer, name: str, **arguments: Any) -> str:
    """A queue with these x-arguments, with _ for -."""
    return peer.declare(
        1, name, arguments={f"x-{key.replace('_', '-')}": value for key, value in arguments.items()}
    )


@pytest.fixture(autouse=True)
def _confirms(peer: Peer) -> None:
    """Channel 2 is for publishing: what is published there is in its queue when `put` returns."""
    peer.open_channel(2)
    peer.confirm(2)


def put(peer: Peer, queue: str, body: bytes, **properties: Any) -> None:
    peer.publish_confirmed(2, "", queue, body, **properties)


def wait_empty(peer: Peer, queue: str) -> None:
    poll(lambda: peer.counts(1, queue)[0] == 0, "the messages have not expired")


def test_messages_of_the_queue_expire(peer: Peer, name: str) -> None:
    declare(peer, name, message_ttl=50)
    for _ in range(3):
        put(peer, name, b"x")
    wait_empty(peer, name)


def test_messages_do_not_expire_early(peer: Peer, name: str) -> None:
    declare(peer, name, message_ttl=200)
    began = time.monotonic()
    put(peer, name, b"x")
    wait_empty(peer, name)
    assert time.monotonic() - began >= 0.19


def test_messages_expire_as_their_publisher_says(peer: Peer, name: str) -> None:
    peer.declare(1, name)
    put(peer, name, b"x", expiration="50")
    wait_empty(peer, name)


@pytest.mark.parametrize(("queue_ttl", "expiration"), [(50, "60000"), (60000, "50")])
def test_the_shorter_time_counts(peer: Peer, name: str, queue_ttl: int, expiration: str) -> None:
    declare(peer, name, message_ttl=queue_ttl)
    put(peer, name, b"x", expiration=expiration)
    wait_empty(peer, name)


def test_only_the_head_expires(peer: Peer, name: str) -> None:
    peer.declare(1, name)
    put(peer, name, b"long", expiration="60000")
    put(peer, name, b"short", expiration="1")
    put(peer, name, b"for ever")
    poll(lambda: peer.counts(1, name)[0] == 3, "the messages have not come")
    until = time.monotonic() + 0.1
    while time.monotonic() < until:
        assert peer.counts(1, name)[0] == 3  # the one behind the head stays, and is counted
    assert peer.drain(1, name) == [b"long", b"for ever"]


def test_the_head_expires_before_it_is_delivered(peer: Peer, name: str) -> None:
    declare(peer, name, message_ttl=30)
    for number in range(3):
        put(peer, name, b"%d" % number)
    poll(lambda: peer.counts(1, name)[0] == 0, "not expired")
    put(peer, name, b"new")
    peer.consume(1, name)
    assert peer.deliver().body == b"new"


def test_a_ttl_of_zero_with_an_idle_consumer(peer: Peer, name: str) -> None:
    declare(peer, name, message_ttl=0)
    peer.consume(1, name, no_ack=True)
    put(peer, name, b"x")
    assert peer.deliver().body == b"x"
    put(peer, name, b"y", expiration="0")
    assert peer.deliver().body == b"y"


def test_a_ttl_of_zero_without_a_consumer(peer: Peer, name: str) -> None:
    declare(peer, name, message_ttl=0)
    put(peer, name, b"x")
    wait_empty(peer, name)
    assert peer.get(1, name) is None


def test_unacked_messages_do_not_expire(peer: Peer, name: str) -> None:
    declare(peer, name, message_ttl=100)
    put(peer, name, b"held")
    put(peer, name, b"ready")
    got = peer.get(1, name, no_ack=False)
    assert got is not None
    wait_empty(peer, name)
    peer.send(1, "basic.ack", delivery_tag=got.delivery_tag)
    assert peer.barrier(1, name) == []


def test_a_requeued_message_keeps_its_time(peer: Peer, name: str) -> None:
    # evaluated at the head after a requeue
    declare(peer, name, message_ttl=100)
    put(peer, name, b"held")
    began = time.monotonic()
    assert peer.get(1, name, no_ack=False)
    while time.monotonic() - began < 0.15:
        peer.barrier()
    peer.send(1, "basic.nack", delivery_tag=1, requeue=True)
    wait_empty(peer, name)
    assert time.monotonic() - began < 5


def test_expiration_is_delivered_as_it_was(peer: Peer, name: str) -> None:
    peer.declare(1, name)
    put(peer, name, b"x", expiration="60000")
    got = peer.get(1, name)
    assert got is not None
    assert got.properties == {"expiration": "60000"}


# Queues


def gone(peer: Peer, queue: str) -> bool:
    """The queue is not there; found out without using it, by what comes back from it."""
    peer.publish(1, "", queue, b"probe", mandatory=True)
    return any(event.name == "basic.return" for event in peer.barrier())


def test_a_queue_expires_unused(peer: Peer, name: str) -> None:
    # a publish does not renew it
    began = time.monotonic()
    declare(peer, name, expires=150)
    poll(lambda: gone(peer, name), "the queue has not expired")
    assert 0.14 <= time.monotonic() - began < 5


@pytest.mark.parametrize("use", ["get", "redeclare"])
def test_use_renews_a_queue(peer: Peer, name: str, use: str) -> None:
    declare(peer, name, expires=300)
    until = time.monotonic() + 0.6
    while time.monotonic() < until:
        if use == "get":
            peer.get(1, name)
        else:
            declare(peer, name, expires=300)
    assert not gone(peer, name)
    poll(lambda: gone(peer, name), "the queue has not expired")


def test_a_consumer_keeps_a_queue(peer: Peer, name: str) -> None:
    declare(peer, name, expires=100)
    tag = peer.consume(1, name, no_ack=True)
    until = time.monotonic() + 0.3
    while time.monotonic() < until:
        assert not any(event.name == "basic.return" for event in [*peer.barrier()])
    assert peer.counts(1, name) == (0, 1)
    peer.rpc(1, "basic.cancel", consumer_tag=tag)
    poll(lambda: gone(peer, name), "the queue has not expired")


def test_an_expired_queue_does_not_dead_letter(peer: Peer, name: str) -> None:
    peer.declare(1, f"{name}-dead")
    declare(peer, name, expires=100, dead_letter_exchange="", dead_letter_routing_key=f"{name}-dead")
    put(peer, name, b"x")
    poll(lambda: gone(peer, name), "the queue has not expired")
    assert peer.counts(1, f"{name}-dead") == (0, 0)


@pytest.mark.parametrize("no_ack", [True, False])
def test_a_message_that_becomes_the_head_by_get_expires_on_time(peer: Peer, name: str, no_ack: bool) -> None:
    """Nothing but the get looks at the queue until its time has come."""
    dead = peer.declare(1, f"{name}-dead")
    declare(peer, name, dead_letter_exchange="", dead_letter_routing_key=dead)
    put(peer, name, b"first")
    put(peer, name, b"second", expiration="100")
    peer.send(1, "basic.get", queue=name, no_ack=no_ack)
    peer.expect(1, "basic.get-ok")
    poll(lambda: peer.counts(1, dead)[0] == 1, "the message has not been dead-lettered")

"""Transactions: tx.select, commit, rollback."""

from __future__ import annotations

import pytest
from support.amqp_peer import Peer
from support.server import poll


@pytest.fixture
def queue(peer: Peer, name: str) -> str:
    return peer.declare(1, name)


def test_publishes_wait_for_the_commit(peer: Peer, queue: str) -> None:
    peer.open_channel(2)
    peer.rpc(1, "tx.select")
    for body in (b"1", b"2"):
        peer.publish(1, "", queue, body)
    peer.barrier()
    assert peer.get(2, queue) is None
    peer.rpc(1, "tx.commit")
    assert peer.drain(2, queue) == [b"1", b"2"]


def test_a_rollback_forgets_publishes(peer: Peer, queue: str) -> None:
    peer.rpc(1, "tx.select")
    peer.publish(1, "", queue, b"1")
    peer.rpc(1, "tx.rollback")
    peer.publish(1, "", queue, b"2")
    peer.rpc(1, "tx.commit")
    assert peer.drain(1, queue) == [b"2"]


def test_closing_the_channel_rolls_back(peer: Peer, queue: str) -> None:
    peer.rpc(1, "tx.select")
    peer.publish(1, "", queue, b"1")
    peer.rpc(1, "channel.close", reply_code=200)
    peer.open_channel(1)
    assert peer.drain(1, queue) == []


def test_acks_wait_for_the_commit(peer: Peer, queue: str) -> None:
    peer.publish(1, "", queue, b"x")
    peer.rpc(1, "tx.select")
    assert peer.get(1, queue, no_ack=False)
    peer.send(1, "basic.ack", delivery_tag=1)
    peer.rpc(1, "channel.close", reply_code=200)
    peer.open_channel(1)
    peer.rpc(1, "tx.select")
    event = peer.get(1, queue, no_ack=False)
    assert event is not None
    assert event.redelivered is True
    peer.send(1, "basic.ack", delivery_tag=1)
    peer.rpc(1, "tx.commit")
    peer.rpc(1, "channel.close", reply_code=200)
    peer.open_channel(1)
    assert peer.drain(1, queue) == []


def test_after_a_rollback_messages_are_unacked_still(peer: Peer, queue: str) -> None:
    peer.publish(1, "", queue, b"x")
    peer.rpc(1, "tx.select")
    assert peer.get(1, queue, no_ack=False)
    peer.send(1, "basic.ack", delivery_tag=1)
    peer.rpc(1, "tx.rollback")
    assert peer.get(1, queue) is None  # not redelivered
    peer.send(1, "basic.ack", delivery_tag=1)  # and not yet acked: may be acked again
    peer.rpc(1, "tx.commit")
    peer.rpc(1, "channel.close", reply_code=200)
    peer.open_channel(1)
    assert peer.drain(1, queue) == []


def test_nacks_are_part_of_it(peer: Peer, queue: str) -> None:
    peer.publish(1, "", queue, b"x")
    peer.rpc(1, "tx.select")
    assert peer.get(1, queue, no_ack=False)
    peer.send(1, "basic.nack", delivery_tag=1, requeue=True)
    assert peer.get(1, queue) is None
    peer.rpc(1, "tx.commit")
    assert poll(lambda: peer.get(1, queue), "not requeued").redelivered is True


def test_the_unroutable_comes_back_at_the_commit(peer: Peer) -> None:
    peer.rpc(1, "tx.select")
    peer.publish(1, "", "nowhere", b"x", mandatory=True)
    peer.send(1, "tx.commit")
    events = [peer.expect(1, "basic.return", "tx.commit-ok") for _ in range(2)]
    assert {event.name for event in events} == {"basic.return", "tx.commit-ok"}


def test_publishing_to_a_missing_exchange(peer: Peer, name: str) -> None:
    peer.rpc(1, "tx.select")
    peer.publish(1, name, "k", b"x")
    peer.expect_channel_close(1, 404, "basic.publish", f"NOT_FOUND - no exchange '{name}' in vhost '/'")


def test_an_unknown_delivery_tag(peer: Peer) -> None:
    peer.rpc(1, "tx.select")
    peer.send(1, "basic.ack", delivery_tag=5)
    peer.expect_channel_close(1, 406, "basic.ack", "PRECONDITION_FAILED - unknown delivery tag 5")


@pytest.mark.parametrize("method", ["tx.commit", "tx.rollback"])
def test_without_select(peer: Peer, method: str) -> None:
    peer.send(1, method)
    peer.expect_channel_close(1, 406, method, "PRECONDITION_FAILED - channel is not transactional")


def test_selecting_twice(peer: Peer) -> None:
    for _ in range(2):
        assert peer.rpc(1, "tx.select").name == "tx.select-ok"


@pytest.mark.parametrize(
    ("first", "then", "text"),
    [
        ("tx.select", "confirm.select", "cannot switch from tx to confirm mode"),
        ("confirm.select", "tx.select", "cannot switch from confirm to tx mode"),
    ],
)
def test_no_mixing_with_confirms(peer: Peer, first: str, then: str, text: str) -> None:
    peer.rpc(1, first)
    peer.send(1, then)
    peer.expect_channel_close(1, 406, then, f"PRECONDITION_FAILED - {text}")


def test_commits_may_be_empty_and_many(peer: Peer, queue: str) -> None:
    peer.rpc(1, "tx.select")
    peer.rpc(1, "tx.commit")
    for number in range(5):
        peer.publish(1, "", queue, b"%d" % number, delivery_mode=2)
        peer.rpc(1, "tx.commit")
    assert len(peer.drain(1, queue)) == 5


def test_a_full_queue_fails_the_commit(peer: Peer, name: str) -> None:
    peer.declare(1, f"{name}-full", arguments={"x-max-length": 1, "x-overflow": "reject-publish"})
    peer.publish(1, "", f"{name}-full", b"fills")
    peer.rpc(1, "tx.select")
    peer.publish(1, "", f"{name}-full", b"x")
    peer.send(1, "tx.commit")
    text = peer.expect_channel_close(1, 406, "tx.commit")
    assert text == "PRECONDITION_FAILED - partial tx completion"

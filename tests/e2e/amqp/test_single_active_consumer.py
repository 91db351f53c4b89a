"""x-single-active-consumer."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from support.amqp_peer import Peer
from support.server import poll

Connect = Callable[..., Peer]
ACTIVE = {"x-single-active-consumer": True}


def test_only_the_first_consumer_gets_messages(connect: Connect, name: str) -> None:
    one, two = connect(), connect()
    one.declare(1, name, arguments=ACTIVE)
    one.consume(1, name, no_ack=True)
    two.consume(1, name, no_ack=True)
    for number in range(5):
        two.publish(1, "", name, b"%d" % number)
    assert [one.deliver().body for _ in range(5)] == [b"%d" % number for number in range(5)]
    assert two.barrier(1, name) == []


@pytest.mark.parametrize("how", ["cancel", "channel", "connection", "lost"])
def test_the_next_takes_over(connect: Connect, name: str, how: str) -> None:
    peers = [connect() for _ in range(3)]
    peers[0].declare(1, name, arguments=ACTIVE)
    for number, peer in enumerate(peers):
        peer.consume(1, name, no_ack=True, consumer_tag=f"c{number}")
    if how == "cancel":
        peers[0].rpc(1, "basic.cancel", consumer_tag="c0")
    elif how == "channel":
        peers[0].rpc(1, "channel.close", reply_code=200)
    elif how == "connection":
        peers[0].goodbye()
    else:
        peers[0].close()
        poll(lambda: peers[1].counts(1, name)[1] == 2, "the lost consumer is still there")
    peers[2].publish(1, "", name, b"x")
    assert peers[1].deliver().consumer_tag == "c1"
    assert peers[2].barrier(1, name) == []


def test_the_next_gets_what_the_first_had_unacked(connect: Connect, name: str) -> None:
    one, two = connect(), connect()
    one.declare(1, name, arguments=ACTIVE)
    one.rpc(1, "basic.qos", prefetch_count=2)
    one.consume(1, name)
    two.consume(1, name)
    for number in range(4):
        two.publish(1, "", name, b"%d" % number)
    assert [one.deliver().body for _ in range(2)] == [b"0", b"1"]
    assert two.barrier(1, name) == []
    one.close()
    events = [two.deliver() for _ in range(4)]
    assert [event.body for event in events] == [b"0", b"1", b"2", b"3"]
    assert [event.redelivered for event in events] == [True, True, False, False]


def test_a_full_active_consumer_stays_the_active_one(connect: Connect, name: str) -> None:
    one, two = connect(), connect()
    one.declare(1, name, arguments=ACTIVE)
    one.rpc(1, "basic.qos", prefetch_count=1)
    one.consume(1, name)
    two.consume(1, name)
    for number in range(2):
        two.publish(1, "", name, b"%d" % number)
    one.deliver()
    assert two.barrier(1, name) == []
    one.send(1, "basic.ack", delivery_tag=1)
    assert one.deliver().body == b"1"


def test_an_exclusive_consumer_is_refused(peer: Peer, name: str) -> None:
    peer.declare(1, name, arguments=ACTIVE)
    peer.send(1, "basic.consume", queue=name, exclusive=True)
    peer.expect_channel_close(1, 403, "basic.consume")


def test_get_still_works(peer: Peer, name: str) -> None:
    peer.declare(1, name, arguments=ACTIVE)
    peer.publish(1, "", name, b"x")
    assert peer.drain(1, name) == [b"x"]


def test_get_from_a_quorum_queue_does_not(peer: Peer, name: str) -> None:
    peer.declare(1, name, durable=True, arguments=ACTIVE | {"x-queue-type": "quorum"})
    peer.send(1, "basic.get", queue=name)
    peer.expect_channel_close(1, 405, "basic.get")

"""Memory and disk alarms: who is blocked, who is told."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator

import pytest
from support.amqp_peer import CAPABILITIES, Peer
from support.server import LeveretServer, Server, own_server_only, poll

Connect = Callable[..., Peer]
SOON_S = 15.0  # the watermark is looked at once a second or so


@pytest.fixture
def watermark(shared: Server) -> Iterator[Callable[[str], None]]:
    """Sets the memory watermark: "0" blocks at once."""
    yield lambda value: (shared.ctl("set_vm_memory_high_watermark", value), None)[1]
    shared.ctl("set_vm_memory_high_watermark", "0.6")


def wait_unblocked(peer: Peer) -> None:
    peer.expect(0, "connection.unblocked", timeout=SOON_S)


def test_publishers_are_told_and_held(connect: Connect, name: str, watermark: Callable[[str], None]) -> None:
    publisher, consumer = connect(), connect()
    consumer.declare(1, name)
    consumer.publish(1, "", name, b"before")
    watermark("0")
    publisher.publish(1, "", name, b"first")  # told at the first publish; this one may be taken yet
    assert publisher.expect(0, "connection.blocked", timeout=SOON_S).reason == "low on memory"
    publisher.publish(1, "", name, b"held")
    until = time.monotonic() + 0.3
    while time.monotonic() < until:
        assert consumer.counts(1, name)[0] <= 2
    watermark("0.6")
    wait_unblocked(publisher)
    poll(lambda: consumer.counts(1, name)[0] == 3, "what was held has not come")
    assert consumer.drain(1, name) == [b"before", b"first", b"held"]


def test_consumers_go_on(connect: Connect, name: str, watermark: Callable[[str], None]) -> None:
    publisher, consumer = connect(), connect()
    consumer.declare(1, name)
    publisher.confirm()
    for number in range(5):
        publisher.publish_confirmed(1, "", name, b"%d" % number)
    watermark("0")
    publisher.publish(1, "", name, b"5")
    publisher.expect(0, "connection.blocked", timeout=SOON_S)
    consumer.rpc(1, "basic.qos", prefetch_count=1)
    consumer.consume(1, name)
    for number in range(5):
        event = consumer.deliver()
        assert event.body == b"%d" % number
        consumer.send(1, "basic.ack", delivery_tag=event.delivery_tag)
    consumer.barrier()
    watermark("0.6")
    wait_unblocked(publisher)


def test_clients_that_do_not_know_it_are_not_told(
    connect: Connect, name: str, watermark: Callable[[str], None]
) -> None:
    old, other = connect(capabilities=CAPABILITIES | {"connection.blocked": False}), connect()
    other.declare(1, name)
    watermark("0")
    other.publish(1, "", name, b"x")
    other.expect(0, "connection.blocked", timeout=SOON_S)
    old.publish(1, "", name, b"1")
    old.publish(1, "", name, b"2")
    watermark("0.6")
    wait_unblocked(other)
    assert old.barrier() == []
    poll(lambda: other.counts(1, name)[0] == 3, "what was held has not come")


def test_a_blocked_publisher_is_not_taken_for_dead(
    connect: Connect, name: str, watermark: Callable[[str], None]
) -> None:
    # the monitor is paused
    publisher, other = connect(heartbeat=1), connect()
    other.declare(1, name)
    watermark("0")
    publisher.publish(1, "", name, b"x")
    publisher.expect(0, "connection.blocked", timeout=SOON_S)
    assert publisher.heartbeats(3.5) >= 2  # it is silent all the while
    watermark("0.6")
    wait_unblocked(publisher)
    publisher.barrier()


@own_server_only("the disk limit is a setting of the server")
def test_a_full_disk_blocks_too(server: Callable[..., LeveretServer], name: str) -> None:
    mine = server(settings={"LEVERET_LIMITS_DISK_FREE_LIMIT": str(2**60)})
    with mine.peer() as peer:
        peer.publish(1, "", name, b"x")
        assert peer.expect(0, "connection.blocked", timeout=SOON_S).reason == "low on disk"


@own_server_only("the watermark is a setting of the server")
def test_an_alarm_from_the_start(server: Callable[..., LeveretServer], name: str) -> None:
    mine = server(
        settings={"LEVERET_LIMITS_MEMORY_ABSOLUTE": "1", "LEVERET_LIMITS_DISK_FREE_LIMIT": str(2**60)}
    )
    with mine.peer() as peer:
        peer.publish(1, "", name, b"x")
        reason = peer.expect(0, "connection.blocked", timeout=SOON_S).reason
        assert sorted(reason.split(" & ")) in (
            ["low on disk", "low on memory"],
            ["low on memory"],
            ["low on disk"],
        )

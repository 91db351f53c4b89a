"""The firehose: copies of all that is published and delivered, through amq.rabbitmq.trace."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest
from support.amqp_peer import Event, Peer
from support.server import Server

Connect = Callable[..., Peer]


@pytest.fixture
def traced(shared: Server, connect: Connect, name: str) -> Iterator[Peer]:
    """A peer whose queue NAME-trace gets the trace."""
    peer = connect()
    peer.declare(1, f"{name}-trace", exclusive=True)
    peer.rpc(1, "queue.bind", queue=f"{name}-trace", exchange="amq.rabbitmq.trace", routing_key="#")
    shared.ctl("trace_on")
    yield peer
    shared.ctl("trace_off")


def traces(peer: Peer, name: str, count: int) -> list[Event]:
    peer.send(1, "basic.consume", queue=f"{name}-trace", no_ack=True, consumer_tag="trace")
    peer.expect(1, "basic.consume-ok")
    events = [peer.deliver() for _ in range(count)]
    peer.rpc(1, "basic.cancel", consumer_tag="trace")
    return events


def test_publish_and_deliver_are_traced(connect: Connect, traced: Peer, name: str) -> None:
    peer = connect()
    peer.declare(1, name, exclusive=True)
    peer.rpc(1, "queue.bind", queue=name, exchange="amq.direct", routing_key="k")
    peer.publish(1, "amq.direct", "k", b"body", content_type="a/b", headers={"h": 1})
    assert peer.get(1, name) is not None
    published, delivered = traces(traced, name, 2)
    assert (published.exchange, published.routing_key) == ("amq.rabbitmq.trace", "publish.amq.direct")
    assert delivered.routing_key == f"deliver.{name}"
    assert published.body == delivered.body == b"body"
    for event in (published, delivered):
        assert event.headers["exchange_name"] == "amq.direct"
        assert event.headers["routing_keys"] == ["k"]
        assert event.headers["properties"] == {"content_type": "a/b", "headers": {"h": 1}}
        assert "node" in event.headers
    assert published.headers["routed_queues"] == [name]
    assert published.headers["vhost"] == "/"
    assert published.headers["user"] == "guest"
    assert published.headers["channel"] == 1
    assert " -> " in published.headers["connection"]
    assert delivered.headers["redelivered"] == 0


def test_redeliveries_are_marked(connect: Connect, traced: Peer, name: str) -> None:
    # redelivered is an int
    peer = connect()
    peer.declare(1, name, exclusive=True)
    peer.publish(1, "", name, b"x")
    assert peer.get(1, name, no_ack=False)
    peer.send(1, "basic.nack", delivery_tag=1, requeue=True)
    assert peer.get(1, name)
    first, second, third = traces(traced, name, 3)
    assert first.routing_key == "publish."
    assert [event.headers["redelivered"] for event in (second, third)] == [0, 1]


def test_the_unroutable_is_traced(connect: Connect, traced: Peer, name: str) -> None:
    connect().publish(1, "amq.topic", "nowhere", b"x")
    (event,) = traces(traced, name, 1)
    assert event.routing_key == "publish.amq.topic"
    assert event.headers["routed_queues"] == []


def test_off_is_off(shared: Server, connect: Connect, traced: Peer, name: str) -> None:
    shared.ctl("trace_off")
    connect().publish(1, "amq.topic", "nowhere", b"x")
    traced.barrier()
    assert traced.get(1, f"{name}-trace") is None


def test_nobody_may_publish_to_it(peer: Peer) -> None:
    # internal
    peer.publish(1, "amq.rabbitmq.trace", "k", b"x")
    peer.expect_channel_close(1, 403, "basic.publish")

"""Direct reply-to: amq.rabbitmq.reply-to."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from support.amqp_peer import Peer
from support.server import poll, reference_differs

Connect = Callable[..., Peer]
REPLY_TO = "amq.rabbitmq.reply-to"


def request(client: Peer, server: Peer, queue: str) -> str:
    """Send a request from the client to the server; returns the reply address that the server sees."""
    client.publish(1, "", queue, b"question", reply_to=REPLY_TO)
    event = poll(lambda: server.get(1, queue), "the request has not come")
    address: str = event.properties["reply_to"]
    assert address.startswith(f"{REPLY_TO}.")
    return address


def test_request_and_reply(connect: Connect, name: str) -> None:
    client, server = connect(), connect()
    server.declare(1, name)
    tag = client.consume(1, REPLY_TO, no_ack=True)
    address = request(client, server, name)
    for number in range(3):
        server.publish(1, "", address, b"answer %d" % number, correlation_id="c")
    events = [client.deliver() for _ in range(3)]
    assert [event.body for event in events] == [b"answer 0", b"answer 1", b"answer 2"]
    first = events[0]
    assert (first.consumer_tag, first.exchange, first.routing_key, first.redelivered) == (
        tag,
        "",
        address,
        False,
    )
    assert first.properties == {"correlation_id": "c"}


@reference_differs("3.10: mandatory replies always come back")
def test_a_reply_is_confirmed_and_routed(connect: Connect, name: str) -> None:
    client, server = connect(), connect()
    server.declare(1, name)
    client.consume(1, REPLY_TO, no_ack=True)
    address = request(client, server, name)
    server.confirm()
    server.publish(1, "", address, b"x", mandatory=True)
    assert server.expect(1, "basic.ack", "basic.return").name == "basic.ack"
    client.deliver()


def test_publishing_without_the_consumer(peer: Peer, name: str) -> None:
    peer.publish(1, "", name, b"x", reply_to=REPLY_TO)
    peer.expect_channel_close(
        1, 406, "basic.publish", "PRECONDITION_FAILED - fast reply consumer does not exist"
    )


def test_consuming_with_acks(peer: Peer) -> None:
    peer.send(1, "basic.consume", queue=REPLY_TO)
    peer.expect_channel_close(
        1, 406, "basic.consume", "PRECONDITION_FAILED - reply consumer cannot acknowledge"
    )


def test_consuming_twice(peer: Peer) -> None:
    peer.consume(1, REPLY_TO, no_ack=True)
    peer.send(1, "basic.consume", queue=REPLY_TO, no_ack=True)
    peer.expect_channel_close(1, 406, "basic.consume", "PRECONDITION_FAILED - reply consumer already set")


def test_each_channel_has_its_own(connect: Connect, name: str) -> None:
    client, server = connect(), connect()
    server.declare(1, name)
    client.open_channel(2)
    for channel in (1, 2):
        client.consume(channel, REPLY_TO, no_ack=True)
        client.publish(channel, "", name, b"%d" % channel, reply_to=REPLY_TO)
    for _ in range(2):
        event = poll(lambda: server.get(1, name), "the request has not come")
        server.publish(1, "", event.properties["reply_to"], event.body)
    assert client.deliver(1).body == b"1"
    assert client.deliver(2).body == b"2"


def test_after_cancel_it_may_be_consumed_again(connect: Connect, name: str) -> None:
    client, server = connect(), connect()
    server.declare(1, name)
    tag = client.consume(1, REPLY_TO, no_ack=True)
    client.rpc(1, "basic.cancel", consumer_tag=tag)
    client.consume(1, REPLY_TO, no_ack=True)
    server.publish(1, "", request(client, server, name), b"x")
    client.deliver()


@pytest.mark.parametrize("how", ["cancelled", "closed", "lost", "never there"])
def test_replies_to_nobody_are_dropped(connect: Connect, name: str, how: str) -> None:
    client, server = connect(), connect()
    server.declare(1, name)
    tag = client.consume(1, REPLY_TO, no_ack=True)
    address = request(client, server, name)
    if how == "cancelled":
        client.rpc(1, "basic.cancel", consumer_tag=tag)
    elif how == "closed":
        client.goodbye()
    elif how == "lost":
        client.close()
    else:
        address = f"{REPLY_TO}.nonsense"
    server.publish(1, "", address, b"x")
    assert server.barrier() == []


def test_a_passive_declare_tells_whether_somebody_listens(connect: Connect, name: str) -> None:
    client, server = connect(), connect()
    server.declare(1, name)
    client.consume(1, REPLY_TO, no_ack=True)
    address = request(client, server, name)
    server.rpc(1, "queue.declare", queue=address, passive=True)
    client.goodbye()
    server.open_channel(2)
    server.send(2, "queue.declare", queue=address, passive=True)
    server.expect_channel_close(2, 404, "queue.declare")
    server.rpc(1, "queue.declare", queue=REPLY_TO, passive=True)


def test_other_reply_to_values_are_left_alone(peer: Peer, name: str) -> None:
    peer.declare(1, name)
    for value in ("amq.rabbitmq.reply-to.mine", "mine", ""):
        peer.publish(1, "", name, b"x", reply_to=value)
        event = peer.get(1, name)
        assert event is not None
        assert event.properties == {"reply_to": value}


@reference_differs("3.10: says that there is no such queue")
def test_binding_it(peer: Peer) -> None:
    peer.send(1, "queue.bind", queue=REPLY_TO, exchange="amq.direct", routing_key="k")
    peer.expect_channel_close(
        1, 403, "queue.bind",
        "ACCESS_REFUSED - cannot bind or unbind to a volatile (direct reply-to) queue",
    )  # fmt: skip


def test_a_mandatory_reply_to_nobody_comes_back(connect: Connect, name: str) -> None:
    client, server = connect(), connect()
    server.declare(1, name)
    client.consume(1, REPLY_TO, no_ack=True)
    address = request(client, server, name)
    client.goodbye()
    server.publish(1, "", address, b"x", mandatory=True)
    assert server.expect(1, "basic.return", timeout=2).routing_key == address

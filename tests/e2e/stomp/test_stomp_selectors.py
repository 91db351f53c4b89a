"""The `selector` header of SUBSCRIBE, which RabbitMQ has not."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from e2e.stomp.stomp_broker import leveret_only
from support.amqp_peer import Peer
from support.server import LeveretServer
from support.stomp_peer import StompPeer

Open = Callable[..., StompPeer]
pytestmark = leveret_only("RabbitMQ has no selectors")


def test_a_queue_keeps_what_its_consumer_does_not_want(stomp: Open, name: str) -> None:
    queue = f"/queue/{name}"
    picky, publisher = stomp(), stomp()
    picky.subscribe(queue, selector="color = 'blue' AND weight > 2500")
    for color, weight in (("red", 3000), ("blue", 100), ("blue", 3000), ("green", 1), ("blue", 9999)):
        publisher.publish(queue, f"{color} {weight}".encode(), color=color, weight=str(weight))
    assert [message.body for message in picky.messages(2)] == [b"blue 3000", b"blue 9999"]
    picky.quiet()
    other = stomp()
    other.subscribe(queue)
    assert [message.body for message in other.messages(3)] == [b"red 3000", b"blue 100", b"green 1"]


def test_each_gets_its_own(stomp: Open, name: str) -> None:
    queue = f"/queue/{name}"
    peers = {color: stomp() for color in ("red", "green", "blue")}
    for color, peer in peers.items():
        peer.subscribe(queue, ack="client-individual", prefetch_count="1", selector=f"color = '{color}'")
    publisher = stomp()
    for number in range(30):
        color = ("red", "green", "blue")[number % 3]
        publisher.send("SEND", b"%d" % number, destination=queue, color=color)
    for index, peer in enumerate(peers.values()):
        for number in range(index, 30, 3):
            peer.ask("ACK", id=peer.message(b"%d" % number)["ack"])
        peer.quiet()


def test_a_topic_subscription_drops_what_it_does_not_want(
    stomp: Open, shared: LeveretServer, name: str
) -> None:
    picky, publisher = stomp(), stomp()
    before = {row["name"] for row in shared.rows("list_queues", "name")}
    picky.subscribe(f"/topic/{name}", selector="JMSPriority >= 5 OR urgent = TRUE")
    (queue,) = {row["name"] for row in shared.rows("list_queues", "name")} - before
    for number in range(10):
        publisher.publish(f"/topic/{name}", b"%d" % number, priority=str(number))
    publisher.publish(f"/topic/{name}", b"u", urgent="true")
    assert [message.body for message in picky.messages(6)] == [b"5", b"6", b"7", b"8", b"9", b"u"]
    rows = {row["name"]: row for row in shared.rows("list_queues", "name", "messages")}
    assert rows[queue]["messages"] == 0


def test_what_comes_back_is_selected_again(stomp: Open, name: str) -> None:
    queue = f"/queue/{name}"
    peer = stomp()
    peer.subscribe(queue, id="a", ack="client-individual", selector="n = 1")
    peer.subscribe(queue, id="b", ack="client-individual", selector="n = 1 OR n = 2")
    peer.publish(queue, b"x", n="2")
    message = peer.message(b"x", subscription="b")
    for _ in range(3):
        peer.ask("NACK", id=message["ack"])
        message = peer.message(b"x", subscription="b", redelivered="true")
    peer.ask("UNSUBSCRIBE", id="b")
    peer.quiet()
    peer.subscribe(queue, id="c")
    peer.message(b"x", subscription="c", redelivered="true")


def test_headers_of_other_protocols_can_be_selected_on(
    stomper: StompPeer, connect: Callable[..., Peer], name: str
) -> None:
    stomper.subscribe(
        f"/queue/{name}", selector="n > 5 AND \"content-type\" LIKE 'text/%' AND JMSType IS NOT NULL"
    )
    amqp = connect()
    amqp.publish(1, "", name, b"small", headers={"n": 5}, content_type="text/plain", type="t")
    amqp.publish(1, "", name, b"right", headers={"n": 6}, content_type="text/plain", type="t")
    amqp.publish(1, "", name, b"untyped", headers={"n": 6}, content_type="text/plain")
    stomper.message(b"right")
    stomper.quiet()


@pytest.mark.parametrize("version", ["1.0", "1.1", "1.2"])
def test_a_wrong_selector_is_an_error(stomp: Open, name: str, version: str) -> None:
    peer = stomp(version)
    peer.send("SUBSCRIBE", destination=f"/queue/{name}", id="s", selector="color =", receipt="r")
    frame = peer.expect("ERROR", receipt_id="r")
    assert "invalid selector: it ends too early" in frame["message"] + frame.body.decode()
    peer.expect_close()


def test_amqp_consumers_of_the_queue_are_served_too(
    stomp: Open, connect: Callable[..., Peer], name: str
) -> None:
    queue = f"/queue/{name}"
    picky, amqp = stomp(), connect()
    picky.subscribe(queue, selector="keep = 'yes'")
    picky.publish(queue, b"1", keep="no")
    picky.publish(queue, b"2", keep="yes")
    picky.message(b"2")
    assert amqp.drain(1, name) == [b"1"]


def test_unselected_messages_survive_a_restart(server: Callable[..., LeveretServer]) -> None:
    mine = server()
    with StompPeer.open(mine.ports["stomp"]) as peer:
        peer.subscribe("/queue/q", ack="client-individual", selector="n = 2")
        for number in range(4):
            peer.publish("/queue/q", b"%d" % number, n=str(number), persistent="true")
        peer.ask("ACK", id=peer.message(b"2")["ack"])
        peer.goodbye()
    mine.restart()
    with StompPeer.open(mine.ports["stomp"]) as peer:
        peer.subscribe("/queue/q", selector="n <> 1")
        assert [message.body for message in peer.messages(2)] == [b"0", b"3"]
        peer.subscribe("/queue/q", id="rest")
        peer.message(b"1")
        peer.quiet()

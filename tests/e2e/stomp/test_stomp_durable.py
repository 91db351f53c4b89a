"""What survives: durable subscriptions, persistent messages, restarts, SIGKILL."""

from __future__ import annotations

import threading
from collections.abc import Callable

import pytest
from e2e.stomp.stomp_broker import STOMP_REFERENCE, VERSIONS, leveret_only
from support.server import LeveretServer, Server
from support.stomp_peer import StompClosed, StompPeer

Open = Callable[..., StompPeer]
Start = Callable[..., LeveretServer]
DURABLE = {"durable": "true", "auto-delete": "false"}


def drop(peer: StompPeer, destination: str, id: str) -> None:
    """Delete a durable subscription."""
    peer.ask("SUBSCRIBE", destination=destination, id=id, headers=DURABLE)
    peer._early.clear()
    peer.ask("UNSUBSCRIBE", id=id, headers=DURABLE)


@pytest.mark.parametrize("version", VERSIONS)
def test_53_a_durable_subscription_keeps_messages(stomp: Open, name: str, version: str) -> None:
    topic = f"/topic/{name}"
    peer = stomp(version)
    peer.ask("SUBSCRIBE", destination=topic, id=name, headers=DURABLE)
    peer.goodbye()
    publisher = stomp()
    publisher.publish(topic, b"while away")
    again = stomp(version)
    again.ask("SUBSCRIBE", destination=topic, id=name, headers=DURABLE)
    again.message(b"while away", subscription=name)
    again.goodbye()
    drop(publisher, topic, name)


def test_53_unsubscribe_keeps_it_unless_durable_is_said_again(stomp: Open, shared: Server, name: str) -> None:
    topic = f"/topic/{name}"
    peer = stomp()
    before = {row["name"] for row in shared.rows("list_queues", "name")}
    peer.ask("SUBSCRIBE", destination=topic, id=name, headers=DURABLE)
    (queue,) = {row["name"] for row in shared.rows("list_queues", "name")} - before
    assert queue.startswith("stomp-subscription-")
    peer.ask("UNSUBSCRIBE", id=name)
    peer.publish(topic, b"kept")
    peer.ask("SUBSCRIBE", destination=topic, id=name, headers=DURABLE)
    peer.message(b"kept")
    peer.ask("UNSUBSCRIBE", id=name, headers=DURABLE)
    assert {row["name"] for row in shared.rows("list_queues", "name")} == before


def test_a_durable_subscription_needs_an_id(stomp: Open) -> None:
    peer = stomp("1.0")
    peer.send("SUBSCRIBE", destination="/topic/x", headers=DURABLE)
    frame = peer.expect("ERROR", message="Missing Header")
    assert "Header 'id' is required for durable subscriptions" in frame.body.decode()


def test_two_destinations_with_one_id_are_two_subscriptions(stomp: Open, name: str) -> None:
    """RabbitMQ hashes destination and id."""
    one, other = stomp(), stomp()
    one.ask("SUBSCRIBE", destination=f"/topic/{name}.a", id=name, headers=DURABLE)
    other.ask("SUBSCRIBE", destination=f"/topic/{name}.b", id=name, headers=DURABLE)
    one.publish(f"/topic/{name}.a", b"a")
    one.message(b"a")
    other.quiet()
    one.ask("UNSUBSCRIBE", id=name, headers=DURABLE)
    other.ask("UNSUBSCRIBE", id=name, headers=DURABLE)


def test_the_queue_has_rabbitmqs_name(stomp: Open, shared: Server, name: str) -> None:
    """So that a migrated queue goes on being the subscription's. (A fixed pair, seen at RabbitMQ 3.10.)"""
    peer = stomp()
    peer.ask("SUBSCRIBE", destination="/topic/leveret-test", id="sub-1", headers=DURABLE)
    names = {row["name"] for row in shared.rows("list_queues", "name")}
    peer.ask("UNSUBSCRIBE", id="sub-1", headers=DURABLE)
    assert "stomp-subscription-pAU6cggthF94eUCRoQutrQ" in names


@leveret_only("restarts its server")
def test_durable_things_survive_a_restart(server: Start) -> None:
    mine = server()
    with StompPeer.open(mine.ports["stomp"]) as peer:
        peer.ask("SUBSCRIBE", destination="/topic/t", id="me", headers=DURABLE)
        peer.goodbye()
    with StompPeer.open(mine.ports["stomp"]) as peer:
        peer.publish("/topic/t", b"kept", persistent="true", color="blue", priority="4")
        peer.publish("/topic/t", b"lost")
        peer.publish("/queue/q", b"kept", persistent="true")
        peer.goodbye()
    mine.restart()
    with StompPeer.open(mine.ports["stomp"]) as peer:
        peer.ask("SUBSCRIBE", destination="/topic/t", id="me", headers=DURABLE)
        message = peer.message(b"kept", subscription="me", color="blue", priority="4", persistent="true")
        assert message["destination"] == "/topic/t"
        peer.subscribe("/queue/q", id="q")
        peer.message(b"kept", subscription="q")
        peer.quiet()
        peer.goodbye()


@leveret_only("kills its server")
def test_47_what_has_a_receipt_survives_sigkill(server: Start) -> None:
    """Persistent SENDs stream while the server is killed: every one with a RECEIPT is there, in order, each once."""
    mine = server()
    peer = StompPeer.open(mine.ports["stomp"])
    peer.subscribe("/queue/other")  # a durable queue, declared with a receipt, must be there too
    confirmed: list[int] = []
    killer = threading.Timer(0.7, mine.process.kill)
    killer.start()
    number = 0
    try:
        while True:
            batch = range(number, number + 20)
            peer.send_raw(
                b"".join([
                    peer.encode("SEND", b"%d" % n, destination="/queue/q", persistent="true", receipt=str(n))
                    for n in batch
                ])
            )  # fmt: skip
            for _ in batch:
                confirmed.append(int(peer.expect("RECEIPT")["receipt-id"]))
            number += 20
    except StompClosed:
        pass
    finally:
        killer.join()
        peer.close()
        mine.kill()
    assert len(confirmed) > 20, "the kill came too early to prove anything"
    assert confirmed == list(range(len(confirmed)))
    mine.start()
    with StompPeer.open(mine.ports["stomp"]) as reader:
        reader.subscribe("/amq/queue/other", id="other")
        reader.subscribe("/amq/queue/q", id="q")
        got = []
        try:
            while True:
                got.append(int(reader.receive(0.5).body))
        except TimeoutError:
            pass
    assert got[: len(confirmed)] == confirmed
    assert got == sorted(set(got))


@leveret_only("kills its server")
def test_47_committed_transactions_and_acks_survive_sigkill(server: Start) -> None:
    mine = server()
    with StompPeer.open(mine.ports["stomp"]) as peer:
        peer.ask("BEGIN", transaction="t")
        for number in range(5):
            peer.send("SEND", b"%d" % number, destination="/queue/q", persistent="true", transaction="t")
        peer.ask("COMMIT", transaction="t")
        peer.subscribe("/queue/q", ack="client")
        messages = peer.messages(5)
        peer.ask("ACK", id=messages[2]["ack"])
        mine.kill()
    mine.start()
    with StompPeer.open(mine.ports["stomp"]) as peer:
        peer.subscribe("/queue/q")
        assert [(m.body, m["redelivered"]) for m in peer.messages(2)] == [(b"3", "true"), (b"4", "true")]
        peer.quiet()


def test_a_reader_that_does_not_read_does_not_stop_others(stomp: Open, name: str) -> None:
    """Its outbox has an end; messages wait in the queue."""
    if STOMP_REFERENCE:
        pytest.skip("a test of Leveret's buffers")
    lazy, publisher = stomp(), stomp()
    lazy.subscribe(f"/queue/{name}")
    body = b"x" * 50_000
    for _ in range(400):
        publisher.send("SEND", body, destination=f"/queue/{name}")
    publisher.quiet()
    other = stomp()
    other.subscribe(f"/queue/{name}-other")
    other.publish(f"/queue/{name}-other", b"y")
    other.message(b"y")
    assert len(lazy.messages(400)) == 400

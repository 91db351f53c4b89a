"""The clients of the kill test: threads that publish, consume and declare until the server dies under them."""

from __future__ import annotations

import contextlib
import random
import threading
from collections import deque
from collections.abc import Callable, Iterator
from typing import Any

from e2e.kill_ledger import Ledger, MessageId, Received, make_body, read_body
from support.amqp_peer import Event, Peer, PeerClosed

__all__ = ["ACTORS", "EXCHANGES", "MOVES", "QUEUES", "Actor", "Topology", "declare_all", "read_queue"]

FAN = ["kill.a", "kill.b"]
QUEUES = [*FAN, "kill.single", "kill.tx", "kill.dead"]
EXCHANGES = {"kill.fan": "fanout", "kill.topic": "topic", "kill.dlx": "direct", "kill.headers": "headers"}
MOVES = {"kill.single": "kill.dead"}
PERSISTENT = {"delivery_mode": 2}


def declare_all(peer: Peer) -> None:
    for exchange, kind in EXCHANGES.items():
        peer.rpc(1, "exchange.declare", exchange=exchange, type=kind, durable=True)
    peer.rpc(1, "exchange.bind", destination="kill.fan", source="kill.topic", routing_key="to.fan.#")
    dead = {"x-dead-letter-exchange": "kill.dlx", "x-dead-letter-routing-key": "dead"}
    for queue in QUEUES:
        peer.declare(1, queue, durable=True, arguments=dead if queue in MOVES else {})
    for queue in FAN:
        peer.rpc(1, "queue.bind", queue=queue, exchange="kill.fan", routing_key="")
    peer.rpc(1, "queue.bind", queue="kill.dead", exchange="kill.dlx", routing_key="dead")
    peer.rpc(1, "queue.bind", queue="kill.tx", exchange="kill.headers", arguments={"x-match": "all", "k": 1})


class Topology:
    """What the declaring actor knows: queues that must exist after a restart, and those that must not."""

    def __init__(self) -> None:
        self.present: set[str] = set()
        self.absent: set[str] = set()
        self.count = 0


class Actor:
    """One client in a thread. `run` until the server is gone; any other failure is the ledger's problem."""

    def __init__(self, port: int, ledger: Ledger, topology: Topology, seed: int) -> None:
        self.port = port
        self.ledger = ledger
        self.topology = topology
        self.random = random.Random(seed)

    def start(self, act: Callable[[Actor, Peer], None]) -> threading.Thread:
        thread = threading.Thread(target=self._run, args=(act,), name=act.__name__)
        thread.start()
        return thread

    def _run(self, act: Callable[[Actor, Peer], None]) -> None:
        try:
            with contextlib.suppress(PeerClosed, ConnectionError), Peer.open(self.port) as peer:
                act(self, peer)
        except Exception as error:  # noqa: BLE001 - told in the test's own thread
            self.ledger.problem(f"{act.__name__}: {error!r}")

    def padding(self) -> int:
        return self.random.choice((0, 10, 100, 1000, 5000, 20_000))


def publish_window(actor: Actor, peer: Peer) -> None:
    """Fan-out to two queues with up to 50 unconfirmed."""
    _publish(actor, peer, "window", "kill.fan", "", FAN, window=50)


def publish_single(actor: Actor, peer: Peer) -> None:
    """To one queue, each confirmed before the next; now and then a large one."""
    _publish(actor, peer, "single", "", "kill.single", ["kill.single"], window=1, large=400_000)


def publish_through(actor: Actor, peer: Peer) -> None:
    """Through an exchange bound to an exchange, with a wide window."""
    _publish(actor, peer, "through", "kill.topic", "to.fan.x", FAN, window=200)


def _publish(
    actor: Actor, peer: Peer, publisher: str, exchange: str, key: str, queues: list[str], window: int,
    large: int = 0,
) -> None:  # fmt: skip
    peer.confirm()
    tag = 0
    open_: deque[tuple[int, MessageId]] = deque()
    while True:
        while len(open_) < window:
            message = actor.ledger.next_message(publisher)
            padding = large if large and actor.random.random() < 0.02 else actor.padding()
            actor.ledger.sent(message, queues)
            tag += 1
            open_.append((tag, message))
            peer.publish(1, exchange, key, make_body(message, padding), **PERSISTENT)
        settled = peer.expect(1, "basic.ack")
        while open_ and open_[0][0] <= settled.delivery_tag and settled.multiple:
            actor.ledger.confirmed(open_.popleft()[1], queues)
        for entry in [entry for entry in open_ if entry[0] == settled.delivery_tag]:
            open_.remove(entry)
            actor.ledger.confirmed(entry[1], queues)


def publish_tx(actor: Actor, peer: Peer) -> None:
    """Transactions of five messages; every fifth is rolled back."""
    peer.rpc(1, "tx.select")
    queues = ["kill.tx"]
    count = 0
    while True:
        count += 1
        messages = [actor.ledger.next_message("tx") for _ in range(5)]
        bodies = [make_body(message, actor.padding()) for message in messages]
        if count % 5 == 0:
            for body in bodies:
                peer.publish(1, "", "kill.tx", body, **PERSISTENT)
            peer.rpc(1, "tx.rollback")
            continue
        for message in messages:
            actor.ledger.sent(message, queues)
        actor.ledger.batches.append(("kill.tx", messages))
        for body in bodies:
            peer.publish(1, "", "kill.tx", body, **PERSISTENT)
        peer.rpc(1, "tx.commit")
        for message in messages:
            actor.ledger.confirmed(message, queues)


def consume_acking(actor: Actor, peer: Peer) -> None:
    """Acks about half of what it gets, several at once; keeps the rest unacked."""
    unacked: list[tuple[int, str, MessageId]] = []
    for event, message in _deliveries(actor, peer, "kill.a", prefetch=50):
        unacked.append((event.delivery_tag, "kill.a", message))
        if len(unacked) >= 30:
            part = actor.random.randrange(1, 20)
            for _, queue, settled in unacked[:part]:
                actor.ledger.copies[queue][settled].is_settled = True
            peer.send(1, "basic.ack", delivery_tag=unacked[part - 1][0], multiple=True)
            del unacked[:part]


def consume_requeueing(actor: Actor, peer: Peer) -> None:
    """Acks, requeues and keeps, by lot."""
    kept: list[int] = []
    for event, message in _deliveries(actor, peer, "kill.b", prefetch=20):
        lot = actor.random.random()
        if lot < 0.4:
            actor.ledger.copies["kill.b"][message].is_settled = True
            peer.send(1, "basic.ack", delivery_tag=event.delivery_tag)
        elif lot < 0.7:
            peer.send(1, "basic.reject", delivery_tag=event.delivery_tag, requeue=True)
        else:
            kept.append(event.delivery_tag)
        if len(kept) > 10:
            peer.send(1, "basic.nack", delivery_tag=kept.pop(0), requeue=True)


def consume_rejecting(actor: Actor, peer: Peer) -> None:
    """Rejects every second one into the dead-letter queue, keeps the others."""
    for event, message in _deliveries(actor, peer, "kill.single", prefetch=0):
        if event.delivery_tag % 2:
            actor.ledger.copies["kill.single"][message].is_settled = True
            peer.send(1, "basic.reject", delivery_tag=event.delivery_tag, requeue=False)


def _deliveries(actor: Actor, peer: Peer, queue: str, prefetch: int) -> Iterator[tuple[Event, MessageId]]:
    peer.rpc(1, "basic.qos", prefetch_count=prefetch)
    peer.consume(1, queue)
    while True:
        event = peer.deliver()
        message = read_body(event.body)
        actor.ledger.received(queue, Received(message, event.redelivered))
        yield event, message


def declare_and_delete(actor: Actor, peer: Peer) -> None:
    """Durable queues come, are bound, and go; what was answered must hold."""
    topology = actor.topology
    while True:
        topology.count += 1
        queue = f"kill.made.{topology.count}"
        peer.declare(1, queue, durable=True, arguments={"x-max-length": topology.count})
        topology.present.add(queue)
        peer.rpc(1, "queue.bind", queue=queue, exchange="kill.topic", routing_key=f"made.{queue}")
        if len(topology.present) > 5:
            victim = actor.random.choice(sorted(topology.present))
            topology.present.remove(victim)
            peer.rpc(1, "queue.delete", queue=victim)
            topology.absent.add(victim)


def read_queue(peer: Peer, queue: str) -> list[Received]:
    """Everything in the queue, in order, left unacked on channel 1."""
    count = peer.counts(1, queue)[0]
    tag = peer.consume(1, queue)
    found = []
    for _ in range(count):
        event = peer.deliver()
        found.append(Received(read_body(event.body), event.redelivered))
    peer.send(1, "basic.cancel", consumer_tag=tag)
    late: list[Any] = []
    while (event := peer.expect(1, "basic.deliver", "basic.cancel-ok")).name != "basic.cancel-ok":
        late.append(event)
    assert not late, f"{queue} has more than the {count} messages it told of"
    return found


ACTORS: list[Callable[[Actor, Peer], None]] = [
    publish_window, publish_single, publish_through, publish_tx, consume_acking, consume_requeueing,
    consume_rejecting, declare_and_delete,
]  # fmt: skip

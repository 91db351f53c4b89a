"""x-consistent-hash."""

from __future__ import annotations

from typing import Any

import pytest
from support.amqp_peer import Peer

KIND = "x-consistent-hash"


class Ring:
    """An exchange with queues behind it; `spread` publishes and counts."""

    def __init__(self, peer: Peer, name: str, weights: list[int], **arguments: Any) -> None:
        self.peer, self.name = peer, name
        peer.rpc(1, "exchange.declare", exchange=name, type=KIND, arguments=arguments)
        self.queues = [peer.declare(1, f"{name}-{number}", exclusive=True) for number in range(len(weights))]
        for queue, weight in zip(self.queues, weights, strict=True):
            peer.rpc(1, "queue.bind", queue=queue, exchange=name, routing_key=str(weight))
        peer.confirm()

    def where(self, key: str, **properties: Any) -> list[int]:
        self.peer.publish(1, self.name, key, b"x", **properties)
        self.peer.expect(1, "basic.ack")
        return [number for number, queue in enumerate(self.queues) for _ in self.peer.drain(1, queue)]

    def spread(self, count: int) -> list[int]:
        """Publish this many keys; how many came to each queue."""
        self.peer.send_raw(
            b"".join(self.peer.publish_frames(1, self.name, f"key {n}", b"x") for n in range(count))
        )
        pending = set(range(1, count + 1))
        while pending:
            ack = self.peer.expect(1, "basic.ack")
            pending -= (
                {tag for tag in pending if tag <= ack.delivery_tag} if ack.multiple else {ack.delivery_tag}
            )
        return [self.peer.rpc(1, "queue.purge", queue=queue).message_count for queue in self.queues]


def test_every_message_goes_to_one_queue(peer: Peer, name: str) -> None:
    ring = Ring(peer, name, [1, 1, 1])
    for number in range(20):
        (first,) = ring.where(f"k{number}")
        assert ring.where(f"k{number}") == [first]


def test_weights_share_out(peer: Peer, name: str) -> None:
    counts = Ring(peer, name, [10, 20, 30]).spread(6000)
    assert sum(counts) == 6000
    assert all(
        abs(count - share) < 0.35 * share for count, share in zip(counts, [1000, 2000, 3000], strict=True)
    )


def test_a_header_decides(peer: Peer, name: str) -> None:
    ring = Ring(peer, name, [1, 1, 1], **{"hash-header": "id"})
    where = {tuple(ring.where(f"key {n}", headers={"id": "same"})) for n in range(20)}
    assert len(where) == 1
    assert len({tuple(ring.where("key", headers={"id": f"other {n}"})) for n in range(40)}) == 3


@pytest.mark.parametrize("prop", ["message_id", "correlation_id"])
def test_a_property_decides(peer: Peer, name: str, prop: str) -> None:
    ring = Ring(peer, name, [1, 1, 1], **{"hash-property": prop})
    assert len({tuple(ring.where(f"key {n}", **{prop: "same"})) for n in range(20)}) == 1
    assert len({tuple(ring.where("key", **{prop: f"other {n}"})) for n in range(40)}) == 3


def test_messages_without_the_header_go_together(peer: Peer, name: str) -> None:
    # the hash of nothing
    ring = Ring(peer, name, [1, 1], **{"hash-header": "id"})
    assert len({tuple(ring.where(f"key {n}")) for n in range(10)}) == 1


@pytest.mark.parametrize(
    ("key", "text"),
    [("x", "The binding key must be an integer: "), ("", "The binding key must be an integer: ")],
)
def test_a_weight_that_is_no_number(peer: Peer, name: str, key: str, text: str) -> None:
    ring = Ring(peer, name, [1])
    peer.declare(1, f"{name}-new", exclusive=True)
    peer.send(1, "queue.bind", queue=f"{name}-new", exchange=ring.name, routing_key=key)
    said = peer.expect_channel_close(1, 406, "queue.bind")
    assert said.startswith(f"PRECONDITION_FAILED - {text}")


@pytest.mark.parametrize("key", ["0", "-1"])
def test_a_weight_of_nothing(peer: Peer, name: str, key: str) -> None:
    ring = Ring(peer, name, [1])
    peer.declare(1, f"{name}-new", exclusive=True)
    peer.send(1, "queue.bind", queue=f"{name}-new", exchange=ring.name, routing_key=key)
    said = peer.expect_channel_close(1, 406, "queue.bind")
    assert said == "PRECONDITION_FAILED - The binding key must be greater than 0"


@pytest.mark.parametrize(
    "arguments", [{"hash-header": "a", "hash-property": "message_id"}, {"hash-property": "app_id"}], ids=["both", "unknown"]
)  # fmt: skip
def test_invalid_arguments(peer: Peer, name: str, arguments: dict[str, str]) -> None:
    peer.send(1, "exchange.declare", exchange=name, type=KIND, arguments=arguments)
    peer.expect_channel_close(1, 406, "exchange.declare")


def test_unbinding_leaves_the_others_most_of_theirs(peer: Peer, name: str) -> None:
    ring = Ring(peer, name, [1, 1, 1])
    before = {f"k{n}": ring.where(f"k{n}") for n in range(60)}
    peer.rpc(1, "queue.unbind", queue=ring.queues[2], exchange=name, routing_key="1")
    after = {key: ring.where(key) for key in before}
    assert all(where in ([0], [1]) for where in after.values())
    moved = [key for key, where in before.items() if where != [2] and after[key] != where]
    assert len(moved) <= 25


def test_without_queues_nothing_is_routed(peer: Peer, name: str) -> None:
    ring = Ring(peer, name, [])
    peer.publish(1, ring.name, "k", b"x", mandatory=True)
    assert peer.expect(1, "basic.return").reply_code == 312

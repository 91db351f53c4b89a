"""Queues declared as quorum queues: what they refuse, and what is different in them."""

from __future__ import annotations

from typing import Any

import pytest
from support.amqp_peer import Peer
from support.server import reference_differs

QUORUM = {"x-queue-type": "quorum"}


@pytest.mark.parametrize(
    "options",
    [{"durable": False}, {"exclusive": True}, {"auto_delete": True}, {"arguments": QUORUM | {"x-max-priority": 5}}],
    ids=["transient", "exclusive", "auto-delete", "priorities"],
)  # fmt: skip
def test_what_a_quorum_queue_cannot_be(peer: Peer, name: str, options: dict[str, Any]) -> None:
    peer.send(1, "queue.declare", **({"queue": name, "durable": True, "arguments": QUORUM} | options))
    peer.expect_channel_close(1, 406, "queue.declare")


def test_a_server_named_one(peer: Peer) -> None:
    peer.send(1, "queue.declare", durable=True, arguments=QUORUM)
    text = peer.expect_channel_close(1, 406, "queue.declare")
    assert text.startswith("PRECONDITION_FAILED - Cannot declare a server-named queue for type")


@pytest.mark.parametrize(
    ("first", "second"), [(QUORUM, {}), ({}, QUORUM), (QUORUM, {"x-queue-type": "classic"})], ids=str
)
def test_the_type_is_compared(peer: Peer, name: str, first: dict[str, Any], second: dict[str, Any]) -> None:
    peer.declare(1, name, durable=True, arguments=first)
    peer.send(1, "queue.declare", queue=name, durable=True, arguments=second)
    text = peer.expect_channel_close(1, 406, "queue.declare")
    assert text.startswith(
        f"PRECONDITION_FAILED - inequivalent arg 'x-queue-type' for queue '{name}' in vhost '/': "
    )


@reference_differs("3.10: allows it")
def test_an_exclusive_consumer(peer: Peer, name: str) -> None:
    peer.declare(1, name, durable=True, arguments=QUORUM)
    peer.send(1, "basic.consume", queue=name, exclusive=True)
    peer.expect_channel_close(1, 403, "basic.consume")


def test_a_window_for_the_channel(peer: Peer, name: str) -> None:
    peer.declare(1, name, durable=True, arguments=QUORUM)
    peer.rpc(1, "basic.qos", prefetch_count=5, **{"global": True})
    peer.send(1, "basic.consume", queue=name)
    peer.expect_connection_close(540, "basic.consume")


def test_the_ordinary_things_work(peer: Peer, name: str) -> None:
    peer.declare(1, name, durable=True, arguments=QUORUM)
    peer.confirm()
    for number in range(3):
        peer.publish_confirmed(1, "", name, b"%d" % number, delivery_mode=2)
    peer.rpc(1, "basic.qos", prefetch_count=2)
    peer.consume(1, name)
    events = [peer.deliver() for _ in range(2)]
    assert [event.body for event in events] == [b"0", b"1"]
    peer.send(1, "basic.ack", delivery_tag=events[-1].delivery_tag, multiple=True)
    assert peer.deliver().body == b"2"

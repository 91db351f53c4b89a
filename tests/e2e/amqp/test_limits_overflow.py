"""x-max-length, x-max-length-bytes and what x-overflow makes of them; delivery limits."""

from __future__ import annotations

from typing import Any

import pytest
from support.amqp_peer import Peer


def declare(peer: Peer, name: str, **arguments: Any) -> str:
    """A queue with these x-arguments, with _ for -."""
    return peer.declare(
        1, name, arguments={f"x-{key.replace('_', '-')}": value for key, value in arguments.items()}
    )


def publish(peer: Peer, queue: str, *bodies: bytes) -> list[str]:
    """Publish one by one, in confirm mode; returns "ack" or "nack" of each."""
    answers = []
    for body in bodies:
        peer.publish(1, "", queue, body)
        answers.append(peer.expect(1, "basic.ack", "basic.nack").name.removeprefix("basic."))
    return answers


@pytest.fixture(autouse=True)
def _confirms(peer: Peer) -> None:
    peer.confirm()


@pytest.mark.parametrize("overflow", [{}, {"overflow": "drop-head"}])
def test_drop_head(peer: Peer, name: str, overflow: dict[str, str]) -> None:
    declare(peer, name, max_length=2, **overflow)
    assert publish(peer, name, b"1", b"2", b"3", b"4") == ["ack"] * 4
    assert peer.drain(1, name) == [b"3", b"4"]


@pytest.mark.parametrize("overflow", ["reject-publish", "reject-publish-dlx"])
def test_reject_publish(peer: Peer, name: str, overflow: str) -> None:
    declare(peer, name, max_length=2, overflow=overflow)
    assert publish(peer, name, b"1", b"2", b"3", b"4") == ["ack", "ack", "nack", "nack"]
    assert peer.drain(1, name) == [b"1", b"2"]
    assert publish(peer, name, b"5") == ["ack"]


def test_reject_publish_without_confirms_is_silent(peer: Peer, name: str) -> None:
    declare(peer, name, max_length=1, overflow="reject-publish")
    peer.open_channel(2)
    for body in (b"1", b"2"):
        peer.publish(2, "", name, body, mandatory=True)
    assert peer.barrier(2, name) == []
    assert peer.drain(1, name) == [b"1"]


def test_a_length_of_zero(peer: Peer, name: str) -> None:
    # 0 is allowed
    declare(peer, name, max_length=0)
    publish(peer, name, b"x")
    assert peer.drain(1, name) == []
    peer.consume(1, name, no_ack=True)
    peer.publish(1, "", name, b"straight through")
    events = [peer.expect(1, "basic.deliver", "basic.ack") for _ in range(2)]
    assert [event.body for event in events if event.name == "basic.deliver"] == [b"straight through"]


def test_bytes_drop_as_many_heads_as_needed(peer: Peer, name: str) -> None:
    declare(peer, name, max_length_bytes=10)
    publish(peer, name, b"aaa", b"bbb", b"ccc")
    assert peer.counts(1, name)[0] == 3
    publish(peer, name, b"dddddd")
    assert peer.drain(1, name) == [b"ccc", b"dddddd"]


def test_a_message_over_the_bytes_of_its_queue(peer: Peer, name: str) -> None:
    declare(peer, name, max_length_bytes=10)
    publish(peer, name, b"a", b"b" * 11)
    assert peer.drain(1, name) == []


def test_bytes_reject(peer: Peer, name: str) -> None:
    declare(peer, name, max_length_bytes=10, overflow="reject-publish")
    assert publish(peer, name, b"a" * 6, b"b" * 6, b"c" * 4, b"d") == ["ack", "nack", "ack", "nack"]
    assert peer.drain(1, name) == [b"a" * 6, b"c" * 4]


def test_both_limits_apply(peer: Peer, name: str) -> None:
    declare(peer, name, max_length=3, max_length_bytes=6)
    publish(peer, name, b"1", b"2", b"3", b"4")
    assert peer.counts(1, name)[0] == 3
    publish(peer, name, b"55555")
    assert peer.drain(1, name) == [b"4", b"55555"]


def test_limits_count_only_what_is_ready(peer: Peer, name: str) -> None:
    declare(peer, name, max_length=2, overflow="reject-publish")
    publish(peer, name, b"1", b"2")
    assert peer.get(1, name, no_ack=False)
    assert peer.get(1, name, no_ack=False)
    assert publish(peer, name, b"3", b"4", b"5") == ["ack", "ack", "nack"]
    peer.send(1, "basic.nack", delivery_tag=0, multiple=True, requeue=True)
    assert sorted(peer.drain(1, name))[-2:] == [b"3", b"4"]


def test_a_requeue_over_the_limit_drops_heads(peer: Peer, name: str) -> None:
    declare(peer, name, max_length=2)
    publish(peer, name, b"1", b"2")
    for _ in range(2):
        assert peer.get(1, name, no_ack=False)
    publish(peer, name, b"3", b"4")
    peer.send(1, "basic.nack", delivery_tag=0, multiple=True, requeue=True)
    publish(peer, name, b"5")
    assert peer.drain(1, name) == [b"4", b"5"]


def test_one_rejecting_queue_of_two_nacks_once(peer: Peer, name: str) -> None:
    declare(peer, f"{name}-full", max_length=1, overflow="reject-publish")
    declare(peer, f"{name}-free")
    peer.rpc(1, "exchange.declare", exchange=name, type="fanout")
    for suffix in ("full", "free"):
        peer.rpc(1, "queue.bind", queue=f"{name}-{suffix}", exchange=name)
    for _ in range(2):
        peer.publish(1, name, "", b"x")
    first, second = (peer.expect(1, "basic.ack", "basic.nack") for _ in range(2))
    assert second.name == "basic.nack"
    assert second.delivery_tag == 2
    assert first.delivery_tag == 1
    assert peer.barrier() == []
    assert len(peer.drain(1, f"{name}-free")) == 2


def test_a_nack_is_not_covered_by_a_later_ack(peer: Peer, name: str) -> None:
    declare(peer, f"{name}-full", max_length=1, overflow="reject-publish")
    declare(peer, f"{name}-free")
    publish(peer, f"{name}-full", b"fills")
    peer.send_raw(
        b"".join(
            peer.publish_frames(1, "", f"{name}-{'full' if n % 3 == 0 else 'free'}", b"x") for n in range(30)
        )
    )
    acked: set[int] = set()
    nacked: set[int] = set()
    while len(acked) + len(nacked) < 30:
        event = peer.expect(1, "basic.ack", "basic.nack")
        tags = set(range(2, event.delivery_tag + 1)) if event.multiple else {event.delivery_tag}
        (acked if event.name == "basic.ack" else nacked).update(tags - acked - nacked)
        if event.multiple and event.name == "basic.ack":
            assert not {tag for tag in tags if (tag - 2) % 3 == 0} - nacked, "an ack covers what was rejected"
    assert nacked == {tag for tag in range(2, 32) if (tag - 2) % 3 == 0}


def test_dropped_heads_make_room_for_consumers(peer: Peer, name: str) -> None:
    declare(peer, name, max_length=1)
    peer.rpc(1, "basic.qos", prefetch_count=1)
    peer.send(1, "basic.consume", queue=name)
    peer.expect(1, "basic.consume-ok")
    for body in (b"1", b"2", b"3"):
        peer.publish(1, "", name, body)
    events = [peer.expect(1, "basic.ack", "basic.deliver") for _ in range(2)]
    delivered = next(event for event in events if event.name == "basic.deliver")
    assert delivered.body == b"1"
    peer.send(1, "basic.ack", delivery_tag=delivered.delivery_tag)
    while (event := peer.expect(1, "basic.ack", "basic.deliver")).name != "basic.deliver":
        pass
    assert event.body == b"3"


@pytest.mark.parametrize("overflow", ["drop-head", "reject-publish"])
@pytest.mark.parametrize("durable", [False, True], ids=["transient", "persistent"])
def test_what_a_consumer_takes_at_once_never_counts(
    peer: Peer, name: str, overflow: str, durable: bool
) -> None:
    peer.declare(1, name, durable=durable, arguments={"x-max-length": 3, "x-overflow": overflow})
    peer.send(1, "basic.consume", queue=name, no_ack=True)
    peer.expect(1, "basic.consume-ok")
    count = 100  # in one breath, so that the server reads many at once
    mode = 2 if durable else 1
    peer.send_raw(
        b"".join(peer.publish_frames(1, "", name, b"%d" % n, delivery_mode=mode) for n in range(count))
    )
    bodies: list[bytes] = []
    settled = 0
    while len(bodies) < count or settled < count:
        event = peer.expect(1, "basic.deliver", "basic.ack")
        if event.name == "basic.deliver":
            bodies.append(event.body)
        else:
            settled = event.delivery_tag if event.multiple else settled + 1
    assert bodies == [b"%d" % number for number in range(count)]


# Delivery limit


def deaths(peer: Peer, queue: str, settle: str, limit: int = 50) -> int:
    """How often the message was delivered until it came no more."""
    count = 0
    while count < limit and (event := peer.get(1, queue, no_ack=False)):
        count += 1
        peer.send(1, settle, delivery_tag=event.delivery_tag, requeue=True)
        peer.barrier(1, queue)
    return count


def test_a_delivery_limit(peer: Peer, name: str) -> None:
    # a limit of 3 is 4 deliveries
    peer.declare(1, name, durable=True, arguments={"x-queue-type": "quorum", "x-delivery-limit": 3})
    publish(peer, name, b"x")
    assert deaths(peer, name, "basic.reject") == 4


def test_the_delivery_count_is_told(peer: Peer, name: str) -> None:
    # from the second delivery
    peer.declare(1, name, durable=True, arguments={"x-queue-type": "quorum"})
    publish(peer, name, b"x")
    for count in range(3):
        event = peer.get(1, name, no_ack=False)
        assert event is not None
        headers = event.properties.get("headers", {})
        assert headers.get("x-delivery-count", 0) == count
        peer.send(1, "basic.reject", delivery_tag=event.delivery_tag, requeue=True)
        peer.barrier(1, name)


def test_a_classic_queue_has_no_delivery_limit(peer: Peer, name: str) -> None:
    peer.declare(1, name)
    publish(peer, name, b"x")
    assert deaths(peer, name, "basic.reject") == 50

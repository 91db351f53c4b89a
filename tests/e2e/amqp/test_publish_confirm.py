"""Publishing: confirms, returns, missing exchanges."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from support.amqp_peer import Event, Peer

Connect = Callable[..., Peer]


def confirmed(peer: Peer, count: int) -> tuple[set[int], set[int], list[Event]]:
    """Read confirms until `count` tags are settled; returns acked tags, nacked tags, returns.

    Checks that no tag is settled twice, and that a multiple settles something.
    """
    acked: set[int] = set()
    nacked: set[int] = set()
    returns: list[Event] = []
    while len(acked) + len(nacked) < count:
        event = peer.expect(1, "basic.ack", "basic.nack", "basic.return")
        if event.name == "basic.return":
            returns.append(event)
            continue
        settled = set(range(1, event.delivery_tag + 1)) if event.multiple else {event.delivery_tag}
        new = settled - acked - nacked
        assert new if event.multiple else settled == new, f"{event} settles nothing new"
        (acked if event.name == "basic.ack" else nacked).update(new)
    return acked, nacked, returns


def test_confirms_count_from_confirm_select(peer: Peer, name: str) -> None:
    peer.declare(1, name, exclusive=True)
    peer.publish(1, "", name, b"before")
    peer.confirm()
    peer.publish(1, "", name, b"1")
    peer.send(1, "queue.bind", queue=name, exchange="amq.direct", routing_key=name, nowait=True)
    peer.publish(1, "", "nowhere", b"2")
    peer.publish(1, "", "nowhere", b"3", mandatory=True)
    peer.publish(1, "", name, b"4")
    acked, nacked, returns = confirmed(peer, 4)
    assert acked == {1, 2, 3, 4}
    assert nacked == set()
    assert [event.body for event in returns] == [b"3"]


@pytest.mark.parametrize("persistent", [False, True])
def test_every_publish_is_confirmed_once(peer: Peer, name: str, persistent: bool) -> None:
    peer.declare(1, name, durable=True)
    peer.confirm()
    mode = 2 if persistent else 1
    peer.send_raw(
        b"".join(peer.publish_frames(1, "", name, b"%d" % n, delivery_mode=mode) for n in range(1000))
    )
    acked, nacked, _ = confirmed(peer, 1000)
    assert acked == set(range(1, 1001))
    assert nacked == set()
    assert peer.barrier(1, name) == []
    assert peer.rpc(1, "queue.purge", queue=name).message_count == 1000


def test_confirm_select_again_is_fine(peer: Peer) -> None:
    peer.confirm()
    peer.publish_confirmed(1, "", "nowhere")
    peer.confirm()
    assert peer.publish_confirmed(1, "", "nowhere").delivery_tag == 2


def test_confirm_select_without_an_answer(peer: Peer) -> None:
    peer.send(1, "confirm.select", nowait=True)
    assert peer.publish_confirmed(1, "", "nowhere").delivery_tag == 1


def test_confirms_are_per_channel(peer: Peer) -> None:
    peer.open_channel(2)
    for channel in (1, 2):
        peer.confirm(channel)
    for channel in (1, 2):
        assert peer.publish_confirmed(channel, "", "nowhere").delivery_tag == 1


def test_a_return_comes_before_its_ack(peer: Peer) -> None:
    peer.confirm()
    frames = b""
    for number in range(20):
        frames += peer.publish_frames(1, "", "nowhere", b"%d" % number, mandatory=number % 2 == 0)
    peer.send_raw(frames)
    returned: list[bytes] = []
    settled = 0
    while settled < 20:
        event = peer.expect(1, "basic.ack", "basic.return")
        if event.name == "basic.return":
            returned.append(event.body)
            continue
        settled = max(settled, event.delivery_tag)
        # Nothing is acked whose return is still to come.
        assert len(returned) >= (settled + 1) // 2 if event.multiple else True
        assert event.delivery_tag % 2 == 0 or b"%d" % (event.delivery_tag - 1) in returned
    assert returned == [b"%d" % number for number in range(0, 20, 2)]


def test_a_return_brings_back_everything(peer: Peer) -> None:
    properties = {"content_type": "a/b", "headers": {"h": 1}, "message_id": "m"}
    body = bytes(range(256)) * 1000
    peer.publish(1, "amq.direct", "nobody", body, mandatory=True, **properties)
    event = peer.expect(1, "basic.return")
    assert (event.reply_code, event.reply_text) == (312, "NO_ROUTE")
    assert (event.exchange, event.routing_key) == ("amq.direct", "nobody")
    assert event.properties == properties
    assert event.body == body


def test_nothing_comes_back_that_was_routed(peer: Peer, name: str) -> None:
    peer.declare(1, name, exclusive=True)
    peer.confirm()
    peer.publish_confirmed(1, "", name, b"x", mandatory=True)
    assert peer.barrier() == []


def test_without_mandatory_the_unroutable_is_dropped(peer: Peer) -> None:
    peer.publish(1, "", "nowhere", b"x")
    peer.publish(1, "amq.topic", "nowhere", b"x")
    assert peer.barrier() == []


def test_publishing_to_a_missing_exchange(peer: Peer, name: str) -> None:
    peer.open_channel(2)
    peer.publish(1, name, "k", b"x")
    peer.expect_channel_close(1, 404, "basic.publish", f"NOT_FOUND - no exchange '{name}' in vhost '/'")
    assert peer.barrier(2) == []


def test_immediate(peer: Peer) -> None:
    peer.publish(1, "", "nowhere", b"x", immediate=True)
    peer.expect_connection_close(540, "basic.publish", "NOT_IMPLEMENTED - immediate=true")


def test_a_queue_deleted_with_its_message_still_confirms(peer: Peer, name: str) -> None:
    peer.declare(1, name, durable=True)
    peer.confirm()
    peer.send_raw(
        peer.publish_frames(1, "", name, b"x", delivery_mode=2)
        + peer.method_frame(1, "queue.delete", queue=name)
    )
    names = {peer.expect(1, "basic.ack", "queue.delete-ok").name for _ in range(2)}
    assert names == {"basic.ack", "queue.delete-ok"}


def test_confirms_of_many_queues(peer: Peer, name: str) -> None:
    # durable and transient queues behind one exchange, all confirmed, each once
    peer.rpc(1, "exchange.declare", exchange=name, type="fanout")
    for number in range(4):
        peer.declare(1, f"{name}-{number}", durable=number % 2 == 0)
        peer.rpc(1, "queue.bind", queue=f"{name}-{number}", exchange=name)
    peer.confirm()
    peer.send_raw(
        b"".join(
            peer.publish_frames(
                1, *(("", f"{name}-1") if n % 3 else (name, "")), b"x", delivery_mode=1 + n % 2
            )
            for n in range(300)
        )
    )
    acked, nacked, _ = confirmed(peer, 300)
    assert acked == set(range(1, 301))
    assert nacked == set()
    assert len(peer.drain(1, f"{name}-0")) == 100
    assert len(peer.drain(1, f"{name}-1")) == 300


def test_order_is_kept(peer: Peer, name: str) -> None:
    peer.declare(1, name, exclusive=True)
    bodies = [b"%d" % number for number in range(500)]
    peer.send_raw(b"".join(peer.publish_frames(1, "", name, body) for body in bodies))
    peer.consume(1, name, no_ack=True)
    assert [peer.deliver().body for _ in bodies] == bodies


def test_a_message_may_be_published_by_one_and_got_by_another(connect: Connect, name: str) -> None:
    publisher, consumer = connect(), connect()
    consumer.declare(1, name)
    tag = consumer.consume(1, name, no_ack=True)
    publisher.publish(1, "", name, b"x", content_type="a/b")
    event = consumer.deliver()
    assert (event.consumer_tag, event.exchange, event.routing_key, event.redelivered) == (
        tag,
        "",
        name,
        False,
    )
    assert (event.body, event.properties) == (b"x", {"content_type": "a/b"})

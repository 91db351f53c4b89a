"""Deliveries and what is done with them: tags, ack, nack, requeue order, redelivered, cancel, consumers' rules."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable

import pytest
from support.amqp_peer import CAPABILITIES, Peer
from support.server import LeveretServer, poll, reference_differs

Connect = Callable[..., Peer]


def fill(peer: Peer, queue: str, count: int, **declare: object) -> list[bytes]:
    """Declare and publish `count` messages, which are in the queue on return; their bodies are 0, 1, ..."""
    peer.declare(1, queue, **declare)
    bodies = [b"%d" % number for number in range(count)]
    for body in bodies:
        peer.publish(1, "", queue, body)
    poll(lambda: peer.counts(1, queue)[0] == count, "the messages have not come")
    return bodies


# Tags


def test_delivery_tags_are_the_channels(peer: Peer, name: str) -> None:
    fill(peer, name, 6)
    peer.open_channel(2)
    assert [event.delivery_tag for _ in range(2) if (event := peer.get(1, name, no_ack=False))] == [1, 2]
    got = peer.get(2, name, no_ack=False)
    assert got is not None
    assert got.delivery_tag == 1
    peer.rpc(1, "basic.qos", prefetch_count=1)
    peer.consume(1, name, consumer_tag="a")
    assert peer.deliver(1).delivery_tag == 3
    peer.consume(1, name, consumer_tag="b")
    assert peer.deliver(1).delivery_tag == 4
    got = peer.get(1, name)
    assert got is not None
    assert got.delivery_tag == 5


@pytest.mark.parametrize("method", ["basic.ack", "basic.nack"])
def test_multiple_covers_all_consumers_of_the_channel(peer: Peer, name: str, method: str) -> None:
    fill(peer, name, 4)
    peer.rpc(1, "basic.qos", prefetch_count=2)
    peer.consume(1, name)
    peer.deliver(), peer.deliver()
    peer.consume(1, name)
    peer.deliver(), peer.deliver()
    peer.send(1, method, delivery_tag=3, multiple=True)
    assert peer.barrier(1, name) == []
    peer.rpc(1, "channel.close", reply_code=200)
    peer.open_channel(1)
    assert peer.drain(1, name) == [b"3"]


def test_tag_0_is_everything(peer: Peer, name: str) -> None:
    fill(peer, name, 3)
    peer.send(1, "basic.ack", delivery_tag=0, multiple=True)  # nothing outstanding: fine
    for _ in range(3):
        peer.get(1, name, no_ack=False)
    peer.send(1, "basic.nack", delivery_tag=0, multiple=True, requeue=True)
    assert peer.drain(1, name) == [b"0", b"1", b"2"]


UNKNOWN = "PRECONDITION_FAILED - unknown delivery tag {0}"


@pytest.mark.parametrize("method", ["basic.ack", "basic.nack", "basic.reject"])
def test_an_unknown_tag(peer: Peer, method: str) -> None:
    peer.send(1, method, delivery_tag=7)
    peer.expect_channel_close(1, 406, method, UNKNOWN.format(7))


def test_tag_0_alone_is_unknown(peer: Peer) -> None:
    peer.send(1, "basic.ack", delivery_tag=0)
    peer.expect_channel_close(1, 406, "basic.ack", UNKNOWN.format(0))


def test_acking_twice(peer: Peer, name: str) -> None:
    fill(peer, name, 1)
    peer.get(1, name, no_ack=False)
    peer.send(1, "basic.ack", delivery_tag=1)
    peer.send(1, "basic.ack", delivery_tag=1)
    peer.expect_channel_close(1, 406, "basic.ack", UNKNOWN.format(1))


def test_acking_what_needed_no_ack(peer: Peer, name: str) -> None:
    fill(peer, name, 1)
    peer.get(1, name)
    peer.send(1, "basic.ack", delivery_tag=1)
    peer.expect_channel_close(1, 406, "basic.ack", UNKNOWN.format(1))


def test_acking_on_another_channel(peer: Peer, name: str) -> None:
    fill(peer, name, 1)
    peer.open_channel(2)
    peer.get(1, name, no_ack=False)
    peer.send(2, "basic.ack", delivery_tag=1)
    peer.expect_channel_close(2, 406, "basic.ack", UNKNOWN.format(1))


def test_multiple_up_to_a_tag_that_is_not_outstanding(peer: Peer, name: str) -> None:
    fill(peer, name, 3)
    for _ in range(3):
        peer.get(1, name, no_ack=False)
    peer.send(1, "basic.ack", delivery_tag=2)
    peer.send(1, "basic.ack", delivery_tag=2, multiple=True)
    peer.expect_channel_close(1, 406, "basic.ack", UNKNOWN.format(2))
    peer.open_channel(1)
    assert peer.drain(1, name) == [b"0", b"2"]


def test_acks_in_any_order(peer: Peer, name: str) -> None:
    fill(peer, name, 5)
    consumer = peer.consume(1, name)
    for _ in range(5):
        peer.deliver()
    for tag in (4, 1, 5):
        peer.send(1, "basic.ack", delivery_tag=tag)
    peer.send(1, "basic.ack", delivery_tag=3, multiple=True)
    peer.rpc(1, "basic.cancel", consumer_tag=consumer)
    peer.rpc(1, "basic.recover", requeue=True)
    assert peer.drain(1, name) == []


# Requeue


def requeue(peer: Peer, how: str) -> None:
    if how == "nack":
        peer.send(1, "basic.nack", delivery_tag=0, multiple=True, requeue=True)
    elif how == "nack upwards":
        for tag in (1, 2, 3):
            peer.send(1, "basic.nack", delivery_tag=tag, requeue=True)
    elif how == "reject downwards":
        for tag in (3, 2, 1):
            peer.send(1, "basic.reject", delivery_tag=tag, requeue=True)
    elif how == "recover":
        peer.rpc(1, "basic.recover", requeue=True)
    else:
        peer.rpc(1, "channel.close", reply_code=200)
        peer.open_channel(1)


@pytest.mark.parametrize("how", ["nack", "nack upwards", "reject downwards", "recover", "channel close"])
def test_a_requeue_goes_back_to_its_place(peer: Peer, name: str, how: str) -> None:
    fill(peer, name, 5)
    for _ in range(3):
        peer.get(1, name, no_ack=False)
    requeue(peer, how)
    assert peer.drain(1, name) == [b"0", b"1", b"2", b"3", b"4"]


def test_a_requeue_into_the_middle(peer: Peer, name: str) -> None:
    fill(peer, name, 6)
    for _ in range(4):
        peer.get(1, name, no_ack=False)
    peer.send(1, "basic.nack", delivery_tag=2, requeue=True)
    peer.send(1, "basic.nack", delivery_tag=4, requeue=True)
    assert peer.drain(1, name) == [b"1", b"3", b"4", b"5"]


@pytest.mark.parametrize("how", ["nack", "reject downwards", "recover", "channel close"])
def test_redelivered_after_a_requeue(peer: Peer, name: str, how: str) -> None:
    fill(peer, name, 5)
    for _ in range(3):
        event = peer.get(1, name, no_ack=False)
        assert event is not None
        assert event.redelivered is False
    requeue(peer, how)
    got = [peer.get(1, name) for _ in range(5)]
    assert [event.redelivered for event in got if event] == [True, True, True, False, False]


def test_redelivered_though_never_read(connect: Connect, name: str) -> None:
    peer, other = connect(), connect()
    fill(peer, name, 2)
    other.consume(1, name)
    poll(lambda: peer.counts(1, name)[0] == 0, "not delivered")
    other.close()
    poll(lambda: peer.counts(1, name)[0] == 2, "not returned")
    got = [peer.get(1, name) for _ in range(2)]
    assert [event.redelivered for event in got if event] == [True, True]


def test_a_nack_without_requeue_drops(peer: Peer, name: str) -> None:
    fill(peer, name, 3)
    for _ in range(3):
        peer.get(1, name, no_ack=False)
    peer.send(1, "basic.nack", delivery_tag=2, multiple=True)
    peer.send(1, "basic.reject", delivery_tag=3)
    assert peer.barrier(1, name) == []
    assert peer.drain(1, name) == []


def test_a_requeued_message_goes_to_another_consumer(connect: Connect, name: str) -> None:
    one, two = connect(), connect()
    one.declare(1, name)
    one.rpc(1, "basic.qos", prefetch_count=1)
    one.consume(1, name)
    one.publish(1, "", name, b"x")
    assert one.deliver().redelivered is False
    two.consume(1, name)
    one.send(1, "channel.close", reply_code=200)
    event = two.deliver()
    assert (event.body, event.redelivered) == (b"x", True)


def test_recover_false_is_not_implemented(peer: Peer) -> None:
    peer.send(1, "basic.recover", requeue=False)
    peer.expect_connection_close(540, "basic.recover", "NOT_IMPLEMENTED - requeue=false")


def test_recover_async_is_not_answered(peer: Peer, name: str) -> None:
    fill(peer, name, 2)
    peer.get(1, name, no_ack=False)
    peer.send(1, "basic.recover-async", requeue=True)
    assert peer.barrier(1, name) == []
    assert peer.drain(1, name) == [b"0", b"1"]


def test_recover_redelivers_to_the_same_consumer(peer: Peer, name: str) -> None:
    fill(peer, name, 2)
    peer.consume(1, name)
    assert [peer.deliver().body for _ in range(2)] == [b"0", b"1"]
    peer.send(1, "basic.recover", requeue=True)
    events = [peer.expect(1, "basic.recover-ok", "basic.deliver") for _ in range(3)]
    again = [event for event in events if event.name == "basic.deliver"]
    assert [(event.body, event.redelivered, event.delivery_tag) for event in again] == [
        (b"0", True, 3),
        (b"1", True, 4),
    ]


# Get


def test_get_from_an_empty_queue(peer: Peer, name: str) -> None:
    peer.declare(1, name)
    peer.send(1, "basic.get", queue=name)
    assert peer.expect(1, "basic.get-empty").cluster_id == ""


def test_get_counts_what_is_left(peer: Peer, name: str) -> None:
    fill(peer, name, 3)
    got = [peer.get(1, name, no_ack=False) for _ in range(3)]
    assert [event.message_count for event in got if event] == [2, 1, 0]


def test_get_is_not_limited_by_prefetch(peer: Peer, name: str) -> None:
    fill(peer, name, 3)
    peer.rpc(1, "basic.qos", prefetch_count=1)
    assert all(peer.get(1, name, no_ack=False) for _ in range(3))


# Consumers


def test_consume_ok_comes_before_the_first_delivery(peer: Peer, name: str) -> None:
    fill(peer, name, 3)
    peer.send(1, "basic.consume", queue=name, no_ack=True)
    peer.expect(1, "basic.consume-ok")
    assert [peer.deliver().body for _ in range(3)] == [b"0", b"1", b"2"]


def test_consuming_without_an_answer(peer: Peer, name: str) -> None:
    fill(peer, name, 1)
    peer.send(1, "basic.consume", queue=name, consumer_tag="mine", no_ack=True, nowait=True)
    assert peer.deliver().consumer_tag == "mine"


def test_server_named_consumers(peer: Peer, name: str) -> None:
    peer.declare(1, name)
    one, two = peer.consume(1, name), peer.consume(1, name)
    assert one != two
    assert one.startswith("amq.ctag-")
    assert len(one) == len("amq.ctag-") + 22


def test_a_consumer_tag_used_twice(peer: Peer, name: str) -> None:
    peer.declare(1, name)
    peer.open_channel(2)
    peer.consume(1, name, consumer_tag="x")
    peer.consume(2, name, consumer_tag="x")
    peer.send(1, "basic.consume", queue=name, consumer_tag="x")
    peer.expect_connection_close(530, "basic.consume", "NOT_ALLOWED - attempt to reuse consumer tag 'x'")


def test_a_consumer_tag_may_be_used_again_after_cancel(peer: Peer, name: str) -> None:
    peer.declare(1, name)
    for _ in range(2):
        peer.consume(1, name, consumer_tag="x")
        peer.rpc(1, "basic.cancel", consumer_tag="x")


def test_consuming_from_what_is_missing(peer: Peer, name: str) -> None:
    peer.send(1, "basic.consume", queue=name)
    peer.expect_channel_close(1, 404, "basic.consume", f"NOT_FOUND - no queue '{name}' in vhost '/'")


def test_exclusive_consumers(peer: Peer, name: str) -> None:
    peer.declare(1, name)
    text = f"ACCESS_REFUSED - queue '{name}' in vhost '/' in exclusive use"
    for channel in (2, 3):
        peer.open_channel(channel)
    peer.consume(1, name, exclusive=True, consumer_tag="x")
    peer.send(2, "basic.consume", queue=name)
    peer.expect_channel_close(2, 403, "basic.consume", text)
    peer.rpc(1, "basic.cancel", consumer_tag="x")
    peer.consume(1, name)
    peer.send(3, "basic.consume", queue=name, exclusive=True)
    peer.expect_channel_close(3, 403, "basic.consume", text)


def test_no_local_is_ignored(peer: Peer, name: str) -> None:
    fill(peer, name, 1)
    peer.consume(1, name, no_local=True, no_ack=True)
    peer.deliver()


def test_no_ack_messages_are_gone_when_sent(peer: Peer, name: str) -> None:
    fill(peer, name, 3)
    peer.open_channel(2)
    peer.rpc(2, "basic.qos", prefetch_count=1)
    peer.consume(2, name, no_ack=True)
    for _ in range(3):
        peer.deliver(2)
    peer.rpc(2, "channel.close", reply_code=200)
    assert peer.counts(1, name) == (0, 0)


def test_two_idle_consumers_share_alike(connect: Connect, name: str) -> None:
    # round robin is observable
    one, two = connect(), connect()
    one.declare(1, name)
    one.consume(1, name, no_ack=True)
    two.consume(1, name, no_ack=True)
    for number in range(10):
        one.publish(1, "", name, b"%d" % number)
    assert len([one.deliver() for _ in range(5)]) == len([two.deliver() for _ in range(5)])
    assert one.barrier(1, name) == two.barrier(1, name) == []


def test_consumers_on_one_channel_take_turns(peer: Peer, name: str) -> None:
    peer.declare(1, name)
    tags = [peer.consume(1, name, no_ack=True) for _ in range(3)]
    for number in range(9):
        peer.publish(1, "", name, b"%d" % number)
    assert Counter(peer.deliver().consumer_tag for _ in range(9)) == dict.fromkeys(tags, 3)


def test_consumer_priorities(peer: Peer, name: str) -> None:
    peer.declare(1, name)
    peer.rpc(1, "basic.qos", prefetch_count=2)
    peer.consume(1, name, consumer_tag="low")
    peer.consume(1, name, consumer_tag="high", arguments={"x-priority": 10})
    for number in range(4):
        peer.publish(1, "", name, b"%d" % number)
    events = {event.body: event.consumer_tag for event in (peer.deliver() for _ in range(4))}
    assert events == {b"0": "high", b"1": "high", b"2": "low", b"3": "low"}


def test_an_invalid_consumer_priority(peer: Peer, name: str) -> None:
    peer.declare(1, name)
    peer.send(1, "basic.consume", queue=name, arguments={"x-priority": "high"})
    peer.expect_channel_close(1, 406, "basic.consume")


# Cancel


def test_cancel(peer: Peer, name: str) -> None:
    # deliveries on the way come before cancel-ok, none after
    fill(peer, name, 3)
    tag = peer.consume(1, name)
    peer.send(1, "basic.cancel", consumer_tag=tag)
    before = 0
    while (event := peer.expect(1, "basic.deliver", "basic.cancel-ok")).name == "basic.deliver":
        before += 1
    assert event.consumer_tag == tag
    peer.publish(1, "", name, b"after")
    assert peer.barrier(1, name) == []
    assert before == 3
    peer.send(1, "basic.ack", delivery_tag=1)  # they stay unacked, and can be acked
    peer.rpc(1, "basic.recover", requeue=True)
    assert peer.drain(1, name) == [b"1", b"2", b"after"]


def test_cancelling_an_unknown_consumer(peer: Peer) -> None:
    assert peer.rpc(1, "basic.cancel", consumer_tag="nobody").consumer_tag == "nobody"


def test_cancelling_without_an_answer(peer: Peer, name: str) -> None:
    peer.declare(1, name)
    peer.consume(1, name, consumer_tag="x")
    peer.send(1, "basic.cancel", consumer_tag="x", nowait=True)
    assert peer.barrier(1, name) == []
    assert peer.counts(1, name) == (0, 0)


@pytest.mark.parametrize("where", ["this channel", "another channel", "another connection"])
def test_a_deleted_queue_cancels_its_consumers(connect: Connect, name: str, where: str) -> None:
    peer, other = connect(), connect()
    peer.open_channel(2)
    peer.declare(1, name)
    peer.consume(1, name, consumer_tag="x")
    if where == "this channel":
        peer.send(1, "queue.delete", queue=name)
        events = [peer.expect(1, "basic.cancel", "queue.delete-ok") for _ in range(2)]
        cancel = next(event for event in events if event.name == "basic.cancel")
    else:
        (other if where == "another connection" else peer).rpc(
            2 if where == "another channel" else 1, "queue.delete", queue=name
        )
        cancel = peer.expect(1, "basic.cancel")
    assert (cancel.consumer_tag, cancel.nowait) == ("x", True)
    assert peer.barrier() == []


@reference_differs("3.10: does not know it")
def test_a_clients_cancel_ok_is_accepted(peer: Peer, name: str) -> None:
    peer.declare(1, name)
    peer.consume(1, name, consumer_tag="x")
    peer.open_channel(2)
    peer.rpc(2, "queue.delete", queue=name)
    peer.expect(1, "basic.cancel")
    peer.send(1, "basic.cancel-ok", consumer_tag="x")
    assert peer.barrier() == []


def test_no_cancel_for_clients_that_do_not_know_it(connect: Connect, name: str) -> None:
    peer, other = connect(capabilities=CAPABILITIES | {"consumer_cancel_notify": False}), connect()
    peer.declare(1, name)
    peer.consume(1, name)
    other.rpc(1, "queue.delete", queue=name)
    assert peer.barrier() == []


def test_what_a_deleted_queue_delivered_may_still_be_acked(peer: Peer, name: str) -> None:
    fill(peer, name, 2)
    for _ in range(2):
        peer.get(1, name, no_ack=False)
    peer.rpc(1, "queue.delete", queue=name)
    peer.send(1, "basic.ack", delivery_tag=1)
    peer.send(1, "basic.nack", delivery_tag=2, requeue=True)
    assert peer.barrier() == []


# Timeout


def test_a_consumer_that_takes_too_long(server: Callable[..., LeveretServer], name: str) -> None:
    with server(settings={"LEVERET_LIMITS_CONSUMER_TIMEOUT_MS": "300"}).peer() as peer:
        fill(peer, name, 2)
        peer.get(1, name, no_ack=False)
        event = peer.expect(1, "channel.close")
        assert (event.reply_code, event.class_id, event.method_id) == (406, 0, 0)
        assert event.reply_text == (
            "PRECONDITION_FAILED - delivery acknowledgement on channel 1 timed out. Timeout value used: 300 ms. "
            "This timeout value can be configured, see consumers doc guide to learn more"
        )
        peer.send(1, "channel.close-ok")
        peer.open_channel(1)
        assert peer.drain(1, name) == [b"0", b"1"]

"""Queues and exchanges: declare, delete, purge; equivalence, reserved names, exclusivity, auto-delete."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from support.amqp_peer import Peer
from support.amqp_wire import Typed
from support.server import poll, reference_differs

Connect = Callable[..., Peer]

LOCKED = (
    "RESOURCE_LOCKED - cannot obtain exclusive access to locked queue '{0}' in vhost '/'. It could be originally "
    "declared on another connection or the exclusive property value does not match that of the original declaration."
)


def exists(peer: Peer, queue: str, channel: int = 1) -> bool:
    peer.send(channel, "queue.declare", queue=queue, passive=True)
    if peer.expect(channel, "queue.declare-ok", "channel.close").name == "queue.declare-ok":
        return True
    peer.send(channel, "channel.close-ok")
    peer.open_channel(channel)
    return False


def exchange_exists(peer: Peer, exchange: str) -> bool:
    peer.send(1, "exchange.declare", exchange=exchange, passive=True, type="direct")
    if peer.expect(1, "exchange.declare-ok", "channel.close").name == "exchange.declare-ok":
        return True
    peer.send(1, "channel.close-ok")
    peer.open_channel(1)
    return False


# Names


def test_line_ends_are_removed_from_names(peer: Peer, name: str) -> None:
    assert peer.declare(1, f"\r{name}\r\n", exclusive=True) == name
    peer.rpc(1, "exchange.declare", exchange=f"{name}\n", type="fanout")
    peer.rpc(1, "exchange.declare", exchange=name, type="fanout", passive=True)
    peer.rpc(1, "exchange.delete", exchange=name)


@reference_differs("3.10: only in declare, delete and bind")
def test_line_ends_are_removed_from_names_to_get_from(peer: Peer, name: str) -> None:
    peer.declare(1, name, exclusive=True)
    assert peer.get(1, f"{name}\n") is None
    peer.consume(1, f"{name}\r\n")


@pytest.mark.parametrize("tail", ["", " with spaces ", "/slash", "é", "%41"])
def test_names_of_any_characters(peer: Peer, name: str, tail: str) -> None:
    queue = f"{name}{tail}"
    assert peer.declare(1, queue, exclusive=True) == queue
    peer.publish(1, "", queue, b"x")
    assert peer.drain(1, queue) == [b"x"]


def test_a_name_of_255_octets(peer: Peer, name: str) -> None:
    queue = name.ljust(255, "n")
    assert peer.declare(1, queue, exclusive=True) == queue


def test_server_named_queues(peer: Peer) -> None:
    one, two = peer.declare(1, exclusive=True), peer.declare(1, exclusive=True)
    assert one != two
    assert one.startswith("amq.gen-")


@pytest.mark.parametrize(
    ("method", "arguments"),
    [
        ("basic.get", {}), ("basic.consume", {}), ("queue.purge", {}), ("queue.delete", {}),
        ("queue.bind", {"exchange": "amq.fanout"}), ("queue.unbind", {"exchange": "amq.fanout"}),
    ],
)  # fmt: skip
def test_no_name_on_a_new_channel(peer: Peer, method: str, arguments: dict[str, Any]) -> None:
    peer.send(1, method, **arguments)
    peer.expect_channel_close(1, 404, method, "NOT_FOUND - no previously declared queue")


def test_no_name_means_the_last_declared(peer: Peer, name: str) -> None:
    peer.declare(1, f"{name}-1", exclusive=True)
    peer.declare(1, f"{name}-2", exclusive=True)
    peer.rpc(1, "queue.bind", exchange="amq.direct")  # no key either: the queue's name is the key
    peer.publish(1, "amq.direct", f"{name}-2", b"x")
    poll(lambda: peer.counts(1, f"{name}-2") == (1, 0), "the message has not come")
    assert peer.rpc(1, "queue.purge").message_count == 1
    peer.rpc(1, "queue.unbind", exchange="amq.direct")
    peer.publish(1, "amq.direct", f"{name}-2", b"x")
    peer.counts(1, f"{name}-1")  # a passive declare is remembered, too
    peer.publish(1, "", f"{name}-1", b"one")
    got = peer.get(1, "")
    assert got is not None
    assert got.body == b"one"
    peer.rpc(1, "queue.delete")
    assert exists(peer, f"{name}-2")
    assert not exists(peer, f"{name}-1")


def test_no_name_means_the_last_declared_on_this_channel(peer: Peer, name: str) -> None:
    peer.open_channel(2)
    peer.declare(1, name, exclusive=True)
    peer.send(2, "basic.get")
    peer.expect_channel_close(2, 404, "basic.get", "NOT_FOUND - no previously declared queue")


# Reserved names


def test_queues_may_not_be_called_amq(peer: Peer) -> None:
    peer.send(1, "queue.declare", queue="amq.mine")
    peer.expect_channel_close(
        1, 403, "queue.declare",
        "ACCESS_REFUSED - queue name 'amq.mine' contains reserved prefix 'amq.*'",
    )  # fmt: skip


def test_redeclaring_a_server_named_queue_by_name(peer: Peer) -> None:
    queue = peer.declare(1, exclusive=True)
    peer.counts(1, queue)
    peer.send(1, "queue.declare", queue=queue, exclusive=True)
    peer.expect_channel_close(
        1, 403, "queue.declare",
        f"ACCESS_REFUSED - queue name '{queue}' contains reserved prefix 'amq.*'",
    )  # fmt: skip


def test_the_prefix_is_compared_octet_by_octet(peer: Peer, name: str) -> None:
    assert peer.declare(1, f"AMQ.{name}", exclusive=True) == f"AMQ.{name}"
    assert peer.declare(1, f"amq{name}", exclusive=True) == f"amq{name}"


def test_exchanges_may_not_be_called_amq(peer: Peer) -> None:
    peer.send(1, "exchange.declare", exchange="amq.mine", type="direct")
    peer.expect_channel_close(
        1, 403, "exchange.declare",
        "ACCESS_REFUSED - exchange name 'amq.mine' contains reserved prefix 'amq.*'",
    )  # fmt: skip


@pytest.mark.parametrize(
    ("exchange", "kind"),
    [
        ("amq.direct", "direct"), ("amq.fanout", "fanout"), ("amq.topic", "topic"), ("amq.headers", "headers"),
        ("amq.match", "headers"),
    ],
)  # fmt: skip
def test_predeclared_exchanges_may_be_redeclared(peer: Peer, exchange: str, kind: str) -> None:
    peer.rpc(1, "exchange.declare", exchange=exchange, type=kind, durable=True)


def test_predeclared_exchanges_may_not_be_deleted(peer: Peer) -> None:
    peer.send(1, "exchange.delete", exchange="amq.topic")
    text = peer.expect_channel_close(1, 403, "exchange.delete")
    assert text in (
        "ACCESS_REFUSED - deletion of system exchange 'amq.topic' in vhost '/' not allowed",
        "ACCESS_REFUSED - deletion of system exchange 'amq.topic' is not allowed",
    )


@pytest.mark.parametrize(
    ("method", "arguments"),
    [
        ("exchange.declare", {"exchange": "", "type": "direct"}),
        ("exchange.delete", {"exchange": ""}),
        ("queue.bind", {"exchange": "", "routing_key": "k"}),
        ("queue.unbind", {"exchange": "", "routing_key": "k"}),
        ("exchange.bind", {"source": "", "destination": "amq.direct"}),
        ("exchange.unbind", {"source": "amq.direct", "destination": ""}),
    ],
)
def test_the_default_exchange_is_not_to_be_touched(
    peer: Peer, name: str, method: str, arguments: dict[str, Any]
) -> None:
    if method.startswith("queue"):
        arguments = arguments | {"queue": peer.declare(1, name, exclusive=True)}
    peer.send(1, method, **arguments)
    peer.expect_channel_close(
        1, 403, method, "ACCESS_REFUSED - operation not permitted on the default exchange"
    )


# Equivalence


@pytest.mark.parametrize(
    ("first", "second", "text"),
    [
        ({"durable": True}, {}, "inequivalent arg 'durable' for queue '{0}' in vhost '/': received 'false' but current is 'true'"),
        ({}, {"auto_delete": True}, "inequivalent arg 'auto_delete' for queue '{0}' in vhost '/': received 'true' but current is 'false'"),
        ({}, {"arguments": {"x-max-length": 10}},
         "inequivalent arg 'x-max-length' for queue '{0}' in vhost '/': received the value '10' of type 'signedint' but current is none"),
        ({"arguments": {"x-message-ttl": 10}}, {},
         "inequivalent arg 'x-message-ttl' for queue '{0}' in vhost '/': received none but current is the value '10' of type 'signedint'"),
        ({"arguments": {"x-expires": 100000}}, {"arguments": {"x-expires": Typed("l", 100001)}},
         "inequivalent arg 'x-expires' for queue '{0}' in vhost '/': received '100001' but current is '100000'"),
        ({"arguments": {"x-dead-letter-exchange": "a"}}, {"arguments": {"x-dead-letter-exchange": "b"}},
         "inequivalent arg 'x-dead-letter-exchange' for queue '{0}' in vhost '/': received 'b' but current is 'a'"),
        ({"durable": True}, {"auto_delete": True, "arguments": {"x-max-length": 1}},
         "inequivalent arg 'durable' for queue '{0}' in vhost '/': received 'false' but current is 'true'"),
    ],
    ids=["durable", "auto-delete", "added", "missing", "number", "string", "order"],
)  # fmt: skip
def test_an_inequivalent_queue(
    peer: Peer, name: str, first: dict[str, Any], second: dict[str, Any], text: str
) -> None:
    peer.declare(1, name, **first)
    peer.send(1, "queue.declare", queue=name, **second)
    peer.expect_channel_close(1, 406, "queue.declare", "PRECONDITION_FAILED - " + text.format(name))


@pytest.mark.parametrize(
    ("first", "second"),
    [
        ({"x-max-length": 10}, {"x-max-length": Typed("l", 10)}),
        ({"x-max-length": 10}, {"x-max-length": Typed("b", 10)}),
        ({"x-mine": 1}, {"x-mine": 2}),
        ({}, {"x-mine": 2}),
        ({"x-queue-type": "classic"}, {}),
        ({}, {"x-queue-type": "classic"}),
    ],
    ids=["long", "byte", "unknown", "unknown added", "no type", "classic"],
)
def test_an_equivalent_queue(peer: Peer, name: str, first: dict[str, Any], second: dict[str, Any]) -> None:
    peer.declare(1, name, durable=True, arguments=first)
    peer.declare(1, name, durable=True, arguments=second)


@pytest.mark.parametrize(
    ("second", "text"),
    [
        ({"type": "topic"}, "inequivalent arg 'type' for exchange '{0}' in vhost '/': received 'topic' but current is 'direct'"),
        ({"durable": True}, "inequivalent arg 'durable' for exchange '{0}' in vhost '/': received 'true' but current is 'false'"),
        ({"auto_delete": True}, "inequivalent arg 'auto_delete' for exchange '{0}' in vhost '/': received 'true' but current is 'false'"),
        ({"internal": True}, "inequivalent arg 'internal' for exchange '{0}' in vhost '/': received 'true' but current is 'false'"),
        ({"arguments": {"alternate-exchange": "a"}},
         "inequivalent arg 'alternate-exchange' for exchange '{0}' in vhost '/': received the value 'a' of type 'longstr' but current is none"),
    ],
    ids=["type", "durable", "auto-delete", "internal", "alternate"],
)  # fmt: skip
def test_an_inequivalent_exchange(peer: Peer, name: str, second: dict[str, Any], text: str) -> None:
    peer.rpc(1, "exchange.declare", exchange=name, type="direct")
    peer.send(1, "exchange.declare", **({"exchange": name, "type": "direct"} | second))
    peer.expect_channel_close(1, 406, "exchange.declare", "PRECONDITION_FAILED - " + text.format(name))


def test_an_exchange_with_other_unknown_arguments_is_equivalent(peer: Peer, name: str) -> None:
    peer.rpc(1, "exchange.declare", exchange=name, type="direct", arguments={"x-mine": 1})
    peer.rpc(1, "exchange.declare", exchange=name, type="direct", arguments={"x-mine": 2})


@reference_differs("3.10: closes the connection with 503")
def test_an_unknown_exchange_type(peer: Peer, name: str) -> None:
    peer.send(1, "exchange.declare", exchange=name, type="x-nonsense")
    peer.expect_channel_close(
        1, 406, "exchange.declare", "PRECONDITION_FAILED - unknown exchange type 'x-nonsense'"
    )


def test_declaring_without_an_answer(peer: Peer, name: str) -> None:
    peer.send(1, "queue.declare", queue=name, exclusive=True, nowait=True)
    peer.send(1, "exchange.declare", exchange=name, type="fanout", nowait=True)
    peer.send(1, "queue.bind", queue=name, exchange=name, nowait=True)
    peer.publish(1, name, "", b"x")
    assert peer.drain(1, name) == [b"x"]
    peer.send(1, "exchange.delete", exchange=name, nowait=True)
    peer.send(1, "queue.delete", queue=name, nowait=True)
    assert peer.barrier() == []
    assert not exists(peer, name)
    assert not exchange_exists(peer, name)


@pytest.mark.parametrize(
    "arguments",
    [
        {"x-message-ttl": -1}, {"x-message-ttl": "10"}, {"x-expires": 0}, {"x-expires": -1}, {"x-max-length": -1},
        {"x-max-length": "ten"}, {"x-max-length-bytes": -5}, {"x-max-priority": 256}, {"x-max-priority": -1},
        {"x-overflow": "explode"}, {"x-dead-letter-exchange": 5}, {"x-dead-letter-routing-key": 5},
        {"x-dead-letter-routing-key": "no exchange"}, {"x-single-active-consumer": "yes"}, {"x-queue-type": "nonsense"},
    ],
    ids=str,
)  # fmt: skip
def test_an_invalid_queue_argument(peer: Peer, name: str, arguments: dict[str, Any]) -> None:
    peer.send(1, "queue.declare", queue=name, arguments=arguments)
    peer.expect_channel_close(1, 406, "queue.declare")


def test_the_text_for_an_argument_of_a_wrong_type(peer: Peer, name: str) -> None:
    peer.send(1, "queue.declare", queue=name, arguments={"x-dead-letter-exchange": 5})
    text = peer.expect_channel_close(1, 406, "queue.declare")
    assert text.startswith("PRECONDITION_FAILED - invalid ")
    assert (
        f"arg 'x-dead-letter-exchange' for queue '{name}' in vhost '/'" in text
        or "'x-dead-letter-exchange'" in text
    )


# Passive


def test_passive_declares_compare_nothing(peer: Peer, name: str) -> None:
    peer.declare(1, name, durable=True, arguments={"x-max-length": 5})
    peer.rpc(1, "queue.declare", queue=name, passive=True, auto_delete=True, arguments={"x-max-length": 9})
    peer.rpc(1, "exchange.declare", exchange="amq.topic", type="fanout", passive=True, auto_delete=True)


def test_passive_declares_of_what_is_missing(peer: Peer, name: str) -> None:
    peer.send(1, "queue.declare", queue=name, passive=True)
    peer.expect_channel_close(1, 404, "queue.declare", f"NOT_FOUND - no queue '{name}' in vhost '/'")
    peer.open_channel(1)
    peer.send(1, "exchange.declare", exchange=name, type="direct", passive=True)
    peer.expect_channel_close(1, 404, "exchange.declare", f"NOT_FOUND - no exchange '{name}' in vhost '/'")


def test_declare_ok_counts_ready_messages_and_consumers(peer: Peer, name: str) -> None:
    peer.declare(1, name)
    for _ in range(3):
        peer.publish(1, "", name, b"x")
    peer.get(1, name, no_ack=False)
    answer = peer.rpc(1, "queue.declare", queue=name)
    assert (answer.queue, answer.message_count, answer.consumer_count) == (name, 2, 0)
    peer.rpc(1, "basic.qos", prefetch_count=1)
    peer.send(1, "basic.consume", queue=name)
    peer.send(1, "basic.consume", queue=name)
    for _ in range(4):
        peer.expect(1, "basic.consume-ok", "basic.deliver")
    assert peer.counts(1, name) == (0, 2)


# Exclusive


def test_an_exclusive_queue_is_locked_to_other_connections(connect: Connect, name: str) -> None:
    owner, other = connect(), connect()
    owner.declare(1, name, exclusive=True)
    owner.open_channel(2)
    owner.declare(2, name, exclusive=True)  # another channel of the same connection may
    owner.rpc(2, "queue.bind", queue=name, exchange="amq.direct")
    refused: list[tuple[str, dict[str, Any]]] = [
        ("queue.declare", {"passive": True}), ("queue.declare", {"exclusive": True}), ("queue.declare", {}),
        ("queue.bind", {"exchange": "amq.direct", "routing_key": "k"}), ("queue.unbind", {"exchange": "amq.direct"}),
        ("queue.purge", {}), ("queue.delete", {}), ("basic.get", {}), ("basic.consume", {}),
    ]  # fmt: skip
    for method, arguments in refused:
        other.send(1, method, queue=name, **arguments)
        other.expect_channel_close(1, 405, method, LOCKED.format(name))
        other.open_channel(1)
    owner.publish(1, "", name, b"x")
    owner.barrier(1, name)
    assert owner.drain(2, name) == [b"x"]


def test_anybody_may_publish_to_an_exclusive_queue(connect: Connect, name: str) -> None:
    owner, other = connect(), connect()
    owner.declare(1, name, exclusive=True)
    other.confirm()
    other.publish_confirmed(1, "", name, b"x")
    assert owner.drain(1, name) == [b"x"]


def test_redeclaring_with_another_exclusive_flag(peer: Peer, name: str) -> None:
    peer.declare(1, name, exclusive=True)
    peer.send(1, "queue.declare", queue=name)
    peer.expect_channel_close(1, 405, "queue.declare", LOCKED.format(name))
    peer.open_channel(1)
    peer.declare(1, f"{name}-shared")
    peer.send(1, "queue.declare", queue=f"{name}-shared", exclusive=True)
    peer.expect_channel_close(1, 405, "queue.declare", LOCKED.format(f"{name}-shared"))


@pytest.mark.parametrize("durable", [False, True])
def test_exclusive_queues_live_with_the_connection(connect: Connect, name: str, durable: bool) -> None:
    owner, other = connect(), connect()
    owner.open_channel(2)
    owner.declare(2, name, exclusive=True, durable=durable)
    owner.rpc(2, "channel.close", reply_code=200)
    owner.counts(1, name)
    owner.goodbye()
    poll(lambda: not exists(other, name), "the queue of a closed connection exists")


def test_exclusive_queues_die_with_a_lost_connection(connect: Connect, name: str) -> None:
    owner, other = connect(), connect()
    owner.declare(1, name, exclusive=True)
    owner.close()
    poll(lambda: not exists(other, name), "the queue of a lost connection exists")


# Auto-delete


def test_an_auto_delete_queue_waits_for_its_first_consumer(peer: Peer, name: str) -> None:
    peer.open_channel(2)
    peer.declare(1, name, auto_delete=True)
    peer.publish(1, "", name, b"x")
    peer.get(1, name)
    assert exists(peer, name)
    tags = [peer.consume(2, name), peer.consume(2, name)]
    peer.rpc(2, "basic.cancel", consumer_tag=tags[0])
    assert exists(peer, name)
    peer.rpc(2, "basic.cancel", consumer_tag=tags[1])
    poll(lambda: not exists(peer, name), "the queue exists without its consumers")


@pytest.mark.parametrize("how", ["channel", "channel error", "connection", "lost connection"])
def test_an_auto_delete_queue_goes_with_its_last_consumer(connect: Connect, name: str, how: str) -> None:
    peer, other = connect(), connect()
    peer.declare(1, name, auto_delete=True)
    peer.consume(1, name)
    if how == "channel":
        peer.rpc(1, "channel.close", reply_code=200)
    elif how == "channel error":
        peer.send(1, "basic.ack", delivery_tag=99)
        peer.expect_channel_close(1, 406, "basic.ack")
    elif how == "connection":
        peer.goodbye()
    else:
        peer.close()
    poll(lambda: not exists(other, name), "the queue exists without its consumer")


def test_an_auto_delete_exchange_goes_with_its_last_outgoing_binding(peer: Peer, name: str) -> None:
    peer.rpc(1, "exchange.declare", exchange=name, type="fanout", auto_delete=True)
    peer.declare(1, name, exclusive=True)
    peer.rpc(1, "exchange.bind", source="amq.fanout", destination=name)
    peer.rpc(1, "exchange.unbind", source="amq.fanout", destination=name)
    assert exchange_exists(peer, name)  # an incoming one does not count
    for key in "ab":
        peer.rpc(1, "queue.bind", queue=name, exchange=name, routing_key=key)
    peer.rpc(1, "queue.unbind", queue=name, exchange=name, routing_key="a")
    assert exchange_exists(peer, name)
    peer.rpc(1, "queue.unbind", queue=name, exchange=name, routing_key="b")
    assert not exchange_exists(peer, name)


def test_an_auto_delete_exchange_goes_with_its_last_queue(peer: Peer, name: str) -> None:
    peer.rpc(1, "exchange.declare", exchange=name, type="fanout", auto_delete=True)
    peer.declare(1, name, exclusive=True)
    peer.rpc(1, "queue.bind", queue=name, exchange=name)
    peer.rpc(1, "queue.delete", queue=name)
    assert not exchange_exists(peer, name)


# Delete and purge


def test_deleting_what_is_missing_is_fine(peer: Peer, name: str) -> None:
    assert peer.rpc(1, "queue.delete", queue=name).message_count == 0
    peer.rpc(1, "exchange.delete", exchange=name)


def test_purging_what_is_missing_is_not(peer: Peer, name: str) -> None:
    peer.send(1, "queue.purge", queue=name)
    peer.expect_channel_close(1, 404, "queue.purge", f"NOT_FOUND - no queue '{name}' in vhost '/'")


def test_purge_takes_only_what_is_ready(peer: Peer, name: str) -> None:
    peer.declare(1, name)
    for number in range(4):
        peer.publish(1, "", name, b"%d" % number)
    peer.get(1, name, no_ack=False)
    assert peer.rpc(1, "queue.purge", queue=name).message_count == 3
    peer.rpc(1, "basic.recover", requeue=True)
    assert peer.drain(1, name) == [b"0"]


def test_delete_counts_what_was_ready(peer: Peer, name: str) -> None:
    peer.declare(1, name)
    for _ in range(3):
        peer.publish(1, "", name, b"x")
    peer.get(1, name, no_ack=False)
    assert peer.rpc(1, "queue.delete", queue=name).message_count == 2


def test_deleting_a_queue_only_if_unused(peer: Peer, name: str) -> None:
    peer.declare(1, name)
    peer.open_channel(2)
    peer.consume(2, name)
    peer.send(1, "queue.delete", queue=name, if_unused=True)
    peer.expect_channel_close(
        1, 406, "queue.delete", f"PRECONDITION_FAILED - queue '{name}' in vhost '/' in use"
    )


def test_deleting_a_queue_only_if_empty(peer: Peer, name: str) -> None:
    peer.declare(1, name)
    peer.publish(1, "", name, b"x")
    peer.send(1, "queue.delete", queue=name, if_empty=True)
    peer.expect_channel_close(
        1, 406, "queue.delete", f"PRECONDITION_FAILED - queue '{name}' in vhost '/' not empty"
    )


def test_deleting_an_exchange_only_if_unused(peer: Peer, name: str) -> None:
    peer.rpc(1, "exchange.declare", exchange=name, type="direct")
    peer.declare(1, name, exclusive=True)
    peer.rpc(1, "queue.bind", queue=name, exchange=name, routing_key="k")
    peer.send(1, "exchange.delete", exchange=name, if_unused=True)
    peer.expect_channel_close(
        1, 406, "exchange.delete", f"PRECONDITION_FAILED - exchange '{name}' in vhost '/' in use"
    )

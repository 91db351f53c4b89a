"""Destinations: what they mean, what they declare, how they are shown."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from e2e.stomp.stomp_broker import STOMP_REFERENCE, fault, leveret_only
from support.amqp_peer import Peer
from support.server import Server
from support.stomp_peer import StompPeer

Open = Callable[..., StompPeer]


@pytest.fixture
def amqp(connect: Callable[..., Peer]) -> Peer:
    peer: Peer = connect()
    return peer


def queue_info(shared: Server, name: str) -> dict[str, Any]:
    rows = shared.rows("list_queues", "name", "durable", "auto_delete", "arguments", "exclusive")
    row = next(row for row in rows if row["name"] == name)
    return row | {
        "arguments": {key: value for key, _, value in row["arguments"]}
    }  # they come with their types


# -- /queue/


def test_queue_is_declared_by_send_and_by_subscribe_as_durable(stomp: Open, amqp: Peer, name: str) -> None:
    peer = stomp()
    peer.publish(f"/queue/{name}", b"x")
    amqp.send(1, "queue.declare", queue=name, durable=True)
    assert amqp.expect(1, "queue.declare-ok").message_count == 1
    peer.subscribe(f"/queue/{name}-2")
    amqp.send(1, "queue.declare", queue=f"{name}-2", durable=True)
    assert amqp.expect(1, "queue.declare-ok").consumer_count == 1


def test_queue_is_round_robin_and_topic_is_for_all(stomp: Open, name: str) -> None:
    peers = [stomp(), stomp()]
    for peer in peers:
        peer.subscribe(f"/topic/{name}.*")
    peers[0].publish(f"/topic/{name}.x", b"all")
    for peer in peers:
        message = peer.message(b"all")
        assert message["destination"] == f"/topic/{name}.x"


def test_a_name_without_slash_is_a_queue(stomp: Open, name: str) -> None:
    peer = stomp()
    peer.subscribe(f"/queue/{name}")
    peer.publish(name, b"x")
    peer.message(b"x", destination=f"/queue/{name}")


def test_only_upper_case_2f_is_an_escape(stomp: Open, amqp: Peer, name: str) -> None:
    peer = stomp()
    peer.subscribe(f"/queue/{name}%2Fa")
    amqp.publish(1, "", f"{name}/a", b"slash")
    peer.message(b"slash", destination=f"/queue/{name}%2Fa")
    peer.subscribe(f"/queue/{name}%2fb%20c", id="t")
    amqp.publish(1, "", f"{name}%2fb%20c", b"as it is")
    peer.message(b"as it is", subscription="t")
    amqp.send(1, "queue.delete", queue=f"{name}%2fb%20c")
    amqp.expect(1, "queue.delete-ok")
    peer.expect("ERROR", message="Server cancelled subscription")


def test_queue_arguments(stomp: Open, shared: Server, name: str) -> None:
    peer = stomp()
    peer.ask(
        "SUBSCRIBE",
        destination=f"/queue/{name}",
        id="s",
        headers={
            "x-dead-letter-exchange": "amq.fanout",
            "x-dead-letter-routing-key": "dead",
            "x-expires": "60000",
            "x-max-length": "10",
            "x-max-length-bytes": "1000",
            "x-max-priority": "5",
            "x-message-ttl": "5000",
        },
    )
    arguments = queue_info(shared, name)["arguments"]
    arguments.pop("x-queue-type", None)
    assert arguments == {
        "x-dead-letter-exchange": "amq.fanout",
        "x-dead-letter-routing-key": "dead",
        "x-expires": 60000,
        "x-max-length": 10,
        "x-max-length-bytes": 1000,
        "x-max-priority": 5,
        "x-message-ttl": 5000,
    }


@leveret_only("headers that RabbitMQ forgot")
def test_more_queue_arguments(stomp: Open, shared: Server, name: str) -> None:
    peer = stomp()
    peer.ask(
        "SUBSCRIBE",
        destination=f"/queue/{name}",
        id="s",
        headers={
            "x-overflow": "reject-publish",
            "x-delivery-limit": "3",
            "x-single-active-consumer": "true",
            "x-queue-type": "quorum",
        },
    )
    arguments = queue_info(shared, name)["arguments"]
    assert arguments["x-overflow"] == "reject-publish"
    assert arguments["x-delivery-limit"] == 3
    assert arguments["x-single-active-consumer"] is True
    assert arguments["x-queue-type"] == "quorum"


def test_an_inequivalent_queue_is_an_error(stomp: Open, amqp: Peer, name: str) -> None:
    amqp.declare(1, name, auto_delete=True)
    peer = stomp()
    peer.send("SEND", destination=f"/queue/{name}", receipt="r")
    frame = peer.expect("ERROR", message="precondition_failed")
    assert (
        f"PRECONDITION_FAILED - inequivalent arg 'durable' for queue '{name}' in vhost '/'"
        in frame.body.decode()
    )
    peer.expect_close()


def test_durable_and_auto_delete_headers(stomp: Open, shared: Server, name: str) -> None:
    peer = stomp()
    peer.ask("SUBSCRIBE", destination=f"/queue/{name}", id="s", durable="false", auto_delete="true")
    info = queue_info(shared, name)
    assert (info["durable"], info["auto_delete"]) == (False, True)
    peer.ask("SEND", b"x", destination=f"/queue/{name}", durable="false", auto_delete="true")
    peer.message(b"x")


# -- /amq/queue/


def test_amq_queue_never_declares(stomp: Open, amqp: Peer, name: str) -> None:
    amqp.declare(1, name)
    peer = stomp()
    peer.subscribe(f"/amq/queue/{name}")
    peer.publish(f"/amq/queue/{name}", b"x")
    message = peer.message(b"x")
    assert message["destination"] in (f"/queue/{name}", f"/amq/queue/{name}")
    missing = stomp()
    missing.send("SUBSCRIBE", destination=f"/amq/queue/{name}-no", id="s")
    fault(missing, "not_found", f"NOT_FOUND - no queue '{name}-no' in vhost '/'")


# -- /exchange/


def test_exchange_with_a_pattern(stomp: Open, amqp: Peer, name: str) -> None:
    peer = stomp()
    peer.subscribe(f"/exchange/amq.topic/{name}.#")
    peer.publish(f"/exchange/amq.topic/{name}.a.b", b"stomp")
    assert peer.message(b"stomp")["destination"] in (f"/exchange/amq.topic/{name}.a.b", f"/topic/{name}.a.b")
    amqp.publish(1, "amq.topic", f"{name}", b"amqp")
    peer.message(b"amqp")


def test_exchange_without_a_key(stomp: Open, amqp: Peer, name: str) -> None:
    amqp.send(1, "exchange.declare", exchange=name, type="fanout", auto_delete=True)
    amqp.expect(1, "exchange.declare-ok")
    peer = stomp()
    peer.subscribe(f"/exchange/{name}")
    peer.publish(f"/exchange/{name}", b"x")
    assert peer.message(b"x")["destination"].startswith(f"/exchange/{name}")
    peer.ask("UNSUBSCRIBE", id="s")


@pytest.mark.parametrize("command", ["SEND", "SUBSCRIBE"])
def test_exchange_is_never_declared(stomp: Open, name: str, command: str) -> None:
    peer = stomp()
    peer.send(command, destination=f"/exchange/{name}/k", id="s")
    fault(peer, "not_found", f"NOT_FOUND - no exchange '{name}' in vhost '/'")


def test_unroutable_messages_are_dropped(stomper: StompPeer, name: str) -> None:
    stomper.publish(f"/exchange/amq.direct/{name}", b"x")
    stomper.publish(f"/topic/{name}", b"x")


def test_a_subscription_queue_is_gone_with_its_connection(stomp: Open, shared: Server, name: str) -> None:
    before = {row["name"] for row in shared.rows("list_queues", "name")}
    peer = stomp()
    peer.subscribe(f"/topic/{name}")
    (mine,) = {row["name"] for row in shared.rows("list_queues", "name")} - before
    assert queue_info(shared, mine)["auto_delete"]
    peer.goodbye()
    assert {row["name"] for row in shared.rows("list_queues", "name")} == before


def test_x_queue_name(stomp: Open, shared: Server, name: str) -> None:
    peer = stomp()
    peer.ask("SUBSCRIBE", destination=f"/topic/{name}", id="s", headers={"x-queue-name": f"{name}-q"})
    queue_info(shared, f"{name}-q")
    peer.publish(f"/topic/{name}", b"x")
    peer.message(b"x")
    peer.ask("UNSUBSCRIBE", id="s")


# -- errors


@pytest.mark.parametrize("command", ["SEND", "SUBSCRIBE"])
def test_errors(stomp: Open, command: str) -> None:
    for destination, message, text in (
        (None, "Missing destination", f"\"{command}\" must include a 'destination' header"),
        ("/nonsense/x", "Unknown destination", "'/nonsense/x' is not a valid destination."),
        ("/queue/", "Invalid destination", ""),
        ("/queue/a/b", "Invalid destination", ""),
        ("/queue", "Invalid destination", ""),
        ("/topic/", "Invalid destination", ""),
        ("/exchange/", "Invalid destination", ""),
        ("/exchange/a/b/c", "Invalid destination", ""),
        (
            "/temp-queue/x",
            "Invalid destination",
            f"'/temp-queue/x' is not a valid destination for '{command}'",
        ),
    ):
        peer = stomp()
        headers = {"id": "s"} | ({} if destination is None else {"destination": destination})
        peer.send(command, headers=headers)
        if not STOMP_REFERENCE or text:
            fault(peer, message, text)
        peer.destinations.clear()


def test_no_permission(stomp: Open, shared: Server, name: str) -> None:
    shared.ctl("add_user", name, "pw")
    try:
        shared.ctl("set_permissions", "-p", "/", name, "^ok", "^(ok|amq.topic)", "^ok")
        for command, destination in (("SEND", f"/queue/{name}"), ("SUBSCRIBE", f"/queue/{name}"),
                                     ("SEND", "/exchange/amq.direct/x"), ("SUBSCRIBE", "/exchange/amq.direct/x")):  # fmt: skip
            peer = stomp(login=name, passcode="pw")
            peer.send(command, destination=destination, id="s")
            frame = fault(peer, "access_refused", "ACCESS_REFUSED - ")
            if not STOMP_REFERENCE:
                assert f"refused for user '{name}'" in frame.body.decode()
            peer.destinations.clear()
    finally:
        shared.ctl("delete_user", name)

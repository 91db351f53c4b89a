"""SUBSCRIBE and UNSUBSCRIBE: which queue, with what arguments, and how long it lives; request and reply."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import pytest
import trio
from support.in_process import InProcess, broker_in_process
from support.stomp_wire import Got, StompClient, frame

from leveret.adapters.stomp.adapter import StompAdapter
from leveret.core.message import Envelope
from leveret.core.properties import Properties
from leveret.core.queue.queue import Queue


@pytest.fixture
async def server() -> AsyncIterator[InProcess]:
    async with broker_in_process(StompAdapter) as server:
        yield server


def queues(server: InProcess) -> dict[str, Queue]:
    return server.broker.vhosts["/"].queues


def only(server: InProcess) -> Queue:
    (queue,) = queues(server).values()
    return queue


def kind(queue: Queue) -> tuple[bool, bool, bool]:
    return queue.is_durable, queue.is_exclusive, queue.is_auto_delete


@pytest.mark.parametrize(
    ("headers", "expected"),
    [
        ({"destination": "/queue/a"}, (True, False, False)),
        ({"destination": "/queue/a", "durable": "false"}, (False, True, True)),
        ({"destination": "/queue/a", "durable": "false", "exclusive": "false"}, (False, False, True)),
        ({"destination": "/queue/a", "auto-delete": "true"}, (True, False, True)),
        ({"destination": "/queue/a", "exclusive": "true"}, (False, True, False)),
        ({"destination": "/topic/a"}, (False, False, True)),
        ({"destination": "/topic/a", "exclusive": "true"}, (False, True, True)),
        ({"destination": "/topic/a", "durable": "true"}, (True, False, False)),
        ({"destination": "/topic/a", "persistent": "true"}, (True, False, False)),
        ({"destination": "/topic/a", "durable": "true", "auto-delete": "true"}, (True, False, True)),
        ({"destination": "/exchange/amq.fanout"}, (False, False, True)),
        (
            {"destination": "/exchange/amq.direct/k", "durable": "true", "auto-delete": "false"},
            (True, False, False),
        ),
    ],
)
async def test_queues_by_headers(
    server: InProcess, headers: dict[str, str], expected: tuple[bool, bool, bool]
) -> None:
    client = await StompClient.open(server)
    (receipt,) = await client.ask(frame("SUBSCRIBE", id=0, receipt=1, **headers))
    assert receipt.command == "RECEIPT"
    assert kind(only(server)) == expected
    await client.close()
    assert bool(queues(server)) == (not expected[1] and not expected[2])


async def test_arguments_and_names(server: InProcess) -> None:
    client = await StompClient.open(server)
    await client.ask(
        frame(
            "SUBSCRIBE",
            id=0,
            destination="/topic/a",
            x_queue_name="mine",
            x_message_ttl=5000,
            x_max_priority=3,
        )
    )
    queue = only(server)
    assert queue.name == "mine"
    assert queue.arguments == {"x-message-ttl": 5000, "x-max-priority": 3, "x-queue-type": "classic"}
    await client.close()


async def test_arguments_that_differ_are_refused(server: InProcess) -> None:
    client = await StompClient.open(server)
    await client.ask(frame("SEND", destination="/queue/a"))
    await client.close()
    client = await StompClient.open(server)
    (error,) = await client.ask(frame("SUBSCRIBE", id=0, destination="/queue/a", x_message_ttl=5))
    assert error["message"] == "precondition_failed"
    assert b"inequivalent arg 'x-message-ttl' for queue 'a'" in error.body
    await client.close()
    client = await StompClient.open(server)
    receipt, message = await client.ask(
        frame("SUBSCRIBE", id=0, destination="/amq/queue/a", x_message_ttl=5, receipt=1)
    )
    assert (receipt.command, message.command) == ("RECEIPT", "MESSAGE")
    await client.close()


async def test_a_connection_declares_a_queue_once(server: InProcess) -> None:
    client = await StompClient.open(server)
    (message,) = await client.ask(
        frame("SUBSCRIBE", id=0, destination="/queue/a", x_message_ttl=5000),
        frame("SEND", destination="/queue/a"),
    )
    assert message.command == "MESSAGE"
    assert not await client.ask(frame("SUBSCRIBE", id=1, destination="/queue/a"))
    await client.close()


async def test_priorities_and_exclusive_queues(server: InProcess) -> None:
    low = await StompClient.open(server)
    high = await StompClient.open(server)
    await low.ask(frame("SUBSCRIBE", id=0, destination="/queue/a", x_priority=-1))
    await high.ask(frame("SUBSCRIBE", id=0, destination="/queue/a", x_priority=10))
    assert not await low.ask(frame("SEND", "x", destination="/queue/a"))
    assert len(await high.read()) == 1
    await low.ask(frame("SUBSCRIBE", id=1, destination="/topic/a", x_queue_name="private", exclusive="true"))
    (error,) = await high.ask(frame("SUBSCRIBE", id=1, destination="/amq/queue/private", receipt=1))
    assert error["message"] == "resource_locked"
    await low.close()
    await high.close()


async def test_a_durable_subscription_collects_while_its_client_is_away(server: InProcess) -> None:
    headers = {"id": "me", "destination": "/topic/news", "durable": "true"}
    client = await StompClient.open(server)
    await client.ask(frame("SUBSCRIBE", **headers))
    assert not await client.ask(frame("UNSUBSCRIBE", id="me"))  # stays
    await client.close()
    name = only(server).name
    assert name.startswith("stomp-subscription-")
    publisher = await StompClient.open(server)
    await publisher.ask(frame("SEND", "x", destination="/topic/news"))
    await publisher.close()
    client = await StompClient.open(server)
    (message,) = await client.ask(frame("SUBSCRIBE", **headers))
    assert (message.body, message["destination"]) == (b"x", "/topic/news")
    assert only(server).name == name
    (receipt,) = await client.ask(frame("UNSUBSCRIBE", id="me", durable="true", receipt=1))
    assert receipt.command == "RECEIPT"
    assert not queues(server)
    await client.close()


async def test_a_subscription_that_cannot_be_bound_leaves_no_queue(server: InProcess) -> None:
    client = await StompClient.open(server)
    await client.ask(frame("SUBSCRIBE", id=0, destination="/exchange/nope/k", durable="true"))
    await client.closed()
    assert not queues(server)
    await client.close()


async def test_the_same_id_twice(server: InProcess) -> None:
    client = await StompClient.open(server)
    (error,) = await client.ask(
        frame("SUBSCRIBE", id=0, destination="/topic/a"),
        frame("SUBSCRIBE", id=0, destination="/topic/b", receipt=1),
    )
    assert error["message"] == "Duplicated subscription identifier"
    assert error.body == b"A subscription identified by 'T_0' already exists."
    await client.close()
    assert not queues(server)


async def test_a_deleted_queue_ends_its_subscription_alone(server: InProcess) -> None:
    client = await StompClient.open(server)
    await client.ask(
        frame("SUBSCRIBE", id="a:b", destination="/queue/a", ack="client"),
        frame("SUBSCRIBE", id=1, destination="/queue/b"),
    )
    (message,) = await client.ask(frame("SEND", "x", destination="/queue/a"))
    server.broker.vhosts["/"].remove_queue(queues(server)["a"])
    server.broker.dispatcher.run()
    (error,) = await client.read()
    assert (error.command, error["message"]) == ("ERROR", "Server cancelled subscription")
    assert error["subscription"] == "a\\cb"
    assert error.body == (
        b"The server has canceled a subscription.\nNo more messages will be delivered for \"id='a:b'\".\n"
    )
    (other,) = await client.ask(frame("ACK", id=message["ack"]), frame("SEND", "y", destination="/queue/b"))
    assert other.body == b"y"
    (error,) = await client.ask(frame("UNSUBSCRIBE", id="a\\cb"))
    assert error["message"] == "No subscription found"
    await client.close()


async def test_a_slow_reader_gets_no_more_than_fits(server: InProcess) -> None:
    reader, writer = await StompClient.open(server), await StompClient.open(server)
    await reader.ask(frame("SUBSCRIBE", id=0, destination="/queue/a"))
    body = b"x" * 100_000
    for _ in range(10):
        await writer.ask(frame("SEND", body, destination="/queue/a") * 10)
    queue = only(server)
    assert queue.message_count > 50
    got: list[Got] = []
    with trio.fail_after(5):
        while len(got) < 100:
            got += await reader.read()
    assert not queue.message_count
    await reader.close()
    await writer.close()


# -- request and reply


async def test_request_and_reply(server: InProcess) -> None:
    service, requester = await StompClient.open(server), await StompClient.open(server)
    await service.ask(frame("SUBSCRIBE", id="s", destination="/queue/service"))
    for number in range(3):
        assert not await requester.ask(
            frame("SEND", f"request {number}", destination="/queue/service", reply_to="/temp-queue/mine")
        )
        (request,) = await service.read()
        assert request["reply-to"].startswith("/reply-queue/amq.gen-")
        assert not await service.ask(frame("SEND", f"reply {number}", destination=request["reply-to"]))
        (reply,) = await requester.read()
        assert (reply["subscription"], reply.body) == ("/temp-queue/mine", b"reply %d" % number)
        assert reply["message-id"].startswith("T_/temp-queue/mine@@")
    private = [queue for queue in queues(server).values() if queue.name != "service"]
    assert [kind(queue) for queue in private] == [(False, True, True)]
    (error,) = await requester.ask(frame("UNSUBSCRIBE", id="/temp-queue/mine", receipt=1))
    assert (error["message"], error.body) == (
        "Invalid id",
        b"UNSUBSCRIBE 'id' may not start with /temp-queue/\n",
    )
    await service.close()
    await requester.close()
    assert list(queues(server)) == ["service"]


async def test_a_reply_queue_that_is_gone_is_made_again(server: InProcess) -> None:
    client = await StompClient.open(server)
    send = frame("SEND", "r", destination="/queue/service", reply_to="/temp-queue/mine")
    await client.ask(send)
    first = next(name for name in queues(server) if name != "service")
    server.broker.vhosts["/"].remove_queue(queues(server)[first])
    server.broker.dispatcher.run()
    (error,) = await client.read()
    assert error["subscription"] == "/temp-queue/mine"
    assert not await client.ask(send)
    second = next(name for name in queues(server) if name != "service")
    assert first != second
    got = await client.ask(frame("SUBSCRIBE", id=0, destination="/queue/service"))
    assert [one["reply-to"] for one in got] == [f"/reply-queue/{first}", f"/reply-queue/{second}"]
    await client.close()


async def test_a_reply_to_an_amqp_requester_without_a_queue(server: InProcess) -> None:
    class Requester:
        def __init__(self) -> None:
            self.got: list[tuple[str | None, list[bytes]]] = []

        def deliver_reply(self, envelope: Envelope, bodies: list[bytes]) -> None:
            self.got.append((envelope.properties.correlation_id, bodies))

    requester = Requester()
    address = server.broker.replies.register(requester)
    client = await StompClient.open(server)
    await client.ask(frame("SUBSCRIBE", id="s", destination="/queue/service"))
    vhost = server.broker.vhosts["/"]
    envelope = Envelope.of("", "service", Properties(reply_to=address, correlation_id="7"))
    queues(server)["service"].publish(envelope, [b"request"])
    server.broker.dispatcher.run()
    (request,) = await client.read()
    assert request["reply-to"] == f"/reply-queue/{address}"
    reply = {"destination": request["reply-to"], "correlation-id": request["correlation-id"]}
    (receipt,) = await client.ask(frame("SEND", "reply", receipt=1, **reply))
    assert receipt.command == "RECEIPT"
    assert requester.got == [("7", [b"reply"])]
    server.broker.replies.forget(address)
    (receipt,) = await client.ask(frame("SEND", "late", receipt=2, **reply))
    assert len(requester.got) == 1
    assert list(vhost.queues) == ["service"]
    await client.close()


async def test_headers_from_elsewhere(server: InProcess) -> None:
    headers: dict[str, Any] = {"n": 5, "t": True, "x-death": [{"count": 1, "queue": "q"}], "a:b": "c\nd"}
    client = await StompClient.open(server, "1.1")
    await client.ask(frame("SUBSCRIBE", id="s", destination="/queue/a"))
    only(server).publish(Envelope.of("x", "k/l", Properties(headers=headers, delivery_mode=1)), [b""])
    server.broker.dispatcher.run()
    (message,) = await client.read()
    assert message["destination"] == "/exchange/x/k%2Fl"
    assert (message["n"], message["t"], message["a\\cb"]) == ("5", "true", "c\\nd")
    assert message["x-death"] == '[{"count"\\c1,"queue"\\c"q"}]'
    assert message["content-length"] == "0"
    assert "persistent" not in message.headers
    await client.close()

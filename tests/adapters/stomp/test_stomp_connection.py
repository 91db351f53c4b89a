"""Whole conversations with a broker in this process: CONNECT, errors, receipts, acks, the end."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import replace
from typing import Any

import pytest
import trio
from support.in_process import InProcess, broker_in_process
from support.stomp_wire import Got, StompClient, connect_frame, frame, frames_of

from leveret.adapters.connection_listing import describe_connection
from leveret.adapters.stomp.adapter import StompAdapter
from leveret.adapters.stomp.connection import StompConnection
from leveret.adapters.stomp.settings import StompSettings
from leveret.conf.settings import Settings
from leveret.core.queue.queue import Queue

STOMP = StompSettings()


@pytest.fixture
async def server() -> AsyncIterator[InProcess]:
    async with broker_in_process(StompAdapter) as server:
        yield server


def queue_of(server: InProcess, name: str) -> Queue:
    return server.broker.vhosts["/"].queues[name]


def connection_of(server: InProcess) -> StompConnection:
    (connection,) = server.broker.connections
    assert isinstance(connection, StompConnection)
    return connection


def texts(frames: list[Got]) -> list[str]:
    return [
        f"{one.command} {one.headers.get('receipt-id', one.headers.get('message', one.body.decode()))}"
        for one in frames
    ]


# -- CONNECT


@pytest.mark.parametrize("command", [b"CONNECT", b"STOMP"])
async def test_connected(server: InProcess, command: bytes) -> None:
    data = connect_frame("1.0,1.2,1.1", heart_beat="0,0").replace(b"CONNECT", command)
    client = StompClient(server)
    (connected,) = await client.ask(data)
    assert connected.command == "CONNECTED"
    assert connected["version"] == "1.2"
    assert connected["heart-beat"] == "0,0"
    assert connected["server"] == "RabbitMQ/4.1.4"
    assert connected["session"].startswith("session-")
    (connection,) = server.broker.connections
    info = describe_connection(connection)
    assert (info["protocol"], info["user"], info["vhost"], info["channels"]) == ("STOMP 1.2", "guest", "/", 1)
    assert info["state"] == "running"
    await client.close()


async def test_pipelined_frames_wait_for_connected(server: InProcess) -> None:
    answer = await server.talk(
        connect_frame()
        + frame("SEND", "x", destination="/queue/a", receipt=1)
        + frame("DISCONNECT", receipt=2)
    )
    assert [one.command for one in frames_of(answer)] == ["CONNECTED", "RECEIPT", "RECEIPT"]


@pytest.mark.parametrize(
    ("headers", "message", "detail"),
    [
        ({"passcode": "wrong"}, "Bad CONNECT", b"Access refused for user 'guest'\n"),
        ({"login": "no\udcffbody"}, "Bad CONNECT", b"Access refused for user 'no\xffbody'\n"),
        (
            {"passcode": "gu\0est"},
            "Malformed frame",
            b"A NUL comes before the blank line that ends the headers\n",
        ),
        ({"login": None}, "Bad CONNECT", b"Missing login or passcode header(s)"),
        ({"passcode": None}, "Bad CONNECT", b"Missing login or passcode header(s)"),
        ({"host": "/nope"}, "Bad CONNECT", b"Virtual host '/nope' access denied"),
        ({"accept-version": "3.0"}, "Version mismatch", b"Supported versions are 1.0,1.1,1.2\n"),
        (
            {"heart_beat": "5"},
            "Bad CONNECT",
            b"'heart-beat' must be two numbers of milliseconds, like 0,0, not '5'\n",
        ),
    ],
)
async def test_refused(server: InProcess, headers: dict[str, Any], message: str, detail: bytes) -> None:
    client = StompClient(server)
    (error,) = await client.ask(connect_frame(**headers), frame("SEND", "x", destination="/queue/a"))
    assert (error.command, error["message"], error.body) == ("ERROR", message, detail)
    assert error["version"] == "1.0,1.1,1.2"
    await client.closed()
    await client.close()


async def test_a_refused_login_is_answered_late(autojump_clock: trio.testing.MockClock) -> None:
    async with broker_in_process(StompAdapter, auth=Settings().auth) as server:
        before = trio.current_time()
        client = StompClient(server)
        await client.send(connect_frame(passcode="wrong"))
        answer = b""
        async for chunk in client.stream:
            answer += chunk
        assert b"Access refused" in answer
        assert trio.current_time() - before >= 3.0
        await client.close()


async def test_no_frame_before_connect(server: InProcess) -> None:
    client = StompClient(server)
    (error,) = await client.ask(frame("SEND", "x", destination="/queue/a"))
    assert (error["message"], error.body) == ("Illegal command", b"You must log in using CONNECT first")
    await client.closed()
    await client.close()


async def test_connect_twice(server: InProcess) -> None:
    client = await StompClient.open(server)
    (error,) = await client.ask(connect_frame())
    assert error["message"] == "Illegal command"
    await client.closed()
    await client.close()


async def test_default_user_and_implicit_connect() -> None:
    stomp = replace(STOMP, default_user="guest", default_pass="guest", implicit_connect=True)
    async with broker_in_process(StompAdapter, stomp=stomp) as server:
        client = await StompClient.open(server, login=None, passcode=None)
        await client.close()
        client = StompClient(server)
        (receipt,) = await client.ask(frame("SEND", "x", destination="/queue/a", receipt=1))
        assert receipt["receipt-id"] == "1"  # and no CONNECTED
        assert queue_of(server, "a").message_count == 1
        await client.close()


async def test_silence_before_connect_ends_the_connection(autojump_clock: trio.testing.MockClock) -> None:
    async with broker_in_process(StompAdapter) as server:
        client = StompClient(server)
        await client.send(b"CONN")
        with trio.fail_after(STOMP.handshake_timeout_s + 1):
            await client.ended.wait()
        await client.close()


async def test_the_frame_size_before_and_after_login() -> None:
    stomp = replace(STOMP, max_frame_size_unauthenticated=1024, max_frame_size=4096)
    async with broker_in_process(StompAdapter, stomp=stomp) as server:
        client = StompClient(server)
        (error,) = await client.ask(connect_frame(foo="x" * 1024))
        assert error["message"] == "Frame too large"
        await client.close()
        client = await StompClient.open(server)
        assert not await client.ask(frame("SEND", "x" * 3000, destination="/queue/a"))
        (error,) = await client.ask(frame("SEND", "x" * 5000, destination="/queue/a"))
        assert error["message"] == "Frame too large"
        await client.close()


# -- errors


@pytest.mark.parametrize(
    ("data", "message", "detail"),
    [
        (frame("FOO", receipt=9), "Bad command", 'Could not interpret command "FOO"\n'),
        (frame("send", receipt=9), "Bad command", 'Could not interpret command "send"\n'),
        (frame("SEND", receipt=9), "Missing destination", "\"SEND\" must include a 'destination' header\n"),
        (
            frame("SEND", destination="/queue/a", receipt=9, message_id=1),
            "Invalid header",
            "'message-id' is not allowed on 'SEND'.\n",
        ),
        (
            frame("SEND", destination="/temp-queue/a", receipt=9),
            "Invalid destination",
            "'/temp-queue/a' is not a valid destination for 'SEND'\n",
        ),
        (
            frame("SEND", destination="/exchange/nope/k", receipt=9),
            "not_found",
            "NOT_FOUND - no exchange 'nope' in vhost '/'",
        ),
        (
            frame("SEND", destination="/queue/a", receipt=9, user_id="other"),
            "precondition_failed",
            "PRECONDITION_FAILED - user_id property set to 'other' but authenticated user was 'guest'",
        ),
        (
            frame("SEND", destination="/queue/a", receipt=9, expiration="x"),
            "precondition_failed",
            "PRECONDITION_FAILED - invalid expiration 'x': no_integer",
        ),
        (
            frame("SEND", destination="/queue/amq.foo", receipt=9),
            "access_refused",
            "ACCESS_REFUSED - queue name 'amq.foo' contains reserved prefix 'amq.*'",
        ),
        (
            frame("SUBSCRIBE", destination="/topic/a", receipt=9),
            "Missing Header",
            "Header 'id' is required on SUBSCRIBE in STOMP 1.2\n",
        ),
        (
            frame("SUBSCRIBE", destination="/topic/a", receipt=9, durable="true"),
            "Missing Header",
            "Header 'id' is required for durable subscriptions",
        ),
        (
            frame("SUBSCRIBE", id=0, receipt=9),
            "Missing destination",
            "\"SUBSCRIBE\" must include a 'destination' header\n",
        ),
        (
            frame("SUBSCRIBE", id=0, destination="/temp-queue/a", receipt=9),
            "Invalid destination",
            "'/temp-queue/a' is not a valid destination for 'SUBSCRIBE'\n",
        ),
        (
            frame("SUBSCRIBE", id=0, destination="/exchange/nope/k", receipt=9),
            "not_found",
            "NOT_FOUND - no exchange 'nope' in vhost '/'",
        ),
        (
            frame("SUBSCRIBE", id=0, destination="/amq/queue/nope", receipt=9),
            "not_found",
            "NOT_FOUND - no queue 'nope' in vhost '/'",
        ),
        (
            frame("SUBSCRIBE", id=0, destination="/queue/a", ack="maybe", receipt=9),
            "Invalid header",
            "'ack' must be one of auto, client, client-individual, not 'maybe'\n",
        ),
        (
            frame("SUBSCRIBE", id=0, destination="/queue/a", prefetch_count="x", receipt=9),
            "Invalid header",
            "'prefetch-count' must be a number, not 'x'\n",
        ),
        (
            frame("SUBSCRIBE", id="/temp-queue/x", destination="/queue/a", receipt=9),
            "Invalid id",
            "SUBSCRIBE 'id' may not start with /temp-queue/\n",
        ),
        (
            frame("UNSUBSCRIBE", receipt=9),
            "Missing destination or id",
            "UNSUBSCRIBE must include a 'destination' or 'id' header",
        ),
        (
            frame("UNSUBSCRIBE", id=4, receipt=9),
            "No subscription found",
            "UNSUBSCRIBE must refer to an existing subscription.\nSubscription to \"id='4'\" not found.\n",
        ),
        (frame("ACK", receipt=9), "Missing header", '"ACK" must include the "id" header\n'),
        (frame("NACK", id="x", receipt=9), "Invalid header", '"NACK" must include a valid "id" header\n'),
        (
            frame("ACK", id="4", receipt=9),
            "precondition_failed",
            "PRECONDITION_FAILED - unknown delivery tag 4",
        ),
        (frame("BEGIN", receipt=9), "Missing transaction", "\"BEGIN\" must include a 'transaction' header\n"),
        (
            frame("COMMIT", transaction="t", receipt=9),
            "Bad transaction",
            'Invalid transaction identifier: "t"\n',
        ),
        (
            frame("SEND", transaction="t", destination="/queue/a", receipt=9),
            "Bad transaction",
            'Invalid transaction identifier: "t"\n',
        ),
    ],
)
async def test_errors_name_what_is_wrong_and_end_the_connection(
    server: InProcess, data: bytes, message: str, detail: str
) -> None:
    client = await StompClient.open(server)
    answers = await client.ask(
        frame("SEND", destination="/queue/b", receipt="before"),
        data,
        frame("BEGIN", transaction=1, receipt=1),
    )
    receipt, error = answers
    assert receipt["receipt-id"] == "before"
    assert error.command == "ERROR"
    assert (error["message"], error.body.decode()) == (message, detail)
    assert error["receipt-id"] == "9"
    assert error["content-type"] == "text/plain"
    await client.closed()
    await client.close()


async def test_an_error_is_that_connections_alone(server: InProcess) -> None:
    other = await StompClient.open(server)
    client = await StompClient.open(server)
    await client.ask(frame("FOO"))
    await client.closed()
    assert texts(await other.ask(frame("SEND", destination="/queue/a", receipt=1))) == ["RECEIPT 1"]
    await other.close()
    await client.close()


async def test_nack_in_1_0_as_in_rabbitmq(server: InProcess) -> None:
    client = await StompClient.open(server, "1.0")
    (message,) = await client.ask(
        frame("SUBSCRIBE", destination="/queue/a", ack="client"), frame("SEND", "x", destination="/queue/a")
    )
    (again,) = await client.ask(frame("NACK", message_id=message["message-id"]))
    assert again["redelivered"] == "true"
    assert not await client.ask(frame("NACK", message_id=again["message-id"], requeue="false"))
    (queue,) = server.broker.vhosts["/"].queues.values()
    assert (queue.message_count, queue.unacked_count) == (0, 0)
    await client.close()


async def test_a_queue_that_is_full_is_an_error_for_who_asks(server: InProcess) -> None:
    client = await StompClient.open(server)
    limits = {"x_max_length": 1, "x_overflow": "reject-publish"}
    send = frame("SEND", "1", destination="/queue/a", **limits)
    assert not await client.ask(send, send)  # who does not ask is not told
    (error,) = await client.ask(frame("SEND", "3", destination="/queue/a", receipt=3, **limits))
    assert (error["message"], error["receipt-id"]) == ("rejected", "3")
    assert queue_of(server, "a").message_count == 1
    await client.close()


# -- messages


@pytest.mark.parametrize(
    ("version", "has_ack", "value"),
    [("1.0", False, "a:b\\c"), ("1.1", False, "a\\cb\\\\c"), ("1.2", True, "a\\cb\\\\c")],
)
async def test_a_message(server: InProcess, version: str, has_ack: bool, value: str) -> None:
    client = await StompClient.open(server, version)
    await client.ask(frame("SUBSCRIBE", id="s", destination="/queue/a", ack="client"))
    (message,) = await client.ask(
        frame(
            "SEND",
            b"a\0b",
            destination="/queue/a",
            foo=value,
            content_length=3,
            persistent="true",
            priority=4,
        )
    )
    session = connection_of(server).session_id
    expected = {
        "subscription": "s",
        "destination": "/queue/a",
        "message-id": f"T_s@@{session}@@1",
        "redelivered": "false",
        "foo": value,
        "persistent": "true",
        "priority": "4",
        "content-length": "3",
    }
    assert message.headers == expected | ({"ack": "1"} if has_ack else {})
    assert message.body == b"a\0b"
    (receipt,) = await client.ask(
        frame(
            "ACK",
            receipt=1,
            **({"id": 1} if has_ack else {"message-id": message["message-id"], "subscription": "s"}),
        )
    )
    assert receipt.command == "RECEIPT"
    assert queue_of(server, "a").unacked_count == 0
    await client.close()


async def test_auto_has_no_ack_header_and_nothing_to_ack(server: InProcess) -> None:
    client = await StompClient.open(server)
    await client.ask(frame("SUBSCRIBE", id="s", destination="/queue/a"))
    (message,) = await client.ask(frame("SEND", "x", destination="/queue/a"))
    assert "ack" not in message.headers
    (error,) = await client.ask(frame("ACK", id=1))
    assert error["message"] == "precondition_failed"
    await client.close()


async def test_1_0_without_id(server: InProcess) -> None:
    client = await StompClient.open(server, "1.0")
    await client.ask(frame("SUBSCRIBE", destination="/queue/a"))
    (message,) = await client.ask(frame("SEND", "x", destination=" /queue/a "))
    assert "subscription" not in message.headers
    assert message["message-id"].startswith("Q_/queue/a@@")
    assert not await client.ask(frame("UNSUBSCRIBE", destination="/queue/a"))
    assert queue_of(server, "a").consumer_count == 0
    await client.close()


@pytest.mark.parametrize("size", [0, 10, 9000, 200_000])
async def test_bodies_of_any_size_and_number(server: InProcess, size: int) -> None:
    count = 300 if size < 100_000 else 12
    client = await StompClient.open(server)
    await client.ask(frame("SUBSCRIBE", id="s%d", destination="/topic/a.#", ack="client-individual"))
    bodies = [(b"%d:%%d\0" % number) * (size // 6) for number in range(count)]
    got: list[Got] = []
    for start in range(0, count, 50):
        got += await client.ask(
            *[
                frame("SEND", body, destination="/topic/a.b", content_length=len(body), **{"100%": "%s"})
                for body in bodies[start : start + 50]
            ]
        )
    assert [one.body for one in got] == bodies
    assert [one["ack"] for one in got] == [str(number) for number in range(1, count + 1)]
    assert {one["100%"] for one in got} == {"%s"}
    assert not await client.ask(b"".join(frame("ACK", id=one["ack"]) for one in got))
    connection = connection_of(server)
    assert not connection.deliveries.unacked
    await client.close()


async def test_topics_say_where_a_message_was_sent(server: InProcess) -> None:
    client = await StompClient.open(server)
    await client.ask(
        frame("SUBSCRIBE", id=1, destination="/topic/a.*"),
        frame("SUBSCRIBE", id=2, destination="/exchange/amq.fanout"),
    )
    got = await client.ask(
        frame("SEND", "t", destination="/topic/a.b"), frame("SEND", "f", destination="/exchange/amq.fanout/k")
    )
    assert [(one["subscription"], one["destination"]) for one in got] == [
        ("1", "/topic/a.b"),
        ("2", "/exchange/amq.fanout/k"),
    ]
    await client.close()


# -- acks


async def consume(server: InProcess, count: int = 4, **headers: Any) -> StompClient:
    """A subscriber `s` of /queue/a with count messages, 0, 1, ... whose ack ids are 1, 2, ..."""
    client = await StompClient.open(server)
    await client.ask(frame("SUBSCRIBE", id="s", destination="/queue/a", **headers))
    got = await client.ask(*[frame("SEND", str(number), destination="/queue/a") for number in range(count)])
    assert [one["ack"] for one in got] == [str(number) for number in range(1, len(got) + 1)]
    return client


async def test_client_individual_is_exactly_one(server: InProcess) -> None:
    client = await consume(server, ack="client-individual")
    await client.ask(frame("ACK", id=3))
    connection = connection_of(server)
    assert list(connection.deliveries.unacked) == [1, 2, 4]
    (again,) = await client.ask(frame("NACK", id=2))
    assert (again.body, again["redelivered"], again["ack"]) == (b"1", "true", "5")
    assert not await client.ask(frame("NACK", id=5, requeue="false"))
    assert queue_of(server, "a").unacked_count == 2
    await client.close()
    assert queue_of(server, "a").message_count == 2


async def test_client_is_cumulative_within_its_subscription(server: InProcess) -> None:
    client = await consume(server, count=2, ack="client")
    await client.ask(frame("SUBSCRIBE", id="other", destination="/queue/b", ack="client"))
    await client.ask(
        *[frame("SEND", str(number), destination=f"/queue/{'ba'[number % 2]}") for number in range(4)]
    )
    connection = connection_of(server)
    assert list(connection.deliveries.unacked) == [1, 2, 3, 4, 5, 6]
    mine = [tag for tag, one in connection.deliveries.unacked.items() if one.queue.name == "a"]
    assert not await client.ask(frame("ACK", id=mine[2]))
    left = list(connection.deliveries.unacked)
    assert left == [tag for tag in range(1, 7) if tag not in mine[:3]]
    again = await client.ask(frame("NACK", id=mine[3]))
    assert len(again) == 1
    await client.close()
    assert (queue_of(server, "a").message_count, queue_of(server, "b").message_count) == (1, 2)


async def test_acks_after_message_id(server: InProcess) -> None:
    """1.2 clients that send the message-id, which works with RabbitMQ; those of 1.1 must."""
    client = await consume(server, ack="client-individual")
    session = connection_of(server).session_id
    assert not await client.ask(frame("ACK", id=f"T_s@@{session}@@1"))
    (error,) = await client.ask(frame("ACK", id="T_s@@session-of-somebody-else@@2"))
    assert error["message"] == "Invalid header"
    await client.close()
    client = await StompClient.open(server, "1.1")
    got = await client.ask(frame("SUBSCRIBE", id="t@@u", destination="/queue/a", ack="client-individual"))
    assert len(got) == 3
    assert not await client.ask(frame("ACK", message_id=got[0]["message-id"], subscription="t@@u"))
    # The message-id alone names the delivery, as with RabbitMQ, whose own tests send subscriptions that do not exist.
    assert not await client.ask(frame("ACK", message_id=got[1]["message-id"], subscription="s"))
    await client.close()
    assert queue_of(server, "a").message_count == 1


async def test_acked_twice_is_an_error(server: InProcess) -> None:
    client = await consume(server, ack="client-individual")
    (error,) = await client.ask(
        frame("ACK", id=1), frame("ACK", id=2), frame("ACK", id=1), frame("ACK", id=3)
    )
    assert error.body == b"PRECONDITION_FAILED - unknown delivery tag 1"
    await client.close()
    assert queue_of(server, "a").message_count == 2


async def test_prefetch(server: InProcess) -> None:
    client = await consume(server, count=0, ack="client-individual", prefetch_count=2)
    got = await client.ask(*[frame("SEND", str(number), destination="/queue/a") for number in range(5)])
    assert [one.body for one in got] == [b"0", b"1"]
    assert [one.body for one in await client.ask(frame("ACK", id=2))] == [b"2"]
    assert [one.body for one in await client.ask(frame("ACK", id=1), frame("ACK", id=3))] == [b"3", b"4"]
    await client.close()


async def test_unacked_messages_go_back_in_order(server: InProcess) -> None:
    client = await consume(server, ack="client")
    assert not await client.ask(frame("UNSUBSCRIBE", id="s"))
    queue = queue_of(server, "a")
    assert (queue.message_count, queue.unacked_count, queue.consumer_count) == (4, 0, 0)
    got = await client.ask(frame("SUBSCRIBE", id="s", destination="/queue/a", ack="client"))
    assert [(one.body, one["redelivered"]) for one in got] == [
        (b"%d" % number, "true") for number in range(4)
    ]
    assert texts(await client.ask(frame("DISCONNECT", receipt=1))) == ["RECEIPT 1"]
    await client.closed()
    await client.close()
    assert (queue.message_count, queue.unacked_count) == (4, 0)


async def test_default_nack_requeue() -> None:
    async with broker_in_process(StompAdapter, stomp=replace(STOMP, default_nack_requeue=False)) as server:
        client = await consume(server, ack="client-individual")
        assert not await client.ask(frame("NACK", id=1))
        assert len(await client.ask(frame("NACK", id=2, requeue="true"))) == 1
        await client.close()
        assert queue_of(server, "a").message_count == 3


# -- transactions


async def test_a_transaction_is_all_or_nothing(server: InProcess) -> None:
    client = await consume(server, count=2, ack="client-individual")
    answers = await client.ask(
        frame("BEGIN", transaction="t", receipt=1),
        frame("SEND", "x", destination="/queue/b", transaction="t", receipt=2),
        frame("ACK", id=1, transaction="t", receipt=3),
        frame("SEND", "y", destination="/queue/b", transaction="t"),
        frame("NACK", id=2, transaction="t", requeue="false"),
    )
    assert texts(answers) == ["RECEIPT 1", "RECEIPT 3"]  # that of the SEND comes with the COMMIT
    assert queue_of(server, "a").unacked_count == 2
    assert queue_of(server, "b").message_count == 0
    answers = await client.ask(frame("COMMIT", transaction="t", receipt=4))
    assert texts(answers) == ["RECEIPT 2", "RECEIPT 4"]
    assert queue_of(server, "a").unacked_count == 0
    assert queue_of(server, "b").message_count == 2
    await client.close()


async def test_abort_and_disconnect_undo(server: InProcess) -> None:
    client = await consume(server, count=2, ack="client")
    await client.ask(
        frame("BEGIN", transaction="t"),
        frame("SEND", "x", destination="/queue/b", transaction="t"),
        frame("ACK", id=2, transaction="t"),
    )
    assert texts(await client.ask(frame("ABORT", transaction="t", receipt=4))) == ["RECEIPT 4"]
    assert queue_of(server, "a").unacked_count == 2
    await client.ask(frame("BEGIN", transaction="t"), frame("ACK", id=2, transaction="t"))
    await client.close()
    assert queue_of(server, "a").message_count == 2
    assert queue_of(server, "b").message_count == 0


async def test_a_commit_that_cannot_be_done_does_nothing(server: InProcess) -> None:
    client = await consume(server, count=2, ack="client-individual")
    (error,) = await client.ask(
        frame("BEGIN", transaction="t"),
        frame("SEND", "x", destination="/queue/b", transaction="t"),
        frame("ACK", id=1, transaction="t"),
        frame("ACK", id=1),
        frame("COMMIT", transaction="t", receipt=4),
    )
    assert (error["message"], error["receipt-id"]) == ("precondition_failed", "4")
    assert queue_of(server, "b").message_count == 0
    await client.close()


@pytest.mark.parametrize(
    ("data", "message"),
    [
        ([frame("BEGIN", transaction="a"), frame("BEGIN", transaction="a")], "Bad transaction"),
        ([frame("BEGIN", transaction=number) for number in range(3)], "Too many transactions"),
        (
            [frame("BEGIN", transaction="a"), *[frame("SEND", destination="/queue/a", transaction="a")] * 4],
            "Transaction too large",
        ),
        (
            [
                frame("BEGIN", transaction="a"),
                *[frame("SEND", "x" * 999, destination="/queue/a", transaction="a")] * 2,
            ],
            "Transaction too large",
        ),
    ],
)
async def test_bounds_of_transactions(data: list[bytes], message: str) -> None:
    stomp = replace(STOMP, max_transactions=2, max_transaction_actions=3, max_transaction_bytes=1500)
    async with broker_in_process(StompAdapter, stomp=stomp) as server:
        client = await StompClient.open(server)
        (error,) = await client.ask(*data)
        assert error["message"] == message
        await client.close()


async def test_transactions_give_their_bytes_back() -> None:
    async with broker_in_process(StompAdapter, stomp=replace(STOMP, max_transaction_bytes=1500)) as server:
        client = await StompClient.open(server)
        for end in ("COMMIT", "ABORT") * 2:
            assert not await client.ask(
                frame("BEGIN", transaction="a"),
                frame("SEND", "x" * 999, destination="/queue/a", transaction="a"),
                frame(end, transaction="a"),
            )
        assert queue_of(server, "a").message_count == 2
        await client.close()


# -- heart-beats, alarms, the end


async def test_heart_beats_both_ways(autojump_clock: trio.testing.MockClock) -> None:
    async with broker_in_process(StompAdapter) as server:
        client = StompClient(server)
        await client.send(connect_frame(heart_beat="2000,3000"))
        data = await client.stream.receive_some()
        assert b"heart-beat:3000,2000\n" in data
        start = trio.current_time()
        for _ in range(4):  # ours come, and the peer's keep it alive
            with trio.fail_after(3.1):
                assert await client.stream.receive_some() == b"\n"
            await client.send(b"\n")
        assert trio.current_time() - start > 5
        data = b""
        with trio.fail_after(6):
            async for chunk in client.stream:
                data += chunk
        assert data.lstrip(b"\n").startswith(b"ERROR\nmessage:Heart-beat timeout\n")
        await client.close()


async def test_no_heart_beats_without_a_wish(autojump_clock: trio.testing.MockClock) -> None:
    async with broker_in_process(StompAdapter) as server:
        client = StompClient(server)
        await client.send(connect_frame())
        await client.stream.receive_some()
        with trio.move_on_after(600) as scope:
            await client.stream.receive_some()
        assert scope.cancelled_caught
        await client.close()


async def test_an_alarm_pauses_publishers_alone(server: InProcess) -> None:
    publisher = await StompClient.open(server)
    consumer = await StompClient.open(server)
    await consumer.ask(
        frame("SUBSCRIBE", id=0, destination="/queue/a", ack="client-individual", prefetch_count=1)
    )
    send = frame("SEND", "x", destination="/queue/a")
    await publisher.ask(send, send)
    assert len(await consumer.read()) == 1
    server.broker.alarms.set_alarm("memory")
    await publisher.ask(send)  # the first one is seen, and the reading stops
    await publisher.ask(send)
    assert queue_of(server, "a").published_total == 3
    assert {describe_connection(one)["state"] for one in server.broker.connections} == {"running", "blocked"}
    assert len(await consumer.ask(frame("ACK", id=1))) == 1
    server.broker.alarms.clear_alarm("memory")
    await publisher.read()
    assert queue_of(server, "a").published_total == 4
    await publisher.close()
    await consumer.close()


async def test_closed_by_the_broker(server: InProcess) -> None:
    client = await StompClient.open(server)
    early = StompClient(server)
    await early.read()
    for connection in list(server.broker.connections):
        connection.close("because")
    (error,) = await client.read()
    assert (error["message"], error.body) == ("connection_forced", b"CONNECTION_FORCED - because")
    assert not await early.read()
    await client.closed()
    await early.closed()
    await client.close()
    await early.close()


async def test_disconnect_comes_last(server: InProcess) -> None:
    client = await StompClient.open(server)
    answers = await client.ask(
        frame("SEND", "x", destination="/queue/a", persistent="true", receipt=1),
        frame("DISCONNECT", receipt=2),
        frame("SEND", "too late", destination="/queue/a", receipt=3),
    )
    assert texts(answers) == ["RECEIPT 1", "RECEIPT 2"]
    await client.closed()
    assert queue_of(server, "a").message_count == 1
    await client.close()


async def test_a_peer_that_stops_sending_still_gets_its_receipts(server: InProcess) -> None:
    client = StompClient(server)
    await client.send(
        connect_frame(), frame("SEND", "x", destination="/queue/a", persistent="true", receipt=1)
    )
    await client.stream.send_eof()
    assert [one.command for one in await client.read()] == ["CONNECTED", "RECEIPT"]
    await client.closed()
    await client.close()

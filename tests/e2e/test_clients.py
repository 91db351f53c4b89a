"""Other people's clients, doing what their documentation shows."""

# mypy: disable-error-code="no-untyped-call,attr-defined"
# kombu has annotations in parts only.
from __future__ import annotations

import asyncio
import socket
import subprocess
import threading
from collections.abc import Callable, Iterator
from typing import Any

import aio_pika
import amqp
import kombu
import pika
import pika.exceptions
import pytest
from pika.adapters.blocking_connection import BlockingChannel
from support.amqp_peer import Peer
from support.programs import program
from support.server import Server, poll

# pika


@pytest.fixture
def pika_channel(shared: Server) -> Iterator[BlockingChannel]:
    connection = pika.BlockingConnection(pika.URLParameters(shared.url))
    yield connection.channel()
    if connection.is_open:
        connection.close()


def test_pika_publishes_and_consumes(pika_channel: BlockingChannel, name: str) -> None:
    channel = pika_channel
    channel.queue_declare(name, exclusive=True)
    channel.exchange_declare(name, "topic", auto_delete=True)
    channel.queue_bind(name, name, "a.*")
    channel.confirm_delivery()
    for number in range(5):
        channel.basic_publish(
            name,
            "a.b",
            b"%d" % number,
            pika.BasicProperties(headers={"n": number}, delivery_mode=2),
            mandatory=True,
        )
    with pytest.raises(pika.exceptions.UnroutableError):
        channel.basic_publish(name, "x.y", b"", mandatory=True)
    channel.basic_qos(prefetch_count=2)
    got = []
    for method, properties, body in channel.consume(name, inactivity_timeout=5):
        assert method is not None
        got.append((body, properties.headers["n"]))
        channel.basic_ack(method.delivery_tag)
        if len(got) == 5:
            break
    assert got == [(b"%d" % number, number) for number in range(5)]
    assert channel.cancel() == 0


def test_pika_hears_of_errors(pika_channel: BlockingChannel, name: str) -> None:
    with pytest.raises(pika.exceptions.ChannelClosedByBroker) as error:
        pika_channel.queue_declare(name, passive=True)
    assert (error.value.reply_code, error.value.reply_text) == (
        404,
        f"NOT_FOUND - no queue '{name}' in vhost '/'",
    )


def test_pika_with_a_wrong_password(shared: Server) -> None:
    with pytest.raises(pika.exceptions.ProbableAuthenticationError):
        pika.BlockingConnection(pika.URLParameters(shared.url.replace("guest:guest", "guest:wrong")))


def test_pika_with_a_wrong_virtual_host(shared: Server) -> None:
    with pytest.raises((pika.exceptions.ConnectionClosedByBroker, pika.exceptions.ProbableAccessDeniedError)):
        pika.BlockingConnection(pika.URLParameters(shared.url.replace("%2F", "nowhere")))


def test_pika_calls_procedures(shared: Server, pika_channel: BlockingChannel, name: str) -> None:
    # the sixth tutorial, with direct reply-to
    server = pika_channel
    server.queue_declare(name, exclusive=True)

    def answer(channel: Any, method: Any, properties: Any, body: bytes) -> None:
        channel.basic_publish(
            "", properties.reply_to, body, pika.BasicProperties(correlation_id=properties.correlation_id)
        )
        channel.basic_ack(method.delivery_tag)

    server.basic_consume(name, answer)
    replies: list[tuple[bytes, str]] = []
    client_connection = pika.BlockingConnection(pika.URLParameters(shared.url))
    client = client_connection.channel()
    client.basic_consume(
        "amq.rabbitmq.reply-to",
        lambda _c, _m, p, body: replies.append((body, p.correlation_id)),
        auto_ack=True,
    )
    client.basic_publish(
        "", name, b"30", pika.BasicProperties(reply_to="amq.rabbitmq.reply-to", correlation_id="c")
    )

    def turn() -> bool:
        server.connection.process_data_events(0)
        client_connection.process_data_events(0)
        return bool(replies)

    poll(turn, "no reply")
    assert replies == [(b"30", "c")]
    client_connection.close()


def test_pika_hears_of_a_deleted_queue(pika_channel: BlockingChannel, peer: Peer, name: str) -> None:
    pika_channel.queue_declare(name)
    cancelled: list[str] = []
    pika_channel.add_on_cancel_callback(lambda frame: cancelled.append(frame.method.consumer_tag))
    tag = pika_channel.basic_consume(name, lambda *_: None)
    peer.rpc(1, "queue.delete", queue=name)
    poll(lambda: (pika_channel.connection.process_data_events(0), cancelled)[1], "not told")
    assert cancelled == [tag]


# aio-pika: in an event loop of its own


def in_asyncio(function: Callable[[], Any]) -> None:
    """asyncio.run in a thread: nothing of it stays in this one."""
    failures: list[BaseException] = []

    def run() -> None:
        try:
            asyncio.run(function())
        except BaseException as error:  # noqa: BLE001 - raised again outside
            failures.append(error)

    thread = threading.Thread(target=run)
    thread.start()
    thread.join(30)
    assert not thread.is_alive(), "hangs"
    if failures:
        raise failures[0]


def test_aio_pika(shared: Server, name: str) -> None:
    async def main() -> None:
        connection = await aio_pika.connect_robust(shared.url)
        async with connection:
            channel = await connection.channel(publisher_confirms=True, on_return_raises=True)
            await channel.set_qos(prefetch_count=10)
            exchange = await channel.declare_exchange(name, aio_pika.ExchangeType.TOPIC, auto_delete=True)
            queue = await channel.declare_queue(name, exclusive=True)
            await queue.bind(exchange, "a.#")
            for number in range(20):
                await exchange.publish(
                    aio_pika.Message(b"%d" % number, headers={"n": number}, delivery_mode=2),
                    routing_key="a.b.c",
                )
            got = []
            async with queue.iterator(timeout=10) as messages:
                async for message in messages:
                    async with message.process():
                        got.append((message.body, message.headers["n"]))
                    if len(got) == 20:
                        break
            assert got == [(b"%d" % number, number) for number in range(20)]
            with pytest.raises(aio_pika.exceptions.DeliveryError):
                await exchange.publish(aio_pika.Message(b""), routing_key="nowhere", mandatory=True)
            with pytest.raises(aio_pika.exceptions.ChannelPreconditionFailed):
                await channel.declare_exchange(name, aio_pika.ExchangeType.FANOUT)

    in_asyncio(main)


def test_aio_pika_transaction(shared: Server, name: str) -> None:
    async def main() -> None:
        async with await aio_pika.connect(shared.url) as connection:
            channel = await connection.channel(publisher_confirms=False)
            queue = await channel.declare_queue(name, exclusive=True)
            async with channel.transaction():
                await channel.default_exchange.publish(aio_pika.Message(b"x"), routing_key=name)
                assert await queue.get(fail=False) is None
            message = await queue.get(timeout=5)
            assert message is not None
            await message.ack()

    in_asyncio(main)


# py-amqp


def test_py_amqp(shared: Server, name: str) -> None:
    with amqp.Connection(f"127.0.0.1:{shared.port}", confirm_publish=True, heartbeat=10) as connection:
        assert connection.server_properties["product"] == "RabbitMQ"
        channel = connection.channel()
        channel.queue_declare(name, exclusive=True, auto_delete=False)
        got: list[Any] = []
        channel.basic_consume(name, callback=got.append)
        for number in range(5):
            channel.basic_publish(
                amqp.Message(f"{number}", content_type="text/plain", application_headers={"n": number}),
                exchange="", routing_key=name,
            )  # fmt: skip
        while len(got) < 5:
            connection.drain_events(timeout=5)
        assert [message.body for message in got] == ["0", "1", "2", "3", "4"]
        for message in got:
            channel.basic_ack(message.delivery_tag)
        with pytest.raises(amqp.exceptions.NotFound):
            channel.queue_declare(f"{name}-missing", passive=True)


def test_py_amqp_with_a_wrong_password(shared: Server) -> None:
    connection = amqp.Connection(f"127.0.0.1:{shared.port}", password="wrong")
    with pytest.raises(amqp.exceptions.AccessRefused):
        connection.connect()
    connection.collect()


# kombu


def test_kombu(shared: Server, name: str) -> None:
    exchange = kombu.Exchange(name, "topic", durable=False, auto_delete=True)
    queue = kombu.Queue(name, exchange, "a.#", durable=False, auto_delete=True)
    got: list[Any] = []
    with kombu.Connection(shared.url) as connection:
        with kombu.Producer(connection, serializer="json") as producer:
            for number in range(3):
                producer.publish(
                    {"n": number}, exchange=exchange, routing_key="a.b", declare=[queue], retry=True
                )

        def on_message(body: Any, message: Any) -> None:
            got.append(body)
            message.ack()

        with kombu.Consumer(connection, [queue], callbacks=[on_message], accept=["json"], prefetch_count=1):
            while len(got) < 3:
                connection.drain_events(timeout=5)
    assert got == [{"n": 0}, {"n": 1}, {"n": 2}]


def test_kombu_simple_queue(shared: Server, peer: Peer, name: str) -> None:
    peer.declare(1, name, durable=True)  # so that it is deleted afterwards
    with kombu.Connection(shared.url) as connection:
        queue = connection.SimpleQueue(name)
        queue.put({"hello": "world"}, serializer="json")
        message = queue.get(timeout=5)
        assert message.payload == {"hello": "world"}
        message.ack()
        with pytest.raises(queue.Empty):
            queue.get_nowait()
        queue.close()
    peer.rpc(1, "exchange.delete", exchange=name)


# librabbitmq's tools


def tool(shared: Server, command: str, *arguments: str, stdin: bytes = b"") -> bytes:
    done = subprocess.run(
        [program(command, "amqp-tools"), "-u", shared.url, *arguments],
        input=stdin,
        capture_output=True,
        timeout=20,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_amqp_tools(shared: Server, peer: Peer, name: str) -> None:
    assert tool(shared, "amqp-declare-queue", "-q", name).strip() == name.encode()
    peer.declared.add(("queue", name))
    for number in range(3):
        tool(shared, "amqp-publish", "-r", name, "-b", f"body {number}", "-C", "text/plain", "-p")
    assert tool(shared, "amqp-get", "-q", name) == b"body 0"
    assert tool(shared, "amqp-consume", "-q", name, "-c", "2", "cat") == b"body 1body 2"
    assert tool(shared, "amqp-delete-queue", "-q", name).strip() == b"0"


def test_amqp_tools_with_an_exchange(shared: Server, peer: Peer, name: str) -> None:
    tool(shared, "amqp-declare-queue", "-q", name)
    peer.declared.add(("queue", name))
    peer.rpc(1, "queue.bind", queue=name, exchange="amq.topic", routing_key=f"{name}.*")
    tool(shared, "amqp-publish", "-e", "amq.topic", "-r", f"{name}.x", stdin=b"from standard input")
    assert tool(shared, "amqp-get", "-q", name) == b"from standard input"


def test_a_port_scan_does_no_harm(shared: Server, peer: Peer) -> None:
    for _ in range(20):
        socket.create_connection(("127.0.0.1", shared.port)).close()
    peer.barrier()

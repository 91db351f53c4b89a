"""Exercises of the tutorials: work queues, answers, refusals, dead letters."""

from __future__ import annotations

import subprocess
import sys
import time
import uuid
from collections.abc import Callable
from typing import Any

import pika
import pika.exceptions
import pytest
from pika.adapters.blocking_connection import BlockingChannel
from pika.exchange_type import ExchangeType
from seeds.workers import Worker
from support.server import Server, poll

StartWorker = Callable[..., Worker]


def delete(channel: BlockingChannel, *queues: str) -> None:
    for queue in queues:
        channel.queue_delete(queue)


def count(channel: BlockingChannel, queue: str) -> int:
    answer: int = channel.queue_declare(queue, passive=True).method.message_count
    return answer


@pytest.mark.parametrize(("prefetch", "expected"), [(0, (5, 5)), (1, (1, 9))])
def test_ten_tasks_a_slow_and_a_quick_worker(
    channel: BlockingChannel, start_worker: StartWorker, name: str, prefetch: int, expected: tuple[int, int]
) -> None:
    channel.exchange_declare(exchange=name, auto_delete=True)
    channel.queue_declare(queue=name)
    channel.queue_bind(queue=name, exchange=name)  # pika's default key is the queue's name

    def worker(pause: float) -> Callable[[BlockingChannel, Worker], None]:
        def prepare(ch: BlockingChannel, worker: Worker) -> None:
            if prefetch:
                ch.basic_qos(prefetch_count=prefetch)

            def work(ch: BlockingChannel, method: Any, properties: Any, body: bytes) -> None:
                ch.connection.sleep(0 if worker.got else pause)
                worker.got.append(body)
                ch.basic_ack(delivery_tag=method.delivery_tag)

            ch.basic_consume(queue=name, on_message_callback=work)

        return prepare

    slow, quick = start_worker(worker(1.0)), start_worker(worker(0.0))
    for number in range(10):
        channel.basic_publish(exchange=name, routing_key=name, body=f"{number}")
    slow.wait(expected[0])
    quick.wait(expected[1])
    assert (len(slow.got), len(quick.got)) == expected
    poll(lambda: count(channel, name) == 0, "everything acked")
    delete(channel, name)


def test_competing_workers_share_and_never_double(
    channel: BlockingChannel, start_worker: StartWorker, name: str
) -> None:
    def prepare(ch: BlockingChannel, worker: Worker) -> None:
        ch.queue_declare(queue=name)
        ch.basic_qos(prefetch_count=1)

        def work(ch: BlockingChannel, method: Any, properties: Any, body: bytes) -> None:
            worker.got.append(int(body))
            ch.basic_ack(delivery_tag=method.delivery_tag)

        ch.basic_consume(queue=name, on_message_callback=work)

    workers = [start_worker(prepare) for _ in range(3)]
    for number in range(90):
        channel.basic_publish(exchange="", routing_key=name, body=f"{number}")
    poll(lambda: sum(len(worker.got) for worker in workers) == 90, "ninety tasks done")
    assert sorted(task for worker in workers for task in worker.got) == list(range(90))
    assert all(worker.got == sorted(worker.got) for worker in workers)
    delete(channel, name)


def test_a_thousand_messages_in_order(channel: BlockingChannel, start_worker: StartWorker, name: str) -> None:
    channel.queue_declare(queue=name)
    for number in range(1000):
        channel.basic_publish(exchange="", routing_key=name, body=f"no {number}")

    def prepare(ch: BlockingChannel, worker: Worker) -> None:
        ch.queue_declare(queue=name)
        ch.basic_consume(
            queue=name,
            auto_ack=True,
            on_message_callback=lambda ch, method, properties, body: worker.got.append(body.decode()),
        )

    assert start_worker(prepare).wait(1000) == [f"no {number}" for number in range(1000)]
    delete(channel, name)


def test_request_and_reply(channel: BlockingChannel, start_worker: StartWorker, name: str) -> None:
    def serve(ch: BlockingChannel, worker: Worker) -> None:
        ch.queue_declare(queue=name, auto_delete=True)

        def answer(ch: BlockingChannel, method: Any, properties: Any, body: bytes) -> None:
            worker.got.append(properties.correlation_id)
            ch.basic_publish(
                "", routing_key=properties.reply_to, body=b"echo " + body,
                properties=pika.BasicProperties(correlation_id=properties.correlation_id),
            )  # fmt: skip

        ch.basic_consume(queue=name, auto_ack=True, on_message_callback=answer)

    server = start_worker(serve)
    replies = channel.queue_declare(queue="", exclusive=True).method.queue
    got: list[tuple[str, bytes]] = []
    channel.basic_consume(
        queue=replies,
        auto_ack=True,
        on_message_callback=lambda ch, method, properties, body: got.append(
            (properties.correlation_id, body)
        ),
    )
    request = str(uuid.uuid4())
    channel.basic_publish(
        exchange="",
        routing_key=name,
        properties=pika.BasicProperties(reply_to=replies, correlation_id=request),
        body="anybody?",
    )
    deadline = time.monotonic() + 10
    while not got and time.monotonic() < deadline:
        channel.connection.process_data_events(time_limit=1)
    assert got == [(request, b"echo anybody?")]
    assert server.got == [request]


DOOMED = """
import pika, sys
channel = pika.BlockingConnection(pika.URLParameters(sys.argv[1])).channel()
channel.basic_consume(sys.argv[2], lambda ch, method, properties, body: print(body.decode(), flush=True))
channel.start_consuming()
"""


def test_a_killed_worker_s_task_goes_to_another(shared: Server, channel: BlockingChannel, name: str) -> None:
    channel.queue_declare(queue=name, durable=True)
    channel.basic_publish(exchange="", routing_key=name, body="precious")
    with subprocess.Popen(
        [sys.executable, "-c", DOOMED, shared.url, name], stdout=subprocess.PIPE, text=True
    ) as doomed:
        assert doomed.stdout is not None
        assert doomed.stdout.readline() == "precious\n"
        assert count(channel, name) == 0
        doomed.kill()
    poll(lambda: count(channel, name), "the task back in its queue")
    method, _, body = channel.basic_get(name, auto_ack=True)
    assert (body, method.redelivered) == (b"precious", True)
    delete(channel, name)


def test_expired_messages_become_dead_letters(
    channel: BlockingChannel, start_worker: StartWorker, name: str
) -> None:
    def prepare(ch: BlockingChannel, worker: Worker) -> None:
        ch.exchange_declare(exchange=f"{name}-dlx", exchange_type=ExchangeType.fanout, auto_delete=True)
        ch.queue_declare(queue=f"{name}-dead", exclusive=True)
        ch.queue_bind(f"{name}-dead", f"{name}-dlx")

        def bury(ch: BlockingChannel, method: Any, properties: Any, body: bytes) -> None:
            worker.got.append((body, properties.headers["x-first-death-reason"], method.routing_key))
            ch.basic_ack(method.delivery_tag)

        ch.basic_consume(queue=f"{name}-dead", on_message_callback=bury)

    worker = start_worker(prepare)
    channel.exchange_declare(exchange=name, exchange_type=ExchangeType.direct, auto_delete=True)
    channel.queue_declare(
        queue=name,
        exclusive=True,
        arguments={"x-dead-letter-exchange": f"{name}-dlx", "x-message-ttl": 150},
    )
    channel.queue_bind(name, name, "soon")
    channel.basic_publish(exchange=name, routing_key="soon", body="milk")
    assert worker.wait(1) == [(b"milk", "expired", "soon")]
    assert count(channel, name) == 0


def test_refusing_many_at_once(channel: BlockingChannel, name: str) -> None:
    channel.exchange_declare(exchange=name, exchange_type=ExchangeType.fanout, auto_delete=True)
    channel.queue_declare(queue=name)
    channel.queue_bind(name, name)
    for number in range(1, 8):
        channel.basic_publish(exchange=name, routing_key="", body=f"{number}")
    for method, _, _ in channel.consume(name, inactivity_timeout=5):
        assert method is not None
        if method.delivery_tag == 5:  # with the four before it
            channel.basic_nack(delivery_tag=5, multiple=True, requeue=False)
        if method.delivery_tag == 6:
            channel.basic_ack(delivery_tag=6)
        if method.delivery_tag == 7:
            channel.basic_reject(delivery_tag=7, requeue=True)
            break
    channel.cancel()
    method, _, body = channel.basic_get(name, auto_ack=True)
    assert (method.redelivered, body) == (True, b"7")
    assert channel.basic_get(name)[0] is None
    delete(channel, name)


def test_confirms_and_returns(channel: BlockingChannel, name: str) -> None:
    channel.confirm_delivery()
    channel.queue_declare(name, exclusive=True)
    channel.basic_publish("", name, "kept", mandatory=True)
    with pytest.raises(pika.exceptions.UnroutableError) as error:
        channel.basic_publish("", f"{name}-nowhere", "returned", mandatory=True)
    assert [returned.body for returned in error.value.messages] == [b"returned"]
    assert count(channel, name) == 1


def test_transaction(channel: BlockingChannel, name: str) -> None:
    channel.queue_declare(name, exclusive=True)
    channel.tx_select()
    channel.basic_publish(exchange="", routing_key=name, body="not yet")
    assert count(channel, name) == 0
    channel.tx_rollback()
    channel.basic_publish(exchange="", routing_key=name, body="now")
    channel.tx_commit()
    assert channel.basic_get(name, auto_ack=True)[2] == b"now"
    assert channel.basic_get(name)[0] is None


def test_one_program_all_three_order_queues(channel: BlockingChannel, name: str) -> None:
    queues = [f"{name}-{step}" for step in ("order", "payment", "result")]
    got: list[tuple[str, bytes]] = []

    def take(ch: BlockingChannel, method: Any, properties: Any, body: bytes) -> None:
        got.append((method.routing_key, body))
        ch.basic_ack(delivery_tag=method.delivery_tag)

    for queue in queues:
        channel.queue_declare(queue=queue, durable=True)
        channel.basic_consume(queue=queue, on_message_callback=take, auto_ack=False)
    for queue in queues:
        channel.basic_publish(exchange="", routing_key=queue, body=f"for {queue}")
    deadline = time.monotonic() + 10
    while len(got) < 3 and time.monotonic() < deadline:
        channel.connection.process_data_events(time_limit=1)
    assert sorted(got) == sorted((queue, f"for {queue}".encode()) for queue in queues)
    delete(channel, *queues)

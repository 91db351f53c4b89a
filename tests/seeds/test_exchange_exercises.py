"""Exercises of the tutorials: one producer, several subscribers, each kind of exchange."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pika
import pytest
from pika.adapters.blocking_connection import BlockingChannel
from pika.exchange_type import ExchangeType
from seeds.workers import Worker

StartWorker = Callable[..., Worker]


def subscriber(exchange: str, kind: ExchangeType, *keys: str) -> Callable[[BlockingChannel, Worker], None]:
    """A program that binds a queue of its own, named by the server, under these keys."""

    def prepare(channel: BlockingChannel, worker: Worker) -> None:
        channel.exchange_declare(exchange=exchange, exchange_type=kind, auto_delete=True)
        queue = channel.queue_declare(queue="", exclusive=True).method.queue
        assert queue.startswith("amq.gen-")
        for key in keys:
            channel.queue_bind(exchange=exchange, queue=queue, routing_key=key)
        channel.basic_consume(
            queue=queue,
            auto_ack=True,
            on_message_callback=lambda ch, method, properties, body: worker.got.append(body.decode()),
        )

    return prepare


def test_default_exchange(channel: BlockingChannel, start_worker: StartWorker, name: str) -> None:
    channel.queue_declare(queue=name, auto_delete=True)
    channel.basic_publish(exchange="", routing_key=name, body="hail")

    def prepare(ch: BlockingChannel, worker: Worker) -> None:
        ch.queue_declare(queue=name, auto_delete=True)
        ch.basic_consume(
            queue=name,
            auto_ack=True,
            on_message_callback=lambda ch, method, properties, body: worker.got.append(
                (body, method.exchange, method.routing_key)
            ),
        )

    assert start_worker(prepare).wait(1) == [(b"hail", "", name)]


def test_fanout_exchange(channel: BlockingChannel, start_worker: StartWorker, name: str) -> None:
    first, second = (start_worker(subscriber(name, ExchangeType.fanout, "")) for _ in range(2))
    channel.exchange_declare(exchange=name, exchange_type=ExchangeType.fanout, auto_delete=True)
    channel.basic_publish(exchange=name, routing_key="whatever", body="to all")
    assert first.wait(1) == second.wait(1) == ["to all"]


def test_direct_exchange(channel: BlockingChannel, start_worker: StartWorker, name: str) -> None:
    counting = start_worker(subscriber(name, ExchangeType.direct, "count", "both"))
    paying = start_worker(subscriber(name, ExchangeType.direct, "pay", "both"))
    channel.exchange_declare(exchange=name, exchange_type=ExchangeType.direct, auto_delete=True)
    for key in ("pay", "count", "neither", "both"):
        channel.basic_publish(exchange=name, routing_key=key, body=f"by {key}")
    assert counting.wait(2) == ["by count", "by both"]
    assert paying.wait(2) == ["by pay", "by both"]


def test_topic_exchange(channel: BlockingChannel, start_worker: StartWorker, name: str) -> None:
    middle = start_worker(subscriber(name, ExchangeType.topic, "*.north.*"))
    ending = start_worker(subscriber(name, ExchangeType.topic, "#.bill"))
    beginning = start_worker(subscriber(name, ExchangeType.topic, "farm.#"))
    everything = start_worker(subscriber(name, ExchangeType.topic, "#"))
    channel.exchange_declare(exchange=name, exchange_type=ExchangeType.topic, auto_delete=True)
    keys = ["farm.north.bill", "town.north.order", "farm", "bill", "town.south"]
    for key in keys:
        channel.basic_publish(exchange=name, routing_key=key, body=key)
    assert everything.wait(5) == keys
    assert middle.wait(2) == keys[:2]
    assert ending.wait(2) == ["farm.north.bill", "bill"]
    assert beginning.wait(2) == ["farm.north.bill", "farm"]


@pytest.mark.parametrize(("match", "expected"), [("any", ["name", "both"]), ("all", ["both"])])
def test_headers_exchange(channel: BlockingChannel, name: str, match: str, expected: list[str]) -> None:
    channel.exchange_declare(name, ExchangeType.headers, auto_delete=True)
    channel.queue_declare(queue=name, exclusive=True)
    channel.queue_bind(exchange=name, queue=name, arguments={"x-match": match, "name": "ada", "age": "21"})
    sent: dict[str, dict[str, Any]] = {
        "name": {"name": "ada"},
        "neither": {"name": "bob", "age": 21},
        "both": {"name": "ada", "age": "21", "more": 1},
    }
    for body, headers in sent.items():
        channel.basic_publish(name, "", body, pika.BasicProperties(headers=headers))
    got = [channel.basic_get(name, auto_ack=True)[2] for _ in expected]
    assert got == [body.encode() for body in expected]
    assert channel.basic_get(name)[0] is None


def test_consistent_hash_exchange(channel: BlockingChannel, name: str) -> None:
    channel.exchange_declare(exchange=name, exchange_type="x-consistent-hash", auto_delete=True)
    queues = [f"{name}-{number}" for number in range(2)]
    for queue in queues:
        channel.queue_declare(queue=queue, exclusive=True)
        channel.queue_bind(exchange=name, queue=queue, routing_key="1")
    for number in range(60):
        channel.basic_publish(exchange=name, routing_key=f"key {number % 20}", body=f"key {number % 20}")
    seen: dict[bytes, set[str]] = {}
    for queue in queues:
        while (got := channel.basic_get(queue, auto_ack=True))[0] is not None:
            seen.setdefault(got[2], set()).add(queue)
    assert len(seen) == 20
    assert all(len(where) == 1 for where in seen.values()), "one key went to two queues"
    assert {queue for where in seen.values() for queue in where} == set(queues)


def test_exchange_to_exchange(channel: BlockingChannel, name: str) -> None:
    channel.exchange_declare(exchange=f"{name}-in", exchange_type="direct", auto_delete=True)
    channel.exchange_declare(exchange=f"{name}-out", exchange_type="fanout", auto_delete=True)
    channel.exchange_bind(destination=f"{name}-out", source=f"{name}-in", routing_key="through")
    channel.queue_declare(queue=name, exclusive=True)
    channel.queue_bind(exchange=f"{name}-out", queue=name)
    channel.basic_publish(exchange=f"{name}-in", routing_key="through", body="two steps")
    channel.basic_publish(exchange=f"{name}-in", routing_key="not", body="none")
    method, _, body = channel.basic_get(name, auto_ack=True)
    assert (body, method.exchange, method.routing_key) == (b"two steps", f"{name}-in", "through")
    assert channel.basic_get(name)[0] is None


def test_alternate_exchange(channel: BlockingChannel, name: str) -> None:
    channel.exchange_declare(exchange=f"{name}-else", exchange_type=ExchangeType.fanout, auto_delete=True)
    channel.exchange_declare(
        exchange=name,
        exchange_type=ExchangeType.direct,
        auto_delete=True,
        arguments={"alternate-exchange": f"{name}-else"},
    )
    for queue, exchange in ((f"{name}-unrouted", f"{name}-else"), (f"{name}-routed", name)):
        channel.queue_declare(queue=queue, exclusive=True)
        channel.queue_bind(exchange=exchange, queue=queue, routing_key="known")
    channel.basic_publish(exchange=name, routing_key="unknown", body="lost?")
    channel.basic_publish(exchange=name, routing_key="known", body="found")
    assert channel.basic_get(f"{name}-unrouted", auto_ack=True)[2] == b"lost?"
    assert channel.basic_get(f"{name}-routed", auto_ack=True)[2] == b"found"
    assert channel.basic_get(f"{name}-unrouted")[0] is None

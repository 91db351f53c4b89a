"""Exercises of the tutorials: a thousand messages, a hundred taken, and the broker restarted or killed."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable

import pika
import pytest
from pika.adapters.blocking_connection import BlockingChannel
from support.server import LeveretServer

StartServer = Callable[..., LeveretServer]
PERSISTENT = pika.BasicProperties(delivery_mode=pika.DeliveryMode.Persistent.value)
FLOOD = """
import pika, sys
with pika.BlockingConnection(pika.URLParameters(sys.argv[1])) as connection:
    channel = connection.channel()
    for number in range(int(sys.argv[2])):
        channel.basic_publish("", "flood", f"{sys.argv[3]} {number}")
"""


def connected(server: LeveretServer) -> pika.BlockingConnection:
    return pika.BlockingConnection(pika.URLParameters(server.url))


def take_all(channel: BlockingChannel, queue: str) -> list[tuple[bytes, bool]]:
    got = []
    while (answer := channel.basic_get(queue, auto_ack=True))[0] is not None:
        got.append((answer[2], answer[0].redelivered))
    return got


@pytest.mark.parametrize("how", ["restart", "kill"])
def test_nine_hundred_of_a_thousand_are_left(server: StartServer, how: str) -> None:
    broker = server()
    with connected(broker) as connection:
        channel = connection.channel()
        channel.queue_declare("tasks", durable=True)
        channel.queue_declare("in memory", durable=True)
        channel.confirm_delivery()
        for number in range(1000):
            channel.basic_publish("", "tasks", f"{number}", PERSISTENT)
        for number in range(10):
            channel.basic_publish("", "in memory", f"{number}")
        channel.basic_qos(prefetch_count=10)
        for taken, (method, _, body) in enumerate(channel.consume("tasks"), 1):
            assert body == b"%d" % (taken - 1)
            channel.basic_ack(method.delivery_tag)
            if taken == 100:
                break
        channel.cancel()
        assert channel.queue_declare("tasks", passive=True).method.message_count == 900
    if how == "kill":
        broker.kill()
        broker.start()
    else:
        broker.restart()
    with connected(broker) as connection:
        channel = connection.channel()
        got = take_all(channel, "tasks")
        left = [body for body, _ in got if int(body) >= 100]
        assert left == [b"%d" % number for number in range(100, 1000)]
        # An ack is not confirmed: after a kill, and only then, some of the taken ones may come again, marked.
        again = [entry for entry in got if int(entry[0]) < 100]
        assert all(is_redelivered for _, is_redelivered in again)
        assert how == "kill" or not again
        assert take_all(channel, "in memory") == []


def test_what_is_durable_is_there_after_a_kill(server: StartServer) -> None:
    broker = server()
    with connected(broker) as connection:
        channel = connection.channel()
        channel.exchange_declare(exchange="stays", durable=True)
        channel.exchange_declare(exchange="goes")
        channel.queue_declare(queue="stays", durable=True)
        channel.queue_declare(queue="goes")
        channel.queue_bind(queue="stays", exchange="stays")
        channel.confirm_delivery()
        for number in range(10):
            channel.basic_publish("stays", "stays", f"{number}", PERSISTENT)
    broker.kill()
    broker.start()
    with connected(broker) as connection:
        channel = connection.channel()
        channel.basic_publish("stays", "stays", "later")
        assert [body for body, _ in take_all(channel, "stays")] == [*(b"%d" % n for n in range(10)), b"later"]
    assert {row["name"] for row in broker.rows("list_queues", "name")} == {"stays"}
    assert "goes" not in {row["name"] for row in broker.rows("list_exchanges", "name")}


def test_five_producers_at_once(server: StartServer) -> None:
    broker, each = server(), 4000
    with connected(broker) as connection:
        channel = connection.channel()
        channel.queue_declare("flood", durable=True)
        producers = [
            subprocess.Popen([sys.executable, "-c", FLOOD, broker.url, str(each), str(number)])
            for number in range(5)
        ]
        last = dict.fromkeys(range(5), -1)
        channel.basic_qos(prefetch_count=500)
        for taken, (method, _, body) in enumerate(channel.consume("flood", inactivity_timeout=20), 1):
            assert method is not None, f"{taken - 1} came, then nothing"
            producer, number = map(int, body.split())
            assert number == last[producer] + 1, "out of order"
            last[producer] = number
            if taken % 100 == 0:
                channel.basic_ack(method.delivery_tag, multiple=True)
            if taken == 5 * each:
                break
        assert [producer.wait(30) for producer in producers] == [0] * 5
        channel.cancel()
        assert channel.queue_declare("flood", passive=True).method.message_count == 0


def test_users_and_virtual_hosts_of_the_command_line(server: StartServer) -> None:
    broker = server()
    broker.ctl("add_user", "clerk", "pen")
    broker.ctl("set_user_tags", "clerk", "administrator")
    broker.ctl("add_vhost", "shop")
    broker.ctl("set_permissions", "-p", "shop", "clerk", ".*", ".*", ".*")
    parameters = pika.ConnectionParameters(
        "127.0.0.1", broker.port, virtual_host="shop", credentials=pika.PlainCredentials("clerk", "pen")
    )
    with pika.BlockingConnection(parameters) as connection:
        connection.channel().queue_declare("counter")
        assert [row["name"] for row in broker.rows("list_queues", "-p", "shop", "name")] == ["counter"]
    assert {row["name"] for row in broker.rows("list_vhosts", "name")} == {"/", "shop"}
    assert {row["user"] for row in broker.rows("list_users")} == {"guest", "clerk"}

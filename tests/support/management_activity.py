"""Users of every tag, a second virtual host, and one client that has done one of everything: what management tests look at."""

from __future__ import annotations

import pika
from support.server import LeveretServer

__all__ = ["USERS", "VHOST", "Activity"]

VHOST = "with / and %"
USERS = {
    "admin": ["administrator"],
    "monitor": ["monitoring"],
    "maker": ["policymaker"],
    "manager": ["management"],
    "nobody": [],
}


class Activity:
    """A connection that has published, got and consumes: one of everything."""

    def __init__(self, broker: LeveretServer) -> None:
        self.connection = pika.BlockingConnection(
            pika.ConnectionParameters(
                "127.0.0.1", broker.port, client_properties={"connection_name": "tester"}, heartbeat=600
            )
        )
        channel = self.publishing = self.connection.channel()
        channel.confirm_delivery()
        channel.queue_declare("q1", durable=True, arguments={"x-single-active-consumer": True})
        channel.queue_declare("idle", durable=True)
        channel.queue_declare("mine", exclusive=True)
        channel.exchange_declare("x1", "topic", durable=True, arguments={"alternate-exchange": "amq.fanout"})
        channel.queue_bind("q1", "x1", "a.#")
        channel.queue_bind("q1", "x1", "b~/ %c", arguments={"x": 1})
        channel.queue_bind("q1", "amq.fanout", "")
        channel.exchange_bind("amq.fanout", "x1", "z")
        for number in range(20):
            channel.basic_publish(
                "x1", "a.b", b"%d" % number, pika.BasicProperties(delivery_mode=2, timestamp=7)
            )
        channel.basic_publish("", "mine", b"hello")
        channel.basic_get("mine")
        channel.basic_get("mine")
        consuming = self.consuming = self.connection.channel()
        consuming.basic_qos(prefetch_count=5)
        consuming.basic_consume("q1", lambda *_: None, consumer_tag="tag1", arguments={"k": "v"})
        self.connection.process_data_events(0.05)

    @property
    def name(self) -> str:
        host, port = self.connection._impl._transport._sock.getsockname()[:2]
        peer = self.connection._impl._transport._sock.getpeername()
        return f"{host}:{port} -> {peer[0]}:{peer[1]}"

    def close(self) -> None:
        for queue in ("q1", "idle"):
            self.publishing.queue_delete(queue)
        self.publishing.exchange_delete("x1")
        self.connection.close()

"""Filters, sinks and queues for the tests of core/queue/filtered.py."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from support.topology import FakeBroker

from leveret.core.message import Envelope, Message
from leveret.core.queue.consumer import UNLIMITED, Consumer
from leveret.core.queue.queue import Queue

__all__ = ["Taker", "Wants", "make_queue"]


class Wants:
    """A filter: the messages whose routing key has one of these letters."""

    def __init__(self, letters: str) -> None:
        self.letters = letters
        self.asked = 0

    def matches(self, envelope: Envelope) -> bool:
        self.asked += 1
        return envelope.routing_key in self.letters


class Taker:
    """A sink of one consumer; `window` is what it takes at all."""

    def __init__(self, window: int = UNLIMITED) -> None:
        self.taken: list[Message] = []
        self.window = window

    def capacity(self, consumer: Consumer) -> int:
        return self.window

    def deliver(self, consumer: Consumer, messages: list[Message]) -> None:
        for message in messages:
            message.consumer = consumer
        self.taken += messages
        if self.window != UNLIMITED:
            self.window -= len(messages)
            assert self.window >= 0

    def on_cancelled(self, consumer: Consumer, reason: str) -> None: ...
    def describe(self) -> dict[str, Any]:
        return {}

    def bodies(self) -> list[bytes]:
        bodies, self.taken = [message.body for message in self.taken], []
        return bodies


def make_queue(*, window: int = 1000, durable: bool = False, **arguments: Any) -> tuple[FakeBroker, Queue]:
    broker = FakeBroker()
    store = replace(broker.settings.store, window_messages=window, window_bytes=1 << 20)
    broker.settings = replace(broker.settings, store=store)
    vhost = broker.add_vhost()
    named = {name.replace("_", "-"): value for name, value in arguments.items()}
    return broker, vhost.add_queue("q", durable=durable, exclusive=False, auto_delete=False, arguments=named)

"""A broker with the plugin of webhooks out, and an endpoint it sends to: in the test's own trio, on streams in memory."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import trio
import trio.testing
from support.hook_receiver import Received, read_request, reply
from support.registries import installed

from leveret.conf.settings import Settings
from leveret.core.broker import Broker
from leveret.core.message import Envelope
from leveret.core.properties import Properties
from leveret.core.publishing import publish_internal
from leveret.core.queue.queue import Queue
from leveret.core.store.base import Store
from leveret.core.store.memory import MemoryStore
from leveret.plugins.webhooks.outgoing.attempts import AttemptQuery
from leveret.plugins.webhooks.outgoing.connector import RequestFailed, Target
from leveret.plugins.webhooks.outgoing.dead_letters import Selection, dead_letters
from leveret.plugins.webhooks.outgoing.webhook import Webhook
from leveret.plugins.webhooks.plugin import WebhooksPlugin
from leveret.plugins.webhooks.settings import WebhooksSettings

__all__ = [
    "NO_JITTER",
    "SECRET",
    "URL",
    "Answer",
    "Endpoint",
    "World",
    "first_fails",
    "ok",
    "world",
]

URL = "https://hooks.example/in"
SECRET = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
NO_JITTER = {"initial_s": 5, "factor": 3, "max_s": 100, "attempts": 5, "jitter": 0}

Answer = Callable[[Received, int], bytes | float | None]
"""bytes: send them; a number: be silent for so many seconds, then 200; None: hang up."""


class Endpoint:
    """Stands in for the connector, and for all that is behind it."""

    def __init__(self, nursery: trio.Nursery, answer: Answer) -> None:
        self._nursery = nursery
        self.answer = answer
        self.received: list[Received] = []
        self.in_flight = self.most_in_flight = 0
        self.is_down = False

    async def open(self, target: Target) -> trio.abc.Stream:
        await trio.lowlevel.checkpoint()
        if self.is_down:
            raise RequestFailed("connect", "Connection refused")
        ours, theirs = trio.testing.memory_stream_pair()
        self._nursery.start_soon(self._serve, theirs)
        return ours

    async def _serve(self, stream: trio.abc.Stream) -> None:
        rest = bytearray()
        async with stream:
            while (request := await read_request(stream, rest)) is not None:
                self.received.append(request)
                answer = self.answer(request, len(self.received))
                self.in_flight += 1
                self.most_in_flight = max(self.most_in_flight, self.in_flight)
                try:
                    if isinstance(answer, float):
                        await trio.sleep(answer)
                        answer = reply(200)
                    await trio.lowlevel.checkpoint()
                finally:
                    self.in_flight -= 1
                if answer is None:
                    return
                await stream.send_all(answer)

    @property
    def bodies(self) -> list[bytes]:
        return [one.body for one in self.received]

    def times(self) -> list[float]:
        """Since the first one."""
        return [round(one.at - self.received[0].at, 3) for one in self.received]


class World:
    """A broker with the plugin, one endpoint for all subscriptions, and the virtual host "/"."""

    def __init__(self, broker: Broker, plugin: WebhooksPlugin, endpoint: Endpoint) -> None:
        self.broker = broker
        self.plugin = plugin
        self.endpoint = endpoint
        self.vhost = broker.vhosts["/"]
        self.scope = trio.CancelScope()  # of the plugin
        self.ended = trio.Event()
        self.events: list[tuple[str, dict[str, Any]]] = []
        broker.events.subscribe(lambda name, fields: self.events.append((name, fields)))

    def subscribe(self, name: str = "w", **value: Any) -> None:
        if "queue" not in value:
            value = {"exchange": "amq.topic", "routing_key": "#"} | value
        value = {"url": URL, "secrets": [SECRET], "retry": NO_JITTER} | value
        self.vhost.set_parameter("webhook", name, value)

    def publish(self, *bodies: bytes | str, key: str = "a.b", **properties: Any) -> None:
        envelope = Envelope.of("amq.topic", key, Properties(**{"delivery_mode": 2} | properties))
        for body in bodies:
            assert publish_internal(
                self.vhost, "amq.topic", envelope, body.encode() if isinstance(body, str) else body
            )

    def queue(self, name: str = "webhook.w") -> Queue:
        return self.vhost.queues[name]

    def webhook(self, name: str = "w") -> Webhook:
        return self.plugin.find("/", name)

    def dead(self, name: str = "w") -> list[dict[str, Any]]:
        found = dead_letters(self.webhook(name).dead_queue(), Selection(), after=0, limit=1000)
        return [one.as_json() for one in found]

    def attempts(self, **filters: Any) -> list[dict[str, Any]]:
        return [one.as_json() for one in self.webhook().attempts.find(AttemptQuery(**filters))]

    @property
    def facts(self) -> dict[str, Any]:
        return self.webhook().describe()

    async def settled(self, within_s: float = 100_000.0) -> None:
        """Until nothing of the subscription's queue is left, neither ready nor out."""
        with trio.fail_after(within_s):
            while self.queue().message_count or self.queue().unacked_count:  # noqa: ASYNC110
                await trio.sleep(0.25)


def ok(request: Received, count: int) -> bytes:
    return reply(200, b"ok")


@asynccontextmanager
async def world(answer: Answer = ok, store: Store | None = None, **settings: Any) -> AsyncIterator[World]:
    async with (
        Broker(Settings(), installed(), store or MemoryStore()).running() as broker,
        trio.open_nursery() as nursery,
    ):
        plugin = WebhooksPlugin(WebhooksSettings(**settings))
        endpoint = Endpoint(nursery, answer)
        plugin.connector = endpoint  # type: ignore[assignment]  # stands in for it
        scope = trio.CancelScope()
        ended = trio.Event()

        async def run(task_status: trio.TaskStatus[None]) -> None:
            with scope:
                await plugin.run(broker, task_status=task_status)
            ended.set()

        await nursery.start(run)
        made = World(broker, plugin, endpoint)
        made.scope, made.ended = scope, ended
        yield made
        scope.cancel()
        await ended.wait()
        for queue in made.vhost.queues.values():
            assert (queue.unacked_count, queue.consumer_count) == (0, 0)
        nursery.cancel_scope.cancel()


def first_fails(times: int, status: int = 500, **headers: str) -> Answer:
    return lambda request, count: reply(status if count <= times else 200, b"x", **headers)

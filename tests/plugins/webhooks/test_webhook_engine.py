"""The engine, in a broker of its own: what becomes of each message. On the jumping clock and streams in memory."""

from __future__ import annotations

import json
import logging
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from email.utils import formatdate
from pathlib import Path
from typing import Any

import pytest
import trio
import trio.testing
from standardwebhooks.webhooks import Webhook
from support.hook_receiver import Received, read_request, reply
from trio.testing import MockClock

from leveret.conf.settings import Settings
from leveret.core.broker import Broker
from leveret.core.errors import InvalidArgument, NotFound
from leveret.core.message import Envelope
from leveret.core.properties import Properties
from leveret.core.queue import Queue
from leveret.core.store.base import Store
from leveret.core.store.lmdb import LmdbStore
from leveret.core.store.memory import MemoryStore
from leveret.plugins.loader import load_registry
from leveret.plugins.webhooks import endpoint as engine
from leveret.plugins.webhooks.dialer import RequestFailed, Target
from leveret.plugins.webhooks.plugin import WebhooksPlugin
from leveret.plugins.webhooks.rendering import Rendering
from leveret.plugins.webhooks.subscription import Subscription

URL = "https://hooks.example/in"
SECRET = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
NO_JITTER = {"initial_s": 5, "factor": 3, "max_s": 100, "attempts": 5, "jitter": 0}

Answer = Callable[[Received, int], bytes | float | None]
"""bytes: send them; a number: be silent for so many seconds, then 200; None: hang up."""


class Endpoint:
    """Stands in for the dialer, and for all that is behind it."""

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
            assert self.vhost.publish_internal(
                "amq.topic", envelope, body.encode() if isinstance(body, str) else body
            )

    def queue(self, name: str = "webhook.w") -> Queue:
        return self.vhost.queues[name]

    def dead(self, name: str = "w") -> list[dict[str, Any]]:
        return self.plugin.dead_letters("/", name, {}, after=0, limit=1000)

    def attempts(self, **filters: Any) -> list[dict[str, Any]]:
        return self.plugin.attempts("/", "w", filters)

    @property
    def facts(self) -> dict[str, Any]:
        return self.plugin.webhook("/", "w")

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
        Broker(Settings(), load_registry(), store or MemoryStore()).running() as broker,
        trio.open_nursery() as nursery,
    ):
        plugin = WebhooksPlugin({**WebhooksPlugin.settings, **settings})
        endpoint = Endpoint(nursery, answer)
        plugin.dialer = endpoint  # type: ignore[assignment]  # stands in for it
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


# -- delivered


async def test_a_message_is_sent_signed_acknowledged_and_recorded(autojump_clock: MockClock) -> None:
    async with world() as w:
        w.subscribe(headers={"X-Team": "hares"}, auth={"type": "bearer", "token": "t0k"})
        w.publish(
            b'{"n": 1}', key="orders.new", content_type="application/json", message_id="order-1",
            headers={"trace": "abc", "n": 5, "u": "\u00e4 %", "nested": {"a": 1}}, correlation_id="c",
        )  # fmt: skip
        await w.settled()
        (request,) = w.endpoint.received
        assert (request.method, request.path, request.body) == ("POST", "/in", b'{"n": 1}')
        headers = request.headers
        assert Webhook(SECRET).verify(request.body, headers) == {"n": 1}
        assert headers["content-type"] == "application/json"
        assert headers["webhook-id"] == "order-1"
        assert headers["user-agent"].startswith("Leveret/")
        assert headers["authorization"] == "Bearer t0k"
        assert {name: value for name, value in headers.items() if name.startswith("x-")} == {
            "x-team": "hares", "x-leveret-subscription": "w", "x-leveret-exchange": "amq.topic",
            "x-leveret-routing-key": "orders.new", "x-leveret-attempt": "1", "x-leveret-correlation-id": "c",
            "x-leveret-message-id": "order-1", "x-leveret-header-trace": "abc", "x-leveret-header-n": "5",
            "x-leveret-header-u": "%C3%A4%20%25",
        }  # fmt: skip
        (attempt,) = w.attempts()
        assert (attempt["outcome"], attempt["status"], attempt["attempt"]) == ("delivered", 200, 1)
        assert (attempt["webhook_id"], attempt["response"], attempt["exchange"]) == (
            "order-1", "ok", "amq.topic",
        )  # fmt: skip
        assert attempt["latency_ms"] >= 0
        assert w.facts["delivered_total"] == 1


async def test_ids_are_made_where_the_publisher_gives_none_and_differ(autojump_clock: MockClock) -> None:
    async with world() as w:
        w.subscribe()
        w.publish("1", "2")
        w.publish("3", message_id="has.dots")
        await w.settled()
        ids = [one.id for one in w.endpoint.received]
        assert len(set(ids)) == 3
        assert all(one.startswith("msg_") and "." not in one for one in ids)


async def test_a_queue_that_is_there_is_consumed(autojump_clock: MockClock) -> None:
    async with world() as w:
        w.vhost.add_queue("orders", durable=True, exclusive=False, auto_delete=False, arguments={})
        w.subscribe(queue="orders")
        w.vhost.publish_internal("", Envelope.of("", "orders", Properties()), b"x")
        await trio.sleep(1)
        assert w.endpoint.bodies == [b"x"]
        w.vhost.clear_parameter("webhook", "w")
        await trio.sleep(1)
        assert "orders" in w.vhost.queues
        assert w.queue("orders").consumer_count == 0


async def test_many_at_once_but_not_more_than_allowed(autojump_clock: MockClock) -> None:
    async with world(lambda request, count: 1.0) as w:
        w.subscribe(concurrency=4)
        w.publish(*map(str, range(40)))
        await w.settled()
        assert w.endpoint.most_in_flight == 4
        assert sorted(w.endpoint.bodies, key=int) == [b"%d" % number for number in range(40)]
        assert w.endpoint.times()[-1] == pytest.approx(9, abs=0.1)


async def test_no_secret_no_signature(autojump_clock: MockClock) -> None:
    async with world() as w:
        w.subscribe(secrets=[])
        w.publish("x")
        await w.settled()
        assert "webhook-signature" not in w.endpoint.received[0].headers
        assert "webhook-id" in w.endpoint.received[0].headers


# -- failed


async def test_retries_keep_the_id_and_renew_the_timestamp(autojump_clock: MockClock) -> None:
    async with world(first_fails(3)) as w:
        w.subscribe()
        w.publish("x")
        await w.settled()
        assert w.endpoint.times() == pytest.approx([0, 5, 20, 65], abs=0.01)
        assert len({one.id for one in w.endpoint.received}) == 1
        assert [one.headers["x-leveret-attempt"] for one in w.endpoint.received] == ["1", "2", "3", "4"]
        for one in w.endpoint.received:
            Webhook(SECRET).verify(b"{}", one.headers) if one.body == b"{}" else None
        outcomes = [(one["outcome"], one["reason"], one["attempt"]) for one in w.attempts()]
        assert outcomes == [
            ("delivered", "", 4), ("retry", "status", 3), ("retry", "status", 2), ("retry", "status", 1),
        ]  # fmt: skip
        retry = w.attempts(outcome="retry")[0]
        assert retry["next_at"] - retry["at"] == pytest.approx(45_000, abs=50)


async def test_jitter_moves_retries(autojump_clock: MockClock) -> None:
    async with world(first_fails(1)) as w:
        w.subscribe(retry={"initial_s": 100, "jitter": 0.5})
        w.publish("x")
        await w.settled()
        assert 50 <= w.endpoint.times()[1] <= 150


@pytest.mark.parametrize(
    ("answer", "reason", "status"),
    [
        (reply(500), "status", 500),
        (reply(404), "status", 404),
        (reply(302, Location="https://hooks.example/else"), "status", 302),
        (None, "closed", None),
        (b"rubbish\r\n\r\n", "protocol", None),
        (1000.0, "timeout", None),
    ],
)
async def test_every_failure_is_tried_again(
    autojump_clock: MockClock, answer: bytes | float | None, reason: str, status: int | None
) -> None:
    async with world(lambda request, count: answer if count == 1 else reply(200)) as w:
        w.subscribe(timeout_s=3)
        w.publish("x")
        await w.settled()
        assert len(w.endpoint.received) == 2
        assert {one.path for one in w.endpoint.received} == {"/in"}
        failed = w.attempts(outcome="retry")[0]
        assert (failed["reason"], failed["status"]) == (reason, status)


async def test_given_up_after_the_last_attempt(autojump_clock: MockClock) -> None:
    async with world(lambda request, count: reply(503, b"still \xff broken")) as w:
        w.subscribe()
        w.publish("x", key="k", headers={"mine": 1}, message_id="m", expiration="100000000")
        await w.settled()
        assert w.endpoint.times() == pytest.approx([0, 5, 20, 65, 165], abs=0.02)
        (letter,) = w.dead()
        assert (letter["reason"], letter["status"], letter["attempts"]) == ("exhausted", 503, 5)
        assert (letter["webhook_id"], letter["exchange"], letter["routing_key"]) == ("m", "amq.topic", "k")
        message = w.queue("webhook.w.dead").get(no_ack=True)
        assert message is not None
        properties = message.envelope.properties
        assert (message.body, properties.delivery_mode, properties.expiration) == (b"x", 2, None)
        headers = properties.headers or {}
        assert headers["mine"] == 1
        assert headers["x-webhook-reason"] == "exhausted"
        assert headers["x-webhook-original-expiration"] == "100000000"
        last = w.attempts(outcome="dead")[0]
        assert (last["reason"], last["response"]) == ("exhausted", "still \ufffd broken")
        names = [name for name, _ in w.events if name.startswith("webhook.")]
        assert names == ["webhook.failing", "webhook.exhausted"]


async def test_statuses_that_are_not_worth_another_attempt(autojump_clock: MockClock) -> None:
    async with world(lambda request, count: reply(422)) as w:
        w.subscribe(dead_letter_on=[400, 422])
        w.publish("x")
        await w.settled()
        assert len(w.endpoint.received) == 1
        assert (w.dead()[0]["reason"], w.dead()[0]["status"]) == ("status", 422)


async def test_messages_that_expire_are_dead(autojump_clock: MockClock) -> None:
    async with world(lambda request, count: reply(500)) as w:
        w.subscribe()
        w.publish("x", expiration="30000")
        await w.settled()
        assert w.endpoint.times() == pytest.approx([0, 5, 20], abs=0.01)
        assert w.dead()[0]["reason"] == "expired"


async def test_messages_that_expire_before_their_turn_are_dead_too(autojump_clock: MockClock) -> None:
    async with world() as w:
        w.subscribe(enabled=False, message_ttl_s=10)
        w.publish("x", key="k")
        await trio.sleep(11)
        assert w.queue().message_count == 0
        (letter,) = w.dead()
        assert (letter["reason"], letter["routing_key"], letter["exchange"]) == ("expired", "k", "amq.topic")


async def test_a_message_has_an_age(autojump_clock: MockClock) -> None:
    async with world(lambda request, count: reply(500)) as w:
        w.subscribe(max_age_s=60)
        w.publish("x")
        await w.settled()
        assert len(w.endpoint.received) == 3
        assert w.dead()[0]["reason"] == "expired"


async def test_gone_disables_and_keeps_the_rest(autojump_clock: MockClock) -> None:
    async with world(lambda request, count: reply(410)) as w:
        w.subscribe(concurrency=1)
        w.publish("1", "2", "3")
        await trio.sleep(10)
        assert w.endpoint.bodies == [b"1"]
        assert (w.facts["status"], w.facts["disabled_by"]) == ("disabled", "the endpoint answered 410 Gone")
        assert w.dead()[0]["reason"] == "gone"
        assert w.queue().message_count == 2
        w.publish("4")
        await trio.sleep(10)
        assert w.endpoint.bodies == [b"1"]
        w.endpoint.answer = ok
        w.plugin.enable("/", "w")
        await w.settled()
        assert w.endpoint.bodies == [b"1", b"2", b"3", b"4"]
        assert w.facts["status"] == "running"


async def test_failing_for_too_long_disables(autojump_clock: MockClock) -> None:
    async with world(lambda request, count: reply(500)) as w:
        w.subscribe(disable_after_s=50, circuit_breaker=False)
        w.publish("x")
        await trio.sleep(200)
        assert w.endpoint.times() == pytest.approx([0, 5, 20, 65], abs=0.01)
        assert w.facts["status"] == "disabled"
        assert w.queue().message_count == 1  # not dead: it goes on when somebody enables it
        w.endpoint.answer = ok
        w.plugin.enable("/", "w")
        await w.settled()
        assert w.endpoint.received[-1].headers["x-leveret-attempt"] == "5"


async def test_a_success_ends_the_failing(autojump_clock: MockClock) -> None:
    async with world(lambda request, count: reply(500 if request.body == b"bad" else 200)) as w:
        w.subscribe(disable_after_s=50, circuit_breaker=False)
        w.publish("bad")
        for _ in range(10):
            w.publish("good")
            await trio.sleep(10)
        assert w.facts["status"] == "running"


# -- told to wait


@pytest.mark.parametrize("form", ["seconds", "date"])
async def test_retry_after_holds_the_whole_endpoint(autojump_clock: MockClock, form: str) -> None:
    def answer(request: Received, count: int) -> bytes:
        if count > 1:
            return reply(200)
        import time

        after = "120" if form == "seconds" else formatdate(time.time() + 121, usegmt=True)
        return reply(429, Retry_After=after)

    async with world(answer) as w:
        w.subscribe(concurrency=1)
        w.publish("1", "2")
        await w.settled()
        first, second, third = w.endpoint.times()
        assert (first, second) == pytest.approx((0, 120), abs=1.5)
        assert third == pytest.approx(second, abs=1)


async def test_retry_after_is_clamped(autojump_clock: MockClock) -> None:
    async with world(first_fails(1, 503, Retry_After="1000000")) as w:
        w.subscribe(max_retry_after_s=200)
        w.publish("1")
        await w.settled()
        assert w.endpoint.times() == pytest.approx([0, 200], abs=0.01)


async def test_429_without_a_time_holds_the_endpoint_too(autojump_clock: MockClock) -> None:
    async with world(first_fails(1, 429)) as w:
        w.subscribe(concurrency=1)
        w.publish("1", "2")
        await w.settled()
        assert w.endpoint.times()[1] == pytest.approx(5, abs=0.01)


async def test_rate_limit(autojump_clock: MockClock) -> None:
    async with world() as w:
        w.subscribe(rate_limit={"requests": 2, "per_s": 1, "burst": 3})
        w.publish(*map(str, range(7)))
        await w.settled()
        assert w.endpoint.times() == pytest.approx([0, 0, 0, 0.5, 1, 1.5, 2], abs=0.01)


async def test_the_breaker_stops_and_probes(autojump_clock: MockClock) -> None:
    async with world(lambda request, count: reply(500 if count <= 11 else 200)) as w:
        w.subscribe(concurrency=1, retry={"initial_s": 1000, "jitter": 0})
        w.publish(*map(str, range(13)))
        await trio.sleep(20)
        assert len(w.endpoint.received) == 10  # ten failures of ten: open
        assert w.facts["circuit_breaker"] == "open"
        await trio.sleep(15)  # half-open: one probe, which fails
        assert len(w.endpoint.received) == 11
        await trio.sleep(30)
        assert len(w.endpoint.received) == 13  # the next probe succeeds, and the rest follows
        assert w.facts["circuit_breaker"] == "closed"
        await w.settled()


# -- order


async def test_order_per_key(autojump_clock: MockClock) -> None:
    """A message that fails holds those behind it of its key, and no others."""
    async with world(lambda request, count: reply(500 if request.body == b"a1" and count < 4 else 200)) as w:
        w.subscribe(order_by="header:customer", concurrency=1)
        for body in ("a1", "a2", "b1", "a3", "b2"):
            w.publish(body, headers={"customer": body[0]})
        await w.settled()
        assert w.endpoint.bodies == [b"a1", b"b1", b"b2", b"a1", b"a2", b"a3"]


async def test_messages_without_the_key_are_in_no_order(autojump_clock: MockClock) -> None:
    async with world(lambda request, count: reply(500 if count == 1 else 200)) as w:
        w.subscribe(order_by="header:customer", concurrency=1)
        w.publish("1", "2")
        await w.settled()
        assert w.endpoint.bodies == [b"1", b"2", b"1"]


@pytest.mark.parametrize("order_by", ["queue", "routing_key", "correlation_id"])
async def test_order_of_the_whole_queue(autojump_clock: MockClock, order_by: str) -> None:
    async with world(lambda request, count: reply(500 if count in (2, 3, 6) else 200)) as w:
        w.subscribe(order_by=order_by, concurrency=8)
        w.publish(*map(str, range(6)), correlation_id="same")
        await w.settled()
        assert w.endpoint.bodies == [b"0", b"1", b"1", b"1", b"2", b"3", b"3", b"4", b"5"]
        assert w.endpoint.most_in_flight == 1


async def test_a_dead_message_lets_the_next_one_go(autojump_clock: MockClock) -> None:
    async with world(lambda request, count: reply(500 if request.body == b"1" else 200)) as w:
        w.subscribe(order_by="queue", retry={"delays_s": [1.0]})
        w.publish("1", "2")
        await w.settled()
        assert w.endpoint.bodies == [b"1", b"1", b"2"]


# -- bounds


async def test_retries_are_bounded_and_the_queue_is_left_alone(autojump_clock: MockClock) -> None:
    async with world(lambda request, count: reply(500)) as w:
        w.subscribe(max_retrying=20, concurrency=2, circuit_breaker=False, retry={"delays_s": [100.0] * 50})
        w.publish(*map(str, range(500)))
        await trio.sleep(50)
        facts = w.facts
        assert facts["is_backpressured"]
        assert facts["retrying"] <= 20 + 32
        assert w.queue().unacked_count <= 20 + 32
        assert w.queue().message_count >= 500 - 52
        w.endpoint.answer = ok
        await w.settled()
        assert len({one.body for one in w.endpoint.received}) == 500


async def test_an_endpoint_that_is_down_costs_nobody_else(autojump_clock: MockClock) -> None:
    async with world() as w:
        w.subscribe()
        w.endpoint.is_down = True
        w.publish("x")
        await trio.sleep(1)
        assert w.attempts()[0]["reason"] == "connect"
        w.endpoint.is_down = False
        await w.settled()
        assert w.endpoint.bodies == [b"x"]


@pytest.mark.parametrize("order_by", ["", "queue"])
async def test_cancelled_at_any_moment_nothing_is_lost(autojump_clock: MockClock, order_by: str) -> None:
    """After every number of scheduler passes: each message was accepted by the endpoint, or is in the queue again."""
    for passes in range(0, 120, 3):
        async with world(lambda request, count: reply(500 if count == 2 else 200)) as w:
            w.subscribe(concurrency=2, order_by=order_by)
            w.publish(*map(str, range(6)))
            for _ in range(passes):
                await trio.lowlevel.checkpoint()
            w.scope.cancel()
            await w.ended.wait()
            queue = w.queue()
            assert queue.unacked_count == 0
            left = []
            while (message := queue.get(no_ack=True)) is not None:
                left.append(message.body)
            sent = set(w.endpoint.bodies)
            assert set(left) | sent == {b"%d" % number for number in range(6)}
            assert left == sorted(left)


async def test_a_message_that_we_cannot_handle_harms_no_other(
    autojump_clock: MockClock, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    real = engine.render

    def render(subscription: Subscription, envelope: Envelope, body: bytes, webhook_id: str) -> Rendering:
        if body == b"poison":
            raise KeyError("a bug of ours")
        return real(subscription, envelope, body, webhook_id)

    monkeypatch.setattr(engine, "render", render)
    async with world() as w:
        w.subscribe(concurrency=1, retry={"delays_s": [1.0]})
        w.publish("1", "poison", "2")
        await w.settled()
        assert w.endpoint.bodies == [b"1", b"2"]
        assert [(one["reason"], one["attempts"]) for one in w.dead()] == [("exhausted", 2)]
        assert w.attempts(outcome="retry")[0]["reason"] == "internal"
    assert "cannot be sent" in caplog.text


async def test_a_dead_letter_queue_that_takes_nothing_is_asked_again(autojump_clock: MockClock) -> None:
    async with world(lambda request, count: reply(422)) as w:
        w.subscribe(dead_letter_on=[422])
        w.broker.policies.set(
            "/", "full", pattern="[.]dead$", definition={"max-length": 0, "overflow": "reject-publish"}
        )
        w.publish("x")
        await trio.sleep(10)
        assert (w.queue().unacked_count, w.dead()) == (1, [])
        w.broker.policies.clear("/", "full")
        await w.settled()
        assert len(w.dead()) == 1


# -- over a restart


async def test_pauses_retries_and_records_outlive_a_restart(
    autojump_clock: MockClock, tmp_path: Path
) -> None:
    def store() -> LmdbStore:
        return LmdbStore(tmp_path, Settings().store)

    async with world(lambda request, count: reply(429, Retry_After="1000"), store()) as w:
        w.subscribe(concurrency=1)
        w.publish("1", "2", message_id="m")
        await trio.sleep(5)
        assert w.endpoint.bodies == [b"1"]
    begun = trio.current_time()
    async with world(ok, store()) as w:
        await trio.sleep(1)
        assert w.facts["paused_for_s"] > 900
        await w.settled()
        assert w.endpoint.bodies == [b"1", b"2"]
        assert w.endpoint.received[0].at - begun > 900
        assert [one.headers["x-leveret-attempt"] for one in w.endpoint.received] == ["2", "1"]
        outcomes = [(one["outcome"], one["status"]) for one in w.attempts()]
        assert outcomes == [("delivered", 200), ("delivered", 200), ("retry", 429)]
        assert list(w.broker.store.definitions(b"webhooks/retry/")) == []


# -- formats


async def test_a_template_shapes_the_body_and_its_exact_bytes_are_signed(autojump_clock: MockClock) -> None:
    async with world() as w:
        w.subscribe(
            template='{"text": {{ ("Order " ~ json.id ~ " \u20ac")|tojson }}, "key": {{ routing_key|tojson }}}'
        )
        w.publish('{"id": 7}', key="o.n", content_type="application/json")
        await w.settled()
        (request,) = w.endpoint.received
        assert Webhook(SECRET).verify(request.body, request.headers) == {
            "text": "Order 7 \u20ac",
            "key": "o.n",
        }
        assert request.headers["content-type"] == "application/json"


async def test_a_template_that_fails_is_the_messages_end(autojump_clock: MockClock) -> None:
    async with world() as w:
        w.subscribe(template="{{ json.id.name }}")
        w.publish("no json")
        await w.settled()
        assert w.endpoint.received == []
        (letter,) = w.dead()
        assert (letter["reason"], letter["attempts"]) == ("template", 0)
        assert "undefined" in letter["error"] or "no attribute" in letter["error"]


# -- changes


async def test_another_version_changes_bindings_and_secrets(autojump_clock: MockClock) -> None:
    async with world() as w:
        w.subscribe(routing_keys=["a.*", "b.*"])
        w.publish("1", key="a.x")
        await w.settled()
        w.subscribe(routing_keys=["b.*", "c.*"], secrets=["********"])
        exchange = w.vhost.exchanges["amq.topic"]
        assert sorted(binding.routing_key for binding in exchange.bindings.values()) == ["b.*", "c.*"]
        w.publish("{}", key="c.x")
        await w.settled()
        assert w.endpoint.bodies == [b"1", b"{}"]
        Webhook(SECRET).verify(b"{}", w.endpoint.received[1].headers)


async def test_rotation_signs_with_both_for_a_while(autojump_clock: MockClock) -> None:
    async with world() as w:
        w.subscribe()
        made = w.plugin.rotate_secret("/", "w", keep_s=3600)
        w.publish("{}")
        await w.settled()
        headers = w.endpoint.received[0].headers
        assert len(headers["webhook-signature"].split(" ")) == 2
        for secret in (SECRET, made):
            Webhook(secret).verify(b"{}", headers)
        value = w.vhost.parameters["webhook", "w"]
        assert value["secrets"][0] == made
        assert value["secrets"][1]["secret"] == SECRET


async def test_a_request_under_way_is_not_torn_down_by_a_change(autojump_clock: MockClock) -> None:
    async with world(lambda request, count: 2.0) as w:
        w.subscribe()
        w.publish("x")
        await trio.sleep(1)
        w.subscribe(timeout_s=20)
        await w.settled()
        assert w.endpoint.bodies == [b"x"]


async def test_one_that_takes_longer_goes_back_to_the_queue(autojump_clock: MockClock) -> None:
    async with world(lambda request, count: 9.0 if count == 1 else reply(200)) as w:
        w.subscribe()
        w.publish("x")
        await trio.sleep(1)
        w.subscribe(timeout_s=20)
        await w.settled()
        assert w.endpoint.bodies == [b"x", b"x"]
        assert [one.headers["x-leveret-attempt"] for one in w.endpoint.received] == ["1", "1"]


async def test_disabled_by_configuration(autojump_clock: MockClock) -> None:
    async with world() as w:
        w.subscribe(enabled=False)
        w.publish("x")
        await trio.sleep(5)
        assert (w.endpoint.received, w.facts["status"]) == ([], "disabled")
        w.subscribe(enabled=True)
        await w.settled()
        assert w.endpoint.bodies == [b"x"]


async def test_removed_with_its_queue_and_records(autojump_clock: MockClock) -> None:
    async with world(lambda request, count: reply(500)) as w:
        w.subscribe()
        w.publish("x")
        await trio.sleep(3)
        assert list(w.broker.store.definitions(b"webhooks/retry/"))
        w.vhost.clear_parameter("webhook", "w")
        await trio.sleep(3)
        assert [name for name in w.vhost.queues if name.startswith("webhook.")] == []
        assert [
            key for key, _ in w.broker.store.definitions(b"webhooks/") if key != b"webhooks/identity"
        ] == []
        with pytest.raises(NotFound):
            w.plugin.webhook("/", "w")


async def test_dead_letters_outlive_their_subscription(autojump_clock: MockClock) -> None:
    async with world(lambda request, count: reply(410)) as w:
        w.subscribe()
        w.publish("x")
        await trio.sleep(1)
        w.vhost.clear_parameter("webhook", "w")
        assert w.queue("webhook.w.dead").message_count == 1


async def test_a_queue_that_is_deleted_is_made_again(autojump_clock: MockClock) -> None:
    async with world() as w:
        w.subscribe()
        await trio.sleep(1)
        w.vhost.remove_queue(w.queue())
        await trio.sleep(1)
        w.publish("x")
        await w.settled()
        assert w.endpoint.bodies == [b"x"]


async def test_an_exchange_that_comes_later_is_bound_to(autojump_clock: MockClock) -> None:
    async with world() as w:
        w.subscribe(exchange="later")
        assert (w.facts["status"], w.facts["waits_for"]) == (
            "waiting", "there is no exchange 'later' to bind to",
        )  # fmt: skip
        from leveret.auth.contracts import Principal
        from leveret.core.session import Session

        session = Session(w.broker, w.vhost, Principal("guest"), object())
        session.exchange_declare("later", "fanout")
        assert w.facts["status"] == "running"
        w.vhost.publish_internal("later", Envelope.of("later", "", Properties()), b"x")
        await w.settled()
        assert w.endpoint.bodies == [b"x"]


async def test_a_queue_that_comes_later_is_consumed(autojump_clock: MockClock) -> None:
    async with world() as w:
        w.subscribe(queue="later")
        assert w.facts["status"] == "waiting"
        w.vhost.add_queue("later", durable=True, exclusive=False, auto_delete=False, arguments={})
        w.vhost.publish_internal("", Envelope.of("", "later", Properties()), b"x")
        await trio.sleep(1)
        assert w.endpoint.bodies == [b"x"]


async def test_a_virtual_host_that_goes_takes_its_webhooks(autojump_clock: MockClock) -> None:
    async with world() as w:
        other = w.broker.add_vhost("other")
        other.set_parameter("webhook", "o", {"url": URL, "exchange": "amq.topic", "routing_key": "#"})
        await trio.sleep(1)
        assert [one["name"] for one in w.plugin.webhooks("other")] == ["o"]
        w.broker.delete_vhost("other")
        await trio.sleep(1)
        assert list(w.plugin.webhooks("other")) == []


# -- checks and secrets


async def test_values_are_checked_when_they_are_set(autojump_clock: MockClock) -> None:
    async with world(https_only=True) as w:
        for value, text in (
            ({"url": "https://10.0.0.1/"}, "address 10.0.0.1 is in 10.0.0.0/8"),
            ({"url": "http://example.com/"}, "only https is allowed"),
            ({"url": "nonsense"}, "begins with https"),
            ({"bad_field": 1}, "there is no field bad_field"),
            ({"queue": "q"}, "either 'exchange' or 'queue'"),
        ):
            with pytest.raises(InvalidArgument, match=text):
                w.subscribe(**({"exchange": "amq.topic", "url": URL} | value))
        assert ("webhook", "w") not in w.vhost.parameters


async def test_secrets_are_shown_to_nobody(
    autojump_clock: MockClock, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.DEBUG):
        async with world(first_fails(99)) as w:
            w.subscribe(
                auth={"type": "basic", "username": "u", "password": "pa55"}, headers={"X-Api-Key": "k3y"}
            )
            w.publish("x")
            await trio.sleep(1000)
            shown = json.dumps([w.facts, w.attempts(), w.dead()]) + repr(w.events) + caplog.text
            shown += repr(w.plugin.desk("/", "w").subscription)
            for secret in (SECRET, "MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw", "pa55", "k3y"):
                assert secret not in shown
            assert w.facts["subscription"]["auth"] == {
                "type": "basic", "username": "u", "password": "********",
            }  # fmt: skip


async def test_a_secret_is_made_where_none_is_given(autojump_clock: MockClock) -> None:
    async with world() as w:
        w.subscribe(secrets=None)
        (made,) = w.vhost.parameters["webhook", "w"]["secrets"]
        w.subscribe(secrets=None, timeout_s=3)
        assert w.vhost.parameters["webhook", "w"]["secrets"] == [made]


async def test_what_was_set_while_the_plugin_was_away(
    autojump_clock: MockClock, caplog: pytest.LogCaptureFixture
) -> None:
    """Unchecked: what is good gets a secret, and what is not is ignored."""
    async with world() as w:
        w.scope.cancel()
        await w.ended.wait()
        good = {"url": URL, "exchange": "amq.topic", "routing_key": "#"}
        for name, value in (("w", good), ("x", {"url": "nonsense"}), ("y", 5), ("z.dead", good)):
            w.vhost.set_parameter("webhook", name, value)
        async with trio.open_nursery() as nursery:
            await nursery.start(w.plugin.run, w.broker)
            assert [one["name"] for one in w.plugin.webhooks("/")] == ["w"]
            assert len(w.vhost.parameters["webhook", "w"]["secrets"]) == 1
            w.publish("x")
            await w.settled()
            nursery.cancel_scope.cancel()
        assert "webhook-signature" in w.endpoint.received[0].headers
        assert all(f"webhook={name} is ignored" in caplog.text for name in ("x", "y", "z.dead"))


# -- replay


async def dead_ones(w: World, count: int) -> None:
    """So many, ten seconds apart."""
    w.subscribe(retry={"delays_s": []}, circuit_breaker=False)
    for number in range(count):
        w.publish(str(number), message_id=f"m{number}")
        await trio.sleep(10)
    assert len(w.dead()) == count


async def test_replay_of_all_in_order_with_the_same_ids(autojump_clock: MockClock) -> None:
    async with world(lambda request, count: reply(500 if count <= 5 else 200)) as w:
        await dead_ones(w, 5)
        result = await w.plugin.replay("/", "w", {}, 1000)
        assert result == {"replayed": 5, "is_complete": True}
        await w.settled()
        assert w.endpoint.bodies[5:] == [b"0", b"1", b"2", b"3", b"4"]
        assert [one.id for one in w.endpoint.received[5:]] == ["m0", "m1", "m2", "m3", "m4"]
        assert w.endpoint.received[5].headers["x-leveret-attempt"] == "1"
        assert w.endpoint.received[5].headers["x-leveret-exchange"] == "amq.topic"
        assert w.dead() == []


async def test_replay_of_some(autojump_clock: MockClock) -> None:
    async with world(lambda request, count: reply(500 if count <= 6 else 200)) as w:
        await dead_ones(w, 6)
        letters = w.dead()
        result = await w.plugin.replay("/", "w", {"ids": frozenset({"m1", letters[3]["position"]})}, 1000)
        assert result["replayed"] == 2
        await w.settled()
        assert w.endpoint.bodies[6:] == [b"1", b"3"]
        result = await w.plugin.replay("/", "w", {"since": letters[2]["at"], "until": letters[5]["at"]}, 1000)
        assert result["replayed"] == 2
        await w.settled()
        assert w.endpoint.bodies[8:] == [b"2", b"4"]
        assert [one["webhook_id"] for one in w.dead()] == ["m0", "m5"]
        assert (await w.plugin.replay("/", "w", {"reason": "gone"}, 1000))["replayed"] == 0
        assert (await w.plugin.replay("/", "w", {"reason": "exhausted"}, 1))["replayed"] == 1
        assert [one["webhook_id"] for one in w.dead()] == ["m5"]


async def test_a_replay_that_is_cancelled_leaves_nothing_out(autojump_clock: MockClock) -> None:
    async with world(lambda request, count: reply(500)) as w:
        await dead_ones(w, 3)
        with trio.CancelScope() as scope:
            scope.cancel()
            await w.plugin.replay("/", "w", {"ids": frozenset({"none"})}, 1000)
        assert w.queue("webhook.w.dead").unacked_count == 0
        assert len(w.dead()) == 3

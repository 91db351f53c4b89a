"""The engine: what becomes of each message. On the jumping clock and streams in memory."""

from __future__ import annotations

import pytest
import trio
import trio.testing
from standardwebhooks.webhooks import Webhook
from support.hook_receiver import reply
from support.hook_world import SECRET, first_fails, ok, world
from trio.testing import MockClock

from leveret.core.message import Envelope
from leveret.core.properties import Properties
from leveret.core.publishing import publish_internal
from leveret.plugins.webhooks.outgoing import rendering
from leveret.plugins.webhooks.outgoing import sender as engine
from leveret.plugins.webhooks.outgoing.rendering import Rendering
from leveret.plugins.webhooks.outgoing.subscription import Subscription

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
        publish_internal(w.vhost, "", Envelope.of("", "orders", Properties()), b"x")
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
        w.webhook().enable()
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
        w.webhook().enable()
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
    def render(subscription: Subscription, envelope: Envelope, body: bytes, webhook_id: str) -> Rendering:
        if body == b"poison":
            raise KeyError("a bug of ours")
        return rendering.render(subscription, envelope, body, webhook_id)

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

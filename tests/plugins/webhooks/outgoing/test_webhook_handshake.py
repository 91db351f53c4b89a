"""CloudEvents' abuse protection, asked for by us; and by us of ourselves."""

from __future__ import annotations

from typing import Any

import pytest
import trio
from support.hook_receiver import Received, reply
from support.hook_world import URL, world
from trio.testing import MockClock

from leveret.core.errors import InvalidArgument
from leveret.plugins.webhooks.outgoing.subscription import Subscription

ORIGIN = "events.example.com"


@pytest.mark.parametrize("allowed", ["*", "Events.example.com"])
async def test_asked_once_and_welcome(autojump_clock: MockClock, allowed: str) -> None:
    def answer(request: Received, count: int) -> bytes:
        if request.method == "OPTIONS":
            return reply(200, WebHook_Allowed_Origin=allowed, WebHook_Allowed_Rate="120")
        return reply(200)

    async with world(answer) as w:
        w.subscribe(origin=ORIGIN, auth={"type": "bearer", "token": "t0k3n"})
        w.publish(*map(str, range(4)))
        await w.settled()
        assert [one.method for one in w.endpoint.received] == ["OPTIONS", "POST", "POST", "POST", "POST"]
        for one in w.endpoint.received:
            assert one.headers["webhook-request-origin"] == ORIGIN
            assert one.headers["authorization"] == "Bearer t0k3n"
        times = w.endpoint.times()
        assert times[4] - times[1] == pytest.approx(1.0, abs=0.01)  # two at once, then two a second


@pytest.mark.parametrize(
    ("refusal", "text"),
    [
        (reply(404), "answered the handshake with 404"),
        (reply(200), f"does not allow webhooks from {ORIGIN}"),
        (reply(200, WebHook_Allowed_Origin="other.example.com"), "does not allow"),
        (reply(302, Location=URL), "answered the handshake with 302"),
        (None, "the handshake failed: the connection ended"),
    ],
)
async def test_not_welcome_nothing_is_sent_until_it_is(
    autojump_clock: MockClock, refusal: bytes | None, text: str
) -> None:
    def answer(request: Received, count: int) -> bytes | None:
        if request.method == "OPTIONS":
            return (
                refusal
                if count < 3
                else reply(200, WebHook_Allowed_Origin="*", WebHook_Allowed_Rate="no number")
            )
        return reply(200)

    async with world(answer) as w:
        w.subscribe(origin=ORIGIN)
        w.publish("x")
        await trio.sleep(1)
        assert text in w.facts["waits_for"]
        assert (w.facts["status"], w.facts["messages_ready"]) == ("waiting", 1)
        await w.settled()
        assert "waits_for" not in w.facts
        assert [one.method for one in w.endpoint.received] == ["OPTIONS", "OPTIONS", "OPTIONS", "POST"]
        assert w.endpoint.times() == pytest.approx([0, 5, 15, 15], abs=0.01)


@pytest.mark.parametrize("origin", ["https://events.example.com", "a b", "10.0.0.1", "x\r\ny"])
def test_an_origin_is_a_name(origin: Any) -> None:
    with pytest.raises(InvalidArgument, match="origin must be a DNS name"):
        Subscription.of("w", {"url": URL, "exchange": "x", "secrets": [], "origin": origin})

"""What follows from the answers of endpoints: redirects are failures, 410 disables, Retry-After is honoured."""

from __future__ import annotations

import time
from collections.abc import Callable
from datetime import UTC, datetime
from email.utils import formatdate

import pytest
from support.hook_receiver import Answer, HookReceiver, Received
from support.hooks_api import HooksApi, fence, publish
from support.server import LeveretServer, poll

from leveret.plugins.webhooks.outgoing.retry_policy import retry_after_s

Start = Callable[..., LeveretServer]


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
def test_redirects_are_not_followed_and_are_failures(start: Start, status: int) -> None:
    one = start()
    api = HooksApi(one)
    with HookReceiver() as elsewhere:

        def answer(request: Received, count: int) -> Answer:
            return Answer(status, headers={"Location": elsewhere.url}) if count == 1 else Answer(200)

        with HookReceiver(answer) as receiver:
            api.put(receiver)
            publish(one, b"{}")
            requests = receiver.wait(2)
            attempts = poll(lambda: len(found := api.hook("GET", "/attempts")) == 2 and found, "attempts")
            assert [(one["outcome"], one["status"]) for one in attempts] == [
                ("delivered", 200),
                ("retry", status),
            ]
            assert {request.path for request in requests} == {"/hook"}
        assert elsewhere.received == []


def test_gone_disables_until_it_is_enabled_and_nothing_is_lost(start: Start) -> None:
    one = start()
    api = HooksApi(one)
    with HookReceiver(lambda request, count: Answer(410 if count == 1 else 200)) as receiver:
        api.put(receiver, concurrency=1)
        publish(one, b"1", b"2")
        poll(lambda: api.hook("GET")["status"] == "disabled", "disabled")
        assert api.hook("GET")["disabled_by"] == "the endpoint answered 410 Gone"
        publish(one, b"3")
        one.stop()
        one.start()
        assert api.hook("GET")["status"] == "disabled"
        with HookReceiver() as other:  # a second webhook shows that the restarted server sends
            value = {"url": other.url, "exchange": "amq.topic", "routing_key": "other"}
            assert api.call("PUT", "/v1/webhooks/%2F/other", value)[0] == 201
            publish(one, b"other", key="other")
            other.wait(1)
        assert len(receiver.received) == 1, "nothing is sent any more"
        (letter,) = api.hook("GET", "/dead-letters")
        assert (letter["reason"], letter["status"]) == ("gone", 410)
        api.hook("POST", "/enable")
        assert [request.body for request in receiver.wait(3)] == [b"1", b"2", b"3"]
        api.hook("POST", "/replay", {"all": True})
        assert receiver.wait(4)[3].body == b"1"
        assert receiver.received[3].id == receiver.received[0].id


@pytest.mark.parametrize("form", ["seconds", "date"])
@pytest.mark.parametrize("status", [429, 503])
def test_retry_after_is_honoured(start: Start, status: int, form: str) -> None:
    one = start()
    api = HooksApi(one)
    until = 0.0

    def answer(request: Received, count: int) -> Answer:
        nonlocal until
        if count > 1:
            return Answer(200)
        until = float(int(time.time()) + 3)
        value = formatdate(until, usegmt=True) if form == "date" else "2"
        until -= 0.05 if form == "date" else 1.05
        return Answer(status, headers={"Retry-After": value})

    with HookReceiver(answer) as receiver:
        api.put(receiver, concurrency=1)
        publish(one, b"1", b"2")
        receiver.wait(1)
        poll(lambda: api.hook("GET")["paused_for_s"] > 0, "a pause")
        fence(api)
        one.kill()  # the pause is kept
        one.start()
        receiver.wait(3)
        assert time.time() >= until
        assert [request.body for request in receiver.received].count(b"2") == 1


@pytest.mark.parametrize(
    ("value", "seconds"),
    [
        ("120", 120), ("0", 0), ("1.5", 1.5), ("Fri, 31 Dec 1999 23:59:59 GMT", 59), ("Friday, 31-Dec-99 23:59:59 GMT", 59),
        ("Fri Dec 31 23:59:59 1999", 59), ("Fri, 31 Dec 1999 23:00:00 GMT", 0), ("soon", None), ("-5", None), ("", None),
        (None, None),
    ],
)  # fmt: skip
def test_retry_after_in_each_of_its_forms(value: str | None, seconds: float | None) -> None:
    """The three forms of an HTTP date (RFC 9110 5.6.7); what is over is now, what is none is none."""
    assert retry_after_s(value, datetime(1999, 12, 31, 23, 59, 0, tzinfo=UTC).timestamp()) == seconds


def test_retry_after_has_a_longest(start: Start) -> None:
    one = start()
    api = HooksApi(one)
    with HookReceiver(
        lambda request, count: (
            Answer(503, headers={"Retry-After": "999999999"}) if count == 1 else Answer(200)
        )
    ) as receiver:
        api.put(receiver, max_retry_after_s=0.5)
        publish(one, b"x")
        receiver.wait(2, timeout=10)

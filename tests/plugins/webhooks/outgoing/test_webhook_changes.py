"""Subscriptions that change, come and go; what they may say, and what is shown of them."""

from __future__ import annotations

import json
import logging

import pytest
import trio
import trio.testing
from standardwebhooks.webhooks import Webhook
from support.hook_receiver import Received, reply
from support.hook_world import SECRET, URL, first_fails, world
from trio.testing import MockClock

from leveret.core.errors import InvalidArgument, NotFound
from leveret.core.message import Envelope
from leveret.core.properties import Properties
from leveret.core.publishing import publish_internal

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
        made = w.webhook().rotate_secret(None, 3600.0)
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
            w.webhook()


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
        publish_internal(w.vhost, "later", Envelope.of("later", "", Properties()), b"x")
        await w.settled()
        assert w.endpoint.bodies == [b"x"]


async def test_a_queue_that_comes_later_is_consumed(autojump_clock: MockClock) -> None:
    async with world() as w:
        w.subscribe(queue="later")
        assert w.facts["status"] == "waiting"
        w.vhost.add_queue("later", durable=True, exclusive=False, auto_delete=False, arguments={})
        publish_internal(w.vhost, "", Envelope.of("", "later", Properties()), b"x")
        await trio.sleep(1)
        assert w.endpoint.bodies == [b"x"]


async def test_a_virtual_host_that_goes_takes_its_webhooks(autojump_clock: MockClock) -> None:
    async with world() as w:
        other = w.broker.add_vhost("other")
        other.set_parameter("webhook", "o", {"url": URL, "exchange": "amq.topic", "routing_key": "#"})
        await trio.sleep(1)
        assert [one["name"] for one in w.plugin.describe_all("other")] == ["o"]
        w.broker.delete_vhost("other")
        await trio.sleep(1)
        assert w.plugin.describe_all("other") == []


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
            shown += repr(w.webhook().subscription)
            for secret in (SECRET, "MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw", "pa55", "k3y"):
                assert secret not in shown
            assert w.facts["subscription"]["auth"] == {
                "type": "basic", "username": "u", "password": "********",
            }  # fmt: skip


async def test_secrets_that_an_endpoint_sends_back_are_not_recorded(autojump_clock: MockClock) -> None:
    def echo(request: Received, count: int) -> bytes:
        text = json.dumps(request.headers) + SECRET + "p4ssword"
        return reply(500 if count == 1 else 200, b"x" * 990 + text.encode())

    for auth, parts in (
        ({"type": "bearer", "token": "t0ken-of-ours"}, ("t0ken",)),
        ({"type": "basic", "username": "u", "password": "p4ssword"}, ("p4ss", "dTpw")),
    ):
        async with world(echo) as w:
            w.subscribe(
                auth=auth,
                headers={"X-Key": "k3y-of-ours"},
                response_snippet_bytes=1024,
                retry={"delays_s": [1]},
            )
            w.publish("x")
            await w.settled()
            texts = [one["response"] for one in w.attempts()]
            assert len(texts) == 2
            for text in texts:
                assert len(text) == 1024
        for limit in (16384, 1030, 1060, 1100):
            async with world(echo) as w:
                w.subscribe(auth=auth, headers={"X-Key": "k3y-of-ours"}, response_snippet_bytes=limit)
                w.publish("x")
                await w.settled()
                shown = json.dumps(w.attempts())
                assert limit < 16384 or shown.count("********") >= 4
                for secret in (*parts, "k3y-", SECRET[6:]):
                    assert secret not in shown


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
            assert [one["name"] for one in w.plugin.describe_all("/")] == ["w"]
            assert len(w.vhost.parameters["webhook", "w"]["secrets"]) == 1
            w.publish("x")
            await w.settled()
            nursery.cancel_scope.cancel()
        assert "webhook-signature" in w.endpoint.received[0].headers
        assert all(f"webhook={name} is ignored" in caplog.text for name in ("x", "y", "z.dead"))

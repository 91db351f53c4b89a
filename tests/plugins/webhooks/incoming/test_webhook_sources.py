"""Webhooks in: sources, what becomes of requests, deduplication, refusals."""

from __future__ import annotations

import contextlib
import hashlib
import hmac
import json
import logging
import time
from base64 import b64encode
from collections.abc import AsyncIterator
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any
from urllib.parse import urlencode

import pytest
import trio
from support.rest import Answer, Rest, basic, declare, rest_door

from leveret.adapters.http.settings import HttpSettings
from leveret.core.exchange import Binding
from leveret.core.message import Message
from leveret.core.queue.queue import Queue
from leveret.plugins.webhooks.incoming.template import RequestValues, Template
from leveret.plugins.webhooks.plugin import WebhooksPlugin
from leveret.plugins.webhooks.settings import WebhooksSettings

ADMIN = "/v1/webhook-sources/%2F"
HOOK = "/hooks/%2F"
OPEN: Any = {"verification": {"type": "none"}}


@contextlib.asynccontextmanager
async def webhooks_door(**changes: Any) -> AsyncIterator[Rest]:
    """The HTTP listener, and the plugin beside it. changes: sections of the settings."""
    async with rest_door(**changes) as rest, trio.open_nursery() as nursery:
        await nursery.start(WebhooksPlugin(WebhooksSettings()).run, rest.broker)
        yield rest
        nursery.cancel_scope.cancel()


def stored(queue: Queue) -> list[Message]:
    messages = queue.ready.take(queue.message_count)
    queue.ready.discard(messages)
    return messages


async def put(rest: Rest, name: str, status: int = 201, **value: Any) -> dict[str, Any]:
    answer = await rest.call("PUT", f"{ADMIN}/{name}", value)
    assert answer.status == status, answer
    shown: dict[str, Any] = answer.json
    return shown


async def hook(
    rest: Rest, path: str, body: bytes = b"{}", headers: dict[str, str] | None = None, status: int = 200
) -> Answer:
    answer = await rest.call("POST", f"{HOOK}/{path}", body, headers)
    assert answer.status == status, answer
    return answer


def github(body: bytes, secret: str = "hush", **headers: str) -> dict[str, str]:
    signature = hmac.new(secret.encode(), body, hashlib.sha256).hexdigest()
    return {"X-Hub-Signature-256": f"sha256={signature}", "Content-Type": "application/json", **headers}


async def test_a_webhook_becomes_a_message() -> None:
    async with webhooks_door() as rest:
        queue = declare(rest, "q", durable=True)
        vhost = rest.broker.vhosts["/"]
        vhost.bind(vhost.exchanges["amq.topic"], Binding(queue, "hooks.#"))
        await put(
            rest, "gh", exchange="amq.topic", verification={"type": "github", "secrets": ["hush"]},
            routing_key="hooks.{name}.{header:X-GitHub-Event}.{body:/action|none}.{path:1}",
            headers={
                "repository": "{body:/repository/full name}", "private": "{body:/repository/private}",
                "stars": "{body:/stars/0}", "missing": "{body:/nothing}", "mixed": "{query:a}-{path}-{{x}}",
            },
        )  # fmt: skip
        body = json.dumps(
            {"action": "opened", "repository": {"full name": "a/b", "private": False}, "stars": [5]}
        ).encode()
        headers = github(
            body, **{"X-GitHub-Event": "pull_request", "X-GitHub-Delivery": "d-1", "Cookie": "c"}
        )
        answer = await hook(rest, "gh/some/path%2Fhere?a=b%20c", body, headers)
        assert answer.json == {"stored": True}
        [message] = stored(queue)
        assert message.body == body
        envelope = message.envelope
        assert envelope.exchange == "amq.topic"
        assert envelope.routing_key == "hooks.gh.pull_request.opened.path"
        properties = envelope.properties
        assert (properties.content_type, properties.message_id, properties.delivery_mode) == (
            "application/json", "d-1", 2,
        )  # fmt: skip
        assert properties.timestamp is not None
        assert properties.headers == {
            "repository": "a/b", "private": False, "stars": 5, "mixed": "b c-some/path/here-{x}",
            "x-github-event": "pull_request", "x-github-delivery": "d-1", "x-webhook-source": "gh",
        }  # fmt: skip
        shown = (await rest.call("GET", f"{ADMIN}/gh")).json
        assert shown["statistics"] == {"received": 1, "duplicates": 0, "refused": 0, "failed": 0}


async def test_a_webhook_may_go_straight_to_a_queue() -> None:
    async with webhooks_door() as rest:
        queue = declare(rest, "{q}")
        await put(rest, "s", queue="{q}", **OPEN)
        await hook(rest, "s", b"\x00raw")
        assert [message.body for message in stored(queue)] == [b"\x00raw"]


async def test_a_wrong_signature_is_refused_and_nothing_is_stored(caplog: pytest.LogCaptureFixture) -> None:
    async with webhooks_door() as rest:
        queue = declare(rest, "q")
        await put(rest, "gh", queue="q", verification={"type": "github", "secrets": ["hush", "old"]})
        await hook(rest, "gh", b"x", github(b"x"))
        await hook(rest, "gh", b"x", github(b"x", "old"))
        with caplog.at_level(logging.INFO):
            for headers in (github(b"y"), github(b"x", "other"), {}):
                (await hook(rest, "gh", b"x", headers, 401)).problem(401, "unverified")
        assert "source=gh" in caplog.text
        assert "hush" not in caplog.text
        assert queue.message_count == 2
        assert (await rest.call("GET", f"{ADMIN}/gh")).json["statistics"]["refused"] == 3


async def test_logins_are_asked_for_before_the_body() -> None:
    async with webhooks_door() as rest:
        declare(rest, "q")
        await put(rest, "b", queue="q", verification={"type": "basic", "username": "u", "secrets": ["p"]})
        async with rest.another() as other:
            await other.stream.send_all(
                f"POST {HOOK}/b HTTP/1.1\r\nHost: x\r\nContent-Length: 1000000\r\n\r\n".encode()
            )
            with trio.fail_after(5):
                answer = await other.stream.receive_some()
            assert answer.startswith(b"HTTP/1.1 401 ")
            assert b'WWW-Authenticate: Basic realm="webhooks"' in answer
        async with rest.another(basic("u", "p")) as other:
            await hook(other, "b")


async def test_a_delivery_that_comes_again_is_stored_once() -> None:
    async with webhooks_door() as rest:
        queue = declare(rest, "q", durable=True)
        for name in ("one", "two"):
            await put(rest, name, queue="q", deduplication={"key": "{header:x-id}", "window_s": 60}, **OPEN)
        for id in ("1", "2", "1"):
            await hook(rest, "one", id.encode(), {"X-Id": id})
        again = await hook(rest, "one", b"2", {"X-Id": "2"})
        assert again.json == {"stored": True, "duplicate": True}
        await hook(rest, "two", b"other source", {"X-Id": "1"})
        await hook(rest, "one", b"no id")
        await hook(rest, "one", b"no id")
        assert [message.body for message in stored(queue)] == [
            b"1",
            b"2",
            b"other source",
            b"no id",
            b"no id",
        ]
        shown = (await rest.call("GET", f"{ADMIN}/one")).json["statistics"]
        assert (shown["received"], shown["duplicates"]) == (4, 2)


async def test_deduplication_ends_with_its_window(autojump_clock: Any) -> None:
    async with webhooks_door() as rest:
        queue = declare(rest, "q")
        await put(rest, "s", queue="q", deduplication={"key": "{body:/id}", "window_s": 60}, **OPEN)
        await hook(rest, "s", b'{"id": 7}')
        await trio.sleep(59)
        await hook(rest, "s", b'{"id": 7}')
        assert queue.message_count == 1
        await trio.sleep(60)
        await hook(rest, "s", b'{"id": 7}')
        assert queue.message_count == 2
        assert not list(rest.broker.store.definitions(b"http/hooks/"))[1:]


async def test_what_failed_is_no_duplicate_when_it_comes_again() -> None:
    async with webhooks_door() as rest:
        await put(rest, "s", queue="q", deduplication={"key": "{header:x-id}"}, **OPEN)
        answer = await hook(rest, "s", b"x", {"X-Id": "1"}, 503)
        answer.problem(503, "unroutable")
        assert answer.headers["retry-after"] == "60"
        queue = declare(rest, "q", max_length=1, overflow="reject-publish")
        await rest.publish("q", b"full")
        (await hook(rest, "s", b"x", {"X-Id": "1"}, 429)).problem(429, "queue_full")
        stored(queue)
        await hook(rest, "s", b"x", {"X-Id": "1"})
        assert [message.body for message in stored(queue)] == [b"x"]


async def test_alarms_and_limits() -> None:
    async with webhooks_door(http=replace(HttpSettings(), body_timeout_s=0.2)) as rest:
        queue = declare(rest, "q")
        await put(rest, "s", queue="q", max_body=10, **OPEN)
        await hook(rest, "s", b"x" * 10)
        (await hook(rest, "s", b"x" * 11, status=413)).problem(413, "payload_too_large")
        async with rest.another() as other:
            rest.broker.alarms.set_alarm("disk")
            (await hook(other, "s", b"x", status=503)).problem(503, "alarm")
            rest.broker.alarms.clear_alarm("disk")
        async with rest.another() as slow:
            await slow.stream.send_all(
                f"POST {HOOK}/s HTTP/1.1\r\nHost: x\r\nContent-Length: 9\r\n\r\nhalf".encode()
            )
            with trio.fail_after(10):
                assert (await slow.stream.receive_some()).startswith(b"HTTP/1.1 408 ")
        assert queue.message_count == 1


async def test_sources_that_are_not_there() -> None:
    async with webhooks_door() as rest:
        declare(rest, "q")
        await put(rest, "off", queue="q", enabled=False, **OPEN)
        for path in ("none", "off", "none/path"):
            (await hook(rest, path, status=404)).problem(404, "not_found")
        (await rest.call("POST", "/hooks/none/s")).problem(404, "not_found")
        assert (await rest.call("GET", f"{HOOK}/off")).status == 404


async def test_what_cannot_be_a_message_is_refused() -> None:
    async with webhooks_door() as rest:
        queue = declare(rest, "q")
        vhost = rest.broker.vhosts["/"]
        vhost.bind(vhost.exchanges["amq.fanout"], Binding(queue, ""))
        await put(
            rest, "s", exchange="amq.fanout", routing_key="{body:/k}", headers={"h": "{body:/h}"}, **OPEN
        )
        for body in ({"k": "x" * 256}, {"k": "\ud800"}, {"h": "\ud800"}, {"h": 1 << 70}, {"h": "x" * 70000}):
            (await hook(rest, "s", json.dumps(body).encode(), status=422)).problem(422, "unprocessable")
        await hook(rest, "s", b"[" * 100_000 + b"]" * 100_000)
        await hook(rest, "s", b'{"k": {"deep": [1, null]}}')
        assert [message.envelope.routing_key for message in stored(queue)] == ["", '{"deep":[1,null]}']


async def test_forms_have_fields_too() -> None:
    async with webhooks_door() as rest:
        queue = declare(rest, "q")
        await put(rest, "s", queue="q", headers={"a": "{body:/a}"}, **OPEN)
        kind = {"Content-Type": "application/x-www-form-urlencoded"}
        await hook(rest, "s", urlencode({"a": "1 ü"}).encode(), kind)
        await hook(rest, "s", urlencode({"payload": '{"a": 2}'}).encode(), kind)
        await hook(rest, "s", b"\xff=1", kind)
        found = [message.envelope.properties.headers or {} for message in stored(queue)]
        assert [one.get("a") for one in found] == ["1 ü", 2, None]


async def test_cloudevents_come_in_with_their_attributes_and_handshake() -> None:
    async with webhooks_door() as rest:
        queue = declare(rest, "q")
        await put(rest, "s", queue="q", allowed_origins=["Events.example.com"], **OPEN)
        answer = await rest.call(
            "OPTIONS",
            f"{HOOK}/s",
            b"",
            {"WebHook-Request-Origin": "events.example.com", "WebHook-Request-Rate": "9"},
        )
        assert answer.status == 200
        assert answer.headers["webhook-allowed-origin"] == "events.example.com"
        assert answer.headers["webhook-allowed-rate"] == "*"
        assert "POST" in answer.headers["allow"]
        answer = await rest.call("OPTIONS", f"{HOOK}/s", b"", {"WebHook-Request-Origin": "evil.example.com"})
        assert "webhook-allowed-origin" not in answer.headers
        event = {"ce-specversion": "1.0", "ce-id": "1", "ce-source": "/s", "ce-type": "t"}
        await hook(rest, "s", b"x", event)
        await hook(rest, "s", b"x", event | {"ce-id": ""}, 400)
        [message] = stored(queue)
        assert message.envelope.properties.headers == {
            "cloudEvents:specversion": "1.0", "cloudEvents:id": "1", "cloudEvents:source": "/s",
            "cloudEvents:type": "t", "x-webhook-source": "s",
        }  # fmt: skip


async def test_slack_asks_whether_the_url_is_anybodys() -> None:
    async with webhooks_door() as rest:
        queue = declare(rest, "q")
        await put(rest, "s", queue="q", verification={"type": "slack", "secrets": ["hush"]})
        body = b'{"type": "url_verification", "challenge": "3eZb"}'
        now = str(int(time.time()))
        signature = hmac.new(b"hush", b"v0:%s:%s" % (now.encode(), body), hashlib.sha256).hexdigest()
        headers = {"X-Slack-Request-Timestamp": now, "X-Slack-Signature": f"v0={signature}"}
        assert (await hook(rest, "s", body, headers)).body == b"3eZb"
        await hook(rest, "s", body + b" ", headers, 401)
        assert queue.message_count == 0


async def test_zoom_asks_for_a_signature() -> None:
    async with webhooks_door() as rest:
        declare(rest, "q")
        await put(rest, "s", queue="q", verification={"type": "zoom", "secrets": ["hush"]})
        body = b'{"event": "endpoint.url_validation", "payload": {"plainToken": "qgg8"}}'
        now = str(int(time.time()))
        signature = hmac.new(b"hush", b"v0:%s:%s" % (now.encode(), body), hashlib.sha256).hexdigest()
        headers = {"x-zm-request-timestamp": now, "x-zm-signature": f"v0={signature}"}
        assert (await hook(rest, "s", body, headers)).json == {
            "plainToken": "qgg8", "encryptedToken": hmac.new(b"hush", b"qgg8", hashlib.sha256).hexdigest(),
        }  # fmt: skip


async def test_senders_who_ask_by_the_query() -> None:
    """Meta and Dropbox by GET, Microsoft Graph by POST: text comes back, and nothing is stored."""
    async with webhooks_door() as rest:
        queue = declare(rest, "q")
        meta = {"query": "hub.challenge", "token_query": "hub.verify_token", "token": "known"}
        shown = await put(rest, "meta", queue="q", challenge=meta, **OPEN)
        assert shown["challenge"] == meta | {"token": "********"}
        await put(rest, "meta", 200, queue="q", challenge=shown["challenge"], **OPEN)
        asking = "?hub.mode=subscribe&hub.challenge=%3Cb%3E&hub.verify_token="
        answer = await rest.call("GET", f"{HOOK}/meta{asking}known")
        assert (answer.status, answer.body) == (200, b"<b>")
        assert answer.headers["content-type"].startswith("text/plain")
        assert answer.headers["x-content-type-options"] == "nosniff"
        assert (await rest.call("GET", f"{HOOK}/meta{asking}guessed")).status == 405
        assert (await rest.call("GET", f"{HOOK}/meta")).status == 405
        await put(rest, "graph", queue="q", challenge={"query": "validationToken"}, **OPEN)
        assert (await hook(rest, "graph?validationToken=a%20b", b"")).body == b"a b"
        assert queue.message_count == 0
        await put(rest, "plain", queue="q", **OPEN)
        assert (await rest.call("GET", f"{HOOK}/plain?challenge=x")).status == 405


async def test_a_challenge_in_a_verified_body() -> None:
    async with webhooks_door() as rest:
        queue = declare(rest, "q")
        verification = {
            "type": "hmac", "secrets": ["hush"], "header": "Twitch-Eventsub-Message-Signature", "prefix": "sha256=",
            "content": "{header:Twitch-Eventsub-Message-Id}{timestamp}{body}",
            "timestamp_header": "Twitch-Eventsub-Message-Timestamp",
        }  # fmt: skip
        await put(
            rest, "tw", queue="q", verification=verification, challenge={"body": "/challenge"},
            deduplication={"key": "{header:Twitch-Eventsub-Message-Id}"},
        )  # fmt: skip
        at = datetime.now(UTC).isoformat().replace("+00:00", "123Z")

        def signed(body: bytes) -> dict[str, str]:
            digest = hmac.new(b"hush", b"id-1" + at.encode() + body, hashlib.sha256).hexdigest()
            return {
                "Twitch-Eventsub-Message-Id": "id-1", "Twitch-Eventsub-Message-Timestamp": at,
                "Twitch-Eventsub-Message-Signature": f"sha256={digest}",
            }  # fmt: skip

        asking = b'{"challenge": "pogchamp"}'
        assert (await hook(rest, "tw", asking, signed(asking))).body == b"pogchamp"
        await hook(rest, "tw", asking + b" ", signed(asking), 401)
        assert queue.message_count == 0
        event = b'{"event": 1}'
        assert (await hook(rest, "tw", event, signed(event))).json == {"stored": True}
        assert (await hook(rest, "tw", event, signed(event))).json == {"stored": True, "duplicate": True}


async def test_twilio_signs_the_url_it_knows_and_its_forms_have_fields() -> None:
    async with webhooks_door() as rest:
        queue = declare(rest, "sms.+1555")
        verification = {"type": "twilio", "secrets": ["hush"], "public_url": "https://hooks.example.com/"}
        await put(
            rest, "t", exchange="amq.default", routing_key="sms.{body:/To}", verification=verification
        )  # fmt: skip
        body = urlencode({"To": "+1555", "From": "+1666", "Body": "hi"}).encode()
        signed = "https://hooks.example.com/hooks/%2F/t?a=1BodyhiFrom+1666To+1555"
        signature = b64encode(hmac.new(b"hush", signed.encode(), hashlib.sha1).digest()).decode()
        headers = {
            "X-Twilio-Signature": signature, "I-Twilio-Idempotency-Token": "i1",
            "Content-Type": "application/x-www-form-urlencoded",
        }  # fmt: skip
        for _ in range(2):
            await hook(rest, "t?a=1", body, headers)
        await hook(rest, "t?a=2", body, headers, 401)
        [message] = stored(queue)
        assert (message.body, message.envelope.properties.message_id) == (body, "i1")


async def test_githubs_ping_needs_no_queue() -> None:
    """It is sent once, when a hook is made: a failure there frightens people."""
    async with webhooks_door() as rest:
        await put(rest, "g", exchange="amq.topic", routing_key="gh.{header:X-GitHub-Event}", verification={
            "type": "github", "secrets": ["hush"]})  # fmt: skip
        await hook(rest, "g", b"{}", github(b"{}", **{"X-GitHub-Event": "ping"}))
        await hook(rest, "g", b"{}", github(b"{}", **{"X-GitHub-Event": "push"}), 503)


async def test_headers_go_along_only_if_they_are_meant_to() -> None:
    async with webhooks_door() as rest:
        queue = declare(rest, "q")
        verification = {"type": "token", "header": "X-Token", "secrets": ["hush"]}
        await put(rest, "s", queue="q", verification=verification, forward_headers=["*"])
        headers = {"X-Token": "hush", "X-Some": "1", "Cookie": "c", "Authorization": "Basic x"}
        async with Rest(rest._door, None) as other:
            await hook(other, "s", b"", headers)
        [message] = stored(queue)
        assert message.envelope.properties.headers == {"x-some": "1", "x-webhook-source": "s"}


async def test_answers_as_the_sender_wants_them() -> None:
    async with webhooks_door() as rest:
        declare(rest, "q")
        answer = await rest.call("PUT", f"{ADMIN}/s", {"queue": "q", "status": 204, **OPEN})
        assert answer.status == 201
        assert (await hook(rest, "s", status=204)).body == b""


# -- managing sources


async def test_secrets_go_in_and_do_not_come_out() -> None:
    async with webhooks_door() as rest:
        declare(rest, "q")
        made = await put(rest, "s", queue="q", verification={"type": "standard"})
        [secret] = made["verification"]["secrets"]
        assert secret.startswith("whsec_")
        assert made["path"] == "/hooks/%2F/s"
        for path in (f"{ADMIN}/s", ADMIN, "/v1/webhook-sources", "/api/parameters/webhook-source/%2F/s"):
            answer = await rest.call("GET", path)
            assert answer.status == 200
            assert secret not in answer.body.decode()
            assert "********" in answer.body.decode()
        # What was shown can be put again, and changed in part: the secrets stay.
        shown = (await rest.call("GET", f"{ADMIN}/s")).json
        for extra in ("name", "vhost", "path", "statistics"):
            del shown[extra]
        await put(rest, "s", 200, **shown)
        answer = await rest.call(
            "PATCH", f"{ADMIN}/s", {"enabled": False, "verification": {"tolerance_s": 60}}
        )
        assert answer.status == 200
        value = rest.broker.vhosts["/"].parameters["webhook-source", "s"]
        assert value["verification"] == {"type": "standard", "secrets": [secret], "tolerance_s": 60}
        assert value["enabled"] is False
        answer = await rest.call(
            "PATCH", f"{ADMIN}/s", {"enabled": None, "verification": {"secrets": ["********", secret]}}
        )
        assert (
            rest.broker.vhosts["/"].parameters["webhook-source", "s"]["verification"]["secrets"]
            == [secret] * 2
        )
        assert (await rest.call("DELETE", f"{ADMIN}/s")).status == 204
        (await rest.call("GET", f"{ADMIN}/s")).problem(404, "not_found")
        (await rest.call("PATCH", f"{ADMIN}/s", {})).problem(404, "not_found")
        (await hook(rest, "s", status=404)).problem(404, "not_found")


async def test_changes_hold_at_once() -> None:
    async with webhooks_door() as rest:
        one, two = declare(rest, "q1"), declare(rest, "q2")
        await put(rest, "s", queue="q1", **OPEN)
        await hook(rest, "s", b"1")
        await put(rest, "s", 200, queue="q2", **OPEN)
        await hook(rest, "s", b"2")
        assert ([m.body for m in stored(one)], [m.body for m in stored(two)]) == ([b"1"], [b"2"])


async def test_who_may_manage_sources() -> None:
    async with webhooks_door() as rest:
        users = rest.broker.users
        users.add_user("operator", "secret", tags=["policymaker"])
        users.set_permissions("operator", "/", "", "^allowed$", "")
        users.add_user("nobody", "secret")
        users.set_permissions("nobody", "/", ".*", ".*", ".*")
        value = {"exchange": "amq.topic", **OPEN}
        async with rest.another(basic("nobody", "secret")) as nobody:
            for method in ("GET", "PUT", "PATCH", "DELETE"):
                (await nobody.call(method, f"{ADMIN}/s", value)).problem(403, "not_authorised")
        async with rest.another(basic("operator", "secret")) as operator:
            (await operator.call("PUT", f"{ADMIN}/s", value)).problem(403, "not_authorised")
            (await operator.call("PUT", f"{ADMIN}/s", {"queue": "q", **OPEN})).problem(403, "not_authorised")
            assert (await operator.call("PUT", f"{ADMIN}/s", {"exchange": "allowed", **OPEN})).status == 201


GOOD: Any = {"queue": "q", "verification": {"type": "github", "secrets": ["hush"]}}


@pytest.mark.parametrize(
    "value",
    [
        {}, {"queue": "q"}, {"queue": "q", "exchange": "e", **OPEN}, {"queue": 5, **OPEN}, OPEN,
        GOOD | {"nonsense": 1}, GOOD | {"routing_key": "x"}, GOOD | {"enabled": 1}, GOOD | {"status": 500},
        GOOD | {"max_body": 0}, GOOD | {"headers": []}, GOOD | {"headers": {"CC": "x"}},
        GOOD | {"headers": {"a": 5}}, GOOD | {"headers": {"a": "{nonsense}"}}, GOOD | {"headers": {"a": "{header:}"}},
        GOOD | {"headers": {"a": "{body:x}"}}, GOOD | {"headers": {"a": "{path:x}"}}, GOOD | {"headers": {"a": "}"}},
        GOOD | {"forward_headers": "x"}, GOOD | {"forward_headers": ["a b"]},
        GOOD | {"deduplication": {"key": "{"}}, GOOD | {"deduplication": {"window_s": 0}},
        GOOD | {"deduplication": {"nonsense": 0}}, GOOD | {"allowed_origins": "*"},
        {"queue": "q", "verification": {}}, {"queue": "q", "verification": {"type": "magic", "secrets": ["hush"]}},
        {"queue": "q", "verification": {"type": "none", "secrets": ["hush"]}},
        {"queue": "q", "verification": {"type": "github", "secrets": []}},
        {"queue": "q", "verification": {"type": "github", "secrets": [""]}},
        {"queue": "q", "verification": {"type": "github", "secrets": ["********"]}},
        {"queue": "q", "verification": {"type": "github", "secrets": ["hush"], "tolerance_s": 5}},
        {"queue": "q", "verification": {"type": "stripe"}},
        {"queue": "q", "verification": {"type": "token", "secrets": ["hush"]}},
        {"queue": "q", "verification": {"type": "standard", "secrets": ["whsec_!"]}},
        {"queue": "q", "verification": {"type": "hmac", "secrets": ["hush"]}},
        {"queue": "q", "verification": {"type": "hmac", "secrets": ["hush"], "header": "h", "algorithm": "md5"}},
        {"queue": "q", "verification": {"type": "hmac", "secrets": ["hush"], "header": "h", "content": "x"}},
        {"queue": "q", "verification": {"type": "hmac", "secrets": ["hush"], "header": "h", "content": "{timestamp}{body}"}},
    ],
)  # fmt: skip
async def test_sources_that_make_no_sense_are_refused(value: dict[str, Any]) -> None:
    async with webhooks_door() as rest:
        answer = await rest.call("PUT", f"{ADMIN}/s", value)
        answer.problem(400, "bad_request")
        assert "hush" not in answer.body.decode()
        assert not rest.broker.vhosts["/"].parameters


def test_templates() -> None:
    values = RequestValues(
        vhost="/", name="n", path="a/b", headers={"x-h": "v"}, query={"q": ""}, content_type="",
        body=b'{"a/b": {"~": [true, 1.5, null, "t"]}, "e": ""}',
    )  # fmt: skip

    def text(source: str) -> str:
        return Template(source).text(values)

    assert text("") == ""
    assert text("{vhost}{name}:{path}:{path:0}:{path:1}:{path:2}:{path:2|x}") == "/n:a/b:a:b::x"
    assert text("{header:X-H}{header:x-none}{query:q|default}{query:p|default}") == "vdefault"
    assert (
        text("{body:/a~1b/~0/0} {body:/a~1b/~0/1} {body:/a~1b/~0/2|null} {body:/a~1b/~0/3}")
        == "true 1.5 null t"
    )
    assert text("{body:/e|x}{body:/a~1b/~0/9}{body:/a~1b/~0/-}{body:/e/x}") == ""
    assert Template("{body:/a~1b/~0}").value(values) == [True, 1.5, None, "t"]
    assert Template("{body:/none}").value(values) is None
    assert Template(" {body:/none}").value(values) == " "
    assert Template("{body:}").value(values) == json.loads(values._body)


async def test_without_the_plugin_senders_are_told_to_try_again_and_secrets_stay_masked() -> None:
    async with rest_door() as rest:
        secret = "whsec_" + b64encode(bytes(32)).decode()
        for component, value in (
            ("webhook-source", {"queue": "q", "verification": {"type": "standard", "secrets": [secret]}}),
            ("webhook", {"url": "https://hooks.example/in", "queue": "q", "secrets": [secret]}),
        ):
            # Kept from a time when the plugin ran.
            rest.broker.vhosts["/"].set_parameter(component, "w", value)
            shown = await rest.call("GET", f"/api/parameters/{component}/%2F/w")
            assert shown.status == 200
            assert secret not in shown.body.decode()
            kept = json.loads(shown.body)["value"]
            assert (
                await rest.call("PUT", f"/api/parameters/{component}/%2F/w", {"value": kept})
            ).status == 204
            assert rest.broker.vhosts["/"].parameters[component, "w"] == value
        for method, path in (
            ("POST", f"{HOOK}/w"), ("OPTIONS", f"{HOOK}/w"), ("GET", f"{ADMIN}/w"), ("GET", "/v1/webhook-sources"),
            ("GET", "/v1/webhooks/%2F/w"), ("GET", "/v1/webhooks"), ("POST", "/v1/webhooks/%2F/w/test"),
        ):  # fmt: skip
            (await rest.call(method, path)).problem(503, "plugin_disabled")


async def test_secrets_stay_masked_when_the_plugin_is_disabled() -> None:
    async with rest_door() as rest:
        async with trio.open_nursery() as nursery:
            await nursery.start(WebhooksPlugin(WebhooksSettings()).run, rest.broker)
            made = await put(rest, "s", queue="q", verification={"type": "github"})
            nursery.cancel_scope.cancel()
        (secret,) = made["verification"]["secrets"]
        (await rest.call("POST", f"{HOOK}/s")).problem(503, "plugin_disabled")
        assert secret not in (await rest.call("GET", "/api/parameters")).body.decode()

"""Webhooks out are signed as Standard Webhooks says, and webhooks in verified so.

Real servers and sockets; every signature is checked by the reference library.
"""

from __future__ import annotations

import hashlib
import hmac
import json
import time
import urllib.error
import urllib.request
from base64 import b64decode, b64encode
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

import pytest
from standardwebhooks.webhooks import Webhook, WebhookVerificationError
from support.hook_receiver import Answer, HookReceiver, Received
from support.hooks_api import HooksApi, fence, publish
from support.server import LeveretServer, poll

from leveret.plugins.webhooks.standard_webhooks import Secret
from leveret.plugins.webhooks.standard_webhooks import signatures as sign

SECRET = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"


OTHER = "whsec_" + b64encode(bytes(range(32))).decode()


Start = Callable[..., LeveretServer]


def computed(secret: str, request: Received) -> str:
    """By hand, of what came over the wire: independent of our code and of the library."""
    content = (
        f"{request.headers['webhook-id']}.{request.headers['webhook-timestamp']}.".encode() + request.body
    )
    key = b64decode(secret.removeprefix("whsec_"))
    return "v1," + b64encode(hmac.new(key, content, hashlib.sha256).digest()).decode()


BODIES = [
    b'{ "a" :\t1.0,\r\n "b": "\xc3\xbc\\u00fc" }\n',  # whitespace, escapes: nothing is parsed and made again
    b"",
    b"\x00\xff\xfe no text\r\n\r\n",
    b"x" * 300_000,
]


def test_the_exact_bytes_that_are_sent_are_signed(start: Start) -> None:
    one = start()
    api = HooksApi(one)
    with HookReceiver() as receiver:
        api.put(receiver, secrets=[SECRET], concurrency=1)
        publish(one, *BODIES, content_type="application/json")
        requests = receiver.wait(len(BODIES))
        assert [request.body for request in requests] == BODIES
        for request in requests:
            assert request.headers["webhook-signature"] == computed(SECRET, request)
        Webhook(SECRET).verify(requests[0].body, requests[0].headers)
        with pytest.raises(WebhookVerificationError):  # the same JSON, other bytes
            Webhook(SECRET).verify(json.dumps(json.loads(requests[0].body)), requests[0].headers)


@pytest.mark.parametrize("value", [
    {"format": "json"}, {"format": "cloudevents-structured"}, {"format": "cloudevents-binary"},
    {"template": '{"text": {{ json.a|tojson }}, "\u00fc": {{ body|tojson }}}'},
])  # fmt: skip
def test_what_a_format_or_template_made_is_signed_as_it_is_sent(start: Start, value: dict[str, Any]) -> None:
    one = start()
    api = HooksApi(one)
    with HookReceiver() as receiver:
        api.put(receiver, secrets=[SECRET], **value)
        publish(one, b'{"a": "<\xc3\xbc>"}', content_type="application/json")
        (request,) = receiver.wait(1)
        Webhook(SECRET).verify(request.body, request.headers)
        assert request.headers["webhook-signature"] == computed(SECRET, request)
        assert int(request.headers["content-length"]) == len(request.body)


def test_the_vector() -> None:
    assert sign([Secret.of(SECRET)], "msg_p5jXN8AQM9LWM0D4loKWxJek", 1614265330, b'{"test": 2432232314}') == (
        "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE="
    )


def test_the_id_stays_and_the_timestamp_is_fresh_over_retries_and_a_kill(start: Start) -> None:
    one = start()
    api = HooksApi(one)
    with HookReceiver(lambda request, count: Answer(500 if count < 4 else 200)) as receiver:
        api.put(receiver, secrets=[SECRET], retry={"delays_s": [1.1, 1.1, 1.1], "jitter": 0})
        publish(one, b"{}")
        receiver.wait(2)
        poll(lambda: len(api.hook("GET", "/attempts")) == 2, "the second attempt's record")
        fence(api)
        one.kill()
        one.start()
        requests = receiver.wait(4)
        ids = {request.id for request in requests}
        assert len(ids) == 1
        assert "." not in ids.pop()
        stamps = [int(request.headers["webhook-timestamp"]) for request in requests]
        assert stamps == sorted(set(stamps)), "every attempt has its own"
        assert abs(stamps[-1] - time.time()) < 10
        for request in requests:
            Webhook(SECRET).verify(request.body, request.headers)
        assert len({request.headers["webhook-signature"] for request in requests}) == 4
        assert [request.headers["x-leveret-attempt"] for request in requests] == ["1", "2", "3", "4"]


def test_ids_of_different_messages_differ_and_a_publishers_own_is_kept(start: Start) -> None:
    one = start()
    with HookReceiver() as receiver:
        HooksApi(one).put(receiver)
        publish(one, b"1", b"1", b"1")
        publish(one, b"1", message_id="order-17")
        ids = [request.id for request in receiver.wait(4)]
        assert len(set(ids)) == 4
        assert "order-17" in ids


def test_several_signatures_are_separated_by_blanks_while_secrets_are_rotated(start: Start) -> None:
    one = start()
    api = HooksApi(one)
    with HookReceiver() as receiver:
        api.put(receiver, secrets=[SECRET])
        rotated_at = time.monotonic()
        assert api.hook("POST", "/rotate-secret", {"secret": OTHER, "keep_s": 2}) == {"secret": OTHER}
        publish(one, b"{}")
        (request,) = receiver.wait(1)
        assert request.headers["webhook-signature"] == " ".join(
            [computed(OTHER, request), computed(SECRET, request)]
        )
        for secret in (SECRET, OTHER):
            Webhook(secret).verify(request.body, request.headers)

        def signed_by_the_new_secret_alone() -> bool:
            count = len(receiver.received)
            publish(one, b"{}")
            request = receiver.wait(count + 1)[count]
            return request.headers["webhook-signature"] == computed(OTHER, request)

        poll(signed_by_the_new_secret_alone, "the end of the old secret")
        assert time.monotonic() - rotated_at >= 2


def test_any_of_several_signatures_lets_a_webhook_in(start: Start) -> None:
    one = start()
    with one.peer() as peer:
        peer.declare(1, "q", durable=True)
        peer.goodbye()
    admin = HooksApi(one)
    verification = {"type": "standard", "secrets": [SECRET]}
    assert (
        admin.call("PUT", "/v1/webhook-sources/%2F/s", {"queue": "q", "verification": verification})[0] == 201
    )
    now = datetime.now(UTC)
    right, wrong = (Webhook(secret).sign("msg_1", now, "{}") for secret in (SECRET, OTHER))
    for signature, status in (
        (wrong, 401), ("v2,AAAA", 401), ("", 401), (right[3:], 401), (f"{wrong} v1a,AAAA", 401),
        (f"v2,AAAA {wrong} {right}", 200), (f"{right} {wrong}", 200),
    ):  # fmt: skip
        headers = {
            "webhook-id": "msg_1", "webhook-timestamp": str(int(now.timestamp())), "webhook-signature": signature,
        }  # fmt: skip
        assert sent(one, "/hooks/%2F/s", b"{}", headers) == status, signature


def sent(server: LeveretServer, path: str, body: bytes, headers: dict[str, str]) -> int:
    request = urllib.request.Request(
        f"http://127.0.0.1:{server.ports['http']}{path}", data=body, headers=headers, method="POST"
    )
    try:
        with urllib.request.urlopen(request, timeout=10) as answer:
            return int(answer.status)
    except urllib.error.HTTPError as error:
        with error:
            return error.code

"""Lines 54 and 55 of the semantics that clones get wrong: signatures, redirects, addresses, 410, Retry-After.

Real servers and sockets; every signature is checked by the reference library.
"""

from __future__ import annotations

import ast
import functools
import hashlib
import hmac
import inspect
import json
import socket
import threading
import time
import urllib.error
import urllib.request
from base64 import b64decode, b64encode
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from email.utils import formatdate
from pathlib import Path
from typing import Any

import pytest
from standardwebhooks.webhooks import Webhook, WebhookVerificationError
from support.hook_receiver import Answer, HookReceiver, Received
from support.hooks_api import HooksApi, publish
from support.server import LeveretServer, poll

from leveret.plugins.webhooks.incoming import hmac_schemes, signed_request, verifiers
from leveret.plugins.webhooks.outgoing.addresses import AddressPolicy
from leveret.plugins.webhooks.outgoing.connector import Connector, RequestFailed, Target
from leveret.plugins.webhooks.outgoing.retry_policy import retry_after_s
from leveret.plugins.webhooks.standard_webhooks import Secret
from leveret.plugins.webhooks.standard_webhooks import signatures as sign

SECRET = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
OTHER = "whsec_" + b64encode(bytes(range(32))).decode()

Start = Callable[..., LeveretServer]


@pytest.fixture
def start(server: Start, tmp_path: Path) -> Start:
    config = tmp_path / "leveret.toml"
    config.write_text('[plugins.webhooks]\nallowed_networks = ["127.0.0.0/8"]\n')
    return lambda **options: server(arguments=["--config", str(config)], **options)


def computed(secret: str, request: Received) -> str:
    """By hand, of what came over the wire: independent of our code and of the library."""
    content = (
        f"{request.headers['webhook-id']}.{request.headers['webhook-timestamp']}.".encode() + request.body
    )
    key = b64decode(secret.removeprefix("whsec_"))
    return "v1," + b64encode(hmac.new(key, content, hashlib.sha256).digest()).decode()


def fence(api: HooksApi) -> None:
    """Returns when all that was written before is on the disk."""
    assert api.call("PUT", "/api/vhosts/fence")[0] == 201


# -- 54. Sign the exact bytes sent


BODIES = [
    b'{ "a" :\t1.0,\r\n "b": "\xc3\xbc\\u00fc" }\n',  # whitespace, escapes: nothing is parsed and made again
    b"",
    b"\x00\xff\xfe no text\r\n\r\n",
    b"x" * 300_000,
]


def test_54_the_exact_bytes_that_are_sent_are_signed(start: Start) -> None:
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
def test_54_what_a_format_or_template_made_is_signed_as_it_is_sent(
    start: Start, value: dict[str, Any]
) -> None:
    one = start()
    api = HooksApi(one)
    with HookReceiver() as receiver:
        api.put(receiver, secrets=[SECRET], **value)
        publish(one, b'{"a": "<\xc3\xbc>"}', content_type="application/json")
        (request,) = receiver.wait(1)
        Webhook(SECRET).verify(request.body, request.headers)
        assert request.headers["webhook-signature"] == computed(SECRET, request)
        assert int(request.headers["content-length"]) == len(request.body)


def test_54_the_vector() -> None:
    assert sign([Secret.of(SECRET)], "msg_p5jXN8AQM9LWM0D4loKWxJek", 1614265330, b'{"test": 2432232314}') == (
        "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE="
    )


# -- 54. webhook-id constant over retries, webhook-timestamp fresh per attempt


def test_54_the_id_stays_and_the_timestamp_is_fresh_over_retries_and_a_kill(start: Start) -> None:
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


def test_54_ids_of_different_messages_differ_and_a_publishers_own_is_kept(start: Start) -> None:
    one = start()
    with HookReceiver() as receiver:
        HooksApi(one).put(receiver)
        publish(one, b"1", b"1", b"1")
        publish(one, b"1", message_id="order-17")
        ids = [request.id for request in receiver.wait(4)]
        assert len(set(ids)) == 4
        assert "order-17" in ids


# -- 54. Several signatures, separated by blanks


def test_54_several_signatures_are_separated_by_blanks_while_secrets_are_rotated(start: Start) -> None:
    one = start()
    api = HooksApi(one)
    with HookReceiver() as receiver:
        api.put(receiver, secrets=[SECRET])
        assert api.hook("POST", "/rotate-secret", {"secret": OTHER, "keep_s": 2}) == {"secret": OTHER}
        publish(one, b"{}")
        (request,) = receiver.wait(1)
        assert request.headers["webhook-signature"] == " ".join(
            [computed(OTHER, request), computed(SECRET, request)]
        )
        for secret in (SECRET, OTHER):
            Webhook(secret).verify(request.body, request.headers)
        time.sleep(2.1)
        publish(one, b"{}")
        request = receiver.wait(2)[1]
        assert request.headers["webhook-signature"] == computed(OTHER, request)


def test_54_any_of_several_signatures_lets_a_webhook_in(start: Start) -> None:
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


# -- 54. Compare in constant time


def test_54_secrets_and_signatures_are_compared_in_constant_time(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every kind of verification asks hmac.compare_digest, for each secret, also when the first one fits already."""
    asked: list[tuple[bytes, bytes]] = []
    real = hmac.compare_digest

    def compare(a: bytes, b: bytes) -> bool:
        asked.append((a, b))
        return real(a, b)

    monkeypatch.setattr(hmac, "compare_digest", compare)
    now = 1_700_000_000
    mac = functools.partial(hmac.new, digestmod=hashlib.sha256)
    stripe = mac(b"one", b"%d." % now).hexdigest()
    standard = Webhook(SECRET).sign("m", datetime.fromtimestamp(now, UTC), "")
    cases: list[tuple[str, list[str], dict[str, str], dict[str, Any]]] = [
        ("hmac", ["one", "two"], {"x-hub-signature-256": "sha256=" + mac(b"one", b"").hexdigest()},
         {"scheme": hmac_schemes.PRESETS["github"]}),
        ("stripe", ["one", "two"], {"stripe-signature": f"t={now},v1={stripe}"}, {}),
        ("standard", [SECRET, OTHER], {"webhook-id": "m", "webhook-timestamp": str(now), "webhook-signature": standard}, {}),
        ("bearer", ["one", "two"], {"authorization": "Bearer one"}, {}),
        ("token", ["one", "two"], {"x-token": "one"}, {"header": "x-token"}),
        ("basic", ["one", "two"], {"authorization": "Basic " + b64encode(b"u:one").decode()}, {"username": "u"}),
        ("twilio", ["one", "two"], {"x-twilio-signature": b64encode(hmac.digest(b"one", b"https://h/", "sha1")).decode()},
         {"public_url": "https://h"}),
    ]  # fmt: skip
    for kind, secrets, headers, more in cases:
        verifier = verifiers.verifier_of(kind, secrets, **more)
        asked.clear()
        verifier.check(
            signed_request.SignedRequest({name: [value] for name, value in headers.items()}, {}, now, "/"),
            b"",
        )
        assert len(asked) >= len(secrets), kind


@pytest.mark.parametrize("module", [signed_request, hmac_schemes, verifiers])
def test_54_nothing_secret_is_compared_in_any_other_way(module: Any) -> None:
    """In the code of the verifiers `==` compares kinds, names and lengths, which are nobody's secret."""
    known = {"kind", "name", "version", "piece", "len", "number", "encoding", "content", "lower"}
    for node in ast.walk(ast.parse(inspect.getsource(module))):
        if isinstance(node, ast.Compare) and any(isinstance(one, (ast.Eq, ast.NotEq)) for one in node.ops):
            names = {one.id for one in ast.walk(node) if isinstance(one, ast.Name)}
            names |= {one.attr for one in ast.walk(node) if isinstance(one, ast.Attribute)}
            assert names & known, ast.unparse(node)


# -- 55. Never follow redirects


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
def test_55_redirects_are_not_followed_and_are_failures(start: Start, status: int) -> None:
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


# -- 55. DNS-rebinding-safe SSRF check at connect time


@pytest.fixture
def listening() -> Iterator[tuple[socket.socket, list[Any]]]:
    """On every address of this machine; who has connected."""
    seen: list[Any] = []
    with socket.create_server(("::", 0), family=socket.AF_INET6, dualstack_ipv6=True) as server:

        def accept() -> None:
            while True:
                try:
                    peer, address = server.accept()
                except OSError:
                    return
                seen.append(address)
                peer.close()

        thread = threading.Thread(target=accept, daemon=True)
        thread.start()
        yield server, seen
        server.shutdown(socket.SHUT_RDWR)
    thread.join(5)


def test_55_private_addresses_are_refused_by_the_real_server_whatever_they_are_called(
    server: Start, listening: tuple[socket.socket, list[Any]]
) -> None:
    one = server()
    api = HooksApi(one)
    port = listening[0].getsockname()[1]
    for host in (
        "127.0.0.1", "127.9.9.9", "[::1]", "[::ffff:127.0.0.1]", "[::ffff:7f00:1]", "0.0.0.0", "[::]", "10.1.2.3",
        "192.168.0.1", "172.16.0.1", "169.254.169.254", "100.64.0.1", "[fe80::1]", "[fd00:ec2::254]", "224.0.0.1",
        "[ff02::1]", "[64:ff9b::7f00:1]", "[64:ff9b:1::7f00:1]", "[2002:7f00:1::]", "[2001::1]", "198.18.0.1",
        "255.255.255.255", "192.0.2.1", "[2001:db8::1]", "240.0.0.1",
    ):  # fmt: skip
        answer = api.hook("PUT", value={"url": f"http://{host}:{port}/", "exchange": "amq.topic"}, expect=400)
        assert "which webhooks may not reach" in answer["detail"] or "is not public" in answer["detail"], host
    for host in ("2130706433", "0x7f000001", "0177.0.0.1", "127.1", "0x7f.1"):  # numbers that inet_aton takes
        answer = api.hook("PUT", value={"url": f"http://{host}:{port}/", "exchange": "amq.topic"}, expect=400)
        assert "neither a host name nor an address" in answer["detail"]
    # A name is nobody's until it is looked up: then each connect is checked.
    api.hook("PUT", value={
        "url": f"http://localhost:{port}/", "exchange": "amq.topic", "routing_key": "t.#", "retry": {"delays_s": [0.1]},
    }, expect=201)  # fmt: skip
    publish(one, b"x")
    attempts = poll(lambda: len(found := api.hook("GET", "/attempts")) == 2 and found, "attempts")
    assert {one["reason"] for one in attempts} == {"address-refused", "exhausted"}
    assert "which webhooks may not reach" in attempts[0]["error"]
    assert listening[1] == []


async def test_55_a_name_that_changes_its_address_gains_nothing(
    listening: tuple[socket.socket, list[Any]],
) -> None:
    """Looked up once per connection, and connected to the very address that was checked; the next one is checked again."""
    port = listening[0].getsockname()[1]
    answers = [["127.0.0.2"], ["10.0.0.1"], ["::1"], ["::ffff:127.0.0.1"], ["127.0.0.2"]]
    asked: list[str] = []

    async def resolve(host: str, port: int) -> list[str]:
        asked.append(host)
        return answers[len(asked) - 1]

    connector = Connector(AddressPolicy(["127.0.0.2/32"]), resolve=resolve)
    target = Target.of(f"http://rebinding.example:{port}/")
    for index, found in enumerate(answers):
        if found == ["127.0.0.2"]:
            stream = await connector.open(target)
            await stream.aclose()
        else:
            with pytest.raises(RequestFailed) as error:
                await connector.open(target)
            assert error.value.reason == "address-refused"
        assert len(asked) == index + 1, "one lookup for one connection"
    poll(lambda: len(listening[1]) == 2, "two connections")


def test_55_what_an_operator_allows_is_reached(start: Start) -> None:
    one = start()
    with HookReceiver() as receiver:
        HooksApi(one).put(receiver)
        publish(one, b"x")
        assert receiver.wait(1)[0].body == b"x"
        for host in ("10.0.0.1", "[::1]"):  # that and no more
            HooksApi(one).hook("PUT", value={"url": f"http://{host}/", "exchange": "amq.topic"}, expect=400)


def test_55_what_is_allowed_to_one_virtual_host_is_not_to_another(server: Start, tmp_path: Path) -> None:
    config = tmp_path / "leveret.toml"
    config.write_text('[plugins.webhooks]\nvhost_allowed_networks = {"inside" = ["127.0.0.0/8"]}\n')
    one = server(arguments=["--config", str(config)])
    api = HooksApi(one)
    assert api.call("PUT", "/api/vhosts/inside")[0] == 201
    with HookReceiver() as receiver:
        value = {"url": receiver.url, "exchange": "amq.topic", "routing_key": "#"}
        assert api.call("PUT", "/v1/webhooks/%2F/w", value)[0] == 400
        assert api.call("PUT", "/v1/webhooks/inside/w", value)[0] == 201
        assert api.call("POST", "/v1/webhooks/inside/w/test")[0] == 202
        assert receiver.wait(1)[0].headers["x-leveret-type"] == "webhook.test"


# -- 55. 410 disables


def test_55_gone_disables_until_it_is_enabled_and_nothing_is_lost(start: Start) -> None:
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
        time.sleep(0.3)
        assert len(receiver.received) == 1, "nothing is sent any more"
        (letter,) = api.hook("GET", "/dead-letters")
        assert (letter["reason"], letter["status"]) == ("gone", 410)
        api.hook("POST", "/enable")
        assert [request.body for request in receiver.wait(3)] == [b"1", b"2", b"3"]
        api.hook("POST", "/replay", {"all": True})
        assert receiver.wait(4)[3].body == b"1"
        assert receiver.received[3].id == receiver.received[0].id


# -- 55. Retry-After, in seconds or as a date


@pytest.mark.parametrize("form", ["seconds", "date"])
@pytest.mark.parametrize("status", [429, 503])
def test_55_retry_after_is_honoured(start: Start, status: int, form: str) -> None:
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
def test_55_retry_after_in_each_of_its_forms(value: str | None, seconds: float | None) -> None:
    """The three forms of an HTTP date (RFC 9110 5.6.7); what is over is now, what is none is none."""
    assert retry_after_s(value, datetime(1999, 12, 31, 23, 59, 0, tzinfo=UTC).timestamp()) == seconds


def test_55_retry_after_has_a_longest(start: Start) -> None:
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

"""OAuth 2 client credentials and client certificates of webhooks out."""

from __future__ import annotations

import json
import logging
import ssl
from base64 import b64decode
from typing import Any
from urllib.parse import parse_qs

import pytest
import trio
import trustme
from support.hook_receiver import RawReceiver, Received, reply, serve_on
from support.hook_world import NO_JITTER, URL, Answer, world
from trio.testing import MockClock

from leveret.core.errors import InvalidArgument
from leveret.plugins.webhooks.outgoing.addresses import AddressPolicy
from leveret.plugins.webhooks.outgoing.client import Connection
from leveret.plugins.webhooks.outgoing.connector import Connector, RequestFailed, Target
from leveret.plugins.webhooks.outgoing.credentials import ClientCertificate
from leveret.plugins.webhooks.outgoing.masking import masked, normalized
from leveret.plugins.webhooks.outgoing.subscription import Subscription

OAUTH = {
    "type": "oauth2", "token_url": "https://login.example/token", "client_id": "id of:us", "client_secret": "s3cret/+",
    "scope": "hooks write",
}  # fmt: skip


class Login:
    """A token server and an endpoint behind it: /token and /in."""

    def __init__(self, **answer: Any) -> None:
        self.asked: list[Received] = []
        self.answer = {"access_token": "tok-%d", "token_type": "Bearer", "expires_in": 100} | answer
        self.status = 200
        self.raw: bytes | None = None
        self.endpoint: Answer = lambda request, count: reply(200)

    def __call__(self, request: Received, count: int) -> bytes | float | None:
        if request.path != "/token":
            return self.endpoint(request, count)
        self.asked.append(request)
        token = str(self.answer["access_token"]).replace("%d", str(len(self.asked)))
        body = json.dumps(self.answer | {"access_token": token}).encode() if self.raw is None else self.raw
        return reply(self.status, body)


def tokens(received: list[Received]) -> list[str]:
    return [one.headers["authorization"] for one in received if one.path == "/in"]


@pytest.mark.parametrize("style", ["basic", "body"])
async def test_one_token_for_many_messages(autojump_clock: MockClock, style: str) -> None:
    login = Login()
    async with world(login) as w:
        w.subscribe(auth=OAUTH | {"style": style, "audience": "a"}, concurrency=8)
        w.publish(*map(str, range(20)))
        await w.settled()
        assert tokens(w.endpoint.received) == ["Bearer tok-1"] * 20
        (asked,) = login.asked
        form = parse_qs(asked.body.decode())
        assert (form["grant_type"], form["scope"], form["audience"]) == (
            ["client_credentials"], ["hooks write"], ["a"],
        )  # fmt: skip
        if style == "basic":
            assert b64decode(asked.headers["authorization"].split()[1]) == b"id+of%3Aus:s3cret%2F%2B"
        else:
            assert (form["client_id"], form["client_secret"]) == (["id of:us"], ["s3cret/+"])


async def test_a_token_is_renewed_before_it_ends_and_when_it_is_refused(autojump_clock: MockClock) -> None:
    login = Login()

    def endpoint(request: Received, count: int) -> bytes:
        return reply(401 if request.headers["authorization"] == "Bearer tok-2" else 200)

    login.endpoint = endpoint
    async with world(login) as w:
        w.subscribe(auth=OAUTH)
        for wait in (0, 80, 15):
            await trio.sleep(wait)
            w.publish("x")
            await w.settled()
        assert tokens(w.endpoint.received) == [
            "Bearer tok-1", "Bearer tok-1", "Bearer tok-2", "Bearer tok-3",
        ]  # fmt: skip


@pytest.mark.parametrize(
    ("status", "raw"),
    [
        (500, b"s3cret/+"), (401, b"{}"), (302, b""), (200, b"no json"), (200, b"[]"), (200, b"{}"), (200, b"[" * 30_000),
        (200, b'{"access_token": "a\\r\\nX-Evil: 1"}'), (200, b'{"access_token": ""}'), (200, b'{"access_token": 5}'),
        (200, b'{"access_token": "x", "token_type": "mac"}'), (200, b'{"access_token": "' + b"x" * 40_000 + b'"}'),
    ],
)  # fmt: skip
async def test_without_a_token_it_is_tried_again(autojump_clock: MockClock, status: int, raw: bytes) -> None:
    login = Login()
    login.status, login.raw = status, raw
    async with world(login) as w:
        w.subscribe(auth=OAUTH, retry={"delays_s": [6, 6], "jitter": 0}, circuit_breaker=False)
        w.publish("1", "2", "3")
        await trio.sleep(3)
        assert len(login.asked) == 1, "whoever waits for a token shares the refusal"
        login.status, login.raw = 200, None
        await w.settled()
        assert tokens(w.endpoint.received) == ["Bearer tok-2"] * 3
        failed = w.attempts(outcome="retry")
        assert {one["reason"] for one in failed} == {"oauth"}
        assert "s3cret" not in json.dumps(failed)


@pytest.mark.parametrize(
    ("lifetime", "count"), [("100", 1), (None, 1), ("soon", 1), (-5, 1), (True, 1), (1e30, 1), (10, 2)]
)
async def test_whatever_a_lifetime_is(autojump_clock: MockClock, lifetime: Any, count: int) -> None:
    login = Login(expires_in=lifetime)
    async with world(login) as w:
        w.subscribe(auth=OAUTH)
        w.publish("1")
        await trio.sleep(20)
        w.publish("2")
        await w.settled()
        assert len(login.asked) == count


async def test_neither_token_nor_secret_is_recorded_or_logged(
    autojump_clock: MockClock, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    login = Login(access_token="tok-" + "x" * 3000)
    login.endpoint = lambda request, count: reply(200, b"." * 1000 + json.dumps(request.headers).encode())
    async with world(login) as w:
        w.subscribe(auth=OAUTH, retry=NO_JITTER)
        w.publish("1")
        await w.settled()
        assert w.facts["subscription"]["auth"] == OAUTH | {"client_secret": "********"}
        told = json.dumps([w.attempts(), w.facts, w.events], default=str) + caplog.text
        assert "********" in told
        assert "tok-" not in told
        assert "xxx" not in told
        assert "s3cret" not in told


def test_what_makes_no_sense() -> None:
    base = {"url": URL, "exchange": "x", "secrets": []}
    policy = AddressPolicy()
    for auth, text in (
        (OAUTH | {"token_url": "http://127.0.0.1/token"}, "auth.token_url: address 127.0.0.1"),
        (OAUTH | {"token_url": "ftp://x/"}, "auth.token_url: a URL begins"),
        (OAUTH | {"client_id": ""}, "auth needs client_id and client_secret"),
        (OAUTH | {"style": "query"}, "auth.style must be one of"),
        (OAUTH | {"token": "x"}, "there is no field auth.token"),
    ):
        with pytest.raises(InvalidArgument, match=text):
            Subscription.of("w", base | {"auth": auth}, policy=policy)
    with pytest.raises(InvalidArgument, match="Authorization cannot be set beside auth"):
        Subscription.of("w", base | {"auth": OAUTH, "headers": {"authorization": "x"}})
    with pytest.raises(InvalidArgument, match=r"token_url: only https"):
        Subscription.of("w", base | {"auth": OAUTH | {"token_url": "http://x/"}}, https_only=True)


# -- client certificates


def issued(authority: trustme.CA, name: str) -> dict[str, str]:
    one = authority.issue_cert(name)
    chain = "".join(blob.bytes().decode() for blob in one.cert_chain_pems)
    return {"certificate": chain, "key": one.private_key_pem.bytes().decode()}


@pytest.mark.parametrize("case", ["right", "none", "another authority's"])
async def test_a_client_certificate_is_shown_and_checked(case: str, tmp_path: Any) -> None:
    authority, other = trustme.CA(), trustme.CA()
    ca_file = tmp_path / "ca.pem"
    authority.cert_pem.write_to_path(str(ca_file))
    server = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    authority.issue_cert("hooks.example").configure_cert(server)
    authority.configure_trust(server)
    server.verify_mode = ssl.CERT_REQUIRED

    async def script(stream: trio.abc.Stream, request: Received) -> None:
        assert isinstance(stream, trio.SSLStream)
        ((_, name),) = stream.getpeercert()["subjectAltName"]
        await stream.send_all(reply(200, name.encode()))

    receiver = RawReceiver(script)

    async def serve(stream: trio.SocketStream) -> None:
        try:
            await receiver.serve(trio.SSLStream(stream, server, server_side=True, https_compatible=True))
        except (trio.BrokenResourceError, ssl.SSLError):
            return  # it has refused the certificate

    async def resolve(host: str, port: int) -> list[str]:
        return ["127.0.0.1"]

    connector = Connector(AddressPolicy(["127.0.0.0/8"]), ca_file=str(ca_file), resolve=resolve)
    if case != "none":
        given = issued(authority if case == "right" else other, "us.example")
        connector = connector.with_certificate(ClientCertificate(**given).load_into)
    async with trio.open_nursery() as nursery:
        port = await serve_on(nursery, serve)
        connection = Connection(connector, Target.of(f"https://hooks.example:{port}/"))
        if case == "right":
            for _ in range(2):
                answer = await connection.request("POST", [], b"{}", timeout_s=5, snippet_bytes=100)
                assert (answer.status, answer.snippet) == (200, b"us.example")
            assert receiver.connections == 1  # session tickets are no answer that nobody asked for
        else:
            with pytest.raises(RequestFailed) as error:
                await connection.request("POST", [], b"{}", timeout_s=5, snippet_bytes=100)
            assert error.value.reason in ("tls", "closed")
        connection.close()
        nursery.cancel_scope.cancel()


def test_certificates_that_cannot_be_used_are_refused_and_keys_not_shown() -> None:
    authority = trustme.CA()
    one, other = issued(authority, "a.example"), issued(authority, "b.example")
    base = {"url": URL, "exchange": "x", "secrets": []}
    for given in (
        {"certificate": one["certificate"], "key": other["key"]}, {"certificate": "x", "key": "y"},
        {"certificate": one["certificate"]}, {"key": one["key"]},
        {"certificate": one["certificate"], "key": one["key"][:200]},
    ):  # fmt: skip
        with pytest.raises(InvalidArgument, match="not PEM") as error:
            Subscription.of("w", base | {"client_certificate": given})
        assert one["key"][40:80] not in str(error.value)
    with pytest.raises(InvalidArgument, match="needs an https URL"):
        Subscription.of("w", base | {"url": "http://hooks.example/", "client_certificate": one})
    subscription = Subscription.of("w", base | {"client_certificate": one})
    assert one["key"] not in repr(subscription)
    shown = masked(base | {"client_certificate": one})
    assert shown["client_certificate"] == {"certificate": one["certificate"], "key": "********"}
    assert normalized(shown, base | {"client_certificate": one})["client_certificate"] == one

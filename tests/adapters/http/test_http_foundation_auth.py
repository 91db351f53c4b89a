"""Logins over HTTP: what is remembered and for how long, and backends that must ask elsewhere."""

from __future__ import annotations

import base64
import contextlib
from collections.abc import AsyncIterator, Mapping, Sequence
from types import SimpleNamespace
from typing import Any, ClassVar

import pytest
import trio
from aiohttp import web
from support.in_process import InProcess, broker_in_process

from leveret.adapters.http.adapter import HttpAdapter
from leveret.adapters.http.areas import Area, Route
from leveret.adapters.http.auth import RecentLogins, credentials_of
from leveret.adapters.http.errors import Refusal
from leveret.auth.chain import AuthChain
from leveret.auth.contracts import AccessDenied, Credentials, Permission, Principal, Resource

ANN = Principal("ann", frozenset({"management"}), "slow")


def basic(user: str, password: str) -> str:
    return "Basic " + base64.b64encode(f"{user}:{password}".encode()).decode()


def test_what_a_header_says() -> None:
    found = credentials_of(basic("ü", "a:b"), "1.2.3.4")
    assert (found.mechanism, found.username, found.password) == ("PLAIN", "ü", "a:b")
    assert (found.peer_host, found.protocol) == ("1.2.3.4", "http")
    token = credentials_of("bearer abc.def", None)
    assert (token.username, token.password) == ("", "abc.def")


@pytest.mark.parametrize(
    "header", ["", "Basic", "Basic %%%", "Basic " + "bm8=", "Bearer ", "Digest x", "Basic /w=="]
)
def test_what_is_no_login(header: str) -> None:
    with pytest.raises(Refusal) as caught:
        credentials_of(header, None)
    assert (caught.value.status, caught.value.reason) == (401, "Login failed")
    assert "WWW-Authenticate" in caught.value.headers


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


def logins(ttl_s: float = 15.0) -> tuple[RecentLogins, Any, Clock]:
    clock = Clock()
    broker: Any = SimpleNamespace(
        users=SimpleNamespace(revision=1), settings=SimpleNamespace(auth=SimpleNamespace(cache_ttl_s=ttl_s))
    )
    return RecentLogins(broker, clock), broker, clock


def test_a_login_is_remembered_for_its_header_and_address_and_a_while() -> None:
    recent, _, clock = logins()
    header = basic("ann", "p")
    assert recent.find(header, "::1") is None
    recent.remember(header, "::1", ANN)
    assert recent.find(header, "::1") is ANN
    assert recent.find(header, "1.2.3.4") is None
    assert recent.find(header, None) is None
    assert recent.find(basic("ann", "q"), "::1") is None
    clock.now = 15.0
    assert recent.find(header, "::1") is None


def test_any_change_of_users_forgets_logins() -> None:
    recent, broker, _ = logins()
    recent.find("Basic x", None)
    recent.remember("Basic x", None, ANN)
    broker.users.revision = 2
    assert recent.find("Basic x", None) is None
    # One that was checked before the change and comes after it is not remembered.
    broker.users.revision = 3
    recent.remember("Basic x", None, ANN)
    assert len(recent) == 0


def test_nothing_is_remembered_without_a_time_to_live_or_past_the_end_of_a_token() -> None:
    recent, _, _ = logins(0)
    recent.find("Basic x", None)
    recent.remember("Basic x", None, ANN)
    assert recent.find("Basic x", None) is None
    recent, _, _ = logins()
    recent.find("Bearer x", None)
    recent.remember("Bearer x", None, Principal("bob", expires_at=1.0))
    assert recent.find("Bearer x", None) is None


class SlowBackend:
    """Asks somebody else, which takes a while."""

    name: ClassVar[str] = "slow"
    settings_type: ClassVar[type | None] = None

    def __init__(self) -> None:
        self.asked: list[object] = []

    async def authenticate(self, credentials: Credentials) -> Principal | None:
        await trio.sleep(0.001)
        self.asked.append("login")
        if credentials.password == "broken":
            raise RuntimeError("the other side is down")
        if credentials.password != "p":
            raise AccessDenied("no")
        return ANN

    async def authorize(
        self, principal: Principal, vhost: str, permission: Permission | None, resource: Resource
    ) -> bool:
        await trio.sleep(0.001)
        self.asked.append((permission, resource.name))
        return resource.name != "forbidden"


class DeclareArea(Area):
    """Declares a queue with the user's permissions."""

    name: ClassVar[str] = "declare"
    tags: ClassVar[Mapping[str, str]] = {"declare": "Routes of the tests"}

    def routes(self) -> Sequence[Route]:
        return [Route("PUT", "/declare/{name}", self.declare)]

    async def declare(self, request: web.Request) -> web.Response:
        session = await self.context.session(request, "/")
        name = request.match_info["name"]
        queue = await self.context.decide(session, lambda: session.queue_declare(name))
        return web.Response(text=queue.name)


@contextlib.asynccontextmanager
async def listener() -> AsyncIterator[tuple[InProcess, SlowBackend]]:
    async with broker_in_process(adapter=HttpAdapter, areas=(DeclareArea,)) as broker:
        backend = SlowBackend()
        broker.broker.auth = AuthChain([backend], [backend])
        yield broker, backend


async def status(broker: InProcess, path: str, password: str, method: str = "GET") -> int:
    line = f"{method} {path} HTTP/1.0\r\nAuthorization: {basic('ann', password)}\r\n\r\n".encode()
    stream, _, ended = broker.connect()
    await stream.send_all(line)
    answer = b""
    with trio.fail_after(5):
        async for chunk in stream:
            answer += chunk
        await stream.aclose()
        await ended.wait()
    return int(answer.split()[1])


async def test_a_backend_that_takes_its_time_is_waited_for_once() -> None:
    async with listener() as (broker, backend):
        assert await status(broker, "/api/whoami", "p") == 200
        assert await status(broker, "/api/whoami", "p") == 200
        assert backend.asked == ["login"]
        assert await status(broker, "/api/whoami", "wrong") == 401
        assert await status(broker, "/api/whoami", "broken") == 401
        assert broker.broker.auth.attempts.counts == {"http": [2, 2]}


async def test_decisions_wait_for_permissions() -> None:
    async with listener() as (broker, backend):
        assert await status(broker, "/declare/made", "p", "PUT") == 200
        assert (Permission.CONFIGURE, "made") in backend.asked
        assert await status(broker, "/declare/forbidden", "p", "PUT") == 403
        assert list(broker.broker.vhosts["/"].queues) == ["made"]

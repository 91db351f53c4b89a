"""The chain: None asks the next, a refusal stops, any other exception denies; features/auth 5a "Backend chain",
"loopback_users", "Failure"."""

from __future__ import annotations

import logging
from collections.abc import Awaitable
from typing import Any, ClassVar

import pytest
import trio

from leveret.auth.chain import AuthChain, is_loopback
from leveret.auth.contracts import AccessDenied, Credentials, Permission, Principal, Resource
from leveret.auth.internal import InternalBackend
from leveret.conf.settings import Auth

PLAIN = Credentials("PLAIN", "u", "hunter2", peer_host="192.0.2.1")
QUEUE = Resource("queue", "q")
READ = Permission.READ


class Backend:
    """Says `answer`, or raises it."""

    name: ClassVar[str] = "backend"
    settings_type: ClassVar[type | None] = None

    def __init__(self, answer: Any, name: str = "backend") -> None:
        self.answer = answer
        self.name = name  # type: ignore[misc]  # each its own
        self.asked = 0

    def say(self) -> Any:
        self.asked += 1
        if isinstance(self.answer, BaseException):
            raise self.answer
        return self.answer

    async def authenticate(self, credentials: Credentials) -> Principal | None:
        await trio.lowlevel.checkpoint()
        return self.say()  # type: ignore[no-any-return]

    def authorize(
        self, principal: Principal, vhost: str, permission: Permission | None, resource: Resource
    ) -> bool | Awaitable[bool | None] | None:
        return self.say()  # type: ignore[no-any-return]


class Slow(Backend):
    """Answers after it has asked elsewhere."""

    def authorize(
        self, principal: Principal, vhost: str, permission: Permission | None, resource: Resource
    ) -> Awaitable[bool | None]:
        async def answer() -> bool | None:
            await trio.sleep(1)
            return self.say()  # type: ignore[no-any-return]

        return answer()


def chain(*backends: Backend, **options: Any) -> AuthChain:
    return AuthChain(backends, backends, **options)


# -- who is it


async def test_the_first_who_knows_wins(caplog: pytest.LogCaptureFixture) -> None:
    backends = [Backend(None), Backend(Principal("u", backend="two"), "two"), Backend(Principal("v"))]
    with caplog.at_level(logging.INFO):
        assert (await chain(*backends).authenticate(PLAIN)).backend == "two"
    assert [backend.asked for backend in backends] == [1, 1, 0]
    assert "user=u peer=192.0.2.1 protocol=amqp mechanism=PLAIN authenticated by two" in caplog.text
    assert {record.levelname for record in caplog.records} == {"INFO"}


async def test_a_refusal_stops(caplog: pytest.LogCaptureFixture) -> None:
    backends = [Backend(AccessDenied("user 'u' - invalid credentials")), Backend(Principal("u"))]
    with pytest.raises(AccessDenied, match=r"^user 'u' - invalid credentials$"):
        await chain(*backends).authenticate(PLAIN)
    assert backends[1].asked == 0
    assert "refused: user 'u' - invalid credentials" in caplog.text
    assert [record.levelname for record in caplog.records] == ["WARNING"]


async def test_nobody_knows_them(caplog: pytest.LogCaptureFixture) -> None:
    for backends in ([], [Backend(None), Backend(None)]):
        with pytest.raises(AccessDenied, match=r"^user 'u' - invalid credentials$"):
            await chain(*backends).authenticate(PLAIN)
    assert len(caplog.records) == 2


@pytest.mark.parametrize(
    "answer", [RuntimeError("broken"), OSError("refused"), KeyError("u"), True, "u", object(), ("u",)]
)
async def test_a_broken_backend_denies(answer: Any, caplog: pytest.LogCaptureFixture) -> None:
    backends = [Backend(answer, "broken"), Backend(Principal("u"))]
    with pytest.raises(AccessDenied, match=r"^backend broken failed$"):
        await chain(*backends).authenticate(PLAIN)
    assert backends[1].asked == 0
    assert [record.levelname for record in caplog.records] == ["ERROR", "WARNING"]
    assert caplog.records[0].exc_info is not None


async def test_cancellation_gets_out() -> None:
    class Hanging(Backend):
        async def authenticate(self, credentials: Credentials) -> Principal | None:
            await trio.sleep_forever()

    with trio.move_on_after(0) as scope:
        await chain(Hanging(None)).authenticate(PLAIN)
    assert scope.cancelled_caught


@pytest.mark.parametrize("secret", ["hunter2", "p&ss w/rd", "pässwort", "\udcffraw", "a+b%20"])
@pytest.mark.parametrize("error", [RuntimeError, AccessDenied, OSError])
async def test_no_secret_is_logged(
    secret: str, error: type[Exception], caplog: pytest.LogCaptureFixture
) -> None:
    from urllib.parse import quote, quote_plus

    forms = [secret, quote(secret, errors="replace"), quote_plus(secret, errors="replace")]
    backend = Backend(error("GET /user?password=" + " ".join(forms)))
    formatter = logging.Formatter()
    with caplog.at_level(logging.DEBUG), pytest.raises(AccessDenied) as raised:
        await chain(backend).authenticate(Credentials("PLAIN", "u", secret))
    shown = [formatter.format(record) for record in caplog.records] + [str(raised.value)]
    assert shown
    assert not [text for text in shown for form in forms if form in text]
    assert raised.value.__cause__ is None
    assert raised.value.__suppress_context__


async def test_the_client_id_is_for_the_variables() -> None:
    who = Principal("u", attributes={"claim": "x"})
    found = await chain(Backend(who)).authenticate(Credentials("PLAIN", "u", "x", client_id="c"))
    assert found.attributes == {"claim": "x", "client_id": "c"}
    assert (await chain(Backend(who)).authenticate(PLAIN)).attributes == {"claim": "x"}


# -- from where

LOCAL = ["127.0.0.1", "127.8.9.1", "::1", "::ffff:127.0.0.1", "::ffff:127.1.2.3", "::1%lo", None]
REMOTE = [
    "192.0.2.1", "10.0.0.1", "128.0.0.1", "126.255.255.255", "0.0.0.0", "::", "::2", "fe80::1%eth0",
    "::ffff:10.0.0.1", "localhost", "", "127.1", "127.0.0.1.example.org", "::127.0.0.1",
]  # fmt: skip


@pytest.mark.parametrize(
    ("host", "expected"), [*((host, True) for host in LOCAL), *((host, False) for host in REMOTE)]
)
async def test_loopback_users(host: str | None, expected: bool, caplog: pytest.LogCaptureFixture) -> None:
    assert is_loopback(host) is expected
    credentials = Credentials("PLAIN", "guest", "guest", peer_host=host)
    bound = chain(Backend(Principal("guest")), loopback_users=["guest"])
    if expected:
        assert (await bound.authenticate(credentials)).username == "guest"
    else:
        with pytest.raises(AccessDenied, match=r"^user 'guest' can only connect via localhost$"):
            await bound.authenticate(credentials)
        assert "user 'guest' can only connect via localhost" in caplog.text
    for free in (
        chain(Backend(Principal("guest"))),
        chain(Backend(Principal("ann")), loopback_users=["guest"]),
    ):
        await free.authenticate(credentials)


async def test_the_loopback_rule_is_for_who_it_turned_out_to_be() -> None:
    # A token or a certificate says who somebody is, whatever name was given.
    bound = chain(Backend(Principal("guest")), loopback_users=["guest"])
    with pytest.raises(AccessDenied, match="localhost"):
        await bound.authenticate(Credentials("PLAIN", "innocent", "token", peer_host="192.0.2.1"))


# -- may they

US = Principal("u", backend="internal")


@pytest.mark.parametrize(
    ("answers", "expected", "asked"),
    [
        ([True, False], True, [1, 0]),
        ([False, True], False, [1, 0]),
        ([None, True], True, [1, 1]),
        ([None, False], False, [1, 1]),
        ([None, None], False, [1, 1]),
        ([], False, []),
        ([AccessDenied("no"), True], False, [1, 0]),
        ([RuntimeError("broken"), True], False, [1, 0]),
        (["deny", True], False, [1, 0]),
        ([1, True], False, [1, 0]),
        ([0, True], False, [1, 0]),
    ],
)
async def test_answers(answers: list[Any], expected: bool, asked: list[int]) -> None:
    now = [Backend(answer) for answer in answers]
    assert chain(*now).authorize_nowait(US, "/", READ, QUEUE) is expected
    assert [backend.asked for backend in now] == asked
    later = [Backend(answer) for answer in answers]
    assert await chain(*later).authorize(US, "/", READ, QUEUE) is expected
    assert [backend.asked for backend in later] == asked


@pytest.mark.parametrize(
    ("answer", "expected"),
    [
        (True, True),
        (False, False),
        (None, True),
        (AccessDenied("no"), False),
        (OSError("gone"), False),
        ("allow", False),
    ],
)
async def test_what_needs_io_is_awaited(answer: Any, expected: bool, autojump_clock: trio.abc.Clock) -> None:
    slow, next_one = Slow(answer), Backend(True)
    asked = chain(slow, next_one)
    assert asked.authorize_nowait(US, "/", READ, QUEUE) is None  # and no coroutine is left behind, unawaited
    assert (slow.asked, next_one.asked) == (0, 0)
    assert await asked.authorize(US, "/", READ, QUEUE) is expected
    assert next_one.asked == (answer is None)


async def test_who_answers_from_memory_first_spares_the_wait() -> None:
    slow = Slow(True)
    assert chain(Backend(False), slow).authorize_nowait(US, "/", READ, QUEUE) is False
    assert chain(Backend(None), slow).authorize_nowait(US, "/", READ, QUEUE) is None


async def test_failures_are_logged(caplog: pytest.LogCaptureFixture) -> None:
    chain(Backend(RuntimeError("broken"), "odd")).authorize_nowait(US, "/", READ, QUEUE)
    assert "user=u backend=odd failed; denied" in caplog.text


async def test_namesakes_are_two() -> None:
    # A user of one backend has nothing of the other's user of the same name, in whatever order they are asked.
    here, there = Backend(True, "internal"), Backend(False, "http")
    for order in ((here, there), (there, here)):
        both = chain(*order)
        assert both.authorize_nowait(Principal("u", backend="http"), "/", READ, QUEUE) is False
        assert await both.authorize(Principal("u", backend="http"), "/", READ, QUEUE) is False
        assert both.authorize_nowait(Principal("u", backend="internal"), "/", READ, QUEUE) is True
    # One that only says who somebody is leaves the rest to the others.
    assert chain(here).authorize_nowait(Principal("u", backend="ldap"), "/", READ, QUEUE) is True


async def test_with_the_internal_backend_alone_nothing_waits() -> None:
    users = InternalBackend(Auth())
    users.ensure_default_user()
    alone = AuthChain([users], [users], loopback_users=["guest"])
    who = await alone.authenticate(Credentials("PLAIN", "guest", "guest", peer_host="127.0.0.1"))
    assert alone.authorize_nowait(who, "/", None, Resource("vhost", "/")) is True
    assert alone.authorize_nowait(who, "/", READ, QUEUE) is True
    assert alone.authorize_nowait(who, "other", READ, QUEUE) is False
    with pytest.raises(AccessDenied, match=r"^user 'guest' - invalid credentials$"):
        await alone.authenticate(Credentials("PLAIN", "guest", "wrong"))
    with pytest.raises(AccessDenied, match=r"^user 'nobody' - invalid credentials$"):
        await alone.authenticate(Credentials("PLAIN", "nobody", "wrong"))

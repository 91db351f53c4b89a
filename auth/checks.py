"""What every authenticator and authorizer must do, as functions: run them in the tests of your own.

async def test_my_backend():
    await check_authenticator(MyBackend(...), accepted=[Credentials("PLAIN", "ann", "secret")], rejected=[...])
    await check_authorizer(MyBackend(...), Principal("ann", backend="mine"))
"""

from __future__ import annotations

import inspect
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager
from dataclasses import replace

import trio

from leveret.auth.contracts import (
    AccessDenied,
    Authenticator,
    Authorizer,
    Credentials,
    LongLived,
    Permission,
    Principal,
    Resource,
)
from leveret.conf.checks import check_settings_of

__all__ = ["check_authenticator", "check_authorizer"]

START_TIMEOUT_S = 30.0
STOP_TIMEOUT_S = 10.0

# What peers may present: all of it must be refused or left to the next backend, never anything else.
ODD_TEXTS = ("", " ", "\0", "\n", "%s", "*", ")(uid=*", "ä", "\udcff", "x" * 1000)
RESOURCES = (
    (None, Resource("vhost", "/")),
    *(
        (permission, resource)
        for permission in Permission
        for resource in (
            Resource("queue", "q"), Resource("exchange", "amq.topic"), Resource("exchange", ""),
            Resource("topic", "amq.topic", "a.b"), Resource("queue", "\udcff"),
        )
    ),
)  # fmt: skip


async def check_authenticator(
    authenticator: Authenticator, *, accepted: Iterable[Credentials], rejected: Iterable[Credentials]
) -> None:
    """Credentials that it accepts and that it rejects, and odd ones; its settings, and its task if it has one.

    accepted: with passwords, if its users have any: the same names are then tried with other ones.
    """
    check_settings_of(type(authenticator))
    assert isinstance(authenticator.name, str)
    assert authenticator.name, "it has no name"
    async with _running(authenticator):
        wrong = list(rejected)
        for credentials in accepted:
            principal = await authenticator.authenticate(credentials)
            assert isinstance(principal, Principal), f"{credentials} should be accepted"
            assert principal.username, "a principal needs a name"
            assert principal.backend == authenticator.name, (
                "a principal must name the backend that vouches for it"
            )
            if credentials.password:
                assert credentials.password not in repr(principal), "the password is in the principal"
                others = ("", *ODD_TEXTS, credentials.password + "x", credentials.password[:-1])
                wrong += [replace(credentials, password=other) for other in others]
        wrong += [Credentials("PLAIN", name, text) for name in ODD_TEXTS for text in ODD_TEXTS]
        wrong += [Credentials("PLAIN", None, "x")]
        for credentials in wrong:
            principal, reason = None, ""
            try:
                principal = await authenticator.authenticate(credentials)
            except AccessDenied as error:
                reason = str(error)
            assert principal is None, f"{credentials} should not be accepted"
            is_told = len(credentials.password or "") >= 8 and str(credentials.password) in reason
            assert not is_told, "the password is in the reason, which is logged"


async def check_authorizer(authorizer: Authorizer, principal: Principal, vhost: str = "/") -> None:
    """Every permission on every kind of resource: answers are of the right types, at once and after waiting.

    principal: one that the backend judges.
    """
    check_settings_of(type(authorizer))
    assert isinstance(authorizer.name, str)
    assert authorizer.name, "it has no name"
    async with _running(authorizer):
        for asking in (
            principal,
            Principal("nobody", backend="another"),
            Principal("\udcff", backend="another"),
        ):
            for permission, resource in RESOURCES:
                answer = await _answer(authorizer, asking, vhost, permission, resource)
                assert answer in (True, False, None), f"{answer!r} is not an answer"
        nowhere = await _answer(
            authorizer, Principal("nobody", backend="another"), vhost, None, RESOURCES[0][1]
        )
        assert nowhere is not True, "it lets in a user of another backend whom it does not know"


async def _answer(
    authorizer: Authorizer,
    principal: Principal,
    vhost: str,
    permission: Permission | None,
    resource: Resource,
) -> object:
    try:
        answer = authorizer.authorize(principal, vhost, permission, resource)
        if inspect.isawaitable(answer):
            return await answer
    except AccessDenied:
        return False
    return answer


@asynccontextmanager
async def _running(backend: object) -> AsyncIterator[None]:
    """With its task, if it has one: started in time, and ended in time when it is cancelled."""
    if not isinstance(backend, LongLived):
        yield
        return
    with trio.CancelScope() as scope:
        async with trio.open_nursery() as nursery:
            with trio.fail_after(START_TIMEOUT_S):
                await nursery.start(backend.run)
            yield
            scope.deadline = trio.current_time() + STOP_TIMEOUT_S
            nursery.cancel_scope.cancel()
    assert not scope.cancelled_caught, "its task does not end when it is cancelled"

"""The chain of backends: None = ask the next, a refusal = stop, any other exception = denied and logged."""

from __future__ import annotations

import inspect
import ipaddress
import logging
from collections.abc import Awaitable, Collection, Sequence
from dataclasses import replace
from urllib.parse import quote, quote_plus

from leveret.auth.contracts import (
    AccessDenied,
    Authenticator,
    Authorizer,
    Credentials,
    Permission,
    Principal,
    Resource,
)
from leveret.auth.login_counts import LoginCounts

__all__ = ["AuthChain", "is_loopback"]

log = logging.getLogger(__name__)


def is_loopback(host: str | None) -> bool:
    """127/8, ::1 (mapped too), or a Unix socket (None)."""
    if host is None:
        return True
    try:
        address = ipaddress.ip_address(host.partition("%")[0])
    except ValueError:
        return False
    mapped = getattr(address, "ipv4_mapped", None)
    return bool((mapped or address).is_loopback)


class AuthChain:
    """Who may come in, and what they may do. Fails closed.

    Who was authenticated by a backend that also authorizes is that backend's to judge before all others: a user of
    the same name elsewhere is somebody else.
    """

    def __init__(
        self,
        authenticators: Sequence[Authenticator],
        authorizers: Sequence[Authorizer],
        loopback_users: Collection[str] = (),
    ) -> None:
        self._authenticators = tuple(authenticators)
        self._authorizers = tuple(authorizers)
        self._loopback_users = frozenset(loopback_users)
        self.attempts = LoginCounts()
        self._own_first = {
            own.name: (own, *(other for other in authorizers if other is not own)) for own in authorizers
        }

    # -- who is it

    async def authenticate(self, credentials: Credentials) -> Principal:
        """Raise AccessDenied; its text is for the log alone, where it is already."""
        try:
            principal = await self._authenticate(credentials)
        except AccessDenied:
            self.attempts.count(credentials.protocol, succeeded=False)
            raise
        self.attempts.count(credentials.protocol, succeeded=True)
        return principal

    async def _authenticate(self, credentials: Credentials) -> Principal:
        for backend in self._authenticators:
            try:
                principal = await backend.authenticate(credentials)
                if principal is None:
                    continue
                if not isinstance(principal, Principal):
                    raise TypeError(f"{type(principal).__name__} is no Principal")
            except AccessDenied as error:
                raise _refused(credentials, _without_secret(str(error), credentials)) from None
            except Exception as error:
                text = _without_secret(f"{type(error).__name__}: {error}", credentials)
                shown = RuntimeError(text).with_traceback(error.__traceback__)
                log.error("user=%s backend=%s failed", credentials.username, backend.name, exc_info=shown)
                raise _refused(credentials, f"backend {backend.name} failed") from None
            if principal.username in self._loopback_users and not is_loopback(credentials.peer_host):
                raise _refused(credentials, f"user '{principal.username}' can only connect via localhost")
            log.info(
                "user=%s peer=%s protocol=%s mechanism=%s authenticated by %s",
                principal.username,
                credentials.peer_host or "local",
                credentials.protocol,
                credentials.mechanism,
                backend.name,
            )
            if credentials.client_id is None:
                return principal
            return replace(principal, attributes={**principal.attributes, "client_id": credentials.client_id})
        raise _refused(credentials, f"user '{credentials.username}' - invalid credentials")

    # -- may they

    def authorize_nowait(
        self, principal: Principal, vhost: str, permission: Permission | None, resource: Resource
    ) -> bool | None:
        """The answer if it needs no I/O; None: await `authorize`."""
        for backend in self._own_first.get(principal.backend, self._authorizers):
            try:
                answer = backend.authorize(principal, vhost, permission, resource)
                if answer is True or answer is False:
                    return answer
                if answer is None:
                    continue
                if inspect.isawaitable(answer):
                    _discard(answer)
                    return None
                raise TypeError(f"{type(answer).__name__} is no answer")
            except AccessDenied:
                return False
            except Exception:
                log.exception("user=%s backend=%s failed; denied", principal.username, backend.name)
                return False
        return False

    async def authorize(
        self, principal: Principal, vhost: str, permission: Permission | None, resource: Resource
    ) -> bool:
        """The answer, however long it takes: bound it."""
        for backend in self._own_first.get(principal.backend, self._authorizers):
            try:
                answer = backend.authorize(principal, vhost, permission, resource)
                if inspect.isawaitable(answer):
                    answer = await answer
                if answer is True or answer is False:
                    return answer
                if answer is not None:
                    raise TypeError(f"{type(answer).__name__} is no answer")
            except AccessDenied:
                return False
            except Exception:
                log.exception("user=%s backend=%s failed; denied", principal.username, backend.name)
                return False
        return False


def _refused(credentials: Credentials, reason: str) -> AccessDenied:
    """Logged, and ready to be raised."""
    log.warning(
        "user=%s peer=%s protocol=%s mechanism=%s refused: %s",
        credentials.username,
        credentials.peer_host or "local",
        credentials.protocol,
        credentials.mechanism,
        reason,
    )
    return AccessDenied(reason)


def _without_secret(text: str, credentials: Credentials) -> str:
    """Backends quote what they were asked, and in a URL that may be the password."""
    secret = credentials.password
    if not secret:
        return text
    plus, percent = quote_plus(secret, errors="replace"), quote(secret, safe="", errors="replace")
    for form in (secret, plus, percent, quote(secret, errors="replace")):
        text = text.replace(form, "[hidden]")
    return text


def _discard(answer: Awaitable[object]) -> None:
    """It will be asked again, and awaited then: a coroutine that has not begun is closed without a warning."""
    close = getattr(answer, "close", None)
    if close is not None:
        close()

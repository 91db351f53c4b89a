"""The chain of backends, asked in the order of `auth.backends`: who a client is, and what it may do."""

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
    """Return whether an address is in 127/8, ::1 (also IPv4-mapped), or None for a Unix socket."""
    if host is None:
        return True
    try:
        address = ipaddress.ip_address(host.partition("%")[0])
    except ValueError:
        return False
    mapped = getattr(address, "ipv4_mapped", None)
    return bool((mapped or address).is_loopback)


class AuthChain:
    """Authenticates and authorizes with the backends in their order, and fails closed.

    A principal is authorized first by the backend that authenticated it, if that is an authorizer: another backend may
    have a different user of the same name. loopback_users: names that may only log in from this machine.
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

    # -- authentication

    async def authenticate(self, credentials: Credentials) -> Principal:
        """Return the principal. Raise AccessDenied, which is logged already, and whose text is not for the client."""
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
                    raise TypeError(f"{type(principal).__name__} is not a Principal")
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

    # -- authorization

    def authorize_nowait(
        self, principal: Principal, vhost: str, permission: Permission | None, resource: Resource
    ) -> bool | None:
        """Return the answer if it needs no I/O, else None: await `authorize` then."""
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
                raise TypeError(f"{type(answer).__name__} is not a bool or None")
            except AccessDenied:
                return False
            except Exception:
                log.exception("user=%s backend=%s failed; denied", principal.username, backend.name)
                return False
        return False

    async def authorize(
        self, principal: Principal, vhost: str, permission: Permission | None, resource: Resource
    ) -> bool:
        """Return the answer. It takes as long as the backends do; the caller sets a timeout."""
        for backend in self._own_first.get(principal.backend, self._authorizers):
            try:
                answer = backend.authorize(principal, vhost, permission, resource)
                if inspect.isawaitable(answer):
                    answer = await answer
                if answer is True or answer is False:
                    return answer
                if answer is not None:
                    raise TypeError(f"{type(answer).__name__} is not a bool or None")
            except AccessDenied:
                return False
            except Exception:
                log.exception("user=%s backend=%s failed; denied", principal.username, backend.name)
                return False
        return False


def _refused(credentials: Credentials, reason: str) -> AccessDenied:
    """Log a refusal, and return it to be raised."""
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
    """Remove the password from an error text: backends quote what they asked, also in URLs."""
    secret = credentials.password
    if not secret:
        return text
    plus, percent = quote_plus(secret, errors="replace"), quote(secret, safe="", errors="replace")
    for form in (secret, plus, percent, quote(secret, errors="replace")):
        text = text.replace(form, "[hidden]")
    return text


def _discard(answer: Awaitable[object]) -> None:
    """Close a coroutine that is not awaited, without a warning; the backend is asked again by `authorize`."""
    close = getattr(answer, "close", None)
    if close is not None:
        close()

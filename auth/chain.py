"""The chain of backends: None = ask the next, a refusal = stop, any other exception = denied and logged."""

from __future__ import annotations

import inspect
import ipaddress
import logging
from collections.abc import Collection, Sequence

from leveret.auth.contracts import (
    AccessDenied,
    Authenticator,
    Authorizer,
    Credentials,
    Permission,
    Principal,
    Resource,
)

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
    """Who may come in, and what they may do. Fails closed."""

    def __init__(
        self,
        authenticators: Sequence[Authenticator],
        authorizers: Sequence[Authorizer],
        loopback_users: Collection[str] = (),
    ) -> None:
        self._authenticators = authenticators
        self._authorizers = authorizers
        self._loopback_users = frozenset(loopback_users)

    async def authenticate(self, credentials: Credentials) -> Principal:
        """Raise AccessDenied; its text is for the log alone."""
        for backend in self._authenticators:
            try:
                principal = await backend.authenticate(credentials)
            except AccessDenied as error:
                log.warning(
                    "user=%s peer=%s refused by %s: %s",
                    credentials.username,
                    credentials.peer_host,
                    backend.name,
                    error,
                )
                raise
            except Exception as error:
                log.exception("user=%s backend=%s failed; denied", credentials.username, backend.name)
                raise AccessDenied(f"backend {backend.name} failed") from error
            if principal is None:
                continue
            if principal.username in self._loopback_users and not is_loopback(credentials.peer_host):
                reason = f"user '{principal.username}' can only connect via localhost"
                log.warning("user=%s peer=%s refused: %s", principal.username, credentials.peer_host, reason)
                raise AccessDenied(reason)
            log.info(
                "user=%s peer=%s authenticated by %s", principal.username, credentials.peer_host, backend.name
            )
            return principal
        reason = f"user '{credentials.username}' - no backend knows these credentials"
        log.warning("user=%s peer=%s refused: %s", credentials.username, credentials.peer_host, reason)
        raise AccessDenied(reason)

    def authorize_nowait(
        self, principal: Principal, vhost: str, permission: Permission | None, resource: Resource
    ) -> bool | None:
        """The answer if it needs no I/O; None: await `authorize`."""
        for backend in self._authorizers:
            try:
                answer = backend.authorize(principal, vhost, permission, resource)
            except AccessDenied:
                return False
            except Exception:
                log.exception("user=%s backend=%s failed; denied", principal.username, backend.name)
                return False
            if inspect.isawaitable(answer):
                close = getattr(answer, "close", None)
                if close is not None:
                    close()
                return None
            if answer is not None:
                return bool(answer)
        return False

    async def authorize(
        self, principal: Principal, vhost: str, permission: Permission | None, resource: Resource
    ) -> bool:
        for backend in self._authorizers:
            try:
                answer = backend.authorize(principal, vhost, permission, resource)
                if inspect.isawaitable(answer):
                    answer = await answer
            except AccessDenied:
                return False
            except Exception:
                log.exception("user=%s backend=%s failed; denied", principal.username, backend.name)
                return False
            if answer is not None:
                return bool(answer)
        return False

"""Sessions of those who publish again and again over one connection, with the same login, to the same virtual host."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from leveret.adapters.http.auth import PROTOCOL

if TYPE_CHECKING:
    from aiohttp import web

    from leveret.adapters.http.context import HttpContext
    from leveret.core.session import Session
__all__ = ["kept_session"]


@dataclass(frozen=True, slots=True)
class Kept:
    """What a connection's last session was asked with. until: by the broker's clock."""

    header: str
    revision: int
    until: float
    session: Session


async def kept_session(context: HttpContext, request: web.Request, vhost: str) -> Session:
    """As `HttpContext.session`, kept with the connection for as long as logins are remembered (`auth.cache_ttl_s`).

    It ends with any change of users and permissions. Not for what owns something: the session has no end of its own.
    """
    broker = context.broker
    transport: Any = request.transport  # a Bridge
    kept: Kept | None = getattr(transport, "kept", None)
    header = request.headers.get("Authorization", "")
    timers = broker.timers
    if (
        kept is not None
        and kept.header == header
        and kept.revision == broker.users.revision
        and kept.until > timers.now
        and broker.vhosts.get(vhost) is kept.session.vhost
    ):
        broker.auth.attempts.count(PROTOCOL, succeeded=True)  # each request is a login, asked anew or not
        return kept.session
    revision = broker.users.revision
    session = await context.session(request, vhost)
    seconds = broker.settings.auth.cache_ttl_s
    expires_at = session.principal.expires_at
    if expires_at is not None:
        seconds = min(seconds, expires_at - time.time())
    if seconds > 0 and transport is not None:
        transport.kept = Kept(header, revision, timers.now + seconds, session)
    return session

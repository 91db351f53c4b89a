"""Connections closed by an operator, or by the user whose they are."""

from __future__ import annotations

import logging
from collections.abc import Iterable
from typing import TYPE_CHECKING

from aiohttp import web

from leveret.adapters.http.management.payloads import done
from leveret.adapters.http.management.routes import Call, Route, not_authorised, not_found

if TYPE_CHECKING:
    from leveret.core.connections import ClientConnection
__all__ = ["ROUTES"]

log = logging.getLogger(__name__)

REASON = "Closed via management plugin"
MAX_REASON_BYTES = 200  # it goes into a short string, behind a code and its name


def _reason(call: Call) -> str:
    """What the client is told: the header X-Reason."""
    given = "".join(one if one.isprintable() else " " for one in call.request.headers.get("X-Reason", ""))
    return given.encode(errors="replace")[:MAX_REASON_BYTES].decode(errors="ignore").strip() or REASON


def _close(call: Call, connections: Iterable[ClientConnection]) -> web.Response:
    reason = _reason(call)
    for connection in connections:
        log.info("conn=%s closed by user=%s: %s", connection.name, call.principal.username, reason)
        connection.close(reason)
    return done()


def _check_owner(call: Call, owner: object) -> None:
    if owner != call.principal.username and not call.has("administrator"):
        raise not_authorised("User not authorised to access object")


async def delete_connection(call: Call) -> web.Response:
    """Close a connection; the header X-Reason says why. Administrators may close those of others."""
    found = call.broker.connections.named(call.part("connection"))
    owners = [one.username for one in found]
    if not found or not all(owners):  # one that has not logged in is not shown
        raise not_found()
    for owner in owners:
        _check_owner(call, owner)
    return _close(call, found)


async def delete_user_connections(call: Call) -> web.Response:
    """Close all connections of a user."""
    user = call.part("user")
    _check_owner(call, user)
    return _close(call, list(call.broker.connections.of_user(user)))


ROUTES = (
    Route("DELETE", "/connections/{connection}", delete_connection),
    Route("DELETE", "/connections/username/{user}", delete_user_connections),
)

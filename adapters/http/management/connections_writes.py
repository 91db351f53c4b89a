"""Connections closed by an operator, or by the user whose they are."""

from __future__ import annotations

from aiohttp import web

from leveret.adapters.http.management.payloads import done
from leveret.adapters.http.management.routes import Call, Route, not_authorised, not_found
from leveret.core.administration import connections

__all__ = ["ROUTES"]

REASON = "Closed via management plugin"
MAX_REASON_BYTES = 200  # it goes into a short string, behind a code and its name


def _reason(call: Call) -> str:
    """What the client is told: the header X-Reason."""
    given = "".join(one if one.isprintable() else " " for one in call.request.headers.get("X-Reason", ""))
    return given.encode(errors="replace")[:MAX_REASON_BYTES].decode(errors="ignore").strip() or REASON


def _by(call: Call) -> str:
    return f"user={call.principal.username}"


def _check_owner(call: Call, owner: object) -> None:
    if owner != call.principal.username and not call.has("administrator"):
        raise not_authorised("User not authorised to access object")


async def delete_connection(call: Call) -> web.Response:
    """Close a connection; the header X-Reason says why. Administrators may close those of others."""
    name = call.part("connection")
    owners = [one.username for one in call.broker.connections.named(name)]
    if not owners or not all(owners):  # a connection without a login is not shown
        raise not_found()
    for owner in owners:
        _check_owner(call, owner)
    connections.close_connection(call.broker, name, _reason(call), _by(call))
    return done()


async def delete_user_connections(call: Call) -> web.Response:
    """Close all connections of a user."""
    user = call.part("user")
    _check_owner(call, user)
    connections.close_user_connections(call.broker, user, _reason(call), _by(call))
    return done()


ROUTES = (
    Route("DELETE", "/connections/{connection}", delete_connection),
    Route("DELETE", "/connections/username/{user}", delete_user_connections),
)

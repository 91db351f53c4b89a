"""The user that asks."""

from __future__ import annotations

from typing import Any
from urllib.parse import parse_qs

import trio

from leveret.adapters.http.auth import PROTOCOL, login_failed
from leveret.adapters.http.management.routes import Call, Route, not_authorised
from leveret.auth.contracts import AccessDenied, Credentials

__all__ = ["ROUTES"]


async def whoami(call: Call) -> dict[str, Any]:
    """The name and the tags of the user."""
    principal = call.principal
    return {
        "name": principal.username,
        "tags": sorted(principal.tags),
        "is_internal_user": principal.backend == "internal",
    }


async def login_settings(call: Call) -> dict[str, Any]:
    """How pages log in: with user and password."""
    return {"oauth_enabled": False, "enable_uaa": False, "uaa_client_id": "", "uaa_location": ""}


async def login(call: Call) -> str:
    """Whether a form's `username` and `password` log in. No cookie is set: every request logs in by itself."""
    form = parse_qs((await call.context.body(call.request)).decode(errors="replace"), keep_blank_values=True)
    username, password = (form.get(name, [""])[0] for name in ("username", "password"))
    peer = call.request.remote
    try:
        credentials = Credentials("PLAIN", username, password, peer_host=peer, protocol=PROTOCOL)
        principal = await call.context.trio(call.broker.auth.authenticate, credentials)
    except (AccessDenied, trio.TooSlowError):
        raise login_failed() from None
    if not call.may(principal, "management"):
        raise not_authorised("Not management user")
    return "ok"


ROUTES = (
    Route("GET", "/whoami", whoami),
    Route("GET", "/auth", login_settings, needs=""),
    Route("POST", "/login", login, needs=""),
)

"""The user that asks."""

from __future__ import annotations

from typing import Any

from leveret.adapters.http.management.routes import Call, Route

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


ROUTES = (
    Route("GET", "/whoami", whoami),
    Route("GET", "/auth", login_settings, needs=""),
)

"""Limits of virtual hosts and users."""

from __future__ import annotations

from typing import Any

from leveret.adapters.http.management.lists import answer_list, plain_table
from leveret.adapters.http.management.routes import Call, Route
from leveret.adapters.http.management.users import find_user
from leveret.adapters.http.management.vhosts import find_vhost

__all__ = ["ROUTES"]


async def vhost_limits(call: Call) -> Any:
    """Limits of virtual hosts that have any: of those that the user may enter, or of all for users who may see them."""
    if not call.sees_all:
        vhosts = await call.vhosts()
    elif "vhost" in call.request.match_info:
        vhosts = [find_vhost(call)]
    else:
        vhosts = [vhost for _, vhost in sorted(call.broker.vhosts.items())]
    found = [{"vhost": vhost.name, "value": vhost.limits} for vhost in vhosts if vhost.limits]
    return await answer_list(call, found, plain_table("vhost"))


async def user_limits(call: Call) -> Any:
    """Limits of users that have any: of all users for administrators, otherwise the user's own."""
    users = call.broker.users.list_users()
    found = [
        {"user": user.name, "value": user.limits}
        for user in sorted(users, key=lambda user: user.name)
        if user.limits and (call.has("administrator") or user.name == call.principal.username)
    ]
    return await answer_list(call, found, plain_table("user"))


async def limits_of_user(call: Call) -> Any:
    """Limits of one user."""
    user = find_user(call)
    is_shown = user.limits and (call.has("administrator") or user.name == call.principal.username)
    found = [{"user": user.name, "value": user.limits}] if is_shown else []
    return await answer_list(call, found, plain_table("user"))


ROUTES = (
    Route("GET", "/vhost-limits", vhost_limits),
    Route("GET", "/vhost-limits/{vhost}", vhost_limits),
    Route("GET", "/user-limits", user_limits),
    Route("GET", "/user-limits/{user}", limits_of_user),
)

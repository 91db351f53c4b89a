"""Permissions in virtual hosts, and on topics of exchanges."""

from __future__ import annotations

from typing import Any

from leveret.adapters.http.management.lists import answer_list, plain_table
from leveret.adapters.http.management.routes import Call, Route, not_found
from leveret.adapters.http.management.users import find_user
from leveret.adapters.http.management.vhosts import find_vhost
from leveret.core.definitions.exporter import all_permissions, all_topic_permissions

__all__ = ["ROUTES"]


async def permissions(call: Call) -> Any:
    """All permissions."""
    return await answer_list(call, all_permissions(call.broker), plain_table("user"))


async def permission(call: Call) -> dict[str, Any]:
    """The permissions of one user in one virtual host."""
    vhost, user = find_vhost(call).name, find_user(call).name
    for item in all_permissions(call.broker):
        if item["vhost"] == vhost and item["user"] == user:
            return item
    raise not_found()


async def vhost_permissions(call: Call) -> Any:
    """The permissions in one virtual host."""
    vhost = find_vhost(call).name
    found = [item for item in all_permissions(call.broker) if item["vhost"] == vhost]
    return await answer_list(call, found, plain_table("user"))


async def user_permissions(call: Call) -> Any:
    """The permissions of one user."""
    user = find_user(call).name
    found = [item for item in all_permissions(call.broker) if item["user"] == user]
    return await answer_list(call, found, plain_table("vhost"))


async def topic_permissions(call: Call) -> Any:
    """All permissions on topics."""
    return await answer_list(call, all_topic_permissions(call.broker), plain_table("user"))


async def topic_permission(call: Call) -> Any:
    """The permissions of one user on topics in one virtual host, on all exchanges or on one."""
    vhost, user = find_vhost(call).name, find_user(call).name
    exchange = call.request.match_info.get("exchange")
    found = [
        item
        for item in all_topic_permissions(call.broker)
        if item["vhost"] == vhost and item["user"] == user and exchange in (None, item["exchange"])
    ]
    if not found:
        raise not_found()
    return await answer_list(call, found, plain_table("exchange"))


async def vhost_topic_permissions(call: Call) -> Any:
    """The permissions on topics in one virtual host."""
    vhost = find_vhost(call).name
    found = [item for item in all_topic_permissions(call.broker) if item["vhost"] == vhost]
    return await answer_list(call, found, plain_table("user"))


async def user_topic_permissions(call: Call) -> Any:
    """The permissions of one user on topics."""
    user = find_user(call).name
    found = [item for item in all_topic_permissions(call.broker) if item["user"] == user]
    return await answer_list(call, found, plain_table("vhost"))


ROUTES = (
    Route("GET", "/permissions", permissions, needs="administrator"),
    Route("GET", "/permissions/{vhost}/{user}", permission, needs="administrator"),
    Route("GET", "/vhosts/{vhost}/permissions", vhost_permissions, needs="administrator"),
    Route("GET", "/users/{user}/permissions", user_permissions, needs="administrator"),
    Route("GET", "/topic-permissions", topic_permissions, needs="administrator"),
    Route("GET", "/topic-permissions/{vhost}/{user}", topic_permission, needs="administrator"),
    Route("GET", "/topic-permissions/{vhost}/{user}/{exchange}", topic_permission, needs="administrator"),
    Route("GET", "/vhosts/{vhost}/topic-permissions", vhost_topic_permissions, needs="administrator"),
    Route("GET", "/users/{user}/topic-permissions", user_topic_permissions, needs="administrator"),
)

"""Users made, changed and deleted, and what they may do."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from aiohttp import web

from leveret.adapters.http.management.payloads import Payload, bad_request, created, done, payload, terms
from leveret.adapters.http.management.routes import Call, Route, not_found
from leveret.adapters.http.management.users import find_user
from leveret.auth.users import HashNotBase64, NoSuchUser, User, hashed
from leveret.core.administration import permissions, users
from leveret.core.administration.users import UserPassword
from leveret.core.errors import NotFound

__all__ = ["ROUTES"]

PROTECTED = "protected"
"""A tag: such users are changed by `leveret ctl` alone."""


def _check_unprotected(user: User) -> None:
    if PROTECTED in user.tags:
        raise bad_request("Protected users cannot be modified via the HTTP API")


def _password(given: Payload) -> UserPassword:
    return UserPassword(
        given.text("password", None),
        given.text("password_hash", None),
        given.text("hashing_algorithm", None) if given.get("password_hash") else None,
    )


async def put_user(call: Call) -> web.Response:
    """Create a user, or replace the password and tags of an existing one; its limits stay."""
    given, name = await payload(call), call.part("user")
    tags = given.words("tags")
    if tags is None:  # before there were tags
        if "administrator" not in given:
            raise bad_request("tags_not_present")
        tags = ["administrator"] if given.flag("administrator") else []
    existing = users.find_user(call.broker, name)
    if existing is not None:
        _check_unprotected(existing)
    try:
        return created(users.put_user(call.broker, name, _password(given), tags))
    except HashNotBase64:
        raise terms("not_base64", given.get("password_hash")) from None


async def delete_user(call: Call) -> web.Response:
    """Delete a user; the user's connections are closed."""
    user = find_user(call)
    _check_unprotected(user)
    users.delete_user(call.broker, user.name)
    return done()


async def bulk_delete(call: Call) -> web.Response:
    """Delete several users: all of them, or none if one does not exist. Protected users are left out."""
    names = (await payload(call, "users")).get("users")
    if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
        raise bad_request("users must be a list of names")
    for name in names:
        if users.find_user(call.broker, name) is None:
            raise terms("no_such_user", name)
    for name in dict.fromkeys(names):
        if PROTECTED not in call.broker.users.user(name).tags:
            users.delete_user(call.broker, name)
    return done()


async def hash_password(call: Call) -> dict[str, Any]:
    """The hash of a password, for `password_hash`."""
    return {"ok": hashed(call.part("password"))}


# -- permissions


@contextmanager
def _place(call: Call) -> Iterator[None]:
    """Answer for a user or a virtual host of the path that does not exist: 400 for PUT, 404 for DELETE."""
    try:
        yield
    except (NotFound, NoSuchUser):
        if call.request.method == "DELETE":
            raise not_found() from None
        raise bad_request("vhost_or_user_not_found") from None


async def put_permission(call: Call) -> web.Response:
    """What a user may configure, write and read in a virtual host: regular expressions."""
    given = await payload(call, "configure", "write", "read")
    patterns = given.text("configure"), given.text("write"), given.text("read")
    with _place(call):
        return created(
            permissions.set_permissions(call.broker, call.part("user"), call.part("vhost"), *patterns)
        )


async def delete_permission(call: Call) -> web.Response:
    """Remove a user's permissions in a virtual host."""
    with _place(call):
        if not permissions.clear_permissions(call.broker, call.part("user"), call.part("vhost")):
            raise not_found()
    return done()


async def put_topic_permission(call: Call) -> web.Response:
    """Which routing keys of a topic exchange a user may write and read: regular expressions."""
    given = await payload(call, "exchange", "write", "read")
    row = given.text("exchange"), given.text("write"), given.text("read")
    with _place(call):
        return created(
            permissions.set_topic_permissions(call.broker, call.part("user"), call.part("vhost"), *row)
        )


async def delete_topic_permission(call: Call) -> web.Response:
    """Remove a user's permissions on topics in a virtual host, for all exchanges or for one."""
    user, vhost = call.part("user"), call.part("vhost")
    exchange = call.request.match_info.get("exchange")
    with _place(call):
        if not permissions.clear_topic_permissions(call.broker, user, vhost, exchange):
            raise not_found()
    return done()


ROUTES = (
    Route("PUT", "/users/{user}", put_user, needs="administrator"),
    Route("DELETE", "/users/{user}", delete_user, needs="administrator"),
    Route("POST", "/users/bulk-delete", bulk_delete, needs="administrator"),
    Route("GET", "/auth/hash_password/{password}", hash_password, needs="administrator"),
    Route("PUT", "/permissions/{vhost}/{user}", put_permission, needs="administrator"),
    Route("DELETE", "/permissions/{vhost}/{user}", delete_permission, needs="administrator"),
    Route("PUT", "/topic-permissions/{vhost}/{user}", put_topic_permission, needs="administrator"),
    Route("DELETE", "/topic-permissions/{vhost}/{user}", delete_topic_permission, needs="administrator"),
    Route(
        "DELETE",
        "/topic-permissions/{vhost}/{user}/{exchange}",
        delete_topic_permission,
        needs="administrator",
    ),
)

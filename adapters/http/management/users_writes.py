"""Users made, changed and deleted, and what they may do."""

from __future__ import annotations

from typing import Any

from aiohttp import web

from leveret.adapters.http.management.payloads import (
    Payload,
    bad_request,
    check_length,
    created,
    done,
    payload,
    terms,
)
from leveret.adapters.http.management.routes import Call, Route, not_found
from leveret.auth import passwords
from leveret.auth.users import NoSuchUser, User, hashed

__all__ = ["ROUTES"]

PROTECTED = "protected"
"""A tag: such users are changed by `leveret ctl` alone."""


def _user(call: Call, name: str) -> User | None:
    try:
        return call.broker.users.user(name)
    except NoSuchUser:
        return None


def _check_unprotected(user: User) -> None:
    if PROTECTED in user.tags:
        raise bad_request("Protected users cannot be modified via the HTTP API")


def _password(given: Payload) -> dict[str, Any]:
    """password_hash and hashing_algorithm; neither password nor hash: no login by password. Raise Refusal (400)."""
    password, password_hash = given.get("password"), given.get("password_hash")
    if password is not None and password_hash is not None:
        raise bad_request("both_password_and_password_hash_are_provided")
    if password:
        return {"password_hash": hashed(given.text("password"))}
    if not password_hash:
        return {"password_hash": ""}
    algorithm = given.text("hashing_algorithm", None)
    try:
        passwords.algorithm_of(given.text("password_hash"))
    except ValueError as error:
        if "base64" in str(error):
            raise terms("not_base64", password_hash) from None
    return {"password_hash": password_hash, "hashing_algorithm": algorithm}


async def put_user(call: Call) -> web.Response:
    """Make a user, or give one another password and other tags; limits stay as they are."""
    given, name = await payload(call), call.part("user")
    tags = given.words("tags")
    if tags is None:  # before there were tags
        if "administrator" not in given:
            raise bad_request("tags_not_present")
        tags = ["administrator"] if given.flag("administrator") else []
    existing = _user(call, name)
    if existing is not None:
        _check_unprotected(existing)
    limits = existing.limits if existing is not None else {}
    call.broker.users.put_user(name, **_password(given), tags=tags, limits=limits)
    return created(existing is None)


async def delete_user(call: Call) -> web.Response:
    """Delete a user; the user's connections are closed."""
    user = _user(call, call.part("user"))
    if user is None:
        raise not_found()
    _check_unprotected(user)
    call.broker.users.delete_user(user.name)
    return done()


async def bulk_delete(call: Call) -> web.Response:
    """Delete several users, those that are protected left out: all of them, or none if one is not there."""
    names = (await payload(call, "users")).get("users")
    if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
        raise bad_request("users must be a list of names")
    for name in names:
        user = _user(call, name)
        if user is None:
            raise terms("no_such_user", name)
    for name in dict.fromkeys(names):
        if PROTECTED not in call.broker.users.user(name).tags:
            call.broker.users.delete_user(name)
    return done()


async def hash_password(call: Call) -> dict[str, Any]:
    """The hash of a password, for `password_hash`."""
    return {"ok": hashed(call.part("password"))}


# -- permissions


def _check_place(call: Call) -> tuple[str, str]:
    """User and virtual host of the path. Raise Refusal: 400 for PUT, 404 for DELETE."""
    user, vhost = call.part("user"), call.part("vhost")
    if _user(call, user) is None or vhost not in call.broker.vhosts:
        raise not_found() if call.request.method == "DELETE" else bad_request("vhost_or_user_not_found")
    return user, vhost


async def put_permission(call: Call) -> web.Response:
    """What a user may configure, write and read in a virtual host: regular expressions."""
    given = await payload(call, "configure", "write", "read")
    user, vhost = _check_place(call)
    users = call.broker.users
    is_new = user not in dict(users.list_permissions(vhost))
    users.set_permissions(user, vhost, given.text("configure"), given.text("write"), given.text("read"))
    return created(is_new)


async def delete_permission(call: Call) -> web.Response:
    """Take a user's permissions in a virtual host away."""
    user, vhost = _check_place(call)
    if user not in dict(call.broker.users.list_permissions(vhost)):
        raise not_found()
    call.broker.users.clear_permissions(user, vhost)
    return done()


async def put_topic_permission(call: Call) -> web.Response:
    """Which routing keys of a topic exchange a user may write and read: regular expressions."""
    given = await payload(call, "exchange", "write", "read")
    user, vhost = _check_place(call)
    is_new = not _topics(call, user, vhost)
    exchange = check_length("exchange", given.text("exchange"))
    call.broker.users.set_topic_permissions(user, vhost, exchange, given.text("write"), given.text("read"))
    return created(is_new)


async def delete_topic_permission(call: Call) -> web.Response:
    """Take a user's permissions on topics in a virtual host away, of all exchanges or of one."""
    user, vhost = _check_place(call)
    exchange = call.request.match_info.get("exchange")
    rows = _topics(call, user, vhost)
    if not rows or (exchange is not None and exchange not in rows):
        raise not_found()
    call.broker.users.clear_topic_permissions(user, vhost, exchange)
    return done()


def _topics(call: Call, user: str, vhost: str) -> set[str]:
    """The exchanges for which the user has any."""
    return {exchange for name, exchange, _ in call.broker.users.list_topic_permissions(vhost) if name == user}


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

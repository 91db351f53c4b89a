"""Users."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from leveret.adapters.http.management.lists import answer_list, plain_table
from leveret.adapters.http.management.routes import Call, Route, not_found
from leveret.auth.users import NoSuchUser

if TYPE_CHECKING:
    from leveret.auth.users import User
__all__ = ["ROUTES", "find_user", "user_item"]


def user_item(user: User) -> dict[str, Any]:
    return {
        "name": user.name,
        "password_hash": user.password_hash,
        "hashing_algorithm": user.hashing_algorithm,
        "tags": user.tags,
        "limits": user.limits,
    }


def find_user(call: Call) -> User:
    """The one in the path. Raise Refusal (404)."""
    try:
        return call.broker.users.user(call.part("user"))
    except NoSuchUser:
        raise not_found() from None


async def users(call: Call) -> Any:
    """All users, with the hashes of their passwords."""
    items = sorted(map(user_item, call.broker.users.list_users()), key=lambda item: str(item["name"]))
    return await answer_list(call, items, plain_table())


async def users_without_permissions(call: Call) -> Any:
    """Users who may enter no virtual host."""
    store = call.broker.users
    items = [user_item(user) for user in store.list_users() if not store.list_user_permissions(user.name)]
    return await answer_list(call, sorted(items, key=lambda item: str(item["name"])), plain_table())


async def user(call: Call) -> dict[str, Any]:
    """One user."""
    return user_item(find_user(call))


ROUTES = (
    Route("GET", "/users", users, needs="administrator"),
    Route("GET", "/users/without-permissions", users_without_permissions, needs="administrator"),
    Route("GET", "/users/{user}", user, needs="administrator"),
)

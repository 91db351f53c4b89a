"""Users: created, changed, deleted, and tried."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from leveret.auth.contracts import AccessDenied
from leveret.auth.users import NoSuchUser, WrongPassword, hashed
from leveret.core.errors import InvalidArgument

if TYPE_CHECKING:
    from leveret.auth.users import User
    from leveret.core.broker import Broker
__all__ = [
    "UserPassword", "add_user", "authenticate_user", "change_password", "clear_password", "delete_user", "find_user",
    "put_user", "set_user_tags",
]  # fmt: skip


@dataclass(frozen=True, slots=True)
class UserPassword:
    """A password in clear text, or its hash in RabbitMQ's form. With neither, the user cannot log in by password.

    hashing_algorithm: a key of `leveret.auth.passwords.ALGORITHMS`; None: told by the length of the hash.
    """

    clear_text: str | None = field(default=None, repr=False)
    hash: str | None = field(default=None, repr=False)
    hashing_algorithm: str | None = None


def find_user(broker: Broker, username: str) -> User | None:
    """The user, or None."""
    try:
        return broker.users.user(username)
    except NoSuchUser:
        return None


def add_user(broker: Broker, username: str, password: str) -> None:
    """Create a user without tags. Raise UserExists, AuthDataError."""
    broker.users.add_user(username, password)


def put_user(broker: Broker, username: str, password: UserPassword, tags: Iterable[str]) -> bool:
    """Create a user, or replace the password and the tags of an existing one, whose limits stay.

    Returns True for a new user. Raise InvalidArgument for both a password and a hash, HashNotBase64, AuthDataError.
    """
    if password.clear_text is not None and password.hash is not None:
        raise InvalidArgument("both_password_and_password_hash_are_provided")
    existing = find_user(broker, username)
    limits = existing.limits if existing is not None else {}
    if password.clear_text:
        broker.users.put_user(username, password_hash=hashed(password.clear_text), tags=tags, limits=limits)
    else:
        broker.users.put_user(
            username,
            password_hash=password.hash or "",
            hashing_algorithm=password.hashing_algorithm if password.hash else None,
            tags=tags,
            limits=limits,
        )
    return existing is None


def delete_user(broker: Broker, username: str) -> None:
    """Delete a user with all permissions; the user's connections are closed. Raise NoSuchUser."""
    broker.users.delete_user(username)


def change_password(broker: Broker, username: str, password: str) -> None:
    """Raise NoSuchUser, AuthDataError."""
    broker.users.set_password(username, password)


def clear_password(broker: Broker, username: str) -> None:
    """The user can no longer log in by password. Raise NoSuchUser."""
    broker.users.clear_password(username)


def set_user_tags(broker: Broker, username: str, tags: list[str]) -> None:
    """Replace the tags; they apply to logins from now on. Raise NoSuchUser, AuthDataError."""
    broker.users.set_tags(username, tags)


def authenticate_user(broker: Broker, username: str, password: str) -> None:
    """Check a password against the internal backend. Raise NoSuchUser, WrongPassword."""
    broker.users.user(username)
    try:
        broker.users.authenticate_password(username, password)
    except AccessDenied as denied:
        raise WrongPassword(f"failed to authenticate user '{username}'") from denied

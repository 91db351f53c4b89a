"""Users of the internal backend: the value, its record, and the checks of names, tags, limits and passwords."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

from leveret.auth import passwords

__all__ = [
    "AuthDataError",
    "HashNotBase64",
    "NoSuchUser",
    "Records",
    "User",
    "UserExists",
    "WrongPassword",
    "checked_hash",
    "checked_limits",
    "checked_name",
    "checked_tags",
    "hashed",
    "record_key",
]

MAX_KEY_BYTES = 400  # stores have keys of 511 bytes at most; longer ones are replaced by a digest
LIMITS = ("max-connections", "max-channels")


class AuthDataError(Exception):
    """A change of users or permissions is refused; the text is one sentence."""


class NoSuchUser(AuthDataError):
    """No user has this name."""


class UserExists(AuthDataError):
    """A user of this name exists."""


class HashNotBase64(AuthDataError):
    """A password hash is not base64."""


class WrongPassword(AuthDataError):
    """A password is not the user's."""


class Records(Protocol):
    """Where users are kept. The broker's store implements it."""

    def put_definition(self, key: bytes, value: bytes) -> None: ...
    def delete_definition(self, key: bytes) -> None: ...
    def definitions(self, prefix: bytes = b"") -> Iterator[tuple[bytes, bytes]]: ...


@dataclass(frozen=True, slots=True)
class User:
    """A user. password_hash: empty if the user cannot log in by password. limits: negative ones do not limit."""

    name: str
    password_hash: str = field(default="", repr=False)
    hashing_algorithm: str = passwords.DEFAULT_ALGORITHM
    tags: tuple[str, ...] = ()
    limits: Mapping[str, int] = field(default_factory=dict)

    def record(self) -> dict[str, Any]:
        """The user as JSON, in the form of RabbitMQ's definitions."""
        return {
            "name": self.name,
            "password_hash": self.password_hash,
            "hashing_algorithm": self.hashing_algorithm,
            "tags": list(self.tags),
            "limits": dict(self.limits),
        }

    @classmethod
    def of_record(cls, record: Mapping[str, Any]) -> User:
        return cls(
            record["name"],
            record["password_hash"],
            record["hashing_algorithm"],
            tuple(record["tags"]),
            dict(record["limits"]),
        )


def record_key(kind: str, *names: str) -> bytes:
    """The key of a record: user/NAME, permission/VHOST NUL USER, ... The names are in the record, too."""
    key = f"{kind}/".encode() + "\0".join(names).encode()
    if len(key) > MAX_KEY_BYTES:
        return f"{kind}/#".encode() + hashlib.sha256(key).hexdigest().encode()
    return key


def checked_name(what: str, name: str) -> str:
    """Return the name if it is valid. what: "user", "virtual host", ... for the text. Raise AuthDataError."""
    if not name and what == "user":
        raise AuthDataError("a user needs a name")
    if "\0" in name:  # it separates names, here and in SASL PLAIN
        raise AuthDataError(f"the name of a {what} cannot have a NUL in it")
    try:
        name.encode()
    except UnicodeEncodeError:
        raise AuthDataError(f"the name of a {what} is not valid Unicode") from None
    return name


def checked_tags(tags: Iterable[str]) -> tuple[str, ...]:
    """Return the tags in their order, each once. Raise AuthDataError."""
    found = dict.fromkeys(tags)
    if not all(isinstance(tag, str) and tag for tag in found):
        raise AuthDataError("a tag is a word")
    return tuple(found)


def checked_limits(limits: Mapping[str, int]) -> dict[str, int]:
    """Return the limits if they are valid. Raise AuthDataError for an unknown name or a value that is not a whole number."""
    for name, value in limits.items():
        if name not in LIMITS:
            raise AuthDataError(f"there is no limit '{name}' for users (there are: {', '.join(LIMITS)})")
        if not isinstance(value, int) or isinstance(value, bool):
            raise AuthDataError(f"{name} is a whole number")
    return dict(limits)


def hashed(password: str) -> str:
    """Hash a new password. Raise AuthDataError for an empty one, and for one that is not valid Unicode."""
    try:
        return passwords.hash_password(password)
    except UnicodeEncodeError:  # a ValueError, too, but one that quotes the password
        raise AuthDataError("a password is valid Unicode") from None
    except ValueError:
        raise AuthDataError("a user needs a password") from None


def checked_hash(password_hash: str, algorithm: str | None) -> str:
    """The algorithm of a hash in RabbitMQ's form. An empty hash is valid: the user cannot log in by password.

    algorithm: the one that the hash must be of; None: it is told by the hash's length. Raise HashNotBase64, AuthDataError.
    """
    if algorithm is not None and algorithm not in passwords.ALGORITHMS:
        raise AuthDataError(f"there is no hashing algorithm '{algorithm}'")
    if not password_hash:
        return algorithm or passwords.DEFAULT_ALGORITHM
    try:
        found = passwords.algorithm_of(password_hash)
    except passwords.NotBase64 as error:
        raise HashNotBase64(str(error)) from None
    except passwords.UnknownHashLength as error:
        raise AuthDataError(str(error)) from None
    if algorithm is not None and algorithm != found:
        raise AuthDataError(f"this password hash is not of {algorithm}")
    return found

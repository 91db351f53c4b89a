"""The internal backend: users, permissions and topic permissions, kept with the broker's definitions."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, ClassVar, Protocol

from leveret.auth import passwords
from leveret.auth.cache import VerifiedPasswords
from leveret.auth.contracts import AccessDenied, Credentials, Permission, Principal, Resource
from leveret.auth.permissions import Permissions, TopicPermissions, check_pattern

if TYPE_CHECKING:
    from leveret.conf.settings import Auth

__all__ = ["AuthDataError", "InternalBackend", "NoSuchUser", "Records", "User", "UserExists"]

log = logging.getLogger(__name__)


class AuthDataError(Exception):
    """A change of users or permissions that cannot be made: one sentence."""


class NoSuchUser(AuthDataError):
    """No user of that name."""


class UserExists(AuthDataError):
    """There is a user of that name."""


class Records(Protocol):
    """Where users are kept: the broker's store has exactly these methods."""

    def put_definition(self, key: bytes, value: bytes) -> None: ...
    def delete_definition(self, key: bytes) -> None: ...
    def definitions(self, prefix: bytes = b"") -> Iterator[tuple[bytes, bytes]]: ...


@dataclass(slots=True)
class User:
    """password_hash is empty for users who log in by certificate only."""

    name: str
    password_hash: str = field(default="", repr=False)
    hashing_algorithm: str = passwords.DEFAULT_ALGORITHM
    tags: tuple[str, ...] = ()
    limits: dict[str, int] = field(default_factory=dict)


def _key(kind: str, *names: str) -> bytes:
    return kind.encode() + b"/" + "\0".join(names).encode("utf-8", "surrogateescape")


class InternalBackend:
    """Authenticator and authorizer in one; answers from memory, so it costs no await.

    revision grows with each change: who remembers an answer compares it, and a revoked permission ends at once.
    """

    name: ClassVar[str] = "internal"

    def __init__(self, settings: Auth) -> None:
        self._settings = settings
        self._records: Records | None = None
        self._users: dict[str, User] = {}
        self._permissions: dict[str, dict[str, Permissions]] = {}  # vhost -> user
        self._topics: dict[tuple[str, str], dict[str, TopicPermissions]] = {}  # (vhost, user) -> exchange
        self._verified = VerifiedPasswords(settings.cache_ttl_s)
        self._listeners: list[Callable[[], None]] = []
        self.revision = 0

    # -- keeping

    def attach(self, records: Records) -> None:
        """Load what is kept; from now on every change is kept too."""
        self._records = records
        for _, value in records.definitions(b"user/"):
            user = json.loads(value)
            self._users[user["name"]] = User(
                user["name"],
                user["password_hash"],
                user["hashing_algorithm"],
                tuple(user["tags"]),
                user["limits"],
            )
        for _, value in records.definitions(b"permission/"):
            row = json.loads(value)
            self._permissions.setdefault(row["vhost"], {})[row["user"]] = Permissions(
                row["configure"], row["write"], row["read"]
            )
        for _, value in records.definitions(b"topic_permission/"):
            row = json.loads(value)
            self._topics.setdefault((row["vhost"], row["user"]), {})[row["exchange"]] = TopicPermissions(
                row["write"], row["read"]
            )
        self.revision += 1

    def ensure_default_user(self) -> None:
        """On an empty user table: default_user, administrator, with all permissions in default_vhost."""
        settings = self._settings
        if self._users or not settings.default_user:
            return
        self.add_user(settings.default_user, settings.default_pass, ["administrator"])
        self.set_permissions(settings.default_user, settings.default_vhost, ".*", ".*", ".*")

    def _put(self, key: bytes, value: Mapping[str, Any]) -> None:
        if self._records is not None:
            self._records.put_definition(key, json.dumps(value).encode())
        self._changed()

    def _delete(self, key: bytes) -> None:
        if self._records is not None:
            self._records.delete_definition(key)
        self._changed()

    def _changed(self) -> None:
        self.revision += 1
        for listener in list(self._listeners):
            listener()

    def on_change(self, listener: Callable[[], None]) -> None:
        """Called after every change."""
        self._listeners.append(listener)

    def _save(self, user: User) -> None:
        self._verified.forget(user.name)
        self._put(
            _key("user", user.name),
            {
                "name": user.name,
                "password_hash": user.password_hash,
                "hashing_algorithm": user.hashing_algorithm,
                "tags": list(user.tags),
                "limits": user.limits,
            },
        )

    # -- users

    def add_user(self, name: str, password: str, tags: Iterable[str] = ()) -> None:
        """Raise UserExists, AuthDataError."""
        if name in self._users:
            raise UserExists(f"User '{name}' already exists")
        if not name:
            raise AuthDataError("a user needs a name")
        if not password:
            raise AuthDataError("a user needs a password")
        user = self._users[name] = User(name, passwords.hash_password(password), tags=tuple(tags))
        self._save(user)
        log.info("user=%s created", name)

    def put_user(
        self,
        name: str,
        *,
        password_hash: str = "",
        hashing_algorithm: str = passwords.DEFAULT_ALGORITHM,
        tags: Iterable[str] = (),
        limits: Mapping[str, int] | None = None,
    ) -> None:
        """Create or replace, with a hash as it is (imported definitions). Raise AuthDataError."""
        if hashing_algorithm not in passwords.ALGORITHMS:
            raise AuthDataError(f"unknown hashing algorithm {hashing_algorithm!r}")
        user = self._users[name] = User(
            name, password_hash, hashing_algorithm, tuple(tags), dict(limits or {})
        )
        self._save(user)

    def delete_user(self, name: str) -> None:
        """With all permissions. Raise NoSuchUser."""
        self.user(name)
        for vhost in [vhost for vhost, rows in self._permissions.items() if name in rows]:
            self.clear_permissions(name, vhost)
        for vhost, user in [key for key in self._topics if key[1] == name]:
            self.clear_topic_permissions(user, vhost)
        del self._users[name]
        self._verified.forget(name)
        self._delete(_key("user", name))
        log.info("user=%s deleted", name)

    def set_password(self, name: str, password: str) -> None:
        """Raise NoSuchUser, AuthDataError."""
        user = self.user(name)
        if not password:
            raise AuthDataError("a user needs a password")
        user.password_hash = passwords.hash_password(password)
        user.hashing_algorithm = passwords.DEFAULT_ALGORITHM
        self._save(user)
        log.info("user=%s password changed", name)

    def clear_password(self, name: str) -> None:
        """From now on by certificate only."""
        user = self.user(name)
        user.password_hash = ""
        self._save(user)

    def set_tags(self, name: str, tags: Iterable[str]) -> None:
        user = self.user(name)
        user.tags = tuple(tags)
        self._save(user)

    def set_user_limits(self, name: str, limits: Mapping[str, int]) -> None:
        """max-connections, max-channels; negative: none."""
        user = self.user(name)
        user.limits = dict(limits)
        self._save(user)

    def limits(self, name: str) -> Mapping[str, int]:
        """Of a user this backend may not know: then none."""
        user = self._users.get(name)
        return user.limits if user is not None else {}

    def user(self, name: str) -> User:
        """Raise NoSuchUser."""
        user = self._users.get(name)
        if user is None:
            raise NoSuchUser(f"User '{name}' does not exist")
        return user

    def list_users(self) -> list[User]:
        return list(self._users.values())

    # -- permissions

    def set_permissions(self, user: str, vhost: str, configure: str, write: str, read: str) -> None:
        """Raise NoSuchUser, AuthDataError for a pattern that is none."""
        self.user(user)
        for pattern in (configure, write, read):
            problem = check_pattern(pattern)
            if problem is not None:
                raise AuthDataError(problem)
        self._permissions.setdefault(vhost, {})[user] = Permissions(configure, write, read)
        self._put(
            _key("permission", vhost, user),
            {
                "user": user,
                "vhost": vhost,
                "configure": configure,
                "write": write,
                "read": read,
            },
        )

    def clear_permissions(self, user: str, vhost: str) -> None:
        self.user(user)
        if self._permissions.get(vhost, {}).pop(user, None) is not None:
            self._delete(_key("permission", vhost, user))

    def list_permissions(self, vhost: str) -> list[tuple[str, Permissions]]:
        return list(self._permissions.get(vhost, {}).items())

    def list_user_permissions(self, user: str) -> list[tuple[str, Permissions]]:
        self.user(user)
        return [(vhost, rows[user]) for vhost, rows in self._permissions.items() if user in rows]

    def set_topic_permissions(self, user: str, vhost: str, exchange: str, write: str, read: str) -> None:
        self.user(user)
        for pattern in (write, read):
            problem = check_pattern(pattern)
            if problem is not None:
                raise AuthDataError(problem)
        self._topics.setdefault((vhost, user), {})[exchange] = TopicPermissions(write, read)
        self._put(
            _key("topic_permission", vhost, user, exchange),
            {
                "user": user,
                "vhost": vhost,
                "exchange": exchange,
                "write": write,
                "read": read,
            },
        )

    def clear_topic_permissions(self, user: str, vhost: str, exchange: str | None = None) -> None:
        """Of one exchange, or of all."""
        self.user(user)
        rows = self._topics.get((vhost, user), {})
        for name in [exchange] if exchange is not None else list(rows):
            if rows.pop(name, None) is not None:
                self._delete(_key("topic_permission", vhost, user, name))

    def list_topic_permissions(self, vhost: str) -> list[tuple[str, str, TopicPermissions]]:
        """(user, exchange, permissions)."""
        return [
            (user, exchange, row)
            for (where, user), rows in self._topics.items()
            if where == vhost
            for exchange, row in rows.items()
        ]

    def forget_vhost(self, vhost: str) -> None:
        """It was deleted: so are the permissions in it."""
        for user in list(self._permissions.pop(vhost, {})):
            self._delete(_key("permission", vhost, user))
        for where, user in [key for key in self._topics if key[0] == vhost]:
            for exchange in self._topics.pop((where, user)):
                self._delete(_key("topic_permission", vhost, user, exchange))

    # -- the contracts

    async def authenticate(self, credentials: Credentials) -> Principal | None:
        if credentials.mechanism in ("EXTERNAL", "ANONYMOUS") and credentials.password is None:
            user = self._users.get(credentials.username or "")
            if user is None:
                return None
            return Principal(user.name, frozenset(user.tags))
        return self.authenticate_password(credentials.username or "", credentials.password or "")

    def authenticate_password(self, username: str, password: str) -> Principal | None:
        """None: not a user of ours. Raise AccessDenied: one of ours, and that is not the password."""
        user = self._users.get(username)
        if user is None:
            passwords.burn(password)
            return None
        if not self._verified.knows(username, password, user.password_hash):
            if not passwords.verify(password, user.password_hash, user.hashing_algorithm):
                raise AccessDenied(f"user '{username}' - invalid credentials")
            self._verified.remember(username, password, user.password_hash)
        return Principal(user.name, frozenset(user.tags))

    def authorize(
        self, principal: Principal, vhost: str, permission: Permission | None, resource: Resource
    ) -> bool | None:
        row = self._permissions.get(vhost, {}).get(principal.username)
        if resource.kind == "topic":
            topic = self._topics.get((vhost, principal.username), {}).get(resource.name)
            if topic is None or permission is None:
                return True  # no row: the permission on the exchange was enough
            variables = {"username": principal.username, "vhost": vhost, **principal.attributes}
            return topic.allow(permission, resource.routing_key or "", variables)
        if row is None:
            return False if principal.username in self._users else None
        return True if permission is None else row.allow(permission, resource.name)

"""The internal backend: users, permissions and topic permissions, kept with the broker's definitions.

It holds everything in memory and writes every change to the store at once. Operators change it through
leveret.core.administration; the chain (chain.py) asks it who a client is and what it may do.
"""

from __future__ import annotations

import json
import logging
import secrets
from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any, ClassVar, TypeVar

from leveret.auth import passwords
from leveret.auth.contracts import AccessDenied, Credentials, Permission, Principal, Resource
from leveret.auth.permissions import DEFAULT_EXCHANGE, Permissions, TopicPermissions, check_pattern
from leveret.auth.users import (
    AuthDataError,
    NoSuchUser,
    Records,
    User,
    UserExists,
    checked_hash,
    checked_limits,
    checked_name,
    checked_tags,
    hashed,
    record_key,
)
from leveret.auth.verified_passwords import VerifiedPasswords

if TYPE_CHECKING:
    from leveret.conf.settings import Auth
__all__ = ["AuthDataError", "InternalBackend", "NoSuchUser", "Records", "User", "UserExists"]

log = logging.getLogger(__name__)

EventListener = Callable[[str, dict[str, Any]], None]
T = TypeVar("T")


class InternalBackend:
    """Authenticator and authorizer that answers from memory, without an await.

    revision grows with each change. Sessions that remember an answer compare it, so that a revoked permission ends at
    once.
    """

    name: ClassVar[str] = "internal"
    settings_type: ClassVar[type | None] = None

    def __init__(self, settings: Auth) -> None:
        self._settings = settings
        self._records: Records | None = None
        self._users: dict[str, User] = {}
        self._permissions: dict[str, dict[str, Permissions]] = {}  # vhost -> user
        self._topics: dict[tuple[str, str], dict[str, TopicPermissions]] = {}  # (vhost, user) -> exchange
        self._verified = VerifiedPasswords(settings.cache_ttl_s)
        self._listeners: dict[object, Callable[[], None]] = {}
        self._event_listeners: dict[object, EventListener] = {}
        # Unknown users are verified against this random hash, so that the time taken does not tell that they are unknown.
        self._nobody = User("", passwords.hash_password(secrets.token_hex(16)))
        self.revision = 0

    # -- keeping

    def attach(self, records: Records) -> None:
        """Load the records, and write every change to them from now on."""
        self._records = records
        for _, value in records.definitions(b"user/"):
            user = User.of_record(json.loads(value))
            self._users[user.name] = user
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
        self._changed()

    def ensure_default_user(self) -> None:
        """If there are no users: create auth.default_user, an administrator with all permissions in auth.default_vhost."""
        settings = self._settings
        name = settings.default_user
        if self._users or not name:
            return
        if settings.default_pass:
            self.add_user(name, settings.default_pass, ["administrator"])
        else:
            self.put_user(name, tags=["administrator"])
            log.warning("user=%s has no password (auth.default_pass is empty): it cannot log in by one", name)
        self.set_permissions(name, settings.default_vhost, ".*", ".*", ".*")

    def on_change(self, listener: Callable[[], None]) -> Callable[[], None]:
        """Call the listener after every change. Returns a function that ends this."""
        return _subscribe(self._listeners, listener)

    def on_event(self, listener: EventListener) -> Callable[[], None]:
        """Call the listener with a name and fields after every change. Returns a function that ends this.

        Names and fields are RabbitMQ's: user.created, user.deleted, user.password.changed, user.password.cleared,
        user.tags.set, user.limits.set, permission.created, permission.deleted, topic.permission.created,
        topic.permission.deleted.
        """
        return _subscribe(self._event_listeners, listener)

    def _changed(self) -> None:
        self.revision += 1
        for listener in list(self._listeners.values()):
            listener()

    def _put(self, key: bytes, value: Mapping[str, Any]) -> None:
        if self._records is not None:
            self._records.put_definition(key, json.dumps(value).encode())
        self._changed()

    def _delete(self, key: bytes) -> None:
        if self._records is not None:
            self._records.delete_definition(key)
        self._changed()

    def _emit(self, event: str, **fields: Any) -> None:
        for listener in list(self._event_listeners.values()):
            listener(event, fields)

    def _save(self, user: User) -> None:
        self._users[user.name] = user
        self._verified.forget(user.name)
        self._put(record_key("user", user.name), user.record())

    # -- users

    def add_user(self, name: str, password: str, tags: Iterable[str] = ()) -> None:
        """Raise UserExists, AuthDataError."""
        if name in self._users:
            raise UserExists(f"User '{name}' already exists")
        user = User(checked_name("user", name), hashed(password), tags=checked_tags(tags))
        self._save(user)
        log.info("user=%s created", name)
        self._emit("user.created", name=name)
        if user.tags:
            self._emit("user.tags.set", name=name, tags=list(user.tags))

    def put_user(
        self,
        name: str,
        *,
        password_hash: str = "",
        hashing_algorithm: str | None = None,
        tags: Iterable[str] = (),
        limits: Mapping[str, int] | None = None,
    ) -> None:
        """Create or replace a user with a hash in RabbitMQ's form. Raise HashNotBase64, AuthDataError.

        hashing_algorithm: None: told by the length of the hash. password_hash: empty: no login by password.
        """
        is_new = name not in self._users
        algorithm = checked_hash(password_hash, hashing_algorithm)
        user = User(
            checked_name("user", name),
            password_hash,
            algorithm,
            checked_tags(tags),
            checked_limits(limits or {}),
        )
        self._save(user)
        log.info("user=%s %s", name, "created" if is_new else "replaced")
        self._emit("user.created" if is_new else "user.password.changed", name=name)
        self._emit("user.tags.set", name=name, tags=list(user.tags))

    def delete_user(self, name: str) -> None:
        """Delete a user with all permissions. Raise NoSuchUser."""
        self.user(name)
        for vhost in [vhost for vhost, rows in self._permissions.items() if name in rows]:
            self.clear_permissions(name, vhost)
        for vhost, user in [key for key in self._topics if key[1] == name]:
            self.clear_topic_permissions(user, vhost)
        del self._users[name]
        self._verified.forget(name)
        self._delete(record_key("user", name))
        log.info("user=%s deleted", name)
        self._emit("user.deleted", name=name)

    def set_password(self, name: str, password: str) -> None:
        """Raise NoSuchUser, AuthDataError."""
        self._set_hash(self.user(name), hashed(password), passwords.DEFAULT_ALGORITHM)

    def set_password_hash(self, name: str, password_hash: str, hashing_algorithm: str | None = None) -> None:
        """Set a hash in RabbitMQ's form; the algorithm is told by its length if not given. Raise NoSuchUser, AuthDataError."""
        user = self.user(name)
        self._set_hash(user, password_hash, checked_hash(password_hash, hashing_algorithm))

    def clear_password(self, name: str) -> None:
        """The user can log in by certificate only from now on. Raise NoSuchUser."""
        self._set_hash(self.user(name), "", passwords.DEFAULT_ALGORITHM)

    def _set_hash(self, user: User, password_hash: str, algorithm: str) -> None:
        self._save(replace(user, password_hash=password_hash, hashing_algorithm=algorithm))
        what = "changed" if password_hash else "cleared"
        log.info("user=%s password %s", user.name, what)
        self._emit(f"user.password.{what}", name=user.name)

    def set_tags(self, name: str, tags: Iterable[str]) -> None:
        """Replace the tags; they apply from the next login on. Raise NoSuchUser, AuthDataError."""
        user = replace(self.user(name), tags=checked_tags(tags))
        self._save(user)
        log.info("user=%s tags=%s set", name, ",".join(user.tags))
        self._emit("user.tags.set", name=name, tags=list(user.tags))

    def set_user_limits(self, name: str, limits: Mapping[str, int]) -> None:
        """Replace all limits: max-connections, max-channels; negative ones do not limit. Raise NoSuchUser, AuthDataError."""
        user = replace(self.user(name), limits=checked_limits(limits))
        self._save(user)
        log.info("user=%s limits=%s set", name, dict(user.limits))
        self._emit("user.limits.set", name=name, limits=dict(user.limits))

    def limits(self, name: str) -> Mapping[str, int]:
        """The limits of a user; empty for a user of another backend."""
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
        """Raise NoSuchUser; AuthDataError for an invalid pattern."""
        self.user(user)
        checked_name("virtual host", vhost)
        _check_patterns(configure, write, read)
        row = {"user": user, "vhost": vhost, "configure": configure, "write": write, "read": read}
        self._permissions.setdefault(vhost, {})[user] = Permissions(configure, write, read)
        self._put(record_key("permission", vhost, user), row)
        log.info("user=%s vhost=%s permissions set", user, vhost)
        self._emit("permission.created", **row)

    def clear_permissions(self, user: str, vhost: str) -> None:
        """Raise NoSuchUser."""
        self.user(user)
        if self._permissions.get(vhost, {}).pop(user, None) is not None:
            self._delete(record_key("permission", vhost, user))
            log.info("user=%s vhost=%s permissions cleared", user, vhost)
            self._emit("permission.deleted", user=user, vhost=vhost)

    def list_permissions(self, vhost: str) -> list[tuple[str, Permissions]]:
        """(user, permissions)."""
        return list(self._permissions.get(vhost, {}).items())

    def list_user_permissions(self, user: str) -> list[tuple[str, Permissions]]:
        """(vhost, permissions). Raise NoSuchUser."""
        self.user(user)
        return [(vhost, rows[user]) for vhost, rows in self._permissions.items() if user in rows]

    def set_topic_permissions(self, user: str, vhost: str, exchange: str, write: str, read: str) -> None:
        """Raise NoSuchUser; AuthDataError for an invalid pattern."""
        self.user(user)
        checked_name("virtual host", vhost)
        checked_name("exchange", exchange)
        _check_patterns(write, read)
        row = {"user": user, "vhost": vhost, "exchange": exchange, "write": write, "read": read}
        self._topics.setdefault((vhost, user), {})[exchange] = TopicPermissions(write, read)
        self._put(record_key("topic_permission", vhost, user, exchange), row)
        log.info("user=%s vhost=%s exchange=%s topic permissions set", user, vhost, exchange)
        self._emit("topic.permission.created", **row)

    def clear_topic_permissions(self, user: str, vhost: str, exchange: str | None = None) -> None:
        """Of one exchange, or of all. Raise NoSuchUser."""
        self.user(user)
        rows = self._topics.get((vhost, user), {})
        for name in [exchange] if exchange is not None else list(rows):
            if rows.pop(name, None) is not None:
                self._forget_topic(vhost, user, name)
        if not rows:
            self._topics.pop((vhost, user), None)

    def _forget_topic(self, vhost: str, user: str, exchange: str) -> None:
        self._delete(record_key("topic_permission", vhost, user, exchange))
        log.info("user=%s vhost=%s exchange=%s topic permissions cleared", user, vhost, exchange)
        self._emit("topic.permission.deleted", user=user, vhost=vhost, exchange=exchange)

    def list_topic_permissions(self, vhost: str) -> list[tuple[str, str, TopicPermissions]]:
        """(user, exchange, permissions)."""
        return [
            (user, exchange, row)
            for (where, user), rows in self._topics.items()
            if where == vhost
            for exchange, row in rows.items()
        ]

    def forget_vhost(self, vhost: str) -> None:
        """The virtual host was deleted: delete the permissions in it."""
        for user in list(self._permissions.get(vhost, {})):
            self.clear_permissions(user, vhost)
        self._permissions.pop(vhost, None)
        for user in [user for where, user in self._topics if where == vhost]:
            self.clear_topic_permissions(user, vhost)

    # -- the contracts

    async def authenticate(self, credentials: Credentials) -> Principal | None:
        """Log in by password, by the name in a verified certificate (EXTERNAL), or as the configured user (ANONYMOUS)."""
        name = credentials.username or ""
        match credentials.mechanism:
            case "EXTERNAL":
                if not credentials.certificate:
                    raise AccessDenied(f"user '{name}' - no verified certificate")
            case "ANONYMOUS":
                if not name or name != self._settings.anonymous_user:
                    raise AccessDenied(f"user '{name}' - anonymous logins are off")
            case _:
                return self.authenticate_password(name, credentials.password or "")
        user = self._users.get(name)
        return None if user is None else Principal(user.name, frozenset(user.tags), self.name)

    def authenticate_password(self, username: str, password: str) -> Principal | None:
        """Returns None for a user of another backend. Raise AccessDenied for a wrong password."""
        user = self._users.get(username, self._nobody)
        is_right = self._verified.knows(username, password, user.password_hash)
        if not is_right and passwords.verify(password, user.password_hash, user.hashing_algorithm):
            is_right = True
            self._verified.remember(username, password, user.password_hash)
        if user is self._nobody:
            return None
        if not password:
            raise AccessDenied(
                f"user '{username}' attempted to log in with a blank password, "
                "which is prohibited by the internal authN backend"
            )
        if not is_right:
            raise AccessDenied(f"user '{username}' - invalid credentials")
        return Principal(user.name, frozenset(user.tags), self.name)

    def authorize(
        self, principal: Principal, vhost: str, permission: Permission | None, resource: Resource
    ) -> bool | None:
        username = principal.username
        if username not in self._users:
            # A user of another backend; or one of this backend who was deleted and whose connection is about to close.
            return False if principal.backend == self.name else None
        row = self._permissions.get(vhost, {}).get(username)
        if row is None:
            return False
        if permission is None:
            return resource.kind == "vhost"
        if resource.kind == "topic":
            topic = self._topics.get((vhost, username), {}).get(resource.name)
            if topic is None:
                return True  # no row: the permission on the exchange was enough
            variables = {**principal.attributes, "username": username, "vhost": vhost}
            return topic.allow(permission, resource.routing_key or "", variables)
        name = resource.name
        if not name and resource.kind == "exchange":
            name = DEFAULT_EXCHANGE
        return row.allow(permission, name)


def _subscribe(listeners: dict[object, T], listener: T) -> Callable[[], None]:
    token = object()
    listeners[token] = listener

    def unsubscribe() -> None:
        listeners.pop(token, None)

    return unsubscribe


def _check_patterns(*patterns: str) -> None:
    """Raise AuthDataError."""
    for pattern in patterns:
        problem = check_pattern(pattern)
        if problem is not None:
            raise AuthDataError(problem)

"""The internal backend: users, permissions and topic permissions, kept with the broker's definitions."""

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
    HashNotBase64,
    NoSuchUser,
    Records,
    User,
    UserExists,
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
        self._listeners: dict[object, Callable[[], None]] = {}
        self._event_listeners: dict[object, EventListener] = {}
        # Whoever does not exist has this password, which nobody knows: the time taken must not tell.
        self._nobody = User("", passwords.hash_password(secrets.token_hex(16)))
        self.revision = 0

    # -- keeping

    def attach(self, records: Records) -> None:
        """Load what is kept; from now on every change is kept too."""
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
        """On an empty user table: default_user, administrator, with all permissions in default_vhost."""
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
        """Called after every change; returns what ends that."""
        return _subscribe(self._listeners, listener)

    def on_event(self, listener: EventListener) -> Callable[[], None]:
        """Called with a name and fields after every change; returns what ends that.

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
        """Create or replace, with a hash as it is: imported definitions. Raise AuthDataError.

        No algorithm: told by the length of the hash. No hash: no login by password.
        """
        is_new = name not in self._users
        algorithm = _checked_hash(password_hash, hashing_algorithm)
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
        """With all permissions. Raise NoSuchUser."""
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
        """A hash as it is; no algorithm: told by its length. Raise NoSuchUser, AuthDataError."""
        user = self.user(name)
        self._set_hash(user, password_hash, _checked_hash(password_hash, hashing_algorithm))

    def clear_password(self, name: str) -> None:
        """From now on by certificate only. Raise NoSuchUser."""
        self._set_hash(self.user(name), "", passwords.DEFAULT_ALGORITHM)

    def _set_hash(self, user: User, password_hash: str, algorithm: str) -> None:
        self._save(replace(user, password_hash=password_hash, hashing_algorithm=algorithm))
        what = "changed" if password_hash else "cleared"
        log.info("user=%s password %s", user.name, what)
        self._emit(f"user.password.{what}", name=user.name)

    def set_tags(self, name: str, tags: Iterable[str]) -> None:
        """Of whoever logs in from now on. Raise NoSuchUser, AuthDataError."""
        user = replace(self.user(name), tags=checked_tags(tags))
        self._save(user)
        log.info("user=%s tags=%s set", name, ",".join(user.tags))
        self._emit("user.tags.set", name=name, tags=list(user.tags))

    def set_user_limits(self, name: str, limits: Mapping[str, int]) -> None:
        """max-connections, max-channels; negative: none. Raise NoSuchUser, AuthDataError."""
        user = replace(self.user(name), limits=checked_limits(limits))
        self._save(user)
        log.info("user=%s limits=%s set", name, dict(user.limits))
        self._emit("user.limits.set", name=name, limits=dict(user.limits))

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
        """Raise NoSuchUser, AuthDataError for a pattern that is none."""
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
        """It was deleted: so are the permissions in it."""
        for user in list(self._permissions.get(vhost, {})):
            self.clear_permissions(user, vhost)
        self._permissions.pop(vhost, None)
        for user in [user for where, user in self._topics if where == vhost]:
            self.clear_topic_permissions(user, vhost)

    # -- the contracts

    async def authenticate(self, credentials: Credentials) -> Principal | None:
        """By password; EXTERNAL by the name in a verified certificate; ANONYMOUS as the one configured user."""
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
        """None: not a user of ours. Raise AccessDenied: one of ours, and that is not the password."""
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
            # Somebody else's user; or one of ours who was deleted, and is still connected.
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


def _checked_hash(password_hash: str, algorithm: str | None) -> str:
    """The algorithm of a hash as it is given. Raise AuthDataError."""
    if algorithm is not None and algorithm not in passwords.ALGORITHMS:
        raise AuthDataError(f"there is no hashing algorithm '{algorithm}'")
    if not password_hash:
        return algorithm or passwords.DEFAULT_ALGORITHM
    try:
        found = passwords.algorithm_of(password_hash)
    except passwords.NotBase64 as error:
        raise HashNotBase64(str(error)) from None
    except ValueError as error:
        raise AuthDataError(str(error)) from None
    if algorithm is not None and algorithm != found:
        raise AuthDataError(f"this password hash is none of {algorithm}")
    return found


def _check_patterns(*patterns: str) -> None:
    """Raise AuthDataError."""
    for pattern in patterns:
        problem = check_pattern(pattern)
        if problem is not None:
            raise AuthDataError(problem)

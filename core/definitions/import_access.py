"""Checks and steps of an import: users, virtual hosts and permissions."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from leveret.auth.permissions import check_pattern
from leveret.auth.users import LIMITS as USER_LIMITS
from leveret.auth.users import NoSuchUser, checked_hash, checked_name, checked_tags, hashed
from leveret.core.definitions.import_items import item_of, read_limits, read_name, read_text, read_words
from leveret.core.errors import InvalidArgument
from leveret.core.queue.arguments import QUEUE_TYPES
from leveret.core.vhost import VHOST_LIMITS

if TYPE_CHECKING:
    from leveret.core.definitions.import_context import ImportContext
    from leveret.core.json_object import JsonObject
__all__ = ["check_permission", "check_topic_permission", "check_user", "check_vhost"]


def check_user(context: ImportContext, item: JsonObject) -> None:
    """A user, with a password hash, or with a password in clear text, as RabbitMQ accepts it."""
    name = checked_name("user", read_text(item, "name"))
    tags = checked_tags(read_words(item, "tags") or ())
    limits = read_limits(item.get("limits"), USER_LIMITS) if "limits" in item else None
    password_hash, algorithm = (
        read_text(item, "password_hash", None),
        read_text(item, "hashing_algorithm", None),
    )
    if password_hash is None and "password" in item:
        password_hash, algorithm = hashed(read_text(item, "password")), None
    if password_hash is not None:
        checked_hash(password_hash, algorithm)
    context.users.add(name)
    context.add_step(_put_user, context, name, password_hash, algorithm, tags, limits)


def _put_user(
    context: ImportContext,
    name: str,
    password_hash: str | None,
    algorithm: str | None,
    tags: tuple[str, ...],
    limits: dict[str, int] | None,
) -> None:
    """Create or replace a user. An existing user keeps the password and the limits that the document does not mention."""
    users = context.broker.users
    try:
        existing = users.user(name)
    except NoSuchUser:
        existing = None
    if password_hash is None and existing is not None:
        password_hash, algorithm = existing.password_hash, existing.hashing_algorithm
    if limits is None:
        limits = dict(existing.limits) if existing is not None else {}
    if existing is not None and (
        (existing.password_hash, existing.tags, existing.limits) == (password_hash, tags, limits)
    ):
        return  # nothing changes, so there is no event
    users.put_user(
        name, password_hash=password_hash or "", hashing_algorithm=algorithm, tags=tags, limits=limits
    )


def check_vhost(context: ImportContext, item: JsonObject) -> None:
    """A virtual host. RabbitMQ 4 has its metadata in an object `metadata`, older versions in the item itself."""
    name = checked_name("virtual host", read_name(item))
    if not name:
        raise InvalidArgument("a virtual host needs a name")
    given = item_of(item.get("metadata", {}))
    metadata: dict[str, Any] = {}
    for source in (item, given):
        if "description" in source:
            metadata["description"] = read_text(source, "description")
        if (tags := read_words(source, "tags")) is not None:
            metadata["tags"] = tags
        queue_type = read_text(source, "default_queue_type", "undefined")
        if queue_type in QUEUE_TYPES:
            metadata["default_queue_type"] = queue_type
        elif queue_type != "undefined":
            context.warn(
                f"vhost '{name}': the default queue type '{queue_type}' does not exist and is left out"
            )
    if given.flag("protected_from_deletion", False):
        metadata["is_protected"] = True
    limits = read_limits(item.get("limits", {}), VHOST_LIMITS)
    context.vhosts.add(name)
    context.add_step(_put_vhost, context, name, metadata, limits)


def _put_vhost(context: ImportContext, name: str, metadata: dict[str, Any], limits: dict[str, int]) -> None:
    existing = context.broker.vhosts.get(name)
    if existing is None:
        context.broker.add_vhost(name, **metadata)
        context.broker.grant_all(context.importer, name)
    elif metadata:
        existing.update(**metadata)
    if limits:
        context.find_vhost(name).set_limits(limits)


def check_permission(context: ImportContext, item: JsonObject) -> None:
    """A user's permissions in a virtual host."""
    context.add_step(
        context.broker.users.set_permissions, *_permission_row(context, item, "configure", "write", "read")
    )


def check_topic_permission(context: ImportContext, item: JsonObject) -> None:
    """A user's permissions for the routing keys of one exchange."""
    user, vhost, write, read = _permission_row(context, item, "write", "read")
    exchange = checked_name("exchange", read_name(item, "exchange"))
    context.add_step(context.broker.users.set_topic_permissions, user, vhost, exchange, write, read)


def _permission_row(context: ImportContext, item: JsonObject, *names: str) -> list[str]:
    """User, virtual host and the patterns of these names. Raise InvalidArgument."""
    user, vhost = read_text(item, "user"), context.vhost_of(item)
    if user not in context.users:
        raise InvalidArgument(f"no_such_user: there is no user '{user}'")
    patterns = [read_text(item, name) for name in names]
    for pattern in patterns:
        if (problem := check_pattern(pattern)) is not None:
            raise InvalidArgument(problem)
    return [user, vhost, *patterns]

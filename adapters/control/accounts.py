"""The control listener's operations on users and permissions."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from leveret.adapters.control.listings import rows
from leveret.adapters.control.server import Operation, OperationRefused
from leveret.auth.contracts import AccessDenied
from leveret.core.definitions.recovery import require_vhost

if TYPE_CHECKING:
    from leveret.core.broker import Broker
__all__ = ["ACCOUNTS"]

# -- users


def add_user(broker: Broker, username: str, password: str) -> None:
    broker.users.add_user(username, password)


def delete_user(broker: Broker, username: str) -> None:
    broker.users.delete_user(username)


def change_password(broker: Broker, username: str, password: str) -> None:
    broker.users.set_password(username, password)


def clear_password(broker: Broker, username: str) -> None:
    broker.users.clear_password(username)


def authenticate_user(broker: Broker, username: str, password: str) -> None:
    broker.users.user(username)
    try:
        broker.users.authenticate_password(username, password)
    except AccessDenied as denied:
        raise OperationRefused(f"failed to authenticate user '{username}'", "invalid") from denied


def set_user_tags(broker: Broker, username: str, tags: list[str]) -> None:
    broker.users.set_tags(username, tags)


def list_users(broker: Broker) -> dict[str, Any]:
    return rows(("user", "tags"), ((user.name, list(user.tags)) for user in broker.users.list_users()))


# -- permissions


def set_permissions(broker: Broker, user: str, vhost: str, configure: str, write: str, read: str) -> None:
    require_vhost(broker, vhost)
    broker.users.set_permissions(user, vhost, configure, write, read)


def clear_permissions(broker: Broker, user: str, vhost: str) -> None:
    require_vhost(broker, vhost)
    broker.users.clear_permissions(user, vhost)


def list_permissions(broker: Broker, vhost: str) -> dict[str, Any]:
    require_vhost(broker, vhost)
    listed = broker.users.list_permissions(vhost)
    return rows(
        ("user", "configure", "write", "read"),
        ((user, row.configure, row.write, row.read) for user, row in listed),
    )


def list_user_permissions(broker: Broker, user: str) -> dict[str, Any]:
    listed = broker.users.list_user_permissions(user)
    return rows(
        ("vhost", "configure", "write", "read"),
        ((vhost, row.configure, row.write, row.read) for vhost, row in listed),
    )


def set_topic_permissions(
    broker: Broker, user: str, vhost: str, exchange: str, write: str, read: str
) -> None:
    require_vhost(broker, vhost)
    broker.users.set_topic_permissions(user, vhost, exchange, write, read)


def clear_topic_permissions(broker: Broker, user: str, vhost: str, exchange: str | None = None) -> None:
    """Of one exchange, or of all."""
    require_vhost(broker, vhost)
    broker.users.clear_topic_permissions(user, vhost, exchange)


def list_topic_permissions(broker: Broker, vhost: str) -> dict[str, Any]:
    require_vhost(broker, vhost)
    listed = broker.users.list_topic_permissions(vhost)
    return rows(
        ("user", "exchange", "write", "read"),
        ((user, exchange, row.write, row.read) for user, exchange, row in listed),
    )


ACCOUNTS: Mapping[str, Operation] = {
    operation.__name__: operation
    for operation in (
        add_user, delete_user, change_password, clear_password, authenticate_user, set_user_tags, list_users,
        set_permissions, clear_permissions, list_permissions, list_user_permissions, set_topic_permissions,
        clear_topic_permissions, list_topic_permissions,
    )
}  # fmt: skip

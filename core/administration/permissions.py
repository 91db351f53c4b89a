"""Permissions of users in virtual hosts, and on the topics of exchanges."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from leveret.auth.users import checked_name
from leveret.core.administration.names import check_name
from leveret.core.definitions.exporter import all_permissions, all_topic_permissions
from leveret.core.definitions.recovery import require_vhost

if TYPE_CHECKING:
    from leveret.core.broker import Broker
__all__ = [
    "clear_permissions", "clear_topic_permissions", "list_permissions", "list_topic_permissions", "set_permissions",
    "set_topic_permissions",
]  # fmt: skip


def set_permissions(broker: Broker, user: str, vhost: str, configure: str, write: str, read: str) -> bool:
    """Replace what a user may configure, write and read in a virtual host: three regular expressions.

    Returns True if the user had no permissions there. Raise NotFound (virtual host), NoSuchUser, AuthDataError for an
    invalid pattern.
    """
    require_vhost(broker, vhost)
    is_new = not any(list_permissions(broker, vhost=vhost, user=user))
    broker.users.set_permissions(user, vhost, configure, write, read)
    return is_new


def clear_permissions(broker: Broker, user: str, vhost: str) -> bool:
    """Take a user's permissions in a virtual host away. Returns False if there were none.

    Raise NotFound (virtual host), NoSuchUser.
    """
    require_vhost(broker, vhost)
    had = any(list_permissions(broker, vhost=vhost, user=user))
    broker.users.clear_permissions(user, vhost)
    return had


def set_topic_permissions(
    broker: Broker, user: str, vhost: str, exchange: str, write: str, read: str
) -> bool:
    """Replace which routing keys of an exchange a user may write and read: two regular expressions.

    Returns True if the user had no topic permissions in the virtual host. Raise NotFound (virtual host), NoSuchUser,
    InvalidArgument for a name that is too long, AuthDataError for an invalid pattern.
    """
    require_vhost(broker, vhost)
    check_name("exchange", checked_name("exchange", exchange))
    is_new = not any(list_topic_permissions(broker, vhost=vhost, user=user))
    broker.users.set_topic_permissions(user, vhost, exchange, write, read)
    return is_new


def clear_topic_permissions(broker: Broker, user: str, vhost: str, exchange: str | None = None) -> bool:
    """Take a user's topic permissions in a virtual host away, of one exchange or of all. Returns False if there were none.

    Raise NotFound (virtual host), NoSuchUser.
    """
    require_vhost(broker, vhost)
    rows = list_topic_permissions(broker, vhost=vhost, user=user)
    had = any(exchange in (None, row["exchange"]) for row in rows)
    broker.users.clear_topic_permissions(user, vhost, exchange)
    return had


def list_permissions(
    broker: Broker, *, vhost: str | None = None, user: str | None = None
) -> Iterator[dict[str, Any]]:
    """Rows of user, vhost, configure, write and read, in the order of their names; None: of all."""
    return _selected(all_permissions(broker), vhost, user)


def list_topic_permissions(
    broker: Broker, *, vhost: str | None = None, user: str | None = None
) -> Iterator[dict[str, Any]]:
    """Rows of user, vhost, exchange, write and read, in the order of their names; None: of all."""
    return _selected(all_topic_permissions(broker), vhost, user)


def _selected(
    rows: Iterator[dict[str, Any]], vhost: str | None, user: str | None
) -> Iterator[dict[str, Any]]:
    return (row for row in rows if vhost in (None, row["vhost"]) and user in (None, row["user"]))

"""Limits of virtual hosts (max-connections, max-queues) and of users (max-connections, max-channels).

A negative limit is kept and shown, and does not limit, as in RabbitMQ.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from leveret.auth.users import LIMITS as USER_LIMITS
from leveret.core.definitions.recovery import require_vhost
from leveret.core.erlang_terms import erlang_term
from leveret.core.errors import InvalidArgument
from leveret.core.limit_values import check_limit_values
from leveret.core.vhost import VHOST_LIMITS

if TYPE_CHECKING:
    from leveret.core.broker import Broker
__all__ = [
    "clear_user_limit", "clear_user_limits", "clear_vhost_limit", "clear_vhost_limits", "set_user_limits",
    "set_vhost_limit", "set_vhost_limits",
]  # fmt: skip


def _checked(limits: object, known: tuple[str, ...], where: str) -> dict[str, int]:
    """Raise InvalidArgument with RabbitMQ's text."""
    if not isinstance(limits, Mapping):
        raise InvalidArgument("limits must be an object")
    for name, value in limits.items():
        if name not in known:
            raise InvalidArgument(
                f"Unrecognised terms [{{{erlang_term(name)},{erlang_term(value)}}}] in {where}"
            )
        check_limit_values({name: value})
    return dict(limits)


# -- of virtual hosts


def set_vhost_limits(broker: Broker, vhost: str, limits: Mapping[str, Any]) -> bool:
    """Replace all limits of a virtual host. Returns True if it had none. Raise NotFound, InvalidArgument."""
    found = require_vhost(broker, vhost)
    is_new = not found.limits
    found.set_limits(_checked(limits, VHOST_LIMITS, "limits"))
    return is_new


def set_vhost_limit(broker: Broker, vhost: str, name: str, value: Any) -> None:
    """Set one limit, and leave the others. Raise NotFound, InvalidArgument."""
    found = require_vhost(broker, vhost)
    found.set_limits({**found.limits, **_checked({name: value}, VHOST_LIMITS, "limits")})


def clear_vhost_limit(broker: Broker, vhost: str, name: str) -> bool:
    """Returns False if there is no such limit. Raise NotFound (virtual host)."""
    found = require_vhost(broker, vhost)
    if name not in found.limits:
        return False
    found.set_limits({key: value for key, value in found.limits.items() if key != name})
    return True


def clear_vhost_limits(broker: Broker, vhost: str) -> bool:
    """Returns False if the virtual host has no limits. Raise NotFound (virtual host)."""
    found = require_vhost(broker, vhost)
    if not found.limits:
        return False
    found.set_limits({})
    return True


# -- of users


def set_user_limits(broker: Broker, user: str, limits: Mapping[str, Any]) -> None:
    """Set these limits, and leave the user's others. Raise NoSuchUser, InvalidArgument."""
    kept = broker.users.user(user).limits
    broker.users.set_user_limits(user, {**kept, **_checked(limits, USER_LIMITS, "user-limits")})


def clear_user_limit(broker: Broker, user: str, name: str) -> bool:
    """Returns False if the user has no such limit. Raise NoSuchUser."""
    limits = broker.users.user(user).limits
    if name not in limits:
        return False
    broker.users.set_user_limits(user, {key: value for key, value in limits.items() if key != name})
    return True


def clear_user_limits(broker: Broker, user: str) -> bool:
    """Returns False if the user has no limits. Raise NoSuchUser."""
    if not broker.users.user(user).limits:
        return False
    broker.users.set_user_limits(user, {})
    return True

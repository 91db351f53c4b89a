"""Connections of clients, closed by an operator."""

from __future__ import annotations

import logging
from collections.abc import Iterable
from typing import TYPE_CHECKING

from leveret.core.definitions.recovery import require_vhost
from leveret.core.errors import NotFound

if TYPE_CHECKING:
    from leveret.core.broker import Broker
    from leveret.core.connections import ClientConnection
__all__ = ["close_connection", "close_user_connections", "close_vhost_connections", "find_connections"]

log = logging.getLogger(__name__)

OPERATOR = "the operator"


def find_connections(broker: Broker, name: str) -> list[ClientConnection]:
    """The connections of this name: one, or several when a proxy hides their clients. Raise NotFound."""
    found = broker.connections.named(name)
    if not found:
        raise NotFound(f"there is no connection '{name}'")
    return found


def close_connection(broker: Broker, name: str, reason: str, by: str = OPERATOR) -> None:
    """Close the connections of this name. reason: what the client is told; by: who closes it, for the log.

    Raise NotFound.
    """
    _close(find_connections(broker, name), reason, by)


def close_user_connections(broker: Broker, user: str, reason: str, by: str = OPERATOR) -> int:
    """Close all connections of a user. Returns how many."""
    return _close(list(broker.connections.of_user(user)), reason, by)


def close_vhost_connections(broker: Broker, vhost: str, reason: str, by: str = OPERATOR) -> int:
    """Close all connections of a virtual host. Returns how many. Raise NotFound (virtual host)."""
    require_vhost(broker, vhost)
    return _close(list(broker.connections.of_vhost(vhost)), reason, by)


def _close(connections: Iterable[ClientConnection], reason: str, by: str) -> int:
    count = 0
    for connection in connections:
        log.info("conn=%s closed by %s: %s", connection.name, by, reason)
        connection.close(reason)
        count += 1
    return count

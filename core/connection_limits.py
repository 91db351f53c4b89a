"""How many connections and channels clients may have: limits of the node, of virtual hosts and of users."""

from __future__ import annotations

from typing import TYPE_CHECKING

from leveret.core.errors import ConnectionRefused, NotAllowed

if TYPE_CHECKING:
    from leveret.auth.internal import InternalBackend
    from leveret.core.connections import Connections
    from leveret.core.vhost import Vhost
__all__ = ["ConnectionLimits"]


class ConnectionLimits:
    """Checked when a client logs in and when it opens a channel; connections that are there already stay.

    node_limit  logged-in connections of the whole node; 0: unlimited
    """

    def __init__(self, connections: Connections, users: InternalBackend, node_limit: int) -> None:
        self._connections = connections
        self._users = users
        self.node_limit = node_limit

    def check_login(self, username: str, vhost: Vhost) -> None:
        """Raise ConnectionRefused if one more connection of this user to this virtual host is too many."""
        connections = self._connections
        if self.node_limit and connections.login_count >= self.node_limit:
            raise ConnectionRefused(
                f"connection refused: node connection limit ({self.node_limit}) is reached"
            )
        limit = vhost.limits.get("max-connections", -1)
        if 0 <= limit <= len(connections.of_vhost(vhost.name)):
            raise ConnectionRefused(
                f"access to vhost '{vhost.name}' refused for user '{username}': "
                f"connection limit ({limit}) is reached"
            )
        limit = self._users.limits(username).get("max-connections", -1)
        if 0 <= limit <= len(connections.of_user(username)):
            raise ConnectionRefused(
                f"connection refused for user '{username}': user connection limit ({limit}) is reached"
            )

    def check_channel(self, username: str) -> None:
        """Raise NotAllowed if the user may not open one more channel."""
        limit = self._users.limits(username).get("max-channels", -1)
        if 0 <= limit <= self._connections.of_user(username).channel_count:
            raise NotAllowed(
                f"number of channels opened for user '{username}' has reached the maximum allowed "
                f"user limit of {limit}"
            )

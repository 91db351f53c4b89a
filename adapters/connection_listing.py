"""Connections and channels as RabbitMQ's listings show them: the only place that knows its field names for them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from leveret.core.connections import ClientChannel, ClientConnection
__all__ = ["describe_channel", "describe_connection"]


def describe_connection(connection: ClientConnection) -> dict[str, Any]:
    """The fields of a connection. `user` and `vhost` are None until its client has logged in."""
    details = connection.details()
    peer_host, peer_port = connection.peer
    host, port = connection.local
    return {
        "name": connection.name,
        "state": "blocked" if connection.is_blocked else connection.state,
        "user": connection.username or None,
        "vhost": connection.vhost_name or None,
        "peer_host": peer_host,
        "peer_port": peer_port,
        "host": host,
        "port": port,
        "connected_at": connection.connected_at,
        "recv_oct": connection.received_bytes,
        "send_oct": connection.sent_bytes,
        "send_pend": connection.pending_bytes,
        "ssl": bool(connection.tls_info),
        **connection.tls_info,
        "protocol": connection.protocol,
        "channels": connection.channel_count,
        "channel_max": details.channel_max,
        "frame_max": details.frame_max,
        "timeout": details.heartbeat_s,
        "auth_mechanism": details.mechanism,
        "client_properties": dict(details.client_properties),
        **details.extra,
    }


def describe_channel(channel: ClientChannel) -> dict[str, Any]:
    """The fields of a channel, without its statistics."""
    messages, acknowledgements = channel.uncommitted
    return {
        "name": channel.name,
        "number": channel.number,
        "user": channel.username,
        "vhost": channel.vhost_name,
        "consumer_count": len(channel.consumers),
        "messages_unacknowledged": channel.unacked_count,
        "messages_unconfirmed": channel.unconfirmed_count,
        "prefetch_count": channel.prefetch,
        "global_prefetch_count": channel.global_prefetch,
        "confirm": channel.is_confirming,
        "transactional": channel.is_transactional,
        "messages_uncommitted": messages,
        "acks_uncommitted": acknowledgements,
    }

"""What the MQTT listeners count: plain integers that grow, and gauges that are set when somebody looks."""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["METRICS", "TOTALS", "MqttStatistics"]

METRICS = {
    "sockets_total": "MQTT sockets accepted",
    "messages_received": "MQTT packets received, of all types",
    "messages_sent": "MQTT packets sent, of all types",
    "publish_received": "PUBLISH packets received",
    "publish_sent": "PUBLISH packets sent",
    "publish_sent_queued": "PUBLISH packets sent from sessions' queues: QoS 1 and 2",
    "publish_dropped": "PUBLISH packets not sent: QoS 0 to a client that is too slow, overflow, too large for the client",
    "clients_expired": "MQTT sessions whose expiry has passed",
    "clients_connected": "MQTT clients connected",
    "clients_maximum": "The most MQTT clients that were connected at a time",
    "clients_total": "MQTT sessions, connected or not",
    "subscriptions": "MQTT subscriptions",
    "shared_subscriptions": "MQTT shared subscriptions",
    "retained_messages": "Retained messages",
    "stored_messages": "Retained messages, and those in sessions' queues",
    "stored_bytes": "Their payloads",
}
"""What monitoring is told, and in which words."""
TOTALS = frozenset({
    "sockets_total", "messages_received", "messages_sent", "publish_received", "publish_sent", "publish_sent_queued",
    "publish_dropped", "clients_expired",
})  # fmt: skip
"""Of them, those that only grow."""


@dataclass(slots=True)
class MqttStatistics:
    """Of all MQTT listeners of a broker, since it started. Whoever does a thing adds to its number, there and then."""

    # counters
    connections_total: int = 0  # CONNECTs, accepted or not
    sockets_total: int = 0  # accepted sockets
    bytes_received: int = 0  # everything, from the sockets
    bytes_sent: int = 0
    messages_received: int = 0  # packets of all types
    messages_sent: int = 0
    publish_received: int = 0  # PUBLISH packets
    publish_sent: int = 0
    publish_sent_queued: int = 0  # of them, those that a session's queue has counted as delivered
    publish_dropped: int = 0  # QoS 0 on congestion, overflow of a session's queue, too large for the client
    publish_bytes_received: int = 0  # their payloads
    publish_bytes_sent: int = 0
    clients_expired: int = 0  # sessions whose expiry passed

    # gauges
    clients_connected: int = 0
    clients_maximum: int = 0  # the most that were connected at a time
    clients_total: int = 0  # sessions, connected or not
    subscriptions: int = 0
    shared_subscriptions: int = 0
    retained_messages: int = 0
    stored_messages: int = 0  # retained ones and those in the sessions' queues
    stored_bytes: int = 0

    def client_connected(self) -> None:
        """A CONNECT was accepted."""
        self.clients_connected += 1
        self.clients_maximum = max(self.clients_maximum, self.clients_connected)

    def client_disconnected(self) -> None:
        """A connection that was accepted is over, in whatever way."""
        self.clients_connected -= 1

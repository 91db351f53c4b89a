"""Connections without a client, that count how often they are asked something."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping

from leveret.core.connections import ChannelTotals, ClientChannel, ConnectionDetails, Connections
from leveret.core.counters import PublishCounters
from leveret.core.queue.consumer import Consumer

__all__ = ["FakeChannel", "FakeConnection", "connected"]


class FakeConnection:
    """asked: how often each attribute was read, and each method called."""

    is_blocked = False
    peer = ("192.0.2.1", 50000)
    local = ("192.0.2.2", 5672)
    connected_at = 0
    pending_bytes = 0

    def __init__(self, name: str, username: str = "", vhost_name: str = "", channels: int = 0) -> None:
        self.name = name
        self.asked: Counter[str] = Counter()
        self.closed: list[tuple[str, int]] = []
        self._username, self._vhost_name = username, vhost_name
        self._channels: dict[int, ClientChannel] = {
            number: FakeChannel(self, number) for number in range(1, channels + 1)
        }
        self.tls_info: dict[str, object] = {}

    @property
    def state(self) -> str:
        return "running" if self._username else "starting"

    @property
    def username(self) -> str:
        self.asked["username"] += 1
        return self._username

    @property
    def vhost_name(self) -> str:
        self.asked["vhost_name"] += 1
        return self._vhost_name

    @property
    def protocol(self) -> str:
        return "FAKE 1.0"

    @property
    def received_bytes(self) -> int:
        self.asked["received_bytes"] += 1
        return 10

    @property
    def sent_bytes(self) -> int:
        self.asked["sent_bytes"] += 1
        return 20

    @property
    def channel_count(self) -> int:
        self.asked["channel_count"] += 1
        return len(self._channels)

    @property
    def channels(self) -> Mapping[int, ClientChannel]:
        self.asked["channels"] += 1
        return self._channels

    def open_channel(self, connections: Connections) -> None:
        number = len(self._channels) + 1
        self._channels[number] = FakeChannel(self, number)
        connections.open_channel(self)

    def close_channel(self, connections: Connections) -> None:
        self._channels.popitem()
        connections.close_channel(self)

    def details(self) -> ConnectionDetails:
        self.asked["details"] += 1
        return ConnectionDetails("PLAIN", 60, extra={"fake": True})

    def traffic(self) -> tuple[str, PublishCounters]:
        self.asked["traffic"] += 1
        return "fake", PublishCounters(received=1, bytes_received=10, bytes_sent=20)

    def close(self, reason: str, *, code: int = 320, is_shutdown: bool = False) -> None:
        self.closed.append((reason, code))


class FakeChannel:
    """A channel on which two messages were published and confirmed."""

    prefetch = global_prefetch = unacked_count = unconfirmed_count = 0
    uncommitted = (0, 0)
    is_confirming, is_transactional = True, False

    def __init__(self, connection: FakeConnection, number: int) -> None:
        self.number = number
        self.name = f"{connection.name} ({number})"
        self.username, self.vhost_name = connection._username, connection._vhost_name
        self.consumers: dict[str, Consumer] = {}

    def totals(self) -> ChannelTotals:
        return ChannelTotals(publish=2, confirm=2)


def connected(
    connections: Connections, count: int, username: str, vhost_name: str, channels: int = 0
) -> list[FakeConnection]:
    """So many more that are logged in, and have not been asked anything since."""
    made = [
        FakeConnection(f"{username}@{vhost_name}:{number}", username, vhost_name, channels)
        for number in range(count)
    ]
    for one in made:
        connections.add(one)
        connections.log_in(one)
        one.asked.clear()
    return made

"""Connections of clients: what each one tells the broker, and who is connected, counted as it changes.

Every adapter reports its connections to the broker's `Connections` at four moments: when a connection is accepted, when a
client has logged in on it, when a channel opens or closes, and when it is gone. From these the registry keeps the
connections and channels of each user and of each virtual host, so that limits, listings, deleted users and deleted
virtual hosts are answered without asking every connection.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

if TYPE_CHECKING:
    from leveret.core.churn import Churn
    from leveret.core.counters import PublishCounters, Traffic
    from leveret.core.queue.consumer import Consumer
__all__ = [
    "ChannelTotals",
    "ClientChannel",
    "ClientConnection",
    "ConnectionDetails",
    "ConnectionGroup",
    "Connections",
]


@dataclass(frozen=True, slots=True)
class ConnectionDetails:
    """What a client and the broker agreed on when the connection was opened, for listings.

    mechanism          of the login: PLAIN, EXTERNAL, ...
    heartbeat_s        the agreed interval, in seconds; 0: none
    channel_max        channels that the client may open; 0: it is not limited, or the protocol has none
    frame_max          bytes of the largest frame; 0: it is not limited
    client_properties  as the client described itself
    extra              columns of this protocol alone, under the names that RabbitMQ lists them by
    """

    mechanism: str
    heartbeat_s: int
    channel_max: int = 0
    frame_max: int = 0
    client_properties: Mapping[str, Any] = field(default_factory=dict)
    extra: Mapping[str, Any] = field(default_factory=dict)


class ChannelTotals(NamedTuple):
    """What a channel has done since it was opened, under RabbitMQ's names of message statistics."""

    publish: int = 0
    confirm: int = 0
    return_unroutable: int = 0
    drop_unroutable: int = 0
    deliver: int = 0
    deliver_no_ack: int = 0
    get: int = 0
    get_no_ack: int = 0
    get_empty: int = 0
    ack: int = 0


class ClientChannel(Protocol):
    """A channel as the broker knows it. Only AMQP 0-9-1 has them."""

    number: int
    prefetch: int
    global_prefetch: int
    consumers: dict[str, Consumer]

    @property
    def name(self) -> str:
        """Of the connection, with the number: unique while the connection is there."""

    @property
    def username(self) -> str: ...
    @property
    def vhost_name(self) -> str: ...
    @property
    def unacked_count(self) -> int: ...
    @property
    def unconfirmed_count(self) -> int: ...
    @property
    def uncommitted(self) -> tuple[int, int]:
        """Messages and acknowledgements of the open transaction."""

    @property
    def is_confirming(self) -> bool: ...
    @property
    def is_transactional(self) -> bool: ...
    def totals(self) -> ChannelTotals:
        """Counters that only grow."""


class ClientConnection(Protocol):
    """A connection as the broker knows it. Every attribute is cheap to read; `adapters.checks` tests an implementation.

    name            "host:port -> host:port"; several connections have the same one when a proxy hides their clients
    state           a word for listings
    is_blocked      it publishes and is not read, because of an alarm; listings show this as its state
    username        of the client that has logged in; "" before
    vhost_name      of the virtual host that it uses; "" before
    connected_at    when it was accepted, in milliseconds since 1970
    peer, local     host and port
    tls_info        protocol, cipher and certificate under RabbitMQ's names; empty without TLS
    received_bytes, sent_bytes  since it was accepted
    pending_bytes   waiting to be sent
    channel_count   channels that count towards limits; protocols without channels may report 1, as RabbitMQ does for them
    channels        those that can be listed, by number
    """

    name: str
    connected_at: int

    @property
    def protocol(self) -> str:
        """As RabbitMQ's listings name it: "AMQP 0-9-1"."""

    @property
    def state(self) -> str: ...
    @property
    def is_blocked(self) -> bool: ...
    @property
    def username(self) -> str: ...
    @property
    def vhost_name(self) -> str: ...
    @property
    def peer(self) -> tuple[str, int]: ...
    @property
    def local(self) -> tuple[str, int]: ...
    @property
    def tls_info(self) -> Mapping[str, object]: ...
    @property
    def received_bytes(self) -> int: ...
    @property
    def sent_bytes(self) -> int: ...
    @property
    def pending_bytes(self) -> int: ...
    @property
    def channel_count(self) -> int: ...
    @property
    def channels(self) -> Mapping[int, ClientChannel]: ...
    def details(self) -> ConnectionDetails:
        """What listings show beside the attributes. Called once per listing."""

    def traffic(self) -> tuple[str, PublishCounters]:
        """The protocol as metrics name it, and the counters that have not been handed to `Broker.traffic` yet."""

    def close(self, reason: str, *, code: int = 320, is_shutdown: bool = False) -> None:
        """Tell the client in its protocol and end the connection, bounded in time. Returns at once.

        Args:
            reason: for the client to read.
            code: AMQP's reply code.
            is_shutdown: the whole broker ends, which some protocols tell apart from an operator's decision.
        """


class ConnectionGroup(Collection[ClientConnection]):
    """The connections of one user, or to one virtual host, and how many channels they have together."""

    __slots__ = ("_members", "channel_count")

    def __init__(self) -> None:
        self._members: set[ClientConnection] = set()
        self.channel_count = 0

    def __len__(self) -> int:
        return len(self._members)

    def __iter__(self) -> Iterator[ClientConnection]:
        return iter(self._members)

    def __contains__(self, connection: object) -> bool:
        return connection in self._members

    def _add(self, connection: ClientConnection, channels: int) -> None:
        self._members.add(connection)
        self.channel_count += channels

    def _remove(self, connection: ClientConnection, channels: int) -> None:
        self._members.discard(connection)
        self.channel_count -= channels


class _Login:
    """What a connection is counted under."""

    __slots__ = ("channels", "username", "vhost")

    def __init__(self, username: str, vhost: str, channels: int) -> None:
        self.username = username
        self.vhost = vhost
        self.channels = channels


class Connections(Collection[ClientConnection]):
    """All connections of a broker, in the order in which they were accepted.

    channel_count  channels of all that are logged in
    """

    def __init__(self, churn: Churn, traffic: Traffic) -> None:
        self._churn = churn
        self._traffic = traffic
        self._all: dict[ClientConnection, _Login | None] = {}
        self._by_user: dict[str, ConnectionGroup] = {}
        self._by_vhost: dict[str, ConnectionGroup] = {}
        self._login_count = 0
        self.channel_count = 0

    def __len__(self) -> int:
        return len(self._all)

    def __iter__(self) -> Iterator[ClientConnection]:
        return iter(self._all)

    def __contains__(self, connection: object) -> bool:
        return connection in self._all

    # -- what adapters report

    def add(self, connection: ClientConnection) -> None:
        """It was accepted; its client has not logged in yet."""
        if connection not in self._all:
            self._all[connection] = None
            self._churn.connections_opened += 1

    def log_in(self, connection: ClientConnection) -> None:
        """Its client is logged in: `username`, `vhost_name` and `channel_count` are what they will be."""
        self.add(connection)
        if self._all[connection] is not None:
            return
        login = _Login(connection.username, connection.vhost_name, connection.channel_count)
        self._all[connection] = login
        self._by_user.setdefault(login.username, ConnectionGroup())._add(connection, login.channels)
        self._by_vhost.setdefault(login.vhost, ConnectionGroup())._add(connection, login.channels)
        self._login_count += 1
        self.channel_count += login.channels

    def open_channel(self, connection: ClientConnection) -> None:
        """A channel was opened on a connection that is logged in."""
        self._churn.channels_opened += 1
        self._count_channels(connection, 1)

    def close_channel(self, connection: ClientConnection) -> None:
        """A channel is gone."""
        self._churn.channels_closed += 1
        self._count_channels(connection, -1)

    def _count_channels(self, connection: ClientConnection, change: int) -> None:
        login = self._all.get(connection)
        if login is not None:
            login.channels += change
            self.channel_count += change
            self._by_user[login.username].channel_count += change
            self._by_vhost[login.vhost].channel_count += change

    def discard(self, connection: ClientConnection) -> None:
        """It is gone. What it counted stays in the broker's totals."""
        if connection not in self._all:
            return
        login = self._all.pop(connection)
        self._churn.connections_closed += 1
        self._traffic.retire(*connection.traffic())
        if login is None:
            return
        self._login_count -= 1
        self.channel_count -= login.channels
        for groups, name in ((self._by_user, login.username), (self._by_vhost, login.vhost)):
            group = groups[name]
            group._remove(connection, login.channels)
            if not group:
                del groups[name]

    # -- who is there

    @property
    def login_count(self) -> int:
        """Connections whose clients are logged in."""
        return self._login_count

    def of_user(self, username: str) -> ConnectionGroup:
        """Those that a user is logged in on; it changes with them."""
        return self._by_user.get(username) or ConnectionGroup()

    def of_vhost(self, name: str) -> ConnectionGroup:
        """Those that use a virtual host; it changes with them."""
        return self._by_vhost.get(name) or ConnectionGroup()

    def named(self, name: str) -> list[ClientConnection]:
        """Those with a name."""
        return [connection for connection in self._all if connection.name == name]

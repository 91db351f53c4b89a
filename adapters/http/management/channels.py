"""Channels of the connections that have any."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any, NamedTuple

from leveret.adapters.connection_listing import describe_channel
from leveret.adapters.http.management.consumers import consumer_item
from leveret.adapters.http.management.details import Details, iso_time
from leveret.adapters.http.management.lists import Part, PublishView, Table, answer_list, check_stats
from leveret.adapters.http.management.overview import message_stats
from leveret.adapters.http.management.routes import Call, Route, not_authorised, not_found
from leveret.adapters.http.rates import CHANNEL

if TYPE_CHECKING:
    from leveret.core.connections import ClientChannel, ClientConnection
__all__ = ["CHANNELS", "ROUTES", "channels_of"]


class ChannelEntry(NamedTuple):
    """A channel and its connection."""

    channel: ClientChannel
    connection: ClientConnection


def _base(item: dict[str, Any], entry: ChannelEntry, view: PublishView) -> None:
    channel, connection = entry
    item.update(describe_channel(channel))
    item["pending_raft_commands"] = 0
    series = view.rates.of(CHANNEL, channel)
    if series is not None and series.changed_ms < view.rates.now_ms:
        item["idle_since"] = iso_time(series.changed_ms)
    peer_host, peer_port = connection.peer
    item.update(
        node=view.broker.node_name,
        state="running",
        connection_details={"name": connection.name, "peer_host": peer_host, "peer_port": peer_port},
        user_who_performed_action=channel.username,
    )


def _stats(item: dict[str, Any], entry: ChannelEntry, view: PublishView) -> None:
    values = entry.channel.totals()._asdict()
    details = Details(view.rates, CHANNEL, view.rates.of(CHANNEL, entry.channel))
    if stats := message_stats(values, details, view.ranges):
        item["message_stats"] = stats


CHANNELS: Table[ChannelEntry] = Table(
    (
        Part(
            frozenset({
                "name", "number", "user", "vhost", "node", "state", "connection_details", "consumer_count", "confirm",
                "transactional", "prefetch_count", "global_prefetch_count", "messages_unacknowledged",
                "messages_unconfirmed", "messages_uncommitted", "acks_uncommitted", "user_who_performed_action",
                "idle_since", "pending_raft_commands",
            }),
            _base,
        ),
        Part(frozenset({"message_stats"}), _stats),
    ),
    lambda entry: entry.channel.name,
    is_paged=True,
)  # fmt: skip


def channels_of(connections: Iterable[ClientConnection]) -> list[ChannelEntry]:
    """In the order of virtual hosts, names and numbers."""
    return [
        ChannelEntry(channel, connection)
        for connection in sorted(connections, key=lambda one: (one.vhost_name, one.name))
        for _, channel in sorted(connection.channels.items())
    ]


def _visible(call: Call, connections: Iterable[ClientConnection]) -> list[ChannelEntry]:
    """Those that the user may see: its own, or all."""
    if call.sees_all:
        return channels_of(connections)
    username = call.principal.username
    return channels_of([one for one in connections if one.username == username])


async def channels(call: Call) -> Any:
    """Channels: the user's own, or all for users who may see them."""
    check_stats(call)
    return await answer_list(call, _visible(call, call.broker.connections), CHANNELS)


async def vhost_channels(call: Call) -> Any:
    """Channels in one virtual host."""
    vhost = await call.vhost()
    check_stats(call)
    return await answer_list(call, _visible(call, call.broker.connections.of_vhost(vhost.name)), CHANNELS)


async def channel(call: Call) -> dict[str, Any]:
    """One channel, with its consumers."""
    name = call.part("channel")
    entry = next((one for one in channels_of(call.broker.connections) if one.channel.name == name), None)
    if entry is None:
        raise not_found()
    if not call.sees_all and entry.channel.username != call.principal.username:
        raise not_authorised("User not authorised to access object")
    view = PublishView(call)
    item = CHANNELS.item(entry, view)
    item["consumer_details"] = [
        consumer_item(consumer, view) for consumer in entry.channel.consumers.values()
    ]
    item["publishes"], item["deliveries"] = [], []
    return item


ROUTES = (
    Route("GET", "/channels", channels),
    Route("GET", "/vhosts/{vhost}/channels", vhost_channels),
    Route("GET", "/channels/{channel}", channel),
)

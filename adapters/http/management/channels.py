"""Channels of the connections that have any."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from leveret.adapters.http.management.consumers import consumer_item
from leveret.adapters.http.management.details import Details, iso_time
from leveret.adapters.http.management.lists import Part, PublishView, Table, answer_list, check_stats
from leveret.adapters.http.management.overview import message_stats
from leveret.adapters.http.management.routes import Call, Route, not_authorised, not_found
from leveret.adapters.http.rates import CHANNEL

__all__ = ["CHANNELS", "ROUTES", "channels_of"]


class ChannelEntry:
    """A channel with what it says of itself."""

    __slots__ = ("channel", "connection", "info")

    def __init__(self, channel: Any, connection: dict[str, Any]) -> None:
        self.channel = channel
        self.info: dict[str, Any] = channel.info()
        self.connection = connection


def _base(item: dict[str, Any], entry: ChannelEntry, view: PublishView) -> None:
    info, connection = entry.info, entry.connection
    item.update(
        {name: value for name, value in info.items() if name not in ("message_stats", "connection_name")}
    )
    item.setdefault("messages_uncommitted", 0)
    item.setdefault("acks_uncommitted", 0)
    item.setdefault("pending_raft_commands", 0)
    series = view.rates.of(CHANNEL, entry.channel)
    if series is not None and series.changed_ms < view.rates.now_ms:
        item["idle_since"] = iso_time(series.changed_ms)
    item.update(
        node=view.broker.node_name,
        state="running",
        connection_details={
            "name": connection.get("name", ""),
            "peer_host": connection.get("peer_host", ""),
            "peer_port": connection.get("peer_port", 0),
        },
        user_who_performed_action=info.get("user"),
    )


def _stats(item: dict[str, Any], entry: ChannelEntry, view: PublishView) -> None:
    values: dict[str, int] = entry.info.get("message_stats", {})
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
    lambda entry: str(entry.info.get("name", "")),
    is_paged=True,
)  # fmt: skip


def channels_of(connections: Iterable[Any]) -> list[ChannelEntry]:
    """In the order of virtual hosts, names and numbers."""
    known = [(connection, connection.info()) for connection in connections]
    known.sort(key=lambda pair: (pair[1].get("vhost") or "", str(pair[0].name)))
    return [
        ChannelEntry(channel, info)
        for connection, info in known
        for _, channel in sorted(getattr(connection, "channels", {}).items())
        if hasattr(channel, "info")
    ]


def _visible(call: Call) -> list[ChannelEntry]:
    entries = channels_of(call.broker.connections)
    if call.sees_all:
        return entries
    return [entry for entry in entries if entry.info.get("user") == call.principal.username]


async def channels(call: Call) -> Any:
    """Channels: the user's own, or of everybody for those who may see that."""
    check_stats(call)
    return await answer_list(call, _visible(call), CHANNELS)


async def vhost_channels(call: Call) -> Any:
    """Channels in one virtual host."""
    vhost = await call.vhost()
    check_stats(call)
    return await answer_list(
        call, [entry for entry in _visible(call) if entry.info.get("vhost") == vhost.name], CHANNELS
    )


async def channel(call: Call) -> dict[str, Any]:
    """One channel, with its consumers."""
    name = call.part("channel")
    entry = next((one for one in channels_of(call.broker.connections) if one.info.get("name") == name), None)
    if entry is None:
        raise not_found()
    if not call.sees_all and entry.info.get("user") != call.principal.username:
        raise not_authorised("User not authorised to access object")
    view = PublishView(call)
    item = CHANNELS.item(entry, view)
    item["consumer_details"] = [
        consumer_item(consumer, view) for consumer in getattr(entry.channel, "consumers", {}).values()
    ]
    item["publishes"], item["deliveries"] = [], []
    return item


ROUTES = (
    Route("GET", "/channels", channels),
    Route("GET", "/vhosts/{vhost}/channels", vhost_channels),
    Route("GET", "/channels/{channel}", channel),
)

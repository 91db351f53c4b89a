"""Connections of clients."""

from __future__ import annotations

from typing import Any

from leveret.adapters.http.management.channels import CHANNELS, channels_of
from leveret.adapters.http.management.details import Details
from leveret.adapters.http.management.lists import Part, PublishView, Table, answer_list, plain_table
from leveret.adapters.http.management.routes import Call, Route, not_authorised, not_found
from leveret.adapters.http.rates import CONNECTION

__all__ = ["CONNECTIONS", "ROUTES", "find_connections", "of_user"]

# What RabbitMQ always shows, be it nothing.
NULLS = dict.fromkeys((
    "peer_cert_issuer", "peer_cert_subject", "peer_cert_validity", "ssl_cipher", "ssl_hash", "ssl_key_exchange",
    "ssl_protocol",
))  # fmt: skip


class ConnectionEntry:
    """A connection with what it says of itself."""

    __slots__ = ("connection", "info")

    def __init__(self, connection: Any) -> None:
        self.connection = connection
        self.info: dict[str, Any] = connection.info()

    @property
    def is_open(self) -> bool:
        """Somebody has logged in: before that RabbitMQ does not show it."""
        return self.info.get("user") is not None and self.info.get("vhost") is not None


def _base(item: dict[str, Any], entry: ConnectionEntry, view: PublishView) -> None:
    info = entry.info
    properties = info.get("client_properties") or {}
    item.update(NULLS)
    item.update(info)
    item.update(
        node=view.broker.node_name,
        type="network",
        client_properties=properties,
        user_who_performed_action=info.get("user"),
    )
    if "connection_name" in properties:
        item["user_provided_name"] = properties["connection_name"]


def _stats(item: dict[str, Any], entry: ConnectionEntry, view: PublishView) -> None:
    info = entry.info
    values = {name: info[name] for name in CONNECTION.names if name in info}
    details = Details(view.rates, CONNECTION, view.rates.of(CONNECTION, entry.connection))
    details.put(item, values, view.ranges.data_rates)


CONNECTIONS: Table[ConnectionEntry] = Table(
    (
        Part(
            frozenset({
                "name", "node", "protocol", "user", "vhost", "state", "type", "channels", "channel_max", "frame_max",
                "timeout", "host", "port", "peer_host", "peer_port", "auth_mechanism", "client_properties",
                "connected_at", "recv_cnt", "send_cnt", "send_pend", "ssl", "user_provided_name",
                "user_who_performed_action", *NULLS,
            }),
            _base,
        ),
        Part(frozenset({"recv_oct", "send_oct", "recv_oct_details", "send_oct_details"}), _stats),
    ),
    lambda entry: str(entry.info.get("name", "")),
    is_paged=True,
)  # fmt: skip


def _entries(call: Call) -> list[ConnectionEntry]:
    """Those that the user may see: its own, or all; by virtual host and name."""
    entries = [entry for entry in map(ConnectionEntry, call.broker.connections) if entry.is_open]
    entries.sort(key=lambda entry: (entry.info["vhost"], str(entry.connection.name)))
    return [entry for entry in entries if call.sees_all or entry.info["user"] == call.principal.username]


def find_connections(call: Call) -> list[ConnectionEntry]:
    """Those with the name in the path: several if a proxy hides the clients. Raise Refusal (404, 401)."""
    name = call.part("connection")
    found = [ConnectionEntry(one) for one in call.broker.connections if one.name == name]
    found = [entry for entry in found if entry.is_open]
    if not found:
        raise not_found()
    if not call.sees_all and any(entry.info["user"] != call.principal.username for entry in found):
        raise not_authorised("User not authorised to access object")
    return found


def of_user(call: Call) -> list[ConnectionEntry]:
    """Those of the user in the path, as far as the caller may see them."""
    user = call.part("user")
    return [entry for entry in _entries(call) if entry.info["user"] == user]


async def connections(call: Call) -> Any:
    """Connections: the user's own, or of everybody for those who may see that."""
    return await answer_list(call, _entries(call), CONNECTIONS)


async def vhost_connections(call: Call) -> Any:
    """Connections to one virtual host."""
    vhost = await call.vhost()
    entries = [entry for entry in _entries(call) if entry.info["vhost"] == vhost.name]
    return await answer_list(call, entries, CONNECTIONS)


async def connection(call: Call) -> dict[str, Any]:
    """One connection."""
    return CONNECTIONS.item(find_connections(call)[0], PublishView(call))


async def connection_channels(call: Call) -> Any:
    """The channels of one connection."""
    entries = channels_of(entry.connection for entry in find_connections(call))
    return await answer_list(call, entries, CHANNELS)


async def connection_sessions(call: Call) -> list[Any]:
    """Sessions of AMQP 1.0, of which there are none."""
    find_connections(call)
    return []


async def user_connections(call: Call) -> Any:
    """The connections of one user, in short."""
    node = call.broker.node_name
    items = [
        {"name": entry.info["name"], "vhost": entry.info["vhost"], "user": entry.info["user"], "node": node}
        for entry in of_user(call)
    ]
    return await answer_list(call, items, plain_table())


ROUTES = (
    Route("GET", "/connections", connections),
    Route("GET", "/vhosts/{vhost}/connections", vhost_connections),
    Route("GET", "/connections/username/{user}", user_connections),
    Route("GET", "/connections/{connection}", connection),
    Route("GET", "/connections/{connection}/channels", connection_channels),
    Route("GET", "/connections/{connection}/sessions", connection_sessions),
)

"""Connections of clients."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from leveret.adapters.connection_listing import describe_connection
from leveret.adapters.http.management.channels import CHANNELS, channels_of
from leveret.adapters.http.management.details import Details
from leveret.adapters.http.management.lists import Part, PublishView, Table, answer_list, plain_table
from leveret.adapters.http.management.routes import Call, Route, not_authorised, not_found
from leveret.adapters.http.rates import CONNECTION

if TYPE_CHECKING:
    from leveret.core.connections import ClientConnection
__all__ = ["CONNECTIONS", "ROUTES", "find_connections"]

# What RabbitMQ always shows, be it nothing.
NULLS = dict.fromkeys((
    "peer_cert_issuer", "peer_cert_subject", "peer_cert_validity", "ssl_cipher", "ssl_hash", "ssl_key_exchange",
    "ssl_protocol",
))  # fmt: skip


def _base(item: dict[str, Any], connection: ClientConnection, view: PublishView) -> None:
    described = describe_connection(connection)
    item.update(NULLS)
    item.update(described)
    item.update(node=view.broker.node_name, type="network", user_who_performed_action=described["user"])
    if "connection_name" in described["client_properties"]:
        item["user_provided_name"] = described["client_properties"]["connection_name"]


def _stats(item: dict[str, Any], connection: ClientConnection, view: PublishView) -> None:
    values = {"recv_oct": connection.received_bytes, "send_oct": connection.sent_bytes}
    details = Details(view.rates, CONNECTION, view.rates.of(CONNECTION, connection))
    details.put(item, values, view.ranges.data_rates)


CONNECTIONS: Table[ClientConnection] = Table(
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
    lambda connection: connection.name,
    is_paged=True,
)  # fmt: skip


def _visible(call: Call, connections: Iterable[ClientConnection]) -> list[ClientConnection]:
    """Those on which a client has logged in (RabbitMQ shows no others) and that the user may see: its own, or all.

    By virtual host and name.
    """
    username = call.principal.username
    found = [one for one in connections if one.username and (call.sees_all or one.username == username)]
    found.sort(key=lambda one: (one.vhost_name, one.name))
    return found


def find_connections(call: Call) -> list[ClientConnection]:
    """Those with the name in the path: several if a proxy hides the clients. Raise Refusal (404, 401)."""
    found = [one for one in call.broker.connections.named(call.part("connection")) if one.username]
    if not found:
        raise not_found()
    if not call.sees_all and any(one.username != call.principal.username for one in found):
        raise not_authorised("User not authorised to access object")
    return found


async def connections(call: Call) -> Any:
    """Connections: the user's own, or all for users who may see them."""
    return await answer_list(call, _visible(call, call.broker.connections), CONNECTIONS)


async def vhost_connections(call: Call) -> Any:
    """Connections to one virtual host."""
    vhost = await call.vhost()
    return await answer_list(call, _visible(call, call.broker.connections.of_vhost(vhost.name)), CONNECTIONS)


async def connection(call: Call) -> dict[str, Any]:
    """One connection."""
    return CONNECTIONS.item(find_connections(call)[0], PublishView(call))


async def connection_channels(call: Call) -> Any:
    """The channels of one connection."""
    entries = channels_of(find_connections(call))
    return await answer_list(call, entries, CHANNELS)


async def connection_sessions(call: Call) -> list[Any]:
    """Sessions of AMQP 1.0: always empty."""
    find_connections(call)
    return []


async def user_connections(call: Call) -> Any:
    """The connections of one user, in short."""
    node = call.broker.node_name
    items = [
        {"name": one.name, "vhost": one.vhost_name, "user": one.username, "node": node}
        for one in _visible(call, call.broker.connections.of_user(call.part("user")))
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

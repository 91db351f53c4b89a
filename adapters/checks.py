"""What the connections of every adapter must do: for the tests of the bundled ones, and of adapters that plugins bring.

async def test_my_connections():
    async with running_broker_with_my_adapter() as broker:
        await check_connections(broker, log_in)

where `async with log_in():` is a client of the protocol that connects, logs in and leaves.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from typing import TYPE_CHECKING, Any

import trio
import trio.testing

from leveret.adapters.connection_listing import describe_channel, describe_connection
from leveret.core.connections import ClientConnection

if TYPE_CHECKING:
    from leveret.core.broker import Broker
__all__ = ["check_connections"]

GONE_S = 5.0
COLUMNS = {
    "auth_mechanism": str, "channel_max": int, "channels": int, "client_properties": dict, "connected_at": int,
    "frame_max": int, "host": str, "name": str, "peer_host": str, "peer_port": int, "port": int, "protocol": str,
    "recv_oct": int, "send_oct": int, "send_pend": int, "ssl": bool, "state": str, "timeout": int, "user": str,
    "vhost": str,
}  # fmt: skip
"""What every listing shows of a connection whose client has logged in, and its type."""


async def check_connections(broker: Broker, log_in: Callable[[], AbstractAsyncContextManager[Any]]) -> None:
    """Check one connection of an adapter from login to its end, and one that the broker closes.

    Args:
        broker: it runs, with the adapter; nobody else connects meanwhile.
        log_in: a client that is connected and logged in inside of the context. It must bear that the broker closes its
            connection.

    Raises AssertionError.
    """
    before, churn = len(broker.connections), broker.churn.connections_closed
    async with log_in():
        connection = _newest(broker, before)
        _check_attributes(connection)
        _check_counts(broker, connection)
        _check_listing(connection)
    await _until_gone(broker, connection)
    assert broker.churn.connections_closed == churn + 1, "discarded once"
    async with log_in():
        connection = _newest(broker, before)
        connection.close("the check closes it", code=320)
        await _until_gone(broker, connection)
    assert len(broker.connections) == before


def _newest(broker: Broker, before: int) -> ClientConnection:
    assert len(broker.connections) == before + 1, "Connections.add is called when a connection is accepted"
    return list(broker.connections)[-1]


def _check_attributes(connection: ClientConnection) -> None:
    assert connection.username, "the name of the user that has logged in"
    assert connection.vhost_name, "the name of the virtual host"
    assert connection.connected_at > 0, "milliseconds since 1970"
    assert connection.received_bytes > 0, "its login, at least"
    for number, channel in connection.channels.items():
        assert channel.number == number
        assert (channel.username, channel.vhost_name) == (connection.username, connection.vhost_name)
        assert min(channel.totals()) >= 0
    protocol, counters = connection.traffic()
    assert protocol, "the name of the protocol in metrics"
    assert (counters.bytes_received, counters.bytes_sent) == (
        connection.received_bytes,
        connection.sent_bytes,
    )


def _check_counts(broker: Broker, connection: ClientConnection) -> None:
    connections = broker.connections
    for group in (connections.of_user(connection.username), connections.of_vhost(connection.vhost_name)):
        assert connection in group, "Connections.log_in is called when a client has logged in"
        assert group.channel_count == sum(one.channel_count for one in group), (
            "channels are counted as they open"
        )
    assert connection in connections.named(connection.name)


def _check_listing(connection: ClientConnection) -> None:
    described = describe_connection(connection)
    for name, type in COLUMNS.items():
        assert isinstance(described[name], type), f"{name} is of type {type.__name__}"
    for extra in connection.details().extra:
        assert extra not in COLUMNS, f"'{extra}' is an attribute, not a column of its own"
    json.dumps([described, *map(describe_channel, connection.channels.values())], default=str)


async def _until_gone(broker: Broker, connection: ClientConnection) -> None:
    with trio.fail_after(GONE_S):
        while connection in broker.connections:
            await trio.testing.wait_all_tasks_blocked(0.001)
    for group in (
        broker.connections.of_user(connection.username),
        broker.connections.of_vhost(connection.vhost_name),
    ):
        assert connection not in group, "Connections.discard is called when it is gone"

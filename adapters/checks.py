"""What every adapter and its connections must do: for the tests of the bundled ones, and of adapters that plugins bring.

async def test_my_adapter():
    await check_adapter(MyAdapter)

async def test_my_connections():
    async with running_broker_with_my_adapter() as broker:
        await check_connections(broker, log_in)

where `async with log_in():` is a client of the protocol that connects, logs in and leaves.
"""

from __future__ import annotations

import contextlib
import json
import random
import socket
from collections.abc import Callable, Iterable
from contextlib import AbstractAsyncContextManager
from typing import Any

import trio
import trio.testing

from leveret.adapters.base import Adapter, Draining
from leveret.adapters.connection_listing import describe_channel, describe_connection
from leveret.adapters.transport import PlainTransport
from leveret.conf.checks import check_settings
from leveret.conf.settings import Settings
from leveret.core.broker import Broker
from leveret.core.connections import ClientConnection
from leveret.core.exchanges.direct import DirectExchange
from leveret.core.exchanges.fanout import FanoutExchange
from leveret.core.exchanges.headers import HeadersExchange
from leveret.core.exchanges.topic import TopicExchange
from leveret.core.registry import Registry
from leveret.core.store.memory import MemoryStore

__all__ = ["check_adapter", "check_connections"]

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


# -- an adapter as a whole

TIMEOUT_S = 30.0

# What any program may send to any port.
ODD_BYTES = (
    b"", b"\0", b"\xff" * 100, b"\n\n\n", b"GET / HTTP/1.1\r\n\r\n", b"AMQP\x00\x00\x09\x01", b"\x16\x03\x01\x02\0\x01\0",
    b"\x10\xff\xff\xff\xff", b"CONNECT\n\n\0", random.Random(1).randbytes(5000),
)  # fmt: skip


async def check_adapter(adapter_type: type[Adapter], hello: Iterable[bytes] = ()) -> None:
    """Its description; that it starts and stops; and that no peer's mistake, silence or leaving hurts it.

    hello: beginnings of correct conversations, each of which is broken off.
    """
    _check_description(adapter_type)
    broker = Broker(Settings(), _registry(), MemoryStore())
    async with broker.running(), trio.open_nursery() as nursery:
        adapter = adapter_type(broker)
        broker.adapters = [adapter]
        with trio.fail_after(TIMEOUT_S):
            await nursery.start(adapter.run)
            for data in (*ODD_BYTES, *hello):
                await _talk(adapter, [data])
                await _talk(adapter, [data[index : index + 1] for index in range(min(len(data), 200))])
                await _talk(adapter, [data], is_cancelled=True)
        assert not list(broker.connections), "connections are left that have ended"
        if isinstance(adapter, Draining):
            adapter.drain()
        nursery.cancel_scope.cancel()


def _check_description(adapter_type: type[Adapter]) -> None:
    assert adapter_type.name, "it has no name"
    assert adapter_type.login_protocol, "it has no name for logins"
    assert len(set(adapter_type.protocols)) == len(adapter_type.protocols) > 0, (
        "protocols must be named, each once"
    )
    names = [spec.name for spec in adapter_type.listeners]
    assert len(set(names)) == len(names) > 0, "listeners must be named, each once"
    for spec in adapter_type.listeners:
        assert spec.label, f"listener {spec.name} has no label"
        assert not spec.is_tls or spec.port is None, (
            f"listener {spec.name} needs a certificate: it cannot be open by default"
        )
    if adapter_type.settings_type is not None:
        check_settings(adapter_type.settings_type)


async def _talk(adapter: Adapter, pieces: Iterable[bytes], *, is_cancelled: bool = False) -> None:
    """Send, and leave; or have the broker end it instead. The adapter's task must end then, and never raise."""
    ours, theirs = socket.socketpair()
    theirs.setblocking(False)
    transport = PlainTransport(ours)
    ended = trio.Event()
    scope = trio.CancelScope()

    async def serve() -> None:
        try:
            with scope, contextlib.suppress(OSError):  # the peer is gone: the listener forgives it
                await adapter.serve(transport)
        finally:
            transport.close()
            ended.set()

    async with trio.open_nursery() as nursery:
        nursery.start_soon(serve)
        async with trio.SocketStream(trio.socket.from_stdlib_socket(theirs)) as stream:
            with contextlib.suppress(trio.BrokenResourceError):  # it has had enough
                for piece in pieces:
                    await stream.send_all(piece)
                    await trio.testing.wait_all_tasks_blocked()
            if is_cancelled:
                scope.cancel()
                await ended.wait()
        with trio.move_on_after(TIMEOUT_S):
            await ended.wait()
        assert ended.is_set(), "a connection does not end when its client leaves"


def _registry() -> Registry:
    registry = Registry()
    for made in (DirectExchange, FanoutExchange, HeadersExchange, TopicExchange):
        registry.register("exchanges", made.name, made)
    return registry

"""Connections of every adapter as the broker knows them: the shipped conformance check, and work that must not grow."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator, Callable
from dataclasses import replace
from typing import Any

import pytest
import trio
import trio.testing
from support import mqtt_wire
from support.connections import FakeConnection, connected
from support.in_process import HANDSHAKE, broker_in_process
from support.stomp_wire import connect_frame

from leveret.adapters.amqp.adapter import AmqpAdapter
from leveret.adapters.amqp.methods import ConnectionCloseOk, method_frame
from leveret.adapters.checks import check_connections
from leveret.adapters.http.adapter import HttpAdapter
from leveret.adapters.http.rates import CHANNEL, CONNECTION, VHOST, Rates
from leveret.adapters.http.settings import HttpSettings
from leveret.adapters.mqtt.adapter import MqttAdapter
from leveret.adapters.stomp.adapter import StompAdapter
from leveret.adapters.transport import Transport
from leveret.core.broker import Broker

NO_LOOKS = replace(HttpSettings(), rates_interval_s=0.0)
"""Only the test looks at the rates."""
CONNECTION_CLOSE = b"\x00\x0a\x00\x32"


class LineConnection(FakeConnection):
    """A stranger's: the first line it is sent logs in, and everything after that is ignored."""

    def __init__(self, broker: Broker, transport: Transport) -> None:
        super().__init__("line")
        self._broker, self._transport = broker, transport
        self._received = 0
        self.connected_at = broker.timers.wall_ms(broker.timers.now)

    @property
    def received_bytes(self) -> int:
        return self._received

    @property
    def sent_bytes(self) -> int:
        return 0

    def traffic(self) -> Any:
        protocol, counters = super().traffic()
        counters.bytes_received, counters.bytes_sent = self._received, 0
        return protocol, counters

    def close(self, reason: str, *, code: int = 320, is_shutdown: bool = False) -> None:
        self._transport.stop_reading()

    async def run(self) -> None:
        connections = self._broker.connections
        connections.add(self)
        try:
            while data := await self._transport.receive():
                self._received += len(data)
                self._username, self._vhost_name = "guest", "/"
                connections.log_in(self)
        finally:
            connections.discard(self)


class LineAdapter:
    name = "line"

    def __init__(self, broker: Broker) -> None:
        self._broker = broker

    async def run(self, *, task_status: trio.TaskStatus[None]) -> None:
        task_status.started()

    async def serve(self, transport: Transport) -> None:
        await LineConnection(self._broker, transport).run()


@pytest.mark.parametrize(
    ("adapter", "hello"),
    [
        (AmqpAdapter, HANDSHAKE),
        (MqttAdapter, mqtt_wire.connect(5, "me", username="guest", password="guest")),
        (StompAdapter, connect_frame()),
        (LineAdapter, b"hello\n"),
    ],
)
async def test_the_contract(adapter: Callable[[Broker], Any], hello: bytes) -> None:
    async with broker_in_process(adapter) as server, trio.open_nursery() as nursery:

        @contextlib.asynccontextmanager
        async def log_in() -> AsyncIterator[None]:
            stream, _, _ = server.connect()

            async def read() -> None:
                with contextlib.suppress(trio.BrokenResourceError, trio.ClosedResourceError):
                    async for data in stream:
                        if CONNECTION_CLOSE in data:
                            await stream.send_all(method_frame(0, ConnectionCloseOk()))

            await stream.send_all(hello)
            nursery.start_soon(read)
            await trio.testing.wait_all_tasks_blocked(0.01)
            yield
            await stream.aclose()

        await check_connections(server.broker, log_in)


async def test_a_look_at_the_rates_asks_each_connection_once_in_slices() -> None:
    async with broker_in_process(HttpAdapter, http=NO_LOOKS) as server:
        broker = server.broker
        names = [f"v{number}" for number in range(50)]
        for name in names:
            broker.add_vhost(name)
        there = [
            one for name in names for one in connected(broker.connections, 20, "guest", name, channels=1)
        ]
        rates = Rates(broker)
        turns = 0

        async def count_turns() -> None:
            nonlocal turns
            while True:
                await trio.lowlevel.checkpoint()
                turns += 1

        async with trio.open_nursery() as nursery:
            nursery.start_soon(count_turns)
            await rates.look()
            nursery.cancel_scope.cancel()
        assert turns >= 2 * len(there) // 256  # connections, and channels
        for one in there:
            assert (one.asked["received_bytes"], one.asked["sent_bytes"]) == (1, 1)
            assert one.asked["channels"] == 1
            assert not one.asked["details"]
            assert not one.asked["traffic"]
        series = rates.of_vhost("v7")
        assert series is not None
        row = dict(zip(VHOST.names, series.last, strict=True))
        assert (row["recv_oct"], row["send_oct"], row["confirm"]) == (200, 400, 40)
        assert dict(zip(VHOST.names, rates.all.last, strict=True))["recv_oct"] == 10_000
        for one in there:
            broker.connections.discard(one)


async def test_a_virtual_hosts_own_numbers_ask_its_connections_alone() -> None:
    async with broker_in_process(HttpAdapter, http=NO_LOOKS) as server:
        broker = server.broker
        broker.add_vhost("shop")
        others = connected(broker.connections, 1000, "guest", "/")
        mine = connected(broker.connections, 3, "guest", "shop")
        rates = Rates(broker)
        assert dict(zip(VHOST.names, rates.vhost_values("shop"), strict=True))["recv_oct"] == 30
        assert not any(one.asked for one in others)
        for one in mine + others:
            broker.connections.discard(one)


async def test_what_a_connection_counted_stays_with_its_virtual_host() -> None:
    async with broker_in_process(HttpAdapter, http=NO_LOOKS) as server:
        broker = server.broker
        early = FakeConnection("early")  # looked at before it logs in
        broker.connections.add(early)
        rates = Rates(broker)
        await rates.look()
        early._username, early._vhost_name = "guest", "/"
        broker.connections.log_in(early)
        rates.now_ms -= 1000
        await rates.look()
        assert rates.of(CONNECTION, early) is not None
        broker.connections.discard(early)
        rates.now_ms -= 1000
        await rates.look()
        assert rates.of(CONNECTION, early) is None
        assert not rates._series[CHANNEL]
        assert dict(zip(VHOST.names, rates.vhost_values("/"), strict=True))["recv_oct"] == 10
        series = rates.of_vhost("/")
        assert series is not None
        assert dict(zip(VHOST.names, series.last, strict=True))["recv_oct"] == 10

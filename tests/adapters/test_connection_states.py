"""A connection's states: which may follow which, and that every protocol passes through them."""

from __future__ import annotations

from dataclasses import replace
from itertools import product
from typing import ClassVar, NamedTuple

import pytest
import trio
import trio.testing
from support.in_process import HANDSHAKE, SCRIPT, broker_in_process

from leveret.adapters.amqp.adapter import AmqpAdapter
from leveret.adapters.connection import LEGAL_STEPS, Connection, ConnectionState, IllegalStep
from leveret.adapters.mqtt.adapter import MqttAdapter
from leveret.adapters.stomp.adapter import StompAdapter
from leveret.auth.chain import AuthChain
from leveret.auth.contracts import Permission, Principal, Resource
from leveret.conf.settings import Settings

AnyAdapter = type[AmqpAdapter] | type[MqttAdapter] | type[StompAdapter]


class Talk(NamedTuple):
    """What a client says to log in and to publish, and what it hears if a backend does not answer."""

    hello: bytes
    publish: bytes
    no_answer: bytes


PROTOCOLS = pytest.mark.parametrize(
    ("adapter", "talk"),
    [
        (
            AmqpAdapter,
            Talk(HANDSHAKE, SCRIPT, b"INTERNAL_ERROR - an authorization backend did not answer in time"),
        ),
        (
            MqttAdapter,
            Talk(
                b"\x10\x1e\x00\x04MQTT\x05\xc2\x00\x00\x00\x00\x03one\x00\x05guest\x00\x05guest",
                b"\x30\x05\x00\x01t\x00x",
                b"\x89",  # Server busy
            ),
        ),
        (
            StompAdapter,
            Talk(
                b"CONNECT\nlogin:guest\npasscode:guest\nhost:/\naccept-version:1.2\n\n\0",
                b"SEND\ndestination:/queue/q\n\nx\0",
                b"INTERNAL_ERROR - an authorization backend did not answer in time",
            ),
        ),
    ],
    ids=["amqp", "mqtt", "stomp"],
)


@pytest.mark.parametrize(("before", "after"), list(product(ConnectionState, repeat=2)))
def test_only_steps_of_the_table_are_taken(before: ConnectionState, after: ConnectionState) -> None:
    connection = Connection.__new__(Connection)
    connection.state = before
    if after in LEGAL_STEPS[before]:
        connection.move_to(after)
        assert connection.state is after
    else:
        with pytest.raises(IllegalStep, match=f"from {before} to {after}"):
            connection.move_to(after)
        assert connection.state is before


def test_every_state_can_end_and_none_goes_back() -> None:
    order = list(ConnectionState)
    for state, following in LEGAL_STEPS.items():
        assert ConnectionState.CLOSED in following
        assert all(order.index(after) >= order.index(state) for after in following)


@PROTOCOLS
async def test_from_accept_to_the_end(
    adapter: AnyAdapter, talk: Talk, monkeypatch: pytest.MonkeyPatch
) -> None:
    steps: list[str] = []
    running = trio.Event()
    move_to = Connection.move_to

    def record(self: Connection, state: ConnectionState) -> None:
        steps.append(state)
        move_to(self, state)
        if state is ConnectionState.RUNNING:
            running.set()

    monkeypatch.setattr(Connection, "move_to", record)
    async with broker_in_process(adapter) as server:
        client, _, ended = server.connect()
        await client.send_all(talk.hello)
        with trio.fail_after(5):
            await running.wait()
            (connection,) = server.broker.connections
            assert connection.state == "running"
            connection.close("CONNECTION_FORCED")
            assert connection.state in ("closing", "closed")
            await client.aclose()
            await ended.wait()
        assert connection.state == "closed"
    assert steps[: steps.index("running")] == (["tuning", "opening"] if adapter is AmqpAdapter else [])


class Elsewhere:
    """Allows the virtual host at once, and answers other questions after `delay_s`."""

    name: ClassVar[str] = "elsewhere"
    settings_type: ClassVar[type | None] = None
    delay_s = 3600.0

    async def authorize(
        self, principal: Principal, vhost: str, permission: Permission | None, resource: Resource
    ) -> bool:
        if resource.kind != "vhost":
            await trio.sleep(self.delay_s)
        return True


@PROTOCOLS
async def test_a_backend_has_a_time_limit(
    adapter: AnyAdapter, talk: Talk, autojump_clock: trio.testing.MockClock
) -> None:
    async with broker_in_process(adapter, auth=replace(Settings().auth, backend_timeout_s=7.0)) as server:
        server.broker.auth = AuthChain([server.broker.users], [Elsewhere()])
        client, _, ended = server.connect()
        await client.send_all(talk.hello)
        await trio.testing.wait_all_tasks_blocked(0.01)
        asked_at = trio.current_time()
        await client.send_all(talk.publish)
        received = b""
        while talk.no_answer not in received:
            data = await client.receive_some()
            assert data, received
            received += data
        assert trio.current_time() - asked_at == pytest.approx(7.0, abs=0.5)
        await client.aclose()
        await ended.wait()

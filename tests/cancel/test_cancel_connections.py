"""A connection of any protocol can be cancelled wherever it waits, and leaves nothing behind but an MQTT session."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any

import pytest
import trio
import trio.testing
from support import mqtt_script
from support.in_process import HANDSHAKE, SCRIPT, InProcess, audit, broker_in_process
from support.stomp_wire import connect_frame, frame

from leveret.adapters.amqp.adapter import AmqpAdapter
from leveret.adapters.mqtt.adapter import MqttAdapter
from leveret.adapters.stomp.adapter import StompAdapter

STOMP_SCRIPT = (
    connect_frame()
    + b"".join(
        frame("SEND", f"{number:04}", destination="/queue/script", persistent="true", receipt=number)
        for number in range(5)
    )
    + frame("SUBSCRIBE", id=0, destination="/queue/script", ack="client", receipt="s")
    + frame("SUBSCRIBE", id=1, destination="/topic/t", exclusive="true")
    + frame("SEND", "request", destination="/topic/t", reply_to="/temp-queue/r")
    + frame("BEGIN", transaction="t")
    + frame("SEND", "never", destination="/queue/script", transaction="t")
)


async def all_published_is_left(server: InProcess) -> None:
    """However the sessions ended; and nothing of open transactions."""
    queues = server.broker.vhosts["/"].queues
    assert list(queues) == ["script"]
    bodies = set()
    while (message := queues["script"].get(no_ack=True)) is not None:
        bodies.add(message.body)
    assert bodies == {b"%04d" % number for number in range(5)}


def sessions_are_detached(server: InProcess) -> None:
    assert server.adapter.statistics.clients_connected == 0
    for session in server.adapter.sessions.values():
        assert session.connection is None
        assert session.delivery is None


async def only_the_session_is_left(server: InProcess, expiry_s: int) -> None:
    assert len(server.adapter.sessions) == (1 if expiry_s else 0)
    assert server.adapter.retained.get("/", "script/kept") is not None
    left = [name for name in server.broker.vhosts["/"].queues if "mqtt" in name]
    assert len(left) <= (2 if expiry_s else 0), left
    await server.talk(mqtt_script.connect("script", clean=True) + mqtt_script.disconnect())
    assert not server.adapter.sessions
    assert not server.broker.vhosts["/"].queues


async def nothing_is_left(server: InProcess) -> None:
    await only_the_session_is_left(server, 0)


async def a_session_is_left(server: InProcess) -> None:
    await only_the_session_is_left(server, 60)


@dataclass(frozen=True)
class Case:
    """What a client says, how it is cut into pieces, and what must hold after each connection and after all."""

    adapter: type[Any]
    said: tuple[bytes, ...]
    pieces: tuple[int, ...]
    after_all: Callable[[InProcess], Awaitable[None]]
    after_each: Callable[[InProcess], None] = lambda _: None


CASES = {
    "amqp": Case(AmqpAdapter, (HANDSHAKE + SCRIPT,), (1000, 40), all_published_is_left),
    "mqtt": Case(
        MqttAdapter,
        (mqtt_script.script(expiry_s=0),),
        (2000, 60),
        nothing_is_left,
        sessions_are_detached,
    ),
    "mqtt-durable-session": Case(
        MqttAdapter,
        (mqtt_script.script(expiry_s=60),),
        (2000, 60),
        a_session_is_left,
        sessions_are_detached,
    ),
    "stomp": Case(
        StompAdapter,
        tuple(STOMP_SCRIPT + end for end in (b"", frame("DISCONNECT", receipt=9), frame("FOO"))),
        (2000, 100),
        all_published_is_left,
    ),
}


class CancelAtStep(trio.abc.Instrument):
    """Cancels a scope when a task whose name holds `name` is about to take its n-th step."""

    def __init__(self, name: str, step: int, scope: trio.CancelScope) -> None:
        self.name, self.left, self.scope = name, step, scope
        self.has_fired = False

    def before_task_step(self, task: trio.lowlevel.Task) -> None:
        if self.name in task.name:
            self.left -= 1
            if self.left == 0:
                self.has_fired = True
                self.scope.cancel()


async def cancelled_at(server: InProcess, data: bytes, step: int, piece: int) -> bool:
    """Serve one connection, cancelled at that step of its task. False: it was over before."""
    stream, scope, ended = server.connect()
    instrument = CancelAtStep("InProcess.connect.<locals>.serve", step, scope)
    trio.lowlevel.add_instrument(instrument)
    try:
        for start in range(0, len(data), piece):
            try:
                await stream.send_all(data[start : start + piece])
            except trio.BrokenResourceError:
                break
            await trio.testing.wait_all_tasks_blocked(0.001)
        await stream.aclose()
        with trio.fail_after(5):
            await ended.wait()
    finally:
        trio.lowlevel.remove_instrument(instrument)
    return instrument.has_fired


@pytest.mark.parametrize("case", CASES.values(), ids=CASES)
async def test_cancelled_at_every_step(case: Case) -> None:
    async with broker_in_process(case.adapter) as server:
        for data in case.said:
            for piece in case.pieces:
                step = 1
                while await cancelled_at(server, data, step, piece):
                    audit(server.broker)
                    case.after_each(server)
                    step += 1
                assert step > 3
        await case.after_all(server)


@pytest.mark.parametrize(
    ("adapter", "said"),
    [
        (AmqpAdapter, [HANDSHAKE + SCRIPT] * 10),
        (MqttAdapter, [mqtt_script.script(f"c{number}", expiry_s=0) for number in range(10)]),
        (StompAdapter, [STOMP_SCRIPT] * 10),
    ],
    ids=["amqp", "mqtt", "stomp"],
)
async def test_the_broker_cancelled_with_connections_open(adapter: type[Any], said: list[bytes]) -> None:
    async with broker_in_process(adapter) as server:
        streams = [server.connect()[0] for _ in said]
        for stream, data in zip(streams, said, strict=True):
            await stream.send_all(data)
        await trio.testing.wait_all_tasks_blocked(0.01)
        assert len(server.broker.connections) == 10
    for stream in streams:
        await stream.aclose()

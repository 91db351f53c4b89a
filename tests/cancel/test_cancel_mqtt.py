"""An MQTT connection can be cancelled wherever it waits, and leaves nothing behind but its session."""

from __future__ import annotations

import pytest
import trio
import trio.testing
from support.in_process import InProcess, audit, broker_in_process
from support.mqtt_script import connect, disconnect, script, subscribe

from leveret.adapters.mqtt.adapter import MqttAdapter
from leveret.adapters.mqtt.settings import MqttSettings


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


async def one(server: InProcess, data: bytes, step: int, piece: int) -> bool:
    """One connection, cancelled at that step of its task; False: it was over before."""
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


def check(server: InProcess) -> None:
    """No connection, no consumer, no unsettled delivery; sessions are there, without a client."""
    audit(server.broker)
    assert server.adapter.statistics.clients_connected == 0
    for session in server.adapter.sessions.values():
        assert session.connection is None
        assert session.delivery is None


@pytest.mark.parametrize("expiry_s", [0, 60])
async def test_cancelled_at_every_step(expiry_s: int) -> None:
    async with broker_in_process(MqttAdapter) as server:
        for piece in (2000, 60):
            step = 1
            while await one(server, script(expiry_s=expiry_s), step, piece):
                check(server)
                step += 1
            assert step > 3
        assert len(server.adapter.sessions) == (1 if expiry_s else 0)
        # However each of them ended: their will was published, retained is retained, and nobody's queue is left.
        assert server.adapter.retained.get("/", "script/kept") is not None
        left = [name for name in server.broker.vhosts["/"].queues if "mqtt" in name]
        assert len(left) <= (2 if expiry_s else 0), left
        await server.talk(connect("script", clean=True) + disconnect())
        assert not server.adapter.sessions
        assert not server.broker.vhosts["/"].queues


async def test_the_broker_cancelled_with_connections_open() -> None:
    async with broker_in_process(MqttAdapter) as server:
        streams = [server.connect()[0] for _ in range(10)]
        for number, stream in enumerate(streams):
            await stream.send_all(script(f"c{number}", expiry_s=0))
        await trio.testing.wait_all_tasks_blocked(0.01)
        assert len(server.broker.connections) == 10
    for stream in streams:
        await stream.aclose()


async def test_a_client_that_never_reads_costs_a_bounded_number_of_bytes() -> None:
    """QoS 0 to a slow consumer is dropped and counted; QoS 1 waits in the queue."""
    from leveret.adapters.mqtt.packets import publish

    async with broker_in_process(MqttAdapter) as server:
        slow, _, _ = server.connect()
        await slow.send_all(connect("slow") + subscribe(("zero", 0), ("one", 1)))
        await trio.testing.wait_all_tasks_blocked(0.01)
        body = b"x" * 10_000
        fast, _, _ = server.connect()
        await fast.send_all(connect("fast"))
        for _ in range(100):
            await fast.send_all(publish(5, "zero", body) * 10 + publish(5, "one", body, 1, packet_id=1))
        await trio.testing.wait_all_tasks_blocked(0.01)
        session = server.adapter.sessions["/", "slow"]
        connection = session.connection
        limit = MqttSettings.of(server.broker.settings).outbox_bytes
        assert limit < connection.outbox.bytes < limit + 500_000
        assert session.dropped_total > 500
        assert server.adapter.statistics.publish_dropped == session.dropped_total
        assert session.queue.message_count + session.queue.unacked_count == 100
        await slow.aclose()
        await fast.aclose()
        await trio.testing.wait_all_tasks_blocked(0.01)


async def test_a_thousand_subscribers_cost_one_encoding(monkeypatch: pytest.MonkeyPatch) -> None:
    from leveret.adapters.mqtt import publish_view
    from leveret.adapters.mqtt.packets import publish

    encoded = 0
    original = publish_view.encode_remaining_length

    def counting(size: int) -> bytes:
        nonlocal encoded
        encoded += 1
        return original(size)

    async with broker_in_process(MqttAdapter) as server:
        streams = []
        for number in range(300):
            stream, _, _ = server.connect()
            await stream.send_all(connect(f"s{number}", 4) + subscribe(("fan/+", 0), version=4))
            streams.append(stream)
        await trio.testing.wait_all_tasks_blocked(0.02)
        publisher, _, _ = server.connect()
        await publisher.send_all(connect("p", 4))
        await trio.testing.wait_all_tasks_blocked(0.01)
        monkeypatch.setattr(publish_view, "encode_remaining_length", counting)
        await publisher.send_all(publish(4, "fan/1", b"to all"))
        await trio.testing.wait_all_tasks_blocked(0.01)
        assert encoded == 1
        for stream in streams:
            assert (await stream.receive_some()).endswith(b"to all")
        for stream in [*streams, publisher]:
            await stream.aclose()
        await trio.testing.wait_all_tasks_blocked(0.02)


async def test_a_filter_of_thousands_of_levels_is_refused() -> None:
    """Each level of a binding is a node of the exchange: 64 KiB must not become 20 MiB."""
    async with broker_in_process(MqttAdapter) as server:
        deep = "/".join("a" * 201)
        answer = await server.talk(
            connect("deep", 5) + subscribe((deep + "/b", 0), (deep[:399], 0)) + disconnect()
        )
        assert b"\x90\x05\x00\x01\x00\x8f\x00" in answer

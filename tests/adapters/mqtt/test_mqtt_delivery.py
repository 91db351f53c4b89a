"""MQTT delivery: what slow subscribers, many subscribers and deep filters may cost."""

from __future__ import annotations

import pytest
import trio
import trio.testing
from support.in_process import broker_in_process
from support.mqtt_script import connect, disconnect, subscribe

from leveret.adapters.mqtt import publish_view
from leveret.adapters.mqtt.adapter import MqttAdapter
from leveret.adapters.mqtt.packets import ack, encode_remaining_length, publish
from leveret.adapters.mqtt.settings import MqttSettings
from leveret.adapters.mqtt.spec import PacketType


async def test_a_client_that_never_reads_costs_a_bounded_number_of_bytes() -> None:
    """QoS 0 to a slow consumer is dropped and counted; QoS 1 waits in the queue."""
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
    encoded = 0

    def counting(size: int) -> bytes:
        nonlocal encoded
        encoded += 1
        return encode_remaining_length(size)

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


async def test_a_client_that_never_published_may_release_and_is_counted() -> None:
    """What publishing needs is created at its first use; PUBREL of a resumed session may be that use."""
    async with broker_in_process(MqttAdapter) as server:
        stream, _, _ = server.connect()
        await stream.send_all(connect("idle", 5))
        await trio.testing.wait_all_tasks_blocked(0.01)
        (connection,) = server.broker.connections
        _, counters = connection.traffic()
        assert (counters.received, counters.routed, counters.publishers) == (0, 0, 0)
        await stream.receive_some()
        await stream.send_all(ack(PacketType.PUBREL, 7, 5))
        with trio.fail_after(5):
            answer = await stream.receive_some()
        assert answer == b"\x70\x03\x00\x07\x92"  # PUBCOMP, packet identifier not found
        await stream.send_all(publish(5, "t", b"x") + ack(PacketType.PUBREL, 8, 5))
        await stream.receive_some()
        _, counters = connection.traffic()
        assert (counters.received, counters.dropped, counters.publishers) == (1, 1, 1)
        await stream.aclose()
        await trio.testing.wait_all_tasks_blocked(0.01)

"""The law: whatever bytes a peer sends, its own connection suffers, and nothing else."""

from __future__ import annotations

import logging
import random

import pytest
from support.in_process import InProcess, audit, broker_in_process
from support.mqtt_script import connect, disconnect, script, subscribe

from leveret.adapters.mqtt.adapter import MqttAdapter
from leveret.adapters.mqtt.packets import publish
from leveret.adapters.mqtt.property_codec import varint

ROUNDS = 120


def check(caplog: pytest.LogCaptureFixture) -> None:
    """An error that the connection did not expect is logged as internal: there must be none."""
    assert not [
        record for record in caplog.records if record.exc_info or "internal error" in record.getMessage()
    ]
    caplog.clear()


async def still_serves(server: InProcess) -> None:
    said = connect("still") + subscribe(("still", 1)) + publish(5, "still", b"served", 1, packet_id=1)
    answer = await server.talk(said + disconnect())
    assert answer.count(b"served") == 1


@pytest.mark.parametrize("piece", [0, 1])
@pytest.mark.parametrize("version", [3, 4, 5])
async def test_noise_at_any_stage(caplog: pytest.LogCaptureFixture, version: int, piece: int) -> None:
    caplog.set_level(logging.ERROR)
    noise = random.Random(20261121 + version)
    async with broker_in_process(MqttAdapter) as server:
        for _ in range(ROUNDS // 2):
            begun = noise.choice([b"", connect("noise", version), script("noise", version)])
            await server.talk(begun + noise.randbytes(noise.randrange(200)), piece=piece)
            check(caplog)
        audit(server.broker)
        await still_serves(server)


@pytest.mark.parametrize("piece", [0, 7])
@pytest.mark.parametrize("version", [4, 5])
async def test_mutated_sessions(caplog: pytest.LogCaptureFixture, version: int, piece: int) -> None:
    """A proper session with a few wrong bytes, or with a part missing or doubled."""
    caplog.set_level(logging.ERROR)
    noise = random.Random(1)
    async with broker_in_process(MqttAdapter) as server:
        for _ in range(ROUNDS):
            data = bytearray(script("mutated", version))
            for _ in range(noise.randrange(1, 4)):
                at = noise.randrange(len(data))
                match noise.randrange(3):
                    case 0:
                        data[at] = noise.randrange(256)
                    case 1:
                        del data[at : at + noise.randrange(1, 30)]
                    case _:
                        data[at:at] = data[at : at + noise.randrange(1, 60)]
            await server.talk(bytes(data), piece=piece)
            check(caplog)
        audit(server.broker)
        await still_serves(server)


async def test_every_packet_type_with_noise_for_a_payload(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.ERROR)
    noise = random.Random(2)
    async with broker_in_process(MqttAdapter) as server:
        for version in (3, 4, 5):
            for first in range(256):
                payload = noise.randbytes(noise.randrange(40))
                await server.talk(
                    connect("types", version) + bytes((first,)) + varint(len(payload)) + payload
                )
                check(caplog)
        audit(server.broker)
        await still_serves(server)

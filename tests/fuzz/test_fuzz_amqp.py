"""The law: whatever bytes a peer sends, its own connection suffers, and nothing else."""

from __future__ import annotations

import logging
import random

import pytest
from support.in_process import HANDSHAKE, SCRIPT, audit, broker_in_process

from leveret.adapters.amqp.methods import METHODS, method_frame

ROUNDS = 150


def check(caplog: pytest.LogCaptureFixture) -> None:
    """An error that the connection did not expect is logged as internal: there must be none."""
    assert not [
        record for record in caplog.records if record.exc_info or "internal error" in record.getMessage()
    ]
    caplog.clear()


async def still_serves(server: object) -> None:
    answer = await server.talk(HANDSHAKE + SCRIPT)  # type: ignore[attr-defined]
    assert answer.count(b"\x00\x32\x00\x0b") == 2  # both queue.declare-ok
    assert b"0004" in answer


@pytest.mark.parametrize("piece", [0, 1])
async def test_noise_at_any_stage(caplog: pytest.LogCaptureFixture, piece: int) -> None:
    caplog.set_level(logging.ERROR)
    noise = random.Random(20261121)
    async with broker_in_process() as server:
        for _ in range(ROUNDS):
            begun = HANDSHAKE[: noise.choice([0, 8, len(HANDSHAKE)])]
            await server.talk(begun + noise.randbytes(noise.randrange(200)), piece=piece)
            check(caplog)
        audit(server.broker)
        await still_serves(server)


@pytest.mark.parametrize("piece", [0, 7])
async def test_mutated_sessions(caplog: pytest.LogCaptureFixture, piece: int) -> None:
    """A proper session with a few wrong bytes, or with a part missing or doubled."""
    caplog.set_level(logging.ERROR)
    noise = random.Random(1)
    async with broker_in_process() as server:
        for _ in range(ROUNDS):
            data = bytearray(HANDSHAKE + SCRIPT)
            for _ in range(noise.randrange(1, 4)):
                at = noise.randrange(8, len(data))
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


async def test_every_method_with_noise_for_arguments(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.ERROR)
    noise = random.Random(2)
    async with broker_in_process() as server:
        for kind in METHODS.values():
            for channel in (0, 1, 2):
                plain = method_frame(channel, kind())
                await server.talk(HANDSHAKE + plain)
                payload = plain[7:11] + noise.randbytes(noise.randrange(60))
                frame = plain[:3] + len(payload).to_bytes(4, "big") + payload + b"\xce"
                await server.talk(HANDSHAKE + frame)
                check(caplog)
        audit(server.broker)
        await still_serves(server)

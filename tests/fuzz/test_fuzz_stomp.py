"""The law: whatever bytes a peer sends, its own connection suffers, and nothing else."""

from __future__ import annotations

import logging
import random
import re

import pytest
from support.in_process import InProcess, audit, broker_in_process
from support.stomp_wire import connect_frame, frame, frames_of

from leveret.adapters.stomp.adapter import StompAdapter

ROUNDS = 150
CONNECT = connect_frame("1.0,1.1,1.2")
SCRIPT = (
    frame("SEND", "1", destination="/queue/script", content_length=1, persistent="true", receipt="a")
    + frame("SEND", "22", destination="/queue/script", content_length=2)
    + frame("SEND", "22", destination="/queue/script", content_length=2)
    + frame("SEND", "text", destination="/topic/t", foo="b\\car")
    + frame("SUBSCRIBE", id=0, destination="/queue/script", ack="client-individual", prefetch_count=2)
    + frame("SUBSCRIBE", id=1, destination="/topic/t", exclusive="true")
    + frame("SUBSCRIBE", id=2, destination="/topic/u", durable="true", auto_delete="true")
    + frame("BEGIN", transaction="t")
    + frame("SEND", "in t", destination="/topic/t", transaction="t", reply_to="/temp-queue/r")
    + frame("COMMIT", transaction="t")
    + frame("UNSUBSCRIBE", id=2, durable="true")
    + b"\n\r\n"
    + frame("SEND", "last", destination="/topic/t", receipt="b")
)
ACKS = frame("ACK", id=1) + frame("NACK", id=2) + frame("NACK", id=3, requeue="false") + frame("ACK", id=2)
NAMES = """id destination ack message-id subscription receipt transaction content-length requeue durable auto-delete
exclusive prefetch-count x-priority x-queue-name x-message-ttl x-max-priority x-queue-type x-overflow x-delivery-limit
x-dead-letter-exchange persistent priority expiration timestamp reply-to user-id CC heart-beat accept-version login host
selector"""
COMMANDS = "SEND SUBSCRIBE UNSUBSCRIBE ACK NACK BEGIN COMMIT ABORT DISCONNECT CONNECT STOMP MESSAGE"


def check(caplog: pytest.LogCaptureFixture, answer: bytes = b"") -> None:
    """An error that the connection did not expect is logged as internal: there must be none."""
    assert not [
        record for record in caplog.records if record.exc_info or "internal error" in record.getMessage()
    ]
    caplog.clear()
    errors = answer.count(b"ERROR\nmessage:") - answer.count(b"ERROR\nmessage:Server cancelled")
    assert errors <= 1
    if errors:
        last = answer[answer.rindex(b"ERROR\nmessage:") :]
        assert last.endswith(b"\0\n")
        assert last.count(b"\0\n") == 1  # nothing behind it


async def still_serves(server: InProcess) -> None:
    vhost = server.broker.vhosts["/"]
    for queue in list(vhost.queues.values()):  # some may have been declared otherwise than the script does
        vhost.remove_queue(queue)
    answer = frames_of(await server.talk(CONNECT + SCRIPT))
    assert [one["receipt-id"] for one in answer if one.command == "RECEIPT"] == ["a", "b"]
    assert "last" in [one.body.decode() for one in answer]
    assert not [one for one in answer if one.command == "ERROR"], answer


@pytest.mark.parametrize("piece", [0, 1])
async def test_noise_at_any_stage(caplog: pytest.LogCaptureFixture, piece: int) -> None:
    caplog.set_level(logging.ERROR)
    noise = random.Random(20261121)
    async with broker_in_process(StompAdapter) as server:
        for _ in range(ROUNDS):
            begun = (CONNECT + b"SEND\ndestination:/queue/a\n\n")[: noise.choice([0, 8, len(CONNECT), 999])]
            alphabet = noise.choice([None, b"\n\0:\\SENDACK\rid1", b"\n\0\r "])
            size = noise.randrange(200)
            data = noise.randbytes(size) if alphabet is None else bytes(noise.choices(alphabet, k=size))
            check(caplog, await server.talk(begun + data, piece=piece))
        audit(server.broker)
        await still_serves(server)


@pytest.mark.parametrize("piece", [0, 7])
async def test_mutated_sessions(caplog: pytest.LogCaptureFixture, piece: int) -> None:
    """A proper session with a few wrong bytes, or with a part missing or doubled."""
    caplog.set_level(logging.ERROR)
    noise = random.Random(1)
    async with broker_in_process(StompAdapter) as server:
        for _ in range(ROUNDS):
            data = bytearray(CONNECT + SCRIPT + ACKS + SCRIPT)
            for _ in range(noise.randrange(1, 4)):
                at = noise.randrange(8, len(data))
                match noise.randrange(4):
                    case 0:
                        data[at] = noise.randrange(256)
                    case 1:
                        data[at] = noise.choice(b"\n\0:\\\r")
                    case 2:
                        del data[at : at + noise.randrange(1, 30)]
                    case _:
                        data[at:at] = data[at : at + noise.randrange(1, 60)]
            check(caplog, await server.talk(bytes(data), piece=piece))
        audit(server.broker)
        await still_serves(server)


async def test_every_command_with_odd_headers(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.ERROR)
    noise = random.Random(2)
    names = re.split(r"\s+", NAMES)
    values = (
        "0", "-1", "1", "true", "false", "99999999999999999999", "x" * 300, "/queue/a", "/topic/a.#", "/exchange/amq.topic/k",
        "/exchange/", "/temp-queue/t", "/reply-queue/a", "/amq/queue/a", "", " ", "\\c", "\\x", "quorum", "client", "@@", "1@@2@@3",
        "guest", "\udcff\udcfe", "a = 1",
    )  # fmt: skip
    commands = re.split(r"\s+", COMMANDS)
    async with broker_in_process(StompAdapter) as server:
        for _ in range(ROUNDS * 2):
            data = CONNECT.replace(b"1.0,1.1,1.2", noise.choice([b"1.0", b"1.1", b"1.2"]))
            for _ in range(6):
                chosen = noise.sample(names, noise.randrange(6))
                headers = {name: noise.choice(values) for name in chosen} | {
                    "destination": noise.choice(values)
                }
                data += frame(noise.choice(commands), noise.choice([b"", b"x", b"\xff\0"]), **headers)
            check(caplog, await server.talk(data))
        audit(server.broker)
        await still_serves(server)

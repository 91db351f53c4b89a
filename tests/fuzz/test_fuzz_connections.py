"""Whatever bytes a client of any protocol sends, its own connection suffers, and nothing else.

The parsers alone are fuzzed in the files beside this one.
"""

from __future__ import annotations

import logging
import random
import re
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import dataclass
from typing import Any

import pytest
from support import mqtt_script
from support.in_process import HANDSHAKE, SCRIPT, InProcess, audit, broker_in_process
from support.stomp_wire import connect_frame, frame, frames_of

from leveret.adapters.amqp.adapter import AmqpAdapter
from leveret.adapters.amqp.methods import METHODS, method_frame
from leveret.adapters.mqtt.adapter import MqttAdapter
from leveret.adapters.mqtt.packets import publish
from leveret.adapters.mqtt.property_codec import varint
from leveret.adapters.stomp.adapter import StompAdapter

ROUNDS = 150
STOMP_CONNECT = connect_frame("1.0,1.1,1.2")
STOMP_SCRIPT = (
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
VALUES = (
    "0", "-1", "1", "true", "false", "99999999999999999999", "x" * 300, "/queue/a", "/topic/a.#", "/exchange/amq.topic/k",
    "/exchange/", "/temp-queue/t", "/reply-queue/a", "/amq/queue/a", "", " ", "\\c", "\\x", "quorum", "client", "@@", "1@@2@@3",
    "guest", "\udcff\udcfe", "a = 1",
)  # fmt: skip


# -- AMQP


async def amqp_still_serves(server: InProcess) -> None:
    answer = await server.talk(HANDSHAKE + SCRIPT)
    assert answer.count(b"\x00\x32\x00\x0b") == 2  # both queue.declare-ok
    assert b"0004" in answer


def every_method(noise: random.Random) -> Iterator[bytes]:
    """Each method as it should be, and with noise for its arguments."""
    for kind in METHODS.values():
        for channel in (0, 1, 2):
            plain = method_frame(channel, kind())
            yield HANDSHAKE + plain
            payload = plain[7:11] + noise.randbytes(noise.randrange(60))
            yield HANDSHAKE + plain[:3] + len(payload).to_bytes(4, "big") + payload + b"\xce"


# -- MQTT


async def mqtt_still_serves(server: InProcess) -> None:
    said = mqtt_script.connect("still") + mqtt_script.subscribe(("still", 1))
    said += publish(5, "still", b"served", 1, packet_id=1)
    answer = await server.talk(said + mqtt_script.disconnect())
    assert answer.count(b"served") == 1


def every_packet_type(noise: random.Random) -> Iterator[bytes]:
    for version in (3, 4, 5):
        for first in range(256):
            payload = noise.randbytes(noise.randrange(40))
            yield mqtt_script.connect("types", version) + bytes((first,)) + varint(len(payload)) + payload


# -- STOMP


def one_error_at_most(answer: bytes) -> None:
    """And it is the last that the client is told."""
    errors = answer.count(b"ERROR\nmessage:") - answer.count(b"ERROR\nmessage:Server cancelled")
    assert errors <= 1
    if errors:
        last = answer[answer.rindex(b"ERROR\nmessage:") :]
        assert last.endswith(b"\0\n")
        assert last.count(b"\0\n") == 1


async def stomp_still_serves(server: InProcess) -> None:
    vhost = server.broker.vhosts["/"]
    for queue in list(vhost.queues.values()):  # some may have been declared otherwise than the script does
        vhost.remove_queue(queue)
    answer = frames_of(await server.talk(STOMP_CONNECT + STOMP_SCRIPT))
    assert [one["receipt-id"] for one in answer if one.command == "RECEIPT"] == ["a", "b"]
    assert "last" in [one.body.decode() for one in answer]
    assert not [one for one in answer if one.command == "ERROR"], answer


def every_command(noise: random.Random) -> Iterator[bytes]:
    """Each command with headers that belong to others, and with odd values."""
    names, commands = re.split(r"\s+", NAMES), re.split(r"\s+", COMMANDS)
    for _ in range(ROUNDS * 2):
        data = STOMP_CONNECT.replace(b"1.0,1.1,1.2", noise.choice([b"1.0", b"1.1", b"1.2"]))
        for _ in range(6):
            chosen = noise.sample(names, noise.randrange(6))
            headers = {name: noise.choice(VALUES) for name in chosen}
            headers["destination"] = noise.choice(VALUES)
            data += frame(noise.choice(commands), noise.choice([b"", b"x", b"\xff\0"]), **headers)
        yield data


# -- all of them


@dataclass(frozen=True)
class Target:
    """A protocol, and what is known of it.

    begun        how far a client may have got before it sends noise
    session      a proper session, to be mutated; its first `kept` bytes are left alone
    alphabets    bytes that the parser looks for; noise is made of them, too
    """

    adapter: type[Any]
    begun: tuple[bytes, ...]
    session: bytes
    every_request: Callable[[random.Random], Iterator[bytes]]
    still_serves: Callable[[InProcess], Awaitable[None]]
    check_answer: Callable[[bytes], None] = lambda _: None
    kept: int = 0
    alphabets: tuple[bytes, ...] = ()


def mqtt(version: int) -> Target:
    return Target(
        MqttAdapter,
        (b"", mqtt_script.connect("noise", version), mqtt_script.script("noise", version)),
        mqtt_script.script("mutated", version),
        every_packet_type,
        mqtt_still_serves,
    )


TARGETS = {
    "amqp": Target(
        AmqpAdapter,
        (b"", HANDSHAKE[:8], HANDSHAKE),
        HANDSHAKE + SCRIPT,
        every_method,
        amqp_still_serves,
        kept=8,
    ),
    "mqtt-3.1": mqtt(3),
    "mqtt-3.1.1": mqtt(4),
    "mqtt-5": mqtt(5),
    "stomp": Target(
        StompAdapter,
        (b"", STOMP_CONNECT[:8], STOMP_CONNECT, STOMP_CONNECT + b"SEND\ndestination:/queue/a\n\n"),
        STOMP_CONNECT + STOMP_SCRIPT + ACKS + STOMP_SCRIPT,
        every_command,
        stomp_still_serves,
        one_error_at_most,
        kept=8,
        alphabets=(b"\n\0:\\SENDACK\rid1", b"\n\0\r "),
    ),
}
PROTOCOLS = pytest.mark.parametrize("target", TARGETS.values(), ids=TARGETS)


def mutated(session: bytes, kept: int, alphabets: tuple[bytes, ...], noise: random.Random) -> bytes:
    """A few wrong bytes, or a part missing or doubled."""
    data = bytearray(session)
    for _ in range(noise.randrange(1, 4)):
        at = noise.randrange(kept, len(data))
        match noise.randrange(4 if alphabets else 3):
            case 0:
                data[at] = noise.randrange(256)
            case 1:
                del data[at : at + noise.randrange(1, 30)]
            case 2:
                data[at:at] = data[at : at + noise.randrange(1, 60)]
            case _:
                data[at] = noise.choice(noise.choice(alphabets))
    return bytes(data)


async def survives(
    target: Target, inputs: Iterator[bytes], piece: int, caplog: pytest.LogCaptureFixture
) -> None:
    """Each input has a connection of its own. Errors that the connection did not expect are logged as internal."""
    caplog.set_level(logging.ERROR)
    async with broker_in_process(target.adapter) as server:
        for data in inputs:
            target.check_answer(await server.talk(data, piece=piece))
            unexpected = [
                record
                for record in caplog.records
                if record.exc_info or "internal error" in record.getMessage()
            ]
            assert not unexpected, data
            caplog.clear()
        audit(server.broker)
        await target.still_serves(server)


@pytest.mark.parametrize("piece", [0, 1])
@PROTOCOLS
async def test_noise_at_any_stage(target: Target, piece: int, caplog: pytest.LogCaptureFixture) -> None:
    noise = random.Random(20261121)

    def inputs() -> Iterator[bytes]:
        for _ in range(ROUNDS):
            alphabet = noise.choice([None, *target.alphabets])
            size = noise.randrange(200)
            said = noise.randbytes(size) if alphabet is None else bytes(noise.choices(alphabet, k=size))
            yield noise.choice(target.begun) + said

    await survives(target, inputs(), piece, caplog)


@pytest.mark.parametrize("piece", [0, 7])
@PROTOCOLS
async def test_mutated_sessions(target: Target, piece: int, caplog: pytest.LogCaptureFixture) -> None:
    noise = random.Random(1)
    inputs = (mutated(target.session, target.kept, target.alphabets, noise) for _ in range(ROUNDS))
    await survives(target, inputs, piece, caplog)


@pytest.mark.parametrize(
    "target", [TARGETS[name] for name in ("amqp", "mqtt-5", "stomp")], ids=["amqp", "mqtt", "stomp"]
)
async def test_every_request_with_noise_for_arguments(
    target: Target, caplog: pytest.LogCaptureFixture
) -> None:
    await survives(target, target.every_request(random.Random(2)), 0, caplog)

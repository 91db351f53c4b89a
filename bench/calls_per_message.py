"""What one published message costs in Python: function calls and bytecode instructions, which are the same in every run.

Usage: python bench/calls_per_message.py [--only NAME,...] [--limit FILE]

The whole broker runs in this process on the in-memory store, with a transport in memory and a clock that stands still, so
that the figures depend on the code and the version of Python alone. Counted is what runs in Leveret's own files, from the
chunk of bytes to the queue and the confirm. Chunks of "single" scenarios hold one message, those of the others 50; only
"alike" chunks hold messages that form a run. --limit compares with figures that this script printed before, by the same
version of Python, and fails if one has become more than 2 % larger.
"""

from __future__ import annotations

import argparse
import logging
import struct
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import FrameType, MappingProxyType
from typing import Any, Self

import trio
from trio.testing import MockClock, wait_all_tasks_blocked

import leveret
from leveret.adapters.amqp.adapter import AmqpAdapter
from leveret.adapters.mqtt.adapter import MqttAdapter
from leveret.adapters.stomp.adapter import StompAdapter
from leveret.conf.settings import Settings
from leveret.core.broker import Broker
from leveret.core.exchange import Binding
from leveret.core.store.memory import MemoryStore
from leveret.plugins.loader import load_registry

WARM_UP, COUNT, PER_CHUNK = 400, 1000, 50
TOLERANCE = 1.02
PACKAGE = str(Path(leveret.__file__).parent)


class MemoryTransport:
    """A peer that sends prepared chunks and takes every answer."""

    peer = local = ("127.0.0.1", 1)
    has_unsent = False
    certificate = None
    http_login = None
    tls_info: Mapping[str, object] = MappingProxyType({})

    def __init__(self) -> None:
        self.read_bytes = 0
        self._send, self._receive = trio.open_memory_channel[bytes](1)

    async def feed(self, chunk: bytes) -> None:
        """Have the broker receive a chunk, and wait until it is at rest: trio varies the order of tasks otherwise."""
        await self._send.send(chunk)
        await wait_all_tasks_blocked()

    async def receive(self) -> bytes:
        return await self._receive.receive()

    def send_nowait(self, data: bytes) -> int:
        return len(data)

    def send_vector_nowait(self, chunks: Sequence[bytes | memoryview]) -> int:
        return sum(map(len, chunks))

    async def wait_writable(self) -> None:
        await trio.lowlevel.checkpoint()

    def acknowledge(self) -> None: ...
    def stop_reading(self) -> None: ...
    def close(self) -> None: ...


class Counter:
    """Calls of Leveret's functions, and bytecode instructions in them, while it is entered."""

    def __init__(self) -> None:
        self.calls = self.instructions = 0

    def __enter__(self) -> Self:
        sys.settrace(self._on_call)
        return self

    def __exit__(self, *_: object) -> None:
        sys.settrace(None)

    def _on_call(self, frame: FrameType, event: str, argument: Any) -> Callable[..., Any] | None:
        if not frame.f_code.co_filename.startswith(PACKAGE):
            return None
        self.calls += 1
        frame.f_trace_opcodes, frame.f_trace_lines = True, False
        return self._on_instruction

    def _on_instruction(self, frame: FrameType, event: str, argument: Any) -> Callable[..., Any]:
        self.instructions += event == "opcode"
        return self._on_instruction


@dataclass(frozen=True, slots=True)
class Scenario:
    """name; message gives the bytes of the n-th message, at_once how many of them are one chunk."""

    name: str
    adapter: Callable[[Broker], Any]
    hello: bytes
    message: Callable[[int], bytes]
    at_once: int = PER_CHUNK


# -- the bytes of the protocols


def short(text: str) -> bytes:
    return bytes([len(text)]) + text.encode()


def frame(kind: int, channel: int, payload: bytes) -> bytes:
    return struct.pack(">BHI", kind, channel, len(payload)) + payload + b"\xce"


def method(channel: int, class_id: int, method_id: int, arguments: bytes = b"") -> bytes:
    return frame(1, channel, struct.pack(">HH", class_id, method_id) + arguments)


AMQP = (
    b"AMQP\0\0\x09\x01"
    + method(0, 10, 11, struct.pack(">I", 0) + short("PLAIN") + struct.pack(">I", 12) + b"\0guest\0guest" + short(""))
    + method(0, 10, 31, struct.pack(">HIH", 2047, 131072, 0))
    + method(0, 10, 40, short("/") + short("") + b"\0")
    + method(1, 20, 10, short(""))
)  # fmt: skip
AMQP_CONFIRMS = AMQP + method(1, 85, 10, b"\0")


def basic_publish(exchange: str, routing_key: str, properties: bytes, body: bytes) -> bytes:
    header = struct.pack(">HHQ", 60, 0, len(body)) + properties
    arguments = b"\0\0" + short(exchange) + short(routing_key) + b"\0"
    return method(1, 60, 40, arguments) + frame(2, 1, header) + frame(3, 1, body)


def with_ids(number: int) -> bytes:
    """correlation-id and message-id."""
    return struct.pack(">H", 1 << 10 | 1 << 7) + short(f"c-{number}") + short(f"m-{number}")


def connect_packet(version: int) -> bytes:
    properties = b"\0" if version == 5 else b""
    fields = [b"dev1", b"guest", b"guest"]
    body = b"\0\x04MQTT" + bytes([version]) + b"\xc2\0\0" + properties
    body += b"".join(struct.pack(">H", len(one)) + one for one in fields)
    return b"\x10" + bytes([len(body)]) + body


def publish_packet(number: int, qos: int, version: int) -> bytes:
    topic = f"device/{number % 200}/temp".encode()
    body = struct.pack(">H", len(topic)) + topic
    if qos:
        body += struct.pack(">H", number + 1)
    body += (b"\0" if version == 5 else b"") + b"x"
    return bytes([0x30 | qos << 1, len(body)]) + body


STOMP = b"CONNECT\nlogin:guest\npasscode:guest\nhost:/\naccept-version:1.2\n\n\0"


def send_frame(number: int, headers: str = "") -> bytes:
    return f"SEND\ndestination:/queue/q\nid:{number}\n{headers}content-length:1\n\nx\0".encode()


NO_PROPERTIES = b"\0\0"
SCENARIOS = [
    Scenario("amqp_alike", AmqpAdapter, AMQP, lambda _: basic_publish("", "q", NO_PROPERTIES, b"x")),
    Scenario("amqp_single", AmqpAdapter, AMQP, lambda _: basic_publish("", "q", NO_PROPERTIES, b"x"), 1),
    Scenario(
        "amqp_single_confirm", AmqpAdapter, AMQP_CONFIRMS, lambda _: basic_publish("", "q", NO_PROPERTIES, b"x"), 1
    ),
    Scenario("amqp_unique_ids", AmqpAdapter, AMQP, lambda n: basic_publish("", "q", with_ids(n), b"x")),
    Scenario(
        "amqp_topic_keys",
        AmqpAdapter,
        AMQP,
        lambda n: basic_publish("amq.topic", f"device.{n % 200}.temp", NO_PROPERTIES, b"x"),
    ),
    Scenario("mqtt_qos_0_topics", MqttAdapter, connect_packet(4), lambda n: publish_packet(n, 0, 4)),
    Scenario("mqtt_qos_1_topics", MqttAdapter, connect_packet(4), lambda n: publish_packet(n, 1, 4)),
    Scenario("mqtt_5_qos_1_topics", MqttAdapter, connect_packet(5), lambda n: publish_packet(n, 1, 5)),
    Scenario("stomp_alike", StompAdapter, STOMP, lambda _: send_frame(0)),
    Scenario("stomp_unique_ids", StompAdapter, STOMP, send_frame),
    Scenario("stomp_receipts", StompAdapter, STOMP, lambda n: send_frame(n, f"receipt:{n}\n")),
]  # fmt: skip


async def measured(scenario: Scenario) -> tuple[float, float]:
    """Calls and instructions per message."""
    async with Broker(Settings(), load_registry(), MemoryStore()).running() as broker:
        vhost = broker.vhosts["/"]
        queue = vhost.add_queue("q", durable=True, exclusive=False, auto_delete=False, arguments={})
        vhost.bind(vhost.exchanges["amq.topic"], Binding(queue, "device.#", {}))
        adapter = scenario.adapter(broker)
        broker.adapters = [adapter]
        transport = MemoryTransport()
        counter = Counter()

        async def publish(numbers: Sequence[int]) -> None:
            for start in range(0, len(numbers), scenario.at_once):
                chunk = numbers[start : start + scenario.at_once]
                await transport.feed(b"".join([scenario.message(number) for number in chunk]))

        async with trio.open_nursery() as nursery:
            await nursery.start(adapter.run)
            nursery.start_soon(adapter.serve, transport)
            await transport.feed(scenario.hello)
            while not any(one.username for one in broker.connections):
                await wait_all_tasks_blocked()  # a password is verified in a thread
            await publish(range(WARM_UP))
            with counter:
                await publish(range(WARM_UP, WARM_UP + COUNT))
            if queue.published_total != WARM_UP + COUNT:
                raise RuntimeError(f"{scenario.name}: not everything reached the queue")
            nursery.cancel_scope.cancel()
    return counter.calls / COUNT, counter.instructions / COUNT


def figures_of(path: Path) -> dict[str, float]:
    """What an earlier run printed: `name value unit` lines."""
    return {line.split()[0]: float(line.split()[1]) for line in path.read_text().splitlines() if line.strip()}


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", 1)[0])
    parser.add_argument("--only", default="", help="scenarios by part of their names, with commas")
    parser.add_argument("--limit", type=Path, help="a file of figures that none may exceed by more than 2 %%")
    options = parser.parse_args()
    logging.disable()
    limits = figures_of(options.limit) if options.limit else {}
    worse: list[str] = []
    for scenario in SCENARIOS:
        if not any(part in scenario.name for part in options.only.split(",")):
            continue
        calls, instructions = trio.run(measured, scenario, clock=MockClock())
        for name, value, unit in (
            (f"{scenario.name}_calls", calls, "calls"),
            (f"{scenario.name}_instructions", instructions, "instructions"),
        ):
            print(f"{name:<36}{value:>12,.2f} {unit}".replace(",", ""), flush=True)
            if unit == "instructions" and value > limits.get(name, value) * TOLERANCE:
                worse.append(f"{name}: {value:.2f}, was {limits[name]:.2f}")
    print("\n".join(worse), file=sys.stderr, end="\n" if worse else "")
    return 1 if worse else 0


if __name__ == "__main__":
    sys.exit(main())

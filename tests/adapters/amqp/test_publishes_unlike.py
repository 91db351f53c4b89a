"""Publishes that are not alike are taken together: what becomes of each is the same as if it had come alone."""

from __future__ import annotations

import struct
from collections.abc import Iterator
from typing import Any

import pytest
import trio
from hypothesis import given, settings
from hypothesis import strategies as st
from support.in_process import HANDSHAKE, broker_in_process
from trio.testing import wait_all_tasks_blocked

from leveret.adapters.amqp import protocol
from leveret.adapters.amqp.methods import (
    ConfirmSelect,
    ExchangeDeclare,
    QueueBind,
    QueueDeclare,
    method_frame,
)
from leveret.core.message import Message
from leveret.core.properties import Properties
from leveret.core.queue.queue import Queue

QUEUES: dict[str, dict[str, Any]] = {
    "plain": {},
    "other": {},
    "lasting": {},
    "short": {"x-max-length": 3},
    "full": {"x-max-length": 2, "x-overflow": "reject-publish"},
    "levels": {"x-max-priority": 3},
    "brief": {"x-message-ttl": 60000},
}
SETUP = HANDSHAKE + b"".join(
    [
        method_frame(1, ConfirmSelect()),
        *(
            method_frame(1, QueueDeclare(queue=name, durable=name == "lasting", arguments=arguments))
            for name, arguments in QUEUES.items()
        ),
        method_frame(1, ExchangeDeclare(exchange="t", type="topic")),
        *(method_frame(1, QueueBind(queue=queue, exchange="t", routing_key=key)) for queue, key in (
            ("plain", "#"), ("lasting", "a.*"), ("other", "a.b"), ("full", "f")
        )),
    ]
)  # fmt: skip


def short(text: str) -> bytes:
    return bytes([len(text)]) + text.encode()


def frame(kind: int, payload: bytes) -> bytes:
    return struct.pack(">BHI", kind, 1, len(payload)) + payload + b"\xce"


def publish(exchange: str, key: str, mandatory: bool, properties: Properties, body: bytes) -> bytes:
    arguments = b"\x00\x00" + short(exchange) + short(key) + bytes([mandatory])
    data = frame(1, struct.pack(">HH", 60, 40) + arguments)
    data += frame(2, struct.pack(">HHQ", 60, 0, len(body)) + properties.encode())
    return data + (frame(3, body) if body else b"")


PROPERTIES = st.builds(
    Properties,
    content_type=st.sampled_from([None, "text/plain"]),
    headers=st.sampled_from(
        [None] * 8 + [{"n": 1}, {"a": [1, {"b": "c"}]}] * 3 + [{"CC": ["other"]}, {"BCC": ["brief", "plain"]}]
    ),
    delivery_mode=st.sampled_from([None, 1, 2]),
    priority=st.sampled_from([None, 0, 2, 9]),
    correlation_id=st.sampled_from([None, "c1", "c2"]),
    reply_to=st.sampled_from([None, "answers"]),
    expiration=st.sampled_from([None, None, "60000", "30000"]),
    message_id=st.text("abc", max_size=3),
    user_id=st.sampled_from([None] * 9 + ["guest"]),
)
MESSAGES = st.lists(
    st.builds(
        publish,
        st.sampled_from([""] * 9 + ["t"]),
        st.sampled_from([*QUEUES, *["lasting", "levels", "plain"] * 4, "nowhere", "a.b", "a.c", "f"]),
        st.booleans(),
        PROPERTIES,
        st.sampled_from([b"", b"x", b"body", b"longer body"]),
    ),
    min_size=20,
    max_size=60,
)  # fmt: skip


def drained(queue: Queue) -> Iterator[Message]:
    while (message := queue.get(no_ack=True)) is not None:
        yield message


async def outcome(chunks: list[bytes]) -> tuple[Any, ...]:
    """What is in the queues afterwards, the counters, and which publishes were confirmed, refused and returned."""
    async with broker_in_process() as peer:
        stream, _, ended = peer.connect()
        await stream.send_all(SETUP)
        await wait_all_tasks_blocked(0.001)
        received = bytearray()

        async def read() -> None:
            async for chunk in stream:
                received.extend(chunk)

        async with trio.open_nursery() as nursery:
            nursery.start_soon(read)
            for chunk in chunks:
                await stream.send_all(chunk)
                await wait_all_tasks_blocked(0.001)
            vhost = peer.broker.vhosts["/"]
            stored = [fifo.log.count if fifo.log else None for fifo in vhost.queues["lasting"].fifos]
            contents = {
                name: [
                    (
                        message.envelope.exchange,
                        message.envelope.routing_key,
                        message.envelope.header,
                        message.body,
                        message.position,
                        message.expires_at is not None,
                    )
                    for message in drained(queue)
                ]
                for name, queue in vhost.queues.items()
            }
            counters = {name: queue.published_total for name, queue in vhost.queues.items()}
            exchanges = {name: (one.published_in, one.published_out) for name, one in vhost.exchanges.items()}
            (connection,) = peer.broker.connections
            channel: Any = connection.channels[1]
            totals, sizes = channel.totals(), None
            channel.publisher.pipeline.note_sizes()
            sizes = list(peer.broker.traffic.sizes_of("amqp091").buckets())
            nursery.cancel_scope.cancel()
        await stream.aclose()
        with trio.fail_after(5):
            await ended.wait()
    return contents, stored, counters, exchanges, totals, sizes, answers(bytes(received))


def answers(data: bytes) -> tuple[set[int], set[int], int]:
    """Sequence numbers that were acknowledged, those that were refused, and how many messages were returned."""
    acked: set[int] = set()
    nacked: set[int] = set()
    returned = last = pos = 0
    while pos < len(data):
        kind, _, size = struct.unpack_from(">BHI", data, pos)
        payload = data[pos + 7 : pos + 7 + size]
        pos += size + 8
        method = struct.unpack_from(">HH", payload) if kind == 1 else (0, 0)
        if method[0] != 60:
            continue
        if method[1] == 50:
            returned += 1
        elif method[1] in (80, 120):
            tag, multiple = struct.unpack_from(">QB", payload, 4)
            numbers = range(last + 1, tag + 1) if multiple else [tag]
            (acked if method[1] == 80 else nacked).update(numbers)
            last = tag
    return acked, nacked, returned


@settings(max_examples=40, deadline=None)
@given(MESSAGES)
def test_together_is_as_one_by_one(messages: list[bytes]) -> None:
    async def check() -> None:
        assert await outcome([b"".join(messages)] * 3) == await outcome(messages * 3)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(protocol, "HOLD_OFF", 0)  # try it again after each message that has to go by itself
        trio.run(check)

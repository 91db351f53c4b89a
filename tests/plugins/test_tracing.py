"""The firehose, in RabbitMQ's words (the expected headers were read off 3.10.8)."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Any

import pytest
import trio
from support.topology import FakeBroker, envelope

from leveret.core.errors import NotFound, PreconditionFailed
from leveret.core.exchange import Binding
from leveret.core.fields import Int64, decode_table
from leveret.core.message import Envelope, Message
from leveret.core.properties import Properties, raw_headers
from leveret.core.queue.queue import Queue
from leveret.core.tracer import Tracer
from leveret.core.vhost import TRACE_EXCHANGE, Vhost
from leveret.plugins.tracing import Firehose, TracingPlugin


def a_broker() -> FakeBroker:
    """With one virtual host, "/"."""
    broker = FakeBroker()
    broker.node_name = "leveret@here"
    broker.add_vhost("/")
    return broker


def a_queue(vhost: Vhost, name: str, key: str | None = None) -> Queue:
    queue = vhost.add_queue(name, durable=False, exclusive=False, auto_delete=False, arguments={})
    if key is not None:
        vhost.bind(vhost.exchanges[TRACE_EXCHANGE], Binding(queue, key))
    return queue


@asynccontextmanager
async def tracing(broker: FakeBroker) -> AsyncIterator[TracingPlugin]:
    plugin = TracingPlugin()
    async with trio.open_nursery() as nursery:
        await nursery.start(plugin.run, broker)
        yield plugin
        nursery.cancel_scope.cancel()


def taken(queue: Queue) -> list[tuple[str, dict[str, Any], bytes]]:
    """(routing key, headers, body) of all traces."""
    traces: list[tuple[str, dict[str, Any], bytes]] = []
    while (trace := queue.get(no_ack=True)) is not None:
        assert trace.envelope.exchange == TRACE_EXCHANGE
        headers = Properties.decode(trace.envelope.header).headers
        assert headers is not None
        traces.append((trace.envelope.routing_key, headers, trace.body))
    return traces


def published(vhost: Vhost, message: Envelope, bodies: Sequence[bytes] = (b"hello",), *queues: Queue) -> None:
    """As an adapter does it."""
    if vhost.tracer is not None:
        vhost.tracer.published(message, list(bodies), queues, "127.0.0.1:1 -> 127.0.0.1:2", 1, "guest")


PROPERTIES: dict[str, Any] = {
    "content_type": "t/p", "headers": {"CC": ["wq2"], "BCC": ["wq3"], "n": 5, "l": Int64(2**40), "t": {"a": None}},
    "delivery_mode": 1, "priority": 3, "message_id": "m", "timestamp": 1700000000, "expiration": "1000000",
    "app_id": "", "user_id": "guest",
}  # fmt: skip


async def test_a_published_message() -> None:
    broker = a_broker()
    vhost = broker.vhosts["/"]
    spy, target = a_queue(vhost, "spy", "publish.#"), a_queue(vhost, "wq")
    async with tracing(broker) as plugin:
        plugin.trace_on("/")
        published(vhost, envelope("orders", "wq", **PROPERTIES), [b"hello"], target)
    ((key, headers, body),) = taken(spy)
    assert key == "publish.orders"
    assert body == b"hello"
    assert headers == {
        "exchange_name": "orders",
        "routing_keys": ["wq", "wq2", "wq3"],
        "properties": {
            "app_id": "", "user_id": "guest", "timestamp": 1700000000, "message_id": "m", "expiration": "1000000",
            "priority": 3, "delivery_mode": 1, "headers": {"CC": ["wq2"], "n": 5, "l": 2**40, "t": {"a": None}},
            "content_type": "t/p",
        },
        "node": "leveret@here", "vhost": "/", "connection": "127.0.0.1:1 -> 127.0.0.1:2", "channel": 1,
        "user": "guest", "routed_queues": ["wq"],
    }  # fmt: skip
    assert list(headers) == [
        "exchange_name", "routing_keys", "properties", "node", "vhost", "connection", "channel", "user",
        "routed_queues",
    ]  # fmt: skip
    assert list(headers["properties"]) == [
        "app_id", "user_id", "timestamp", "message_id", "expiration", "priority", "delivery_mode", "headers",
        "content_type",
    ]  # fmt: skip


async def test_a_delivered_message() -> None:
    broker = a_broker()
    vhost = broker.vhosts["/"]
    spy, queue = a_queue(vhost, "spy", "deliver.wq"), a_queue(vhost, "wq")
    message = Message(envelope("", "wq"), b"hello", queue, 1)
    again = Message(message.envelope, b"hello", queue, 2)
    again.is_redelivered = True
    async with tracing(broker) as plugin:
        plugin.trace_on("/")
        assert vhost.tracer is not None
        vhost.tracer.delivered(queue, [message, again], "c", 3, "guest")
    (_, first, body), (_, second, _) = taken(spy)
    assert body == b"hello"
    assert first == {
        "exchange_name": "", "routing_keys": ["wq"], "properties": {}, "node": "leveret@here", "redelivered": 0,
        "vhost": "/", "connection": "c", "channel": 3, "user": "guest",
    }  # fmt: skip
    assert list(first)[4:6] == ["redelivered", "vhost"]
    assert second["redelivered"] == 1


async def test_types_on_the_wire() -> None:
    """S, A, F, and I for every number, timestamps too (rabbit_trace.erl type/1)."""
    broker = a_broker()
    vhost = broker.vhosts["/"]
    spy = a_queue(vhost, "spy", "#")
    async with tracing(broker) as plugin:
        plugin.trace_on("/")
        published(vhost, envelope("x", "k", timestamp=1700000000, priority=3))
    trace = spy.get(no_ack=True)
    assert trace is not None
    raw = raw_headers(trace.envelope.header)
    assert raw is not None
    for piece in (
        b"\x0dexchange_nameS", b"\x0crouting_keysA", b"\x0apropertiesF", b"\x09timestampI", b"\x08priorityI",
        b"\x04nodeS", b"\x07channelI", b"\x0drouted_queuesA",
    ):  # fmt: skip
        assert piece in raw
    assert decode_table(len(raw).to_bytes(4, "big") + raw)[0]["properties"]["timestamp"] == 1700000000


async def test_alike_messages_share_their_traces_envelope() -> None:
    broker = a_broker()
    vhost = broker.vhosts["/"]
    spy, queue = a_queue(vhost, "spy", "#"), a_queue(vhost, "wq")
    one, other = envelope("x", "k"), envelope("x", "other")
    messages = [
        Message(each, b"%d" % index, queue, index) for index, each in enumerate([one, one, one, other, one])
    ]
    async with tracing(broker) as plugin:
        plugin.trace_on("/")
        assert vhost.tracer is not None
        vhost.tracer.delivered(queue, messages, "c", 1, "u")
        published(vhost, one, [b"a", b"b"])
    traces = [trace for _ in range(7) if (trace := spy.get(no_ack=True)) is not None]
    assert [trace.body for trace in traces] == [b"0", b"1", b"2", b"3", b"4", b"a", b"b"]
    assert traces[0].envelope is traces[1].envelope is traces[2].envelope
    assert traces[5].envelope is traces[6].envelope


async def test_messages_of_the_trace_exchange_are_not_traced() -> None:
    broker = a_broker()
    vhost = broker.vhosts["/"]
    spy = a_queue(vhost, "spy", "#")
    async with tracing(broker) as plugin:
        plugin.trace_on("/")
        published(vhost, envelope(TRACE_EXCHANGE, "publish.x"))
        assert vhost.tracer is not None
        vhost.tracer.delivered(
            spy, [Message(envelope(TRACE_EXCHANGE, "deliver.q"), b"", spy, 1)], "c", 1, "u"
        )
    assert taken(spy) == []


async def test_on_and_off_per_vhost_and_off_with_the_plugin() -> None:
    broker = a_broker()
    vhost = broker.vhosts["/"]
    other = broker.add_vhost("other")
    spy = a_queue(vhost, "spy", "#")
    plugin = TracingPlugin()
    with pytest.raises(PreconditionFailed, match="plugin 'tracing' is not running"):
        plugin.trace_on("/")
    async with tracing(broker) as plugin:
        assert vhost.tracer is None
        plugin.trace_on("/")
        plugin.trace_on("/")
        assert plugin.is_tracing("/")
        assert not plugin.is_tracing("other")
        assert other.tracer is None
        published(vhost, envelope("x", "k"))
        plugin.trace_off("/")
        plugin.trace_off("/")
        published(vhost, envelope("x", "k"))
        with pytest.raises(NotFound):
            plugin.trace_on("nowhere")
        plugin.trace_on("/")
    assert vhost.tracer is None, "the plugin is gone, and its tracers with it"
    assert len(taken(spy)) == 1


async def test_long_names_and_names_that_are_no_text() -> None:
    broker = a_broker()
    vhost = broker.vhosts["/"]
    spy = a_queue(vhost, "spy", "#")
    async with tracing(broker) as plugin:
        plugin.trace_on("/")
        published(vhost, envelope("ä" * 127, "k"))
        published(vhost, envelope("\udcff", "\udcff"))
    (long, _, _), (odd, headers, _) = taken(spy)
    assert long.startswith("publish.ää")
    assert len(long.encode()) <= 255
    assert odd == "publish.\udcff"
    assert headers["exchange_name"] == b"\xff"


async def test_a_trace_that_fails_harms_nobody_and_ends_tracing(caplog: pytest.LogCaptureFixture) -> None:
    broker = a_broker()
    vhost = broker.vhosts["/"]
    a_queue(vhost, "spy", "#")
    async with tracing(broker) as plugin:
        plugin.trace_on("/")
        broken = envelope("x", "k")
        broken.properties.headers = {"what": object()}
        published(vhost, broken)
        assert vhost.tracer is None
    assert "tracing failed and is switched off" in caplog.text


def test_the_firehose_is_a_tracer() -> None:
    tracer: Tracer = Firehose(a_broker().vhosts["/"], "n")
    assert tracer

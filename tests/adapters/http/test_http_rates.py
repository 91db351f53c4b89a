"""The sampler on a broker in this process."""

from __future__ import annotations

import trio
from support.connections import FakeConnection
from support.in_process import broker_in_process

from leveret.adapters.http.adapter import HttpAdapter
from leveret.adapters.http.rates import EXCHANGE, MAX_ROUNDS, MIN_ROUNDS, NODE, QUEUE, VALUES, VHOST, Rates
from leveret.auth.contracts import Principal
from leveret.core.broker import Broker
from leveret.core.message import Envelope
from leveret.core.properties import Properties
from leveret.core.session import Session


def session_of(broker: Broker) -> Session:
    return Session(broker, broker.vhosts["/"], Principal("guest"), object())


def publish(session: Session, queue: str, count: int = 1) -> None:
    session.publish(Envelope.of("", queue, Properties()), [b"x"] * count)


def totals(rates: Rates) -> dict[str, int]:
    return dict(zip(VHOST.names, rates.vhost_values("/"), strict=True))


async def test_looks_find_queues_and_exchanges() -> None:
    async with broker_in_process(adapter=HttpAdapter) as listener:
        rates = Rates(listener.broker)
        session = session_of(listener.broker)
        queue = session.queue_declare("q")
        await rates.look()
        publish(session, "q", 3)
        rates.now_ms -= 1000  # the last look was a second ago
        await rates.look()
        series = rates.of(QUEUE, queue)
        assert series is not None
        column = QUEUE.columns["publish"]
        assert series.last[column] == 3
        rate = series.rate(column, rates.now_ms, rates.before_ms)
        assert 2.5 < rate <= 3.0
        exchange = rates.of(EXCHANGE, listener.broker.vhosts["/"].default_exchange)
        assert exchange is not None
        assert exchange.last == (3, 3)
        assert totals(rates)["publish"] == 3
        assert totals(rates)["messages_ready"] == 3
        assert rates.memory_bytes > 0
        session.queue_delete("q")


async def test_what_is_deleted_is_forgotten_and_counts_on() -> None:
    async with broker_in_process(adapter=HttpAdapter) as listener:
        rates = Rates(listener.broker)
        session = session_of(listener.broker)
        queue = session.queue_declare("q")
        publish(session, "q", 3)
        queue.get(no_ack=True)
        await rates.look()
        session.queue_delete("q")
        rates.now_ms -= 1000
        await rates.look()
        assert rates.of(QUEUE, queue) is None
        after = totals(rates)
        assert (after["publish"], after["get_no_ack"], after["messages_ready"]) == (3, 1, 0)


async def test_each_of_many_things_keeps_less() -> None:
    async with broker_in_process(adapter=HttpAdapter) as listener:
        rates = Rates(listener.broker)
        session = session_of(listener.broker)
        first = session.queue_declare("q0")
        await rates.look()
        series = rates.of(QUEUE, first)
        assert series is not None
        assert series.rings[0].capacity == MAX_ROUNDS
        for number in range(1, 3000):
            session.queue_declare(f"q{number}")
        rates.now_ms -= 1000
        await rates.look()
        capacity = series.rings[0].capacity
        assert MIN_ROUNDS <= capacity < MAX_ROUNDS
        assert capacity * 3000 * (len(QUEUE.names) + 1) <= VALUES


async def test_a_clock_that_is_set_back_starts_anew() -> None:
    async with broker_in_process(adapter=HttpAdapter) as listener:
        rates = Rates(listener.broker)
        await rates.look()
        rates.now_ms += 1_000_000
        await rates.look()
        assert rates.before_ms == 0
        assert rates.node.rate(0, rates.now_ms, rates.before_ms) == 0.0


async def test_the_node_counts_what_came_and_went() -> None:
    async with broker_in_process(adapter=HttpAdapter) as listener:
        rates = Rates(listener.broker)
        session = session_of(listener.broker)
        session.queue_declare("q")
        session.queue_declare("q")
        session.queue_delete("q")
        connection = FakeConnection("somebody")
        listener.broker.connections.add(connection)
        listener.broker.connections.discard(connection)
        listener.broker.connections.discard(connection)
        values = dict(zip(NODE.names, rates.node_values(), strict=True))
        assert (values["queue_declared"], values["queue_created"], values["queue_deleted"]) == (2, 1, 1)
        assert (values["connection_created"], values["connection_closed"]) == (1, 1)
        assert values["fd_used"] > 0
        await trio.lowlevel.checkpoint()

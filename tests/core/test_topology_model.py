"""Any sequence of declarations and deletions: the books agree with each other, and the store with the books."""

from __future__ import annotations

import contextlib
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st
from support.topology import FakeBroker, envelope

from leveret.core.definitions import recovery
from leveret.core.errors import BrokerError
from leveret.core.exchange import Exchange
from leveret.core.queue.queue import Queue
from leveret.core.routing import route
from leveret.core.session import Session
from leveret.core.store.memory import MemoryState, MemoryStore
from leveret.core.vhost import Vhost

NAMES = st.sampled_from("abcd")
KEYS = st.sampled_from(["k", "a.b", ""])
FLAG = st.booleans()
ARGUMENTS = st.sampled_from([{}, {"n": 1}, {"n": "1"}])
STEPS = st.one_of(
    st.tuples(st.just("queue_declare"), NAMES, st.fixed_dictionaries({"durable": FLAG, "exclusive": FLAG})),
    st.tuples(st.just("queue_delete"), NAMES, st.just({})),
    st.tuples(
        st.just("exchange_declare"),
        st.tuples(NAMES, st.sampled_from(["direct", "topic", "fanout"])),
        st.fixed_dictionaries({"durable": FLAG, "auto_delete": FLAG}),
    ),
    st.tuples(st.just("exchange_delete"), NAMES, st.just({})),
    *[
        st.tuples(st.just(method), st.tuples(NAMES, NAMES, KEYS, ARGUMENTS), st.just({}))
        for method in ("queue_bind", "queue_unbind", "exchange_bind", "exchange_unbind")
    ],
)


def run(session: Session, steps: list[Any]) -> None:
    for name in "abcd":  # so that most binds find something to bind
        session.queue_declare(name, durable=name in "ab")
        session.exchange_declare(name, "fanout", durable=name in "bc", auto_delete=name in "cd")
    for method, arguments, options in steps:
        positional = arguments if isinstance(arguments, tuple) else (arguments,)
        with contextlib.suppress(BrokerError):  # a refusal; what counts is what is there after it
            getattr(session, method)(*positional, **options)


def bindings(vhost: Vhost, *, durable: bool = False) -> set[Any]:
    return {
        (
            source.name,
            one.destination.kind,
            one.destination.name,
            one.routing_key,
            tuple(one.arguments.items()),
        )
        for source, one in vhost.bindings()
        if not durable or (source.is_durable and one.destination.is_durable)  # type: ignore[attr-defined]
    }


@settings(deadline=None)
@given(st.lists(STEPS, max_size=60))
def test_books_agree(steps: list[Any]) -> None:
    broker = FakeBroker()
    session = broker.session()
    sources: set[str] = set()  # exchanges that something was bound from, and that are still the same

    def listen(event: str, fields: dict[str, Any]) -> None:
        if event == "binding.created":
            sources.add(fields["source_name"])
        elif event == "exchange.deleted":
            sources.discard(fields["name"])

    broker.events.subscribe(listen)
    run(session, steps)
    vhost = session.vhost
    for exchange in vhost.exchanges.values():
        assert exchange.bindings or not exchange.is_auto_delete or exchange.name not in sources
    things: list[Queue | Exchange] = [*vhost.queues.values(), *vhost.exchanges.values()]
    for source, binding in vhost.bindings():
        assert binding.destination in things
        assert (source, binding) in list(vhost.bindings_to(binding.destination))
    assert sum(len(list(vhost.bindings_to(thing))) for thing in things) == len(list(vhost.bindings()))
    for exchange in vhost.exchanges.values():
        links = [one for one in exchange.bindings.values() if one.destination.kind == "exchange"]
        assert exchange.link_count == len(links)
        queues = route(exchange, envelope(exchange.name, "k")).queues
        assert len(set(queues)) == len(queues)
        assert all(vhost.queues[queue.name] is queue for queue in queues)


@settings(deadline=None)
@given(st.lists(STEPS, max_size=60))
def test_what_is_durable_comes_back_and_nothing_else(steps: list[Any]) -> None:
    state = MemoryState()
    store = MemoryStore(state=state)
    store.open()
    session = FakeBroker(store).session()
    session.vhost.save()
    run(session, steps)
    store.close()

    store = MemoryStore(state=state)
    store.open()
    broker = FakeBroker(store)
    recovery.recover(broker)  # type: ignore[arg-type]  # a fake
    before, after = session.vhost, broker.vhosts["/"]
    assert set(after.queues) == {queue.name for queue in before.queues.values() if queue.is_durable}
    assert set(after.exchanges) == {one.name for one in before.exchanges.values() if one.is_durable}
    assert bindings(after) == bindings(before, durable=True)
    assert store.statistics()["logs"] == len(after.queues)
    assert {name: queue.arguments for name, queue in after.queues.items()} == {
        queue.name: queue.arguments for queue in before.queues.values() if queue.is_durable
    }

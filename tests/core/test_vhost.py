"""A virtual host's books: exchanges, queues, bindings, and what is told about them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from support.topology import FakeBroker, envelope, names

from leveret.core.exchange import Binding
from leveret.core.publishing import publish_internal
from leveret.core.session import Session


@pytest.fixture
def broker() -> FakeBroker:
    return FakeBroker()


@pytest.fixture
def session(broker: FakeBroker) -> Session:
    return broker.session()


def test_predeclared_exchanges(session: Session) -> None:
    exchanges = session.vhost.exchanges
    assert {name: exchange.type for name, exchange in exchanges.items()} == {
        "": "direct", "amq.direct": "direct", "amq.fanout": "fanout", "amq.headers": "headers",
        "amq.match": "headers", "amq.rabbitmq.trace": "topic", "amq.topic": "topic",
    }  # fmt: skip
    assert all(exchange.is_durable and not exchange.is_auto_delete for exchange in exchanges.values())
    assert names(exchange for exchange in exchanges.values() if exchange.is_internal) == [
        "amq.rabbitmq.trace"
    ]


def test_bindings_are_listed_with_the_implicit_ones(session: Session) -> None:
    queue = session.queue_declare("q")
    session.queue_bind("q", "amq.direct", "k", {"a": 1})
    session.exchange_bind("amq.fanout", "amq.direct", "k")
    listed = [
        (source.name, one.destination.name, one.routing_key, one.arguments)
        for source, one in session.vhost.bindings()
    ]
    assert listed == [
        ("", "q", "q", {}),
        ("amq.direct", "q", "k", {"a": 1}),
        ("amq.direct", "amq.fanout", "k", {}),
    ]
    assert [(source.name, one.routing_key) for source, one in session.vhost.bindings_to(queue)] == [
        ("", "q"),
        ("amq.direct", "k"),
    ]
    fanout = session.vhost.exchanges["amq.fanout"]
    assert [source.name for source, _ in session.vhost.bindings_to(fanout)] == ["amq.direct"]


def test_epoch_grows_with_every_change(session: Session, broker: FakeBroker) -> None:
    vhost = session.vhost
    steps: list[Callable[[], object]] = [
        lambda: session.queue_declare("q"), lambda: session.exchange_declare("x"),
        lambda: session.queue_bind("q", "x", "k"), lambda: session.queue_unbind("q", "x", "k"),
        lambda: broker.policies.set("/", "p", pattern="", definition={"max-length": 1}),
        lambda: broker.policies.clear("/", "p"),
        lambda: session.exchange_delete("x"), lambda: session.queue_delete("q"),
    ]  # fmt: skip
    for step in steps:
        before = vhost.epoch
        step()
        assert vhost.epoch > before
    before = vhost.epoch
    session.exchange_declare("amq.direct", passive=True)
    session.queue_delete("q")
    assert vhost.epoch == before


def test_events(session: Session, broker: FakeBroker) -> None:
    heard: list[tuple[str, Any]] = []
    unsubscribe = broker.events.subscribe(
        lambda name, fields: heard.append((name, fields.get("name", fields.get("destination_name"))))
    )
    assert broker.events.is_heard
    session.exchange_declare("x", auto_delete=True)
    session.queue_declare("q")
    session.queue_bind("q", "x", "k")
    session.queue_delete("q")
    assert heard == [
        ("exchange.created", "x"), ("queue.created", "q"), ("binding.created", "q"), ("binding.deleted", "q"),
        ("exchange.deleted", "x"), ("queue.deleted", "q"),
    ]  # fmt: skip
    unsubscribe()
    session.queue_declare("q")
    assert len(heard) == 6


def test_a_listener_that_fails_hinders_nobody(session: Session, broker: FakeBroker, caplog: Any) -> None:
    heard: list[str] = []

    def fails(name: str, fields: dict[str, Any]) -> None:
        raise ValueError(name)

    broker.events.subscribe(fails)
    broker.events.subscribe(lambda name, fields: heard.append(name))
    session.queue_declare("q")
    assert heard == ["queue.created"]
    assert "ValueError: queue.created" in caplog.text


def test_publish_internal(session: Session) -> None:
    queue = session.queue_declare("q")
    session.queue_bind("q", "amq.rabbitmq.trace", "publish.#")
    assert (
        publish_internal(
            session.vhost, "amq.rabbitmq.trace", envelope("amq.rabbitmq.trace", "publish.x"), b"body"
        )
        == 1
    )
    assert (
        publish_internal(
            session.vhost, "amq.rabbitmq.trace", envelope("amq.rabbitmq.trace", "deliver.q"), b""
        )
        == 0
    )
    assert publish_internal(session.vhost, "nope", envelope("nope", ""), b"") == 0
    assert queue.message_count == 1


def test_nothing_is_left_behind(session: Session) -> None:
    """What is added and removed leaves no trace in the books."""
    vhost = session.vhost
    for _ in range(3):
        session.exchange_declare("x")
        session.queue_declare("q", exclusive=True)
        session.queue_bind("q", "x", "k")
        session.exchange_bind("x", "amq.topic", "#")
        session.exchange_bind("amq.fanout", "x", "k")
        session.queue_delete("q")
        session.exchange_delete("x")
    assert not vhost._sources
    assert not vhost._exclusive
    assert all(not exchange.bindings and not exchange.link_count for exchange in vhost.exchanges.values())


def test_close_takes_everything(session: Session, broker: FakeBroker) -> None:
    session.queue_declare("q", durable=True)
    session.exchange_declare("x", durable=True)
    session.queue_bind("q", "x", "k")
    session.vhost.set_parameter("shovel", "s", {"src-uri": "amqp://"})
    session.vhost.close()
    assert session.vhost.is_closed
    assert not session.vhost.queues
    assert not session.vhost.exchanges
    assert not list(broker.store.definitions())
    assert broker.store.statistics()["logs"] == 0


def test_metadata_limits_and_parameters(session: Session, broker: FakeBroker) -> None:
    vhost = session.vhost
    vhost.update(description="for tests", tags=["a"], default_queue_type="quorum")
    assert (vhost.description, vhost.tags, vhost.default_queue_type) == ("for tests", ("a",), "quorum")
    vhost.set_limits({"max-connections": 5, "max-queues": 0})
    vhost.set_limits({"max-connections": 5})
    assert vhost.limits == {"max-connections": 5}
    vhost.set_parameter("c", "n", [1])
    assert vhost.clear_parameter("c", "n")
    assert not vhost.clear_parameter("c", "n")


def test_repr(session: Session) -> None:
    session.queue_declare("q")
    session.queue_bind("q", "amq.direct", "k")
    assert (
        repr(session.vhost.exchanges["amq.direct"])
        == "<Exchange 'amq.direct' type=direct vhost='/' bindings=1>"
    )
    assert repr(session.vhost).startswith("<Vhost '/' exchanges=7 queues=1 epoch=")


def test_removing_twice_is_harmless(session: Session) -> None:
    queue = session.queue_declare("q")
    exchange = session.exchange_declare("x")
    for _ in range(2):
        session.vhost.remove_queue(queue)
        session.vhost.remove_exchange(exchange)
    assert not session.vhost.unbind(session.vhost.exchanges["amq.direct"], Binding(queue, "k"))

"""Declare, delete, bind, unbind: rules and texts, as probed from RabbitMQ and listed in its 4.x source."""

from __future__ import annotations

from operator import methodcaller
from typing import Any

import pytest
from support.topology import FakeBroker, envelope

from leveret.core.errors import (
    AccessRefused,
    BrokerError,
    InvalidArgument,
    NotFound,
    PreconditionFailed,
    ResourceLocked,
)
from leveret.core.fields import Int16, Int64, UInt8
from leveret.core.routing import route
from leveret.core.session import Session

LOCKED = (
    "cannot obtain exclusive access to locked queue 'q' in vhost '/'. It could be originally declared on another "
    "connection or the exclusive property value does not match that of the original declaration."
)


@pytest.fixture
def broker() -> FakeBroker:
    return FakeBroker()


@pytest.fixture
def session(broker: FakeBroker) -> Session:
    return broker.session()


def refused(error: type[BrokerError], text: str, call: Any, *args: Any, **options: Any) -> None:
    with pytest.raises(error) as info:
        call(*args, **options)
    assert str(info.value) == text
    assert type(info.value) is error or issubclass(type(info.value), error)


# -- queues


def test_declares_a_queue_and_finds_it_again(session: Session) -> None:
    queue = session.queue_declare(
        "q", durable=True, auto_delete=True, arguments={"x-max-length": 3, "x-own": "kept"}
    )
    assert session.queue_declare("q", durable=True, auto_delete=True, arguments={"x-max-length": 3}) is queue
    assert session.queue_declare("q", passive=True) is queue
    assert (queue.is_durable, queue.is_auto_delete, queue.is_exclusive, queue.type) == (
        True,
        True,
        False,
        "classic",
    )
    assert queue.arguments == {"x-max-length": 3, "x-own": "kept", "x-queue-type": "classic"}
    assert queue.limits.max_length == 3


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        ({"x-message-ttl": "a"}, '"expected integer, got longstr"'),
        ({"x-message-ttl": True}, '"expected integer, got bool"'),
        ({"x-message-ttl": None}, '"expected integer, got void"'),
        ({"x-message-ttl": -1}, "{value_negative,-1}"),
        ({"x-message-ttl": 2**40}, "{value_too_large,1099511627776}"),
        ({"x-expires": 0}, "{value_zero,0}"),
        ({"x-expires": -1}, "{value_negative,-1}"),
        ({"x-expires": 2**40}, "{value_too_large,1099511627776}"),
        ({"x-max-length": -1}, "{value_negative,-1}"),
        ({"x-max-length": [1]}, '"expected integer, got array"'),
        ({"x-max-length-bytes": {"a": 1}}, '"expected integer, got table"'),
        ({"x-max-priority": 256}, "{max_value_exceeded,256}"),
        ({"x-max-priority": -1}, "{value_negative,-1}"),
        ({"x-overflow": "x"}, "invalid_overflow"),
        ({"x-overflow": 1}, "{unacceptable_type,signedint}"),
        ({"x-dead-letter-routing-key": "k"}, "routing_key_but_no_dlx_defined"),
        ({"x-dead-letter-exchange": "", "x-dead-letter-routing-key": 1}, "{unacceptable_type,signedint}"),
        ({"x-queue-mode": "foo"}, "\"unsupported queue mode 'foo'\""),
        ({"x-queue-version": 3}, "\"unsupported queue version '3'\""),
        ({"x-single-active-consumer": "true"}, "{unacceptable_type,longstr}"),
        ({"x-queue-type": "foo"}, "\"unsupported queue type 'foo'\""),
        ({"x-queue-type": 1}, "{unacceptable_type,signedint}"),
        ({"x-queue-type": None}, "{unacceptable_type,void}"),
        ({"x-queue-type": "quorum", "x-dead-letter-strategy": "x"}, "invalid_dlx_strategy"),
        ({"x-queue-type": "quorum", "x-quorum-initial-group-size": 0}, "{value_zero,0}"),
        ({"x-queue-type": "quorum", "x-queue-leader-locator": "foo"}, "invalid_queue_locator_arg"),
    ],
)
def test_refuses_invalid_arguments(session: Session, arguments: dict[str, Any], reason: str) -> None:
    key = list(arguments)[-1]
    refused(
        InvalidArgument,
        f"invalid arg '{key}' for queue 'q' in vhost '/': {reason}",
        session.queue_declare,
        "q",
        durable=True,
        arguments=arguments,
    )
    assert not session.vhost.queues


@pytest.mark.parametrize(
    ("key", "queue_type"),
    [
        ("x-delivery-limit", "classic"), ("x-quorum-initial-group-size", "classic"), ("x-max-age", "classic"),
        ("x-dead-letter-strategy", "classic"), ("x-max-priority", "quorum"), ("x-queue-mode", "quorum"),
    ],
)  # fmt: skip
def test_refuses_arguments_of_another_queue_type(session: Session, key: str, queue_type: str) -> None:
    refused(
        InvalidArgument,
        f"invalid arg '{key}' for queue 'q' in vhost '/' of queue type rabbit_{queue_type}_queue",
        session.queue_declare,
        "q",
        durable=True,
        arguments={"x-queue-type": queue_type, key: 1},
    )


@pytest.mark.parametrize("arguments", [
    {"x-queue-mode": "lazy"}, {"x-queue-version": 2}, {"x-message-ttl": 0}, {"x-max-length": 0}, {"x-max-priority": 0},
    {"x-queue-type": "quorum", "x-delivery-limit": -1}, {"x-queue-type": "quorum", "x-message-ttl": Int64(5)},
    {"x-queue-master-locator": "min-masters"}, {"x-consumer-timeout": 1000}, {"x-max-length": UInt8(200)},
])  # fmt: skip
def test_accepts_what_deployed_clients_send(session: Session, arguments: dict[str, Any]) -> None:
    queue = session.queue_declare("q", durable=True, arguments=arguments)
    assert arguments.items() <= queue.arguments.items()
    assert session.vhost.queues["q"] is queue


def test_dead_letter_exchange_must_be_a_name(session: Session) -> None:
    refused(
        InvalidArgument,
        "invalid type 'signedint' for arg 'x-dead-letter-exchange' in queue 'q' in vhost '/'",
        session.queue_declare,
        "q",
        arguments={"x-dead-letter-exchange": 1},
    )


@pytest.mark.parametrize(
    ("options", "what"),
    [({}, "non-durable"), ({"durable": True, "exclusive": True}, "exclusive-owner"),
     ({"durable": True, "auto_delete": True}, "auto-delete")],
)  # fmt: skip
def test_what_quorum_queues_cannot_be(session: Session, options: dict[str, Any], what: str) -> None:
    refused(
        PreconditionFailed,
        f"invalid property '{what}' for queue 'q' in vhost '/'",
        session.queue_declare,
        "q",
        arguments={"x-queue-type": "quorum"},
        **options,
    )


def test_server_named_queues(session: Session) -> None:
    first, second = session.queue_declare(), session.queue_declare("")
    assert first is not second
    assert first.name.startswith("amq.gen-")
    assert len(first.name) == len("amq.gen-") + 22
    refused(
        AccessRefused,
        f"queue name '{first.name}' contains reserved prefix 'amq.*'",
        session.queue_declare,
        first.name,
    )
    assert session.queue_declare(first.name, passive=True) is first
    refused(
        PreconditionFailed,
        "Cannot declare a server-named queue for type rabbit_quorum_queue",
        session.queue_declare,
        "",
        durable=True,
        arguments={"x-queue-type": "quorum"},
    )


def test_reserved_queue_names(session: Session) -> None:
    refused(
        AccessRefused, "queue name 'amq.x' contains reserved prefix 'amq.*'", session.queue_declare, "amq.x"
    )
    refused(NotFound, "no queue 'amq.x' in vhost '/'", session.queue_declare, "amq.x", passive=True)
    session.queue_declare("amqx")
    session.queue_declare("AMQ.x")


@pytest.mark.parametrize(
    ("options", "received"),
    [
        ({"arguments": {"x-max-length": 11}}, "'x-max-length' {}: received '11' but current is '10'"),
        ({"arguments": {"x-max-length": "a"}}, "'x-max-length' {}: received 'a' but current is '10'"),
        ({"arguments": {"x-max-length": 2**40}}, "'x-max-length' {}: received '1099511627776' but current is '10'"),
        ({}, "'x-max-length' {}: received none but current is the value '10' of type 'signedint'"),
        ({"arguments": {"x-max-length": 10, "x-message-ttl": 5}},
         "'x-message-ttl' {}: received the value '5' of type 'signedint' but current is none"),
        ({"arguments": {"x-max-length": 10, "x-overflow": "drop-head"}},
         "'x-overflow' {}: received the value 'drop-head' of type 'longstr' but current is none"),
        ({"arguments": {"x-max-length": 10, "x-single-active-consumer": True}},
         "'x-single-active-consumer' {}: received the value 'true' of type 'bool' but current is none"),
        ({"arguments": {"x-max-length": 10, "x-dead-letter-exchange": ""}},
         "'x-dead-letter-exchange' {}: received the value '' of type 'longstr' but current is none"),
        ({"arguments": {"x-max-length": 10, "x-queue-type": "quorum"}},
         "'x-queue-type' {}: received 'quorum' but current is 'classic'"),
        ({"arguments": {"x-max-length": 10}, "durable": True}, "'durable' {}: received 'true' but current is 'false'"),
        ({"arguments": {"x-max-length": 10}, "auto_delete": True},
         "'auto_delete' {}: received 'true' but current is 'false'"),
    ],
)  # fmt: skip
def test_inequivalent_queues(session: Session, options: dict[str, Any], received: str) -> None:
    session.queue_declare("q", arguments={"x-max-length": 10})
    text = "inequivalent arg " + received.format("for queue 'q' in vhost '/'")
    refused(PreconditionFailed, text, session.queue_declare, "q", **options)


@pytest.mark.parametrize("arguments", [
    {"x-max-length": Int16(10)}, {"x-max-length": Int64(10), "x-foo": 1}, {"x-max-length": 10, "x-max-age": "1D"},
    {"x-max-length": 10, "x-queue-type": "classic"}, {"x-max-length": 10, "x-consumer-timeout": 3},
])  # fmt: skip
def test_widths_and_unknown_arguments_do_not_count(session: Session, arguments: dict[str, Any]) -> None:
    queue = session.queue_declare("q", arguments={"x-max-length": 10})
    assert session.queue_declare("q", arguments=arguments) is queue


def test_default_queue_type_of_the_virtual_host(broker: FakeBroker) -> None:
    broker.add_vhost("/", default_queue_type="quorum")
    session = broker.session()
    queue = session.queue_declare("q", durable=True)
    assert (queue.type, queue.arguments) == ("quorum", {"x-queue-type": "quorum"})
    assert session.queue_declare("q", durable=True) is queue
    assert session.queue_declare("e", exclusive=True).type == "classic"
    assert session.queue_declare("").type == "classic"


def test_exclusive_queues_are_locked(broker: FakeBroker) -> None:
    owner, other = broker.session(), broker.session()
    queue = owner.queue_declare("q", exclusive=True, durable=True)
    assert not queue.is_durable
    assert owner.queue_declare("q", exclusive=True) is queue
    refused(ResourceLocked, LOCKED, owner.queue_declare, "q")
    owner.queue_bind("q", "amq.direct", "k")
    for call, args in (
        (other.queue_declare, ("q",)), (other.queue_bind, ("q", "amq.direct", "x")), (other.queue_delete, ("q",)),
        (other.queue_unbind, ("q", "amq.direct", "k")), (other.queue_purge, ("q",)),
        (other.queue_for_get, ("q",)), (other.queue_for_consume, ("q",)),
    ):  # fmt: skip
        refused(ResourceLocked, LOCKED, call, *args)
    refused(ResourceLocked, LOCKED, other.queue_declare, "q", passive=True)
    refused(ResourceLocked, LOCKED, other.queue_declare, "q", exclusive=True)
    other.queue_unbind("q", "amq.direct", "nothing bound so")
    owner.queue_declare("shared")
    refused(ResourceLocked, LOCKED.replace("'q'", "'shared'"), other.queue_declare, "shared", exclusive=True)


def test_exclusive_queues_go_with_their_connection(broker: FakeBroker) -> None:
    owner, other = broker.session(), broker.session()
    owner.queue_declare("mine", exclusive=True)
    owner.queue_declare("ours")
    other.queue_declare("theirs", exclusive=True)
    owner.close()
    assert set(owner.vhost.queues) == {"ours", "theirs"}
    owner.vhost.release_exclusive()
    assert set(owner.vhost.queues) == {"ours"}


def test_passive_declare(session: Session) -> None:
    refused(NotFound, "no queue 'q' in vhost '/'", session.queue_declare, "q", passive=True)
    queue = session.queue_declare("q", arguments={"x-max-length": 1})
    assert session.queue_declare("q", passive=True, durable=True, arguments={"x-max-length": -5}) is queue


def test_queue_delete(session: Session) -> None:
    assert session.queue_delete("nope") == 0
    queue = session.queue_declare("q")
    queue.publish(envelope("", "q"), [b"one", b"two"])
    refused(PreconditionFailed, "queue 'q' in vhost '/' not empty", session.queue_delete, "q", if_empty=True)
    assert session.queue_delete("q") == 2
    assert "q" not in session.vhost.queues
    assert queue.is_closed


def test_queue_delete_if_unused(session: Session, monkeypatch: pytest.MonkeyPatch) -> None:
    queue = session.queue_declare("q")
    monkeypatch.setattr(type(queue), "consumer_count", property(lambda self: 1))
    refused(PreconditionFailed, "queue 'q' in vhost '/' in use", session.queue_delete, "q", if_unused=True)


def test_purge(session: Session) -> None:
    refused(NotFound, "no queue 'nope' in vhost '/'", session.queue_purge, "nope")
    session.queue_declare("q").publish(envelope("", "q"), [b"1", b"2", b"3"])
    assert session.queue_purge("q") == 3
    assert session.queue_purge("q") == 0


def test_queue_limit_of_the_virtual_host(session: Session) -> None:
    session.queue_declare("a")
    session.vhost.set_limits({"max-queues": 1})
    session.queue_declare("a")
    refused(
        PreconditionFailed,
        "cannot declare queue 'b': queue limit in vhost '/' (1) is reached",
        session.queue_declare,
        "b",
    )
    session.vhost.set_limits({"max-queues": -1})
    session.queue_declare("b")


def test_arguments_that_cannot_be_stored_are_refused_before_anything_changes(session: Session) -> None:
    with pytest.raises(InvalidArgument, match="invalid arguments for queue 'q'"):
        session.queue_declare("q", arguments={"x-own": object()})
    assert not session.vhost.queues


# -- exchanges


def test_declares_an_exchange_and_finds_it_again(session: Session) -> None:
    options: dict[str, Any] = {
        "durable": True,
        "internal": True,
        "arguments": {"alternate-exchange": "ae", "x": 1},
    }
    exchange = session.exchange_declare("x", "topic", **options)
    assert (
        session.exchange_declare("x", "topic", **(options | {"arguments": {"alternate-exchange": "ae"}}))
        is exchange
    )
    assert session.exchange_declare("x", "whatever", passive=True) is exchange
    assert exchange.alternate_exchange == "ae"


@pytest.mark.parametrize(
    ("type", "options", "received"),
    [
        ("fanout", {}, "'type' {}: received 'fanout' but current is 'direct'"),
        ("direct", {"durable": True}, "'durable' {}: received 'true' but current is 'false'"),
        ("direct", {"auto_delete": True}, "'auto_delete' {}: received 'true' but current is 'false'"),
        ("direct", {"internal": True}, "'internal' {}: received 'true' but current is 'false'"),
        ("direct", {"arguments": {}},
         "'alternate-exchange' {}: received none but current is the value 'ae' of type 'longstr'"),
        ("direct", {"arguments": {"alternate-exchange": "be"}},
         "'alternate-exchange' {}: received 'be' but current is 'ae'"),
        ("direct", {"arguments": {"alternate-exchange": 5}},
         "'alternate-exchange' {}: received '5' but current is 'ae'"),
    ],
)  # fmt: skip
def test_inequivalent_exchanges(session: Session, type: str, options: dict[str, Any], received: str) -> None:
    options = {"arguments": {"alternate-exchange": "ae"}} | options
    session.exchange_declare("x", "direct", arguments={"alternate-exchange": "ae"})
    text = "inequivalent arg " + received.format("for exchange 'x' in vhost '/'")
    refused(PreconditionFailed, text, session.exchange_declare, "x", type, **options)


def test_predeclared_exchanges(session: Session) -> None:
    session.exchange_declare("amq.topic", "topic", durable=True)
    session.exchange_declare("amq.rabbitmq.trace", "topic", durable=True, internal=True)
    refused(
        PreconditionFailed,
        "inequivalent arg 'durable' for exchange 'amq.topic' in vhost '/': received 'false' but current is 'true'",
        session.exchange_declare,
        "amq.topic",
        "topic",
    )
    refused(
        AccessRefused,
        "exchange name 'amq.new' contains reserved prefix 'amq.*'",
        session.exchange_declare,
        "amq.new",
    )
    refused(NotFound, "no exchange 'amq.new' in vhost '/'", session.exchange_declare, "amq.new", passive=True)
    for name in ("amq.topic", "amq.nope"):
        refused(
            AccessRefused,
            f"deletion of system exchange '{name}' in vhost '/' not allowed",
            session.exchange_delete,
            name,
        )


def test_default_exchange_is_left_alone(session: Session) -> None:
    session.queue_declare("q")
    text = "operation not permitted on the default exchange"
    refused(AccessRefused, text, session.exchange_declare, "")
    refused(AccessRefused, text, session.exchange_declare, "", passive=True)
    refused(AccessRefused, text, session.exchange_delete, "")
    refused(AccessRefused, text, session.queue_bind, "q", "", "k")
    refused(AccessRefused, text, session.queue_unbind, "q", "", "q")
    refused(AccessRefused, text, session.exchange_bind, "", "amq.direct", "k")
    refused(AccessRefused, text, session.exchange_bind, "amq.direct", "", "k")


def test_unknown_exchange_type_and_bad_alternate(session: Session) -> None:
    refused(PreconditionFailed, "unknown exchange type 'foo'", session.exchange_declare, "x", "foo")
    refused(
        InvalidArgument,
        "invalid type 'signedint' for arg 'alternate-exchange' in exchange 'x' in vhost '/'",
        session.exchange_declare,
        "x",
        arguments={"alternate-exchange": 1},
    )
    assert "x" not in session.vhost.exchanges


def test_exchange_delete(session: Session) -> None:
    session.exchange_delete("nope")
    session.queue_declare("q")
    session.exchange_declare("x")
    session.exchange_declare("y")
    session.queue_bind("q", "x", "k")
    session.exchange_bind("y", "x", "k")
    refused(
        PreconditionFailed, "exchange 'x' in vhost '/' in use", session.exchange_delete, "x", if_unused=True
    )
    session.exchange_delete("y", if_unused=True)  # being bound to is no use
    session.exchange_delete("x")
    assert not {"x", "y"} & set(session.vhost.exchanges)
    assert [source.name for source, _ in session.vhost.bindings_to(session.vhost.queues["q"])] == [""]


# -- bindings


def test_binding_what_is_missing(session: Session) -> None:
    session.queue_declare("q")
    refused(NotFound, "no exchange 'nope' in vhost '/'", session.queue_bind, "q", "nope", "k")
    refused(NotFound, "no queue 'nope' in vhost '/'", session.queue_bind, "nope", "amq.direct", "k")
    refused(NotFound, "no exchange 'nope' in vhost '/'", session.queue_bind, "nope", "nope", "k")
    refused(NotFound, "no exchange 'nope' in vhost '/'", session.exchange_bind, "nope", "amq.direct", "k")
    refused(NotFound, "no exchange 'nope' in vhost '/'", session.exchange_bind, "amq.direct", "nope", "k")
    session.queue_unbind("q", "nope", "k")
    session.queue_unbind("nope", "amq.direct", "k")
    session.queue_unbind("q", "amq.direct", "k")
    session.exchange_unbind("nope", "amq.direct", "k")


def test_equal_bindings_are_one_and_arguments_tell_them_apart(session: Session) -> None:
    session.queue_declare("q")
    source = session.vhost.exchanges["amq.direct"]
    session.queue_bind("q", "amq.direct", "k")
    epoch = session.vhost.epoch
    session.queue_bind("q", "amq.direct", "k")
    assert (len(source.bindings), session.vhost.epoch) == (1, epoch)
    session.queue_bind("q", "amq.direct", "k", {"a": 1})
    assert len(source.bindings) == 2
    session.queue_unbind("q", "amq.direct", "k", {"a": 2})
    assert len(source.bindings) == 2
    session.queue_unbind("q", "amq.direct", "k")
    session.queue_unbind("q", "amq.direct", "k", {"a": 1})
    assert not source.bindings
    assert route(source, envelope("amq.direct", "k")).queues == ()


def test_invalid_binding_changes_nothing(session: Session) -> None:
    session.queue_declare("q")
    with pytest.raises(InvalidArgument, match="Invalid x-match field value"):
        session.queue_bind("q", "amq.headers", "", {"x-match": "foo"})
    assert not session.vhost.exchanges["amq.headers"].bindings


def test_auto_delete_exchange_goes_with_its_last_outgoing_binding(session: Session) -> None:
    for name in ("a", "b", "c"):
        session.exchange_declare(name, "fanout", auto_delete=True)
    session.queue_declare("q")
    session.exchange_bind("b", "a")
    session.exchange_bind("c", "b")
    session.queue_bind("q", "c", "one")
    session.queue_bind("q", "c", "two")
    session.queue_unbind("q", "c", "one")
    assert {"a", "b", "c"} <= set(session.vhost.exchanges)
    session.queue_delete("q")  # takes c's last binding, so c, so b's, so b, so a's, so a
    assert not {"a", "b", "c"} & set(session.vhost.exchanges)


def test_auto_delete_exchange_goes_with_an_unbind(session: Session) -> None:
    session.exchange_declare("auto", auto_delete=True)
    session.queue_declare("q")
    session.queue_bind("q", "auto", "k")
    session.queue_unbind("q", "auto", "k")
    assert "auto" not in session.vhost.exchanges


def test_auto_delete_exchange_outlives_incoming_bindings(session: Session) -> None:
    session.exchange_declare("auto", "fanout", auto_delete=True)
    session.exchange_bind("auto", "amq.fanout")
    session.exchange_unbind("auto", "amq.fanout")
    assert "auto" in session.vhost.exchanges


def test_an_exchange_bound_to_itself_can_be_deleted(session: Session) -> None:
    session.exchange_declare("x", auto_delete=True)
    session.exchange_bind("x", "x", "k")
    session.exchange_delete("x")
    assert "x" not in session.vhost.exchanges


# -- permissions: what each method asks (features/auth.md, 5b)

call = methodcaller
TABLE: list[tuple[methodcaller, list[tuple[str, str, str]]]] = [
    (call("exchange_declare", "x"), [("configure", "exchange", "x")]),
    (call("exchange_declare", "x", arguments={"alternate-exchange": "ae"}),
     [("configure", "exchange", "x"), ("read", "exchange", "x"), ("write", "exchange", "ae")]),
    (call("exchange_declare", "amq.direct", "direct", durable=True), [("configure", "exchange", "amq.direct")]),
    (call("exchange_delete", "x"), [("configure", "exchange", "x")]),
    (call("exchange_bind", "amq.fanout", "amq.direct", "k"), [("write", "exchange", "amq.fanout"), ("read", "exchange", "amq.direct")]),
    (call("exchange_unbind", "amq.fanout", "amq.topic", "k"),
     [("write", "exchange", "amq.fanout"), ("read", "exchange", "amq.topic"), ("read", "topic", "amq.topic")]),
    (call("queue_declare", "new"), [("configure", "queue", "new")]),
    (call("queue_declare", "new", arguments={"x-dead-letter-exchange": "dlx"}),
     [("configure", "queue", "new"), ("read", "queue", "new"), ("write", "exchange", "dlx")]),
    (call("queue_declare", "new", arguments={"x-dead-letter-exchange": ""}),
     [("configure", "queue", "new"), ("read", "queue", "new"), ("write", "exchange", "amq.default")]),
    (call("queue_declare", "q", passive=True), [("write", "queue", "q")]),
    (call("queue_delete", "q"), [("configure", "queue", "q")]),
    (call("queue_bind", "q", "amq.direct", "k"), [("write", "queue", "q"), ("read", "exchange", "amq.direct")]),
    (call("queue_unbind", "q", "amq.topic", "k"),
     [("write", "queue", "q"), ("read", "exchange", "amq.topic"), ("read", "topic", "amq.topic")]),
    (call("queue_purge", "q"), [("read", "queue", "q")]),
    (call("queue_for_get", "q"), [("read", "queue", "q")]),
    (call("queue_for_consume", "q"), [("read", "queue", "q")]),
    (call("target", "amq.direct", "k"), [("write", "exchange", "amq.direct")]),
    (call("target", "", "q"), [("write", "exchange", "amq.default")]),
    (call("target", "amq.topic", "k"), [("write", "exchange", "amq.topic"), ("write", "topic", "amq.topic")]),
]  # fmt: skip


@pytest.mark.parametrize(
    ("call", "asked"), TABLE, ids=[repr(call).partition("caller")[2] for call, _ in TABLE]
)
def test_what_each_method_asks(
    broker: FakeBroker, call: methodcaller, asked: list[tuple[str, str, str]]
) -> None:
    broker.session().queue_declare("q")
    session = broker.session()
    broker.auth.asked.clear()
    call(session)
    assert broker.auth.asked == asked


@pytest.mark.parametrize(
    ("call", "asked"), TABLE, ids=[repr(call).partition("caller")[2] for call, _ in TABLE]
)
def test_nothing_changes_if_any_of_it_is_refused(
    broker: FakeBroker, call: methodcaller, asked: list[tuple[str, str, str]]
) -> None:
    session = broker.session()
    session.queue_declare("q")
    epoch, definitions = session.vhost.epoch, list(broker.store.definitions())
    for permission, kind, name in asked:
        broker.auth.rule = lambda principal, vhost, asked, resource, rule=(permission, kind, name): (
            (asked, resource.kind, resource.name) != rule
        )
        session = broker.session()
        if "passive" in repr(call):
            call(session)
            continue
        thing = f"topic 'k' in exchange '{name}'" if kind == "topic" else f"{kind} '{name}'"
        with pytest.raises(AccessRefused) as info:
            call(session)
        assert str(info.value) == f"{permission} access to {thing} in vhost '/' refused for user 'u'"
    assert (session.vhost.epoch, list(broker.store.definitions())) == (epoch, definitions)

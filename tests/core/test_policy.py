"""Policies: which apply, what they come to, and that they hold at once."""

from __future__ import annotations

from typing import Any

import pytest
from support.topology import FakeBroker, envelope, names

from leveret.core.errors import InvalidArgument, NotFound
from leveret.core.exchange import Exchange
from leveret.core.policy import queue_limits
from leveret.core.queue.arguments import ARGUMENTS
from leveret.core.queue.limits import QueueLimits
from leveret.core.queue.queue import Queue
from leveret.core.routing import route
from leveret.core.session import Session


@pytest.fixture
def broker() -> FakeBroker:
    broker = FakeBroker()
    broker.add_vhost("/")
    return broker


@pytest.fixture
def session(broker: FakeBroker) -> Session:
    return broker.session()


# -- what both come to


@pytest.mark.parametrize(
    ("arguments", "definition", "expected"),
    [
        ({}, {}, {}),
        ({"x-message-ttl": 5}, {"message-ttl": 3}, {"message_ttl_ms": 3}),
        ({"x-message-ttl": 2}, {"message-ttl": 3}, {"message_ttl_ms": 2}),
        ({}, {"message-ttl": 0}, {"message_ttl_ms": 0}),
        ({"x-expires": 9}, {"expires": 8}, {"expires_ms": 8}),
        ({"x-max-length": 0}, {"max-length": 8}, {"max_length": 0}),
        ({"x-max-length-bytes": 7}, {}, {"max_length_bytes": 7}),
        ({"x-overflow": "drop-head"}, {"overflow": "reject-publish"}, {"overflow": "drop-head"}),
        ({}, {"overflow": "reject-publish-dlx"}, {"overflow": "reject-publish-dlx"}),
        ({"x-dead-letter-exchange": ""}, {"dead-letter-exchange": "p", "dead-letter-routing-key": "k"},
         {"dead_letter_exchange": "", "dead_letter_routing_key": "k"}),
        ({"x-consumer-timeout": 100}, {"consumer-timeout": 50}, {"consumer_timeout_ms": 50}),
        ({"x-consumer-timeout": "soon"}, {}, {}),
        ({"x-max-priority": 5, "x-single-active-consumer": True}, {}, {"max_priority": 5, "single_active_consumer": True}),
        ({"x-max-priority": 0}, {}, {}),
        ({}, {"delivery-limit": 3}, {}),  # for quorum queues alone
    ],
)  # fmt: skip
def test_limits_of_classic_queues(
    arguments: dict[str, Any], definition: dict[str, Any], expected: dict[str, Any]
) -> None:
    assert queue_limits(arguments, definition, "classic", quorum_delivery_limit=20) == QueueLimits(**expected)


@pytest.mark.parametrize(
    ("arguments", "definition", "limit"),
    [
        ({}, {}, 20), ({"x-delivery-limit": 5}, {}, 5), ({"x-delivery-limit": -1}, {}, -1),
        ({"x-delivery-limit": 5}, {"delivery-limit": 3}, 3), ({"x-delivery-limit": -1}, {"delivery-limit": 3}, 3),
        ({"x-delivery-limit": 5}, {"delivery-limit": -1}, 5), ({}, {"delivery-limit": 0}, 0),
    ],
)  # fmt: skip
def test_delivery_limit_of_quorum_queues(
    arguments: dict[str, Any], definition: dict[str, Any], limit: int
) -> None:
    assert queue_limits(arguments, definition, "quorum", quorum_delivery_limit=20).delivery_limit == limit


def test_quorum_queues_do_not_know_reject_publish_dlx() -> None:
    assert queue_limits({"x-overflow": "reject-publish-dlx"}, {}, "quorum").overflow == "drop-head"


# -- which applies


def test_highest_priority_applies_alone(broker: FakeBroker, session: Session) -> None:
    broker.policies.set("/", "low", pattern="^q", definition={"max-length": 1, "message-ttl": 5}, priority=-1)
    broker.policies.set("/", "high", pattern="q", definition={"max-length": 9}, priority=3)
    broker.policies.set("/", "other", pattern="^x", definition={"max-length": 7}, priority=9)
    queue = session.queue_declare("q")
    assert (queue.policy_name, queue.limits.max_length, queue.limits.message_ttl_ms) == ("high", 9, None)
    broker.policies.clear("/", "high")
    assert (queue.policy_name, queue.limits.max_length, queue.limits.message_ttl_ms) == ("low", 1, 5)


@pytest.mark.parametrize(
    ("apply_to", "applies"),
    [("all", ["classic", "quorum", "x"]), ("queues", ["classic", "quorum"]), ("exchanges", ["x"]),
     ("classic_queues", ["classic"]), ("quorum_queues", ["quorum"]), ("streams", [])],
)  # fmt: skip
def test_apply_to(broker: FakeBroker, session: Session, apply_to: str, applies: list[str]) -> None:
    session.queue_declare("classic")
    session.queue_declare("quorum", durable=True, arguments={"x-queue-type": "quorum"})
    session.exchange_declare("x")
    broker.policies.set(
        "/", "p", pattern="^(classic|quorum|x)$", definition={"max-length": 1}, apply_to=apply_to
    )
    things: list[Queue | Exchange] = [*session.vhost.queues.values(), *session.vhost.exchanges.values()]
    assert names(thing for thing in things if thing.policy_name == "p") == applies


def test_virtual_hosts_are_apart(broker: FakeBroker, session: Session) -> None:
    other = broker.session("other")
    broker.policies.set("other", "p", pattern="", definition={"max-length": 1})
    assert session.queue_declare("q").limits.max_length is None
    assert other.queue_declare("q").limits.max_length == 1
    broker.policies.forget_vhost("other")
    assert broker.policies.list() == []
    assert not list(broker.store.definitions(b"topology/policy/"))


def test_operators_policy(broker: FakeBroker, session: Session) -> None:
    queue = session.queue_declare("q", arguments={"x-max-length-bytes": 1000})
    broker.policies.set(
        "/", "p", pattern="q", definition={"max-length": 10, "overflow": "drop-head", "expires": 99}
    )
    broker.policies.set(
        "/",
        "o",
        pattern="q",
        operator=True,
        definition={
            "max-length": 20,
            "message-ttl": 7,
            "overflow": "reject-publish",
            "max-length-bytes": 500,
        },
    )
    assert (queue.policy_name, queue.operator_policy_name) == ("p", "o")
    assert queue.limits == QueueLimits(
        max_length=10, message_ttl_ms=7, expires_ms=99, max_length_bytes=500, overflow="reject-publish"
    )
    effective = broker.policies.effective("/", "queue", "q", "classic")
    assert effective.definition == {
        "max-length": 10, "overflow": "reject-publish", "expires": 99, "message-ttl": 7, "max-length-bytes": 500,
    }  # fmt: skip
    assert [policy.name for policy in broker.policies.list("/")] == ["p"]
    assert [policy.name for policy in broker.policies.list(operator=True)] == ["o"]
    broker.policies.clear("/", "o", operator=True)
    assert queue.limits.message_ttl_ms is None


# -- effects


def test_a_policy_holds_at_once_for_what_is_there(broker: FakeBroker, session: Session) -> None:
    queue = session.queue_declare("q")
    queue.publish(envelope("", "q"), [b"1", b"2", b"3"])
    epoch = session.vhost.epoch
    broker.policies.set("/", "p", pattern="q", definition={"max-length": 1})
    assert queue.message_count == 1
    assert session.vhost.epoch > epoch


def test_alternate_exchange_by_policy(broker: FakeBroker, session: Session) -> None:
    session.queue_declare("q")
    session.queue_bind("q", "amq.fanout")
    exchange = session.exchange_declare("x")
    with_argument = session.exchange_declare("y", arguments={"alternate-exchange": "own"})
    broker.policies.set("/", "p", pattern="^[xyz]", definition={"alternate-exchange": "amq.fanout"})
    later = session.exchange_declare("z")
    assert names(route(exchange, envelope("x", "k")).queues) == ["q"]
    assert with_argument.alternate_exchange == "own"
    assert later.alternate_exchange == "amq.fanout"
    broker.policies.clear("/", "p")
    assert route(exchange, envelope("x", "k")).queues == ()
    assert with_argument.alternate_exchange == "own"


def test_events(broker: FakeBroker, session: Session) -> None:
    session.queue_declare("q")
    heard: list[str] = []
    broker.events.subscribe(lambda name, fields: heard.append(name))
    broker.policies.set("/", "p", pattern="q", definition={"max-length": 1})
    broker.policies.set("/", "o", pattern="q", definition={"max-length": 1}, operator=True)
    broker.policies.clear("/", "o", operator=True)
    broker.policies.clear("/", "p")
    assert heard == [
        "queue.policy.updated", "policy.set", "queue.policy.updated", "operator.policy.set",
        "queue.policy.cleared", "operator.policy.cleared", "queue.policy.cleared", "policy.cleared",
    ]  # fmt: skip


# -- refusals


@pytest.mark.parametrize(
    ("options", "text"),
    [
        ({"definition": {"foo": 1}}, '[{<<"foo">>,1}] are not recognised policy settings'),
        ({"definition": {"foo": 1, "bar": "x"}},
         '[{<<"bar">>,<<"x">>},{<<"foo">>,1}] are not recognised policy settings'),
        ({"definition": {"ha-mode": "some"}}, '<<"some">> is not a valid ha-mode value'),
        ({"definition": {"ha-mode": "all"}, "operator": True},
         '[{<<"ha-mode">>,<<"all">>}] are not recognised policy settings'),
        ({"definition": {"foo": 1, "max-length": -1}}, "-1 is not a valid maximum length"),
        ({"definition": {}}, "no policy provided"),
        ({"definition": {"max-length": "x"}}, '<<"x">> is not a valid maximum length'),
        ({"definition": {"max-length": True}}, "true is not a valid maximum length"),
        ({"definition": {"max-length": 1.5}}, "1.5 is not a valid maximum length"),
        ({"definition": {"overflow": "x"}}, '<<"x">> is not a valid overflow value'),
        ({"definition": {"message-ttl": -1}}, "-1 is not a valid message TTL"),
        ({"definition": {"expires": 0}}, "0 is not a valid queue expiry"),
        ({"definition": {"alternate-exchange": 1}}, "1 is not a valid alternate exchange name"),
        ({"definition": {"max-age": "1X"}}, '<<"1X">> is not a valid max age'),
        ({"definition": {"queue-mode": "x"}}, '<<"x">> is not a valid queue-mode value'),
        ({"definition": {"queue-version": 3}}, "3 is not a valid queue-version value"),
        ({"definition": {"dead-letter-exchange": ["x"]}}, '[<<"x">>] is not a valid dead letter exchange name'),
        ({"definition": {"dead-letter-exchange": "x"}, "operator": True},
         '[{<<"dead-letter-exchange">>,<<"x">>}] are not recognised policy settings'),
        ({"pattern": 1}, "pattern should be a binary but was 1"),
        ({"priority": "x"}, 'priority should be a number, actually was <<"x">>'),
        ({"apply_to": "foo"}, ("apply-to 'foo' unrecognised; should be one of: 'queues', 'classic_queues', "
         " 'quorum_queues', 'streams', 'exchanges', or 'all'")),
    ],
)  # fmt: skip
def test_refusals(broker: FakeBroker, options: dict[str, Any], text: str) -> None:
    with pytest.raises(InvalidArgument) as info:
        broker.policies.set("/", "p", **({"pattern": "^a", "definition": {"max-length": 1}} | options))
    assert str(info.value) == text
    assert broker.policies.list() == []


@pytest.mark.parametrize("is_import", [False, True])
def test_keys_of_rabbitmq_3_are_accepted_without_effect(
    broker: FakeBroker, session: Session, caplog: pytest.LogCaptureFixture, is_import: bool
) -> None:
    """Mirroring and placement: what definitions of RabbitMQ 3 say, and what its users set."""
    definition = {
        "ha-mode": "exactly", "ha-params": 2, "ha-sync-mode": "automatic", "ha-sync-batch-size": 100,
        "ha-promote-on-shutdown": "always", "ha-promote-on-failure": "when-synced",
        "queue-master-locator": "min-masters", "queue-mode": "lazy",
    }  # fmt: skip
    queue = session.queue_declare("a")
    before = queue.limits
    policy = broker.policies.set("/", "p", pattern="^a", definition=definition, is_import=is_import)
    assert policy.definition == definition
    assert queue.policy_name == "p"
    assert queue.limits == before
    assert "keys without effect: ha-mode, ha-params, " in caplog.text


def test_a_row_is_all_that_an_argument_needs() -> None:
    for row in ARGUMENTS:
        assert row.argument is not None or row.policy is not None, row
        assert bool(row.argument) == bool(row.queue_types), row
        assert bool(row.policy) == bool(row.noun), row
        assert row.policy is not None or not row.is_for_operators, row


def test_bad_pattern_and_missing_things(broker: FakeBroker) -> None:
    with pytest.raises(InvalidArgument, match=r"^pattern should be regular expression but is invalid: "):
        broker.policies.set("/", "p", pattern="(", definition={"max-length": 1})
    with pytest.raises(NotFound):
        broker.policies.set("nope", "p", pattern="", definition={"max-length": 1})
    with pytest.raises(NotFound):
        broker.policies.clear("/", "nope")


def test_imports_keep_what_nobody_knows(broker: FakeBroker, session: Session) -> None:
    broker.policies.set(
        "/", "ha", pattern="q", definition={"ha-mode": "all", "max-length": 2}, is_import=True
    )
    assert session.queue_declare("q").limits.max_length == 2
    assert broker.policies.list("/")[0].definition == {"ha-mode": "all", "max-length": 2}
    with pytest.raises(InvalidArgument):
        broker.policies.set("/", "ha", pattern="q", definition={"max-length": -2}, is_import=True)

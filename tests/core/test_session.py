"""Permissions, remembered and asked anew; publishing for listeners that do not speak AMQP."""

from __future__ import annotations

from typing import Any

import pytest
from support.topology import FakeBroker, envelope

from leveret.auth.contracts import Permission, Principal
from leveret.core.errors import AccessRefused, AuthorizationPending, NotAllowed, NotFound, PreconditionFailed


@pytest.fixture
def broker() -> FakeBroker:
    return FakeBroker()


def only(*allowed: tuple[str, str, str]) -> Any:
    return lambda principal, vhost, permission, resource: (
        (str(permission), resource.kind, resource.name) in allowed
    )


async def test_enter(broker: FakeBroker) -> None:
    await broker.session().enter()
    broker.auth.rule = lambda *question: False
    with pytest.raises(NotAllowed) as info:
        await broker.session().enter()
    assert str(info.value) == "access to vhost '/' refused for user 'u'"
    broker.auth.rule = lambda *question: None  # the answer needs I/O
    await broker.session("slow").enter()
    with pytest.raises(NotAllowed):
        await broker.session().enter()


def test_answers_from_memory_are_asked_for_each_time_and_cost_nothing_to_keep(broker: FakeBroker) -> None:
    session = broker.session()
    for _ in range(3):
        session.target("amq.topic", "k")
    assert len(broker.auth.asked) == 6
    assert not session._answers
    broker.auth.rule = lambda *question: False
    with pytest.raises(AccessRefused):
        session.target("amq.topic", "k")


async def test_answers_of_slow_backends_are_remembered_until_permissions_change(broker: FakeBroker) -> None:
    session = broker.session()
    await session.authorize(AuthorizationPending("queue", "slow", Permission.READ, None))
    broker.auth.rule = lambda *question: None
    session.require(Permission.READ, "queue", "slow")
    assert not broker.auth.asked
    broker.users.revision += 1
    with pytest.raises(AuthorizationPending):
        session.require(Permission.READ, "queue", "slow")


async def test_remembered_answers_are_bounded(broker: FakeBroker) -> None:
    session = broker.session()
    for number in range(5000):
        await session.authorize(AuthorizationPending("queue", f"slow{number}", Permission.READ, None))
    assert 0 < len(session._answers) <= 4096


def test_a_renewed_principal_is_asked_about_anew(broker: FakeBroker) -> None:
    session = broker.session()
    epoch = session.target("", "q").epoch
    broker.auth.rule = lambda principal, *question: "good" in principal.tags
    session.renew(Principal("u"))
    assert session.vhost.epoch != epoch
    with pytest.raises(AccessRefused):
        session.target("", "q")
    session.renew(Principal("u", frozenset({"good"})))
    session.target("", "q")


async def test_an_answer_that_needs_io(broker: FakeBroker, autojump_clock: Any) -> None:
    session = broker.session()
    broker.auth.rule = lambda *question: None
    broker.timers.start()
    with pytest.raises(AuthorizationPending) as info:
        session.queue_declare("slow-q")
    assert (info.value.kind, info.value.name, info.value.permission) == ("queue", "slow-q", "configure")
    assert not session.vhost.queues
    await session.authorize(info.value)
    session.queue_declare("slow-q")
    with pytest.raises(AuthorizationPending) as info:
        session.queue_declare("quick-q")
    await session.authorize(info.value)
    with pytest.raises(AccessRefused):
        session.queue_declare("quick-q")
    broker.timers.now += broker.settings.auth.cache_ttl_s + 1
    with pytest.raises(AuthorizationPending):
        session.queue_declare("slow-q")


@pytest.mark.parametrize("permission", list(Permission))
def test_any_permission_suffices_for_a_passive_declaration(
    broker: FakeBroker, permission: Permission
) -> None:
    broker.session().queue_declare("q")
    broker.auth.rule = only((str(permission), "queue", "q"), (str(permission), "exchange", "amq.direct"))
    session = broker.session()
    session.queue_declare("q", passive=True)
    session.exchange_declare("amq.direct", passive=True)
    broker.auth.rule = only()
    with pytest.raises(AccessRefused) as info:
        broker.session().queue_declare("q", passive=True)
    assert str(info.value) == "configure access to queue 'q' in vhost '/' refused for user 'u'"


def test_server_named_queues_are_asked_for_by_their_names(broker: FakeBroker) -> None:
    broker.auth.rule = lambda principal, vhost, permission, resource: not resource.name.startswith("amq.gen-")
    with pytest.raises(
        AccessRefused, match=r"configure access to queue 'amq.gen-.{22}' in vhost '/' refused"
    ):
        broker.session().queue_declare("")


def test_target(broker: FakeBroker) -> None:
    session = broker.session()
    target = session.target("amq.direct", "k")
    assert (target.exchange, target.routing_key, target.epoch, target.queues) == (
        session.vhost.exchanges["amq.direct"], "k", session.vhost.epoch, None
    )  # fmt: skip
    for exchange, error, text in (
        ("nope", NotFound, "no exchange 'nope' in vhost '/'"),
        ("amq.rabbitmq.trace", AccessRefused,
         "cannot publish to internal exchange 'amq.rabbitmq.trace' in vhost '/'"),
    ):  # fmt: skip
        with pytest.raises(error) as info:
            session.target(exchange, "k")
        assert str(info.value) == text


def test_topic_permission_for_the_key_and_for_cc(broker: FakeBroker) -> None:
    session = broker.session()
    broker.auth.rule = lambda principal, vhost, permission, resource: resource.routing_key != "secret"
    session.target("amq.direct", "secret")
    exchange = session.target("amq.topic", "open").exchange
    text = "write access to topic 'secret' in exchange 'amq.topic' in vhost '/' refused for user 'u'"
    with pytest.raises(AccessRefused) as info:
        session.target("amq.topic", "secret")
    assert str(info.value) == text
    session.route(exchange, envelope("amq.topic", "open", headers={"CC": ["free"]}))
    for name in ("CC", "BCC"):
        with pytest.raises(AccessRefused) as info:
            session.route(exchange, envelope("amq.topic", "open", headers={name: ["secret"]}))
        assert str(info.value) == text


def test_user_id(broker: FakeBroker) -> None:
    session = broker.session()
    session.check_user_id(None)
    session.check_user_id("u")
    with pytest.raises(PreconditionFailed) as info:
        session.check_user_id("x")
    assert str(info.value) == "user_id property set to 'x' but authenticated user was 'u'"
    session.renew(Principal("u", frozenset({"impersonator"})))
    session.check_user_id("x")


def test_publish(broker: FakeBroker) -> None:
    session = broker.session()
    queue = session.queue_declare("q", arguments={"x-max-length": 2, "x-overflow": "reject-publish"})
    published = session.publish(envelope("", "q"), b"one")
    assert (published.is_routed, published.rejected) == (True, 0)
    published = session.publish(envelope("", "q"), [b"two", b"three"])
    assert (published.is_routed, published.rejected) == (True, 1)
    assert not session.publish(envelope("amq.direct", "nobody"), b"x").is_routed
    assert queue.message_count == 2
    assert (session.vhost.default_exchange.published_in, session.vhost.default_exchange.published_out) == (
        3,
        3,
    )
    with pytest.raises(PreconditionFailed, match="user_id property"):
        session.publish(envelope("", "q", user_id="somebody"), b"x")


def test_get_from_a_single_active_quorum_queue(broker: FakeBroker) -> None:
    from leveret.core.errors import ResourceLocked

    session = broker.session()
    session.queue_declare(
        "q", durable=True, arguments={"x-queue-type": "quorum", "x-single-active-consumer": True}
    )
    session.queue_for_consume("q")
    with pytest.raises(ResourceLocked, match="not supported by quorum queues with single active consumer"):
        session.queue_for_get("q")


def test_repr(broker: FakeBroker) -> None:
    assert repr(broker.session()) == "<Session user='u' vhost='/'>"

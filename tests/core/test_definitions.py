"""What is durable comes back, as it was; the rest is gone."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from support.topology import FakeBroker, envelope, names

from leveret.conf.settings import Settings
from leveret.core.definitions import records, recovery
from leveret.core.errors import InvalidArgument, NotFound, PreconditionFailed
from leveret.core.fields import ByteArray, Decimal, Float32, Int8, Int16, Int64, Timestamp, UInt32
from leveret.core.routing import route
from leveret.core.session import Session
from leveret.core.store.base import Store
from leveret.core.store.lmdb.store import LmdbStore
from leveret.core.store.memory import MemoryState, MemoryStore


class Disk:
    """What outlives a broker: a store's state, and the one store at a time that is open on it."""

    def __init__(self, kind: str, path: Path) -> None:
        self._kind, self._path, self._state = kind, path, MemoryState()
        self.store: Store = MemoryStore()

    def reopen(self) -> Store:
        self.store.close()
        if self._kind == "memory":
            self.store = MemoryStore(state=self._state)
        else:
            self.store = LmdbStore(self._path, Settings().store)
        self.store.open()
        return self.store

    @property
    def records(self) -> dict[bytes, bytes]:
        return dict(self.store.definitions())

    def has_log(self, log_id: int) -> bool:
        try:
            self.store.open_log(log_id)
        except KeyError:
            return False
        return True


@pytest.fixture(params=["memory", "lmdb"])
def disk(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Disk]:
    disk = Disk(request.param, tmp_path)
    yield disk
    disk.store.close()


def started(disk: Disk) -> FakeBroker:
    broker = FakeBroker(disk.reopen())
    recovery.recover(broker)  # type: ignore[arg-type]  # a fake
    if not broker.vhosts:
        broker.add_vhost("/").save()
    return broker


def session_of(disk: Disk) -> Session:
    return started(disk).session()


def test_topology_comes_back(disk: Disk) -> None:
    session = session_of(disk)
    session.queue_declare("q", durable=True, auto_delete=True, arguments={"x-max-length": 5})
    session.queue_declare("quorum", durable=True, arguments={"x-queue-type": "quorum"})
    session.exchange_declare(
        "x", "topic", durable=True, internal=True, arguments={"alternate-exchange": "amq.fanout"}
    )
    session.queue_bind("q", "x", "a.#", {"own": 1})
    session.queue_bind("q", "amq.direct", "k")
    session.exchange_bind("x", "amq.topic", "#")

    again = session_of(disk)
    assert set(again.vhost.queues) == {"q", "quorum"}
    queue, exchange = again.vhost.queues["q"], again.vhost.exchanges["x"]
    assert (queue.is_durable, queue.is_auto_delete, queue.type, queue.limits.max_length) == (
        True,
        True,
        "classic",
        5,
    )
    assert again.vhost.queues["quorum"].type == "quorum"
    assert (exchange.type, exchange.is_durable, exchange.is_internal, exchange.alternate_exchange) == (
        "topic", True, True, "amq.fanout"
    )  # fmt: skip
    before = {
        (source.name, one.destination.name, one.routing_key) for source, one in session.vhost.bindings()
    }
    after = {(source.name, one.destination.name, one.routing_key) for source, one in again.vhost.bindings()}
    assert before == after
    assert names(route(again.vhost.exchanges["amq.topic"], envelope("amq.topic", "a.b")).queues) == ["q"]
    # And it is equivalent to what was declared.
    again.queue_declare("q", durable=True, auto_delete=True, arguments={"x-max-length": 5})
    again.exchange_declare(
        "x", "topic", durable=True, internal=True, arguments={"alternate-exchange": "amq.fanout"}
    )


def test_what_is_not_durable_is_gone(disk: Disk) -> None:
    session = session_of(disk)
    session.queue_declare("transient")
    session.queue_declare("exclusive", durable=True, exclusive=True)
    session.queue_declare("durable", durable=True)
    session.exchange_declare("tx")
    session.exchange_declare("dx", durable=True)
    session.queue_bind("transient", "dx", "k")
    session.queue_bind("durable", "tx", "k")
    session.queue_bind("durable", "dx", "k")
    again = session_of(disk)
    assert set(again.vhost.queues) == {"durable"}
    assert "tx" not in again.vhost.exchanges
    assert [(source.name, one.routing_key) for source, one in again.vhost.bindings() if source.name] == [
        ("dx", "k")
    ]


def test_what_was_deleted_stays_deleted(disk: Disk) -> None:
    session = session_of(disk)
    empty = disk.records
    session.exchange_declare("x", durable=True)
    session.exchange_declare("auto", "fanout", durable=True, auto_delete=True)
    for name in ("q1", "q2"):
        session.queue_declare(name, durable=True)
        session.queue_bind(name, "x", "k")
    session.queue_bind("q1", "auto")
    session.exchange_bind("x", "amq.fanout")
    session.queue_unbind("q2", "x", "k")
    session.queue_delete("q1")
    session.exchange_delete("x")
    session.queue_delete("q2")
    assert disk.records == empty
    assert disk.store.statistics()["logs"] == 0


def test_types_of_arguments_survive(disk: Disk) -> None:
    arguments: dict[str, Any] = {
        "int8": Int8(1), "int16": Int16(2), "int": 3, "long": Int64(4), "unsigned": UInt32(5), "float": Float32(0.5),
        "double": 1.5, "bool": True, "text": "täxt", "raw": b"\xff", "bytes": ByteArray(b"x"), "void": None,
        "when": Timestamp(7), "decimal": Decimal(2, 314), "list": [1, "a", [True]], "table": {"a": {"b": Int16(1)}},
    }  # fmt: skip
    session = session_of(disk)
    session.queue_declare("q", durable=True, arguments=arguments)
    session.queue_bind("q", "amq.headers", "", {"n": Int16(3)})
    again = session_of(disk)
    found = again.vhost.queues["q"].arguments
    assert {key: (type(value), value) for key, value in found.items() if key != "x-queue-type"} == {
        key: (type(value), value) for key, value in arguments.items()
    }
    binding = next(iter(again.vhost.exchanges["amq.headers"].bindings.values()))
    assert type(binding.arguments["n"]) is Int16


def test_names_of_any_characters_and_the_longest(disk: Disk) -> None:
    session = session_of(disk)
    key = b"\xff\x00\xfe".decode("utf-8", "surrogateescape")  # a routing key may be any bytes
    for name in ("n" * 255, "\x00\u00e4\u2603"):
        session.queue_declare(name, durable=True)
        session.exchange_declare(name, durable=True)
        session.queue_bind(name, name, key)
    again = session_of(disk)
    for name in ("n" * 255, "\x00\u00e4\u2603"):
        assert names(route(again.vhost.exchanges[name], envelope(name, key)).queues) == [name]


@pytest.mark.parametrize("declare", ["queue_declare", "exchange_declare"])
def test_a_name_that_is_not_utf_8_is_refused(disk: Disk, declare: str) -> None:
    session = session_of(disk)
    with pytest.raises(InvalidArgument, match="is not valid UTF-8"):
        getattr(session, declare)("q\udcff")
    assert not [name for name in session.vhost.queues if name] + [
        name for name in session.vhost.exchanges if name and not name.startswith("amq.")
    ]


def test_messages_are_found_again_and_orphaned_logs_are_not(disk: Disk) -> None:
    session = session_of(disk)
    queue = session.queue_declare("q", durable=True)
    priorities = session.queue_declare("p", durable=True, arguments={"x-max-priority": 2})
    queue.publish(envelope("", "q", delivery_mode=2), [b"one", b"two"])
    priorities.publish(envelope("", "p", delivery_mode=2, priority=2), [b"high"])
    orphan = disk.store.create_log()
    again = session_of(disk)
    assert again.vhost.queues["q"].message_count == 2
    assert again.vhost.queues["q"].log_ids == queue.log_ids
    assert again.vhost.queues["p"].log_ids == priorities.log_ids
    assert len(priorities.log_ids) == 3
    assert not disk.has_log(orphan.id)


async def test_what_expired_meanwhile_goes_at_the_start(disk: Disk) -> None:
    broker = FakeBroker(disk.reopen())
    broker.timers.start()
    session = broker.session()
    session.vhost.save()
    session.queue_declare("dead", durable=True)
    session.queue_declare(
        "short", durable=True, arguments={"x-dead-letter-exchange": "", "x-dead-letter-routing-key": "dead"}
    )
    session.publish(envelope("", "short", delivery_mode=2, expiration="900"), b"short")
    session.publish(envelope("", "short", delivery_mode=2), b"long")

    broker = FakeBroker(disk.reopen())
    broker.timers.start()
    broker.timers.now += 1  # while it was down
    recovery.recover(broker)  # type: ignore[arg-type]  # a fake
    broker.dispatcher.run()
    queues = broker.vhosts["/"].queues
    assert {name: queue.message_count for name, queue in queues.items()} == {"dead": 1, "short": 1}


def test_a_queue_whose_log_is_missing_starts_empty(disk: Disk, caplog: pytest.LogCaptureFixture) -> None:
    session = session_of(disk)
    session.queue_declare("q", durable=True).publish(envelope("", "q", delivery_mode=2), [b"one"])
    disk.store.retain_logs(set())
    again = session_of(disk)
    assert again.vhost.queues["q"].message_count == 0
    assert "is missing: the queue starts empty" in caplog.text
    third = session_of(disk)
    assert third.vhost.queues["q"].log_ids == again.vhost.queues["q"].log_ids


def test_virtual_hosts_with_all_that_is_theirs(disk: Disk) -> None:
    broker = started(disk)
    vhost = broker.add_vhost("other", description="d", tags=["t1", "t2"], default_queue_type="quorum")
    vhost.save()
    vhost.set_limits({"max-queues": 3})
    vhost.set_parameter("shovel", "s", {"n": 1, "list": [None, 1.5, True]})
    again = started(disk).vhosts["other"]
    assert (again.description, again.tags, again.default_queue_type) == ("d", ("t1", "t2"), "quorum")
    assert again.limits == {"max-queues": 3}
    assert again.parameters == {("shovel", "s"): {"n": 1, "list": [None, 1.5, True]}}
    again.close()
    records.delete_vhost(again.services.store, again.name)
    assert set(started(disk).vhosts) == {"/"}


def test_policies_come_back_and_apply(disk: Disk) -> None:
    broker = started(disk)
    broker.session().queue_declare("q", durable=True)
    broker.policies.set("/", "p", pattern="^q", definition={"max-length": 3}, apply_to="queues", priority=7)
    broker.policies.set("/", "p", pattern="^q", definition={"message-ttl": 9}, operator=True)
    again = started(disk)
    queue = again.vhosts["/"].queues["q"]
    assert (queue.limits.max_length, queue.limits.message_ttl_ms) == (3, 9)
    assert (queue.policy_name, queue.operator_policy_name) == ("p", "p")
    assert again.policies.list() == broker.policies.list()
    again.policies.clear("/", "p")
    third = started(disk)
    assert (third.policies.list(), len(third.policies.list(operator=True))) == ([], 1)


def test_an_exchange_whose_type_is_gone_keeps_its_bindings(disk: Disk) -> None:
    class Own:
        name = "x-own"
        is_stable = True

        def __init__(self, arguments: Any) -> None: ...
        def validate(self, binding: Any) -> None: ...
        def bind(self, binding: Any) -> bool:
            return True

        def unbind(self, binding: Any) -> bool:
            return True

        def route(self, envelope: Any, routing_key: str) -> tuple[Any, ...]:
            return ()

    broker = started(disk)
    broker.registry.register("exchanges", "x-own", Own)
    session = broker.session()
    session.queue_declare("q", durable=True)
    session.exchange_declare("x", "x-own", durable=True)
    session.queue_bind("q", "x", "k")
    again = session_of(disk)
    assert len(again.vhost.exchanges["x"].bindings) == 1
    with pytest.raises(PreconditionFailed, match="exchange type x-own not found"):
        again.publish(envelope("x", "k"), b"")


def test_require_vhost(disk: Disk) -> None:
    broker: Any = started(disk)
    assert recovery.require_vhost(broker, "/") is broker.vhosts["/"]
    with pytest.raises(NotFound, match="Virtual host 'nope' does not exist"):
        recovery.require_vhost(broker, "nope")

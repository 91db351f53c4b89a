"""The log of attempts: bounded, durable, filtered; and the store of retries."""

from __future__ import annotations

from typing import Any

from support.topology import FakeBroker, envelope

from leveret.core.message import Message
from leveret.core.queue.queue import Queue
from leveret.core.store.memory import MemoryStore
from leveret.plugins.webhooks.outgoing.attempts import CHUNK, Attempt, AttemptLog, AttemptQuery
from leveret.plugins.webhooks.outgoing.retry_store import (
    Retry,
    RetryStore,
    WebhookState,
    identity,
    known_retry_logs,
    read_state,
    save_state,
)


def attempt(log: AttemptLog, **facts: Any) -> Attempt:
    number = log.next_id()
    usual: dict[str, Any] = {
        "id": number, "at": 1000 * number, "webhook_id": f"m{number}", "position": number, "exchange": "x",
        "routing_key": "k", "attempt": 1, "outcome": "delivered", "status": 200, "latency_ms": 1.5, "reason": "",
        "error": "", "response": "ok", "next_at": None,
    }  # fmt: skip
    made = Attempt(**usual | facts)
    log.add(made)
    return made


def a_store() -> MemoryStore:
    store = MemoryStore()
    store.open()
    return store


def test_newest_first_and_filters() -> None:
    log = AttemptLog(a_store(), b"p/", 1000)
    for number in range(10):
        attempt(log, outcome="delivered" if number % 2 else "retry", status=200 if number % 2 else 500)
    find = log.find
    assert [one.id for one in find(AttemptQuery())] == list(range(10, 0, -1))
    assert [one.id for one in find(AttemptQuery(outcome="retry"))] == [9, 7, 5, 3, 1]
    assert [one.id for one in find(AttemptQuery(status=200, limit=2))] == [10, 8]
    assert [one.id for one in find(AttemptQuery(before=4))] == [3, 2, 1]
    assert [one.id for one in find(AttemptQuery(since=3000, until=6000))] == [5, 4, 3]
    assert [one.id for one in find(AttemptQuery(webhook_id="m7"))] == [7]


def test_bounded_and_failures_are_not_driven_out() -> None:
    log = AttemptLog(a_store(), b"p/", 100)
    attempt(log, outcome="dead")
    for _ in range(5000):
        attempt(log)
    found = log.find(AttemptQuery(limit=10_000))
    assert 100 <= len(found) - 1 <= 100 + CHUNK
    assert found[-1].outcome == "dead"


def test_kept_over_a_restart_in_few_records() -> None:
    store = a_store()
    log = AttemptLog(store, b"p/", 200)
    for _ in range(1000):
        attempt(log)
    log.flush()
    before = log.find(AttemptQuery(limit=1000))
    assert len(list(store.definitions(b"p/"))) <= 200 // CHUNK + 2
    again = AttemptLog(store, b"p/", 200)
    assert again.find(AttemptQuery(limit=1000)) == before
    assert attempt(again).id == 1001
    again.flush()
    assert AttemptLog(store, b"p/", 200).find(AttemptQuery())[0].id == 1001


def test_only_what_has_changed_is_written() -> None:
    store = a_store()
    log = AttemptLog(store, b"p/", 1000)
    for _ in range(3 * CHUNK):
        attempt(log)
    log.flush()
    writes = store.definition_writes
    log.flush()
    assert store.definition_writes == writes
    attempt(log)
    log.flush()
    assert store.definition_writes == writes + 1


def test_forgotten() -> None:
    store = a_store()
    log = AttemptLog(store, b"p/", 100)
    attempt(log)
    log.flush()
    log.forget()
    assert list(store.definitions(b"p/")) == []


def test_none_are_kept_if_none_are_wanted() -> None:
    log = AttemptLog(a_store(), b"p/", 0)
    attempt(log)
    assert log.find(AttemptQuery()) == []


# -- the store of retries


def a_queue(broker: FakeBroker, count: int, **properties: Any) -> tuple[Queue, list[Message]]:
    vhost = broker.vhosts.get("/") or broker.add_vhost()
    queue = vhost.add_queue("q", durable=True, exclusive=False, auto_delete=False, arguments={})
    queue.publish(envelope("", "q", **properties), [b"%d" % number for number in range(count)])
    taken = [queue.get(no_ack=False) for _ in range(count)]
    return queue, [one for one in taken if one is not None]


def test_retries_of_durable_messages_are_records() -> None:
    broker = FakeBroker()
    queue, (first, second) = a_queue(broker, 2, delivery_mode=2)
    retries = RetryStore(broker.store, queue)
    retry = Retry(3, 1000, 2000, "m", 500, "status")
    retries.put(first, retry)
    retries.put(second, retry)
    retries.delete(second)
    again = RetryStore(broker.store, queue)
    assert (again.get(first), again.get(second), len(again)) == (retry, None, 1)
    assert known_retry_logs(broker.store) == {queue.log_ids[0]}


def test_retries_of_others_are_remembered_only() -> None:
    broker = FakeBroker()
    queue, (message,) = a_queue(broker, 1)
    retries = RetryStore(broker.store, queue)
    retries.put(message, Retry(1, 1, 1, "m"))
    assert retries.get(message) is not None
    assert len(RetryStore(broker.store, queue)) == 0
    assert known_retry_logs(broker.store) == set()


def test_records_of_messages_that_are_gone_go_too() -> None:
    broker = FakeBroker()
    queue, (first, second) = a_queue(broker, 2, delivery_mode=2)
    retries = RetryStore(broker.store, queue)
    for message in (first, second):
        retries.put(message, Retry(1, 1, 1, "m"))
    queue.settle([first])
    assert len(RetryStore(broker.store, queue)) == 1
    RetryStore(broker.store, queue).clear()
    assert known_retry_logs(broker.store) == set()


def test_states() -> None:
    store = a_store()
    assert read_state(store, "/", "w") == WebhookState()
    state = WebhookState(failing_since=5, disabled_by="x", disabled_at=6, paused_until=7)
    save_state(store, "/", "w", state)
    assert read_state(store, "/", "w") == state
    assert read_state(store, "/", "w2") == WebhookState()
    assert read_state(store, "/w", "") == WebhookState()
    save_state(store, "/", "w", WebhookState())
    assert list(store.definitions(b"webhooks/")) == []


def test_identity_stays() -> None:
    store = a_store()
    assert identity(store) == identity(store) != identity(a_store())

"""Sessions come back with their subscriptions and packet ids, also after a crash; what is deleted leaves nothing."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support.mqtt_places import Place

from leveret.adapters.mqtt.records import SessionRecord, SessionRecords
from leveret.adapters.mqtt.spec import NEVER_EXPIRES, Subscription
from leveret.core.store.memory import MemoryState, MemoryStore

FULL = Subscription("$share/g/a/+/#", 2, True, True, 2, 268435455)
PLAIN = Subscription("a/b", 0)


@pytest.fixture(params=["memory", "lmdb"])
def place(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Place]:
    place = Place(request.param, tmp_path)
    yield place
    place.stop()


def record(client_id: str = "c", *subscriptions: Subscription, vhost: str = "/") -> SessionRecord:
    return SessionRecord(
        vhost, client_id, "guest", NEVER_EXPIRES, None, {one.filter: one for one in subscriptions}, 1_700_000_000_000
    )  # fmt: skip


def test_a_session_comes_back_as_it_was(place: Place) -> None:
    records = SessionRecords(place.start().store)
    connected = record("one", FULL, PLAIN)
    gone = SessionRecord("other", "zwei" * 16000, "üser", 0, 1_795_000_000_001, {}, 5)
    records.save(connected)
    records.save(gone)
    records.add_received("/", "one", 1)
    records.add_received("/", "one", 65535)
    records.add_released("/", "one", 1)

    again = SessionRecords(place.start().store)

    assert again.load() == [gone, connected]
    assert again.received("/", "one") == {1, 65535}
    assert again.released("/", "one") == {1}
    assert again.received("other", gone.client_id) == set()


async def test_what_was_committed_survives_a_kill_and_what_was_not_does_not(place: Place) -> None:
    records = SessionRecords(place.start().store)
    records.save(record("c", PLAIN))
    records.add_received("/", "c", 7)
    await place.commit()
    records.add_received("/", "c", 8)
    records.save_subscription("/", "c", FULL)
    place.kill()

    again = SessionRecords(place.start().store)

    assert again.load() == [record("c", PLAIN)]
    assert again.received("/", "c") == {7}


def test_deleting_a_session_leaves_nothing(place: Place) -> None:
    broker = place.start()
    records = SessionRecords(broker.store)
    records.save(record("c", FULL, PLAIN))
    records.add_received("/", "c", 1)
    records.add_released("/", "c", 2)
    records.save(record("d"))

    records.delete("/", "c")
    records.delete("/", "c")

    assert len(dict(broker.store.definitions(b"mqtt/"))) == 1
    assert SessionRecords(place.start().store).load() == [record("d")]


def test_one_changed_subscription_of_a_thousand_is_one_write() -> None:
    store = MemoryStore()
    store.open()
    records = SessionRecords(store)
    session = record("c", *[Subscription(f"a/{number}", 1) for number in range(1000)])
    records.save(session)
    assert store.definition_writes == 1001

    changed = Subscription("a/7", 2)
    records.save_subscription("/", "c", changed)
    records.save_subscription("/", "c", changed)
    assert store.definition_writes == 1002

    session.subscriptions["a/7"] = changed
    session.subscriptions["a/8"] = replace(changed, filter="a/8")
    del session.subscriptions["a/9"]
    records.save(session)
    assert store.definition_writes == 1005  # the row, one changed, one gone
    records.delete_subscription("/", "c", "a/10")
    records.delete_subscription("/", "c", "a/10")
    assert store.definition_writes == 1006


def test_a_session_that_was_not_saved_keeps_nothing() -> None:
    store = MemoryStore()
    store.open()
    records = SessionRecords(store)
    records.add_received("/", "c", 1)
    records.add_released("/", "c", 1)
    records.remove_received("/", "c", 1)
    records.save_subscription("/", "c", PLAIN)
    records.delete_subscription("/", "c", "a/b")
    assert store.definition_writes == 0
    assert records.received("/", "c") == records.released("/", "c") == set()


def test_packet_ids_are_written_once_and_given_as_copies() -> None:
    store = MemoryStore()
    store.open()
    records = SessionRecords(store)
    records.save(record())
    for _ in range(2):
        records.add_released("/", "c", 9)
    records.released("/", "c").clear()
    assert records.released("/", "c") == {9}
    for _ in range(2):
        records.remove_released("/", "c", 9)
    assert store.definition_writes == 3


def test_names_that_run_together_the_same_are_different_sessions() -> None:
    state = MemoryState()
    store = MemoryStore(state=state)
    store.open()
    records = SessionRecords(store)
    sessions = [record("bc", vhost="a"), record("c", vhost="ab"), record("abc", vhost="")]
    for session in sessions:
        records.save(session)
    store.close()
    store = MemoryStore(state=state)
    store.open()
    assert len(SessionRecords(store).load()) == 3


def test_what_belongs_to_no_session_is_removed_and_what_cannot_be_read_is_left(
    caplog: pytest.LogCaptureFixture,
) -> None:
    store = MemoryStore()
    store.open()
    for prefix in (b"mqtt/received/", b"mqtt/released/", b"mqtt/subscription/"):
        store.put_definition(prefix + b"x" * 26, b"")
    store.put_definition(b"mqtt/session/" + b"y" * 24, b"\0\0\0\xff")
    assert SessionRecords(store).load() == []
    assert [key for key, _ in store.definitions()] == [b"mqtt/session/" + b"y" * 24]
    assert "cannot be read" in caplog.text


ids = st.integers(1, 65535)
operations = st.lists(
    st.one_of(
        st.tuples(
            st.sampled_from(["add_received", "remove_received", "add_released", "remove_released"]), ids
        ),
        st.tuples(st.just("subscribe"), st.builds(Subscription, st.sampled_from("abc"), st.integers(0, 2))),
        st.tuples(st.just("unsubscribe"), st.sampled_from("abc")),
        st.tuples(st.just("delete"), st.none()),
        st.tuples(st.just("save"), st.none()),
        st.tuples(st.just("restart"), st.none()),
    ),
    max_size=60,
)


@settings(max_examples=60, deadline=None)
@given(operations)
def test_records_are_what_a_model_says(steps: list[tuple[str, object]]) -> None:
    state = MemoryState()
    store = MemoryStore(state=state)
    store.open()
    records = SessionRecords(store)
    model: SessionRecord | None = None
    received: set[int] = set()
    released: set[int] = set()
    for name, value in [*steps, ("restart", None)]:
        if name == "restart":
            store.close()
            store = MemoryStore(state=state)
            store.open()
            records = SessionRecords(store)
            assert records.load() == ([] if model is None else [model])
            assert (records.received("/", "c"), records.released("/", "c")) == (received, released)
        elif name == "save":
            model = model or record()
            records.save(model)
        elif name == "delete":
            records.delete("/", "c")
            model, received, released = None, set(), set()
        elif isinstance(value, Subscription):
            records.save_subscription("/", "c", value)
            if model is not None:
                model.subscriptions[value.filter] = value
        elif isinstance(value, str):
            records.delete_subscription("/", "c", value)
            if model is not None:
                model.subscriptions.pop(value, None)
        else:
            assert isinstance(value, int)
            getattr(records, name)("/", "c", value)
            ids = received if name.endswith("received") else released
            if model is not None:
                (ids.add if name.startswith("add") else ids.discard)(value)

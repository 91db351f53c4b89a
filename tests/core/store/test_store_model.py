"""Any sequence of operations, commits that stop half-way, crashes and reopenings, against dictionaries."""

from __future__ import annotations

import shutil
import tempfile
from collections import Counter
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import cast

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from leveret.core.message import Message
from leveret.core.store.checks import make_messages
from leveret.core.store.lmdb import group as group_module
from leveret.core.store.lmdb.log import LmdbLog
from leveret.core.store.lmdb.store import LmdbStore
from leveret.core.store.lmdb.writer import COUNTER, KEY, Meta
from leveret.core.store.record import BODY_REFERENCE, SHARED

EVERYTHING = 1 << 40
BODIES = [b"", b"a", b"b" * 900, b"c" * 5000, b"d" * 20_000]


@dataclass(frozen=True)
class Settings:
    durability: str = "os"  # the order of writes is the same, and no flush is waited for
    map_size: int = 128 << 10  # it grows on the way


@dataclass
class Kept:
    """What the model knows of a message."""

    message: Message
    is_spilled: bool = False
    is_suspect: bool = False

    @property
    def state(self) -> tuple[bytes, int, bool]:
        return self.message.body, self.message.delivery_count, self.message.is_redelivered or self.is_suspect


Durable = dict[int, dict[int, tuple[bytes, int, bool]]]


class StoreModel(RuleBasedStateMachine):
    @initialize()
    def start(self) -> None:
        self.path = Path(tempfile.mkdtemp(prefix="store-model-"))
        self.model: dict[int, dict[int, Kept]] = {}
        self.next_positions: dict[int, int] = {}
        self.used: dict[int, set[int]] = {}
        self.logs: dict[int, LmdbLog] = {}
        self.definitions: dict[bytes, bytes] = {}
        self.durable: Durable = {}
        self.durable_definitions: dict[bytes, bytes] = {}
        self.frozen: tuple[Durable, dict[bytes, bytes]] | None = None
        self.open()

    def open(self) -> None:
        self.store = LmdbStore(self.path, Settings())
        self.store.open()

    def teardown(self) -> None:
        if hasattr(self, "store"):
            self.reopen_cleanly()
            while self.store._writer.garbage:
                self.store._committer.write_now((), self.store._next_log_id, erase=50)
            self.check_file(is_erased=True)
            self.store.close()
            shutil.rmtree(self.path)

    # -- operations

    def pick(self, data: st.DataObject) -> tuple[LmdbLog, dict[int, Kept]]:
        log_id = data.draw(st.sampled_from(sorted(self.logs)))
        return self.logs[log_id], self.model[log_id]

    @rule()
    def create_log(self) -> None:
        if len(self.logs) < 4:
            log = self.store.create_log()
            assert log.id not in self.next_positions  # never reused, if it was ever committed
            self.logs[log.id] = cast(LmdbLog, log)
            self.model[log.id] = {}
            self.next_positions[log.id] = 1

    @precondition(lambda self: self.logs)
    @rule(
        data=st.data(),
        bodies=st.lists(st.sampled_from(BODIES), min_size=1, max_size=6),
        skip=st.integers(0, 3),
    )
    def append(self, data: st.DataObject, bodies: list[bytes], skip: int) -> None:
        """To several logs at once: bodies are shared."""
        for log_id in data.draw(st.sets(st.sampled_from(sorted(self.logs)), min_size=1)):
            first = self.next_positions[log_id] + skip
            messages = make_messages(first, bodies)
            self.next_positions[log_id] = first + len(bodies)
            self.logs[log_id].append(messages)
            self.used_positions(log_id).update([message.position for message in messages])
            self.model[log_id].update({message.position: Kept(message) for message in messages})

    @precondition(lambda self: self.logs)
    @rule(data=st.data(), bodies=st.lists(st.sampled_from(BODIES), min_size=1, max_size=6))
    def spill(self, data: st.DataObject, bodies: list[bytes]) -> None:
        """At free positions, between the others too."""
        log, model = self.pick(data)
        used = self.used_positions(log.id)
        limit = self.next_positions[log.id] + 5
        free = [position for position in range(1, limit) if position not in used]
        positions = sorted(data.draw(st.lists(st.sampled_from(free), min_size=1, max_size=6, unique=True)))
        messages = [
            make_messages(position, [body])[0] for position, body in zip(positions, bodies, strict=False)
        ]
        self.next_positions[log.id] = max(self.next_positions[log.id], messages[-1].position + 1)
        log.spill(messages)
        model.update({message.position: Kept(message, is_spilled=True) for message in messages})
        used.update([message.position for message in messages])

    def used_positions(self, log_id: int) -> set[int]:
        """Positions are never used twice, whatever became of their messages."""
        return self.used.setdefault(log_id, set())

    @precondition(lambda self: self.logs)
    @rule(data=st.data(), fraction=st.floats(0, 1), from_front=st.booleans())
    def discard(self, data: st.DataObject, fraction: float, from_front: bool) -> None:
        log, model = self.pick(data)
        positions = sorted(model)
        count = int(len(positions) * fraction + 0.5)
        chosen = positions[:count] if from_front else positions[len(positions) - count :: 2]
        messages = [model.pop(position).message for position in chosen]
        log.discard(messages)
        log.discard(messages)

    @precondition(lambda self: self.logs)
    @rule(data=st.data(), fraction=st.floats(0, 1))
    def truncate(self, data: st.DataObject, fraction: float) -> None:
        log, model = self.pick(data)
        start = int(self.next_positions[log.id] * fraction)
        log.truncate(start)
        self.used_positions(log.id).update(range(1, self.next_positions[log.id]))
        for position in [position for position in model if position >= start]:
            del model[position]

    @precondition(lambda self: any(self.model.values()))
    @rule(data=st.data())
    def update(self, data: st.DataObject) -> None:
        log_id = data.draw(st.sampled_from(sorted([log_id for log_id, model in self.model.items() if model])))
        kept = self.model[log_id][data.draw(st.sampled_from(sorted(self.model[log_id])))]
        if not kept.is_spilled:
            kept.message.delivery_count += 1
            kept.message.is_redelivered = True
            self.logs[log_id].update(kept.message)

    @precondition(lambda self: self.logs)
    @rule(data=st.data())
    def drop(self, data: st.DataObject) -> None:
        log, _ = self.pick(data)
        self.store.drop_log(log)
        del self.logs[log.id], self.model[log.id]

    @rule(key=st.sampled_from([b"a", b"b", b"c"]), value=st.sampled_from([None, b"", b"1", b"2"]))
    def define(self, key: bytes, value: bytes | None) -> None:
        if value is None:
            self.store.delete_definition(key)
            self.definitions.pop(key, None)
        else:
            self.store.put_definition(key, value)
            self.definitions[key] = value

    # -- what the task does, one step at a time

    @precondition(lambda self: self.frozen is None)
    @rule()
    def freeze(self) -> None:
        self.store._freeze()
        state = {
            log_id: {position: kept.state for position, kept in model.items() if not kept.is_spilled}
            for log_id, model in self.model.items()
        }
        self.frozen = state, dict(self.definitions)

    @precondition(lambda self: self.frozen is not None)
    @rule(count=st.integers(1, 5), erase=st.integers(0, 5))
    def write_transactions(self, count: int, erase: int) -> None:
        store = self.store
        for _ in range(count):
            part = store._next_part()
            if part is None:
                called: list[int] = []
                is_durable = not store.group.operations and not store.has_pending
                if not is_durable:
                    assert not store.after_commit(partial(called.append, 1))
                is_next = bool(store.group.callbacks)
                store._finish()
                assert bool(called) != (is_durable or is_next)
                assert self.frozen is not None
                self.durable, self.durable_definitions = self.frozen
                self.frozen = None
                return
            store._committer.write_now(part, store._next_log_id, erase=erase)
            store._part = None

    @precondition(lambda self: self.frozen is None)
    @rule(count=st.integers(1, 20))
    def erase(self, count: int) -> None:
        self.store._committer.write_now((), self.store._next_log_id, erase=count)
        if self.store.spill_file.has_garbage:
            self.store.spill_file.erase(count)

    @rule()
    def reopen_cleanly(self) -> None:
        self.store.close()
        self.open()
        assert self.store.was_clean
        assert list(self.store.definitions()) == sorted(self.definitions.items())
        for log_id in list(self.logs):
            log = self.logs[log_id] = cast(LmdbLog, self.store.open_log(log_id))
            expected = {p: kept for p, kept in self.model[log_id].items() if not kept.is_spilled}
            self.take_over(log, {position: kept.state for position, kept in expected.items()})
        self.settle_reopened()

    @rule()
    def crash(self) -> None:
        self.store.abandon()
        self.open()
        assert not self.store.was_clean
        if self.frozen is None:
            assert dict(self.store.definitions()) == self.durable_definitions
            assert set(self.store._logs) == set(self.durable)
        else:
            after = self.frozen[1]
            assert dict(self.store.definitions()) in (self.durable_definitions, after)
        self.definitions = dict(self.store.definitions())
        self.logs = {log_id: cast(LmdbLog, self.store.open_log(log_id)) for log_id in self.store._logs}
        newest = self.model
        self.model = {log_id: {} for log_id in self.logs}
        for log_id, log in self.logs.items():
            before = self.durable.get(log_id, {})
            after_group = self.frozen[0].get(log_id) if self.frozen is not None else None
            found = self.read_all(log)
            if self.frozen is None:
                assert set(found) == set(before)
            elif after_group is not None:
                assert set(found) >= set(before) & set(after_group)  # what no one settled is there
                assert set(found) <= set(before) | set(after_group)
            assert all(state[2] for state in found.values())  # suspect, all of them
            if self.frozen is None:
                for position, (body, count, _) in before.items():
                    # A message that is updated while its group is written may be written with its newest count.
                    kept = newest.get(log_id, {}).get(position)
                    assert found[position][0] == body
                    assert count <= found[position][1]
                    assert kept is None or found[position][1] <= kept.message.delivery_count
            self.take_over(log, found)
        self.settle_reopened()

    def settle_reopened(self) -> None:
        self.frozen = None
        self.durable = {
            log_id: {position: kept.state for position, kept in model.items()}
            for log_id, model in self.model.items()
        }
        self.durable_definitions = dict(self.definitions)
        for log_id, log in self.logs.items():
            assert log.next_position <= max(self.next_positions[log_id], 1)
            self.next_positions[log_id] = max(log.next_position, 1)
            self.used[log_id] = {p for p in self.used_positions(log_id) if p < log.next_position}
        for log_id in [log_id for log_id in self.next_positions if log_id >= self.store._next_log_id]:
            del self.next_positions[log_id]  # it never was
            self.used.pop(log_id, None)
        self.check_file()

    def take_over(self, log: LmdbLog, expected: dict[int, tuple[bytes, int, bool]]) -> None:
        found = self.read_all(log)
        assert found == expected
        self.model[log.id] = {}
        suspect_below = log.meta.suspect_below
        for position, (body, delivery_count, is_redelivered) in found.items():
            message = make_messages(position, [body])[0]
            message.is_stored = True
            message.delivery_count, message.is_redelivered = delivery_count, is_redelivered
            self.model[log.id][position] = Kept(message, is_suspect=position < suspect_below)

    # -- what always holds

    def read_all(self, log: LmdbLog) -> dict[int, tuple[bytes, int, bool]]:
        found: dict[int, tuple[bytes, int, bool]] = {}
        start = 0
        while part := log.read(start, 4, EVERYTHING):
            found.update({m.position: (m.body, m.delivery_count, m.is_redelivered) for m in part})
            start = part[-1].position + 1
        return found

    @invariant()
    def counts_are_right(self) -> None:
        for log_id, log in getattr(self, "logs", {}).items():
            model = self.model[log_id]
            assert log.count == len(model)
            assert log.bytes == sum([len(kept.message.body) for kept in model.values()])

    @invariant()
    def backlog_is_counted(self) -> None:
        if hasattr(self, "store"):
            group = self.store.group
            assert group.operations >= 0
            assert group.bytes >= 0
            if not group.operations:
                assert group.bytes == 0

    @precondition(lambda self: self.logs)
    @rule(
        data=st.data(),
        fraction=st.floats(0, 1),
        count=st.integers(1, 10),
        size=st.sampled_from([0, 950, 30_000]),
    )
    def read(self, data: st.DataObject, fraction: float, count: int, size: int) -> None:
        log, model = self.pick(data)
        start = int(self.next_positions[log.id] * fraction)
        found = log.read(start, count, size)
        expected = [(position, model[position].state) for position in sorted(model) if position >= start]
        assert [(m.position, (m.body, m.delivery_count, m.is_redelivered)) for m in found] == expected[
            : len(found)
        ]
        assert bool(found) == bool(expected)
        assert len(found) <= count
        assert len(found) <= 1 or sum([len(m.body) for m in found]) <= size

    def check_file(self, *, is_erased: bool = False) -> None:
        """Of an idle store: the numbers in the file are those of its entries."""
        store = self.store
        databases = store._file.databases
        references: Counter[bytes] = Counter()
        found: dict[int, list[int]] = {}
        with store._file.env.begin(buffers=True) as txn:
            for key, record in txn.cursor(databases[b"messages"]):
                log_id, position = KEY.unpack(key)
                if record[1] & SHARED:
                    references[bytes(record[-BODY_REFERENCE.size : -8])] += 1
                if (log_id, position) and not is_erased and self.is_garbage(log_id, position):
                    continue
                found.setdefault(log_id, []).append(position)
            kept = {bytes(k): COUNTER.unpack(v)[0] for k, v in txn.cursor(databases[b"references"])}
            assert kept == references
            assert {bytes(k) for k, _ in txn.cursor(databases[b"bodies"])} == set(kept)
            metas = {COUNTER.unpack(k)[0]: Meta.unpack(v) for k, v in txn.cursor(databases[b"logs"])}
            assert {log_id: meta.messages for log_id, meta in metas.items() if meta.messages} == {
                log_id: len(positions) for log_id, positions in found.items()
            }
            if is_erased:
                updates = Counter([KEY.unpack(key)[0] for key, _ in txn.cursor(databases[b"updates"])])
                assert {log_id: meta.updated for log_id, meta in metas.items() if meta.updated} == updates
                assert sum([meta.shared for meta in metas.values()]) == sum(references.values())

    def is_garbage(self, log_id: int, position: int) -> bool:
        return any(
            owner == log_id and start <= position < end
            for (owner, start), end in self.store._writer.garbage.items()
        )


@pytest.fixture(autouse=True)
def _small_transactions(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(group_module, "SLICE_OPERATIONS", 4)
    monkeypatch.setattr(group_module, "SLICE_BYTES", 24_000)
    monkeypatch.setattr(group_module, "TRANSACTION_OPERATIONS", 9)
    monkeypatch.setattr(group_module, "TRANSACTION_BYTES", 50_000)


class TestStoreModel(StoreModel.TestCase):  # type: ignore[misc,valid-type]
    settings = settings(
        max_examples=60, stateful_step_count=40, deadline=None, suppress_health_check=list(HealthCheck)
    )


@pytest.mark.long
class TestStoreModelLong(StoreModel.TestCase):  # type: ignore[misc,valid-type]
    settings = settings(
        max_examples=3000, stateful_step_count=60, deadline=None, suppress_health_check=list(HealthCheck)
    )

"""Confirms, acknowledgements and receipts: in order, after the store, and nothing overtakes them."""

from __future__ import annotations

import struct
from collections.abc import Callable
from typing import Any

import pytest

from leveret.adapters.amqp.confirms import Confirms
from leveret.adapters.answers import OrderedAnswers
from leveret.adapters.mqtt.acks import Acks, short_acks
from leveret.adapters.stomp.receipts import Receipts


class FakeStore:
    """Commits when it is told to."""

    def __init__(self) -> None:
        self.waiting: list[Callable[[], None]] = []
        self.has_pending = False

    def after_commit(self, callback: Callable[[], None]) -> bool:
        if not self.has_pending:
            return True
        self.waiting.append(callback)
        return False

    def commit(self, count: int | None = None) -> None:
        callbacks, self.waiting = self.waiting[:count], self.waiting[count or len(self.waiting) :]
        self.has_pending = bool(self.waiting)
        for callback in callbacks:
            callback()


class FakeOutbox:
    def __init__(self) -> None:
        self.sent: list[bytes] = []

    def write(self, data: bytes) -> None:
        self.sent.append(data)

    def confirms(self) -> list[tuple[str, int, bool]]:
        confirms = []
        for data in self.sent:
            kind, channel, size, class_id, method, tag, multiple, end = struct.unpack(">BHIHHQBB", data)
            assert (kind, channel, size, class_id, end) == (1, 7, 13, 60, 0xCE)
            confirms.append(({80: "ack", 120: "nack"}[method], tag, bool(multiple)))
        return confirms


class Case:
    """One protocol's answers to requests, which are numbered from 1."""

    def __init__(self) -> None:
        self.store = FakeStore()
        self.outbox = FakeOutbox()
        self.asked = 0
        self.answers = self.make()

    def make(self) -> Any:
        raise NotImplementedError

    def ask(self, *, needs_store: bool) -> None:
        self.asked += 1
        self.add(needs_store)

    def chunk(self, *needs_store: bool) -> None:
        for needs in needs_store:
            self.ask(needs_store=needs)
        self.answers.close_chunk()

    def add(self, needs_store: bool) -> None:
        raise NotImplementedError

    def answered(self) -> list[int]:
        """The requests that are answered, in the order of the answers."""
        raise NotImplementedError


class AmqpCase(Case):
    def make(self) -> Any:
        return Confirms(7, self.outbox, self.store)  # type: ignore[arg-type]

    def add(self, needs_store: bool) -> None:
        self.answers.published(1, 0, needs_store=needs_store)

    def answered(self) -> list[int]:
        answered: list[int] = []
        for kind, tag, multiple in self.outbox.confirms():
            assert kind == "ack"
            answered += range(len(answered) + 1, tag + 1) if multiple else [tag]
        assert self.answers.unconfirmed_count == self.asked - len(answered)
        assert self.answers.confirmed_total == len(answered)
        return answered


class MqttCase(Case):
    def make(self) -> Any:
        return Acks(self.outbox, self.store)  # type: ignore[arg-type]

    def add(self, needs_store: bool) -> None:
        self.answers.unsent_publishes += 1
        self.answers.add(short_acks(0x4002, [self.asked]), needs_store=needs_store, settles=1)

    def answered(self) -> list[int]:
        answered = [packet_id for head, packet_id in struct.iter_unpack(">HH", b"".join(self.outbox.sent))]
        assert self.answers.unsent_publishes == self.asked - len(answered)
        assert self.answers.settled_total == len(answered)
        return answered


class StompCase(Case):
    def make(self) -> Any:
        return Receipts(self.outbox, self.store)  # type: ignore[arg-type]

    def add(self, needs_store: bool) -> None:
        self.answers.add(b"%d" % self.asked, needs_store=needs_store)

    def answered(self) -> list[int]:
        assert self.answers.total == len(self.outbox.sent)
        return [int(data) for data in self.outbox.sent]


@pytest.fixture(params=[AmqpCase, MqttCase, StompCase], ids=["confirms", "acks", "receipts"])
def case(request: pytest.FixtureRequest) -> Case:
    made = request.param()
    assert isinstance(made, Case)
    assert isinstance(made.answers, OrderedAnswers)
    return made


# -- the contract


def test_a_chunk_is_answered_at_its_end(case: Case) -> None:
    case.ask(needs_store=False)
    case.ask(needs_store=True)
    assert case.answered() == []
    assert case.answers.is_waiting
    case.answers.close_chunk()
    assert case.answered() == [1, 2]
    assert not case.answers.is_waiting


def test_a_chunk_without_requests_is_answered_with_nothing(case: Case) -> None:
    case.store.has_pending = True
    case.answers.close_chunk()
    assert case.outbox.sent == []
    assert case.store.waiting == []


def test_what_does_not_need_the_store_does_not_ask_it(case: Case) -> None:
    case.store.has_pending = True
    case.chunk(False)
    assert case.answered() == [1]
    assert case.store.waiting == []


def test_a_chunk_waits_as_a_whole_and_later_chunks_behind_it(case: Case) -> None:
    case.store.has_pending = True
    case.chunk(False, True)
    case.chunk(False)
    assert case.answered() == []
    assert case.answers.is_waiting
    assert len(case.store.waiting) == 1
    case.store.commit()
    assert case.answered() == [1, 2, 3]
    assert not case.answers.is_waiting


def test_each_group_of_the_store_answers_its_own_chunks(case: Case) -> None:
    case.store.has_pending = True
    for needs_store in (True, False, True, False):
        case.chunk(needs_store)
    assert len(case.store.waiting) == 2
    case.store.commit(1)
    assert case.answered() == [1, 2]
    assert case.answers.is_waiting
    case.store.commit()
    assert case.answered() == [1, 2, 3, 4]


def test_what_is_durable_already_waits_behind_the_others(case: Case) -> None:
    case.store.has_pending = True
    case.chunk(True)
    case.store.has_pending = False
    case.chunk(True)
    assert case.answered() == []
    case.store.commit()
    assert case.answered() == [1, 2]


def test_nothing_is_sent_after_the_end(case: Case) -> None:
    case.store.has_pending = True
    case.chunk(True)
    case.chunk(True)
    case.ask(needs_store=False)
    case.answers.close()
    case.answers.close_chunk()
    case.store.commit()
    assert case.outbox.sent == []
    assert not case.answers.is_waiting


# -- how AMQP encodes them


def confirms_on_the_wire(*published: tuple[int, int]) -> list[tuple[str, int, bool]]:
    """What a chunk of runs (count, rejected) is confirmed with."""
    outbox = FakeOutbox()
    confirms = Confirms(7, outbox, FakeStore())  # type: ignore[arg-type]
    for count, rejected in published:
        confirms.published(count, rejected, needs_store=False)
    confirms.close_chunk()
    return outbox.confirms()


def test_the_confirms_of_a_chunk_are_one_frame() -> None:
    assert confirms_on_the_wire((3, 0), (2, 0)) == [("ack", 5, True)]


def test_a_single_confirm_is_not_multiple() -> None:
    assert confirms_on_the_wire((1, 0)) == [("ack", 1, False)]


def test_rejected_publishes_are_nacked_in_their_place() -> None:
    assert confirms_on_the_wire((5, 2), (1, 1), (1, 0)) == [
        ("ack", 3, True),
        ("nack", 6, True),
        ("ack", 7, False),
    ]


# -- what STOMP adds


def test_receipts_call_back_in_their_turn() -> None:
    store, outbox = FakeStore(), FakeOutbox()
    receipts = Receipts(outbox, store)  # type: ignore[arg-type]
    called: list[int] = []
    receipts.add(b"1", needs_store=False)
    receipts.add(b"2", needs_store=True, then=lambda: called.append(2))
    receipts.add(b"", needs_store=False, then=lambda: called.append(3))
    assert not outbox.sent
    receipts.close_chunk()
    assert (outbox.sent, called, receipts.is_waiting) == ([b"1", b"2"], [2, 3], False)


def test_receipts_say_when_none_is_left() -> None:
    store = FakeStore()
    receipts = Receipts(FakeOutbox(), store)  # type: ignore[arg-type]
    emptied: list[bool] = []
    receipts.on_empty = lambda: emptied.append(True)
    store.has_pending = True
    for data in (b"1", b"2"):
        receipts.add(data, needs_store=True)
        receipts.close_chunk()
    store.commit(1)
    assert not emptied
    store.commit()
    assert emptied == [True]

"""Confirms: in order, coalesced, never before the store."""

from __future__ import annotations

import struct
from collections.abc import Callable

from leveret.adapters.amqp.confirms import Confirms


class FakeStore:
    def __init__(self) -> None:
        self.waiting: list[Callable[[], None]] = []
        self.has_pending = False

    def after_commit(self, callback: Callable[[], None]) -> bool:
        if not self.has_pending:
            return True
        self.waiting.append(callback)
        return False

    def commit(self) -> None:
        callbacks, self.waiting = self.waiting, []
        self.has_pending = False
        for callback in callbacks:
            callback()


class FakeOutbox:
    def __init__(self) -> None:
        self.sent: list[tuple[str, int, bool]] = []

    def write(self, data: bytes) -> None:
        kind, channel, size, class_id, method, tag, multiple, end = struct.unpack(">BHIHHQBB", data)
        assert (kind, channel, size, class_id, end) == (1, 7, 13, 60, 0xCE)
        self.sent.append(({80: "ack", 120: "nack"}[method], tag, bool(multiple)))


def make() -> tuple[Confirms, FakeStore, FakeOutbox]:
    store, outbox = FakeStore(), FakeOutbox()
    return Confirms(7, outbox, store), store, outbox  # type: ignore[arg-type]


def test_a_chunk_is_one_frame() -> None:
    confirms, _, outbox = make()
    confirms.published(3, 0, needs_store=False)
    confirms.published(2, 0, needs_store=False)
    confirms.close_chunk()
    assert outbox.sent == [("ack", 5, True)]


def test_a_single_confirm_is_not_multiple() -> None:
    confirms, _, outbox = make()
    confirms.published(1, 0, needs_store=False)
    confirms.close_chunk()
    assert outbox.sent == [("ack", 1, False)]


def test_durable_ones_wait_for_their_group_and_later_ones_wait_behind() -> None:
    # multiple may only cover numbers that are all resolved
    confirms, store, outbox = make()
    store.has_pending = True
    confirms.published(2, 0, needs_store=True)
    confirms.close_chunk()
    confirms.published(1, 0, needs_store=False)
    confirms.close_chunk()
    assert outbox.sent == []
    assert confirms.unconfirmed_count == 3
    store.commit()
    assert outbox.sent == [("ack", 3, True)]


def test_two_groups_are_confirmed_one_by_one() -> None:
    confirms, store, outbox = make()
    store.has_pending = True
    confirms.published(1, 0, needs_store=True)
    confirms.close_chunk()
    confirms.published(1, 0, needs_store=True)
    confirms.close_chunk()
    store.waiting.pop(0)()
    assert outbox.sent == [("ack", 1, False)]
    store.commit()
    assert outbox.sent == [("ack", 1, False), ("ack", 2, False)]


def test_rejected_ones_are_nacked_in_their_place() -> None:
    # nack once for the publish
    confirms, _, outbox = make()
    confirms.published(5, 2, needs_store=False)
    confirms.published(1, 1, needs_store=False)
    confirms.published(1, 0, needs_store=False)
    confirms.close_chunk()
    assert outbox.sent == [("ack", 3, True), ("nack", 6, True), ("ack", 7, False)]


def test_a_closed_channel_says_nothing_more() -> None:
    confirms, store, outbox = make()
    store.has_pending = True
    confirms.published(1, 0, needs_store=True)
    confirms.close_chunk()
    confirms.is_closed = True
    store.commit()
    assert outbox.sent == []

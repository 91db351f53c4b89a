"""What the clients of the kill test know: what was published, confirmed, received and settled; and what must follow."""

from __future__ import annotations

import zlib
from dataclasses import dataclass, field

__all__ = ["Copy", "Ledger", "Received", "Report", "make_body", "read_body"]

MessageId = tuple[str, int]
"""Publisher and its sequence number, growing from 1 over all rounds."""


def make_body(message: MessageId, padding: int) -> bytes:
    """A body that names its message and carries a checksum over itself."""
    publisher, sequence = message
    text = f"{publisher} {sequence} ".encode() + bytes(i * 7 & 0xFF for i in range(padding % 251)) * (
        padding // 251 + 1
    )
    return b"%08x " % zlib.crc32(text) + text


def read_body(body: bytes) -> MessageId:
    """The message of a body. Raise AssertionError if it is not as it was sent."""
    assert int(body[:8], 16) == zlib.crc32(body[9:]), f"damaged body {body[:60]!r}"
    publisher, sequence, _ = body[9:].split(b" ", 2)
    return publisher.decode(), int(sequence)


@dataclass(frozen=True, slots=True)
class Received:
    message: MessageId
    is_redelivered: bool


@dataclass(slots=True)
class Copy:
    """What is known of one message in one queue."""

    is_confirmed: bool = False
    is_seen: bool = False
    is_settled: bool = False  # an ack or a reject was sent; whether it arrived is not known


@dataclass(slots=True)
class Report:
    """Numbers over all rounds. lost and unmarked must be 0."""

    rounds: int = 0
    confirmed: int = 0
    recovered: int = 0
    lost: int = 0
    duplicates: int = 0  # settled by a client, and there again after the kill, marked as redelivered
    problems: list[str] = field(default_factory=list)

    def line(self) -> str:
        return (
            f"kill rounds={self.rounds} confirmed={self.confirmed} recovered={self.recovered} lost={self.lost} "
            f"duplicates={self.duplicates} problems={len(self.problems)}"
        )


class Ledger:
    """Copies by queue. Each actor writes for its own publisher or queue, so no lock is needed.

    moves: queue -> where its rejected messages go.
    """

    def __init__(self, queues: list[str], moves: dict[str, str]) -> None:
        self.copies: dict[str, dict[MessageId, Copy]] = {queue: {} for queue in queues}
        self.moves = moves
        self.batches: list[tuple[str, list[MessageId]]] = []  # transactions: queue and messages
        self.report = Report()
        self._last: dict[str, int] = {}
        self._sent: set[MessageId] = set()

    def next_message(self, publisher: str) -> MessageId:
        self._last[publisher] = self._last.get(publisher, 0) + 1
        return publisher, self._last[publisher]

    def sent(self, message: MessageId, queues: list[str]) -> None:
        self._sent.add(message)
        for queue in queues:
            self.copies[queue][message] = Copy()

    def confirmed(self, message: MessageId, queues: list[str]) -> None:
        for queue in queues:
            self.copies[queue][message].is_confirmed = True
        self.report.confirmed += 1

    def received(self, queue: str, got: Received) -> Copy:
        """A delivery to a client. A message that was seen before must say so."""
        copy = self.copies[queue].get(got.message)
        if copy is None:  # rejected into this queue, or nobody sent it: `verify` tells
            copy = self.copies[queue][got.message] = Copy()
        if copy.is_seen and not got.is_redelivered:
            self.problem(f"{queue}: {got.message} came again without redelivered")
        copy.is_seen = True
        return copy

    def problem(self, text: str) -> None:
        self.report.problems.append(f"round {self.report.rounds}: {text}")

    def verify(self, found: dict[str, list[Received]]) -> None:
        """Compare what is in the queues after a restart, in order, with what must be there."""
        present = {queue: {got.message for got in messages} for queue, messages in found.items()}
        for queue, messages in found.items():
            self.report.recovered += len(messages)
            self._verify_order(queue, messages)
            for got in messages:
                copy = self.received(queue, got)
                if copy.is_settled:
                    self.report.duplicates += 1
                    copy.is_settled = False
                copy.is_confirmed = True  # read from the disk: it must not go any more
            self._verify_losses(queue, present)
        self._verify_batches(present)

    def _verify_order(self, queue: str, messages: list[Received]) -> None:
        last: dict[str, int] = {}
        if len(set(messages)) < len(messages):
            self.problem(f"{queue}: the same message twice")
        for got in messages:
            publisher, sequence = got.message
            if got.message not in self._sent:
                self.problem(f"{queue}: {got.message} was never sent")
            if sequence <= last.get(publisher, 0) and queue not in self.moves.values():
                self.problem(f"{queue}: {got.message} after {last[publisher]}: doubled, or out of order")
            last[publisher] = sequence

    def _verify_losses(self, queue: str, present: dict[str, set[MessageId]]) -> None:
        last: dict[str, int] = {}
        for publisher, sequence in present[queue]:
            last[publisher] = max(last.get(publisher, 0), sequence)
        for message, copy in list(self.copies[queue].items()):
            if message in present[queue]:
                continue
            moved_to = self.moves.get(queue)
            if copy.is_settled:
                if moved_to is not None and message not in present[moved_to]:
                    moved = self.copies[moved_to].get(message)
                    if copy.is_confirmed and not (moved and moved.is_settled):
                        self._lost(queue, message, "rejected, and not in the dead-letter queue")
            elif copy.is_confirmed:
                self._lost(queue, message, "confirmed, never settled")
            elif message[1] < last.get(message[0], 0):
                self.problem(f"{queue}: {message} is missing before a later one of its channel")
            del self.copies[queue][message]

    def _lost(self, queue: str, message: MessageId, how: str) -> None:
        self.report.lost += 1
        self.problem(f"{queue}: {message} is lost: {how}")

    def _verify_batches(self, present: dict[str, set[MessageId]]) -> None:
        for queue, messages in self.batches:
            there = [message in present[queue] for message in messages]
            if any(there) and not all(there):
                self.problem(f"{queue}: half a transaction survived: {messages} {there}")
        self.batches.clear()

    def taken(self) -> None:
        """The queues were emptied; start afresh."""
        for copies in self.copies.values():
            copies.clear()

"""Publisher confirms of one channel: in order, coalesced, after the commit."""

from __future__ import annotations

from struct import Struct
from typing import TYPE_CHECKING

from leveret.adapters.answers import OrderedAnswers

if TYPE_CHECKING:
    from leveret.adapters.outbox import Outbox
    from leveret.core.store.base import Store
__all__ = ["Confirms"]

_method = Struct(">BHIHHQBB").pack
ACK, NACK = 80, 120


class Confirms(OrderedAnswers[tuple[int, bool]]):
    """basic.ack and basic.nack for what the client publishes. Sequence numbers count from confirm.select on.

    An answer is the last number of a run of publishes, and whether the queues took them. Answers leave in order, so
    that `multiple` never covers a number that is not resolved.

    number           the channel's
    confirmed_total  publishes that were answered with basic.ack
    """

    __slots__ = ("_next", "_number", "_outbox", "_sent", "confirmed_total")

    def __init__(self, number: int, outbox: Outbox, store: Store) -> None:
        super().__init__(store)
        self._number = number
        self._outbox = outbox
        self._next = 1  # the sequence number of the next publish
        self._sent = 0  # every number up to this one is answered
        self.confirmed_total = 0

    @property
    def published_total(self) -> int:
        return self._next - 1

    @property
    def unconfirmed_count(self) -> int:
        return self._next - 1 - self._sent

    def published(self, count: int, rejected: int, *, needs_store: bool) -> None:
        """`count` messages were published; some queue refused the last `rejected` of them."""
        self._next += count
        last = self._next - 1
        if needs_store:
            self._needs_store = True
        if rejected < count:
            self._open.append((last - rejected, True))
        if rejected:
            self._open.append((last, False))

    def _emit(self, answers: list[tuple[int, bool]]) -> None:
        """One frame per run of equal outcomes."""
        position = 0
        count = len(answers)
        while position < count:
            last, is_positive = answers[position]
            position += 1
            while position < count and answers[position][1] is is_positive:
                last = answers[position][0]
                position += 1
            covered = last - self._sent
            multiple = covered > 1
            if is_positive:
                self.confirmed_total += covered
            self._sent = last
            self._outbox.write(
                _method(1, self._number, 13, 60, ACK if is_positive else NACK, last, multiple, 0xCE)
            )

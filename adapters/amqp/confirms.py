"""Publisher confirms of one channel: in order, coalesced, after the commit."""

from __future__ import annotations

from collections import deque
from struct import Struct
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from leveret.adapters.outbox import Outbox
    from leveret.core.store.base import Store
__all__ = ["Confirms"]

_method = Struct(">BHIHHQBB").pack
ACK, NACK = 80, 120


class Confirms:
    """Sequence numbers count every publish from confirm.select on.

    A chunk's publishes are settled together: what needs the store waits for its group, and what comes later waits
    behind it, so that `multiple` never covers a number that is not resolved.
    """

    def __init__(self, number: int, outbox: Outbox, store: Store) -> None:
        self._number = number
        self._outbox = outbox
        self._store = store
        self._next = 1  # the sequence number of the next publish
        self._sent = 0  # all up to this one are confirmed on the wire
        # (last number, is positive), in order. Open: of this chunk; waiting: one list per group of the store.
        self._open: list[tuple[int, bool]] = []
        self._needs_store = False
        self._waiting: deque[list[tuple[int, bool]]] = deque()
        self.is_closed = False
        self.confirmed_total = 0  # positively

    @property
    def published_total(self) -> int:
        return self._next - 1

    @property
    def unconfirmed_count(self) -> int:
        return self._next - 1 - self._sent

    def published(self, count: int, rejected: int, *, needs_store: bool) -> None:
        """`count` publishes were taken, the last `rejected` of them refused by some queue."""
        self._next += count
        last = self._next - 1
        if needs_store:
            self._needs_store = True
        if rejected < count:
            self._open.append((last - rejected, True))
        if rejected:
            self._open.append((last, False))

    def close_chunk(self) -> None:
        """The end of a chunk: confirm, or ask the store to say when."""
        if not self._open:
            return
        outcomes, self._open = self._open, []
        needs_store, self._needs_store = self._needs_store, False
        if not self._waiting and (not needs_store or self._store.after_commit(self._on_commit)):
            self._emit(outcomes)
            return
        if self._waiting and not needs_store:
            self._waiting[-1] += outcomes  # nothing of its own to wait for: right behind the others
            return
        if self._waiting and self._store.after_commit(self._on_commit):
            # Durable already: then so is all before it, and their callbacks have been or are being called.
            self._waiting[-1] += outcomes
            return
        self._waiting.append(outcomes)

    def _on_commit(self) -> None:
        if self._waiting and not self.is_closed:
            self._emit(self._waiting.popleft())

    def _emit(self, outcomes: list[tuple[int, bool]]) -> None:
        """One frame per run of equal outcomes."""
        position = 0
        count = len(outcomes)
        while position < count:
            last, is_positive = outcomes[position]
            position += 1
            while position < count and outcomes[position][1] is is_positive:
                last = outcomes[position][0]
                position += 1
            covered = last - self._sent
            multiple = covered > 1
            if is_positive:
                self.confirmed_total += covered
            self._sent = last
            self._outbox.write(
                _method(1, self._number, 13, 60, ACK if is_positive else NACK, last, multiple, 0xCE)
            )

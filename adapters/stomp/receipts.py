"""RECEIPT frames of one connection: in the order of the requests, each after its effect is durable."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from leveret.adapters.outbox import Outbox
    from leveret.core.store.base import Store
__all__ = ["Receipts"]

Answer = tuple[bytes, "Callable[[], None] | None"]  # what is sent, and what is called then


class Receipts:
    """What a chunk's frames asked for is answered together at its end.

    What needs the store waits for its group, and what comes later waits behind it; so does the ERROR that ends a
    connection: what was earned before it is heard before it.
    """

    __slots__ = ("_needs_store", "_open", "_outbox", "_store", "_waiting", "is_closed", "on_empty", "total")

    def __init__(self, outbox: Outbox, store: Store) -> None:
        self._outbox = outbox
        self._store = store
        self._open: list[Answer] = []  # of this chunk
        self._needs_store = False
        self._waiting: list[list[Answer]] = []  # one list per group of the store
        self.is_closed = False
        self.on_empty: Callable[[], None] | None = None
        self.total = 0

    @property
    def waiting_count(self) -> int:
        return len(self._open) + sum(map(len, self._waiting))

    def add(self, data: bytes, *, needs_store: bool, then: Callable[[], None] | None = None) -> None:
        """Send data when all that was asked for before is answered, and, if so, the store has written."""
        self._open.append((data, then))
        if needs_store:
            self._needs_store = True

    def close_chunk(self) -> None:
        """The end of a chunk: answer, or ask the store to say when."""
        if not self._open:
            return
        answers, self._open = self._open, []
        needs_store, self._needs_store = self._needs_store, False
        if not self._waiting:
            if not needs_store or self._store.after_commit(self._on_commit):
                self._emit(answers)
            else:
                self._waiting.append(answers)
        elif not needs_store or self._store.after_commit(self._on_commit):
            # Nothing of its own to wait for, or durable already: right behind the others, whose group is on its way.
            self._waiting[-1] += answers
        else:
            self._waiting.append(answers)

    def _on_commit(self) -> None:
        if self._waiting and not self.is_closed:
            self._emit(self._waiting.pop(0))

    def _emit(self, answers: list[Answer]) -> None:
        self.total += len(answers)
        for data, then in answers:
            if data:
                self._outbox.write(data)
            if then is not None:
                then()
        if self.on_empty is not None and not self._waiting and not self._open:
            self.on_empty()

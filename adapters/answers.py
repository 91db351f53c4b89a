"""Answers of one client or channel: in the order of the requests, each after what it promises is durable.

Publisher confirms (AMQP), acknowledgements (MQTT) and receipts (STOMP) follow the same rule. What a chunk of input is
answered with is answered together at the end of the chunk. If one of these answers promises something durable, all
of them wait for the store's group commit, and the answers of later chunks wait behind them. A protocol subclasses
`OrderedAnswers` with its own `_emit`, which encodes answers and writes them to the outbox; a subclass costs neither
a call nor an object more than the protocol's own state.

Three decisions that hold for all protocols:

- The store is asked once per chunk, and only if an answer needs it. Its reply decides alone: it calls back in the
  order of the requests, so that one commit stands for one entry of the waiting queue. If it says that everything is
  durable while earlier answers still wait, then their callbacks are being called right now; the new answers join the
  last entry instead of overtaking it.
- The waiting queue is a deque, created at the first wait: a slow disk can let many entries collect, and most idle
  connections never have one.
- `close` discards what waits, so that late callbacks of the store find nothing to send. There is no flag to check:
  a channel that is closed must not confirm on a connection that stays open, and a lost connection has no one to tell.

HTTP requests wait one by one and have deadlines of their own: see adapters/http/commits.py. A reply that everything
behind it has to wait for, deliveries included, holds the whole outbox: see `Connection.hold_until_durable`.
"""

from __future__ import annotations

from abc import abstractmethod
from collections import deque
from typing import TYPE_CHECKING, Generic, TypeVar

if TYPE_CHECKING:
    from leveret.core.store.base import Store
__all__ = ["OrderedAnswers"]

Answer = TypeVar("Answer")


class OrderedAnswers(Generic[Answer]):
    """Collects the answers of a chunk and emits them in order, after the commit they depend on.

    A subclass appends to `_open`, and sets `_needs_store` if the answer promises something durable.
    """

    __slots__ = ("_needs_store", "_open", "_store", "_waiting")

    def __init__(self, store: Store) -> None:
        self._store = store
        self._open: list[Answer] = []  # of this chunk
        self._needs_store = False  # some answer of this chunk promises something durable
        self._waiting: deque[list[Answer]] | None = None  # one list per expected callback of the store

    @abstractmethod
    def _emit(self, answers: list[Answer]) -> None:
        """Encode these answers, at least one, and write them to the client."""

    @property
    def is_waiting(self) -> bool:
        """Some answer is not sent yet: its chunk is open, or the store has not committed."""
        return bool(self._open or self._waiting)

    def close_chunk(self) -> None:
        """End a chunk of input: emit its answers, or ask the store to say when."""
        if not self._open:
            return
        answers, self._open = self._open, []
        needs_store, self._needs_store = self._needs_store, False
        waiting = self._waiting
        if needs_store and not self._store.after_commit(self._on_commit):
            if waiting is None:
                waiting = self._waiting = deque()
            waiting.append(answers)
        elif waiting:
            waiting[-1] += answers
        else:
            self._emit(answers)

    def close(self) -> None:
        """Discard what was not emitted. Nothing may be added any more."""
        self._open.clear()
        self._waiting = None

    def _on_commit(self) -> None:
        if self._waiting:
            self._emit(self._waiting.popleft())

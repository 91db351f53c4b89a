"""RECEIPT frames of one connection: in the order of the requests, each after its effect is durable."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from leveret.adapters.answers import OrderedAnswers

if TYPE_CHECKING:
    from leveret.adapters.outbox import Outbox
    from leveret.core.store.base import Store
__all__ = ["Receipts"]


class Receipts(OrderedAnswers[tuple[bytes, "Callable[[], None] | None"]]):
    """RECEIPT frames, and the ERROR that ends a connection: the client first receives what it earned before.

    An answer is an encoded frame, and what is called when it is sent.

    on_empty  called when no answer is left to be sent
    total     answers that were sent
    """

    __slots__ = ("_outbox", "on_empty", "total")

    def __init__(self, outbox: Outbox, store: Store) -> None:
        super().__init__(store)
        self._outbox = outbox
        self.on_empty: Callable[[], None] | None = None
        self.total = 0

    def add(self, data: bytes, *, needs_store: bool, then: Callable[[], None] | None = None) -> None:
        """Send `data` in its turn and call `then`. Empty data is not sent, but `then` still takes its turn."""
        self._open.append((data, then))
        if needs_store:
            self._needs_store = True

    def _emit(self, answers: list[tuple[bytes, Callable[[], None] | None]]) -> None:
        self.total += len(answers)
        for data, then in answers:
            if data:
                self._outbox.write(data)
            if then is not None:
                then()
        if self.on_empty is not None and not self.is_waiting:
            self.on_empty()

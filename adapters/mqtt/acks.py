"""What waits for the store on its way to one client, acknowledgements above all: in order, after the commit."""

from __future__ import annotations

from collections import deque
from struct import Struct
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from leveret.adapters.outbox import Outbox
    from leveret.core.store.base import Store
__all__ = ["Acks", "short_acks"]

_short = Struct(">HH").pack


def short_acks(head: int, packet_ids: list[int]) -> bytes:
    """Acknowledgements without a reason. head: the first two bytes, such as 0x4002 for PUBACK."""
    if len(packet_ids) == 1:
        return _short(head, packet_ids[0])
    return b"".join([_short(head, packet_id) for packet_id in packet_ids])


class Acks:
    """PUBACK, PUBREC, PUBREL and PUBCOMP, each kind in the order of what it answers (5.0 4.6).

    What a chunk is answered with leaves together; if something of it must be durable first, all of it waits, and what
    comes later waits behind it.
    """

    __slots__ = (
        "_needs_store",
        "_open",
        "_outbox",
        "_settled",
        "_store",
        "_waiting",
        "is_closed",
        "settled_total",
        "unsent_publishes",
    )

    def __init__(self, outbox: Outbox, store: Store) -> None:
        self._outbox = outbox
        self._store = store
        self._open: list[bytes] = []
        self._settled = 0  # publishes that the open chunk answers for good
        self._needs_store = False
        self._waiting: deque[tuple[bytes, int]] | None = None  # most connections never wait for the store
        self.unsent_publishes = 0  # of the client's, not answered yet: its quota (receive maximum)
        self.settled_total = 0
        self.is_closed = False

    def add(self, data: bytes, *, needs_store: bool, settles: int = 0) -> None:
        """settles: how many of the client's publishes are finished with it."""
        self._open.append(data)
        self._settled += settles
        if needs_store:
            self._needs_store = True

    @property
    def is_waiting(self) -> bool:
        """Something is to be sent that has not been, for want of the store or of the chunk's end."""
        return bool(self._open or self._waiting)

    def close_chunk(self) -> None:
        """The end of a chunk: send, or ask the store to say when."""
        if not self._open:
            return
        data, self._open = b"".join(self._open), []
        settled, self._settled = self._settled, 0
        needs_store, self._needs_store = self._needs_store, False
        waiting = self._waiting
        if needs_store and not self._store.after_commit(self._on_commit):
            if waiting is None:
                waiting = self._waiting = deque()
            waiting.append((data, settled))
        elif waiting:  # nothing of its own to wait for: right behind the others
            before, count = waiting[-1]
            waiting[-1] = before + data, count + settled
        else:
            self._emit(data, settled)

    def _on_commit(self) -> None:
        if self._waiting:
            self._emit(*self._waiting.popleft())

    def _emit(self, data: bytes, settled: int) -> None:
        self.unsent_publishes -= settled
        self.settled_total += settled
        if not self.is_closed:
            self._outbox.write(data)

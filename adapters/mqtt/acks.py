"""Acknowledgements of one MQTT connection, and what else has to wait for the store: in order, after the commit."""

from __future__ import annotations

from struct import Struct
from typing import TYPE_CHECKING

from leveret.adapters.answers import OrderedAnswers

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


class Acks(OrderedAnswers[tuple[bytes, int]]):
    """PUBACK, PUBREC, PUBREL and PUBCOMP, each kind in the order of the packets it answers (MQTT 5.0, 4.6).

    An answer is encoded packets, and the number of the client's publishes that they finish.

    unsent_publishes  publishes of the client that are not finished, which count against our receive maximum
    settled_total     publishes that were finished
    """

    __slots__ = ("_outbox", "settled_total", "unsent_publishes")

    def __init__(self, outbox: Outbox, store: Store) -> None:
        super().__init__(store)
        self._outbox = outbox
        self.unsent_publishes = 0
        self.settled_total = 0

    def add(self, data: bytes, *, needs_store: bool, settles: int = 0) -> None:
        """Send `data` in its turn; `settles` publishes of the client are finished with it."""
        self._open.append((data, settles))
        if needs_store:
            self._needs_store = True

    def _emit(self, answers: list[tuple[bytes, int]]) -> None:
        if len(answers) == 1:
            data, settled = answers[0]
        else:
            pieces, counts = zip(*answers, strict=True)
            data, settled = b"".join(pieces), sum(counts)
        self.unsent_publishes -= settled
        self.settled_total += settled
        self._outbox.write(data)

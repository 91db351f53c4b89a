"""Which message is next: those that are due, those that wait for another attempt, those behind others of their key."""

from __future__ import annotations

import heapq
import itertools
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from leveret.core.deliveries import Delivery
__all__ = ["DeliveryScheduler", "PendingDelivery"]

_order = itertools.count()


@dataclass(slots=True, eq=False)
class PendingDelivery:
    """One message on its way. next_at: monotonic seconds; first_at: of its first failure, milliseconds since the epoch;
    key: while it is the one of its key that is on its way."""

    delivery: Delivery
    webhook_id: str
    key: str | None = None
    attempts: int = 0
    first_at: int = 0
    next_at: float = 0.0
    status: int | None = None
    reason: str = ""


class DeliveryScheduler:
    """Synchronous; the clock is an argument. `on_parked(count)` is told how many wait, whenever that changes."""

    def __init__(self, order_by: str, on_parked: Callable[[int], None]) -> None:
        self._order_by = order_by
        self._on_parked = on_parked
        self._due: deque[PendingDelivery] = deque()
        self._again: deque[PendingDelivery] = deque()  # due again after a failure: before the others
        self._waiting: list[tuple[float, int, PendingDelivery]] = []
        self._keys: dict[
            str, deque[PendingDelivery]
        ] = {}  # of jobs on their way, and what is behind each of them
        self.parked = 0  # waiting, and behind keys

    @property
    def waiting_count(self) -> int:
        """For their next attempts."""
        return len(self._waiting)

    @property
    def next_at(self) -> float | None:
        """When the first of those that wait is due."""
        return self._waiting[0][0] if self._waiting else None

    @property
    def first_failure_ms(self) -> int | None:
        """Of those that wait for another attempt: a look at each."""
        return min((pending.first_at for _, _, pending in self._waiting if pending.first_at), default=None)

    def accept(self, pending: PendingDelivery, now: float) -> None:
        """It has just come from the queue."""
        key = self._key_of(pending.delivery)
        if key is not None:
            behind = self._keys.get(key)
            if behind is not None:
                behind.append(pending)
                self._park(1)
                return
            self._keys[key] = deque()
            pending.key = key
        self._admit(pending, now)

    def _key_of(self, delivery: Delivery) -> str | None:
        """Messages without what the order goes by are in no order."""
        by = self._order_by
        if not by:
            return None
        if by == "queue":
            return ""
        if by == "routing_key":
            return delivery.routing_key
        properties = delivery.properties
        if by.startswith("header:"):
            value = (properties.headers or {}).get(by.removeprefix("header:"))
            return None if value is None else f"{type(value).__name__}:{value!r}"
        found: str | None = getattr(properties, by)
        return found

    def _admit(self, pending: PendingDelivery, now: float) -> None:
        if pending.next_at > now:
            self.wait(pending)
        else:
            self._due.append(pending)

    def wait(self, pending: PendingDelivery) -> None:
        """Until `pending.next_at`. It keeps those behind it waiting."""
        heapq.heappush(self._waiting, (pending.next_at, next(_order), pending))
        self._park(1)

    def release(self, pending: PendingDelivery, now: float) -> None:
        """It is settled: the next one of its key may go."""
        if pending.key is None:
            return
        behind = self._keys[pending.key]
        if not behind:
            del self._keys[pending.key]
            return
        following = behind.popleft()
        following.key = pending.key
        self._park(-1)
        self._admit(following, now)

    def has_due(self, now: float) -> bool:
        waiting = self._waiting
        while waiting and waiting[0][0] <= now:
            self._again.append(heapq.heappop(waiting)[2])
            self._park(-1)
        return bool(self._again or self._due)

    def pop(self) -> PendingDelivery:
        """The first of those that are due. Raise IndexError if there is none."""
        return (self._again or self._due).popleft()

    def _park(self, change: int) -> None:
        self.parked += change
        self._on_parked(self.parked)

"""The order of deliveries: those that are due, those that wait for another attempt, and those that wait behind others with their key."""

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
    """A message that is not delivered yet.

    key       set while it is the message of its key that may be sent; others with that key wait behind it
    first_at  the time of the first failure, in milliseconds since the epoch; 0 before it
    next_at   the time of the next attempt, in monotonic seconds
    status    the status of the last answer
    reason    the reason of the last failure
    """

    delivery: Delivery
    webhook_id: str
    key: str | None = None
    attempts: int = 0
    first_at: int = 0
    next_at: float = 0.0
    status: int | None = None
    reason: str = ""


class DeliveryScheduler:
    """Decides which delivery is next. Synchronous; the clock is an argument (monotonic seconds).

    order_by   see Subscription
    on_parked  called with the number of deliveries that wait, for an attempt or behind others, whenever it changes
    """

    def __init__(self, order_by: str, on_parked: Callable[[int], None]) -> None:
        self._order_by = order_by
        self._on_parked = on_parked
        self._due: deque[PendingDelivery] = deque()
        self._again: deque[PendingDelivery] = deque()  # due again after a failure; sent before the others
        self._waiting: list[tuple[float, int, PendingDelivery]] = []
        # By key: the deliveries that wait behind the one that may be sent.
        self._keys: dict[str, deque[PendingDelivery]] = {}
        self.parked = 0  # deliveries that wait for another attempt or behind others

    @property
    def waiting_count(self) -> int:
        """The number of deliveries that wait for another attempt."""
        return len(self._waiting)

    @property
    def next_at(self) -> float | None:
        """When the next of the deliveries that wait for another attempt is due, in monotonic seconds; None without one."""
        return self._waiting[0][0] if self._waiting else None

    @property
    def first_failure_ms(self) -> int | None:
        """The earliest first failure of those that wait for another attempt, in milliseconds since the epoch. Linear in their number."""
        return min((pending.first_at for _, _, pending in self._waiting if pending.first_at), default=None)

    def accept(self, pending: PendingDelivery, now: float) -> None:
        """Take a delivery that was received from the queue."""
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
        """The value that orders the message; None if the message may be sent in any order, because it lacks this value."""
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
        """Let a delivery wait until its `next_at`; those behind it wait, too."""
        heapq.heappush(self._waiting, (pending.next_at, next(_order), pending))
        self._park(1)

    def release(self, pending: PendingDelivery, now: float) -> None:
        """A delivery is settled: the next one with its key may be sent."""
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
        """Whether a delivery is due, so that `pop` returns one."""
        waiting = self._waiting
        while waiting and waiting[0][0] <= now:
            self._again.append(heapq.heappop(waiting)[2])
            self._park(-1)
        return bool(self._again or self._due)

    def pop(self) -> PendingDelivery:
        """The first delivery that is due. Raise IndexError if there is none."""
        return (self._again or self._due).popleft()

    def _park(self, change: int) -> None:
        self.parked += change
        self._on_parked(self.parked)

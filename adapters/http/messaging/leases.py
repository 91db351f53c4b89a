"""Leases: messages that are out with a user of the REST API, until they are settled or their time has passed."""

from __future__ import annotations

import heapq
import logging
import secrets
from collections import Counter
from typing import TYPE_CHECKING

from leveret.adapters.http.errors import Refusal
from leveret.adapters.http.settings import HttpSettings

if TYPE_CHECKING:
    from leveret.adapters.http.context import HttpContext
    from leveret.adapters.http.messaging.draining import DrainCallbacks
    from leveret.core.message import Message
    from leveret.core.timers import Timer
__all__ = ["MAX_VISIBILITY_S", "Lease", "Leases"]

log = logging.getLogger(__name__)

MAX_VISIBILITY_S = 43200.0
LOOK_S = 60.0
MANY_ENDS = 1024
MAX_BYTES = 256 << 20
"""Bodies of leased messages, which are in memory; past it there are no further ones."""


class Lease:
    """One message, with one user."""

    __slots__ = ("ends_at", "id", "message", "username")

    def __init__(self, id: str, message: Message, username: str, ends_at: float) -> None:
        self.id = id
        self.message = message
        self.username = username
        self.ends_at = ends_at

    def __repr__(self) -> str:
        return f"<Lease {self.id} queue={self.message.queue.name!r} position={self.message.position}>"


class Leases:
    """All of them, by id. Their number is bounded: in all, and for one user to a quarter of that.

    Most are settled long before their end, and the broker's timers keep some of what is cancelled (see core/timers.py):
    so the ends are in a heap of their own, with one timer for the next of them.
    """

    def __init__(self, context: HttpContext, drain_callbacks: DrainCallbacks) -> None:
        self._broker = context.broker
        self._drain_callbacks = drain_callbacks
        self._leases: dict[str, Lease] = {}
        self._of_user: Counter[str] = Counter()
        self._bytes = 0
        self._is_watching = False
        self._ends: list[tuple[float, str]] = []  # those of settled leases, too, up to as many again
        self._timer: Timer | None = None

    def __len__(self) -> int:
        return len(self._leases)

    @property
    def bytes(self) -> int:
        return self._bytes

    def room(self, username: str) -> int:
        """How many more the user may have. Raise Refusal (429) if that is none."""
        limit = HttpSettings.of(self._broker.settings).leases_max
        room = min(limit - len(self._leases), max(1, limit // 4) - self._of_user[username])
        if room <= 0 or self._bytes >= MAX_BYTES:
            raise Refusal(
                429,
                "too_many_leases",
                "too many messages are leased: settle some of them first",
                headers={"Retry-After": "1"},
            )
        return room

    def grant(self, message: Message, username: str, visibility_s: float) -> Lease:
        """The clock has just been read."""
        if not self._is_watching:
            self._is_watching = True
            self._drain_callbacks.add(self.give_back)
        id = secrets.token_urlsafe(16)
        message.consumer = None
        lease = self._leases[id] = Lease(id, message, username, 0.0)
        self._of_user[username] += 1
        self._bytes += len(message.body)
        self.extend(lease, visibility_s)
        return lease

    def find(self, id: str, username: str) -> Lease | None:
        """None: there is none, it has ended, or it is somebody else's."""
        lease = self._leases.get(id)
        return lease if lease is not None and lease.username == username else None

    def _end(self, lease: Lease) -> None:
        del self._leases[lease.id]
        self._of_user[lease.username] -= 1
        if not self._of_user[lease.username]:
            del self._of_user[lease.username]
        self._bytes -= len(lease.message.body)

    def give_up(self, lease: Lease) -> None:
        """Its user never saw it: back to its place, and nobody's failure."""
        self._end(lease)
        lease.message.queue.requeue([lease.message], counts=False)

    def ack(self, lease: Lease) -> None:
        self._end(lease)
        lease.message.queue.settle([lease.message])

    def nack(self, lease: Lease, *, requeue: bool) -> None:
        """requeue: back to its place, as a failed delivery; else dead-lettered or dropped."""
        self._end(lease)
        queue = lease.message.queue
        if requeue:
            queue.requeue([lease.message], counts=True)
        else:
            queue.reject([lease.message])

    def extend(self, lease: Lease, visibility_s: float) -> None:
        """From now on."""
        ends = self._ends
        lease.ends_at = self._broker.timers.now + visibility_s
        heapq.heappush(ends, (lease.ends_at, lease.id))
        if len(ends) > MANY_ENDS and len(ends) > 2 * len(self._leases):
            ends[:] = [(lease.ends_at, lease.id) for lease in self._leases.values()]
            heapq.heapify(ends)
        self._arm()

    def _arm(self) -> None:
        """For the next end; but soon, so that a timer that is replaced is not kept for hours."""
        timers = self._broker.timers
        when = min(self._ends[0][0], timers.now + LOOK_S)
        if self._timer is not None:
            if self._timer.when <= when:
                return
            self._timer.cancel()
        self._timer = timers.at(when, self._look)

    def _look(self) -> None:
        self._timer = None
        ends = self._ends
        while ends and ends[0][0] <= self._broker.timers.now:
            when, id = heapq.heappop(ends)
            lease = self._leases.get(id)
            if lease is not None and lease.ends_at == when:
                self._on_end(lease)
        if ends:
            self._arm()

    def _on_end(self, lease: Lease) -> None:
        queue = lease.message.queue
        log.info(
            "lease=%s queue=%r vhost=%r user=%s ended unsettled",
            lease.id,
            queue.name,
            queue.vhost.name,
            lease.username,
        )
        self.nack(lease, requeue=True)

    def give_back(self) -> None:
        """The server stops: nobody's failure."""
        for lease in list(self._leases.values()):
            self.give_up(lease)

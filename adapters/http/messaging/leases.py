"""Leases: messages that are out with a user of the REST API, until they are settled or their time has passed."""

from __future__ import annotations

import logging
import secrets
from collections import Counter
from typing import TYPE_CHECKING, Any

from leveret.adapters.http.errors import Refusal

if TYPE_CHECKING:
    from leveret.adapters.http.app import HttpContext
    from leveret.adapters.http.messaging.stopping import AtStop
    from leveret.core.message import Message
    from leveret.core.timers import Timer

__all__ = ["MAX_VISIBILITY_S", "Lease", "Leases"]

log = logging.getLogger(__name__)

MAX_VISIBILITY_S = 43200.0
MAX_BYTES = 256 << 20
"""Bodies of leased messages, which are in memory; past it there are no further ones."""


class Lease:
    """One message, with one user."""

    __slots__ = ("id", "message", "timer", "username")

    def __init__(self, id: str, message: Message, username: str, timer: Timer) -> None:
        self.id = id
        self.message = message
        self.username = username
        self.timer = timer

    def __repr__(self) -> str:
        return f"<Lease {self.id} queue={self.message.queue.name!r} position={self.message.position}>"


class Leases:
    """All of them, by id. Their number is bounded: in all, and for one user to a quarter of that."""

    def __init__(self, context: HttpContext, at_stop: AtStop) -> None:
        self._broker = context.broker
        self._at_stop = at_stop
        self._leases: dict[str, Lease] = {}
        self._of_user: Counter[str] = Counter()
        self._bytes = 0
        self._is_watching = False

    def __len__(self) -> int:
        return len(self._leases)

    @property
    def bytes(self) -> int:
        return self._bytes

    def room(self, username: str) -> int:
        """How many more the user may have. Raise Refusal (429) if that is none."""
        limit = self._broker.settings.http.leases_max
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
            self._at_stop.add(self.give_back)
        id = secrets.token_urlsafe(16)
        timer = self._broker.timers.after(visibility_s, lambda: self._on_end(id))
        message.consumer = None
        lease = self._leases[id] = Lease(id, message, username, timer)
        self._of_user[username] += 1
        self._bytes += len(message.body)
        return lease

    def find(self, id: str, username: str) -> Lease | None:
        """None: there is none, it has ended, or it is somebody else's."""
        lease = self._leases.get(id)
        return lease if lease is not None and lease.username == username else None

    def _end(self, lease: Lease) -> None:
        del self._leases[lease.id]
        lease.timer.cancel()
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
        lease.timer.cancel()
        lease.timer = self._broker.timers.after(visibility_s, lambda: self._on_end(lease.id))

    def _on_end(self, id: str) -> None:
        lease = self._leases.get(id)
        if lease is not None:
            queue = lease.message.queue
            log.info(
                "lease=%s queue=%r vhost=%r user=%s ended unsettled",
                id,
                queue.name,
                queue.vhost.name,
                lease.username,
            )
            self.nack(lease, requeue=True)

    def give_back(self) -> None:
        """The server stops: nobody's failure."""
        for lease in list(self._leases.values()):
            self.give_up(lease)

    def describe(self) -> dict[str, Any]:
        return {"leases": len(self._leases), "bytes": self._bytes}

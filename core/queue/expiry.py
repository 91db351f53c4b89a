"""Time and a queue: messages that expire at its head (TTL), and the queue itself when nobody uses it (x-expires)."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from leveret.core.message import HasName, Message
    from leveret.core.queue.limits import QueueLimits
    from leveret.core.queue.ready import ReadyMessages
    from leveret.core.timers import Timer, Timers
__all__ = ["ExpiringQueue", "MessageExpiry", "QueueExpiry"]

log = logging.getLogger(__name__)


class ExpiringQueue(Protocol):
    """A queue, for those who watch the time. has_expiry: some message has a time to live."""

    name: str
    limits: QueueLimits
    has_expiry: bool
    is_closed: bool
    unacked_count: int

    @property
    def vhost(self) -> HasName: ...
    @property
    def ready(self) -> ReadyMessages: ...
    @property
    def consumer_count(self) -> int: ...
    def dead_letter(self, messages: list[Message], reason: str) -> None: ...


class MessageExpiry:
    """The message TTL of one queue. It acts on the head only: what stands behind a living head stays, and counts.

    Expired: at `expires_at` for a message nobody wants; strictly after it for one that is about to be handed over,
    so that a TTL of 0 means "deliver now or drop".
    """

    def __init__(self, queue: ExpiringQueue, timers: Timers) -> None:
        self._queue = queue
        self._timers = timers
        self._timer: Timer | None = None

    def cancel(self) -> None:
        if self._timer is not None:
            self._timer.cancel()

    def drop_before_delivery(self) -> None:
        """Expired messages at the head are dead-lettered before anything is handed over."""
        now = self._timers.now
        ready = self._queue.ready
        while (head := ready.head()) is not None and head.expires_at is not None and head.expires_at < now:
            self._queue.dead_letter(ready.take(1), "expired")

    def living(self, messages: list[Message]) -> list[Message]:
        """Of messages that were taken for delivery; the others are dead-lettered, for each was head in its turn."""
        now = self._timers.now
        expired = [m for m in messages if m.expires_at is not None and m.expires_at < now]
        if not expired:
            return messages
        self._queue.dead_letter(expired, "expired")
        return [m for m in messages if m.expires_at is None or m.expires_at >= now]

    def arm(self) -> None:
        """Have the head looked at when it expires, consumer or not."""
        queue = self._queue
        head = queue.ready.head()
        if head is None or head.expires_at is None:
            if not queue.ready.count and not queue.unacked_count:
                queue.has_expiry = queue.limits.message_ttl_ms is not None
            return
        timer = self._timer
        if timer is not None and timer.callback is not None:
            if timer.when <= head.expires_at:
                return
            timer.cancel()
        self._timer = self._timers.at(head.expires_at, self._on_time)

    def _on_time(self) -> None:
        self._timer = None
        queue = self._queue
        if queue.is_closed:
            return
        now = self._timers.now
        ready = queue.ready
        while (head := ready.head()) is not None and head.expires_at is not None and head.expires_at <= now:
            queue.dead_letter(ready.take(1), "expired")
        self.arm()


class QueueExpiry:
    """x-expires: without consumers, basic.get and redeclaration for that long, the queue is deleted.

    A publish does not renew it; a restart does. Nothing is dead-lettered.
    """

    def __init__(self, queue: ExpiringQueue, timers: Timers, delete: Callable[[], None]) -> None:
        self._queue = queue
        self._timers = timers
        self._delete = delete
        self._timer: Timer | None = None
        self._used_at = timers.now

    def renew(self) -> None:
        self._used_at = self._timers.now

    def cancel(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def arm(self) -> None:
        """Begin, or go on; with whatever `expires_ms` is now."""
        self.cancel()
        expires_ms = self._queue.limits.expires_ms
        if expires_ms is not None and not self._queue.is_closed:
            self._timer = self._timers.at(self._used_at + expires_ms / 1000, self._on_time)

    def _on_time(self) -> None:
        queue = self._queue
        expires_ms = queue.limits.expires_ms
        self._timer = None
        if queue.is_closed or expires_ms is None:
            return
        if queue.consumer_count:
            self.renew()
        elif self._used_at + expires_ms / 1000 <= self._timers.now:
            log.info("queue=%r vhost=%r expired after %d ms unused", queue.name, queue.vhost.name, expires_ms)
            self._delete()
            return
        self.arm()

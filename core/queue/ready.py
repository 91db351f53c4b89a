"""A queue's ready messages in order: a window in memory over a range on disk."""

from __future__ import annotations

import heapq
import logging
from collections import deque
from typing import TYPE_CHECKING, Protocol

from leveret.core.message import Envelope, Message, MessageQueue

if TYPE_CHECKING:
    from leveret.core.queue.services import QueueServices
    from leveret.core.store.base import Log, StoredMessage
log_ = logging.getLogger(__name__)

__all__ = ["FifoMessages", "PriorityMessages", "ReadyMessages", "ReadyQueue"]


SPILL_SLICE = 4096  # messages


class ReadyQueue(MessageQueue, Protocol):
    """The queue of ready messages. has_expiry: some message has a time to live."""

    has_expiry: bool


class ReadyMessages(Protocol):
    """Ready messages. `count` and `bytes` cover all of them, on disk or not."""

    @property
    def count(self) -> int: ...
    @property
    def bytes(self) -> int: ...
    def push(self, messages: list[Message], body_bytes: int, *, is_persistent: bool) -> None:
        """New messages, of one envelope, at growing positions. Persistent: give them to the log first."""

    def take(self, n: int) -> list[Message]:
        """The first n, or fewer, as far as the window reaches; at least one if there is any."""

    def head(self) -> Message | None:
        """The first, if it is in memory or can be read now."""

    def requeue(self, messages: list[Message]) -> None:
        """Put them back at their positions."""

    def discard(self, messages: list[Message]) -> None:
        """Taken messages are settled: the log may forget them."""

    def clear(self) -> int:
        """Drop all ready messages (not those that are out); how many there were."""

    def spill(self, limit: int) -> int:
        """Memory is short: move what can be moved to disk, about `limit` bytes at most; bytes freed."""


class FifoMessages:
    """First in, first out, with requeued messages back at their places.

    In order of position: `_returned` (a heap; always the lowest, for they were taken from the front), `_window`
    (in memory), the paged range (`_paged_count` messages on disk from `_paged_from` on), and `_tail` (transient
    messages that arrived while there was a paged range; merged by position as the range is read back).
    """

    def __init__(self, queue: ReadyQueue, services: QueueServices) -> None:
        self._queue = queue
        self._services = services
        self.log: Log | None = None
        self.count = 0
        self.bytes = 0
        self._window_messages = services.window_messages
        self._window_limit_bytes = services.window_bytes
        self._returned: list[tuple[int, Message]] = []
        self._window: deque[Message] = deque()
        self._window_bytes = 0
        self._paged_from = 0
        self._paged_count = 0
        self._tail: deque[Message] = deque()
        self._envelopes: dict[
            tuple[str, str, bytes, bool], Envelope
        ] = {}  # of messages read back; bounded, see _revive

    @property
    def in_memory_count(self) -> int:
        return self.count - self._paged_count

    @property
    def in_memory_bytes(self) -> int:
        """Of the window; what was returned or waits behind a paged range is little, and not counted."""
        return self._window_bytes

    def recover(self, log: Log) -> None:
        """At start: everything live in the log is ready."""
        self.log = log
        self._paged_count = self.count = log.count
        self.bytes = log.bytes

    def push(self, messages: list[Message], body_bytes: int, *, is_persistent: bool) -> None:
        if is_persistent and self.log is not None:
            self.log.append(messages)
            if self._paged_count or (
                len(self._window) >= self._window_messages or self._window_bytes >= self._window_limit_bytes
            ):
                if not self._paged_count:
                    self._paged_from = messages[0].position
                self._paged_count += len(messages)
                self.count += len(messages)
                self.bytes += body_bytes
                return
        self.count += len(messages)
        self.bytes += body_bytes
        if self._paged_count:
            self._tail.extend(messages)
        else:
            self._window.extend(messages)
            self._window_bytes += body_bytes

    def take(self, n: int) -> list[Message]:
        taken: list[Message] = []
        if self._returned:
            while self._returned and len(taken) < n:
                taken.append(heapq.heappop(self._returned)[1])
            returned_bytes = sum([len(message.body) for message in taken])
            self.bytes -= returned_bytes
            self.count -= len(taken)
            n -= len(taken)
            if n <= 0:
                return taken
        window = self._window
        if not window and (not self._paged_count or not self._refill()):
            return taken
        if n >= len(window):
            batch = list(window)
            window.clear()
            freed = self._window_bytes
        else:
            pop = window.popleft
            batch = [pop() for _ in range(n)]
            freed = sum([len(message.body) for message in batch])
        self._window_bytes -= freed
        self.bytes -= freed
        self.count -= len(batch)
        return taken + batch if taken else batch

    def head(self) -> Message | None:
        if self._returned:
            return self._returned[0][1]
        if not self._window and (not self._paged_count or not self._refill()):
            return None
        return self._window[0]

    def requeue(self, messages: list[Message]) -> None:
        log = self.log
        for message in messages:
            heapq.heappush(self._returned, (message.position, message))
            if log is not None and message.is_stored:
                log.update(message)  # redelivered, and how often: it must survive a restart
        self.count += len(messages)
        self.bytes += sum([len(message.body) for message in messages])

    def discard(self, messages: list[Message]) -> None:
        if self.log is not None:
            stored = [message for message in messages if message.is_stored]
            if stored:
                self.log.discard(stored)

    def clear(self) -> int:
        count = self.count
        self.discard([message for _, message in self._returned])
        self.discard(list(self._window))
        if self._paged_count:
            assert self.log is not None
            self.log.truncate(self._paged_from)  # the paged range is the log's tail
        self._returned.clear()
        self._window.clear()
        self._tail.clear()
        self.count = self.bytes = self._window_bytes = self._paged_count = 0
        return count

    def spill(self, limit: int) -> int:
        """Move transient messages beyond the window to disk; they must not survive a restart."""
        window, tail = self._window, self._tail
        moved: list[Message] = []
        freed = 0
        if self._paged_count:
            while tail and freed < limit:
                message = tail.popleft()
                moved.append(message)
                freed += len(message.body)
        else:
            while freed < limit and (
                len(window) > self._window_messages or self._window_bytes > self._window_limit_bytes
            ):
                message = window.pop()
                moved.append(message)
                freed += len(message.body)
                self._window_bytes -= len(message.body)
            moved.reverse()
        if not moved:
            return 0
        if self.log is None:
            self.log = self._services.store.create_log()
        if not self._paged_count:
            self._paged_from = moved[0].position
        self._paged_count += len(moved)
        while (
            moved
        ):  # in slices, each freed before the next is encoded: this must not cost the memory it is to save
            part = [message for message in moved[:SPILL_SLICE] if not message.is_stored]
            del moved[:SPILL_SLICE]
            if part:
                self.log.spill(part)
        return freed

    def _refill(self) -> bool:
        """Read the next part of the paged range into the window. False: nothing is there (it cannot be)."""
        log = self.log
        assert log is not None
        stored = log.read(self._paged_from, self._window_messages, self._window_limit_bytes)
        if not stored:
            # Cannot be; but a queue that says it has messages and gives none would hang its consumers in silence.
            log_.error(
                "queue=%r log=%d has none of its %d messages", self._queue.name, log.id, self._paged_count
            )
            self.count -= self._paged_count
            self._paged_count = 0
            return False
        messages = [self._revive(entry) for entry in stored]
        last = stored[-1].position
        self._paged_from = last + 1
        self._paged_count -= len(stored)
        tail = self._tail
        if tail:
            while tail and (tail[0].position < last or not self._paged_count):
                messages.append(tail.popleft())
            messages.sort(key=lambda message: message.position)
        self._window.extend(messages)
        self._window_bytes += sum([len(message.body) for message in messages])
        return True

    def _revive(self, stored: StoredMessage) -> Message:
        key = (stored.exchange, stored.routing_key, stored.header, stored.is_dead_letter)
        envelope = self._envelopes.get(key)
        if envelope is None:
            if len(self._envelopes) >= 64:
                self._envelopes.clear()
            envelope = self._envelopes[key] = Envelope(*key[:3])
            envelope.is_dead_letter = stored.is_dead_letter
        queue = self._queue
        message = Message(envelope, stored.body, queue, stored.position)
        message.is_stored = True
        message.delivery_count = stored.delivery_count
        message.is_redelivered = stored.is_redelivered
        if stored.expires_at_ms is not None:
            message.expires_at = self._services.timers.monotonic(stored.expires_at_ms)
            queue.has_expiry = True
        return message


class PriorityMessages:
    """One FIFO per priority (x-max-priority): the highest first. Absent priority is 0, a higher one is capped."""

    def __init__(self, fifos: list[FifoMessages]) -> None:
        self.fifos = fifos  # by priority
        self._top = len(fifos) - 1

    @property
    def count(self) -> int:
        return sum([fifo.count for fifo in self.fifos])

    @property
    def bytes(self) -> int:
        return sum([fifo.bytes for fifo in self.fifos])

    def _fifo(self, envelope: Envelope) -> FifoMessages:
        return self.fifos[min(envelope.priority or 0, self._top)]

    def push(self, messages: list[Message], body_bytes: int, *, is_persistent: bool) -> None:
        self._fifo(messages[0].envelope).push(messages, body_bytes, is_persistent=is_persistent)

    def take(self, n: int) -> list[Message]:
        taken: list[Message] = []
        for fifo in reversed(self.fifos):
            while fifo.count and len(taken) < n:
                batch = fifo.take(n - len(taken))
                if not batch:
                    break
                taken += batch
        return taken

    def head(self) -> Message | None:
        for fifo in reversed(self.fifos):
            if fifo.count:
                return fifo.head()
        return None

    def requeue(self, messages: list[Message]) -> None:
        for message in messages:
            self._fifo(message.envelope).requeue([message])

    def discard(self, messages: list[Message]) -> None:
        for message in messages:
            if message.is_stored:
                self._fifo(message.envelope).discard([message])

    def clear(self) -> int:
        return sum([fifo.clear() for fifo in self.fifos])

    def spill(self, limit: int) -> int:
        freed = 0
        for fifo in self.fifos:
            freed += fifo.spill(limit - freed)
        return freed

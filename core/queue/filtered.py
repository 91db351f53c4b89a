"""Consumers with filters: who gets what of a queue that some of its consumers want only a part of.

A message goes to the first consumer in turn that wants it and has credit; one that nobody wants who has credit is set
aside, and what is behind it is looked at. Set aside it is as ready as ever: it counts, expires, is purged, dropped by a
limit, got by basic.get and recovered in its place. The look ahead ends at as many messages (and bytes) set aside per
priority as the store's window has: behind those nobody looks until some are gone, as behind ActiveMQ's page.
"""

from __future__ import annotations

import heapq
from bisect import bisect_left
from typing import TYPE_CHECKING, Protocol

from leveret.core.message import Message
from leveret.core.queue.ready import FifoMessages, PriorityMessages

if TYPE_CHECKING:
    from leveret.core.message import Envelope
    from leveret.core.queue.consumer import Consumer, Consumers, Filter
    from leveret.core.queue.expiry import MessageExpiry
    from leveret.core.queue.services import QueueServices
__all__ = ["FilteredMessages", "FilteredQueue"]

ROUND_BYTES = 1 << 20  # handed over at once, then capacities are asked again
LOOK = 256  # messages that are looked at at once
LEVEL_SHIFT = 64  # a key is (levels below the highest priority, position) as one number


class FilteredQueue(Protocol):
    """The queue whose messages are given out by filters."""

    consumers: Consumers
    expiry: MessageExpiry
    has_expiry: bool
    is_closed: bool
    dropped_total: int

    def dead_letter(self, messages: list[Message], reason: str) -> None: ...
    def hand_over(self, consumer: Consumer, messages: list[Message]) -> None: ...
    def stop_filtering(self) -> None:
        """No consumer has a filter any more, and no message is set aside."""


class _FilterCursor:
    """How far one filter has been applied to what is set aside.

    Everything below `cursor` was tested and is not wanted, or was taken; except the keys in `behind` (a heap, some of
    them perhaps gone again), which came after the cursor had passed their places: requeued messages, higher priorities.
    """

    __slots__ = ("behind", "candidate", "cursor", "filter")

    def __init__(self, filter: Filter | None) -> None:
        self.filter = filter
        self.cursor = 0
        self.behind: list[int] = []
        self.candidate: int | None = None  # the first that is wanted, if it is known

    def restart(self) -> None:
        self.cursor = 0
        self.behind.clear()
        self.candidate = None

    def wants(self, envelope: Envelope) -> bool:
        return self.filter is None or self.filter.matches(envelope)


class _Candidate:
    """A consumer that can take messages, in one round."""

    __slots__ = ("batch", "consumer", "credit", "rank", "view", "window")

    def __init__(self, consumer: Consumer, view: _FilterCursor, rank: int) -> None:
        self.consumer = consumer
        self.view = view
        self.rank = rank  # the lowest has its turn first
        self.credit = consumer.credit
        self.window = consumer.sink.capacity(consumer)  # shared by all consumers of the sink
        self.batch: list[Message] = []


class FilteredMessages:
    """Stands before a queue's backlog, as its backlog, from the first consumer with a filter until none is left and
    nothing is set aside any more."""

    def __init__(
        self, queue: FilteredQueue, inner: FifoMessages | PriorityMessages, services: QueueServices
    ) -> None:
        self._queue = queue
        self._timers = services.timers
        self.inner = inner
        self.fifos = [inner] if isinstance(inner, FifoMessages) else inner.fifos
        self.limit_messages = services.window_messages
        self.limit_bytes = services.window_bytes
        self._top = len(self.fifos) - 1
        self._aside: dict[int, Message] = {}
        self._aside_bytes = 0
        self._keys: list[int] = []  # of what is aside, in order, and of some that are gone
        self._counts = [0] * len(self.fifos)  # aside, by priority
        self._bytes = [0] * len(self.fifos)
        self._last = [0] * len(self.fifos)  # the highest position that was looked at, by priority
        self._frontier: tuple[int, int] | None = None  # key and priority of the first message to look at next
        self._is_frontier_known = False
        self._views: dict[int, _FilterCursor] = {}  # by the identity of the filter
        self._is_selecting = False
        self._drops = False
        self._is_busy = False

    # -- what it stands for: a backlog

    @property
    def count(self) -> int:
        return self.inner.count + len(self._aside)

    @property
    def bytes(self) -> int:
        return self.inner.bytes + self._aside_bytes

    def push(self, messages: list[Message], body_bytes: int, *, is_persistent: bool) -> None:
        self.inner.push(messages, body_bytes, is_persistent=is_persistent)

    def take(self, n: int) -> list[Message]:
        """The first, whoever wants them: for basic.get, limits, expiry, and consumers when none has a filter."""
        taken: list[Message] = []
        while len(taken) < n:
            skipped = self._first()
            if skipped is None:
                batch = self.inner.take(n - len(taken))
                if not batch:
                    break
                taken += batch
                continue
            head = self._inner_head()
            if head is not None and head[0] < skipped:
                taken += self.fifos[head[1]].take(1)
            else:
                taken.append(self._remove(skipped))
        return taken

    def head(self) -> Message | None:
        skipped = self._first()
        if skipped is None:
            return self.inner.head()
        head = self._inner_head()
        return self.fifos[head[1]].head() if head is not None and head[0] < skipped else self._aside[skipped]

    def requeue(self, messages: list[Message]) -> None:
        self.inner.requeue(messages)

    def discard(self, messages: list[Message]) -> None:
        self.inner.discard(messages)

    def clear(self) -> int:
        count = self.count
        if self._aside:
            self.inner.discard(list(self._aside.values()))
            self._aside.clear()
            self._emptied()
        self.inner.clear()
        return count

    def spill(self, limit: int) -> int:
        return self.inner.spill(limit)

    # -- consumers

    def consumers_changed(self) -> None:
        """One came or went."""
        consumers = list(self._queue.consumers)
        self._is_selecting = any(consumer.filter is not None for consumer in consumers)
        self._drops = bool(consumers) and all(consumer.drops_unmatched for consumer in consumers)
        known = self._views
        self._views = {}
        for consumer in consumers:
            key = id(consumer.filter)
            if key not in self._views:
                self._views[key] = known.get(key) or _FilterCursor(consumer.filter)

    def is_wanted(self, envelope: Envelope) -> bool:
        """By a consumer that can take it now."""
        return any(taker.view.wants(envelope) for taker in self._candidates())

    def _candidates(self) -> list[_Candidate]:
        consumers = self._queue.consumers
        able = (
            list(consumers)
            if not consumers.is_single_active
            else [consumers.active]
            if consumers.active
            else []
        )
        takers = [
            _Candidate(c, self._views[id(c.filter)], rank) for rank, c in enumerate(able) if c.credit > 0
        ]
        return [taker for taker in takers if taker.window > 0]

    # -- dispatch

    def dispatch(self) -> bool:
        """Hand over what consumers want. False: no consumer has a filter any more, and all is ordinary again."""
        queue = self._queue
        if self._is_busy or queue.is_closed:
            return True  # busy: a dead letter came back to this queue; the dispatch in progress meets it
        if not self._is_selecting:
            if not self._aside:
                queue.stop_filtering()
            return False
        self._is_busy = True
        try:
            if queue.has_expiry:
                queue.expiry.drop_before_delivery()
            while self._round():
                pass
        finally:
            self._is_busy = False
        if queue.has_expiry:
            queue.expiry.arm()
        return True

    def _round(self) -> bool:
        """One batch each, as far as capacities and ROUND_BYTES reach. True: there may be more."""
        self._is_frontier_known = False
        if self._drops:
            while (frontier := self._find_frontier()) is not None:
                self._look(frontier[1])
        takers = self._candidates()
        by_view: dict[_FilterCursor, list[_Candidate]] = {}
        for taker in takers:
            by_view.setdefault(taker.view, []).append(taker)
        queue, size = self._queue, 0
        turn = len(queue.consumers)  # above every rank
        now = self._timers.now
        given: dict[int, int] = {}  # to each sink
        while by_view and size < ROUND_BYTES:
            key = self._next(by_view)
            if key is None:
                break
            message = self._aside[key]
            if message.expires_at is not None and message.expires_at < now:
                queue.dead_letter([self._remove(key)], "expired")
                self._is_frontier_known = False  # the dead letter may have come back
                continue
            chosen = self._choose(key, by_view, given)
            if chosen is None:
                continue  # nobody of those who want it can take more; they are out of the round now
            chosen.batch.append(self._remove(key))
            chosen.rank, turn = turn, turn + 1
            sink = id(chosen.consumer.sink)
            given[sink] = given.get(sink, 0) + 1
            size += len(message.body)
        served = sorted([taker for taker in takers if taker.batch], key=lambda taker: taker.rank)
        for taker in served:
            queue.consumers.moved_back(taker.consumer)
        for taker in takers:
            if taker.batch:
                queue.hand_over(taker.consumer, taker.batch)
        return size >= ROUND_BYTES  # else it ended for want of messages or of capacity

    def _choose(
        self, key: int, by_view: dict[_FilterCursor, list[_Candidate]], given: dict[int, int]
    ) -> _Candidate | None:
        """The consumer for it: of the highest priority, first in turn. Those that turn out to be full leave the round."""
        best: _Candidate | None = None
        for view in list(by_view):
            if view.candidate != key:
                continue  # it does not want it: its first is a later one
            able = [
                taker
                for taker in by_view[view]
                if len(taker.batch) < taker.credit and given.get(id(taker.consumer.sink), 0) < taker.window
            ]
            if not able:
                del by_view[view]
                continue
            by_view[view] = able
            for taker in able:
                if best is None or (-taker.consumer.priority, taker.rank) < (
                    -best.consumer.priority,
                    best.rank,
                ):
                    best = taker
        return best

    def _next(self, views: dict[_FilterCursor, list[_Candidate]]) -> int | None:
        """The first message that one of these wants, looking at as many as may be looked at."""
        while True:
            best: int | None = None
            for view in views:
                key = self._candidate(view)
                if key is not None and (best is None or key < best):
                    best = key
            frontier = self._find_frontier()
            if frontier is None or (best is not None and best < frontier[0]):
                return best
            self._look(frontier[1])

    def _candidate(self, view: _FilterCursor) -> int | None:
        """The first of those set aside that this filter wants. Each is tested once, unless it comes again."""
        skipped = self._aside
        if view.candidate is not None and view.candidate in skipped:
            return view.candidate
        view.candidate = None
        behind = view.behind
        while behind:
            message = skipped.get(behind[0])
            if message is not None and view.wants(message.envelope):
                view.candidate = behind[0]
                return view.candidate
            heapq.heappop(behind)
        keys = self._keys
        for index in range(bisect_left(keys, view.cursor), len(keys)):
            key = view.cursor = keys[index]
            message = skipped.get(key)
            if message is not None and view.wants(message.envelope):
                view.candidate = key
                return key
        if keys:
            view.cursor = keys[-1] + 1
        return None

    # -- looking ahead

    def _key(self, level: int, position: int) -> int:
        return (self._top - level << LEVEL_SHIFT) + position

    def _inner_head(self) -> tuple[int, int] | None:
        """Key and priority of the first message that is not set aside."""
        for level in range(self._top, -1, -1):
            fifo = self.fifos[level]
            if fifo.count:
                head = fifo.head()
                if head is not None:
                    return self._key(level, head.position), level
        return None

    def _is_full(self, level: int) -> bool:
        return self._counts[level] >= self.limit_messages or self._bytes[level] >= self.limit_bytes

    def _find_frontier(self) -> tuple[int, int] | None:
        """What came back is looked at in any case: it was in memory before, and is bounded by what was out."""
        if not self._is_frontier_known:
            self._is_frontier_known = True
            self._frontier = None
            for level in range(self._top, -1, -1):
                fifo = self.fifos[level]
                head = fifo.head() if fifo.count else None
                if head is not None and (head.position < self._last[level] or not self._is_full(level)):
                    self._frontier = self._key(level, head.position), level
                    break
        return self._frontier

    def _look(self, level: int) -> None:
        """Set the next messages of this priority aside; or drop them, if nobody ever wants them here."""
        self._is_frontier_known = False
        fifo = self.fifos[level]
        room = self.limit_messages - self._counts[level] if not self._is_full(level) else 1
        messages = fifo.take(max(1, min(room, LOOK)))
        if not messages:
            return
        if self._drops:
            views = list(self._views.values())
            unwanted = [m for m in messages if not any(view.wants(m.envelope) for view in views)]
            if unwanted:
                self._queue.dropped_total += len(unwanted)
                fifo.discard(unwanted)
                dropped = set(unwanted)
                messages = [message for message in messages if message not in dropped]
        for message in messages:
            self._skip(level, message)

    def _skip(self, level: int, message: Message) -> None:
        key = self._key(level, message.position)
        keys = self._keys
        if not keys or key > keys[-1]:
            keys.append(key)
        else:
            index = bisect_left(keys, key)
            if keys[index] != key:  # else it was here before
                keys.insert(index, key)
        self._aside[key] = message
        size = len(message.body)
        self._aside_bytes += size
        self._bytes[level] += size
        self._counts[level] += 1
        self._last[level] = max(self._last[level], message.position)
        for view in self._views.values():
            if key < view.cursor:
                view.candidate = None
                heapq.heappush(view.behind, key)
                if len(view.behind) > 2 * len(self._aside) + LOOK:
                    view.restart()  # most of these are gone long since: its consumers had no credit for a while

    def _remove(self, key: int) -> Message:
        message = self._aside.pop(key)
        level = self._top - (key >> LEVEL_SHIFT)
        if self._is_full(level):
            self._is_frontier_known = False
        size = len(message.body)
        self._aside_bytes -= size
        self._bytes[level] -= size
        self._counts[level] -= 1
        if not self._aside:
            self._emptied()
        elif len(self._keys) > 2 * len(self._aside) + LOOK:
            self._keys = [key for key in self._keys if key in self._aside]
        return message

    def _emptied(self) -> None:
        self._keys.clear()
        self._aside_bytes = 0
        self._counts = [0] * len(self.fifos)
        self._bytes = [0] * len(self.fifos)
        self._is_frontier_known = False
        for view in self._views.values():
            view.restart()

    def _first(self) -> int | None:
        if not self._aside:
            return None
        keys = self._keys
        gone = 0
        while keys[gone] not in self._aside:
            gone += 1
        if gone:
            del keys[:gone]
        return keys[0]

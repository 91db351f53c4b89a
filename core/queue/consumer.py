"""Consumers: who takes a queue's messages, in which turn, and with how much credit."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, Protocol

from leveret.core.errors import AccessRefused
from leveret.core.message import MessageQueue

if TYPE_CHECKING:
    from leveret.core.exchange import Arguments
    from leveret.core.message import Envelope, Message
__all__ = ["UNLIMITED", "Consumer", "ConsumerQueue", "Consumers", "Filter", "Sink"]

UNLIMITED = 1 << 62  # credit of a consumer without prefetch


class ConsumerQueue(MessageQueue, Protocol):
    """The queue of a consumer, for those to whom the consumer belongs. core.queue.queue.Queue is one."""

    type: str
    is_closed: bool
    consumers: Consumers

    @property
    def message_count(self) -> int: ...
    def detach(self, consumer: Consumer, *, may_delete: bool = True) -> None: ...


class Sink(Protocol):
    """What stands behind consumers: an AMQP channel, an MQTT session, a task with an `async for`.

    All of it is called from the broker's task and never waits.
    """

    def capacity(self, consumer: Consumer) -> int:
        """How many more messages it takes now for this consumer, whatever the consumer's own credit: UNLIMITED, 0 while
        its connection is congested, or what is left of a window that its consumers share."""

    def deliver(self, consumer: Consumer, messages: list[Message]) -> None:
        """Take these. Unless `consumer.no_ack`, it owes the queue a settlement for each."""

    def on_cancelled(self, consumer: Consumer, reason: str) -> None:
        """The broker took the consumer away (its queue was deleted). Its unacked messages stay with the sink."""

    def describe(self) -> dict[str, Any]:
        """For listings: connection and channel names."""


class Filter(Protocol):
    """Which messages a consumer wants. Asked for every message of a queue, so it must be cheap, and never raise."""

    def matches(self, envelope: Envelope) -> bool:
        """The same answer for the same envelope, always."""


class Consumer:
    """One subscription. `credit`: how many more it may have unacked; UNLIMITED without prefetch or with no_ack.

    filter           set before it is attached: it gets only what matches (core/queue/filtered.py)
    drops_unmatched  the queue is its own: what no consumer's filter matches is dropped there instead of kept
    """

    __slots__ = (
        "arguments",
        "credit",
        "drops_unmatched",
        "filter",
        "is_exclusive",
        "no_ack",
        "prefetch",
        "priority",
        "queue",
        "sink",
        "tag",
        "timeout_ms",
    )

    def __init__(
        self,
        queue: ConsumerQueue,
        sink: Sink,
        tag: str,
        *,
        no_ack: bool = False,
        prefetch: int = 0,
        is_exclusive: bool = False,
        priority: int = 0,
        arguments: Arguments | None = None,
    ) -> None:
        self.queue = queue
        self.sink = sink
        self.tag = tag
        self.no_ack = no_ack
        self.prefetch = prefetch
        self.credit = prefetch if prefetch and not no_ack else UNLIMITED
        self.is_exclusive = is_exclusive
        self.priority = priority
        self.arguments = arguments or {}
        self.timeout_ms: int | None = None
        self.filter: Filter | None = None
        self.drops_unmatched = False

    def __repr__(self) -> str:
        return f"<Consumer {self.tag!r} queue={self.queue.name!r} credit={self.credit}>"

    def capacity(self) -> int:
        if self.credit <= 0:
            return 0
        return min(self.credit, self.sink.capacity(self))


class Consumers:
    """The consumers of one queue, by priority, in turn within a priority; or the single active one."""

    def __init__(self, *, is_single_active: bool = False) -> None:
        self.is_single_active = is_single_active
        self.active: Consumer | None = None  # the single active consumer, if the queue is of that kind
        self._levels: list[tuple[int, list[Consumer]]] = []  # highest priority first; each list in turn
        self._count = 0

    def __len__(self) -> int:
        return self._count

    def __iter__(self) -> Iterator[Consumer]:
        for _, level in self._levels:
            yield from level

    @property
    def exclusive(self) -> Consumer | None:
        return next((c for c in self if c.is_exclusive), None)

    def add(self, consumer: Consumer) -> None:
        """Raise AccessRefused if it, or another, wants to be alone (basic.consume exclusive)."""
        if self._count and (consumer.is_exclusive or self.exclusive is not None):
            queue = consumer.queue
            raise AccessRefused(f"queue '{queue.name}' in vhost '{queue.vhost.name}' in exclusive use")
        for priority, level in self._levels:
            if priority == consumer.priority:
                level.append(consumer)
                break
        else:
            self._levels.append((consumer.priority, [consumer]))
            self._levels.sort(key=lambda entry: -entry[0])
        self._count += 1
        if self.is_single_active and self.active is None:
            self.active = consumer

    def remove(self, consumer: Consumer) -> bool:
        """False: it was not there."""
        for entry in self._levels:
            if consumer in entry[1]:
                entry[1].remove(consumer)
                if not entry[1]:
                    self._levels.remove(entry)
                self._count -= 1
                if self.active is consumer:
                    # The next in order of registration takes over; with priorities, the highest first.
                    self.active = next(iter(self), None)
                return True
        return False

    def eligible(self) -> list[Consumer]:
        """Those who can take messages now: of the highest priority that has any, in turn."""
        if self.is_single_active:
            active = self.active
            return [active] if active is not None and active.capacity() > 0 else []
        for _, level in self._levels:
            if len(level) == 1:
                if level[0].capacity() > 0:
                    return level
            else:
                able = [consumer for consumer in level if consumer.capacity() > 0]
                if able:
                    return able
        return []

    def served(self, last: Consumer) -> None:
        """`last` had its turn: the one after it is first next time. Turns are observable, so they must hold."""
        for _, level in self._levels:
            if len(level) > 1 and last in level:
                turn = level.index(last) + 1
                level[:] = level[turn:] + level[:turn]
                return

    def moved_back(self, consumer: Consumer) -> None:
        """It was served out of turn: all others of its priority are before it next time."""
        for _, level in self._levels:
            if len(level) > 1 and consumer in level:
                level.remove(consumer)
                level.append(consumer)
                return

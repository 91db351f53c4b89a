"""Consuming with structured concurrency: a queue's messages as an `async for`, for tasks that do I/O of their own.

    async with consume(session, "orders", credit=50) as deliveries:
        async for delivery in deliveries:
            with delivery:                      # acknowledged at its end; back in the queue if it raises
                await send(delivery.body)

What is not settled when the `async with` is left goes back to its place in the queue, whatever the reason for leaving:
the end of the block, an error, a cancellation. Nothing is lost, and nothing stays with a task that is gone.
"""

from __future__ import annotations

import itertools
from collections import deque
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

import trio

from leveret.core.errors import AuthorizationPending, DeliveryTagUnknown
from leveret.core.queue.consumer import Consumer, Filter

if TYPE_CHECKING:
    from leveret.core.message import Envelope, Message
    from leveret.core.properties import Properties
    from leveret.core.queue.queue import Queue
    from leveret.core.session import Session
__all__ = ["MAX_BYTES", "Deliveries", "Delivery", "consume", "consume_queue"]

MAX_BYTES = 64 << 20
"""Of bodies that are out; past it there are no further deliveries, whatever the credit."""

_numbers = itertools.count(1)


class Delivery:
    """One message that is out. Settle it once: `ack`, `reject`, or by `with delivery:`.

    `message` is the queue's copy: do not change it.
    """

    __slots__ = ("_deliveries", "is_settled", "message")

    def __init__(self, message: Message, deliveries: Deliveries) -> None:
        self.message = message
        self._deliveries = deliveries
        self.is_settled = False

    def __repr__(self) -> str:
        state = "settled" if self.is_settled else "out"
        return f"<Delivery queue={self.message.queue.name!r} position={self.message.position} {state}>"

    @property
    def body(self) -> bytes:
        return self.message.body

    @property
    def envelope(self) -> Envelope:
        """Exchange, routing key and encoded properties, as they were published."""
        return self.message.envelope

    @property
    def exchange(self) -> str:
        return self.message.envelope.exchange

    @property
    def routing_key(self) -> str:
        return self.message.envelope.routing_key

    @property
    def properties(self) -> Properties:
        """Shared by all copies of the message: do not change them."""
        return self.message.envelope.properties

    @property
    def is_redelivered(self) -> bool:
        return self.message.is_redelivered

    # -- settling: synchronous, and durable with the store's next commit

    def ack(self) -> None:
        """It is done with. Raise DeliveryTagUnknown if it is settled already."""
        self._deliveries.settle(self)
        message = self.message
        message.queue.settle([message])

    def reject(self, *, requeue: bool = False) -> None:
        """Dead-letter it (or drop it, where the queue has no exchange for that); requeue: back to its place.

        A rejection counts as a failed delivery (x-delivery-limit). Raise DeliveryTagUnknown if it is settled already.
        """
        self._deliveries.settle(self)
        message = self.message
        if requeue:
            message.queue.requeue([message], counts=True)
        else:
            message.queue.reject([message])

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        """Unless it was settled in between: acknowledge it, or after an error or a cancellation requeue it.

        Then it is gone already if the `async with` around it was left meanwhile.
        """
        if self.is_settled:
            return
        if kind is None:
            self.ack()
        else:
            self.reject(requeue=True)


class Deliveries:
    """The deliveries of one consumer: iterate, in one task or in several. Made by `consume`.

    credit       how many messages may be out, settled ones excepted; may be changed at any time
    cancelled    why the broker ended it ("deleted", ...), or None. Then the iteration ends; what is out can still be
                 settled, which has no effect any more
    """

    def __init__(
        self,
        queue: Queue,
        *,
        credit: int,
        max_bytes: int = MAX_BYTES,
        counts: bool = True,
        tag: str = "",
        facts: Mapping[str, Any] | None = None,
    ) -> None:
        if credit < 1:
            raise ValueError(f"a credit of {credit} delivers nothing")
        self.queue = queue
        self.cancelled: str | None = None
        self.consumer = Consumer(queue, self, tag or f"leveret.ctag-{next(_numbers)}", prefetch=credit)
        self._credit = credit
        self._max_bytes = max_bytes
        self._counts = counts
        self._facts = dict(facts or {})
        self._dispatcher = queue.dispatcher
        self._ready: deque[Message] = deque()
        self._out: dict[Message, Delivery | None] = {}  # None: nobody has taken it yet
        self._bytes = 0
        self._is_closed = False
        self._waiting = trio.lowlevel.ParkingLot()

    def __repr__(self) -> str:
        return f"<Deliveries queue={self.queue.name!r} out={len(self._out)} credit={self._credit}>"

    @property
    def credit(self) -> int:
        return self._credit

    @credit.setter
    def credit(self, credit: int) -> None:
        """Fewer than are out: nothing comes until enough of them are settled."""
        change = credit - self._credit
        if change:
            self._credit = credit
            self.consumer.credit += change
            if change > 0:
                self._offer()

    @property
    def out_count(self) -> int:
        """Messages that are not settled, those that nobody has taken yet included."""
        return len(self._out)

    @property
    def out_bytes(self) -> int:
        return self._bytes

    # -- taking

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> Delivery:
        """The next one. Always a checkpoint; cancelled there, it has taken nothing."""
        await trio.lowlevel.checkpoint()
        while not self._ready:
            if self.cancelled is not None or self._is_closed:
                raise StopAsyncIteration
            await self._waiting.park()
        message = self._ready.popleft()
        delivery = self._out[message] = Delivery(message, self)
        return delivery

    # -- the sink (core/queue/consumer.py)

    def capacity(self, consumer: Consumer) -> int:
        return 0 if self._is_closed or self._bytes >= self._max_bytes else self._credit

    def deliver(self, consumer: Consumer, messages: list[Message]) -> None:
        for message in messages:
            message.consumer = consumer
            self._out[message] = None
            self._bytes += len(message.body)
        self._ready.extend(messages)
        self._waiting.unpark(count=len(messages))

    def on_cancelled(self, consumer: Consumer, reason: str) -> None:
        self.cancelled = reason
        for message in self._ready:
            del self._out[message]
            self._bytes -= len(message.body)
        self._ready.clear()
        self._waiting.unpark_all()

    def describe(self) -> dict[str, Any]:
        return {"name": self.consumer.tag, "vhost": self.queue.vhost.name} | self._facts

    # -- settling

    def settle(self, delivery: Delivery) -> None:
        """For Delivery: its credit comes back. Raise DeliveryTagUnknown if it is settled already."""
        message = delivery.message
        if delivery.is_settled or message not in self._out:
            raise DeliveryTagUnknown(
                f"delivery {message.position} of queue '{self.queue.name}' is settled already"
            )
        del self._out[message]
        delivery.is_settled = True
        self._bytes -= len(message.body)
        message.consumer = None
        self.consumer.credit += 1
        self._offer()

    def _offer(self) -> None:
        """There is room: the dispatcher looks in the next pass, once for all that is settled in this one."""
        if not self._is_closed and not self.queue.is_closed:
            self._dispatcher.schedule(self.queue)
            self._dispatcher.run_soon()

    def close(self) -> None:
        """No more of it; what is out goes back. Called by `consume`; harmless if repeated."""
        if self._is_closed:
            return
        self._is_closed = True
        out, self._out = self._out, {}
        self._ready.clear()
        self._bytes = 0
        for delivery in out.values():
            if delivery is not None:
                delivery.is_settled = True
        queue = self.queue
        # A delivery that was taken and not settled has failed; one that nobody took was never tried.
        for taken in (True, False):
            messages = [message for message, delivery in out.items() if (delivery is not None) == taken]
            if messages:
                queue.requeue(messages, counts=taken and self._counts)
        if self.cancelled is None:
            queue.detach(self.consumer)
        self._waiting.unpark_all()
        self._dispatcher.run_soon()


@asynccontextmanager
async def consume(
    session: Session,
    queue_name: str,
    *,
    credit: int,
    max_bytes: int = MAX_BYTES,
    counts: bool = True,
    tag: str = "",
    priority: int = 0,
    exclusive: bool = False,
    filter: Filter | None = None,
) -> AsyncIterator[Deliveries]:
    """Consume on behalf of the session's user.

    credit: messages that may be out at once; max_bytes: bytes of them. counts: what was taken and goes back when the
    block is left is a failed delivery (x-delivery-limit). exclusive: be alone with the queue. Raise NotFound,
    AccessRefused (no read permission, or exclusive use is in the way), ResourceLocked.
    """
    while True:
        try:
            queue = session.queue_for_consume(queue_name)
            break
        except AuthorizationPending as pending:
            await session.authorize(pending)
    facts = {"user": session.principal.username}
    async with consume_queue(
        queue, credit=credit, max_bytes=max_bytes, counts=counts, tag=tag, priority=priority, exclusive=exclusive,
        filter=filter, facts=facts,
    ) as deliveries:  # fmt: skip
        yield deliveries


@asynccontextmanager
async def consume_queue(
    queue: Queue,
    *,
    credit: int,
    max_bytes: int = MAX_BYTES,
    counts: bool = True,
    tag: str = "",
    priority: int = 0,
    exclusive: bool = False,
    filter: Filter | None = None,
    facts: Mapping[str, Any] | None = None,
) -> AsyncIterator[Deliveries]:
    """Consume on the broker's own behalf, unchecked: for plugins. facts: for listings (name, user, ...).

    Raise AccessRefused if exclusive use is in the way.
    """
    deliveries = Deliveries(queue, credit=credit, max_bytes=max_bytes, counts=counts, tag=tag, facts=facts)
    consumer = deliveries.consumer
    consumer.priority = priority
    consumer.is_exclusive = exclusive
    consumer.filter = filter
    queue.attach(consumer)
    queue.dispatcher.run_soon()
    try:
        yield deliveries
    finally:
        deliveries.close()

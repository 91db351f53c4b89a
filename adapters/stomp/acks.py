"""What is out on one connection, and how it is settled: ACK and NACK."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from leveret.adapters.stomp.faults import StompFault
from leveret.adapters.stomp.headers import boolean
from leveret.core.queue.queue import Queue

if TYPE_CHECKING:
    from leveret.adapters.stomp.frames import Frame
    from leveret.adapters.stomp.subscriptions import Subscription
    from leveret.core.dispatcher import Dispatcher
    from leveret.core.message import Message
__all__ = ["Deliveries", "Settlement"]

SEPARATOR = "@@"  # between the parts of a message-id: subscription, session, delivery tag


class Settlement:
    """An ACK or NACK that was looked at: which delivery, and what becomes of it ("ack", "requeue", "reject")."""

    __slots__ = ("outcome", "tag")

    def __init__(self, tag: int, outcome: str) -> None:
        self.tag, self.outcome = tag, outcome


class Deliveries:
    """unacked: delivery tag -> message, in order of tags; one numbering for all subscriptions of the connection."""

    __slots__ = (
        "_dispatcher",
        "_marks",
        "_requeues",
        "_session_id",
        "acknowledged_total",
        "cumulative_count",
        "delivered_total",
        "last_tag",
        "unacked",
    )

    def __init__(self, dispatcher: Dispatcher, session_id: str, *, requeues: bool) -> None:
        self._dispatcher = dispatcher
        self._session_id = session_id
        self._requeues = requeues  # NACK without a word
        self.unacked: dict[int, Message] = {}
        self.last_tag = 0
        self.cumulative_count = 0  # subscriptions with ack:client
        self.acknowledged_total = 0
        self.delivered_total = 0
        self._marks: list[tuple[float, int]] = []  # (time, last tag then): ages, without a clock each

    # -- from frames

    def read(self, frame: Frame, version: str) -> Settlement:
        """What an ACK or NACK says. Raise StompFault unless that delivery is outstanding.

        The id alone names the delivery. The subscription header, which 1.1 wants beside it, is ignored, as RabbitMQ does.
        """
        command = frame.command
        name = "id" if version == "1.2" else "message-id"
        text = frame.headers.get(name)
        if text is None:
            raise StompFault("Missing header", f'"{command}" must include the "{name}" header\n')
        tag = self._tag(text, version)
        if tag is None:
            raise StompFault("Invalid header", f'"{command}" must include a valid "{name}" header\n')
        message = self.unacked.get(tag)
        if message is None:
            raise _unknown(tag)
        if command == "ACK":
            return Settlement(tag, "ack")
        requeues = boolean(frame.headers, "requeue")
        if requeues is None:
            requeues = self._requeues
        return Settlement(tag, "requeue" if requeues else "reject")

    def _tag(self, text: str, version: str) -> int | None:
        """From an ack id (1.2) or a message-id; 1.2 clients that send the latter are understood, too."""
        digits = text
        if SEPARATOR in text:
            _, _, rest = text.rpartition(self._session_id)
            if not rest.startswith(SEPARATOR):
                return None
            digits = rest[len(SEPARATOR) :]
        elif version != "1.2":
            return None
        return int(digits) if digits.isascii() and digits.isdigit() and len(digits) <= 18 else None

    # -- settling

    def ack(self, tags: list[int]) -> bool:
        """ACKs, one for each tag; true if the store is concerned. Raise StompFault at the first that is unknown."""
        if self.cumulative_count:
            concerned = False
            for tag in tags:
                concerned = self.settle(Settlement(tag, "ack")) or concerned
            return concerned
        pop = self.unacked.pop
        messages: list[Message] = []
        try:
            for tag in tags:
                messages.append(pop(tag))
        except KeyError:
            self._accept(messages)
            raise _unknown(tags[len(messages)]) from None
        return self._accept(messages)

    def check(self, settlement: Settlement) -> None:
        """Raise StompFault if it is not outstanding any more."""
        if settlement.tag not in self.unacked:
            raise _unknown(settlement.tag)

    def is_outstanding(self, settlement: Settlement) -> bool:
        return settlement.tag in self.unacked

    def settle(self, settlement: Settlement) -> bool:
        """True if the store is concerned. Raise StompFault if it is not outstanding."""
        messages = self._collect(settlement.tag)
        if settlement.outcome == "ack":
            return self._accept(messages)
        if settlement.outcome == "requeue":
            return self.requeue(messages, counts=False)
        return self._settle(messages, Queue.reject)

    def _collect(self, tag: int) -> list[Message]:
        """Take it out of `unacked`; with ack:client, all before it of its subscription as well."""
        unacked = self.unacked
        message = unacked.get(tag)
        if message is None:
            raise _unknown(tag)
        consumer = message.consumer
        if self.cumulative_count and consumer is not None:
            subscription: Subscription = consumer.sink  # type: ignore[assignment]  # all sinks of ours are
            if subscription.order is not None:
                messages = []
                order = subscription.order
                while order and order[0] <= tag:
                    found = unacked.pop(order.popleft(), None)
                    if found is not None:
                        messages.append(found)
                return messages
        del unacked[tag]
        return [message]

    def _accept(self, messages: list[Message]) -> bool:
        self.acknowledged_total += len(messages)
        return self._settle(messages, Queue.settle)

    def requeue(self, messages: list[Message], *, counts: bool) -> bool:
        return self._settle(messages, lambda queue, part: queue.requeue(part, counts=counts))

    def _settle(self, messages: list[Message], outcome: Callable[[Any, list[Message]], None]) -> bool:
        """Credit comes back; each queue gets its messages in one call. True if one of them is durable."""
        if not messages:
            return False
        touch = self._dispatcher.schedule
        queue = messages[0].queue
        is_durable = queue.is_durable
        part: list[Message] = []
        for message in messages:
            consumer = message.consumer
            if consumer is not None:
                consumer.credit += 1
            if message.queue is not queue:
                outcome(queue, part)
                if queue.ready.count:
                    touch(queue)
                queue, part = message.queue, []
                is_durable = is_durable or queue.is_durable
            part.append(message)
        outcome(queue, part)
        if queue.ready.count:
            touch(queue)
        return is_durable

    def take_all(self, subscription: Subscription | None = None) -> list[Message]:
        """Take what is out, of one subscription or of all of them."""
        unacked = self.unacked
        if subscription is None:
            messages = list(unacked.values())
            unacked.clear()
            return messages
        consumer = subscription.consumer
        tags = [tag for tag, message in unacked.items() if message.consumer is consumer]
        return [unacked.pop(tag) for tag in tags]

    # -- ages

    def overdue(self, now: float, default_ms: int) -> int | None:
        """Called now and then. The consumer timeout in ms, if the oldest delivery is older than it."""
        marks = self._marks
        oldest = next(iter(self.unacked), None)
        if oldest is None:
            marks.clear()
        else:
            while len(marks) > 1 and marks[1][1] < oldest:
                marks.pop(0)
            message = self.unacked[oldest]
            timeout_ms = message.queue.limits.consumer_timeout_ms
            if timeout_ms is None:
                timeout_ms = default_ms
            # It was delivered at the latest when the first mark at or past its tag was made.
            delivered_by = next((at for at, tag in marks if tag >= oldest), None)
            if timeout_ms and delivered_by is not None and now - delivered_by >= timeout_ms / 1000:
                return timeout_ms
        if not marks or marks[-1][1] != self.last_tag:
            marks.append((now, self.last_tag))
        return None


def _unknown(tag: int) -> StompFault:
    return StompFault("precondition_failed", f"PRECONDITION_FAILED - unknown delivery tag {tag}")

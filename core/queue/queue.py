"""One queue: what it keeps, for how long, and the hand-over to its consumers."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Mapping
from itertools import groupby
from typing import TYPE_CHECKING, Any, Protocol

from leveret.core.errors import AccessRefused, BrokerError
from leveret.core.message import Envelope, Message
from leveret.core.queue import dead_letter
from leveret.core.queue.consumer import Consumer, Consumers
from leveret.core.queue.expiry import MessageExpiry, QueueExpiry
from leveret.core.queue.filtered import FilteredMessages
from leveret.core.queue.ready import FifoMessages, PriorityMessages

if TYPE_CHECKING:
    from leveret.core.exchange import Destination
    from leveret.core.queue.limits import QueueLimits
    from leveret.core.queue.services import QueueServices
__all__ = ["Queue", "QueueHost"]

log = logging.getLogger(__name__)

BATCH_BYTES = 1 << 20  # handed over at once; a connection that is congested after that is asked again later
QUORUM = "quorum"


class RoutedLetter(Protocol):
    """Where a dead letter goes. envelope: as it is delivered there."""

    queues: tuple[Queue, ...]
    envelope: Envelope


class QueueHost(Protocol):
    """The virtual host of a queue, as its queues need it. core.vhost.Vhost is one."""

    name: str

    @property
    def exchanges(self) -> Mapping[str, Destination]: ...
    def route(self, exchange_name: str, envelope: Envelope) -> RoutedLetter:
        """Raise NotFound if there is no such exchange, another BrokerError for an envelope that it cannot route."""

    def remove_queue(self, queue: Queue, reason: str = "deleted") -> None: ...


class Queue:
    """Messages between exchanges and consumers, in order.

    The way of a message: `publish` -> backlog -> `dispatch` -> a consumer's sink -> `settle`, `requeue` or `reject`.
    All of it is synchronous; `publish` and the settlements only touch the dispatcher, which dispatches once per entry.
    """

    kind = "queue"

    def __init__(
        self,
        vhost: QueueHost,
        services: QueueServices,
        name: str,
        *,
        durable: bool,
        exclusive: bool,
        auto_delete: bool,
        arguments: dict[str, Any],
        type: str,
        owner: object | None,
        limits: QueueLimits,
        log_ids: tuple[int, ...] = (),
    ) -> None:
        self.vhost = vhost
        self.services = services
        self.dispatcher = services.dispatcher
        self._timers = services.timers
        self.name = name
        self.is_durable = durable
        self.is_exclusive = exclusive
        self.is_auto_delete = auto_delete
        self.arguments = arguments
        self.type = type
        self.owner = owner  # the connection of an exclusive queue
        self.limits = limits
        self.policy_name: str | None = None
        self.operator_policy_name: str | None = None

        self.consumers = Consumers(is_single_active=limits.single_active_consumer)
        self.next_position = 1
        self.unacked_count = 0
        self.is_scheduled = False  # owned by the dispatcher
        self.is_closed = False
        self.has_expiry = False  # some message has expires_at: heads must be looked at
        self.had_consumer = False
        self.expiry = MessageExpiry(self, services.timers)
        self._queue_expiry = QueueExpiry(self, services.timers, lambda: vhost.remove_queue(self))
        # Counters: plain integers, turned into rates by a timer elsewhere.
        self.published_total = 0
        self.delivered_total = 0
        self.delivered_no_ack_total = 0
        self.redelivered_total = 0
        self.acknowledged_total = 0
        self.get_total = 0
        self.get_no_ack_total = 0
        self.get_empty_total = 0
        self.dropped_total = 0
        self.dead_lettered: dict[tuple[str, str], int] = {}  # by reason and strategy, see `dead_letter`

        self.ready: FifoMessages | PriorityMessages | FilteredMessages = self._open_ready(log_ids)
        self.filtered: FilteredMessages | None = None  # the backlog, while some consumer has a filter
        self._configure()

    # -- what it is

    def __repr__(self) -> str:
        return f"<Queue {self.name!r} vhost={self.vhost.name!r} ready={self.message_count} unacked={self.unacked_count}>"

    @property
    def message_count(self) -> int:
        """Ready messages; those that are out do not count."""
        return self.ready.count

    @property
    def message_bytes(self) -> int:
        return self.ready.bytes

    @property
    def consumer_count(self) -> int:
        return len(self.consumers)

    @property
    def fifos(self) -> list[FifoMessages]:
        ready = self.ready
        return [ready] if isinstance(ready, FifoMessages) else ready.fifos

    @property
    def log_ids(self) -> tuple[int, ...]:
        """For the definition record of a durable queue: one log, or one per priority."""
        return tuple(fifo.log.id for fifo in self.fifos if fifo.log is not None)

    def _open_ready(self, log_ids: tuple[int, ...]) -> FifoMessages | PriorityMessages:
        store = self.services.store
        levels = 1 if self.limits.max_priority is None else self.limits.max_priority + 1
        fifos: list[FifoMessages] = []
        for level in range(levels):
            fifo = FifoMessages(self, self.services)
            if log_ids:
                stored = store.open_log(log_ids[level])
                self.next_position = max(self.next_position, stored.next_position)
                fifo.recover(stored)
            elif self.is_durable and not self.is_exclusive:
                fifo.log = store.create_log()
            fifos.append(fifo)
        if log_ids:
            self.has_expiry = True  # some stored message may expire; the first look finds out
        return fifos[0] if self.limits.max_priority is None else PriorityMessages(fifos)

    # -- limits

    def apply(self, limits: QueueLimits) -> None:
        """A policy changed: the new limits hold at once, for what is here too."""
        self.limits = limits
        self._configure()
        self._trim()
        if self.has_expiry:
            self.expiry.arm()

    def _configure(self) -> None:
        limits = self.limits
        self._is_bounded = limits.max_length is not None or limits.max_length_bytes is not None
        self._rejects = self._is_bounded and limits.overflow in ("reject-publish", "reject-publish-dlx")
        self._queue_expiry.arm()

    def mark_used(self) -> None:
        """It was declared or got from: the time of x-expires starts anew."""
        self._queue_expiry.renew()

    # -- in

    def publish(self, envelope: Envelope, bodies: list[bytes]) -> int:
        """Take messages. Returns how many were rejected (x-overflow: reject-publish), the last ones of the list."""
        self.published_total += len(bodies)
        if not self._is_bounded:
            self._push(envelope, bodies)
            return 0
        if self._rejects:
            return self._publish_or_reject(envelope, bodies)
        self._push(envelope, bodies)
        if len(self.consumers):
            self._hand_out()
        self._trim()
        return 0

    def _push(self, envelope: Envelope, bodies: list[bytes]) -> None:
        first = self.next_position
        self.next_position = first + len(bodies)
        messages = [Message(envelope, body, self, position) for position, body in enumerate(bodies, first)]
        ttl_ms = self.limits.message_ttl_ms
        if envelope.expiration is not None:
            ttl_ms = envelope.expiration if ttl_ms is None else min(ttl_ms, envelope.expiration)
        if ttl_ms is not None:
            expires_at = self._timers.now + ttl_ms / 1000
            for message in messages:
                message.expires_at = expires_at
            self.has_expiry = True
        self.ready.push(
            messages, sum(map(len, bodies)), is_persistent=envelope.is_persistent and self.is_durable
        )
        if not self.is_scheduled:
            self.dispatcher.schedule(self)

    def publish_each(self, envelopes: list[Envelope], bodies: list[bytes]) -> int:
        """As `publish`, for messages that each have their own envelope. Returns how many were rejected.

        With limits, or by priority, messages are taken one by one, and those rejected need not be the last ones.
        """
        if self._is_bounded or isinstance(self.ready, PriorityMessages):
            return sum(
                [self.publish(envelope, [body]) for envelope, body in zip(envelopes, bodies, strict=True)]
            )
        count = len(bodies)
        self.published_total += count
        first = self.next_position
        self.next_position = first + count
        messages = [
            Message(*pair, self, at) for at, pair in enumerate(zip(envelopes, bodies, strict=True), first)
        ]
        if self.limits.message_ttl_ms is not None or any(
            envelope.expiration is not None for envelope in envelopes
        ):
            self._set_expiry(messages)
        if self.is_durable and any(envelope.is_persistent for envelope in envelopes):
            self._push_mixed(messages)
        else:
            self.ready.push(messages, sum(map(len, bodies)), is_persistent=False)
        if not self.is_scheduled:
            self.dispatcher.schedule(self)
        return 0

    def _set_expiry(self, messages: list[Message]) -> None:
        now, limit = self._timers.now, self.limits.message_ttl_ms
        for message in messages:
            ttl_ms = message.envelope.expiration
            if ttl_ms is None or (limit is not None and limit < ttl_ms):
                ttl_ms = limit
            if ttl_ms is not None:
                message.expires_at = now + ttl_ms / 1000
        self.has_expiry = True

    def _push_mixed(self, messages: list[Message]) -> None:
        """Persistent and transient messages, in their order."""
        for is_persistent, run in groupby(messages, lambda message: message.envelope.is_persistent):
            part = list(run)
            self.ready.push(part, sum([len(message.body) for message in part]), is_persistent=is_persistent)

    @property
    def may_reject(self) -> bool:
        """It has a length limit with x-overflow reject-publish."""
        return self._rejects

    def _publish_or_reject(self, envelope: Envelope, bodies: list[bytes]) -> int:
        max_length, max_bytes = self.limits.max_length, self.limits.max_length_bytes
        for taken, body in enumerate(bodies):
            ready = self.ready
            if ready.count and len(self.consumers):
                self.dispatch()
            is_full = (max_length is not None and ready.count >= max_length) or (
                max_bytes is not None and ready.bytes + len(body) > max_bytes
            )
            if is_full and max_length == 0 and not ready.count and self.consumers.eligible():
                # An idle consumer takes it at once: it never waits.
                is_full = self.filtered is not None and not self.filtered.is_wanted(envelope)
            if is_full:
                rejected = bodies[taken:]
                if self.limits.overflow == "reject-publish-dlx":
                    position = self.next_position
                    self.dead_letter([Message(envelope, body, self, position) for body in rejected], "maxlen")
                return len(rejected)
            self._push(envelope, [body])
        return 0

    def _take(self, count: int) -> list[Message]:
        """Take messages from the head; the expiry of the next head is armed by the dispatch at the end of this entry.

        Everything that takes messages outside of a dispatch takes them here, so that no head is forgotten.
        """
        if self.has_expiry and not self.is_scheduled:
            self.dispatcher.schedule(self)
        return self.ready.take(count)

    def _trim(self) -> None:
        """Drop from the head what is over the limits (x-overflow: drop-head)."""
        max_length, max_bytes = self.limits.max_length, self.limits.max_length_bytes
        if not self._is_bounded or self._rejects:
            return
        ready = self.ready
        while ready.count:
            over = ready.count - max_length if max_length is not None else 0
            if over <= 0:
                if max_bytes is None or ready.bytes <= max_bytes:
                    return
                over = 1
            dropped = self._take(over)
            if not dropped:
                return
            self.dropped_total += len(dropped)
            self.dead_letter(dropped, "maxlen")

    def drop_oldest(self, count: int) -> int:
        """Drop ready messages from the head, as x-overflow: drop-head does. Returns how many there were."""
        left = count
        while left > 0:
            dropped = self._take(left)  # at most what a window holds
            if not dropped:
                break
            left -= len(dropped)
            self.dropped_total += len(dropped)
            self.dead_letter(dropped, "maxlen")
        return count - left

    # -- out

    def dispatch(self) -> None:
        """Hand ready messages to consumers with credit, in turn; each batch in one call."""
        if self._is_bounded and self.ready.count:
            if self.has_expiry:
                self.expiry.drop_before_delivery()
            self._trim()
        self._hand_out()

    def _hand_out(self) -> None:
        """Dispatch without a look at the limits: what a consumer takes at once never counted."""
        if self.filtered is not None and self.filtered.dispatch():
            return
        ready, consumers = self.ready, self.consumers
        if self.has_expiry:
            self.expiry.drop_before_delivery()
        while ready.count:
            eligible = consumers.eligible()
            if not eligible:
                break
            able = len(eligible)
            share = eligible[0].capacity() if able == 1 else _round_of(eligible)
            count = ready.count
            if ready.bytes > BATCH_BYTES:
                share = min(share, max(1, BATCH_BYTES * count // ready.bytes))
            messages = ready.take(min(count, share))
            if not messages:
                break
            if self.has_expiry:
                messages = self.expiry.living(messages)
                if not messages:
                    continue
            if able == 1:
                self.hand_over(eligible[0], messages)
                continue
            for turn, consumer in enumerate(eligible):
                part = messages[turn::able]
                if part:
                    self.hand_over(consumer, part)
            consumers.served(eligible[(len(messages) - 1) % able])
        if self.has_expiry:
            self.expiry.arm()

    def hand_over(self, consumer: Consumer, messages: list[Message]) -> None:
        count = len(messages)
        if consumer.no_ack:
            self.delivered_no_ack_total += count
        else:
            self.delivered_total += count
            self.unacked_count += count
            if consumer.credit < count:  # cannot be; a sink that lies about its capacity must be seen
                log.error("queue=%r consumer=%r was given more than its credit", self.name, consumer.tag)
            consumer.credit -= count
        consumer.sink.deliver(consumer, messages)
        if consumer.no_ack:
            self.ready.discard(messages)

    def get(self, *, no_ack: bool) -> Message | None:
        """The first message, for basic.get. Unless no_ack, a settlement is owed."""
        self.mark_used()
        if self.has_expiry:
            self.expiry.drop_before_delivery()
        while True:
            messages = self._take(1)
            if not messages:
                self.get_empty_total += 1
                return None
            if not self.has_expiry or self.expiry.living(messages):
                break
        message = messages[0]
        if no_ack:
            self.get_no_ack_total += 1
            self.ready.discard(messages)
        else:
            self.get_total += 1
            self.unacked_count += 1
        return message

    def settle(self, messages: list[Message]) -> None:
        """Accepted: they are gone."""
        self.unacked_count -= len(messages)
        self.acknowledged_total += len(messages)
        self.ready.discard(messages)

    def requeue(self, messages: list[Message], *, counts: bool) -> None:
        """Back to their places, as redelivered. counts: it is a failed delivery (see `delivery_limit`)."""
        self.unacked_count -= len(messages)
        if self.is_closed:
            return
        limit = self.limits.delivery_limit
        exceeded: list[Message] = []
        for message in messages:
            message.consumer = None
            message.is_redelivered = True
            if counts:
                message.delivery_count += 1
                if limit is not None and limit >= 0 and message.delivery_count > limit:
                    exceeded.append(message)
        if exceeded:
            self.dead_letter(exceeded, "delivery_limit")
            dead = set(exceeded)
            messages = [message for message in messages if message not in dead]
        if not messages:
            return
        self.redelivered_total += len(messages)
        self.ready.requeue(messages)
        self.dispatcher.schedule(self)

    def reject(self, messages: list[Message]) -> None:
        """Refused for good: dead-lettered, or dropped."""
        self.unacked_count -= len(messages)
        if not self.is_closed:
            self.dead_letter(messages, "rejected")

    # -- death

    def dead_letter(self, messages: list[Message], reason: str) -> None:
        """Dead-letter messages that are neither ready nor unacked any more; without an exchange for it, drop them.

        The copies join the same group of the store as the removal here, so that a crash loses and doubles nothing.
        """
        exchange = self.limits.dead_letter_exchange
        if exchange not in self.vhost.exchanges:
            exchange = None
        death = reason, "disabled" if exchange is None else self._dead_letter_strategy
        self.dead_lettered[death] = self.dead_lettered.get(death, 0) + len(messages)
        if exchange is not None and not self.is_closed:
            now = self._timers.wall_ms(self._timers.now) // 1000
            made: dict[Envelope, Envelope] = {}  # alike messages die alike
            for message in messages:
                envelope = made.get(message.envelope)
                if envelope is None:
                    envelope = made[message.envelope] = dead_letter.dead_letter_envelope(
                        message.envelope,
                        queue=self.name,
                        reason=reason,
                        exchange=exchange,
                        routing_key=self.limits.dead_letter_routing_key,
                        now=now,
                    )
                self._bury(exchange, envelope, message.body, reason)
        self.ready.discard(messages)

    @property
    def _dead_letter_strategy(self) -> str:
        """As monitoring calls it. RabbitMQ does at least once only where publishers can be refused."""
        limits = self.limits
        is_at_least_once = (
            limits.dead_letter_strategy == "at-least-once"
            and self.type == QUORUM
            and limits.overflow == "reject-publish"
        )
        return "at_least_once" if is_at_least_once else "at_most_once"

    def _bury(self, exchange: str, envelope: Envelope, body: bytes, reason: str) -> None:
        """One dead letter to its exchange; not into a queue it has come from all by itself."""
        try:
            routed = self.vhost.route(exchange, envelope)
        except BrokerError as error:  # a CC header that is none, an exchange type that is gone
            log.warning("queue=%r vhost=%r dead letter dropped: %s", self.name, self.vhost.name, error)
            return
        for queue in routed.queues:
            if not dead_letter.is_cycle(envelope, queue.name, reason):
                queue.publish(routed.envelope, [body])

    # -- consumers

    def attach(self, consumer: Consumer) -> None:
        """Raise AccessRefused if exclusive use is in the way."""
        if consumer.is_exclusive and (self.consumers.is_single_active or self.type == QUORUM):
            raise AccessRefused(f"queue '{self.name}' in vhost '{self.vhost.name}' in exclusive use")
        self.consumers.add(consumer)
        if consumer.filter is not None and not isinstance(self.ready, FilteredMessages):
            self.ready = self.filtered = FilteredMessages(self, self.ready, self.services)
        if self.filtered is not None:
            self.filtered.consumers_changed()
        self.had_consumer = True
        self.dispatcher.schedule(self)

    def detach(self, consumer: Consumer, *, may_delete: bool = True) -> None:
        """It is gone (cancelled, or its connection is); the last one takes an auto-delete queue with it.

        may_delete: not after a single look into the queue, which is no consumer to anybody but us.
        """
        if not self.consumers.remove(consumer) or self.is_closed:
            return
        if self.filtered is not None:
            self.filtered.consumers_changed()
        self.mark_used()
        if may_delete and self.is_auto_delete and not len(self.consumers):
            self.vhost.remove_queue(self)
        else:
            self.dispatcher.schedule(self)

    def stop_filtering(self) -> None:
        """For FilteredMessages: all is ordinary again."""
        if self.filtered is not None:
            self.ready, self.filtered = self.filtered.inner, None

    # -- end

    def purge(self) -> int:
        """Drop what is ready; what is out stays out. Returns how many there were."""
        if self.has_expiry:
            self.expiry.drop_before_delivery()
        return self.ready.clear()

    def close(self, reason: str = "deleted") -> None:
        """It is deleted: consumers are told, logs dropped. Nothing is dead-lettered."""
        if self.is_closed:
            return
        self.is_closed = True
        self.expiry.cancel()
        self._queue_expiry.cancel()
        for consumer in list(self.consumers):
            self.consumers.remove(consumer)
            consumer.sink.on_cancelled(consumer, reason)
        self.services.traffic.retire_queue(self)
        for fifo in self.fifos:
            if fifo.log is not None:
                self.services.store.drop_log(fifo.log)


def _round_of(eligible: list[Consumer]) -> int:
    """How many messages go round among several consumers at once: none gets more than it can take.

    Consumers of one sink share its capacity: two of a channel with a window for the whole of it.
    """
    able = len(eligible)
    sinks = Counter([id(consumer.sink) for consumer in eligible])
    if len(sinks) == able:
        return min([consumer.capacity() for consumer in eligible]) * able
    each = min([min(c.capacity(), c.sink.capacity(c) // sinks[id(c.sink)]) for c in eligible])
    return each * able or 1  # too little for all: one for the first in turn

"""One AMQP channel: protocol words to broker words, and the deliveries that are out on it."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from leveret.adapters.amqp.confirms import Confirms
from leveret.adapters.amqp.delivery import DeliveryEncoder
from leveret.adapters.amqp.faults import ChannelFault, ConnectionFault, fault_of, reply_text
from leveret.adapters.amqp.methods import BasicCancel, ChannelClose, Method, method_frame
from leveret.adapters.amqp.protocol import Content
from leveret.adapters.amqp.publishing import PROTOCOL, Publisher
from leveret.adapters.amqp.transactions import Transaction
from leveret.core.connections import ChannelTotals
from leveret.core.counters import PublishCounters
from leveret.core.errors import BrokerError
from leveret.core.message import Envelope, Message
from leveret.core.queue.consumer import UNLIMITED, Consumer
from leveret.core.queue.queue import Queue
from leveret.core.reply_to import Reply

if TYPE_CHECKING:
    from leveret.adapters.amqp.connection import AmqpConnection
    from leveret.adapters.outbox import Outbox
__all__ = ["Channel"]

log = logging.getLogger(__name__)


class Channel:
    """State of one channel number between channel.open and its close.

    unacked     delivery tag -> message, in order of tags
    consumers   consumer tag -> consumer
    is_closing  channel.close was sent: everything but close and close-ok is ignored until the peer answers
    """

    def __init__(self, connection: AmqpConnection, number: int) -> None:
        assert connection.session is not None
        self.connection = connection
        self.number = number
        self.session = connection.session
        self.outbox: Outbox = connection.outbox
        self.broker = connection.broker
        self.is_closing = False
        self.content: Content | None = None
        self.consumers: dict[str, Consumer] = {}
        self.unacked: dict[int, Message] = {}
        self.last_tag = 0
        self.prefetch = connection.settings.limits.default_prefetch  # for consumers started from now on
        self.global_prefetch = 0  # one window for the whole channel; 0: none
        self.last_queue: str | None = None  # declared last on this channel: what an empty name means
        self.publisher = Publisher(self)
        self.confirms: Confirms | None = None
        self.transaction: Transaction | None = None
        self.reply_tag: str | None = None  # consumer tag of amq.rabbitmq.reply-to
        self._reply_address: str | None = None
        self._encoders: dict[str, DeliveryEncoder] = {}
        self._tag_marks: list[
            tuple[float, int]
        ] = []  # (time, last tag then): ages of unacked, without a clock each
        self.acknowledged_total = 0
        self.delivered_total = 0
        self.delivered_no_ack_total = 0
        self.get_total = 0
        self.get_no_ack_total = 0
        self.get_empty_total = 0

    def __repr__(self) -> str:
        return (
            f"<Channel {self.number} conn={self.connection.name!r} consumers={len(self.consumers)} "
            f"unacked={len(self.unacked)}>"
        )

    # -- what the parser calls

    def on_publish(self, key: bytes, header: bytes, bodies: list[bytes]) -> None:
        if self.is_closing:
            return
        connection = self.connection
        if not connection.is_publisher:
            connection.on_first_publish()
        try:
            if self.transaction is not None:
                self.publisher.target(key)
                self.transaction.publish(key, header, bodies)
                return
            _, rejected, needs_store = self.publisher.publish(key, header, bodies)
        except BrokerError as error:
            self.fail(fault_of(error), (60, 40))
            return
        except ChannelFault as fault:
            self.fail(fault, (60, 40))
            return
        if self.confirms is not None:
            self.published(len(bodies), rejected, needs_store=needs_store)

    def on_publishes(self, keys: list[bytes], headers: list[bytes], bodies: list[bytes]) -> int:
        if self.is_closing or self.transaction is not None or not self.connection.is_publisher:
            return 0
        return self.publisher.publish_each(keys, headers, bodies)

    def published(self, count: int, rejected: int, *, needs_store: bool) -> None:
        """Confirm messages at the end of the chunk, after the commit if they need the store; `rejected` of them, the last
        ones, are refused."""
        if self.confirms is not None:
            self.confirms.published(count, rejected, needs_store=needs_store)
            self.connection.confirming.add(self)

    def on_publish_method(self, key: bytes) -> None:
        try:
            self.publisher.target(key)
        except BrokerError as error:
            self.fail(fault_of(error), (60, 40))

    def on_content_size(self, size: int) -> None:
        maximum = self.connection.settings.limits.max_message_size
        if size > maximum and not self.is_closing:
            self.fail(
                ChannelFault(406, f"message size {size} is larger than configured max size {maximum}"),
                (60, 40),
            )

    def on_acks(self, tags: list[int]) -> None:
        if self.is_closing:
            return
        if self.transaction is not None:
            for tag in tags:
                self.transaction.settle(self.collect(tag, multiple=False, method=(60, 80)), "ack")
            return
        pop = self.unacked.pop
        messages: list[Message] = []
        try:
            for tag in tags:
                messages.append(pop(tag))
        except KeyError:
            self.accept(messages)
            self.fail(ChannelFault(406, f"unknown delivery tag {tags[len(messages)]}"), (60, 80))
            return
        self.accept(messages)

    def on_ack_multiple(self, tag: int) -> None:
        if self.is_closing:
            return
        tagged = self.collect(tag, multiple=True, method=(60, 80))
        if self.transaction is not None:
            self.transaction.settle(tagged, "ack")
        else:
            self.accept([message for _, message in tagged])

    # -- settling

    def collect(self, tag: int, *, multiple: bool, method: tuple[int, int]) -> list[tuple[int, Message]]:
        """Take deliveries out of `unacked`. A tag that is not outstanding itself is 406, even with multiple."""
        unacked = self.unacked
        if tag == 0 and multiple:
            tagged = list(unacked.items())
            unacked.clear()
            return tagged
        if tag not in unacked:
            self.fail(ChannelFault(406, f"unknown delivery tag {tag}"), method)
            return []
        if not multiple:
            return [(tag, unacked.pop(tag))]
        tagged = []
        for outstanding, message in unacked.items():  # in order of tags: deliveries only append
            if outstanding > tag:
                break
            tagged.append((outstanding, message))
        for outstanding, _ in tagged:
            del unacked[outstanding]
        return tagged

    def accept(self, messages: list[Message]) -> None:
        """ack: gone."""
        self.acknowledged_total += len(messages)
        self._settle(messages, Queue.settle)

    def requeue(self, messages: list[Message], *, counts: bool) -> None:
        self._settle(messages, lambda queue, part: queue.requeue(part, counts=counts))

    def reject(self, messages: list[Message]) -> None:
        self._settle(messages, Queue.reject)

    def _settle(self, messages: list[Message], outcome: Callable[[Any, list[Message]], None]) -> None:
        """Credit comes back; each queue gets its messages in one call."""
        if not messages:
            return
        if self.global_prefetch:
            was_full = len(self.unacked) + len(messages) >= self.global_prefetch
            if was_full:
                self._touch_queues()
        queue = messages[0].queue
        part: list[Message] = []
        touch = self.broker.dispatcher.schedule
        for message in messages:
            consumer = message.consumer
            if consumer is not None:
                consumer.credit += 1
            if message.queue is not queue:
                outcome(queue, part)
                if not queue.is_scheduled and queue.ready.count:
                    touch(queue)
                queue, part = message.queue, []
            part.append(message)
        outcome(queue, part)
        if not queue.is_scheduled and queue.ready.count:
            touch(queue)

    def _touch_queues(self) -> None:
        for consumer in self.consumers.values():
            self.broker.dispatcher.schedule(consumer.queue)

    # -- what queues call (Sink)

    def capacity(self, consumer: Consumer) -> int:
        if self.outbox.is_congested or self.is_closing:
            return 0
        if self.global_prefetch and not consumer.no_ack:  # nor does basic.get count
            return self.global_prefetch - sum(
                [message.consumer is not None for message in self.unacked.values()]
            )
        return UNLIMITED

    def deliver(self, consumer: Consumer, messages: list[Message]) -> None:
        first = self.last_tag + 1
        count = len(messages)
        self.last_tag += count
        if consumer.no_ack:
            self.delivered_no_ack_total += count
        else:
            self.delivered_total += count
            unacked = self.unacked
            tag = first
            for message in messages:
                message.consumer = consumer
                unacked[tag] = message
                tag += 1
        outbox = self.outbox
        outbox.added(self._encoders[consumer.tag].encode(self.stamped(messages), first, outbox.chunks))
        tracer = self.session.vhost.tracer
        if tracer is not None:
            tracer.delivered(
                consumer.queue, messages, self.connection.name, self.number, self.session.principal.username
            )

    def stamped(self, messages: list[Message]) -> list[Message]:
        """With x-delivery-count for queues that count (delivery limit), from the second delivery on."""
        if messages[0].queue.limits.delivery_limit is None:
            return messages
        return [message.with_delivery_count() if message.delivery_count else message for message in messages]

    def on_cancelled(self, consumer: Consumer, reason: str) -> None:
        """The queue is gone: tell the client if it can be told."""
        self.consumers.pop(consumer.tag, None)
        self._encoders.pop(consumer.tag, None)
        if self.connection.has_capability("consumer_cancel_notify") and not self.is_closing:
            self.send(BasicCancel(consumer_tag=consumer.tag, nowait=True))

    def describe(self) -> dict[str, Any]:
        return {
            "name": self.name,
            "number": self.number,
            "connection_name": self.connection.name,
            "user": self.username,
            "vhost": self.vhost_name,
        }

    # -- what the broker is told (core.connections.ClientChannel)

    @property
    def name(self) -> str:
        return f"{self.connection.name} ({self.number})"

    @property
    def username(self) -> str:
        return self.session.principal.username

    @property
    def vhost_name(self) -> str:
        return self.session.vhost.name

    @property
    def unacked_count(self) -> int:
        return len(self.unacked)

    @property
    def unconfirmed_count(self) -> int:
        return self.confirms.unconfirmed_count if self.confirms is not None else 0

    @property
    def uncommitted(self) -> tuple[int, int]:
        return self.transaction.uncommitted if self.transaction is not None else (0, 0)

    @property
    def is_confirming(self) -> bool:
        return self.confirms is not None

    @property
    def is_transactional(self) -> bool:
        return self.transaction is not None

    def totals(self) -> ChannelTotals:
        publisher, confirms = self.publisher, self.confirms
        pipeline = publisher.pipeline
        return ChannelTotals(
            publish=pipeline.published_total,
            confirm=confirms.confirmed_total if confirms is not None else 0,
            return_unroutable=publisher.returned_total,
            drop_unroutable=pipeline.unroutable_total - publisher.returned_total,
            deliver=self.delivered_total,
            deliver_no_ack=self.delivered_no_ack_total,
            get=self.get_total,
            get_no_ack=self.get_no_ack_total,
            get_empty=self.get_empty_total,
            ack=self.acknowledged_total,
        )

    def traffic(self) -> PublishCounters:
        publisher, confirms = self.publisher, self.confirms
        pipeline = publisher.pipeline
        pipeline.note_sizes()
        return PublishCounters(
            received=pipeline.published_total,
            received_confirm=confirms.published_total if confirms is not None else 0,
            confirmed=confirms.confirmed_total if confirms is not None else 0,
            routed=pipeline.published_total - pipeline.unroutable_total,
            returned=publisher.returned_total,
            dropped=pipeline.unroutable_total - publisher.returned_total,
            publishers=1 if pipeline.published_total else 0,
            consumers=len(self.consumers),
        )

    # -- consumers

    def start(self, consumer: Consumer) -> None:
        """It was attached to its queue."""
        self.consumers[consumer.tag] = consumer
        self._encoders[consumer.tag] = DeliveryEncoder(self.number, consumer.tag, self.connection.frame_max)

    def cancel(self, tag: str) -> None:
        """basic.cancel. Its unacked deliveries stay, and stay ackable."""
        if tag == self.reply_tag:
            self._forget_replies()
            return
        consumer = self.consumers.pop(tag, None)
        if consumer is not None:
            self._encoders.pop(tag, None)
            consumer.queue.detach(consumer)

    # -- direct reply-to

    def reply_address(self) -> str:
        """Where replies to this channel go. Raise ChannelFault if it does not consume from the pseudo-queue."""
        if self._reply_address is None:
            raise ChannelFault(406, "fast reply consumer does not exist")
        return self._reply_address

    def expect_replies(self, tag: str) -> None:
        self.reply_tag = tag
        self._reply_address = self.connection.broker.replies.register(self)
        self.publisher.forget()
        self._encoders[tag] = DeliveryEncoder(self.number, tag, self.connection.frame_max)

    def _forget_replies(self) -> None:
        if self._reply_address is not None and self.reply_tag is not None:
            self.connection.broker.replies.forget(self._reply_address)
            self._encoders.pop(self.reply_tag, None)
            self.reply_tag = self._reply_address = None
            self.publisher.forget()

    def deliver_reply(self, envelope: Envelope, bodies: list[bytes]) -> None:
        """Replies from another channel: always no_ack; a congested requester loses them, as a dead one would."""
        if self.is_closing or self.reply_tag is None or self.outbox.is_congested:
            return
        first = self.last_tag + 1
        self.last_tag += len(bodies)
        replies = [Reply(envelope, body) for body in bodies]
        self.outbox.added(self._encoders[self.reply_tag].encode(replies, first, self.outbox.chunks))

    # -- prefetch and timeouts

    def set_global_prefetch(self, count: int) -> None:
        """basic.qos global: one window over all consumers of the channel, at once. 0: none."""
        self.global_prefetch = count
        self._touch_queues()

    def check_timeouts(self, now: float) -> None:
        """Called once a minute: deliveries older than the consumer timeout close the channel (406)."""
        marks = self._tag_marks
        oldest = next(iter(self.unacked), None)
        if oldest is None:
            marks.clear()
        else:
            while len(marks) > 1 and marks[1][1] < oldest:
                marks.pop(0)
            message = self.unacked[oldest]
            timeout_ms = self._timeout_ms(message)
            # The oldest was delivered at the latest when the first mark at or past its tag was made.
            delivered_by = next((at for at, tag in marks if tag >= oldest), None)
            if timeout_ms and delivered_by is not None and now - delivered_by >= timeout_ms / 1000:
                self.fail(
                    ChannelFault(
                        406,
                        f"delivery acknowledgement on channel {self.number} timed out. Timeout value used: "
                        f"{timeout_ms} ms. This timeout value can be configured, see consumers doc guide to learn more",
                    ),
                    (0, 0),
                )
                return
        if not marks or marks[-1][1] != self.last_tag:
            marks.append((now, self.last_tag))

    def _timeout_ms(self, message: Message) -> int:
        if message.consumer is not None and message.consumer.timeout_ms is not None:
            return message.consumer.timeout_ms
        limit = message.queue.limits.consumer_timeout_ms
        return self.connection.broker.settings.limits.consumer_timeout_ms if limit is None else limit

    # -- replies and the end

    def send(self, method: Method) -> None:
        self.outbox.write(method_frame(self.number, method))

    def answer(self, method: Any, reply: Method) -> None:
        """The reply to a method with a nowait flag."""
        if not method.nowait:
            self.send(reply)

    def fail(self, fault: ChannelFault | ConnectionFault, method: tuple[int, int]) -> None:
        """A channel exception; raises if it is one for the connection."""
        if isinstance(fault, ConnectionFault):
            raise ConnectionFault(fault.code, fault.text, method)
        if self.is_closing:
            return
        text = reply_text(fault.code, fault.text)
        log.error(
            "conn=%s channel=%d vhost=%s user=%s error=%d method=%d.%d %s",
            self.connection.name,
            self.number,
            self.session.vhost.name,
            self.session.principal.username,
            fault.code,
            *method,
            text,
        )
        self.release()
        self.is_closing = True
        self.send(
            ChannelClose(reply_code=fault.code, reply_text=text, class_id=method[0], method_id=method[1])
        )

    def release(self) -> None:
        """Give back everything it holds, before the peer hears of it: a client that sees the close can get them."""
        if self.is_closing:
            return
        # Confirms that were earned in this chunk still go out, in front of the close.
        if self.confirms is not None:
            self.confirms.close_chunk()
            self.confirms.close()
        self.is_closing = True
        self.broker.traffic.retire(PROTOCOL, self.traffic())
        consumers = list(self.consumers.values())
        self.consumers.clear()
        self._encoders.clear()
        self._forget_replies()
        messages = list(self.unacked.values())
        self.unacked.clear()
        if self.transaction is not None:
            messages = sorted([*messages, *self.transaction.abandon()], key=lambda message: message.position)
        self.requeue(messages, counts=True)  # not back to us: a closing channel has no capacity
        for consumer in consumers:
            consumer.queue.detach(consumer)
        self.content = None

"""Delivering to one client: PUBLISH packets out, packet ids, and what is in flight (5.0 4.3, 4.4, 4.9)."""

from __future__ import annotations

from collections.abc import Callable
from math import ceil
from typing import TYPE_CHECKING, Any

from leveret.adapters.mqtt.acks import short_acks
from leveret.adapters.mqtt.packets import ack, encode_remaining_length
from leveret.adapters.mqtt.publish_view import (
    BY_REFERENCE_BYTES,
    SHARED,
    PublishView,
    marked_copy,
    packer,
    publish_view_of,
)
from leveret.adapters.mqtt.session import EffectiveSubscription
from leveret.adapters.mqtt.spec import V5, MqttFault, PacketType, Reason, Subscription
from leveret.adapters.mqtt.topics import matches
from leveret.adapters.mqtt.writer import PacketWriter
from leveret.core.queue.consumer import Consumer

if TYPE_CHECKING:
    from leveret.adapters.mqtt.connection import MqttConnection
    from leveret.adapters.mqtt.session import MqttSession
    from leveret.core.message import Envelope, Message, MessageQueue
    from leveret.core.queue.queue import Queue
__all__ = ["Delivery"]

IDS = 65535
PUBREL = 0x6202
DUP = 8
UNDELIVERABLE = -1


class Delivery:
    """The receiving half of a connection: the sink of its session's queue and of the groups it is a member of.

    window   QoS 1 and 2 messages in flight at once: the client's receive maximum, and mqtt.max_inflight
    inflight by packet id: messages that the client owes an acknowledgement for
    A packet id follows from the message's position in the session's queue, so that it is the same when the message is
    sent again (MQTT-4.4.0-1), whatever has been restarted. Messages of groups get ids that are free.
    """

    __slots__ = (
        "_adapter", "_connection", "_consumer", "_envelope", "_expiry", "_first", "_groups", "_head", "_identifiers",
        "_is_redelivered", "_is_stalled", "_next_id", "_outbox", "_pack", "_qos", "_session", "_size", "_statistics",
        "_tail", "_view", "inflight", "window", "writer",
    )  # fmt: skip

    def __init__(
        self, connection: MqttConnection, session: MqttSession, writer: PacketWriter, *, window: int
    ) -> None:
        self._connection = connection
        self._adapter = connection.adapter
        self._statistics = connection.adapter.statistics
        self._outbox = connection.outbox
        self._session = session
        self.writer = writer
        self.window = window
        self.inflight: dict[int, tuple[Message, int]] = {}  # with the QoS
        self._groups: dict[Consumer, tuple[Subscription, str]] | None = None  # with the filter behind $share
        self._consumer: Consumer | None = None  # of the session's own queue
        self._is_stalled = False  # an id that is needed is in use
        self._next_id = IDS
        # What is alike in a run of messages, from the last one.
        self._envelope: Envelope | None = None
        self._view: PublishView | None = None
        self._is_redelivered = False
        self._qos = UNDELIVERABLE
        self._first = 0
        self._identifiers: tuple[int, ...] = ()
        self._expiry = False
        self._tail = self._head = b""
        self._size = -1
        self._pack: Callable[..., bytes] | None = None

    def __repr__(self) -> str:
        return f"<Delivery {self._session.client_id!r} inflight={len(self.inflight)} window={self.window}>"

    # -- coming and going

    def start(self) -> None:
        """The client is here: PUBRELs that it may have missed, then the queue and the groups (MQTT-4.4.0-1)."""
        session = self._session
        if session.released:
            self._outbox.write(short_acks(PUBREL, list(session.released)))
        self.consume_queue()
        for text in session.shared:
            self._adapter.groups.attach(session, text)

    def consume_queue(self) -> None:
        """From the session's own queue, once it has one."""
        queue = self._session.queue
        if queue is not None and self._consumer is None and not queue.is_closed:
            consumer = Consumer(queue, self, self._session.client_id)
            queue.attach(consumer)
            self._consumer = consumer

    def join(self, queue: Queue, subscription: Subscription, text: str) -> Consumer:
        """From the queue of a group. text: the filter behind `$share/group/`."""
        consumer = Consumer(queue, self, self._session.client_id)
        if self._groups is None:
            self._groups = {}
        self._groups[consumer] = subscription, text
        queue.attach(consumer)
        return consumer

    def leave(self, queue: Queue) -> None:
        """The group's messages that are in flight stay so until they are acknowledged, or the client goes."""
        for consumer in list(self._groups or ()):
            if consumer.queue is queue:
                assert self._groups is not None
                del self._groups[consumer]
                queue.detach(consumer)

    def release(self) -> None:
        """The client is gone. Its own messages go back to their places; a group's go to the other members, but for
        those of QoS 2, which were this client's (MQTT-4.8.2-5)."""
        if self._consumer is not None:
            self._consumer.queue.detach(self._consumer)
            self._consumer = None
        for consumer in list(self._groups or ()):
            consumer.queue.detach(consumer)
        self._groups = None
        inflight, self.inflight = self.inflight, {}
        back: dict[MessageQueue, list[Message]] = {}
        session = self._session
        for message, qos in inflight.values():
            queue = message.queue
            if qos == 2 and queue is not session.queue:
                queue.settle([message])  # the session ends with the connection, and nobody else may have it
            else:
                back.setdefault(queue, []).append(message)
        for queue, messages in back.items():
            queue.requeue(messages, counts=False)

    # -- Sink

    def capacity(self, consumer: Consumer) -> int:
        if self._outbox.is_congested or self._is_stalled:
            return 0
        room = self.window - len(self.inflight) - len(self._session.released)
        if self._groups is not None and consumer is not self._consumer and self._session.queue is not None:
            room -= self._session.queue.message_count  # what was taken over from a group waits there
        return room

    def on_cancelled(self, consumer: Consumer, reason: str) -> None:
        """Its queue was deleted. A session without its queue is none: the client is told, and may come again."""
        if consumer is self._consumer:
            self._consumer = None
            self._connection.fail(MqttFault(Reason.ADMINISTRATIVE_ACTION, f"the session's queue is {reason}"))
        elif self._groups is not None:
            self._groups.pop(consumer, None)

    def describe(self) -> dict[str, Any]:
        connection = self._connection
        return {
            "connection_name": connection.name,
            "user": connection.username,
            "vhost": connection.vhost_name,
            "client_id": self._session.client_id,
        }

    # -- QoS 1 and 2

    def deliver(self, consumer: Consumer, messages: list[Message]) -> None:
        outbox, inflight = self._outbox, self.inflight
        own = consumer is self._consumer
        if not own:
            self._envelope = None  # the subscription decides, too
            if self._session.is_durable:
                messages = self._take_over(consumer, messages)
        append = outbox.chunks.append
        acks = self._connection.acks
        before = self._statistics.publish_sent
        total = sent = 0
        gone: list[Message] = []
        for position, message in enumerate(messages):
            envelope, body = message.envelope, message.body
            if envelope is not self._envelope or message.is_redelivered is not self._is_redelivered:
                self._shape(envelope, consumer, message.is_redelivered)
            qos = self._qos
            if qos <= 0:
                if not qos:
                    outbox.added(total)
                    total = 0
                    self._write_one(message, 0, 0)
                gone.append(message)
                continue
            packet_id = 1 + (message.position - 1) % IDS if own else self._free_id()
            if packet_id in inflight or packet_id in self._session.released:
                self._is_stalled = True
                consumer.queue.requeue(messages[position:], counts=False)
                break
            inflight[packet_id] = message, qos
            message.consumer = consumer
            size = len(body)
            if acks.is_waiting or (qos == 2 and self._session.is_durable):
                if not self._write_in_turn(message, packet_id, needs_store=qos == 2):
                    del inflight[packet_id]
                    gone.append(message)
                continue
            if size == self._size and self._pack is not None and not self._expiry:
                append(self._pack(self._head, packet_id, self._tail, body))
                total += len(self._head) + 2 + len(self._tail) + size
                sent += 1
                continue
            outbox.added(total)
            total = 0
            if not self._write_one(message, qos, packet_id):
                del inflight[packet_id]
                gone.append(message)
        outbox.added(total)
        self._statistics.publish_sent += sent
        self._statistics.publish_sent_queued += self._statistics.publish_sent - before
        acks.close_chunk()
        if gone:
            self._settle(gone)

    def _take_over(self, consumer: Consumer, messages: list[Message]) -> list[Message]:
        """A group's messages of QoS 2 become the session's own: only there is a packet id the same after a restart, and
        nobody else may have what one member was sent (MQTT-4.8.2-4, -5). What is left of the list."""
        queue = self._session.queue
        subscription, text = (self._groups or {}).get(consumer, (None, ""))
        if subscription is None or subscription.qos < 2 or queue is None:
            return messages
        left: list[Message] = []
        taken: list[Message] = []
        now = self._adapter.broker.timers.now
        for message in messages:
            view = publish_view_of(message.envelope, self._session.keymap)
            if view is None or view.qos < 2 or not matches(text, view.topic):
                left.append(message)
                continue
            left_ms = None if message.expires_at is None else max(1, int((message.expires_at - now) * 1000))
            queue.publish(
                marked_copy(message.envelope, view, SHARED, subscription.filter, left_ms), [message.body]
            )
            taken.append(message)
        if taken:
            consumer.queue.settle(taken)
        return left

    def forget(self) -> None:
        """Subscriptions have changed: the next message is looked at anew."""
        self._envelope = None

    def _shape(self, envelope: Envelope, consumer: Consumer, is_redelivered: bool) -> None:
        """What is alike in deliveries of this envelope to this consumer."""
        self._envelope, self._is_redelivered, self._pack, self._size = envelope, is_redelivered, None, -1
        session = self._session
        view = self._view = publish_view_of(envelope, session.keymap)
        subscription, text = (self._groups or {}).get(consumer, (None, ""))
        if view is None or (subscription is not None and not matches(text, view.topic)):
            self._qos = UNDELIVERABLE
            return
        identifiers: tuple[int, ...] = ()
        granted, retain_as_published = 2, False  # of a subscription that is gone meanwhile
        if subscription is not None:
            granted, retain_as_published = subscription.qos, subscription.retain_as_published
            if subscription.identifier is not None:
                identifiers = (subscription.identifier,)
        else:
            grant: EffectiveSubscription | None = session.grants.get(view.topic) or session.grant(view.topic)
            if view.shared is not None:
                one = session.shared.get(view.shared)
                grant = None if one is None else EffectiveSubscription([one])
            if grant is not None:
                granted, identifiers = grant.qos, grant.identifiers
                retain_as_published = grant.retain_as_published
        self._qos = qos = min(view.qos, granted)
        self._identifiers = identifiers
        retain = view.is_retained_copy or (view.retain and retain_as_published)
        dup = is_redelivered and qos and subscription is None
        self._first = 0x30 | (DUP if dup else 0) | qos << 1 | retain
        self._expiry = self.writer.is_v5 and envelope.expiration is not None

    def _write_one(self, message: Message, qos: int, packet_id: int) -> bool:
        """A message that is not like the last one; then it is. False: too large for the client."""
        view = self._view
        assert view is not None
        writer, body, expiry_s = self.writer, message.body, self._expiry_of(message)
        is_written = writer.publish(
            view, body, first=self._first, packet_id=packet_id, identifiers=self._identifiers, expiry_s=expiry_s
        )  # fmt: skip
        size = len(body)
        if is_written and qos and size < BY_REFERENCE_BYTES and not writer.has_aliases:
            tail = view.properties_bytes(self._identifiers, expiry_s) if writer.is_v5 else b""
            remaining = encode_remaining_length(len(view.topic_bytes) + 2 + len(tail) + size)
            self._head = bytes((self._first,)) + remaining + view.topic_bytes
            self._tail, self._size = tail, size
            self._pack = packer(len(self._head), len(tail), size)
        return is_written

    def _write_in_turn(self, message: Message, packet_id: int, *, needs_store: bool) -> bool:
        """QoS 2 of a durable session: only what is on the disk has its place there, hence this packet id, for good.
        And what comes behind it, in order (MQTT-4.6.0-1)."""
        assert self._view is not None
        data = self.writer.packet(
            self._view, message.body, first=self._first, packet_id=packet_id, identifiers=self._identifiers,
            expiry_s=self._expiry_of(message),
        )  # fmt: skip
        if data is None:
            return False
        self._connection.acks.add(data, needs_store=needs_store)
        return True

    def _expiry_of(self, message: Message) -> int | None:
        """What is left of it (MQTT-3.3.2-6); at least a second, for it has not expired."""
        assert self._view is not None
        if self._expiry and message.expires_at is not None:
            return max(1, ceil(message.expires_at - self._adapter.broker.timers.now))
        return self._view.expiry_s

    def _free_id(self) -> int:
        """For a message of a group: from the top, far from those that follow from positions."""
        inflight, released = self.inflight, self._session.released
        for _ in range(IDS):
            packet_id = self._next_id
            self._next_id = packet_id - 1 or IDS
            if packet_id not in inflight and packet_id not in released:
                return packet_id
        return self._next_id

    # -- acknowledgements

    def on_puback(self, packet_ids: list[int]) -> None:
        """QoS 1: delivered. Unknown ids are old news (a message may have been dropped meanwhile)."""
        pop = self.inflight.pop
        done: list[Message] = []
        for packet_id in packet_ids:
            found = pop(packet_id, None)
            if found is not None:
                if found[1] == 2:
                    self.inflight[packet_id] = found
                    raise MqttFault(
                        Reason.PROTOCOL_ERROR, f"PUBACK for packet id {packet_id}, which has QoS 2"
                    )
                done.append(found[0])
        if done:
            self._settle(done)
            self._go_on()

    def on_pubrec(self, packet_ids: list[int]) -> None:
        """QoS 2: the client has it. It is ours no more, but for the id; PUBREL once that is known to the store."""
        session, acks = self._session, self._connection.acks
        done: list[Message] = []
        answers: list[bytes] = []
        for packet_id in packet_ids:
            found = self.inflight.get(packet_id)
            if found is not None:
                if found[1] == 1:
                    raise MqttFault(
                        Reason.PROTOCOL_ERROR, f"PUBREC for packet id {packet_id}, which has QoS 1"
                    )
                del self.inflight[packet_id]
                done.append(found[0])
                session.released[packet_id] = None
                if session.is_durable:
                    self._adapter.records.add_released(session.vhost.name, session.client_id, packet_id)
                answers.append(short_acks(PUBREL, [packet_id]))
            elif packet_id in session.released or not self.writer.is_v5:
                answers.append(short_acks(PUBREL, [packet_id]))
            else:
                answers.append(ack(PacketType.PUBREL, packet_id, V5, Reason.PACKET_IDENTIFIER_NOT_FOUND))
        if done:
            self._settle(done)
        acks.add(b"".join(answers), needs_store=session.is_durable)

    def on_pubcomp(self, packet_ids: list[int]) -> None:
        """QoS 2: done; the id is free."""
        session = self._session
        for packet_id in packet_ids:
            if packet_id in session.released:
                del session.released[packet_id]
                if session.is_durable:
                    self._adapter.records.remove_released(session.vhost.name, session.client_id, packet_id)
        self._go_on()

    def on_refused(self, packet: PacketType, packet_id: int) -> None:
        """PUBACK or PUBREC with a reason of failure: the client does not want it; it is done with (5.0 4.3.3)."""
        found = self.inflight.pop(packet_id, None)
        if found is not None:
            self._settle([found[0]])
            self._go_on()

    def _settle(self, messages: list[Message]) -> None:
        """Of one queue, mostly."""
        queue = messages[0].queue
        if all(message.queue is queue for message in messages):
            queue.settle(messages)
            return
        by_queue: dict[MessageQueue, list[Message]] = {}
        for message in messages:
            by_queue.setdefault(message.queue, []).append(message)
        for queue, some in by_queue.items():
            queue.settle(some)

    def _go_on(self) -> None:
        """There is room in the window again."""
        self._is_stalled = False
        dispatcher = self._adapter.broker.dispatcher
        if self._consumer is not None and self._consumer.queue.message_count:
            dispatcher.schedule(self._consumer.queue)
        for consumer in self._groups or ():
            if consumer.queue.message_count:
                dispatcher.schedule(consumer.queue)

    def on_drained(self) -> None:
        """The client took what was waiting: its queues go on, in the next pass."""
        again = self._adapter.broker.dispatcher.dispatch_later
        if self._consumer is not None and self._consumer.queue.message_count:
            again(self._consumer.queue)
        for consumer in self._groups or ():
            if consumer.queue.message_count:
                again(consumer.queue)

"""SUBSCRIBE, UNSUBSCRIBE, and the reply queues of request and reply: from headers to consumers."""

from __future__ import annotations

import base64
import secrets
from collections import deque
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from leveret.adapters.connection import ConnectionState
from leveret.adapters.stomp.acks import SEPARATOR
from leveret.adapters.stomp.delivery import MessageEncoder
from leveret.adapters.stomp.destinations import subscription_queue_name
from leveret.adapters.stomp.faults import StompFault
from leveret.adapters.stomp.headers import boolean, queue_arguments
from leveret.adapters.stomp.requests import TEMPORARY, SubscribeRequest, identity, is_durable
from leveret.adapters.stomp.settings import StompSettings
from leveret.auth.contracts import Permission
from leveret.core.queue.consumer import UNLIMITED, Consumer

if TYPE_CHECKING:
    from leveret.adapters.stomp.connection import StompConnection
    from leveret.adapters.stomp.frames import Frame
    from leveret.adapters.stomp.selector import Selector
    from leveret.core.message import Message
    from leveret.core.queue.queue import Queue
    from leveret.core.session import Session
__all__ = ["Subscription", "Subscriptions"]

BOUND = ("topic", "exchange")  # destinations whose subscriptions have a queue of their own


class Subscription:
    """One consumer and its sink.

    is_ready  false until the receipt of its SUBSCRIBE is out: no message comes before it
    order     tags that are out, in order; only for ack:client, whose ACKs cover all before them
    """

    __slots__ = (
        "_connection",
        "_encoder",
        "consumer",
        "id",
        "is_ready",
        "kind",
        "order",
        "tag",
    )

    def __init__(self, connection: StompConnection, tag: str, id: str | None, ack: str, kind: str) -> None:
        self._connection = connection
        self.tag = tag
        self.id = id
        self.kind = kind
        self.is_ready = True
        self.order: deque[int] | None = deque() if ack == "client" else None
        self.consumer: Consumer | None = None
        self._encoder = MessageEncoder(
            connection.version,
            subscription=id,
            message_id_prefix=f"{tag}{SEPARATOR}{connection.session_id}{SEPARATOR}",
            has_ack=ack != "auto" and connection.version == "1.2",
            topic_exchange=StompSettings.of(connection.settings).default_topic_exchange,
        )

    def __repr__(self) -> str:
        return f"<Subscription {self.tag!r} consumer={self.consumer!r}>"

    def attach(
        self,
        queue: Queue,
        *,
        no_ack: bool,
        prefetch: int = 0,
        priority: int = 0,
        selector: Selector | None = None,
        drops_unmatched: bool = False,
    ) -> None:
        """drops_unmatched: the queue is ours, so nobody else will want what the selector does not.

        Raise AccessRefused.
        """
        arguments = {"x-priority": priority} if priority else {}
        consumer = Consumer(
            queue, self, self.tag, no_ack=no_ack, prefetch=prefetch, priority=priority, arguments=arguments
        )
        consumer.filter = selector
        consumer.drops_unmatched = drops_unmatched and selector is not None
        queue.attach(consumer)
        self.consumer = consumer

    def ready(self) -> None:
        """The receipt is out."""
        self.is_ready = True
        if self.consumer is not None:
            self._connection.broker.dispatcher.schedule(self.consumer.queue)

    # -- Sink

    def capacity(self, consumer: Consumer) -> int:
        connection = self._connection
        if (
            connection.outbox.is_congested
            or not self.is_ready
            or connection.state is not ConnectionState.RUNNING
        ):
            return 0
        return UNLIMITED

    def deliver(self, consumer: Consumer, messages: list[Message]) -> None:
        connection = self._connection
        deliveries = connection.deliveries
        first = deliveries.last_tag + 1
        count = len(messages)
        deliveries.last_tag += count
        deliveries.delivered_total += count
        if not consumer.no_ack:
            for message in messages:
                message.consumer = consumer
            tags = range(first, first + count)
            deliveries.unacked.update(zip(tags, messages, strict=True))
            if self.order is not None:
                self.order.extend(tags)
        outbox = connection.outbox
        queue = consumer.queue
        shown = messages
        if (
            queue.limits.delivery_limit is not None
        ):  # a queue that counts says so, from the second delivery on
            shown = [one.with_delivery_count() if one.delivery_count else one for one in messages]
        outbox.added(self._encoder.encode(shown, first, outbox.chunks))
        assert connection.session is not None
        tracer = connection.session.vhost.tracer
        if tracer is not None:
            tracer.delivered(queue, messages, connection.name, 0, connection.username)

    def on_cancelled(self, consumer: Consumer, reason: str) -> None:
        self._connection.on_cancelled(self)

    def describe(self) -> dict[str, Any]:
        connection = self._connection
        return {
            "name": f"{connection.name} (1)",
            "number": 1,
            "connection_name": connection.name,
            "user": connection.username,
            "vhost": connection.vhost_name,
        }


class Subscriptions:
    """All of one connection, by consumer tag."""

    __slots__ = ("_by_tag", "_connection", "_names", "_reply_queues", "_session")

    def __init__(self, connection: StompConnection, session: Session) -> None:
        self._connection = connection
        self._session = session
        self._by_tag: dict[str, Subscription] = {}
        self._names: dict[str, str] = {}  # given to queues whose SUBSCRIBE waits for an authorization
        self._reply_queues: dict[str, str] = {}  # temporary id -> queue

    def __len__(self) -> int:
        return len(self._by_tag)

    def __iter__(self) -> Iterator[Subscription]:
        return iter(self._by_tag.values())

    # -- SUBSCRIBE

    def subscribe(self, frame: Frame) -> Subscription:
        """Raise StompFault, BrokerError, AuthorizationPending; then nothing has changed."""
        connection = self._connection
        settings = connection.settings
        request = SubscribeRequest.read(
            frame,
            connection.version,
            StompSettings.of(settings).default_topic_exchange,
            settings.limits.default_prefetch,
        )
        if request.tag in self._by_tag:
            raise StompFault(
                "Duplicated subscription identifier",
                f"A subscription identified by '{request.tag}' already exists.",
            )
        queue, is_new = self._queue(request)
        subscription = Subscription(
            connection, request.tag, request.id, request.ack, request.destination.kind
        )
        subscription.is_ready = "receipt" not in frame.headers
        try:
            self._session.queue_for_consume(queue.name)
            subscription.attach(
                queue,
                no_ack=request.ack == "auto",
                prefetch=request.prefetch,
                priority=request.priority,
                selector=request.selector,
                drops_unmatched=request.destination.kind in BOUND and request.queue_name is None,
            )
        except BaseException:
            if is_new:
                queue.vhost.remove_queue(queue)
            raise
        self._by_tag[request.tag] = subscription
        self._names.pop(request.tag, None)
        if subscription.order is not None:
            connection.deliveries.cumulative_count += 1
        return subscription

    def _queue(self, request: SubscribeRequest) -> tuple[Queue, bool]:
        """The queue to consume from, and whether it was made for this subscription alone."""
        session, destination = self._session, request.destination
        if destination.kind == "queue":
            headers = request.headers
            durable = boolean(headers, "durable" if "durable" in headers else "persistent")
            return self._connection.publisher.declare(destination.queue, headers, durable), False
        if destination.kind in ("amq/queue", "reply-queue"):
            return session.queue_for_consume(destination.queue), False
        name = request.queue_name
        if name is None:
            name = self._queue_name(request)
        is_new = name not in session.vhost.queues
        auto_delete = boolean(request.headers, "auto-delete")
        queue = session.queue_declare(
            name,
            durable=request.is_durable,
            exclusive=bool(boolean(request.headers, "exclusive")),
            auto_delete=not request.is_durable if auto_delete is None else auto_delete,
            arguments=queue_arguments(request.headers),
        )
        try:
            session.queue_bind(queue.name, destination.exchange, destination.routing_key)
        except BaseException:
            if is_new:
                session.vhost.remove_queue(queue)
            raise
        return queue, is_new

    def _queue_name(self, request: SubscribeRequest) -> str:
        if request.is_durable:
            assert request.id is not None
            return subscription_queue_name(request.destination.routing_key, request.id)
        name = self._names.get(request.tag)
        if name is None:
            # 128 bits that nobody guesses; kept until it is used, for permissions are asked for by name.
            secret = base64.urlsafe_b64encode(secrets.token_bytes(16)).rstrip(b"=").decode("ascii")
            name = self._names[request.tag] = f"stomp-subscription-{secret}"
        return name

    # -- UNSUBSCRIBE

    def unsubscribe(self, frame: Frame) -> bool:
        """What is unacked goes back. With durable:true, the queue of a durable subscription goes, too.

        True if the store is concerned. Raise StompFault, BrokerError, AuthorizationPending; then nothing has changed.
        """
        is_deleting = is_durable(frame)
        tag, shown = identity(frame)
        subscription = self._by_tag.get(tag)
        if subscription is None or subscription.consumer is None:
            raise StompFault(
                "No subscription found",
                "UNSUBSCRIBE must refer to an existing subscription.\n"
                f'Subscription to "{shown}" not found.\n',
            )
        queue = subscription.consumer.queue
        deletes = is_deleting and subscription.kind in BOUND and not queue.is_closed
        if deletes:
            self._session.require(Permission.CONFIGURE, "queue", queue.name)
        self._end(subscription)
        if deletes:
            self._session.queue_delete(queue.name)
        return queue.is_durable

    def _end(self, subscription: Subscription) -> None:
        """The consumer is gone; what was with it is back in the queue before anybody else is served."""
        self.forget(subscription)
        subscription.is_ready = False  # not back to us
        deliveries = self._connection.deliveries
        deliveries.requeue(deliveries.take_all(subscription), counts=True)
        consumer = subscription.consumer
        if consumer is not None:
            consumer.queue.detach(consumer)

    def forget(self, subscription: Subscription) -> None:
        """It is not there any more."""
        if self._by_tag.pop(subscription.tag, None) is not None and subscription.order is not None:
            self._connection.deliveries.cumulative_count -= 1

    def release(self) -> None:
        """Give back everything, in order."""
        subscriptions = list(self._by_tag.values())
        self._by_tag.clear()
        deliveries = self._connection.deliveries
        for subscription in subscriptions:
            subscription.is_ready = False
        deliveries.requeue(deliveries.take_all(), counts=True)
        for subscription in subscriptions:
            if subscription.consumer is not None:
                subscription.consumer.queue.detach(subscription.consumer)

    # -- request and reply

    def reply_queue(self, temporary_id: str) -> str:
        """The private queue behind a /temp-queue/ reply-to; made, and subscribed to, when it is first named."""
        name = self._reply_queues.get(temporary_id)
        queue = None if name is None else self._session.vhost.queues.get(name)
        if queue is None:
            queue = self._session.queue_declare(exclusive=True, auto_delete=True)
            self._reply_queues[temporary_id] = queue.name
        id = f"{TEMPORARY}{temporary_id}"
        if f"T_{id}" not in self._by_tag:
            # If this has to wait for an authorization, the queue is there when it comes again; it goes with us.
            self._session.queue_for_consume(queue.name)
            subscription = Subscription(self._connection, f"T_{id}", id, "auto", "temp-queue")
            subscription.attach(queue, no_ack=True)
            self._by_tag[subscription.tag] = subscription
        return queue.name

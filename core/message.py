"""The one shape all protocols meet in: an Envelope (shared, immutable) and one Message per queue."""

from __future__ import annotations

from dataclasses import replace
from typing import Any, Protocol

from leveret.core.fields import Int64
from leveret.core.properties import Properties, delivery_hints

__all__ = ["Envelope", "Message", "MessageConsumer", "MessageQueue"]


class DeliveryLimits(Protocol):
    """Limits of a queue that concern messages which are out."""

    @property
    def delivery_limit(self) -> int | None: ...
    @property
    def consumer_timeout_ms(self) -> int | None: ...


class ReadyCount(Protocol):
    """Messages that wait in a queue."""

    @property
    def count(self) -> int: ...


class HasName(Protocol):
    """A virtual host, for those who only name it."""

    name: str


class MessageQueue(Protocol):
    """The queue of a message, for those who hold the message and settle it. core.queue.queue.Queue is one.

    log_ids  of a durable queue: the same after a restart
    """

    name: str
    is_durable: bool
    is_scheduled: bool

    @property
    def vhost(self) -> HasName: ...
    @property
    def log_ids(self) -> tuple[int, ...]: ...
    @property
    def limits(self) -> DeliveryLimits: ...
    @property
    def ready(self) -> ReadyCount: ...
    def settle(self, messages: list[Message]) -> None: ...
    def requeue(self, messages: list[Message], *, counts: bool) -> None: ...
    def reject(self, messages: list[Message]) -> None: ...
    def dispatch(self) -> None: ...


class MessageConsumer(Protocol):
    """The consumer that a message was delivered to, for those who settle it. core.queue.consumer.Consumer is one."""

    tag: str
    credit: int
    timeout_ms: int | None

    @property
    def sink(self) -> object: ...


class Envelope:
    """Where a message was published and its properties: all of it but the body. Immutable once published.

    One envelope serves every copy of a message, and every further message published with the same exchange,
    routing key and properties; nothing in it is per message.

    `header` is the canonical form: AMQP's property flags and property list, as bytes (AMQP 4.2.6.1, behind the
    body size). It is decoded only when somebody asks for `properties`.
    """

    __slots__ = (
        "_properties",
        "encoded",
        "exchange",
        "expiration",
        "header",
        "is_dead_letter",
        "is_persistent",
        "priority",
        "routing_key",
    )

    def __init__(
        self, exchange: str, routing_key: str, header: bytes, properties: Properties | None = None
    ) -> None:
        self.exchange = exchange
        self.routing_key = routing_key
        self.header = header
        self._properties = properties
        # Cheap flag checks, without decoding the rest. expiration: milliseconds or None; raises InvalidArgument.
        self.is_persistent, self.priority, self.expiration = delivery_hints(header)
        self.is_dead_letter = False  # made by dead-lettering: its x-death header is the broker's own account
        self.encoded: dict[str, Any] | None = None  # adapters' caches of other encodings, by adapter name

    @classmethod
    def of(cls, exchange: str, routing_key: str, properties: Properties) -> Envelope:
        """An envelope from decoded properties, for adapters that do not speak AMQP."""
        return cls(exchange, routing_key, properties.encode(), properties)

    @property
    def properties(self) -> Properties:
        if self._properties is None:
            self._properties = Properties.decode(self.header)
        return self._properties

    def __repr__(self) -> str:
        return f"<Envelope exchange={self.exchange!r} routing_key={self.routing_key!r}>"


class Message:
    """One queue's copy of a message: a body by reference and what this queue knows of it.

    position        its place in the queue's order; grows, never reused; a requeue returns it to this place
    expires_at      monotonic seconds, or None
    delivery_count  how often it was returned to the queue (x-delivery-count)
    is_redelivered  it was handed out before, or may have been (after a crash)
    is_stored       the store has, or is about to have, a copy that must be discarded when it is settled
    consumer        whom it is with while unacked; None in the queue, and for basic.get
    """

    __slots__ = (
        "body",
        "consumer",
        "delivery_count",
        "envelope",
        "expires_at",
        "is_redelivered",
        "is_stored",
        "position",
        "queue",
    )

    def __init__(self, envelope: Envelope, body: bytes, queue: MessageQueue, position: int) -> None:
        self.envelope = envelope
        self.body = body
        self.queue = queue
        self.position = position
        self.expires_at: float | None = None
        self.delivery_count = 0
        self.is_redelivered = False
        self.is_stored = False
        self.consumer: MessageConsumer | None = None

    def with_delivery_count(self) -> Message:
        """A copy, for the wire, that carries x-delivery-count."""
        envelope = self.envelope
        properties = replace(envelope.properties)
        properties.headers = {**(properties.headers or {}), "x-delivery-count": Int64(self.delivery_count)}
        copy = Message(
            Envelope.of(envelope.exchange, envelope.routing_key, properties), self.body, self.queue, 0
        )
        copy.is_redelivered = self.is_redelivered
        return copy

    def __repr__(self) -> str:
        return f"<Message queue={self.queue.name!r} position={self.position} bytes={len(self.body)}>"

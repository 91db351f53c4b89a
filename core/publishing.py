"""Publishing: the one way of a message from a publisher to the queues, in every protocol.

An adapter turns bytes into a `PublishTarget` (where: resolved and checked once, remembered as long as the virtual host's
epoch stands) and an envelope (what), and calls `PublishPipeline.publish` once per run of messages that share both. The
pipeline routes, counts, traces, answers direct reply-to, and puts the messages into the queues. The adapter then says in
its protocol what became of them: a confirm or basic.return, PUBACK with its reason, RECEIPT, an HTTP status.

Each AMQP channel, MQTT connection, STOMP connection and session has a pipeline of its own, so that what it counts are
plain integers of its own. `publish_internal` is for the broker's own messages: unchecked, untraced.
"""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

from leveret.core import routing
from leveret.core.errors import PreconditionFailed
from leveret.core.reply_to import is_reply_queue

if TYPE_CHECKING:
    from collections.abc import Callable

    from leveret.core.histogram import Histogram
    from leveret.core.message import Envelope
    from leveret.core.queue.queue import Queue
    from leveret.core.reply_to import Replies
    from leveret.core.routing import Routed
    from leveret.core.vhost import Exchange, Vhost

__all__ = ["Outcome", "PublishPipeline", "PublishTarget", "publish_internal"]

Outcome = tuple[bool, int, bool]
"""What became of a run of messages: whether a queue (or requester) was there for them, how many of the last ones some queue
rejected because it was full, and whether they must be durable before the publisher is answered."""


class PublishTarget:
    """An exchange and routing key that this publisher may publish to, as long as the virtual host's epoch is `epoch`.

    queues                where every such message goes, once that is known and only the routing key decides; else None
    is_durable            some of these queues is durable
    is_routed_by_headers  for messages with CC or BCC headers: each is routed by itself
    """

    __slots__ = ("epoch", "exchange", "is_durable", "is_routed_by_headers", "queues", "routing_key")

    def __init__(
        self, exchange: Exchange, routing_key: str, epoch: int, *, is_routed_by_headers: bool = False
    ) -> None:
        self.exchange = exchange
        self.routing_key = routing_key
        self.epoch = epoch
        self.is_routed_by_headers = is_routed_by_headers
        self.queues: tuple[Queue, ...] | None = None
        self.is_durable = False

    def for_headers(self) -> PublishTarget:
        """The same target for messages with CC or BCC headers."""
        return PublishTarget(self.exchange, self.routing_key, self.epoch, is_routed_by_headers=True)


class PublishPipeline:
    """What one publisher publishes through.

    Args:
        route: decides the queues; `Session.route` for clients, which checks the permission for CC and BCC keys.
        sizes: the histogram of body sizes of this protocol.
        connection_name, channel, username: whose messages they are, for the tracer. Channel 0: the protocol has none.
        max_size: the largest body that is accepted, in bytes; None if the protocol's codec has checked it already.
        has_sizes: the bodies of one run may differ in length; if not, the first one tells the length of all.

    Attributes:
        published_total: messages published.
        unroutable_total: of them, those that reached no queue.
    """

    __slots__ = (
        "_channel", "_connection_name", "_has_sizes", "_max_size", "_replies", "_route", "_size", "_sized_total",
        "_sizes", "_username", "_vhost", "published_total", "unroutable_total",
    )  # fmt: skip

    def __init__(
        self,
        vhost: Vhost,
        replies: Replies,
        route: Callable[[Exchange, Envelope], Routed],
        sizes: Histogram,
        *,
        connection_name: str,
        username: str,
        channel: int = 0,
        max_size: int | None = None,
        has_sizes: bool = False,
    ) -> None:
        self._vhost = vhost
        self._replies = replies
        self._route = route
        self._sizes = sizes
        self._connection_name = connection_name
        self._username = username
        self._channel = channel
        self._max_size = max_size
        self._has_sizes = has_sizes
        self._size = self._sized_total = 0  # of the last bodies; how many publishes are in the histogram
        self.published_total = 0
        self.unroutable_total = 0

    def publish(self, target: PublishTarget, envelope: Envelope, bodies: list[bytes]) -> Outcome:
        """Route a run of messages that share an envelope, and put them into the queues. Synchronous.

        Args:
            target: current: its epoch is the virtual host's.
            envelope: as published; what is delivered has lost its BCC header.
            bodies: at least one.

        Raises:
            PreconditionFailed: a body is larger than max_size.
            InvalidArgument, AccessRefused, AuthorizationPending: as `route`. In each case nothing has been published.
        """
        exchange = target.exchange
        queues = target.queues
        delivered = envelope
        if queues is None:
            if not exchange.name and is_reply_queue(target.routing_key):
                return self._reply(target, envelope, bodies)
            routed = self._route(exchange, envelope)
            queues, delivered = routed.queues, routed.envelope
            is_durable = any(queue.is_durable for queue in queues)
            if routed.is_stable and not target.is_routed_by_headers:
                target.queues = queues
                target.is_durable = is_durable
        else:
            is_durable = target.is_durable
        count = len(bodies)
        if len(bodies[0]) != self._size or (count > 1 and self._has_sizes):
            self._note(bodies)
        self.published_total += count
        exchange.published_in += count
        if self._vhost.tracer is not None:
            self._vhost.tracer.published(
                envelope, bodies, queues, self._connection_name, self._channel, self._username
            )
        if len(queues) == 1:
            exchange.published_out += count
            return True, queues[0].publish(delivered, bodies), is_durable and envelope.is_persistent
        if not queues:
            self.unroutable_total += count
            return False, 0, False
        exchange.published_out += count * len(queues)
        rejected = 0
        for queue in queues:
            rejected = max(rejected, queue.publish(delivered, bodies))
        return True, rejected, is_durable and envelope.is_persistent

    def publish_each(
        self, exchange: Exchange, queues: tuple[Queue, ...], envelopes: list[Envelope], bodies: list[bytes]
    ) -> bool:
        """Put messages with an envelope each into the queues of remembered targets.

        Args:
            exchange, queues: of all their targets, which are current; at least one queue, and none that may reject.
            envelopes, bodies: of equal length, at least one.

        Returns:
            Whether the messages must be durable before the publisher is answered.

        Raises:
            PreconditionFailed: a body is larger than max_size; nothing has been published.
        """
        count = len(bodies)
        size = self._size
        if [body for body in bodies if len(body) != size]:
            self._note_each(bodies)
        self.published_total += count
        exchange.published_in += count
        exchange.published_out += count * len(queues)
        is_durable = False
        for queue in queues:
            queue.publish_each(envelopes, bodies)
            is_durable = is_durable or queue.is_durable
        return is_durable and any(envelope.is_persistent for envelope in envelopes)

    def refused(self, bodies: list[bytes]) -> None:
        """Count messages that the publisher may not publish, and that were dropped."""
        self._note(bodies)
        self.published_total += len(bodies)
        self.unroutable_total += len(bodies)

    def note_sizes(self) -> None:
        """Bring the histogram up to date: what was published since the last call was of one size."""
        count = self.published_total - self._sized_total
        if count:
            self._sizes.add(self._size, count)
            self._sized_total = self.published_total

    def _note(self, bodies: list[bytes]) -> None:
        """The size changes with these bodies, which are published next; or they are of several sizes."""
        size, count = len(bodies[0]), len(bodies)
        if self._max_size is not None and size > self._max_size:
            raise PreconditionFailed(
                f"message size {size} is larger than configured max size {self._max_size}"
            )
        if size != self._size:
            self.note_sizes()
            self._size = size
        if count > 1 and self._has_sizes and sum(map(len, bodies)) != size * count:
            self.note_sizes()
            for body in bodies:
                self._sizes.add(len(body), 1)
            self._sized_total += count

    def _note_each(self, bodies: list[bytes]) -> None:
        """As `_note`, for bodies that may all differ in size."""
        sizes = Counter(map(len, bodies))
        if self._max_size is not None and max(sizes) > self._max_size:
            raise PreconditionFailed(
                f"message size {max(sizes)} is larger than configured max size {self._max_size}"
            )
        self.note_sizes()
        for size, count in sizes.items():
            self._sizes.add(size, count)
        self._sized_total += len(bodies)

    def _reply(self, target: PublishTarget, envelope: Envelope, bodies: list[bytes]) -> Outcome:
        """A reply to a requester that consumes from amq.rabbitmq.reply-to: no queue, straight to its channel."""
        count = len(bodies)
        if len(bodies[0]) != self._size or (count > 1 and self._has_sizes):
            self._note(bodies)
        self.published_total += count
        if self._replies.deliver(target.routing_key, envelope, bodies):
            return True, 0, False
        self.unroutable_total += count
        return False, 0, False


def publish_internal(vhost: Vhost, exchange_name: str, envelope: Envelope, body: bytes) -> int:
    """Publish on the broker's own behalf, at most once: to internal exchanges too, without permissions, untraced.

    Returns:
        The number of queues that the message reached; 0 if there is no such exchange.
    """
    exchange = vhost.exchanges.get(exchange_name)
    if exchange is None:
        return 0
    routed = routing.route(exchange, envelope)
    exchange.published_in += 1
    exchange.published_out += len(routed.queues)
    for queue in routed.queues:
        queue.publish(routed.envelope, [body])
    if routed.queues:
        vhost.services.dispatcher.run_soon()  # the caller need not be an entry from I/O
    return len(routed.queues)

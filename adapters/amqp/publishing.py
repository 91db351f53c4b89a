"""Publishing on one channel: from the bytes of basic.publish to queues, with routes and envelopes remembered."""

from __future__ import annotations

from typing import TYPE_CHECKING

from leveret.adapters.amqp.delivery import content_frames
from leveret.adapters.amqp.faults import ChannelFault, ConnectionFault
from leveret.adapters.amqp.methods import BasicReturn, method_frame
from leveret.core.fields import FieldError
from leveret.core.message import Envelope
from leveret.core.properties import validate_header
from leveret.core.reply_to import REPLY_TO, is_reply_queue

if TYPE_CHECKING:
    from leveret.adapters.amqp.channel import Channel
    from leveret.core.exchange import Exchange
    from leveret.core.queue.queue import Queue
__all__ = ["PROTOCOL", "Publisher"]

PROTOCOL = "amqp091"  # in metrics

# Property flags that need a look before a message is taken (AMQP 4.2.6.1).
FLAG_HEADERS, FLAG_REPLY_TO, FLAG_USER_ID = 1 << 13, 1 << 9, 1 << 4
LOOK_AT = FLAG_HEADERS | FLAG_REPLY_TO | FLAG_USER_ID
REMEMBERED_TARGETS = (
    512  # per channel; then all are forgotten: a publisher with more keys than that has no hot one
)
REMEMBERED_ENVELOPES = 64  # per target


class Target:
    """Where the publishes with one (exchange, routing key, flags) go, as long as the epoch holds."""

    __slots__ = ("envelopes", "epoch", "exchange", "is_mandatory", "queues", "routing_key")

    def __init__(self, epoch: int, exchange: Exchange, routing_key: str, is_mandatory: bool) -> None:
        self.epoch = epoch
        self.exchange = exchange
        self.routing_key = routing_key
        self.is_mandatory = is_mandatory
        self.queues: tuple[Queue, ...] | None = None  # once known, if only the routing key decides
        # Property bytes -> the envelope of such a message, and whether its headers take part in routing.
        self.envelopes: dict[bytes, tuple[Envelope, bool]] = {}


class Publisher:
    """The publishing half of a channel."""

    def __init__(self, channel: Channel) -> None:
        self._channel = channel
        self._session = channel.session
        self._vhost = channel.session.vhost
        self._targets: dict[bytes, Target] = {}
        self._max_size = channel.connection.settings.limits.max_message_size
        self._sizes = channel.connection.broker.traffic.sizes_of(PROTOCOL)
        self._size = self._sized_total = 0  # of the last bodies; how many publishes are in the histogram
        self.published_total = 0
        self.unroutable_total = 0
        self.returned_total = 0

    def note_sizes(self) -> None:
        """What was published since the last time was of one size: into the histogram with it."""
        count = self.published_total - self._sized_total
        if count:
            self._sizes.add(self._size, count)
            self._sized_total = self.published_total

    def forget(self) -> None:
        """Something that remembered envelopes depend on has changed."""
        self._targets.clear()

    def target(self, key: bytes) -> Target:
        """Resolve the publish method's arguments; checks existence and permission. Raises core's refusals."""
        target = self._targets.get(key)
        if target is not None and target.epoch == self._vhost.epoch:
            return target
        try:
            exchange_end = 1 + key[0]
            key_end = exchange_end + 1 + key[exchange_end]
            exchange_name = key[1:exchange_end].decode("utf-8", "surrogateescape")
            routing_key = key[exchange_end + 1 : key_end].decode("utf-8", "surrogateescape")
            flags = key[key_end]
            if key_end + 1 != len(key):
                raise IndexError
        except IndexError:
            raise ConnectionFault(502, "malformed basic.publish", (60, 40)) from None
        if flags & 2:
            raise ConnectionFault(540, "immediate=true", (60, 40))
        if "\r" in exchange_name or "\n" in exchange_name:
            exchange_name = exchange_name.replace("\r", "").replace("\n", "")
        resolved = self._session.target(exchange_name, routing_key)
        target = Target(self._vhost.epoch, resolved.exchange, resolved.routing_key, bool(flags & 1))
        if len(self._targets) >= REMEMBERED_TARGETS:
            self._targets.clear()
        self._targets[key] = target
        return target

    def publish(self, key: bytes, header: bytes, bodies: list[bytes]) -> tuple[int, bool]:
        """Route and enqueue. Returns how many of the last bodies were rejected, and whether the store matters."""
        target = self._targets.get(key)
        if target is None or target.epoch != self._vhost.epoch:
            target = self.target(key)
        remembered = target.envelopes.get(header)
        if remembered is None:
            remembered = self._envelope(target, header)
        envelope, is_routed_by_headers = remembered
        published = envelope  # as it came; what is delivered has lost its BCC header
        size = len(bodies[0])  # of all: a run is of alike messages
        if size != self._size:
            if size > self._max_size:
                raise ChannelFault(
                    406, f"message size {size} is larger than configured max size {self._max_size}"
                )
            self.note_sizes()
            self._size = size
        queues = target.queues
        if queues is None or is_routed_by_headers:
            if is_reply_queue(target.routing_key) and not target.exchange.name:
                return self._reply(target, envelope, bodies)
            routed = self._session.route(target.exchange, envelope)
            queues, envelope = routed.queues, routed.envelope
            if routed.is_stable and not is_routed_by_headers:
                target.queues = queues
        count = len(bodies)
        self.published_total += count
        target.exchange.published_in += count
        target.exchange.published_out += count * len(queues)
        if not queues:
            self.unroutable_total += count
            if target.is_mandatory:
                self._return(published, bodies)
        tracer = self._vhost.tracer
        if tracer is not None:
            channel = self._channel
            tracer.published(
                published,
                bodies,
                queues,
                channel.connection.name,
                channel.number,
                self._session.principal.username,
            )
        if len(queues) == 1:
            queue = queues[0]
            return queue.publish(envelope, bodies), envelope.is_persistent and queue.is_durable
        rejected = 0
        needs_store = False
        for queue in queues:
            rejected = max(rejected, queue.publish(envelope, bodies))
            needs_store = needs_store or (envelope.is_persistent and queue.is_durable)
        return rejected, needs_store

    def _envelope(self, target: Target, header: bytes) -> tuple[Envelope, bool]:
        """The envelope of messages with these properties, checked. Raises InvalidArgument and core's refusals."""
        try:
            validate_header(header)
        except (FieldError, ValueError) as error:
            raise ConnectionFault(502, f"malformed content properties: {error}", (60, 40)) from error
        envelope = Envelope(target.exchange.name, target.routing_key, header)
        flags = header[0] << 8 | header[1]
        is_routed_by_headers = False
        if flags & LOOK_AT:
            properties = envelope.properties
            if flags & FLAG_USER_ID:
                self._session.check_user_id(properties.user_id)
            if flags & FLAG_REPLY_TO and properties.reply_to == REPLY_TO:
                properties.reply_to = self._channel.reply_address()
                envelope = Envelope.of(target.exchange.name, target.routing_key, properties)
            headers = properties.headers
            is_routed_by_headers = headers is not None and ("CC" in headers or "BCC" in headers)
        if len(target.envelopes) >= REMEMBERED_ENVELOPES:
            target.envelopes.clear()
        remembered = target.envelopes[header] = (envelope, is_routed_by_headers)
        return remembered

    def _return(self, envelope: Envelope, bodies: list[bytes]) -> None:
        """basic.return: before the confirm, with the original properties and body."""
        channel = self._channel
        self.returned_total += len(bodies)
        start = method_frame(
            channel.number,
            BasicReturn(
                reply_code=312,
                reply_text="NO_ROUTE",
                exchange=envelope.exchange,
                routing_key=envelope.routing_key,
            ),
        )
        frame_max = channel.connection.frame_max
        for body in bodies:
            channel.outbox.write(start)
            for piece in content_frames(channel.number, envelope.header, body, frame_max):
                channel.outbox.write(piece)

    def _reply(self, target: Target, envelope: Envelope, bodies: list[bytes]) -> tuple[int, bool]:
        """A reply to a requester that consumes from amq.rabbitmq.reply-to: no queue, straight to its channel."""
        self.published_total += len(bodies)
        if not self._channel.connection.replies.deliver(target.routing_key, envelope, bodies):
            self.unroutable_total += len(bodies)
            if target.is_mandatory:
                self._return(envelope, bodies)
        return 0, False

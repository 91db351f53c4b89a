"""SEND: from headers to queues, with destinations, envelopes and routes remembered per head."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from leveret.adapters.stomp.destinations import parse_destination
from leveret.adapters.stomp.faults import StompFault
from leveret.adapters.stomp.headers import boolean, properties_of, queue_arguments
from leveret.adapters.stomp.requests import TEMPORARY
from leveret.adapters.stomp.settings import StompSettings
from leveret.core.errors import InvalidArgument
from leveret.core.fields import FieldError
from leveret.core.message import Envelope
from leveret.core.reply_to import is_reply_queue

if TYPE_CHECKING:
    from leveret.adapters.stomp.connection import StompConnection
    from leveret.adapters.stomp.parser import SendHead
    from leveret.core.exchange import Exchange
    from leveret.core.queue.queue import Queue
    from leveret.core.session import Session
__all__ = ["PROTOCOL", "Publisher", "Target"]

PROTOCOL = "stomp"  # in metrics

REMEMBERED_PLACES = 512  # per connection; then all are forgotten
REMEMBERED_QUEUES = 4096  # then all are forgotten, and declared again


class Place:
    """What a destination leads to, checked and declared, as long as the virtual host's epoch is `epoch`."""

    __slots__ = ("epoch", "exchange", "queues", "routing_key")

    def __init__(self, epoch: int, exchange: Exchange, routing_key: str) -> None:
        self.epoch = epoch
        self.exchange = exchange
        self.routing_key = routing_key
        self.queues: tuple[Queue, ...] | None = None  # once known, if only the routing key decides


class Target:
    """What a SEND's headers lead to, as long as its place is what it was."""

    __slots__ = ("envelope", "is_routed_by_headers", "place")

    def __init__(self, place: Place, envelope: Envelope, *, is_routed_by_headers: bool) -> None:
        self.place = place
        self.envelope = envelope
        self.is_routed_by_headers = is_routed_by_headers


class Publisher:
    """The publishing half of a connection."""

    __slots__ = (
        "_connection",
        "_declared",
        "_places",
        "_session",
        "_size",
        "_sized_total",
        "_sizes",
        "_topic_exchange",
        "_vhost",
        "published_total",
        "unroutable_total",
    )

    def __init__(self, connection: StompConnection, session: Session) -> None:
        self._connection = connection
        self._session = session
        self._vhost = session.vhost
        self._topic_exchange = StompSettings.of(connection.settings).default_topic_exchange
        self._declared: set[str] = set()  # by this connection
        self._places: dict[str, Place] = {}
        self._sizes = connection.broker.traffic.sizes_of(PROTOCOL)
        self._size = self._sized_total = 0  # of the last bodies; how many of them are in the histogram
        self.published_total = 0
        self.unroutable_total = 0

    def target(self, head: SendHead) -> Target:
        """Resolve; checks, and declares what the destination stands for. Raise StompFault, BrokerError,
        AuthorizationPending."""
        target: Target | None = head.target
        vhost = self._vhost
        if target is not None and target.place.epoch == vhost.epoch:
            return target
        headers = head.headers
        text = headers.get("destination")
        if text is None:
            raise StompFault("Missing destination", "\"SEND\" must include a 'destination' header\n")
        if "message-id" in headers:
            raise StompFault("Invalid header", "'message-id' is not allowed on 'SEND'.\n")
        place = self._place(text, headers)
        # A reply queue may have gone meanwhile; all else of an envelope is in the headers.
        if target is not None and not headers.get("reply-to", "").startswith(TEMPORARY):
            envelope = target.envelope
        else:
            envelope = self._envelope(place.exchange.name, place.routing_key, headers)
            if place.epoch != vhost.epoch:  # it has made one
                place = self._place(text, headers)
        head.target = target = Target(
            place, envelope, is_routed_by_headers="CC" in headers or "BCC" in headers
        )
        return target

    def _place(self, text: str, headers: Mapping[str, str]) -> Place:
        """As `target`, for a destination."""
        place = self._places.get(text)
        if place is not None and place.epoch == self._vhost.epoch:
            return place
        destination = parse_destination(text, self._topic_exchange)
        if destination.kind == "temp-queue":
            raise StompFault("Invalid destination", f"'{text}' is not a valid destination for 'SEND'\n")
        if destination.kind == "queue":
            self.declare(destination.queue, headers, boolean(headers, "durable"))
        resolved = self._session.target(destination.exchange, destination.routing_key)
        place = Place(self._vhost.epoch, resolved.exchange, resolved.routing_key)
        if len(self._places) >= REMEMBERED_PLACES:
            self._places.clear()
        self._places[text] = place
        return place

    def _envelope(self, exchange: str, routing_key: str, headers: dict[str, str]) -> Envelope:
        reply_to = headers.get("reply-to")
        temporary: str | None = None
        if reply_to is not None and reply_to.startswith(TEMPORARY):
            temporary_id = parse_destination(reply_to, self._topic_exchange).queue
            temporary = self._connection.subscriptions.reply_queue(temporary_id)
        try:
            properties = properties_of(headers, temporary)
            self._session.check_user_id(properties.user_id)
            return Envelope.of(exchange, routing_key, properties)
        except InvalidArgument:  # an expiration that is none
            raise
        except (FieldError, ValueError) as error:
            raise StompFault("Invalid header", f"A header does not fit: {error}\n") from error

    def declare(self, name: str, headers: Mapping[str, str], is_durable: bool | None) -> Queue:
        """The queue of a /queue destination, durable unless is_durable is false; of SEND and SUBSCRIBE alike.

        Once per connection, as RabbitMQ does: later frames need not repeat the headers. Raise core's refusals and
        StompFault.
        """
        known = self._vhost.queues.get(name)
        if known is not None and name in self._declared:
            return known
        options: dict[str, bool] = {"durable": True}
        if is_durable is False:  # RabbitMQ's defaults for those: they are private
            options = {"durable": False, "exclusive": True, "auto_delete": True}
        for option, header in (("exclusive", "exclusive"), ("auto_delete", "auto-delete")):
            value = boolean(headers, header)
            if value is not None:
                options[option] = value
        queue = self._session.queue_declare(name, arguments=queue_arguments(headers), **options)
        if len(self._declared) >= REMEMBERED_QUEUES:
            self._declared.clear()
        self._declared.add(name)
        return queue

    def _note(self, bodies: list[bytes]) -> None:
        """Of bodies that were published just now: their sizes, into the histogram. Without content-length a run of alike
        frames has bodies of any size."""
        size, count = len(bodies[0]), len(bodies)
        if size != self._size:
            self.note_sizes(but=count)
            self._size = size
        if count > 1 and sum(map(len, bodies)) != size * count:
            self.note_sizes(but=count)
            for body in bodies:
                self._sizes.add(len(body), 1)
            self._sized_total = self.published_total

    def note_sizes(self, *, but: int = 0) -> None:
        """What was published since the last time was of one size, but for the last so many: into the histogram with it."""
        count = self.published_total - self._sized_total - but
        if count:
            self._sizes.add(self._size, count)
            self._sized_total += count

    def check(self, head: SendHead) -> None:
        """All that `publish` could refuse. Raise StompFault, BrokerError, AuthorizationPending."""
        target = self.target(head)
        if target.is_routed_by_headers:
            self._session.route(target.place.exchange, target.envelope)

    def publish(self, head: SendHead, bodies: list[bytes]) -> tuple[int, bool]:
        """Route and enqueue. Returns how many of the last bodies were rejected, and whether the store matters."""
        vhost = self._vhost
        target: Target | None = head.target
        if target is None or target.place.epoch != vhost.epoch:
            target = self.target(head)
        envelope = published = target.envelope
        place = target.place
        queues = place.queues
        exchange = place.exchange
        if queues is None or target.is_routed_by_headers:
            if not exchange.name and is_reply_queue(envelope.routing_key):
                return self._reply(envelope, bodies)
            routed = self._session.route(exchange, envelope)
            queues, envelope = routed.queues, routed.envelope
            if routed.is_stable and not target.is_routed_by_headers:
                place.queues = queues
        count = len(bodies)
        self.published_total += count
        if count > 1 or len(bodies[0]) != self._size:
            self._note(bodies)
        exchange.published_in += count
        exchange.published_out += count * len(queues)
        if not queues:
            self.unroutable_total += count
        tracer = vhost.tracer
        if tracer is not None:
            connection = self._connection
            tracer.published(published, bodies, queues, connection.name, 0, self._session.principal.username)
        is_persistent = envelope.is_persistent
        rejected = 0
        needs_store = False
        for queue in queues:
            rejected = max(rejected, queue.publish(envelope, bodies))
            needs_store = needs_store or (is_persistent and queue.is_durable)
        return rejected, needs_store

    def _reply(self, envelope: Envelope, bodies: list[bytes]) -> tuple[int, bool]:
        """To a requester that consumes from amq.rabbitmq.reply-to: no queue, straight to its channel."""
        self.published_total += len(bodies)
        self._note(bodies)
        if not self._connection.broker.replies.deliver(envelope.routing_key, envelope, bodies):
            self.unroutable_total += len(bodies)
        return 0, False

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
from leveret.core.publishing import Outcome, PublishPipeline, PublishTarget
from leveret.core.remembered import Remembered

if TYPE_CHECKING:
    from leveret.adapters.stomp.connection import StompConnection
    from leveret.adapters.stomp.parser import SendHead
    from leveret.core.queue.queue import Queue
    from leveret.core.session import Session
__all__ = ["PROTOCOL", "Publisher", "StompTarget"]

PROTOCOL = "stomp"  # in metrics

REMEMBERED_QUEUES = 4096  # then all are forgotten, and declared again


class StompTarget:
    """What the headers of a SEND lead to, as long as the epoch of its core target is the virtual host's."""

    __slots__ = ("core", "envelope")

    def __init__(self, core: PublishTarget, envelope: Envelope) -> None:
        self.core = core
        self.envelope = envelope


class Publisher:
    """The publishing half of a connection."""

    __slots__ = (
        "_connection",
        "_declared",
        "_session",
        "_targets",
        "_topic_exchange",
        "_vhost",
        "pipeline",
    )

    def __init__(self, connection: StompConnection, session: Session) -> None:
        self._connection = connection
        self._session = session
        self._vhost = session.vhost
        self._topic_exchange = StompSettings.of(connection.settings).default_topic_exchange
        self._declared: set[str] = set()  # by this connection
        self._targets: Remembered[str, PublishTarget] = Remembered(
            connection.broker.connections
        )  # by destination
        self.pipeline = PublishPipeline(
            self._vhost,
            connection.broker.replies,
            session.route,
            connection.broker.traffic.sizes_of(PROTOCOL),
            connection_name=connection.name,
            username=session.principal.username,
            has_sizes=True,  # without content-length a run of alike frames has bodies of any size
        )

    def target(self, head: SendHead) -> StompTarget:
        """Resolve; checks, and declares what the destination stands for. Raise StompFault, BrokerError,
        AuthorizationPending."""
        target: StompTarget | None = head.target
        vhost = self._vhost
        if target is not None and target.core.epoch == vhost.epoch:
            return target
        headers = head.headers
        text = headers.get("destination")
        if text is None:
            raise StompFault("Missing destination", "\"SEND\" must include a 'destination' header\n")
        if "message-id" in headers:
            raise StompFault("Invalid header", "'message-id' is not allowed on 'SEND'.\n")
        core = self._core_target(text, headers)
        # A reply queue may have gone meanwhile; all else of an envelope is in the headers.
        if target is not None and not headers.get("reply-to", "").startswith(TEMPORARY):
            envelope = target.envelope
        else:
            envelope = self._envelope(core.exchange.name, core.routing_key, headers)
            if core.epoch != vhost.epoch:  # it has made one
                core = self._core_target(text, headers)
        if "CC" in headers or "BCC" in headers:
            core = core.for_headers()
        head.target = target = StompTarget(core, envelope)
        return target

    def _core_target(self, text: str, headers: Mapping[str, str]) -> PublishTarget:
        """As `target`, for a destination."""
        target = self._targets.get(text)
        if target is not None and target.epoch == self._vhost.epoch:
            return target
        destination = parse_destination(text, self._topic_exchange)
        if destination.kind == "temp-queue":
            raise StompFault("Invalid destination", f"'{text}' is not a valid destination for 'SEND'\n")
        if destination.kind == "queue":
            self.declare(destination.queue, headers, boolean(headers, "durable"))
        target = self._session.target(destination.exchange, destination.routing_key)
        self._targets.remember(text, target)
        return target

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

    def check(self, head: SendHead) -> None:
        """All that `publish` could refuse. Raise StompFault, BrokerError, AuthorizationPending."""
        target = self.target(head)
        if target.core.is_routed_by_headers:
            self._session.route(target.core.exchange, target.envelope)

    def publish(self, head: SendHead, bodies: list[bytes]) -> Outcome:
        """Publish a run of SEND frames whose headers are alike.

        Raises:
            StompFault, BrokerError, AuthorizationPending: nothing was published.
        """
        target: StompTarget | None = head.target
        if target is None or target.core.epoch != self._vhost.epoch:
            target = self.target(head)
        return self.pipeline.publish(target.core, target.envelope, bodies)

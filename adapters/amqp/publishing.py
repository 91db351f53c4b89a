"""Publishing on one channel: from the bytes of basic.publish to queues, with routes and envelopes remembered."""

from __future__ import annotations

from typing import TYPE_CHECKING

from leveret.adapters.amqp.delivery import content_frames
from leveret.adapters.amqp.faults import ConnectionFault
from leveret.adapters.amqp.methods import BasicReturn, method_frame
from leveret.core.errors import BrokerError
from leveret.core.fields import FieldError
from leveret.core.message import Envelope
from leveret.core.properties import validate_header
from leveret.core.publishing import Outcome, PublishPipeline, PublishTarget
from leveret.core.remembered import Remembered
from leveret.core.reply_to import REPLY_TO

if TYPE_CHECKING:
    from leveret.adapters.amqp.channel import Channel
    from leveret.core.exchange import Exchange
    from leveret.core.queue.queue import Queue
__all__ = ["PROTOCOL", "Publisher"]

PROTOCOL = "amqp091"  # in metrics

# Property flags that need a look before a message is taken (AMQP 4.2.6.1).
FLAG_HEADERS, FLAG_REPLY_TO, FLAG_USER_ID = 1 << 13, 1 << 9, 1 << 4
LOOK_AT = FLAG_HEADERS | FLAG_REPLY_TO | FLAG_USER_ID
REPLY_TO_BYTES = REPLY_TO.encode()
REMEMBERED_ENVELOPES = 16  # per target


class AmqpTarget:
    """Where the publishes with one (exchange, routing key, flags) go, and what was published there, remembered."""

    __slots__ = ("core", "envelopes", "epoch", "is_mandatory", "last_envelope", "last_header")

    def __init__(self, core: PublishTarget, *, is_mandatory: bool) -> None:
        self.core = core
        self.epoch = core.epoch
        self.is_mandatory = is_mandatory
        self.last_header = b""  # of a message that was not special
        self.last_envelope: Envelope | None = None
        # Property bytes -> the envelope of such a message, and its target: `core`, or the one for CC and BCC headers.
        self.envelopes: dict[bytes, tuple[Envelope, PublishTarget]] = {}


class Publisher:
    """The publishing half of a channel."""

    def __init__(self, channel: Channel) -> None:
        self._channel = channel
        self._session = channel.session
        self._vhost = channel.session.vhost
        self._targets: Remembered[bytes, AmqpTarget] = Remembered(channel.broker.connections)
        connection = channel.connection
        self.pipeline = PublishPipeline(
            self._vhost,
            connection.broker.replies,
            self._session.route,
            connection.broker.traffic.sizes_of(PROTOCOL),
            connection_name=connection.name,
            username=self._session.principal.username,
            channel=channel.number,
            max_size=connection.settings.limits.max_message_size,
        )
        self.returned_total = 0

    def forget(self) -> None:
        """Something that remembered envelopes depend on has changed."""
        self._targets.clear()

    def target(self, key: bytes) -> AmqpTarget:
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
        target = AmqpTarget(resolved, is_mandatory=bool(flags & 1))
        self._targets.remember(key, target)
        return target

    def publish_each(self, keys: list[bytes], headers: list[bytes], bodies: list[bytes]) -> int:
        """Publish messages that are not alike, up to the first that is special.

        Special are messages whose target is not remembered, that are routed by their headers or reach no queue, and
        those that are refused: `publish` answers for each of them.

        Returns:
            How many were published, from the first on.
        """
        vhost, targets = self._vhost, self._targets
        if vhost.tracer is not None:
            return 0
        epoch = vhost.epoch
        envelopes: list[Envelope] = []
        exchange: Exchange | None = None
        queues: tuple[Queue, ...] | None = None
        done = 0
        for key, header in zip(keys, headers, strict=True):
            target = targets.get(key)
            if target is None or target.epoch != epoch:
                break
            core = target.core
            if core.queues != queues or core.exchange is not exchange:
                if not core.queues or any(queue.may_reject for queue in core.queues):
                    break
                if envelopes:
                    done += self._publish_part(exchange, queues, envelopes, bodies, done)
                    envelopes = []
                exchange, queues = core.exchange, core.queues
            envelope = target.last_envelope
            if envelope is None or header != target.last_header:
                try:
                    envelope = self._plain_envelope(core, header)
                except (BrokerError, ConnectionFault):
                    break  # `publish` raises it again, when all messages before this one are published
                if envelope is None:
                    break
                target.last_header, target.last_envelope = header, envelope
            envelopes.append(envelope)
        if envelopes:
            done += self._publish_part(exchange, queues, envelopes, bodies, done)
        return done

    def _publish_part(
        self,
        exchange: Exchange | None,
        queues: tuple[Queue, ...] | None,
        envelopes: list[Envelope],
        bodies: list[bytes],
        start: int,
    ) -> int:
        assert exchange is not None
        assert queues is not None
        count = len(envelopes)
        part = bodies[start : start + count] if start or count != len(bodies) else bodies
        needs_store = self.pipeline.publish_each(exchange, queues, envelopes, part)
        self._channel.published(count, 0, needs_store=needs_store)
        return count

    def publish(self, key: bytes, header: bytes, bodies: list[bytes]) -> Outcome:
        """Publish a run of messages that differ only in their bodies, which are of one length.

        Args:
            key: the bytes of the publish method's arguments.
            header: the bytes of the properties.

        Raises:
            ConnectionFault, core's errors, AuthorizationPending: nothing was published.
        """
        target = self._targets.get(key)
        if target is None or target.epoch != self._vhost.epoch:
            target = self.target(key)
        remembered = target.envelopes.get(header)
        if remembered is None:
            remembered = self._envelope(target, header)
        envelope, core = remembered
        outcome = self.pipeline.publish(core, envelope, bodies)
        if target.is_mandatory and not outcome[0]:
            self._return(envelope, bodies)
        return outcome

    def _plain_envelope(self, core: PublishTarget, header: bytes) -> Envelope | None:
        """The envelope of a message, if nothing in its properties but their own form has to be checked; else None."""
        if header[0] & LOOK_AT >> 8 or header[1] & LOOK_AT & 0xFF:
            flags = header[0] << 8 | header[1]
            if (
                flags & FLAG_USER_ID
                or (flags & FLAG_REPLY_TO and REPLY_TO_BYTES in header)
                or (flags & FLAG_HEADERS and b"CC" in header)
            ):
                return None
        self._check(header)
        return Envelope(core.exchange.name, core.routing_key, header)

    @staticmethod
    def _check(header: bytes) -> None:
        try:
            validate_header(header)
        except (FieldError, ValueError) as error:
            raise ConnectionFault(502, f"malformed content properties: {error}", (60, 40)) from error

    def _envelope(self, target: AmqpTarget, header: bytes) -> tuple[Envelope, PublishTarget]:
        """The envelope of messages with these properties, checked, and where they go. Raises core's refusals."""
        core = target.core
        envelope = self._plain_envelope(core, header)
        if envelope is None:
            self._check(header)
            envelope = Envelope(core.exchange.name, core.routing_key, header)
            properties = envelope.properties
            self._session.check_user_id(properties.user_id)
            if properties.reply_to == REPLY_TO:
                properties.reply_to = self._channel.reply_address()
                envelope = Envelope.of(core.exchange.name, core.routing_key, properties)
            headers = properties.headers
            if headers is not None and ("CC" in headers or "BCC" in headers):
                core = core.for_headers()
        if len(target.envelopes) >= REMEMBERED_ENVELOPES:
            target.envelopes.clear()
        remembered = target.envelopes[header] = (envelope, core)
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

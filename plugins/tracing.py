"""Tracing (RabbitMQ's firehose): copies of published and delivered messages go to amq.rabbitmq.trace (rabbit_trace.erl)."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import fields
from itertools import groupby
from typing import TYPE_CHECKING, Any, ClassVar

import trio

from leveret.core.errors import NotFound, PreconditionFailed
from leveret.core.message import Envelope, Message
from leveret.core.properties import Properties
from leveret.core.publishing import publish_internal
from leveret.core.routing import routing_keys
from leveret.core.vhost import TRACE_EXCHANGE

if TYPE_CHECKING:
    from leveret.core.broker import Broker
    from leveret.core.message import MessageQueue
    from leveret.core.vhost import Vhost
__all__ = ["Firehose", "TracingPlugin"]

log = logging.getLogger(__name__)

# RabbitMQ lists properties from the last to the first.
PROPERTY_NAMES = tuple(field.name for field in reversed(fields(Properties)))
MAX_LISTED_QUEUES = 1000  # the headers must fit into one frame (131072 bytes by default)
MAX_KEY_BYTES = 255


class Firehose:
    """The tracer of one virtual host. Traces are delivered at most once: publishing does not wait until they are stored."""

    def __init__(self, vhost: Vhost, node_name: str) -> None:
        self._vhost = vhost
        self._node_name = node_name

    def published(
        self,
        envelope: Envelope,
        bodies: Sequence[bytes],
        queues: Sequence[MessageQueue],
        connection_name: str,
        channel: int,
        username: str,
    ) -> None:
        if envelope.exchange == TRACE_EXCHANGE:
            return
        with self._guarded():
            headers = self._common(envelope) | {
                "vhost": self._vhost.name,
                "connection": connection_name,
                "channel": channel,
                "user": username,
                "routed_queues": [queue.name for queue in queues[:MAX_LISTED_QUEUES]],
            }
            self._publish(f"publish.{envelope.exchange}", headers, bodies)

    def delivered(
        self,
        queue: MessageQueue,
        messages: Sequence[Message],
        connection_name: str,
        channel: int,
        username: str,
    ) -> None:
        # Messages that share an envelope get traces that share one, too.
        for (_, is_redelivered), alike in groupby(
            messages, lambda one: (id(one.envelope), one.is_redelivered)
        ):
            run = list(alike)
            envelope = run[0].envelope
            if envelope.exchange == TRACE_EXCHANGE:
                continue
            with self._guarded():
                headers = self._common(envelope) | {
                    "redelivered": int(is_redelivered),
                    "vhost": self._vhost.name,
                    "connection": connection_name,
                    "channel": channel,
                    "user": username,
                }
                self._publish(f"deliver.{queue.name}", headers, [message.body for message in run])

    def _common(self, envelope: Envelope) -> dict[str, Any]:
        return {
            "exchange_name": envelope.exchange,
            "routing_keys": list(routing_keys(envelope)),
            "properties": dict(_set_properties(envelope.properties)),
            "node": self._node_name,
        }

    def _publish(self, key: str, headers: dict[str, Any], bodies: Sequence[bytes]) -> None:
        envelope = Envelope.of(TRACE_EXCHANGE, _shortened(key), Properties(headers=headers))
        for body in bodies:
            publish_internal(self._vhost, TRACE_EXCHANGE, envelope, body)

    @contextmanager
    def _guarded(self) -> Iterator[None]:
        """Switch tracing off after an error, so that publishers and consumers are not affected."""
        try:
            yield
        except Exception:
            log.exception("vhost=%s tracing failed and is switched off", self._vhost.name)
            self._vhost.tracer = None


def _set_properties(properties: Properties) -> Iterator[tuple[str, Any]]:
    for name in PROPERTY_NAMES:
        value = getattr(properties, name)
        if name == "headers" and value is not None:
            value = {key: item for key, item in value.items() if key != "BCC"}
        if value is not None:
            yield name, value


def _shortened(key: str) -> str:
    """The key, cut to the length of an AMQP shortstr: with its prefix, the longest name does not fit."""
    raw = key.encode("utf-8", "surrogateescape")
    return key if len(raw) <= MAX_KEY_BYTES else raw[:MAX_KEY_BYTES].decode("utf-8", "ignore")


class TracingPlugin:
    """Switches tracing on and off, for each virtual host. It is off after a restart and while the plugin is disabled."""

    name: ClassVar[str] = "tracing"
    description: ClassVar[str] = (
        "The firehose: copies of all messages to amq.rabbitmq.trace, per virtual host"
    )
    requires: ClassVar[Sequence[str]] = ()
    exchanges: ClassVar[Sequence[str]] = ()
    settings_type: ClassVar[type | None] = None

    def __init__(self) -> None:
        self._broker: Broker | None = None

    async def run(
        self, broker: Broker, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED
    ) -> None:
        self._broker = broker
        broker.services[self.name] = self
        task_status.started()
        try:
            await trio.sleep_forever()
        finally:
            del broker.services[self.name]
            for vhost in broker.vhosts.values():
                if isinstance(vhost.tracer, Firehose):
                    vhost.tracer = None
            self._broker = None

    def trace_on(self, vhost_name: str) -> None:
        """Start tracing a virtual host. Raise NotFound; PreconditionFailed if the plugin does not run."""
        broker, vhost = self._find(vhost_name)
        if vhost.tracer is None:
            vhost.tracer = Firehose(vhost, broker.node_name)
            log.info("vhost=%s tracing is on", vhost_name)

    def trace_off(self, vhost_name: str) -> None:
        """Stop tracing a virtual host. Raise NotFound; PreconditionFailed if the plugin does not run."""
        _, vhost = self._find(vhost_name)
        if isinstance(vhost.tracer, Firehose):
            vhost.tracer = None
            log.info("vhost=%s tracing is off", vhost_name)

    def is_tracing(self, vhost_name: str) -> bool:
        """Whether a virtual host is traced. Raise NotFound; PreconditionFailed if the plugin does not run."""
        _, vhost = self._find(vhost_name)
        return isinstance(vhost.tracer, Firehose)

    def _find(self, vhost_name: str) -> tuple[Broker, Vhost]:
        if self._broker is None:
            raise PreconditionFailed("plugin 'tracing' is not running: enable it first")
        vhost = self._broker.vhosts.get(vhost_name)
        if vhost is None:
            raise NotFound(f"no vhost '{vhost_name}'")
        return self._broker, vhost

"""A virtual host: names to exchanges and queues, the bindings between them, and one epoch for all who remember routes.

What is here always succeeds; whether it may be done is decided before, in topology/.
"""

from __future__ import annotations

import logging
from collections.abc import Hashable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

from leveret.core import routing
from leveret.core.bindings import binding_identity
from leveret.core.definitions import records
from leveret.core.errors import NotFound
from leveret.core.exchange import Arguments, Binding, Exchange, ExchangeType
from leveret.core.exchanges.direct import DirectExchange
from leveret.core.queue.queue import Queue
from leveret.core.routing import Routed

if TYPE_CHECKING:
    from leveret.core.churn import Churn
    from leveret.core.counters import Traffic
    from leveret.core.dispatcher import Dispatcher
    from leveret.core.events import Events
    from leveret.core.message import Envelope
    from leveret.core.queue.limits import QueueLimits
    from leveret.core.registry import Registry
    from leveret.core.store.base import Store
    from leveret.core.timers import Timers
    from leveret.core.tracer import Tracer
__all__ = [
    "PREDECLARED",
    "TRACE_EXCHANGE",
    "VHOST_LIMITS",
    "AppliedPolicies",
    "Exchange",
    "ParameterComponent",
    "Services",
    "Vhost",
]

log = logging.getLogger(__name__)

TRACE_EXCHANGE = "amq.rabbitmq.trace"
VHOST_LIMITS = ("max-connections", "max-queues")
# Name and type of the exchanges that every virtual host has (AMQP 3.1.3), beside the default one.
PREDECLARED = (
    ("amq.direct", "direct"), ("amq.fanout", "fanout"), ("amq.headers", "headers"), ("amq.match", "headers"),
    (TRACE_EXCHANGE, "topic"), ("amq.topic", "topic"),
)  # fmt: skip


class ParameterComponent(Protocol):
    """Who owns the runtime parameters of a component, in `Broker.components`."""

    def check(self, vhost: Vhost, name: str, value: Any) -> Any:
        """The value as it is to be kept. Raise InvalidArgument."""

    def masked(self, value: Any) -> Any:
        """The value as it may be shown: without secrets."""


class AppliedPolicies(Protocol):
    """Which policies things of a virtual host are under. core.policy.Policies does it."""

    def limits(self, vhost: str, name: str, queue_type: str, arguments: Arguments) -> QueueLimits:
        """For a queue that is about to be."""

    def name_queue(self, queue: Queue) -> object:
        """Note on the queue which policies it is under."""

    def apply_to_exchange(self, exchange: Exchange) -> None:
        """Note on the exchange which policy it is under, and its effect."""


@dataclass(frozen=True, slots=True)
class Services:
    """What virtual hosts and their queues work with: one of each per broker.

    components      who checks runtime parameters, by component
    window_messages, window_bytes  see core.queue.services.QueueServices
    """

    store: Store
    dispatcher: Dispatcher
    timers: Timers
    events: Events
    traffic: Traffic
    churn: Churn
    registry: Registry
    policies: AppliedPolicies
    components: dict[str, ParameterComponent]
    window_messages: int
    window_bytes: int


class Vhost:
    """One namespace. `epoch` grows with every change that may change a route or a permission."""

    def __init__(
        self,
        services: Services,
        name: str,
        *,
        description: str = "",
        tags: Iterable[str] = (),
        default_queue_type: str = "classic",
        limits: dict[str, int] | None = None,
        is_protected: bool = False,
    ) -> None:
        self.services = services
        self._events = services.events
        self.name = name
        self.description = description
        self.tags = tuple(tags)
        self.default_queue_type = default_queue_type
        self.is_protected = is_protected  # from deletion
        self.limits: dict[str, int] = dict(limits or {})  # max-connections, max-queues; negative: none
        self.epoch = 1
        self.tracer: Tracer | None = None
        self.parameters: dict[
            tuple[str, str], Any
        ] = {}  # runtime parameters: by component and name, as JSON has them
        self.exchanges: dict[str, Exchange] = {}
        self.queues: dict[str, Queue] = {}
        self.is_closed = False
        # What leads to a destination: for deletions, which must not look at every binding there is.
        self._sources: dict[Queue | Exchange, dict[tuple[Exchange, Hashable], Binding]] = {}
        self._exclusive: dict[object, dict[str, Queue]] = {}  # by owning connection
        self.default_exchange = self._predeclare("", "direct", DirectExchange({}))
        for exchange_name, exchange_type in PREDECLARED:
            router = services.registry.exchange_type(exchange_type)({})
            self._predeclare(exchange_name, exchange_type, router)

    def _predeclare(self, name: str, type: str, router: ExchangeType) -> Exchange:
        exchange = self.exchanges[name] = Exchange(
            self,
            name,
            type,
            router,
            durable=True,
            auto_delete=False,
            internal=name == TRACE_EXCHANGE,
            arguments={},
        )
        self.services.policies.apply_to_exchange(exchange)
        return exchange

    def __repr__(self) -> str:
        return f"<Vhost {self.name!r} exchanges={len(self.exchanges)} queues={len(self.queues)} epoch={self.epoch}>"

    # -- routing

    def route(self, exchange_name: str, envelope: Envelope) -> Routed:
        """To which queues an exchange leads. Raise NotFound if it is not there; see `routing.route`."""
        exchange = self.exchanges.get(exchange_name)
        if exchange is None:
            raise NotFound(f"no exchange '{exchange_name}' in vhost '{self.name}'")
        return routing.route(exchange, envelope)

    def bindings(self) -> Iterator[tuple[Exchange, Binding]]:
        """Every (source, binding), the default exchange's implicit ones included."""
        for queue in self.queues.values():
            yield self.default_exchange, Binding(queue, queue.name)
        for exchange in self.exchanges.values():
            for binding in exchange.bindings.values():
                yield exchange, binding

    def bindings_to(self, destination: Queue | Exchange) -> Iterator[tuple[Exchange, Binding]]:
        """Every (source, binding) that leads there, the implicit one of a queue included."""
        if destination.kind == "queue":
            yield self.default_exchange, Binding(destination, destination.name)
        for (source, _), binding in self._sources.get(destination, {}).items():
            yield source, binding

    # -- exchanges

    def add_exchange(self, exchange: Exchange) -> None:
        self.exchanges[exchange.name] = exchange
        self.services.policies.apply_to_exchange(exchange)
        self.epoch += 1
        if exchange.is_durable:
            records.save_exchange(self.services.store, exchange)
        self._events.emit(
            "exchange.created",
            name=exchange.name,
            vhost=self.name,
            type=exchange.type,
            durable=exchange.is_durable,
            auto_delete=exchange.is_auto_delete,
            internal=exchange.is_internal,
            arguments=exchange.arguments,
        )

    def remove_exchange(self, exchange: Exchange) -> None:
        """With the bindings from it and to it; auto-delete exchanges that led only there go too."""
        if self.exchanges.get(exchange.name) is not exchange:
            return
        del self.exchanges[exchange.name]
        self.epoch += 1
        for identity, binding in list(exchange.bindings.items()):
            self._remove_binding(exchange, identity, binding)
        if exchange.is_durable:
            records.delete_exchange(self.services.store, exchange)
        self._remove_sources(exchange)
        self._events.emit("exchange.deleted", name=exchange.name, vhost=self.name)

    # -- queues

    def add_queue(
        self,
        name: str,
        *,
        durable: bool,
        exclusive: bool,
        auto_delete: bool,
        arguments: dict[str, Any],
        type: str = "classic",
        owner: object | None = None,
        log_ids: tuple[int, ...] = (),
    ) -> Queue:
        """log_ids: of a recovered queue, whose record is there already."""
        queue = Queue(
            self,
            self.services,
            name,
            durable=durable,
            exclusive=exclusive,
            auto_delete=auto_delete,
            arguments=arguments,
            type=type,
            owner=owner,
            limits=self.services.policies.limits(self.name, name, type, arguments),
            log_ids=log_ids,
        )
        self.queues[name] = queue
        if not log_ids:
            self.services.churn.queues_created += 1
        self.services.policies.name_queue(queue)
        self.epoch += 1
        if exclusive:
            self._exclusive.setdefault(owner, {})[name] = queue
        if durable and not log_ids:
            records.save_queue(self.services.store, queue)
        self._events.emit(
            "queue.created",
            name=name,
            vhost=self.name,
            durable=durable,
            auto_delete=auto_delete,
            exclusive=exclusive,
            arguments=arguments,
            type=type,
        )
        return queue

    def remove_queue(self, queue: Queue, reason: str = "deleted") -> None:
        """With the bindings to it; auto-delete exchanges that led only there go too. Its consumers are told."""
        if self.queues.get(queue.name) is not queue:
            return
        del self.queues[queue.name]
        self.services.churn.queues_deleted += 1
        self.epoch += 1
        if queue.is_exclusive:
            owned = self._exclusive.get(queue.owner)
            if owned is not None:
                owned.pop(queue.name, None)
                if not owned:
                    del self._exclusive[queue.owner]
        if queue.is_durable:
            records.delete_queue(self.services.store, queue)
        self._remove_sources(queue)
        queue.close(reason)
        self._events.emit("queue.deleted", name=queue.name, vhost=self.name)

    def release_exclusive(self, owner: object | None = None) -> None:
        """A connection is gone: its exclusive queues with it. None: those of all connections."""
        for one in list(self._exclusive) if owner is None else [owner]:
            for queue in list(self._exclusive.get(one, {}).values()):
                self.remove_queue(queue)

    # -- bindings

    def bind(self, source: Exchange, binding: Binding, *, is_recovered: bool = False) -> bool:
        """False: it was there."""
        identity = binding_identity(binding)
        if identity in source.bindings:
            return False
        source.router.bind(binding)
        source.bindings[identity] = binding
        destination: Any = binding.destination
        if destination.kind != "queue":
            source.link_count += 1
        self._sources.setdefault(destination, {})[source, identity] = binding
        self.epoch += 1
        if not is_recovered and source.is_durable and destination.is_durable:
            records.save_binding(self.services.store, source, binding)
        self._events.emit("binding.created", **self._described(source, binding))
        return True

    def unbind(self, source: Exchange, binding: Binding) -> bool:
        """False: it was not there. The last one takes an auto-delete source with it."""
        identity = binding_identity(binding)
        existing = source.bindings.get(identity)
        if existing is None:
            return False
        self._remove_binding(source, identity, existing)
        self._maybe_auto_delete(source)
        return True

    def _remove_binding(self, source: Exchange, identity: Hashable, binding: Binding) -> None:
        del source.bindings[identity]
        source.router.unbind(binding)
        destination: Any = binding.destination
        sources = self._sources[destination]
        del sources[source, identity]
        if not sources:
            del self._sources[destination]
        if destination.kind != "queue":
            source.link_count -= 1
        self.epoch += 1
        if source.is_durable and destination.is_durable:
            records.delete_binding(self.services.store, source, binding)
        self._events.emit("binding.deleted", **self._described(source, binding))

    def _remove_sources(self, destination: Queue | Exchange) -> None:
        for (source, identity), binding in list(self._sources.get(destination, {}).items()):
            if identity in source.bindings:  # a listener of the events may have acted
                self._remove_binding(source, identity, binding)
                self._maybe_auto_delete(source)

    def _maybe_auto_delete(self, source: Exchange) -> None:
        if source.is_auto_delete and not source.bindings:
            log.info("exchange=%r vhost=%r deleted: its last binding is gone", source.name, self.name)
            self.remove_exchange(source)

    def _described(self, source: Exchange, binding: Binding) -> dict[str, Any]:
        return {
            "source_name": source.name, "source_kind": "exchange", "destination_name": binding.destination.name,
            "destination_kind": binding.destination.kind, "routing_key": binding.routing_key, "vhost": self.name,
            "arguments": binding.arguments,
        }  # fmt: skip

    # -- itself

    def update(
        self,
        *,
        description: str | None = None,
        tags: Iterable[str] | None = None,
        default_queue_type: str | None = None,
        is_protected: bool | None = None,
    ) -> None:
        """Change metadata; None leaves it as it is."""
        if description is not None:
            self.description = description
        if tags is not None:
            self.tags = tuple(tags)
        if default_queue_type is not None:
            self.default_queue_type = default_queue_type
        if is_protected is not None:
            self.is_protected = is_protected
        self.save()

    def save(self) -> None:
        """Its metadata and limits as a record of the store."""
        records.save_vhost(self.services.store, self)

    def set_limits(self, limits: Mapping[str, int]) -> None:
        """Replace all limits; the names are VHOST_LIMITS, and a negative number does not limit."""
        self.limits = dict(limits)
        self.save()
        self._events.emit(
            "vhost.limits.set" if self.limits else "vhost.limits.cleared",
            vhost=self.name,
            limits=dict(self.limits),
        )

    def set_parameter(self, component: str, name: str, value: Any) -> None:
        """A runtime parameter, for whoever looks for its component. Raise InvalidArgument if its owner refuses it."""
        owner = self.services.components.get(component)
        if owner is not None:
            value = owner.check(self, name, value)
        self.parameters[component, name] = value
        records.save_parameter(self.services.store, self.name, component, name, value)
        shown = value if owner is None else owner.masked(value)
        self._events.emit("parameter.set", vhost=self.name, component=component, name=name, value=shown)

    def clear_parameter(self, component: str, name: str) -> bool:
        """False: it was not there."""
        if (component, name) not in self.parameters:
            return False
        del self.parameters[component, name]
        records.delete_parameter(self.services.store, self.name, component, name)
        self._events.emit("parameter.cleared", vhost=self.name, component=component, name=name)
        return True

    def close(self) -> None:
        """It is deleted: so is all that is in it."""
        self.is_closed = True
        for queue in list(self.queues.values()):
            self.remove_queue(queue, "vhost deleted")
        for exchange in list(self.exchanges.values()):
            self.remove_exchange(exchange)
        for component, name in list(self.parameters):
            self.clear_parameter(component, name)

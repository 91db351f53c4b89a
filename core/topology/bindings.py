"""Binding queues and exchanges to exchanges, and removing bindings."""

from __future__ import annotations

from typing import TYPE_CHECKING

from leveret.auth.contracts import Permission
from leveret.core.bindings import binding_identity
from leveret.core.definitions import records
from leveret.core.equivalence import describe_resource
from leveret.core.exchange import Arguments, Binding, Exchange
from leveret.core.topology.checks import (
    TopologySession,
    check_exclusive,
    check_not_default,
    require_exchange,
    require_queue,
)

if TYPE_CHECKING:
    from leveret.core.queue.queue import Queue
    from leveret.core.vhost import Vhost
__all__ = ["bind_exchange", "bind_queue", "unbind_exchange", "unbind_queue"]


def bind_queue(
    session: TopologySession,
    queue: str,
    exchange: str,
    routing_key: str = "",
    arguments: Arguments | None = None,
) -> bool:
    """Bind a queue to an exchange (AMQP 1.7.2.3).

    Returns:
        False if the binding was there.

    Raises:
        NotFound, InvalidArgument, ResourceLocked, AccessRefused, AuthorizationPending: nothing was changed.
    """
    return _bind(session, "queue", queue, exchange, routing_key, arguments or {})


def bind_exchange(
    session: TopologySession,
    destination: str,
    source: str,
    routing_key: str = "",
    arguments: Arguments | None = None,
) -> bool:
    """Bind an exchange to another one, as `bind_queue` does a queue."""
    return _bind(session, "exchange", destination, source, routing_key, arguments or {})


def unbind_queue(
    session: TopologySession,
    queue: str,
    exchange: str,
    routing_key: str = "",
    arguments: Arguments | None = None,
) -> bool:
    """Remove a binding.

    Returns:
        False if it was not there, or one of the two does not exist.

    Raises:
        ResourceLocked, AccessRefused, AuthorizationPending: nothing was changed.
    """
    return _unbind(session, "queue", queue, exchange, routing_key, arguments or {})


def unbind_exchange(
    session: TopologySession,
    destination: str,
    source: str,
    routing_key: str = "",
    arguments: Arguments | None = None,
) -> bool:
    """Remove a binding between exchanges, as `unbind_queue` does a queue's."""
    return _unbind(session, "exchange", destination, source, routing_key, arguments or {})


def _bind(
    session: TopologySession,
    kind: str,
    destination_name: str,
    source_name: str,
    routing_key: str,
    arguments: Arguments,
) -> bool:
    vhost = session.vhost
    _check_binding(session, kind, destination_name, source_name, routing_key)
    source = require_exchange(vhost, source_name)
    destination = _require(vhost, kind, destination_name)
    binding = Binding(destination, routing_key, dict(arguments))
    source.router.validate(binding)
    if kind == "queue":
        check_exclusive(vhost.queues[destination_name], session.connection)
    records.check_storable(
        f"binding from {describe_resource('exchange', source_name, vhost.name)}", arguments
    )
    return vhost.bind(source, binding)


def _unbind(
    session: TopologySession,
    kind: str,
    destination_name: str,
    source_name: str,
    routing_key: str,
    arguments: Arguments,
) -> bool:
    vhost = session.vhost
    _check_binding(session, kind, destination_name, source_name, routing_key)
    source = vhost.exchanges.get(source_name)
    destination = (vhost.queues if kind == "queue" else vhost.exchanges).get(destination_name)
    if source is None or destination is None:
        return False
    binding = Binding(destination, routing_key, dict(arguments))
    if binding_identity(binding) not in source.bindings:
        return False
    if kind == "queue":
        check_exclusive(vhost.queues[destination_name], session.connection)
    return vhost.unbind(source, binding)


def _require(vhost: Vhost, kind: str, name: str) -> Queue | Exchange:
    return require_queue(vhost, name) if kind == "queue" else require_exchange(vhost, name)


def _check_binding(
    session: TopologySession, kind: str, destination_name: str, source_name: str, routing_key: str
) -> None:
    session.require(Permission.WRITE, kind, destination_name)
    check_not_default(source_name, destination_name if kind == "exchange" else source_name)
    session.require(Permission.READ, "exchange", source_name)
    source = session.vhost.exchanges.get(source_name)
    if source is not None:
        session.require_topic(Permission.READ, source, routing_key)

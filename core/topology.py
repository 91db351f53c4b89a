"""Declare, delete, bind, unbind: the rules, in RabbitMQ's order, with its texts. All checks come before any change."""

from __future__ import annotations

import base64
import secrets
from typing import TYPE_CHECKING, Any, Protocol

from leveret.auth.contracts import Permission
from leveret.core.bindings import binding_identity
from leveret.core.definitions import records
from leveret.core.equivalence import assert_equal_arguments, assert_equal_field, describe_resource
from leveret.core.errors import (
    AccessRefused,
    InvalidArgument,
    NotFound,
    PreconditionFailed,
    ResourceLocked,
)
from leveret.core.exchange import Arguments, Binding, Exchange
from leveret.core.fields import type_name
from leveret.core.queue.arguments import KNOWN_ARGUMENTS, QUEUE_TYPES, check_queue_arguments

if TYPE_CHECKING:
    from leveret.core.queue.queue import Queue
    from leveret.core.vhost import Vhost
__all__ = [
    "bind_exchange", "bind_queue", "check_exclusive", "declare_exchange", "declare_queue", "delete_exchange", "delete_queue",
    "remove_queue", "require_exchange", "require_queue", "unbind_exchange", "unbind_queue",
]  # fmt: skip

RESERVED = "amq."


class TopologySession(Protocol):
    """Who changes the topology: core.session.Session, as far as it is asked here.

    connection    the owner of exclusive queues
    pending_name  given to a queue whose declaration waits for an authorization
    """

    vhost: Vhost
    connection: object
    pending_name: str | None

    def require(
        self, permission: Permission, kind: str, name: str, routing_key: str | None = None
    ) -> None: ...
    def require_any(self, kind: str, name: str) -> None: ...
    def require_topic(self, permission: Permission, exchange: Exchange, routing_key: str) -> None: ...


def require_exchange(vhost: Vhost, name: str) -> Exchange:
    exchange = vhost.exchanges.get(name)
    if exchange is None:
        raise NotFound(f"no {describe_resource('exchange', name, vhost.name)}")
    return exchange


def require_queue(vhost: Vhost, name: str) -> Queue:
    queue = vhost.queues.get(name)
    if queue is None:
        raise NotFound(f"no {describe_resource('queue', name, vhost.name)}")
    return queue


def check_exclusive(queue: Queue, connection: object) -> None:
    """Raise ResourceLocked if it belongs to another connection."""
    if queue.is_exclusive and queue.owner is not connection:
        raise _locked(queue)


def _locked(queue: Queue) -> ResourceLocked:
    return ResourceLocked(
        f"cannot obtain exclusive access to locked {describe_resource('queue', queue.name, queue.vhost.name)}. It could be "
        "originally declared on another connection or the exclusive property value does not match that of the "
        "original declaration."
    )


def _check_not_default(*names: str) -> None:
    if "" in names:
        raise AccessRefused("operation not permitted on the default exchange")


def _check_not_reserved(kind: str, name: str) -> None:
    if name.startswith(RESERVED):
        raise AccessRefused(f"{kind} name '{name}' contains reserved prefix 'amq.*'")


def _check_target(session: TopologySession, kind: str, name: str, arguments: Arguments, key: str) -> None:
    """An argument that names an exchange, of a thing that is new: read on the thing, write on the exchange."""
    if key not in arguments:
        return
    target = arguments[key]
    if type_name(target) != "longstr":
        thing = describe_resource(kind, name, session.vhost.name)
        raise InvalidArgument(f"invalid type '{type_name(target)}' for arg '{key}' in {thing}")
    if isinstance(target, bytes):
        target = target.decode("utf-8", "surrogateescape")
    session.require(Permission.READ, kind, name)
    session.require(Permission.WRITE, "exchange", target)


# -- exchanges


def declare_exchange(
    session: TopologySession,
    name: str,
    type: str = "direct",
    *,
    passive: bool = False,
    durable: bool = False,
    auto_delete: bool = False,
    internal: bool = False,
    arguments: Arguments | None = None,
) -> Exchange:
    """Declare an exchange, or check that it is there (AMQP 1.7.2.1).

    Args:
        type: the name of an exchange type.
        passive: only look whether it exists.

    Raises:
        NotFound: passive, and it does not exist.
        PreconditionFailed: it exists with other properties.
        InvalidArgument, AccessRefused, AuthorizationPending: nothing was changed.
    """
    vhost, arguments = session.vhost, arguments or {}
    if passive:
        _check_not_default(name)
        session.require_any("exchange", name)
        return require_exchange(vhost, name)
    exchange_type = vhost.services.registry.exchange_type(type)  # first, even for one that exists
    _check_not_default(name)
    session.require(Permission.CONFIGURE, "exchange", name)
    existing = vhost.exchanges.get(name)
    thing = describe_resource("exchange", name, vhost.name)
    if existing is not None:
        assert_equal_field(thing, "type", existing.type, type)
        assert_equal_field(thing, "durable", existing.is_durable, durable)
        assert_equal_field(thing, "auto_delete", existing.is_auto_delete, auto_delete)
        assert_equal_field(thing, "internal", existing.is_internal, internal)
        assert_equal_arguments(thing, ("alternate-exchange",), existing.arguments, arguments)
        return existing
    _check_not_reserved("exchange", name)
    _check_target(session, "exchange", name, arguments, "alternate-exchange")
    records.check_storable(thing, arguments)
    exchange = Exchange(
        vhost,
        name,
        type,
        exchange_type(arguments),
        durable=durable,
        auto_delete=auto_delete,
        internal=internal,
        arguments=arguments,
    )
    vhost.add_exchange(exchange)
    return exchange


def delete_exchange(session: TopologySession, name: str, *, if_unused: bool = False) -> None:
    """Delete an exchange with its bindings; one that does not exist is deleted already.

    Raises:
        PreconditionFailed: it has bindings, and if_unused.
        AccessRefused, AuthorizationPending: nothing was changed.
    """
    vhost = session.vhost
    _check_not_default(name)
    thing = describe_resource("exchange", name, vhost.name)
    if name.startswith(RESERVED):
        raise AccessRefused(f"deletion of system {thing} not allowed")
    session.require(Permission.CONFIGURE, "exchange", name)
    exchange = vhost.exchanges.get(name)
    if exchange is None:
        return
    if if_unused and exchange.bindings:
        raise PreconditionFailed(f"{thing} in use")
    vhost.remove_exchange(exchange)


# -- queues


def declare_queue(
    session: TopologySession,
    name: str = "",
    *,
    passive: bool = False,
    durable: bool = False,
    exclusive: bool = False,
    auto_delete: bool = False,
    arguments: Arguments | None = None,
) -> Queue:
    """Declare a queue, or check that it is there (AMQP 1.7.2.1).

    Args:
        name: empty: the server generates one (amq.gen-...).
        passive: only look whether it exists and is not locked by another connection.

    Raises:
        NotFound: passive, and it does not exist.
        ResourceLocked: another connection owns it exclusively.
        PreconditionFailed: it exists with other properties, or the virtual host's limit of queues is reached.
        InvalidArgument, AccessRefused, AuthorizationPending: nothing was changed.
    """
    vhost, arguments = session.vhost, arguments or {}
    if passive:
        session.require_any("queue", name)
        queue = require_queue(vhost, name)
        check_exclusive(queue, session.connection)
        queue.mark_used()
        return queue
    vhost.services.churn.queues_declared += 1
    wanted = dict(arguments)
    queue_type = _queue_type(vhost, wanted, durable=durable, exclusive=exclusive, auto_delete=auto_delete)
    is_durable = durable and not exclusive  # it goes with its connection, so it need not be kept
    if name:
        _check_not_reserved("queue", name)
    elif queue_type == "quorum":
        raise PreconditionFailed(f"Cannot declare a server-named queue for type rabbit_{queue_type}_queue")
    else:
        # Kept while a backend is asked about it: the request comes again, and must ask about the same name.
        name = session.pending_name = session.pending_name or _generated(vhost)
    session.require(Permission.CONFIGURE, "queue", name)
    thing = describe_resource("queue", name, vhost.name)
    existing = vhost.queues.get(name)
    if existing is not None:
        _assert_equivalent(
            existing,
            session.connection,
            thing,
            durable=is_durable,
            exclusive=exclusive,
            auto_delete=auto_delete,
            arguments=wanted,
        )
        existing.mark_used()
        return existing
    _check_target(session, "queue", name, wanted, "x-dead-letter-exchange")
    check_queue_arguments(thing, queue_type, wanted)
    limit = vhost.limits.get("max-queues", -1)
    if 0 <= limit <= len(vhost.queues):
        raise PreconditionFailed(
            f"cannot declare queue '{name}': queue limit in vhost '{vhost.name}' ({limit}) is reached"
        )
    if queue_type == "quorum":
        for is_refused, what in (
            (auto_delete, "auto-delete"), (exclusive, "exclusive-owner"), (not durable, "non-durable")
        ):  # fmt: skip
            if is_refused:
                raise PreconditionFailed(f"invalid property '{what}' for {thing}")
    records.check_storable(thing, wanted)
    session.pending_name = None
    return vhost.add_queue(
        name,
        durable=is_durable,
        exclusive=exclusive,
        auto_delete=auto_delete,
        arguments=wanted,
        type=queue_type,
        owner=session.connection if exclusive else None,
    )


def _queue_type(
    vhost: Vhost, arguments: dict[str, Any], *, durable: bool, exclusive: bool, auto_delete: bool
) -> str:
    """The type that is asked for, or the virtual host's, which then becomes an argument (RabbitMQ 3.13 and later).

    What the virtual host's type cannot be (an exclusive quorum queue) is a classic one.
    """
    if "x-queue-type" in arguments:
        given = arguments["x-queue-type"]
        return (
            given if given in QUEUE_TYPES else "classic"
        )  # what is no type is refused with the other arguments
    queue_type = vhost.default_queue_type
    if queue_type not in QUEUE_TYPES or (
        queue_type == "quorum" and (exclusive or auto_delete or not durable)
    ):
        return "classic"
    arguments["x-queue-type"] = queue_type
    return queue_type


def _assert_equivalent(
    queue: Queue,
    connection: object,
    thing: str,
    *,
    durable: bool,
    exclusive: bool,
    auto_delete: bool,
    arguments: Arguments,
) -> None:
    if queue.is_exclusive != exclusive or (exclusive and queue.owner is not connection):
        raise _locked(queue)
    assert_equal_field(thing, "durable", queue.is_durable, durable)
    assert_equal_field(thing, "auto_delete", queue.is_auto_delete, auto_delete)
    assert_equal_arguments(thing, KNOWN_ARGUMENTS[queue.type], queue.arguments, arguments)


def _generated(vhost: Vhost) -> str:
    """amq.gen- and 22 characters that nobody guesses (128 bits)."""
    while True:
        name = "amq.gen-" + base64.urlsafe_b64encode(secrets.token_bytes(16)).rstrip(b"=").decode("ascii")
        if name not in vhost.queues:
            return name


def delete_queue(
    session: TopologySession, name: str, *, if_unused: bool = False, if_empty: bool = False
) -> int:
    """Delete a queue with its bindings; one that does not exist is deleted already.

    Returns:
        How many messages were ready in it.

    Raises:
        PreconditionFailed: it has consumers, and if_unused; or messages, and if_empty.
        ResourceLocked, AccessRefused, AuthorizationPending: nothing was changed.
    """
    vhost = session.vhost
    session.require(Permission.CONFIGURE, "queue", name)
    queue = vhost.queues.get(name)
    if queue is None:
        return 0
    check_exclusive(queue, session.connection)
    return remove_queue(queue, if_unused=if_unused, if_empty=if_empty)


def remove_queue(queue: Queue, *, if_unused: bool, if_empty: bool) -> int:
    """As `delete_queue`, for a caller that has checked the permission."""
    thing = describe_resource("queue", queue.name, queue.vhost.name)
    if if_unused and queue.consumer_count:
        raise PreconditionFailed(f"{thing} in use")
    if if_empty and queue.message_count:
        raise PreconditionFailed(f"{thing} not empty")
    count = queue.message_count
    queue.vhost.remove_queue(queue)
    return count


# -- bindings


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
    _check_not_default(source_name, destination_name if kind == "exchange" else source_name)
    session.require(Permission.READ, "exchange", source_name)
    source = session.vhost.exchanges.get(source_name)
    if source is not None:
        session.require_topic(Permission.READ, source, routing_key)

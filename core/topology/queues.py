"""Declaring and deleting queues."""

from __future__ import annotations

import base64
import secrets
from typing import TYPE_CHECKING, Any

from leveret.auth.contracts import Permission
from leveret.core.definitions import records
from leveret.core.equivalence import assert_equal_arguments, assert_equal_field, describe_resource
from leveret.core.errors import LimitReached, PreconditionFailed
from leveret.core.queue.arguments import KNOWN_ARGUMENTS, QUEUE_TYPES, check_queue_arguments
from leveret.core.topology.checks import (
    TopologySession,
    check_exclusive,
    check_new_name,
    check_target,
    locked,
    require_queue,
)

if TYPE_CHECKING:
    from leveret.core.exchange import Arguments
    from leveret.core.queue.queue import Queue
    from leveret.core.vhost import Vhost
__all__ = ["declare_queue", "delete_queue", "remove_queue"]


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
        PreconditionFailed: it exists with other properties.
        LimitReached: the virtual host's limit of queues is reached.
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
        check_new_name("queue", name)
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
    check_target(session, "queue", name, wanted, "x-dead-letter-exchange")
    check_queue_arguments(thing, queue_type, wanted)
    limit = vhost.limits.get("max-queues", -1)
    if 0 <= limit <= len(vhost.queues):
        raise LimitReached(
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
        # An unknown type is rejected together with the other arguments.
        return given if given in QUEUE_TYPES else "classic"
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
        raise locked(queue)
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

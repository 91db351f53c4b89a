"""Checks that exchanges, queues and bindings share, with RabbitMQ's texts."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

from leveret.auth.contracts import Permission
from leveret.core.equivalence import describe_resource
from leveret.core.errors import AccessRefused, InvalidArgument, NotFound, ResourceLocked
from leveret.core.fields import type_name

if TYPE_CHECKING:
    from leveret.core.exchange import Arguments, Exchange
    from leveret.core.queue.queue import Queue
    from leveret.core.vhost import Vhost
__all__ = [
    "RESERVED",
    "TopologySession",
    "check_exclusive",
    "check_new_name",
    "check_not_default",
    "check_target",
    "locked",
    "require_exchange",
    "require_queue",
]  # fmt: skip

RESERVED = "amq."


class TopologySession(Protocol):
    """What these functions use of a core.session.Session.

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
    """The exchange. Raises NotFound."""
    exchange = vhost.exchanges.get(name)
    if exchange is None:
        raise NotFound(f"no {describe_resource('exchange', name, vhost.name)}")
    return exchange


def require_queue(vhost: Vhost, name: str) -> Queue:
    """The queue. Raises NotFound."""
    queue = vhost.queues.get(name)
    if queue is None:
        raise NotFound(f"no {describe_resource('queue', name, vhost.name)}")
    return queue


def check_exclusive(queue: Queue, connection: object) -> None:
    """Raise ResourceLocked if it belongs to another connection."""
    if queue.is_exclusive and queue.owner is not connection:
        raise locked(queue)


def locked(queue: Queue) -> ResourceLocked:
    """The refusal for a queue that another connection owns, or that is not as exclusive as it is declared."""
    return ResourceLocked(
        f"cannot obtain exclusive access to locked {describe_resource('queue', queue.name, queue.vhost.name)}. It could be "
        "originally declared on another connection or the exclusive property value does not match that of the "
        "original declaration."
    )


def check_not_default(*names: str) -> None:
    """Raise AccessRefused if one of the exchanges is the default one."""
    if "" in names:
        raise AccessRefused("operation not permitted on the default exchange")


def check_new_name(kind: str, name: str) -> None:
    """Check the name of a queue or exchange that a client declares.

    Raises:
        InvalidArgument: it is not valid UTF-8. AMQP refuses such a name when it reads the method (501).
        AccessRefused: only the broker may give it.
    """
    if not name.isascii():
        try:
            name.encode()
        except UnicodeEncodeError as error:
            shown = name.encode("utf-8", "backslashreplace").decode()
            raise InvalidArgument(f"{kind} name '{shown}' is not valid UTF-8") from error
    if name.startswith(RESERVED):
        raise AccessRefused(f"{kind} name '{name}' contains reserved prefix 'amq.*'")


def check_target(session: TopologySession, kind: str, name: str, arguments: Arguments, key: str) -> None:
    """Check an argument with which a new exchange or queue names an exchange.

    The user needs the permission to read the new thing and to write to that exchange. Raises InvalidArgument,
    AccessRefused, AuthorizationPending.
    """
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

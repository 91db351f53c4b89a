"""What core refuses, and why: each error carries its answer, each adapter has one table from these to wire codes."""

from __future__ import annotations

__all__ = [
    "AccessRefused",
    "AuthorizationPending",
    "BrokerError",
    "ConnectionRefused",
    "DeliveryTagUnknown",
    "ForeignArgument",
    "InternalError",
    "InvalidArgument",
    "LimitReached",
    "NotAllowed",
    "NotFound",
    "NotImplementedByBroker",
    "PreconditionFailed",
    "ResourceLocked",
    "StoreUnavailable",
    "UnknownPolicyKey",
]


class BrokerError(Exception):
    """A request that core refuses; `str(error)` is the text a client may see, naming the thing and the rule."""


class NotFound(BrokerError):
    """No such exchange, queue or virtual host (AMQP 404)."""


class AccessRefused(BrokerError):
    """The permission is missing, or the name is reserved (AMQP 403)."""


class ResourceLocked(BrokerError):
    """Another connection owns it exclusively (AMQP 405)."""


class PreconditionFailed(BrokerError):
    """It exists and differs, is in use, or an argument is invalid (AMQP 406)."""


class InvalidArgument(PreconditionFailed):
    """An argument of a declaration, binding or property is invalid (AMQP 406)."""


class ForeignArgument(InvalidArgument):
    """A declaration has an argument that only another queue type accepts (AMQP 406)."""


class UnknownPolicyKey(InvalidArgument):
    """A policy has keys that no queue or exchange knows (AMQP 406)."""


class LimitReached(PreconditionFailed):
    """The virtual host has as many queues as it may have (AMQP 406)."""


class DeliveryTagUnknown(PreconditionFailed):
    """A settlement names a delivery that is not outstanding (AMQP 406)."""


class NotAllowed(BrokerError):
    """Refused for the whole connection: virtual host access, limits, tag reuse (AMQP 530)."""


class ConnectionRefused(NotAllowed):
    """A connection limit of the node, virtual host or user is reached (AMQP 530)."""


class NotImplementedByBroker(BrokerError):
    """Legal in the specification, implemented by nobody (AMQP 540)."""


class InternalError(BrokerError):
    """Our bug, or a plugin's; logged with a traceback where it was caught (AMQP 541)."""


class StoreUnavailable(BrokerError):
    """The store cannot take the write (disk full, map full): the publisher must be told no (AMQP nack / 541)."""


class AuthorizationPending(Exception):
    """The answer needs I/O. The adapter awaits `session.authorize(pending)` and offers the same request again.

    Raised only before anything has changed, so that repeating the request is safe.
    """

    def __init__(self, kind: str, name: str, permission: str, routing_key: str | None = None) -> None:
        super().__init__(f"{permission} access to {kind} '{name}' is not decided yet")
        self.kind, self.name, self.permission, self.routing_key = kind, name, permission, routing_key

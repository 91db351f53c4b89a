"""The authentication and authorization contracts. None = ask the next; AccessDenied = stop; any other error = denied."""

from __future__ import annotations

from collections.abc import Awaitable, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import ClassVar, Protocol

__all__ = [
    "AccessDenied",
    "Authenticator",
    "Authorizer",
    "Credentials",
    "Permission",
    "Principal",
    "Resource",
]


class AccessDenied(Exception):
    """A refusal that stops the chain; `str` is for the log, never for the peer."""


class Permission(StrEnum):
    CONFIGURE = "configure"
    WRITE = "write"
    READ = "read"


@dataclass(frozen=True, slots=True)
class Credentials:
    """What a peer presents. `peer_host` is its address, or None for a Unix socket (counts as loopback)."""

    mechanism: str
    username: str | None = None
    password: str | None = field(default=None, repr=False)
    vhost: str | None = None
    client_id: str | None = None
    peer_host: str | None = None
    protocol: str = "amqp"
    certificate: Mapping[str, object] | None = field(default=None, repr=False)  # ssl.getpeercert()


@dataclass(frozen=True, slots=True)
class Principal:
    """Who a connection is. `backend` names the authenticator that said so; `attributes` are for {variables}."""

    username: str
    tags: frozenset[str] = frozenset()
    backend: str = "internal"
    attributes: Mapping[str, str] = field(default_factory=dict)
    expires_at: float | None = None  # wall clock seconds; None: never

    @property
    def may_impersonate(self) -> bool:
        return "impersonator" in self.tags


@dataclass(frozen=True, slots=True)
class Resource:
    """What access is asked to. kind: "exchange", "queue", "topic" (then `routing_key` is set) or "vhost"."""

    kind: str
    name: str
    routing_key: str | None = None


class Authenticator(Protocol):
    """Says who a peer is. Called once per connection, and on connection.update-secret."""

    name: ClassVar[str]

    async def authenticate(self, credentials: Credentials) -> Principal | None:
        """A principal; None: not mine, ask the next; AccessDenied: stop."""


class Authorizer(Protocol):
    """Says what a principal may do. A backend that answers from memory returns the bool itself, and costs no await."""

    name: ClassVar[str]

    def authorize(
        self, principal: Principal, vhost: str, permission: Permission | None, resource: Resource
    ) -> bool | Awaitable[bool | None] | None:
        """True or False; None: not mine, ask the next. permission is None when resource.kind is "vhost"."""

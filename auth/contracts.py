"""The contracts of authentication and authorization backends, and the values they exchange with the chain.

A backend answers with a value, with None (ask the next backend) or with AccessDenied (refuse, and ask no other backend).
Any other exception refuses and is logged: the chain (chain.py) fails closed.
"""

from __future__ import annotations

from collections.abc import Awaitable, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import ClassVar, Protocol, runtime_checkable

import trio

__all__ = [
    "AccessDenied",
    "Authenticator",
    "Authorizer",
    "Credentials",
    "LongLived",
    "Permission",
    "Principal",
    "Resource",
]


class AccessDenied(Exception):
    """A refusal that ends the chain. Its text is for the log, and never sent to the client."""


class Permission(StrEnum):
    CONFIGURE = "configure"
    WRITE = "write"
    READ = "read"


@dataclass(frozen=True, slots=True)
class Credentials:
    """What a client presents at login. peer_host: its address; None: a Unix socket, which counts as loopback."""

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
    """The user of a connection.

    backend: the name of the authenticator. attributes: fill in {variables} of topic permissions.
    """

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
    """Tells who a client is. Called once per connection, and on connection.update-secret."""

    name: ClassVar[str]

    settings_type: ClassVar[type | None] = None
    """The frozen dataclass that declares its settings, the section [auth.NAME]; see leveret.conf.declare.

    A backend that declares settings is built with an instance of it, all others without arguments. Settings that are
    declared reloadable are handed to `reconfigure(settings)`.
    """

    async def authenticate(self, credentials: Credentials) -> Principal | None:
        """Return a principal, or None to ask the next backend. Raise AccessDenied to refuse."""


@runtime_checkable
class LongLived(Protocol):
    """A backend with a task of its own, as a pool of connections needs."""

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Work until cancelled; call `task_status.started()` as soon as the backend can answer.

        Started before any client can connect, and cancelled after the last one has gone. Runs in the broker's thread, so
        it must not block. An exception before `started()` keeps the broker from starting; later it is logged, and the
        backend goes on being asked: it must deny what it cannot answer. It may return when nothing is left to do.
        """


class Authorizer(Protocol):
    """Tells what a principal may do. A backend that answers from memory returns the bool itself, without an await."""

    name: ClassVar[str]

    settings_type: ClassVar[type | None] = None
    """As an authenticator's; a class that serves as both has one section."""

    def authorize(
        self, principal: Principal, vhost: str, permission: Permission | None, resource: Resource
    ) -> bool | Awaitable[bool | None] | None:
        """Return the answer, or None to ask the next backend. permission is None when resource.kind is "vhost"."""

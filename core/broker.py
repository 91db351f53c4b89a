"""The broker: its parts put together, started and stopped, and its virtual hosts.

Listeners and plugins live around it, in the composition root (src/leveret/server.py). Each part is named by what it is
for, and adapters and plugins use the parts directly.
"""

from __future__ import annotations

import logging
import socket
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

import trio

from leveret.auth.contracts import Principal
from leveret.auth.internal import InternalBackend
from leveret.core.alarms import Alarms
from leveret.core.allocator import keep_freed_memory
from leveret.core.backends import Backends
from leveret.core.backpressure import Backpressure, spill_longest
from leveret.core.churn import Churn
from leveret.core.connection_limits import ConnectionLimits
from leveret.core.connections import Connections
from leveret.core.counters import Traffic
from leveret.core.definitions import importer, records, recovery
from leveret.core.dispatcher import Dispatcher
from leveret.core.errors import NotAllowed, PreconditionFailed
from leveret.core.events import Events
from leveret.core.policy import Policies
from leveret.core.reply_to import Replies
from leveret.core.session import Session
from leveret.core.timers import Timers
from leveret.core.vhost import ParameterComponent, Services, Vhost

if TYPE_CHECKING:
    from leveret.conf.settings import Settings
    from leveret.core.registry import Registry
    from leveret.core.store.base import Store
__all__ = ["Broker"]

log = logging.getLogger(__name__)


class Broker:
    """One node.

        async with Broker(settings, registry, store).running() as broker:
            ...

    All state belongs to the trio task that entered; every method is synchronous unless it says otherwise.
    """

    def __init__(self, settings: Settings, registry: Registry, store: Store) -> None:
        self.settings = settings
        self.registry = registry
        registry.settings = settings
        self.store = store
        self.node_name = settings.server.node_name or f"leveret@{socket.gethostname()}"
        self.dispatcher = Dispatcher()
        self.timers = Timers(after=self.dispatcher.run)
        self.events = Events()
        self.users = InternalBackend(settings.auth)
        self.backends = Backends(settings, registry, self.users)
        self.auth = self.backends.chain
        self.alarms = Alarms(settings, store)
        self.alarms.relieve = self._relieve_memory
        self.backpressure = Backpressure(self.alarms, store, settings.store.max_pending_bytes)
        self.vhosts: dict[str, Vhost] = {}
        self.parameters: dict[str, Any] = {}  # global runtime parameters, as JSON has them
        self.policies = Policies(
            store, self.events, self.vhosts, lambda: self.settings.limits.delivery_limit_quorum
        )
        self.replies = Replies()
        self.churn = Churn()
        self.traffic = Traffic()
        self.connections = Connections(self.churn, self.traffic)
        self.connection_limits = ConnectionLimits(
            self.connections, self.users, settings.limits.connection_max
        )
        self.adapters: list[Any] = []  # adapters.base.Adapter, set by the composition root
        self.listeners: list[Any] = []
        self.tls_context: Any = None
        self.components: dict[str, ParameterComponent] = {}  # who checks runtime parameters, by component
        self.services: dict[str, Any] = {}  # what plugins that run offer to listeners, by plugin
        self.boot_definitions: Any = None  # a document to import when the store's definitions are recovered
        self.vhost_services = Services(
            store,
            self.dispatcher,
            self.timers,
            self.events,
            self.traffic,
            self.churn,
            registry,
            self.policies,
            self.components,
            settings.store.window_messages,
            settings.store.window_bytes,
        )

    @asynccontextmanager
    async def running(self) -> AsyncIterator[Broker]:
        """Recover, run, and on leaving flush and close the store.

        Raise StoreUnavailable if it cannot be opened, DefinitionsError for invalid `boot_definitions`.
        """
        keep_freed_memory()
        self.timers.start()
        self.store.open()
        self.store.on_committed = self._on_committed
        try:
            self.users.attach(self.store)
            self.users.on_change(self._on_permissions_changed)
            self.users.on_event(self._on_user_event)
            recovery.recover(self)
            if self.boot_definitions is not None:  # before the defaults: who defines users needs no guest
                importer.import_(self, self.boot_definitions)
            self._ensure_defaults()
            async with trio.open_nursery() as nursery:
                await nursery.start(self.store.run)
                await nursery.start(self.backends.run)
                nursery.start_soon(self.timers.run)
                nursery.start_soon(self.dispatcher.serve)
                nursery.start_soon(self.alarms.run)
                try:
                    yield self
                finally:
                    for vhost in list(self.vhosts.values()):
                        vhost.release_exclusive()
                    nursery.cancel_scope.cancel()
        finally:
            self.store.close()

    def _ensure_defaults(self) -> None:
        auth = self.settings.auth
        if not self.vhosts:
            self.add_vhost(auth.default_vhost)
        self.users.ensure_default_user()

    # -- virtual hosts

    def add_vhost(self, name: str, **metadata: Any) -> Vhost:
        """A new virtual host with its predeclared exchanges; the existing one if it is there."""
        vhost = self.vhosts.get(name)
        if vhost is None:
            vhost = self.vhosts[name] = Vhost(self.vhost_services, name, **metadata)
            vhost.save()
            self.events.emit("vhost.created", name=name)
            log.info("vhost=%s created", name)
        return vhost

    def grant_all(self, username: str | None, vhost_name: str) -> None:
        """Give a user all permissions in a virtual host, as the one who makes it has. Other names are passed over."""
        if any(user.name == username for user in self.users.list_users()):
            self.users.set_permissions(str(username), vhost_name, ".*", ".*", ".*")

    def delete_vhost(self, name: str) -> None:
        """With everything in it; its connections are closed. Raise NotFound, PreconditionFailed if it is protected."""
        vhost = recovery.require_vhost(self, name)
        if vhost.is_protected:
            raise PreconditionFailed(
                f"Refusing to delete virtual host '{name}' because it is protected from deletion"
            )
        for connection in list(self.connections.of_vhost(name)):
            connection.close(f"vhost '{name}' was deleted")
        vhost.close()
        del self.vhosts[name]
        self.users.forget_vhost(name)
        self.policies.forget_vhost(name)
        records.delete_vhost(self.store, name)
        self.events.emit("vhost.deleted", name=name)
        log.info("vhost=%s deleted", name)

    # -- global parameters

    def set_parameter(self, name: str, value: Any) -> None:
        """Keep a global runtime parameter."""
        self.parameters[name] = value
        records.save_parameter(self.store, "", "", name, value)
        self.events.emit("parameter.set", vhost=None, component="", name=name, value=value)

    def clear_parameter(self, name: str) -> bool:
        """Returns False if it was not there."""
        if name not in self.parameters:
            return False
        del self.parameters[name]
        records.delete_parameter(self.store, "", "", name)
        self.events.emit("parameter.cleared", vhost=None, component="", name=name)
        return True

    # -- sessions

    async def open_session(self, principal: Principal, vhost_name: str, connection: object) -> Session:
        """One principal in one virtual host. Raise NotAllowed with the text a client may see."""
        vhost = self.vhosts.get(vhost_name)
        if vhost is None:
            raise NotAllowed(f"vhost {vhost_name} not found")
        self.connection_limits.check_login(principal.username, vhost)
        session = Session(self, vhost, principal, connection)
        await session.enter()
        return session

    # -- what happens to it

    def _on_user_event(self, event: str, fields: Mapping[str, Any]) -> None:
        """Changes of users are events; a deleted user's connections end."""
        self.events.emit(event, **fields)
        if event == "user.deleted":
            for connection in list(self.connections.of_user(fields["name"])):
                connection.close(f"user '{fields['name']}' is deleted")

    def _on_permissions_changed(self) -> None:
        """Remembered routes carry checked permissions: none outlives a change."""
        for vhost in self.vhosts.values():
            vhost.epoch += 1

    def _relieve_memory(self, excess: int) -> None:
        spill_longest((queue for vhost in self.vhosts.values() for queue in vhost.queues.values()), excess)

    def _on_committed(self) -> None:
        """A group is durable; its callbacks have been called, and what they wrote may leave."""
        self.backpressure.on_committed()
        self.timers.tick()
        self.dispatcher.run()

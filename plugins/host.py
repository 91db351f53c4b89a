"""Starts, stops, enables and disables plugins while the broker runs. A plugin that fails does not affect the broker."""

from __future__ import annotations

import json
import logging
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import trio

from leveret.conf.declare import Reconfigurable
from leveret.core.errors import BrokerError, NotFound, PreconditionFailed
from leveret.core.registry import Offer, PluginError, Registry
from leveret.core.task_start import Started
from leveret.plugins.base import OffersOperations, Plugin, PluginStatus

if TYPE_CHECKING:
    from leveret.conf.settings import Settings
    from leveret.core.broker import Broker
__all__ = ["PluginHost"]

log = logging.getLogger(__name__)

RECORD = b"plugins/enabled"
START_TIMEOUT_S = 30.0  # a plugin may connect to other systems first; the broker waits no longer than this
STOP_TIMEOUT_S = 10.0
PLUGINS, EXCHANGES = "plugins", "exchanges"

Names = list[str]


@dataclass(frozen=True, slots=True)
class Relations:
    """The plugins that a plugin requires, and the exchange types that need it, as its class names them."""

    requires: tuple[str, ...] = ()
    exchanges: tuple[str, ...] = ()


@dataclass(slots=True, eq=False)
class Run:
    """A plugin that was started, and its state."""

    plugin: Plugin
    scope: trio.CancelScope = field(default_factory=trio.CancelScope)
    ended: trio.Event = field(default_factory=trio.Event)
    error: str = ""
    operations: Mapping[str, Callable[..., Any]] = field(default_factory=dict)


class PluginHost:
    """Runs each enabled plugin as a task with its own cancel scope, inside `run`.

    The enabled plugins are those of `settings.plugins.enabled`, as changed by the record of `enable` and `disable` in the store. An
    exchange type that belongs to no plugin is enabled unless it was disabled.
    """

    def __init__(self, broker: Broker, registry: Registry) -> None:
        self._broker = broker
        self._registry = registry
        self._enabled: set[str] = set()  # according to the record, in addition to the settings
        self._disabled: set[str] = set()  # according to the record, which overrides the settings
        self._runs: dict[str, Run] = {}
        self._failures: dict[str, str] = {}  # of plugins that could not be loaded or constructed
        self._nursery: trio.Nursery | None = None
        self._lock = trio.Lock()

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Start all enabled plugins, and run them until cancelled.

        Raise PluginError if the settings name a plugin that is not installed or cannot be loaded. A plugin that fails later is logged
        and listed as failed.
        """
        self._read_record()
        async with trio.open_nursery() as nursery:
            self._nursery = nursery
            try:
                for name in self._to_start():
                    await self._start(name)
                task_status.started()
                await trio.sleep_forever()
            finally:
                self._nursery = None

    # -- queries

    def list(self) -> Sequence[PluginStatus]:
        """All installed plugins and exchange types, sorted by name."""
        offers = [*self._registry.offers(PLUGINS), *self._registry.offers(EXCHANGES)]
        return sorted(
            (self._status(offer) for offer in offers), key=lambda status: (status.name, status.kind)
        )

    def plugin(self, name: str) -> Plugin:
        """The running plugin of that name. Raise PreconditionFailed if it is not running."""
        run = self._runs.get(name)
        if run is None or run.ended.is_set():
            raise PreconditionFailed(f"plugin '{name}' is not running: enable it first")
        return run.plugin

    def operation(self, name: str) -> Callable[..., Any] | None:
        """The operation that a running plugin offers as "PLUGIN.OPERATION"; None if there is no such operation."""
        plugin, _, wanted = name.partition(".")
        run = self._runs.get(plugin)
        return run.operations.get(wanted) if run is not None and not run.ended.is_set() else None

    def is_enabled(self, name: str) -> bool:
        if name in self._disabled:
            return False
        return name in self._enabled or name in self._broker.settings.plugins.enabled

    def _status(self, offer: Offer) -> PluginStatus:
        error, is_running = "", False
        if offer.kind == EXCHANGES:
            is_enabled = is_running = not self._registry.is_withdrawn(EXCHANGES, offer.name)
        else:
            is_enabled = self.is_enabled(offer.name)
            error = self._failures.get(offer.name, "")
            run = self._runs.get(offer.name)
            if run is not None:
                error, is_running = run.error, not run.ended.is_set()
        description = _description(offer, self._registry.loaded(offer.kind, offer.name))
        return PluginStatus(
            offer.name, offer.kind.removesuffix("s"), offer.distribution, offer.version, description, is_enabled,
            is_running, error,
        )  # fmt: skip

    def reconfigure(self, former: Settings) -> None:
        """After a reload: give each running plugin its section if that has changed. former: the settings before the reload."""
        for name, run in self._runs.items():
            if not run.ended.is_set() and isinstance(run.plugin, Reconfigurable):
                for own, was in zip(
                    self._registry.own_settings(PLUGINS, name, self._broker.settings),
                    self._registry.own_settings(PLUGINS, name, former),
                    strict=True,
                ):
                    if own != was:
                        run.plugin.reconfigure(own)

    # -- changes

    async def enable(self, name: str) -> Names:
        """Enable a plugin and all plugins that it requires, or an exchange type. The change survives restarts.

        Returns the names of those that were enabled, in the order of starting. Raise NotFound, and PluginError if a plugin cannot be
        loaded or fails while it starts; then it stays disabled.
        """
        async with self._lock:
            if self._kind(name) == EXCHANGES:
                if not self._registry.is_withdrawn(EXCHANGES, name):
                    return []
                self._readmit(name)
                self._disabled.discard(name)
                await self._write_record()
                return [name]
            changed: Names = []
            for one in self._with_required(name):
                if self.is_enabled(one) and self._is_running(one):
                    continue
                await self._start(one)
                if one in self._failures or self._runs[one].error:
                    reason = self._failures.get(one) or self._runs[one].error
                    raise PluginError(f"plugin '{one}' does not start: {reason}")
                self._disabled.discard(one)
                if one not in self._broker.settings.plugins.enabled:
                    self._enabled.add(one)
                changed.append(one)
            await self._write_record()
            return changed

    async def disable(self, name: str) -> Names:
        """Disable a plugin and all plugins that require it, or an exchange type. The change survives restarts.

        Their exchanges stay, with their bindings, and refuse published messages. Returns the names of those that were disabled, in the
        order of stopping. Raise NotFound, and InvalidArgument for an exchange type that cannot be disabled.
        """
        async with self._lock:
            if self._kind(name) == EXCHANGES:
                if self._registry.is_withdrawn(EXCHANGES, name):
                    return []
                self._withdraw(name)
                self._disabled.add(name)
                await self._write_record()
                return [name]
            changed = [one for one in self._with_dependents(name) if self.is_enabled(one)]
            for one in changed:
                self._enabled.discard(one)
                self._disabled.add(one)
                for exchange_type in self._relations(one).exchanges:
                    self._withdraw(exchange_type)
                await self._stop(one)
            await self._write_record()
            return changed

    def _kind(self, name: str) -> str:
        for kind in (PLUGINS, EXCHANGES):
            if self._registry.find(kind, name) is not None:
                return kind
        raise NotFound(f"there is no plugin '{name}'")

    def _with_required(self, name: str) -> Names:
        """The plugin, after all plugins that it requires. Raise PluginError."""
        order: Names = []

        def visit(one: str, path: tuple[str, ...]) -> None:
            if one in path:
                raise PluginError(f"plugins require each other: {' -> '.join((*path, one))}")
            self._registry.load(PLUGINS, one)
            for required in self._relations(one).requires:
                visit(required, (*path, one))
            if one not in order:
                order.append(one)

        visit(name, ())
        return order

    def _relations(self, name: str) -> Relations:
        """None for a plugin that cannot be loaded, so that it can be disabled nevertheless."""
        try:
            made = self._registry.load(PLUGINS, name)
        except PluginError:
            return Relations()
        return Relations(tuple(getattr(made, "requires", ())), tuple(getattr(made, "exchanges", ())))

    def _with_dependents(self, name: str) -> Names:
        """The plugin, after all enabled plugins that require it."""
        order = [name]
        for one in order:  # the list grows during the iteration
            for offer in self._registry.offers(PLUGINS):
                if offer.name in order or not self.is_enabled(offer.name):
                    continue
                if one in self._relations(offer.name).requires:
                    order.append(offer.name)
        return order[::-1]

    # -- exchange types

    def _withdraw(self, type_name: str) -> None:
        self._registry.withdraw(EXCHANGES, type_name)
        self._restore_exchanges(type_name)

    def _readmit(self, type_name: str) -> None:
        self._registry.readmit(EXCHANGES, type_name)
        self._restore_exchanges(type_name)

    def _restore_exchanges(self, type_name: str) -> None:
        """Give the exchanges of this type a new object of the type that is available now, with their bindings."""
        for vhost in self._broker.vhosts.values():
            for exchange in vhost.exchanges.values():
                if exchange.type != type_name:
                    continue
                router = self._registry.restore_exchange(
                    type_name, exchange.arguments, exchange=exchange.name, vhost=vhost.name
                )
                for binding in exchange.bindings.values():
                    try:
                        router.validate(binding)
                        router.bind(binding)
                    except (
                        BrokerError
                    ) as error:  # the binding was made while the type was disabled, and so not validated
                        log.warning(
                            "vhost=%s exchange=%r: a binding has no effect: %s",
                            vhost.name,
                            exchange.name,
                            error,
                        )
                exchange.router = router
            vhost.epoch += 1

    # -- tasks

    def _to_start(self) -> Names:
        """All enabled plugins, each after those that it requires.

        Raise PluginError for a plugin that the settings name and that cannot be loaded. One that was enabled at run time is logged
        instead, because a plugin can be disabled only while the broker runs.
        """
        order: dict[str, None] = {}
        named = self._broker.settings.plugins.enabled
        for name in sorted({*named, *self._enabled} - self._disabled):
            if self._registry.find(EXCHANGES, name) is not None:
                continue
            try:
                order.update(dict.fromkeys(self._with_required(name)))
            except PluginError as error:
                if name in named:
                    raise
                self._failures[name] = str(error)
                log.error("plugin=%s is enabled, but cannot be used: %s", name, error)
        return [*order]

    def _is_running(self, name: str) -> bool:
        run = self._runs.get(name)
        return run is not None and not run.ended.is_set()

    async def _start(self, name: str) -> None:
        """Start a plugin, and wait until it is ready or has failed. Raise PluginError if it cannot be loaded."""
        if self._nursery is None:
            raise PreconditionFailed("plugins cannot be started: the broker is stopping")
        if self._is_running(name):
            return
        made = self._registry.load(PLUGINS, name)
        self._failures.pop(name, None)
        self._runs.pop(name, None)
        try:
            plugin = made(*self._registry.own_settings(PLUGINS, name, self._broker.settings))
        except Exception as error:
            log.exception("plugin=%s cannot be constructed", name)
            self._failures[name] = _sentence(error)
            return
        run = self._runs[name] = Run(plugin)
        for exchange_type in self._relations(name).exchanges:
            if self._registry.is_withdrawn(EXCHANGES, exchange_type) and exchange_type not in self._disabled:
                self._readmit(exchange_type)
        with trio.move_on_after(START_TIMEOUT_S) as scope:
            await self._nursery.start(self._supervise, name, run)
        if scope.cancelled_caught:
            run.error = f"was not ready after {START_TIMEOUT_S:g} seconds"
            log.error("plugin=%s %s", name, run.error)
        elif not run.error:
            if isinstance(plugin, OffersOperations):
                run.operations = plugin.operations()
            log.info("plugin=%s started", name)

    async def _supervise(self, name: str, run: Run, *, task_status: trio.TaskStatus[None]) -> None:
        started = Started(task_status)
        try:
            with run.scope:
                await run.plugin.run(self._broker, task_status=started)
        except (Exception, SystemExit) as error:
            run.error = _sentence(error)
            log.exception("plugin=%s failed", name)
        finally:
            run.ended.set()
        started.started()

    async def _stop(self, name: str) -> None:
        run = self._runs.get(name)
        if run is not None and not run.ended.is_set():
            run.scope.cancel()
            with trio.move_on_after(STOP_TIMEOUT_S):
                await run.ended.wait()
        if run is not None and not run.ended.is_set():
            run.error = f"did not stop within {STOP_TIMEOUT_S:g} seconds"
            log.error("plugin=%s %s", name, run.error)
            return
        self._runs.pop(name, None)
        self._failures.pop(name, None)
        log.info("plugin=%s stopped", name)

    # -- the record

    def _read_record(self) -> None:
        for key, value in self._broker.store.definitions(RECORD):
            if key == RECORD:
                record = json.loads(value)
                self._enabled, self._disabled = set(record["enabled"]), set(record["disabled"])
        for name in sorted(self._disabled):
            if self._registry.find(PLUGINS, name) is not None:
                for exchange_type in self._relations(name).exchanges:
                    self._withdraw(exchange_type)
            elif self._registry.find(EXCHANGES, name) is not None:
                self._withdraw(name)

    async def _write_record(self) -> None:
        """Write the record, and wait until it is durable."""
        record = {"enabled": sorted(self._enabled), "disabled": sorted(self._disabled)}
        self._broker.store.put_definition(RECORD, json.dumps(record).encode())
        durable = trio.Event()
        if not self._broker.store.after_commit(durable.set):
            await durable.wait()


def _description(offer: Offer, made: Any | None) -> str:
    """The description of the class or of its module; the distribution's summary while the class is not loaded."""
    if made is None:
        return offer.summary
    description: str = (
        getattr(made, "description", "") or getattr(sys.modules.get(made.__module__), "__doc__", "") or ""
    )
    return description.strip().partition("\n")[0]


def _sentence(error: BaseException) -> str:
    return f"{type(error).__name__}: {error}"

"""The server: one broker with its store, adapters, plugins, control listener and signals, put together and run."""

from __future__ import annotations

import logging
import os
import signal
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
import trio

from leveret import __version__
from leveret.adapters.control.address import AddressError
from leveret.adapters.control.operations import OPERATIONS
from leveret.adapters.control.server import ControlServer, Operation, OperationRefused
from leveret.adapters.listener import ListenerError, serve_all, tls_context
from leveret.adapters.scheduling import serve_in_order_of_arrival
from leveret.conf.load import SettingsError, merge_reloadable
from leveret.conf.logs import LogFileError, configure, set_level
from leveret.core.broker import Broker
from leveret.core.definitions.importer import DefinitionsError, read_file
from leveret.core.errors import StoreUnavailable
from leveret.core.registry import PluginError
from leveret.plugins.host import PluginHost
from leveret.plugins.operations import plugin_operations

if TYPE_CHECKING:
    from leveret.adapters.base import OpenListener
    from leveret.conf.settings import Settings
    from leveret.core.registry import Registry
__all__ = ["Server", "ServerError"]

log = logging.getLogger("leveret")

MAX_FILES = 1 << 20  # descriptors asked for, if the hard limit allows more


class ServerError(Exception):
    """The server cannot start: one sentence for the operator."""


class Server:
    """One broker with its listeners, plugins and signals.

    registry: what is installed. load_settings: loads them again, for a reload. started_at: on the monotonic clock.
    """

    def __init__(
        self,
        settings: Settings,
        registry: Registry,
        load_settings: Callable[[], Settings],
        started_at: float,
    ) -> None:
        self.settings = settings
        self._registry = registry
        self._load_settings = load_settings
        self._started_at = started_at
        self._broker: Broker | None = None
        self._plugins: PluginHost | None = None
        self._stopping: trio.CancelScope | None = None

    def run(self) -> None:
        """Until it is told to stop. Raise ServerError if it cannot start."""
        refusals = (
            AddressError, DefinitionsError, ListenerError, LogFileError, PluginError, ServerError, StoreUnavailable,
        )  # fmt: skip
        try:
            configure(self.settings.log)
            _prepare(self.settings.server.data_dir)
            trio.run(self._main)
        except refusals as error:
            raise ServerError(str(error)) from error
        except BaseExceptionGroup as group:  # through nurseries
            refused, rest = group.split(refusals)
            if refused is None or rest is not None:
                raise
            raise ServerError(str(_first(refused))) from group

    async def _main(self) -> None:
        serve_in_order_of_arrival()
        self._stopping = trio.CancelScope()
        async with trio.open_nursery() as nursery:
            await nursery.start(self._watch_signals)
            await self._serve(self._stopping)
            nursery.cancel_scope.cancel()
        log.info("stopped")

    async def _serve(self, stopping: trio.CancelScope) -> None:
        """What begins first here ends last: while the listeners drain, timers and store work and the control listener answers."""
        settings, server, registry = self.settings, self.settings.server, self._registry
        store = registry.load("stores", settings.store.engine)(
            server.data_dir, settings.store, *registry.own_settings("stores", settings.store.engine, settings)
        )
        broker = self._broker = Broker(settings, registry, store)
        if server.load_definitions:
            broker.boot_definitions = read_file(Path(server.load_definitions))
            if broker.boot_definitions is None:
                log.warning("definitions file=%s is not there; nothing is imported", server.load_definitions)
        host = self._plugins = PluginHost(broker, registry)
        operations = _Operations(host)
        operations |= {
            **OPERATIONS,
            **plugin_operations(host),
            "stop": lambda broker: self.stop(),
            "reload": lambda broker: self.reload(),
        }
        control = ControlServer(broker, operations, server.data_dir, server.control_socket)
        async with broker.running(), trio.open_nursery() as around:
            await around.start(control.run)
            broker.adapters = [registry.load("adapters", name)(broker) for name in registry.names("adapters")]
            with stopping:
                async with trio.open_nursery() as nursery:
                    await nursery.start(host.run)
                    listeners = await nursery.start(serve_all, broker)
                    self._announce(listeners, control.address.path)
            around.cancel_scope.cancel()

    def _announce(self, listeners: list[OpenListener], control: Path) -> None:
        """For people at a terminal a few lines; for programs that started us the last one."""
        took = time.monotonic() - self._started_at
        data_dir = self.settings.server.data_dir
        addresses = {listener.name: listener.address for listener in listeners}
        if sys.stdout.isatty():
            click.echo(f"\n  Leveret {__version__}, started in {took:.2f} s\n")
            for name, text in {**addresses, "control": str(control), "data": str(data_dir)}.items():
                click.echo(f"  {name:<8} {text}")
            click.echo()
        ready = [str(listener) for listener in listeners]
        click.echo(" ".join(["leveret ready:", *ready, f"data={data_dir}"]))
        sys.stdout.flush()
        log.info("Server startup complete; version=%s took=%.3fs %s", __version__, took, " ".join(ready))

    # -- at run time

    async def _watch_signals(self, *, task_status: trio.TaskStatus[None]) -> None:
        with trio.open_signal_receiver(signal.SIGTERM, signal.SIGINT, signal.SIGHUP) as signals:
            task_status.started()
            is_stopping = False
            async for number in signals:
                if number == signal.SIGHUP:
                    self._on_hangup()
                elif is_stopping:
                    log.warning("signal=%s again: exiting at once", signal.Signals(number).name)
                    os._exit(1)  # what is confirmed is on the disk; recovery does the rest
                else:
                    is_stopping = True
                    log.info("signal=%s stopping", signal.Signals(number).name)
                    self.stop()

    def stop(self) -> dict[str, int]:
        """Begin to stop. Returns the process id, for those who wait for its end."""
        if self._stopping is not None:
            self._stopping.cancel()
        return {"pid": os.getpid()}

    def reload(self) -> dict[str, tuple[str, ...]]:
        """Read the settings again, and certificates. Returns keys: changed, needs_restart. Raise OperationRefused."""
        broker = self._broker
        if broker is None:
            raise OperationRefused("the server is still starting")
        try:
            reload = merge_reloadable(self.settings, self._load_settings())
            if broker.tls_context is not None:
                broker.tls_context = tls_context(
                    reload.settings
                )  # for new connections; nobody is disconnected
        except (SettingsError, ListenerError) as error:
            raise OperationRefused(str(error), "invalid") from error
        former = self.settings
        self.settings = broker.settings = self._registry.settings = reload.settings
        broker.backends.reconfigure(former, reload.settings)
        if self._plugins is not None:
            self._plugins.reconfigure(former)
        set_level(reload.settings.log.level)
        limits = reload.settings.limits
        broker.connection_limits.node_limit = limits.connection_max
        broker.backpressure.max_pending_bytes = reload.settings.store.max_pending_bytes
        broker.alarms.set_memory_watermark(limits.memory_high_watermark, limits.memory_absolute)
        broker.alarms.set_disk_free_limit(limits.disk_free_limit)
        log.info("settings reloaded changed=%s", ",".join(reload.changed) or "none")
        if reload.needs_restart:
            log.warning("these changes need a restart: %s", ", ".join(reload.needs_restart))
        return {"changed": reload.changed, "needs_restart": reload.needs_restart}

    def _on_hangup(self) -> None:
        try:
            self.reload()
        except OperationRefused as refusal:
            for problem in str(refusal).splitlines():
                log.error("settings not reloaded: %s", problem)


class _Operations(dict[str, Operation]):
    """What the control socket can be asked: the broker's operations, and those of the plugins that run at the time."""

    def __init__(self, host: PluginHost) -> None:
        super().__init__()
        self._host = host

    def __missing__(self, name: str) -> Operation:
        operation = self._host.operation(name)
        if operation is None:
            raise KeyError(name)
        return operation


def _prepare(data_dir: Path) -> None:
    """The data directory, and as many file descriptors as we may have. Raise ServerError."""
    import resource

    try:
        data_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
    except OSError as error:
        raise ServerError(f"the data directory {data_dir} cannot be made: {error.strerror}") from error
    if not os.access(data_dir, os.R_OK | os.W_OK | os.X_OK):
        raise ServerError(f"the data directory {data_dir} is not writable")
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = MAX_FILES if hard == resource.RLIM_INFINITY else min(hard, MAX_FILES)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))


def _first(group: BaseExceptionGroup[Any]) -> BaseException:
    error: BaseException = group
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    return error

"""The command line and the composition root: the only file that knows every layer.

Nothing of the broker is imported before `serve` runs: `leveret ctl` must answer at once.
"""

from __future__ import annotations

import gc
import importlib
import logging
import os
import signal
import sys
import time
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

import click

from leveret import __version__

if TYPE_CHECKING:
    import trio

    from leveret.adapters.base import OpenListener
    from leveret.conf.settings import Settings
    from leveret.core.broker import Broker
    from leveret.core.registry import Registry
    from leveret.plugins.host import PluginHost
__all__ = ["Server", "ServerError", "cli", "main"]

log = logging.getLogger("leveret")

EX_CONFIG = 2  # the server was told something impossible, or cannot have what it needs
MAX_FILES = 1 << 20  # descriptors asked for, if the hard limit allows more
COLLECT = (10_000, 20, 50)
"""Python's collector looks for cycles this rarely: next to nothing here is one, messages least of all. Measured: a fifth to
a third less processor time for filling and draining a queue than with Python's own 700, 10, 10."""


class LazyGroup(click.Group):
    """Commands by name and where they are; imported when they are used."""

    places: Mapping[str, tuple[str, str]] = {
        "ctl": ("leveret.adapters.cli.commands", "ctl"),
        "plugins": ("leveret.plugins.commands", "plugins"),
    }

    def list_commands(self, context: click.Context) -> list[str]:
        return sorted([*super().list_commands(context), *self.places])

    def get_command(self, context: click.Context, name: str) -> click.Command | None:
        if name not in self.places:
            return super().get_command(context, name)
        command = _import(*self.places[name])
        if name == "ctl":
            assert isinstance(command, click.Group)
            command.add_command(_import(*self.places["plugins"]))
        return command


def _import(module: str, name: str) -> click.Command:
    command = getattr(importlib.import_module(module), name)
    assert isinstance(command, click.Command)
    return command


@click.group(cls=LazyGroup, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="leveret", message="%(prog)s %(version)s")
def cli() -> None:
    """One broker, many protocols. `leveret serve` starts it; `leveret ctl` administers it."""


def _flags(command: Callable[..., None]) -> Callable[..., None]:
    """One option per setting that declares a flag; values are checked with the other settings, all at once."""
    from leveret.conf.settings import declarations

    for key, declared in reversed(declarations().items()):
        if declared.flag:
            metavar = "|".join(declared.choices) or (
                "PORT" if declared.unit == "port" else declared.name.upper()
            )
            default = (
                ""
                if declared.is_computed
                else f"  [{'off' if declared.default is None else declared.default}]"
            )
            help = declared.doc[0].upper() + declared.doc[1:] + "." + default
            name = key.replace(".", "__")
            command = click.option(declared.flag, name, metavar=metavar, help=help)(command)
    return command


@cli.command()
@click.option("--config", type=click.Path(path_type=Path), envvar="LEVERET_CONFIG", help="Settings, as TOML.")
@_flags
def serve(config: Path | None, **flags: Any) -> None:
    """Start a server, and run until SIGTERM. SIGHUP reads the settings again."""
    started_at = time.monotonic()
    gc.set_threshold(*COLLECT)
    from leveret.conf.load import SettingsError, load
    from leveret.core.registry import PluginError
    from leveret.plugins.loader import declarations_of, load_registry

    try:
        registry = load_registry()
        declared = declarations_of(registry)
        given = {key.replace("__", "."): value for key, value in flags.items()}

        def load_settings() -> Settings:
            return load(config, os.environ, given, declared)

        Server(load_settings(), registry, load_settings, started_at).run()
    except SettingsError as error:
        _refuse(error.problems)
    except (PluginError, ServerError) as error:
        _refuse([str(error)])
    except KeyboardInterrupt:  # before anybody listened for it
        sys.exit(128 + signal.SIGINT)


@cli.command()
@click.option("--format", type=click.Choice(["toml", "markdown"]), default="toml", help="How they are shown.")
def settings(format: str) -> None:
    """Show every setting with its default, also those of installed plugins."""
    from leveret.conf.declare import DeclarationError
    from leveret.conf.reference import as_markdown, as_toml
    from leveret.core.registry import PluginError
    from leveret.plugins.loader import declarations_of, load_registry

    try:
        declared = declarations_of(load_registry())
        text = as_toml(declared) if format == "toml" else as_markdown(declared)
    except (DeclarationError, PluginError) as error:
        _refuse([str(error)])
    click.echo(text, nl=False)


def _refuse(problems: Iterable[str]) -> NoReturn:
    for problem in problems:
        click.echo(f"leveret: {problem}", err=True)
    sys.exit(EX_CONFIG)


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
        import trio

        from leveret.adapters.control.address import AddressError
        from leveret.adapters.listener import ListenerError
        from leveret.conf.logs import LogFileError, configure
        from leveret.core.definitions.interchange import DefinitionsError
        from leveret.core.errors import StoreUnavailable
        from leveret.core.registry import PluginError

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
        import trio

        from leveret.adapters.scheduling import serve_in_order_of_arrival

        serve_in_order_of_arrival()
        self._stopping = trio.CancelScope()
        async with trio.open_nursery() as nursery:
            await nursery.start(self._watch_signals)
            await self._serve(self._stopping)
            nursery.cancel_scope.cancel()
        log.info("stopped")

    async def _serve(self, stopping: trio.CancelScope) -> None:
        """What begins first here ends last: while the listeners drain, timers and store work and the control listener answers."""
        import trio

        from leveret.adapters.control.operations import OPERATIONS
        from leveret.adapters.control.server import ControlServer
        from leveret.adapters.listener import serve_all
        from leveret.core.broker import Broker
        from leveret.core.definitions.interchange import read_file
        from leveret.plugins.commands import plugin_operations
        from leveret.plugins.host import PluginHost

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
        operations = {
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
        addresses = {listener.name: f"[{listener.host}]:{listener.port}" if ":" in listener.host else f"{listener.host}:{listener.port}"
                     for listener in listeners}  # fmt: skip
        if sys.stdout.isatty():
            click.echo(f"\n  Leveret {__version__}, started in {took:.2f} s\n")
            for name, text in {**addresses, "control": str(control), "data": str(data_dir)}.items():
                click.echo(f"  {name:<8} {text}")
            click.echo()
        ready = [f"{name}={text}" for name, text in addresses.items()]
        click.echo(" ".join(["leveret ready:", *ready, f"data={data_dir}"]))
        sys.stdout.flush()
        log.info("Server startup complete; version=%s took=%.3fs %s", __version__, took, " ".join(ready))

    # -- at run time

    async def _watch_signals(self, *, task_status: trio.TaskStatus[None]) -> None:
        import trio

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
        from leveret.adapters.control.server import OperationRefused
        from leveret.adapters.listener import ListenerError, tls_context
        from leveret.conf.load import SettingsError, merge_reloadable
        from leveret.conf.logs import set_level

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
        if self._plugins is not None:
            self._plugins.reconfigure(former)
        set_level(reload.settings.log.level)
        limits = reload.settings.limits
        broker.connection_limits.node_limit = limits.connection_max
        broker.alarms.set_memory_watermark(limits.memory_high_watermark, limits.memory_absolute)
        broker.alarms.set_disk_free_limit(limits.disk_free_limit)
        log.info("settings reloaded changed=%s", ",".join(reload.changed) or "none")
        if reload.needs_restart:
            log.warning("these changes need a restart: %s", ", ".join(reload.needs_restart))
        return {"changed": reload.changed, "needs_restart": reload.needs_restart}

    def _on_hangup(self) -> None:
        from leveret.adapters.control.server import OperationRefused

        try:
            self.reload()
        except OperationRefused as refusal:
            for problem in str(refusal).splitlines():
                log.error("settings not reloaded: %s", problem)


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


def main() -> None:
    """The `leveret` command."""
    cli(prog_name="leveret")


if __name__ == "__main__":
    main()

"""`leveret serve`: its flags, which the settings declare, and the start of a server."""

from __future__ import annotations

import gc
import os
import signal
import sys
import time
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

import click

from leveret.conf.declare import DeclarationError, Setting, declared
from leveret.conf.load import Declarations, SettingsError, load
from leveret.conf.reference import as_markdown, as_toml
from leveret.conf.settings import declarations
from leveret.core.registry import PluginError
from leveret.plugins.loader import declarations_of, load_registry
from leveret.server import Server, ServerError

if TYPE_CHECKING:
    from leveret.conf.settings import Settings
__all__ = ["serve_command", "settings_command", "unusable_command"]

EX_CONFIG = 2  # the server was told something impossible, or cannot have what it needs
COLLECT = (10_000, 20, 50)
"""Python's collector looks for cycles this rarely: next to nothing here is one, messages least of all. Measured: a fifth to
a third less processor time for filling and draining a queue than with Python's own 700, 10, 10."""


def serve_command() -> click.Command:
    """The command, with a flag for each setting that declares one."""
    started_at = time.monotonic()
    gc.set_threshold(*COLLECT)
    try:
        registry = load_registry()
        owned = declarations_of(registry)
        rows = list(_with_flags(owned))
    except (DeclarationError, PluginError) as error:
        return unusable_command("serve", str(error))

    def serve(config: Path | None, **flags: Any) -> None:
        """Start a server, and run until SIGTERM. SIGHUP reads the settings again."""
        given = {key.replace("__", "."): value for key, value in flags.items()}

        def load_settings() -> Settings:
            return load(config, os.environ, given, owned)

        try:
            Server(load_settings(), registry, load_settings, started_at).run()
        except SettingsError as error:
            _refuse(error.problems)
        except ServerError as error:
            _refuse([str(error)])
        except KeyboardInterrupt:  # before anybody listened for it
            sys.exit(128 + signal.SIGINT)

    file = click.Option(
        ["--config"], type=click.Path(path_type=Path), envvar="LEVERET_CONFIG", help="Settings, as TOML."
    )
    return click.Command("serve", callback=serve, params=[file, *map(_option, rows)], help=serve.__doc__)


def _with_flags(owned: Declarations) -> Iterator[Setting]:
    """The settings that have flags: shared ones, listeners' ports and adapters' own, in the order of the file."""
    shared = list(declarations().values())
    is_listeners = [row.section == "listeners" for row in shared]
    after = len(shared) - is_listeners[::-1].index(True)
    rows = [*shared[:after], *owned.ports, *shared[after:]]
    for section in owned.always:
        declaration = owned.sections[section]()
        if declaration is not None:
            rows += declared(section, declaration).values()
    return (row for row in rows if row.flag)


def _option(row: Setting) -> click.Option:
    """Values are checked with all other settings, at once, so that click takes any text."""
    metavar = "|".join(row.choices) or ("PORT" if row.unit == "port" else row.name.upper())
    default = "" if row.is_computed else f"  [{'off' if row.default is None else row.default}]"
    help = row.doc[0].upper() + row.doc[1:] + "." + default
    return click.Option([row.flag, row.key.replace(".", "__")], metavar=metavar, help=help)


def settings_command() -> click.Command:
    """`leveret settings`."""

    def settings(format: str) -> None:
        """Show every setting with its default, also those of installed plugins."""
        try:
            owned = declarations_of(load_registry())
            text = as_toml(owned) if format == "toml" else as_markdown(owned)
        except (DeclarationError, PluginError) as error:
            _refuse([str(error)])
        click.echo(text, nl=False)

    option = click.Option(
        ["--format"], type=click.Choice(["toml", "markdown"]), default="toml", help="How they are shown."
    )
    return click.Command("settings", callback=settings, params=[option], help=settings.__doc__)


def unusable_command(name: str, problem: str) -> click.Command:
    """In place of a command that cannot be built: it says why, and the others and their help go on working."""
    return click.Command(
        name, callback=lambda: _refuse([problem]), help=f"Cannot be used: {problem}.", add_help_option=False,
        context_settings={"ignore_unknown_options": True, "allow_extra_args": True},
    )  # fmt: skip


def _refuse(problems: Iterable[str]) -> NoReturn:
    for problem in problems:
        click.echo(f"leveret: {problem}", err=True)
    sys.exit(EX_CONFIG)

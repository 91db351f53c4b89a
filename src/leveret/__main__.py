"""The command line. Each command is imported when it is used: `leveret ctl` answers without loading the broker."""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from importlib.metadata import entry_points

import click

from leveret import __version__

__all__ = ["cli", "main"]

COMMANDS = "leveret.commands"


class LazyGroup(click.Group):
    """Commands by name and where they are: a command, or a function that builds one.

    Plugins add commands by the entry-point group leveret.commands; the names that are used here stay ours.
    """

    places: Mapping[str, tuple[str, str]] = {
        "ctl": ("leveret.adapters.cli.commands", "ctl"),
        "plugins": ("leveret.adapters.cli.plugins", "plugins"),
        "serve": ("leveret.serve", "serve_command"),
        "settings": ("leveret.serve", "settings_command"),
    }

    def list_commands(self, context: click.Context) -> list[str]:
        return sorted({*self.places, *entry_points(group=COMMANDS).names})

    def get_command(self, context: click.Context, name: str) -> click.Command | None:
        if name not in self.places:
            return _of_plugin(name)
        command = _import(*self.places[name])
        if name == "ctl":
            assert isinstance(command, click.Group)
            command.add_command(_import(*self.places["plugins"]))
        return command


def _of_plugin(name: str) -> click.Command | None:
    if not entry_points(group=COMMANDS, name=name):
        return None
    from leveret.core.registry import PluginError
    from leveret.plugins.loader import load_registry

    try:
        command = load_registry().load("commands", name)
    except PluginError as error:
        from leveret.serve import unusable_command

        return unusable_command(name, str(error))
    assert isinstance(command, click.Command)
    return command


def _import(module: str, name: str) -> click.Command:
    found = getattr(importlib.import_module(module), name)
    command = found if isinstance(found, click.Command) else found()
    assert isinstance(command, click.Command)
    return command


@click.group(cls=LazyGroup, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="leveret", message="%(prog)s %(version)s")
def cli() -> None:
    """One broker, many protocols. `leveret serve` starts it; `leveret ctl` administers it."""


def main() -> None:
    """The `leveret` command."""
    cli(prog_name="leveret")


if __name__ == "__main__":
    main()

"""The command line. Each command is imported when it is used: `leveret ctl` answers without loading the broker."""

from __future__ import annotations

import importlib
from collections.abc import Mapping

import click

from leveret import __version__

__all__ = ["cli", "main"]


class LazyGroup(click.Group):
    """Commands by name and where they are: a command, or a function that builds one."""

    places: Mapping[str, tuple[str, str]] = {
        "ctl": ("leveret.adapters.cli.commands", "ctl"),
        "plugins": ("leveret.adapters.cli.plugins", "plugins"),
        "serve": ("leveret.serve", "serve_command"),
        "settings": ("leveret.serve", "settings_command"),
    }

    def list_commands(self, context: click.Context) -> list[str]:
        return sorted(self.places)

    def get_command(self, context: click.Context, name: str) -> click.Command | None:
        if name not in self.places:
            return None
        command = _import(*self.places[name])
        if name == "ctl":
            assert isinstance(command, click.Group)
            command.add_command(_import(*self.places["plugins"]))
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

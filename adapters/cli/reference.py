"""The reference page of `leveret ctl`, written from the commands: `python -m leveret.adapters.cli.reference`."""

from __future__ import annotations

import textwrap
from collections.abc import Iterator

import click

from leveret.adapters.cli.commands import ctl
from leveret.adapters.cli.options import EXIT_STATUSES, common_options
from leveret.adapters.cli.plugins import plugins

__all__ = ["SECTIONS", "as_markdown"]

SECTIONS = {
    "The server": (
        "status", "ping", "await_startup", "reload", "stop", "set_log_level", "set_vm_memory_high_watermark",
        "set_disk_free_limit",
    ),
    "Users and permissions": (
        "add_user", "change_password", "clear_password", "authenticate_user", "set_user_tags", "delete_user",
        "list_users", "set_permissions", "clear_permissions", "list_permissions", "list_user_permissions",
        "set_topic_permissions", "clear_topic_permissions", "list_topic_permissions", "set_user_limits",
        "clear_user_limits", "list_user_limits",
    ),
    "Virtual hosts": (
        "add_vhost", "delete_vhost", "list_vhosts", "set_vhost_limits", "clear_vhost_limits", "list_vhost_limits",
        "trace_on", "trace_off",
    ),
    "Queues, exchanges and consumers": (
        "list_queues", "purge_queue", "delete_queue", "list_exchanges", "list_bindings", "list_consumers",
    ),
    "Connections": ("list_connections", "list_channels", "close_connection", "close_all_connections"),
    "Policies and parameters": (
        "set_policy", "clear_policy", "list_policies", "set_operator_policy", "clear_operator_policy",
        "list_operator_policies", "set_parameter", "clear_parameter", "list_parameters", "set_global_parameter",
        "clear_global_parameter", "list_global_parameters",
    ),
    "Definitions": ("export_definitions", "import_definitions"),
}  # fmt: skip
"""Every command of `ctl`, in the order of the page."""

WIDTH = 120

HEAD = """# leveret ctl

<!-- Written by `python -m leveret.adapters.cli.reference > docs/ctl.md`. -->

`leveret ctl` administers a running server over its control socket, which only the server's own user can open. Commands,
options, output and exit statuses are those of `rabbitmqctl`, so that scripts written for it work. A command that changes
something returns when the change is durable.

    leveret ctl [OPTIONS] COMMAND [ARGUMENTS]

## Options of all commands

They stand before or after the command's name.

"""

LISTINGS = """
A table has a line per row, with tabs between its columns when standard output is no terminal. Listings that take columns
show them in the order of the command line: `leveret ctl list_queues name messages consumers`.

## Exit statuses

| status | meaning |
|---|---|
| 0 | The command succeeded. |
"""

MEANINGS = {
    64: "The command line is wrong: an unknown command, option or column.",
    65: "A value is invalid, or the thing does not exist.",
    67: "The user does not exist.",
    69: "No server answers.",
    70: "The server refuses: the thing exists already, is in use, or an internal error happened.",
    75: "A timeout: the disk, or the server, is too slow.",
}


def as_markdown() -> str:
    """The page docs/ctl.md."""
    return "".join(_lines())


def _lines() -> Iterator[str]:
    yield HEAD
    yield from _options(common_options())
    yield LISTINGS
    statuses = {*EXIT_STATUSES.values(), *MEANINGS}
    yield from (f"| {status} | {MEANINGS[status]} |\n" for status in sorted(statuses))
    for title, names in SECTIONS.items():
        yield f"\n## {title}\n"
        for name in names:
            yield from _command(ctl.commands[name], "leveret ctl")
    yield "\n## Plugins\n\n`leveret ctl plugins` is the same as `leveret plugins`.\n"
    for _, command in sorted(plugins.commands.items()):
        yield from _command(command, "leveret plugins")


def _command(command: click.Command, group: str) -> Iterator[str]:
    context = click.Context(command, info_name=f"{group} {command.name}")
    own = [one for one in command.params if one.expose_value and isinstance(one, click.Option)]
    pieces = [
        piece
        for one in command.params
        if isinstance(one, click.Argument)
        for piece in one.get_usage_pieces(context)
    ]
    usage = " ".join([*(["[OPTIONS]"] if own else []), *pieces])
    yield f"\n### {command.name}\n\n    {group} {command.name} {usage}".rstrip() + "\n\n"
    help = (command.help or "").replace("\b", "").strip()
    yield "\n\n".join(textwrap.fill(paragraph, WIDTH) for paragraph in help.split("\n\n")) + "\n"
    if own:
        yield "\n"
        yield from _options(own)


def _options(options: list[click.Option]) -> Iterator[str]:
    yield "| option | |\n|---|---|\n"
    for option in options:
        if not option.hidden:
            metavar = "" if option.is_flag else f" {option.metavar or option.type.name.upper()}"
            if isinstance(option.type, click.Choice):
                metavar = " " + "\\|".join(option.type.choices)
            default = f" Default: `{option.default}`." if option.show_default else ""
            yield f"| `{', '.join(option.opts)}{metavar}` | {option.help}{default} |\n"


if __name__ == "__main__":
    click.echo(as_markdown(), nl=False)

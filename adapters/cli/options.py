"""What all commands of `leveret ctl` share: the common options, the request to the server, and the exit statuses."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn

import click

from leveret.adapters.cli import client
from leveret.adapters.cli.formats import FORMATTERS, printable, render
from leveret.adapters.control import address

__all__ = [
    "EXIT_STATUSES",
    "EX_TEMPFAIL",
    "Choices",
    "CtlGroup",
    "add_common",
    "announce",
    "choices_of",
    "common_options",
    "done",
    "fail",
    "request",
    "show_listing",
]

# As in sysexits.h, and as rabbitmqctl exits.
EX_USAGE, EX_DATAERR, EX_NOUSER, EX_UNAVAILABLE, EX_SOFTWARE, EX_TEMPFAIL = 64, 65, 67, 69, 70, 75
EXIT_STATUSES = {
    "usage": EX_USAGE, "no_user": EX_NOUSER, "not_found": EX_DATAERR, "invalid": EX_DATAERR, "exists": EX_SOFTWARE,
    "refused": EX_SOFTWARE, "unavailable": EX_TEMPFAIL, "internal": EX_SOFTWARE,
}  # fmt: skip


@dataclass(slots=True)
class Choices:
    """The common options of one command line."""

    vhost: str = "/"
    formatter: str = "table"
    quiet: bool = False
    silent: bool = False
    no_table_headers: bool = False
    timeout: float = 60.0
    data_dir: str | None = None
    socket: str | None = None
    config: str | None = None

    @property
    def is_for_people(self) -> bool:
        return not self.quiet and not self.silent and self.formatter in ("table", "pretty_table")

    def socket_path(self) -> Path:
        """The server's control socket, found in the settings that `leveret serve` would load."""
        if self.socket:
            return Path(self.socket).absolute()
        from leveret.conf.load import CONFIG_VARIABLE, SettingsError, load

        config = self.config or os.environ.get(CONFIG_VARIABLE)
        flags = {"server.data_dir": self.data_dir}
        try:
            server = load(Path(config) if config else None, os.environ, flags, only="server").server
        except SettingsError as error:
            fail(str(error), EX_USAGE)
        return address.find(server.data_dir, server.control_socket)


def _remember(context: click.Context, option: click.Parameter, value: Any) -> None:
    if value is not None and option.name in Choices.__dataclass_fields__:
        setattr(choices_of(context), option.name, value)


def choices_of(context: click.Context) -> Choices:
    """The choices of this command line."""
    root = context.find_root()
    if not isinstance(root.obj, Choices):
        root.obj = Choices()
    return root.obj


def add_common(command: click.Command) -> click.Command:
    """Add the options that every command takes, as rabbitmqctl does: before the command's name or after it."""
    command.params += common_options()
    return command


def common_options() -> list[click.Option]:
    """New instances of the options that every command takes. They are kept in the command line's Choices."""

    def option(*names: str, **attributes: Any) -> click.Option:
        return click.Option(names, expose_value=False, callback=_remember, default=None, **attributes)

    def flag(*names: str, **attributes: Any) -> click.Option:
        return option(*names, is_flag=True, flag_value=True, type=click.UNPROCESSED, **attributes)

    return [
        option("-p", "--vhost", metavar="VHOST", help='The virtual host of the command. Default: "/".'),
        option("--formatter", type=click.Choice(FORMATTERS), help="The format of listings. Default: table."),
        flag("-q", "--quiet", help="Print no informational messages."),
        flag("-s", "--silent", help="Print no informational messages and no column names."),
        flag("--no-table-headers", help="Print no column names."),
        option("-t", "--timeout", type=click.FloatRange(min=0, min_open=True), metavar="SECONDS",
               help="The longest wait for an answer. Default: 60."),
        option("--data-dir", metavar="DIR", help="The server's data directory."),
        option("--socket", metavar="PATH", help="The server's control socket, if it is not in its data directory."),
        option("--config", metavar="FILE", help="The server's settings, if they name another data directory."),
        option("-n", "--node", hidden=True),  # scripts pass these; the data directory chooses the server here
        flag("-l", "--longnames", hidden=True),
    ]  # fmt: skip


def fail(text: str, status: int) -> NoReturn:
    """Print an error and end the process."""
    click.echo(f"Error: {printable(text)}", err=True)
    sys.exit(status)


def request(choices: Choices, command: str, arguments: Mapping[str, Any]) -> Any:
    """Send one command and return the answer. A refusal is printed, and ends the process with its exit status."""
    try:
        return client.call(choices.socket_path(), command, arguments, choices.timeout)
    except client.Unavailable as error:
        fail(str(error), EX_UNAVAILABLE)
    except client.Refused as error:
        fail(str(error), EXIT_STATUSES.get(error.reason, EX_SOFTWARE))


def _with_status(error: click.UsageError) -> click.UsageError:
    setattr(error, "exit_code", EX_USAGE)  # noqa: B010 - a class attribute to type checkers
    return error


class CtlGroup(click.Group):
    """A group whose usage errors exit with rabbitmqctl's status."""

    def make_context(self, *args: Any, **kwargs: Any) -> click.Context:
        try:
            return super().make_context(*args, **kwargs)
        except click.UsageError as error:
            raise _with_status(error) from None

    def invoke(self, context: click.Context) -> Any:
        try:
            return super().invoke(context)
        except click.UsageError as error:
            raise _with_status(error) from None


def show_listing(choices: Choices, answer: Mapping[str, Any]) -> None:
    """Print a listing: {"columns": [...], "rows": [{...}, ...]}."""
    text = render(
        answer["columns"], answer["rows"], choices.formatter,
        has_headers=not (choices.silent or choices.no_table_headers), is_terminal=sys.stdout.isatty(),
    )  # fmt: skip
    if text:
        click.echo(printable(text))


def announce(choices: Choices, text: str) -> None:
    """Print an informational message, unless it is not wanted."""
    if choices.is_for_people:
        click.echo(printable(text))


def done(choices: Choices, text: str | None = None) -> None:
    """Report that a change was made: as text to people, as an object to programs."""
    if choices.formatter == "json":
        click.echo(json.dumps({"status": "ok"} | ({"message": text} if text else {})))
    elif text:
        announce(choices, text)

"""`leveret ctl`: rabbitmqctl's commands, options, output and exit statuses, spoken to the control door."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn

import click

from leveret.adapters.control import address, client
from leveret.adapters.control.formats import FORMATTERS, printable, render

__all__ = ["Choices", "CtlGroup", "add_common", "choices_of", "ctl", "fail", "request"]

# As in sysexits.h, and as rabbitmqctl.
EX_USAGE, EX_DATAERR, EX_NOUSER, EX_UNAVAILABLE, EX_SOFTWARE, EX_TEMPFAIL = 64, 65, 67, 69, 70, 75
EXIT_STATUSES = {
    "usage": EX_USAGE, "no_user": EX_NOUSER, "not_found": EX_DATAERR, "invalid": EX_DATAERR, "exists": EX_SOFTWARE,
    "refused": EX_SOFTWARE, "unavailable": EX_TEMPFAIL, "internal": EX_SOFTWARE,
}  # fmt: skip
POLL_S = 0.05


@dataclass(slots=True)
class Choices:
    """The common options, wherever on the line they stood."""

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
        """Where the server is. The settings are asked as `leveret serve` asks them."""
        if self.socket:
            return Path(self.socket).absolute()
        from leveret.conf.load import CONFIG_VARIABLE, SettingsError, load
        from leveret.conf.settings import declarations

        wanted = {
            name for key in ("server.data_dir", "server.control_socket") for name in declarations()[key].environment_names
        }
        environ = {name: value for name, value in os.environ.items() if name in wanted}
        config = self.config or os.environ.get(CONFIG_VARIABLE)
        try:
            server = load(Path(config) if config else None, environ, {"server.data_dir": self.data_dir}).server
        except SettingsError as error:
            fail(str(error), EX_USAGE)
        return address.find(server.data_dir, server.control_socket)


def _remember(context: click.Context, option: click.Parameter, value: Any) -> None:
    if value is not None and option.name in Choices.__dataclass_fields__:
        setattr(choices_of(context), option.name, value)


def choices_of(context: click.Context) -> Choices:
    """One per command line."""
    root = context.find_root()
    if not isinstance(root.obj, Choices):
        root.obj = Choices()
    return root.obj


def add_common(command: click.Command) -> click.Command:
    """The options that every command takes, as rabbitmqctl: before the command's name or after it."""

    def option(*names: str, **attributes: Any) -> click.Option:
        return click.Option(names, expose_value=False, callback=_remember, default=None, **attributes)

    def flag(*names: str, **attributes: Any) -> click.Option:
        return option(*names, is_flag=True, flag_value=True, type=click.UNPROCESSED, **attributes)

    command.params += [
        option("-p", "--vhost", metavar="VHOST", help='The virtual host; "/" if not given.'),
        option("--formatter", type=click.Choice(FORMATTERS), help="How a listing is shown."),
        flag("-q", "--quiet", help="No informational messages."),
        flag("-s", "--silent", help="Nor column names."),
        flag("--no-table-headers", help="No column names."),
        option("-t", "--timeout", type=click.FloatRange(min=0, min_open=True), metavar="SECONDS",
               help="How long to wait for the answer."),
        option("--data-dir", metavar="DIR", help="The server's data directory."),
        option("--socket", metavar="PATH", help="The server's control socket, if it is not in its data directory."),
        option("--config", metavar="FILE", help="The server's settings, if they name another data directory."),
        option("-n", "--node", hidden=True),  # scripts pass these; the data directory chooses the server here
        flag("-l", "--longnames", hidden=True),
    ]  # fmt: skip
    return command


def fail(text: str, status: int) -> NoReturn:
    click.echo(f"Error: {printable(text)}", err=True)
    sys.exit(status)


def request(choices: Choices, command: str, arguments: Mapping[str, Any]) -> Any:
    """Ask the server; on refusal say why and exit."""
    try:
        return client.call(choices.socket_path(), command, arguments, choices.timeout)
    except client.Unavailable as error:
        fail(str(error), EX_UNAVAILABLE)
    except client.Refused as error:
        fail(str(error), EXIT_STATUSES.get(error.reason, EX_SOFTWARE))


class CtlGroup(click.Group):
    """A group whose usage errors exit as rabbitmqctl's."""

    def make_context(self, *args: Any, **kwargs: Any) -> click.Context:
        try:
            return super().make_context(*args, **kwargs)
        except click.UsageError as error:
            error.exit_code = EX_USAGE
            raise

    def invoke(self, context: click.Context) -> Any:
        try:
            return super().invoke(context)
        except click.UsageError as error:
            error.exit_code = EX_USAGE
            raise


@click.group(cls=CtlGroup, help="Administer a running server, as rabbitmqctl does.")
def ctl() -> None:
    """The group; its options are the common ones."""


add_common(ctl)


def show_listing(choices: Choices, answer: Mapping[str, Any]) -> None:
    """A listing is {"columns": [...], "rows": [{...}, ...]}."""
    text = render(
        answer["columns"], answer["rows"], choices.formatter,
        has_headers=not (choices.silent or choices.no_table_headers), is_terminal=sys.stdout.isatty(),
    )  # fmt: skip
    if text:
        click.echo(printable(text))


def announce(choices: Choices, text: str) -> None:
    if choices.is_for_people:
        click.echo(printable(text))


def done(choices: Choices, text: str | None = None) -> None:
    """A change was made. Programs get an object."""
    if choices.formatter == "json":
        import json

        click.echo(json.dumps({"status": "ok"} | ({"message": text} if text else {})))
    elif text:
        announce(choices, text)


# -- commands that only pass their arguments on

NOTE_PERMISSIONS = (
    "Done. Don't forget to grant the user permissions to some virtual hosts! "
    "See 'leveret ctl set_permissions --help' to learn more."
)


def change(
    name: str, announcement: str, help: str, *arguments: str, in_vhost: bool = False,
    options: Sequence[click.Option] = (), says: str | Callable[[Any], str] | None = None,
) -> None:
    """Declare a command that changes something. arguments: "name", or "name..." for any number of words."""

    def run(**given: Any) -> None:
        choices = choices_of(click.get_current_context())
        sent = {key: list(value) if isinstance(value, tuple) else value for key, value in given.items()}
        if in_vhost:
            sent["vhost"] = choices.vhost
        shown = {key: ", ".join(value) if isinstance(value, list) else value for key, value in sent.items()}
        announce(choices, announcement.format_map(shown))
        answer = request(choices, name, sent)
        done(choices, says(answer) if callable(says) else says.format_map(shown) if says else None)

    parameters: list[click.Parameter] = [_argument(argument) for argument in arguments]
    command = click.Command(name, callback=run, params=[*parameters, *options], help=help)
    ctl.add_command(add_common(command))


def _argument(argument: str) -> click.Argument:
    name = argument.removesuffix("...")
    return click.Argument([name], nargs=-1 if name != argument else 1, type=str)


def listing(name: str, announcement: str, help: str, *arguments: str, in_vhost: bool = False, columns: bool = True) -> None:
    """Declare a command that lists. The columns that were asked for are checked by the server, which knows them."""

    def run(**given: Any) -> None:
        choices = choices_of(click.get_current_context())
        if in_vhost:
            given["vhost"] = choices.vhost
        announce(choices, announcement.format_map(given))
        if columns:
            given["columns"] = [part for word in given["columns"] for part in word.split(",") if part]
        show_listing(choices, request(choices, name, given))

    parameters: list[click.Parameter] = [_argument(argument) for argument in arguments]
    if columns:
        parameters.append(click.Argument(["columns"], nargs=-1, metavar="[COLUMN]..."))
    ctl.add_command(add_common(click.Command(name, callback=run, params=parameters, help=help)))


change("delete_user", 'Deleting user "{username}" ...', "Delete a user.", "username")
change("clear_password", 'Clearing password for user "{username}" ...', "The user can no longer log in by password.",
       "username")
change("set_user_tags", 'Setting tags for user "{username}" to [{tags}] ...', "Replace a user's tags.", "username",
       "tags...")
change("set_permissions", 'Setting permissions for user "{user}" in vhost "{vhost}" ...',
       "What a user may configure, write and read, as regular expressions.", "user", "configure", "write", "read",
       in_vhost=True)
change("clear_permissions", 'Clearing permissions for user "{user}" in vhost "{vhost}" ...',
       "Take a user's permissions in a virtual host away.", "user", in_vhost=True)
change("set_topic_permissions", 'Setting topic permissions on "{exchange}" for user "{user}" in vhost "{vhost}" ...',
       "Which routing keys a user may write and read, as regular expressions.", "user", "exchange", "write", "read",
       in_vhost=True)
change("add_vhost", 'Adding vhost "{name}" ...', "Create a virtual host.", "name")
change("delete_vhost", 'Deleting vhost "{name}" ...', "Delete a virtual host, and everything in it.", "name")
change("purge_queue", "Purging queue '{queue}' in vhost '{vhost}' ...", "Drop a queue's ready messages.", "queue",
       in_vhost=True)
change("delete_queue", "Deleting queue '{queue}' on vhost '{vhost}' ...", "Delete a queue.", "queue", in_vhost=True,
       options=[click.Option(["-e", "--if-empty"], is_flag=True, help="Only if it has no ready messages."),
                click.Option(["-u", "--if-unused"], is_flag=True, help="Only if it has no consumers.")],
       says=lambda count: f"Queue was successfully deleted with {count} ready messages")
change("trace_on", 'Starting tracing for vhost "{vhost}" ...', "Copy every message to amq.rabbitmq.trace.",
       in_vhost=True, says="Trace enabled for vhost {vhost}")
change("trace_off", 'Stopping tracing for vhost "{vhost}" ...', "Stop that.", in_vhost=True,
       says="Trace disabled for vhost {vhost}")
change("close_connection", 'Closing connection "{name}", reason: {reason} ...', "Close a connection, by its name.",
       "name", "reason")
change("close_all_connections", 'Closing all connections in vhost "{vhost}", reason: {reason} ...',
       "Close all connections of a virtual host.", "reason", in_vhost=True)
change("clear_policy", 'Clearing policy "{name}" on vhost "{vhost}" ...', "Delete a policy.", "name", in_vhost=True)
change("clear_operator_policy", 'Clearing operator policy "{name}" on vhost "{vhost}" ...',
       "Delete an operator policy.", "name", in_vhost=True)
change("set_log_level", 'Setting log level to "{level}" ...', "Until the next restart or reload.", "level")

listing("list_users", "Listing users ...", "List users and their tags.", columns=False)
listing("list_permissions", 'Listing permissions for vhost "{vhost}" ...', "List permissions in a virtual host.",
        in_vhost=True, columns=False)
listing("list_user_permissions", 'Listing permissions for user "{user}" ...', "List a user's permissions.", "user",
        columns=False)
listing("list_topic_permissions", 'Listing topic permissions for vhost "{vhost}" ...',
        "List topic permissions in a virtual host.", in_vhost=True, columns=False)
listing("list_vhosts", "Listing vhosts ...", "List virtual hosts: name, tracing, description, tags, ...")
listing("list_queues", "Listing queues for vhost {vhost} ...",
        "List queues: name, messages, messages_ready, messages_unacknowledged, consumers, durable, arguments, ...",
        in_vhost=True)
listing("list_exchanges", "Listing exchanges for vhost {vhost} ...",
        "List exchanges: name, type, durable, auto_delete, internal, arguments, policy.", in_vhost=True)
listing("list_bindings", "Listing bindings for vhost {vhost} ...", "List bindings.", in_vhost=True)
listing("list_connections", "Listing connections ...", "List connections: user, peer_host, peer_port, state, ...")
listing("list_channels", "Listing channels ...", "List channels: pid, user, consumer_count, ...")
listing("list_consumers", "Listing consumers in vhost {vhost} ...", "List consumers.", in_vhost=True)
listing("list_policies", 'Listing policies for vhost "{vhost}" ...', "List policies.", in_vhost=True, columns=False)
listing("list_operator_policies", 'Listing operator policy overrides for vhost "{vhost}" ...',
        "List operator policies.", in_vhost=True, columns=False)


# -- commands with a mind of their own


def command(name: str) -> Callable[[Callable[..., None]], click.Command]:
    def declare(function: Callable[..., None]) -> click.Command:
        made = click.command(name)(click.pass_context(function))
        ctl.add_command(add_common(made))
        return made

    return declare


def _password(given: str | None) -> str:
    if given is not None:
        return given
    if sys.stdin.isatty():
        return str(click.prompt("Password", hide_input=True, err=True))
    return sys.stdin.readline().rstrip("\r\n")


@command("add_user")
@click.argument("username")
@click.argument("password", required=False)
def add_user(context: click.Context, username: str, password: str | None) -> None:
    """Create a user. Without PASSWORD it is read from standard input."""
    choices = choices_of(context)
    announce(choices, f'Adding user "{username}" ...')
    request(choices, "add_user", {"username": username, "password": _password(password)})
    done(choices, NOTE_PERMISSIONS)


@command("change_password")
@click.argument("username")
@click.argument("password", required=False)
def change_password(context: click.Context, username: str, password: str | None) -> None:
    """Change a user's password. Without PASSWORD it is read from standard input."""
    choices = choices_of(context)
    announce(choices, f'Changing password for user "{username}" ...')
    request(choices, "change_password", {"username": username, "password": _password(password)})
    done(choices)


@command("authenticate_user")
@click.argument("username")
@click.argument("password", required=False)
def authenticate_user(context: click.Context, username: str, password: str | None) -> None:
    """Would this password let the user in?"""
    choices = choices_of(context)
    announce(choices, f'Authenticating user "{username}" ...')
    request(choices, "authenticate_user", {"username": username, "password": _password(password)})
    done(choices, "Success")


def _declare_set_policy(name: str, announcement: str) -> None:
    @command(name)
    @click.option("--priority", type=int, default=0, show_default=True)
    @click.option("--apply-to", default="all", show_default=True, metavar="WHAT",
                  help="queues, classic_queues, quorum_queues, streams, exchanges or all.")
    @click.argument("policy")
    @click.argument("pattern")
    @click.argument("definition")
    def set_policy(
        context: click.Context, policy: str, pattern: str, definition: str, priority: int, apply_to: str
    ) -> None:
        """Limits for all queues, or exchanges, whose names match the regular expression PATTERN.

        DEFINITION is a JSON object: '{"max-length": 1000}'.
        """
        choices = choices_of(context)
        announce(choices, f'{announcement} "{policy}" for pattern "{pattern}" to "{definition}" with priority '
                          f'"{priority}" for vhost "{choices.vhost}" ...')
        sent = {"name": policy, "pattern": pattern, "definition": definition, "priority": priority,
                "apply_to": apply_to, "vhost": choices.vhost}
        request(choices, name, sent)
        done(choices)


_declare_set_policy("set_policy", "Setting policy")
_declare_set_policy("set_operator_policy", "Setting operator policy override")


@command("ping")
def ping(context: click.Context) -> None:
    """Is it running?"""
    choices = choices_of(context)
    announce(choices, f"Will ping the server at {choices.socket_path()}. Timeout: {choices.timeout:g} seconds.")
    request(choices, "ping", {})
    done(choices, "Ping succeeded")


@command("await_startup")
def await_startup(context: click.Context) -> None:
    """Wait until the server has started."""
    choices = choices_of(context)
    path, deadline = choices.socket_path(), time.monotonic() + choices.timeout
    while True:
        try:
            client.call(path, "ping", {}, choices.timeout)
            return
        except client.Unavailable as error:
            if time.monotonic() > deadline:
                fail(str(error), EX_TEMPFAIL)
        time.sleep(POLL_S)


@command("status")
def status(context: click.Context) -> None:
    """What runs, since when, with what."""
    choices = choices_of(context)
    answer = request(choices, "status", {})
    if choices.formatter == "json":
        import json

        click.echo(json.dumps(answer))
        return
    announce(choices, f"Status of node {answer['node']} ...")
    for section, content in answer.items():
        if isinstance(content, dict):
            click.echo(f"\n{section.replace('_', ' ').capitalize()}\n")
            for key, value in content.items():
                click.echo(printable(f"  {key.replace('_', ' ')}: {value}"))
        elif isinstance(content, list):
            click.echo(f"\n{section.replace('_', ' ').capitalize()}\n")
            for item in content or ["(none)"]:
                click.echo(printable(f"  {item}"))
        else:
            click.echo(printable(f"{section.replace('_', ' ')}: {content}"))


@command("stop")
def stop(context: click.Context) -> None:
    """Stop the server, and wait until it has stopped."""
    choices = choices_of(context)
    announce(choices, "Stopping the server ...")
    pid = request(choices, "stop", {})["pid"]
    deadline = time.monotonic() + choices.timeout
    while _is_running(pid):
        if time.monotonic() > deadline:
            fail(f"the server has not stopped within {choices.timeout:g} seconds", EX_TEMPFAIL)
        time.sleep(POLL_S)
    done(choices)


def _is_running(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    try:  # a zombie whose parent has not looked yet has stopped
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return Path("/proc/self").exists() is False


@command("reload")
def reload(context: click.Context) -> None:
    """Read the settings and certificates again, as SIGHUP does."""
    choices = choices_of(context)
    announce(choices, "Reloading the settings ...")
    answer = request(choices, "reload", {})
    for key in answer["changed"]:
        announce(choices, f"{key} has changed")
    for key in answer["needs_restart"]:
        announce(choices, f"{key} needs a restart")
    done(choices)

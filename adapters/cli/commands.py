"""`leveret ctl`: a client of the control listener with rabbitmqctl's commands, options, output and exit statuses.

Most commands are rows of table.py; here are those that ask for passwords, wait, or show more than a table.
"""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Callable
from pathlib import Path

import click

from leveret.adapters.cli import client
from leveret.adapters.cli.definitions import DEFINITION_COMMANDS
from leveret.adapters.cli.formats import printable
from leveret.adapters.cli.options import (
    EX_TEMPFAIL,
    CtlGroup,
    add_common,
    announce,
    choices_of,
    done,
    fail,
    request,
)
from leveret.adapters.cli.table import COMMANDS

__all__ = ["ctl"]

POLL_S = 0.05


@click.group(cls=CtlGroup, help="Administer a running server, as rabbitmqctl does.")
def ctl() -> None:
    """The group; its options are the common ones."""


add_common(ctl)
for ready in (*COMMANDS, *DEFINITION_COMMANDS):
    ctl.add_command(ready)

NOTE_PERMISSIONS = (
    "Done. Don't forget to grant the user permissions to some virtual hosts! "
    "See 'leveret ctl set_permissions --help' to learn more."
)


def command(name: str, help: str | None = None) -> Callable[[Callable[..., None]], click.Command]:
    """Declare a command of `ctl`; help: the function's docstring if not given."""

    def declare(function: Callable[..., None]) -> click.Command:
        made = click.command(name, help=help)(click.pass_context(function))
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
    """Create a user without tags and permissions. Without PASSWORD it is read from standard input."""
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
    """Check whether a password would let a user in. Without PASSWORD it is read from standard input."""
    choices = choices_of(context)
    announce(choices, f'Authenticating user "{username}" ...')
    request(choices, "authenticate_user", {"username": username, "password": _password(password)})
    done(choices, "Success")


def _declare_set_policy(name: str, announcement: str, help: str) -> None:
    @command(name, help)
    @click.option(
        "--priority",
        type=int,
        default=0,
        show_default=True,
        help="Of the policies that match a name, the one with the highest priority applies.",
    )
    @click.option(
        "--apply-to",
        default="all",
        show_default=True,
        metavar="WHAT",
        help="What it applies to: queues, classic_queues, quorum_queues, streams, exchanges or all.",
    )
    @click.argument("policy")
    @click.argument("pattern")
    @click.argument("definition")
    def set_policy(
        context: click.Context, policy: str, pattern: str, definition: str, priority: int, apply_to: str
    ) -> None:
        choices = choices_of(context)
        announce(
            choices,
            f'{announcement} "{policy}" for pattern "{pattern}" to "{definition}" with priority '
            f'"{priority}" for vhost "{choices.vhost}" ...',
        )
        sent = {
            "name": policy,
            "pattern": pattern,
            "definition": definition,
            "priority": priority,
            "apply_to": apply_to,
            "vhost": choices.vhost,
        }
        request(choices, name, sent)
        done(choices)


_declare_set_policy(
    "set_policy",
    "Setting policy",
    "Set a policy for the queues and exchanges whose names match the regular expression PATTERN. DEFINITION is a "
    """JSON object of policy keys: '{"max-length": 1000}'.""",
)
_declare_set_policy(
    "set_operator_policy",
    "Setting operator policy override",
    "Set an operator policy for the queues whose names match the regular expression PATTERN. Policies and arguments of "
    "users cannot exceed its limits. DEFINITION is a JSON object of policy keys.",
)


@command("ping")
def ping(context: click.Context) -> None:
    """Ask the server whether it is running."""
    choices = choices_of(context)
    announce(
        choices, f"Will ping the server at {choices.socket_path()}. Timeout: {choices.timeout:g} seconds."
    )
    request(choices, "ping", {})
    done(choices, "Ping succeeded")


@command("await_startup")
def await_startup(context: click.Context) -> None:
    """Wait until the server has started, for at most the timeout."""
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
    """Show versions, listeners, alarms, memory, disk and totals of the server."""
    choices = choices_of(context)
    answer = request(choices, "status", {})
    if choices.formatter == "json":
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
    """Stop the server, and wait until its process has ended."""
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
    """Read the settings and certificates again, as SIGHUP does, and show what has changed and what needs a restart."""
    choices = choices_of(context)
    announce(choices, "Reloading the settings ...")
    answer = request(choices, "reload", {})
    for key in answer["changed"]:
        announce(choices, f"{key} has changed")
    for key in answer["needs_restart"]:
        announce(choices, f"{key} needs a restart")
    done(choices)

"""The commands of `leveret ctl` that only pass their arguments on, as a table."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import click

from leveret.adapters.cli.options import add_common, announce, choices_of, done, request, show_listing

__all__ = ["VERBS"]


def change(
    name: str,
    announcement: str,
    help: str,
    *arguments: str,
    in_vhost: bool = False,
    options: Sequence[click.Option] = (),
    says: str | Callable[[Any], str] | None = None,
) -> click.Command:
    """A command that changes something. arguments: "name", "name?" if it may be left out, "name..." for many."""

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
    return add_common(command)


def _argument(argument: str) -> click.Argument:
    name = argument.rstrip(".?")
    return click.Argument(
        [name], nargs=-1 if argument.endswith("...") else 1, required=name == argument, type=str
    )


def listing(
    name: str, announcement: str, help: str, *arguments: str, in_vhost: bool = False, columns: bool = True
) -> click.Command:
    """A command that lists. The columns that were asked for are checked by the server, which knows them."""

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
    return add_common(click.Command(name, callback=run, params=parameters, help=help))


VERBS: tuple[click.Command, ...] = (
    change("delete_user", 'Deleting user "{username}" ...', "Delete a user.", "username"),
    change(
        "clear_password",
        'Clearing password for user "{username}" ...',
        "The user can no longer log in by password.",
        "username",
    ),
    change(
        "set_user_tags",
        'Setting tags for user "{username}" to [{tags}] ...',
        "Replace a user's tags.",
        "username",
        "tags...",
    ),
    change(
        "set_permissions",
        'Setting permissions for user "{user}" in vhost "{vhost}" ...',
        "What a user may configure, write and read, as regular expressions.",
        "user",
        "configure",
        "write",
        "read",
        in_vhost=True,
    ),
    change(
        "clear_permissions",
        'Clearing permissions for user "{user}" in vhost "{vhost}" ...',
        "Take a user's permissions in a virtual host away.",
        "user",
        in_vhost=True,
    ),
    change(
        "set_topic_permissions",
        'Setting topic permissions on "{exchange}" for user "{user}" in vhost "{vhost}" ...',
        "Which routing keys a user may write and read, as regular expressions.",
        "user",
        "exchange",
        "write",
        "read",
        in_vhost=True,
    ),
    change(
        "add_vhost",
        'Adding vhost "{name}" ...',
        "Create a virtual host.",
        "name",
        options=[
            click.Option(["--description"], default=""),
            click.Option(["--tags"], default="", help="Separated by commas."),
            click.Option(["--default-queue-type"], default="classic", help="Of queues that do not say."),
        ],
    ),
    change(
        "delete_vhost", 'Deleting vhost "{name}" ...', "Delete a virtual host, and everything in it.", "name"
    ),
    change(
        "purge_queue",
        "Purging queue '{queue}' in vhost '{vhost}' ...",
        "Drop a queue's ready messages.",
        "queue",
        in_vhost=True,
    ),
    change(
        "delete_queue",
        "Deleting queue '{queue}' on vhost '{vhost}' ...",
        "Delete a queue.",
        "queue",
        in_vhost=True,
        options=[
            click.Option(["-e", "--if-empty"], is_flag=True, help="Only if it has no ready messages."),
            click.Option(["-u", "--if-unused"], is_flag=True, help="Only if it has no consumers."),
        ],
        says=lambda count: f"Queue was successfully deleted with {count} ready messages",
    ),
    change(
        "trace_on",
        'Starting tracing for vhost "{vhost}" ...',
        "Copy every message to amq.rabbitmq.trace.",
        in_vhost=True,
        says="Trace enabled for vhost {vhost}",
    ),
    change(
        "trace_off",
        'Stopping tracing for vhost "{vhost}" ...',
        "Stop that.",
        in_vhost=True,
        says="Trace disabled for vhost {vhost}",
    ),
    change(
        "close_connection",
        'Closing connection "{name}", reason: {reason} ...',
        "Close a connection, by its name.",
        "name",
        "reason",
    ),
    change(
        "close_all_connections",
        'Closing all connections in vhost "{vhost}", reason: {reason} ...',
        "Close all connections of a virtual host.",
        "reason",
        in_vhost=True,
    ),
    change(
        "clear_policy",
        'Clearing policy "{name}" on vhost "{vhost}" ...',
        "Delete a policy.",
        "name",
        in_vhost=True,
    ),
    change(
        "clear_operator_policy",
        'Clearing operator policy "{name}" on vhost "{vhost}" ...',
        "Delete an operator policy.",
        "name",
        in_vhost=True,
    ),
    change(
        "set_vm_memory_high_watermark",
        'Setting memory threshold to "{fraction}" ...',
        "The fraction of all memory above which publishers are blocked, until the next restart or reload.",
        "fraction",
    ),
    change(
        "set_disk_free_limit",
        'Setting disk free limit to "{limit}" ...',
        "Free bytes below which publishers are blocked, until the next restart or reload.",
        "limit",
    ),
    change(
        "clear_topic_permissions",
        'Clearing topic permissions for user "{user}" in vhost "{vhost}" ...',
        "Take a user's topic permissions away, of one exchange or of all.",
        "user",
        "exchange?",
        in_vhost=True,
    ),
    change(
        "set_vhost_limits",
        'Setting vhost limits to "{definition}" for vhost "{vhost}" ...',
        "max-connections and max-queues, as a JSON object; negative: none.",
        "definition",
        in_vhost=True,
    ),
    change(
        "clear_vhost_limits", 'Clearing vhost "{vhost}" limits ...', "Take its limits away.", in_vhost=True
    ),
    change(
        "set_user_limits",
        'Setting user limits to "{definition}" for user "{user}" ...',
        "max-connections and max-channels, as a JSON object; negative: none.",
        "user",
        "definition",
    ),
    change(
        "clear_user_limits",
        'Clearing "{limit}" limit for user "{user}" ...',
        'Take one of a user\'s limits away, or "all".',
        "user",
        "limit",
    ),
    change(
        "set_log_level", 'Setting log level to "{level}" ...', "Until the next restart or reload.", "level"
    ),
    listing(
        "list_vhost_limits",
        'Listing limits for vhost "{vhost}" ...',
        "List a virtual host's limits.",
        in_vhost=True,
        columns=False,
    ),
    listing(
        "list_user_limits",
        'Listing limits for user "{user}" ...',
        "List a user's limits.",
        "user",
        columns=False,
    ),
    listing("list_users", "Listing users ...", "List users and their tags.", columns=False),
    listing(
        "list_permissions",
        'Listing permissions for vhost "{vhost}" ...',
        "List permissions in a virtual host.",
        in_vhost=True,
        columns=False,
    ),
    listing(
        "list_user_permissions",
        'Listing permissions for user "{user}" ...',
        "List a user's permissions.",
        "user",
        columns=False,
    ),
    listing(
        "list_topic_permissions",
        'Listing topic permissions for vhost "{vhost}" ...',
        "List topic permissions in a virtual host.",
        in_vhost=True,
        columns=False,
    ),
    listing("list_vhosts", "Listing vhosts ...", "List virtual hosts: name, tracing, description, tags, ..."),
    listing(
        "list_queues",
        "Listing queues for vhost {vhost} ...",
        "List queues: name, messages, messages_ready, messages_unacknowledged, consumers, durable, arguments, ...",
        in_vhost=True,
    ),
    listing(
        "list_exchanges",
        "Listing exchanges for vhost {vhost} ...",
        "List exchanges: name, type, durable, auto_delete, internal, arguments, policy.",
        in_vhost=True,
    ),
    listing("list_bindings", "Listing bindings for vhost {vhost} ...", "List bindings.", in_vhost=True),
    listing(
        "list_connections",
        "Listing connections ...",
        "List connections: user, peer_host, peer_port, state, ...",
    ),
    listing("list_channels", "Listing channels ...", "List channels: pid, user, consumer_count, ..."),
    listing("list_consumers", "Listing consumers in vhost {vhost} ...", "List consumers.", in_vhost=True),
    listing(
        "list_policies",
        'Listing policies for vhost "{vhost}" ...',
        "List policies.",
        in_vhost=True,
        columns=False,
    ),
    listing(
        "list_operator_policies",
        'Listing operator policy overrides for vhost "{vhost}" ...',
        "List operator policies.",
        in_vhost=True,
        columns=False,
    ),
    change(
        "set_parameter",
        'Setting runtime parameter "{name}" for component "{component}" to "{value}" in vhost "{vhost}" ...',
        "Set a runtime parameter; the value is JSON.",
        "component",
        "name",
        "value",
        in_vhost=True,
    ),
    change(
        "clear_parameter",
        'Clearing runtime parameter "{name}" for component "{component}" on vhost "{vhost}" ...',
        "Delete a runtime parameter.",
        "component",
        "name",
        in_vhost=True,
    ),
    listing(
        "list_parameters",
        'Listing runtime parameters for vhost "{vhost}" ...',
        "List runtime parameters.",
        in_vhost=True,
        columns=False,
    ),
    change(
        "set_global_parameter",
        'Setting global runtime parameter "{name}" to "{value}" ...',
        "Set a global runtime parameter; the value is JSON.",
        "name",
        "value",
    ),
    change(
        "clear_global_parameter",
        'Clearing global runtime parameter "{name}" ...',
        "Delete a global runtime parameter.",
        "name",
    ),
    listing(
        "list_global_parameters",
        "Listing global runtime parameters ...",
        "List global runtime parameters.",
        columns=False,
    ),
)

"""The commands of `leveret ctl` that only ask the server and show what it says, as one table.

A row declares a command's name, which is the operation's name too (leveret.adapters.control.operations), rabbitmqctl's
announcement, help, and arguments, which are sent under their names. Commands that do more stand in commands.py and
definitions.py. `change` and `listing` make `click` commands; plugins may call them for commands of their own.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import click

from leveret.adapters.cli.options import add_common, announce, choices_of, done, request, show_listing

__all__ = ["COMMANDS", "change", "listing"]


def change(
    name: str,
    announcement: str,
    help: str,
    *arguments: str,
    in_vhost: bool = False,
    options: Sequence[click.Option] = (),
    says: str | Callable[[Any], str] | None = None,
) -> click.Command:
    """A command that changes something.

    announcement, says: printed before and after, with the arguments filled in, `{like_this}`; says may also be a
    function of the server's answer. arguments: "name", "name?" if it may be left out, "name..." for any number.
    in_vhost: the common option --vhost is sent as an argument.
    """

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
    """A command that lists. columns: some may be named; the server knows and checks them. The rest: as `change`."""

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


# fmt: off
USERS = (
    change("delete_user", 'Deleting user "{username}" ...',
           "Delete a user with all permissions, and close the user's connections.", "username"),
    change("clear_password", 'Clearing password for user "{username}" ...',
           "Remove a user's password. The user can then log in by certificate only.", "username"),
    change("set_user_tags", 'Setting tags for user "{username}" to [{tags}] ...',
           "Replace a user's tags. The management API knows management, policymaker, monitoring, administrator and "
           "protected; the tags apply from the next login on. Without TAGS the user has none.", "username", "tags..."),
    change("set_permissions", 'Setting permissions for user "{user}" in vhost "{vhost}" ...',
           "Set what a user may configure, write and read in a virtual host: three regular expressions, which are "
           "searched for in the names of queues and exchanges. '' matches nothing.",
           "user", "configure", "write", "read", in_vhost=True),
    change("clear_permissions", 'Clearing permissions for user "{user}" in vhost "{vhost}" ...',
           "Remove a user's permissions in a virtual host. The user cannot enter it any more.", "user", in_vhost=True),
    change("set_topic_permissions", 'Setting topic permissions on "{exchange}" for user "{user}" in vhost "{vhost}" ...',
           "Set which routing keys of a topic exchange a user may publish with and bind: two regular expressions. "
           "{username}, {vhost} and {client_id} in them are filled in.",
           "user", "exchange", "write", "read", in_vhost=True),
    change("clear_topic_permissions", 'Clearing topic permissions for user "{user}" in vhost "{vhost}" ...',
           "Remove a user's topic permissions in a virtual host, of one exchange or of all.",
           "user", "exchange?", in_vhost=True),
    change("set_user_limits", 'Setting user limits to "{definition}" for user "{user}" ...',
           "Set limits of a user: a JSON object of max-connections and max-channels. A limit that it does not name "
           "stays; a negative number does not limit.", "user", "definition"),
    change("clear_user_limits", 'Clearing "{limit}" limit for user "{user}" ...',
           'Remove one limit of a user by its name, or "all".', "user", "limit"),
    listing("list_users", "Listing users ...", "List users and their tags.", columns=False),
    listing("list_permissions", 'Listing permissions for vhost "{vhost}" ...',
            "List the permissions of all users in a virtual host.", in_vhost=True, columns=False),
    listing("list_user_permissions", 'Listing permissions for user "{user}" ...',
            "List the permissions of a user in all virtual hosts.", "user", columns=False),
    listing("list_topic_permissions", 'Listing topic permissions for vhost "{vhost}" ...',
            "List the topic permissions of all users in a virtual host.", in_vhost=True, columns=False),
    listing("list_user_limits", 'Listing limits for user "{user}" ...', "List the limits of a user.",
            "user", columns=False),
)

VHOSTS = (
    change("add_vhost", 'Adding vhost "{name}" ...',
           "Create a virtual host. An existing one is left as it is.", "name",
           options=[
               click.Option(["--description"], default="", help="A sentence for listings."),
               click.Option(["--tags"], default="", help="Tags, separated by commas."),
               click.Option(["--default-queue-type"], default="classic", show_default=True,
                            help="The type of queues that are declared without one: classic or quorum."),
           ]),
    change("delete_vhost", 'Deleting vhost "{name}" ...',
           "Delete a virtual host with everything in it, and close its connections.", "name"),
    change("set_vhost_limits", 'Setting vhost limits to "{definition}" for vhost "{vhost}" ...',
           "Replace the limits of a virtual host: a JSON object of max-connections and max-queues. A negative number "
           "does not limit.", "definition", in_vhost=True),
    change("clear_vhost_limits", 'Clearing vhost "{vhost}" limits ...', "Remove all limits of a virtual host.",
           in_vhost=True),
    change("trace_on", 'Starting tracing for vhost "{vhost}" ...',
           "Publish a copy of every message that enters or leaves a virtual host to its exchange amq.rabbitmq.trace. "
           "Tracing ends with a restart.", in_vhost=True, says="Trace enabled for vhost {vhost}"),
    change("trace_off", 'Stopping tracing for vhost "{vhost}" ...', "Stop tracing a virtual host.",
           in_vhost=True, says="Trace disabled for vhost {vhost}"),
    listing("list_vhosts", "Listing vhosts ...",
            "List virtual hosts. Columns: name, tracing, description, tags, default_queue_type, cluster_state."),
    listing("list_vhost_limits", 'Listing limits for vhost "{vhost}" ...', "List the limits of a virtual host.",
            in_vhost=True, columns=False),
)

POLICIES = (
    change("clear_policy", 'Clearing policy "{name}" on vhost "{vhost}" ...', "Delete a policy.", "name", in_vhost=True),
    change("clear_operator_policy", 'Clearing operator policy "{name}" on vhost "{vhost}" ...',
           "Delete an operator policy.", "name", in_vhost=True),
    listing("list_policies", 'Listing policies for vhost "{vhost}" ...', "List the policies of a virtual host.",
            in_vhost=True, columns=False),
    listing("list_operator_policies", 'Listing operator policy overrides for vhost "{vhost}" ...',
            "List the operator policies of a virtual host.", in_vhost=True, columns=False),
    change("set_parameter",
           'Setting runtime parameter "{name}" for component "{component}" to "{value}" in vhost "{vhost}" ...',
           "Set a runtime parameter of a component in a virtual host. VALUE is JSON. Plugins declare components while "
           "they run; operator_policy and vhost-limits are always there.",
           "component", "name", "value", in_vhost=True),
    change("clear_parameter", 'Clearing runtime parameter "{name}" for component "{component}" on vhost "{vhost}" ...',
           "Delete a runtime parameter.", "component", "name", in_vhost=True),
    listing("list_parameters", 'Listing runtime parameters for vhost "{vhost}" ...',
            "List the runtime parameters of a virtual host. Secrets are masked.", in_vhost=True, columns=False),
    change("set_global_parameter", 'Setting global runtime parameter "{name}" to "{value}" ...',
           "Set a global runtime parameter. VALUE is JSON.", "name", "value"),
    change("clear_global_parameter", 'Clearing global runtime parameter "{name}" ...',
           "Delete a global runtime parameter.", "name"),
    listing("list_global_parameters", "Listing global runtime parameters ...", "List the global runtime parameters.",
            columns=False),
)

QUEUES = (
    listing("list_queues", "Listing queues for vhost {vhost} ...",
            "List queues. The columns are rabbitmqctl's: name, messages, messages_ready, messages_unacknowledged, "
            "consumers, durable, arguments, policy, type, and more; the error for an unknown one names them all.",
            in_vhost=True),
    listing("list_exchanges", "Listing exchanges for vhost {vhost} ...",
            "List exchanges. Columns: name, type, durable, auto_delete, internal, arguments, policy.", in_vhost=True),
    listing("list_bindings", "Listing bindings for vhost {vhost} ...",
            "List bindings. Columns: source_name, source_kind, destination_name, destination_kind, routing_key, "
            "arguments, vhost.", in_vhost=True),
    listing("list_consumers", "Listing consumers in vhost {vhost} ...",
            "List consumers. Columns: queue_name, channel_pid, consumer_tag, ack_required, prefetch_count, active, "
            "activity_status, arguments, exclusive, priority.", in_vhost=True),
    change("purge_queue", "Purging queue '{queue}' in vhost '{vhost}' ...",
           "Drop the ready messages of a queue. Messages that consumers hold unacknowledged stay.",
           "queue", in_vhost=True),
    change("delete_queue", "Deleting queue '{queue}' on vhost '{vhost}' ...",
           "Delete a queue with its messages, also an exclusive one.", "queue", in_vhost=True,
           options=[
               click.Option(["-e", "--if-empty"], is_flag=True, help="Delete it only if it has no ready messages."),
               click.Option(["-u", "--if-unused"], is_flag=True, help="Delete it only if it has no consumers."),
           ],
           says=lambda count: f"Queue was successfully deleted with {count} ready messages"),
)

CONNECTIONS = (
    listing("list_connections", "Listing connections ...",
            "List connections of all protocols. Columns: name, user, vhost, peer_host, peer_port, state, protocol, "
            "channels, and more; the error for an unknown one names them all."),
    listing("list_channels", "Listing channels ...",
            "List channels. Columns: pid, name, connection, number, user, vhost, consumer_count, "
            "messages_unacknowledged, prefetch_count, confirm, transactional, and more."),
    change("close_connection", 'Closing connection "{name}", reason: {reason} ...',
           "Close a connection by its name, as list_connections shows it. The client is told REASON.",
           "name", "reason"),
    change("close_all_connections", 'Closing all connections in vhost "{vhost}", reason: {reason} ...',
           "Close all connections of a virtual host. The clients are told REASON.", "reason", in_vhost=True),
)

NODE = (
    change("set_vm_memory_high_watermark", 'Setting memory threshold to "{fraction}" ...',
           "Set the fraction of all memory above which publishers are blocked: a number from 0 to 1. It applies until "
           "the next restart or reload.", "fraction"),
    change("set_disk_free_limit", 'Setting disk free limit to "{limit}" ...',
           'Set the free disk space below which publishers are blocked: bytes, or a size like "2 GB". It applies until '
           "the next restart or reload.", "limit"),
    change("set_log_level", 'Setting log level to "{level}" ...',
           "Set the least level that is logged: debug, info, warning, error or critical. It applies until the next "
           "restart or reload.", "level"),
)
# fmt: on

COMMANDS: tuple[click.Command, ...] = (*USERS, *VHOSTS, *POLICIES, *QUEUES, *CONNECTIONS, *NODE)

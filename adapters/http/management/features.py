"""Feature flags and deprecated features, as installers ask for them; and login attempts."""

from __future__ import annotations

from typing import Any

from leveret.adapters.http.management.lists import answer_list, plain_table
from leveret.adapters.http.management.nodes import check_node
from leveret.adapters.http.management.routes import Call, Route

__all__ = ["DEPRECATED", "FLAGS", "ROUTES"]

# Those of RabbitMQ 4.1 that say something about us: what they name is there.
FLAGS = {
    "classic_queue_type_delivery_support": "Bump classic queue type to its second delivery protocol",
    "direct_exchange_routing_v2": "v2 direct exchange routing implementation",
    "drop_unroutable_metric": "Count unroutable publishes to be dropped in stats",
    "empty_basic_get_metric": "Count AMQP `basic.get` on empty queues in stats",
    "feature_flags_v2": "Feature flags subsystem V2",
    "implicit_default_bindings": "Default bindings are now implicit, instead of being stored in the database",
    "listener_records_in_ets": "Store listener records in ETS instead of Mnesia",
    "maintenance_mode_status": "Maintenance mode status",
    "message_containers": "Message containers",
    "quorum_queue": "Support queues of type `quorum`",
    "restart_streams": "Support for restarting streams with optional preferred next leader argument",
    "tracking_records_in_ets": "Store tracking records in ETS instead of Mnesia",
    "user_limits": "Configure connection and channel limits for a user",
    "virtual_host_metadata": "Virtual host metadata (description, tags, etc)",
}

# What RabbitMQ 4 means to take away and is permitted until then; here it stays.
DEPRECATED = {
    "global_qos": "basic.qos with the global flag: a prefetch limit of a channel",
    "management_metrics_collection": "Message rates and samples of the management API",
    "transient_nonexcl_queues": "Queues that are neither durable nor exclusive",
}


async def feature_flags(call: Call) -> Any:
    """Feature flags: all of them enabled."""
    items = [
        {
            "name": name,
            "desc": description,
            "doc_url": "",
            "state": "enabled",
            "stability": "required",
            "require_level": "hard",
            "provided_by": "rabbit",
            "callbacks": [],
            "experiment_level": "unsupported",
        }
        for name, description in FLAGS.items()
    ]
    return await answer_list(call, items, plain_table())


async def deprecated_features(call: Call) -> Any:
    """Features that are deprecated in RabbitMQ and available here."""
    items = [
        {
            "name": name,
            "desc": description,
            "doc_url": "",
            "deprecation_phase": "permitted_by_default",
            "state": "permitted",
            "provided_by": "rabbit",
        }
        for name, description in DEPRECATED.items()
    ]
    return await answer_list(call, items, plain_table())


async def deprecated_features_used(call: Call) -> list[Any]:
    """Deprecated features that are in use: always an empty list."""
    return []


async def login_attempts(call: Call) -> list[dict[str, Any]]:
    """The number of logins by protocol, since the start or the last reset."""
    check_node(call)
    shown = {adapter.name: adapter.login_protocol for adapter in call.broker.adapters}
    return [
        {
            "protocol": shown.get(protocol, protocol),
            "auth_attempts": succeeded + failed,
            "auth_attempts_failed": failed,
            "auth_attempts_succeeded": succeeded,
        }
        for protocol, (succeeded, failed) in sorted(call.broker.auth.attempts.counts.items())
    ]


async def login_attempts_by_source(call: Call) -> list[Any]:
    """Logins by address and user: always empty, as by default in RabbitMQ."""
    check_node(call)
    return []


ROUTES = (
    Route("GET", "/feature-flags", feature_flags, needs="administrator"),
    Route("GET", "/deprecated-features", deprecated_features, needs="administrator"),
    Route("GET", "/deprecated-features/used", deprecated_features_used, needs="administrator"),
    Route("GET", "/auth/attempts/{node}", login_attempts, needs="monitoring"),
    Route("GET", "/auth/attempts/{node}/source", login_attempts_by_source, needs="monitoring"),
)

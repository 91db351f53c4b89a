"""Bodies and answers of the management API (adapters/http/management/): small, for RabbitMQ's documentation says the rest."""

from __future__ import annotations

from leveret.adapters.http.openapi.builders import (
    JSON,
    Json,
    answer,
    boolean,
    integer,
    list_of,
    obj,
    operation,
    query,
    ref,
    string,
)

__all__ = ["OPENAPI"]

PAGING = (
    query("page", integer(1), "Give a page, as an object with `items`, instead of an array"),
    query("page_size", integer(1, 500), "Items on a page"),
    query("name", string(), "With a page: only those whose name contains this"),
    query("use_regex", boolean(), "With a page: the name is a regular expression"),
    query("sort", string(), "By this member"),
    query("sort_reverse", boolean(), "The other way round"),
    query("columns", string(), "Only these members, with commas"),
)
PAGE: Json = obj(
    "items",
    total_count=integer(0), item_count=integer(0), filtered_count=integer(0), page=integer(1), page_size=integer(1),
    page_count=integer(0), items={"type": "array"},
)  # fmt: skip
COLUMNS = (query("columns", string(), "Only these members, with commas"),)
IF_UNUSED = query("if-unused", boolean(), "Only if it has no consumers or bindings")
IF_EMPTY = query("if-empty", boolean(), "Only if it is empty")
LISTS = {
    "Connection": ("/connections", "/vhosts/{vhost}/connections", "/connections/username/{user}"),
    "Channel": ("/channels", "/vhosts/{vhost}/channels", "/connections/{connection}/channels"),
    "Consumer": ("/consumers", "/consumers/{vhost}"),
    "Exchange": ("/exchanges", "/exchanges/{vhost}"),
    "Queue": ("/queues", "/queues/detailed", "/queues/{vhost}"),
    "Binding": (
        "/bindings",
        "/bindings/{vhost}",
        "/bindings/{vhost}/e/{source}/{kind}/{destination}",
        "/queues/{vhost}/{queue}/bindings",
        "/exchanges/{vhost}/{exchange}/bindings/source",
        "/exchanges/{vhost}/{exchange}/bindings/destination",
    ),
    "Vhost": ("/vhosts",),
    "User": ("/users", "/users/without-permissions"),
    "Permission": ("/permissions", "/vhosts/{vhost}/permissions", "/users/{user}/permissions"),
    "TopicPermission": (
        "/topic-permissions",
        "/vhosts/{vhost}/topic-permissions",
        "/users/{user}/topic-permissions",
        "/topic-permissions/{vhost}/{user}",
    ),
    "Policy": ("/policies", "/policies/{vhost}", "/operator-policies", "/operator-policies/{vhost}"),
    "Parameter": ("/parameters", "/parameters/{component}", "/parameters/{component}/{vhost}"),
    "GlobalParameter": ("/global-parameters",),
    "Limits": ("/vhost-limits", "/vhost-limits/{vhost}", "/user-limits", "/user-limits/{user}"),
    "Node": ("/nodes",),
}
ITEMS = {
    "Overview": ("/overview",),
    "Node": ("/nodes/{node}",),
    "Connection": ("/connections/{connection}",),
    "Channel": ("/channels/{channel}",),
    "Exchange": ("/exchanges/{vhost}/{exchange}",),
    "Queue": ("/queues/{vhost}/{queue}",),
    "Binding": ("/bindings/{vhost}/e/{source}/{kind}/{destination}/{props}",),
    "Vhost": ("/vhosts/{vhost}",),
    "User": ("/users/{user}",),
    "Permission": ("/permissions/{vhost}/{user}",),
    "Policy": ("/policies/{vhost}/{policy}", "/operator-policies/{vhost}/{policy}"),
    "Parameter": ("/parameters/{component}/{vhost}/{name}",),
    "GlobalParameter": ("/global-parameters/{name}",),
    "Definitions": ("/definitions", "/definitions/{vhost}", "/all-configuration"),
}
CHECKS = (
    "alarms", "local-alarms", "certificate-expiration/{within}/{unit}", "port-listener/{port}",
    "protocol-listener/{protocol}", "virtual-hosts", "node-is-quorum-critical", "node-is-mirror-sync-critical",
    "is-in-service", "ready-to-serve-clients", "below-node-connection-limit", "reached-target-cluster-size",
    "metadata-store/initialized", "metadata-store/initialized/with-data",
    "quorum-queues-without-elected-leaders/all-vhosts",
    "quorum-queues-without-elected-leaders/all-vhosts/pattern/{pattern}",
    "quorum-queues-without-elected-leaders/vhost/{vhost}",
    "quorum-queues-without-elected-leaders/vhost/{vhost}/pattern/{pattern}",
)  # fmt: skip
DECLARED = {"durable": boolean(), "auto_delete": boolean(), "arguments": {"type": "object"}}
POLICY = obj(
    "pattern definition",
    pattern=string(),
    definition={"type": "object"},
    priority=integer(),
    **{"apply-to": string(enum=["all", "queues", "classic_queues", "quorum_queues", "streams", "exchanges"])},
)
VALUE = obj("value", value={})
PERMISSION = obj("configure write read", configure=string(), write=string(), read=string())
TOPIC_PERMISSION = obj("exchange write read", exchange=string(), write=string(), read=string())
PUTS: dict[str, tuple[Json | None, bool]] = {
    "/vhosts/{vhost}": (
        obj(
            description=string(),
            tags={"type": ["array", "string"]},
            tracing=boolean(),
            default_queue_type=string(),
        ),
        True,
    ),
    "/users/{user}": (
        obj("tags", tags={"type": ["string", "array"]}, password=string(), password_hash=string()),
        False,
    ),
    "/permissions/{vhost}/{user}": (PERMISSION, False),
    "/topic-permissions/{vhost}/{user}": (TOPIC_PERMISSION, False),
    "/exchanges/{vhost}/{exchange}": (obj(type=string(), internal=boolean(), **DECLARED), True),
    "/queues/{vhost}/{queue}": (obj(**DECLARED), True),
    "/policies/{vhost}/{policy}": (POLICY, False),
    "/operator-policies/{vhost}/{policy}": (POLICY, False),
    "/parameters/{component}/{vhost}/{name}": (VALUE, False),
    "/global-parameters/{name}": (VALUE, False),
    "/cluster-name": (obj("name", name=string(minLength=1)), False),
    "/vhost-limits/{vhost}/{name}": (obj("value", value=integer()), False),
    "/user-limits/{user}/{name}": (obj("value", value=integer()), False),
}
"""Body, and whether there need be none."""
GET = obj(
    "ackmode count encoding",
    ackmode=string(
        enum=["ack_requeue_true", "ack_requeue_false", "reject_requeue_true", "reject_requeue_false"]
    ),
    count=integer(),
    encoding=string(enum=["auto", "base64"]),
    truncate=integer(),
)
PUBLISH = obj(
    "routing_key properties payload payload_encoding",
    routing_key=string(),
    properties=ref("Properties"),
    payload=string(),
    payload_encoding=string(enum=["string", "base64"]),
)


def _lists() -> dict[str, Json]:
    found = {}
    for schema, paths in LISTS.items():
        either = {"anyOf": [list_of(ref(schema)), PAGE]}
        for path in paths:
            found[f"get /api{path}"] = operation(ok={200: answer("The objects.", either)}, parameters=PAGING)
    return found


def _items() -> dict[str, Json]:
    return {
        f"get /api{path}": operation(ok={200: answer("The object.", ref(schema))}, parameters=COLUMNS)
        for schema, paths in ITEMS.items()
        for path in paths
    }


def _checks() -> dict[str, Json]:
    status = {200: answer("It is.", ref("Status")), 503: answer("It is not.", ref("Status"))}
    return {f"get /api/health/checks/{path}": operation(ok=status) for path in CHECKS}


OPENAPI: dict[str, Json] = {
    **_lists(),
    **_items(),
    **_checks(),
    "put /api/feature-flags/{name}/enable": operation(ok={204: answer("Done.")}),
    "get /api/topic-permissions/{vhost}/{user}/{exchange}": operation(
        ok={
            200: answer(
                "The objects.", {"anyOf": [list_of(ref("TopicPermission")), ref("TopicPermission"), PAGE]}
            )
        }
    ),
    "get /api/connections/{connection}/sessions": operation(ok={200: answer("None.", list_of({}))}),
    "get /api/auth/hash_password/{password}": operation(
        ok={200: answer("The hash.", obj("ok", ok=string()))}
    ),
    **{
        f"put /api{path}": operation(
            ok={201: answer("Created."), 204: answer("Updated.")},
            body=body,
            optional_body=is_optional,
        )
        for path, (body, is_optional) in PUTS.items()
    },
    "delete /api/queues/{vhost}/{queue}": operation(
        ok={204: answer("Gone.")}, parameters=(IF_UNUSED, IF_EMPTY)
    ),
    "delete /api/exchanges/{vhost}/{exchange}": operation(ok={204: answer("Gone.")}, parameters=(IF_UNUSED,)),
    "post /api/bindings/{vhost}/e/{source}/{kind}/{destination}": operation(
        ok={201: answer("Bound; Location says where.")},
        body=obj(routing_key=string(), arguments={"type": "object"}),
        optional_body=True,
    ),
    "post /api/queues/{vhost}/{queue}/get": operation(
        ok={200: answer("Messages.", list_of(ref("Got")))}, body=GET, also="429"
    ),
    "post /api/exchanges/{vhost}/{exchange}/publish": operation(
        ok={200: answer("Published.", ref("Published"))}, body=PUBLISH
    ),
    "post /api/login": operation(
        ok={200: answer("They do.", {"const": "ok"}, JSON)},
        body=obj("username password", username=string(), password=string()),
        types=("application/x-www-form-urlencoded",),
        also="401",
        security=[],
    ),
    "post /api/users/bulk-delete": operation(
        ok={204: answer("Gone.")}, body=obj("users", users=list_of(string()))
    ),
    "post /api/definitions": operation(
        ok={204: answer("Taken.")},
        body=ref("Definitions"),
        types=("application/json", "multipart/form-data"),
        also="415",
    ),
    "post /api/definitions/{vhost}": operation(
        ok={204: answer("Taken.")},
        body=ref("Definitions"),
        types=("application/json", "multipart/form-data"),
        also="415",
    ),
    "post /api/all-configuration": operation(
        ok={204: answer("Taken.")},
        body=ref("Definitions"),
        types=("application/json", "multipart/form-data"),
        also="415",
    ),
}
"""Partial operations by "method /path"."""

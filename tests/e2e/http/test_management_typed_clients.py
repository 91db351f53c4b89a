"""What clients with static types insist on: every member they cannot do without is there, and of the type they read.

The client library inside rabbitmqadmin v2 refuses a whole answer if one member is missing, null, negative where it has
unsigned numbers, or a fraction where it has whole ones. The tables here say what it insists on, read from its types.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from typing import Any

import pika
import pytest
from support.management import Management
from support.server import LeveretServer, own_server_only, poll

pytestmark = own_server_only("it needs users and settings of its own")

VHOST = "typed / %"

# -- types: a name of one, [a list of them], or {members}; a member with `?` may be missing or null

LIMITS = {"u16": 1 << 16, "u32": 1 << 32, "u64": 1 << 64}
RATE = {"rate": "number"}
CONNECTION_OF = {"name": "text", "peer_host": "text", "peer_port": "u32"}
OVERVIEW = {
    "cluster_name": "text", "node": "text", "erlang_full_version": "text", "erlang_version": "text",
    "rabbitmq_version": "text", "product_name": "text", "product_version": "text", "crypto_lib_version?": "text",
    "cluster_tags?": "map", "node_tags?": "map", "statistics_db_event_queue": "u64",
    "churn_rates": dict.fromkeys((
        "connection_created", "connection_closed", "queue_declared", "queue_created", "queue_deleted",
        "channel_created", "channel_closed",
    ), "u32"),
    "queue_totals": {
        name + suffix: kind
        for name in ("messages", "messages_ready", "messages_unacknowledged")
        for suffix, kind in (("", "u64"), ("_details", RATE))
    },
    "object_totals": dict.fromkeys(("connections", "channels", "queues", "exchanges", "consumers"), "u64"),
    "message_stats": dict.fromkeys((
        "deliver_get_details?", "publish_details?", "deliver_no_ack_details?", "redeliver_details?",
        "confirm_details?", "ack_details?", "drop_unroutable_details?", "return_unroutable_details?",
    ), RATE),
    "listeners": [{"node": "text", "protocol": "text", "port": "u32", "ip_address": "text"}],
}  # fmt: skip
NODE = {
    "name": "text", "uptime": "u32", "run_queue": "u32", "processors": "u32", "os_pid": "number in a text",
    "fd_total": "u32", "proc_total": "u32", "mem_limit": "u64", "mem_alarm": "flag", "disk_free_limit": "u64",
    "disk_free_alarm": "flag", "rates_mode": "text", "enabled_plugins": ["text"], "being_drained": "flag",
    "applications": [{"name": "text", "description": "text", "version": "text"}],
}  # fmt: skip
MEMORY = {
    "memory": dict.fromkeys((
        "connection_readers", "connection_writers", "connection_channels", "connection_other", "queue_procs",
        "quorum_queue_procs", "stream_queue_procs", "stream_queue_replica_reader_procs",
        "stream_queue_coordinator_procs", "plugins", "metadata_store", "other_proc", "metrics", "mgmt_db", "mnesia",
        "quorum_ets", "metadata_store_ets", "other_ets", "binary", "msg_index", "code", "atom", "other_system",
        "allocated_unused", "reserved_unallocated",
    ), "u64") | {"strategy": "text", "total": {"rss": "u64", "allocated": "u64", "erlang": "u64"}},
}  # fmt: skip
CONNECTION = {
    "name": "text", "node": "text", "state?": "text", "protocol": "text", "user": "text", "connected_at": "u64",
    "host?": "text", "port?": "u32", "peer_host?": "text", "peer_port?": "u32", "channel_max?": "u16",
    "channels": "u16",
    "client_properties": {
        "connection_name?": "text", "platform?": "text", "product?": "text", "version?": "text",
        "capabilities?": dict.fromkeys((
            "authentication_failure_close?", "basic.nack?", "connection.blocked?", "consumer_cancel_notify?",
            "exchange_exchange_bindings?", "publisher_confirms?",
        ), "flag"),
    },
}  # fmt: skip
USER_CONNECTION = {"name": "text", "node": "text", "user": "text", "vhost": "text"}
CHANNEL = {
    "number": "u32", "name": "text", "connection_details": CONNECTION_OF, "vhost": "text", "state": "text",
    "consumer_count": "u32", "confirm": "flag", "prefetch_count": "u32", "messages_unacknowledged": "u32",
    "messages_unconfirmed": "u32",
}  # fmt: skip
CONSUMER = {
    "consumer_tag": "text", "active": "flag", "ack_required": "flag", "prefetch_count": "u32", "exclusive": "flag",
    "arguments": "map", "consumer_timeout": "u64", "queue": {"name": "text", "vhost": "text"},
    "channel_details": {
        "number": "u32", "name": "text", "connection_name": "text", "node": "text", "peer_host": "text",
        "peer_port": "u32", "user": "text",
    },
}  # fmt: skip
QUEUE = {
    "name": "text", "vhost": "text", "type": "text", "durable": "flag", "auto_delete": "flag", "exclusive": "flag",
    "arguments": "map", "node": "text", "state": "text", "leader?": "text", "members?": ["text"], "online?": ["text"],
    "memory": "u64", "consumers": "u16", "consumer_utilisation": "number", "exclusive_consumer_tag?": "text",
    "policy?": "text", "operator_policy?": "text", "effective_policy_definition?": "map", "message_bytes": "u64",
    "message_bytes_persistent": "u64", "message_bytes_ram": "u64", "message_bytes_ready": "u64",
    "message_bytes_unacknowledged": "u64", "messages": "u64", "messages_persistent": "u64", "messages_ram": "u64",
    "messages_unacknowledged": "u64",
}  # fmt: skip
EXCHANGE = {
    "name": "text", "vhost": "text", "type": "text", "durable": "flag", "auto_delete": "flag", "arguments": "map",
}  # fmt: skip
BINDING = {
    "vhost": "text", "source": "text", "destination": "text", "destination_type": "kind", "routing_key": "text",
    "arguments": "map", "properties_key?": "text",
}  # fmt: skip
METADATA = {"tags?": ["text"], "description?": "text", "default_queue_type?": "text"}
VHOST_SHAPE = {"name": "text", **METADATA, "metadata?": METADATA}
USER = {"name": "text", "tags": ["text"], "password_hash": "text"}
PERMISSION = {"user": "text", "vhost": "text", "configure": "text", "read": "text", "write": "text"}
TOPIC_PERMISSION = {"user": "text", "vhost": "text", "exchange": "text", "read": "text", "write": "text"}
PARAMETER = {"name": "text", "vhost": "text", "component": "text", "value": "map"}
POLICY = {
    "name": "text", "vhost": "text", "pattern": "text", "apply-to": "target", "priority": "i16", "definition": "map",
}  # fmt: skip
FLAG = {
    "name": "text", "state": "text", "desc": "text", "doc_url": "text", "stability": "text", "provided_by": "text",
}  # fmt: skip
DEPRECATED = {
    "name": "text", "desc": "text", "deprecation_phase": "phase", "doc_url": "text", "provided_by": "text",
    "state?": "text",
}  # fmt: skip
ATTEMPTS = {
    "protocol": "text", "auth_attempts": "u64", "auth_attempts_failed": "u64", "auth_attempts_succeeded": "u64",
}  # fmt: skip


def _without_vhost(shape: dict[str, Any]) -> dict[str, Any]:
    return {name: kind for name, kind in shape.items() if name != "vhost"}


QUEUE_DEFINITION = {
    "name": "text", "vhost": "text", "durable": "flag", "auto_delete": "flag", "arguments": "map",
}  # fmt: skip
DEFINITIONS = {
    "rabbitmq_version?": "text", "users": [USER], "vhosts": [VHOST_SHAPE], "permissions": [PERMISSION],
    "parameters": [PARAMETER], "policies": [POLICY], "queues": [QUEUE_DEFINITION], "exchanges": [EXCHANGE],
    "bindings": [BINDING],
}  # fmt: skip
VHOST_DEFINITIONS = {
    "rabbitmq_version?": "text", "metadata?": METADATA, "parameters": [_without_vhost(PARAMETER)],
    "policies": [_without_vhost(POLICY)], "queues": [_without_vhost(QUEUE_DEFINITION)],
    "exchanges": [_without_vhost(EXCHANGE)], "bindings": [_without_vhost(BINDING)],
}  # fmt: skip
CHOICES = {
    "kind": {"queue", "exchange"},
    "target": {"queues", "classic_queues", "quorum_queues", "streams", "exchanges", "all"},
    "phase": {"permitted_by_default", "denied_by_default", "disconnected", "removed", "undefined"},
}
PAGE = dict.fromkeys(
    ("filtered_count", "item_count", "page", "page_count", "page_size", "total_count"), "u64"
)


def misfits(value: Any, shape: Any, where: str = "") -> list[str]:
    """What does not fit, and where."""
    match shape:
        case [inner]:
            if not isinstance(value, list):
                return [f"{where} is no list: {value!r:.80}"]
            return [
                wrong
                for number, item in enumerate(value)
                for wrong in misfits(item, inner, f"{where}[{number}]")
            ]
        case dict():
            if not isinstance(value, dict):
                return [f"{where} is no object: {value!r:.80}"]
            found = []
            for name, inner in shape.items():
                plain = name.removesuffix("?")
                if value.get(plain) is None:
                    found += [] if name != plain else [f"{where}.{plain} is missing or null"]
                else:
                    found += misfits(value[plain], inner, f"{where}.{plain}")
            return found
    whole = isinstance(value, int) and not isinstance(value, bool)
    fits: dict[str, Callable[[], bool]] = {
        "text": lambda: isinstance(value, str),
        "flag": lambda: isinstance(value, bool),
        "map": lambda: isinstance(value, dict),
        "number": lambda: whole or isinstance(value, float),
        "number in a text": lambda: isinstance(value, str) and value.isdecimal(),
        "i16": lambda: whole and -(1 << 15) <= value < 1 << 15,
    }
    if shape in LIMITS:
        fits_it = whole and 0 <= value < LIMITS[shape]
    elif shape in CHOICES:
        fits_it = value in CHOICES[shape]
    else:
        fits_it = fits[shape]()
    return [] if fits_it else [f"{where} is no {shape}: {value!r:.80}"]


PATHS: list[tuple[str, Any]] = [
    ("/overview", OVERVIEW),
    ("/cluster-name", {"name": "text"}),
    ("/nodes", [NODE]),
    ("/nodes/{node}", NODE),
    ("/nodes/{node}/memory", MEMORY),
    ("/connections", [CONNECTION]),
    ("/connections/{connection}", CONNECTION),
    ("/connections/username/guest", [USER_CONNECTION]),
    ("/vhosts/{vhost}/connections", [CONNECTION]),
    ("/connections/{connection}/channels", [CHANNEL]),
    ("/channels", [CHANNEL]),
    ("/channels/{connection} (1)", CHANNEL),
    ("/vhosts/{vhost}/channels", [CHANNEL]),
    ("/consumers", [CONSUMER]),
    ("/consumers/{vhost}", [CONSUMER]),
    ("/queues", [QUEUE]),
    ("/queues/detailed", [QUEUE]),
    ("/queues/{vhost}", [QUEUE]),
    ("/queues/{vhost}/q", QUEUE),
    ("/queues/{vhost}/quorum", QUEUE),
    ("/queues/{vhost}/q/bindings", [BINDING]),
    ("/exchanges", [EXCHANGE]),
    ("/exchanges/{vhost}", [EXCHANGE]),
    ("/exchanges/{vhost}/x", EXCHANGE),
    ("/exchanges/{vhost}/x/bindings/source", [BINDING]),
    ("/exchanges/{vhost}/x/bindings/destination", [BINDING]),
    ("/bindings", [BINDING]),
    ("/bindings/{vhost}", [BINDING]),
    ("/bindings/{vhost}/e/x/q/q", [BINDING]),
    ("/vhosts", [VHOST_SHAPE]),
    ("/vhosts/{vhost}", VHOST_SHAPE),
    ("/vhosts/{vhost}/permissions", [PERMISSION]),
    ("/vhosts/{vhost}/topic-permissions", [TOPIC_PERMISSION]),
    ("/users", [USER]),
    ("/users/guest", USER),
    ("/users/nothing", USER),
    ("/users/without-permissions", [USER]),
    ("/users/guest/permissions", [PERMISSION]),
    ("/users/guest/topic-permissions", [TOPIC_PERMISSION]),
    ("/whoami", {"name": "text", "tags": ["text"]}),
    ("/permissions", [PERMISSION]),
    ("/permissions/{vhost}/guest", PERMISSION),
    ("/topic-permissions", [TOPIC_PERMISSION]),
    ("/topic-permissions/{vhost}/guest", [TOPIC_PERMISSION]),
    ("/parameters", [PARAMETER]),
    ("/parameters/vhost-limits", [PARAMETER]),
    ("/parameters/vhost-limits/{vhost}/limits", PARAMETER),
    ("/global-parameters", [{"name": "text", "value": "map"}]),
    ("/policies", [POLICY]),
    ("/policies/{vhost}", [POLICY]),
    ("/policies/{vhost}/p", POLICY),
    ("/operator-policies", [POLICY]),
    ("/operator-policies/{vhost}/p", POLICY),
    ("/vhost-limits", [{"vhost": "text", "value": "map"}]),
    ("/vhost-limits/{vhost}", [{"vhost": "text", "value": "map"}]),
    ("/user-limits", [{"user": "text", "value": "map"}]),
    ("/user-limits/guest", [{"user": "text", "value": "map"}]),
    ("/definitions", DEFINITIONS),
    ("/definitions/{vhost}", VHOST_DEFINITIONS),
    ("/feature-flags", [FLAG]),
    ("/deprecated-features", [DEPRECATED]),
    ("/auth/attempts/{node}", [ATTEMPTS]),
    *(
        (f"/{what}?page=1&page_size=2", PAGE | {"items": [shape]})
        for what, shape in (
            ("queues", QUEUE),
            ("exchanges", EXCHANGE),
            ("connections", CONNECTION),
            ("channels", CHANNEL),
        )
    ),
]
EMPTY = {"/queues/detailed", "/exchanges/{vhost}/x/bindings/destination"}
"""Where a list may be empty."""


@pytest.fixture(scope="module")
def broker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LeveretServer]:
    settings = {"LEVERET_HTTP_RATES_INTERVAL_S": "0.1"}
    with LeveretServer(tmp_path_factory.mktemp("typed") / "data", settings) as server:
        yield server
        assert server.stop() == 0, server.errors
        assert "Traceback" not in server.errors


@pytest.fixture(scope="module")
def api(broker: LeveretServer) -> Iterator[Management]:
    with Management(broker.ports["http"]) as client:
        yield client


@pytest.fixture(scope="module")
def words(broker: LeveretServer, api: Management) -> Iterator[dict[str, str]]:
    """One of everything is there; what the paths must be filled in with."""
    permission = {"configure": ".*", "write": ".*", "read": ".*"}
    definition = {"pattern": ".*", "definition": {"max-length": 100}, "apply-to": "queues", "priority": -1}
    vhost = "typed%20%2F%20%25"
    for path, body in (
        (f"/vhosts/{vhost}", {"description": "d", "tags": "a,b", "default_queue_type": "classic"}),
        (f"/permissions/{vhost}/guest", permission),
        (f"/topic-permissions/{vhost}/guest", {"exchange": "amq.topic", "write": ".*", "read": ".*"}),
        ("/users/nothing", {"password_hash": "", "tags": ""}),
        (f"/policies/{vhost}/p", definition),
        (f"/operator-policies/{vhost}/p", definition),
        (f"/vhost-limits/{vhost}/max-queues", {"value": 50}),
        ("/user-limits/guest/max-channels", {"value": 500}),
        ("/global-parameters/g", {"value": {"a": 1}}),
        (f"/exchanges/{vhost}/x", {"type": "topic", "arguments": {}}),
        (f"/queues/{vhost}/q", {"arguments": {"x-max-priority": 3}}),
        (f"/queues/{vhost}/quorum", {"durable": True, "arguments": {"x-queue-type": "quorum"}}),
    ):
        answer = api.request("PUT", path, body)
        assert answer.status in (201, 204), (path, answer)
    for key, arguments in (("k", {}), ("", {"n": [1]})):
        body = {"routing_key": key, "arguments": arguments}
        assert api.request("POST", f"/bindings/{vhost}/e/x/q/q", body).status == 201
    parameters = pika.ConnectionParameters(
        "127.0.0.1", broker.port, VHOST, heartbeat=600, client_properties={"connection_name": "typed"}
    )
    with contextlib.closing(pika.BlockingConnection(parameters)) as connection:
        channel = connection.channel()
        channel.confirm_delivery()
        channel.basic_qos(prefetch_count=2)
        channel.basic_consume("q", lambda *_: None, consumer_tag="c")
        channel.basic_publish("x", "k", b"m")
        channel.basic_publish("", "quorum", b"m")
        connections = poll(lambda: api.get("/connections"), "the connection is listed")
        poll(lambda: "publish" in api.get("/overview").get("message_stats", {}), "rates")
        name = connections[0]["name"].replace(" ", "%20").replace(">", "%3E")
        yield {"vhost": vhost, "connection": name, "node": api.get("/overview")["node"]}


@pytest.mark.parametrize(("path", "shape"), PATHS, ids=[path for path, _ in PATHS])
def test_answers_fit(api: Management, words: dict[str, str], path: str, shape: Any) -> None:
    value = api.get(path.format_map(words).replace(" (1)", "%20(1)"))
    assert not misfits(value, shape)
    if isinstance(value, list) and path not in EMPTY:
        assert value


def test_messages_fit(api: Management, words: dict[str, str]) -> None:
    vhost = words["vhost"]
    message = {"routing_key": "quorum", "payload": "p", "payload_encoding": "string", "properties": {}}
    answer = api.request("POST", f"/exchanges/{vhost}/amq.default/publish", message)
    assert not misfits(answer.json, {"routed": "flag"})
    get = {"count": 5, "ackmode": "ack_requeue_true", "encoding": "auto", "truncate": 100}
    answer = api.request("POST", f"/queues/{vhost}/quorum/get", get)
    assert answer.json
    assert not misfits(
        answer.json,
        [
            {
                "payload_bytes": "u32", "redelivered": "flag", "exchange": "text", "routing_key": "text",
                "message_count": "u32", "payload": "text", "payload_encoding": "text",
            }
        ],
    )  # fmt: skip


def test_failed_checks_fit(api: Management) -> None:
    port = api.request("GET", "/health/checks/port-listener/1")
    assert port.status == 503
    assert not misfits(port.json, {"status": "text", "reason": "text", "missing": "u16"})
    protocol = api.request("GET", "/health/checks/protocol-listener/amqps")
    assert protocol.status == 503
    assert not misfits(protocol.json, {"status": "text", "reason": "text", "protocols": ["text"]})


def test_what_is_not_there(api: Management, words: dict[str, str]) -> None:
    """Clients compare the words, too."""
    vhost = words["vhost"]
    for path in (
        "/users/gone", "/users/gone/permissions", "/vhosts/gone", "/queues/gone", f"/queues/{vhost}/gone",
        f"/exchanges/{vhost}/gone", f"/policies/{vhost}/gone", f"/operator-policies/{vhost}/gone",
        "/global-parameters/gone", f"/parameters/vhost-limits/{vhost}/gone", f"/permissions/{vhost}/gone",
        "/connections/gone", "/channels/gone", "/nodes/gone", "/gone",
    ):  # fmt: skip
        answer = api.request("GET", path)
        assert (answer.status, answer.json) == (404, {"error": "Object Not Found", "reason": "Not Found"}), (
            path
        )


def test_what_is_deleted_twice(api: Management, words: dict[str, str]) -> None:
    """Clients that delete idempotently rely on 404."""
    vhost = words["vhost"]
    for path in (
        "/users/gone", "/vhosts/gone", f"/queues/{vhost}/gone", f"/exchanges/{vhost}/gone", f"/policies/{vhost}/gone",
        f"/operator-policies/{vhost}/gone", "/global-parameters/gone", f"/parameters/vhost-limits/{vhost}/gone",
        f"/permissions/{vhost}/nothing", f"/topic-permissions/{vhost}/nothing", "/connections/gone",
    ):  # fmt: skip
        assert api.request("DELETE", path).status in (204, 404), path


def test_the_rest_of_its_requests(api: Management, words: dict[str, str]) -> None:
    vhost = words["vhost"]
    for method, path, body in (
        ("POST", f"/vhosts/{vhost}/deletion/protection", b""),
        ("DELETE", f"/vhosts/{vhost}/deletion/protection", None),
        ("POST", "/rebalance/queues", {}),
        ("PUT", "/feature-flags/quorum_queue/enable", {"name": "quorum_queue"}),
        ("POST", "/users/bulk-delete", {"users": []}),
        ("PUT", "/cluster-name", {"name": "typed"}),
        ("DELETE", "/connections/username/nothing", None),
    ):
        answer = api.request(method, path, body)
        assert answer.status in (200, 201, 202, 204), (method, path, answer)
    for check in (
        "alarms", "local-alarms", "node-is-quorum-critical", "protocol-listener/amqp", "virtual-hosts",
        "ready-to-serve-clients", "is-in-service", "below-node-connection-limit", "metadata-store/initialized",
        "metadata-store/initialized/with-data", "reached-target-cluster-size",
        "quorum-queues-without-elected-leaders/all-vhosts",
    ):  # fmt: skip
        assert api.request("GET", f"/health/checks/{check}").status == 200, check

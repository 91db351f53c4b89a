"""The reading half of the management API on a started server, compared with what RabbitMQ 3.10.8 answered."""

# mypy: disable-error-code="import-untyped,no-untyped-call,attr-defined"
from __future__ import annotations

import time
from collections.abc import Iterator
from typing import Any
from urllib.parse import quote

import pika
import pytest
from support.management import Management, control
from support.server import REFERENCE, LeveretServer, poll

pytestmark = pytest.mark.skipif(bool(REFERENCE), reason="the server needs users and settings of its own")

VHOST = "with / and %"
USERS = {
    "admin": ["administrator"],
    "monitor": ["monitoring"],
    "maker": ["policymaker"],
    "manager": ["management"],
    "nobody": [],
}

# Recorded from RabbitMQ 3.10.8; without what only Erlang has (reductions, garbage_collection, backing_queue_status,
# io_*, mnesia_*, msg_store_*, queue_index_*, ra_*), and without numbers we do not keep (recv_cnt, send_cnt,
# disk_reads, disk_writes), mirrors (recoverable_slaves), and who declared an exchange (user_who_performed_action).
DETAILS = {"rate"}
SAMPLED = {"rate", "samples", "avg", "avg_rate"}
OVERVIEW = {
    "management_version", "rates_mode", "sample_retention_policies", "exchange_types", "product_version", "product_name",
    "rabbitmq_version", "cluster_name", "erlang_version", "erlang_full_version", "release_series_support_status",
    "disable_stats", "enable_queue_totals", "message_stats", "churn_rates", "queue_totals", "object_totals",
    "statistics_db_event_queue", "node", "listeners", "contexts",
}  # fmt: skip
CHURN = {
    "channel_closed", "channel_created", "connection_closed", "connection_created", "queue_created", "queue_declared",
    "queue_deleted",
}  # fmt: skip
NODE = {
    "partitions", "os_pid", "fd_total", "sockets_total", "mem_limit", "mem_alarm", "disk_free_limit", "disk_free_alarm",
    "proc_total", "rates_mode", "uptime", "run_queue", "processors", "exchange_types", "auth_mechanisms", "applications",
    "contexts", "log_files", "db_dir", "config_files", "net_ticktime", "enabled_plugins", "mem_calculation_strategy",
    "name", "type", "running", "mem_used", "mem_used_details", "fd_used", "fd_used_details", "sockets_used",
    "sockets_used_details", "proc_used", "proc_used_details", "disk_free", "disk_free_details", "gc_num",
    "gc_num_details", "context_switches", "context_switches_details", "connection_created", "connection_closed",
    "channel_created", "channel_closed", "queue_declared", "queue_created", "queue_deleted", "cluster_links",
    "metrics_gc_queue_length", "being_drained",
}  # fmt: skip
QUEUE = {
    "arguments", "auto_delete", "consumer_capacity", "consumer_utilisation", "consumers", "durable",
    "effective_policy_definition", "exclusive", "exclusive_consumer_tag", "head_message_timestamp", "memory",
    "message_bytes", "message_bytes_paged_out", "message_bytes_persistent", "message_bytes_ram", "message_bytes_ready",
    "message_bytes_unacknowledged", "messages", "messages_details", "messages_paged_out", "messages_persistent",
    "messages_ram", "messages_ready", "messages_ready_details", "messages_ready_ram", "messages_unacknowledged",
    "messages_unacknowledged_details", "messages_unacknowledged_ram", "name", "node", "operator_policy", "policy",
    "single_active_consumer_tag", "state", "type", "vhost",
}  # fmt: skip
DELIVERY = {"ack", "deliver", "deliver_get", "deliver_no_ack", "get", "get_empty", "get_no_ack", "redeliver"}
PUBLISHING = {"publish", "confirm", "drop_unroutable", "return_unroutable"}
EXCHANGE = {"arguments", "auto_delete", "durable", "internal", "name", "type", "vhost"}
BINDING = {
    "source", "vhost", "destination", "destination_type", "routing_key", "arguments", "properties_key",
}  # fmt: skip
CONNECTION = {
    "auth_mechanism", "channel_max", "channels", "client_properties", "connected_at", "frame_max", "host", "name",
    "node", "peer_cert_issuer", "peer_cert_subject", "peer_cert_validity", "peer_host", "peer_port", "port", "protocol",
    "recv_oct", "recv_oct_details", "send_oct", "send_oct_details", "send_pend", "ssl", "ssl_cipher", "ssl_hash",
    "ssl_key_exchange", "ssl_protocol", "state", "timeout", "type", "user", "user_provided_name",
    "user_who_performed_action", "vhost",
}  # fmt: skip
CHANNEL = {
    "acks_uncommitted", "confirm", "connection_details", "consumer_count", "global_prefetch_count",
    "messages_unacknowledged", "messages_uncommitted", "messages_unconfirmed", "name", "node", "number",
    "prefetch_count", "state", "transactional", "user", "user_who_performed_action", "vhost",
}  # fmt: skip
CONSUMER = {
    "arguments", "ack_required", "active", "activity_status", "channel_details", "consumer_tag", "exclusive",
    "prefetch_count", "queue",
}  # fmt: skip
CHANNEL_DETAILS = {"connection_name", "name", "node", "number", "peer_host", "peer_port", "user"}
VHOST_KEYS = {
    "cluster_state", "default_queue_type", "description", "messages", "messages_details", "messages_ready",
    "messages_ready_details", "messages_unacknowledged", "messages_unacknowledged_details", "metadata", "name", "tags",
    "tracing",
}  # fmt: skip
MEMORY = {
    "connection_readers", "connection_writers", "connection_channels", "connection_other", "queue_procs",
    "queue_slave_procs", "quorum_queue_procs", "quorum_queue_dlx_procs", "stream_queue_procs",
    "stream_queue_replica_reader_procs", "stream_queue_coordinator_procs", "plugins", "other_proc", "metrics",
    "mgmt_db", "mnesia", "quorum_ets", "other_ets", "binary", "msg_index", "code", "atom", "other_system",
    "allocated_unused", "reserved_unallocated", "strategy", "total",
}  # fmt: skip


@pytest.fixture(scope="module")
def broker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LeveretServer]:
    """A server with users of every tag, a second virtual host, and rates that are sampled often."""
    settings = {"LEVERET_HTTP_RATES_INTERVAL_S": "0.1"}
    with LeveretServer(tmp_path_factory.mktemp("http") / "data", settings) as server:
        control(
            server,
            ("add_vhost", {"name": VHOST, "description": "second"}),
            *(("add_user", {"username": name, "password": "p"}) for name in USERS),
            *(("set_user_tags", {"username": name, "tags": tags}) for name, tags in USERS.items()),
            *(
                (
                    "set_permissions",
                    {"user": user, "vhost": vhost, "configure": ".*", "write": ".*", "read": ".*"},
                )
                for user, vhost in (("guest", VHOST), ("manager", VHOST))
            ),
        )
        yield server
        assert server.stop() == 0, server.errors
        assert "Traceback" not in server.errors


@pytest.fixture
def api(broker: LeveretServer) -> Iterator[Management]:
    with Management(broker.ports["http"]) as client:
        yield client


class Activity:
    """A connection that has published, got and consumes: one of everything."""

    def __init__(self, broker: LeveretServer) -> None:
        self.connection = pika.BlockingConnection(
            pika.ConnectionParameters(
                "127.0.0.1", broker.port, client_properties={"connection_name": "tester"}, heartbeat=600
            )
        )
        channel = self.publishing = self.connection.channel()
        channel.confirm_delivery()
        channel.queue_declare("q1", durable=True, arguments={"x-single-active-consumer": True})
        channel.queue_declare("idle", durable=True)
        channel.queue_declare("mine", exclusive=True)
        channel.exchange_declare("x1", "topic", durable=True, arguments={"alternate-exchange": "amq.fanout"})
        channel.queue_bind("q1", "x1", "a.#")
        channel.queue_bind("q1", "x1", "b~/ %c", arguments={"x": 1})
        channel.queue_bind("q1", "amq.fanout", "")
        channel.exchange_bind("amq.fanout", "x1", "z")
        for number in range(20):
            channel.basic_publish(
                "x1", "a.b", b"%d" % number, pika.BasicProperties(delivery_mode=2, timestamp=7)
            )
        channel.basic_publish("", "mine", b"hello")
        channel.basic_get("mine")
        channel.basic_get("mine")
        consuming = self.consuming = self.connection.channel()
        consuming.basic_qos(prefetch_count=5)
        consuming.basic_consume("q1", lambda *_: None, consumer_tag="tag1", arguments={"k": "v"})
        self.connection.process_data_events(0.05)

    @property
    def name(self) -> str:
        host, port = self.connection._impl._transport._sock.getsockname()[:2]
        peer = self.connection._impl._transport._sock.getpeername()
        return f"{host}:{port} -> {peer[0]}:{peer[1]}"

    def close(self) -> None:
        for queue in ("q1", "idle"):
            self.publishing.queue_delete(queue)
        self.publishing.exchange_delete("x1")
        self.connection.close()


@pytest.fixture(scope="module")
def activity(broker: LeveretServer) -> Iterator[Activity]:
    active = Activity(broker)
    time.sleep(0.35)  # three looks of the sampler, which is what this waits for
    yield active
    active.close()


def has(item: dict[str, Any], keys: set[str]) -> None:
    missing = keys - item.keys()
    assert not missing, f"missing {sorted(missing)} in {sorted(item)}"


# -- shapes


def test_overview(api: Management, activity: Activity) -> None:
    overview = api.get("/overview")
    has(overview, OVERVIEW)
    has(overview["churn_rates"], CHURN | {f"{name}_details" for name in CHURN})
    has(overview["message_stats"], PUBLISHING | DELIVERY)
    assert overview["message_stats"]["publish"] == 21
    assert overview["message_stats"]["confirm"] == 21
    assert overview["message_stats"]["deliver_get"] == 6
    assert overview["message_stats"]["publish_details"].keys() == DETAILS
    assert overview["queue_totals"]["messages"] == 21
    assert overview["object_totals"] == {
        "channels": 2, "connections": 1, "consumers": 1, "exchanges": 15, "queues": 3,
    }  # fmt: skip
    assert {listener["protocol"] for listener in overview["listeners"]} >= {"amqp", "http"}
    assert overview["rabbitmq_version"] == "4.1.4"


def test_node(api: Management, activity: Activity) -> None:
    (node,) = api.get("/nodes")
    has(node, NODE)
    assert node["running"] is True
    assert isinstance(node["os_pid"], str)
    assert node["uptime"] > 0
    one = api.get("/nodes/%?memory=true", node["name"])
    has(one["memory"], MEMORY)
    has(one["memory"]["total"], {"rss", "allocated", "erlang"})
    assert api.get("/nodes/%/memory/relative", node["name"])["memory"]["total"] == 100
    assert api.request("GET", "/nodes/other").status == 404


def test_queue(api: Management, activity: Activity) -> None:
    queue = api.get("/queues/%/q1", "/")
    has(queue, QUEUE | {"consumer_details", "incoming", "deliveries", "message_stats"})
    assert (queue["messages"], queue["messages_ready"], queue["messages_unacknowledged"]) == (20, 15, 5)
    assert queue["message_stats"]["publish"] == 20
    assert queue["message_stats"]["deliver"] == queue["message_stats"]["deliver_get"] == 5
    assert queue["message_stats"].keys() == {
        key for name in {"publish", *DELIVERY} for key in (name, f"{name}_details")
    }
    assert queue["single_active_consumer_tag"] == "tag1"
    assert queue["arguments"] == {"x-single-active-consumer": True, "x-queue-type": "classic"}
    assert queue["messages_persistent"] == 20
    assert queue["message_bytes_ready"] == 25
    assert queue["head_message_timestamp"] == 7
    has(queue["consumer_details"][0], CONSUMER)
    assert queue["idle_since"].endswith("+00:00")


def test_a_queue_where_nothing_happened_has_no_message_stats(api: Management, activity: Activity) -> None:
    queue = api.get("/queues/%/idle", "/")
    assert "message_stats" not in queue
    assert queue["messages"] == 0
    assert queue["messages_details"] == {"rate": 0.0}


def test_queues_are_a_bare_array(api: Management, activity: Activity) -> None:
    queues = api.get("/queues")
    assert [queue["name"] for queue in queues] == ["idle", "mine", "q1"]
    for queue in queues:
        has(queue, QUEUE)
    mine = queues[1]
    assert mine["exclusive"] is True
    assert mine["owner_pid_details"]["name"] == activity.name
    assert api.get("/queues/%", "/") == queues
    assert api.get("/queues/%", VHOST) == []
    terse = api.get("/queues?disable_stats=true&enable_queue_totals=true")
    assert terse[2] == {
        "name": "q1", "vhost": "/", "type": "classic", "durable": True, "auto_delete": False, "exclusive": False,
        "arguments": {"x-single-active-consumer": True, "x-queue-type": "classic"}, "node": queues[2]["node"], "state": "running",
        "messages_ready": 15, "messages_unacknowledged": 5, "messages": 20,
    }  # fmt: skip


def test_exchange(api: Management, activity: Activity) -> None:
    exchange = api.get("/exchanges/%/x1", "/")
    has(exchange, EXCHANGE | {"incoming", "outgoing", "message_stats"})
    assert exchange["message_stats"]["publish_in"] == exchange["message_stats"]["publish_out"] == 20
    assert exchange["arguments"] == {"alternate-exchange": "amq.fanout"}
    assert [one["name"] for one in api.get("/exchanges/%", "/")] == [
        "", "amq.direct", "amq.fanout", "amq.headers", "amq.match", "amq.rabbitmq.trace", "amq.topic", "x1",
    ]  # fmt: skip
    default = api.get("/exchanges/%/amq.default", "/")
    assert (default["name"], default["type"]) == ("", "direct")


def test_bindings(api: Management, activity: Activity) -> None:
    every = api.get("/bindings/%", "/")
    for binding in every:
        has(binding, BINDING)
        assert binding.keys() == BINDING
    # The default exchange's bindings are listed (features 12.22).
    assert ("", "q1", "q1", "q1") in [
        (one["source"], one["destination"], one["routing_key"], one["properties_key"]) for one in every
    ]
    of_queue = api.get("/queues/%/q1/bindings", "/")
    keys = {(one["source"], one["routing_key"]): one["properties_key"] for one in of_queue}
    assert keys[("x1", "a.#")] == "a.%23"
    assert keys[("amq.fanout", "")] == "~"
    assert keys[("x1", "b~/ %c")].startswith("b%7E%2F+%25c~")
    for one in api.get("/bindings/%/e/x1/q/q1", "/"):
        assert api.get("/bindings/%/e/x1/q/q1/%", "/", one["properties_key"]) == one
    # RabbitMQ finds it by the key itself, too.
    assert api.get("/bindings/%/e/x1/q/q1/%", "/", "a.#")["routing_key"] == "a.#"
    (between,) = api.get("/bindings/%/e/x1/e/amq.fanout", "/")
    assert (between["destination_type"], between["properties_key"]) == ("exchange", "z")
    assert api.get("/exchanges/%/amq.fanout/bindings/destination", "/") == [between]
    assert {one["routing_key"] for one in api.get("/exchanges/%/x1/bindings/source", "/")} == {
        "a.#", "b~/ %c", "z",
    }  # fmt: skip
    assert api.request("GET", "/bindings/%2F/e/x1/q/nope").status == 404
    assert api.request("GET", "/bindings/%2F/e/x1/q/q1/nope").status == 404


def test_connection_channel_and_consumer(api: Management, activity: Activity) -> None:
    (connection,) = api.get("/connections")
    has(connection, CONNECTION)
    assert connection["name"] == activity.name
    assert connection["user_provided_name"] == "tester"
    assert connection["protocol"] == "AMQP 0-9-1"
    assert connection["recv_oct"] > 0
    assert api.get("/connections/%", activity.name)["name"] == activity.name
    assert api.get("/vhosts/%/connections", "/")[0]["name"] == activity.name
    assert api.get("/vhosts/%/connections", VHOST) == []
    assert api.get("/connections/username/guest") == [
        {"name": activity.name, "vhost": "/", "user": "guest", "node": connection["node"]}
    ]
    channels = api.get("/connections/%/channels", activity.name)
    assert channels == api.get("/channels") == api.get("/vhosts/%/channels", "/")
    for channel in channels:
        has(channel, CHANNEL)
    publishing, consuming = channels
    assert publishing["name"] == f"{activity.name} (1)"
    assert publishing["message_stats"]["publish"] == publishing["message_stats"]["confirm"] == 21
    assert publishing["message_stats"]["get"] == publishing["message_stats"]["get_empty"] == 1
    assert consuming["message_stats"]["deliver"] == 5
    one = api.get("/channels/%", consuming["name"])
    assert one["consumer_details"] == api.get("/consumers") == api.get("/consumers/%", "/")
    (consumer,) = one["consumer_details"]
    assert consumer.keys() == CONSUMER
    assert consumer["channel_details"].keys() == CHANNEL_DETAILS
    assert consumer["arguments"] == {"k": "v"}
    assert consumer["activity_status"] == "single_active"
    assert api.request("GET", "/connections/nope").status == 404
    assert api.request("GET", "/channels/nope").status == 404


def test_vhosts(api: Management, activity: Activity) -> None:
    first, second = api.get("/vhosts")
    has(first, VHOST_KEYS | {"message_stats", "recv_oct", "send_oct"})
    has(second, VHOST_KEYS)
    assert "message_stats" not in second
    assert first["messages"] == 21
    assert second["description"] == "second"
    assert api.get("/vhosts/%", VHOST)["name"] == VHOST
    # Pitfall 86: either case of hexadecimal digits.
    assert api.request("GET", "/vhosts/%2f").json["name"] == "/"


def test_users_and_permissions(api: Management) -> None:
    users = api.get("/users")
    assert [user["name"] for user in users] == sorted(["guest", *USERS])
    assert users[0].keys() == {"name", "password_hash", "hashing_algorithm", "tags", "limits"}
    assert api.get("/users/manager")["tags"] == ["management"]
    assert [user["name"] for user in api.get("/users/without-permissions")] == [
        "admin", "maker", "monitor", "nobody",
    ]  # fmt: skip
    expected = {"user": "manager", "vhost": VHOST, "configure": ".*", "write": ".*", "read": ".*"}
    assert api.get("/permissions/%/manager", VHOST) == expected
    assert api.get("/users/manager/permissions") == [expected]
    assert expected in api.get("/permissions")
    assert expected in api.get("/vhosts/%/permissions", VHOST)
    for path in (
        "/users/nope",
        "/users/nope/permissions",
        "/permissions/%2F/nope",
        "/permissions/nope/guest",
    ):
        answer = api.request("GET", path)
        assert answer.status == 404, path


def test_topic_permissions(api: Management, broker: LeveretServer) -> None:
    row = {"user": "guest", "vhost": "/", "exchange": "amq.topic", "write": "w", "read": "r"}
    control(broker, ("set_topic_permissions", row))
    try:
        assert api.get("/topic-permissions") == [row]
        assert api.get("/topic-permissions/%/guest", "/") == [row]
        assert api.get("/topic-permissions/%/guest/amq.topic", "/") == [row]
        assert api.get("/users/guest/topic-permissions") == [row]
        assert api.get("/vhosts/%/topic-permissions", "/") == [row]
    finally:
        control(broker, ("clear_topic_permissions", {"user": "guest", "vhost": "/"}))
    assert api.get("/topic-permissions") == []


def test_policies_limits_and_parameters(api: Management, broker: LeveretServer) -> None:
    definition = '{"max-length": 10}'
    policy = {"vhost": VHOST, "pattern": "^x", "definition": definition, "priority": 2, "apply_to": "queues"}
    control(
        broker,
        ("set_policy", {**policy, "name": "p"}),
        ("set_operator_policy", {**policy, "name": "o"}),
        ("set_vhost_limits", {"vhost": VHOST, "definition": '{"max-queues": 5}'}),
        ("set_user_limits", {"user": "nobody", "definition": '{"max-channels": 6}'}),
    )
    value = {"pattern": "^x", "apply-to": "queues", "definition": {"max-length": 10}, "priority": 2}
    expected = {"vhost": VHOST, "name": "p", **value}
    try:
        assert api.get("/policies") == api.get("/policies/%", VHOST) == [expected]
        assert api.get("/policies/%/p", VHOST) == expected
        assert api.get("/operator-policies/%/o", VHOST) == {**expected, "name": "o"}
        assert api.get("/policies/%", "/") == []
        assert api.get("/vhost-limits") == [{"vhost": VHOST, "value": {"max-queues": 5}}]
        assert api.get("/vhost-limits/%", "/") == []
        assert api.get("/user-limits/nobody") == [{"user": "nobody", "value": {"max-channels": 6}}]
        operators = {"value": value, "vhost": VHOST, "component": "operator_policy", "name": "o"}
        limits = {"value": {"max-queues": 5}, "vhost": VHOST, "component": "vhost-limits", "name": "limits"}
        assert api.get("/parameters") == [operators, limits]
        assert api.get("/parameters/vhost-limits") == [limits]
        assert api.get("/parameters/operator_policy/%/o", VHOST) == operators
        assert api.get("/parameters/nope") == []
        assert api.request("GET", "/parameters/nope/%2F/nope").status == 404
    finally:
        control(
            broker,
            ("clear_policy", {"vhost": VHOST, "name": "p"}),
            ("clear_operator_policy", {"vhost": VHOST, "name": "o"}),
            ("clear_vhost_limits", {"vhost": VHOST}),
            ("clear_user_limits", {"user": "nobody", "limit": "all"}),
        )


def test_the_small_ones(api: Management) -> None:
    node = api.get("/overview")["node"]
    assert api.get("/whoami") == {"name": "guest", "tags": ["administrator"], "is_internal_user": True}
    assert api.get("/cluster-name") == {"name": node}
    assert api.get("/extensions") == [{"javascript": "dispatcher.js"}]
    assert api.get("/global-parameters") == []
    assert {"name", "desc", "state", "stability", "provided_by", "doc_url"} <= api.get("/feature-flags")[
        0
    ].keys()
    assert api.get("/deprecated-features/used") == []
    (http,) = [one for one in api.get("/auth/attempts/%", node) if one["protocol"] == "http"]
    assert http["auth_attempts"] == http["auth_attempts_failed"] + http["auth_attempts_succeeded"] > 0
    assert api.get("/auth/attempts/%/source", node) == []


# -- rates


def test_rates_and_samples(api: Management, activity: Activity) -> None:
    path = "/queues/%2F/q1?msg_rates_age=5&msg_rates_incr=1&lengths_age=5&lengths_incr=1"
    queue = api.request("GET", path).json
    details = queue["message_stats"]["publish_details"]
    assert details.keys() == SAMPLED
    samples = poll(
        lambda: api.request("GET", path).json["message_stats"]["publish_details"]["samples"],
        "a whole second since the first look",
    )
    times = [sample["timestamp"] for sample in samples]
    assert all(at % 1000 == 0 for at in times)
    assert times == sorted(times, reverse=True)
    assert samples[0]["sample"] == 20

    def rate() -> float:
        activity.publishing.basic_publish("x1", "a.b", b"more")
        found: float = api.get("/queues/%/q1", "/")["message_stats"]["publish_details"]["rate"]
        return found

    assert poll(rate, "a rate above 0") > 0
    connection = api.request(
        "GET", f"/connections/{quote(activity.name, safe='')}?data_rates_age=5&data_rates_incr=1"
    )
    assert connection.json["recv_oct_details"].keys() == SAMPLED
    activity.publishing.queue_purge("q1")


def test_totals_keep_what_is_gone(api: Management, broker: LeveretServer, activity: Activity) -> None:
    before = api.get("/overview")["message_stats"]["publish"]
    channel = activity.connection.channel()
    channel.queue_declare("passing", auto_delete=True)
    channel.exchange_declare("passing", "fanout")
    channel.basic_publish("passing", "", b"1")
    channel.basic_publish("", "passing", b"2")
    poll(lambda: api.get("/overview")["message_stats"]["publish"] == before + 2, "two more")
    time.sleep(0.25)  # the sampler has seen them
    channel.exchange_delete("passing")
    channel.queue_delete("passing")
    channel.close()
    time.sleep(0.25)  # and that they are gone
    assert api.get("/overview")["message_stats"]["publish"] == before + 2


# -- lists


def test_pages(api: Management, activity: Activity) -> None:
    page = api.get("/exchanges?page=2&page_size=6&columns=name,vhost")
    items = page.pop("items")
    assert page == {
        "total_count": 15, "item_count": 6, "filtered_count": 15, "page": 2, "page_size": 6, "page_count": 3,
    }  # fmt: skip
    assert items[0] == {"name": "amq.topic", "vhost": "/"}
    assert api.get("/queues?page=1&name=Q1")["filtered_count"] == 1
    assert api.get("/queues?page=1&name=.*1")["items"] == []
    found = api.request("GET", "/queues?page=1&name=%5EQ.$&use_regex=true&columns=name").json
    assert found["items"] == [{"name": "q1"}]


@pytest.mark.parametrize(
    ("query", "error", "reason"),
    [
        ("page=9", "page_out_of_range", "Page out of range, page: 9 page size: 100, len: 3"),
        (
            "page=0",
            "invalid_pagination_parameters",
            "Invalid pagination parameters: page number 0, page size undefined",
        ),
        (
            "page=1&page_size=501",
            "invalid_pagination_parameters",
            "Invalid pagination parameters: page number 1, page size 501",
        ),
        ("page=x", "bad_request", "Pagination parameters are invalid"),
        ("page=1&use_regex=true&name=%5B", "bad_request", "Pagination parameters are invalid"),
    ],
)
def test_pages_that_are_none(
    api: Management, activity: Activity, query: str, error: str, reason: str
) -> None:
    answer = api.request("GET", f"/queues?{query}")
    assert (answer.status, answer.json) == (400, {"error": error, "reason": reason})


def test_order_and_columns(api: Management, activity: Activity) -> None:
    names = [one["name"] for one in api.get("/queues?sort=messages&sort_reverse=true&columns=name")]
    assert names[0] == "q1" or api.get("/queues/%/q1", "/")["messages"] < 1
    assert [one["name"] for one in api.get("/queues?sort=name&sort_reverse=true&columns=name")] == [
        "q1", "mine", "idle",
    ]  # fmt: skip
    assert [one["name"] for one in api.get("/queues?sort=name&sort_reverse=1&columns=name")] == [
        "idle", "mine", "q1",
    ]  # fmt: skip
    rows = api.get("/queues?columns=name,message_stats.publish_details.rate&sort=message_stats.publish")
    assert rows[0] == {"name": "idle"}
    assert rows[2].keys() == {"name", "message_stats"}
    assert rows[2]["message_stats"]["publish_details"].keys() == {"rate"}
    assert api.get("/queues/%/q1?columns=name,consumer_details.consumer_tag", "/") == {
        "name": "q1",
        "consumer_details": [{"consumer_tag": "tag1"}],
    }
    assert api.get("/overview?columns=object_totals.queues") == {"object_totals": {"queues": 3}}


# -- who may see what


def test_logins(broker: LeveretServer) -> None:
    port = broker.ports["http"]
    failed = {"error": "not_authorized", "reason": "Login failed"}
    for user, password in [(None, ""), ("guest", "wrong"), ("stranger", "p"), ("", "")]:
        with Management(port, user, password) as client:
            answer = client.request("GET", "/whoami")
            assert (answer.status, answer.json) == (401, failed)
            assert answer.headers["www-authenticate"].startswith("Basic ")
    with Management(port, None) as client:
        for header in ("Basic !!!", "Basic bm9jb2xvbg==", "Bearer no.jwt", "Digest x", "Bearer"):
            answer = client.request("GET", "/whoami", headers={"Authorization": header})
            assert (answer.status, answer.json) == (401, failed)


def test_a_changed_password_counts_at_once(broker: LeveretServer) -> None:
    control(broker, ("add_user", {"username": "temp", "password": "one"}))
    control(broker, ("set_user_tags", {"username": "temp", "tags": ["management"]}))
    try:
        with Management(broker.ports["http"], "temp", "one") as client:
            assert client.get("/whoami")["name"] == "temp"
            control(broker, ("change_password", {"username": "temp", "password": "two"}))
            assert client.request("GET", "/whoami").status == 401
        with Management(broker.ports["http"], "temp", "two") as client:
            assert client.get("/whoami")["tags"] == ["management"]
            control(broker, ("set_user_tags", {"username": "temp", "tags": []}))
            assert client.request("GET", "/whoami").status == 401
    finally:
        control(broker, ("delete_user", {"username": "temp"}))


# As RabbitMQ 3.10.8 answers: who gets 200; the others 401 with this reason.
ANY = {"admin", "monitor", "maker", "manager"}
SEEN = [
    ("/overview", ANY, ""),
    ("/whoami", ANY, ""),
    ("/nodes", {"admin", "monitor"}, "Not monitor user"),
    ("/users", {"admin"}, "Not administrator user"),
    ("/vhosts", ANY, ""),
    ("/vhosts/%2F", {"admin"}, "Not administrator user"),
    ("/queues", ANY, ""),
    ("/queues/%2F", set[str](), "User not authorised to access virtual host"),
    ("/connections", ANY, ""),
    ("/channels", ANY, ""),
    ("/consumers", ANY, ""),
    ("/permissions", {"admin"}, "Not administrator user"),
    ("/topic-permissions", {"admin"}, "Not administrator user"),
    ("/policies", ANY, ""),
    ("/parameters", {"admin", "maker"}, "User not authorised to access object"),
    ("/global-parameters", {"admin", "maker"}, "User not authorised to access object"),
    ("/feature-flags", {"admin"}, "Not administrator user"),
    ("/cluster-name", ANY, ""),
    ("/health/checks/alarms", ANY, ""),
    ("/aliveness-test/%2F", set[str](), "User not authorised to access virtual host"),
]


@pytest.mark.parametrize("user", USERS)
def test_what_each_tag_may_see(broker: LeveretServer, user: str) -> None:
    with Management(broker.ports["http"], user, "p") as client:
        for path, allowed, reason in SEEN:
            answer = client.request("GET", path)
            if user in allowed:
                assert answer.status == 200, (path, answer)
                continue
            if user == "nobody":
                reason = "Not management user"
            assert (answer.status, answer.json) == (401, {"error": "not_authorised", "reason": reason}), path


def test_others_connections_are_seen_by_those_who_monitor(broker: LeveretServer, activity: Activity) -> None:
    port = broker.ports["http"]
    name = quote(activity.name, safe="")
    with Management(port, "manager", "p") as client:
        assert client.get("/connections") == client.get("/channels") == client.get("/consumers") == []
        assert client.request("GET", f"/connections/{name}").status == 401
        assert client.get("/overview")["object_totals"]["connections"] == 0
        assert [vhost["name"] for vhost in client.get("/vhosts")] == [VHOST]
        assert {one["vhost"] for one in client.get("/exchanges")} == {VHOST}
        assert "listeners" not in client.get("/overview")
    with Management(port, "monitor", "p") as client:
        assert len(client.get("/connections")) == 1
        assert len(client.get("/channels")) == 2
        assert len(client.get("/vhosts")) == 2
        assert client.get("/queues") == []


# -- health


def test_health_checks(api: Management, broker: LeveretServer) -> None:
    ok = {"status": "ok"}
    for check in (
        "alarms", "local-alarms", "virtual-hosts", "certificate-expiration/1/days", "metadata-store/initialized",
        "quorum-queues-without-elected-leaders/all-vhosts/",
    ):  # fmt: skip
        assert api.get(f"/health/checks/{check}") == ok
    for check in ("node-is-quorum-critical", "node-is-mirror-sync-critical"):
        assert api.get(f"/health/checks/{check}") == {"status": "ok", "reason": "single node cluster"}
    assert api.get(f"/health/checks/port-listener/{broker.port}") == {"status": "ok", "port": broker.port}
    missing = api.request("GET", "/health/checks/port-listener/1")
    assert missing.status == 503
    assert missing.json.items() >= {"status": "failed", "reason": "No active listener", "missing": 1}.items()
    assert broker.port in missing.json["ports"]
    assert api.request("GET", "/health/checks/port-listener/x").json == {
        "error": "bad_request",
        "reason": "Invalid port",
    }
    assert api.get("/health/checks/protocol-listener/amqp091,http")["status"] == "ok"
    missing = api.request("GET", "/health/checks/protocol-listener/amqp10")
    assert (missing.status, missing.json["missing"]) == (503, "amqp10")
    assert "amqp" in missing.json["protocols"]
    bad = api.request("GET", "/health/checks/certificate-expiration/1/foo")
    assert bad.status == 400
    assert bad.json["reason"] == "Time unit not recognised. Supported units: days, weeks, months, years."
    assert api.get("/aliveness-test/%", "/") == api.get("/healthchecks/node") == ok
    assert api.request("GET", "/healthchecks/node/other").status == 404
    with Management(broker.ports["http"], None) as stranger:  # load balancers have no password
        assert stranger.get("/health/checks/is-in-service") == ok
        assert stranger.get("/health/checks/ready-to-serve-clients")["status"] == "ok"
        assert stranger.get("/health/checks/below-node-connection-limit")["status"] == "ok"
        assert stranger.request("GET", "/health/checks/alarms").status == 401


def test_alarms_fail_the_checks(api: Management, broker: LeveretServer) -> None:
    node = api.get("/overview")["node"]
    control(broker, ("set_vm_memory_high_watermark", {"fraction": "0"}))
    try:
        answer = api.request("GET", "/health/checks/alarms")
        assert (answer.status, answer.json) == (
            503,
            {
                "status": "failed",
                "reason": "There are alarms in effect in the cluster",
                "alarms": [{"node": node, "resource": "memory"}],
            },
        )
        local = api.request("GET", "/health/checks/local-alarms")
        assert local.json["reason"] == "There are alarms in effect on the node"
        assert api.get("/nodes")[0]["mem_alarm"] is True
    finally:
        control(broker, ("set_vm_memory_high_watermark", {"fraction": "0.6"}))


# -- protocol


def test_methods_and_paths(api: Management) -> None:
    answer = api.request("OPTIONS", "/whoami")
    assert (answer.status, answer.headers["allow"], answer.body) == (200, "GET, HEAD, OPTIONS", b"")
    answer = api.request("POST", "/whoami")
    assert answer.status == 405
    assert set(answer.headers["allow"].split(",")) == {"GET", "HEAD"}
    assert api.request("HEAD", "/overview").status == 200
    for path in ("/nowhere", "/queues/nope", "/queues/%2F/nope", "/exchanges/%2F/nope", "/vhosts/nope"):
        answer = api.request("GET", path)
        assert (answer.status, answer.json) == (404, {"error": "Object Not Found", "reason": "Not Found"})
    assert api.request("GET", "/overview/").status == 200

"""What the management API says of each thing, compared with what RabbitMQ 3.10.8 answered."""

from __future__ import annotations

from support.management import Management, control
from support.management_activity import USERS, VHOST, Activity
from support.management_shapes import (
    BINDING,
    CHANNEL,
    CHANNEL_DETAILS,
    CHURN,
    CONNECTION,
    CONSUMER,
    DELIVERY,
    DETAILS,
    EXCHANGE,
    MEMORY,
    NODE,
    OVERVIEW,
    PUBLISHING,
    QUEUE,
    VHOST_KEYS,
    has,
)
from support.server import LeveretServer, own_server_only

pytestmark = own_server_only("the server needs users and settings of its own")


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
    # The default exchange's bindings are listed.
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
    # Of what is not there, there are no bindings.
    for path in ("bindings/%2F/e/x1/q/nope", "bindings/%2F/e/nope/q/q1", "queues/%2F/nope/bindings"):
        assert api.get(f"/{path}".replace("%2F", "%"), "/") == []
    assert api.get("/exchanges/%/nope/bindings/source", "/") == []
    assert api.request("GET", "/bindings/%2F/e/x1/z/q1").status == 404
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
    # either case of hexadecimal digits.
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

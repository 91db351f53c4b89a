"""Lines 56, 57 and 58 of the semantics that clones get wrong: lists and 404s, definitions, permissions."""

# mypy: disable-error-code="import-untyped,no-untyped-call,attr-defined"
from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pika
import pytest
from support.amqp_peer import Peer
from support.management import Management
from support.server import LeveretServer, own_server_only

pytestmark = own_server_only("the server needs users and settings of its own")

FILE = Path(__file__).parents[2] / "data" / "definitions-3.10.json"
GONE = {"error": "Object Not Found", "reason": "Not Found"}
VHOST = "a/b"
JSON = {"Content-Type": "application/json"}


@pytest.fixture(scope="module")
def started(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LeveretServer]:
    settings = {"LEVERET_HTTP_RATES_INTERVAL_S": "0.1"}
    with LeveretServer(tmp_path_factory.mktemp("lines") / "data", settings) as server:
        yield server
        assert "Traceback" not in server.errors, server.errors
        assert server.stop() == 0


@pytest.fixture
def api(started: LeveretServer) -> Iterator[Management]:
    with Management(started.ports["http"]) as client:
        assert client.request("PUT", "/vhosts/a%2Fb").status in (201, 204)
        yield client
        client.request("DELETE", "/vhosts/a%2Fb")


@pytest.fixture
def connection(api: Management, started: LeveretServer) -> Iterator[pika.BlockingConnection]:
    parameters = pika.ConnectionParameters("127.0.0.1", started.port, VHOST, heartbeat=600)
    connection = pika.BlockingConnection(parameters)
    yield connection
    connection.close()


# -- 56


def test_56_queues_are_a_bare_array_unless_page(api: Management) -> None:
    for name in ("q1", "q2", "q3"):
        assert api.request("PUT", f"/queues/a%2Fb/{name}", {"durable": True}).status == 201
    for path in ("/queues", "/queues/a%2Fb", "/queues?page_size=1", "/queues?name=q1"):
        listed = api.request("GET", path).json
        assert [queue["name"] for queue in listed] == ["q1", "q2", "q3"]
    paged = api.request("GET", "/queues?page=2&page_size=2").json
    assert [queue["name"] for queue in paged.pop("items")] == ["q3"]
    assert paged == {
        "total_count": 3, "item_count": 1, "filtered_count": 3, "page": 2, "page_size": 2, "page_count": 2,
    }  # fmt: skip


def test_56_counters_are_omitted_when_absent(api: Management, connection: pika.BlockingConnection) -> None:
    channel = connection.channel()
    channel.queue_declare("idle", durable=True)
    channel.exchange_declare("quiet", "fanout")
    idle = api.request("GET", "/queues/a%2Fb/idle").json
    assert "message_stats" not in idle
    assert "message_stats" not in api.request("GET", "/exchanges/a%2Fb/quiet").json
    assert all("message_stats" not in one for one in api.request("GET", "/channels").json)
    assert None not in (idle["messages"], idle["consumers"])
    channel.basic_publish("", "idle", b"m")
    channel.queue_declare("idle", passive=True)
    # What happened is there, and what did not is not: nobody has consumed.
    stats = api.request("GET", "/queues/a%2Fb/idle").json["message_stats"]
    assert stats["publish"] == 1
    assert not {"deliver", "deliver_get", "ack"} & stats.keys()


def test_56_messages_are_ready_and_unacknowledged(
    api: Management, connection: pika.BlockingConnection
) -> None:
    channel = connection.channel()
    channel.queue_declare("sum", durable=True)
    for _ in range(5):
        channel.basic_publish("", "sum", b"m")
    channel.basic_get("sum")
    channel.basic_get("sum")
    for path in ("/queues/a%2Fb/sum", "/vhosts/a%2Fb"):
        item = api.request("GET", path).json
        numbers = [item[name] for name in ("messages", "messages_ready", "messages_unacknowledged")]
        assert numbers == [5, 3, 2]
    assert api.get("/overview")["queue_totals"]["messages"] == 5
    (terse,) = api.request("GET", "/queues/a%2Fb?disable_stats=true&enable_queue_totals=true").json
    assert (terse["messages"], terse["messages_ready"], terse["messages_unacknowledged"]) == (5, 3, 2)


def test_56_names_are_percent_encoded(api: Management) -> None:
    assert api.request("PUT", "/queues/%2F/top", {"durable": True}).status == 201
    assert api.request("GET", "/queues/%2f/top").json["vhost"] == "/"
    assert api.request("GET", "/queues///top").status == 404
    assert api.request("DELETE", "/queues/%2F/top").status == 204
    assert api.request("PUT", "/queues/a%2Fb/x%2Fy%20%25%C3%BC", {}).status == 201
    assert api.request("GET", "/queues/a%2Fb/x%2Fy%20%25%C3%BC").json["name"] == "x/y %ü"
    assert api.request("GET", "/queues/a/b/x").json == GONE


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("GET", "/queues/%2F/nope"),
        ("GET", "/queues/nope"),
        ("GET", "/exchanges/%2F/nope"),
        ("GET", "/vhosts/nope"),
        ("GET", "/users/nope"),
        ("GET", "/connections/nope"),
        ("GET", "/channels/nope"),
        ("GET", "/policies/%2F/nope"),
        ("GET", "/permissions/%2F/nope"),
        ("GET", "/nodes/nope"),
        ("GET", "/global-parameters/nope"),
        ("GET", "/bindings/%2F/e/amq.direct/q/nope/key"),
        ("GET", "/no/such/path"),
        ("DELETE", "/queues/%2F/nope"),
        ("DELETE", "/exchanges/%2F/nope"),
        ("DELETE", "/users/nope"),
        ("DELETE", "/vhosts/nope"),
        ("DELETE", "/connections/nope"),
    ],
)
def test_56_what_is_not_there_is_404(api: Management, method: str, path: str) -> None:
    answer = api.request(method, path)
    assert (answer.status, answer.json) == (404, GONE)


def test_56_bindings_of_the_default_exchange_are_listed(api: Management) -> None:
    assert api.request("PUT", "/queues/a%2Fb/q1", {"durable": True}).status == 201
    implicit = {
        "source": "", "vhost": VHOST, "destination": "q1", "destination_type": "queue", "routing_key": "q1",
        "arguments": {}, "properties_key": "q1",
    }  # fmt: skip
    for path in (
        "/bindings/a%2Fb", "/queues/a%2Fb/q1/bindings", "/exchanges/a%2Fb/amq.default/bindings/source",
        "/bindings/a%2Fb/e/amq.default/q/q1",
    ):  # fmt: skip
        assert api.request("GET", path).json == [implicit], path
    assert implicit in api.get("/bindings")
    assert api.request("GET", "/bindings/a%2Fb/e/amq.default/q/q1/q1").json == implicit


# -- 57


def test_57_arguments_keep_their_types(api: Management) -> None:
    arguments = {
        "x-message-ttl": 60000, "x-max-priority": 5, "x-single-active-consumer": True, "s": "60000", "f": 1.5,
        "l": [1, "1", True], "t": {"n": 1, "s": "1"},
    }  # fmt: skip
    assert api.request("PUT", "/queues/a%2Fb/typed", {"durable": True, "arguments": arguments}).status == 201
    exported = api.request("GET", "/definitions/a%2Fb").json
    (queue,) = exported["queues"]
    shown = {name: value for name, value in queue["arguments"].items() if name != "x-queue-type"}
    assert shown == arguments
    assert {name: type(value) for name, value in shown.items()} == {
        name: type(value) for name, value in arguments.items()
    }
    # In again, and the queue is the same: no argument has become a string.
    assert api.request("DELETE", "/queues/a%2Fb/typed").status == 204
    assert api.request("POST", "/definitions/a%2Fb", exported, JSON).status == 204
    assert api.request("PUT", "/queues/a%2Fb/typed", {"durable": True, "arguments": arguments}).status == 204
    changed = arguments | {"x-message-ttl": 60001}
    assert api.request("PUT", "/queues/a%2Fb/typed", {"durable": True, "arguments": changed}).status == 400


def test_57_password_hashes_round_trip(api: Management, started: LeveretServer) -> None:
    users = {user["name"]: user for user in json.loads(FILE.read_text())["users"] if user["name"] != "guest"}
    document = {"users": list(users.values())}
    assert api.request("POST", "/definitions", document, JSON).status == 204
    exported = api.get("/definitions")
    for user in exported["users"]:
        if user["name"] in users:
            wanted = users[user["name"]]
            assert {key: user[key] for key in wanted} == wanted
    for name in ("hash-256", "hash-512"):  # salted SHA-256 and SHA-512 of the same password
        with Management(started.ports["http"], name, "test12") as own:
            assert own.get("/whoami")["name"] == name
    # Out and in again: still the same.
    assert api.request("POST", "/definitions", exported, JSON).status == 204
    assert api.get("/definitions")["users"] == exported["users"]
    for name in users:
        assert api.request("DELETE", f"/users/{quote(name, safe='')}").status == 204


@pytest.mark.parametrize("tags", [["management", "custom"], "management,custom", " management , custom "])
def test_57_tags_are_a_list(api: Management, tags: Any) -> None:
    user = {"name": "tagged", "password": "x", "tags": tags}
    assert api.request("POST", "/definitions", {"users": [user]}, JSON).status == 204
    (exported,) = [one for one in api.get("/definitions")["users"] if one["name"] == "tagged"]
    assert exported["tags"] == ["management", "custom"]
    assert api.request("DELETE", "/users/tagged").status == 204


def test_57_unknown_keys_are_ignored(api: Management) -> None:
    document = {
        "from_the_future": [{"a": 1}], "rabbit_version": "9.0", "topology": {},
        "queues": [{"name": "kept", "vhost": VHOST, "durable": True, "auto_delete": False, "arguments": {}, "new": 1}],
        "users": [{"name": "fresh", "password_hash": "", "tags": [], "limits": {"max-new": 1}, "new": [1]}],
    }  # fmt: skip
    assert api.request("POST", "/definitions", document, JSON).status == 204
    assert api.request("GET", "/queues/a%2Fb/kept").json["durable"] is True
    assert api.request("DELETE", "/users/fresh").status == 204


def test_57_mirroring_policies_warn(api: Management, started: LeveretServer) -> None:
    definition = {"ha-mode": "exactly", "ha-params": 2, "ha-sync-mode": "automatic", "max-length": 3}
    policy = {"vhost": VHOST, "name": "ha", "pattern": "^m", "apply-to": "queues", "priority": 0}
    answer = api.request("POST", "/definitions", {"policies": [policy | {"definition": definition}]}, JSON)
    assert (answer.status, answer.body) == (204, b"")
    assert api.request("GET", "/policies/a%2Fb/ha").json["definition"] == definition
    (warning,) = [line for line in started.errors.splitlines() if "policy 'ha'" in line]
    assert " warning " in warning
    assert "ha-mode" in warning
    assert "no effect" in warning
    # What it says beside has its effect.
    assert api.request("PUT", "/queues/a%2Fb/m1", {"durable": True}).status == 201
    assert api.request("GET", "/queues/a%2Fb/m1").json["policy"] == "ha"


# -- 58


@pytest.fixture
def user(api: Management) -> Iterator[str]:
    assert api.request("PUT", "/users/eve", {"password": "pw", "tags": "management"}).status == 201
    yield "eve"
    assert api.request("DELETE", "/users/eve").status == 204


def allow(api: Management, configure: str, write: str, read: str) -> None:
    row = {"configure": configure, "write": write, "read": read}
    assert api.request("PUT", "/permissions/a%2Fb/eve", row).status in (201, 204)
    assert api.request("GET", "/permissions/a%2Fb/eve").json == {"user": "eve", "vhost": VHOST, **row}


def refusal(permission: str, thing: str) -> str:
    """4.x's words, which name the permission."""
    return f"ACCESS_REFUSED - {permission} access to {thing} in vhost '{VHOST}' refused for user 'eve'"


def log_in(started: LeveretServer) -> Peer:
    return Peer.open(started.port, vhost=VHOST, user="eve", password="pw")


def test_58_a_pattern_is_searched_for(api: Management, started: LeveretServer, user: str) -> None:
    allow(api, "mid", "^x", "y$")
    with log_in(started) as peer, Management(started.ports["http"], user, "pw") as own:
        peer.declare(1, "a-mid-z")
        assert own.request("PUT", "/queues/a%2Fb/b-mid-z", {}).status == 201
        refused = own.request("PUT", "/queues/a%2Fb/other", {})
        assert (refused.status, refused.json["reason"]) == (401, "Access refused.")
        peer.send(1, "queue.declare", queue="other")
        peer.expect_channel_close(1, 403, "queue.declare", refusal("configure", "queue 'other'"))


def test_58_the_empty_pattern_denies_all(api: Management, started: LeveretServer, user: str) -> None:
    assert api.request("PUT", "/queues/a%2Fb/q", {"durable": True}).status == 201
    allow(api, "", "", "")
    for method, arguments, permission in (
        ("queue.declare", {"queue": "new"}, "configure"),
        ("basic.get", {"queue": "q"}, "read"),
        ("basic.consume", {"queue": "q"}, "read"),
    ):
        with log_in(started) as peer:
            peer.send(1, method, **arguments)
            peer.expect_channel_close(1, 403, method, refusal(permission, f"queue '{arguments['queue']}'"))
    with log_in(started) as peer:
        peer.publish(1, "amq.direct", "k", b"m")
        peer.expect_channel_close(1, 403, "basic.publish", refusal("write", "exchange 'amq.direct'"))
    with Management(started.ports["http"], user, "pw") as own:
        body = {"count": 1, "ackmode": "ack_requeue_true", "encoding": "auto"}
        answer = own.request("POST", "/queues/a%2Fb/q/get", body)
        assert (answer.status, answer.json["reason"]) == (401, refusal("read", "queue 'q'"))
        answer = own.request(
            "POST", "/exchanges/a%2Fb/amq.direct/publish",
            {"routing_key": "k", "payload": "", "payload_encoding": "string", "properties": {}},
        )  # fmt: skip
        reason = f"403 {refusal('write', 'exchange ' + repr('amq.direct'))}"
        assert (answer.status, answer.json["reason"]) == (400, reason)


def test_58_without_a_row_there_is_no_way_in(api: Management, started: LeveretServer, user: str) -> None:
    with Peer(started.port) as peer:
        peer.say_hello()
        peer.authenticate("eve", "pw")
        tune = peer.expect(0, "connection.tune")
        peer.send(
            0, "connection.tune-ok", channel_max=tune.channel_max, frame_max=tune.frame_max, heartbeat=0
        )
        peer.send(0, "connection.open", virtual_host=VHOST)
        peer.expect_connection_close(
            530, "connection.open", "NOT_ALLOWED - access to vhost 'a/b' refused for user 'eve'"
        )
    with Management(started.ports["http"], user, "pw") as own:
        answer = own.request("GET", "/queues/a%2Fb")
        assert (answer.status, answer.json["reason"]) == (401, "User not authorised to access virtual host")
        assert own.get("/vhosts") == []
        allow(api, "", "", "")  # a row that allows nothing is a way in
        assert [one["name"] for one in own.get("/vhosts")] == [VHOST]
    with log_in(started):
        pass

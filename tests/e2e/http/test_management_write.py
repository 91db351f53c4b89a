"""Users, virtual hosts, permissions, policies, parameters and limits changed: as RabbitMQ 3.10.8 answered, or a comment says so."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Iterator
from urllib.parse import quote

import pika
import pytest
from support.management import Management
from support.management_writes import ALL, DOUBLY, NO_VHOST, NOT_FOUND, check
from support.server import LeveretServer, own_server_only, poll

pytestmark = own_server_only("the server needs users and settings of its own")

HASH = "kI3GCqW5JLMJa4iX1lo7X4D6XbYqlLgxIs30+P6tENUV2POR"
SHA512 = base64.b64encode(b"salt" + hashlib.sha512(b"saltword").digest()).decode()


@pytest.fixture(scope="module")
def api(started: LeveretServer) -> Iterator[Management]:
    with Management(started.ports["http"]) as api:
        yield api


def test_virtual_hosts(api: Management, name: str) -> None:
    path = f"/vhosts/{name}"
    check(api, "PUT", path, None, 201)
    check(api, "PUT", path, None, 204)
    check(api, "PUT", path, {"description": "d", "tags": "a, b", "default_queue_type": "quorum"}, 204)
    found = api.get(path)
    assert (found["description"], found["tags"], found["default_queue_type"]) == ("d", ["a", "b"], "quorum")
    check(api, "PUT", path, {"tracing": True}, 204)
    found = api.get(path)
    assert found["tracing"] is True
    assert found["description"] == "d"  # 3.10 forgets what is not said again
    check(api, "PUT", path, {"tracing": "false", "tags": ["x"], "default_queue_type": "undefined"}, 204)
    assert (api.get(path)["tracing"], api.get(path)["tags"]) == (False, ["x"])
    check(api, "PUT", path, b"[1]", 400, "not_json")
    check(api, "PUT", path, b"{no", 400, "not_json")
    check(api, "PUT", path, b'"{}"', 400, DOUBLY)
    check(api, "PUT", path, b'{"description": "\\ud800"}', 400, "not_json")
    check(api, "PUT", path, b'{"n": NaN}', 400, "not_json")
    check(api, "PUT", path, {"default_queue_type": "heap"}, 400, "heap is not a valid queue type")
    check(api, "PUT", path, {"description": 5}, 400, ["not_string", "description"])
    check(api, "POST", f"{path}/deletion/protection", None, 204)
    assert api.get(path)["protected_from_deletion"] is True
    check(api, "DELETE", path, None, 412, {
        "error": "precondition_failed",
        "reason": f"Refusing to delete virtual host '{name}' because it is protected from deletion",
    })  # fmt: skip
    check(api, "DELETE", f"{path}/deletion/protection", None, 204)
    check(api, "POST", "/vhosts/nope/deletion/protection", None, 404, NOT_FOUND)
    node = quote(api.get("/overview")["node"])
    check(api, "POST", f"{path}/start/{node}", None, 204)
    check(api, "POST", f"{path}/start/nope", None, 400, "Request to node nope failed with nodedown")
    check(api, "DELETE", path, None, 204)
    check(api, "DELETE", path, None, 404, NOT_FOUND)
    check(api, "PUT", f"/vhosts/{'v' * 256}", None, 400)


def test_users(api: Management, started: LeveretServer, name: str) -> None:
    path = f"/users/{name}"
    check(api, "PUT", path, {"password": "p"}, 400, "tags_not_present")
    check(api, "PUT", path, None, 400, "tags_not_present")
    both = {"password": "p", "password_hash": HASH, "tags": ""}
    check(api, "PUT", path, both, 400, "both_password_and_password_hash_are_provided")
    check(api, "PUT", path, {"password_hash": "!!!", "tags": ""}, 400, ["not_base64", "!!!"])
    check(api, "PUT", path, {"password_hash": HASH, "hashing_algorithm": "rot13", "tags": ""}, 400)
    check(api, "PUT", path, {"password": 5, "tags": ""}, 400)
    check(api, "PUT", path, {"password": "p", "tags": 5}, 400)
    check(api, "GET", path, None, 404)
    check(api, "PUT", path, {"password": "p", "tags": "management, custom"}, 201)
    check(api, "PUT", f"/user-limits/{name}/max-channels", {"value": 7}, 204)
    check(api, "PUT", path, {"password": "q", "tags": ["management"]}, 204)
    with Management(started.ports["http"], name, "q") as own:
        assert own.get("/whoami")["tags"] == ["management"]
    with Management(started.ports["http"], name, "p") as own:
        assert own.request("GET", "/whoami").status == 401
    user = api.get(path)
    assert (user["name"], user["tags"], user["limits"]) == (name, ["management"], {"max-channels": 7})
    for body in (
        {
            "password_hash": SHA512,
            "hashing_algorithm": "rabbit_password_hashing_sha512",
            "tags": "management",
        },
        {"password_hash": SHA512, "tags": "management"},  # told by its length
    ):
        check(api, "PUT", path, body, 204)
        user = api.get(path)
        assert user["password_hash"] == SHA512
        assert user["hashing_algorithm"] == "rabbit_password_hashing_sha512"
        with Management(started.ports["http"], name, "word") as own:
            assert own.get("/whoami")["name"] == name
    for body in ({"tags": "management"}, {"password_hash": "", "tags": ""}, {"password": "", "tags": ""}):
        check(api, "PUT", path, body, 204)
        assert api.get(path)["password_hash"] == ""
    check(api, "PUT", path, {"password": "p", "tags": "protected"}, 204)
    protected = "Protected users cannot be modified via the HTTP API"
    check(api, "DELETE", path, None, 400, protected)
    check(api, "PUT", path, {"password": "p", "tags": ""}, 400, protected)
    check(api, "POST", "/users/bulk-delete", {"users": [name]}, 204)
    assert api.get(path)["tags"] == ["protected"]
    started.ctl("set_user_tags", name)
    check(api, "DELETE", path, None, 204)
    check(api, "DELETE", path, None, 404, NOT_FOUND)
    assert len(api.get("/auth/hash_password/%", "a/b")["ok"]) == 48


def test_bulk_delete_is_all_or_nothing(api: Management, name: str) -> None:
    names = [f"{name}-{number}" for number in range(3)]
    for one in names:
        check(api, "PUT", f"/users/{one}", {"password": "p", "tags": ""}, 201)
    check(api, "POST", "/users/bulk-delete", {}, 400, "[{key_missing,users}]")
    check(api, "POST", "/users/bulk-delete", {"users": names[0]}, 400)
    check(api, "POST", "/users/bulk-delete", {"users": [names[0], "nope"]}, 400, ["no_such_user", "nope"])
    check(api, "POST", "/users/bulk-delete", {"users": [*names, names[0]]}, 204)
    check(api, "POST", "/users/bulk-delete", {"users": []}, 204)
    assert not [user for user in api.get("/users") if user["name"] in names]


def test_permissions(api: Management, vhost: str, name: str) -> None:
    user = f"{name}-user"
    check(api, "PUT", f"/users/{user}", {"password": "p", "tags": ""}, 201)
    path = f"/permissions/{vhost}/{user}"
    check(api, "PUT", path, ALL, 201)
    check(api, "PUT", path, ALL | {"read": "^x"}, 204)
    assert api.get(path) == {"user": user, "vhost": vhost, **ALL, "read": "^x"}
    check(api, "PUT", path, {"configure": "", "write": ""}, 400, "[{key_missing,read}]")
    check(api, "PUT", path, ALL | {"read": "("}, 400)
    check(api, "PUT", path, ALL | {"read": 1}, 400)
    check(api, "PUT", f"/permissions/nope/{user}", ALL, 400, "vhost_or_user_not_found")
    check(api, "PUT", f"/permissions/{vhost}/nope", ALL, 400, "vhost_or_user_not_found")
    check(api, "DELETE", f"/permissions/{vhost}/nope", None, 404, NOT_FOUND)
    check(api, "DELETE", f"/permissions/nope/{user}", None, 404, NOT_FOUND)
    check(api, "DELETE", path, None, 204)
    check(api, "DELETE", path, None, 404, NOT_FOUND)
    topics = f"/topic-permissions/{vhost}/{user}"
    check(api, "PUT", topics, {"exchange": "amq.topic", "write": "a", "read": "b"}, 201)
    check(api, "PUT", topics, {"exchange": "e", "write": "", "read": ""}, 204)
    check(api, "PUT", topics, {"write": "a", "read": "b"}, 400, "[{key_missing,exchange}]")
    assert {row["exchange"] for row in api.get(topics)} == {"amq.topic", "e"}
    check(api, "DELETE", f"{topics}/nope", None, 404, NOT_FOUND)
    check(api, "DELETE", f"{topics}/e", None, 204)
    check(api, "DELETE", topics, None, 204)
    check(api, "DELETE", topics, None, 404, NOT_FOUND)
    check(api, "DELETE", f"/users/{user}", None, 204)


def test_policies(api: Management, vhost: str) -> None:
    path, body = f"/policies/{vhost}/p", {"pattern": "^a", "definition": {"max-length": 5}}
    check(api, "PUT", path, body, 201)
    check(api, "PUT", path, body | {"priority": 3, "apply-to": "queues", "what": 1}, 204)
    assert api.get(path) == {"vhost": vhost, "name": "p", **body, "priority": 3, "apply-to": "queues"}
    check(api, "PUT", path, {"definition": {}}, 400, "[{key_missing,pattern}]")
    check(api, "PUT", path, {"pattern": ""}, 400, "[{key_missing,definition}]")
    for change, reason in (
        ({"definition": {}}, "no policy provided"),
        ({"definition": {"nope": 1}}, '[{<<"nope">>,1}] are not recognised policy settings'),
        ({"definition": {"max-length": "x"}}, '<<"x">> is not a valid maximum length'),
        ({"priority": "7"}, 'priority should be a number, actually was <<"7">>'),
    ):
        check(api, "PUT", path, body | change, 400, f"Validation failed\n\n{reason}\n")
    check(api, "PUT", path, body | {"pattern": "("}, 400)
    check(api, "PUT", path, body | {"priority": 1 << 63}, 400)
    check(api, "PUT", path, body | {"apply-to": "z"}, 400)
    check(api, "PUT", "/policies/nope/p", body, 404, NO_VHOST)
    check(api, "DELETE", path, None, 204)
    check(api, "DELETE", path, None, 404, NOT_FOUND)
    path = f"/operator-policies/{vhost}/o"
    check(api, "PUT", path, body | {"apply-to": "queues"}, 201)
    check(api, "PUT", path, body, 204)
    wrong = body | {"definition": {"dead-letter-exchange": "x"}}
    reason = '[{<<"dead-letter-exchange">>,<<"x">>}] are not recognised policy settings'
    check(api, "PUT", path, wrong, 400, f"Validation failed\n\n{reason}\n")
    check(api, "PUT", f"/queues/{vhost}/abc", {"arguments": {"x-max-length": 9}}, 201)
    assert api.get(f"/queues/{vhost}/abc")["operator_policy"] == "o"
    check(api, "DELETE", path, None, 204)
    check(api, "DELETE", path, None, 404, NOT_FOUND)


def test_parameters(api: Management, vhost: str, name: str) -> None:
    missing = f"/parameters/foo/{vhost}/n"
    check(api, "PUT", missing, {"value": 1}, 400, "Validation failed\n\ncomponent foo not found\n")
    check(api, "PUT", missing, {}, 400, "[{key_missing,value}]")
    check(api, "DELETE", missing, None, 404, NOT_FOUND)
    check(api, "PUT", "/parameters/foo/nope/n", {"value": 1}, 404, NO_VHOST)
    value = {"pattern": "x", "definition": {"max-length": 1}, "priority": 0, "apply-to": "queues"}
    policies = f"/parameters/policy/{vhost}/n"
    check(api, "PUT", policies, {"value": value}, 400, "policies may not be set using this method")
    operator = f"/parameters/operator_policy/{vhost}/n"
    check(api, "PUT", operator, {"value": value}, 201)
    check(api, "PUT", operator, {"value": value}, 204)
    assert api.get(f"/operator-policies/{vhost}/n")["definition"] == {"max-length": 1}
    check(api, "PUT", operator, {"value": 5}, 400)
    check(api, "DELETE", operator, None, 204)
    check(api, "DELETE", operator, None, 404, NOT_FOUND)
    limits = f"/parameters/vhost-limits/{vhost}/limits"
    check(api, "PUT", limits, {"value": {"max-queues": 5}}, 201)
    unknown = 'Unrecognised terms [{<<"max-nope">>,5}] in limits'
    check(api, "PUT", limits, {"value": {"max-nope": 5}}, 400, f"Validation failed\n\n{unknown}\n")
    assert api.get(f"/vhost-limits/{vhost}") == [{"vhost": vhost, "value": {"max-queues": 5}}]
    check(api, "DELETE", limits, None, 204)
    path = f"/global-parameters/{name}"
    check(api, "PUT", path, {"value": {"a": [1, 2.5, None, "x"]}}, 201)
    assert api.get(path) == {"name": name, "value": {"a": [1, 2.5, None, "x"]}}
    check(api, "PUT", path, {"value": None}, 204)
    check(api, "PUT", path, {}, 400, "[{key_missing,value}]")
    check(api, "DELETE", path, None, 204)
    check(api, "DELETE", path, None, 404, NOT_FOUND)


def test_limits(api: Management, vhost: str, name: str) -> None:
    path = f"/vhost-limits/{vhost}"
    check(api, "PUT", f"{path}/max-queues", {"value": 1}, 204)
    check(api, "PUT", f"{path}/max-connections", {"value": -1}, 204)
    for limit, value, reason in (
        ("max-connections", "7", 'max-connections should be a number, actually was <<"7">>'),
        ("nope", 5, 'Unrecognised terms [{<<"nope">>,5}] in limits'),
    ):
        check(api, "PUT", f"{path}/{limit}", {"value": value}, 400, f"Validation failed\n\n{reason}\n")
    check(api, "PUT", f"{path}/max-queues", {}, 400, "[{key_missing,value}]")
    check(api, "PUT", "/vhost-limits/nope/max-queues", {"value": 5}, 404, NO_VHOST)
    check(api, "PUT", f"/queues/{vhost}/one", {}, 201)
    reason = f"cannot declare queue 'two': queue limit in vhost '{vhost}' (1) is reached"
    check(api, "PUT", f"/queues/{vhost}/two", {}, 400, reason)
    for limit in ("max-queues", "max-queues", "nope", "max-connections"):
        check(api, "DELETE", f"{path}/{limit}", None, 204)
    assert api.get(path) == []
    check(api, "PUT", f"/queues/{vhost}/two", {}, 201)
    check(api, "PUT", f"/users/{name}", {"password": "p", "tags": ""}, 201)
    path = f"/user-limits/{name}"
    check(api, "PUT", f"{path}/max-channels", {"value": 6}, 204)
    check(api, "PUT", f"{path}/max-connections", {"value": 5}, 204)
    check(api, "PUT", f"{path}/nope", {"value": 5}, 400, 'Unrecognised terms [{<<"nope">>,5}] in user-limits')
    reason = 'max-channels should be a number, actually was <<"x">>'
    check(api, "PUT", f"{path}/max-channels", {"value": "x"}, 400, reason)
    check(api, "PUT", "/user-limits/nope/max-channels", {"value": 5}, 400, ["no_such_user", "nope"])
    assert api.get(path) == [{"user": name, "value": {"max-channels": 6, "max-connections": 5}}]
    check(api, "DELETE", f"{path}/max-channels", None, 204)
    check(api, "DELETE", f"{path}/max-channels", None, 204)
    check(api, "DELETE", f"{path}/max-connections", None, 204)
    assert api.get(path) == []
    check(api, "DELETE", f"/users/{name}", None, 204)


def test_the_cluster_is_called_otherwise(api: Management, started: LeveretServer) -> None:
    check(api, "PUT", "/cluster-name", {"name": "the ü cluster"}, 204)
    assert api.get("/cluster-name") == {"name": "the ü cluster"}
    assert api.get("/overview")["cluster_name"] == "the ü cluster"
    connection = pika.BlockingConnection(pika.URLParameters(started.url))
    properties = connection._impl.server_properties
    connection.close()
    assert properties["cluster_name"] == "the ü cluster"
    check(api, "PUT", "/cluster-name", {}, 400, "[{key_missing,name}]")
    check(api, "PUT", "/cluster-name", {"name": 5}, 400)
    check(api, "DELETE", "/global-parameters/cluster_name", None, 204)


def test_maintenance(api: Management) -> None:
    node = quote(api.get("/overview")["node"])
    check(api, "DELETE", f"/auth/attempts/{node}", None, 204)
    assert sum(row["auth_attempts"] for row in api.get(f"/auth/attempts/{node}")) == 1
    check(api, "DELETE", "/auth/attempts/nope", None, 404, NOT_FOUND)
    check(api, "POST", "/rebalance/queues", None, 204)
    check(api, "PUT", "/feature-flags/quorum_queue/enable", {"name": "quorum_queue"}, 204)
    check(api, "PUT", "/feature-flags/nope/enable", {"name": "nope"}, 400, "unsupported")


def test_connections_are_closed_with_a_reason(api: Management, started: LeveretServer) -> None:
    def closed(path: str, headers: dict[str, str] | None = None) -> tuple[int, str]:
        connection = pika.BlockingConnection(pika.URLParameters(started.url))
        (name,) = poll(lambda: [one["name"] for one in api.get("/connections")], "the connection is listed")
        answer = api.request("DELETE", path.replace("NAME", quote(name, safe="")), headers=headers)
        assert (answer.status, answer.body) == (204, b"")
        with pytest.raises(pika.exceptions.ConnectionClosedByBroker) as raised:
            connection.process_data_events(5)
        poll(lambda: not api.get("/connections"), "the connection is gone")
        return raised.value.reply_code, raised.value.reply_text

    assert closed("/connections/NAME") == (320, "CONNECTION_FORCED - Closed via management plugin")
    assert closed("/connections/NAME", {"X-Reason": "go away"}) == (320, "CONNECTION_FORCED - go away")
    code, text = closed("/connections/username/guest", {"X-Reason": "x" * 1000})
    assert (code, len(text)) == (320, len("CONNECTION_FORCED - ") + 200)
    check(api, "DELETE", "/connections/nope", None, 404, NOT_FOUND)
    check(api, "DELETE", "/connections/username/nope", None, 204)


def test_changes_survive_kill_9(tmp_path_factory: pytest.TempPathFactory) -> None:
    with LeveretServer(tmp_path_factory.mktemp("killed") / "data") as server:
        with Management(server.ports["http"]) as api:
            check(api, "PUT", "/vhosts/v", {"description": "d", "protected_from_deletion": True}, 201)
            check(api, "PUT", "/permissions/v/guest", ALL, 204)
            check(api, "PUT", "/users/u", {"password_hash": HASH, "tags": "monitoring"}, 201)
            check(api, "PUT", "/queues/v/q", {"durable": True, "arguments": {"x-max-length": 5}}, 201)
            check(api, "POST", "/bindings/v/e/amq.topic/q/q", {"routing_key": "a.#"}, 201)
            check(api, "PUT", "/policies/v/p", {"pattern": "", "definition": {"message-ttl": 60000}}, 201)
            message = {"routing_key": "a.b", "payload": "kept", "payload_encoding": "string",
                       "properties": {"delivery_mode": 2}}  # fmt: skip
            check(api, "POST", "/exchanges/v/amq.topic/publish", message, 200, {"routed": True})
            server.kill()
        server.start()
        with Management(server.ports["http"]) as api:
            assert api.get("/vhosts/v")["description"] == "d"
            assert api.request("DELETE", "/vhosts/v").status == 412
            assert api.get("/users/u")["password_hash"] == HASH
            assert api.get("/queues/v/q")["policy"] == "p"
            got = api.request(
                "POST", "/queues/v/q/get", {"count": 5, "ackmode": "ack_requeue_false", "encoding": "auto"}
            ).json
            assert [(one["payload"], one["routing_key"]) for one in got] == [("kept", "a.b")]

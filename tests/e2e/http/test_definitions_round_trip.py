"""Definitions out and in again: types of arguments, password hashes, tags; unknown keys and mirroring policies are accepted."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest
from support.management import Management
from support.server import LeveretServer, own_server_only

pytestmark = own_server_only("the server needs users and settings of its own")


FILE = Path(__file__).parents[2] / "data" / "definitions-3.10.json"


VHOST = "a/b"


JSON = {"Content-Type": "application/json"}


@pytest.fixture
def api(started: LeveretServer) -> Iterator[Management]:
    with Management(started.ports["http"]) as client:
        assert client.request("PUT", "/vhosts/a%2Fb").status in (201, 204)
        yield client
        client.request("DELETE", "/vhosts/a%2Fb")


def test_arguments_keep_their_types(api: Management) -> None:
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


def test_password_hashes_round_trip(api: Management, started: LeveretServer) -> None:
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
def test_tags_are_a_list(api: Management, tags: Any) -> None:
    user = {"name": "tagged", "password": "x", "tags": tags}
    assert api.request("POST", "/definitions", {"users": [user]}, JSON).status == 204
    (exported,) = [one for one in api.get("/definitions")["users"] if one["name"] == "tagged"]
    assert exported["tags"] == ["management", "custom"]
    assert api.request("DELETE", "/users/tagged").status == 204


def test_unknown_keys_are_ignored(api: Management) -> None:
    document = {
        "from_the_future": [{"a": 1}], "rabbit_version": "9.0", "topology": {},
        "queues": [{"name": "kept", "vhost": VHOST, "durable": True, "auto_delete": False, "arguments": {}, "new": 1}],
        "users": [{"name": "fresh", "password_hash": "", "tags": [], "limits": {"max-new": 1}, "new": [1]}],
    }  # fmt: skip
    assert api.request("POST", "/definitions", document, JSON).status == 204
    assert api.request("GET", "/queues/a%2Fb/kept").json["durable"] is True
    assert api.request("DELETE", "/users/fresh").status == 204


def test_mirroring_policies_warn(api: Management, started: LeveretServer) -> None:
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

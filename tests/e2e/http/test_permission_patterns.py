"""Patterns of permissions, over AMQP and over HTTP: they are searched for, the empty one denies all, without a row there is no access."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from support.amqp_peer import Peer
from support.management import Management
from support.server import LeveretServer, own_server_only

pytestmark = own_server_only("the server needs users and settings of its own")


VHOST = "a/b"


@pytest.fixture
def api(started: LeveretServer) -> Iterator[Management]:
    with Management(started.ports["http"]) as client:
        assert client.request("PUT", "/vhosts/a%2Fb").status in (201, 204)
        yield client
        client.request("DELETE", "/vhosts/a%2Fb")


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


def test_a_pattern_is_searched_for(api: Management, started: LeveretServer, user: str) -> None:
    allow(api, "mid", "^x", "y$")
    with log_in(started) as peer, Management(started.ports["http"], user, "pw") as own:
        peer.declare(1, "a-mid-z")
        assert own.request("PUT", "/queues/a%2Fb/b-mid-z", {}).status == 201
        refused = own.request("PUT", "/queues/a%2Fb/other", {})
        assert (refused.status, refused.json["reason"]) == (401, "Access refused.")
        peer.send(1, "queue.declare", queue="other")
        peer.expect_channel_close(1, 403, "queue.declare", refusal("configure", "queue 'other'"))


def test_the_empty_pattern_denies_all(api: Management, started: LeveretServer, user: str) -> None:
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


def test_without_a_row_there_is_no_way_in(api: Management, started: LeveretServer, user: str) -> None:
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

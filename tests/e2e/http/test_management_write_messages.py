"""Messages through the management API: publish, get, move. Compared with what RabbitMQ 3.10.8 answered."""

from __future__ import annotations

import base64
import json
import urllib.request
from collections.abc import Iterator
from typing import Any

import pika
import pytest
from support.management import Answer, Management
from support.server import LeveretServer, own_server_only, poll

pytestmark = own_server_only("the server needs settings of its own")


@pytest.fixture(scope="module")
def started(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LeveretServer]:
    settings = {"LEVERET_LIMITS_MAX_MESSAGE_SIZE": str(16 << 20)}
    with LeveretServer(tmp_path_factory.mktemp("messages") / "data", settings=settings) as server:
        yield server
        assert "Traceback" not in server.errors, server.errors
        assert server.stop() == 0


class Vhost:
    """Requests about one virtual host."""

    def __init__(self, api: Management, name: str) -> None:
        self.api, self.name = api, name

    def queue(self, name: str, **arguments: Any) -> None:
        body = {
            "durable": True,
            "arguments": {f"x-{key.replace('_', '-')}": one for key, one in arguments.items()},
        }
        assert self.api.request("PUT", f"/queues/{self.name}/{name}", body).status == 201

    def publish(
        self, queue: str, payload: Any = "m", *, exchange: str = "amq.default", **changes: Any
    ) -> Answer:
        body = {
            "routing_key": queue,
            "payload": payload,
            "payload_encoding": "string",
            "properties": {},
        } | changes
        return self.api.request("POST", f"/exchanges/{self.name}/{exchange}/publish", body)

    def fill(self, queue: str, count: int, **properties: Any) -> None:
        for number in range(count):
            assert self.publish(queue, f"m{number}", properties=properties).json == {"routed": True}

    def get(self, queue: str, **changes: Any) -> Answer:
        body = {"count": 100, "ackmode": "ack_requeue_true", "encoding": "auto"} | changes
        return self.api.request("POST", f"/queues/{self.name}/{queue}/get", body)

    def payloads(self, queue: str, **changes: Any) -> list[str]:
        return [one["payload"] for one in self.get(queue, **changes).json]


@pytest.fixture
def vhost(started: LeveretServer, name: str) -> Iterator[Vhost]:
    with Management(started.ports["http"]) as api:
        assert api.request("PUT", f"/vhosts/{name}").status == 201
        yield Vhost(api, name)
        assert api.request("DELETE", f"/vhosts/{name}").status == 204


def test_what_is_published_is_got(vhost: Vhost) -> None:
    vhost.queue("q")
    properties = {
        "timestamp": 5, "expiration": "600000", "priority": 3, "delivery_mode": 2, "content_type": "text/plain",
        "headers": {"a": 1, "l": [1, {"x": 2.0}], "big": 3000000000, "t": True}, "correlation_id": "c", "user_id": "guest",
        "content_encoding": "x", "reply_to": "r", "message_id": "m", "type": "t", "app_id": "a", "cluster_id": "i",
    }  # fmt: skip
    assert vhost.publish("q", "grüße", properties=properties | {"foo": 1}).json == {"routed": True}
    assert vhost.publish("q", "AP8=", payload_encoding="base64").json == {"routed": True}
    assert vhost.publish("nobody").json == {"routed": False}
    first, second = vhost.get("q").json
    assert first == {
        "payload_bytes": 7, "redelivered": False, "exchange": "", "routing_key": "q", "message_count": 1,
        "properties": properties, "payload": "grüße", "payload_encoding": "string",
    }  # fmt: skip
    assert isinstance(first["properties"]["headers"]["l"][1]["x"], float)
    assert second == {
        "payload_bytes": 2, "redelivered": False, "exchange": "", "routing_key": "q", "message_count": 0,
        "properties": [], "payload": "AP8=", "payload_encoding": "base64",
    }  # fmt: skip
    again = vhost.get("q", encoding="base64").json
    assert [one["redelivered"] for one in again] == [True, True]
    assert base64.b64decode(again[0]["payload"]).decode() == "grüße"
    assert vhost.payloads("q", truncate=3) == ["Z3LD", "AP8="]  # half a character is no text
    assert vhost.payloads("q", truncate="2", count="1") == ["gr"]
    assert vhost.get("q", truncate=2, count=1).json[0]["payload_bytes"] == 7


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"payload_encoding": "x"}, ["unsupported_encoding", "x"]),
        ({"payload_encoding": "base64", "payload": "*"}, ["not_base64", "*"]),
        ({"payload": 5}, "payload_not_string"),
        ({"properties": {"delivery_mode": "2"}}, ["not_int", "delivery_mode"]),
        ({"properties": {"priority": "5"}}, ["not_int", "priority"]),
        ({"properties": {"expiration": 5}}, ["not_string", "expiration"]),
        (
            {"properties": {"expiration": "abc"}},
            "406 PRECONDITION_FAILED - invalid expiration 'abc': no_integer",
        ),
        ({"properties": {"headers": {"n": None}}}, "null_not_allowed"),
        ({"properties": {"headers": 5}}, None),
        ({"properties": {"priority": 1000}}, None),
        ({"properties": {"timestamp": -1}}, None),
        ({"properties": {"content_type": "x" * 256}}, None),
        ({"properties": {"headers": {"x": "y" * 70000}}}, None),
        ({"properties": 5}, None),
        ({"routing_key": 5}, None),
        ({"routing_key": "k" * 256}, None),
        (
            {"properties": {"user_id": "x"}},
            "406 PRECONDITION_FAILED - user_id property set to 'x' but authenticated user was 'guest'",
        ),
    ],
)
def test_publishing_refused(vhost: Vhost, changes: dict[str, Any], reason: Any) -> None:
    vhost.queue("q")
    answer = vhost.publish("q", **changes)
    assert answer.status == 400
    assert answer.json["error"] == "bad_request"
    if reason is not None:
        assert answer.json["reason"] == reason
    assert vhost.payloads("q") == []


def test_members_that_are_missing(vhost: Vhost) -> None:
    vhost.queue("q")
    api = vhost.api
    answer = api.request("POST", f"/exchanges/{vhost.name}/amq.default/publish", {})
    assert answer.json["reason"] == (
        "[{key_missing,routing_key},\n {key_missing,properties},\n {key_missing,payload},\n {key_missing,payload_encoding}]"
    )
    answer = api.request("POST", f"/queues/{vhost.name}/q/get", {})
    assert answer.json["reason"] == "[{key_missing,ackmode},{key_missing,count},{key_missing,encoding}]"


def test_exchanges_that_do_not_take_it(vhost: Vhost) -> None:
    answer = vhost.publish("q", exchange="nope")
    assert (answer.status, answer.json["reason"]) == (
        400, f"404 NOT_FOUND - no exchange 'nope' in vhost '{vhost.name}'",
    )  # fmt: skip
    assert vhost.api.request("PUT", f"/exchanges/{vhost.name}/i", {"internal": True}).status == 201
    answer = vhost.publish("q", exchange="i")
    assert (answer.status, answer.json["reason"]) == (
        400, f"403 ACCESS_REFUSED - cannot publish to internal exchange 'i' in vhost '{vhost.name}'",
    )  # fmt: skip
    vhost.queue("full", max_length=1, overflow="reject-publish")
    assert vhost.publish("full").json == {"routed": True}
    answer = vhost.publish("full")
    assert (answer.status, answer.json["reason"]) == (
        400,
        "rejected Unable to publish message. Check queue limits.",
    )
    answer = vhost.publish("full", "x" * (17 << 20))
    assert answer.status == 400
    assert "max size" in answer.json["reason"]


def test_what_becomes_of_messages_that_were_got(vhost: Vhost) -> None:
    vhost.queue("dead")
    vhost.queue("q", dead_letter_exchange="", dead_letter_routing_key="dead")
    vhost.fill("q", 6)
    assert vhost.payloads("q", count=2) == ["m0", "m1"]  # they go back to their places
    assert vhost.payloads("q", count=2, ackmode="reject_requeue_true") == ["m0", "m1"]
    got = vhost.get("q", count=2, ackmode="ack_requeue_false").json
    assert [(one["payload"], one["redelivered"], one["message_count"]) for one in got] == [
        ("m0", True, 5),
        ("m1", True, 4),
    ]
    assert vhost.payloads("q", count=2, ackmode="reject_requeue_false") == ["m2", "m3"]
    assert vhost.payloads("q", count=-1) == ["m4", "m5"]
    assert vhost.payloads("q", count=0) == []
    dead = vhost.get("dead").json
    assert [one["payload"] for one in dead] == ["m2", "m3"]
    death = dead[0]["properties"]["headers"]["x-death"][0]
    assert (death["queue"], death["reason"], death["count"]) == ("q", "rejected", 1)
    assert isinstance(death["time"], int)
    assert vhost.payloads("q", ackmode="ack_requeue_false") == ["m4", "m5"]
    assert vhost.get("q", ackmode="ack_requeue_false").json == []


def test_looking_does_not_use_up_the_delivery_limit(vhost: Vhost) -> None:
    vhost.queue("q", queue_type="quorum", delivery_limit=2)
    vhost.fill("q", 1)
    for _ in range(5):
        assert vhost.payloads("q") == ["m0"]
    for _ in range(3):
        assert vhost.payloads("q", ackmode="reject_requeue_true") == ["m0"]
    assert vhost.payloads("q") == []  # the third rejection was one too many


def test_getting_refused(vhost: Vhost) -> None:
    vhost.queue("q")
    for changes, reason in (
        ({"encoding": "x"}, "Unsupported encoding. Please use auto or base64."),
        ({"count": "x"}, ["not_integer", "x"]),
        ({"truncate": "x"}, ["not_integer", "x"]),
        ({"ackmode": "x"}, None),
    ):
        answer = vhost.get("q", **changes)
        assert answer.status == 400
        assert reason is None or answer.json["reason"] == reason
    answer = vhost.get("nope")
    assert (answer.status, answer.json) == (
        404, {"error": "not_found", "reason": f"NOT_FOUND - no queue 'nope' in vhost '{vhost.name}'"},
    )  # fmt: skip


def test_consumers_get_what_goes_back(vhost: Vhost, started: LeveretServer) -> None:
    vhost.queue("q")
    vhost.fill("q", 3, delivery_mode=2)
    assert vhost.payloads("q") == ["m0", "m1", "m2"]
    url = f"amqp://guest:guest@127.0.0.1:{started.port}/{vhost.name}"
    connection = pika.BlockingConnection(pika.URLParameters(url))
    got = []
    for method, _, body in connection.channel().consume("q", auto_ack=True, inactivity_timeout=5):
        got.append((body, method.redelivered))
        if len(got) == 3:
            break
    connection.close()
    assert got == [(b"m0", True), (b"m1", True), (b"m2", True)]


def test_move(vhost: Vhost) -> None:
    vhost.queue("from")
    vhost.queue("to")
    vhost.queue("small", max_length=2, overflow="reject-publish")
    vhost.fill("from", 5, delivery_mode=2, headers={"n": 1})

    def move(source: str, **body: Any) -> Answer:
        return vhost.api.request("POST", f"/queues/{vhost.name}/{source}/move", body)

    assert move("from", destination="to", count=2).json == {"moved": 2}
    assert vhost.payloads("from") == ["m2", "m3", "m4"]
    moved = vhost.get("to").json
    assert [one["payload"] for one in moved] == ["m0", "m1"]
    assert (moved[0]["exchange"], moved[0]["routing_key"]) == ("", "to")
    assert moved[0]["properties"] == {"delivery_mode": 2, "headers": {"n": 1}}
    answer = move("from", destination="small")
    assert (answer.status, answer.json["moved"]) == (400, 2)
    assert vhost.payloads("from") == ["m4"]
    assert move("from", destination="to").json == {"moved": 1}
    assert move("from", destination="to").json == {"moved": 0}
    assert vhost.payloads("to") == ["m0", "m1", "m4"]
    for body, status in (
        ({}, 400),
        ({"destination": "from"}, 400),
        ({"destination": "nope"}, 404),
        ({"destination": 5}, 400),
    ):
        assert move("from", **body).status == status
    assert move("nope", destination="to").status == 404


def test_many_are_moved_and_none_is_lost(started: LeveretServer, vhost: Vhost) -> None:
    vhost.queue("from")
    vhost.queue("to")
    url = f"amqp://guest:guest@127.0.0.1:{started.port}/{vhost.name}"
    connection = pika.BlockingConnection(pika.URLParameters(url))
    channel = connection.channel()
    channel.confirm_delivery()
    for number in range(1700):
        channel.basic_publish("", "from", str(number).encode(), pika.BasicProperties(delivery_mode=2))
    answer = vhost.api.request("POST", f"/queues/{vhost.name}/from/move", {"destination": "to"})
    assert answer.json == {"moved": 1700}
    connection.close()
    assert vhost.payloads("to", count=5000) == [str(number) for number in range(1700)]
    assert vhost.payloads("from") == []


def test_the_answer_waits_for_the_disk(tmp_path_factory: pytest.TempPathFactory) -> None:
    """What was published and moved with an answer is there after SIGKILL, once."""
    with LeveretServer(tmp_path_factory.mktemp("killed") / "data") as server:
        with Management(server.ports["http"]) as api:
            vhost = Vhost(api, "%2F")
            vhost.queue("q")
            vhost.queue("to")
            vhost.fill("q", 20, delivery_mode=2)
            vhost.publish("q", "transient")
            assert api.request("POST", "/queues/%2F/q/move", {"destination": "to", "count": 7}).json == {
                "moved": 7
            }
            server.kill()
        server.start()
        with Management(server.ports["http"]) as api:
            vhost = Vhost(api, "%2F")
            assert vhost.payloads("to") == [f"m{number}" for number in range(7)]
            assert vhost.payloads("q") == [f"m{number}" for number in range(7, 20)]


def test_an_alarm_keeps_publishers_out(tmp_path_factory: pytest.TempPathFactory) -> None:
    with (
        LeveretServer(tmp_path_factory.mktemp("alarm") / "data") as server,
        Management(server.ports["http"]) as api,
    ):
        vhost = Vhost(api, "%2F")
        vhost.queue("q")
        server.ctl("set_disk_free_limit", "1000000GB")
        poll(lambda: vhost.publish("q").status == 503, "publishing is refused")
        assert vhost.publish("q").json["error"] == "alarm"
        assert api.request("DELETE", "/queues/%2F/q/contents").status == 204
        server.ctl("set_disk_free_limit", "1MB")
        poll(lambda: vhost.publish("q").status == 200, "publishing goes on")


@pytest.mark.parametrize("how", ["get", "receive", "move"])
def test_a_message_that_becomes_the_head_over_http_expires_on_time(
    started: LeveretServer, vhost: Vhost, how: str
) -> None:
    """Nothing but this one request looks at the queue until its time has come."""
    for queue in ("dead", "elsewhere"):
        vhost.queue(queue)
    vhost.queue("q", dead_letter_exchange="", dead_letter_routing_key="dead")
    vhost.fill("q", 1)
    vhost.fill("q", 1, expiration="150")
    if how == "get":
        assert len(vhost.get("q", count=1, ackmode="ack_requeue_false").json) == 1
    elif how == "move":
        body = {"destination": "elsewhere", "count": 1}
        assert vhost.api.request("POST", f"/queues/{vhost.name}/q/move", body).json == {"moved": 1}
    else:
        url = f"http://127.0.0.1:{started.ports['http']}/v1/queues/{vhost.name}/q/receive?ack=auto"
        login = {"Authorization": "Basic " + base64.b64encode(b"guest:guest").decode()}
        with urllib.request.urlopen(urllib.request.Request(url, b"", login)) as answer:
            assert len(json.load(answer)["messages"]) == 1
    poll(lambda: len(vhost.payloads("dead")) == 1, "the message has not been dead-lettered")

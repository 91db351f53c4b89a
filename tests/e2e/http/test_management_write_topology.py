"""Exchanges, queues and bindings declared and deleted: what RabbitMQ 3.10.8 answered, but where a comment says so."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any
from urllib.parse import quote

import pika
import pytest
from support.management import Management
from support.management_writes import DOUBLY, NO_VHOST, NOT_FOUND, check
from support.server import LeveretServer, own_server_only

pytestmark = own_server_only("the server needs users and settings of its own")

REFUSED = {"error": "not_authorised", "reason": "Access refused."}


@pytest.fixture(scope="module")
def api(started: LeveretServer) -> Iterator[Management]:
    with Management(started.ports["http"]) as api:
        yield api


def test_exchanges(api: Management, vhost: str) -> None:
    def path(exchange: str) -> str:
        return f"/exchanges/{vhost}/{exchange}"

    check(api, "PUT", path("x"), {"type": "topic", "durable": "true"}, 201)
    check(api, "PUT", path("x"), {"type": "topic", "durable": True, "name": "other", "vhost": "/"}, 204)
    reason = f"inequivalent arg 'type' for exchange 'x' in vhost '{vhost}': received 'fanout' but current is 'topic'"
    check(api, "PUT", path("x"), {"type": "fanout", "durable": True}, 400, reason)
    check(api, "PUT", path("d"), None, 201)
    found = api.get(path("d"))
    assert (found["type"], found["durable"], found["auto_delete"], found["internal"]) == (
        "direct",
        False,
        False,
        False,
    )
    arguments = {"alternate-exchange": "x", "n": 5.0, "i": 3000000000}
    check(
        api,
        "PUT",
        path("a"),
        {"type": "headers", "auto_delete": True, "internal": True, "arguments": arguments},
        201,
    )
    shown = api.get(path("a"))["arguments"]
    assert shown == arguments
    assert isinstance(shown["n"], float)
    check(api, "PUT", path("b"), {"type": "nope"}, 400)
    check(api, "PUT", path("b"), {"type": 5}, 400)
    check(api, "PUT", path("b"), {"durable": "perhaps"}, 400, ["not_boolean", "perhaps"])
    check(api, "PUT", path("b"), {"arguments": "no"}, 400)
    check(api, "PUT", path("b"), {"arguments": {"n": None}}, 400, "null_not_allowed")
    check(api, "PUT", path("b"), {"arguments": {"n": 1 << 63}}, 400)
    check(api, "PUT", path("b"), {"arguments": {"alternate-exchange": 5}}, 400)
    check(api, "PUT", path("b"), {"arguments": []}, 201)
    for reserved in ("amq.mine", "amq.default"):
        check(api, "PUT", path(reserved), {}, 401, REFUSED)
    check(api, "PUT", path("amq.topic"), {"type": "topic", "durable": True}, 204)
    check(api, "PUT", "/exchanges/nope/x", {}, 404, NO_VHOST)
    check(api, "PUT", path("n" * 256), {}, 400, "exchange should be less than 255 bytes, actually was 256\n")
    check(api, "POST", f"/bindings/{vhost}/e/x/e/b", {}, 201)
    check(api, "DELETE", f"{path('x')}?if-unused=true", None, 400, f"exchange 'x' in vhost '{vhost}' in use")
    check(api, "DELETE", f"{path('b')}?if-unused=true", None, 204)
    check(api, "DELETE", path("b"), None, 404, NOT_FOUND)
    check(api, "DELETE", path("amq.topic"), None, 401, REFUSED)
    check(api, "DELETE", path("amq.default"), None, 401, REFUSED)
    check(api, "DELETE", "/exchanges/nope/x", None, 404, NOT_FOUND)


def test_queues(api: Management, vhost: str) -> None:
    def path(queue: str) -> str:
        return f"/queues/{vhost}/{quote(queue, safe='')}"

    check(api, "PUT", path("q"), {"durable": True}, 201)
    check(api, "PUT", path("q"), {"durable": "true"}, 204)
    reason = (
        f"inequivalent arg 'durable' for queue 'q' in vhost '{vhost}': received 'false' but current is 'true'"
    )
    check(api, "PUT", path("q"), {}, 400, reason)
    where = f"for queue 'b' in vhost '{vhost}'"
    for value, why in ((-5, "{value_negative,-5}"), ("5", '"expected integer, got longstr"'),
                       (5.0, '"expected integer, got double"')):  # fmt: skip
        body = {"arguments": {"x-message-ttl": value}}
        check(api, "PUT", path("b"), body, 400, f"invalid arg 'x-message-ttl' {where}: {why}")
    arguments = {"x-message-ttl": 60000, "x-max-length": 3000000000, "f": 5.0, "l": [1, {"x": True}]}
    check(api, "PUT", path("a/b ü%"), {"auto_delete": True, "arguments": arguments}, 201)
    found = api.get(f"/queues/{vhost}/%", "a/b ü%")
    assert {key: found["arguments"][key] for key in arguments} == arguments
    assert isinstance(found["arguments"]["f"], float)
    assert isinstance(found["arguments"]["x-max-length"], int)
    reason = f"inequivalent arg 'x-message-ttl' for queue 'a/b ü%' in vhost '{vhost}': received '6' but current is '60000'"
    changed: dict[str, Any] = {"auto_delete": True, "arguments": arguments | {"x-message-ttl": 6}}
    check(api, "PUT", path("a/b ü%"), changed, 400, reason)
    quorum: dict[str, Any] = {"arguments": {"x-queue-type": "quorum"}}
    check(
        api, "PUT", path("k"), quorum, 400, f"invalid property 'non-durable' for queue 'k' in vhost '{vhost}'"
    )
    check(api, "PUT", path("k"), quorum | {"durable": True}, 201)
    assert api.get(path("k"))["type"] == "quorum"
    check(api, "PUT", path("amq.q"), {}, 401, REFUSED)
    check(api, "PUT", path("b"), {"node": "x@y"}, 400, "Node x@y could not be contacted")
    check(api, "PUT", path("b"), {"node": api.get("/overview")["node"]}, 201)
    check(api, "PUT", "/queues/nope/q", {}, 404, NO_VHOST)
    check(api, "PUT", path("b"), b'"{}"', 400, DOUBLY)
    check(api, "PUT", path("n" * 300), {}, 400, "queue should be less than 255 bytes, actually was 300\n")
    check(api, "POST", f"{path('q')}/actions", {"action": "sync"}, 204)
    check(api, "POST", f"{path('q')}/actions", {"action": "x"}, 400, ["unknown", "x"])
    check(api, "POST", f"{path('q')}/actions", {}, 400, "[{key_missing,action}]")
    message = {"routing_key": "q", "payload": "m", "payload_encoding": "string", "properties": {}}
    check(api, "POST", f"/exchanges/{vhost}/amq.default/publish", message, 200, {"routed": True})
    check(api, "DELETE", f"{path('q')}?if-empty=true", None, 400, f"queue 'q' in vhost '{vhost}' not empty")
    check(api, "DELETE", f"{path('q')}/contents", None, 204)
    check(api, "DELETE", f"{path('nope')}/contents", None, 404, NOT_FOUND)
    check(api, "DELETE", f"{path('q')}?if-empty=true&if-unused=true", None, 204)
    check(api, "DELETE", path("q"), None, 404, NOT_FOUND)
    check(api, "DELETE", path("a/b ü%").replace("%2F", "%2f"), None, 204)


def test_a_queue_that_is_used_or_belongs_to_a_connection(
    api: Management, started: LeveretServer, vhost: str
) -> None:
    url = f"amqp://guest:guest@127.0.0.1:{started.port}/{vhost}"
    connection = pika.BlockingConnection(pika.URLParameters(url))
    channel = connection.channel()
    channel.queue_declare("used")
    channel.basic_consume("used", lambda *_: None)
    channel.queue_declare("mine", exclusive=True)
    used = f"/queues/{vhost}/used?if-unused=true"
    check(api, "DELETE", used, None, 400, f"queue 'used' in vhost '{vhost}' in use")
    answer = api.request("DELETE", f"/queues/{vhost}/mine")
    assert answer.status == 400
    assert "exclusive access to locked queue 'mine'" in answer.json["reason"]
    answer = api.request(
        "POST", f"/queues/{vhost}/mine/get", {"count": 1, "ackmode": "ack_requeue_true", "encoding": "auto"}
    )
    assert answer.status == 400
    connection.close()


def test_bindings(api: Management, vhost: str) -> None:
    for queue in ("q", "a/b c"):
        check(api, "PUT", f"/queues/{vhost}/{quote(queue, safe='')}", {}, 201)
    between = f"/bindings/{vhost}/e/amq.topic/q/q"

    def bind(path: str, **body: Any) -> str:
        answer = api.request("POST", path, body)
        assert answer.status == 201, answer
        assert answer.body == b""
        return str(answer.headers["location"])

    assert bind(between, routing_key="a.b") == bind(between, routing_key="a.b", arguments={}) == "q/a.b"
    assert bind(between) == "q/~"
    assert bind(between, routing_key="a b/c~ü") == "q/a%2Bb%252Fc%257E%25C3%25BC"
    location = bind(between, routing_key="k", arguments={"x": 1, "l": [1.0]})
    assert location.startswith("q/k~")
    assert bind(f"/bindings/{vhost}/e/amq.topic/q/a%2Fb%20c", routing_key="z") == "a%2Fb+c/z"
    assert bind(f"/bindings/{vhost}/e/amq.topic/e/amq.fanout", routing_key="z") == "amq.fanout/z"
    found = api.get(between)
    assert {one["routing_key"] for one in found} == {"a.b", "", "a b/c~ü", "k"}
    keys = {one["routing_key"]: one["properties_key"] for one in found}
    check(api, "POST", f"/bindings/{vhost}/e/amq.topic/q/nope", {}, 404,
          {"error": "not_found", "reason": f"no queue 'nope' in vhost '{vhost}'"})  # fmt: skip
    check(api, "POST", f"/bindings/{vhost}/e/nope/q/q", {}, 404,
          {"error": "not_found", "reason": f"no exchange 'nope' in vhost '{vhost}'"})  # fmt: skip
    check(api, "POST", f"/bindings/{vhost}/e/amq.default/q/q", {}, 401, REFUSED)
    check(api, "POST", f"/bindings/{vhost}/e/amq.topic/e/amq.default", {}, 401, REFUSED)
    check(api, "POST", f"/bindings/{vhost}/e/amq.topic/z/q", {}, 404, NOT_FOUND)
    check(api, "POST", "/bindings/nope/e/amq.topic/q/q", {}, 404, NO_VHOST)
    check(api, "POST", between, {"routing_key": 5}, 400)
    check(api, "POST", between, {"routing_key": "k" * 256}, 400)
    check(api, "POST", between, {"arguments": 5}, 400)
    wrong = {"arguments": {"x-match": "some"}}
    reason = 'Invalid x-match field value <<"some">>; expected all, any, all-with-x, or any-with-x'
    check(api, "POST", f"/bindings/{vhost}/e/amq.headers/q/q", wrong, 400, reason)
    check(api, "DELETE", f"{between}/nope", None, 404, NOT_FOUND)
    for key in ("a.b", "", "a b/c~ü", "k"):
        check(api, "DELETE", f"{between}/{quote(keys[key], safe='')}", None, 204)
        check(api, "DELETE", f"{between}/{quote(keys[key], safe='')}", None, 404, NOT_FOUND)
    assert api.get(between) == []
    check(api, "DELETE", f"/bindings/{vhost}/e/amq.default/q/q/q", None, 401, REFUSED)
    check(api, "DELETE", f"/bindings/{vhost}/e/amq.topic/e/amq.fanout/z", None, 204)

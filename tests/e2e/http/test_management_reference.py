"""What a comparison with RabbitMQ 3.10.8, path by path, has taught: its answers, which are ours."""

from __future__ import annotations

from base64 import b64encode
from typing import Any

import pika
import pytest
from support.management import Management
from support.management_activity import VHOST, Activity
from support.server import LeveretServer, own_server_only

pytestmark = own_server_only("the server needs users and settings of its own")

GUEST = b64encode(b"guest:guest").decode()
FORM = {"Content-Type": "multipart/form-data; boundary=b"}


def refused(answer: Any, status: int, error: str, reason: Any) -> None:
    assert (answer.status, answer.json) == (status, {"error": error, "reason": reason}), answer


# -- lists


@pytest.mark.parametrize("path", ["queues", "exchanges", "connections", "channels", "vhosts"])
def test_these_lists_are_paged(api: Management, path: str) -> None:
    assert api.get(f"/{path}?page=1&page_size=2").keys() >= {"items", "page_count", "filtered_count"}


@pytest.mark.parametrize(
    "path", ["users", "bindings", "consumers", "permissions", "policies", "nodes", "global-parameters"]
)
def test_others_are_arrays_whatever_is_asked(api: Management, path: str) -> None:
    assert isinstance(api.get(f"/{path}?page=1&page_size=2"), list)


def test_connections_and_channels_by_virtual_host(
    api: Management, broker: LeveretServer, activity: Activity
) -> None:
    parameters = pika.ConnectionParameters("127.0.0.1", broker.port, VHOST, heartbeat=600)
    other = pika.BlockingConnection(parameters)
    other.channel()
    first = pika.BlockingConnection(pika.ConnectionParameters("127.0.0.1", broker.port, heartbeat=600))
    try:
        assert [one["vhost"] for one in api.get("/connections")] == ["/", "/", VHOST]
        channels = [(one["vhost"], one["number"]) for one in api.get("/channels")]
        assert channels == [("/", 1), ("/", 2), (VHOST, 1)]
    finally:
        first.close()
        other.close()


@pytest.mark.parametrize(
    ("path", "error"),
    [
        ("/overview", "bad_request"),
        ("/queues/%2F/q1", "bad_request"),
        ("/queues", "invalid_range_parameters"),
    ],
)
@pytest.mark.parametrize(("age", "step"), [("60", "0"), ("-5", "5"), ("9999999", "1"), ("x", "5")])
def test_ranges(api: Management, activity: Activity, path: str, error: str, age: str, step: str) -> None:
    answer = api.request("GET", f"{path}?lengths_age={age}&lengths_incr={step}")
    refused(answer, 400, error, f"Invalid range parameters: age {age}, incr {step}")


@pytest.mark.parametrize("path", ["/channels", "/consumers", "/vhosts/%2F/channels"])
def test_statistics_alone_cannot_be_without_them(api: Management, path: str) -> None:
    answer = api.request("GET", f"{path}?disable_stats=true")
    refused(answer, 400, "bad_request", "Stats in management UI are disabled on this node")


# -- who


@pytest.mark.parametrize(
    ("user", "path", "reason"),
    [
        ("monitor", "/policies/%2F/any", "User not authorised to access object"),
        ("manager", "/policies/%2F/any", "User not authorised to access object"),
        ("maker", "/policies/%2F/any", "User not authorised to access object"),  # may not enter
        ("maker", "/parameters/federation/%2F", "User not authorised to access object"),
        ("maker", "/operator-policies/%2F/any", "Not administrator user"),
        ("monitor", "/traces", "Not administrator user"),
        ("manager", "/shovels", "Not monitor user"),
        ("nobody", "/stream/connections", "Not management user"),
    ],
)
def test_reasons(broker: LeveretServer, user: str, path: str, reason: str) -> None:
    with Management(broker.ports["http"], user, "p") as client:
        refused(client.request("GET", path), 401, "not_authorised", reason)


def test_who_monitors_sees_limits_without_permissions(api: Management, broker: LeveretServer) -> None:
    assert api.request("PUT", "/vhost-limits/%2F/max-queues", {"value": 1000}).status == 204
    try:
        with Management(broker.ports["http"], "monitor", "p") as client:
            assert client.get("/vhost-limits/%", "/") == [{"vhost": "/", "value": {"max-queues": 1000}}]
        with Management(broker.ports["http"], "manager", "p") as client:
            assert client.request("GET", "/vhost-limits/%2F").status == 401
            assert client.get("/consumers/%", "/") == []
    finally:
        api.request("DELETE", "/vhost-limits/%2F/max-queues")


def test_policies_are_a_component_too(api: Management) -> None:
    body = {"pattern": "^none$", "definition": {"max-length": 1}, "apply-to": "queues", "priority": 3}
    assert api.request("PUT", "/policies/%2F/shown", body).status == 201
    item = {"vhost": "/", "component": "policy", "name": "shown", "value": body}
    assert api.get("/parameters/policy") == [item]
    assert api.get("/parameters/policy/%/shown", "/") == item
    assert item not in api.get("/parameters")
    answer = api.request("PUT", "/policies/%2F/shown", {**body, "priority": None})
    assert answer.status == 400
    assert api.request("DELETE", "/policies/%2F/shown").status == 204


@pytest.mark.parametrize("value", [True, "true", False])
def test_the_flag_from_before_there_were_tags(api: Management, value: Any) -> None:
    assert api.request("PUT", "/users/old", {"password": "x", "administrator": value}).status == 201
    assert api.get("/users/old")["tags"] == (["administrator"] if value else [])
    api.request("DELETE", "/users/old")


def test_login(api: Management, broker: LeveretServer) -> None:
    form = {"Content-Type": "application/x-www-form-urlencoded"}
    with Management(broker.ports["http"], None) as anyone:
        answer = anyone.request("POST", "/login", b"username=guest&password=guest", form)
        assert (answer.status, answer.json) == (200, "ok")
        assert "set-cookie" not in answer.headers
        for body in (b"username=guest&password=no", b"username=guest", b"", b"\xff"):
            refused(anyone.request("POST", "/login", body, form), 401, "not_authorized", "Login failed")
        refused(
            anyone.request("POST", "/login", b"username=nobody&password=p", form),
            401, "not_authorised", "Not management user",
        )  # fmt: skip
        assert anyone.request("GET", "/login").status == 405


# -- what is locked, missing, or of plugins


def test_an_exclusive_queue_is_a_bad_request(api: Management, activity: Activity) -> None:
    text = (
        "cannot obtain exclusive access to locked queue 'mine' in vhost '/'. It could be originally declared on another "
        "connection or the exclusive property value does not match that of the original declaration."
    )
    refused(api.request("DELETE", "/queues/%2F/mine"), 400, "bad_request", text)
    refused(api.request("DELETE", "/queues/%2F/mine/contents"), 400, "bad_request", text)
    refused(api.request("PUT", "/queues/%2F/mine", {"durable": True}), 400, "bad_request", text)
    body = {"count": 1, "ackmode": "ack_requeue_true", "encoding": "auto"}
    refused(
        api.request("POST", "/queues/%2F/mine/get", body), 400, "bad_request", f"405 RESOURCE_LOCKED - {text}"
    )


@pytest.mark.parametrize(
    "path",
    [
        "/shovels", "/shovels/%2F", "/federation-links", "/federation-links/%2F", "/federation-links/state/down",
        "/stream/connections", "/stream/connections/%2F", "/stream/publishers", "/stream/publishers/%2F",
        "/stream/consumers", "/stream/consumers/%2F", "/traces", "/traces/%2F", "/trace-files",
    ],
)  # fmt: skip
def test_of_plugins_there_is_nothing(api: Management, path: str) -> None:
    answer = api.request("GET", path)
    assert (answer.status, answer.json) == (200, [])


def test_methods_of_a_path(api: Management) -> None:
    answer = api.request("GET", "/rebalance/queues")
    assert (answer.status, answer.headers["allow"]) == (405, "OPTIONS, POST")
    assert api.request("POST", "/rebalance/queues").status == 204


def test_start_of_a_virtual_host(api: Management) -> None:
    node = api.get("/overview")["node"]
    assert api.request("POST", f"/vhosts/%2F/start/{node}").status == 204
    refused(
        api.request("POST", f"/vhosts/nope/start/{node}"), 400, "bad_request",
        f'Request to node {node} failed with {{no_such_vhost,<<"nope">>}}',
    )  # fmt: skip


@pytest.mark.parametrize("value", [None, "x", 1.5])
def test_limits_are_numbers(api: Management, value: Any) -> None:
    shown = {None: "null", "x": '<<"x">>', 1.5: "1.5"}[value]
    answer = api.request("PUT", "/vhost-limits/%2F/max-queues", {"value": value})
    text = f"Validation failed\n\nmax-queues should be a number, actually was {shown}\n"
    refused(answer, 400, "bad_request", text)


def test_checks_are_not_kept_by_caches(api: Management) -> None:
    answer = api.request("GET", "/health/checks/port-listener/1")
    assert (answer.status, answer.headers["cache-control"]) == (503, "no-cache")
    answer = api.request("GET", "/health/checks/protocol-listener/amqps")
    assert answer.json["missing"] == "amqp/ssl"
    assert api.get("/health/checks/certificate-expiration/-1/days") == {"status": "ok"}
    for text in ("x", "1.5", "9" * 10):
        answer = api.request("GET", f"/health/checks/certificate-expiration/{text}/days")
        refused(answer, 400, "bad_request", "Invalid expiration value.")


# -- definitions as the management page moves them


def upload(document: bytes, redirect: str | None) -> bytes:
    parts = [b'Content-Disposition: form-data; name="file"; filename="d.json"\r\n\r\n' + document]
    if redirect is not None:
        parts.append(b'Content-Disposition: form-data; name="redirect"\r\n\r\n' + redirect.encode())
    return b"".join(b"--b\r\n" + part + b"\r\n" for part in parts) + b"--b--\r\n"


def test_a_page_uploads_and_is_sent_on(broker: LeveretServer) -> None:
    document = b'{"global_parameters":[{"name":"uploaded","value":1}]}'
    with Management(broker.ports["http"], None) as page:
        answer = page.request(
            "POST", f"/definitions?auth={GUEST}", upload(document, "../#/import-succeeded"), FORM
        )
        assert (answer.status, answer.headers["location"]) == (303, "../#/import-succeeded")
        answer = page.request("POST", f"/definitions?auth={GUEST}", upload(document, None), FORM)
        assert (answer.status, answer.body) == (204, b"")
        for elsewhere in ("//evil.example/", "https://evil.example/", "javascript:1"):
            answer = page.request("POST", f"/definitions?auth={GUEST}", upload(document, elsewhere), FORM)
            assert answer.status == 400
        for auth in ("zzz", "", b64encode(b"guest:no").decode()):
            assert (
                page.request("POST", f"/definitions?auth={auth}", upload(document, None), FORM).status == 401
            )


def test_a_page_downloads_with_a_link(broker: LeveretServer) -> None:
    with Management(broker.ports["http"], None) as page:
        answer = page.request("GET", f"/definitions?download=all.json&auth={GUEST}")
        assert answer.status == 200
        assert answer.headers["content-disposition"] == 'attachment; filename="all.json"'
        assert page.request("GET", f"/definitions/%2F?auth={GUEST}").status == 200
        # No other path takes it.
        assert page.request("GET", f"/overview?auth={GUEST}").status == 401


# -- statistics


def test_reset(api: Management, broker: LeveretServer, activity: Activity) -> None:
    node = api.get("/overview")["node"]
    assert api.request("DELETE", "/reset").status == 204
    assert api.request("DELETE", f"/reset/{node}").status == 204
    assert api.request("DELETE", "/reset/nope@x").status == 404
    # What is there counts on.
    assert api.get("/queues/%/q1", "/")["messages"] == 20
    assert api.get("/overview")["queue_totals"]["messages"] == 21
    with Management(broker.ports["http"], "monitor", "p") as client:
        refused(client.request("DELETE", "/reset"), 401, "not_authorised", "Not administrator user")
        assert client.request("DELETE", f"/auth/attempts/{node}").status == 204


# -- numbers


def test_what_a_transaction_has_not_committed(
    api: Management, broker: LeveretServer, activity: Activity
) -> None:
    parameters = pika.ConnectionParameters("127.0.0.1", broker.port, VHOST, heartbeat=600)
    connection = pika.BlockingConnection(parameters)
    try:
        channel = connection.channel()
        channel.queue_declare("tx", durable=True, auto_delete=True)
        for _ in range(3):
            channel.basic_publish("", "tx", b"m")
        channel.tx_select()
        for _ in range(2):
            method, _, _ = channel.basic_get("tx")
            channel.basic_ack(method.delivery_tag)
        channel.basic_publish("", "tx", b"m")
        channel.queue_declare("tx", passive=True)
        (item,) = [one for one in api.get("/channels") if one["vhost"] == VHOST]
        assert (item["messages_uncommitted"], item["acks_uncommitted"], item["transactional"]) == (1, 2, True)
        channel.tx_commit()
        (item,) = [one for one in api.get("/channels") if one["vhost"] == VHOST]
        assert (item["messages_uncommitted"], item["acks_uncommitted"]) == (0, 0)
        channel.queue_delete("tx")
    finally:
        connection.close()


def test_a_look_into_a_queue_does_not_page_it_out(api: Management) -> None:
    assert api.request("PUT", "/queues/%2F/looked", {"durable": False}).status == 201
    message = {"routing_key": "looked", "payload": "12345", "payload_encoding": "string", "properties": {}}
    assert api.request("POST", "/exchanges/%2F/amq.default/publish", message).json == {"routed": True}
    body = {"count": 1, "ackmode": "ack_requeue_true", "encoding": "auto"}
    assert len(api.request("POST", "/queues/%2F/looked/get", body).json) == 1
    item = api.get("/queues/%/looked", "/")
    assert (item["message_bytes_ram"], item["message_bytes_paged_out"], item["messages_ram"]) == (5, 0, 1)
    assert api.request("DELETE", "/queues/%2F/looked").status == 204


def test_protocols_by_their_names(api: Management) -> None:
    found = api.get("/health/checks/protocol-listener/amqp091")
    assert found == {"status": "ok", "protocols": ["amqp"], "protocol": "amqp"}

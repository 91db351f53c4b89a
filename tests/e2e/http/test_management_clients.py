"""Client libraries of the management API that others wrote: amqpstorm's, and pyrabbit2 (kombu's `get_manager`, too).

With LEVERET_TEST_REFERENCE and LEVERET_TEST_REFERENCE_HTTP (the port of /api) the same tests run against RabbitMQ.
"""

# mypy: disable-error-code="no-untyped-call,attr-defined"
# kombu and amqpstorm have annotations in parts only.
from __future__ import annotations

import os
import secrets
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

import kombu
import pika
import pyrabbit2.api
import pytest
from amqpstorm.management import ApiError, ManagementApi
from pyrabbit2.http import HTTPError
from support.server import REFERENCE, LeveretServer, poll


@dataclass(frozen=True, slots=True)
class Place:
    amqp: int
    http: int


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Place]:
    if REFERENCE:
        yield Place(urlsplit(REFERENCE).port or 5672, int(os.environ["LEVERET_TEST_REFERENCE_HTTP"]))
        return
    settings = {"LEVERET_HTTP_RATES_INTERVAL_S": "0.1"}
    with LeveretServer(tmp_path_factory.mktemp("clients") / "data", settings) as server:
        yield Place(server.port, server.ports["http"])
        assert server.stop() == 0, server.errors
        assert "Traceback" not in server.errors


@pytest.fixture
def name() -> str:
    """Letters only: of names inside a virtual host both clients quote some and not others."""
    return f"cli-{secrets.token_hex(4)}"


@pytest.fixture
def connection(place: Place) -> Iterator[pika.BlockingConnection]:
    """Somebody who consumes."""
    connection = pika.BlockingConnection(pika.ConnectionParameters("127.0.0.1", place.amqp, heartbeat=600))
    channel = connection.channel()
    channel.queue_declare("busy", auto_delete=True)
    channel.basic_consume("busy", lambda *_: None)
    yield connection
    if connection.is_open:
        connection.close()


# -- amqpstorm


@pytest.fixture
def storm(place: Place) -> Iterator[ManagementApi]:
    with ManagementApi(f"http://127.0.0.1:{place.http}", "guest", "guest") as api:
        yield api


def test_amqpstorm_looks_around(storm: ManagementApi, connection: pika.BlockingConnection) -> None:
    assert storm.aliveness_test("/") == {"status": "ok"}
    assert storm.whoami()["name"] == "guest"
    assert storm.cluster_name()["name"]
    node = storm.overview()["node"]
    assert [found["name"] for found in storm.nodes()] == [node] == [storm.node(node)["name"]]
    assert storm.healthchecks.get() == storm.healthchecks.get(node) == {"status": "ok"}
    found = poll(storm.connection.list, "the connection is listed")[0]["name"]
    assert storm.connection.get(found)["user"] == "guest"
    assert [one["name"] for one in poll(storm.channel.list, "the channel is listed")] == [f"{found} (1)"]
    assert storm.channel.get(f"{found} (1)")["number"] == 1
    assert storm.connection.list(name=found[:9], page_size=50)[0]["name"] == found
    storm.connection.close(found, reason="said amqpstorm")
    with pytest.raises(pika.exceptions.ConnectionClosed) as closed:
        connection.process_data_events(10)
    assert closed.value.args == (320, "CONNECTION_FORCED - said amqpstorm")


def test_amqpstorm_lists_page_by_page(storm: ManagementApi, name: str) -> None:
    names = {f"{name}{number}" for number in range(7)}
    for one in names:
        storm.queue.declare(one)
        storm.exchange.declare(one, exchange_type="fanout")
    for listed in (storm.queue, storm.exchange):
        found = listed.list(name=f"^{name}[0-5]$", use_regex=True, page_size=2)
        assert len(found) == 6
        assert {one["name"] for one in listed.list(name=name, page_size=3)} == names
        assert names <= {one["name"] for one in listed.list(show_all=True)}
    for one in names:
        storm.queue.delete(one)
        storm.exchange.delete(one)


def test_amqpstorm_builds_and_takes_down(storm: ManagementApi, name: str) -> None:
    vhost = f"{name} / %"
    in_it: dict[str, Any] = {"virtual_host": vhost}
    storm.virtual_host.create(vhost)
    assert storm.virtual_host.get(vhost)["name"] == vhost
    assert vhost in {one["name"] for one in storm.virtual_host.list()}
    storm.user.set_permission("guest", vhost)
    assert storm.user.get_permission("guest", vhost)["configure"] == ".*"
    # The library's annotations say less than it answers: lists where it says dict, and values where it says None.
    api: Any = storm
    assert vhost in {one["vhost"] for one in api.user.get_permissions("guest")}
    assert api.virtual_host.get_permissions(vhost)[0]["user"] == "guest"

    storm.exchange.declare(
        "x", exchange_type="topic", durable=True, arguments={"alternate-exchange": "y"}, **in_it
    )
    assert api.exchange.declare("x", passive=True, **in_it)["arguments"] == {"alternate-exchange": "y"}
    storm.exchange.bind(source="x", destination="amq.fanout", routing_key="k", arguments={}, **in_it)
    assert "amq.fanout" in {one["destination"] for one in storm.exchange.bindings("x", **in_it)}
    storm.exchange.unbind(source="x", destination="amq.fanout", routing_key="k", **in_it)
    storm.queue.declare("q", durable=True, arguments={"x-max-length": 5}, **in_it)
    assert storm.queue.get("q", **in_it)["arguments"]["x-max-length"] == 5
    storm.queue.bind("q", "x", "a.*", arguments={}, **in_it)
    assert [one["routing_key"] for one in storm.queue.bindings("q", **in_it)] == ["q", "a.*"]
    with pytest.raises(ApiError, match="NOT-FOUND"):
        storm.queue.get("nowhere", **in_it)
    with pytest.raises(ApiError) as refused:
        storm.queue.declare("q", durable=False, **in_it)
    assert refused.value.error_code == 400

    properties = {"content_type": "text/plain", "headers": {"n": 1}}
    published = storm.basic.publish("body ä", "a.b", exchange="x", properties=properties, **in_it)
    assert published == {"routed": True}
    (message,) = api.basic.get("q", requeue=True, **in_it)
    assert (message.body, message.properties["headers"]) == ("body ä", {"n": 1})
    (again,) = api.basic.get("q", requeue=False, to_dict=True, count=9, **in_it)
    assert again["redelivered"] is True
    assert storm.basic.get("q", **in_it) == []
    storm.basic.publish("x", "q", exchange="amq.default", **in_it)
    storm.queue.purge("q", **in_it)
    storm.queue.unbind("q", "x", "a.*", **in_it)
    storm.queue.delete("q", **in_it)
    storm.exchange.delete("x", **in_it)

    storm.user.create(name, "pw", "management")
    assert storm.user.get(name)["tags"] == ["management"]
    storm.user.delete_permission("guest", vhost)
    storm.user.delete(name)
    storm.virtual_host.delete(vhost)
    with pytest.raises(ApiError, match="NOT-FOUND"):
        storm.virtual_host.get(vhost)


def test_amqpstorm_with_a_wrong_password(place: Place) -> None:
    with (
        ManagementApi(f"http://127.0.0.1:{place.http}", "guest", "wrong") as api,
        pytest.raises(ApiError) as refused,
    ):
        api.overview()
    assert refused.value.error_code == 401


# -- pyrabbit2


@pytest.fixture
def rabbit(place: Place) -> pyrabbit2.api.Client:
    return pyrabbit2.api.Client(f"127.0.0.1:{place.http}", "guest", "guest")


def test_pyrabbit2_looks_around(rabbit: pyrabbit2.api.Client, connection: pika.BlockingConnection) -> None:
    assert rabbit.is_alive() is True
    assert rabbit.get_whoami()["name"] == "guest"
    assert rabbit.get_overview()["node"] == rabbit.get_nodes()[0]["name"]
    assert rabbit.get_cluster_name()["name"]
    assert "/" in rabbit.get_vhost_names()
    assert rabbit.get_vhost("/")["name"] == "/"
    assert "guest" in {user["name"] for user in rabbit.get_users()}
    assert isinstance(rabbit.get_extensions(), list)
    assert {"queues", "exchanges", "bindings"} <= rabbit.get_definitions().keys()
    found = poll(rabbit.get_connections, "the connection is listed")[0]["name"]
    assert poll(rabbit.get_channels, "the channel is listed")[0]["name"] == f"{found} (1)"
    assert "busy" in {binding["destination"] for binding in rabbit.get_bindings()}
    with pytest.raises(HTTPError) as missing:
        rabbit.get_queue("/", "nowhere")
    assert (missing.value.status, missing.value.detail) == (404, "Not Found")
    rabbit.delete_connection(found)
    with pytest.raises(pika.exceptions.ConnectionClosed):
        connection.process_data_events(10)


def test_pyrabbit2_builds_and_takes_down(rabbit: pyrabbit2.api.Client, name: str) -> None:
    vhost = name
    assert rabbit.create_vhost(vhost)
    assert rabbit.set_vhost_permissions(vhost, "guest", ".*", "r", ".*")
    assert rabbit.get_permission(vhost, "guest")["read"] == "r"
    assert rabbit.set_vhost_permissions(vhost, "guest", ".*", ".*", ".*")
    assert rabbit.get_vhost_permissions(vhost)[0]["user"] == "guest"
    assert vhost in {one["vhost"] for one in rabbit.get_user_permissions("guest")}
    assert rabbit.create_exchange(vhost, "x", "direct", durable=True)
    assert rabbit.get_exchange(vhost, "x")["type"] == "direct"
    assert rabbit.create_queue(vhost, "q", durable=True, arguments={"x-max-length": 9})
    assert rabbit.create_binding(vhost, "x", "q", "k")
    assert len(rabbit.get_queue_bindings(vhost, "q")) == 2
    assert rabbit.publish(vhost, "x", "k", "hello", properties={"delivery_mode": 2}) is True
    assert rabbit.publish(vhost, "x", "nowhere", "hello") is False
    assert rabbit.get_messages(vhost, "q", requeue=True)[0]["payload"] == "hello"
    poll(lambda: rabbit.get_queue(vhost, "q").get("messages") == 1, "the message is counted")
    assert rabbit.get_queue_depth(vhost, "q") == 1
    assert [one["name"] for one in rabbit.get_queues(vhost)] == ["q"]
    assert rabbit.purge_queue(vhost, "q")
    policy = {"pattern": ".*", "definition": {"max-length": 3}, "priority": 1, "apply-to": "queues"}
    assert rabbit.create_policy(vhost, "p", **policy)
    assert rabbit.get_policy(vhost, "p")["apply-to"] == "queues"
    assert "p" in {one["name"] for one in rabbit.get_all_policies()}
    assert rabbit.delete_policy(vhost, "p")
    assert rabbit.delete_binding(vhost, "x", "q", "k")
    assert rabbit.delete_queue(vhost, "q")
    assert rabbit.delete_exchange(vhost, "x")
    assert rabbit.create_user(vhost, "pw", tags="monitoring,management")
    assert rabbit.delete_user(vhost)
    assert rabbit.delete_permission(vhost, "guest")
    assert rabbit.delete_vhost(vhost)


def test_kombus_manager(
    place: Place, monkeypatch: pytest.MonkeyPatch, connection: pika.BlockingConnection
) -> None:
    """kombu asks for pyrabbit by name; pyrabbit2 is that, kept up. Celery monitors ask it for queues."""
    monkeypatch.setitem(sys.modules, "pyrabbit", pyrabbit2.api)
    with kombu.Connection(f"amqp://guest:guest@127.0.0.1:{place.amqp}//") as client:
        manager = client.get_manager(port=place.http)
        assert "busy" in {queue["name"] for queue in manager.get_queues("/")}
        assert manager.get_queue("/", "busy")["name"] == "busy"

"""RabbitMQ's conventions of the management API: bare arrays, omitted counters, percent-encoded names, 404s."""

from __future__ import annotations

from collections.abc import Iterator

import pika
import pytest
from support.management import Management
from support.server import LeveretServer, own_server_only

pytestmark = own_server_only("the server needs users and settings of its own")


GONE = {"error": "Object Not Found", "reason": "Not Found"}


VHOST = "a/b"


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


def test_queues_are_a_bare_array_unless_page(api: Management) -> None:
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


def test_counters_are_omitted_when_absent(api: Management, connection: pika.BlockingConnection) -> None:
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


def test_messages_are_ready_and_unacknowledged(api: Management, connection: pika.BlockingConnection) -> None:
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


def test_names_are_percent_encoded(api: Management) -> None:
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
def test_what_is_not_there_is_404(api: Management, method: str, path: str) -> None:
    answer = api.request(method, path)
    assert (answer.status, answer.json) == (404, GONE)


def test_bindings_of_the_default_exchange_are_listed(api: Management) -> None:
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

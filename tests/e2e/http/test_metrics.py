"""/metrics of a server: what Prometheus reads, what RabbitMQ's dashboards ask for, and numbers that are right."""

from __future__ import annotations

import gzip
import re
import socket
from collections.abc import Callable
from pathlib import Path
from typing import Any

import paho.mqtt.client as paho
import pika
import pytest
import requests
from paho.mqtt.enums import CallbackAPIVersion
from prometheus_client.openmetrics.parser import text_string_to_metric_families as openmetrics
from support.metrics import OVERVIEW_QUERIES, Scrape
from support.server import LeveretServer, own_server_only, poll

from leveret.adapters.http.metrics.families import CLUSTER, GROUPS

pytestmark = own_server_only("they are our numbers")
IDENTITY = {"rabbitmq_identity_info", "rabbitmq_build_info"}


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Any:
    with LeveretServer(tmp_path_factory.mktemp("metrics") / "d", arguments=["--prometheus", "0"]) as server:
        yield server


def url(server: LeveretServer, path: str = "/metrics", listener: str = "http") -> str:
    return f"http://127.0.0.1:{server.ports[listener]}{path}"


def scrape(server: LeveretServer, path: str = "/metrics", listener: str = "http") -> Scrape:
    answer = requests.get(url(server, path, listener), timeout=10)
    assert answer.status_code == 200
    assert answer.headers["Content-Type"].startswith("text/plain; version=")
    return Scrape(answer.text)


def scrape_when(server: LeveretServer, condition: Callable[[Scrape], bool], what: str) -> Scrape:
    """The first scrape that fulfils the condition."""

    def probe() -> Scrape | None:
        found = scrape(server)
        return found if condition(found) else None

    return poll(probe, what)


def channel(server: LeveretServer) -> Any:
    return pika.BlockingConnection(pika.ConnectionParameters("127.0.0.1", server.port)).channel()


def test_all_that_the_overview_dashboard_asks_for_is_there(server: LeveretServer) -> None:
    found = scrape(server)
    assert [name for name in OVERVIEW_QUERIES if name not in found.values] == []
    (labels, value), *_ = found.values["rabbitmq_identity_info"]
    assert value == 1
    assert labels.keys() == {
        "rabbitmq_node", "rabbitmq_cluster", "rabbitmq_cluster_permanent_id", "rabbitmq_endpoint",
    }  # fmt: skip
    assert labels["rabbitmq_endpoint"] == "aggregated"
    assert {"rabbitmq_version", "erlang_version"} <= found.values["rabbitmq_build_info"][0][0].keys()
    bounds = [labels["le"] for labels, _ in found.values["rabbitmq_message_size_bytes_bucket"]]
    assert bounds[:9] == [
        "100.0", "1000.0", "10000.0", "100000.0", "1e+06", "1e+07", "5e+07", "1e+08", "+Inf",
    ]  # fmt: skip  # the dashboard asks for them by these texts


def test_openmetrics_and_gzip(server: LeveretServer) -> None:
    accept = {"Accept": "application/openmetrics-text; version=1.0.0", "Accept-Encoding": "identity"}
    answer = requests.get(url(server), headers=accept, timeout=10)
    assert answer.headers["Content-Type"].startswith("application/openmetrics-text; version=1.0.0")
    families = {family.name for family in openmetrics(answer.text)}  # type: ignore[no-untyped-call]
    assert families > {"rabbitmq_connections", "leveret_loop_lag_seconds"}
    for path in ("/metrics", "/metrics/per-object", "/metrics/detailed?family=queue_metrics"):
        raw = requests.get(url(server, path), headers={"Accept-Encoding": "gzip"}, stream=True, timeout=10)
        assert raw.headers["Content-Encoding"] == "gzip"
        Scrape(gzip.decompress(raw.raw.read()).decode())
    head = requests.head(url(server, "/metrics/per-object"), timeout=10)
    assert (head.status_code, head.content) == (200, b"")


def test_counters_are_right_and_never_fall(server: LeveretServer) -> None:
    before = scrape(server)
    one = channel(server)
    one.confirm_delivery()
    one.queue_declare("counted")
    for size in (10, 10, 200, 5000):
        one.basic_publish("", "counted", b"x" * size)
    one.basic_publish("amq.topic", "nowhere", b"x")
    with pytest.raises(pika.exceptions.UnroutableError):
        one.basic_publish("amq.topic", "nowhere", b"x", mandatory=True)
    assert one.basic_get("counted", auto_ack=True)[0] is not None
    method, *_ = one.basic_get("counted")
    one.basic_nack(method.delivery_tag)
    method, *_ = one.basic_get("counted")
    one.basic_ack(method.delivery_tag)
    assert one.basic_get("counted")[0] is not None
    assert one.basic_get("counted")[0] is not None
    assert one.basic_get("counted")[0] is None
    now = scrape(server)

    def grown(name: str, **labels: str) -> float:
        return now.sum(name, **labels) - before.sum(name, **labels)

    glob = "rabbitmq_global_messages_{}_total"
    amqp = {"protocol": "amqp091"}
    for name, count in {
        "received": 6, "received_confirm": 6, "confirmed": 6, "routed": 4, "unroutable_dropped": 1, "unroutable_returned": 1,
    }.items():  # fmt: skip
        assert (name, grown(glob.format(name), **amqp)) == (name, count)
    for name, count in {
        "delivered": 5, "delivered_get_auto_ack": 1, "delivered_get_manual_ack": 4, "get_empty": 1, "redelivered": 1,
        "acknowledged": 1,
    }.items():  # fmt: skip
        assert (name, grown(glob.format(name))) == (name, count)
    assert grown("rabbitmq_message_size_bytes_bucket", le="100.0", **amqp) == 4
    assert grown("rabbitmq_message_size_bytes_bucket", le="1000.0", **amqp) == 5
    assert grown("rabbitmq_message_size_bytes_count", **amqp) == 6
    assert grown("rabbitmq_message_size_bytes_sum", **amqp) == 5222
    assert grown("rabbitmq_queues") == 1
    assert grown("rabbitmq_queue_messages_unacked") == 2
    assert grown("rabbitmq_connections") == grown("rabbitmq_channels") == 1
    assert (
        now.sum("rabbitmq_global_publishers", **amqp) == before.sum("rabbitmq_global_publishers", **amqp) + 1
    )
    assert grown("rabbitmq_auth_attempts_succeeded_total", protocol="amqp091") == 1
    one.queue_delete("counted")
    one.connection.close()
    after = scrape_when(server, lambda found: found.sum("rabbitmq_connections") == 0, "the end")
    later = {(name, tuple(sorted(labels.items()))): value for name, labels, value in after.counters()}
    for name, labels, value in now.counters():
        assert later[name, tuple(sorted(labels.items()))] >= value, (name, labels)
    assert after.sum(glob.format("received"), **amqp) == now.sum(glob.format("received"), **amqp)
    assert after.sum("rabbitmq_connection_incoming_bytes_total") > before.sum(
        "rabbitmq_connection_incoming_bytes_total"
    )


def test_every_door_is_counted_by_its_name(server: LeveretServer) -> None:
    before = scrape(server)
    requests.post(url(server, "/v1/exchanges/%2F/amq.topic/messages?routing_key=a"), data=b"x" * 50,
                  auth=("guest", "guest"), timeout=10)  # fmt: skip
    client = paho.Client(CallbackAPIVersion.VERSION2, protocol=paho.MQTTv5)
    client.username_pw_set("guest", "guest")
    client.connect("127.0.0.1", server.ports["mqtt"])
    client.loop_start()
    client.subscribe("m", qos=0)
    poll(lambda: scrape(server).sum("leveret_mqtt_subscriptions"), "the subscription")
    for qos in (0, 1):
        client.publish("m", b"payload", qos=qos).wait_for_publish(10)
    received = "rabbitmq_global_messages_received_total"
    now = scrape_when(server, lambda found: found.sum(received, protocol="mqtt50") == 2, "MQTT's counters")
    assert now.sum("rabbitmq_global_messages_received_confirm_total", protocol="mqtt50") == 1
    assert now.sum("leveret_connections", protocol="mqtt50") == 1
    assert now.sum("rabbitmq_global_consumers", protocol="mqtt50") == 1
    qos0 = {"queue_type": "rabbit_mqtt_qos0_queue"}
    poll(lambda: scrape(server).sum("rabbitmq_global_messages_delivered_total", **qos0) == 2, "what it got")
    client.disconnect()
    client.loop_stop()
    assert now.sum(received, protocol="http") == before.sum(received, protocol="http") + 1
    after = scrape_when(server, lambda found: found.sum("leveret_mqtt_clients_connected") == 0, "its end")
    assert after.sum(received, protocol="mqtt50") == 2
    assert after.sum("rabbitmq_message_size_bytes_sum", protocol="mqtt50") == 14


def test_why_messages_died(server: LeveretServer) -> None:
    before = scrape(server)
    one = channel(server)
    one.queue_declare("graves")
    dead = {"x-dead-letter-exchange": "", "x-dead-letter-routing-key": "graves"}
    queues: dict[str, dict[str, Any]] = {
        "expired": {"x-message-ttl": 0}, "rejected": {}, "maxlen": {"x-max-length": 1},
        "refusing": {"x-max-length": 1, "x-overflow": "reject-publish"},
        "delivery_limit": {
            "x-queue-type": "quorum", "x-delivery-limit": 0, "x-dead-letter-strategy": "at-least-once",
            "x-overflow": "reject-publish",
        },
    }  # fmt: skip
    for name, arguments in queues.items():
        for kind, more in {"buried": dead, "lost": {}}.items():
            if name == "delivery_limit":
                more = dead
            one.queue_declare(f"{name}-{kind}", durable=True, arguments=arguments | more)
            for _ in range(2):
                one.basic_publish("", f"{name}-{kind}", b"x")
            if name in ("rejected", "delivery_limit"):
                method, *_ = one.basic_get(f"{name}-{kind}")
                one.basic_reject(method.delivery_tag, requeue=name == "delivery_limit")
    one.queue_declare("graves", passive=True)
    now = scrape(server)
    found = {}
    for name, kind in (
        ("expired", "classic"), ("rejected", "classic"), ("maxlen", "classic"), ("delivery_limit", "quorum"),
        ("confirmed", "quorum"),
    ):  # fmt: skip
        family = f"rabbitmq_global_messages_dead_lettered_{name}_total"
        for labels, value in now.values[family]:
            if labels["queue_type"] == f"rabbit_{kind}_queue":
                found[name, labels["dead_letter_strategy"]] = value - before.sum(family, **labels)
    assert found == {
        ("expired", "at_most_once"): 2, ("expired", "disabled"): 2, ("rejected", "at_most_once"): 1,
        ("rejected", "disabled"): 1, ("maxlen", "at_most_once"): 1, ("maxlen", "disabled"): 1,
        ("delivery_limit", "at_least_once"): 2, ("delivery_limit", "at_most_once"): 0, ("delivery_limit", "disabled"): 0,
        ("confirmed", "at_least_once"): 2,
    }  # fmt: skip
    for queue in server.rows("list_queues", "name"):
        one.queue_delete(queue["name"])
    one.connection.close()
    after = scrape(server)
    for name in ("expired", "rejected", "maxlen", "delivery_limit", "confirmed"):
        family = f"rabbitmq_global_messages_dead_lettered_{name}_total"
        assert after.sum(family) == now.sum(family)


GLOBAL = re.compile(r"rabbitmq_global_messages_(\w+)_total")
STOMP = (
    b"CONNECT\naccept-version:1.2\nhost:/\nlogin:guest\npasscode:guest\n\n\0"
    b"SUBSCRIBE\nid:1\ndestination:/queue/metrics-stomp\nack:client-individual\n\n\0"
    b"SEND\ndestination:/queue/metrics-stomp\nreceipt:a\n\none\0"
    b"SEND\ndestination:/queue/metrics-stomp\n\ntwo\0"
    b"SEND\ndestination:/topic/nobody\nreceipt:b\n\nthree\0"
)


def grown(before: Scrape, now: Scrape, protocol: str) -> dict[str, float]:
    """Of the global counters: those that grew, of one protocol or of none."""
    found: dict[str, float] = {}
    for sign, scraped in ((1, now), (-1, before)):
        for name, rows in scraped.values.items():
            if match := GLOBAL.fullmatch(name):
                for labels, value in rows:
                    if labels.get("protocol", protocol) == protocol:
                        found[match[1]] = found.get(match[1], 0) + sign * value
    return {name: value for name, value in found.items() if value}


def test_rest_and_stomp_in_numbers(server: LeveretServer) -> None:
    login = ("guest", "guest")

    def post(path: str, status: int = 200, **more: Any) -> Any:
        answer = requests.post(url(server, path), auth=login, timeout=10, **more)
        assert answer.status_code == status, answer.text
        return answer.json() if answer.content else None

    queue = "/v1/queues/%2F/metrics-rest"
    requests.put(url(server, "/api/queues/%2F/metrics-rest"), json={}, auth=login, timeout=10)
    start = scrape(server)
    for _ in range(2):  # the second is the first
        post(f"{queue}/messages", data=b"1", headers={"Idempotency-Key": "k"})
    post(f"{queue}/messages/batch", json=[{"payload": "2"}, {"payload": "3"}])
    post("/v1/exchanges/%2F/amq.topic/messages?routing_key=metrics.nowhere", data=b"x")
    post("/v1/exchanges/%2F/amq.topic/messages?routing_key=metrics.nowhere&mandatory=true", 422, data=b"x")
    published = scrape(server)
    assert grown(start, published, "http") == {
        "received": 5, "received_confirm": 4, "confirmed": 4, "routed": 3, "unroutable_dropped": 1,
        "unroutable_returned": 1,
    }  # fmt: skip
    assert published.sum("leveret_idempotency_keys") == start.sum("leveret_idempotency_keys") + 1
    leases = [one["lease"] for one in post(f"{queue}/receive?max=2")["messages"]]
    assert scrape(server).sum("leveret_rest_leases") == 2
    post(f"/v1/leases/{leases[0]}/ack", 204)
    post(f"/v1/leases/{leases[1]}/nack", 204)
    post(f"{queue}/receive?ack=auto&max=9")
    got = scrape(server)
    assert grown(published, got, "http") == {
        "delivered": 4, "delivered_consume_manual_ack": 4, "acknowledged": 3, "redelivered": 1,
    }  # fmt: skip
    assert got.sum("leveret_rest_leases") == 0
    with requests.get(url(server, f"{queue}/events"), auth=login, stream=True, timeout=10):
        assert scrape(server).sum("leveret_sse_streams") == 1

    before = scrape(server)
    with socket.create_connection(("127.0.0.1", server.ports["stomp"]), timeout=10) as client:
        client.sendall(STOMP)
        received = b""
        while received.count(b"MESSAGE\n") < 2 or received.count(b"RECEIPT\n") < 2:
            received += client.recv(65536)
        ack, nack = re.findall(rb"ack:([^\n]+)", received)
        client.sendall(b"ACK\nid:%s\n\n\0NACK\nid:%s\nrequeue:false\n\n\0" % (ack, nack))
        client.sendall(b"DISCONNECT\nreceipt:c\n\n\0")
        while b"receipt-id:c" not in received:
            received += client.recv(65536)
    now = scrape_when(server, lambda found: found.sum("leveret_connections") == 0, "its end")
    assert grown(before, now, "stomp") == {
        "received": 3, "routed": 2, "unroutable_dropped": 1, "delivered": 2,  # a receipt is no confirm
        "delivered_consume_manual_ack": 2, "acknowledged": 1, "dead_lettered_rejected": 1,
    }  # fmt: skip
    for name in ("metrics-rest", "metrics-stomp"):
        requests.delete(url(server, f"/api/queues/%2F/{name}"), auth=login, timeout=10)


def test_per_object_and_detailed(server: LeveretServer) -> None:
    published = {"vhost": "/", "exchange": ""}
    before = scrape(server, "/metrics/per-object").values.get(
        "rabbitmq_exchange_messages_published_total", []
    )
    earlier = sum(value for labels, value in before if labels.items() >= published.items())
    one = channel(server)
    odd = 'od"d\\name'
    for name in ("a-first", "a-second", odd):
        one.queue_declare(name)
    one.basic_publish("", "a-first", b"x" * 100)
    one.basic_publish("", odd, b"x")
    found = scrape(server, "/metrics/per-object")
    ((labels, channels),) = found.values["rabbitmq_connection_channels"]
    assert channels == 1
    connection = labels["connection"]
    assert found.sum("rabbitmq_queue_messages_ready", vhost="/", queue="a-first") == 1
    assert found.sum("rabbitmq_queue_messages_ready", vhost="/", queue=odd) == 1
    assert found.sum("rabbitmq_queue_messages_published_total", vhost="/", queue="a-first") == 1
    assert found.sum("rabbitmq_queue_info", queue="a-first", queue_type="rabbit_classic_queue") == 1
    assert found.sum("rabbitmq_exchange_messages_published_total", **published) == earlier + 2
    assert found.sum("rabbitmq_channel_messages_published_total", channel=f"{connection} (1)") == 2
    assert found.sum("rabbitmq_identity_info", rabbitmq_endpoint="per-object") == 1
    assert [
        name for name in OVERVIEW_QUERIES if name not in found.values
    ] == []  # the dashboard works with it, too
    detailed = scrape(
        server, "/metrics/detailed?family=queue_coarse_metrics&family=vhost_status&vhost=/&queue=^a-f"
    )
    assert detailed.values.keys() == {
        *IDENTITY, "rabbitmq_detailed_queue_messages_ready", "rabbitmq_detailed_queue_messages_unacked",
        "rabbitmq_detailed_queue_messages", "rabbitmq_detailed_queue_info", "rabbitmq_cluster_vhost_status",
    }  # fmt: skip
    assert [labels for labels, _ in detailed.values["rabbitmq_detailed_queue_messages"]] == [
        {"vhost": "/", "queue": "a-first"}
    ]
    every = "&".join(f"family={name}" for name in (*GROUPS, *CLUSTER, "ra_metrics", "no_such"))
    assert len(scrape(server, f"/metrics/detailed?{every}").values) > 30
    assert scrape(server, "/metrics/detailed").values.keys() == IDENTITY
    assert scrape(server, "/metrics/detailed?family=queue_metrics&vhost=none").values.keys() == IDENTITY
    assert requests.get(url(server, "/metrics/detailed?queue=("), timeout=10).status_code == 400
    assert scrape(server, "/metrics/memory-breakdown").sum("rabbitmq_memory_other_erlang_process_bytes") > 0
    for name in ("a-first", "a-second", odd):
        one.queue_delete(name)
    one.connection.close()


def test_only_some_at_once_per_object(server: LeveretServer) -> None:
    one = channel(server)
    for number in range(3000):
        one.queue_declare(f"scraped-{number}-{'x' * 200}", auto_delete=True, exclusive=True)
    slow = []
    for _ in range(8):
        request = socket.create_connection(("127.0.0.1", server.ports["http"]))
        request.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        request.sendall(b"GET /metrics/per-object HTTP/1.1\r\nHost: h\r\n\r\n")
        slow.append(request)
    statuses = [int(request.recv(12, socket.MSG_WAITALL).split()[1]) for request in slow]
    assert sorted(statuses) == [200] * 4 + [429] * 4
    assert scrape(server).sum("rabbitmq_queues") >= 3000  # the others are not in the way
    for request in slow:
        request.close()
    one.connection.close()
    poll(lambda: requests.get(url(server, "/metrics/per-object"), timeout=10).status_code == 200, "a turn")


def test_door_of_its_own(server: LeveretServer) -> None:
    assert scrape(server, listener="prometheus").sum("rabbitmq_identity_info") == 1
    assert scrape(server, "/metrics/per-object", listener="prometheus").sum("rabbitmq_identity_info") == 1
    for path in ("/api/overview", "/health/live", "/"):
        assert requests.get(url(server, path, "prometheus"), timeout=10).status_code == 404


def test_login_if_it_is_wanted(tmp_path: Path) -> None:
    with LeveretServer(tmp_path / "d", {"LEVERET_HTTP_METRICS_AUTH": "true"}) as server:
        server.ctl("add_user", "plain", "plain")
        for path in ("/metrics", "/metrics/per-object", "/metrics/detailed", "/metrics/memory-breakdown"):
            statuses = [
                requests.get(url(server, path), auth=login, timeout=10).status_code
                for login in (None, ("plain", "plain"), ("guest", "guest"))
            ]
            assert (path, statuses) == (path, [401, 403, 200])

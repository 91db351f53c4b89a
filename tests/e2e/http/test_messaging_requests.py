"""Requests with replies by REST: answered over AMQP, MQTT 5, STOMP and REST; timeouts, clients that leave, no leaks."""

from __future__ import annotations

import base64
import json
import socket
import threading
import urllib.error
import urllib.request
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import quote

import pytest
from support.amqp_peer import Peer
from support.mqtt_peer import MqttPeer
from support.server import LeveretServer, Server, own_server_only, poll
from support.stomp_peer import StompPeer

Connect = Callable[..., Peer]
LOGIN = "Basic " + base64.b64encode(b"guest:guest").decode()

pytestmark = own_server_only("the reference has no REST API for messages")


def port(server: Server, listener: str) -> int:
    assert isinstance(server, LeveretServer)
    return server.ports[listener]


@dataclass
class Call:
    """A request on its way, in a thread of its own."""

    server: Server
    path: str
    body: bytes = b""
    headers: dict[str, str] = field(default_factory=dict)
    status: int = 0
    content: bytes = b""
    answered: dict[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self._thread = threading.Thread(target=self._run)
        self._thread.start()

    def _run(self) -> None:
        request = urllib.request.Request(
            f"http://127.0.0.1:{port(self.server, 'http')}/v1{self.path}", data=self.body,
            headers={"Authorization": LOGIN} | self.headers, method="POST",
        )  # fmt: skip
        try:
            answer = urllib.request.urlopen(request, timeout=20)
        except urllib.error.HTTPError as error:
            answer = error
        with answer:
            self.status, self.content = answer.status, answer.read()
            self.answered = {key.lower(): value for key, value in answer.headers.items()}

    def wait(self) -> Call:
        self._thread.join(20)
        assert not self._thread.is_alive()
        return self


def ask(server: Server, queue: str, query: str = "?timeout=10", **headers: str) -> Call:
    named = {key.replace("_", "-"): value for key, value in headers.items()}
    return Call(server, f"/queues/%2F/{queue}/requests{query}", b"question", named)


def is_gone(peer: Peer, address: str) -> bool:
    """Whether a reply to that address would reach nobody."""
    peer.publish(1, "", address, b"too late", mandatory=True)
    return [event.name for event in peer.barrier()] == ["basic.return"]


def test_an_amqp_service_answers(shared: Server, peer: Peer, name: str) -> None:
    peer.declare(1, name)
    peer.consume(1, name, no_ack=True)
    call = ask(shared, name, X_Leveret_Correlation_Id="c-1", Content_Type="a/b")
    got = peer.deliver()
    assert (got.body, got.properties["content_type"], got.properties["correlation_id"]) == (
        b"question",
        "a/b",
        "c-1",
    )
    peer.publish(1, "", got.properties["reply_to"], b"answer", correlation_id="c-1", content_type="c/d")
    call.wait()
    assert (call.status, call.content, call.answered["content-type"]) == (200, b"answer", "c/d")
    assert call.answered["x-leveret-correlation-id"] == "c-1"
    assert is_gone(peer, got.properties["reply_to"])  # one reply each


def test_an_mqtt_5_device_answers(shared: Server, name: str) -> None:
    with MqttPeer.open(port(shared, "mqtt"), version=5) as device:
        device.subscribed(f"{name}/ask", qos=1)
        call = Call(
            shared, f"/exchanges/%2F/amq.topic/requests?routing_key={name}.ask&timeout=10", b"question",
            {"X-Leveret-Correlation-Id": "c-2", "Content-Type": "a/b"},
        )  # fmt: skip
        message = device.receive(b"question")
        assert message.properties["correlation_data"] == b"c-2"
        assert message.properties["content_type"] == "a/b"
        device.publish(
            message.properties["response_topic"], b"answer", correlation_data=message.properties["correlation_data"],
            content_type="c/d", user_properties=[("k", "v")],
        )  # fmt: skip
        call.wait()
        assert (call.status, call.content, call.answered["content-type"]) == (200, b"answer", "c/d")
        assert call.answered["x-leveret-correlation-id"] == "c-2"
        assert json.loads(call.answered["x-leveret-headers"])["k"] == "v"
        device.disconnect()


def test_a_stomp_client_answers(shared: Server, peer: Peer, name: str) -> None:
    peer.declare(1, name)
    with StompPeer.open(port(shared, "stomp")) as service:
        service.subscribe(f"/amq/queue/{name}")
        call = ask(shared, name)
        message = service.message(b"question")
        service.send(
            "SEND", b"answer", destination=message["reply-to"], correlation_id=message["correlation-id"],
            content_type="c/d", extra="v",
        )  # fmt: skip
        call.wait()
        assert (call.status, call.content, call.answered["content-type"]) == (200, b"answer", "c/d")
        assert json.loads(call.answered["x-leveret-headers"])["extra"] == "v"
        service.goodbye()


def test_a_rest_client_answers(shared: Server, peer: Peer, name: str) -> None:
    peer.declare(1, name)
    call = ask(shared, name)
    poll(lambda: peer.counts(1, name)[0] == 1, "the request")
    worker = Call(shared, f"/queues/%2F/{name}/receive?ack=auto").wait()
    [message] = json.loads(worker.content)["messages"]
    reply_to = message["properties"]["reply_to"]
    address = f"/queues/%2F/{quote(reply_to, safe='')}/messages"
    correlation = message["properties"]["correlation_id"]
    reply = Call(shared, address, b"answer", {"X-Leveret-Correlation-Id": correlation}).wait()
    assert (reply.status, reply.content) == (200, b'{"routed":true}')
    call.wait()
    assert (call.status, call.content) == (200, b"answer")
    late = Call(shared, address, b"again").wait()
    assert (late.status, json.loads(late.content)["error"]) == (404, "not_found")


def test_no_reply_in_time(shared: Server, peer: Peer, name: str) -> None:
    peer.declare(1, name)
    call = ask(shared, name, "?timeout=0.3").wait()
    assert (call.status, json.loads(call.content)["error"]) == (504, "reply_timeout")
    assert call.answered["content-type"] == "application/problem+json"
    poll(lambda: peer.counts(1, name)[0] == 0, "the request expires with it")
    peer.consume(1, name, no_ack=True)
    call = ask(shared, name, "?timeout=0.3")
    address = peer.deliver().properties["reply_to"]
    call.wait()
    assert is_gone(peer, address)


def test_a_client_that_leaves_leaves_nothing_behind(shared: Server, peer: Peer, name: str) -> None:
    peer.declare(1, name)
    peer.consume(1, name, no_ack=True)
    head = (
        f"POST /v1/queues/%2F/{name}/requests?timeout=300 HTTP/1.1\r\nHost: x\r\nAuthorization: {LOGIN}\r\n"
        "Content-Length: 1\r\n\r\n?"
    )
    addresses: list[Any] = []
    for is_reset in (False, True):
        with socket.create_connection(("127.0.0.1", port(shared, "http")), 10) as client:
            client.sendall(head.encode())
            addresses.append(peer.deliver().properties["reply_to"])
            if is_reset:
                client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\x01\x00\x00\x00\x00\x00\x00\x00")
    poll(
        lambda: all(is_gone(peer, address) for address in addresses), "the reply addresses of those who left"
    )


def test_nobody_there_to_ask(shared: Server, name: str) -> None:
    for path, status, error in (
        (f"/queues/%2F/{name}/requests", 404, "not_found"),
        (f"/exchanges/%2F/amq.topic/requests?routing_key={name}", 422, "unroutable"),
    ):
        call = Call(shared, path, b"?").wait()
        assert (call.status, json.loads(call.content)["error"]) == (status, error)


@pytest.mark.parametrize("header", ["X-Leveret-Reply-To", "Idempotency-Key"])
def test_what_makes_no_sense_with_a_reply(shared: Server, peer: Peer, name: str, header: str) -> None:
    peer.declare(1, name)
    call = ask(shared, name, **{header.replace("-", "_"): "x"}).wait()
    assert call.status == 400
    assert peer.counts(1, name)[0] == 0

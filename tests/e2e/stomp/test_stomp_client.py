"""stomp.py, a client many use, doing what its documentation shows: over TCP and TLS, in all versions."""

from __future__ import annotations

import queue
import ssl
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import stomp as stomp_py
import trustme
from e2e.stomp.stomp_broker import VERSIONS, leveret_only
from support.server import LeveretServer, Server, poll
from support.stomp_peer import StompPeer

CONNECTIONS = {"1.0": stomp_py.Connection10, "1.1": stomp_py.Connection11, "1.2": stomp_py.Connection12}


class Listener(stomp_py.ConnectionListener):  # type: ignore[misc]  # of a library without types
    def __init__(self) -> None:
        self.messages: queue.Queue[Any] = queue.Queue()
        self.errors: queue.Queue[Any] = queue.Queue()
        self.receipts: queue.Queue[str] = queue.Queue()
        self.disconnected: queue.Queue[bool] = queue.Queue()

    def on_message(self, frame: Any) -> None:
        self.messages.put(frame)

    def on_error(self, frame: Any) -> None:
        self.errors.put(frame)

    def on_receipt(self, frame: Any) -> None:
        self.receipts.put(frame.headers["receipt-id"])

    def on_disconnected(self) -> None:
        self.disconnected.put(True)

    def message(self) -> Any:
        return self.messages.get(timeout=10)


@pytest.fixture
def client(stomp_port: int) -> Iterator[Callable[..., tuple[Any, Listener]]]:
    connections = []

    def connect(version: str = "1.2", port: int = stomp_port, **options: Any) -> tuple[Any, Listener]:
        tls = options.pop("tls", None)
        if version != "1.0":
            options["vhost"] = "/"  # else it is the host's name
        connection = CONNECTIONS[version]([("127.0.0.1", port)], **options)
        if tls is not None:
            connection.set_ssl([("127.0.0.1", port)], ca_certs=str(tls), ssl_version=ssl.PROTOCOL_TLS_CLIENT)
        listener = Listener()
        connection.set_listener("test", listener)
        connection.connect("guest", "guest", wait=True)
        connections.append(connection)
        return connection, listener

    yield connect
    for connection in connections:
        if connection.is_connected():
            connection.disconnect()
    poll(
        lambda: not any(connection.is_connected() for connection in connections),
        "clients that are still connected",
    )


Client = Callable[..., tuple[Any, Listener]]


@pytest.mark.parametrize("version", VERSIONS)
def test_send_and_subscribe(client: Client, stomp: Callable[..., StompPeer], name: str, version: str) -> None:
    connection, listener = client(version)
    stomp().destinations.add(f"/queue/{name}")
    connection.subscribe(f"/queue/{name}", id="1", ack="auto")
    connection.send(f"/queue/{name}", "grüße: ☃", content_type="text/plain", headers={"color": "blue"})
    frame = listener.message()
    assert frame.body == "grüße: ☃"
    assert frame.headers["color"] == "blue"
    assert frame.headers["destination"] == f"/queue/{name}"
    connection.unsubscribe(id="1")
    connection.disconnect(receipt="bye")
    assert listener.receipts.get(timeout=10) == "bye"


@pytest.mark.parametrize("version", ["1.1", "1.2"])
def test_acks_and_nacks(client: Client, stomp: Callable[..., StompPeer], name: str, version: str) -> None:
    connection, listener = client(version)
    stomp().destinations.add(f"/queue/{name}")
    connection.subscribe(f"/queue/{name}", id="1", ack="client-individual")
    connection.send(f"/queue/{name}", "one")
    first = listener.message()

    def answer(how: Any, frame: Any) -> None:
        if version == "1.2":
            how(frame.headers["ack"])
        else:
            how(frame.headers["message-id"], subscription=frame.headers["subscription"])

    answer(connection.nack, first)
    second = listener.message()
    assert second.headers["redelivered"] == "true"
    answer(connection.ack, second)
    connection.disconnect(receipt="bye")
    assert listener.receipts.get(timeout=10) == "bye"
    other, others = client(version)
    other.subscribe(f"/queue/{name}", id="1")
    other.send(f"/queue/{name}", "two")
    assert others.message().body == "two"


def test_transactions(client: Client, stomp: Callable[..., StompPeer], name: str) -> None:
    connection, listener = client()
    stomp().destinations.add(f"/queue/{name}")
    connection.subscribe(f"/queue/{name}", id="1")
    for text, how in (("no", connection.abort), ("yes", connection.commit)):
        transaction = connection.begin()
        connection.send(f"/queue/{name}", text, transaction=transaction)
        how(transaction)
    assert listener.message().body == "yes"


def test_errors_reach_the_listener(client: Client) -> None:
    connection, listener = client()
    connection.send("/nonsense/x", "x")
    frame = listener.errors.get(timeout=10)
    assert frame.headers["message"] == "Unknown destination"


def test_heart_beats_keep_it_alive(client: Client) -> None:
    connection, listener = client(heartbeats=(1000, 1000))
    with pytest.raises(queue.Empty):
        listener.disconnected.get(timeout=2.2)
    assert connection.is_connected()


def test_topics(client: Client, shared: Server, name: str) -> None:
    connections = [client() for _ in range(3)]
    for connection, _ in connections:
        connection.subscribe(f"/topic/{name}", id="t", headers={"receipt": "s"})
    for _, listener in connections:
        assert listener.receipts.get(timeout=10) == "s"
    connections[0][0].send(f"/topic/{name}", "all")
    assert [listener.message().body for _, listener in connections] == ["all"] * 3


@leveret_only("certificates of its own")
@pytest.mark.parametrize("version", ["1.0", "1.2"])
def test_over_tls(server: Callable[..., LeveretServer], client: Client, tmp_path: Path, version: str) -> None:
    authority = trustme.CA()
    issued = authority.issue_cert("localhost", "127.0.0.1")
    issued.private_key_and_cert_chain_pem.write_to_path(tmp_path / "server.pem")
    authority.cert_pem.write_to_path(tmp_path / "ca.pem")
    mine = server(
        settings={"LEVERET_TLS_CERTFILE": str(tmp_path / "server.pem")}, arguments=["--stomps", "0"]
    )
    connection, listener = client(version, port=mine.ports["stomps"], tls=tmp_path / "ca.pem")
    connection.subscribe("/queue/q", id="1")
    body = "x" * 200_000
    connection.send("/queue/q", body)
    assert listener.message().body == body
    context = ssl.create_default_context()
    authority.configure_trust(context)
    with StompPeer.open(mine.ports["stomps"], tls=context) as peer:
        peer.publish("/queue/q", b"from a peer")
        assert listener.message().body == "from a peer"
        peer.goodbye()

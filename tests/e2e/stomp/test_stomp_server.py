"""What the broker as a whole does to STOMP connections: alarms, certificates as logins, shutdown, listings."""

from __future__ import annotations

import ssl
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import trustme
from e2e.stomp.stomp_broker import leveret_only
from support.server import LeveretServer, Server, poll
from support.stomp_peer import StompClosed, StompPeer

Open = Callable[..., StompPeer]
Start = Callable[..., LeveretServer]


def test_an_alarm_holds_senders_and_nobody_else(stomp: Open, shared: Server, name: str) -> None:
    """No frame says so; SENDs wait, and their receipts come when the alarm is over. Consumers go on."""
    sender, reader = stomp(), stomp()
    sender.publish(f"/queue/{name}", b"before")
    shared.ctl("set_vm_memory_high_watermark", "0.00001")
    try:
        sender.send(
            "SEND", b"first", destination=f"/queue/{name}"
        )  # may be taken yet, and what comes with it
        sender.nothing(0.05)
        sender.send("SEND", b"held", destination=f"/queue/{name}", receipt="held")
        sender.nothing(0.3)
        reader.subscribe(f"/queue/{name}", ack="client-individual")
        reader.ask("ACK", id=reader.message(b"before")["ack"])
    finally:
        shared.ctl("set_vm_memory_high_watermark", "0.6")
    sender.expect("RECEIPT", receipt_id="held", timeout=15)
    reader.message(b"first")
    reader.message(b"held")


@leveret_only("3.10 lists STOMP connections, but not by ctl's columns of 4.x")
def test_connections_are_listed(stomp: Open, shared: Server, name: str) -> None:
    peer = stomp("1.1")
    peer.subscribe(f"/queue/{name}")
    rows = shared.rows("list_connections", "protocol", "user", "vhost", "state")
    assert {"protocol": "STOMP 1.1", "user": "guest", "vhost": "/", "state": "running"} in rows
    (consumer,) = [row for row in shared.rows("list_consumers") if row["queue_name"] == name]
    assert "s" in consumer["consumer_tag"]


@leveret_only("stops its server")
def test_a_shutdown_ends_connections(server: Start) -> None:
    mine = server()
    with StompPeer.open(mine.ports["stomp"]) as peer:
        peer.subscribe("/queue/q", ack="client")
        peer.publish("/queue/q", b"x", persistent="true")
        mine.process.terminate()
        got = [peer.receive().command]
        try:
            while True:
                got.append(peer.receive().command)
        except StompClosed:
            pass
        assert set(got) <= {"MESSAGE", "ERROR"}
    assert mine.process.wait(15) == 0
    mine.kill()
    assert "Traceback" not in mine.errors
    mine.start()
    with StompPeer.open(mine.ports["stomp"]) as peer:
        peer.subscribe("/queue/q")
        peer.message(b"x", redelivered="true")


@leveret_only("certificates of its own")
def test_a_certificate_may_be_the_login(server: Start, tmp_path: Path) -> None:
    authority = trustme.CA()
    issued = authority.issue_cert("localhost", "127.0.0.1")
    issued.private_key_and_cert_chain_pem.write_to_path(tmp_path / "server.pem")
    authority.cert_pem.write_to_path(tmp_path / "ca.pem")
    mine = server(
        settings={
            "LEVERET_TLS_CERTFILE": str(tmp_path / "server.pem"),
            "LEVERET_TLS_CAFILE": str(tmp_path / "ca.pem"),
            "LEVERET_TLS_VERIFY_PEER": "true",
            "LEVERET_STOMP_SSL_CERT_LOGIN": "true",
            "LEVERET_AUTH_CERT_LOGIN_FROM": "common_name",
        },
        arguments=["--stomps", "0"],
    )
    mine.ctl("add_user", "alice", "unused")
    mine.ctl("set_permissions", "-p", "/", "alice", ".*", ".*", ".*")

    def client(name: str | None) -> ssl.SSLContext:
        context = ssl.create_default_context()
        authority.configure_trust(context)
        if name is not None:
            authority.issue_cert(common_name=name).configure_cert(context)
        return context

    def connect(name: str | None, **headers: Any) -> StompPeer:
        peer = StompPeer(mine.ports["stomps"], client(name))
        peer.send("CONNECT", accept_version="1.2", host="/", **headers)
        return peer

    with connect("alice") as peer:
        peer.expect("CONNECTED")
        rows = mine.rows("list_connections", "user", "ssl")
        assert {"user": "alice", "ssl": True} in rows
        peer.goodbye()
    with connect("bob") as peer:
        peer.fault("Bad CONNECT")
    with connect(None) as peer:
        peer.fault("Bad CONNECT")
    with connect("alice", login="guest", passcode="guest") as peer:  # what is said wins
        peer.expect("CONNECTED")
        assert mine.rows("list_connections", "user") == [{"user": "guest"}]


@pytest.mark.parametrize("count", [100])
def test_many_connections_come_and_go(
    stomp: Open, shared: Server, stomp_port: int, name: str, count: int
) -> None:
    peers = [StompPeer.open(stomp_port) for _ in range(count)]
    try:
        for peer in peers:
            peer.subscribe(f"/topic/{name}")
        peers[0].publish(f"/topic/{name}", b"all")
        for peer in peers:
            peer.message(b"all")
    finally:
        for peer in peers:
            peer.close()
    queues = poll(
        lambda: (
            [row["name"] for row in shared.rows("list_queues", "name") if "subscription" in row["name"]] == []
        ),
        "queues of subscriptions that are gone",
    )
    assert queues

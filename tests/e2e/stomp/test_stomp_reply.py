"""Request and reply with temporary queues."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from e2e.stomp.stomp_broker import STOMP_REFERENCE, VERSIONS
from support.amqp_peer import Peer
from support.server import Server
from support.stomp_peer import StompPeer

Open = Callable[..., StompPeer]


@pytest.mark.parametrize("version", VERSIONS)
def test_53_request_and_reply(stomp: Open, name: str, version: str) -> None:
    """The requester gets its reply on /temp-queue/..., without a SUBSCRIBE of its own."""
    server, client = stomp(version), stomp(version)
    server.subscribe(f"/queue/{name}")
    for number in range(3):
        client.send(
            "SEND",
            b"ask %d" % number,
            destination=f"/queue/{name}",
            reply_to="/temp-queue/foo",
            correlation_id="c",
        )
        request = server.message(b"ask %d" % number)
        reply_to = request["reply-to"]
        assert reply_to.startswith("/reply-queue/")
        server.send(
            "SEND", b"answer %d" % number, destination=reply_to, correlation_id=request["correlation-id"]
        )
        reply = client.message(b"answer %d" % number)
        assert reply["subscription"] == "/temp-queue/foo"
        assert reply["correlation-id"] == "c"
        assert reply["destination"] in ("/temp-queue/foo", reply_to, f"/queue/{reply_to.rpartition('/')[2]}")


def test_53_one_queue_per_name_and_session(stomp: Open, shared: Server, name: str) -> None:
    server, client, other = stomp(), stomp(), stomp()
    server.subscribe(f"/queue/{name}")
    addresses = []
    for peer, temporary in ((client, "a"), (client, "a"), (client, "b"), (other, "a")):
        peer.send("SEND", destination=f"/queue/{name}", reply_to=f"/temp-queue/{temporary}")
        addresses.append(server.message()["reply-to"])
    assert addresses[0] == addresses[1]
    assert len(set(addresses)) == 3
    server.send("SEND", b"for b", destination=addresses[2])
    assert client.message(b"for b")["subscription"] == "/temp-queue/b"
    before = {row["name"] for row in shared.rows("list_queues", "name")}
    gone = {address.rpartition("/")[2] for address in addresses}
    assert gone <= before
    client.goodbye()
    other.goodbye()
    assert not gone & {row["name"] for row in shared.rows("list_queues", "name")}


def test_the_reply_queue_is_private(stomp: Open, name: str) -> None:
    server, client = stomp(), stomp()
    server.subscribe(f"/queue/{name}")
    client.send("SEND", destination=f"/queue/{name}", reply_to="/temp-queue/a")
    address = server.message()["reply-to"]
    server.send("SUBSCRIBE", destination=address, id="thief")
    server.expect("ERROR")


def test_a_reply_from_amqp(stomp: Open, connect: Callable[..., Peer], name: str) -> None:
    amqp, client = connect(), stomp()
    amqp.declare(1, name, durable=True)
    client.publish(f"/queue/{name}", b"ask", reply_to="/temp-queue/x", correlation_id="7")
    request = amqp.get(1, name)
    assert request is not None
    reply_to = request.properties["reply_to"]
    queue = reply_to if STOMP_REFERENCE and "/" not in reply_to else reply_to.removeprefix("/reply-queue/")
    amqp.publish(1, "", queue, b"answer", correlation_id="7")
    client.message(b"answer", subscription="/temp-queue/x", correlation_id="7")


def test_other_reply_addresses_pass_as_they_are(stomper: StompPeer, name: str) -> None:
    stomper.subscribe(f"/queue/{name}")
    for address in ("/queue/replies", "/topic/replies", "/exchange/amq.direct/r"):
        stomper.send("SEND", b"x", destination=f"/queue/{name}", reply_to=address)
        assert stomper.message(b"x")["reply-to"] == address

"""AMQP over TLS."""

from __future__ import annotations

import ssl
from collections.abc import Callable
from pathlib import Path

import pika
import pytest
import trustme
from support.amqp_peer import Peer
from support.server import LeveretServer, poll

Start = Callable[..., LeveretServer]


class Authority:
    """A certificate authority, a server's certificate in files, and contexts of clients."""

    def __init__(self, folder: Path) -> None:
        self.authority = trustme.CA()
        self.folder = folder
        self.certificate, self.key, self.root = folder / "cert.pem", folder / "key.pem", folder / "ca.pem"
        self.issue()
        self.authority.cert_pem.write_to_path(self.root)

    def issue(self) -> None:
        """A new certificate for the server, in the place of the old one."""
        issued = self.authority.issue_cert("localhost", "127.0.0.1")
        issued.private_key_pem.write_to_path(self.key)
        for index, blob in enumerate(issued.cert_chain_pems):
            blob.write_to_path(self.certificate, append=index > 0)

    def settings(self, **more: str) -> dict[str, str]:
        files = {"CERTFILE": str(self.certificate), "KEYFILE": str(self.key), "CAFILE": str(self.root)}
        return {f"LEVERET_TLS_{key}": value for key, value in (files | more).items()}

    def client(self, name: str | None = None) -> ssl.SSLContext:
        """A client's context, with a certificate for `name`."""
        context = ssl.create_default_context()
        self.authority.configure_trust(context)
        if name is not None:
            self.authority.issue_cert(common_name=name).configure_cert(context)
        return context


@pytest.fixture
def authority(tmp_path: Path) -> Authority:
    return Authority(tmp_path)


def start(server: Start, authority: Authority, **settings: str) -> LeveretServer:
    return server(settings=authority.settings(**settings), arguments=["--amqps", "0"])


def tls_peer(mine: LeveretServer, context: ssl.SSLContext) -> Peer:
    return Peer.open(mine.ports["amqps"], tls=context)


def test_both_doors_lead_to_the_same_broker(server: Start, authority: Authority) -> None:
    mine = start(server, authority)
    with tls_peer(mine, authority.client()) as secret, mine.peer() as plain:
        secret.declare(1, "q", auto_delete=True)
        secret.confirm()
        body = bytes(range(256)) * 10_000  # many records, both ways
        secret.publish_confirmed(1, "", "q", body)
        assert plain.drain(1, "q") == [body]
        plain.confirm()
        plain.publish_confirmed(1, "", "q", body)
        assert secret.drain(1, "q") == [body]


def test_pika(server: Start, authority: Authority) -> None:
    mine = start(server, authority)
    parameters = pika.ConnectionParameters(
        "127.0.0.1", mine.ports["amqps"], ssl_options=pika.SSLOptions(authority.client(), "localhost")
    )
    with pika.BlockingConnection(parameters) as connection:
        channel = connection.channel()
        channel.queue_declare("q", exclusive=True)
        channel.basic_publish("", "q", b"x")
        assert poll(lambda: channel.basic_get("q", auto_ack=True)[2], "nothing came") == b"x"


def test_plain_octets_on_the_tls_port(server: Start, authority: Authority) -> None:
    mine = start(server, authority)
    with Peer(mine.ports["amqps"]) as peer:
        peer.send_raw(b"AMQP\0\0\x09\x01")
        peer.expect_eof()
    tls_peer(mine, authority.client()).close()
    assert "Traceback" not in mine.errors


def test_a_client_that_only_connects(server: Start, authority: Authority) -> None:
    mine = start(server, authority)
    silent = Peer(mine.ports["amqps"])
    with tls_peer(mine, authority.client()) as peer:
        peer.barrier()
    silent.close()


def test_a_certificate_may_be_demanded(server: Start, authority: Authority) -> None:
    mine = start(server, authority, VERIFY_PEER="true", FAIL_IF_NO_PEER_CERT="true")
    with tls_peer(mine, authority.client("alice")) as peer:
        peer.barrier()
    with pytest.raises((ssl.SSLError, ConnectionError, AssertionError)):
        tls_peer(mine, authority.client())
    stranger = authority.client()
    trustme.CA().issue_cert("mallory").configure_cert(stranger)
    with pytest.raises((ssl.SSLError, ConnectionError, AssertionError)):
        tls_peer(mine, stranger)


def test_a_certificate_may_be_enough(server: Start, authority: Authority) -> None:
    # EXTERNAL
    mine = start(server, authority, VERIFY_PEER="true")
    mine.ctl("add_user", "CN=alice,O=trustme v1.2.1", "unused", check=False)
    with Peer(mine.ports["amqps"], tls=authority.client("alice")) as peer:
        peer.say_hello()
        assert "EXTERNAL" in peer.start["mechanisms"].decode().split()
    with Peer(mine.port) as peer:
        peer.say_hello()
        assert "EXTERNAL" not in peer.start["mechanisms"].decode().split()


def test_old_protocol_versions_are_refused(server: Start, authority: Authority) -> None:
    mine = start(server, authority, MIN_VERSION="TLSv1.3")
    old = authority.client()
    old.maximum_version = ssl.TLSVersion.TLSv1_2
    with pytest.raises((ssl.SSLError, ConnectionError)):
        Peer(mine.ports["amqps"], tls=old)
    tls_peer(mine, authority.client()).close()


def test_without_a_certificate_the_server_does_not_start(server: Start, tmp_path: Path) -> None:
    with pytest.raises(AssertionError, match="did not start"):
        server(arguments=["--amqps", "0"])


def test_a_shutdown_says_goodbye(server: Start, authority: Authority) -> None:
    mine = start(server, authority)
    with tls_peer(mine, authority.client()) as peer:
        mine.process.terminate()
        assert peer.expect(0, "connection.close").reply_code == 320
        peer.send(0, "connection.close-ok")
    assert mine.process.wait(10) == 0

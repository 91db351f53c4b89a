"""Transports: plain and TLS in the same shape; the peer is trio's own SSLStream."""

from __future__ import annotations

import socket
import ssl

import pytest
import trio
import trustme

from leveret.adapters.transport import PlainTransport, TlsTransport, Transport


def pair() -> tuple[socket.socket, trio.SocketStream]:
    ours, theirs = socket.socketpair()
    theirs.setblocking(False)
    return ours, trio.SocketStream(trio.socket.from_stdlib_socket(theirs))


async def send_all(transport: Transport, data: bytes) -> None:
    rest = memoryview(data)
    while rest or transport.has_unsent:
        sent = transport.send_nowait(rest) if rest else transport.send_vector_nowait([])  # type: ignore[arg-type]
        rest = rest[sent:]
        if rest or transport.has_unsent:
            await transport.wait_writable()


async def receive_all(transport: Transport, size: int) -> bytes:
    data = b""
    while len(data) < size:
        chunk = await transport.receive()
        assert chunk
        data += chunk
    return data


async def test_plain_round_trip_and_end() -> None:
    ours, theirs = pair()
    transport = PlainTransport(ours)
    payload = bytes(range(256)) * 4000
    async with trio.open_nursery() as nursery:
        nursery.start_soon(theirs.send_all, payload)
        assert await receive_all(transport, len(payload)) == payload
        nursery.start_soon(send_all, transport, payload)
        received = b""
        while len(received) < len(payload):
            received += await theirs.receive_some()
        assert received == payload
        await theirs.aclose()
        assert await transport.receive() == b""
    transport.close()


class Secure:
    """A server transport and a client stream that trust each other."""

    def __init__(self, *, client_certificate: bool = False) -> None:
        authority = trustme.CA()
        server_context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        authority.issue_cert("leveret.example").configure_cert(server_context)
        client_context = ssl.create_default_context()
        authority.configure_trust(client_context)
        if client_certificate:
            authority.configure_trust(server_context)
            server_context.verify_mode = ssl.CERT_REQUIRED
            authority.issue_cert("device-7.example", common_name="device-7").configure_cert(client_context)
        ours, theirs = pair()
        self.transport = TlsTransport(PlainTransport(ours), server_context)
        self.stream = trio.SSLStream(
            theirs, client_context, server_hostname="leveret.example", https_compatible=True
        )

    async def connect(self) -> None:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self.stream.do_handshake)
            await self.transport.handshake()


@pytest.mark.parametrize("size", [1, 16384, 1_000_000])
async def test_tls_round_trip(size: int) -> None:
    secure = Secure()
    await secure.connect()
    payload = b"x" * size
    async with trio.open_nursery() as nursery:
        nursery.start_soon(secure.stream.send_all, payload)
        assert await receive_all(secure.transport, size) == payload
        nursery.start_soon(send_all, secure.transport, payload)
        received = b""
        while len(received) < size:
            received += await secure.stream.receive_some()
    assert received == payload
    assert secure.transport.tls_info["ssl_protocol"] == "TLSv1.3"
    await secure.stream.aclose()
    assert await secure.transport.receive() == b""
    secure.transport.close()


async def test_the_client_certificate_is_there_for_auth() -> None:
    secure = Secure(client_certificate=True)
    await secure.connect()
    certificate = secure.transport.certificate
    assert certificate is not None
    subject = dict(pair for part in certificate["subject"] for pair in part)  # type: ignore[attr-defined]
    assert subject["commonName"] == "device-7"
    await secure.stream.aclose()
    secure.transport.close()


async def test_a_plain_client_on_the_tls_door_fails_its_handshake_only() -> None:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    trustme.CA().issue_cert("leveret.example").configure_cert(context)
    ours, theirs = pair()
    transport = TlsTransport(PlainTransport(ours), context)
    await theirs.send_all(b"AMQP\x00\x00\x09\x01")
    with pytest.raises(ssl.SSLError):
        await transport.handshake()
    transport.close()
    await theirs.aclose()


async def test_receive_and_handshake_can_be_cancelled() -> None:
    secure = Secure()
    with trio.move_on_after(0.01) as scope:
        await secure.transport.handshake()
    assert scope.cancelled_caught
    secure.transport.close()
    await trio.aclose_forcefully(secure.stream)
    secure = Secure()
    await secure.connect()
    with trio.move_on_after(0.01) as scope:
        await secure.transport.receive()
    assert scope.cancelled_caught
    secure.transport.close()
    await trio.aclose_forcefully(secure.stream)

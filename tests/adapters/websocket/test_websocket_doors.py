"""The real listener with an echo behind its WebSocket listeners: real sockets, real clocks, TLS."""

from __future__ import annotations

import logging
import socket
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path

import pytest
import trio
import trio.testing
import trustme
from support.websocket_echo import echo_doors
from support.websocket_peer import (
    BINARY,
    CLOSE,
    TEXT,
    Frame,
    StreamPeer,
    basic,
    close_payload,
    frame,
    request,
)

from leveret.adapters.base import OpenListener
from leveret.conf.settings import Settings, Tls, Websocket


@asynccontextmanager
async def peer_of(listener: OpenListener, context: ssl.SSLContext | None = None) -> AsyncIterator[StreamPeer]:
    stream: trio.abc.Stream = await trio.open_tcp_stream("127.0.0.1", listener.port)
    if context is not None:
        stream = trio.SSLStream(stream, context, server_hostname="localhost", https_compatible=True)
    try:
        yield StreamPeer(stream)
    finally:
        await trio.aclose_forcefully(stream)


def settings(**changes: object) -> Settings:
    return replace(Settings(), websocket=replace(Websocket(), **changes))  # type: ignore[arg-type]


async def test_echo() -> None:
    async with echo_doors(settings()) as (adapter, listeners, _), peer_of(listeners["echo"]) as peer:
        response = await peer.open(subprotocols=["mqtt"], Authorization=basic("me", "secret"))
        assert response.headers["sec-websocket-protocol"] == "mqtt"
        await peer.send(b"hello")
        assert await peer.read() == Frame(BINARY, b"hello")
        assert adapter.transports[0].http_login == ("me", "secret")
        assert adapter.transports[0].peer == peer.stream.socket.getsockname()  # type: ignore[attr-defined]
        await peer.send(close_payload(1000), CLOSE)
        assert await peer.read() == Frame(CLOSE, close_payload(1000))
        assert await peer.read() is None
    assert adapter.ends == ["end"]


@pytest.mark.parametrize("piece", [1, 7, 100_000])
async def test_much_in_pieces(piece: int) -> None:
    total = 3_000 if piece < 100 else 5_000_000
    data = bytes(index % 253 for index in range(1000)) * (total // 1000)
    wire = b"".join(frame(data[at : at + 9_999]) for at in range(0, len(data), 9_999))
    async with echo_doors(settings()) as (_, listeners, _), peer_of(listeners["echo"]) as peer:
        await peer.open()

        async def send() -> None:
            for at in range(0, len(wire), piece):
                await peer.stream.send_all(wire[at : at + piece])

        received = b""
        with trio.fail_after(20):
            async with trio.open_nursery() as nursery:
                nursery.start_soon(send)
                while len(received) < len(data):
                    message = await peer.read()
                    assert message is not None
                    received += message.payload
        assert received == data


async def test_text() -> None:
    async with echo_doors(settings()) as (_, listeners, _), peer_of(listeners["echo-text"]) as peer:
        await peer.open(subprotocols=["v12.stomp"])
        await peer.send("h\u00e9llo".encode(), TEXT)
        assert await peer.read() == Frame(TEXT, "h\u00e9llo".encode())
        await peer.send(b"\xff", BINARY)
        assert await peer.read() == Frame(BINARY, b"\xff")


async def test_text_is_refused_where_it_is_none() -> None:
    async with echo_doors(settings()) as (_, listeners, _), peer_of(listeners["echo"]) as peer:
        await peer.open()
        await peer.send(b"text", TEXT)
        closing = await peer.read()
        assert closing is not None
        assert closing.close_code == 1003
        await peer.send(close_payload(1003), CLOSE)


async def test_over_tls(tmp_path: Path) -> None:
    authority = trustme.CA()
    certificate = authority.issue_cert("localhost")
    certificate.private_key_and_cert_chain_pem.write_to_path(tmp_path / "server.pem")
    context = ssl.create_default_context()
    authority.configure_trust(context)
    secured = replace(settings(), tls=replace(Tls(), certfile=str(tmp_path / "server.pem")))
    async with (
        echo_doors(secured) as (adapter, listeners, _),
        peer_of(listeners["echo-tls"], context) as peer,
    ):
        await peer.open(subprotocols=["mqtt"])
        data = bytes(range(256)) * 1000
        received = b""
        async with trio.open_nursery() as nursery:
            nursery.start_soon(peer.send, data)
            while len(received) < len(data):
                message = await peer.read()
                assert message is not None
                received += message.payload
        assert received == data
        assert adapter.transports[0].tls_info["ssl_protocol"] == "TLSv1.3"
        await peer.send(b"", CLOSE)
        assert await peer.read() == Frame(CLOSE, b"")
        assert await peer.read() is None


@pytest.mark.parametrize(
    ("data", "status"),
    [
        (request("/other"), 404),
        (request(Origin="https://evil.example"), 403),
        (request(Sec_WebSocket_Version="7"), 426),
        (request(Upgrade=None), 400),
        (b"garbage\r\n\r\n", 400),
        (b"GET /ws HTTP/1.1\r\nX: " + b"x" * 20_000, 431),
        (request(Cookie="x" * 17_000), 431),
    ],
)
async def test_a_refusal_is_answered_and_the_next_is_served(
    data: bytes, status: int, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "leveret.adapters")
    async with echo_doors(settings(origins=("https://app.example",))) as (adapter, listeners, _):
        async with peer_of(listeners["echo"]) as peer:
            assert (await peer.ask(data)).status == status
            await peer.stream.send_eof()  # type: ignore[attr-defined]
            assert await peer.read() is None
        async with peer_of(listeners["echo"]) as peer:
            await peer.open()
        assert len(adapter.transports) == 1
    refusals = [record for record in caplog.records if "refused" in record.getMessage()]
    assert len(refusals) == 1
    assert f"WebSocket upgrade refused: {status}" in refusals[0].getMessage()


async def test_a_slow_handshake_ends(autojump_clock: trio.testing.MockClock) -> None:
    async with echo_doors(settings(handshake_timeout_s=3.0)) as (adapter, listeners, _):
        async with peer_of(listeners["echo"]) as peer:
            started = trio.current_time()
            for byte in request()[:5]:
                await peer.stream.send_all(bytes([byte]))
                await trio.sleep(0.5)
            assert (await peer.response()).status == 408
            assert trio.current_time() - started == pytest.approx(3.0, abs=0.2)
            assert await peer.read() is None  # though we never left
            assert trio.current_time() - started == pytest.approx(5.0, abs=0.2)
        assert not adapter.transports


async def test_who_leaves_during_the_handshake_hurts_nobody(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.WARNING, "leveret.adapters")
    async with echo_doors(settings()) as (_, listeners, _):
        for data in (b"", request()[:20]):
            async with peer_of(listeners["echo"]) as peer:
                await peer.stream.send_all(data)
        reset = socket.create_connection(("127.0.0.1", listeners["echo"].port))
        reset.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
        reset.close()
        async with peer_of(listeners["echo"]) as peer:
            await peer.open()
            await peer.send(b"served")
            assert await peer.read() == Frame(BINARY, b"served")
    assert not caplog.records


async def test_shutdown_says_going_away() -> None:
    async with echo_doors(settings()) as (adapter, listeners, scope), peer_of(listeners["echo"]) as peer:
        await peer.open()
        await peer.send(b"x")
        await peer.read()
        scope.cancel()
        await trio.testing.wait_all_tasks_blocked()  # the listeners are shut, the connection drains
        adapter.transports[0].close()
        assert await peer.read() == Frame(CLOSE, close_payload(1001))


async def test_shutdown_does_not_wait_for_handshakes(autojump_clock: trio.testing.MockClock) -> None:
    async with echo_doors(settings()) as (_, listeners, scope), peer_of(listeners["echo"]) as peer:
        await peer.stream.send_all(request()[:20])
        await trio.testing.wait_all_tasks_blocked()
        before = trio.current_time()
        scope.cancel()
        assert await peer.stream.receive_some() == b""
        assert trio.current_time() == before

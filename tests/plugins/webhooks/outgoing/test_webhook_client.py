"""The HTTP client against endpoints that fail, stall, redirect and lie."""

from __future__ import annotations

import gzip
import socket
import ssl
import struct
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager

import pytest
import trio
import trio.lowlevel
import trustme
from support.hook_receiver import RawReceiver, Received, raw_receiver, reply, serve_on

from leveret.plugins.webhooks.outgoing import client
from leveret.plugins.webhooks.outgoing.addresses import AddressPolicy
from leveret.plugins.webhooks.outgoing.client import Connection, Reply
from leveret.plugins.webhooks.outgoing.connector import Connector, RequestFailed, Target

LOCAL = AddressPolicy(["127.0.0.0/8"])


@asynccontextmanager
async def connected(url: str, connector: Connector | None = None) -> AsyncIterator[Connection]:
    connection = Connection(connector or Connector(LOCAL), Target.of(url))
    try:
        yield connection
    finally:
        connection.close()


async def post(connection: Connection, body: bytes = b"hello", timeout_s: float = 2.0) -> Reply:
    return await connection.request("POST", [("X-Test", "1")], body, timeout_s=timeout_s, snippet_bytes=10)


async def silent(stream: trio.abc.Stream, request: Received) -> None:
    await trio.sleep_forever()


async def answered(data: bytes) -> Reply | RequestFailed:
    """What the client makes of these bytes."""

    async def script(stream: trio.abc.Stream, request: Received) -> bool:
        await stream.send_all(data)
        return True

    async with raw_receiver(script) as receiver, connected(receiver.url) as connection:
        try:
            return await post(connection)
        except RequestFailed as error:
            return error


async def test_a_request_as_the_endpoint_sees_it() -> None:
    async def script(stream: trio.abc.Stream, request: Received) -> None:
        await stream.send_all(reply(200, b"thanks and more than ten", X_Reply="r"))

    async with raw_receiver(script) as receiver, connected(receiver.url + "?q=%20") as connection:
        first = await post(connection, b"\x00\xff" * 100_000)
        assert (first.status, first.snippet, first.headers["x-reply"], first.note) == (
            200, b"thanks and", "r", "",
        )  # fmt: skip
        await post(connection, b"")
    one, other = receiver.received
    assert (one.method, one.path, one.body, other.body) == ("POST", "/hook?q=%20", b"\x00\xff" * 100_000, b"")
    assert one.headers == {"host": f"127.0.0.1:{receiver.port}", "x-test": "1", "content-length": "200000"}
    assert receiver.connections == 1  # kept


@pytest.mark.parametrize("status", [301, 302, 307, 308])
async def test_redirects_are_not_followed(status: int) -> None:
    async def script(stream: trio.abc.Stream, request: Received) -> None:
        await stream.send_all(reply(status, Location=f"http://127.0.0.1:{receiver.port}/elsewhere"))

    async with raw_receiver(script) as receiver, connected(receiver.url) as connection:
        assert (await post(connection)).status == status
        await trio.sleep(0.05)
    assert [one.path for one in receiver.received] == ["/hook"]


@pytest.mark.parametrize(
    "data",
    [b"", b"HTTP/1.1 200", b"HTTP/1.1 200 OK\r\nContent-Le", b"nonsense\r\n\r\n", b"SSH-2.0-x\r\n", b"\x00" * 100,
     b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\nContent-Length: 6\r\n\r\n", b"HTTP/1.1 999999 X\r\n\r\n",
     b"HTTP/1.1 200 OK\r\n" + b"X: y\r\n" * 10_000, b"HTTP/1.1 100 Continue\r\n\r\n" * 100,
     b"HTTP/1.1 200 OK\r\nContent-Length: -1\r\n\r\n", b"HTTP/1.1 101 Switching Protocols\r\n\r\n"],
)  # fmt: skip
async def test_what_is_no_answer(data: bytes) -> None:
    found = await answered(data)
    assert isinstance(found, RequestFailed)
    assert found.reason in ("closed", "protocol")


async def test_provisional_answers_are_passed_over() -> None:
    found = await answered(b"HTTP/1.1 103 Early Hints\r\n\r\n" * 3 + reply(204))
    assert isinstance(found, Reply)
    assert found.status == 204


@pytest.mark.parametrize(
    ("data", "note"),
    [
        (b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nshort", "the answer is not HTTP"),
        (
            b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nabcde\r\nzz\r\n",
            "the answer is not HTTP",
        ),
        (b"HTTP/1.1 200 OK\r\n\r\nuntil the end", ""),
    ],
)
async def test_the_status_stands_whatever_the_body_does(data: bytes, note: str) -> None:
    found = await answered(data)
    assert isinstance(found, Reply)
    assert found.status == 200
    assert found.note.startswith(note)
    assert bool(found.note) == bool(note)


async def test_a_huge_body_is_not_read(monkeypatch: pytest.MonkeyPatch) -> None:
    sent = 0

    async def script(stream: trio.abc.Stream, request: Received) -> bool:
        nonlocal sent
        await stream.send_all(b"HTTP/1.1 500 X\r\nContent-Length: 10000000000\r\n\r\n")
        while True:
            await stream.send_all(bytes(65536))
            sent += 65536

    async with raw_receiver(script) as receiver, connected(receiver.url) as connection:
        found = await post(connection)
        assert (found.status, found.snippet, found.note) == (
            500, bytes(10), "the body is longer than 65536 bytes",
        )  # fmt: skip
    assert sent < 16 << 20  # what fits into the kernel's buffers


async def test_a_slow_head_is_a_timeout() -> None:
    async def script(stream: trio.abc.Stream, request: Received) -> bool:
        for byte in b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n" * 10:
            await stream.send_all(bytes((byte,)))
            await trio.sleep(0.05)
        return True

    async with raw_receiver(script) as receiver, connected(receiver.url) as connection:
        with pytest.raises(RequestFailed) as error:
            await post(connection, timeout_s=0.2)
        assert (error.value.reason, str(error.value)) == ("timeout", "no answer within 0.2 s")


async def test_a_body_that_drips_does_not_hold_the_worker(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(client, "BODY_TIMEOUT_S", 0.1)

    async def script(stream: trio.abc.Stream, request: Received) -> bool:
        await stream.send_all(b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n")
        while True:
            await stream.send_all(b"x")
            await trio.sleep(0.01)

    async with raw_receiver(script) as receiver, connected(receiver.url) as connection:
        found = await post(connection)
        assert (found.status, found.note) == (200, "the body did not end within 0.1 s")


async def test_silence_is_a_timeout() -> None:
    async with raw_receiver(silent) as receiver, connected(receiver.url) as connection:
        with pytest.raises(RequestFailed) as error:
            await post(connection, timeout_s=0.1)
        assert error.value.reason == "timeout"


async def test_an_early_answer_to_a_large_request() -> None:
    """It answers 413 and hangs up without reading the body."""

    async def serve(stream: trio.SocketStream) -> None:
        async with stream:
            await stream.receive_some(1000)
            await stream.send_all(reply(413, b"too much", Connection="close"))
            await stream.send_eof()
            with trio.move_on_after(0.3):
                while await stream.receive_some(65536):
                    pass

    receiver = RawReceiver(silent)
    async with trio.open_nursery() as nursery:
        receiver.port = await serve_on(nursery, serve)
        async with connected(receiver.url) as connection:
            assert (await post(connection, bytes(32 << 20), timeout_s=5)).status == 413
        nursery.cancel_scope.cancel()


async def test_an_early_refusal_of_a_large_request_is_heard_while_sending() -> None:
    """It answers 413, reads no further, and does not hang up either."""

    async def serve(stream: trio.SocketStream) -> None:
        async with stream:
            await stream.receive_some(1000)
            await stream.send_all(reply(413, b"too much"))
            await trio.sleep_forever()

    async with trio.open_nursery() as nursery:
        port = await serve_on(nursery, serve)
        async with connected(f"http://127.0.0.1:{port}/") as connection:
            with trio.fail_after(2):
                assert (await post(connection, bytes(32 << 20), timeout_s=5)).status == 413
            assert connection._stream is None  # half a request is on it
        nursery.cancel_scope.cancel()


@pytest.mark.parametrize("ending", ["stalls", "hangs up"])
async def test_a_success_that_comes_before_the_whole_request_is_none(ending: str) -> None:
    """Whoever has not read the body cannot have checked its signature, nor kept it."""

    async def serve(stream: trio.SocketStream) -> None:
        async with stream:
            await stream.receive_some(1000)
            await stream.send_all(reply(200))
            if ending == "stalls":
                await trio.sleep_forever()

    async with trio.open_nursery() as nursery:
        port = await serve_on(nursery, serve)
        async with connected(f"http://127.0.0.1:{port}/") as connection:
            with pytest.raises(RequestFailed) as error:
                await post(connection, bytes(32 << 20), timeout_s=0.3)
            assert error.value.reason in ("timeout", "protocol", "closed")
        nursery.cancel_scope.cancel()


async def test_a_success_that_comes_early_counts_when_the_rest_was_taken_too() -> None:
    async def serve(stream: trio.SocketStream) -> None:
        async with stream:
            await stream.send_all(reply(200))
            while await stream.receive_some(1 << 20):
                pass

    async with trio.open_nursery() as nursery:
        port = await serve_on(nursery, serve)
        async with connected(f"http://127.0.0.1:{port}/") as connection:
            assert (await post(connection, bytes(8 << 20), timeout_s=5)).status == 200
        nursery.cancel_scope.cancel()


@pytest.mark.parametrize("is_late", [False, True])
async def test_an_answer_nobody_asked_for_is_not_the_next_requests(is_late: bool) -> None:
    """Two answers to one request: the second would acknowledge a message that nobody has seen."""

    async def script(stream: trio.abc.Stream, request: Received) -> None:
        if receiver.connections > 1:
            await stream.send_all(reply(500))
        elif is_late:
            await stream.send_all(reply(200))
            await trio.sleep(0.02)
            await stream.send_all(reply(200))
        else:
            await stream.send_all(reply(200) + reply(200))

    async with raw_receiver(script) as receiver, connected(receiver.url) as connection:
        assert (await post(connection)).status == 200
        await trio.sleep(0.1)
        assert (await post(connection)).status == 500
    assert receiver.connections == 2


async def test_a_connection_reset_between_requests_is_replaced_without_a_second_request() -> None:
    async def script(stream: trio.abc.Stream, request: Received) -> bool:
        assert isinstance(stream, trio.SocketStream)
        await stream.send_all(reply(200))
        stream.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        return True

    async with raw_receiver(script) as receiver, connected(receiver.url) as connection:
        for _ in range(3):
            assert (await post(connection)).status == 200
            await trio.sleep(0.02)
    assert (receiver.connections, len(receiver.received)) == (3, 3)


async def test_a_reset_before_the_answer_of_a_kept_connection_is_tried_once_more_and_of_a_new_one_not() -> (
    None
):
    async def script(stream: trio.abc.Stream, request: Received) -> bool:
        if len(receiver.received) == 1:
            await stream.send_all(reply(200))
            return False
        return True

    async with raw_receiver(script) as receiver, connected(receiver.url) as connection:
        assert (await post(connection)).status == 200
        with pytest.raises(RequestFailed) as error:
            await post(connection)
        assert error.value.reason == "closed"
    assert (receiver.connections, len(receiver.received)) == (2, 3)


async def test_a_bomb_stays_what_it_is() -> None:
    """Nothing is decompressed, and nothing that could be is asked for."""
    bomb = gzip.compress(bytes(10 << 20))

    async def script(stream: trio.abc.Stream, request: Received) -> None:
        assert "accept-encoding" not in request.headers
        await stream.send_all(reply(200, bomb, Content_Encoding="gzip"))

    async with raw_receiver(script) as receiver, connected(receiver.url) as connection:
        found = await post(connection)
        assert (found.status, found.snippet) == (200, bomb[:10])


async def test_connecting_has_a_time_of_its_own() -> None:
    async def open(target: Target) -> trio.abc.Stream:
        await trio.sleep_forever()
        raise AssertionError

    connector = Connector(LOCAL)
    connector.open = open  # type: ignore[method-assign]
    connection = Connection(connector, Target.of("http://127.0.0.1:1/"), connect_timeout_s=0.05)
    with pytest.raises(RequestFailed) as error:
        await post(connection, timeout_s=5)
    assert (error.value.reason, str(error.value)) == ("connect", "no connection within 0.05 s")


async def test_a_kept_connection_that_was_closed_is_replaced() -> None:
    async def script(stream: trio.abc.Stream, request: Received) -> bool:
        await stream.send_all(reply(200))
        return True  # and closes, although it did not say so

    async with raw_receiver(script) as receiver, connected(receiver.url) as connection:
        for _ in range(3):
            assert (await post(connection)).status == 200
            await trio.sleep(0.02)
    assert receiver.connections == 3
    assert len(receiver.received) == 3


@pytest.mark.parametrize(
    "answer", [reply(200, Connection="close"), b"HTTP/1.0 200 OK\r\nContent-Length: 0\r\n\r\n"]
)
async def test_a_connection_that_ends_is_not_kept(answer: bytes) -> None:
    async def script(stream: trio.abc.Stream, request: Received) -> None:
        await stream.send_all(answer)

    async with raw_receiver(script) as receiver, connected(receiver.url) as connection:
        for _ in range(2):
            await post(connection)
    assert receiver.connections == 2


@pytest.mark.parametrize("value", ["a\r\nX-Evil: 1", "a\nb", "a\rb", "a\0b"])
async def test_no_header_can_bring_another(value: str) -> None:
    """Values are checked long before; this is the last line."""
    async with raw_receiver(silent) as receiver, connected(receiver.url) as connection:
        with pytest.raises(RequestFailed, match="line break"):
            await connection.request("POST", [("X-A", value)], b"", timeout_s=2, snippet_bytes=0)
    assert receiver.received == []


async def test_nobody_listens() -> None:
    async with raw_receiver(silent) as receiver:
        url = receiver.url
    async with connected(url) as connection:
        with pytest.raises(RequestFailed) as error:
            await post(connection)
    assert error.value.reason == "connect"


async def test_cancelled_in_the_middle_the_connection_is_gone() -> None:
    async def script(stream: trio.abc.Stream, request: Received) -> None:
        if len(receiver.received) == 1:
            await trio.sleep_forever()
        await stream.send_all(reply(200, request.body))

    async with raw_receiver(script) as receiver, connected(receiver.url) as connection:
        with trio.move_on_after(0.05):
            await post(connection, b"first")
        assert (await post(connection, b"second")).snippet == b"second"


# -- TLS


@asynccontextmanager
async def tls_receiver(context: ssl.SSLContext) -> AsyncIterator[RawReceiver]:
    async def script(stream: trio.abc.Stream, request: Received) -> None:
        await stream.send_all(reply(200, b"secret"))

    receiver = RawReceiver(script)

    async def serve(stream: trio.SocketStream) -> None:
        tls = trio.SSLStream(stream, context, server_side=True, https_compatible=True)
        try:
            await tls.do_handshake()
            await receiver.serve(tls)
        except (trio.BrokenResourceError, ssl.SSLError):
            await trio.aclose_forcefully(tls)

    async with trio.open_nursery() as nursery:
        receiver.port = await serve_on(nursery, serve)
        yield receiver
        nursery.cancel_scope.cancel()


def server_context(authority: trustme.CA, *names: str) -> tuple[ssl.SSLContext, list[str | None]]:
    """And what names clients have asked for (SNI)."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert(*names).configure_cert(context)
    asked: list[str | None] = []
    context.sni_callback = lambda sslobj, name, context: asked.append(name)
    return context, asked


async def loopback(host: str, port: int) -> Sequence[str]:
    await trio.lowlevel.checkpoint()
    return ["127.0.0.1"]


async def test_tls_with_the_name_kept_although_the_address_is_pinned() -> None:
    authority = trustme.CA()
    context, asked = server_context(authority, "hooks.example")
    with authority.cert_pem.tempfile() as ca_file:
        connector = Connector(LOCAL, ca_file=ca_file, resolve=loopback)
        async with tls_receiver(context) as receiver:
            async with connected(f"https://hooks.example:{receiver.port}/x", connector) as connection:
                for _ in range(2):
                    assert (await post(connection)).snippet == b"secret"
            assert receiver.received[0].headers["host"] == f"hooks.example:{receiver.port}"
            assert (asked, receiver.connections) == (["hooks.example"], 1)


@pytest.mark.parametrize("case", ["unknown authority", "other name"])
async def test_tls_is_verified(case: str) -> None:
    authority = trustme.CA()
    context, _ = server_context(authority, "other.example" if case == "other name" else "hooks.example")
    trusted = authority if case == "other name" else trustme.CA()
    with trusted.cert_pem.tempfile() as ca_file:
        connector = Connector(LOCAL, ca_file=ca_file, resolve=loopback)
        async with (
            tls_receiver(context) as receiver,
            connected(f"https://hooks.example:{receiver.port}/", connector) as connection,
        ):
            with pytest.raises(RequestFailed) as error:
                await post(connection)
            assert error.value.reason == "tls"
            assert receiver.received == []


async def test_tls_to_somebody_who_speaks_none() -> None:
    async def serve(stream: trio.SocketStream) -> None:
        async with stream:
            await stream.receive_some(1000)
            await stream.send_all(b"HTTP/1.1 400 Bad Request\r\n\r\n")

    async with trio.open_nursery() as nursery:
        port = await serve_on(nursery, serve)
        async with connected(f"https://127.0.0.1:{port}/") as connection:
            with pytest.raises(RequestFailed) as error:
                await post(connection)
            assert error.value.reason == "tls"
        nursery.cancel_scope.cancel()


@pytest.mark.parametrize(
    "url", ["https://example.com:eighty/", "https://example.com:65536/", "https://[::1/"]
)
def test_an_invalid_host_or_port_is_refused_in_a_sentence_of_our_own(url: str) -> None:
    with pytest.raises(ValueError, match=r"^the host or the port of the URL is invalid$"):
        Target.of(url)

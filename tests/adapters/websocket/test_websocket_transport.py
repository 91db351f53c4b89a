"""The transport between an adapter and a client: payload, messages, control frames, liveness, the end."""

from __future__ import annotations

import socket
from collections.abc import Awaitable, Callable, Sequence

import pytest
import trio
import trio.testing
from support.websocket_echo import FRAMED_SPEC, TEXT_SPEC, WebSocketPair, websocket_pair
from support.websocket_peer import (
    BINARY,
    CLOSE,
    CONTINUATION,
    PING,
    PONG,
    TEXT,
    Frame,
    close_payload,
    frame,
    request,
)

from leveret.adapters.transport import PlainTransport
from leveret.adapters.websocket.transport import MESSAGE_BYTES
from leveret.adapters.websocket.upgrade import upgrade


async def send_all(pair: WebSocketPair, chunks: Sequence[bytes]) -> None:
    """As the outbox does."""
    transport = pair.transport
    rest: list[bytes | memoryview] = list(chunks)
    while rest or transport.has_unsent:
        sent = transport.send_vector_nowait(rest)
        while rest and sent >= len(rest[0]):
            sent -= len(rest.pop(0))
        if sent:
            rest[0] = memoryview(rest[0])[sent:]
        if rest or transport.has_unsent:
            await transport.wait_writable()


async def test_payload_of_a_chunk_comes_at_once() -> None:
    async with websocket_pair() as pair:
        await pair.peer.stream.send_all(
            frame(b"ab")
            + frame(b"c", is_final=False)
            + frame(b"p", PING)
            + frame(b"d", CONTINUATION)
            + frame(b"ef")[:7]
        )
        assert await pair.transport.receive() == b"abcde"
        assert await pair.peer.read() == Frame(PONG, b"p")


async def test_frames_without_payload_are_not_the_end() -> None:
    async with websocket_pair() as pair, trio.open_nursery() as nursery:

        async def later() -> None:
            for data in (frame(b""), frame(b"", PING), frame(b"x", PONG), frame(b"data")):
                await pair.peer.stream.send_all(data)
                await trio.testing.wait_all_tasks_blocked()

        nursery.start_soon(later)
        assert await pair.transport.receive() == b"data"


async def test_frames_right_behind_the_request_are_not_lost() -> None:
    async with websocket_pair() as pair:  # for its broker
        ours, theirs = socket.socketpair()
        theirs.sendall(request() + frame(b"early"))
        settings = pair.broker.settings.websocket
        transport = await upgrade(PlainTransport(ours), TEXT_SPEC, settings, pair.broker.timers)
        assert await transport.receive() == b"early"
        transport.close()
        theirs.close()


async def test_a_write_is_a_message() -> None:
    async with websocket_pair() as pair:
        assert pair.transport.send_nowait(b"one") == 3
        assert pair.transport.send_vector_nowait([b"t", memoryview(b"wo")]) == 3
        assert pair.transport.send_vector_nowait([]) == 0
        assert await pair.peer.read() == Frame(BINARY, b"one")
        assert await pair.peer.read() == Frame(BINARY, b"two")


async def test_a_stream_is_cut_into_messages() -> None:
    async with websocket_pair() as pair:
        data = bytes(range(256)) * 2000
        chunks = [data[:100_000], data[100_000:400_000], data[400_000:]]
        received = b""
        async with trio.open_nursery() as nursery:
            nursery.start_soon(send_all, pair, chunks)
            while len(received) < len(data):
                message = await pair.peer.read()
                assert message is not None
                assert len(message.payload) <= MESSAGE_BYTES
                received += message.payload
        assert received == data


@pytest.mark.parametrize(
    ("data", "opcode"),
    [
        (b"plain", TEXT),
        ("h\u00e9llo".encode(), TEXT),
        (b"\xff\xfe", BINARY),
        ("h\u00e9".encode()[:2], BINARY),  # the write ends within a character
    ],
)
async def test_text_where_it_is_text(data: bytes, opcode: int) -> None:
    async with websocket_pair(TEXT_SPEC) as pair:
        pair.transport.send_nowait(data)
        assert await pair.peer.read() == Frame(opcode, data)


async def test_a_protocol_frame_is_a_message() -> None:
    async with websocket_pair(FRAMED_SPEC) as pair:
        data = "MESSAGE\n\n\u00e9\0\nRECEIPT\n\n\0\n".encode() + b"MESSAGE\n\n\xff\0\n\n"
        # The heart-beat is no frame: it is taken with the next call.
        assert pair.transport.send_nowait(data) == len(data) - 1
        assert pair.transport.send_nowait(b"\n") == 1
        assert await pair.peer.read() == Frame(TEXT, "MESSAGE\n\n\u00e9\0\n".encode())
        assert await pair.peer.read() == Frame(TEXT, b"RECEIPT\n\n\0\n")
        assert await pair.peer.read() == Frame(BINARY, b"MESSAGE\n\n\xff\0\n")
        assert await pair.peer.read() == Frame(TEXT, b"\n")


async def test_every_cut_of_protocol_frames() -> None:
    wire = "MESSAGE\n\nsnow\u2603\0\n\nRECEIPT\n\n\0\n".encode()
    async with websocket_pair(FRAMED_SPEC) as pair:
        for cut in range(1, len(wire)):
            async with trio.open_nursery() as nursery:
                nursery.start_soon(send_all, pair, [wire[:cut], wire[cut:]])
                received = b""
                while len(received) < len(wire):
                    message = await pair.peer.read()
                    assert message is not None
                    received += message.payload
            assert received == wire


async def test_large_protocol_frames_stay_whole() -> None:
    async with websocket_pair(FRAMED_SPEC) as pair:
        body = "\u2603".encode() * 200_000
        async with trio.open_nursery() as nursery:
            nursery.start_soon(send_all, pair, [b"MESSAGE\n\n", body, b"\0\n", b"RECEIPT\n\n\0\n"])
            assert await pair.peer.read() == Frame(TEXT, b"MESSAGE\n\n" + body + b"\0\n")
            assert await pair.peer.read() == Frame(TEXT, b"RECEIPT\n\n\0\n")


async def test_what_the_kernel_does_not_take_is_kept_whole() -> None:
    async with websocket_pair() as pair:
        pair.socket.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4096)
        first = b"x" * MESSAGE_BYTES
        taken = pair.transport.send_nowait(first)
        assert taken == len(first)
        while not pair.transport.has_unsent:
            taken += pair.transport.send_nowait(first)
        assert pair.transport.send_nowait(b"not now") == 0
        # Pings meanwhile: one answer, behind what is waiting.
        await pair.peer.send(b"1", PING)
        await pair.peer.send(b"2", PING)
        await pair.peer.send(b"data")
        assert await pair.transport.receive() == b"data"
        async with trio.open_nursery() as nursery:
            nursery.start_soon(send_all, pair, [])
            while taken:
                message = await pair.peer.read()
                assert message is not None
                assert message.opcode == BINARY
                taken -= len(message.payload)
            assert await pair.peer.read() == Frame(PONG, b"2")
        assert pair.transport.send_nowait(b"now") == 3
        assert await pair.peer.read() == Frame(BINARY, b"now")


async def test_every_ping_is_answered_if_the_peer_reads() -> None:
    async with websocket_pair() as pair:
        await pair.peer.stream.send_all(b"".join(frame(b"%d" % n, PING) for n in range(50)) + frame(b"data"))
        assert await pair.transport.receive() == b"data"
        for n in range(50):
            assert await pair.peer.read() == Frame(PONG, b"%d" % n)


@pytest.mark.parametrize("payload", [b"", close_payload(1000, "bye"), close_payload(3001)])
async def test_the_peers_close_is_answered(payload: bytes) -> None:
    async with websocket_pair() as pair:
        await pair.peer.stream.send_all(frame(b"last") + frame(payload, CLOSE) + frame(b"ignored"))
        assert await pair.transport.receive() == b"last"
        assert await pair.transport.receive() == b""
        assert await pair.transport.receive() == b""
        # Nothing may follow a close frame: data is taken and dropped.
        assert pair.transport.send_nowait(b"too late") == 8
        await pair.transport.finish()
        pair.transport.close()
        assert await pair.peer.read() == Frame(CLOSE, payload[:2])
        assert await pair.peer.read() is None


async def test_a_fault_is_told(caplog: pytest.LogCaptureFixture) -> None:
    async with websocket_pair(max_message_size=1024) as pair:
        await pair.peer.stream.send_all(frame(b"good") + frame(b"x" * 1025))
        assert await pair.transport.receive() == b"good"
        assert await pair.transport.receive() == b""
        closing = await pair.peer.read()
        assert closing is not None
        assert closing.close_code == 1009
        with trio.fail_after(5):
            async with trio.open_nursery() as nursery:
                nursery.start_soon(pair.transport.finish)
                await pair.peer.stream.aclose()
    assert [record.getMessage() for record in caplog.records] == [
        "peer=None WebSocket closed by us: 1009 message is too large"
    ]


@pytest.mark.parametrize(("is_stopping", "code"), [(False, 1000), (True, 1001)])
async def test_our_close_waits_for_the_peers(is_stopping: bool, code: int) -> None:
    async with websocket_pair(is_stopping=is_stopping) as pair, trio.open_nursery() as nursery:
        nursery.start_soon(pair.transport.finish)
        closing = await pair.peer.read()
        assert closing is not None
        assert closing.close_code == code
        await pair.peer.stream.send_all(frame(b"was under way") + frame(closing.payload, CLOSE))
        await trio.testing.wait_all_tasks_blocked()
        assert not nursery.child_tasks
        pair.transport.close()
        assert await pair.peer.read() is None


async def test_our_close_waits_a_bounded_time(autojump_clock: trio.testing.MockClock) -> None:
    async with websocket_pair(ping_interval_s=0.0) as pair:
        before = trio.current_time()
        await pair.transport.finish()
        assert trio.current_time() - before == pytest.approx(2.0)
        await pair.transport.finish()


async def test_close_at_once_says_so() -> None:
    async with websocket_pair() as pair:
        pair.transport.close()
        pair.transport.close()
        assert await pair.peer.read() == Frame(CLOSE, close_payload(1000))
        assert await pair.peer.read() is None
        await pair.transport.finish()


async def test_an_end_without_close_is_an_end() -> None:
    async with websocket_pair() as pair:
        await pair.peer.stream.send_all(frame(b"half")[:8])
        await pair.peer.stream.aclose()
        assert await pair.transport.receive() == b"ha"
        assert await pair.transport.receive() == b""
        await pair.transport.finish()


async def test_a_silent_peer_is_pinged_and_dropped(autojump_clock: trio.testing.MockClock) -> None:
    async with websocket_pair(ping_interval_s=10.0) as pair:
        started = trio.current_time()
        await pair.peer.send(b"hello")
        assert await pair.transport.receive() == b"hello"
        with pytest.raises(TimeoutError, match="ping"):
            await pair.transport.receive()
        assert trio.current_time() - started == pytest.approx(30, abs=0.1)
        assert await pair.peer.read() == Frame(PING, b"")
        assert await pair.peer.read() is None
        await pair.transport.finish()


async def test_a_peer_that_answers_stays(autojump_clock: trio.testing.MockClock) -> None:
    async with websocket_pair(ping_interval_s=10.0) as pair:
        with trio.move_on_after(1000):
            async with trio.open_nursery() as nursery:
                nursery.start_soon(pair.transport.receive)
                while True:
                    assert await pair.peer.read() == Frame(PING, b"")
                    await pair.peer.send(b"", PONG)
        assert trio.current_time() >= 1000


async def test_who_is_not_read_from_is_not_called_silent(autojump_clock: trio.testing.MockClock) -> None:
    async with websocket_pair(ping_interval_s=10.0) as pair:
        await trio.sleep(1000)
        await pair.peer.send(b"still here")
        assert await pair.transport.receive() == b"still here"


async def test_dropping_a_peer_wakes_the_writer(autojump_clock: trio.testing.MockClock) -> None:
    async with websocket_pair(ping_interval_s=10.0) as pair:
        while not pair.transport.has_unsent:
            pair.transport.send_nowait(b"x" * MESSAGE_BYTES)
        lost = []

        async def expect_loss(wait: Callable[[], Awaitable[object]]) -> None:
            with pytest.raises(TimeoutError, match="ping"):
                await wait()
            lost.append(wait)

        with trio.fail_after(100):
            async with trio.open_nursery() as nursery:
                nursery.start_soon(expect_loss, pair.transport.wait_writable)
                nursery.start_soon(expect_loss, pair.transport.receive)
        assert len(lost) == 2


async def test_receiving_can_be_cancelled() -> None:
    async with websocket_pair() as pair:
        with trio.move_on_after(0.01) as scope:
            await pair.transport.receive()
        assert scope.cancelled_caught
        await pair.peer.send(b"later")
        assert await pair.transport.receive() == b"later"


async def test_it_passes_on_what_the_socket_knows() -> None:
    async with websocket_pair() as pair:
        transport = pair.transport
        transport.read_bytes = 4096
        assert transport.read_bytes == 4096
        transport.acknowledge()
        assert transport.tls_info == {}
        assert transport.certificate is None
        assert transport.http_login is None
        assert repr(transport) == "<WebSocketTransport None unsent=0 ending=None>"

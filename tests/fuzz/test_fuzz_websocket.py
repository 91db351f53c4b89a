"""The law of the WebSocket listeners: whatever a client sends is understood, refused or ends its connection alone."""

from __future__ import annotations

import contextlib

import hypothesis
import trio
import wsproto
from hypothesis import given
from hypothesis import strategies as st
from support.field_values import damaged
from support.websocket_echo import BINARY_SPEC, TEXT_SPEC, websocket_pair
from support.websocket_peer import (
    BINARY,
    CLOSE,
    CONTINUATION,
    PING,
    PONG,
    TEXT,
    FrameBuffer,
    basic,
    close_payload,
    frame,
    request,
)
from wsproto.connection import ConnectionType
from wsproto.events import BytesMessage, CloseConnection, Ping, TextMessage

from leveret.adapters.websocket.frames import FrameReader
from leveret.adapters.websocket.handshake import Refusal, answer
from leveret.conf.settings import Websocket

LIMIT = 1 << 16

payloads = st.one_of(
    st.binary(max_size=140),
    st.text(max_size=40).map(str.encode),
    st.builds(lambda size: b"x" * size, st.integers(0, 70_000)),
)
masks = st.binary(min_size=4, max_size=4)
messages = st.builds(frame, payloads, st.sampled_from([BINARY, TEXT]), mask=masks)
fragmented = st.builds(
    lambda opcode, parts, mask: (
        frame(parts[0], opcode, is_final=False, mask=mask)
        + b"".join(frame(part, CONTINUATION, is_final=False) for part in parts[1:])
        + frame(b"", CONTINUATION)
    ),
    st.sampled_from([BINARY, TEXT]),
    st.lists(st.one_of(st.binary(max_size=5), st.text(max_size=3).map(str.encode)), min_size=1, max_size=4),
    masks,
)
controls = st.builds(frame, st.binary(max_size=125), st.sampled_from([PING, PONG]), mask=masks)
closes = st.one_of(
    st.builds(
        lambda code, reason: frame(close_payload(code, reason), CLOSE),
        st.integers(0, 65535),
        st.text(max_size=20),
    ),
    st.builds(frame, st.binary(max_size=4), st.just(CLOSE)),
)
anything = st.builds(
    lambda payload, opcode, final, flags, mask: frame(
        payload, opcode, is_final=final, flags=flags, mask=mask
    ),
    st.binary(max_size=130),
    st.integers(0, 15),
    st.booleans(),
    st.sampled_from([0, 0, 0, 0x40, 0x10]),
    st.sampled_from([b"", b"abcd"]),
)
streams = st.lists(st.one_of(messages, fragmented, controls, closes, anything), max_size=8).map(b"".join)
octets = st.one_of(st.binary(max_size=200), damaged(streams), streams)


def read(wire: bytes, pieces: list[int], *, takes_text: bool) -> tuple[bytes, list[bytes], object]:
    frames = FrameReader(LIMIT, takes_text=takes_text)
    payload, position = b"", 0
    for piece in [*pieces, len(wire)]:
        payload += frames.feed(wire[position : position + piece])
        position += piece
    return payload, frames.pings, frames.ending


@given(octets, st.lists(st.integers(1, 50), max_size=20), st.booleans())
def test_cuts_change_nothing(wire: bytes, pieces: list[int], takes_text: bool) -> None:
    whole = read(wire, [], takes_text=takes_text)
    cut = read(wire, pieces, takes_text=takes_text)
    # Wrong text is dropped from where the piece with it starts; all else is exactly the same.
    assert cut[1:] == whole[1:] or getattr(whole[2], "code", 0) == getattr(cut[2], "code", 0) == 1007
    assert cut[0] == whole[0] or getattr(whole[2], "code", 0) == 1007


@given(octets)
def test_what_wsproto_understands_we_understand_alike(wire: bytes) -> None:
    other = wsproto.connection.Connection(ConnectionType.SERVER)
    payload, pings, ending = b"", [], None
    try:
        other.receive_data(wire)
        for event in other.events():
            if isinstance(event, BytesMessage):
                payload += bytes(event.data)
            elif isinstance(event, TextMessage):
                payload += event.data.encode()
            elif isinstance(event, Ping):
                pings.append(bytes(event.payload))
            elif isinstance(event, CloseConnection):
                ending = event.code
                break
    except wsproto.utilities.RemoteProtocolError:
        ending = -1
    ours = FrameReader(1 << 30, takes_text=True)
    fed = ours.feed(wire)
    if ours.ending is None:
        # It may hold back part of a character, and so may be behind.
        assert fed.startswith(payload)
        assert len(fed) - len(payload) < 4
        assert ours.pings == pings
        assert ending is None
    elif not ours.ending.is_fault:
        assert fed == payload or fed.startswith(payload)
        assert (
            ours.ending.code or 1005
        ) == ending or ours.ending.code == 1014  # registered since; it does not know


headers = st.dictionaries(
    st.sampled_from(
        ["Host", "Upgrade", "Connection", "Sec-WebSocket-Key", "Sec-WebSocket-Version", "Sec-WebSocket-Protocol", "Origin",
         "Authorization", "Content-Length", "Sec-WebSocket-Extensions", "X-\u00e9"],
    ),
    st.one_of(st.none(), st.text(max_size=20), st.sampled_from(["mqtt", "websocket", "13", "https://a", basic("a", "b")])),
    max_size=4,
)  # fmt: skip
heads = st.builds(
    lambda path, changes: request(path, **changes), st.sampled_from(["/ws", "/", "/ws?a"]), headers
)


@given(st.one_of(st.binary(max_size=100), heads, damaged(heads)), st.booleans())
def test_any_request_has_an_answer(head: bytes, is_strict: bool) -> None:
    settings = Websocket(origins=("https://a",) if is_strict else ())
    buffer = FrameBuffer()
    try:
        buffer.data = answer(head, BINARY_SPEC, settings).response
        expected = {101}
    except Refusal as refusal:
        buffer.data = refusal.response
        expected = {400, 403, 404, 405, 426}
    response = buffer.response()
    assert response is not None
    assert response.status in expected


@hypothesis.settings(max_examples=60, deadline=None)
@given(octets, st.integers(1, 300))
def test_a_connection_survives_or_ends(wire: bytes, piece: int) -> None:
    piece = max(piece, len(wire) // 200)

    async def main() -> None:
        async with websocket_pair(TEXT_SPEC, max_message_size=LIMIT) as pair:
            received = b""
            async with trio.open_nursery() as nursery:

                async def send() -> None:
                    with contextlib.suppress(trio.BrokenResourceError):  # it was closed for what came before
                        for start in range(0, len(wire), piece):
                            await pair.peer.stream.send_all(wire[start : start + piece])
                        await pair.peer.stream.send_eof()  # type: ignore[attr-defined]

                async def read() -> None:
                    with contextlib.suppress(trio.BrokenResourceError):  # it sent more behind its close frame
                        while await pair.peer.read() is not None:
                            pass

                nursery.start_soon(send)
                nursery.start_soon(read)
                while data := await pair.transport.receive():
                    received += data
                    pair.transport.send_nowait(data[:100])
                await pair.transport.finish()
                pair.transport.close()
            assert len(received) <= len(wire)

    trio.run(main)

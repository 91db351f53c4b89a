"""Frames, byte by byte: RFC 6455's own examples, every cut, and every rule a client can break."""

from __future__ import annotations

import pytest
from support.websocket_peer import (
    BINARY,
    CLOSE,
    CONTINUATION,
    PING,
    PONG,
    TEXT,
    FrameBuffer,
    close_payload,
    frame,
)

from leveret.adapters.websocket.frames import Ending, FrameReader, close_frame, frame_head


def reader(limit: int = 1 << 20, *, takes_text: bool = True) -> FrameReader:
    return FrameReader(limit, takes_text=takes_text)


def test_the_masked_hello_of_rfc_6455() -> None:
    assert reader().feed(bytes.fromhex("818537fa213d7f9f4d5158")) == b"Hello"


def test_the_masked_fragments_and_pong_of_rfc_6455() -> None:
    # 5.7 gives the server's unmasked forms; these are the client's.
    frames = reader()
    assert frames.feed(frame(b"Hel", TEXT, is_final=False) + frame(b"lo", CONTINUATION)) == b"Hello"
    assert frames.feed(bytes.fromhex("8a8537fa213d7f9f4d5158")) == b""
    assert frames.pings == []
    assert frames.feed(bytes.fromhex("898537fa213d7f9f4d5158")) == b""
    assert frames.pings == [b"Hello"]
    assert frames.ending is None


def test_the_unmasked_heads_of_rfc_6455() -> None:
    assert frame_head(TEXT, 5) + b"Hello" == bytes.fromhex("810548656c6c6f")
    assert frame_head(PONG, 5) + b"Hello" == bytes.fromhex("8a0548656c6c6f")
    assert frame_head(BINARY, 256) == bytes.fromhex("827e0100")
    assert frame_head(BINARY, 65536) == bytes.fromhex("827f0000000000010000")


@pytest.mark.parametrize("size", [0, 1, 3, 4, 5, 124, 125, 126, 127, 65535, 65536, 70001])
@pytest.mark.parametrize("mask", [b"\0\0\0\0", b"\x01\x02\x03\x04", b"\xff\xfe\xfd\xfc"])
def test_lengths_and_masks(size: int, mask: bytes) -> None:
    payload = bytes(index % 251 for index in range(size))
    assert reader().feed(frame(payload, mask=mask) * 2 + frame(b"end", mask=mask)) == payload * 2 + b"end"


SESSION = (
    frame(b"one")
    + frame(b"", BINARY)
    + frame("zw\N{LATIN SMALL LETTER O WITH DIAERESIS}lf".encode(), TEXT)
    + frame(b"ping me", PING)
    + frame("\N{SNOWMAN}".encode()[:2], TEXT, is_final=False, mask=b"abcd")
    + frame(b"", PING)
    + frame(b"", CONTINUATION, is_final=False)
    + frame("\N{SNOWMAN}".encode()[2:] + b"melts", CONTINUATION, mask=b"\x80\x90\xa0\xb0")
    + frame(b"unasked", PONG)
    + frame(b"x" * 300, BINARY, is_final=False)
    + frame(b"y" * 10, CONTINUATION)
    + frame(b"last")
)
PAYLOAD = "onezw\u00f6lf\u2603melts".encode() + b"x" * 300 + b"y" * 10 + b"last"


def test_every_cut_in_two() -> None:
    for cut in range(len(SESSION) + 1):
        frames = reader()
        assert frames.feed(SESSION[:cut]) + frames.feed(SESSION[cut:]) == PAYLOAD, cut
        assert frames.pings == [b"ping me", b""]
        assert frames.ending is None


def test_byte_by_byte() -> None:
    frames = reader()
    assert b"".join(frames.feed(SESSION[at : at + 1]) for at in range(len(SESSION))) == PAYLOAD
    assert frames.pings == [b"ping me", b""]


def test_parts_of_a_message_are_not_collected() -> None:
    frames = reader()
    data = frame(b"abcdefghij" * 1000)
    assert frames.feed(data[:1008]) == (b"abcdefghij" * 100)
    assert frames.feed(data[1008:1009]) == b"a"


FAULTS = [
    ("unmasked", frame(b"x", mask=b""), 1002),
    ("unmasked and empty", b"\x82\x00", 1002),
    ("first reserved bit", frame(b"x", flags=0x40), 1002),
    ("last reserved bit, head incomplete", b"\x92", 1002),
    ("opcode 3", frame(b"x", 3), 1002),
    ("opcode 11", frame(b"x", 11), 1002),
    ("fragmented ping", frame(b"x", PING, is_final=False), 1002),
    ("ping of 126 bytes", frame(b"x" * 126, PING), 1002),
    ("continuation of nothing", frame(b"x", CONTINUATION), 1002),
    ("continuation after the end", frame(b"a", is_final=False) + frame(b"b", CONTINUATION) * 2, 1002),
    ("binary within a message", frame(b"a", is_final=False) + frame(b"b"), 1002),
    ("text within a message", frame(b"a", is_final=False) + frame(b"b", TEXT), 1002),
    ("16 bits for a short length", b"\x82\xfe\x00\x7d", 1002),
    ("64 bits for a short length", b"\x82\xff" + (65535).to_bytes(8, "big"), 1002),
    ("64th bit set", b"\x82\xff" + (1 << 63).to_bytes(8, "big"), 1002),
    ("too large", b"\x82\xfe\x04\x01", 1009),
    ("huge", b"\x82\xff" + (1 << 62).to_bytes(8, "big"), 1009),
    ("too large in all", frame(b"a" * 1000, is_final=False) + frame(b"a" * 25, CONTINUATION), 1009),
    ("close with one byte", frame(b"\x03", CLOSE), 1002),
    ("close reason that is not UTF-8", frame(b"\x03\xe8\xff", CLOSE), 1007),
    ("close with 126 bytes", frame(close_payload(1000, "x" * 124), CLOSE), 1002),
    ("text that is not UTF-8", frame(b"\xff", TEXT), 1007),
    ("text that ends within a character", frame(b"abc\xc3", TEXT), 1007),
    ("a character over two messages", frame(b"\xc3", TEXT) + frame(b"\xb6", TEXT), 1007),
    ("a surrogate", frame(b"\xed\xa0\x80", TEXT), 1007),
    ("fragments that are not UTF-8", frame(b"\xce", TEXT, is_final=False) + frame(b"a", CONTINUATION), 1007),
    *(
        (f"close code {code}", frame(close_payload(code), CLOSE), 1002)
        for code in (0, 999, 1004, 1005, 1006, 1015, 1016, 2999, 5000, 65535)
    ),
]


@pytest.mark.parametrize(("wire", "code"), [case[1:] for case in FAULTS], ids=[case[0] for case in FAULTS])
def test_what_a_client_must_not_send(wire: bytes, code: int) -> None:
    for size in (1, 3, len(wire)):
        frames = reader(1024)
        fed = b"".join(
            frames.feed((frame(b"before") + wire)[at : at + size]) for at in range(0, len(wire) + 12, size)
        )
        assert fed.startswith(b"before")
        assert frames.ending is not None
        assert frames.ending.is_fault
        assert frames.ending.code == code
        assert frames.feed(frame(b"afterwards")) == b""


def test_text_is_not_for_everybody() -> None:
    frames = reader(takes_text=False)
    assert frames.feed(frame(b"binary") + frame(b"text", TEXT) + frame(b"more")) == b"binary"
    assert frames.ending == Ending(1003, "text frames are not accepted", is_fault=True)


def test_a_wrong_text_ends_what_came_with_it() -> None:
    frames = reader()
    wire = (
        frame(b"\xff\xff")
        + frame(b"good", TEXT)
        + frame(b"bad\xff", TEXT)
        + frame(b"more")
        + frame(b"", CLOSE)
    )
    assert frames.feed(wire) == b"\xff\xffgood"
    assert frames.ending is not None
    assert frames.ending.code == 1007


def test_wrong_text_is_found_before_its_message_ends() -> None:
    frames = reader()
    assert frames.feed(frame(b"ok", TEXT, is_final=False)) == b"ok"
    frames.feed(frame(b"\xf4\x90", CONTINUATION, is_final=False))
    assert frames.ending is not None


@pytest.mark.parametrize("code", [1000, 1001, 1003, 1007, 1011, 1014, 3000, 4999])
def test_a_close_is_an_ending_without_fault(code: int) -> None:
    frames = reader()
    assert frames.feed(frame(b"a") + frame(close_payload(code, "bye"), CLOSE) + frame(b"b")) == b"a"
    assert frames.ending == Ending(code, "bye", is_fault=False)


def test_a_close_may_be_empty_and_within_a_message() -> None:
    frames = reader()
    assert frames.feed(frame(b"a", is_final=False) + frame(b"", CLOSE)) == b"a"
    assert frames.ending == Ending(None, "", is_fault=False)


def test_close_frames() -> None:
    buffer = FrameBuffer()
    buffer.data = close_frame(1009, "large" * 50) + close_frame(None)
    first, second = buffer.frame(), buffer.frame()
    assert first is not None
    assert first.close_code == 1009
    assert len(first.payload) == 125
    assert second is not None
    assert second.payload == b""

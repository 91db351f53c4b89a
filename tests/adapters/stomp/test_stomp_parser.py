"""The parser: chunks cut anywhere, runs, limits, escapes and line ends per version."""

from __future__ import annotations

from typing import Any

import pytest
from support.stomp_wire import frame

from leveret.adapters.stomp.faults import StompFault
from leveret.adapters.stomp.frames import Frame
from leveret.adapters.stomp.parser import FrameParser, Limits, SendHead
from leveret.core.errors import AuthorizationPending


class Recorder:
    """A handler that writes down what it is told."""

    def __init__(self, version: str = "1.2", limits: Limits | None = None, *, is_open: bool = True) -> None:
        self.calls: list[Any] = []
        self.parser = FrameParser(self, limits or Limits(1 << 20, 100, 10240))
        self.parser.version = version
        self.parser.is_open = is_open
        self.pending = 0  # how many calls raise AuthorizationPending first

    def _maybe_wait(self) -> None:
        if self.pending:
            self.pending -= 1
            self.parser.is_suspended = True
            raise AuthorizationPending("queue", "q", "write")

    def on_first(self, command: str) -> None:
        raise StompFault("Illegal command", "You must log in using CONNECT first")

    def on_sends(self, head: SendHead, bodies: list[bytes]) -> None:
        self._maybe_wait()
        self.calls += [("SEND", head.headers, body) for body in bodies]

    def on_send(self, head: SendHead, body: bytes, receipt: str | None, transaction: str | None) -> None:
        self._maybe_wait()
        self.calls.append(("SEND", head.headers, body, receipt, transaction))

    def on_acks(self, tags: list[int]) -> None:
        self.calls += [("ACK", tag) for tag in tags]

    def on_frame(self, frame: Frame) -> None:
        self._maybe_wait()
        self.calls.append((frame.command, frame.headers, frame.body))


def parse(data: bytes, version: str = "1.2", **options: Any) -> list[Any]:
    recorder = Recorder(version, **options)
    recorder.parser.feed(data)
    assert not recorder.parser.kept_bytes
    return recorder.calls


def fault(data: bytes, version: str = "1.2", **options: Any) -> StompFault:
    recorder = Recorder(version, **options)
    with pytest.raises(StompFault) as caught:
        recorder.parser.feed(data)
    assert recorder.parser.ignores_input
    recorder.parser.feed(frame("BEGIN", transaction="t"))  # means nothing any more
    assert all(call[0] != "BEGIN" for call in recorder.calls)
    return caught.value


TRANSCRIPT = (
    b"\n\r\n"
    + frame("SEND", "one", destination="/queue/a", content_length=3)
    + frame("SEND", "two", destination="/queue/a", content_length=3)
    + b"\n"
    + frame("SEND", b"n\0l", destination="/queue/a", content_length=3)
    + frame("SEND", "longer", destination="/queue/a", content_length=6)
    + frame("SEND", "no length", destination="/queue/a")
    + frame("SEND", "no length", destination="/queue/a")
    + b"SEND\r\ndestination:/queue/b\r\n\r\nwith\r\n\r\nCRs\r\n\0"
    + b"SEND\r\ndestination:/queue/b\r\n\r\nagain\0\r\n"
    + frame("ACK", id=1)
    + frame("ACK", id=22)
    + b"\n"
    + b"ACK\nsubscription:s\nid:3\n\n\0"
    + frame("ACK", id="T_0@@s@@4")
    + frame("SEND", "r", destination="/queue/a", receipt=1)
    + frame("SEND", "t", destination="/queue/a", receipt=2, transaction="tx")
    + b"NACK\nid:5\nrequeue:false\n\n\0"
    + b"SEND\nfoo:1\nfoo:2\nbar:\\c\\n\\r\\\\\nbaz: a:b \n\nx\0"
    + frame("SEND", b"", destination="/queue/a", content_length=0)
    + frame("DISCONNECT", receipt="bye")
)
A, B = {"destination": "/queue/a"}, {"destination": "/queue/b"}
CALLS = [
    ("SEND", A, b"one"),
    ("SEND", A, b"two"),
    ("SEND", A, b"n\0l"),
    ("SEND", A, b"longer"),
    ("SEND", A, b"no length"),
    ("SEND", A, b"no length"),
    ("SEND", B, b"with\r\n\r\nCRs\r\n"),
    ("SEND", B, b"again"),
    ("ACK", 1),
    ("ACK", 22),
    ("ACK", 3),
    ("ACK", {"id": "T_0@@s@@4"}, b""),
    ("SEND", A, b"r", "1", None),
    ("SEND", A, b"t", "2", "tx"),
    ("NACK", {"id": "5", "requeue": "false"}, b""),
    ("SEND", {"foo": "1", "bar": ":\n\r\\", "baz": " a:b "}, b"x"),
    ("SEND", A, b""),
    ("DISCONNECT", {"receipt": "bye"}, b""),
]


def test_a_transcript() -> None:
    assert parse(TRANSCRIPT) == CALLS


@pytest.mark.parametrize("size", [1, 2, 3, 7, 64])
def test_in_pieces(size: int) -> None:
    recorder = Recorder()
    for start in range(0, len(TRANSCRIPT), size):
        recorder.parser.feed(TRANSCRIPT[start : start + size])
    assert recorder.calls == CALLS


def test_split_once_at_every_byte() -> None:
    for cut in range(len(TRANSCRIPT)):
        recorder = Recorder()
        recorder.parser.feed(TRANSCRIPT[:cut])
        recorder.parser.feed(TRANSCRIPT[cut:])
        assert recorder.calls == CALLS, cut


@pytest.mark.parametrize("pending", [1, 2, 5])
@pytest.mark.parametrize("size", [5, 10000])
def test_what_was_not_decided_is_offered_again(pending: int, size: int) -> None:
    recorder = Recorder()
    recorder.pending = pending
    for start in range(0, len(TRANSCRIPT), size):
        data = TRANSCRIPT[start : start + size]
        while True:
            try:
                recorder.parser.feed(data)
            except AuthorizationPending:
                recorder.parser.is_suspended = False
                data = b""
                continue
            break
    assert recorder.calls == CALLS


def test_runs_share_their_head() -> None:
    recorder = Recorder()
    heads: list[SendHead] = []
    batches: list[int] = []

    def on_sends(head: SendHead, bodies: list[bytes]) -> None:
        heads.append(head)
        batches.append(len(bodies))

    recorder.on_sends = on_sends  # type: ignore[method-assign]
    bodies = [b"x" * (number % 3) for number in range(100)]
    data = b"".join(frame("SEND", body, destination="/queue/a", content_length=len(body)) for body in bodies)
    recorder.parser.feed(data)
    batches.clear()
    recorder.parser.feed(data)  # by now the heads are known
    assert batches == [100]
    recorder.parser.feed(frame("SEND", b"x", destination="/queue/a", receipt=4))
    recorder.parser.feed(frame("SEND", b"x", destination="/queue/a"))
    assert heads[0] is heads[-1]


@pytest.mark.parametrize("end", [b"\0", b"\0\n", b"\0\n\n", b"\0\r\n"])
@pytest.mark.parametrize("size", [0, 16, 5000])
def test_runs_of_any_size_and_end(end: bytes, size: int) -> None:
    one = frame("SEND", b"\0" * size, destination="/queue/a", content_length=size)[:-1] + end
    assert parse(one * 50) == [("SEND", A, b"\0" * size)] * 50
    recorder = Recorder()
    data = one * 50
    for start in range(0, len(data), 999):
        recorder.parser.feed(data[start : start + 999])
    assert recorder.calls == [("SEND", A, b"\0" * size)] * 50


def test_a_large_body_in_pieces_is_not_looked_at_before_it_is_there() -> None:
    recorder = Recorder(limits=Limits(1 << 24, 100, 1024))
    data = frame("SEND", b"\0\n" * 1_000_000, destination="/queue/a", content_length=2_000_000)
    for start in range(0, len(data), 65536):
        recorder.parser.feed(data[start : start + 65536])
        if 0 < start < 1_900_000:
            assert recorder.parser.kept_bytes == start + 65536
    assert len(recorder.calls) == 1
    assert recorder.calls[0][2] == b"\0\n" * 1_000_000
    assert recorder.parser.kept_bytes == 0


def test_a_body_without_length_in_pieces() -> None:
    recorder = Recorder()
    recorder.parser.feed(b"SEND\ndestination:/queue/a\n\nab")
    recorder.parser.feed(b"cd\n\n")
    recorder.parser.feed(b"ef\0SEND\n")
    assert recorder.calls == [("SEND", A, b"abcd\n\nef")]
    recorder.parser.feed(b"destination:/queue/a\n\n\0")
    assert len(recorder.calls) == 2


# -- versions


def test_1_0_has_no_escapes_and_trims() -> None:
    assert parse(b"SEND\ndestination : /queue/a \nfoo: a\\nb\\c \n\nx\0", "1.0") == [
        ("SEND", {"destination": "/queue/a", "foo": "a\\nb\\c"}, b"x")
    ]


def test_1_1_knows_three_escapes_and_keeps_spaces() -> None:
    assert parse(b"SEND\nf\\coo: a\\nb\\c\\\\ \n\nx\0", "1.1") == [("SEND", {"f:oo": " a\nb:\\ "}, b"x")]
    assert fault(b"SEND\nfoo:\\r\n\nx\0", "1.1").message == "Bad escape"


@pytest.mark.parametrize("bad", [b"\\t", b"\\", b"a\\", b"\\N", b"\\\xff"])
@pytest.mark.parametrize("version", ["1.1", "1.2"])
def test_unknown_escapes_are_fatal(bad: bytes, version: str) -> None:
    assert fault(b"SEND\nfoo:" + bad + b"\n\nx\0", version).message == "Bad escape"
    assert fault(b"SEND\n" + bad + b":foo\n\nx\0", version).message == "Bad escape"


def test_connect_is_never_unescaped() -> None:
    for version, is_open in (("1.0", False), ("1.2", True)):
        calls = parse(b"CONNECT\nlogin:a\\cb\\t \n\n\0", version, is_open=is_open)
        assert calls == [("CONNECT", {"login": "a\\cb\\t "}, b"")]
    assert parse(b"STOMP\r\nlogin:a\r\n\r\n\0", is_open=False) == [("STOMP", {"login": "a"}, b"")]


def test_a_lone_carriage_return_is_part_of_a_value_before_1_2() -> None:
    assert parse(b"SEND\nfoo:a\rb\n\nx\0", "1.1") == [("SEND", {"foo": "a\rb"}, b"x")]
    assert fault(b"SEND\nfoo:a\rb\n\nx\0").message == "Malformed frame"


def test_the_first_of_repeated_headers_wins() -> None:
    for version in ("1.0", "1.1", "1.2"):
        assert parse(b"ABORT\ntransaction:1\ntransaction:2\n\n\0", version) == [
            ("ABORT", {"transaction": "1"}, b"")
        ]


def test_texts_that_are_not_utf_8_come_through() -> None:
    ((_, headers, _),) = parse(b"SEND\nfoo:\xff\xfe\n\nx\0")
    assert headers["foo"].encode("utf-8", "surrogateescape") == b"\xff\xfe"


# -- content-length


def test_content_length_counts_for_send_alone() -> None:
    assert parse(b"ACK\nid:1\ncontent-length:5\n\n\0") == [("ACK", {"id": "1", "content-length": "5"}, b"")]
    assert parse(b"SEND\ncontent-length: 1 \n\nx\0") == [("SEND", {}, b"x")]


@pytest.mark.parametrize("length", ["x", "-1", "", "1.0", "\u0661"])
def test_a_content_length_that_is_none(length: str) -> None:
    answer = fault(f"SEND\nreceipt:7\ncontent-length:{length}\n\nx\0".encode())
    assert (answer.message, answer.receipt) == ("Malformed frame", "7")


def test_a_body_must_end_where_content_length_says() -> None:
    assert fault(b"SEND\ncontent-length:1\n\nxy\0").message == "Malformed frame"


# -- limits


SMALL = Limits(200, 3, 50)


def test_limits_that_are_kept() -> None:
    assert len(parse(b"SEND\na:1\nb:2\nc:" + b"3" * 48 + b"\n\n" + b"x" * 130 + b"\0", limits=SMALL)) == 1


@pytest.mark.parametrize("piece", [1, 1000])
@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"SEND\na:1\nb:2\nc:3\nd:4\n\nx\0", "Too many headers"),
        (b"SEND\na:" + b"1" * 60 + b"\n\nx\0", "Header too long"),
        (b"SEND\na:" + b"1" * 60, "Header too long"),
        (b"SEND\n\n" + b"x" * 300, "Frame too large"),
        (b"SEND\n\n" + b"x" * 300 + b"\0", "Frame too large"),
        (b"SEND\ncontent-length:300\n\n", "Frame too large"),
        (b"SEND\ncontent-length:9999999999999999999999\n\n", "Frame too large"),
        (b"BEGIN\n\n" + b"x" * 300, "Frame too large"),
        (b"S" * 40, "Malformed frame"),
        (b"S" * 33 + b"\n\n", "Malformed frame"),
        (b"GET / HTTP/1.1\r\n\r\n", "Malformed frame"),
        (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\n\n", "Malformed frame"),
        (b"SEND\nfoo\n\n\0", "Malformed frame"),
        (b"SEND\0", "Malformed frame"),
        (b"SEND\nfoo:a\0b\n\n\0", "Malformed frame"),
        (b"\rSEND\n\n\0", "Malformed frame"),
    ],
)
def test_limits_that_are_passed(data: bytes, message: str, piece: int) -> None:
    recorder = Recorder(limits=SMALL)

    def feed() -> None:
        for start in range(0, len(data), piece):
            recorder.parser.feed(data[start : start + piece])

    with pytest.raises(StompFault) as caught:
        feed()
    assert caught.value.message == message


def test_nothing_but_connect_before_the_connection_is_open() -> None:
    assert fault(frame("SEND", "x", destination="/queue/a"), is_open=False).message == "Illegal command"


def test_remembered_heads_are_bounded() -> None:
    recorder = Recorder()
    for number in range(2000):
        recorder.parser.feed(frame("SEND", "x", destination=f"/queue/{number}"))
    assert len(recorder.calls) == 2000
    assert len(recorder.parser._heads) <= 512
    assert len(recorder.parser._shared) <= 512

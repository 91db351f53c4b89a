"""Frames: bodies, content-length, escapes, line ends, limits."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from e2e.stomp.stomp_broker import STOMP_REFERENCE, VERSIONS, fault, leveret_only, stomp_reference_differs
from support.server import LeveretServer
from support.stomp_peer import StompClosed, StompPeer

Open = Callable[..., StompPeer]


# -- 49, 80: bodies


def test_49_with_content_length_a_body_may_hold_nuls(stomper: StompPeer, name: str) -> None:
    body = b"a\0b\0\0"
    stomper.subscribe(f"/queue/{name}")
    stomper.send("SEND", body, destination=f"/queue/{name}", content_length="5")
    assert stomper.message(body)["content-length"] == "5"


def test_49_without_content_length_a_body_ends_at_the_first_nul(stomper: StompPeer, name: str) -> None:
    stomper.subscribe(f"/queue/{name}")
    stomper.send("SEND", b"one", destination=f"/queue/{name}")
    stomper.message(b"one")


@pytest.mark.parametrize("version", VERSIONS)
def test_49_line_feeds_between_frames(stomp: Open, name: str, version: str) -> None:
    peer = stomp(version)
    peer.subscribe(f"/queue/{name}")
    peer.send_raw(b"\n\n\n" + peer.encode("SEND", b"1", destination=f"/queue/{name}") + b"\n\n")
    peer.send_raw(b"\n" + peer.encode("SEND", b"2", destination=f"/queue/{name}"))
    peer.message(b"1")
    peer.message(b"2")


def test_49_content_length_on_frames_without_body(stomp: Open, name: str) -> None:
    """Clients put it on ACK too (rabbitmq-stomp, pull request 18)."""
    peer = stomp()
    peer.ask("SUBSCRIBE", destination=f"/queue/{name}", id="s", ack="client", content_length="0")
    peer.publish(f"/queue/{name}", b"x")
    peer.ask("ACK", id=peer.message()["ack"], content_length="0")
    peer.goodbye()
    other = stomp()
    other.subscribe(f"/queue/{name}")
    other.quiet()


def test_80_content_length_counts_bytes_and_is_on_every_message(stomper: StompPeer, name: str) -> None:
    stomper.subscribe(f"/queue/{name}")
    body = "höchst änderbar €".encode()
    stomper.publish(f"/queue/{name}", body)
    assert stomper.message(body)["content-length"] == str(len(body))
    stomper.publish(f"/queue/{name}", b"")
    assert stomper.message(b"").get("content-length") == (None if STOMP_REFERENCE else "0")


@stomp_reference_differs("3.10: it closes without a word")
def test_80_the_byte_behind_the_body_must_be_nul(stomper: StompPeer, name: str) -> None:
    stomper.send_raw(b"SEND\ndestination:/queue/%s\ncontent-length:2\n\nabc\0" % name.encode())
    stomper.expect("ERROR")
    stomper.expect_close()


@pytest.mark.parametrize("length", ["x", "-1", "1x", "+3", "", "99999999999999999999"])
def test_80_a_malformed_content_length(stomper: StompPeer, name: str, length: str) -> None:
    stomper.send_raw(
        b"SEND\ndestination:/queue/%s\ncontent-length:%s\n\nabc\0" % (name.encode(), length.encode())
    )
    if STOMP_REFERENCE:
        return  # some are accepted, others close
    stomper.expect("ERROR")
    stomper.expect_close()


def test_80_of_repeated_headers_the_first_counts(stomper: StompPeer, name: str) -> None:
    queue = f"/queue/{name}".encode()
    stomper.subscribe(f"/queue/{name}")
    stomper.send_raw(
        b"SEND\ndestination:%s\ndestination:/nonsense\nfoo:first\nfoo:second\n"
        b"content-length:1\ncontent-length:5\n\nx\0" % queue
    )
    message = stomper.message(b"x")
    assert message["foo"] == "first"
    assert [value for key, value in message.pairs if key == "foo"] == ["first"]


# -- 50, 79, 81: headers

TRICKY = "a:b\\c\nd"


@pytest.mark.parametrize("version", ["1.1", "1.2"])
def test_50_escapes(stomp: Open, name: str, version: str) -> None:
    peer = stomp(version)
    peer.subscribe(f"/queue/{name}")
    peer.publish(f"/queue/{name}", b"", headers={"ke:y\\\n": TRICKY})
    message = peer.message()
    assert message["ke:y\\\n"] == TRICKY
    assert b"ke\\cy\\\\\\n:a\\cb\\\\c\\nd\n" in message.raw


def test_50_carriage_returns_are_escaped_in_1_2(stomp: Open, name: str) -> None:
    peer = stomp("1.2")
    peer.subscribe(f"/queue/{name}")
    peer.publish(f"/queue/{name}", headers={"x": "a\rb\r\nc"})
    message = peer.message()
    assert message["x"] == "a\rb\r\nc"
    assert b"x:a\\rb\\r\\nc\n" in message.raw


@stomp_reference_differs("3.10: it escapes in 1.0 too")
def test_50_1_0_has_no_escapes(stomp: Open, name: str) -> None:
    peer = stomp("1.0")
    peer.subscribe(f"/queue/{name}")
    peer.publish(f"/queue/{name}", headers={"x": "a\\nb:c\\"})
    message = peer.message()
    assert message["x"] == "a\\nb:c\\"
    assert b"x:a\\nb:c\\\n" in message.raw


def test_50_what_1_0_cannot_say_is_left_out_or_replaced(stomp: Open, name: str) -> None:
    """A line feed in a header must not become a header of its own."""
    old, new = stomp("1.0"), stomp("1.2")
    old.subscribe(f"/queue/{name}")
    new.publish(f"/queue/{name}", b"body", headers={"x": "a\nevil:yes\n\nbody"})
    message = old.message(b"body")
    assert "evil" not in message


@pytest.mark.parametrize(
    ("version", "escape"), [("1.1", b"\\t"), ("1.2", b"\\t"), ("1.1", b"\\r"), ("1.2", b"\\")]
)
def test_79_an_undefined_escape_is_fatal(stomp: Open, name: str, version: str, escape: bytes) -> None:
    peer = stomp(version)
    peer.send_raw(b"SEND\ndestination:/queue/%s\nx:a%s\n\n\0" % (name.encode(), escape))
    if STOMP_REFERENCE:
        return  # closes without a word, knows \r in all versions
    peer.expect("ERROR")
    peer.expect_close()


@stomp_reference_differs("3.10: un-escapes them")
def test_79_connect_is_not_unescaped(raw: StompPeer) -> None:
    """A password with a backslash is one with a backslash: this one is wrong, un-escaped it would be right."""
    raw.send_raw(b"CONNECT\nlogin:guest\npasscode:guest\nhost:\\c\naccept-version:1.2\n\n\0")
    fault(raw, "Bad CONNECT", "'\\c'")


@pytest.mark.parametrize("version", ["1.1", "1.2"])
def test_81_spaces_around_values_are_kept(stomp: Open, name: str, version: str) -> None:
    peer = stomp(version)
    peer.subscribe(f"/queue/{name}")
    peer.publish(f"/queue/{name}", headers={"x": "  a  ", "y": ""})
    message = peer.message()
    assert message["x"] == "  a  "
    assert message["y"] == ""


@stomp_reference_differs("3.10: keeps them")
def test_50_spaces_around_values_of_1_0_are_not(stomp: Open, name: str) -> None:
    peer = stomp("1.0")
    peer.send_raw(b"SUBSCRIBE\ndestination: /queue/%s\nreceipt: r\n\n\0" % name.encode())
    peer.expect("RECEIPT", receipt_id="r")
    peer.send_raw(b"SEND\ndestination: /queue/%s \nx:  a  \n\nb\0" % name.encode())
    assert peer.message(b"b")["x"] == "a"


def test_81_a_colon_in_a_value(stomper: StompPeer, name: str) -> None:
    stomper.subscribe(f"/queue/{name}")
    stomper.send_raw(b"SEND\ndestination:/queue/%s\nx:a:b:c\n\n\0" % name.encode())
    assert stomper.message()["x"] == "a:b:c"


def test_a_header_without_colon(stomper: StompPeer, name: str) -> None:
    stomper.send_raw(b"SEND\ndestination:/queue/%s\nnonsense\n\n\0" % name.encode())
    if not STOMP_REFERENCE:
        stomper.expect("ERROR")
    stomper.expect_close()


def test_an_unknown_command(stomper: StompPeer) -> None:
    stomper.send("NONSENSE")
    fault(stomper, "Bad command", 'Could not interpret command "NONSENSE"')


def test_utf8_in_headers(stomper: StompPeer, name: str) -> None:
    stomper.subscribe(f"/queue/{name}")
    stomper.publish(f"/queue/{name}", headers={"größe": "☃"})
    assert stomper.message()["größe"] == "☃"


# -- 52: line ends


def test_52_lines_of_1_2_may_end_in_cr_lf(stomp: Open, name: str) -> None:
    peer = stomp(None)
    peer.send_raw(b"CONNECT\r\nlogin:guest\r\npasscode:guest\r\nhost:/\r\naccept-version:1.2\r\n\r\n\0\r\n")
    peer.expect("CONNECTED", version="1.2")
    peer.version = "1.2"
    peer.send_raw(
        b"\r\nSUBSCRIBE\r\ndestination:/queue/%s\r\nid:s\r\nreceipt:r\r\n\r\n\0\r\n\r\n" % name.encode()
    )
    peer.expect("RECEIPT", receipt_id="r")
    body = b"\r\nbody\r\n\n"
    peer.send_raw(b"SEND\r\ndestination:/queue/%s\r\nx:y\r\n\r\n%s\0" % (name.encode(), body))
    assert peer.message(body)["x"] == "y"


def test_52_message_ids_are_unique_and_acks_are_only_for_client_modes(stomper: StompPeer, name: str) -> None:
    stomper.subscribe(f"/queue/{name}", id="auto")
    for _ in range(3):
        stomper.publish(f"/queue/{name}")
    messages = stomper.messages(3)
    assert len({message["message-id"] for message in messages}) == 3
    assert not any("ack" in message for message in messages)
    stomper.ask("UNSUBSCRIBE", id="auto")
    for mode in ("client", "client-individual"):
        stomper.subscribe(f"/queue/{name}", id=mode, ack=mode)
        stomper.publish(f"/queue/{name}")
        message = stomper.message(subscription=mode)
        assert message["ack"]
        stomper.ask("ACK", id=message["ack"])
        stomper.ask("UNSUBSCRIBE", id=mode)


@pytest.mark.parametrize("version", ["1.0", "1.1"])
def test_52_there_is_no_ack_header_before_1_2(stomp: Open, name: str, version: str) -> None:
    peer = stomp(version)
    peer.subscribe(f"/queue/{name}", ack="client")
    peer.publish(f"/queue/{name}")
    message = peer.message()
    assert "ack" not in message
    peer.ask("ACK", subscription="s", headers={"message-id": message["message-id"]})


# -- pieces


def test_a_frame_may_come_byte_by_byte(stomper: StompPeer, name: str) -> None:
    stomper.subscribe(f"/queue/{name}")
    for byte in stomper.encode("SEND", b"a\0b", destination=f"/queue/{name}", content_length="3", x="\\:y"):
        stomper.send_raw(bytes([byte]))
    assert stomper.message(b"a\0b")["x"] == "\\:y"


def test_many_frames_may_come_at_once(stomper: StompPeer, name: str) -> None:
    stomper.subscribe(f"/queue/{name}")
    stomper.send_raw(
        b"".join(
            [stomper.encode("SEND", b"%d" % n, destination=f"/queue/{name}", n=str(n)) for n in range(500)]
        )
    )
    got = stomper.messages(500)
    assert [(message.body, message["n"]) for message in got] == [(b"%d" % n, str(n)) for n in range(500)]


# -- limits


@leveret_only("limits of its own, which differ from 3.10's")
class TestLimits:
    @pytest.fixture
    def limited(self, server: Callable[..., LeveretServer]) -> LeveretServer:
        return server(
            settings={
                "LEVERET_STOMP_MAX_FRAME_SIZE": "65536",
                "LEVERET_STOMP_MAX_FRAME_SIZE_UNAUTHENTICATED": "2048",
                "LEVERET_STOMP_MAX_HEADERS": "20",
                "LEVERET_STOMP_MAX_HEADER_LENGTH": "1024",
                "LEVERET_STOMP_MAX_TRANSACTIONS": "2",
                "LEVERET_STOMP_MAX_TRANSACTION_ACTIONS": "5",
            }
        )

    def refused(self, port: int, data: bytes, *, login: bool = True) -> None:
        with StompPeer(port) as peer:
            if login:
                peer.login()
            peer.send_raw(data)
            peer.expect("ERROR")
            peer.expect_close()

    def test_limits(self, limited: LeveretServer) -> None:
        port = limited.ports["stomp"]
        head = b"SEND\ndestination:/queue/q\n"
        with StompPeer.open(port) as peer:
            peer.publish("/queue/q", bytes(60_000), content_length="60000")
            peer.publish("/queue/q", b"", headers={f"h{n}": "x" for n in range(18)})
            peer.publish("/queue/q", b"", headers={"h": "x" * 1000})
            peer.goodbye()
        self.refused(port, head + b"content-length:70000\n\n")  # said, not even sent
        self.refused(port, head + b"\n" + b"x" * 70_000)
        self.refused(port, head + b"".join([b"h%d:x\n" % n for n in range(30)]) + b"\n\0")
        self.refused(port, head + b"h:" + b"x" * 1100 + b"\n\n\0")
        self.refused(port, head + b"h" * 1100 + b":x\n\n\0")
        self.refused(port, b"S" * 5000)
        self.refused(port, b"CONNECT\n" + b"x:" + b"y" * 900 + b"\n" + b"z:" + b"y" * 3000, login=False)
        with StompPeer.open(port) as peer:
            for transaction in ("a", "b"):
                peer.ask("BEGIN", transaction=transaction)
            peer.send("BEGIN", transaction="c")
            peer.expect("ERROR")
            peer.expect_close()
        with StompPeer.open(port) as peer:
            peer.ask("BEGIN", transaction="a")
            for _ in range(6):
                peer.send("SEND", b"x", destination="/queue/q", transaction="a")
            peer.expect("ERROR")
            peer.expect_close()


def test_a_large_message_passes(stomper: StompPeer, name: str) -> None:
    body = bytes(range(256)) * 8192
    stomper.subscribe(f"/queue/{name}")
    stomper.publish(f"/queue/{name}", body, content_length=str(len(body)))
    stomper.message(body)


def test_nothing_but_the_connection_suffers(stomp: Open, name: str) -> None:
    """Garbage of many kinds, and the broker is well."""
    for garbage in (
        b"\0",
        b"\0\0\0",
        b"\xff\xfe\n\n\0",
        b"SEND\n:x\n\n\0",
        b"SEND\n\n\0",
        b"\r\r\n\n\0",
        b":\n\n\0",
    ):
        peer = stomp()
        peer.send_raw(garbage)
        try:
            while peer.receive(0.3).command == "ERROR":
                pass
        except (StompClosed, TimeoutError):
            pass
        peer.close()
    good = stomp()
    good.subscribe(f"/queue/{name}")
    good.publish(f"/queue/{name}", b"well")
    good.message(b"well")

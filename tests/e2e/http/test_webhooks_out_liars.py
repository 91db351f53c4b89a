"""Webhooks out to endpoints that lie: a real server, and a peer that says whatever it likes on a bare socket."""

from __future__ import annotations

import gzip
import socket
import struct
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from support.hooks_api import HooksApi, publish
from support.server import LeveretServer, poll

OK = b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"
Say = Callable[[socket.socket], None]


def say(data: bytes) -> Say:
    return lambda peer: peer.sendall(data)


def reset(peer: socket.socket) -> None:
    peer.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))


def trickle(data: bytes, pause_s: float) -> Say:
    def speak(peer: socket.socket) -> None:
        for byte in data:
            peer.sendall(bytes((byte,)))
            time.sleep(pause_s)

    return speak


def endless(head: bytes, piece: bytes) -> Say:
    def speak(peer: socket.socket) -> None:
        peer.sendall(head)
        for _ in range(100_000):
            peer.sendall(piece)

    return speak


MOODS: dict[str, tuple[Say, str, int | None]] = {
    # what it says; the reason in the log; the status
    "nothing": (say(b""), "closed", None),
    "garbage": (say(b"\x16\x03\x01 HELO\r\n\r\n"), "protocol", None),
    "another protocol": (say(b"SSH-2.0-OpenSSH_9.0\r\n"), "protocol", None),
    "a status line that is none": (say(b"HTTP/1.1 OK 200\r\n\r\n"), "protocol", None),
    "two lengths": (say(b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\nxx"), "protocol", None),
    "endless headers": (endless(b"HTTP/1.1 200 OK\r\n", b"X-Y: " + b"z" * 1000 + b"\r\n"), "protocol", None),
    "a header without end": (endless(b"HTTP/1.1 200 OK\r\nX: ", b"z" * 10_000), "protocol", None),
    "endless provisions": (endless(b"", b"HTTP/1.1 102 Processing\r\n\r\n"), "protocol", None),
    "a reset": (reset, "closed", None),
    "a trickle": (trickle(OK, 0.1), "timeout", None),
    "half a head": (say(b"HTTP/1.1 200 OK\r\nContent-"), "protocol", None),
    "a switch of protocols": (say(b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\n\r\n"), "protocol", None),
    "an endless body of a failure": (endless(b"HTTP/1.1 500 X\r\nContent-Length: 999999999999\r\n\r\n", bytes(65536)), "status", 500),
    "a failure in chunks without end": (endless(b"HTTP/1.1 500 X\r\nTransfer-Encoding: chunked\r\n\r\n", b"5\r\nabcde\r\n"), "status", 500),
    "a bomb": (
        say(b"HTTP/1.1 500 X\r\nContent-Encoding: gzip\r\nConnection: close\r\n\r\n" + gzip.compress(bytes(20 << 20))), "status", 500,
    ),
    "a shorter body than it says": (say(b"HTTP/1.1 500 X\r\nContent-Length: 100\r\n\r\nshort"), "status", 500),
}  # fmt: skip


class Liar:
    """Says `mood` to the first request of all, then 200; hangs up after each."""

    def __init__(self, mood: Say) -> None:
        self._mood = mood
        self._server = socket.create_server(("127.0.0.1", 0))
        self.port = self._server.getsockname()[1]
        self.requests = 0
        self._threads = [threading.Thread(target=self._accept, daemon=True)]
        self._threads[0].start()

    def _accept(self) -> None:
        while True:
            try:
                peer, _ = self._server.accept()
            except OSError:
                return
            self._threads.append(threading.Thread(target=self._serve, args=(peer,), daemon=True))
            self._threads[-1].start()

    def _serve(self, peer: socket.socket) -> None:
        with peer:
            peer.settimeout(5)
            data = b""
            try:
                while not data.endswith(b"the body"):
                    if not (piece := peer.recv(65536)):
                        return
                    data += piece
                self.requests += 1
                (self._mood if self.requests == 1 else say(OK))(peer)
            except OSError:
                return  # it has hung up on us: its right

    def close(self) -> None:
        self._server.shutdown(socket.SHUT_RDWR)
        self._server.close()
        for thread in self._threads:
            thread.join(5)


@contextmanager
def liar(mood: Say) -> Iterator[Liar]:
    one = Liar(mood)
    try:
        yield one
    finally:
        one.close()


def test_every_lie_is_a_failure_and_the_message_is_delivered_after_all(
    server: Callable[..., LeveretServer], tmp_path: Path
) -> None:
    """All at once, one subscription each, so that it also shows that none holds up another."""
    config = tmp_path / "leveret.toml"
    config.write_text('[plugins.webhooks]\nallowed_networks = ["127.0.0.0/8"]\n')
    one = server(arguments=["--config", str(config)])
    api = HooksApi(one)
    names = {f"w{number}": mood for number, mood in enumerate(MOODS)}
    liars = {}
    try:
        for name, mood in names.items():
            liars[name] = Liar(MOODS[mood][0])
            status, answer = api.call("PUT", f"/v1/webhooks/%2F/{name}", {
                "url": f"http://127.0.0.1:{liars[name].port}/", "exchange": "amq.topic", "routing_key": "t.#",
                "timeout_s": 1.0, "retry": {"delays_s": [0.2, 0.2], "jitter": 0}, "response_snippet_bytes": 100,
            })  # fmt: skip
            assert status == 201, answer
        publish(one, b"the body")
        for name, mood in names.items():
            attempts = poll(
                lambda name=name: len(found := api.call("GET", f"/v1/webhooks/%2F/{name}/attempts")[1]) == 2 and found,  # type: ignore[misc]
                f"{mood}: two attempts", timeout=20,
            )  # fmt: skip
            _, reason, code = MOODS[mood]
            assert [(a["outcome"], a["reason"], a["status"]) for a in attempts] == [
                ("delivered", "", 200), ("retry", reason, code),
            ], mood  # fmt: skip
            assert all(len(a["response"]) <= 100 and len(a["error"]) <= 512 for a in attempts)
    finally:
        for each in liars.values():
            each.close()
    assert one.stop() == 0
    assert "Traceback" not in one.errors


@pytest.mark.parametrize("body", [b"", b"x" * 10], ids=["short", "long"])
def test_a_success_stands_whatever_follows_it(
    server: Callable[..., LeveretServer], tmp_path: Path, body: bytes
) -> None:
    """A body without end is not waited for, and the connection is not used again."""
    config = tmp_path / "leveret.toml"
    config.write_text('[plugins.webhooks]\nallowed_networks = ["127.0.0.0/8"]\n')
    one = server(arguments=["--config", str(config)])
    api = HooksApi(one)
    with liar(
        endless(b"HTTP/1.1 200 OK\r\nContent-Length: 99999999999\r\n\r\n" + body, bytes(65536))
    ) as endpoint:
        api.hook("PUT", value={
            "url": f"http://127.0.0.1:{endpoint.port}/", "exchange": "amq.topic", "routing_key": "t.#", "concurrency": 1,
        }, expect=201)  # fmt: skip
        publish(one, b"the body", b"again the body")
        poll(lambda: api.hook("GET")["delivered_total"] == 2, "both delivered")
        assert endpoint.requests == 2
        last = api.hook("GET", "/attempts")[1]
        assert (last["outcome"], last["error"]) == ("delivered", "the body is longer than 65536 bytes")

"""A bare AMQP 0-9-1 client for tests: synchronous sockets, frames in and out, nothing hidden, malformed input welcome."""

from __future__ import annotations

import contextlib
import socket
import ssl
import struct
import time
from collections import deque
from dataclasses import dataclass, field
from typing import Any, Self

from support.amqp_wire import CLASS_METHOD, decode_method, decode_properties, encode_method, encode_properties

__all__ = ["CAPABILITIES", "Content", "Event", "Peer", "PeerClosed"]

TIMEOUT_S = 10.0
"""How long to wait for a frame that must come. Failing tests only."""

CAPABILITIES = {
    "publisher_confirms": True,
    "exchange_exchange_bindings": True,
    "basic.nack": True,
    "consumer_cancel_notify": True,
    "connection.blocked": True,
    "authentication_failure_close": True,
}


class PeerClosed(AssertionError):
    """The server has closed the socket while a frame was expected."""


@dataclass(frozen=True)
class Content:
    """Properties and body behind a deliver, get-ok or return."""

    properties: dict[str, Any]
    body: bytes
    header: bytes = field(repr=False)  # the header frame's payload


@dataclass(frozen=True)
class Event:
    """One thing the server said on a channel: a method, with its content where it has one; or "heartbeat"."""

    channel: int
    name: str
    arguments: dict[str, Any]
    content: Content | None = None

    def __getattr__(self, name: str) -> Any:
        try:
            return self.arguments[name]
        except KeyError:
            raise AttributeError(f"{self.name} has no {name}") from None

    @property
    def body(self) -> bytes:
        assert self.content is not None, f"{self} has no content"
        return self.content.body

    @property
    def properties(self) -> dict[str, Any]:
        assert self.content is not None, f"{self} has no content"
        return self.content.properties

    @property
    def headers(self) -> dict[str, Any]:
        headers: dict[str, Any] = self.properties.get("headers", {})
        return headers


_WITH_CONTENT = {"basic.deliver", "basic.get-ok", "basic.return"}


class Peer:
    """One connection. `Peer(port)` only connects; `login()` shakes hands; `Peer.open(port)` does both."""

    def __init__(self, port: int, tls: ssl.SSLContext | None = None, host: str = "127.0.0.1") -> None:
        self.socket: socket.socket = socket.create_connection((host, port), TIMEOUT_S)
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        if tls is not None:
            plain = self.socket
            try:
                self.socket = tls.wrap_socket(plain, server_hostname="localhost")
            except BaseException:
                plain.close()
                raise
        self.frame_max = 131072
        self.start: dict[str, Any] = {}  # arguments of connection.start
        self.tune: dict[str, Any] = {}
        self.declared: set[tuple[str, str]] = (
            set()
        )  # ("queue" or "exchange", name) asked for, for cleaning up
        self._received = bytearray()
        self._events: deque[Event] = deque()
        self._partial: dict[
            int, list[Any]
        ] = {}  # channel: method name, arguments, header payload, size, body

    @classmethod
    def open(cls, port: int, tls: ssl.SSLContext | None = None, **login: Any) -> Self:
        peer = cls(port, tls)
        try:
            peer.login(**login)
            peer.open_channel(1)
        except BaseException:
            peer.close()
            raise
        return peer

    # Handshake

    def login(
        self,
        user: str = "guest",
        password: str = "guest",
        vhost: str = "/",
        *,
        mechanism: str = "PLAIN",
        response: bytes | None = None,
        capabilities: dict[str, Any] | None = None,
        properties: dict[str, Any] | None = None,
        channel_max: int | None = None,
        frame_max: int | None = None,
        heartbeat: int = 0,
    ) -> None:
        """From the protocol header to connection.open-ok."""
        self.say_hello()
        self.authenticate(
            user,
            password,
            mechanism=mechanism,
            response=response,
            capabilities=capabilities,
            properties=properties,
        )
        tune = self.tune = self.expect(0, "connection.tune").arguments
        self.frame_max = tune["frame_max"] if frame_max is None else frame_max
        self.send(
            0,
            "connection.tune-ok",
            channel_max=tune["channel_max"] if channel_max is None else channel_max,
            frame_max=self.frame_max,
            heartbeat=heartbeat,
        )
        self.rpc(0, "connection.open", virtual_host=vhost)

    def say_hello(self) -> None:
        """Protocol header out, connection.start in."""
        self.send_raw(b"AMQP\0\0\x09\x01")
        self.start = self.expect(0, "connection.start").arguments

    def authenticate(
        self,
        user: str = "guest",
        password: str = "guest",
        *,
        mechanism: str = "PLAIN",
        response: bytes | None = None,
        capabilities: dict[str, Any] | None = None,
        properties: dict[str, Any] | None = None,
    ) -> None:
        client = {
            "product": "test peer",
            "capabilities": CAPABILITIES if capabilities is None else capabilities,
        }
        if response is None:
            response = f"\0{user}\0{password}".encode()
        self.send(
            0,
            "connection.start-ok",
            client_properties=client | (properties or {}),
            mechanism=mechanism,
            response=response,
            locale="en_US",
        )

    def open_channel(self, channel: int) -> int:
        self.rpc(channel, "channel.open")
        return channel

    # Out

    def send_raw(self, data: bytes) -> None:
        self.socket.settimeout(TIMEOUT_S)
        self.socket.sendall(data)

    @staticmethod
    def frame(kind: int, channel: int, payload: bytes) -> bytes:
        return struct.pack(">BHI", kind, channel, len(payload)) + payload + b"\xce"

    def method_frame(self, channel: int, name: str, **arguments: Any) -> bytes:
        if name in ("queue.declare", "exchange.declare") and not arguments.get("passive"):
            kind = name.partition(".")[0]
            if arguments.get(kind) and not arguments[kind].startswith("amq."):
                self.declared.add((kind, arguments[kind]))
        return self.frame(1, channel, encode_method(name, arguments))

    def send(self, channel: int, name: str, **arguments: Any) -> None:
        self.send_raw(self.method_frame(channel, name, **arguments))

    def publish_frames(
        self,
        channel: int,
        exchange: str,
        routing_key: str,
        body: bytes = b"",
        *,
        mandatory: bool = False,
        immediate: bool = False,
        split: int | None = None,
        **properties: Any,
    ) -> bytes:
        """All frames of one publish; the body in frames of at most `split` octets."""
        size = split or (self.frame_max or 131072) - 8
        return b"".join(
            [
                self.method_frame(
                    channel, "basic.publish", exchange=exchange, routing_key=routing_key, mandatory=mandatory,
                    immediate=immediate,
                ),
                self.frame(2, channel, struct.pack(">HHQ", 60, 0, len(body)) + encode_properties(properties)),
                *(self.frame(3, channel, body[at : at + size]) for at in range(0, len(body), size)),
            ]
        )  # fmt: skip

    def publish(
        self, channel: int, exchange: str, routing_key: str, body: bytes = b"", **options: Any
    ) -> None:
        self.send_raw(self.publish_frames(channel, exchange, routing_key, body, **options))

    # In

    def read_frame(self, timeout: float = TIMEOUT_S) -> tuple[int, int, bytes]:
        """The next frame as it stands: type, channel, payload. Raises PeerClosed, TimeoutError."""
        deadline = time.monotonic() + timeout
        while True:
            if len(self._received) >= 7:
                kind, channel, size = struct.unpack_from(">BHI", self._received)
                if len(self._received) >= size + 8:
                    frame = bytes(self._received[: size + 8])
                    del self._received[: size + 8]
                    assert frame[-1] == 0xCE, f"no frame end: {frame!r}"
                    return kind, channel, frame[7:-1]
            self._received += self.read_some(deadline)

    def read_some(self, deadline: float) -> bytes:
        self.socket.settimeout(max(deadline - time.monotonic(), 0.001))
        try:
            data = self.socket.recv(262144)
        except ConnectionError as error:
            raise PeerClosed(f"the server reset the connection: {error}") from error
        if not data:
            raise PeerClosed(f"the server closed the connection; {bytes(self._received)!r} is left over")
        return data

    def next(self, timeout: float = TIMEOUT_S) -> Event:
        """The next event of any channel."""
        if self._events:
            return self._events.popleft()
        return self._read_event(timeout)

    def _read_event(self, timeout: float) -> Event:
        deadline = time.monotonic() + timeout
        while True:
            kind, channel, payload = self.read_frame(max(deadline - time.monotonic(), 0.001))
            if kind == 8:
                assert (channel, payload) == (0, b"")
                return Event(0, "heartbeat", {})
            if kind == 1:
                assert channel not in self._partial, "a method between the frames of a content"
                name, arguments = decode_method(payload)
                if name not in _WITH_CONTENT:
                    return Event(channel, name, arguments)
                self._partial[channel] = [name, arguments, None, 0, b""]
                continue
            part = self._partial[channel]
            if kind == 2:
                assert part[2] is None, "two headers"
                assert struct.unpack_from(">HH", payload) == (60, 0)
                part[2] = payload
                (part[3],) = struct.unpack_from(">Q", payload, 4)
            else:
                assert kind == 3, f"frame type {kind}"
                assert payload, "an empty body frame"
                assert not self.frame_max or len(payload) <= self.frame_max - 8, "body frame over frame_max"
                part[4] += payload
            if len(part[4]) == part[3]:
                name, arguments, header, _, body = self._partial.pop(channel)
                return Event(channel, name, arguments, Content(decode_properties(header[12:]), body, header))

    def expect(self, channel: int, *names: str, timeout: float = TIMEOUT_S) -> Event:
        """The next event of this channel, which must be one of `names`. Events of other channels are kept."""
        deadline = time.monotonic() + timeout
        for index, event in enumerate(self._events):
            if event.channel == channel:
                del self._events[index]
                break
        else:
            while True:
                try:
                    event = self._read_event(max(deadline - time.monotonic(), 0.001))
                except TimeoutError:
                    raise AssertionError(f"expected {names} on channel {channel}, got nothing") from None
                if event.name == "heartbeat" and "heartbeat" not in names:
                    continue
                if event.channel == channel:
                    break
                if event.name == "connection.close":
                    raise AssertionError(f"expected {names} on channel {channel}, got {event}")
                self._events.append(event)
        assert event.name in names, f"expected {names}, got {event}"
        return event

    def heartbeats(self, seconds: float) -> int:
        """How many heartbeats come, and nothing else, in that time."""
        deadline, count = time.monotonic() + seconds, 0
        while (left := deadline - time.monotonic()) > 0:
            try:
                event = self._read_event(left)
            except TimeoutError:
                break
            assert event.name == "heartbeat", event
            count += 1
        return count

    def rpc(self, channel: int, name: str, **arguments: Any) -> Event:
        """Send and expect `name`-ok."""
        self.send(channel, name, **arguments)
        return self.expect(channel, f"{name}-ok")

    def barrier(self, channel: int = 1, queue: str | None = None) -> list[Event]:
        """What came on the channel until the server had nothing more to say there.

        Two round trips: the first ends the server's work on what was sent so far, the second comes behind its output.
        Give the queue whose deliveries matter: a server that runs queues of their own is then asked through it.
        """
        seen: list[Event] = []
        for _ in range(2):
            if queue is None:
                self.send(channel, "basic.qos")
            else:
                self.send(channel, "queue.declare", queue=queue, passive=True)
            while (event := self.expect(channel, *CLASS_METHOD)).name not in (
                "basic.qos-ok",
                "queue.declare-ok",
            ):
                assert event.name not in ("channel.close", "connection.close"), event
                seen.append(event)
        return seen

    def expect_channel_close(
        self, channel: int, code: int, method: str | None = None, text: str | None = None
    ) -> str:
        """channel.close with this code, naming this method (None: 0,0), and answer it. Returns the text."""
        event = self.expect(channel, "channel.close")
        self.send(channel, "channel.close-ok")
        self._check_close(event, code, method, text)
        return str(event.reply_text)

    def expect_connection_close(
        self, code: int, method: str | None = None, text: str | None = None, timeout: float = TIMEOUT_S
    ) -> str:
        """connection.close with this code, naming this method; answer it, and the socket closes."""
        event = self.expect(0, "connection.close", timeout=timeout)
        with contextlib.suppress(ConnectionError):
            self.send(0, "connection.close-ok")
        self._check_close(event, code, method, text)
        self.expect_eof()
        return str(event.reply_text)

    def expect_refusal(self, *codes: int) -> None:
        """The connection ends: by connection.close with one of these codes, or without a word."""
        try:
            close = self.expect(0, "connection.close")
        except PeerClosed:
            return
        assert close.reply_code in codes, close

    @staticmethod
    def _check_close(event: Event, code: int, method: str | None, text: str | None) -> None:
        assert event.reply_code == code, event
        if text is not None:
            assert event.reply_text == text
        if method != "any":
            assert (event.class_id, event.method_id) == CLASS_METHOD.get(method or "", (0, 0)), event

    def expect_eof(self, timeout: float = TIMEOUT_S) -> bytes:
        """The server closes the socket; returns the octets before that."""
        deadline, rest = time.monotonic() + timeout, bytearray(self._received)
        self._received.clear()
        while True:
            try:
                rest += self.read_some(deadline)
            except PeerClosed:
                return bytes(rest)
            except TimeoutError:
                raise AssertionError(
                    f"the server keeps the connection open; it sent {bytes(rest)!r}"
                ) from None

    # Shorthands

    def declare(self, channel: int, queue: str = "", **arguments: Any) -> str:
        """queue.declare; returns the queue's name."""
        return str(self.rpc(channel, "queue.declare", queue=queue, **arguments).queue)

    def counts(self, channel: int, queue: str) -> tuple[int, int]:
        """Ready messages and consumers, by a passive declare."""
        answer = self.rpc(channel, "queue.declare", queue=queue, passive=True)
        return answer.message_count, answer.consumer_count

    def consume(self, channel: int, queue: str, **arguments: Any) -> str:
        """basic.consume; returns the consumer tag."""
        return str(self.rpc(channel, "basic.consume", queue=queue, **arguments).consumer_tag)

    def get(self, channel: int, queue: str, *, no_ack: bool = True) -> Event | None:
        self.send(channel, "basic.get", queue=queue, no_ack=no_ack)
        event = self.expect(channel, "basic.get-ok", "basic.get-empty")
        return event if event.name == "basic.get-ok" else None

    def drain(self, channel: int, queue: str) -> list[bytes]:
        """The bodies of everything ready in the queue, taken."""
        bodies = []
        while event := self.get(channel, queue):
            bodies.append(event.body)
        return bodies

    def deliver(self, channel: int = 1, timeout: float = TIMEOUT_S) -> Event:
        return self.expect(channel, "basic.deliver", timeout=timeout)

    def confirm(self, channel: int = 1) -> None:
        self.rpc(channel, "confirm.select")

    def publish_confirmed(
        self, channel: int, exchange: str, routing_key: str, body: bytes = b"", **options: Any
    ) -> Event:
        """Publish on a channel in confirm mode with nothing else outstanding; returns the ack."""
        self.publish(channel, exchange, routing_key, body, **options)
        return self.expect(channel, "basic.ack")

    def goodbye(self) -> None:
        """connection.close by the book, then the socket."""
        self.send(0, "connection.close", reply_code=200, reply_text="bye")
        while self.expect(0, "connection.close-ok", "connection.blocked", "connection.unblocked").name != (
            "connection.close-ok"
        ):
            pass
        self.close()

    def close(self) -> None:
        self.socket.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.close()

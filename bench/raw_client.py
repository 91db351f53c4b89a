"""An AMQP 0-9-1 client that costs next to nothing, so that the broker is what is measured.

Standard library only. Publishes are sent from a prepared buffer; deliveries of one size are counted, not parsed.
"""

from __future__ import annotations

import socket
import struct
from typing import Self

__all__ = ["Connection", "Deliveries"]

FRAME_END = b"\xce"
PERSISTENT = 2
TIMEOUT_S = 120.0


def _short(text: str) -> bytes:
    data = text.encode()
    return bytes([len(data)]) + data


def _long(data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + data


def _frame(kind: int, channel: int, payload: bytes) -> bytes:
    return struct.pack(">BHI", kind, channel, len(payload)) + payload + FRAME_END


class Connection:
    """One connection, logged in, with channel 1 open. heartbeat 0, frame_max as the server offers."""

    def __init__(self, port: int, user: str = "guest", password: str = "guest", vhost: str = "/") -> None:
        self.socket = socket.create_connection(("127.0.0.1", port), TIMEOUT_S)
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._buffer = bytearray()
        self.socket.sendall(b"AMQP\0\0\x09\x01")
        self._expect(10, 10)
        login = _long(b"\0" + user.encode() + b"\0" + password.encode())
        self._send(0, 10, 11, _long(b"") + _short("PLAIN") + login + _short("en_US"))
        tune = self._expect(10, 30)
        channel_max, self.frame_max, _ = struct.unpack(">HIH", tune[:8])
        self._send(0, 10, 31, struct.pack(">HIH", channel_max, self.frame_max, 0))
        self._call(0, 10, 40, _short(vhost) + b"\0\0")
        self._call(1, 20, 10, b"\0")

    def _send(self, channel: int, class_id: int, method_id: int, arguments: bytes) -> None:
        self.socket.sendall(_frame(1, channel, struct.pack(">HH", class_id, method_id) + arguments))

    def _call(self, channel: int, class_id: int, method_id: int, arguments: bytes) -> bytes:
        self._send(channel, class_id, method_id, arguments)
        return self._expect(class_id, method_id + 1)

    def _expect(self, class_id: int, method_id: int) -> bytes:
        """The arguments of the next method frame, which must be this one."""
        _, payload = self.read_frame()
        got = struct.unpack_from(">HH", payload)
        if got != (class_id, method_id):
            raise RuntimeError(f"expected method {class_id}.{method_id}, got {got}: {payload[4:300]!r}")
        return payload[4:]

    def read_frame(self) -> tuple[int, bytes]:
        """Type and payload."""
        while True:
            if len(self._buffer) >= 7:
                kind, _, size = struct.unpack_from(">BHI", self._buffer)
                if len(self._buffer) >= size + 8:
                    payload = bytes(self._buffer[7 : size + 7])
                    del self._buffer[: size + 8]
                    return kind, payload
            self._buffer += self._receive()

    def _receive(self) -> bytes:
        data = self.socket.recv(1 << 18)
        if not data:
            raise RuntimeError("the broker closed the connection")
        return data

    # -- what the scenarios need

    def declare(self, queue: str, *, durable: bool = False) -> int:
        """Messages in it."""
        arguments = b"\0\0" + _short(queue) + bytes([2 * durable]) + _long(b"")
        answer = self._call(1, 50, 10, arguments)
        return int(struct.unpack_from(">I", answer, 1 + answer[0])[0])

    def count(self, queue: str) -> int:
        answer = self._call(1, 50, 10, b"\0\0" + _short(queue) + b"\1" + _long(b""))
        return int(struct.unpack_from(">I", answer, 1 + answer[0])[0])

    def delete(self, queue: str) -> None:
        self._call(1, 50, 40, b"\0\0" + _short(queue) + b"\0")

    def select_confirms(self) -> None:
        self._call(1, 85, 10, b"\0")

    def qos(self, prefetch: int) -> None:
        self._call(1, 60, 10, struct.pack(">IHB", 0, prefetch, 0))

    def fence(self) -> None:
        """Until the broker has read everything sent so far."""
        self._call(1, 60, 10, struct.pack(">IHB", 0, 0, 0))

    def consume(self, queue: str, *, no_ack: bool) -> Deliveries:
        arguments = b"\0\0" + _short(queue) + _short("c") + bytes([2 * no_ack]) + _long(b"")
        self._call(1, 60, 20, arguments)
        return Deliveries(self)

    def publish_bytes(self, queue: str, body: bytes, *, persistent: bool) -> bytes:
        """The frames of one publish to the default exchange."""
        mode = PERSISTENT if persistent else 1
        method = struct.pack(">HHH", 60, 40, 0) + _short("") + _short(queue) + b"\0"
        header = struct.pack(">HHQHB", 60, 0, len(body), 0x1000, mode)
        size = self.frame_max - 8
        pieces = [_frame(3, 1, body[at : at + size]) for at in range(0, len(body), size)]
        return _frame(1, 1, method) + _frame(2, 1, header) + b"".join(pieces)

    def acks_bytes(self, first: int, last: int) -> bytes:
        """One ack for each of these delivery tags."""
        return b"".join(_frame(1, 1, struct.pack(">HHQB", 60, 80, tag, 0)) for tag in range(first, last + 1))

    def ack_bytes(self, tag: int) -> bytes:
        """One ack for everything up to this delivery tag."""
        return _frame(1, 1, struct.pack(">HHQB", 60, 80, tag, 1))

    def wait_confirmed(self, confirmed: int) -> int:
        """Read at least one confirm; how many are confirmed now. Confirms may come one by one or together."""
        while True:
            _, payload = self.read_frame()
            class_method = struct.unpack_from(">HH", payload)
            if class_method != (60, 80):
                raise RuntimeError(f"expected basic.ack, got {class_method}")
            tag, is_multiple = struct.unpack_from(">QB", payload, 4)
            confirmed = tag if is_multiple else confirmed + 1
            if len(self._buffer) < 21:
                return int(confirmed)

    def close(self) -> None:
        self.socket.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.close()


class Deliveries:
    """Counts deliveries that are all of one size."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self._pending = bytearray()
        self._unit = 0
        self._bytes = 0
        self.received = 0

    def wait(self) -> int:
        """Wait for more; how many have been received in all."""
        connection = self._connection
        if connection._buffer:
            data = bytes(connection._buffer)
            connection._buffer.clear()
        else:
            data = connection._receive()
        if not self._unit:
            self._pending += data
            self._unit = self._first_size(self._pending)
        self._bytes += len(data)
        if self._unit:
            self.received = self._bytes // self._unit
        return self.received

    @staticmethod
    def _first_size(data: bytearray) -> int:
        """Bytes of the first delivery with all its frames; 0 while it is not all there."""
        at = 0
        left: int | None = None
        while len(data) >= at + 7:
            kind, _, size = struct.unpack_from(">BHI", data, at)
            if len(data) < at + size + 8:
                return 0
            if kind == 2:
                left = int(struct.unpack_from(">Q", data, at + 11)[0])
            elif kind == 3 and left is not None:
                left -= size
            at += size + 8
            if left == 0:
                return int(at)
        return 0

"""A bare MQTT client for tests: a synchronous socket, packets in and out, nothing hidden, malformed input welcome."""

from __future__ import annotations

import socket
import ssl
import time
from collections import deque
from typing import Any, Self

from support import mqtt_wire
from support.mqtt_wire import Packet, Sub, Will

__all__ = ["MqttPeer", "MqttPeerClosed", "Packet", "Sub", "Will"]

TIMEOUT_S = 10.0
"""How long to wait for what must come. Failing tests only."""


class MqttPeerClosed(AssertionError):
    """The server has closed the socket while a packet was expected."""


class MqttPeer:
    """One connection. `MqttPeer(port)` only opens the socket; `connect()` says CONNECT; `open` does both.

    version: 3 (3.1), 4 (3.1.1) or 5. Names of properties are those of `mqtt_wire`.
    """

    def __init__(
        self, port: int, version: int = 5, *, host: str = "127.0.0.1", tls: ssl.SSLContext | None = None
    ) -> None:
        self.socket: socket.socket = socket.create_connection((host, port), TIMEOUT_S)
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        if tls is not None:
            plain = self.socket
            try:
                self.socket = tls.wrap_socket(plain, server_hostname="localhost")
            except BaseException:
                plain.close()
                raise
        self.version = version
        self.client_id = ""
        self.connack = Packet("CONNACK")
        self._received = bytearray()
        self._packets: deque[Packet] = deque()
        self._last_id = 0
        self._aliases: dict[int, str] = {}  # of topics that the server sends
        self.keeps_session = False
        """The server may keep a session behind this connection."""
        self.retained: set[str] = set()
        """Topics that may have a retained message by this client, for cleaning up."""

    @classmethod
    def open(
        cls,
        port: int,
        version: int = 5,
        client_id: str = "",
        *,
        tls: ssl.SSLContext | None = None,
        **login: Any,
    ) -> Self:
        peer = cls(port, version, tls=tls)
        try:
            peer.connect(client_id, **login)
        except BaseException:
            peer.close()
            raise
        return peer

    # Handshake

    def say_connect(
        self,
        client_id: str | bytes = "",
        *,
        clean_start: bool = True,
        keep_alive: int = 0,
        username: str | bytes | None = "guest",
        password: str | bytes | None = "guest",
        will: Will | None = None,
        **properties: Any,
    ) -> None:
        """CONNECT out, without looking at the answer."""
        self.client_id = client_id if isinstance(client_id, str) else ""
        self.keeps_session |= bool(properties.get("session_expiry")) if self.version == 5 else not clean_start
        if will is not None and will.retain and isinstance(will.topic, str):
            self.retained.add(will.topic)
        self.send_raw(
            mqtt_wire.connect(
                self.version, client_id, clean_start=clean_start, keep_alive=keep_alive, username=username,
                password=password, will=will, properties=properties,
            )
        )  # fmt: skip

    def connect(self, client_id: str | bytes = "", *, code: int = 0, **login: Any) -> Packet:
        """CONNECT out, CONNACK with this code in; a refusal is the end of the connection."""
        self.say_connect(client_id, **login)
        return self.expect_connack(code)

    def expect_connack(self, code: int = 0) -> Packet:
        connack = self.connack = self.expect("CONNACK")
        assert connack.code == code, f"expected code {code:#x}, got {connack}"
        if code:
            self.expect_eof()
        else:
            self.client_id = connack.properties.get("assigned_client_id", self.client_id)
        return connack

    # Out

    def send_raw(self, data: bytes) -> None:
        self.socket.settimeout(TIMEOUT_S)
        self.socket.sendall(data)

    def next_id(self) -> int:
        self._last_id = self._last_id % 65535 + 1
        return self._last_id

    def say_publish(
        self, topic: str | bytes, payload: bytes = b"", *, qos: int = 0, retain: bool = False, dup: bool = False,
        packet_id: int | None = None, **properties: Any,
    ) -> int:  # fmt: skip
        """PUBLISH out; returns its packet id (0 with QoS 0)."""
        if qos and packet_id is None:
            packet_id = self.next_id()
        if retain and payload and isinstance(topic, str):
            self.retained.add(topic)
        self.send_raw(
            mqtt_wire.publish(
                self.version, topic, payload, qos=qos, retain=retain, dup=dup, packet_id=packet_id,
                properties=properties,
            )
        )  # fmt: skip
        return packet_id or 0

    def publish(
        self, topic: str, payload: bytes = b"", *, qos: int = 1, code: int | None = 0, **options: Any
    ) -> Packet:
        """PUBLISH and all that follows it. Returns PUBACK or PUBREC; QoS 0: PINGRESP.

        code: the reason it must have; 0 also allows 0x10 (no subscribers).
        """
        packet_id = self.say_publish(topic, payload, qos=qos, **options)
        if qos == 0:
            return self.ping()
        answer = self.expect("PUBACK" if qos == 1 else "PUBREC", packet_id=packet_id)
        if code is not None:
            assert answer.code == code or (code, answer.code) == (0, 0x10), answer
        if qos == 2 and answer.code < 0x80:
            self.settle("PUBREL", packet_id)
            assert self.expect("PUBCOMP", packet_id=packet_id).code == 0
        return answer

    def settle(self, name: str, packet_id: int, reason: int = 0, **properties: Any) -> None:
        """PUBACK, PUBREC, PUBREL or PUBCOMP out."""
        self.send_raw(mqtt_wire.settle(self.version, name, packet_id, reason, properties))

    def subscribe(self, *filters: str | Sub, qos: int = 0, **properties: Any) -> list[int]:
        """SUBSCRIBE; returns the codes of SUBACK, which must be the next packet but for PUBLISHes, which are kept.

        qos: of the filters that are given as text.
        """
        packet_id = self.next_id()
        subs = [Sub(each, qos) if isinstance(each, str) else each for each in filters]
        self.send_raw(mqtt_wire.subscribe(self.version, packet_id, subs, properties))
        codes: list[int] = self._expect_beside_messages("SUBACK", packet_id).codes
        assert len(codes) == len(subs), codes  # [MQTT-3.8.4-6]
        return codes

    def subscribed(self, *filters: str | Sub, qos: int = 0, **properties: Any) -> Self:
        """SUBSCRIBE that must be granted as asked."""
        subs = [Sub(each, qos) if isinstance(each, str) else each for each in filters]
        codes = self.subscribe(*subs, **properties)
        assert codes == [sub.qos for sub in subs], codes
        return self

    def unsubscribe(self, *filters: str, **properties: Any) -> list[int]:
        """UNSUBSCRIBE; returns the codes of UNSUBACK (version 3: none)."""
        packet_id = self.next_id()
        self.send_raw(mqtt_wire.unsubscribe(self.version, packet_id, filters, properties))
        codes: list[int] = self._expect_beside_messages("UNSUBACK", packet_id).fields.get("codes", [])
        return codes

    def disconnect(self, reason: int = 0, **properties: Any) -> None:
        """DISCONNECT by the book; the server closes the socket."""
        self.keeps_session |= bool(properties.get("session_expiry"))
        self.send_raw(mqtt_wire.disconnect(self.version, reason, properties))
        self.expect_eof()

    def ping(self) -> Packet:
        self.send_raw(mqtt_wire.packet("PINGREQ"))
        return self.expect("PINGRESP")

    # In

    def next(self, timeout: float = TIMEOUT_S) -> Packet:
        """The next packet. Raises MqttPeerClosed, TimeoutError."""
        return self._packets.popleft() if self._packets else self._read(time.monotonic() + timeout)

    def _read(self, deadline: float) -> Packet:
        while True:
            length, shift, at = 0, 0, 1
            while at < len(self._received):
                byte = self._received[at]
                length |= (byte & 0x7F) << shift
                shift, at = shift + 7, at + 1
                if byte < 0x80:
                    if len(self._received) < at + length:
                        break
                    first, body = self._received[0], bytes(self._received[at : at + length])
                    del self._received[: at + length]
                    return self._named(mqtt_wire.decode(self.version, first, body))
                assert at < 5, f"a remaining length of five bytes: {bytes(self._received[:8])!r}"
            self._received += self._read_some(deadline)

    def _named(self, packet: Packet) -> Packet:
        """A PUBLISH with an alias instead of its topic gets its topic back (5.0 3.3.2.3.4)."""
        alias = packet.properties.get("topic_alias")
        if alias is not None:
            if not packet.topic:
                assert alias in self._aliases, f"{self}: alias {alias} was never given a topic"
                packet.fields["topic"] = self._aliases[alias]
            self._aliases[alias] = packet.topic
        return packet

    def _read_some(self, deadline: float) -> bytes:
        self.socket.settimeout(max(deadline - time.monotonic(), 0.001))
        try:
            data = self.socket.recv(262144)
        except (ConnectionError, ssl.SSLEOFError) as error:
            raise MqttPeerClosed(f"the server reset the connection: {error}") from error
        if not data:
            raise MqttPeerClosed(f"the server closed the connection; {bytes(self._received)!r} is left over")
        return data

    def expect(self, name: str, *, timeout: float = TIMEOUT_S, **fields: Any) -> Packet:
        """The next packet, which must be this one, with these values of its fields."""
        try:
            packet = self.next(timeout)
        except TimeoutError:
            raise AssertionError(f"{self}: expected {name}, got nothing within {timeout} s") from None
        except MqttPeerClosed as error:
            raise MqttPeerClosed(f"{self}: expected {name}: {error}") from error
        assert packet.name == name, f"{self}: expected {name}, got {packet}"
        for key, value in fields.items():
            found = getattr(packet, key)
            assert found == value, f"{self}: expected {key}={value!r} in {packet}"
        return packet

    def _expect_beside_messages(self, name: str, packet_id: int) -> Packet:
        kept: list[Packet] = []
        while (packet := self.next()).name == "PUBLISH":
            kept.append(packet)
        self._packets.extend(kept)
        assert packet.name == name, f"{self}: expected {name}, got {packet}"
        assert packet.packet_id == packet_id, f"{self}: expected the answer to {packet_id}, got {packet}"
        return packet

    def receive(self, payload: bytes | None = None, *, timeout: float = TIMEOUT_S, **fields: Any) -> Packet:
        """The next PUBLISH, settled as its QoS demands. Other PUBLISHes that come amid QoS 2 are kept."""
        if payload is not None:
            fields["payload"] = payload
        message = self.expect("PUBLISH", timeout=timeout, **fields)
        self.acknowledge(message)
        return message

    def acknowledge(self, message: Packet) -> None:
        """All that a PUBLISH which was received needs, up to PUBCOMP."""
        if message.qos == 1:
            self.settle("PUBACK", message.packet_id)
        elif message.qos == 2:
            self.settle("PUBREC", message.packet_id)
            self._expect_beside_messages("PUBREL", message.packet_id)
            self.settle("PUBCOMP", message.packet_id)

    def barrier(self) -> list[Packet]:
        """What has come, up to the answer of a PINGREQ; nothing of it is settled."""
        self.send_raw(mqtt_wire.packet("PINGREQ"))
        seen = []
        while (packet := self.next()).name != "PINGRESP":
            seen.append(packet)
        return seen

    def nothing(self, seconds: float = 0.0) -> None:
        """Nothing was sent to this client until now; and, if asked, nothing comes for that long."""
        if seconds:
            try:
                packet = self.next(seconds)
            except TimeoutError:
                pass
            else:
                raise AssertionError(f"{self}: expected nothing, got {packet}")
        seen = self.barrier()
        assert not seen, f"{self}: expected nothing, got {seen}"

    def expect_disconnect(self, *codes: int, timeout: float = TIMEOUT_S) -> Packet | None:
        """The server ends the connection: version 5 with DISCONNECT and one of these codes, version 3 without a word."""
        packet = None
        if self.version == 5:
            packet = self.expect("DISCONNECT", timeout=timeout)
            assert packet.code in codes, f"{self}: expected {[hex(code) for code in codes]}, got {packet}"
        self.expect_eof(timeout)
        return packet

    def expect_end(self, *codes: int, timeout: float = TIMEOUT_S) -> None:
        """The server ends the connection: with DISCONNECT or CONNACK and one of these codes, or without a word."""
        try:
            packet = self.next(timeout)
        except MqttPeerClosed:
            return
        assert packet.name in ("DISCONNECT", "CONNACK"), f"{self}: expected the end, got {packet}"
        assert packet.code in codes, f"{self}: expected {[hex(code) for code in codes]}, got {packet}"
        self.expect_eof(timeout)

    def expect_eof(self, timeout: float = TIMEOUT_S) -> None:
        """The server closes the socket without another packet."""
        try:
            packet = self.next(timeout)
        except MqttPeerClosed:
            self.close()
            return
        except TimeoutError:
            raise AssertionError(f"{self}: the server keeps the connection open") from None
        raise AssertionError(f"{self}: expected the end of the stream, got {packet}")

    def close(self) -> None:
        """The socket goes without DISCONNECT."""
        self.socket.close()

    def __repr__(self) -> str:
        return f"MqttPeer({self.client_id!r}, version {self.version})"

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.close()

"""The WebSocket listeners, with clients that others wrote and with one that breaks the rules."""

from __future__ import annotations

import json
import queue
import shutil
import ssl
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any, Self

import paho.mqtt.client as paho
import pytest
import stomp
import trustme
from paho.mqtt.enums import CallbackAPIVersion
from support.amqp_peer import Peer
from support.server import LeveretServer, poll
from support.websocket_peer import (
    BINARY,
    CLOSE,
    PING,
    PONG,
    TEXT,
    Frame,
    WebSocketPeer,
    basic,
    close_payload,
    frame,
    request,
)

CONNECT = b"CONNECT\naccept-version:1.2\nhost:/\nlogin:guest\npasscode:guest\n\n\0"


class PahoClient:
    """Connected over WebSocket; `messages` is what came."""

    def __init__(
        self, port: int, *, context: ssl.SSLContext | None = None, protocol: Any = paho.MQTTv5, **options: Any
    ) -> None:
        self.messages: queue.Queue[tuple[str, bytes]] = queue.Queue()
        self.client = paho.Client(
            CallbackAPIVersion.VERSION2, transport="websockets", protocol=protocol, **options
        )
        self.client.ws_set_options(path="/ws")
        self.client.username_pw_set("guest", "guest")
        if context is not None:
            self.client.tls_set_context(context)
        self.client.on_message = lambda client, data, message: self.messages.put(
            (message.topic, bytes(message.payload))
        )
        self.client.connect("localhost", port)
        self.client.loop_start()
        poll(self.client.is_connected, "connected")

    def subscribe(self, topic: str, qos: int) -> None:
        done: queue.Queue[bool] = queue.Queue()
        self.client.on_subscribe = lambda *arguments: done.put(True)
        self.client.subscribe(topic, qos)
        assert done.get(timeout=5)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.client.disconnect()
        self.client.loop_stop()


@pytest.mark.parametrize("protocol", [paho.MQTTv311, paho.MQTTv5])
@pytest.mark.parametrize("qos", [0, 1, 2])
def test_mqtt_with_paho(shared: LeveretServer, name: str, protocol: Any, qos: int) -> None:
    payloads = [b"", b"x", b"y" * 126, b"z" * 70_000, *(b"%d" % number for number in range(100))]
    with PahoClient(shared.ports["web-mqtt"], protocol=protocol) as client:
        client.subscribe(f"{name}/#", qos)
        for payload in payloads:
            client.client.publish(f"{name}/a", payload, qos)
        found = [client.messages.get(timeout=5) for _ in payloads]
    assert found == [(f"{name}/a", payload) for payload in payloads]


def test_mqtt_meets_amqp(shared: LeveretServer, peer: Peer, name: str) -> None:
    with PahoClient(shared.ports["web-mqtt"]) as client:
        client.subscribe(f"{name}/b", 1)
        peer.publish(1, "amq.topic", f"{name}.b", b"from AMQP")
        assert client.messages.get(timeout=5) == (f"{name}/b", b"from AMQP")


def test_mqtt_packets_in_crumbs(shared: LeveretServer) -> None:
    connect = b"\x10\x1e\x00\x04MQTT\x04\xc2\x00\x3c\x00\x04ws-1\x00\x05guest\x00\x05guest"
    with WebSocketPeer.open(shared.ports["web-mqtt"], subprotocols=["mqtt"]) as peer:
        assert peer.response is not None
        assert peer.response.headers["sec-websocket-protocol"] == "mqtt"
        for byte in connect:  # a packet spans frames
            peer.send(bytes([byte]))
        assert peer.read() == Frame(BINARY, b"\x20\x02\x00\x00")
        peer.send(b"\xc0\x00\xc0\x00")  # a frame holds packets
        assert peer.read() == Frame(BINARY, b"\xd0\x00\xd0\x00")
        peer.send(b"are you there", PING)
        assert peer.read() == Frame(PONG, b"are you there")
        peer.send(b"text", TEXT)
        closing = peer.read()
        assert closing is not None
        assert closing.close_code == 1003


class StompListener(stomp.ConnectionListener):  # type: ignore[misc]
    def __init__(self) -> None:
        self.messages: queue.Queue[str] = queue.Queue()

    def on_message(self, frame: Any) -> None:
        self.messages.put(frame.body)


def test_stomp_with_stomp_py(shared: LeveretServer, name: str) -> None:
    connection = stomp.WSStompConnection(
        [("127.0.0.1", shared.ports["web-stomp"])],
        vhost="/",
        ws_path="/ws",
        header={"Sec-WebSocket-Protocol": "v12.stomp"},
    )
    listener = StompListener()
    connection.set_listener("", listener)
    connection.connect("guest", "guest", wait=True)
    connection.subscribe(f"/topic/{name}", id="1", ack="auto")
    bodies = ["one", "zw\u00f6lf \u2603", "long " * 20_000]
    for body in bodies:
        connection.send(f"/topic/{name}", body)
    assert [listener.messages.get(timeout=5) for _ in bodies] == bodies
    connection.disconnect()


def stomp_peer(server: LeveretServer, **options: Any) -> WebSocketPeer:
    peer = WebSocketPeer.open(server.ports["web-stomp"], subprotocols=["v12.stomp"], **options)
    peer.send(CONNECT, TEXT)
    connected = peer.read()
    assert connected is not None
    assert connected.opcode == TEXT
    assert connected.payload.startswith(b"CONNECTED\n")
    return peer


def test_a_stomp_frame_is_a_message(shared: LeveretServer, name: str) -> None:
    with stomp_peer(shared) as peer:
        bodies = [b"plain", "\u2603".encode(), b"\xff\xfe", b"x" * 100_000, b"last"]
        sends = b"".join(
            b"SEND\ndestination:/topic/%b\ncontent-length:%d\n\n%b\0" % (name.encode(), len(body), body)
            for body in bodies
        )
        peer.send(b"SUBSCRIBE\nid:1\ndestination:/topic/%b\nreceipt:r\n\n\0" % name.encode() + sends)
        found: list[tuple[int, bytes]] = []
        while len(found) < len(bodies):
            message = peer.read()
            assert message is not None
            assert message.payload.endswith(b"\0\n")
            head, _, body = message.payload.partition(b"\n\n")
            if not head.startswith(b"RECEIPT"):
                found.append((message.opcode, body[:-2]))
        assert found == [(BINARY if body == b"\xff\xfe" else TEXT, body) for body in bodies]
        peer.send(close_payload(1000), CLOSE)
        assert peer.read() == Frame(CLOSE, close_payload(1000))
        assert peer.read() is None


def test_text_must_be_text(shared: LeveretServer) -> None:
    with stomp_peer(shared) as peer:
        peer.send(b"SEND\ndestination:/topic/x\n\n\xff\0", TEXT)
        closing = peer.read()
        assert closing is not None
        assert closing.close_code == 1007


def test_http_login_of_stomp(server: Callable[..., LeveretServer]) -> None:
    broker = server(settings={"LEVERET_STOMP_USE_HTTP_AUTH": "true"})
    port = broker.ports["web-stomp"]
    anonymous = b"CONNECT\naccept-version:1.2\nhost:/\n\n\0"
    with WebSocketPeer.open(port, Authorization=basic("guest", "guest")) as peer:
        peer.send(anonymous, TEXT)
        answer = peer.read()
        assert answer is not None
        assert answer.payload.startswith(b"CONNECTED")
    for header in (None, basic("guest", "wrong")):
        with WebSocketPeer.open(port, Authorization=header) as peer:
            peer.send(anonymous, TEXT)
            answer = peer.read()
            assert answer is not None
            assert answer.payload.startswith(b"ERROR")


@pytest.mark.parametrize("listener", ["web-mqtt", "web-stomp"])
@pytest.mark.parametrize(
    ("data", "status"),
    [
        (request("/other"), 404),
        (request(Upgrade=None), 400),
        (request(Sec_WebSocket_Version="7"), 426),
        (b"CONNECT\n\n\0\n\n", 400),
    ],
)
def test_what_is_no_websocket(shared: LeveretServer, listener: str, data: bytes, status: int) -> None:
    with WebSocketPeer.connect(shared.ports[listener]) as peer:
        assert peer.ask(data).status == status


@pytest.mark.parametrize("listener", ["web-mqtt", "web-stomp"])
@pytest.mark.parametrize(
    ("wire", "reason"),
    [
        (frame(b"x", mask=b""), "frame is not masked"),
        (frame(b"x", 5), "unknown opcode"),
        (frame(b"x", flags=0x40), "reserved bits are set"),
    ],
)
def test_a_broken_frame_closes_with_1002(
    shared: LeveretServer, listener: str, wire: bytes, reason: str
) -> None:
    with WebSocketPeer.open(shared.ports[listener]) as peer:
        peer.socket.sendall(wire)
        assert peer.read() == Frame(CLOSE, close_payload(1002, reason))


def test_origins_large_messages_and_going_away(server: Callable[..., LeveretServer]) -> None:
    broker = server(
        settings={
            "LEVERET_WEBSOCKET_ORIGINS": "https://app.example",
            "LEVERET_WEBSOCKET_MAX_MESSAGE_SIZE": "2048",
            "LEVERET_WEBSOCKET_PATH": "/stream",
        }
    )
    port = broker.ports["web-mqtt"]
    with WebSocketPeer.connect(port) as peer:
        assert peer.ask(request("/stream", Origin="https://evil.example")).status == 403
    with WebSocketPeer.open(port, "/stream", Origin="https://app.example") as peer:
        peer.send(b"\x10" + b"x" * 3000)
        closing = peer.read()
        assert closing is not None
        assert closing.close_code == 1009
    connect = b"\x10\x1e\x00\x04MQTT\x04\xc2\x00\x00\x00\x04ws-2\x00\x05guest\x00\x05guest"
    with WebSocketPeer.open(port, "/stream") as peer:
        peer.send(connect)
        assert peer.read() == Frame(BINARY, b"\x20\x02\x00\x00")
        assert broker.stop() == 0
        assert peer.read() == Frame(CLOSE, close_payload(1001))


def test_tls_twins(server: Callable[..., LeveretServer], tmp_path: Path, name: str) -> None:
    authority = trustme.CA()
    authority.issue_cert("localhost").private_key_and_cert_chain_pem.write_to_path(tmp_path / "server.pem")
    context = ssl.create_default_context()
    authority.configure_trust(context)
    broker = server(
        settings={
            "LEVERET_TLS_CERTFILE": str(tmp_path / "server.pem"),
            "LEVERET_LISTENERS_WEB_MQTTS": "0",
            "LEVERET_LISTENERS_WEB_STOMPS": "0",
        }
    )
    with PahoClient(broker.ports["web-mqtts"], context=context) as client:
        client.subscribe(name, 1)
        client.client.publish(name, b"s" * 100_000, 1)
        assert client.messages.get(timeout=5) == (name, b"s" * 100_000)
    with WebSocketPeer.open(broker.ports["web-stomps"], tls=context) as peer:
        peer.send(CONNECT, TEXT)
        answer = peer.read()
        assert answer is not None
        assert answer.payload.startswith(b"CONNECTED")


NODE_OPTIONS = ["--experimental-websocket", "--no-warnings"]  # since 22 it is there anyway
NODE = """
const socket = new WebSocket(`ws://127.0.0.1:${process.argv[1]}/ws`, ["v10.stomp", "v12.stomp"]);
const seen = [];
socket.onopen = () => socket.send("CONNECT\\naccept-version:1.2\\nhost:/\\nlogin:guest\\npasscode:guest\\n\\n\\0");
socket.onmessage = (event) => { seen.push(String(event.data).split("\\n")[0]); socket.close(1000, "done"); };
socket.onclose = (event) => console.log(JSON.stringify(
    {protocol: socket.protocol, seen, code: event.code, clean: event.wasClean}));
"""


def test_a_browsers_websocket(shared: LeveretServer) -> None:
    """Node has the same class as browsers have."""
    node = shutil.which("node")
    if (
        node is None
        or subprocess.run(
            [node, *NODE_OPTIONS, "-e", "WebSocket"], capture_output=True, check=False
        ).returncode
    ):
        pytest.skip("no node with WebSocket")
    done = subprocess.run(
        [node, *NODE_OPTIONS, "-e", NODE, str(shared.ports["web-stomp"])],
        capture_output=True,
        text=True,
        timeout=20,
        check=True,
    )
    assert json.loads(done.stdout) == {
        "protocol": "v12.stomp",
        "seen": ["CONNECTED"],
        "code": 1000,
        "clean": True,
    }

"""A browser: headless Chromium with @stomp/stompjs, the client that web pages use, against the WebSocket listener."""

from __future__ import annotations

import functools
import http.server
import socket
import subprocess
import threading
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from e2e.stomp.stomp_broker import leveret_only
from e2e.stomp.test_stomp_properties import Device
from selenium import webdriver
from support.programs import program
from support.server import LeveretServer, poll
from support.stomp_peer import StompPeer

pytestmark = leveret_only("starts its own server")

PAGE = """<!doctype html><meta charset="utf-8"><title>STOMP</title><script src="/stomp.js"></script><script>
'use strict';
let client, got = [], log = [], receipts = [];
function start(url, options) {
  client = new StompJs.Client(Object.assign({
    brokerURL: url, connectHeaders: {login: 'guest', passcode: 'guest', host: '/'}, reconnectDelay: 200,
    heartbeatIncoming: 0, heartbeatOutgoing: 0,
    onConnect: frame => log.push('connected ' + frame.headers.version),
    onDisconnect: () => log.push('disconnected'),
    onWebSocketClose: event => log.push('closed ' + event.code),
    onStompError: frame => log.push('error ' + frame.headers.message),
    debug: line => { if (/PING|PONG/.test(line)) log.push(line.slice(0, 8)); },
  }, options));
  client.activate();
}
function keep(message) {
  got.push({body: message.body, bytes: Array.from(message.binaryBody), headers: Object.assign({}, message.headers)});
}
</script>"""


class Page:
    """The page in the browser. `run` is JavaScript; `value` is an expression, waited for until it is true."""

    def __init__(self, driver: webdriver.Chrome, address: str) -> None:
        self._driver = driver
        self._address = address

    def open(self, url: str, **options: Any) -> None:
        self._driver.get(self._address)
        self.run("start(arguments[0], arguments[1])", url, options)
        self.value("client.connected")

    def run(self, script: str, *arguments: Any) -> Any:
        return self._driver.execute_script(script, *arguments)

    def value(self, expression: str) -> Any:
        return poll(lambda: self.run(f"return {expression}"), expression)

    def messages(self, count: int) -> list[dict[str, Any]]:
        """The next ones; they are forgotten in the page."""
        self.value(f"got.length >= {count}")
        messages: list[dict[str, Any]] = self.run(f"return got.splice(0, {count})")
        return messages

    def close(self) -> None:
        self._driver.execute_async_script("client.deactivate({force: true}).then(arguments[0])")


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The address of the page, served from this machine."""
    folder = tmp_path_factory.mktemp("site")
    subprocess.run(
        [program("npm", "npm"), "install", "--no-audit", "--no-fund", "--prefix", str(folder), "@stomp/stompjs@7"],
        check=True, capture_output=True, timeout=60,
    )  # fmt: skip
    (folder / "index.html").write_text(PAGE)
    (folder / "stomp.js").write_bytes(
        (folder / "node_modules/@stomp/stompjs/bundles/stomp.umd.min.js").read_bytes()
    )

    class Handler(http.server.SimpleHTTPRequestHandler):
        def log_message(self, *arguments: Any) -> None: ...

    server = http.server.ThreadingHTTPServer(
        ("127.0.0.1", 0), functools.partial(Handler, directory=str(folder))
    )
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield f"http://127.0.0.1:{server.server_address[1]}/index.html"
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.fixture(scope="module")
def broker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LeveretServer]:
    """One whose WebSocket port stays the same when it is restarted."""
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port = probe.getsockname()[1]
    with LeveretServer(
        tmp_path_factory.mktemp("browser") / "data", arguments=["--web-stomp", str(port)]
    ) as server:
        yield server


@pytest.fixture
def page(driver: webdriver.Chrome, site: str, broker: LeveretServer) -> Iterator[Callable[..., Page]]:
    pages = []

    def open(**options: Any) -> Page:
        pages.append(Page(driver, site))
        pages[-1].open(f"ws://127.0.0.1:{broker.ports['web-stomp']}/ws", **options)
        return pages[-1]

    yield open
    for page in pages:
        page.close()
    assert "Traceback" not in broker.errors


@pytest.fixture
def peer(broker: LeveretServer) -> Iterator[StompPeer]:
    with StompPeer.open(broker.ports["stomp"]) as peer:
        yield peer


def test_connect_subscribe_and_send(page: Callable[..., Page], peer: StompPeer, name: str) -> None:
    tab = page()
    assert tab.run("return log[0]") == "connected 1.2"
    assert tab.run("return client.webSocket.protocol") == "v12.stomp"
    tab.run("client.subscribe(arguments[0], keep)", f"/queue/{name}")
    tab.run(
        "client.publish({destination: arguments[0], body: 'grüße ☃', headers: {color: 'b:l\\nue', 'content-type': 'text/plain'}})",
        f"/queue/{name}",
    )
    (message,) = tab.messages(1)
    assert message["body"] == "grüße ☃"
    assert message["headers"]["color"] == "b:l\nue"
    assert message["headers"]["destination"] == f"/queue/{name}"
    peer.publish(f"/queue/{name}", b"from a program")
    assert tab.messages(1)[0]["body"] == "from a program"
    tab.run("client.publish({destination: arguments[0], body: 'from a page'})", f"/queue/{name}-2")
    peer.subscribe(f"/queue/{name}-2")
    peer.message(b"from a page")


def test_binary_and_large_bodies(page: Callable[..., Page], peer: StompPeer, name: str) -> None:
    tab = page()
    tab.run("client.subscribe(arguments[0], keep)", f"/queue/{name}")
    tab.run(
        "client.publish({destination: arguments[0], binaryBody: new Uint8Array([0, 255, 10, 0, 128])})",
        f"/queue/{name}",
    )
    assert tab.messages(1)[0]["bytes"] == [0, 255, 10, 0, 128]
    peer.publish(f"/queue/{name}", b"\xff\0\xfe", content_length="3")
    assert tab.messages(1)[0]["bytes"] == [255, 0, 254]
    tab.run("client.publish({destination: arguments[0], body: 'ü'.repeat(200000)})", f"/queue/{name}")
    assert tab.value("got.length && got.splice(0, 1)[0].body === 'ü'.repeat(200000)")


def test_acks_and_nacks(page: Callable[..., Page], peer: StompPeer, name: str) -> None:
    tab = page()
    tab.run(
        "window.held = []; client.subscribe(arguments[0], m => { keep(m); held.push(m); },"
        " {ack: 'client-individual', 'prefetch-count': '2'})",
        f"/queue/{name}",
    )
    for number in range(4):
        peer.publish(f"/queue/{name}", b"%d" % number)
    assert [message["body"] for message in tab.messages(2)] == ["0", "1"]
    tab.run("held.shift().nack()")
    (again,) = tab.messages(1)
    assert (again["body"], again["headers"]["redelivered"]) == ("0", "true")
    tab.run("held.forEach(m => m.ack()); held = []")
    assert [message["body"] for message in tab.messages(2)] == ["2", "3"]
    tab.run("held.shift().ack()")
    tab.close()
    peer.subscribe(f"/queue/{name}")
    peer.message(b"3", redelivered="true")
    peer.quiet()


def test_receipts_and_transactions(page: Callable[..., Page], name: str) -> None:
    tab = page()
    tab.run("client.subscribe(arguments[0], keep)", f"/queue/{name}")
    tab.run(
        "client.watchForReceipt('r1', () => receipts.push('r1'));"
        "client.publish({destination: arguments[0], body: 'kept', headers: {receipt: 'r1', persistent: 'true'}})",
        f"/queue/{name}",
    )
    tab.value("receipts.includes('r1')")
    assert tab.messages(1)[0]["body"] == "kept"
    tab.run(
        "for (const how of ['abort', 'commit']) { const tx = client.begin();"
        "client.publish({destination: arguments[0], body: how, headers: {transaction: tx.id}}); tx[how](); }",
        f"/queue/{name}",
    )
    assert tab.messages(1)[0]["body"] == "commit"


def test_heart_beats(page: Callable[..., Page]) -> None:
    tab = page(heartbeatIncoming=1000, heartbeatOutgoing=1000)
    tab.value(
        "log.filter(line => line.includes('PONG')).length >= 2 && log.filter(l => l.includes('PING')).length >= 2"
    )
    assert not [line for line in tab.run("return log") if line.startswith("closed")]


def test_an_error_is_told(page: Callable[..., Page]) -> None:
    tab = page(reconnectDelay=0)
    tab.run("client.publish({destination: '/nonsense/x', body: ''})")
    tab.value("log.includes('error Unknown destination')")
    tab.value("log.some(line => line.startsWith('closed'))")


def test_what_a_device_publishes(page: Callable[..., Page], broker: LeveretServer, name: str) -> None:
    """MQTT on one side, a web page on the other; and back."""
    tab = page()
    tab.run("client.subscribe(arguments[0], keep, {receipt: 'sub'})", f"/topic/{name}.*.temperature")
    tab.run("client.watchForReceipt('sub', () => receipts.push('sub'))")
    with Device(broker.ports["mqtt"]) as device:
        device.subscribe(f"{name}/lamp")
        device.client.publish(f"{name}/kitchen/temperature", b"21.5", qos=1).wait_for_publish(5)
        (message,) = tab.messages(1)
        assert message["body"] == "21.5"
        assert message["headers"]["destination"] == f"/topic/{name}.kitchen.temperature"
        tab.run("client.publish({destination: arguments[0], body: 'on'})", f"/topic/{name}.lamp")
        assert device.got.get(timeout=10).payload == b"on"


def test_reconnect_after_a_restart(page: Callable[..., Page], broker: LeveretServer, name: str) -> None:
    """What was published while the page was away is there when it is back."""
    tab = page()
    tab.run("window.again = () => client.subscribe(arguments[0], keep); again()", f"/queue/{name}")
    tab.run(
        "client.onConnect = () => { log.push('again'); client.subscribe(arguments[0], keep); }",
        f"/queue/{name}",
    )
    with StompPeer.open(broker.ports["stomp"]) as peer:
        peer.publish(f"/queue/{name}", b"before", persistent="true")
    assert tab.messages(1)[0]["body"] == "before"
    broker.restart()
    with StompPeer.open(broker.ports["stomp"]) as peer:
        peer.publish(f"/queue/{name}", b"after", persistent="true")
    tab.value("log.includes('again')")
    assert tab.messages(1)[0]["body"] == "after"

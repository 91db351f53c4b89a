"""A browser: Chromium's own EventSource against streams of events; it reconnects by itself, with Last-Event-ID."""

from __future__ import annotations

import base64
import json
import socket
import urllib.request
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from selenium import webdriver
from support.server import LeveretServer, own_server_only, poll

pytestmark = own_server_only("the reference has no REST API for messages")

LOGIN = {"Authorization": "Basic " + base64.b64encode(b"guest:guest").decode()}
LISTEN = """
window.got = []; window.opened = 0; window.gaps = [];
window.source = new EventSource(arguments[0]);
source.onopen = () => opened++;
source.onmessage = event => got.push({id: event.lastEventId, message: JSON.parse(event.data)});
source.addEventListener('gap', event => gaps.push(event.data));
"""


class Page:
    """A page of the server's own origin, logged in by the browser."""

    def __init__(self, driver: webdriver.Chrome, port: int) -> None:
        self._driver = driver
        driver.get(f"http://guest:guest@127.0.0.1:{port}/api/whoami")

    def listen(self, path: str) -> None:
        self._driver.execute_script(LISTEN, path)
        self.value("opened > 0")

    def value(self, expression: str, seconds: float = 15.0) -> Any:
        return poll(lambda: self._driver.execute_script(f"return {expression}"), expression, seconds)

    def payloads(self, count: int) -> list[str]:
        self.value(f"got.length >= {count}")
        found: list[str] = self._driver.execute_script("return got.map(one => one.message.payload)")
        return found

    def close(self) -> None:
        self._driver.execute_script("if (window.source) source.close()")


@pytest.fixture(scope="module")
def broker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LeveretServer]:
    """One whose HTTP port stays the same when it is restarted."""
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port = probe.getsockname()[1]
    data = tmp_path_factory.mktemp("browser") / "data"
    with LeveretServer(data, arguments=["--http", str(port)]) as server:
        yield server
        assert "Traceback" not in server.errors


@pytest.fixture
def page(driver: webdriver.Chrome, broker: LeveretServer) -> Iterator[Page]:
    page = Page(driver, broker.ports["http"])
    yield page
    page.close()


@pytest.fixture
def publish(broker: LeveretServer) -> Callable[[str, int, int], None]:
    def publish(path: str, first: int, last: int) -> None:
        batch = json.dumps([{"payload": str(number)} for number in range(first, last)]).encode()
        address = f"http://127.0.0.1:{broker.ports['http']}/v1/{path}"
        headers = LOGIN | {"Content-Type": "application/json"}
        with urllib.request.urlopen(urllib.request.Request(address, batch, headers), timeout=10) as answer:
            assert json.loads(answer.read())["unrouted"] == []

    return publish


def numbers(last: int) -> list[str]:
    return [str(number) for number in range(last)]


def test_the_browser_confirms_by_reconnecting(
    broker: LeveretServer, page: Page, publish: Callable[[str, int, int], None], name: str
) -> None:
    with broker.peer() as peer:
        peer.declare(1, name, durable=True)
        publish(f"queues/%2F/{name}/messages/batch", 0, 23)
        page.listen(f"/v1/queues/%2F/{name}/events?window=5&resume=2")
        # The stream ends after each five; the browser comes back at once and says what it has seen.
        assert page.payloads(23) == numbers(23)
        assert page.value("opened") == 5
        publish(f"queues/%2F/{name}/messages/batch", 23, 28)
        assert page.payloads(28) == numbers(28)
        page.close()  # three of a window of five are out: the stream has not ended by itself
        # What the last connection had not confirmed is given back when it does not return: it was seen.
        poll(lambda: peer.counts(1, name) == (3, 0), "given back", 10)
        assert peer.drain(1, name) == [b"%d" % number for number in range(25, 28)]
        peer.rpc(1, "queue.delete", queue=name)
        peer.goodbye()


def test_the_browser_goes_on_after_a_kill_and_misses_nothing(
    broker: LeveretServer, page: Page, publish: Callable[[str, int, int], None], name: str
) -> None:
    path = "exchanges/%2F/amq.fanout"
    page.listen(f"/v1/{path}/events?client={name}&window=100")
    publish(f"{path}/messages/batch", 0, 10)
    assert page.payloads(10) == numbers(10)
    broker.kill()
    broker.start()
    publish(f"{path}/messages/batch", 10, 20)  # the browser may or may not be back
    assert page.payloads(20) == numbers(20)
    assert page.value("opened") >= 2
    assert broker.stop() == 0
    broker.start()
    publish(f"{path}/messages/batch", 20, 25)
    assert page.payloads(25) == numbers(25)
    assert page._driver.execute_script("return gaps") == []
    with broker.peer() as peer:
        page.close()
        peer.rpc(1, "queue.delete", queue=f"events.{name}")
        peer.goodbye()


def test_the_browser_is_told_that_it_may_have_missed_something(
    broker: LeveretServer, page: Page, publish: Callable[[str, int, int], None]
) -> None:
    """Without a name there is no queue between two connections."""
    path = "exchanges/%2F/amq.fanout"
    page.listen(f"/v1/{path}/events")
    publish(f"{path}/messages/batch", 0, 3)
    assert page.payloads(3) == numbers(3)
    broker.kill()
    broker.start()
    assert page.value("gaps[0]") == '{"missed":null}'
    publish(f"{path}/messages/batch", 3, 5)
    assert page.payloads(5) == numbers(5)

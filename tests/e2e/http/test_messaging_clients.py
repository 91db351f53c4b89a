"""Messaging by REST, end to end: a real server, other people's HTTP clients, AMQP on the other side, kill -9."""

from __future__ import annotations

import asyncio
import base64
import gzip
import json
import socket
import subprocess
import threading
import time
import urllib.error
import urllib.request
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any
from urllib.parse import quote

import aiohttp
import pytest
from support.amqp_peer import Peer
from support.server import LeveretServer, Server, poll

LOGIN = "Basic " + base64.b64encode(b"guest:guest").decode()
AUTH = {"Authorization": LOGIN}

Start = Callable[..., LeveretServer]


def url(server: Server, *parts: str, kind: str = "queues", query: str = "") -> str:
    assert isinstance(server, LeveretServer)
    path = "/".join(quote(part, safe="") for part in ("/", *parts))
    return f"http://127.0.0.1:{server.ports['http']}/v1/{kind}/{path}{query}"


def post(address: str, body: bytes = b"", **headers: str) -> tuple[int, Any, dict[str, str]]:
    """By urllib: status, JSON, headers."""
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    request = urllib.request.Request(
        address, data=body, headers={"Authorization": LOGIN, **named}, method="POST"
    )
    try:
        with urllib.request.urlopen(request, timeout=15) as response:
            content = response.read()
            return response.status, json.loads(content) if content else None, dict(response.headers)
    except urllib.error.HTTPError as error:
        with error:
            return error.code, json.loads(error.read()), dict(error.headers)


def receive(server: Server, queue: str, query: str = "?max=100&ack=auto") -> list[dict[str, Any]]:
    status, answer, _ = post(url(server, queue, "receive", query=query))
    assert status == 200, answer
    messages: list[dict[str, Any]] = answer["messages"]
    return messages


def curl(*arguments: str) -> str:
    done = subprocess.run(
        ["curl", "-sS", "-u", "guest:guest", "--max-time", "10", *arguments],
        capture_output=True, timeout=15, check=True,
    )  # fmt: skip
    return done.stdout.decode()


def consumers(server: Server, queue: str) -> int:
    with server.peer() as peer:
        found = peer.counts(1, queue)[1]
        peer.goodbye()
    return int(found)


def send_for(seconds: float, to: socket.socket, data: bytes) -> None:
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        to.sendall(data)
        time.sleep(0.01)


@pytest.fixture
def queue(peer: Peer, name: str) -> str:
    """A durable one on the shared server."""
    return peer.declare(1, name, durable=True)


def test_curl_publishes_and_receives(shared: Server, queue: str) -> None:
    body = curl(
        "-H", "Content-Type: text/plain", "-H", "X-Leveret-Message-Id: m-1", "--data-binary", "hello",
        url(shared, queue, "messages"),
    )  # fmt: skip
    assert json.loads(body) == {"routed": True}
    shown = curl("-i", "-X", "POST", url(shared, queue, "receive", query="?format=raw&ack=auto"))
    head, _, body = shown.partition("\r\n\r\n")
    assert head.startswith("HTTP/1.1 200 OK")
    assert "X-Leveret-Message-Id: m-1" in head
    assert body == "hello"
    assert curl("-o", "/dev/null", "-w", "%{http_code}", "-d", "x", url(shared, "none", "messages")) == "404"


def test_what_is_published_here_is_consumed_over_amqp_and_the_other_way_round(
    shared: Server, peer: Peer, queue: str
) -> None:
    assert post(
        url(shared, queue, "messages"), b"\x00\xff", Content_Type="image/png", X_Leveret_Priority="4",
        X_Leveret_Headers='{"n": 1, "Case": "x"}', ce_specversion="1.0", ce_id="1", ce_source="/s", ce_type="t",
    )[:2] == (200, {"routed": True})  # fmt: skip
    got = peer.get(1, queue)
    assert got is not None
    assert got.body == b"\x00\xff"
    assert (got.properties["content_type"], got.properties["priority"], got.properties["delivery_mode"]) == (
        "image/png", 4, 2,
    )  # fmt: skip
    assert got.headers == {
        "n": 1, "Case": "x", "cloudEvents:specversion": "1.0", "cloudEvents:id": "1", "cloudEvents:source": "/s",
        "cloudEvents:type": "t",
    }  # fmt: skip
    peer.confirm()
    peer.publish_confirmed(1, "", queue, b"amqp", headers={"l": [1, "x"]}, correlation_id="c")
    [message] = receive(shared, queue)
    assert (message["payload"], message["properties"]["headers"], message["properties"]["correlation_id"]) == (
        "amqp", {"l": [1, "x"]}, "c",
    )  # fmt: skip


def test_a_compressed_body_stays_as_it_is(shared: Server, peer: Peer, queue: str) -> None:
    packed = gzip.compress(b"text " * 100)

    async def publish() -> None:
        async with aiohttp.ClientSession(headers=AUTH) as session:
            headers = {"Content-Encoding": "gzip", "Content-Type": "text/plain"}
            async with session.post(url(shared, queue, "messages"), data=packed, headers=headers) as answer:
                assert answer.status == 200

    asyncio.run(publish())
    got = peer.get(1, queue)
    assert got is not None
    assert (got.body, got.properties["content_encoding"]) == (packed, "gzip")


def test_many_publishers_and_workers_at_once_lose_and_double_nothing(shared: Server, queue: str) -> None:
    async def publisher(session: aiohttp.ClientSession, index: int) -> None:
        for number in range(25):
            async with session.post(url(shared, queue, "messages"), data=f"{index}.{number}") as answer:
                assert (answer.status, await answer.json()) == (200, {"routed": True})

    async def worker(session: aiohttp.ClientSession, found: list[str]) -> None:
        while len(found) < 500:
            address = url(shared, queue, "receive", query="?max=20&wait=0.2")
            async with session.post(address) as answer:
                messages = (await answer.json())["messages"]
            if not messages:
                continue
            ack = f"{address.partition('/v1/')[0]}/v1/leases/ack"
            async with session.post(ack, json={"leases": [one["lease"] for one in messages]}) as answer:
                assert (await answer.json())["unknown"] == []
            found += [one["payload"] for one in messages]

    async def run() -> list[str]:
        found: list[str] = []
        connector = aiohttp.TCPConnector(limit=0)
        async with aiohttp.ClientSession(headers=AUTH, connector=connector) as session:
            await asyncio.gather(
                *[publisher(session, index) for index in range(20)],
                *[worker(session, found) for _ in range(4)],
            )
        return found

    found = asyncio.run(run())
    assert sorted(found) == sorted([f"{index}.{number}" for index in range(20) for number in range(25)])


def test_a_request_is_answered_by_an_amqp_worker(shared: Server, peer: Peer, queue: str) -> None:
    peer.consume(1, queue, no_ack=True)
    answers: list[Any] = []

    def ask() -> None:
        request = urllib.request.Request(
            url(shared, queue, "requests", query="?timeout=10"), data=b"question",
            headers={"Authorization": LOGIN, "X-Leveret-Correlation-Id": "c1"}, method="POST",
        )  # fmt: skip
        with urllib.request.urlopen(request, timeout=15) as response:
            answers.append((response.status, response.read(), dict(response.headers)))

    asker = threading.Thread(target=ask)
    asker.start()
    got = peer.deliver()
    assert (got.body, got.properties["correlation_id"], got.properties["expiration"]) == (
        b"question",
        "c1",
        "10000",
    )
    peer.publish(
        1,
        "",
        got.properties["reply_to"],
        b"answer",
        content_type="text/x",
        correlation_id="c1",
        headers={"h": "v"},
    )
    asker.join(10)
    [(status, body, headers)] = answers
    assert (status, body, headers["Content-Type"]) == (200, b"answer", "text/x")
    assert headers["X-Leveret-Correlation-Id"] == "c1"
    assert json.loads(headers["X-Leveret-Headers"]) == {"h": "v"}


def test_bodies_that_are_too_large_or_too_slow_store_nothing(server: Start) -> None:
    one = server(settings={"LEVERET_HTTP_MAX_BODY_SIZE": "100000", "LEVERET_HTTP_BODY_TIMEOUT_S": "0.5"})
    with one.peer() as peer:
        peer.declare(1, "q", durable=True)
        status, problem, _ = post(url(one, "q", "messages"), b"x" * 100_001)
        assert (status, problem["error"]) == (413, "payload_too_large")
        head = f"POST /v1/queues/%2F/q/messages HTTP/1.1\r\nHost: x\r\nAuthorization: {LOGIN}\r\n"
        for framing, part in (
            ("Content-Length: 10", b"half"),
            ("Transfer-Encoding: chunked", b"4\r\nhalf\r\n"),
        ):
            with socket.create_connection(("127.0.0.1", one.ports["http"]), 10) as slow:
                slow.sendall(f"{head}{framing}\r\n\r\n".encode() + part)
                assert slow.recv(65536).startswith(b"HTTP/1.1 408 ")
            with socket.create_connection(("127.0.0.1", one.ports["http"]), 10) as gone:
                gone.sendall(f"{head}{framing}\r\n\r\n".encode() + part)
        with socket.create_connection(("127.0.0.1", one.ports["http"]), 10) as endless:
            endless.sendall(f"{head}Transfer-Encoding: chunked\r\n\r\n".encode())
            chunk = b"%x\r\n%s\r\n" % (65536, b"x" * 65536)
            # Refused at once, and read for a while to let the refusal through.
            with pytest.raises(ConnectionError):
                send_for(10, endless, chunk)
        assert post(url(one, "q", "messages"), b"whole")[0] == 200
        assert peer.drain(1, "q") == [b"whole"]
        peer.goodbye()
    assert "Traceback" not in one.errors


def test_what_was_answered_survives_a_kill_and_is_not_published_twice(server: Start) -> None:
    one = server()
    with one.peer() as peer:
        peer.declare(1, "q", durable=True)
        peer.goodbye()
    stop = threading.Event()
    done: list[int] = []

    def publisher(index: int) -> None:
        for number in range(index, 100_000, 8):
            try:
                status, _, _ = post(url(one, "q", "messages"), b"%d" % number, Idempotency_Key=f"k{number}")
            except OSError:
                return
            if status != 200 or stop.is_set():
                return
            done.append(number)

    threads = [threading.Thread(target=publisher, args=(index,)) for index in range(8)]
    for thread in threads:
        thread.start()
    poll(lambda: len(done) >= 200, "published")
    one.kill()
    stop.set()
    for thread in threads:
        thread.join()
    one.start()
    answered = list(done)
    for number in answered[::20] + answered[-8:]:
        status, answer, headers = post(
            url(one, "q", "messages"), b"%d" % number, Idempotency_Key=f"k{number}"
        )
        assert (status, answer, headers.get("Idempotency-Replayed")) == (200, {"routed": True}, "true")
    with one.peer() as peer:
        found = [int(body) for body in peer.drain(1, "q")]
        peer.goodbye()
    assert len(found) == len(set(found))
    assert set(answered) <= set(found)
    # What was not answered was stored with its key, or not at all.
    for number in set(found) - set(answered):
        assert post(url(one, "q", "messages"), b"%d" % number, Idempotency_Key=f"k{number}")[2].get(
            "Idempotency-Replayed"
        )
    assert receive(one, "q") == []


# -- streams of events


class EventSource:
    """As browsers do it: remembers the last id, and the server's wish when to come back."""

    def __init__(self, address: str) -> None:
        self.address = address
        self.last_id = ""
        self.retry_ms = -1

    @asynccontextmanager
    async def open(self, session: aiohttp.ClientSession) -> AsyncIterator[AsyncIterator[dict[str, Any]]]:
        headers = {"Accept": "text/event-stream"}
        if self.last_id:
            headers["Last-Event-ID"] = self.last_id
        timeout = aiohttp.ClientTimeout(total=None, sock_read=10)
        async with session.get(self.address, headers=headers, timeout=timeout) as answer:
            assert answer.status == 200, await answer.text()
            yield self._events(answer)

    async def _events(self, answer: aiohttp.ClientResponse) -> AsyncIterator[dict[str, Any]]:
        id = data = ""
        async for raw in answer.content:
            name, _, value = raw.decode().rstrip("\n").partition(": ")
            if name == "id":
                id = value
            elif name == "data":
                data = value
            elif name == "retry":
                self.retry_ms = int(value)
            elif not name and data:
                self.last_id = id
                yield json.loads(data)
                data = ""


async def read(source: EventSource, session: aiohttp.ClientSession, count: int) -> list[str]:
    """So many payloads, over as many connections as it takes."""
    found: list[str] = []
    while len(found) < count:
        async with source.open(session) as events:
            async for event in events:
                found.append(event["payload"])
                if len(found) == count:
                    break
    return found


def test_a_queue_is_read_over_many_connections_without_loss_or_repetition(shared: Server, queue: str) -> None:
    async def run() -> None:
        source = EventSource(url(shared, queue, "events", query="?window=50"))
        async with aiohttp.ClientSession(headers=AUTH) as session:
            batch = [{"payload": str(number)} for number in range(480)]
            async with session.post(url(shared, queue, "messages", "batch"), json=batch) as answer:
                assert (await answer.json())["count"] == 480
            for start in range(0, 480, 30):  # the reader goes away in the middle, over and over
                assert await read(source, session, 30) == [str(number) for number in range(start, start + 30)]
            async with source.open(session):
                pass  # confirms the last ones

    asyncio.run(run())
    assert receive(shared, queue) == []


def test_a_named_client_goes_on_after_kill_and_restart(server: Start) -> None:
    one = server()

    def address(*parts: str, query: str = "") -> str:
        return url(one, "amq.topic", *parts, kind="exchanges", query=query)

    def publish(first: int, last: int) -> None:
        for number in range(first, last):
            assert post(address("messages", query="?routing_key=a.b"), b"%d" % number)[1] == {"routed": True}

    async def run() -> None:
        source = EventSource("")

        async def some(count: int) -> list[str]:
            source.address = address("events", query="?client=page-1&routing_key=a.%23&window=100")
            async with aiohttp.ClientSession(headers=AUTH) as session:
                return await read(source, session, count)

        async with aiohttp.ClientSession(headers=AUTH) as session:
            source.address = address("events", query="?client=page-1&routing_key=a.%23&window=100")
            async with source.open(session):
                pass
        await asyncio.to_thread(publish, 0, 20)
        assert await some(12) == [str(number) for number in range(12)]
        await asyncio.to_thread(one.kill)
        await asyncio.to_thread(one.start)
        await asyncio.to_thread(publish, 20, 30)
        assert await some(10) == [str(number) for number in range(12, 22)]
        assert await asyncio.to_thread(one.stop) == 0
        await asyncio.to_thread(one.start)
        assert await some(8) == [str(number) for number in range(22, 30)]

    asyncio.run(run())


def test_a_server_that_stops_ends_streams_and_polls_and_gives_back_what_they_held(server: Start) -> None:
    one = server()
    with one.peer() as peer:
        for name in ("events", "leases", "empty"):
            peer.declare(1, name, durable=True)
        peer.goodbye()
    for name in ("events", "leases"):
        assert post(url(one, name, "messages"), b"x")[0] == 200
    [lease] = receive(one, "leases", "?visibility=600")
    assert lease["lease"]

    async def run() -> None:
        async with aiohttp.ClientSession(headers=AUTH) as session:
            source = EventSource(url(one, "events", "events"))

            async def wait() -> Any:
                async with session.post(url(one, "empty", "receive", query="?wait=60")) as answer:
                    return await answer.json()

            waiting = asyncio.create_task(wait())
            async with source.open(session) as events:
                assert (await anext(events))["payload"] == "x"
                await asyncio.to_thread(poll, lambda: consumers(one, "empty") == 1, "the request that waits")
                began = time.monotonic()
                stopping = asyncio.create_task(asyncio.to_thread(one.stop))
                with pytest.raises(StopAsyncIteration):
                    await anext(events)
                assert await waiting == {"messages": []}
            assert await stopping == 0
            assert time.monotonic() - began < 5

    asyncio.run(run())
    one.start()
    for name in ("events", "leases"):
        [message] = receive(one, name)
        assert (message["payload"], message["redelivered"], message["delivery_count"]) == ("x", True, 0)

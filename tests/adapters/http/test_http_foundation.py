"""The HTTP listener over socket pairs: what any area stands on, with routes of the tests' own."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import json
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any, ClassVar

import pytest
import trio
import trio.testing
from aiohttp import web
from support.in_process import InProcess, broker_in_process

from leveret.adapters.http.adapter import HttpAdapter
from leveret.adapters.http.areas import Area, Route
from leveret.adapters.http.errors import Refusal
from leveret.adapters.http.settings import HttpSettings
from leveret.core.errors import AccessRefused, NotFound

GUEST = "Authorization: Basic " + base64.b64encode(b"guest:guest").decode()


class EchoArea(Area):
    """Routes for the tests, beside the real areas. log, begun: of the requests of this test."""

    name: ClassVar[str] = "echo"
    tags: ClassVar[Mapping[str, str]] = {"echo": "Routes of the tests"}
    log: ClassVar[list[str]]
    begun: ClassVar[trio.Event]

    def routes(self) -> Sequence[Route]:
        context, broker = self.context, self.context.broker

        async def echo(request: web.Request) -> web.Response:
            return web.Response(body=await context.body(request))

        async def parts(request: web.Request) -> web.Response:
            return web.json_response(dict(request.match_info))

        async def large(request: web.Request) -> web.StreamResponse:
            response = web.StreamResponse()
            await response.prepare(request)
            for _ in range(64):
                await response.write(b"x" * 65536)
            return response

        async def slow(request: web.Request) -> web.Response:
            self.log.append("begun")
            self.begun.set()
            try:
                await asyncio.sleep(0.3)
            except asyncio.CancelledError:
                self.log.append("cancelled")
                raise
            self.log.append("done")
            return web.Response(text="late")

        async def wait(request: web.Request) -> web.Response:
            self.log.append("begun")
            self.begun.set()
            try:
                await asyncio.Event().wait()
            finally:
                self.log.append("ended")
            raise AssertionError

        async def fail(request: web.Request) -> web.Response:
            raise {
                "broken": ZeroDivisionError("inner"),
                "missing": NotFound("no queue 'q' in vhost '/'"),
                "refused": AccessRefused("write access refused"),
                "teapot": Refusal(418, "teapot", "short and stout", size=3),
            }[request.match_info["how"]]

        async def declare(request: web.Request) -> web.Response:
            session = await context.session(request, "/")
            before = broker.store.definition_writes
            session.queue_declare("made", durable=True)
            assert broker.store.definition_writes > before
            assert broker.store.has_pending
            return web.Response(status=201)

        async def from_trio(request: web.Request) -> web.Response:
            async def answer() -> str:
                await trio.lowlevel.checkpoint()
                return "from trio"

            return web.Response(text=await context.trio(answer))

        return [
            Route("POST", "/echo", echo), Route("GET", "/parts/{one}/{two}", parts), Route("GET", "/large", large),
            Route("GET", "/slow", slow), Route("GET", "/wait", wait), Route("GET", "/fail/{how}", fail),
            Route("GET", "/api/fail/{how}", fail), Route("PUT", "/declare", declare), Route("GET", "/trio", from_trio),
        ]  # fmt: skip


@pytest.fixture
def area() -> type[EchoArea]:
    EchoArea.log, EchoArea.begun = [], trio.Event()
    return EchoArea


@contextlib.asynccontextmanager
async def listener(**changes: Any) -> AsyncIterator[InProcess]:
    async with broker_in_process(adapter=HttpAdapter, areas=(EchoArea,), **changes) as broker:
        yield broker


class Client:
    """One connection; answers are read by their Content-Length."""

    def __init__(self, broker: InProcess) -> None:
        self.stream, self.scope, self.ended = broker.connect()
        self._buffer = b""

    async def send(self, line: str, *headers: str, body: bytes = b"", length: int | None = None) -> None:
        size = len(body) if length is None else length
        head = [f"{line} HTTP/1.1", "Host: x", *headers, *([f"Content-Length: {size}"] if size else [])]
        await self.stream.send_all("\r\n".join([*head, "", ""]).encode() + body)

    async def _until(self, is_enough: Callable[[bytes], bool]) -> None:
        while not is_enough(self._buffer):
            chunk = await self.stream.receive_some()
            if not chunk:
                raise EOFError(self._buffer)
            self._buffer += chunk

    async def answer(self) -> tuple[int, dict[str, str], bytes]:
        with trio.fail_after(5):
            await self._until(lambda data: b"\r\n\r\n" in data)
            head, _, self._buffer = self._buffer.partition(b"\r\n\r\n")
            lines = head.decode().split("\r\n")
            headers = dict(line.lower().split(": ", 1) for line in lines[1:])
            length = int(headers.get("content-length", 0))
            await self._until(lambda data: len(data) >= length)
            body, self._buffer = self._buffer[:length], self._buffer[length:]
            return int(lines[0].split()[1]), headers, body

    async def ask(self, line: str, *headers: str, **body: Any) -> tuple[int, dict[str, str], bytes]:
        await self.send(line, *headers, **body)
        return await self.answer()

    async def close(self) -> None:
        await self.stream.aclose()
        with trio.fail_after(8):
            await self.ended.wait()


async def test_a_connection_serves_many_requests_and_ends_with_its_client(area: type[EchoArea]) -> None:
    async with listener() as broker:
        client = Client(broker)
        for number in range(3):
            status, _, body = await client.ask("POST /echo", body=b"hello %d" % number)
            assert (status, body) == (200, b"hello %d" % number)
        await client.close()


async def test_requests_sent_at_once_are_answered_in_order(area: type[EchoArea]) -> None:
    async with listener() as broker:
        client = Client(broker)
        for number in range(50):
            await client.send("POST /echo", body=b"%d" % number)
        assert [(await client.answer())[2] for _ in range(50)] == [b"%d" % number for number in range(50)]
        await client.close()


async def test_parts_of_the_path_are_decoded_once_after_splitting(area: type[EchoArea]) -> None:
    # %2f as %2F, a plus stays one, a percent sign survives.
    async with listener() as broker:
        client = Client(broker)
        for raw, one, two in [
            ("%2F/a%2Fb", "/", "a/b"), ("%2f/a%2fb", "/", "a/b"), ("a+b/%20c", "a+b", " c"), ("%252F/%25", "%2F", "%"),
            ("{x}/%7By%7D", "{x}", "{y}"), ("a%2Bb/%C3%BC", "a+b", "ü"),
        ]:  # fmt: skip
            _, _, body = await client.ask(f"GET /parts/{raw}")
            assert json.loads(body) == {"one": one, "two": two}
        await client.close()


async def test_a_large_answer_reaches_a_slow_reader_whole(area: type[EchoArea]) -> None:
    async with listener() as broker:
        client = Client(broker)
        await client.send("GET /large", "Connection: close")
        received = 0
        with trio.fail_after(10):
            while chunk := await client.stream.receive_some(10_000):
                received += chunk.count(b"x")
        assert received == 64 * 65536
        await client.close()


async def test_errors_are_rabbitmqs_below_api_and_problem_details_elsewhere(
    area: type[EchoArea], caplog: pytest.LogCaptureFixture
) -> None:
    async with listener() as broker:
        client = Client(broker)
        status, headers, body = await client.ask("GET /api/nowhere")
        assert (status, json.loads(body)) == (404, {"error": "Object Not Found", "reason": "Not Found"})
        status, _, body = await client.ask("GET /api/fail/refused")
        assert (status, json.loads(body)) == (
            401,
            {"error": "not_authorised", "reason": "write access refused"},
        )
        status, headers, body = await client.ask("GET /fail/missing")
        assert status == 404
        assert headers["content-type"] == "application/problem+json"
        assert json.loads(body) == {
            "type": "about:blank", "title": "Not Found", "status": 404, "detail": "no queue 'q' in vhost '/'",
            "error": "not_found",
        }  # fmt: skip
        assert (await client.ask("GET /fail/refused"))[0] == 403
        status, _, body = await client.ask("GET /api/fail/teapot")
        assert json.loads(body) == {"error": "teapot", "reason": "short and stout", "size": 3}
        assert not caplog.records
        status, _, body = await client.ask("GET /fail/broken")
        assert status == 500
        assert b"inner" not in body
        assert "ZeroDivisionError: inner" in caplog.text
        await client.close()


async def test_head_options_and_wrong_methods(area: type[EchoArea]) -> None:
    async with listener() as broker:
        client = Client(broker)
        await client.send("HEAD /parts/a/b")
        with trio.fail_after(5):
            await client._until(lambda data: b"\r\n\r\n" in data)
        assert client._buffer.endswith(b"\r\n\r\n")
        client._buffer = b""
        status, headers, _ = await client.ask("OPTIONS /parts/a/b")
        assert (status, headers["allow"]) == (200, "get, head, options")
        status, headers, _ = await client.ask("DELETE /parts/a/b")
        assert (status, headers["allow"]) == (405, "get, head, options")
        await client.close()


async def test_bodies_are_bounded_in_size_and_time(area: type[EchoArea]) -> None:
    http = replace(HttpSettings(), max_body_size=1024, body_timeout_s=0.05)
    async with listener(http=http) as broker:
        client = Client(broker)
        status, _, body = await client.ask("POST /echo", length=2000)
        assert status == 413
        assert json.loads(body)["error"] == "payload_too_large"
        client2 = Client(broker)
        status, _, body = await client2.ask("POST /echo", length=1000)
        assert (status, json.loads(body)["error"]) == (408, "timeout")
        chunked = Client(broker)
        await chunked.stream.send_all(
            b"POST /echo HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n800\r\n"
            + b"x" * 2048
            + b"\r\n0\r\n\r\n"
        )
        assert (await chunked.answer())[0] == 413
        for one in (client, client2, chunked):
            await one.close()


async def test_what_is_no_http_is_refused(area: type[EchoArea]) -> None:
    async with listener() as broker:
        client = Client(broker)
        await client.stream.send_all(b"AMQP\0\0\x09\x01\r\n\r\n")
        assert (await client.answer())[0] == 400
        await client.close()


async def test_an_answer_waits_until_what_was_changed_is_durable(area: type[EchoArea]) -> None:
    async with listener() as broker:
        client = Client(broker)
        assert (await client.ask("PUT /declare"))[0] == 401
        assert (await client.ask("PUT /declare", GUEST))[0] == 201
        assert not broker.broker.store.has_pending
        await client.close()


async def test_handlers_may_await_trio(area: type[EchoArea]) -> None:
    async with listener() as broker:
        client = Client(broker)
        assert (await client.ask("GET /trio"))[2] == b"from trio"
        await client.close()


async def test_pages_of_configured_origins_may_call(area: type[EchoArea]) -> None:
    http = replace(HttpSettings(), cors_origins=("https://app.example",))
    async with listener(http=http) as broker:
        client = Client(broker)
        _, headers, _ = await client.ask("GET /parts/a/b", "Origin: https://app.example")
        assert headers["access-control-allow-origin"] == "https://app.example"
        _, headers, _ = await client.ask("GET /parts/a/b", "Origin: https://evil.example")
        assert "access-control-allow-origin" not in headers
        _, headers, _ = await client.ask(
            "OPTIONS /parts/a/b",
            "Origin: https://app.example",
            "Access-Control-Request-Headers: authorization",
        )
        assert headers["access-control-allow-headers"] == "authorization"
        assert headers["access-control-allow-methods"] == "get, head, options"
        await client.close()


async def test_a_client_that_has_shut_its_side_gets_the_answer(area: type[EchoArea]) -> None:
    async with listener() as broker:
        client = Client(broker)
        await client.send("GET /slow")
        await client.stream.send_eof()
        assert (await client.answer())[2] == b"late"
        await client.close()
        assert area.log == ["begun", "done"]


async def test_a_request_that_waits_ends_with_its_client(area: type[EchoArea]) -> None:
    async with listener() as broker:
        client = Client(broker)
        await client.send("GET /wait")
        await area.begun.wait()
        await client.close()
        assert area.log == ["begun", "ended"]


async def test_draining_ends_idle_connections_and_finishes_answers(area: type[EchoArea]) -> None:
    async with listener() as broker:
        idle, busy = Client(broker), Client(broker)
        await idle.ask("GET /parts/a/b")
        await busy.send("GET /slow")
        await area.begun.wait()
        adapter: Any = broker.adapter
        adapter.drain()
        assert adapter.context.is_stopping
        with trio.fail_after(0.2):
            await idle.ended.wait()
        assert (await busy.answer())[2] == b"late"
        with trio.fail_after(5):
            await busy.ended.wait()
        await idle.close()
        await busy.close()


async def test_cancelled_connections_leave_nothing(area: type[EchoArea]) -> None:
    async with listener() as broker:
        clients = [Client(broker) for _ in range(3)]
        await clients[1].send("GET /wait")
        await clients[2].send("POST /echo", length=10)
        await area.begun.wait()
        for client in clients:
            client.scope.cancel()
            with trio.fail_after(1):
                await client.ended.wait()
            await client.close()
        assert area.log == ["begun", "ended"]
        adapter: Any = broker.adapter
        assert not adapter._bridges

"""An HTTP client over the socket pairs of a broker in this process: h11 on trio, one connection that is kept alive."""

from __future__ import annotations

import base64
import contextlib
import json
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass
from typing import Any, Self

import h11
import trio
from support.in_process import InProcess, broker_in_process

from leveret.adapters.http.adapter import HttpAdapter
from leveret.core.broker import Broker
from leveret.core.queue.queue import Queue

__all__ = ["Answer", "Event", "Rest", "basic", "declare", "rest_door"]


def basic(username: str, password: str) -> str:
    return "Basic " + base64.b64encode(f"{username}:{password}".encode()).decode()


@dataclass
class Answer:
    """headers: names in lower case."""

    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)

    def problem(self, status: int, error: str) -> dict[str, Any]:
        """Problem details (RFC 9457) of that kind."""
        assert self.status == status, self
        assert self.headers["content-type"].startswith("application/problem+json")
        value: dict[str, Any] = self.json
        assert (value["status"], value["error"]) == (status, error), value
        assert value["detail"]
        assert value["title"]
        return value


@dataclass
class Event:
    id: str
    type: str
    data: str

    @property
    def json(self) -> Any:
        return json.loads(self.data)


class Rest:
    """Requests as one user."""

    def __init__(self, listener: InProcess, authorization: str | None = basic("guest", "guest")) -> None:
        self.broker: Broker = listener.broker
        self._door = listener
        self._authorization = authorization
        self.stream, self.scope, self.ended = listener.connect()
        self._connection = h11.Connection(h11.CLIENT)

    def another(self, authorization: str | None = None) -> Rest:
        return Rest(self._door, authorization or self._authorization)

    async def send(
        self, method: str, path: str, body: bytes = b"", headers: Mapping[str, str] | None = None
    ) -> None:
        """The request, without its answer. A list of headers may repeat names."""
        given = [("Host", "leveret.test"), *(headers or {}).items()]
        if self._authorization is not None:
            given.append(("Authorization", self._authorization))
        given.append(("Content-Length", str(len(body))))
        encoded = [(name.encode(), value.encode("utf-8", "surrogateescape")) for name, value in given]
        connection = self._connection
        data = connection.send(h11.Request(method=method, target=path, headers=encoded))
        assert data is not None
        if body:
            data += connection.send(h11.Data(body)) or b""
        data += connection.send(h11.EndOfMessage()) or b""
        await self.stream.send_all(data)

    async def next(self) -> Any:
        """The next event of h11's."""
        while (event := self._connection.next_event()) is h11.NEED_DATA:
            self._connection.receive_data(await self.stream.receive_some())
        return event

    async def answer(self) -> Answer:
        body = b""
        while not isinstance(response := await self.next(), h11.Response):
            assert isinstance(response, h11.InformationalResponse), response
        while not isinstance(event := await self.next(), h11.EndOfMessage):
            assert isinstance(event, h11.Data), event
            body += event.data
        headers = {name.decode().lower(): value.decode() for name, value in response.headers}
        with contextlib.suppress(h11.LocalProtocolError):  # the server closes it
            self._connection.start_next_cycle()
        return Answer(response.status_code, headers, body)

    async def call(
        self, method: str, path: str, body: bytes | Any = b"", headers: Mapping[str, str] | None = None
    ) -> Answer:
        """body: bytes as they are, anything else as JSON."""
        given = dict(headers or {})
        if not isinstance(body, bytes):
            body = json.dumps(body).encode()
            given.setdefault("Content-Type", "application/json")
        with trio.fail_after(30):
            await self.send(method, path, body, given)
            return await self.answer()

    async def post(self, path: str, body: bytes | Any = b"", **headers: str) -> Answer:
        """headers: Content_Type for Content-Type."""
        return await self.call(
            "POST", path, body, {name.replace("_", "-"): value for name, value in headers.items()}
        )

    async def publish(self, queue: str, body: bytes, **headers: str) -> None:
        answer = await self.post(f"/v1/queues/%2F/{queue}/messages", body, **headers)
        assert (answer.status, answer.json) == (200, {"routed": True})

    async def receive(self, queue: str, query: str = "max=100") -> list[dict[str, Any]]:
        answer = await self.post(f"/v1/queues/%2F/{queue}/receive?{query}")
        assert answer.status == 200, answer
        messages: list[dict[str, Any]] = answer.json["messages"]
        return messages

    # -- streams of events

    async def listen(self, path: str, last_event_id: str | None = None) -> Answer:
        """Open a stream; then `event` and `line`. Refused: the answer's body is there."""
        headers = {"Accept": "text/event-stream"}
        if last_event_id is not None:
            headers["Last-Event-ID"] = last_event_id
        await self.send("GET", path, headers=headers)
        response = await self.next()
        assert isinstance(response, h11.Response)
        found = {name.decode().lower(): value.decode() for name, value in response.headers}
        body = b""
        if found["content-type"].startswith("application/"):
            while isinstance(event := await self.next(), h11.Data):
                body += event.data
        self._text = b""
        self._is_over = False
        return Answer(response.status_code, found, body)

    async def block(self) -> list[str] | None:
        """The lines up to the next blank one; None at the end of the stream."""
        while b"\n\n" not in self._text:
            event = await self.next()
            if not isinstance(event, h11.Data):
                assert isinstance(event, h11.EndOfMessage), event
                self._connection.start_next_cycle()
                return None
            self._text += event.data
        block, _, self._text = self._text.partition(b"\n\n")
        return block.decode().split("\n")

    async def event(self) -> Event | None:
        """The next one, comments and retry hints skipped; None at the end of the stream."""
        while (lines := await self.block()) is not None:
            fields: dict[str, list[str]] = {}
            for line in lines:
                name, _, value = line.partition(":")
                fields.setdefault(name, []).append(value.removeprefix(" "))
            if "data" in fields:
                kind = fields.get("event", ["message"])[-1]
                return Event(fields.get("id", [""])[-1], kind, "\n".join(fields["data"]))
        return None

    async def events(self, count: int) -> list[Event]:
        found: list[Event] = []
        for _ in range(count):
            event = await self.event()
            assert event is not None, f"the stream ended after {len(found)} of {count} events"
            found.append(event)
        return found

    async def close(self) -> None:
        await self.stream.aclose()
        with trio.fail_after(10):
            await self.ended.wait()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *exc_info: object) -> None:
        with trio.CancelScope(shield=True):
            await self.close()


@contextlib.asynccontextmanager
async def rest_door(**changes: Any) -> AsyncIterator[Rest]:
    """A broker in this process with the HTTP listener alone, and a client as guest. changes: sections of the settings."""
    async with broker_in_process(adapter=HttpAdapter, **changes) as listener, Rest(listener) as rest:
        try:
            yield rest
        finally:
            adapter: Any = listener.adapter
            adapter.drain()  # what clients hold is given back


def declare(rest: Rest, name: str, *, durable: bool = False, **arguments: Any) -> Queue:
    """A queue in /. arguments: max_length for x-max-length."""
    return rest.broker.vhosts["/"].add_queue(
        name,
        durable=durable,
        exclusive=False,
        auto_delete=arguments.pop("auto_delete", False),
        arguments={f"x-{key.replace('_', '-')}": value for key, value in arguments.items()},
    )

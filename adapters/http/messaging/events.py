"""Server-sent events: GET .../events of a queue, or of an exchange by a queue of the client's own."""

from __future__ import annotations

import asyncio
import re
import secrets
import time
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from aiohttp import web

from leveret.adapters.http.cors import add_cors
from leveret.adapters.http.errors import Refusal
from leveret.adapters.http.messaging.messages import check_query
from leveret.adapters.http.messaging.properties import bad
from leveret.adapters.http.messaging.publishing import DEFAULT_EXCHANGE, confirm
from leveret.adapters.http.messaging.receiving import choice, must_accept, number, until_end, whole
from leveret.adapters.http.messaging.streams import (
    EPOCH,
    EventId,
    Stream,
    Streams,
    event_of,
    payload_event_of,
)
from leveret.adapters.http.settings import HttpSettings
from leveret.auth.contracts import Permission
from leveret.core.errors import BrokerError

if TYPE_CHECKING:
    from leveret.adapters.http.context import HttpContext
    from leveret.adapters.http.messaging.draining import DrainCallbacks
    from leveret.core.message import Message
    from leveret.core.queue.queue import Queue
    from leveret.core.session import Session
__all__ = ["HEARTBEAT_S", "Events"]

HEARTBEAT_S = 15.0
RETRY_MS, RETRY_AT_ONCE_MS = 2000, 10
WINDOW, MAX_WINDOW = 1000, 10_000
RESUME_S, MAX_RESUME_S = 30.0, 300.0
EXPIRES_S, MAX_EXPIRES_S = 3600.0, 2_592_000.0
MAX_LENGTH = 10_000
"""Messages that wait for a client of an exchange; then the oldest are dropped, and it is told."""
MAX_LENGTH_BYTES = 64 << 20
MAX_KEYS = 100
CLIENT = re.compile(r"[A-Za-z0-9._-]{1,128}")
QUERY = frozenset({"ack", "window", "resume", "format", "last_event_id"})
EXCHANGE_QUERY = frozenset(
    {"routing_key", "client", "window", "expires", "max_length", "format", "last_event_id"}
)
EVENT_STREAM = "text/event-stream"
GAP = b'event: gap\ndata: {"missed":null}\n\n'
"""For a client that has seen an event after which we cannot go on: how much it missed, nobody knows."""
HEADERS = {
    "Content-Type": f"{EVENT_STREAM}; charset=utf-8",
    "Cache-Control": "no-store",
    "X-Accel-Buffering": "no",  # nginx, and those who learnt from it: pass it on at once
    "X-Content-Type-Options": "nosniff",
}


class Events:
    """The handlers."""

    def __init__(self, context: HttpContext, streams: Streams, drain_callbacks: DrainCallbacks) -> None:
        self._context = context
        self._streams = streams
        self._drain_callbacks = drain_callbacks
        self._is_watching = False

    async def of_queue(self, request: web.Request) -> web.StreamResponse:
        """Messages of a queue as server-sent events; confirmed by the Last-Event-ID of the next connection."""
        context = self._context
        session = await context.session(request, request.match_info["vhost"])
        check_query(request, QUERY)
        must_accept(request, EVENT_STREAM)
        is_auto = choice(request, "ack", ("last-event-id", "auto")) == "auto"
        window = whole(request, "window", WINDOW, 1, MAX_WINDOW)
        resume_s = number(request, "resume", RESUME_S, 1.0, MAX_RESUME_S)
        encode_event = _encoder(request)
        name = request.match_info["queue"]
        queue = await context.decide(session, lambda: session.queue_for_consume(name))
        if request.method == "HEAD":
            return web.Response(headers=HEADERS)
        id = _last_event_id(request)
        if is_auto:
            token = secrets.token_urlsafe(12)
        else:
            token = self._streams.resume(id, queue, session.principal.username)
        stream = Stream(
            self._streams,
            queue,
            session,
            token=token,
            window=None if is_auto else window,
            encode_event=encode_event,
        )
        return await self._run(request, stream, hold_s=resume_s)

    async def of_exchange(self, request: web.Request) -> web.StreamResponse:
        """Messages that are published from now on, as server-sent events; with `client`, all since its last connection."""
        context = self._context
        session = await context.session(request, request.match_info["vhost"])
        check_query(request, EXCHANGE_QUERY, frozenset({"routing_key"}))
        must_accept(request, EVENT_STREAM)
        client = request.query.get("client")
        if client is not None and not CLIENT.fullmatch(client):
            raise bad("client must be 1 to 128 of A-Z a-z 0-9 . _ -")
        window = whole(request, "window", WINDOW, 1, MAX_WINDOW)
        expires_s = number(request, "expires", EXPIRES_S, 1.0, MAX_EXPIRES_S)
        max_length = whole(request, "max_length", MAX_LENGTH, 1, 1_000_000)
        encode_event = _encoder(request)
        exchange = request.match_info["exchange"]
        if exchange == DEFAULT_EXCHANGE:
            raise bad("nothing can be bound to the default exchange: subscribe to a queue")
        keys = self._keys(request, session, exchange)
        if request.method == "HEAD":
            return web.Response(headers=HEADERS)
        limits: dict[str, Any] = {"x-max-length": max_length, "x-max-length-bytes": MAX_LENGTH_BYTES}
        if client is None:
            return await self._run_temporary(request, session, exchange, keys, limits, encode_event)
        limits["x-expires"] = int(expires_s * 1000)
        queue = await self._own_queue(session, f"events.{client}", limits)
        await self._bind(session, queue, exchange, keys)
        await confirm(context)
        epoch = queue.arguments[EPOCH]
        before = self._streams.live(epoch)
        if before is not None:
            self._streams.close(before, hold_s=0.0)
        id = _last_event_id(request)
        seen = self._streams.confirmed_position(queue, id)
        greeting = GAP if id is not None and id.token != epoch else b""
        stream = Stream(
            self._streams, queue, session, token=epoch, window=window, encode_event=encode_event,
            is_exclusive=True, skip_to=seen, next_position=seen + 1 if seen else None,
        )  # fmt: skip
        return await self._run(request, stream, hold_s=0.0, greeting=greeting)

    async def acknowledge(self, request: web.Request) -> web.StreamResponse:
        """Confirm all events of a stream up to `id`, without ending the stream."""
        principal = await self._context.authenticate(request)
        check_query(request, frozenset({"id"}))
        await self._context.body(request)
        id = EventId.of(request.query.get("id", ""))
        if id is None:
            raise bad("id must be the id of an event")
        stream = self._streams.live(id.token)
        if stream is None or stream.session.principal.username != principal.username:
            raise Refusal(
                404, "stream_not_found", "there is no such stream of events, or it is not connected"
            )
        if id.boot == self._streams.boot:
            stream.confirm(id.position)
        await confirm(self._context)
        return web.Response(status=204)

    # -- queues of an exchange's readers

    @staticmethod
    def _keys(request: web.Request, session: Session, exchange: str) -> list[str]:
        keys = request.query.getall("routing_key", [])
        if len(keys) > MAX_KEYS or any(len(key.encode("utf-8", "surrogateescape")) > 255 for key in keys):
            raise bad(f"at most {MAX_KEYS} routing keys of at most 255 bytes")
        if keys:
            return keys
        found = session.vhost.exchanges.get(exchange)
        return ["#" if found is not None and found.type == "topic" else ""]

    async def _own_queue(self, session: Session, name: str, limits: dict[str, Any]) -> Queue:
        """The client's, from this connection to the next."""
        arguments = {**limits, EPOCH: secrets.token_urlsafe(12)}
        queue = await self._context.decide(
            session, lambda: session.queue_declare(name, durable=True, arguments=arguments)
        )
        await self._context.decide(session, lambda: session.queue_for_consume(name))
        if EPOCH not in queue.arguments:
            raise Refusal(
                409, "not_a_stream", f"queue '{name}' is there, and was not made for a stream of events"
            )
        return queue

    async def _bind(self, session: Session, queue: Queue, exchange: str, keys: Sequence[str]) -> None:
        """To these keys of that exchange, and to no others of it."""
        decide = self._context.decide
        for key in keys:
            await decide(session, lambda key=key: session.queue_bind(queue.name, exchange, key))  # type: ignore[misc]
        for source, binding in list(session.vhost.bindings_to(queue)):
            if source.name == exchange and binding.routing_key not in keys:
                await decide(
                    session,
                    lambda one=binding: session.queue_unbind(  # type: ignore[misc]
                        queue.name, exchange, one.routing_key, one.arguments
                    ),
                )

    async def _run_temporary(
        self,
        request: web.Request,
        session: Session,
        exchange: str,
        keys: Sequence[str],
        limits: dict[str, Any],
        encode_event: Callable[[str, Message], bytes],
    ) -> web.StreamResponse:
        try:
            queue = await self._context.decide(
                session, lambda: session.queue_declare("", exclusive=True, arguments=limits)
            )
            session.pending_name = None
            await self._bind(session, queue, exchange, keys)
            stream = Stream(
                self._streams, queue, session, token=secrets.token_urlsafe(12), window=None,
                encode_event=encode_event, next_position=queue.next_position,
            )  # fmt: skip
            greeting = GAP if _last_event_id(request) is not None else b""
            return await self._run(request, stream, hold_s=0.0, greeting=greeting)
        finally:
            session.close()  # and the queue with it

    # -- writing

    async def _run(
        self, request: web.Request, stream: Stream, *, hold_s: float, greeting: bytes = b""
    ) -> web.StreamResponse:
        context = self._context
        if not self._is_watching:
            self._is_watching = True
            self._drain_callbacks.add(self._streams.give_back)
        if self._drain_callbacks.is_stopping:
            raise Refusal(503, "stopping", "the server stops", headers={"Retry-After": "5"})
        response = web.StreamResponse(headers={**HEADERS, "Server": "Leveret"})
        add_cors(request, response, HttpSettings.of(context.broker.settings).cors_origins)
        self._streams.open(stream)
        try:
            context.broker.dispatcher.run()
            await response.prepare(request)
            await response.write(b"retry: %d\n\n" % RETRY_MS + greeting)
            with until_end(request, lambda: stream.end("the client has gone")):
                await self._write(response, stream)
            await response.write_eof()
        except ConnectionError:  # the client is gone: its right
            pass
        finally:
            self._streams.close(stream, hold_s=0.0 if self._drain_callbacks.is_stopping else hold_s)
        return response

    async def _write(self, response: web.StreamResponse, stream: Stream) -> None:
        """Until the client has to confirm, or there is no more."""
        now = asyncio.get_running_loop().time
        check_at = now() + HEARTBEAT_S
        while True:
            is_awake = await stream.wait(HEARTBEAT_S)
            data = stream.take()
            if data:
                await response.write(data)
                stream.wrote()
            if stream.reason is not None:
                return
            if stream.is_full:
                await response.write(b"retry: %d\n\n" % RETRY_AT_ONCE_MS)
                return
            if not is_awake:
                await response.write(b":\n\n")
            if now() >= check_at:
                check_at = now() + HEARTBEAT_S
                if not await self._may_go_on(stream):
                    return

    async def _may_go_on(self, stream: Stream) -> bool:
        """Permissions change, and tokens end, while streams go on for days."""
        session = stream.session
        expires_at = session.principal.expires_at
        if expires_at is not None and time.time() >= expires_at:
            return False
        try:
            await self._context.decide(
                session, lambda: session.require(Permission.READ, "queue", stream.queue.name)
            )
            return await self._context.may_enter(session.principal, session.vhost.name)
        except (BrokerError, Refusal):
            return False


def _encoder(request: web.Request) -> Callable[[str, Message], bytes]:
    return event_of if choice(request, "format", ("json", "payload")) == "json" else payload_event_of


def _last_event_id(request: web.Request) -> EventId | None:
    """Of the header; or of the query, for clients that cannot set headers."""
    given = request.headers.get("Last-Event-ID") or request.query.get("last_event_id", "")
    return EventId.of(given)

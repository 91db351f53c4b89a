"""Consuming by REST: POST .../receive, a long poll; and the leases of what it gave, settled by id."""

from __future__ import annotations

import asyncio
import math
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from aiohttp import web

from leveret.adapters.http.cors import add_cors
from leveret.adapters.http.errors import Refusal
from leveret.adapters.http.json_encoding import json_response
from leveret.adapters.http.messaging.leases import MAX_VISIBILITY_S, Lease, Leases
from leveret.adapters.http.messaging.message_json import as_json
from leveret.adapters.http.messaging.messages import check_query, flag
from leveret.adapters.http.messaging.properties import bad, message_headers
from leveret.adapters.http.messaging.publishing import confirm
from leveret.adapters.http.settings import HttpSettings
from leveret.core.queue.consumer import Consumer

if TYPE_CHECKING:
    from leveret.adapters.http.context import HttpContext
    from leveret.adapters.http.messaging.draining import DrainCallbacks
    from leveret.core.message import Message
    from leveret.core.queue.queue import Queue
    from leveret.core.session import Session
__all__ = [
    "Poll",
    "Receiving",
    "choice",
    "describe",
    "must_accept",
    "number",
    "send_whole",
    "until_end",
    "whole",
]

MAX_MESSAGES = 100
MAX_BYTES = 16 << 20
"""Of bodies in one answer; it may be passed by what the queue hands over at once."""
MAX_WAIT_S = 60.0
VISIBILITY_S = 30.0
MAX_IDS = 1000
QUERY = frozenset({"max", "wait", "ack", "visibility", "format"})
REFUSED = re.compile(r"(^|;)\s*q\s*=\s*0(\.0*)?\s*(;|$)")
NO_STORE = {"Cache-Control": "no-store"}


def number(request: web.Request, name: str, default: float, minimum: float, maximum: float) -> float:
    given = request.query.get(name)
    if given is None:
        return default
    try:
        value = float(given)
    except ValueError:
        value = math.nan
    if not minimum <= value <= maximum:  # nan is neither
        raise bad(f"{name} must be a number from {minimum:g} to {maximum:g}")
    return value


def whole(request: web.Request, name: str, default: int, minimum: int, maximum: int) -> int:
    given = request.query.get(name)
    if given is None:
        return default
    if not (given.isascii() and given.isdigit() and len(given) < 20 and minimum <= int(given) <= maximum):
        raise bad(f"{name} must be a whole number from {minimum} to {maximum}")
    return int(given)


class Poll:
    """A consumer until something has come: it takes more only until its handler has had its turn."""

    def __init__(self, queue: Queue, session: Session, maximum: int) -> None:
        self.queue = queue
        self.messages: list[Message] = []
        self.consumer = Consumer(queue, self, "leveret.http-poll", prefetch=maximum)
        self._session = session
        self._maximum = maximum
        self._is_over = False
        self._bytes = 0
        self._came: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    async def wait(self, seconds: float) -> None:
        """Until there is something, or the time has passed."""
        if not self._came.done() and seconds > 0:
            await asyncio.wait([self._came], timeout=seconds)

    def end(self) -> None:
        self._is_over = True
        self._wake()

    def _wake(self) -> None:
        if not self._came.done():
            self._came.set_result(None)

    # -- Sink

    def capacity(self, consumer: Consumer) -> int:
        if self._is_over or self._bytes >= MAX_BYTES:
            return 0
        return self._maximum - len(self.messages)

    def deliver(self, consumer: Consumer, messages: list[Message]) -> None:
        self.messages += messages
        self._bytes += sum([len(message.body) for message in messages])
        self._wake()
        tracer = self._session.vhost.tracer
        if tracer is not None:
            session = self._session
            name = getattr(session.connection, "name", "")
            tracer.delivered(self.queue, messages, name, 0, session.principal.username)

    def on_cancelled(self, consumer: Consumer, reason: str) -> None:
        self.end()

    def describe(self) -> dict[str, Any]:
        return describe(self._session)


def describe(session: Session) -> dict[str, Any]:
    name = getattr(session.connection, "name", "")
    return {
        "name": name,
        "connection_name": name,
        "user": session.principal.username,
        "vhost": session.vhost.name,
    }


async def send_whole(context: HttpContext, request: web.Request, response: web.Response) -> bool:
    """Write an answer now; False: the client is gone."""
    response.headers["Server"] = "Leveret"
    add_cors(request, response, HttpSettings.of(context.broker.settings).cors_origins)
    try:
        await response.prepare(request)
        await response.write_eof()
    except (ConnectionError, RuntimeError):  # aiohttp has either, for a transport that closed
        return False
    transport = request.transport
    return transport is not None and not transport.is_closing()


class Receiving:
    """The handlers."""

    def __init__(self, context: HttpContext, leases: Leases, drain_callbacks: DrainCallbacks) -> None:
        self._context = context
        self._leases = leases
        self._drain_callbacks = drain_callbacks

    async def receive(self, request: web.Request) -> web.StreamResponse:
        """Receive messages of a queue, or wait for the first one; they are leased until they are settled by their id."""
        context = self._context
        session = await context.session(request, request.match_info["vhost"])
        check_query(request, QUERY)
        maximum = whole(request, "max", 1, 1, MAX_MESSAGES)
        wait_s = number(request, "wait", 0.0, 0.0, MAX_WAIT_S)
        visibility_s = number(request, "visibility", VISIBILITY_S, 1.0, MAX_VISIBILITY_S)
        is_auto = choice(request, "ack", ("manual", "auto")) == "auto"
        is_raw = choice(request, "format", ("json", "raw")) == "raw"
        if is_raw and maximum > 1:
            raise bad("format=raw is one message: max must be 1")
        if not is_raw:
            must_accept(request, "application/json")
        username = session.principal.username
        if not is_auto:
            maximum = min(maximum, self._leases.room(username))
        await context.body(request)  # there is none; what comes nevertheless is not the next request
        name = request.match_info["queue"]
        queue = await context.decide(session, lambda: session.queue_for_consume(name))
        queue.mark_used()
        messages = await self._take(request, queue, session, maximum, wait_s)
        context.broker.timers.tick()
        leases: list[Lease] = []
        if not is_auto and messages:
            messages = self._with_room(queue, username, messages)
            leases = [self._leases.grant(message, username, visibility_s) for message in messages]
        response = _raw(messages, leases) if is_raw else _json(messages, leases)
        if messages:
            await self._hand_out(request, response, queue, messages, leases)
        return response

    def _with_room(self, queue: Queue, username: str, messages: list[Message]) -> list[Message]:
        """As many as may be leased: others may have taken the room while this one waited. Raise Refusal (429)."""
        room = 0
        try:
            room = self._leases.room(username)
        finally:
            if room < len(messages):
                queue.requeue(messages[room:], counts=False)
        return messages[:room]

    async def _take(
        self, request: web.Request, queue: Queue, session: Session, maximum: int, wait_s: float
    ) -> list[Message]:
        poll = Poll(queue, session, maximum)
        queue.attach(poll.consumer)
        forget = self._drain_callbacks.add(poll.end)
        try:
            self._context.broker.dispatcher.run()
            with until_end(request, poll.end):
                await poll.wait(0.0 if self._drain_callbacks.is_stopping else wait_s)
        except BaseException:  # the client has gone
            if poll.messages:
                queue.requeue(poll.messages, counts=False)
            raise
        finally:
            forget()
            poll.end()
            queue.detach(poll.consumer, may_delete=False)
        return poll.messages

    async def _hand_out(
        self,
        request: web.Request,
        response: web.Response,
        queue: Queue,
        messages: list[Message],
        leases: list[Lease],
    ) -> None:
        """Write the answer. What the connection did not take goes back at once; what it took is acknowledged, unless it
        is leased."""
        is_sent = False
        try:
            is_sent = await send_whole(self._context, request, response)
        finally:
            if leases and not is_sent:
                for lease in leases:
                    if self._leases.find(lease.id, lease.username) is lease:
                        self._leases.give_up(lease)
            elif not leases:
                if is_sent:
                    queue.settle(messages)
                else:
                    queue.requeue(messages, counts=False)

    # -- settling

    async def settle(self, request: web.Request) -> web.StreamResponse:
        """Settle a lease: ack, nack (requeue=false: dead-letter), or extend (visibility: seconds from now)."""
        context = self._context
        principal = await context.authenticate(request)
        act = self._act(request)
        await context.body(request)
        lease = self._leases.find(request.match_info["lease"], principal.username)
        if lease is None:
            raise Refusal(404, "lease_not_found", "there is no such lease: it was settled, or it has ended")
        act(lease)
        await confirm(context)
        return web.Response(status=204)

    async def settle_many(self, request: web.Request) -> web.StreamResponse:
        """Settle up to 1000 leases, {"leases": [id, ...]}, in the same way; the answer names unknown ones."""
        context = self._context
        principal = await context.authenticate(request)
        act = self._act(request)
        ids = (await context.json(request)).get("leases")
        if not isinstance(ids, list) or not all(isinstance(one, str) for one in ids) or len(ids) > MAX_IDS:
            raise bad(f'the body must be {{"leases": [...]}}, at most {MAX_IDS} ids')
        unknown = []
        for id in ids:
            lease = self._leases.find(id, principal.username)
            if lease is None:
                unknown.append(id)
            else:
                act(lease)
        await confirm(context)
        return json_response({"count": len(ids) - len(unknown), "unknown": unknown})

    def _act(self, request: web.Request) -> Any:
        verb = request.match_info["verb"]
        if verb == "ack":
            check_query(request, frozenset())
            return self._leases.ack
        if verb == "nack":
            check_query(request, frozenset({"requeue"}))
            requeue = flag(request, "requeue", True)
            return lambda lease: self._leases.nack(lease, requeue=requeue)
        if verb == "extend":
            check_query(request, frozenset({"visibility"}))
            visibility_s = number(request, "visibility", VISIBILITY_S, 1.0, MAX_VISIBILITY_S)
            return lambda lease: self._leases.extend(lease, visibility_s)
        raise Refusal(404, "not_found", "a lease can be settled by ack, nack and extend")


@contextmanager
def until_end(request: web.Request, on_end: Callable[[], None]) -> Iterator[None]:
    """Call it when the client shuts its side of the connection: it has hardly stayed for what comes later."""
    bridge: Any = request.transport
    if not hasattr(bridge, "on_end") or bridge.has_ended:
        on_end()
        yield
        return
    bridge.on_end = on_end
    try:
        yield
    finally:
        bridge.on_end = None


def must_accept(request: web.Request, media_type: str) -> None:
    """Raise Refusal (406) if the client says that it cannot take an answer of this type."""
    header = ",".join(request.headers.getall("Accept", ("*/*",)))
    if not header or "*/*" in header:
        return
    wanted = (media_type, media_type.partition("/")[0] + "/*")
    for item in header.lower().split(","):
        name, _, parameters = item.partition(";")
        if name.strip() in wanted and not REFUSED.search(parameters):
            return
    raise Refusal(406, "not_acceptable", f"the answer would be {media_type}, which Accept does not name")


def choice(request: web.Request, name: str, choices: tuple[str, ...]) -> str:
    given = request.query.get(name, choices[0])
    if given not in choices:
        raise bad(f"{name} must be {' or '.join(choices)}")
    return given


def _json(messages: list[Message], leases: list[Lease]) -> web.Response:
    found = []
    for index, message in enumerate(messages):
        item = as_json(message)
        if leases:
            item = {"lease": leases[index].id, **item}
        found.append(item)
    return json_response({"messages": found}, headers=NO_STORE)


def _raw(messages: list[Message], leases: list[Lease]) -> web.Response:
    """The body as it was published, properties as headers; 204 without one."""
    if not messages:
        return web.Response(status=204, headers=NO_STORE)
    message = messages[0]
    headers = message_headers(message.envelope)
    headers["X-Leveret-Redelivered"] = "true" if message.is_redelivered else "false"
    headers["X-Leveret-Delivery-Count"] = str(message.delivery_count)
    if leases:
        headers["X-Leveret-Lease"] = leases[0].id
    return web.Response(body=message.body, headers=headers)

"""Request and reply in one call: POST .../requests."""

from __future__ import annotations

import asyncio
import secrets
from typing import TYPE_CHECKING

from aiohttp import web

from leveret.adapters.http.errors import Refusal
from leveret.adapters.http.messaging.messages import check_query, drafts_of, place_of
from leveret.adapters.http.messaging.properties import bad, message_headers
from leveret.adapters.http.messaging.publishing import check_room, publish
from leveret.adapters.http.messaging.receiving import number

if TYPE_CHECKING:
    from leveret.adapters.http.context import HttpContext
    from leveret.adapters.http.messaging.draining import DrainCallbacks
    from leveret.core.message import Envelope
__all__ = ["Requests"]

TIMEOUT_S, MAX_TIMEOUT_S = 30.0, 300.0
QUERY = frozenset({"routing_key", "timeout"})


class Question:
    """Waits for one reply, whichever comes first."""

    def __init__(self) -> None:
        self.answer: asyncio.Future[tuple[Envelope, bytes] | None] = (
            asyncio.get_running_loop().create_future()
        )

    def deliver_reply(self, envelope: Envelope, bodies: list[bytes]) -> None:
        if not self.answer.done():
            self.answer.set_result((envelope, bodies[0]))

    def give_up(self) -> None:
        if not self.answer.done():
            self.answer.set_result(None)


class Requests:
    """The handler."""

    def __init__(self, context: HttpContext, drain_callbacks: DrainCallbacks) -> None:
        self._context = context
        self._drain_callbacks = drain_callbacks

    async def ask(self, request: web.Request) -> web.StreamResponse:
        """Publish a request with a reply address, wait for the reply, answer with it: its body, its properties."""
        context = self._context
        broker = context.broker
        session = await context.session(request, request.match_info["vhost"])
        check_query(request, QUERY)
        timeout_s = number(request, "timeout", TIMEOUT_S, 0.01, MAX_TIMEOUT_S)
        if "Idempotency-Key" in request.headers:
            raise bad("Idempotency-Key is for publishing: a reply is not kept")
        place = place_of(request)
        await check_room(context)
        body = await context.body(request)
        draft, _ = drafts_of(request, body)
        if draft is None:
            raise bad("one request at a time: a batch has no reply")
        properties = draft.properties
        if properties.reply_to is not None:
            raise bad(
                "the reply comes as the answer to this request: X-Leveret-Reply-To is not for you to set"
            )
        # Nobody waits longer for it than we do, nor after a restart.
        properties.delivery_mode = 1
        if properties.expiration is None:
            properties.expiration = str(max(1, int(timeout_s * 1000)))
        if properties.correlation_id is None:
            properties.correlation_id = secrets.token_urlsafe(12)
        question = Question()
        address = properties.reply_to = broker.replies.register(question)
        forget = self._drain_callbacks.add(question.give_up)
        try:
            taken = await context.decide(session, lambda: publish(session, place, draft))
            if taken.unrouted:
                raise Refusal(422, "unroutable", "no queue is bound for the request: nobody will answer")
            broker.dispatcher.run()
            try:
                async with asyncio.timeout(timeout_s):
                    answer = await question.answer
            except TimeoutError:
                raise Refusal(504, "reply_timeout", f"no reply within {timeout_s:g} s") from None
        finally:
            forget()
            broker.replies.forget(address)
        if answer is None:
            raise Refusal(503, "stopping", "the server stops", headers={"Retry-After": "5"})
        envelope, content = answer
        return web.Response(body=content, headers=message_headers(envelope))

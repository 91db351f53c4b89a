"""Streams of events: one consumer each, whose messages are confirmed by the Last-Event-ID of its next connection.

An event stream has no way back; but a browser that reconnects says which event it saw last. So messages stay unsettled
until then: a stream that has a window of them out is ended, and the reconnection confirms them. Nothing is confirmed
that was not seen, and nothing that was seen comes again.

An event's id is TOKEN.BOOT.POSITION: the stream, the start of the server, the message's position in its queue.
"""

from __future__ import annotations

import asyncio
import base64
import logging
import re
import secrets
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from leveret.adapters.http.json_encoding import encode
from leveret.adapters.http.messaging.message_json import as_json
from leveret.adapters.http.messaging.receiving import describe
from leveret.core.queue.consumer import Consumer

if TYPE_CHECKING:
    from leveret.core.broker import Broker
    from leveret.core.message import Message
    from leveret.core.queue.queue import Queue
    from leveret.core.session import Session
    from leveret.core.timers import Timer
__all__ = ["EPOCH", "EventId", "Stream", "Streams", "event_of", "payload_event_of"]

log = logging.getLogger(__name__)

EPOCH = "x-event-stream"
"""The argument of a client's own queue that says which life of that name it is: its streams' token."""
UNSENT_BYTES = 262144
WINDOW_BYTES = 16 << 20
"""Of bodies that are out on one stream."""
MAX_HELD, MAX_HELD_BYTES = 10_000, 256 << 20
"""Streams whose clients may come back to what they had not confirmed, and its bodies; further ones must begin anew."""
BOOT = b"http/boot"
ID = re.compile(r"([A-Za-z0-9_-]{1,64})\.([0-9]{1,15})\.([0-9]{1,18})")
LINES = re.compile(r"\r\n|\n|\r")


@dataclass(frozen=True, slots=True)
class EventId:
    token: str
    boot: int
    position: int

    def __str__(self) -> str:
        return f"{self.token}.{self.boot}.{self.position}"

    @classmethod
    def of(cls, text: str) -> EventId | None:
        """None: it is none of ours."""
        match = ID.fullmatch(text)
        return None if match is None else cls(match[1], int(match[2]), int(match[3]))


def event_of(id: str, message: Message) -> bytes:
    """The message as JSON."""
    return b"id: %s\ndata: %s\n\n" % (id.encode(), encode(as_json(message)))


def payload_event_of(id: str, message: Message) -> bytes:
    """The body alone; `event: base64` if it is no text. A line break of any kind comes out as \\n (HTML 9.2.6)."""
    try:
        text = message.body.decode()
    except UnicodeDecodeError:
        return b"id: %s\nevent: base64\ndata: %s\n\n" % (id.encode(), base64.b64encode(message.body))
    lines = "\n".join([f"data: {line}" for line in LINES.split(text)])
    return f"id: {id}\n{lines}\n\n".encode()


class Stream:
    """One connection's consumer. `take` what to write; `end` says why there is no more.

    window: how many messages may be out until the client confirms; None: they are settled as soon as they are written.
    next_position: of a queue that is the client's alone: any further one than this means that messages were lost on the
    way (too many, expired), and the client is told.
    """

    def __init__(
        self,
        streams: Streams,
        queue: Queue,
        session: Session,
        *,
        token: str,
        window: int | None,
        encode_event: Callable[[str, Message], bytes],
        is_exclusive: bool = False,
        skip_to: int = 0,
        next_position: int | None = None,
    ) -> None:
        self.token = token
        self.queue = queue
        self.session = session
        self.window = window
        self.out: dict[int, Message] = {}  # by position, in the order of the events
        self.reason: str | None = None
        self.consumer = Consumer(
            queue, self, f"leveret.events-{token}", prefetch=window or 0, is_exclusive=is_exclusive
        )
        self._streams = streams
        self._encode_event = encode_event
        self._skip_to = skip_to  # positions that the client has seen
        self._next_position = next_position
        self._seen: list[Message] = []
        self._pending: list[bytes] = []
        self._pending_bytes = 0
        self._written: list[int] = []  # positions whose events are with the writer
        self._out_bytes = 0
        self._wake: asyncio.Future[None] | None = None

    def __repr__(self) -> str:
        return f"<Stream {self.token} queue={self.queue.name!r} out={len(self.out)}>"

    @property
    def is_full(self) -> bool:
        """The client must confirm before there is more."""
        if self.window is None:
            return False
        return len(self.out) >= self.window or self._out_bytes >= WINDOW_BYTES

    # -- Sink

    def capacity(self, consumer: Consumer) -> int:
        if self.reason is not None or self._pending_bytes >= UNSENT_BYTES or self.is_full:
            return 0
        return 256 if self.window is None else self.window - len(self.out)

    def deliver(self, consumer: Consumer, messages: list[Message]) -> None:
        tracer = self.session.vhost.tracer
        if tracer is not None:
            name, user = getattr(self.session.connection, "name", ""), self.session.principal.username
            tracer.delivered(self.queue, messages, name, 0, user)
        prefix = f"{self.token}.{self._streams.boot}."
        for message in messages:
            position = message.position
            if position <= self._skip_to:
                self._seen.append(message)
                continue
            message.consumer = consumer
            self.out[position] = message
            self._out_bytes += len(message.body)
            event = self._encode_event(f"{prefix}{position}", message)
            if self._next_position is not None:
                missed = position - self._next_position
                if missed > 0:
                    event = b'event: gap\ndata: {"missed":%d}\n\n' % missed + event
                self._next_position = position + 1
            self._pending.append(event)
            self._pending_bytes += len(event)
            self._written.append(position)
        self.wake()

    def on_cancelled(self, consumer: Consumer, reason: str) -> None:
        self.end(reason)

    def describe(self) -> dict[str, Any]:
        return describe(self.session)

    # -- for the writer

    async def wait(self, seconds: float) -> bool:
        """Until there is something to do; False if the time has passed."""
        if self._pending or self._seen or self.reason is not None or self.is_full:
            return True
        self._wake = asyncio.get_running_loop().create_future()
        try:
            done, _ = await asyncio.wait([self._wake], timeout=seconds)
            return bool(done)
        finally:
            self._wake = None

    def wake(self) -> None:
        if self._wake is not None and not self._wake.done():
            self._wake.set_result(None)

    def end(self, reason: str) -> None:
        if self.reason is None:
            self.reason = reason
        self.wake()

    def take(self) -> bytes:
        """What to write now."""
        if self._seen:
            seen, self._seen = self._seen, []
            self._settle(seen)
        data = b"".join(self._pending)
        self._pending.clear()
        return data

    def wrote(self) -> None:
        """The connection has taken it: there is room again; without a window that is all a message waits for."""
        self._pending_bytes = sum(map(len, self._pending))
        if self.window is None:
            pending = len(self._pending)
            done, self._written = (
                self._written[: len(self._written) - pending], self._written[len(self._written) - pending :]
            )  # fmt: skip
            self._settle([self.out.pop(position) for position in done if position in self.out])
        else:
            self._written.clear()
        self._offer()

    # -- settling

    def _settle(self, messages: list[Message]) -> None:
        for message in messages:
            message.consumer = None
            if message.position > self._skip_to:
                self._out_bytes -= len(message.body)
        self.consumer.credit += len(messages)
        self.queue.settle(messages)
        self._offer()

    def _offer(self) -> None:
        if self.reason is None and not self.queue.is_closed:
            dispatcher = self.queue.dispatcher
            dispatcher.schedule(self.queue)
            dispatcher.run_soon()

    def confirm(self, position: int) -> None:
        """The client has seen all events up to that one, in their order."""
        if position not in self.out:
            return
        seen = []
        for at in list(self.out):
            seen.append(self.out.pop(at))
            if at == position:
                break
        self._settle(seen)


@dataclass(slots=True)
class Held:
    """What a stream that is gone had not confirmed, until its client comes back or the time has passed."""

    username: str
    queue: Queue
    out: dict[int, Message]
    bytes: int
    timer: Timer


class Streams:
    """All streams by token, those whose clients are away included."""

    def __init__(self, broker: Broker) -> None:
        self._broker = broker
        self._live: dict[str, Stream] = {}
        self._held: dict[str, Held] = {}
        self._held_bytes = 0
        store = broker.store
        before = next((int(value) for key, value in store.definitions(BOOT) if key == BOOT), 0)
        self.boot = before + 1
        """Counts starts of the server: positions are not comparable over more than one of them."""
        store.put_definition(BOOT, str(self.boot).encode())
        self._recovered = {
            queue: queue.next_position
            for vhost in broker.vhosts.values()
            for queue in vhost.queues.values()
            if EPOCH in queue.arguments
        }
        """Where the positions of this start begin, of clients' own queues."""

    def __len__(self) -> int:
        return len(self._live)

    @property
    def held_count(self) -> int:
        return len(self._held)

    def live(self, token: str) -> Stream | None:
        return self._live.get(token)

    # -- a client's own queue: what is confirmed is a position

    def confirmed_position(self, queue: Queue, id: EventId | None) -> int:
        """All up to it was seen. 0: nothing is known.

        A message that never reached the disk leaves its position to another one after a crash; therefore an id of the
        start before this one says something about messages that were there at recovery alone, and an older id nothing.
        """
        if id is None or id.token != queue.arguments.get(EPOCH):
            return 0
        if id.boot == self.boot:
            return min(id.position, queue.next_position - 1)
        if id.boot == self.boot - 1 and queue in self._recovered:
            return min(id.position, self._recovered[queue] - 1)
        return 0

    # -- somebody's queue: what is confirmed is what was held

    def resume(self, id: EventId | None, queue: Queue, username: str) -> str:
        """Settle what the client has seen, give back the rest, and return the token to go on with."""
        if id is None or id.boot != self.boot:
            return secrets.token_urlsafe(12)
        stream = self.live(id.token)
        if stream is not None and stream.queue is queue and stream.session.principal.username == username:
            self.close(stream, hold_s=1.0)  # its end is not known yet on this side
        held = self._held.get(id.token)
        if held is None or held.username != username or held.queue is not queue:
            return secrets.token_urlsafe(12)
        self._release(id.token, id.position)
        return id.token

    def _release(self, token: str, position: int) -> None:
        held = self._held.pop(token)
        self._held_bytes -= held.bytes
        held.timer.cancel()
        seen: list[Message] = []
        if position in held.out:
            for at in list(held.out):
                seen.append(held.out.pop(at))
                if at == position:
                    break
        if seen:
            held.queue.settle(seen)
        if held.out:
            held.queue.requeue(list(held.out.values()), counts=False)

    def _on_gone(self, token: str) -> None:
        held = self._held.get(token)
        if held is not None:
            log.info(
                "stream=%s queue=%r did not come back for %d messages", token, held.queue.name, len(held.out)
            )
            self._release(token, -1)

    # -- opening and closing

    def open(self, stream: Stream) -> None:
        """Raise AccessRefused if exclusive use is in the way."""
        stream.queue.attach(stream.consumer)
        self._live[stream.token] = stream

    def close(self, stream: Stream, *, hold_s: float) -> None:
        """What is not confirmed goes back; hold_s > 0: after so many seconds in which the client may return."""
        if self._live.get(stream.token) is not stream:
            return
        del self._live[stream.token]
        stream.end("closed")
        queue = stream.queue
        messages = [*stream._seen, *stream.out.values()]
        out, stream.out, stream._seen = stream.out, {}, []
        for message in messages:
            message.consumer = None
        if messages:
            if (
                stream.window is not None
                and hold_s > 0
                and len(self._held) < MAX_HELD
                and self._held_bytes + stream._out_bytes <= MAX_HELD_BYTES
                and not queue.is_closed
            ):
                token = stream.token
                timer = self._broker.timers.after(hold_s, lambda: self._on_gone(token))
                size = stream._out_bytes
                self._held[token] = Held(stream.session.principal.username, queue, out, size, timer)
                self._held_bytes += size
            else:
                queue.requeue(messages, counts=False)
        if not queue.is_closed:
            queue.detach(stream.consumer)
        self._broker.dispatcher.run_soon()

    def give_back(self) -> None:
        """The server stops."""
        for stream in list(self._live.values()):
            stream.end("the server stops")
        for token in list(self._held):
            self._release(token, -1)

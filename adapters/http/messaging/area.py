"""Messaging by REST as an area, below /v1: publish, receive, streams of events, requests with replies.

Bodies and answers are described here and in docs/http-messaging.md.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import ClassVar

from leveret.adapters.http.areas import Area, Handler, Route
from leveret.adapters.http.context import HttpContext
from leveret.adapters.http.messaging.draining import DrainCallbacks
from leveret.adapters.http.messaging.events import Events
from leveret.adapters.http.messaging.idempotency import Idempotency
from leveret.adapters.http.messaging.leases import Leases
from leveret.adapters.http.messaging.messages import Messages
from leveret.adapters.http.messaging.receiving import Receiving
from leveret.adapters.http.messaging.requests import Requests
from leveret.adapters.http.messaging.streams import Streams
from leveret.adapters.http.openapi.builders import (
    BINARY,
    JSON,
    Json,
    answer,
    boolean,
    integer,
    list_of,
    number,
    obj,
    operation,
    query,
    ref,
    string,
)
from leveret.core.counters import Metric

__all__ = ["MessagingArea"]

ONE = "application/vnd.leveret.message+json"
LINES, EVENT, EVENTS = (
    "application/x-ndjson",
    "application/cloudevents+json",
    "application/cloudevents-batch+json",
)
ANY = "*/*"

MESSAGE: Json = {
    "required": False,
    "description": "The message, byte for byte; or one of the forms",
    "content": {
        "application/octet-stream": {},
        ONE: {"schema": ref("NewMessage")},
        EVENT: {"schema": {"type": "object"}},
        EVENTS: {"schema": list_of({"type": "object"})},
    },
}
BATCH: Json = {
    "required": True,
    "content": {
        JSON: {
            "schema": {
                "anyOf": [list_of(ref("NewMessage")), obj("messages", messages=list_of(ref("NewMessage")))]
            }
        },
        LINES: {},
        EVENTS: {"schema": list_of({"type": "object"})},
    },
}
KEY = query("routing_key", string(maxLength=255), "For exchanges")
MANDATORY = query("mandatory", boolean(), "No queue for it is an error")
IDEMPOTENCY: Json = {
    "name": "Idempotency-Key",
    "in": "header",
    "schema": string(pattern=r"^[!-~]{1,255}$"),
    "description": "A repetition gets the first answer",
}
RECEIVED = obj("messages", messages=list_of(ref("Message")))
ANYTHING: Json = {"description": "With format=raw: the message, whatever it is"}
STREAM = answer("Events.", string(), "text/event-stream")
TIMEOUT = query("timeout", number(0.01, 300), "Seconds to wait for the reply")
LAST = query("last_event_id", string(), "As the header Last-Event-ID, for those who cannot send it")
FORMAT = query("format", string(enum=["json", "payload"]), "What an event's data is")
SEEN = {
    "name": "Last-Event-ID",
    "in": "header",
    "schema": string(pattern=r"^[!-~]{0,200}$"),
    "description": "Confirms all up to it",
}
REFUSALS = "403 409 415 422 423 429"
VERB: Json = {
    "name": "verb",
    "in": "path",
    "required": True,
    "schema": {"enum": ["ack", "nack", "extend"]},
}
SETTLING = (
    VERB,
    query("requeue", boolean(), "For nack; false dead-letters the message"),
    query("visibility", number(1, 43200), "For extend: seconds from now"),
)
RECEIVE = operation(
    ok={
        200: {
            "description": "Messages; with format=raw one message as it is.",
            "content": {JSON: {"schema": {"anyOf": [RECEIVED, ANYTHING]}}, ANY: {}},
        },
        204: answer("With format=raw: the queue is empty."),
    },
    parameters=(
        query("max", integer(1, 100), "How many messages at most"),
        query("wait", number(0, 60), "Seconds to wait for the first message"),
        query("ack", string(enum=["manual", "auto"]), "auto: acknowledged once they are written"),
        query("visibility", number(1, 43200), "Seconds of the lease"),
        query("format", string(enum=["json", "raw"]), "raw: one message, its body as the answer's"),
    ),
    also="406 423 429",
)
SETTLE_MANY = operation(
    ok={200: answer("Settled.", obj("count unknown", count=integer(0), unknown=list_of(string())))},
    body=obj("leases", leases={**list_of(string()), "maxItems": 1000}),
    parameters=SETTLING,
)
QUEUE_EVENTS = operation(
    ok={200: STREAM},
    parameters=(
        query("ack", string(enum=["last-event-id", "auto"]), "auto: settled as they are written"),
        query("window", integer(1, 10000), "How many events may be unconfirmed"),
        query("resume", number(1, 300), "Seconds that unconfirmed events wait for the client to return"),
        FORMAT,
        LAST,
        SEEN,
    ),
    also="406 423 429",
)
EXCHANGE_EVENTS = operation(
    ok={200: STREAM},
    parameters=(
        query("routing_key", list_of(string(maxLength=255)), "Binding keys"),
        query(
            "client",
            string(pattern="^[A-Za-z0-9._-]{1,128}$"),
            "A name under which messages are kept between streams",
        ),
        query("window", integer(1, 10000), "How many events may be unconfirmed"),
        query("expires", number(1, 2592000), "Seconds that the queue waits for the client"),
        query("max_length", integer(1, 1000000), "The length limit of the queue"),
        FORMAT,
        LAST,
        SEEN,
    ),
    also="406 409 422 423 429",
)


class MessagingArea(Area):
    """Everything that waits here (long polls, streams, requests) ends when the server drains."""

    name: ClassVar[str] = "messaging"
    tags: ClassVar[Mapping[str, str]] = {"messaging": "Publish, receive, subscribe and ask"}

    def __init__(self, context: HttpContext) -> None:
        super().__init__(context)
        self._callbacks = callbacks = DrainCallbacks(context)
        self._idempotency = Idempotency(context)
        self._leases = Leases(context, callbacks)
        self._streams = Streams(context.broker)
        self._messages = Messages(context, self._idempotency)
        self._receiving = Receiving(context, self._leases, callbacks)
        self._events = Events(context, self._streams, callbacks)
        self._requests = Requests(context, callbacks)

    def routes(self) -> Sequence[Route]:
        """Of exchanges, queues, leases and events."""
        exchange, queue = "/v1/exchanges/{vhost}/{exchange}", "/v1/queues/{vhost}/{queue}"
        receiving, events = self._receiving, self._events
        settle = operation(ok={204: answer("Settled.")}, parameters=SETTLING)
        acknowledge = operation(
            ok={204: answer("Confirmed.")},
            parameters=(query("id", string(), "The id of the last event seen", required=True),),
        )
        return [
            *self._publishing(exchange, KEY, MANDATORY),
            Route("GET", f"{exchange}/events", events.of_exchange, EXCHANGE_EVENTS),
            *self._publishing(queue),
            Route("POST", f"{queue}/receive", receiving.receive, RECEIVE),
            Route("GET", f"{queue}/events", events.of_queue, QUEUE_EVENTS),
            Route("POST", "/v1/leases/{verb}", receiving.settle_many, SETTLE_MANY),
            Route("POST", "/v1/leases/{lease}/{verb}", receiving.settle, settle),
            Route("POST", "/v1/events/ack", events.acknowledge, acknowledge),
        ]

    def _publishing(self, path: str, *parameters: Json) -> list[Route]:
        one = {200: answer("Stored.", {"anyOf": [ref("Published"), ref("BatchPublished")]})}
        many = {200: answer("Stored.", ref("BatchPublished"))}
        reply = {200: answer("The reply.", BINARY, ANY)}
        keyed, asked = (*parameters, IDEMPOTENCY), (*parameters[:1], TIMEOUT)

        def post(
            name: str,
            handler: Handler,
            ok: Mapping[int, Json],
            given: tuple[Json, ...],
            body: Json,
            also: str,
        ) -> Route:
            return Route(
                "POST",
                f"{path}/{name}",
                handler,
                operation(ok=ok, parameters=given, requestBody=body, also=also),
            )

        return [
            post("messages", self._messages.publish, one, keyed, MESSAGE, REFUSALS),
            post("messages/batch", self._messages.publish_batch, many, keyed, BATCH, REFUSALS),
            post("requests", self._requests.ask, reply, asked, MESSAGE, f"{REFUSALS} 504"),
        ]

    def schemas(self) -> Mapping[str, Json]:
        """Messages in and out."""
        count = integer(0)
        return {
            "NewMessage": {
                **obj(
                    "payload",
                    payload={"description": "A string; any value with payload_encoding json"},
                    payload_encoding=string(enum=["string", "base64", "json"]),
                    routing_key=string(),
                    properties=ref("Properties"),
                ),
                "additionalProperties": False,
            },
            "Message": obj(
                "exchange routing_key redelivered delivery_count properties payload payload_encoding",
                lease=string(description="Settle it by this; absent with ack=auto"), exchange=string(), routing_key=string(),
                redelivered=boolean(), delivery_count=count, properties={"type": "object"}, payload=string(),
                payload_encoding=string(enum=["string", "base64"]),
            ),
            "BatchPublished": obj("count routed", count=count, routed=count, unrouted=list_of(count), rejected=list_of(count)),
        }  # fmt: skip

    def metrics(self) -> Iterator[Metric]:
        """What is held for clients."""
        receipts = self._idempotency.receipts
        for name, help, value in (
            ("rest_leases", "Messages leased to clients of the REST API", len(self._leases)),
            ("rest_lease_bytes", "Bytes of the bodies of leased messages", self._leases.bytes),
            ("sse_streams", "Streams of server-sent events that are connected", len(self._streams)),
            (
                "sse_streams_held",
                "Streams whose clients are disconnected and may return",
                self._streams.held_count,
            ),
            ("idempotency_keys", "Answers kept for their Idempotency-Key", len(receipts)),
            (
                "idempotency_keys_dropped_total",
                "Answers dropped before the end of their time",
                receipts.dropped_total,
            ),
        ):
            yield Metric.of(f"leveret_{name}", help, value)

    def drain(self) -> None:
        """Leased messages return to their queues; long polls, streams and requests end."""
        self._callbacks.run()

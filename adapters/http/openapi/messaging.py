"""Bodies and answers of messaging by REST (adapters/http/messaging/, docs/http-messaging.md)."""

from __future__ import annotations

from leveret.adapters.http.openapi.pieces import (
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

__all__ = ["OPENAPI"]

EXCHANGE, QUEUE = "/v1/exchanges/{vhost}/{exchange}", "/v1/queues/{vhost}/{queue}"
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


def _publish(path: str, *parameters: Json) -> dict[str, Json]:
    ok = {200: answer("Stored.", {"anyOf": [ref("Published"), ref("BatchPublished")]})}
    all_ok = {200: answer("Stored.", ref("BatchPublished"))}
    reply = {200: answer("The reply.", BINARY, ANY)}
    routing = parameters[:1]
    return {
        f"post {path}/messages": operation(
            ok=ok, requestBody=MESSAGE, parameters=(*parameters, IDEMPOTENCY), also=REFUSALS
        ),
        f"post {path}/messages/batch": operation(
            ok=all_ok, requestBody=BATCH, parameters=(*parameters, IDEMPOTENCY), also=REFUSALS
        ),
        f"post {path}/requests": operation(
            ok=reply, requestBody=MESSAGE, parameters=(*routing, TIMEOUT), also=f"{REFUSALS} 504"
        ),
    }


OPENAPI: dict[str, Json] = {
    **_publish(EXCHANGE, KEY, MANDATORY),
    **_publish(QUEUE),
    f"post {QUEUE}/receive": operation(
        ok={
            200: {
                "description": "Messages, or with format=raw one of them as it is.",
                "content": {JSON: {"schema": {"anyOf": [RECEIVED, ANYTHING]}}, ANY: {}},
            },
            204: answer("With format=raw: there is none."),
        },
        parameters=(
            query("max", integer(1, 100), "Messages"),
            query("wait", number(0, 60), "Seconds, for the first"),
            query("ack", string(enum=["manual", "auto"]), "auto: acknowledged once they are written"),
            query("visibility", number(1, 43200), "Seconds of the lease"),
            query("format", string(enum=["json", "raw"]), "raw: one message, its body as the answer's"),
        ),
        also="406 423 429",
    ),
    "post /v1/leases/{verb}": operation(
        ok={200: answer("Settled.", obj("count unknown", count=integer(0), unknown=list_of(string())))},
        body=obj("leases", leases={**list_of(string()), "maxItems": 1000}),
        parameters=(
            query("requeue", boolean(), "Of nack; false: dead-lettered"),
            query("visibility", number(1, 43200), "Of extend: seconds from now"),
        ),
    ),
    "post /v1/leases/{lease}/{verb}": operation(
        ok={204: answer("Settled.")},
        parameters=(
            query("requeue", boolean(), "Of nack; false: dead-lettered"),
            query("visibility", number(1, 43200), "Of extend: seconds from now"),
        ),
    ),
    f"get {QUEUE}/events": operation(
        ok={200: STREAM},
        parameters=(
            query("ack", string(enum=["last-event-id", "auto"]), "auto: settled as they are written"),
            query("window", integer(1, 10000), "Unconfirmed events"),
            query("resume", number(1, 300), "Seconds that they wait for their client"),
            FORMAT,
            LAST,
            SEEN,
        ),
        also="406 423 429",
    ),
    f"get {EXCHANGE}/events": operation(
        ok={200: STREAM},
        parameters=(
            query("routing_key", list_of(string(maxLength=255)), "Bindings"),
            query("client", string(pattern="^[A-Za-z0-9._-]{1,128}$"), "Keeps what comes in between"),
            query("window", integer(1, 10000), "Unconfirmed events"),
            query("expires", number(1, 2592000), "Seconds that the queue waits for its client"),
            query("max_length", integer(1, 1000000), "Of the queue"),
            FORMAT,
            LAST,
            SEEN,
        ),
        also="406 409 422 423 429",
    ),
    "post /v1/events/ack": operation(
        ok={204: answer("Confirmed.")},
        parameters=(query("id", string(), "Of the last event seen", required=True),),
    ),
}
"""Partial operations by "method /path"."""

"""Bodies and answers of webhooks, out and in (plugins/webhooks/, docs/webhooks.md)."""

from __future__ import annotations

from leveret.adapters.http.openapi.pieces import (
    BINARY,
    JSON,
    TEXT,
    Json,
    answer,
    integer,
    list_of,
    obj,
    operation,
    query,
    ref,
    string,
)

__all__ = ["OPENAPI"]

OUT, IN = "/v1/webhooks/{vhost}/{name}", "/v1/webhook-sources/{vhost}/{name}"
HOOK = "/hooks/{vhost}/{name}"
MILLISECONDS = integer(0, description="Milliseconds since the epoch")
SINCE, UNTIL = query("since", MILLISECONDS, "From then on"), query("until", MILLISECONDS, "Up to then")
LIMIT = query("limit", integer(1, 1000), "How many")
SHOWN = {200: answer("As it is now.", ref("Webhook"))}
WEBHOOKS = {200: answer("The objects.", list_of(ref("Webhook")))}
SOURCES = {200: answer("The objects.", list_of(ref("WebhookSource")))}
ROWS = {200: answer("The objects.", list_of({"type": "object"}))}


def _summary(text: str, **more: object) -> Json:
    return operation(summary=text, **more)  # type: ignore[arg-type]  # they are operation's


OPENAPI: dict[str, Json] = {
    "get /v1/webhooks": _summary("Webhooks of all virtual hosts that the user may enter.", ok=WEBHOOKS),
    "get /v1/webhooks/{vhost}": _summary("Webhooks of a virtual host.", ok=WEBHOOKS),
    f"get {OUT}": _summary("One webhook, its secrets masked, and how it is doing.", ok=SHOWN),
    f"put {OUT}": _summary(
        "Set a webhook.",
        ok={**SHOWN, 201: answer("Created; with the secrets, which are shown only here.", ref("Webhook"))},
        body=ref("WebhookSubscription"),
        also="409",
    ),
    f"patch {OUT}": _summary(
        "Change members of a webhook; null removes one.", ok=SHOWN, body={"type": "object"}, also="409"
    ),
    f"delete {OUT}": _summary("Delete a webhook, and its own queue.", ok={204: answer("Gone.")}),
    f"post {OUT}/enable": _summary("Enable a webhook.", ok=SHOWN),
    f"post {OUT}/disable": _summary("Disable a webhook: its messages stay in the queue.", ok=SHOWN),
    f"post {OUT}/rotate-secret": _summary(
        "Give a webhook a new secret; the old ones sign beside it for a while.",
        ok={200: answer("The new one.", obj("secret", secret=string()))},
        body=obj(secret=string(), keep_s={"type": "number", "minimum": 0, "maximum": 31536000}),
        optional_body=True,
        also="409",
    ),
    f"post {OUT}/test": _summary(
        "Send a test message through a webhook.",
        ok={202: answer("It is in the queue.")},
        body=BINARY,
        types=("application/octet-stream", JSON),
        optional_body=True,
    ),
    f"get {OUT}/attempts": _summary(
        "The log of attempts with their answers; newest first.",
        ok=ROWS,
        parameters=(
            query("outcome", string(enum=["delivered", "retry", "dead"]), "Only these"),
            query("status", integer(100, 599), "Only with this status"),
            query("webhook_id", string(), "Only of this message"),
            SINCE,
            UNTIL,
            query("before", integer(0), "The last id of the page before"),
            LIMIT,
        ),
    ),
    f"get {OUT}/dead-letters": _summary(
        "Dead letters; oldest first.",
        ok=ROWS,
        parameters=(
            query("reason", string(), "Only these"),
            query("status", integer(100, 999), "Only with this last status"),
            SINCE,
            UNTIL,
            query("after", integer(0), "The last position of the page before"),
            LIMIT,
        ),
    ),
    f"post {OUT}/replay": _summary(
        "Send dead letters again.",
        ok={200: answer("How many.", obj("replayed", replayed=integer(0)))},
        body=obj(
            ids=list_of({"type": ["string", "integer"]}),
            since=MILLISECONDS, until=MILLISECONDS, reason=string(), status=integer(100, 999),
            all={"const": True}, limit=integer(1, 1000000),
        ),
        also="409 504",
    ),
    "get /v1/webhook-sources": operation(ok=SOURCES),
    "get /v1/webhook-sources/{vhost}": operation(ok=SOURCES),
    f"get {IN}": operation(ok={200: answer("The object.", ref("WebhookSource"))}),
    f"put {IN}": operation(
        ok={
            200: answer("Changed.", ref("WebhookSource")),
            201: answer("Created; with the secret, which is shown only here.", ref("WebhookSource")),
        },
        body={"type": "object"},
        also="409",
    ),
    f"patch {IN}": operation(ok={200: answer("Changed.", ref("WebhookSource"))}, body={"type": "object"}, also="409"),
    f"delete {IN}": operation(ok={204: answer("Gone.")}),
    f"post {HOOK}": operation(
        ok={
            200: {"description": "Stored, or seen before; or the answer to a challenge.", "content": {JSON: {}, TEXT: {}}},
            201: answer("Stored.", {}, JSON),
            202: answer("Stored.", {}, JSON),
            204: answer("Stored."),
        },
        body=BINARY,
        types=("application/json", "application/octet-stream"),
        optional_body=True,
        security=[],
        also="401 403 422 429",
    ),
    f"get {HOOK}": operation(
        ok={200: answer("The challenge, of a sender that asks by GET.", {}, TEXT)}, security=[], also="405"
    ),
    f"options {HOOK}": operation(ok={200: answer("May this origin send webhooks here? The headers say it.")}, security=[]),
}  # fmt: skip
"""Partial operations by "method /path"."""

"""Receiving webhooks: POST /hooks/VHOST/NAME. A request is verified, stored as a message, and only then answered with success."""

from __future__ import annotations

import logging
import time
from collections import Counter
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from aiohttp import web

from leveret.adapters.http.bodies import read_body
from leveret.adapters.http.errors import Refusal
from leveret.adapters.http.idempotency_store import Receipts, digest_of
from leveret.adapters.http.json_encoding import encode, json_response
from leveret.adapters.http.messaging.cloudevents import binary_attributes
from leveret.adapters.http.messaging.publishing import RETRY_SOON, check_room, confirm, envelope_of
from leveret.adapters.http.settings import HttpSettings
from leveret.core import routing
from leveret.core.counters import Metric
from leveret.core.errors import InvalidArgument
from leveret.core.properties import Properties
from leveret.core.publishing import PublishPipeline, PublishTarget
from leveret.plugins.webhooks.calls import running_plugin
from leveret.plugins.webhooks.incoming.signed_request import SignedRequest, Unverified
from leveret.plugins.webhooks.incoming.source import Source
from leveret.plugins.webhooks.incoming.template import RequestValues

if TYPE_CHECKING:
    from collections.abc import Iterator

    from leveret.adapters.http.context import HttpContext
    from leveret.core.message import Envelope
    from leveret.core.vhost import Vhost
__all__ = ["Receiver"]

log = logging.getLogger(__name__)

RECORDS = b"http/hooks/"
DEDUP_MAX = 100_000
"""The number of delivery ids that are kept, over all sources. With more, the oldest are dropped before their time."""
RESULTS = ("received", "duplicates", "refused", "failed")
SOURCE_HEADER = "x-webhook-source"
MAX_FORWARDED_CHARS = 16384


class Receiver:
    """The handlers of /hooks, and their counters by virtual host and source."""

    def __init__(self, context: HttpContext) -> None:
        self._context = context
        self._receipts = Receipts(context.broker, RECORDS, lambda: DEDUP_MAX)
        self._counts: dict[tuple[str, str], Counter[str]] = {}

    def counts(self, vhost: str, name: str) -> Counter[str]:
        """The counters of a source: received (and stored), duplicates, refused (not verified), failed (for any other reason)."""
        return self._counts.setdefault((vhost, name), Counter())

    def metrics(self) -> Iterator[Metric]:
        """Requests by source and result, and the remembered delivery ids."""
        samples = tuple(
            ({"vhost": vhost, "source": name, "result": result}, float(counts[result]))
            for (vhost, name), counts in self._counts.items()
            if vhost in self._context.broker.vhosts
            for result in RESULTS
        )
        help = "Requests that sources received, by source and result"
        yield Metric("leveret_hook_requests_total", help, "counter", samples)
        help = "Delivery ids that are remembered"
        yield Metric.of("leveret_hook_delivery_ids", help, len(self._receipts))
        help = "Delivery ids that were forgotten before their time"
        yield Metric.of("leveret_hook_delivery_ids_dropped_total", help, self._receipts.dropped_total)

    def forget(self, vhost: str, name: str) -> None:
        self._counts.pop((vhost, name), None)

    def _find(self, request: web.Request) -> tuple[Vhost, Source]:
        """Raise Refusal: 404, in the same words whether the virtual host or the source is missing; 503 without the plugin."""
        parts = request.match_info
        vhost = self._context.broker.vhosts.get(parts["vhost"])
        sources = running_plugin(self._context).sources
        source = None if vhost is None else sources.find(vhost, parts["name"])
        if vhost is None or source is None or not source.is_enabled:
            raise Refusal(404, "not_found", "there is no such webhook source")
        return vhost, source

    async def handshake(self, request: web.Request) -> web.StreamResponse:
        """Answer the CloudEvents abuse protection: may this origin send webhooks here? (http-webhook 4)"""
        _, source = self._find(request)
        headers = {"Allow": "POST, OPTIONS"}
        origin = request.headers.get("WebHook-Request-Origin")
        if origin is not None and ("*" in source.origins or origin.lower() in source.origins):
            headers["WebHook-Allowed-Origin"] = origin if origin.isprintable() else "*"
            headers["WebHook-Allowed-Rate"] = "*"
        return web.Response(headers=headers)

    async def ask(self, request: web.Request) -> web.StreamResponse:
        """Answer a challenge by GET, if the source has one."""
        _, source = self._find(request)
        asked = None if source.challenge is None else source.challenge.of_query(request.query)
        if asked is None:
            raise Refusal(
                405, "method_not_allowed", "webhooks are sent by POST", headers={"Allow": "POST, OPTIONS"}
            )
        return _text(asked)

    async def receive(self, request: web.Request) -> web.StreamResponse:
        """Receive a webhook: verify it, store it as a message, and then answer with success."""
        vhost, source = self._find(request)
        counts = self.counts(vhost.name, source.name)
        if source.challenge is not None and (asked := source.challenge.of_query(request.query)) is not None:
            return _text(asked)
        try:
            return await self._receive(request, vhost, source, counts)
        except Unverified as error:
            counts["refused"] += 1
            log.info("vhost=%r source=%s peer=%s refused: %s", vhost.name, source.name, request.remote, error)
            headers = {"WWW-Authenticate": error.challenge} if error.challenge else None
            raise Refusal(401, "unverified", str(error), headers=headers) from None
        except Refusal:
            counts["failed"] += 1
            raise

    async def _receive(
        self, request: web.Request, vhost: Vhost, source: Source, counts: Counter[str]
    ) -> web.StreamResponse:
        context = self._context
        headers: dict[str, list[str]] = {}
        for header, text in request.headers.items():
            headers.setdefault(header.lower(), []).append(text)
        given = SignedRequest(headers, request.query, time.time(), request.raw_path)
        source.verifier.check_head(given)
        await check_room(context)
        settings = HttpSettings.of(context.broker.settings)
        limit = min(source.max_body, settings.max_body_size)
        body = await read_body(request, replace(settings, max_body_size=limit))
        source.verifier.check(given, body)
        values = RequestValues(
            vhost=vhost.name,
            name=source.name,
            path=request.match_info["rest"].removeprefix("/"),
            headers={header: texts[0] for header, texts in headers.items()},
            query=request.query,
            body=body,
            content_type=request.headers.get("Content-Type", ""),
        )
        if source.challenge is not None and (asked := source.challenge.of_body(values)) is not None:
            return _text(asked) if isinstance(asked, str) else json_response(asked)
        await check_room(context)  # reading the body may have taken long
        id = "" if source.dedup_key is None else source.dedup_key.text(values)
        key = digest_of(vhost.name, source.name, id)
        if id and self._receipts.find(key) is not None:
            counts["duplicates"] += 1
            await confirm(context)  # of the message that was stored first
            return _answer(source, {"stored": True, "duplicate": True})
        envelope = self._envelope(request, source, values, headers, id)
        self._publish(vhost, source, envelope, body)
        if id:
            self._receipts.put(
                key,
                fingerprint=bytes(16),
                status=source.status,
                body=b"",
                lifetime_s=source.dedup_window_s,
                is_durable=source.is_persistent,
            )
        counts["received"] += 1
        counters = context.broker.traffic.of_protocol("http")
        counters.received_confirm += 1
        await confirm(context)
        counters.confirmed += 1
        return _answer(source, {"stored": True})

    def _envelope(
        self,
        request: web.Request,
        source: Source,
        values: RequestValues,
        headers: dict[str, list[str]],
        id: str,
    ) -> Envelope:
        """Raise Refusal (400, 422)."""
        table: dict[str, Any] = {}
        left = MAX_FORWARDED_CHARS
        for header, texts in headers.items():
            if source.may_forward(header):
                text = ", ".join(texts)
                left -= len(header) + len(text)
                if left < 0:
                    break
                table[header] = text
        table.update(binary_attributes(request.headers) or {})
        for header, template in source.headers:
            value = template.value(values)
            if value is not None:
                table[header] = value
        table[SOURCE_HEADER] = source.name
        properties = Properties(
            content_type=request.headers.get("Content-Type"),
            content_encoding=request.headers.get("Content-Encoding"),
            headers=table,
            delivery_mode=2 if source.is_persistent else 1,
            message_id=id if 0 < len(id.encode("utf-8", "replace")) <= 255 else None,
            timestamp=int(time.time()),
        )
        try:
            return envelope_of(source.exchange, source.routing_key.text(values), properties)
        except (Refusal, InvalidArgument) as error:
            reason = error.reason if isinstance(error, Refusal) else str(error)
            raise Refusal(422, "unprocessable", f"no message can be made of this request: {reason}") from None

    def _publish(self, vhost: Vhost, source: Source, envelope: Envelope, body: bytes) -> None:
        """Publish with the permissions that the source's author had. Raise Refusal: not stored, or (429) not in every queue."""
        exchange = vhost.exchanges.get(source.exchange)
        routed = None if exchange is None else routing.route(exchange, envelope)
        is_ping = (
            source.type == "github" and (envelope.properties.headers or {}).get("x-github-event") == "ping"
        )
        if exchange is None or routed is None or (not routed.queues and source.is_mandatory and not is_ping):
            # The receiving side must repair this; the sender should try again.
            what = f"exchange '{source.exchange}'" if exchange is None else "queue for it"
            log.warning(
                "vhost=%r source=%s key=%r: no %s", vhost.name, source.name, envelope.routing_key, what
            )
            raise Refusal(503, "unroutable", f"there is no {what}", headers={"Retry-After": "60"})
        broker = self._context.broker
        pipeline = PublishPipeline(
            vhost,
            broker.replies,
            routing.route,
            broker.traffic.sizes_of("http"),
            connection_name=f"webhook {source.name}",
            username="",
        )
        target = PublishTarget(exchange, envelope.routing_key, vhost.epoch)
        is_routed, rejected, _ = pipeline.publish(target, envelope, [body])
        pipeline.note_sizes()
        broker.traffic.of_protocol("http").count(1, is_routed=is_routed, is_returned=False)
        if rejected:
            raise Refusal(429, "queue_full", "a queue is full", headers=RETRY_SOON)


def _text(text: str) -> web.Response:
    """Plain text, never interpreted by a browser, because the sender chose it."""
    return web.Response(text=text, headers={"X-Content-Type-Options": "nosniff", "Cache-Control": "no-store"})


def _answer(source: Source, value: dict[str, Any]) -> web.Response:
    if source.status == 204:
        return web.Response(status=204)
    return web.Response(status=source.status, body=encode(value), content_type="application/json")

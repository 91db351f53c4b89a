"""GET /metrics, /metrics/per-object, /metrics/detailed, /metrics/memory-breakdown."""

from __future__ import annotations

import asyncio
import gzip
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import regex
from aiohttp import web
from prometheus_client import CollectorRegistry
from prometheus_client.exposition import choose_encoder

from leveret.adapters.http.errors import Refusal
from leveret.adapters.http.management.nodes import memory_parts
from leveret.adapters.http.metrics.aggregated import Aggregated, identity_labels
from leveret.adapters.http.metrics.exposition import TextStream, accepts_gzip, header, label_text, number
from leveret.adapters.http.metrics.families import CLUSTER, GROUPS, PER_OBJECT, Group, Selection, Things
from leveret.adapters.http.metrics.lag import Lag
from leveret.adapters.http.metrics.snapshot import take

if TYPE_CHECKING:
    from multidict import MultiMapping

    from leveret.adapters.http.app import HttpContext

__all__ = ["Metrics"]

GZIP_LEVEL = 1
MAX_PATTERN = 1000
PATTERN_S = 0.05  # for one name
NO_STORE = {"Cache-Control": "no-store", "Vary": "Accept, Accept-Encoding"}


class Metrics:
    """The handlers, and the loop's lag, which is measured all the time."""

    def __init__(self, context: HttpContext) -> None:
        self._context = context
        self._lag = Lag(context.broker.timers)
        self._lag.start()

    def routes(self) -> list[web.RouteDef]:
        return [
            web.get("/metrics", self.aggregated),
            web.get("/metrics/per-object", self.per_object),
            web.get("/metrics/detailed", self.detailed),
            web.get("/metrics/memory-breakdown", self.memory_breakdown),
        ]

    async def _check(self, request: web.Request) -> None:
        """Numbers only; who wants them to himself asks for a login (http.metrics_auth). Raise Refusal (401, 403)."""
        if self._context.broker.settings.http.metrics_auth:
            principal = await self._context.authenticate(request)
            if principal.tags.isdisjoint({"monitoring", "administrator"}):
                raise Refusal(403, "not_authorised", "metrics need the tag monitoring")

    async def aggregated(self, request: web.Request) -> web.StreamResponse:
        """All numbers, added up; Prometheus text, or OpenMetrics if that is asked for."""
        await self._check(request)
        context = self._context
        registry = CollectorRegistry(auto_describe=False)
        registry.register(Aggregated(context, await take(context.broker), self._lag))
        encode, content_type = choose_encoder(request.headers.get("Accept", ""))
        body = encode(registry)
        headers = {"Content-Type": content_type, **NO_STORE}
        if accepts_gzip(request):
            headers["Content-Encoding"] = "gzip"
            body = gzip.compress(body, GZIP_LEVEL)
        return web.Response(body=body, headers=headers)

    async def per_object(self, request: web.Request) -> web.StreamResponse:
        """Every queue, exchange, connection and channel by itself."""
        await self._check(request)
        groups = [("rabbitmq_", group) for name in PER_OBJECT for group in GROUPS[name]]
        return await self._stream(request, "per-object", groups, Selection())

    async def detailed(self, request: web.Request) -> web.StreamResponse:
        """The families that are asked for (`family`), of some virtual hosts (`vhost`) and queues (`queue`, a pattern)."""
        await self._check(request)
        query = request.query
        asked = list(dict.fromkeys(query.getall("family", [])))
        groups = [("rabbitmq_detailed_", group) for name in asked for group in GROUPS.get(name, ())]
        groups += [("rabbitmq_cluster_", group) for name in asked for group in CLUSTER.get(name, ())]
        return await self._stream(request, "detailed", groups, _selection(query))

    async def memory_breakdown(self, request: web.Request) -> web.StreamResponse:
        """Where the memory goes, roughly."""
        await self._check(request)
        stream = TextStream(request)
        await stream.start()
        for name, value in memory_parts(self._context).items():
            metric = f"rabbitmq_memory_{name}_bytes"
            stream.line(
                f"{header(metric, f'Memory of {name}, an estimate'.replace('_', ' '), 'gauge')}{metric} {value}\n"
            )
        self._identity(stream, "memory-breakdown")
        return await stream.end()

    # -- what they share

    def _identity(self, stream: TextStream, endpoint: str) -> None:
        name = "rabbitmq_identity_info"
        labels = label_text(identity_labels(self._context, endpoint).items())
        stream.line(
            f"{header(name, 'RabbitMQ node & cluster identity info', 'untyped')}{name}{{{labels}}} 1\n"
        )

    async def _stream(
        self, request: web.Request, endpoint: str, groups: Sequence[tuple[str, Group]], wanted: Selection
    ) -> web.StreamResponse:
        found: dict[Things, list[tuple[str, Any]]] = {}
        for _, group in groups:
            if group.things not in found:
                found[group.things] = group.things(self._context, wanted)
                await asyncio.sleep(0)
        stream = TextStream(request)
        await stream.start()
        self._identity(stream, endpoint)
        written: set[str] = set()
        for prefix, group in groups:
            rows = [
                row for row in group.rows if prefix + row.name not in written
            ]  # two groups have some in common
            things, more = found[group.things], group.more_labels
            for row in rows:
                name, read = prefix + row.name, row.read
                written.add(name)
                stream.line(header(name, row.help, row.kind))
                for labels, thing in things:
                    if more is not None:
                        labels += more(thing)
                    stream.line(
                        f"{name}{{{labels}}} {number(read(thing))}\n"
                        if labels
                        else f"{name} {number(read(thing))}\n"
                    )
                    if stream.is_full:
                        await stream.pass_on()
        return await stream.end()


def _selection(query: MultiMapping[str]) -> Selection:
    """Raise Refusal (400)."""
    vhosts = frozenset(query.getall("vhost", []))
    pattern = query.get("queue")
    if pattern is None:
        return Selection(vhosts)
    if len(pattern) > MAX_PATTERN:
        raise Refusal(400, "bad_request", f"queue is a pattern of at most {MAX_PATTERN} characters")
    try:
        compiled = regex.compile(pattern)
    except (regex.error, RecursionError, OverflowError) as error:
        raise Refusal(400, "bad_request", f"queue is no pattern: {error}") from None

    def has(name: str) -> bool:
        try:
            return compiled.search(name, timeout=PATTERN_S) is not None
        except TimeoutError:
            raise Refusal(400, "bad_request", "queue is a pattern that takes too long") from None

    return Selection(vhosts, has)

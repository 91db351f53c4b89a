"""GET /metrics, /metrics/per-object, /metrics/detailed, /metrics/memory-breakdown."""

from __future__ import annotations

import gzip
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import asynccontextmanager
from time import perf_counter
from typing import TYPE_CHECKING, Any

from aiohttp import web
from prometheus_client import CollectorRegistry
from prometheus_client.core import GaugeMetricFamily, Metric
from prometheus_client.exposition import choose_encoder, generate_latest
from prometheus_client.registry import Collector

from leveret.adapters.http.errors import Refusal
from leveret.adapters.http.management.nodes import memory_parts
from leveret.adapters.http.metrics.aggregated import Aggregated
from leveret.adapters.http.metrics.exposition import TextStream, accepts_gzip, header, number
from leveret.adapters.http.metrics.families import (
    CLUSTER,
    GROUPS,
    PER_OBJECT,
    FilteredMessages,
    Group,
    Things,
)
from leveret.adapters.http.metrics.identity import identity
from leveret.adapters.http.metrics.slices import in_slices
from leveret.adapters.http.metrics.snapshot import take
from leveret.adapters.http.settings import HttpSettings
from leveret.auth.patterns import InvalidPattern, PatternTooSlow, compile_pattern

if TYPE_CHECKING:
    from multidict import MultiMapping

    from leveret.adapters.http.context import HttpContext
__all__ = ["Metrics"]

GZIP_LEVEL = 1
MAX_STREAMS = 4
"""Answers per object under way; each keeps a list of all that it shows."""
MAX_PATTERN = 1000
PATTERNS_S = (
    2.0  # of processor time, for the search of all names; one search is bounded by the pattern itself
)
NO_STORE = {"Cache-Control": "no-store", "Vary": "Accept, Accept-Encoding"}
SHOWN = frozenset(
    f"rabbitmq_{row.name}" for name in PER_OBJECT for group in GROUPS[name] for row in group.rows
)
"""What /metrics/per-object has by object."""
MEMORY = {
    "connection_readers": ("client_connection_reader", "Client connection reader buffers"),
    "connection_writers": ("client_connection_writer", "Client connection writer buffers"),
    "connection_channels": ("client_connection_channel", "Client connection channels"),
    "connection_other": ("client_connection_other", "Client connections, everything else"),
    "queue_procs": ("classic_queue_erlang_process", "Queues"),
    "binary": ("binary_heap", "Bodies of messages"),
    "mgmt_db": ("management_stats_db", "Samples of the management API"),
    "other_proc": ("other_erlang_process", "Everything else"),
}
"""memory_parts -> RabbitMQ's names, and what they are here."""


class Metrics:
    """The handlers."""

    def __init__(self, context: HttpContext) -> None:
        self._context = context
        self._streams = 0

    async def _check(self, request: web.Request) -> None:
        """Numbers only; who wants them to himself asks for a login (http.metrics_auth). Raise Refusal (401, 403)."""
        if HttpSettings.of(self._context.broker.settings).metrics_auth:
            principal = await self._context.authenticate(request)
            if principal.tags.isdisjoint({"monitoring", "administrator"}):
                raise Refusal(403, "not_authorised", "metrics need the tag monitoring")

    async def aggregated(self, request: web.Request) -> web.StreamResponse:
        """All numbers as sums; Prometheus text, or OpenMetrics if `Accept` asks for it."""
        await self._check(request)
        context = self._context
        encode, content_type = choose_encoder(request.headers.get("Accept", ""))
        body = encode(registry_of(Aggregated(context, await take(context.broker)).collect))
        headers = {"Content-Type": content_type, **NO_STORE}
        if accepts_gzip(request):
            headers["Content-Encoding"] = "gzip"
            body = gzip.compress(body, GZIP_LEVEL)
        return web.Response(body=body, headers=headers)

    async def per_object(self, request: web.Request) -> web.StreamResponse:
        """The numbers of each queue, exchange, connection and channel, and sums of the rest."""
        await self._check(request)
        context = self._context
        async with self._turn():
            groups = [("rabbitmq_", group) for name in PER_OBJECT for group in GROUPS[name]]
            others = Aggregated(context, await take(context.broker), "per-object", SHOWN)
            return await self._stream(request, others.collect, groups, FilteredMessages())

    async def detailed(self, request: web.Request) -> web.StreamResponse:
        """The chosen families (`family`) of chosen virtual hosts (`vhost`) and queues (`queue`, a pattern)."""
        await self._check(request)
        query = request.query
        asked = list(dict.fromkeys(query.getall("family", [])))
        groups = [("rabbitmq_detailed_", group) for name in asked for group in GROUPS.get(name, ())]
        groups += [("rabbitmq_cluster_", group) for name in asked for group in CLUSTER.get(name, ())]
        async with self._turn():
            return await self._stream(
                request, lambda: identity(self._context, "detailed"), groups, _selection(query)
            )

    async def memory_breakdown(self, request: web.Request) -> web.StreamResponse:
        """The approximate use of memory."""
        await self._check(request)

        def parts() -> Iterator[Metric]:
            yield from identity(self._context, "memory-breakdown")
            for part, value in memory_parts(self._context).items():
                name, help = MEMORY[part]
                yield GaugeMetricFamily(
                    f"rabbitmq_memory_{name}_bytes", f"{help}: memory footprint in bytes, an estimate", value
                )

        stream = TextStream(request)
        await stream.start()
        stream.line(generate_latest(registry_of(parts)).decode())
        return await stream.end()

    # -- what they share

    @asynccontextmanager
    async def _turn(self) -> AsyncIterator[None]:
        """Raise Refusal (429): there are enough of them already."""
        if self._streams >= MAX_STREAMS:
            raise Refusal(
                429, "too_many_scrapes", "too many scrapes are under way", headers={"Retry-After": "5"}
            )
        self._streams += 1
        try:
            yield
        finally:
            self._streams -= 1

    async def _stream(
        self,
        request: web.Request,
        first: Callable[[], Iterator[Metric]],
        groups: Sequence[tuple[str, Group]],
        wanted: FilteredMessages,
    ) -> web.StreamResponse:
        found: dict[Things, Listed] = {}
        for _, group in groups:
            if group.things not in found:
                listed = found[group.things] = Listed()
                await in_slices(group.things(self._context, wanted), listed.add)
        stream = TextStream(request)
        await stream.start()
        stream.line(generate_latest(registry_of(first)).decode())
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
                for labels, thing in zip(things.labels, things.things, strict=True):
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


class Listed:
    """Labels and things side by side: a hundred thousand pairs would be as many objects for the garbage collector."""

    __slots__ = ("labels", "things")

    def __init__(self) -> None:
        self.labels: list[str] = []
        self.things: list[Any] = []

    def add(self, found: tuple[str, Any]) -> None:
        labels, thing = found
        self.labels.append(labels)
        self.things.append(thing)


class Once(Collector):
    """Metrics of a moment, as prometheus_client wants to be given them."""

    def __init__(self, collect: Callable[[], Iterator[Metric]]) -> None:
        self._collect = collect

    def collect(self) -> Iterator[Metric]:
        return self._collect()


def registry_of(collect: Callable[[], Iterator[Metric]]) -> CollectorRegistry:
    registry = CollectorRegistry(auto_describe=False)
    registry.register(Once(collect))
    return registry


def _selection(query: MultiMapping[str]) -> FilteredMessages:
    """Raise Refusal (400)."""
    vhosts = frozenset(query.getall("vhost", []))
    pattern = query.get("queue")
    if pattern is None:
        return FilteredMessages(vhosts)
    if len(pattern) > MAX_PATTERN:
        raise Refusal(400, "bad_request", f"queue is a pattern of at most {MAX_PATTERN} characters")
    try:
        compiled = compile_pattern(pattern)
    except InvalidPattern as error:
        raise Refusal(400, "bad_request", f"queue is not a valid pattern: {error}") from None

    left_s = PATTERNS_S

    def has(name: str) -> bool:
        nonlocal left_s
        began = perf_counter()
        try:
            if left_s > 0:
                return compiled.search(name)
        except PatternTooSlow:
            pass
        finally:
            left_s -= perf_counter() - began
        raise Refusal(400, "bad_request", "queue is a pattern that takes too long")

    return FilteredMessages(vhosts, has)

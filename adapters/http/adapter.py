"""The HTTP specs: aiohttp's request handler, fed with connections that the common listener accepted."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any, ClassVar

import trio

from leveret.adapters.base import ListenerSpec, Purpose, wanted
from leveret.adapters.http.settings import HttpSettings
from leveret.core.counters import Metric

if TYPE_CHECKING:
    from leveret.adapters.http.aio.transport import HttpTransport
    from leveret.adapters.http.areas import Area
    from leveret.adapters.http.context import HttpContext
    from leveret.adapters.transport import Transport
    from leveret.core.broker import Broker
__all__ = ["HttpAdapter"]

log = logging.getLogger(__name__)

KEEP_ALIVE_S = 75.0  # an idle connection, and one that does not come to the point with its first request


class HttpAdapter:
    """All HTTP connections of a broker."""

    name: ClassVar[str] = "http"
    settings_type: ClassVar[type | None] = HttpSettings
    listeners: ClassVar[Sequence[ListenerSpec]] = (
        ListenerSpec(
            "http", "HTTP: management, messaging, webhooks, metrics", port=15672, purpose=Purpose.MANAGEMENT
        ),
        ListenerSpec("https", "HTTP over TLS", customary_port=15671, is_tls=True, purpose=Purpose.MANAGEMENT),
        ListenerSpec(
            "prometheus", "HTTP for metrics alone", "http/prometheus", port=15692, purpose=Purpose.METRICS
        ),
    )
    protocols: ClassVar[Sequence[str]] = ("http",)
    login_protocol: ClassVar[str] = "http"

    def __init__(self, broker: Broker) -> None:
        self.broker = broker
        self.context: HttpContext | None = None  # while it runs
        self._bridges: set[HttpTransport] = set()
        self._opened_total = 0
        self._servers: dict[str, Any] = {}  # by listener: aiohttp's web.Server
        self._loop: Any = None

    def metrics(self) -> Iterator[Metric]:
        """See core/counters.py."""
        yield Metric.of("leveret_http_connections", "HTTP connections currently open", len(self._bridges))
        yield Metric.of(
            "leveret_http_connections_opened_total", "HTTP connections accepted", self._opened_total
        )
        if self.context is not None:
            for area in self.context.areas:
                yield from area.metrics()

    @property
    def settings(self) -> HttpSettings:
        """As they are now."""
        return HttpSettings.of(self.broker.settings)

    async def run(self, *, task_status: trio.TaskStatus[None]) -> None:
        """The asyncio loop, for as long as there are connections."""
        if not wanted(self, self.broker.settings):
            task_status.started()
            return
        # Imported here: whoever does without HTTP does without a quarter of a second, too.
        from aiohttp import web

        from leveret.adapters.http.aio.loop import open_loop
        from leveret.adapters.http.aio.protocol import MAX_FIELD_BYTES, MAX_LINE_BYTES
        from leveret.adapters.http.aio.protocol_log import protocol_log
        from leveret.adapters.http.app import build_app, without_trailing_slash
        from leveret.adapters.http.areas import build_areas
        from leveret.adapters.http.context import HttpContext

        async with open_loop() as loop:
            self._loop = loop
            context = self.context = HttpContext(self.broker, loop)
            areas = build_areas(context)
            runners = {}
            for listener, app in {
                "http": build_app(context, areas),
                "prometheus": build_app(context, [area for area in areas if area.serves_metrics]),
            }.items():
                runner = runners[listener] = web.AppRunner(
                    app,
                    handle_signals=False,
                    access_log=None,
                    logger=protocol_log(),
                    handler_cancellation=True,  # a long poll ends with its client
                    keepalive_timeout=KEEP_ALIVE_S,
                    auto_decompress=False,  # a message's bytes are its sender's; and there are no bombs
                    lingering_time=2.0,
                    max_line_size=MAX_LINE_BYTES,
                    max_field_size=MAX_FIELD_BYTES,
                    shutdown_timeout=0.0,  # the connections have had their time before
                )
                await loop.run_aio_coroutine(runner.setup())
                assert runner.server is not None
                runner.server.request_factory = without_trailing_slash(runner.server.request_factory)
                self._servers[listener] = runner.server
            try:
                async with trio.open_nursery() as nursery:
                    nursery.start_soon(context.rates.run)
                    for area in areas:
                        nursery.start_soon(_run_area, area, name=f"HTTP area {area.name}")
                    task_status.started()
            finally:
                with trio.CancelScope(shield=True):
                    for runner in runners.values():
                        await loop.run_aio_coroutine(runner.cleanup())
                self._servers.clear()

    async def serve(self, transport: Transport) -> None:
        import trio_asyncio  # type: ignore[import-untyped]  # it has no types

        from leveret.adapters.http.aio.protocol import make_protocol
        from leveret.adapters.http.aio.transport import HttpTransport

        server = self._servers.get(self._door(transport))
        if server is None:
            return  # not yet, or not any more
        # Callbacks of aiohttp's that run in this task must find the loop.
        trio_asyncio.current_loop.set(self._loop)
        context = self.broker.tls_context if transport.tls_info else None
        bridge = HttpTransport(transport, make_protocol(server), context)
        self._bridges.add(bridge)
        self._opened_total += 1
        try:
            await bridge.run()
        finally:
            self._bridges.discard(bridge)

    def _door(self, transport: Transport) -> str:
        """Connections at the prometheus port see metrics alone."""
        port = transport.local[1] if transport.local else None
        is_metrics = any(
            listener.spec.purpose is Purpose.METRICS and listener.port == port
            for listener in self.broker.listeners
        )
        return "prometheus" if is_metrics else "http"

    def drain(self) -> None:
        """The specs are shut: idle connections end at once, the others after their answer."""
        if self.context is not None and not self.context.is_stopping:
            self.context.is_stopping = True
            for area in self.context.areas:
                try:
                    area.drain()
                except (
                    Exception
                ):  # an area of a plugin may raise anything; the others are drained nevertheless
                    log.exception("area=%s does not drain", area.name)
        for bridge in list(self._bridges):
            bridge.drain()


async def _run_area(area: Area) -> None:
    """The area's task. An area of a plugin may raise anything; the others go on."""
    try:
        await area.run()
    except Exception:
        log.exception("area=%s its task has failed; its routes remain", area.name)

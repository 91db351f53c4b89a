"""An adapter behind a WebSocket that answers what it got, and the listeners around it."""

from __future__ import annotations

import contextlib
import logging
import socket
from collections.abc import AsyncIterator, Sequence
from dataclasses import replace
from typing import ClassVar

import trio
from support.registries import installed
from support.websocket_peer import StreamPeer

from leveret.adapters.base import ListenerSpec, OpenListener, WebSocketSpec
from leveret.adapters.listener import serve_all
from leveret.adapters.outbox import Outbox
from leveret.adapters.transport import PlainTransport, Transport
from leveret.adapters.websocket.transport import WebSocketTransport
from leveret.adapters.websocket.upgrade import upgrade
from leveret.conf.settings import Settings, Websocket
from leveret.core.broker import Broker
from leveret.core.store.memory import MemoryStore

__all__ = [
    "BINARY_SPEC",
    "FRAMED_SPEC",
    "TEXT_SPEC",
    "EchoAdapter",
    "WebSocketPair",
    "echo_doors",
    "websocket_pair",
]

BINARY_SPEC = WebSocketSpec(("mqtt", "mqttv3.1"))
TEXT_SPEC = WebSocketSpec(("v12.stomp",), is_text=True, takes_text=True)
FRAMED_SPEC = replace(TEXT_SPEC, message_end=b"\0\n")

log = logging.getLogger(__name__)


class EchoAdapter:
    """Echoes through an outbox, as real adapters send."""

    name: ClassVar[str] = "echo"
    specs: ClassVar[Sequence[ListenerSpec]] = (
        ListenerSpec("echo", port=0, websocket=BINARY_SPEC),
        ListenerSpec("echo-text", port=0, websocket=TEXT_SPEC),
        ListenerSpec("echo-tls", port=0, is_tls=True, websocket=BINARY_SPEC),
    )

    def __init__(self, broker: Broker) -> None:
        self.broker = broker
        self.transports: list[Transport] = []
        self.ends: list[str] = []

    @property
    def listeners(self) -> Sequence[ListenerSpec]:
        return self.specs if self.broker.settings.tls.certfile else self.specs[:2]

    async def run(self, *, task_status: trio.TaskStatus[None]) -> None:
        task_status.started()

    async def serve(self, transport: Transport) -> None:
        self.transports.append(transport)
        scope = trio.CancelScope()
        try:
            async with trio.open_nursery() as nursery:
                scope = nursery.cancel_scope
                outbox = Outbox(
                    transport, self.broker.dispatcher, 1 << 20,
                    spawn=lambda task: nursery.start_soon(task),  # type: ignore[arg-type]
                    on_drained=lambda: None, on_lost=scope.cancel,
                )  # fmt: skip
                while data := await transport.receive():
                    outbox.write(data)
                    self.broker.dispatcher.run()
                    if outbox.is_congested:
                        await outbox.drain()
                await outbox.drain()
                scope.cancel()
            self.ends.append("end")
        except* OSError as errors:
            self.ends.append(repr(errors.exceptions[0]))


@contextlib.asynccontextmanager
async def running_broker(settings: Settings) -> AsyncIterator[Broker]:
    async with Broker(settings, installed(), MemoryStore()).running() as broker:
        yield broker


@contextlib.asynccontextmanager
async def echo_doors(
    settings: Settings,
) -> AsyncIterator[tuple[EchoAdapter, dict[str, OpenListener], trio.CancelScope]]:
    """The real listener around an echo: the adapter, its listeners by name, and the scope whose cancelling shuts down."""
    async with running_broker(settings) as broker, trio.open_nursery() as nursery:
        adapter = EchoAdapter(broker)
        broker.adapters = [adapter]
        scope = trio.CancelScope()

        async def serve(task_status: trio.TaskStatus[list[OpenListener]]) -> None:
            with scope:
                await serve_all(broker, task_status=task_status)

        listeners = await nursery.start(serve)
        yield adapter, {listener.name: listener for listener in listeners}, scope
        scope.cancel()


class WebSocketPair:
    """A server's transport and a client's peer, upgraded."""

    def __init__(
        self, transport: WebSocketTransport, peer: StreamPeer, broker: Broker, sock: socket.socket
    ) -> None:
        self.transport = transport
        self.peer = peer
        self.broker = broker
        self.socket = sock


@contextlib.asynccontextmanager
async def websocket_pair(
    spec: WebSocketSpec = BINARY_SPEC, *, is_stopping: bool = False, **changes: object
) -> AsyncIterator[WebSocketPair]:
    """changes: of the websocket settings."""
    settings = replace(Settings(), websocket=replace(Websocket(), **changes))  # type: ignore[arg-type]
    async with running_broker(settings) as broker:
        ours, theirs = socket.socketpair()
        theirs.setblocking(False)
        peer = StreamPeer(trio.SocketStream(trio.socket.from_stdlib_socket(theirs)))
        transports: list[WebSocketTransport] = []

        async def serve() -> None:
            transports.append(
                await upgrade(
                    PlainTransport(ours), spec, settings.websocket, broker.timers, lambda: is_stopping
                )
            )

        async with trio.open_nursery() as nursery:
            nursery.start_soon(serve)
            await peer.open()
        try:
            yield WebSocketPair(transports[0], peer, broker, ours)
        finally:
            transports[0].close()
            await peer.stream.aclose()

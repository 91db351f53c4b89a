"""A whole broker in this process, on the in-memory store, and connections to it over socket pairs."""

from __future__ import annotations

import contextlib
import socket
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import replace
from typing import Any

import trio
import trio.testing
from support.registries import installed

from leveret.adapters.amqp.adapter import AmqpAdapter
from leveret.adapters.amqp.methods import (
    BasicConsume,
    BasicGet,
    ChannelOpen,
    ConfirmSelect,
    ConnectionOpen,
    ConnectionStartOk,
    ConnectionTuneOk,
    QueueDeclare,
    method_frame,
)
from leveret.adapters.amqp.protocol import PROTOCOL_HEADER
from leveret.adapters.transport import PlainTransport
from leveret.conf.settings import Settings, shared_sections
from leveret.core.broker import Broker
from leveret.core.store.memory import MemoryStore

__all__ = ["HANDSHAKE", "InProcess", "audit", "broker_in_process"]

HANDSHAKE = (
    PROTOCOL_HEADER
    + method_frame(0, ConnectionStartOk(mechanism="PLAIN", response=b"\0guest\0guest", locale="en_US"))
    + method_frame(0, ConnectionTuneOk(channel_max=2047, frame_max=131072, heartbeat=0))
    + method_frame(0, ConnectionOpen(virtual_host="/"))
    + method_frame(1, ChannelOpen())
)
"""A client that pipelines all it can: after it, channel 1 is open."""

SCRIPT = (
    method_frame(1, ConfirmSelect())
    + method_frame(1, QueueDeclare(queue="script", durable=True))
    + method_frame(1, QueueDeclare(queue="mine", exclusive=True, auto_delete=True))
    + b"".join(
        b"\x01\x00\x01\x00\x00\x00\x0f\x00\x3c\x00\x28\x00\x00\x00\x06script\x00\xce"
        b"\x02\x00\x01\x00\x00\x00\x0f\x00\x3c\x00\x00\x00\x00\x00\x00\x00\x00\x00\x04\x10\x00\x02\xce"
        b"\x03\x00\x01\x00\x00\x00\x04" + b"%04d" % number + b"\xce"
        for number in range(5)
    )
    + method_frame(1, BasicConsume(queue="script", consumer_tag="c"))
    + method_frame(1, BasicGet(queue="mine"))
)
"""Then: confirms, a durable queue, an exclusive one, publishes, a consumer that never acks."""


class InProcess:
    """The broker and the way in."""

    def __init__(self, broker: Broker, nursery: trio.Nursery, adapter: Any = None) -> None:
        self.broker = broker
        self.adapter: Any = AmqpAdapter(broker) if adapter is None else adapter
        self._nursery = nursery

    def connect(self) -> tuple[trio.SocketStream, trio.CancelScope, trio.Event]:
        """A client's stream, the scope of the connection's task on the broker's side, and the event of its end."""
        ours, theirs = socket.socketpair()
        theirs.setblocking(False)
        scope = trio.CancelScope()
        ended = trio.Event()

        async def serve() -> None:
            transport = PlainTransport(ours)
            try:
                with scope:
                    await self.adapter.serve(transport)
            finally:
                transport.close()
                ended.set()

        self._nursery.start_soon(serve)
        return trio.SocketStream(trio.socket.from_stdlib_socket(theirs)), scope, ended

    async def talk(self, data: bytes, *, piece: int = 0) -> bytes:
        """Send, read what comes until the broker has nothing more to say, leave; what came."""
        stream, _, ended = self.connect()
        received = b""

        async def read() -> None:
            nonlocal received
            with contextlib.suppress(trio.BrokenResourceError, trio.ClosedResourceError):
                async for chunk in stream:
                    received += chunk

        async with trio.open_nursery() as nursery:
            nursery.start_soon(read)
            with contextlib.suppress(trio.BrokenResourceError):
                for start in range(0, len(data), piece or len(data) or 1):
                    await stream.send_all(data[start : start + (piece or len(data))])
            await trio.testing.wait_all_tasks_blocked(0.002)
            await stream.aclose()
        with trio.fail_after(5):
            await ended.wait()
        return received


def audit(broker: Broker) -> None:
    """Nothing is left of connections that are gone."""
    assert not broker.connections
    for vhost in broker.vhosts.values():
        for queue in vhost.queues.values():
            assert not queue.is_exclusive
            assert queue.consumer_count == 0
            assert queue.unacked_count == 0


@contextlib.asynccontextmanager
async def broker_in_process(
    adapter: Callable[[Broker], Any] = AmqpAdapter, *, areas: Sequence[type] = (), **changes: Any
) -> AsyncIterator[InProcess]:
    """One adapter and the broker behind it.

    areas: HTTP areas beside the installed ones. changes: sections of the settings, whole.
    """
    plain = Settings()
    # A refused login is answered at once: the tests end before the usual three seconds have passed.
    owned = {name: section for name, section in changes.items() if name not in shared_sections()}
    shared = {"auth": replace(plain.auth, login_failure_delay_s=0.0), **changes, "owned": owned}
    settings = replace(plain, **{name: shared[name] for name in shared if name not in owned})
    registry = installed()
    for area in areas:
        if registry.find("http", area.name) is None:  # type: ignore[attr-defined]
            registry.register("http", area.name, area)  # type: ignore[attr-defined]
    async with Broker(settings, registry, MemoryStore()).running() as broker:
        async with trio.open_nursery() as nursery:
            listener = adapter(broker)
            broker.adapters = [listener]
            await nursery.start(listener.run)
            yield InProcess(broker, nursery, listener)
            await trio.testing.wait_all_tasks_blocked(0.002)
            nursery.cancel_scope.cancel()
        audit(broker)

"""What an adapter is: one protocol, its listeners, and a task per accepted connection."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar, Protocol, runtime_checkable

if TYPE_CHECKING:
    import trio

    from leveret.adapters.transport import Transport
    from leveret.core.broker import Broker
__all__ = ["Adapter", "Draining", "ListenerSpec", "OpenListener", "WebSocketSpec"]


@dataclass(frozen=True, slots=True)
class WebSocketSpec:
    """For listeners behind an HTTP upgrade (RFC 6455).

    subprotocols  that this listener speaks, best first; a client that offers none of them is let in without one
    is_text       bytes go out in text frames where they are UTF-8, else, and always if false, in binary ones
    takes_text    text frames are accepted; if not, they close the connection with 1003
    message_end   what ends a frame of the protocol: each goes out as one WebSocket message, for clients that expect
                  that (a body that contains it is cut there); empty: a stream, in messages of any length
    """

    subprotocols: tuple[str, ...]
    is_text: bool = False
    takes_text: bool = False
    message_end: bytes = b""


@dataclass(frozen=True, slots=True)
class ListenerSpec:
    """A listener that the settings ask for: its name, port (0: any free one), whether it speaks TLS, WebSocket or not."""

    name: str
    port: int
    is_tls: bool = False
    websocket: WebSocketSpec | None = None


@dataclass(frozen=True, slots=True)
class OpenListener:
    """A listener that is open."""

    name: str
    host: str
    port: int
    is_tls: bool = False


class Adapter(Protocol):
    """One protocol. Built once per broker; `serve` is called once per accepted connection, in a task of its own."""

    name: ClassVar[str]

    def __init__(self, broker: Broker) -> None: ...
    def listeners(self) -> Sequence[ListenerSpec]:
        """What the settings ask for; empty: the protocol is off."""

    async def run(self, *, task_status: trio.TaskStatus[None]) -> None:
        """What lives as long as the connections: recover, report `started`, work until cancelled, or just return.

        Cancelled after the last connection has drained, so that a connection always finds it there.
        """

    async def serve(self, transport: Transport) -> None:
        """Speak the protocol until the peer or the broker ends it. Never leaks a peer's mistake."""


@runtime_checkable
class Draining(Protocol):
    """An adapter whose connections are not (all) in `broker.connections`: it ends them itself."""

    def drain(self) -> None:
        """The listeners are shut: let the clients go, bounded in time. Called once; returns at once."""

"""What an adapter is: one protocol, its listeners, and a task per accepted connection."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum
from typing import TYPE_CHECKING, ClassVar, Protocol, runtime_checkable

from leveret.conf.declare import Setting, port_setting

if TYPE_CHECKING:
    import trio

    from leveret.adapters.transport import Transport
    from leveret.conf.settings import Settings
    from leveret.core.broker import Broker
__all__ = [
    "Adapter",
    "Draining",
    "ListenerSpec",
    "OpenListener",
    "Purpose",
    "WebSocketSpec",
    "wanted",
]


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


class Purpose(Enum):
    """Whom a listener is for."""

    CLIENTS = "clients"
    MANAGEMENT = "management"
    METRICS = "metrics"


@dataclass(frozen=True, slots=True)
class ListenerSpec:
    """A listener that an adapter can have, and all that others need to know of it.

    name: in the ready line, in logs and listings; `listeners.NAME` is the setting of its port, with _ for -, and
    `--NAME` its flag.
    label: the protocol for people, as "MQTT over WebSocket".
    protocol: as RabbitMQ's listings show it ("http/web-mqtt"); empty: the name.
    port: the default; None: closed unless the configuration gives one.
    customary_port: for the documentation, where the default is None.
    websocket: how the protocol is carried behind an HTTP upgrade.
    aliases: other words that health checks understand for the protocol.
    """

    name: str
    label: str = ""
    protocol: str = ""
    port: int | None = None
    customary_port: int | None = None
    is_tls: bool = False
    websocket: WebSocketSpec | None = None
    purpose: Purpose = Purpose.CLIENTS
    aliases: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if not self.protocol:
            object.__setattr__(self, "protocol", self.name)

    @property
    def words(self) -> tuple[str, ...]:
        """All that health checks may call it, in lower case."""
        tls = (f"{self.name.removesuffix('s')}/tls",) if self.is_tls else ()
        return (self.protocol, self.name, self.name.replace("-", "_"), *tls, *self.aliases)

    def setting(self) -> Setting:
        """The setting of its port."""
        doc = f"port of {self.label or self.name}"
        if self.customary_port is not None:
            doc += f" (the customary one is {self.customary_port})"
        return port_setting(self.name, self.port, doc)

    def port_in(self, settings: Settings) -> int | None:
        """Where the settings want it: None: nowhere, 0: on any free port."""
        return settings.listeners.ports.get(self.setting().name, self.port)


@dataclass(frozen=True, slots=True)
class OpenListener:
    """A listener that is open."""

    spec: ListenerSpec
    host: str
    port: int

    @property
    def name(self) -> str:
        return self.spec.name

    @property
    def is_tls(self) -> bool:
        return self.spec.is_tls

    @property
    def address(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"

    def __str__(self) -> str:
        """As in the ready line: "amqp=127.0.0.1:5672"."""
        return f"{self.name}={self.address}"


class Adapter(Protocol):
    """One protocol. Built once per broker; `serve` is called once per accepted connection, in a task of its own."""

    name: ClassVar[str]
    """The name of the entry point, of the section of its settings, and of the protocol of logins."""

    settings_type: ClassVar[type | None] = None
    """The frozen dataclass that declares its settings, the section [NAME]; see leveret.conf.declare."""

    listeners: ClassVar[Sequence[ListenerSpec]]
    """All that it can have; open are those to which the settings give a port."""

    protocols: ClassVar[Sequence[str]]
    """Names under which the traffic of its connections is counted: there from the beginning, at 0."""

    login_protocol: ClassVar[str]
    """What RabbitMQ calls the protocol where it counts logins."""

    def __init__(self, broker: Broker) -> None: ...

    async def run(self, *, task_status: trio.TaskStatus[None]) -> None:
        """What lives as long as the connections: recover, report `started`, work until cancelled, or just return.

        Cancelled after the last connection has drained, so that a connection always finds it there.
        """

    async def serve(self, transport: Transport) -> None:
        """Speak the protocol until the peer or the broker ends it. Never leaks a peer's mistake."""


def wanted(adapter: Adapter, settings: Settings) -> list[tuple[ListenerSpec, int]]:
    """The listeners of an adapter that the settings ask for, with their ports; empty: the protocol is off."""
    ports = [(spec, spec.port_in(settings)) for spec in adapter.listeners]
    return [(spec, port) for spec, port in ports if port is not None]


@runtime_checkable
class Draining(Protocol):
    """An adapter whose connections are not (all) in `broker.connections`: it ends them itself."""

    def drain(self) -> None:
        """The listeners are shut: let the clients go, bounded in time. Called once; returns at once."""

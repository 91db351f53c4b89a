"""The shared settings: sections that the broker, its listeners and more than one adapter read. Frozen once loaded.

What belongs to one adapter, backend, store, exchange type or plugin is declared beside it; see conf/declare.py.
"""

from __future__ import annotations

import functools
import os
import socket
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any, TypeVar

from leveret.conf.declare import KiB, MiB, Setting, TiB, declared, seconds, setting, size

__all__ = [
    "Auth",
    "Limits",
    "Listeners",
    "Log",
    "Plugins",
    "Server",
    "Settings",
    "Store",
    "Tls",
    "Websocket",
    "declarations",
    "default_data_dir",
    "shared_sections",
]

T = TypeVar("T")


def default_data_dir() -> Path:
    """Where this platform keeps a user's application data."""
    if sys.platform == "darwin":
        return Path.home() / "Library" / "Application Support" / "leveret"
    if sys.platform == "win32":
        return Path(os.environ.get("LOCALAPPDATA") or Path.home() / "AppData" / "Local") / "leveret"
    return Path(os.environ.get("XDG_DATA_HOME") or Path.home() / ".local" / "share") / "leveret"


def default_node_name() -> str:
    return f"leveret@{socket.gethostname()}"


@dataclass(frozen=True, slots=True)
class Server:
    """This node."""

    data_dir: Path = setting(  # noqa: RUF009 - a field, not a Path
        default_data_dir, "where everything durable is kept", flag="--data-dir"
    )
    node_name: str = setting(default_node_name, "the name of this node")
    product: str = setting(
        "RabbitMQ", "what clients see as product; some clients adapt to it", former="amqp.product"
    )
    version: str = setting("4.1.4", "what clients see as version: digits and dots", former="amqp.version")
    cluster_name: str = setting("", "what clients see as cluster_name; empty: the node's name")
    shutdown_timeout_s: float = seconds(10.0, "how long a graceful shutdown waits for its clients")
    control_socket: str = setting(
        "", "the socket of `leveret ctl`; empty: control.sock in the data directory"
    )
    load_definitions: str = setting(
        "",
        "a file of definitions (JSON, of RabbitMQ or Leveret) that is imported at every start, if it exists",
    )


@dataclass(frozen=True, slots=True)
class Listeners:
    """The addresses and ports on which clients connect. The ports are declared by the adapters."""

    bind: str = setting("127.0.0.1", "address to listen on; 0.0.0.0 or ::, for all", flag="--bind")
    backlog: int = setting(1024, "connections that may wait to be accepted", minimum=1, maximum=65535)
    ports: Mapping[str, int | None] = field(default_factory=dict)
    """The other settings of the section, by name: the port of each listener, which the adapters declare."""


@dataclass(frozen=True, slots=True)
class Tls:
    """For the listeners that speak TLS. A reload reads all of them again."""

    certfile: str = setting("", "certificate chain, PEM", reloadable=True)
    keyfile: str = setting("", "its private key, PEM; empty: it is in certfile", reloadable=True)
    cafile: str = setting("", "authorities whose client certificates are trusted, PEM", reloadable=True)
    verify_peer: bool = setting(False, "ask clients for a certificate, and verify it", reloadable=True)
    fail_if_no_peer_cert: bool = setting(
        False, "refuse clients without a certificate (with verify_peer)", reloadable=True
    )
    min_version: str = setting(
        "TLSv1.2",
        "the oldest protocol version that is accepted",
        choices=("TLSv1.2", "TLSv1.3"),
        reloadable=True,
    )


@dataclass(frozen=True, slots=True)
class Websocket:
    """The WebSocket listeners of MQTT and STOMP. Reloaded settings apply to new connections."""

    path: str = setting("/ws", "the path of the listeners; other paths are 404")
    origins: tuple[str, ...] = setting(
        (), "browsers' origins that may connect (https://app.example); empty: all", reloadable=True
    )
    handshake_timeout_s: float = seconds(10.0, "from accept to the complete request", reloadable=True)
    max_message_size: int = size(
        16 * MiB, "larger WebSocket messages close 1009", minimum=1024, reloadable=True
    )
    ping_interval_s: float = seconds(
        60.0,
        "a silent client is pinged this often, and dropped if it does not answer; 0: never",
        reloadable=True,
    )


@dataclass(frozen=True, slots=True)
class Store:
    """The storage of durable queues, messages and definitions."""

    engine: str = setting("lmdb", 'name of a store: "lmdb", "memory" (nothing survives), or a plugin\'s')
    durability: str = setting(
        "flush",
        '"flush": confirmed means on the disk; "os": confirmed means handed to the operating system, which '
        "survives a killed process, but a power cut may damage the store",
        choices=("flush", "os"),
    )
    map_size: int = size(1 * TiB, "address space reserved for the store; not disk space", minimum=16 * MiB)
    max_pending_bytes: int = size(
        64 * MiB, "not yet durable bytes above which publishers must wait", minimum=1 * MiB, reloadable=True
    )
    window_messages: int = setting(
        2048,
        "ready messages kept in memory per queue; the rest is read when needed",
        unit="messages",
        minimum=16,
    )
    window_bytes: int = size(16 * MiB, "the same, in bytes of bodies", minimum=64 * KiB)


@dataclass(frozen=True, slots=True)
class Limits:
    """Watermarks and limits that protect the node."""

    memory_high_watermark: float = setting(
        0.6,
        "fraction of this machine's memory above which publishers are blocked",
        minimum=0,
        maximum=1,
        reloadable=True,
    )
    memory_absolute: int = size(0, "the same as a number, instead of the fraction; 0: off", reloadable=True)
    disk_free_limit: int = size(
        50_000_000, "free space of the data directory below which publishers are blocked", reloadable=True
    )
    consumer_timeout_ms: int = setting(
        1_800_000, "a delivery unsettled for longer closes its channel (406); 0: never", unit="milliseconds",
        minimum=0, reloadable=True,
    )  # fmt: skip
    max_message_size: int = size(
        128 * MiB, "larger messages of AMQP clients and the management API are refused (406)", minimum=1,
        maximum=512 * MiB, former="amqp.max_message_size", reloadable=True,
    )  # fmt: skip
    default_prefetch: int = setting(
        0, "prefetch of channels that do not ask for any; 0: unlimited", unit="messages", minimum=0, maximum=65535,
        reloadable=True,
    )  # fmt: skip
    connection_max: int = setting(
        0, "client connections of this node; 0: unlimited", unit="connections", minimum=0, reloadable=True
    )
    delivery_limit_quorum: int = setting(
        20, "failed deliveries after which a quorum queue drops a message; -1: never", unit="deliveries", minimum=-1,
        reloadable=True,
    )  # fmt: skip


@dataclass(frozen=True, slots=True)
class Auth:
    """Users, logins and backends. The default user and virtual host are created when none exists."""

    default_user: str = setting("guest", "the first user, an administrator with all permissions; empty: none")
    default_pass: str = setting("guest", "the first user's password", secret=True)
    default_vhost: str = setting("/", "the first virtual host")
    loopback_users: tuple[str, ...] = setting(("guest",), "users who may only connect from this machine")
    mechanisms: tuple[str, ...] = setting(
        ("PLAIN", "AMQPLAIN", "EXTERNAL"),
        "SASL mechanisms offered to clients",
        choices=("PLAIN", "AMQPLAIN", "EXTERNAL", "ANONYMOUS"),
    )
    cert_login_from: str = setting(
        "distinguished_name",
        "which part of a client's certificate is the user name (EXTERNAL)",
        choices=("distinguished_name", "common_name", "subject_alternative_name"),
    )
    anonymous_user: str = setting("", "the user of ANONYMOUS logins; empty: they are refused")
    backends: tuple[str, ...] = setting(
        ("internal",), "the backends that are asked about users and permissions, in this order"
    )
    backend_timeout_s: float = seconds(
        15.0, "how long one operation of a client may wait for an authorization backend",
        former="amqp.channel_operation_timeout_s", reloadable=True,
    )  # fmt: skip
    login_failure_delay_s: float = seconds(
        3.0, "delay of the answer to a wrong password", former="amqp.login_failure_delay_s", reloadable=True
    )
    cache_ttl_s: float = seconds(15.0, "how long a verified password is remembered; 0: not at all")


@dataclass(frozen=True, slots=True)
class Plugins:
    """Plugins. `leveret plugins list` shows those that are installed."""

    enabled: tuple[str, ...] = setting(("tracing", "webhooks"), "plugins to start")


@dataclass(frozen=True, slots=True)
class Log:
    """The server's log."""

    level: str = setting(
        "info", "the least level that is written", choices=("debug", "info", "warning", "error", "critical"),
        flag="--log-level", reloadable=True,
    )  # fmt: skip
    format: str = setting(
        "text", "the format of events, one per line", choices=("text", "json"), flag="--log-format"
    )
    file: str = setting("", "file to write to; empty: standard error")


@dataclass(frozen=True, slots=True)
class Settings:
    """All of them: the shared sections, and those that adapters, backends, stores, exchange types and plugins declare.

    owned: the sections of the second kind that were loaded, by name ("amqp", "auth.ldap"); see `section`.
    """

    server: Server = field(default_factory=Server)
    listeners: Listeners = field(default_factory=Listeners)
    tls: Tls = field(default_factory=Tls)
    websocket: Websocket = field(default_factory=Websocket)
    store: Store = field(default_factory=Store)
    limits: Limits = field(default_factory=Limits)
    auth: Auth = field(default_factory=Auth)
    plugins: Plugins = field(default_factory=Plugins)
    log: Log = field(default_factory=Log)
    owned: Mapping[str, Any] = field(default_factory=dict)

    def section(self, name: str, declaration: type[T]) -> T:
        """A section as its owner declared it; its defaults if the configuration does not name it."""
        found = self.owned.get(name)
        return found if isinstance(found, declaration) else declaration()


@functools.cache
def shared_sections() -> dict[str, type]:
    """The sections that are declared here, by name, in the order of the file."""
    return {one.name: one.default_factory for one in fields(Settings) if one.name != "owned"}  # type: ignore[misc]


@functools.cache
def declarations() -> dict[str, Setting]:
    """Every shared setting by its key, in the order of the file."""
    return {key: row for name, made in shared_sections().items() for key, row in declared(name, made).items()}

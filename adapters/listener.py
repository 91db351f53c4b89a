"""Listeners: bind, accept, TLS, and one task per connection that can fail without hurting another."""

from __future__ import annotations

import errno
import logging
import socket
import ssl
from typing import TYPE_CHECKING

import trio

from leveret.adapters.base import Adapter, Draining, ListenerSpec, OpenListener, WebSocketSpec, wanted
from leveret.adapters.transport import PlainTransport, TlsTransport, Transport
from leveret.adapters.websocket.transport import WebSocketTransport
from leveret.adapters.websocket.upgrade import upgrade

if TYPE_CHECKING:
    from leveret.conf.settings import Settings
    from leveret.core.broker import Broker
__all__ = ["ListenerError", "serve_all", "tls_context"]

log = logging.getLogger(__name__)

# Out of file descriptors or buffers: pause the accept loop this long, as trio's own does; the backlog waits.
ACCEPT_PAUSE_S = 0.1
ACCEPT_CAPACITY_ERRORS = {errno.EMFILE, errno.ENFILE, errno.ENOMEM, errno.ENOBUFS}
TLS_HANDSHAKE_S = 5.0  # RabbitMQ's ssl_handshake_timeout


class ListenerError(Exception):
    """A listener cannot be opened: one sentence for the operator."""


def tls_context(settings: Settings) -> ssl.SSLContext:
    """The server's context from the tls section. Raise DoorError if the files are not usable."""
    tls = settings.tls
    if not tls.certfile:
        raise ListenerError("a TLS listener is configured, but tls.certfile is empty")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    try:
        context.minimum_version = ssl.TLSVersion[tls.min_version.replace(".", "_")]
        context.load_cert_chain(tls.certfile, tls.keyfile or None)
        if tls.cafile:
            context.load_verify_locations(tls.cafile)
    except (OSError, ssl.SSLError, KeyError) as error:
        raise ListenerError(f"the TLS certificate cannot be used: {error}") from error
    if tls.verify_peer:
        context.verify_mode = ssl.CERT_REQUIRED if tls.fail_if_no_peer_cert else ssl.CERT_OPTIONAL
    return context


def _bind(host: str, spec: ListenerSpec, port: int, backlog: int) -> socket.socket:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    sock = socket.socket(family, socket.SOCK_STREAM)
    try:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if family == socket.AF_INET6 and host == "::":
            sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)  # one listener for both families
        sock.bind((host, port))
        sock.listen(backlog)
        sock.setblocking(False)
    except OSError as error:
        sock.close()
        if error.errno == errno.EADDRINUSE:
            raise ListenerError(f"{spec.name} port {port} on {host} is in use by another program") from error
        raise ListenerError(f"{spec.name} cannot listen on {host} port {port}: {error.strerror}") from error
    return sock


class Listener:
    """One open listener."""

    def __init__(self, broker: Broker, adapter: Adapter, spec: ListenerSpec, sock: socket.socket) -> None:
        self.broker = broker
        self.adapter = adapter
        self.spec = spec
        self.socket = sock
        host, port = sock.getsockname()[:2]
        self.address = OpenListener(spec, host, port)
        self._is_stopping = False
        self._upgrades: set[trio.CancelScope] = set()

    async def accept(self, connections: trio.Nursery) -> None:
        """Accept until cancelled; connections belong to `connections`, which outlives the listener while it drains."""
        try:
            while True:
                try:
                    sock, _ = self.socket.accept()
                except BlockingIOError:
                    await trio.lowlevel.wait_readable(self.socket)
                    continue
                except OSError as error:
                    if error.errno in ACCEPT_CAPACITY_ERRORS:
                        log.error("listener=%s cannot accept: %s; pausing", self.spec.name, error.strerror)
                        await trio.sleep(ACCEPT_PAUSE_S)
                    # Anything else: the peer was gone before it was accepted; the next one waits.
                    continue
                connections.start_soon(self._serve, sock)
                await trio.lowlevel.checkpoint()
        finally:
            trio.lowlevel.notify_closing(self.socket)
            self.socket.close()

    async def _serve(self, sock: socket.socket) -> None:
        plain = PlainTransport(sock)
        transport: Transport = plain
        try:
            if self.spec.is_tls:
                tls = TlsTransport(plain, self.broker.tls_context)
                with trio.fail_after(TLS_HANDSHAKE_S):
                    await tls.handshake()
                transport = tls
            if self.spec.websocket is not None:
                websocket = await self._upgrade(transport, self.spec.websocket)
                if websocket is not None:
                    transport = websocket
                    await self.adapter.serve(websocket)
                    await websocket.finish()
            else:
                await self.adapter.serve(transport)
        except ssl.SSLError as error:
            log.warning(
                "listener=%s peer=%s TLS handshake failed: %s", self.spec.name, plain.peer, error.reason
            )
        except trio.TooSlowError:
            log.warning("listener=%s peer=%s TLS handshake timed out", self.spec.name, plain.peer)
        except OSError as error:  # reset by the peer: its right
            log.info("listener=%s peer=%s closed: %s", self.spec.name, plain.peer, error)
        except Exception:
            # Our bug, not the peer's; the others go on.
            log.exception("listener=%s peer=%s connection failed", self.spec.name, plain.peer)
        finally:
            transport.close()

    async def _upgrade(self, transport: Transport, spec: WebSocketSpec) -> WebSocketTransport | None:
        """None: the listener was shut meanwhile."""
        broker = self.broker
        with trio.CancelScope() as scope:
            self._upgrades.add(scope)
            try:
                return await upgrade(
                    transport, spec, broker.settings.websocket, broker.timers, lambda: self._is_stopping
                )
            finally:
                self._upgrades.discard(scope)
        return None

    def stop(self) -> None:
        """Nobody is let in any more; who has no adapter yet to say goodbye is just left."""
        self._is_stopping = True
        for scope in list(self._upgrades):
            scope.cancel()


async def serve_all(
    broker: Broker, *, task_status: trio.TaskStatus[list[OpenListener]] = trio.TASK_STATUS_IGNORED
) -> None:
    """Open every listener that the settings ask for; report them; serve until cancelled.

    Raise DoorError before any is served if one cannot be opened. On cancellation: stop accepting, tell the clients
    in their protocol, drain within `server.shutdown_timeout_s`, then cancel what is left.
    """
    settings = broker.settings
    listeners: list[Listener] = []
    try:
        for adapter in broker.adapters:
            for spec, port in wanted(adapter, settings):
                if spec.is_tls and broker.tls_context is None:
                    broker.tls_context = tls_context(settings)
                sock = _bind(settings.listeners.bind, spec, port, settings.listeners.backlog)
                listeners.append(Listener(broker, adapter, spec, sock))
    except ListenerError:
        for listener in listeners:
            listener.socket.close()
        raise
    is_stopping = trio.Event()
    async with trio.open_nursery() as around:
        drain, runs = await around.start(_hold, is_stopping)
        try:
            async with trio.open_nursery() as accepting:
                for adapter in broker.adapters:
                    await runs.start(adapter.run)
                for listener in listeners:
                    accepting.start_soon(listener.accept, drain)
                broker.listeners = [listener.address for listener in listeners]
                task_status.started(broker.listeners)
        finally:
            for listener in listeners:
                listener.stop()
            drain.cancel_scope.deadline = trio.current_time() + settings.server.shutdown_timeout_s
            for connection in list(broker.connections):
                connection.close("broker forced connection closure with reason 'shutdown'", is_shutdown=True)
            for adapter in broker.adapters:
                if isinstance(adapter, Draining):
                    adapter.drain()
            broker.dispatcher.run()
            is_stopping.set()


async def _hold(
    is_stopping: trio.Event,
    *,
    task_status: trio.TaskStatus[tuple[trio.Nursery, trio.Nursery]] = trio.TASK_STATUS_IGNORED,
) -> None:
    """Nurseries for the connections and, around it, for the adapters' own tasks; shielded from the cancellation that
    stops the listeners. The deadline of the first bounds both."""
    async with trio.open_nursery() as runs:
        runs.cancel_scope.shield = True
        async with trio.open_nursery() as drain:
            task_status.started((drain, runs))
            await is_stopping.wait()
        runs.cancel_scope.cancel()

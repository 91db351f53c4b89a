"""From an accepted connection to a WebSocket: read the request within bounds, answer it."""

from __future__ import annotations

import contextlib
import errno
from collections.abc import Callable
from typing import TYPE_CHECKING

import trio

from leveret.adapters.websocket.handshake import HEAD_END, Acceptance, Refusal, answer
from leveret.adapters.websocket.transport import WebSocketTransport

if TYPE_CHECKING:
    from leveret.adapters.base import WebSocketSpec
    from leveret.adapters.transport import Transport
    from leveret.conf.settings import Websocket
    from leveret.core.timers import Timers
__all__ = ["UpgradeRefused", "upgrade"]

HEAD_BYTES = 16384  # of the request; h11's own limit, and twice what other servers allow
REFUSAL_S = 2.0  # for a refused peer to take the answer and go: an end with unread bytes would destroy it


class UpgradeRefused(ConnectionAbortedError):
    """The peer has had its answer (or has left), and there is no WebSocket. One line for the log."""

    def __init__(self, text: str) -> None:
        super().__init__(errno.ECONNABORTED, text)

    def __str__(self) -> str:
        return str(self.strerror)


async def upgrade(
    transport: Transport,
    spec: WebSocketSpec,
    settings: Websocket,
    timers: Timers,
    is_stopping: Callable[[], bool] = lambda: False,
) -> WebSocketTransport:
    """Serve the opening handshake. The result owns `transport`; it closes with 1001 while `is_stopping`, else 1000.

    Raise UpgradeRefused if there was an HTTP answer instead (400, 403, 404, 405, 408, 426, 431), or OSError if the
    peer has left; `transport` is then still the caller's to close. Cancelling is safe at any time.
    """
    acceptance: Acceptance | None = None
    rest = b""
    refusal = Refusal(408, "the request did not come in time")
    with trio.move_on_after(settings.handshake_timeout_s):
        try:
            head, rest = await _read_head(transport)
            acceptance = answer(head, spec, settings)
        except Refusal as error:
            refusal = error
        else:
            await _send(transport, acceptance.response)
            return WebSocketTransport(
                transport, spec, settings, timers, is_stopping, acceptance.http_login, rest
            )
    if acceptance is None:
        with trio.move_on_after(REFUSAL_S), contextlib.suppress(OSError):  # it need not wait for its answer
            await _send(transport, refusal.response)
            while await transport.receive():
                pass
    raise UpgradeRefused(f"WebSocket upgrade refused: {refusal.status} {refusal.text}")


async def _read_head(transport: Transport) -> tuple[bytes, bytes]:
    """The request up to its empty line, and what came behind it."""
    data = b""
    while True:
        chunk = await transport.receive()
        if not chunk:
            raise UpgradeRefused("left before its WebSocket request was complete")
        searched = max(0, len(data) - 2)
        data += chunk
        found = HEAD_END.search(data, searched)
        if (found.end() if found else len(data)) > HEAD_BYTES:
            raise Refusal(431, f"the request's head is larger than {HEAD_BYTES} bytes")
        if found:
            return data[: found.end()], data[found.end() :]


async def _send(transport: Transport, data: bytes) -> None:
    rest = memoryview(data)
    while rest or transport.has_unsent:
        rest = rest[transport.send_vector_nowait([rest] if rest else []) :]
        if rest or transport.has_unsent:
            await transport.wait_writable()

"""CloudEvents' abuse protection (HTTP webhooks 1.0, section 4): asks an endpoint whether and at which rate it accepts events."""

from __future__ import annotations

from typing import TYPE_CHECKING

from leveret.plugins.webhooks.outgoing.connector import RequestFailed

if TYPE_CHECKING:
    from leveret.plugins.webhooks.outgoing.sender import Sender
__all__ = ["ORIGIN", "HandshakeRefused", "shake_hands"]

ORIGIN = "WebHook-Request-Origin"


class HandshakeRefused(Exception):
    """The endpoint does not accept the origin, or has not answered. The text says what happened."""


async def shake_hands(sender: Sender, origin: str) -> int | None:
    """How many requests a minute the endpoint accepts; None: any number. Raise HandshakeRefused."""
    connection = sender.connection()
    try:
        reply = await sender.ask(connection, [(ORIGIN, origin), ("Accept", "*/*")])
    except RequestFailed as error:
        raise HandshakeRefused(f"the handshake failed: {sender.shown(str(error))}") from None
    finally:
        connection.close()
    if not 200 <= reply.status < 300:
        raise HandshakeRefused(f"the endpoint answered the handshake with {reply.status}")
    allowed = reply.headers.get("webhook-allowed-origin", "").strip().lower()
    if allowed not in ("*", origin.lower()):
        raise HandshakeRefused(f"the endpoint does not allow webhooks from {origin}")
    rate = reply.headers.get("webhook-allowed-rate", "*").strip()
    if rate.isascii() and rate.isdigit() and len(rate) <= 9 and int(rate) > 0:
        return int(rate)
    return None

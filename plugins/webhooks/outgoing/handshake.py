"""CloudEvents' abuse protection (HTTP webhooks 1.0, section 4): ask an endpoint whether it accepts events, and how many."""

from __future__ import annotations

from typing import TYPE_CHECKING

from leveret.plugins.webhooks.outgoing.connector import RequestFailed

if TYPE_CHECKING:
    from leveret.plugins.webhooks.outgoing.sender import Sender
__all__ = ["ORIGIN", "Refused", "shake_hands"]

ORIGIN = "WebHook-Request-Origin"


class Refused(Exception):
    """The endpoint does not agree; `str` says what it answered."""


async def shake_hands(sender: Sender, origin: str) -> int | None:
    """How many requests a minute the endpoint accepts; None: any number. Raise Refused."""
    connection = sender.connection()
    try:
        reply = await sender.ask(connection, [(ORIGIN, origin), ("Accept", "*/*")])
    except RequestFailed as error:
        raise Refused(f"the handshake failed: {sender.shown(str(error))}") from None
    finally:
        connection.close()
    if not 200 <= reply.status < 300:
        raise Refused(f"the endpoint answered the handshake with {reply.status}")
    allowed = reply.headers.get("webhook-allowed-origin", "").strip().lower()
    if allowed not in ("*", origin.lower()):
        raise Refused(f"the endpoint does not allow webhooks from {origin}")
    rate = reply.headers.get("webhook-allowed-rate", "*").strip()
    if rate.isascii() and rate.isdigit() and len(rate) <= 9 and int(rate) > 0:
        return int(rate)
    return None

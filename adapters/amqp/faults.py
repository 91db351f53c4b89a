"""Errors of the AMQP listener: a channel fault closes its channel, a connection fault the connection."""

from __future__ import annotations

from leveret.adapters.amqp.spec import REPLY_NAMES
from leveret.core import errors

__all__ = ["CHANNEL_CODES", "CONNECTION_CODES", "ChannelFault", "ConnectionFault", "reply_text"]

# From core's refusals to reply codes; the first class in an error's ancestry that is listed decides.
CHANNEL_CODES: dict[type[errors.BrokerError], int] = {
    errors.NotFound: 404,
    errors.AccessRefused: 403,
    errors.ResourceLocked: 405,
    errors.PreconditionFailed: 406,
}
CONNECTION_CODES: dict[type[errors.BrokerError], int] = {
    errors.NotAllowed: 530,
    errors.NotImplementedByBroker: 540,
    errors.InternalError: 541,
    errors.StoreUnavailable: 541,
}


def reply_text(code: int, text: str) -> str:
    """The text on the wire: libraries match on "PRECONDITION_FAILED - ...". At most 255 bytes (a short string)."""
    full = f"{REPLY_NAMES[code]} - {text}"
    return full.encode("utf-8", "surrogateescape")[:255].decode("utf-8", "ignore")


class ChannelFault(Exception):
    """The peer's mistake on one channel: channel.close with this code, naming the offending method."""

    def __init__(self, code: int, text: str) -> None:
        super().__init__(text)
        self.code, self.text = code, text


class ConnectionFault(Exception):
    """The peer's mistake that ends the connection: connection.close with this code.

    method: (class id, method id) of the offending method; (0, 0) if no method is to blame.
    """

    def __init__(self, code: int, text: str, method: tuple[int, int] = (0, 0)) -> None:
        super().__init__(text)
        self.code, self.text, self.method = code, text, method


def fault_of(error: errors.BrokerError) -> ChannelFault | ConnectionFault:
    """The one translation point from core's refusals."""
    for kind in type(error).__mro__:
        if kind in CHANNEL_CODES:
            return ChannelFault(CHANNEL_CODES[kind], str(error))
        if kind in CONNECTION_CODES:
            return ConnectionFault(CONNECTION_CODES[kind], str(error))
    return ConnectionFault(541, str(error))

"""Direct reply-to: replies go straight to the requester's channel, without a queue."""

from __future__ import annotations

import secrets
from typing import TYPE_CHECKING

from leveret.core.message import Envelope

if TYPE_CHECKING:
    from leveret.adapters.amqp.channel import Channel

__all__ = ["REPLY_TO", "Replies", "Reply", "is_reply_queue"]

REPLY_TO = "amq.rabbitmq.reply-to"
PREFIX = REPLY_TO + "."


def is_reply_queue(name: str) -> bool:
    """The address of some requester: amq.rabbitmq.reply-to.<opaque>."""
    return name.startswith(PREFIX)


class Reply:
    """What the delivery encoder needs of a message, for one that was in no queue."""

    __slots__ = ("body", "envelope", "is_redelivered")

    def __init__(self, envelope: Envelope, body: bytes) -> None:
        self.envelope = envelope
        self.body = body
        self.is_redelivered = False


class Replies:
    """Requesters by address, over all connections of the door. An address cannot be guessed."""

    def __init__(self) -> None:
        self._channels: dict[str, Channel] = {}

    def register(self, channel: Channel) -> str:
        address = PREFIX + secrets.token_urlsafe(24)
        self._channels[address] = channel
        return address

    def forget(self, address: str) -> None:
        self._channels.pop(address, None)

    def exists(self, address: str) -> bool:
        return address in self._channels

    def deliver(self, address: str, envelope: Envelope, bodies: list[bytes]) -> bool:
        """False: that requester is gone; the replies are dropped (or returned, if mandatory)."""
        channel = self._channels.get(address)
        if channel is None:
            return False
        channel.deliver_reply(envelope, bodies)
        return True

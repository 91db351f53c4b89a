"""Where replies go that no queue takes: straight to an AMQP requester's channel, or to an MQTT client's response topic.

Both are names in `reply_to`, which whoever answers uses as the routing key of the default exchange, through any listener.
"""

from __future__ import annotations

import secrets
from typing import Protocol

from leveret.core.message import Envelope

__all__ = ["REPLY_TO", "TOPIC_REPLY", "Replies", "Reply", "Requester", "is_reply_queue"]

REPLY_TO = "amq.rabbitmq.reply-to"
PREFIX = REPLY_TO + "."
TOPIC_REPLY = "amq.mqtt.reply-to."
"""Behind it a routing key of the exchange of MQTT's topics (mqtt.exchange)."""


class Requester(Protocol):
    """Who waits for replies: an AMQP channel."""

    def deliver_reply(self, envelope: Envelope, bodies: list[bytes]) -> None: ...


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
    """Requesters by address, over all connections of the broker. An address cannot be guessed."""

    def __init__(self) -> None:
        self._requesters: dict[str, Requester] = {}
        self.topic_exchange = "amq.topic"  # of MQTT's topics; its adapter sets it

    def register(self, requester: Requester) -> str:
        address = PREFIX + secrets.token_urlsafe(24)
        self._requesters[address] = requester
        return address

    def forget(self, address: str) -> None:
        self._requesters.pop(address, None)

    def exists(self, address: str) -> bool:
        return address in self._requesters

    def deliver(self, address: str, envelope: Envelope, bodies: list[bytes]) -> bool:
        """False: that requester is gone; the replies are dropped (or returned, if mandatory)."""
        requester = self._requesters.get(address)
        if requester is None:
            return False
        requester.deliver_reply(envelope, bodies)
        return True

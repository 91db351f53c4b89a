"""Addresses for replies without a queue: an AMQP requester's channel, or an MQTT client's response topic.

Both are names in the property reply-to. The replying client, of any protocol, publishes to the default exchange with the
address as routing key.
"""

from __future__ import annotations

import secrets
from typing import Protocol

from leveret.core.message import Envelope

__all__ = ["REPLY_TO", "TOPIC_REPLY", "Replies", "Reply", "Requester", "is_reply_queue"]

REPLY_TO = "amq.rabbitmq.reply-to"
PREFIX = REPLY_TO + "."
TOPIC_REPLY = "amq.mqtt.reply-to."
"""Prefix of a routing key of the exchange for MQTT's topics (setting mqtt.exchange)."""


class Requester(Protocol):
    """A receiver of replies: an AMQP channel, or an HTTP request."""

    def deliver_reply(self, envelope: Envelope, bodies: list[bytes]) -> None: ...


def is_reply_queue(name: str) -> bool:
    """Whether a name is the address of a requester: amq.rabbitmq.reply-to.<opaque>."""
    return name.startswith(PREFIX)


class Reply:
    """A message that was in no queue, as the delivery encoder needs it."""

    __slots__ = ("body", "envelope", "is_redelivered")

    def __init__(self, envelope: Envelope, body: bytes) -> None:
        self.envelope = envelope
        self.body = body
        self.is_redelivered = False


class Replies:
    """The requesters of all connections of the broker, by address. An address cannot be guessed."""

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
        """Hand replies to a requester.

        Returns:
            False if the requester has ended; the replies are then unroutable.
        """
        requester = self._requesters.get(address)
        if requester is None:
            return False
        requester.deliver_reply(envelope, bodies)
        return True

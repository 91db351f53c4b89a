"""The tracing hook: who sees every message that goes in and out of a virtual host."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from leveret.core.message import Envelope, Message, MessageQueue
__all__ = ["Tracer"]


class Tracer(Protocol):
    """Stands at `vhost.tracer`; None there means that nobody looks, and costs one test per batch.

    Called from the broker's task, by the adapters. Must neither raise nor block, and must change nothing it is given.
    `channel` is 0 for protocols without channels.
    """

    def published(
        self,
        envelope: Envelope,
        bodies: Sequence[bytes],
        queues: Sequence[MessageQueue],
        connection_name: str,
        channel: int,
        username: str,
    ) -> None:
        """Messages that share an envelope were routed to these queues; none: they were unroutable."""

    def delivered(
        self,
        queue: MessageQueue,
        messages: Sequence[Message],
        connection_name: str,
        channel: int,
        username: str,
    ) -> None:
        """Messages of a queue were sent to a consumer, or were got."""

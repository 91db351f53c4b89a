"""What a queue may hold, and for how long: its arguments and its policies, merged."""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["QueueLimits"]


@dataclass(frozen=True, slots=True)
class QueueLimits:
    """What applies to one queue: its arguments and its policies, merged. None: no such limit.

    overflow is drop-head, reject-publish or reject-publish-dlx. A negative delivery_limit is unlimited.
    max_priority, single_active_consumer and the type come from arguments alone.
    """

    message_ttl_ms: int | None = None
    expires_ms: int | None = None
    max_length: int | None = None
    max_length_bytes: int | None = None
    overflow: str = "drop-head"
    dead_letter_exchange: str | None = None
    dead_letter_routing_key: str | None = None
    dead_letter_strategy: str = "at-most-once"
    delivery_limit: int | None = None
    consumer_timeout_ms: int | None = None
    max_priority: int | None = None
    single_active_consumer: bool = False

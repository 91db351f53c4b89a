"""The settings of the AMQP 0-9-1 adapter, the section [amqp]."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Self

from leveret.conf.declare import KiB, MiB, seconds, setting, size

if TYPE_CHECKING:
    from leveret.conf.settings import Settings
__all__ = ["AmqpSettings"]


@dataclass(frozen=True, slots=True)
class AmqpSettings:
    """AMQP 0-9-1. Reloaded settings apply to new connections."""

    frame_max: int = size(128 * KiB, "the largest frame offered to clients", minimum=4096, maximum=0x7FFFFFFF)
    channel_max: int = setting(
        2047, "channels per connection offered to clients", unit="channels", minimum=1, maximum=65535
    )
    heartbeat_s: int = setting(
        60, "heartbeat interval offered to clients; 0: none", unit="seconds", minimum=0, maximum=65535
    )
    handshake_timeout_s: float = seconds(10.0, "from accept to connection.open-ok", reloadable=True)
    outbox_bytes: int = size(
        1 * MiB, "unsent bytes per connection above which it gets no more deliveries", minimum=64 * KiB
    )

    @classmethod
    def of(cls, settings: Settings) -> Self:
        """As they are now."""
        return settings.section("amqp", cls)

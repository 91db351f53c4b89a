"""The settings of the STOMP adapter, the section [stomp]."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Self

from leveret.conf.declare import KiB, MiB, seconds, setting, size

if TYPE_CHECKING:
    from leveret.conf.settings import Settings
__all__ = ["StompSettings"]


@dataclass(frozen=True, slots=True)
class StompSettings:
    """STOMP 1.0, 1.1 and 1.2. Reloaded settings apply to new connections."""

    default_vhost: str = setting("/", "virtual host of clients that send no host header", reloadable=True)
    default_user: str = setting(
        "", "the user of clients that send no login; empty: they are refused", reloadable=True
    )
    default_pass: str = setting("", "the password of default_user", secret=True, reloadable=True)
    implicit_connect: bool = setting(
        False, "a first frame other than CONNECT logs in default_user", reloadable=True
    )
    ssl_cert_login: bool = setting(False, "a verified client certificate is a login", reloadable=True)
    use_http_auth: bool = setting(
        False, "over WebSocket, HTTP's Authorization is the login of clients that send none", reloadable=True
    )
    handshake_timeout_s: float = seconds(10.0, "from accept to a complete CONNECT", reloadable=True)
    max_frame_size: int = size(
        128 * MiB,
        "larger bodies are refused, and larger headers",
        minimum=1024,
        maximum=512 * MiB,
        reloadable=True,
    )
    max_frame_size_unauthenticated: int = size(
        64 * KiB, "the same before CONNECT was accepted", minimum=1024, maximum=512 * MiB, reloadable=True
    )
    max_headers: int = setting(100, "headers per frame", unit="headers", minimum=1, reloadable=True)
    max_header_length: int = size(100 * KiB, "the longest header line", minimum=64, reloadable=True)
    heart_beat_s: float = seconds(
        0.0, "heart-beats offered to, and expected from, clients that ask for none; 0: none", reloadable=True
    )
    default_topic_exchange: str = setting("amq.topic", "the exchange behind /topic/")
    default_nack_requeue: bool = setting(True, "NACK without a requeue header requeues", reloadable=True)
    max_transactions: int = setting(
        16, "open transactions per connection", unit="transactions", minimum=0, reloadable=True
    )
    max_transaction_actions: int = setting(
        1024, "frames per transaction", unit="frames", minimum=1, reloadable=True
    )
    max_transaction_bytes: int = size(
        64 * MiB, "frames kept for the open transactions of a connection", minimum=1024, reloadable=True
    )
    outbox_bytes: int = size(
        1 * MiB, "unsent bytes per connection above which it gets no more deliveries", minimum=64 * KiB
    )

    @classmethod
    def of(cls, settings: Settings) -> Self:
        """As they are now."""
        return settings.section("stomp", cls)

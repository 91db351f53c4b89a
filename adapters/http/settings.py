"""The settings of the HTTP adapter, the section [http]."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Self

from leveret.conf.declare import MiB, seconds, setting, size

if TYPE_CHECKING:
    from leveret.conf.settings import Settings
__all__ = ["HttpSettings"]


@dataclass(frozen=True, slots=True)
class HttpSettings:
    """HTTP: management API, messaging, webhooks, metrics. Reloaded settings apply to new requests."""

    max_body_size: int = size(
        20 * MiB, "larger request bodies are refused (413)", minimum=1024, reloadable=True
    )
    body_timeout_s: float = seconds(30.0, "how long a request's body may take to arrive", reloadable=True)
    cors_origins: tuple[str, ...] = setting(
        (), "browsers' origins that may call the API; empty: none", reloadable=True
    )
    rates_interval_s: float = seconds(5.0, "how often counters are sampled for rates; 0: never")
    metrics_auth: bool = setting(
        False,
        "/metrics needs a login with the tag monitoring; without it no login is needed, as in RabbitMQ",
        reloadable=True,
    )
    leases_max: int = setting(
        65536,
        "unsettled messages that users of the REST API may hold; a quarter of it for one user",
        unit="leases",
        minimum=1,
        reloadable=True,
    )
    idempotency_window_s: float = seconds(
        86400.0, "how long a request's answer is kept for its Idempotency-Key", reloadable=True
    )
    idempotency_keys_max: int = setting(
        100_000,
        "how many of them are kept; then the oldest are forgotten early",
        unit="keys",
        minimum=1,
        reloadable=True,
    )

    @classmethod
    def of(cls, settings: Settings) -> Self:
        """As they are now."""
        return settings.section("http", cls)

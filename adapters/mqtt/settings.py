"""The settings of the MQTT adapter, the section [mqtt]."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Self

from leveret.conf.declare import KiB, MiB, seconds, setting, size

if TYPE_CHECKING:
    from leveret.conf.settings import Settings
__all__ = ["MqttSettings"]


@dataclass(frozen=True, slots=True)
class MqttSettings:
    """MQTT 3.1, 3.1.1 and 5.0. Reloaded settings apply to new connections."""

    exchange: str = setting("amq.topic", "topic exchange that MQTT topics are published to and bound on")
    vhost: str = setting("/", "virtual host of clients that name none")
    ignore_colons_in_username: bool = setting(
        False, "take `vhost:user` as a user name, not as virtual host and user", reloadable=True
    )
    ssl_cert_login: bool = setting(False, "a verified client certificate is a login", reloadable=True)
    handshake_timeout_s: float = seconds(30.0, "from accept to a complete CONNECT", reloadable=True)
    max_packet_size: int = size(
        16 * MiB, "larger packets are refused (0x95)", minimum=1024, maximum=0x0FFFFFFF, reloadable=True
    )
    max_packet_size_unauthenticated: int = size(
        64 * KiB, "the same before CONNECT was accepted", minimum=1024, maximum=0x0FFFFFFF, reloadable=True
    )
    receive_maximum: int = setting(
        1000, "QoS 1 and 2 messages that a client may have in flight to the broker (0x93 beyond, MQTT 5)", unit="messages",
        minimum=1, maximum=65535, reloadable=True,
    )  # fmt: skip
    max_inflight: int = setting(
        256, "QoS 1 and 2 messages in flight to a client that allows so many", unit="messages",
        minimum=1, maximum=65535, reloadable=True,
    )  # fmt: skip
    max_queued_messages: int = setting(
        100_000, "QoS 1 and 2 messages kept for one session; 0: unlimited", unit="messages", minimum=0,
        reloadable=True,
    )  # fmt: skip
    queue_overflow: str = setting(
        "drop-head",
        'what happens past max_queued_messages: "drop-head" loses the oldest, "reject-publish" refuses the newest '
        "(0x97 to an MQTT 5 publisher)",
        choices=("drop-head", "reject-publish"),
        reloadable=True,
    )
    max_session_expiry_s: int = setting(
        86400, "longest life of a session without its client, and that of version 3 sessions; 4294967295: for ever",
        unit="seconds", minimum=0, maximum=0xFFFFFFFF, reloadable=True,
    )  # fmt: skip
    max_keep_alive_s: int = setting(
        0, "longest keep alive; MQTT 5 clients that ask for more, or for none, are told this one; 0: no limit",
        unit="seconds", minimum=0, maximum=65535, reloadable=True,
    )  # fmt: skip
    topic_alias_maximum: int = setting(
        16, "topic aliases per connection and direction; 0: none", unit="aliases", minimum=0, maximum=65535,
        reloadable=True,
    )  # fmt: skip
    max_retained_messages: int = setting(
        100_000, "retained messages per virtual host; no new topic is retained beyond", unit="messages", minimum=0,
        reloadable=True,
    )  # fmt: skip
    max_retained_bytes: int = size(
        256 * MiB, "the same in bytes, topics and properties included", reloadable=True
    )
    sys_interval_s: float = seconds(10.0, "how often $SYS/broker/... is published; 0: never")
    outbox_bytes: int = size(
        1 * MiB,
        "unsent bytes per connection above which QoS 0 is dropped and QoS 1 and 2 wait",
        minimum=64 * KiB,
    )
    disconnect_on_unauthorized: bool = setting(
        True, "end the connection of a client that publishes without permission", reloadable=True
    )
    topic_escape: str = setting(
        "none",
        '"none": a dot in a topic level becomes a level of its own, as in RabbitMQ; "percent": . * # and % in levels '
        "become %2E %2A %23 and %25 in routing keys, so that nothing is lost",
        choices=("none", "percent"),
    )
    sparkplug: bool = setting(False, "spBv1.0/ in topics is spBv1___0. in routing keys, as in RabbitMQ")

    @classmethod
    def of(cls, settings: Settings) -> Self:
        """As they are now."""
        return settings.section("mqtt", cls)

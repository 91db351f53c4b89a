"""MQTT's vocabulary: versions, packet types, reason codes, and the shapes of the packets that are no hot path."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import IntEnum

__all__ = [
    "NEVER_EXPIRES", "V3", "V4", "V5", "Auth", "Connect", "Disconnect", "MqttFault", "PacketType", "Properties",
    "Reason", "Subscribe", "Subscription", "Unsubscribe", "Will",
]  # fmt: skip

V3, V4, V5 = 3, 4, 5
"""Protocol levels of MQTT 3.1, 3.1.1 and 5.0, as they stand in CONNECT."""

NEVER_EXPIRES = 0xFFFFFFFF  # a session expiry interval (5.0 3.1.2.11.2)


class PacketType(IntEnum):
    """The high half of a packet's first byte (5.0 2.1.2)."""

    CONNECT = 1
    CONNACK = 2
    PUBLISH = 3
    PUBACK = 4
    PUBREC = 5
    PUBREL = 6
    PUBCOMP = 7
    SUBSCRIBE = 8
    SUBACK = 9
    UNSUBSCRIBE = 10
    UNSUBACK = 11
    PINGREQ = 12
    PINGRESP = 13
    DISCONNECT = 14
    AUTH = 15


class Reason(IntEnum):
    """Reason codes (5.0 2.4). Codes that stand for several names in the specification have the first one here."""

    SUCCESS = 0x00
    GRANTED_QOS_1 = 0x01
    GRANTED_QOS_2 = 0x02
    DISCONNECT_WITH_WILL = 0x04
    NO_MATCHING_SUBSCRIBERS = 0x10
    NO_SUBSCRIPTION_EXISTED = 0x11
    UNSPECIFIED_ERROR = 0x80
    MALFORMED_PACKET = 0x81
    PROTOCOL_ERROR = 0x82
    IMPLEMENTATION_SPECIFIC_ERROR = 0x83
    UNSUPPORTED_PROTOCOL_VERSION = 0x84
    CLIENT_IDENTIFIER_NOT_VALID = 0x85
    BAD_USER_NAME_OR_PASSWORD = 0x86
    NOT_AUTHORIZED = 0x87
    SERVER_UNAVAILABLE = 0x88
    SERVER_BUSY = 0x89
    BANNED = 0x8A
    SERVER_SHUTTING_DOWN = 0x8B
    BAD_AUTHENTICATION_METHOD = 0x8C
    KEEP_ALIVE_TIMEOUT = 0x8D
    SESSION_TAKEN_OVER = 0x8E
    TOPIC_FILTER_INVALID = 0x8F
    TOPIC_NAME_INVALID = 0x90
    PACKET_IDENTIFIER_IN_USE = 0x91
    PACKET_IDENTIFIER_NOT_FOUND = 0x92
    RECEIVE_MAXIMUM_EXCEEDED = 0x93
    TOPIC_ALIAS_INVALID = 0x94
    PACKET_TOO_LARGE = 0x95
    MESSAGE_RATE_TOO_HIGH = 0x96
    QUOTA_EXCEEDED = 0x97
    ADMINISTRATIVE_ACTION = 0x98
    PAYLOAD_FORMAT_INVALID = 0x99
    RETAIN_NOT_SUPPORTED = 0x9A
    QOS_NOT_SUPPORTED = 0x9B
    USE_ANOTHER_SERVER = 0x9C
    SERVER_MOVED = 0x9D
    SHARED_SUBSCRIPTIONS_NOT_SUPPORTED = 0x9E
    CONNECTION_RATE_EXCEEDED = 0x9F
    MAXIMUM_CONNECT_TIME = 0xA0
    SUBSCRIPTION_IDENTIFIERS_NOT_SUPPORTED = 0xA1
    WILDCARD_SUBSCRIPTIONS_NOT_SUPPORTED = 0xA2


class MqttFault(Exception):
    """The peer's mistake, or our refusal, that ends its connection: a reason code, and a text for the log.

    A version 5 peer is told the code in DISCONNECT (CONNACK before the connection stands) where the specification
    allows that; a version 3 peer sees the end of the stream, or CONNACK's return code.
    """

    def __init__(self, reason: Reason, text: str) -> None:
        super().__init__(text)
        self.reason = reason
        self.text = text


@dataclass(slots=True)
class Properties:
    """Version 5 properties of one packet (5.0 2.2.2). None: absent. Times in seconds, sizes in bytes."""

    payload_format: int | None = None  # 1: the payload is UTF-8
    message_expiry_s: int | None = None
    content_type: str | None = None
    response_topic: str | None = None
    correlation_data: bytes | None = None
    subscription_identifiers: tuple[int, ...] = ()
    session_expiry_s: int | None = None
    assigned_client_id: str | None = None
    server_keep_alive_s: int | None = None
    auth_method: str | None = None
    auth_data: bytes | None = None
    request_problem_information: int | None = None
    will_delay_s: int | None = None
    request_response_information: int | None = None
    response_information: str | None = None
    server_reference: str | None = None
    reason_string: str | None = None
    receive_maximum: int | None = None
    topic_alias_maximum: int | None = None
    topic_alias: int | None = None
    maximum_qos: int | None = None
    retain_available: int | None = None
    user_properties: tuple[tuple[str, str], ...] = ()  # in order, names may repeat
    maximum_packet_size: int | None = None
    wildcard_subscriptions_available: int | None = None
    subscription_identifiers_available: int | None = None
    shared_subscriptions_available: int | None = None


@dataclass(frozen=True, slots=True)
class Will:
    """What is published in a client's name when it is lost. `properties` has the delay and those of the message."""

    topic: str
    payload: bytes
    qos: int
    retain: bool
    properties: Properties = field(default_factory=Properties)


@dataclass(frozen=True, slots=True)
class Connect:
    """CONNECT, of any version. is_bridge: the high bit of the level (Mosquitto's bridges) was set, and is cleared."""

    version: int
    client_id: str
    clean_start: bool
    keep_alive_s: int
    username: str | None
    password: bytes | None = field(repr=False)
    will: Will | None
    properties: Properties = field(default_factory=Properties)
    is_bridge: bool = False


@dataclass(frozen=True, slots=True)
class Subscription:
    """One filter of a SUBSCRIBE with its options. Version 3 has the QoS alone; `identifier` is the whole packet's."""

    filter: str  # as the client wrote it, `$share/group/` included
    qos: int
    no_local: bool = False
    retain_as_published: bool = False
    retain_handling: int = 0
    identifier: int | None = None


@dataclass(frozen=True, slots=True)
class Subscribe:
    packet_id: int
    subscriptions: tuple[Subscription, ...]
    properties: Properties = field(default_factory=Properties)


@dataclass(frozen=True, slots=True)
class Unsubscribe:
    packet_id: int
    filters: tuple[str, ...]
    properties: Properties = field(default_factory=Properties)


@dataclass(frozen=True, slots=True)
class Disconnect:
    reason: int = 0
    properties: Properties = field(default_factory=Properties)


@dataclass(frozen=True, slots=True)
class Auth:
    reason: int
    properties: Properties = field(default_factory=Properties)

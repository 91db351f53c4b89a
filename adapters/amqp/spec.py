"""Numbers of AMQP 0-9-1 that are not methods: frame types and reply codes, RabbitMQ's names for them."""

from __future__ import annotations

__all__ = [
    "BODY_FRAME",
    "COMMAND_INVALID",
    "FRAME_END",
    "FRAME_ERROR",
    "HEADER_FRAME",
    "HEARTBEAT_FRAME",
    "METHOD_FRAME",
    "REPLY_NAMES",
    "SYNTAX_ERROR",
]

# AMQP 4.2.3: frame types, and the octet that ends every frame.
METHOD_FRAME, HEADER_FRAME, BODY_FRAME, HEARTBEAT_FRAME = 1, 2, 3, 8
FRAME_END = 0xCE

# AMQP 1.1: what went wrong with a method before anybody could look at what it asks for.
FRAME_ERROR, SYNTAX_ERROR, COMMAND_INVALID = 501, 502, 503

# As reply texts begin: "PRECONDITION_FAILED - ...". Hyphens of the specification are underscores in RabbitMQ.
REPLY_NAMES: dict[int, str] = {
    200: "REPLY_SUCCESS",
    311: "CONTENT_TOO_LARGE",
    312: "NO_ROUTE",
    313: "NO_CONSUMERS",
    320: "CONNECTION_FORCED",
    402: "INVALID_PATH",
    403: "ACCESS_REFUSED",
    404: "NOT_FOUND",
    405: "RESOURCE_LOCKED",
    406: "PRECONDITION_FAILED",
    501: "FRAME_ERROR",
    502: "SYNTAX_ERROR",
    503: "COMMAND_INVALID",
    504: "CHANNEL_ERROR",
    505: "UNEXPECTED_FRAME",
    506: "RESOURCE_ERROR",
    530: "NOT_ALLOWED",
    540: "NOT_IMPLEMENTED",
    541: "INTERNAL_ERROR",
}

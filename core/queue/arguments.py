"""What queue.declare accepts: the known arguments, their types and ranges, RabbitMQ's texts for the rest."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

from leveret.core.erlang_terms import erlang_term
from leveret.core.errors import InvalidArgument
from leveret.core.exchange import Arguments
from leveret.core.fields import type_name

__all__ = ["KNOWN_ARGUMENTS", "QUEUE_TYPES", "check_queue_arguments", "is_max_age"]

MAX_EXPIRY_MS = 315360000000  # ten years
MAX_PRIORITY = 255
INTEGERS = ("byte", "unsignedbyte", "short", "unsignedshort", "signedint", "unsignedint", "long")

# What a check returns: None if all is well, else the reason, as RabbitMQ prints it.
Check = Callable[[Any, Arguments], str | None]


def _integer(value: Any, arguments: Arguments) -> str | None:
    name = type_name(value)
    return None if name in INTEGERS else f'"expected integer, got {name}"'


def _not_negative(value: Any, arguments: Arguments) -> str | None:
    return _integer(value, arguments) or (f"{{value_negative,{value}}}" if value < 0 else None)


def _positive(value: Any, arguments: Arguments) -> str | None:
    return _not_negative(value, arguments) or ("{value_zero,0}" if value == 0 else None)


def _milliseconds(value: Any, arguments: Arguments) -> str | None:
    return _not_negative(value, arguments) or (
        f"{{value_too_large,{value}}}" if value > MAX_EXPIRY_MS else None
    )


def _expires(value: Any, arguments: Arguments) -> str | None:
    return _positive(value, arguments) or _milliseconds(value, arguments)


def _priority(value: Any, arguments: Arguments) -> str | None:
    return _not_negative(value, arguments) or (
        f"{{max_value_exceeded,{value}}}" if value > MAX_PRIORITY else None
    )


def _boolean(value: Any, arguments: Arguments) -> str | None:
    return None if isinstance(value, bool) else _unacceptable(value)


def _unacceptable(value: Any) -> str:
    return f"{{unacceptable_type,{type_name(value)}}}"


def _text(value: Any, arguments: Arguments) -> str | None:
    return None if type_name(value) == "longstr" else _unacceptable(value)


def _one_of(reason: str, *choices: str) -> Check:
    def check(value: Any, arguments: Arguments) -> str | None:
        return _text(value, arguments) or (None if value in choices else reason.format(value))

    return check


def _dead_letter_key(value: Any, arguments: Arguments) -> str | None:
    refused = _text(value, arguments)
    if refused is None and "x-dead-letter-exchange" not in arguments:
        return "routing_key_but_no_dlx_defined"
    return refused


def _version(value: Any, arguments: Arguments) -> str | None:
    return _not_negative(value, arguments) or (
        None if value in (1, 2) else f"\"unsupported queue version '{value}'\""
    )


def is_max_age(value: Any) -> bool:
    """A number and its unit: 7D."""
    return isinstance(value, str) and re.fullmatch(r"0*[1-9][0-9]*[YMDhms]", value) is not None


def _max_age(value: Any, arguments: Arguments) -> str | None:
    return _text(value, arguments) or (None if is_max_age(value) else "invalid_max_age")


CHECKS: dict[str, Check] = {
    "x-expires": _expires,
    "x-message-ttl": _milliseconds,
    "x-dead-letter-exchange": _text,
    "x-dead-letter-routing-key": _dead_letter_key,
    "x-dead-letter-strategy": _one_of("invalid_dlx_strategy", "at-most-once", "at-least-once"),
    "x-max-length": _not_negative,
    "x-max-length-bytes": _not_negative,
    "x-max-in-memory-length": _not_negative,
    "x-max-in-memory-bytes": _not_negative,
    "x-max-priority": _priority,
    "x-overflow": _one_of("invalid_overflow", "drop-head", "reject-publish", "reject-publish-dlx"),
    "x-queue-mode": _one_of("\"unsupported queue mode '{}'\"", "default", "lazy"),
    "x-queue-version": _version,
    "x-single-active-consumer": _boolean,
    "x-delivery-limit": _integer,
    "x-quorum-initial-group-size": _positive,
    "x-max-age": _max_age,
    "x-stream-max-segment-size-bytes": _not_negative,
    "x-stream-filter-size-bytes": _not_negative,
    "x-initial-cluster-size": _positive,
    "x-queue-leader-locator": _one_of(
        "invalid_queue_locator_arg", "client-local", "balanced", "random", "least-leaders"
    ),
}

_BOTH = (
    "x-queue-type", "x-dead-letter-exchange", "x-dead-letter-routing-key", "x-expires", "x-max-length",
    "x-max-length-bytes", "x-message-ttl", "x-overflow", "x-single-active-consumer",
)  # fmt: skip
# Which arguments a queue type knows. One that another type knows is refused, one that nobody knows is kept.
KNOWN_ARGUMENTS: dict[str, tuple[str, ...]] = {
    "classic": (*_BOTH, "x-max-priority", "x-queue-mode", "x-queue-version"),
    "quorum": (
        *_BOTH, "x-dead-letter-strategy", "x-delivery-limit", "x-max-in-memory-length", "x-max-in-memory-bytes",
        "x-quorum-initial-group-size", "x-queue-leader-locator",
    ),
}  # fmt: skip
QUEUE_TYPES = tuple(KNOWN_ARGUMENTS)
EVERYBODYS = frozenset(CHECKS) | {"x-queue-type"}


def check_queue_arguments(thing: str, queue_type: str, arguments: Arguments) -> None:
    """Raise InvalidArgument for an argument of the wrong type, out of range, or not for this type of queue.

    thing: as `equivalence.resource` names the queue. queue_type: what will be declared, if it is one of QUEUE_TYPES.
    """
    given = arguments.get("x-queue-type", queue_type)
    refused = _text(given, arguments)
    if refused is None and given not in QUEUE_TYPES:
        refused = f"\"unsupported queue type '{given if isinstance(given, str) else erlang_term(given)}'\""
    if refused is not None:
        raise InvalidArgument(f"invalid arg 'x-queue-type' for {thing}: {refused}")
    known = KNOWN_ARGUMENTS[queue_type]
    for key, check in CHECKS.items():
        if key in known and key in arguments:
            refused = check(arguments[key], arguments)
            if refused is not None:
                raise InvalidArgument(f"invalid arg '{key}' for {thing}: {refused}")
    for key in arguments:
        if key in EVERYBODYS and key not in known:
            raise InvalidArgument(f"invalid arg '{key}' for {thing} of queue type rabbit_{queue_type}_queue")

"""Queue arguments and policy keys: one row each, from which declarations, policies, STOMP headers and a page of the
documentation (docs/queue-arguments.md) are made.

To add an argument: add a row here, and its effect where `QueueLimits` is read. What RabbitMQ has and Leveret has no use for
is accepted, so that definitions and clients written for RabbitMQ work; its row has no effect, and the page says so.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

from leveret.core.erlang_terms import erlang_term
from leveret.core.errors import ForeignArgument, InvalidArgument
from leveret.core.exchange import Arguments
from leveret.core.fields import type_name

__all__ = [
    "ARGUMENTS",
    "KNOWN_ARGUMENTS",
    "POLICY_KEYS",
    "QUEUE_TYPES",
    "QueueArgument",
    "check_queue_arguments",
]

MAX_EXPIRY_MS = 315360000000  # ten years
MAX_PRIORITY = 255
INTEGERS = ("byte", "unsignedbyte", "short", "unsignedshort", "signedint", "unsignedint", "long")

ArgumentCheck = Callable[[Any, Arguments], str | None]
"""(value, all arguments) -> None if the value is accepted, else the reason as RabbitMQ prints it."""
PolicyCheck = Callable[[Any], bool]
"""Whether a JSON value is accepted."""


@dataclass(frozen=True, slots=True)
class QueueArgument:
    """One argument of queues, and the policy key of the same name.

    Attributes:
        key: the policy key, such as "message-ttl"; the argument is "x-message-ttl".
        effect: what it does, as a sentence for the documentation; empty: it is accepted without effect.
        kind: of the value, for protocols whose headers are texts.
        argument: the check of the argument's value (rabbit_amqqueue.erl); None if there is no such argument.
        queue_types: the queue types that accept the argument. Others refuse it.
        policy: the check of the policy's value (rabbit_policies.erl); None if there is no such policy key.
        noun: what RabbitMQ calls the value of the policy key: "-1 is not a valid message TTL".
        is_for_operators: operator policies may have the key.
        is_for_exchanges: the policy key is about exchanges.
    """

    key: str
    effect: str = ""
    kind: Literal["integer", "text", "boolean"] = "integer"
    argument: ArgumentCheck | None = None
    queue_types: tuple[str, ...] = ()
    policy: PolicyCheck | None = None
    noun: str = ""
    is_for_operators: bool = False
    is_for_exchanges: bool = False

    @property
    def argument_name(self) -> str:
        return f"x-{self.key}"


# -- checks of arguments


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


def _one_of(reason: str, *choices: str) -> ArgumentCheck:
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


def _is_max_age(value: Any) -> bool:
    """A number and its unit: 7D."""
    return isinstance(value, str) and re.fullmatch(r"0*[1-9][0-9]*[YMDhms]", value) is not None


def _max_age(value: Any, arguments: Arguments) -> str | None:
    return _text(value, arguments) or (None if _is_max_age(value) else "invalid_max_age")


# -- checks of policy values


def _is_text(value: Any) -> bool:
    return isinstance(value, str)


def _is_integer(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _is_natural(value: Any) -> bool:
    return _is_integer(value) and value >= 0


def _is_positive(value: Any) -> bool:
    return _is_integer(value) and value >= 1


def _is_one_of(*choices: Any) -> PolicyCheck:
    return lambda value: not isinstance(value, bool) and value in choices


def _is_filter_size(value: Any) -> bool:
    return _is_integer(value) and 16 <= value <= 255


def _is_mirror_parameter(value: Any) -> bool:
    return _is_natural(value) or (isinstance(value, list) and all(map(_is_text, value)))


# -- the table

CLASSIC, QUORUM, BOTH, STREAM = ("classic",), ("quorum",), ("classic", "quorum"), ("stream",)
OVERFLOW = ("drop-head", "reject-publish", "reject-publish-dlx")
STRATEGIES = ("at-most-once", "at-least-once")
LOCATORS = ("client-local", "balanced", "random", "least-leaders")
Row = QueueArgument

ARGUMENTS: tuple[QueueArgument, ...] = (
    Row("dead-letter-exchange", "Rejected, expired and dropped messages are published to this exchange.", "text",
        argument=_text, queue_types=BOTH, policy=_is_text, noun="dead letter exchange name"),
    Row("dead-letter-routing-key", "The routing key of dead letters; without it they keep their own.", "text",
        argument=_dead_letter_key, queue_types=BOTH, policy=_is_text, noun="dead letter routing key"),
    Row("expires", "The queue is deleted when nobody has used it for this many milliseconds.",
        argument=_expires, queue_types=BOTH, policy=_is_positive, noun="queue expiry", is_for_operators=True),
    Row("max-length", "At most this many messages are ready in the queue.",
        argument=_not_negative, queue_types=BOTH, policy=_is_natural, noun="maximum length", is_for_operators=True),
    Row("max-length-bytes", "The bodies of ready messages have at most this many bytes in all.",
        argument=_not_negative, queue_types=BOTH, policy=_is_natural, noun="maximum length in bytes",
        is_for_operators=True),
    Row("message-ttl", "Messages expire after this many milliseconds.",
        argument=_milliseconds, queue_types=BOTH, policy=_is_natural, noun="message TTL", is_for_operators=True),
    Row("overflow", "What happens past a maximum length: the oldest are dropped, or new ones are rejected.", "text",
        argument=_one_of("invalid_overflow", *OVERFLOW), queue_types=BOTH, policy=_is_one_of(*OVERFLOW),
        noun="overflow value", is_for_operators=True),
    Row("single-active-consumer", "One consumer at a time gets messages; the next takes over when it goes.", "boolean",
        argument=_boolean, queue_types=BOTH),
    Row("max-priority", "Messages with a higher priority, up to this one, are delivered first.",
        argument=_priority, queue_types=CLASSIC),
    Row("dead-letter-strategy", "Dead-lettering is atomic under both strategies; metrics show the name.", "text",
        argument=_one_of("invalid_dlx_strategy", *STRATEGIES), queue_types=QUORUM,
        policy=_is_one_of(*STRATEGIES), noun="dead letter strategy"),
    Row("delivery-limit", "A message is dead-lettered or dropped after this many failed deliveries.",
        argument=_integer, queue_types=QUORUM, policy=_is_integer, noun="delivery limit", is_for_operators=True),
    Row("consumer-timeout", "A delivery that is not settled within this many milliseconds closes its channel.",
        policy=_is_natural, noun="consumer timeout"),
    Row("alternate-exchange", "Messages that an exchange cannot route go to this one.", "text",
        policy=_is_text, noun="alternate exchange name", is_for_exchanges=True),
    # Accepted without effect: how RabbitMQ keeps messages in memory, and where it places queues.
    Row("queue-mode", kind="text",
        argument=_one_of("\"unsupported queue mode '{}'\"", "default", "lazy"), queue_types=CLASSIC,
        policy=_is_one_of("default", "lazy"), noun="queue-mode value"),
    Row("queue-version", argument=_version, queue_types=CLASSIC, policy=_is_one_of(1, 2), noun="queue-version value",
        is_for_operators=True),
    Row("max-in-memory-length", argument=_not_negative, queue_types=QUORUM, policy=_is_natural,
        noun="maximum memory in bytes", is_for_operators=True),
    Row("max-in-memory-bytes", argument=_not_negative, queue_types=QUORUM, policy=_is_natural,
        noun="maximum memory in bytes", is_for_operators=True),
    Row("quorum-initial-group-size", argument=_positive, queue_types=QUORUM),
    Row("queue-leader-locator", kind="text", argument=_one_of("invalid_queue_locator_arg", *LOCATORS),
        queue_types=QUORUM, policy=_is_one_of(*LOCATORS), noun="queue leader locator value"),
    Row("target-group-size", policy=_is_natural, noun="target quorum group size", is_for_operators=True),
    Row("member-placement-tag", kind="text", policy=_is_text, noun="member placement tag", is_for_operators=True),
    Row("consumer-disconnected-timeout", policy=_is_natural, noun="consumer disconnected timeout"),
    Row("delayed-retry-type", kind="text", policy=_is_one_of("disabled", "failed", "returned", "all"),
        noun="delayed retry type", is_for_operators=True),
    Row("delayed-retry-min", policy=_is_natural, noun="delayed retry min", is_for_operators=True),
    Row("delayed-retry-max", policy=_is_natural, noun="delayed retry max", is_for_operators=True),
    # Streams, which are refused: no queue type here takes these as arguments.
    Row("max-age", kind="text", argument=_max_age, queue_types=STREAM, policy=_is_max_age, noun="max age"),
    Row("stream-max-segment-size-bytes", argument=_not_negative, queue_types=STREAM, policy=_is_natural,
        noun="segment size"),
    Row("stream-filter-size-bytes", argument=_not_negative, queue_types=STREAM, policy=_is_filter_size,
        noun="filter size"),
    Row("initial-cluster-size", argument=_positive, queue_types=STREAM, policy=_is_natural, noun="cluster size"),
    # Mirroring of RabbitMQ 3, which definitions exported there still name.
    Row("ha-mode", kind="text", policy=_is_one_of("all", "exactly", "nodes"), noun="ha-mode value"),
    Row("ha-params", policy=_is_mirror_parameter, noun="ha-params value"),
    Row("ha-sync-mode", kind="text", policy=_is_one_of("manual", "automatic"), noun="ha-sync-mode value"),
    Row("ha-sync-batch-size", policy=_is_positive, noun="ha-sync-batch-size value"),
    Row("ha-promote-on-shutdown", kind="text", policy=_is_one_of("always", "when-synced"),
        noun="ha-promote-on-shutdown value"),
    Row("ha-promote-on-failure", kind="text", policy=_is_one_of("always", "when-synced"),
        noun="ha-promote-on-failure value"),
    Row("queue-master-locator", kind="text", policy=_is_one_of("min-masters", "client-local", "random"),
        noun="queue master locator value"),
)  # fmt: skip

QUEUE_TYPES = BOTH
POLICY_KEYS: dict[str, QueueArgument] = {row.key: row for row in ARGUMENTS if row.policy is not None}
_CHECKED = {row.argument_name: row for row in ARGUMENTS if row.argument is not None}
KNOWN_ARGUMENTS: dict[str, tuple[str, ...]] = {
    queue_type: (
        "x-queue-type", *(name for name, row in _CHECKED.items() if queue_type in row.queue_types)
    )
    for queue_type in QUEUE_TYPES
}  # fmt: skip
"""By queue type: the arguments it accepts, which a redeclaration must repeat."""


def check_queue_arguments(thing: str, queue_type: str, arguments: Arguments) -> None:
    """Check the arguments of a queue declaration. Arguments that no queue type has are accepted, and kept.

    Args:
        thing: the queue, as `equivalence.describe_resource` names it.
        queue_type: the type that will be declared, one of QUEUE_TYPES.

    Raises:
        InvalidArgument: a value of the wrong type or out of range.
        ForeignArgument: an argument of another queue type.
    """
    given = arguments.get("x-queue-type", queue_type)
    refused = _text(given, arguments)
    if refused is None and given not in QUEUE_TYPES:
        refused = f"\"unsupported queue type '{given if isinstance(given, str) else erlang_term(given)}'\""
    if refused is not None:
        raise InvalidArgument(f"invalid arg 'x-queue-type' for {thing}: {refused}")
    for name in KNOWN_ARGUMENTS[queue_type]:
        row = _CHECKED.get(name)
        if row is None or row.argument is None or name not in arguments:
            continue
        refused = row.argument(arguments[name], arguments)
        if refused is not None:
            raise InvalidArgument(f"invalid arg '{name}' for {thing}: {refused}")
    for name in arguments:
        if name in _CHECKED and queue_type not in _CHECKED[name].queue_types:
            raise ForeignArgument(f"invalid arg '{name}' for {thing} of queue type rabbit_{queue_type}_queue")

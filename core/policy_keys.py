"""The keys of policies: what values they take, which operators may set, how two values merge (rabbit_policies.erl)."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Any

from leveret.core.erlang_terms import erlang_term
from leveret.core.errors import InvalidArgument
from leveret.core.queue.arguments import is_max_age

__all__ = ["APPLY_TO", "check_apply_to", "check_definition", "compile_pattern", "merge"]

APPLY_TO = ("queues", "classic_queues", "quorum_queues", "streams", "exchanges", "all")

Accepts = Callable[[Any], bool]


def _is_text(value: Any) -> bool:
    return isinstance(value, str)


def _is_integer(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _is_natural(value: Any) -> bool:
    return _is_integer(value) and value >= 0


def _is_positive(value: Any) -> bool:
    return _is_integer(value) and value >= 1


def _one_of(*choices: Any) -> Accepts:
    return lambda value: not isinstance(value, bool) and value in choices


# Key -> what it accepts, and the noun of the refusal: "-1 is not a valid message TTL".
KEYS: dict[str, tuple[Accepts, str]] = {
    "alternate-exchange": (_is_text, "alternate exchange name"),
    "consumer-timeout": (_is_natural, "consumer timeout"),
    "consumer-disconnected-timeout": (_is_natural, "consumer disconnected timeout"),
    "dead-letter-exchange": (_is_text, "dead letter exchange name"),
    "dead-letter-routing-key": (_is_text, "dead letter routing key"),
    "dead-letter-strategy": (_one_of("at-most-once", "at-least-once"), "dead letter strategy"),
    "delayed-retry-max": (_is_natural, "delayed retry max"),
    "delayed-retry-min": (_is_natural, "delayed retry min"),
    "delayed-retry-type": (_one_of("disabled", "failed", "returned", "all"), "delayed retry type"),
    "delivery-limit": (_is_integer, "delivery limit"),
    "expires": (_is_positive, "queue expiry"),
    "initial-cluster-size": (_is_natural, "cluster size"),
    "max-age": (is_max_age, "max age"),
    "max-in-memory-bytes": (_is_natural, "maximum memory in bytes"),
    "max-in-memory-length": (_is_natural, "maximum memory in bytes"),
    "max-length": (_is_natural, "maximum length"),
    "max-length-bytes": (_is_natural, "maximum length in bytes"),
    "member-placement-tag": (_is_text, "member placement tag"),
    "message-ttl": (_is_natural, "message TTL"),
    "overflow": (_one_of("drop-head", "reject-publish", "reject-publish-dlx"), "overflow value"),
    "queue-leader-locator": (
        _one_of("client-local", "balanced", "random", "least-leaders"), "queue leader locator value"
    ),
    "queue-mode": (_one_of("default", "lazy"), "queue-mode value"),
    "queue-version": (_one_of(1, 2), "queue-version value"),
    "stream-filter-size-bytes": (lambda value: _is_integer(value) and 16 <= value <= 255, "filter size"),
    "stream-max-segment-size-bytes": (_is_natural, "segment size"),
    "target-group-size": (_is_natural, "target quorum group size"),
}  # fmt: skip
OPERATOR_KEYS = frozenset({
    "delayed-retry-max", "delayed-retry-min", "delayed-retry-type", "delivery-limit", "expires",
    "max-in-memory-bytes", "max-in-memory-length", "max-length", "max-length-bytes", "member-placement-tag",
    "message-ttl", "overflow", "queue-version", "target-group-size",
})  # fmt: skip


def _term(value: Any) -> str:
    """As RabbitMQ prints a JSON value: unlike field arrays, its lists carry no types."""
    if isinstance(value, list):
        return f"[{','.join(map(_term, value))}]"
    return erlang_term(value)


def check_definition(definition: Any, *, is_operator_policy: bool) -> None:
    """Raise InvalidArgument for a value that its key does not take, then for keys that nobody knows."""
    if not isinstance(definition, Mapping):
        raise InvalidArgument(f"definition must be a dictionary: {_term(definition)}")
    if not definition:
        raise InvalidArgument("no policy provided")
    known = OPERATOR_KEYS if is_operator_policy else KEYS.keys()
    unknown = []
    for key, value in sorted(definition.items()):
        if key not in known:
            unknown.append(f"{{{_term(key)},{_term(value)}}}")
            continue
        accepts, noun = KEYS[key]
        if not accepts(value):
            raise InvalidArgument(f"{_term(value)} is not a valid {noun}")
    if unknown:
        raise InvalidArgument(f"[{','.join(unknown)}] are not recognised policy settings")


def check_apply_to(apply_to: Any) -> None:
    if apply_to not in APPLY_TO:
        raise InvalidArgument(
            f"apply-to '{apply_to}' unrecognised; should be one of: 'queues', 'classic_queues', "
            " 'quorum_queues', 'streams', 'exchanges', or 'all'"
        )


def compile_pattern(pattern: Any) -> re.Pattern[str]:
    """A pattern is searched for anywhere in a name. Raise InvalidArgument."""
    if not isinstance(pattern, str):
        raise InvalidArgument(f"pattern should be a binary but was {erlang_term(pattern)}")
    try:
        return re.compile(pattern)
    except (re.error, RecursionError, OverflowError) as error:
        text, where = getattr(error, "msg", str(error)), getattr(error, "pos", None) or 0
        raise InvalidArgument(
            f'pattern should be regular expression but is invalid: {{"{text}",{where}}}'
        ) from error


def merge(key: str, one: Any, operators: Any) -> Any:
    """Two values of one key, both set: the smaller number; of what is no number, the operator's.

    A negative delivery-limit is none at all, so the other one is the smaller.
    """
    if isinstance(one, bool) or not isinstance(one, int) or isinstance(operators, bool):
        return operators
    if not isinstance(operators, int):
        return operators
    if key == "delivery-limit" and (one < 0 or operators < 0):
        return max(one, operators)
    return min(one, operators)

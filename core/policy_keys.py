"""Checks of policies, and how two values of one key merge (rabbit_policies.erl). The keys are in queue/arguments.py."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from leveret.auth.patterns import InvalidPattern, Pattern, compile_pattern
from leveret.core.erlang_terms import erlang_term
from leveret.core.errors import InvalidArgument, UnknownPolicyKey
from leveret.core.queue.arguments import POLICY_KEYS

__all__ = ["APPLY_TO", "check_apply_to", "check_definition", "check_pattern", "merge", "without_effect"]

APPLY_TO = ("queues", "classic_queues", "quorum_queues", "streams", "exchanges", "all")


def _term(value: Any) -> str:
    """As RabbitMQ prints a JSON value: unlike field arrays, its lists carry no types."""
    if isinstance(value, list):
        return f"[{','.join(map(_term, value))}]"
    return erlang_term(value)


def check_definition(definition: Any, *, is_operator_policy: bool) -> None:
    """Check what a policy or operator policy says.

    Raises:
        InvalidArgument: a key does not accept its value.
        UnknownPolicyKey: otherwise, if there is no such key, or operators may not set it.
    """
    if not isinstance(definition, Mapping):
        raise InvalidArgument(f"definition must be a dictionary: {_term(definition)}")
    if not definition:
        raise InvalidArgument("no policy provided")
    unknown = []
    for key, value in sorted(definition.items()):
        row = POLICY_KEYS.get(key)
        if row is None or row.policy is None or (is_operator_policy and not row.is_for_operators):
            unknown.append(f"{{{_term(key)},{_term(value)}}}")
        elif not row.policy(value):
            raise InvalidArgument(f"{_term(value)} is not a valid {row.noun}")
    if unknown:
        raise UnknownPolicyKey(f"[{','.join(unknown)}] are not recognised policy settings")


def check_apply_to(apply_to: Any) -> None:
    if apply_to not in APPLY_TO:
        raise InvalidArgument(
            f"apply-to '{apply_to}' unrecognised; should be one of: 'queues', 'classic_queues', "
            " 'quorum_queues', 'streams', 'exchanges', or 'all'"
        )


def check_pattern(pattern: Any) -> Pattern:
    """Compile a policy's pattern, which is searched for anywhere in a name.

    Raises:
        InvalidArgument: with RabbitMQ's text.
    """
    if not isinstance(pattern, str):
        raise InvalidArgument(f"pattern should be a binary but was {erlang_term(pattern)}")
    try:
        return compile_pattern(pattern)
    except InvalidPattern as error:
        raise InvalidArgument(
            f'pattern should be regular expression but is invalid: {{"{error.reason}",{error.position}}}'
        ) from error


def without_effect(definition: Mapping[str, Any]) -> list[str]:
    """The keys of a definition that are accepted and change nothing, in order."""
    return sorted(key for key in definition if key not in POLICY_KEYS or not POLICY_KEYS[key].effect)


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

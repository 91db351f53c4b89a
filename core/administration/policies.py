"""Policies and operator policies."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from leveret.core.broker import Broker
__all__ = ["PolicyValue", "clear_policy", "set_policy"]


@dataclass(frozen=True, slots=True)
class PolicyValue:
    """A policy without its name, unchecked.

    pattern: a regular expression, searched for in names. definition: an object of policy keys. apply_to: "all",
    "queues", "exchanges", ...; None: "all". priority: a whole number; the highest that matches applies.
    """

    pattern: Any
    definition: Any
    apply_to: Any = None
    priority: Any = 0


def set_policy(broker: Broker, vhost: str, name: str, value: PolicyValue, *, operator: bool = False) -> bool:
    """Create or replace a policy; it applies at once to what exists. Returns True for a new one.

    operator: an operator policy, whose limits users' policies and arguments cannot exceed. Raise NotFound (virtual
    host), InvalidArgument with RabbitMQ's text.
    """
    is_new = broker.policies.get(vhost, name, operator=operator) is None
    broker.policies.set(
        vhost,
        name,
        pattern=value.pattern,
        definition=value.definition,
        apply_to="all" if value.apply_to is None else value.apply_to,
        priority=value.priority,
        operator=operator,
    )
    return is_new


def clear_policy(broker: Broker, vhost: str, name: str, *, operator: bool = False) -> None:
    """Raise NotFound for the virtual host or the policy."""
    broker.policies.clear(vhost, name, operator=operator)

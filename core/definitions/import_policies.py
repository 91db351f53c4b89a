"""Checks and steps of an import: policies and runtime parameters."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from leveret.core.definitions.import_items import item_of, read_limits, read_text
from leveret.core.definitions.names import LIMITS, NODE_PREFIX, OPERATOR_POLICY
from leveret.core.errors import InvalidArgument, UnknownPolicyKey
from leveret.core.policy_keys import check_apply_to, check_definition, check_pattern, without_effect
from leveret.core.vhost import VHOST_LIMITS

if TYPE_CHECKING:
    from leveret.core.definitions.import_context import ImportContext
    from leveret.core.json_object import JsonObject
__all__ = ["check_global_parameter", "check_parameter", "check_policy"]

MISSING: Any = object()


def check_global_parameter(context: ImportContext, item: JsonObject) -> None:
    """A global parameter, unless it belongs to the node that exported it."""
    name, value = read_text(item, "name"), item.value("value")
    if not name.startswith(NODE_PREFIX):
        context.add_step(context.broker.set_parameter, name, value)


def check_parameter(context: ImportContext, item: JsonObject) -> None:
    """A parameter of a virtual host; RabbitMQ exports operator policies and limits as parameters, too."""
    vhost, component, name = context.vhost_of(item), read_text(item, "component"), read_text(item, "name")
    value = item.value("value")
    if component == OPERATOR_POLICY:
        _check_policy(context, vhost, name, item_of(value), operator=True)
        return
    if component == LIMITS:
        limits = read_limits(value, VHOST_LIMITS)
        context.add_step(lambda: context.find_vhost(vhost).set_limits(limits))
        return
    owner, host = context.broker.components.get(component), context.broker.vhosts.get(vhost)
    if owner is None:
        context.warn(f"parameter '{name}' in vhost '{vhost}': the component '{component}' does not exist")
    elif host is not None:
        owner.check(host, name, value)

    def put() -> None:
        found = context.find_vhost(vhost)
        if found.parameters.get((component, name), MISSING) != value:
            found.set_parameter(component, name, value)

    context.add_step(put)


def check_policy(context: ImportContext, item: JsonObject) -> None:
    """A policy of a virtual host."""
    _check_policy(context, context.vhost_of(item), read_text(item, "name"), item, operator=False)


def _check_policy(context: ImportContext, vhost: str, name: str, item: JsonObject, *, operator: bool) -> None:
    pattern, apply_to = item.get("pattern"), item.get("apply-to", "all")
    definition, priority = item.get("definition"), item.get("priority", 0)
    check_pattern(pattern)
    check_apply_to(apply_to)
    if isinstance(priority, bool) or not isinstance(priority, int) or abs(priority) >> 63:
        raise InvalidArgument("priority should be a number")
    try:
        check_definition(definition, is_operator_policy=operator)
    except UnknownPolicyKey as error:
        context.warn(f"policy '{name}' in vhost '{vhost}': {error}: they have no effect")
    else:
        if ignored := without_effect(definition):
            context.warn(f"policy '{name}' in vhost '{vhost}': {', '.join(ignored)}: they have no effect")
    wanted: dict[str, Any] = {
        "pattern": pattern, "definition": definition, "apply_to": apply_to, "priority": priority,
    }  # fmt: skip

    def put() -> None:
        policies = context.broker.policies
        context.find_vhost(vhost)
        found = policies.get(vhost, name, operator=operator)
        if found is None or any(getattr(found, key) != value for key, value in wanted.items()):
            policies.set(vhost, name, **wanted, operator=operator, is_import=True)

    context.add_step(put)

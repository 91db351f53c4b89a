"""Policies: which limits apply to which queues and exchanges, by name; changed while they live."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from leveret.auth.patterns import Pattern, PatternTooSlow
from leveret.core.definitions import records
from leveret.core.erlang_terms import erlang_term
from leveret.core.errors import InvalidArgument, NotFound, UnknownPolicyKey
from leveret.core.exchange import Arguments
from leveret.core.policy_keys import check_apply_to, check_definition, check_pattern, merge, without_effect
from leveret.core.queue.limits import QueueLimits

if TYPE_CHECKING:
    from leveret.core.events import Events
    from leveret.core.exchange import Exchange
    from leveret.core.queue.queue import Queue
    from leveret.core.store.base import Store
    from leveret.core.vhost import Vhost
__all__ = ["EffectivePolicy", "Policies", "Policy", "queue_limits"]

log = logging.getLogger(__name__)

EMPTY = Pattern("")


@dataclass(frozen=True, slots=True)
class Policy:
    """pattern is searched for in names; of those that match, the highest priority applies, alone."""

    vhost: str
    name: str
    pattern: str
    definition: Mapping[str, Any]
    apply_to: str = "all"
    priority: int = 0
    is_operator_policy: bool = False
    compiled: Pattern = field(default=EMPTY, repr=False, compare=False)

    def matches(self, kind: str, name: str, queue_type: str = "") -> bool:
        apply_to = self.apply_to
        if (
            apply_to != "all"
            and apply_to != f"{kind}s"
            and not (
                kind == "queue"
                and apply_to == ("streams" if queue_type == "stream" else f"{queue_type}_queues")
            )
        ):
            return False
        try:
            return self.compiled.search(name)
        except PatternTooSlow:
            log.warning(
                "vhost=%r policy=%r pattern takes too long over %r; not applied", self.vhost, self.name, name
            )
            return False


@dataclass(frozen=True, slots=True)
class EffectivePolicy:
    """The policy and the operator policy of one thing, and what both come to."""

    policy: Policy | None = None
    operators: Policy | None = None
    definition: Mapping[str, Any] = field(default_factory=dict)


NOTHING = EffectivePolicy()


def queue_limits(
    arguments: Arguments,
    definition: Mapping[str, Any],
    queue_type: str,
    *,
    quorum_delivery_limit: int | None = None,
) -> QueueLimits:
    """Of numbers in both the smaller one holds, of the rest the argument's."""

    def value(key: str) -> Any:
        argument, policys = arguments.get(f"x-{key}"), definition.get(key)
        if isinstance(argument, bytes):
            argument = argument.decode("utf-8", "surrogateescape")
        if argument is None or policys is None:
            return policys if argument is None else argument
        return merge(key, argument, policys) if isinstance(argument, int) else argument

    def number(key: str) -> int | None:
        found = value(key)
        return int(found) if isinstance(found, int) and not isinstance(found, bool) else None

    overflow = value("overflow") or "drop-head"
    delivery_limit = None
    if queue_type == "quorum":
        delivery_limit = number("delivery-limit")
        if delivery_limit is None:
            delivery_limit = quorum_delivery_limit
        if overflow == "reject-publish-dlx":
            overflow = "drop-head"  # quorum queues do not know it; RabbitMQ warns and takes the default
    max_priority = arguments.get("x-max-priority")
    return QueueLimits(
        message_ttl_ms=number("message-ttl"),
        expires_ms=number("expires"),
        max_length=number("max-length"),
        max_length_bytes=number("max-length-bytes"),
        overflow=overflow,
        dead_letter_exchange=value("dead-letter-exchange"),
        dead_letter_routing_key=value("dead-letter-routing-key"),
        dead_letter_strategy=value("dead-letter-strategy") or "at-most-once",
        delivery_limit=delivery_limit,
        consumer_timeout_ms=number("consumer-timeout"),
        max_priority=int(max_priority) if max_priority and queue_type == "classic" else None,
        single_active_consumer=arguments.get("x-single-active-consumer") is True,
    )


class Policies:
    """All policies of a broker. Every change is durable, and holds at once for what is there."""

    def __init__(
        self,
        store: Store,
        events: Events,
        vhosts: Mapping[str, Vhost],
        quorum_delivery_limit: Callable[[], int],
    ) -> None:
        """quorum_delivery_limit: of quorum queues that name none; the setting may change."""
        self._store = store
        self._events = events
        self._vhosts = vhosts
        self._quorum_delivery_limit = quorum_delivery_limit
        # By virtual host and whose they are; each by name.
        self._policies: dict[tuple[str, bool], dict[str, Policy]] = {}

    # -- changes

    def set(
        self,
        vhost: str,
        name: str,
        *,
        pattern: str,
        definition: Mapping[str, Any],
        apply_to: str = "all",
        priority: int = 0,
        operator: bool = False,
        is_import: bool = False,
    ) -> Policy:
        """Create or replace a policy.

        Args:
            is_import: keep keys that are not known, with a warning: a definitions file of another broker may have some.

        Raises:
            NotFound: the virtual host.
            InvalidArgument, UnknownPolicyKey: with RabbitMQ's text.
        """
        host = self._vhost(vhost)
        if isinstance(priority, bool) or not isinstance(priority, int) or abs(priority) >> 63:
            raise InvalidArgument(f"priority should be a number, actually was {erlang_term(priority)}")
        compiled = check_pattern(pattern)
        check_apply_to(apply_to)
        try:
            check_definition(definition, is_operator_policy=operator)
        except UnknownPolicyKey:
            if not is_import:
                raise
        if ignored := without_effect(definition):
            log.warning("vhost=%r policy=%r keys without effect: %s", vhost, name, ", ".join(ignored))
        policy = Policy(vhost, name, pattern, dict(definition), apply_to, priority, operator, compiled)
        self._policies.setdefault((vhost, operator), {})[name] = policy
        records.save_policy(self._store, policy)
        self._apply(host, cleared=False)
        self._events.emit(
            "operator.policy.set" if operator else "policy.set",
            name=name,
            vhost=vhost,
            pattern=pattern,
            apply_to=apply_to,
            priority=priority,
            definition=policy.definition,
        )
        log.info("vhost=%s policy=%r set%s", vhost, name, " by operator" if operator else "")
        return policy

    def clear(self, vhost: str, name: str, *, operator: bool = False) -> None:
        """Raise NotFound."""
        host = self._vhost(vhost)
        policy = self._policies.get((vhost, operator), {}).pop(name, None)
        if policy is None:
            raise NotFound(f"policy '{name}' in vhost '{vhost}' does not exist")
        records.delete_policy(self._store, policy)
        self._apply(host, cleared=True)
        self._events.emit("operator.policy.cleared" if operator else "policy.cleared", name=name, vhost=vhost)
        log.info("vhost=%s policy=%r cleared", vhost, name)

    def recovered(self, policy: Policy) -> None:
        """From its record, before there is anything that it could apply to."""
        try:
            compiled = check_pattern(policy.pattern)
        except InvalidArgument as error:
            log.error("vhost=%r policy=%r is not applied: %s", policy.vhost, policy.name, error)
            return
        self._policies.setdefault((policy.vhost, policy.is_operator_policy), {})[policy.name] = Policy(
            policy.vhost,
            policy.name,
            policy.pattern,
            policy.definition,
            policy.apply_to,
            policy.priority,
            policy.is_operator_policy,
            compiled,
        )

    def forget_vhost(self, name: str) -> None:
        """The virtual host is deleted, and its policies with it."""
        for operator in (False, True):
            for policy in self._policies.pop((name, operator), {}).values():
                records.delete_policy(self._store, policy)

    # -- questions

    def list(self, vhost: str | None = None, *, operator: bool = False) -> list[Policy]:
        return [
            policy
            for (name, is_operator_policy), policies in sorted(self._policies.items())
            if is_operator_policy == operator and vhost in (None, name)
            for _, policy in sorted(policies.items())
        ]

    def get(self, vhost: str, name: str, *, operator: bool = False) -> Policy | None:
        return self._policies.get((vhost, operator), {}).get(name)

    def effective(self, vhost: str, kind: str, name: str, queue_type: str = "") -> EffectivePolicy:
        """kind: "queue" or "exchange"."""
        policy = self._match((vhost, False), kind, name, queue_type)
        operators = self._match((vhost, True), kind, name, queue_type)
        if policy is None and operators is None:
            return NOTHING
        definition = dict(policy.definition) if policy is not None else {}
        if operators is not None:
            for key, value in operators.definition.items():
                definition[key] = merge(key, definition[key], value) if key in definition else value
        return EffectivePolicy(policy, operators, definition)

    def _match(self, whose: tuple[str, bool], kind: str, name: str, queue_type: str) -> Policy | None:
        best: Policy | None = None
        for policy in self._policies.get(whose, {}).values():
            if (best is None or policy.priority > best.priority) and policy.matches(kind, name, queue_type):
                best = policy
        return best

    # -- effects

    def limits(self, vhost: str, name: str, queue_type: str, arguments: Arguments) -> QueueLimits:
        """For a queue that is about to be."""
        return self._limits(self.effective(vhost, "queue", name, queue_type), queue_type, arguments)

    def _limits(self, effective: EffectivePolicy, queue_type: str, arguments: Arguments) -> QueueLimits:
        return queue_limits(
            arguments,
            effective.definition,
            queue_type,
            quorum_delivery_limit=self._quorum_delivery_limit(),
        )

    def name_queue(self, queue: Queue) -> EffectivePolicy:
        """Note on the queue whose policies it is under."""
        effective = self.effective(queue.vhost.name, "queue", queue.name, queue.type)
        queue.policy_name = effective.policy.name if effective.policy is not None else None
        queue.operator_policy_name = effective.operators.name if effective.operators is not None else None
        return effective

    def apply_to_exchange(self, exchange: Exchange) -> None:
        effective = self.effective(exchange.vhost.name, "exchange", exchange.name)
        exchange.policy_name = effective.policy.name if effective.policy is not None else None
        alternate = exchange.arguments.get(
            "alternate-exchange", effective.definition.get("alternate-exchange")
        )
        if isinstance(alternate, bytes):
            alternate = alternate.decode("utf-8", "surrogateescape")
        exchange.alternate_exchange = alternate if isinstance(alternate, str) else None

    def _apply(self, vhost: Vhost, *, cleared: bool) -> None:
        vhost.epoch += 1
        for exchange in vhost.exchanges.values():
            self.apply_to_exchange(exchange)
        for queue in list(vhost.queues.values()):
            before = queue.policy_name, queue.operator_policy_name
            effective = self.name_queue(queue)
            limits = self._limits(effective, queue.type, queue.arguments)
            if limits != queue.limits:
                queue.apply(limits)
            elif before == (queue.policy_name, queue.operator_policy_name):
                continue
            self._events.emit(
                "queue.policy.cleared" if cleared else "queue.policy.updated",
                name=queue.name,
                vhost=vhost.name,
                type=queue.type,
            )

    def _vhost(self, name: str) -> Vhost:
        vhost = self._vhosts.get(name)
        if vhost is None:
            raise NotFound(f"Virtual host '{name}' does not exist")
        return vhost

"""Declares the queues and bindings of a webhook, and adapts the bindings to changes of its subscription."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from leveret.core.bindings import binding_identity
from leveret.core.errors import BrokerError
from leveret.core.exchange import Binding

if TYPE_CHECKING:
    from leveret.core.queue.queue import Queue
    from leveret.core.vhost import Vhost
    from leveret.plugins.webhooks.outgoing.subscription import Subscription
__all__ = ["VHOST_GONE", "dead_queue", "ensure"]

VHOST_GONE = "the virtual host was deleted"


def ensure(vhost: Vhost, subscription: Subscription) -> tuple[Queue | None, str]:
    """Declare what is missing.

    Returns the queue to consume, or None if there is none, and what the webhook waits for ("": nothing). A queue together with
    something to wait for means that the queue can be consumed, but is not bound.
    """
    if vhost.is_closed:
        return None, VHOST_GONE
    dead_queue(vhost, subscription)
    if subscription.queue is not None:
        queue = vhost.queues.get(subscription.queue)
        if queue is None or queue.is_exclusive:
            return None, f"there is no queue '{subscription.queue}' to consume"
        return queue, ""
    queue = vhost.queues.get(subscription.queue_name)
    if queue is None:
        queue = _add(vhost, subscription.queue_name, _own_queue_arguments(subscription))
    if queue.is_exclusive:
        return None, f"queue '{queue.name}' is exclusive to a connection"
    return queue, _bind(vhost, subscription, queue)


def dead_queue(vhost: Vhost, subscription: Subscription) -> Queue:
    """The dead-letter queue of the webhook, declared if it does not exist."""
    queue = vhost.queues.get(subscription.dead_queue_name)
    return queue if queue is not None else _add(vhost, subscription.dead_queue_name, {})


def _add(vhost: Vhost, name: str, arguments: dict[str, Any]) -> Queue:
    return vhost.add_queue(name, durable=True, exclusive=False, auto_delete=False, arguments=arguments)


def _own_queue_arguments(subscription: Subscription) -> dict[str, Any]:
    """The arguments of a webhook's own queue. Messages that expire before their first attempt are dead-lettered by the queue."""
    arguments: dict[str, Any] = {
        "x-dead-letter-exchange": "",
        "x-dead-letter-routing-key": subscription.dead_queue_name,
    }
    if subscription.message_ttl_s:
        arguments["x-message-ttl"] = int(subscription.message_ttl_s * 1000)
    return arguments


def _bind(vhost: Vhost, subscription: Subscription, queue: Queue) -> str:
    """Give the queue exactly the bindings of the subscription; those of earlier versions are removed. Returns what is missing, or ""."""
    missing = ""
    source = vhost.exchanges.get(subscription.exchange or "")
    wanted: dict[Any, Binding] = {}
    if source is None or source is vhost.default_exchange:
        missing = f"there is no exchange '{subscription.exchange}' to bind to"
    else:
        for key in subscription.routing_keys:
            binding = Binding(queue, key, dict(subscription.arguments))
            wanted[binding_identity(binding)] = binding
    for other, binding in list(vhost.bindings_to(queue)):
        if other is vhost.default_exchange:
            continue
        if other is not source or binding_identity(binding) not in wanted:
            vhost.unbind(other, binding)
    if source is not None:
        try:
            for binding in wanted.values():
                source.router.validate(binding)
                vhost.bind(source, binding)
        except BrokerError as error:
            missing = str(error)
    return missing

"""What happened in the broker, for those who ask: plugins, the event exchange, audit logs."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any

__all__ = ["Events", "Listener"]

log = logging.getLogger(__name__)

Listener = Callable[[str, dict[str, Any]], None]


class Events:
    """Synchronous, in the broker's task. Names and fields are RabbitMQ's (rabbit_exchange_type_event.erl).

    queue.created, queue.deleted, exchange.created, exchange.deleted, binding.created, binding.deleted,
    connection.created, connection.closed, channel.created, channel.closed, consumer.created, consumer.deleted,
    policy.set, policy.cleared, operator.policy.set, operator.policy.cleared, queue.policy.updated,
    queue.policy.cleared, parameter.set, parameter.cleared, vhost.created, vhost.deleted, vhost.limits.set,
    vhost.limits.cleared, user.*, permission.*, topic.permission.*, alarm.set, alarm.cleared.
    """

    __slots__ = ("_listeners",)

    def __init__(self) -> None:
        self._listeners: tuple[Listener, ...] = ()

    @property
    def is_heard(self) -> bool:
        """Somebody listens. For emitters whose fields cost something to collect."""
        return bool(self._listeners)

    def subscribe(self, listener: Listener) -> Callable[[], None]:
        """Call `listener(name, fields)` for every event. Returns what ends it."""
        self._listeners = (*self._listeners, listener)

        def unsubscribe() -> None:
            self._listeners = tuple(one for one in self._listeners if one is not listener)

        return unsubscribe

    def emit(self, event: str, /, **fields: Any) -> None:
        """Tell everybody. A listener that raises is logged, and hinders neither the others nor the emitter."""
        for listener in self._listeners:
            try:
                listener(event, fields)
            except Exception:
                log.exception("event=%s listener=%r failed", event, listener)

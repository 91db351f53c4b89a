"""What lasts of a subscription while it changes, fails and restarts: its queues, records, counters, and its state."""

from __future__ import annotations

import hashlib
import logging
import math
import re
from typing import TYPE_CHECKING, Any

import trio

from leveret.core.bindings import binding_identity
from leveret.core.errors import BrokerError
from leveret.core.exchange import Binding
from leveret.plugins.webhooks.attempts import AttemptLog
from leveret.plugins.webhooks.deadletters import WEBHOOK_ID_HEADER, dead_envelope
from leveret.plugins.webhooks.endpoint import Endpoint
from leveret.plugins.webhooks.ledger import (
    EndpointState,
    RetryLedger,
    attempts_prefix,
    read_state,
    save_state,
)
from leveret.plugins.webhooks.masking import masked
from leveret.plugins.webhooks.subscription import COMPONENT

if TYPE_CHECKING:
    from leveret.core.message import Message
    from leveret.core.queue.queue import Queue
    from leveret.core.vhost import Vhost
    from leveret.plugins.webhooks.dialer import Dialer
    from leveret.plugins.webhooks.subscription import Subscription
__all__ = ["Desk"]

log = logging.getLogger(__name__)

WEBHOOK_ID = re.compile(r"[A-Za-z0-9_-]{1,128}")  # the specification forbids dots
FAILING_AFTER = 4  # attempts at one message, until operators are told
AGAIN_S = 5.0  # after an error of ours


class Desk:
    """One subscription by name. `update` gives it another version; `run` works until cancelled."""

    def __init__(
        self, vhost: Vhost, subscription: Subscription, dialer: Dialer, *, identity: bytes, max_bytes: int
    ) -> None:
        self.vhost = vhost
        self.subscription = subscription
        self.dialer = dialer
        self.max_bytes = max_bytes
        self.scope = trio.CancelScope()
        self.is_removed = False
        self._services = vhost.services
        self._identity = identity
        store = self._services.store
        self.state = read_state(store, vhost.name, subscription.name)
        self._is_state_dirty = False
        prefix = attempts_prefix(vhost.name, subscription.name)
        self.attempts = AttemptLog(store, prefix, subscription.attempts_kept)
        self._ledgers: tuple[Queue, RetryLedger] | None = None
        self._endpoint: Endpoint | None = None
        self._serving: trio.CancelScope | None = None
        self._changed = trio.Event()
        self.waits_for = ""  # what is missing: "queue 'x' does not exist"
        self.delivered_total = 0
        self.failed_total = 0  # attempts
        self.dead_total = 0
        self.replaying = trio.Lock()
        self._quiet_until = -math.inf

    @property
    def name(self) -> str:
        return self.subscription.name

    # -- changes

    def update(self, subscription: Subscription) -> None:
        """A new version: the old one ends its requests. Setting a subscription also enables it again."""
        self.subscription = subscription
        self.attempts.capacity = subscription.attempts_kept
        if self.state.disabled_by:
            self.enable()
        self.ensure()
        self.wake()

    def wake(self) -> None:
        """Look again: something that it depends on has changed."""
        self._changed.set()
        if self._endpoint is not None:
            self._endpoint.is_stopping = True
        if self._serving is not None:
            self._serving.cancel()

    def look(self) -> None:
        """An exchange or a queue has come: if it was waited for, go on."""
        if self.waits_for:
            self.ensure()
            self._changed.set()

    def enable(self) -> None:
        self.state = EndpointState()
        self._save_state()
        self._tell("webhook.enabled")
        self.wake()

    def disable(self, why: str) -> None:
        """Nothing is sent until it is enabled; what comes stays in the queue. Durable with the next commit."""
        if self.state.disabled_by:
            return
        self.state.disabled_by = why
        self.state.disabled_at = self._now_ms()
        self._save_state()
        log.warning("vhost=%s webhook=%s disabled: %s", self.vhost.name, self.name, why)
        self._tell("webhook.disabled", reason=why)
        self.wake()

    def disable_if_failing_too_long(self, now_ms: int) -> None:
        since, limit_s = self.state.failing_since, self.subscription.disable_after_s
        if limit_s and since is not None and now_ms - since >= limit_s * 1000:
            self.disable(f"no success for {limit_s:g} s")

    def remove(self) -> None:
        """The subscription is deleted: its own queue and records with it; dead letters stay until there are none."""
        self.is_removed = True
        self.scope.cancel()
        store, vhost = self._services.store, self.vhost
        self.attempts.forget()
        self.state = EndpointState()
        save_state(store, vhost.name, self.name, self.state)
        queue = vhost.queues.get(self.subscription.queue_name)
        if queue is not None:
            self.ledger_of(queue).clear()
            if self.subscription.queue is None:
                vhost.remove_queue(queue)
        dead = vhost.queues.get(self.subscription.dead_queue_name)
        if dead is not None and not dead.message_count and not dead.unacked_count:
            vhost.remove_queue(dead)

    # -- queues

    def ensure(self) -> Queue | None:
        """Queues and bindings as the subscription wants them. None, and `waits_for`: something is missing."""
        vhost, subscription = self.vhost, self.subscription
        if vhost.is_closed or self.is_removed:
            self.waits_for = "the virtual host is gone"
            return None
        self.waits_for = ""
        self.dead_queue()
        if subscription.queue is not None:
            queue = vhost.queues.get(subscription.queue)
            if queue is None or queue.is_exclusive:
                self.waits_for = f"there is no queue '{subscription.queue}' to consume"
                return None
            return queue
        queue = vhost.queues.get(subscription.queue_name)
        if queue is None:
            queue = vhost.add_queue(
                subscription.queue_name, durable=True, exclusive=False, auto_delete=False,
                arguments=self._queue_arguments(),
            )  # fmt: skip
        if queue.is_exclusive:
            self.waits_for = f"queue '{queue.name}' is a connection's own"
            return None
        self._bind(queue)
        return queue

    def _queue_arguments(self) -> dict[str, Any]:
        """What expires before its first attempt is dead, too."""
        arguments: dict[str, Any] = {
            "x-dead-letter-exchange": "",
            "x-dead-letter-routing-key": self.subscription.dead_queue_name,
        }
        if self.subscription.message_ttl_s:
            arguments["x-message-ttl"] = int(self.subscription.message_ttl_s * 1000)
        return arguments

    def _bind(self, queue: Queue) -> None:
        """Exactly the bindings of the subscription: those of an earlier version go."""
        vhost, subscription = self.vhost, self.subscription
        source = vhost.exchanges.get(subscription.exchange or "")
        wanted: dict[Any, Binding] = {}
        if source is None or source is vhost.default_exchange:
            self.waits_for = f"there is no exchange '{subscription.exchange}' to bind to"
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
                self.waits_for = str(error)

    def dead_queue(self) -> Queue:
        name = self.subscription.dead_queue_name
        queue = self.vhost.queues.get(name)
        if queue is None:
            queue = self.vhost.add_queue(name, durable=True, exclusive=False, auto_delete=False, arguments={})
        return queue

    def ledger_of(self, queue: Queue) -> RetryLedger:
        """The same one as long as the queue is the same: of messages that are not durable it is the only account."""
        if self._ledgers is None or self._ledgers[0] is not queue:
            self._ledgers = queue, RetryLedger(self._services.store, queue)
        return self._ledgers[1]

    # -- at work

    async def run(self) -> None:
        """An error of ours is logged, and a new start made; it is nobody else's business."""
        with self.scope:
            while True:
                try:
                    await self._run()
                except Exception:
                    log.exception("vhost=%s webhook=%s failed", self.vhost.name, self.name)
                    await trio.sleep(AGAIN_S)

    async def _run(self) -> None:
        while True:
            self._changed = trio.Event()
            queue = self.ensure()
            if queue is None or self.state.disabled_by or not self.subscription.is_enabled:
                await self._changed.wait()
                continue
            with trio.CancelScope() as self._serving:
                self._endpoint = Endpoint(self, queue)
                try:
                    await self._endpoint.run()
                finally:
                    self._endpoint, self._serving = None, None

    def webhook_id(self, message: Message) -> str:
        """The same in all attempts and after a restart: the publisher's message id, or made of the place in the queue."""
        properties = message.envelope.properties
        given = (properties.headers or {}).get(WEBHOOK_ID_HEADER) if properties.headers else None
        for candidate in (given, properties.message_id):
            if isinstance(candidate, str) and WEBHOOK_ID.fullmatch(candidate):
                return candidate
        queue = message.queue
        digest = hashlib.blake2b(self._identity, digest_size=15)
        log_id = queue.log_ids[0] if queue.log_ids else 0
        digest.update(log_id.to_bytes(8, "big") + message.position.to_bytes(8, "big"))
        if not message.envelope.is_persistent or not log_id:
            # After a restart the same place may be another message's.
            digest.update(id(self).to_bytes(8, "big") + str(self._services.timers.wall_ms(0)).encode())
            digest.update(queue.name.encode("utf-8", "surrogateescape"))
        return f"msg_{digest.hexdigest()}"

    def succeeded(self, attempts: int) -> None:
        self.delivered_total += 1
        state = self.state
        if state.failing_since is not None:
            state.failing_since = state.last_failed_at = None
            self._is_state_dirty = True
        if attempts > FAILING_AFTER:
            self._tell("webhook.recovered", attempts=attempts)

    def failed(self, attempts: int, reason: str, status: int | None, now_ms: int) -> None:
        self.failed_total += 1
        state = self.state
        forgotten_ms = self.subscription.disable_after_s * 1000
        if state.failing_since is None or now_ms - (state.last_failed_at or 0) > forgotten_ms > 0:
            state.failing_since = now_ms  # two failures with a long silence in between are no lasting failure
        state.last_failed_at = now_ms
        self._is_state_dirty = True
        if attempts == FAILING_AFTER:
            self._tell("webhook.failing", attempts=attempts, reason=reason, status=status)

    def pause(self, until_ms: int) -> None:
        """The endpoint asked for it: kept over a restart."""
        self.state.paused_until = until_ms
        self._save_state()

    def bury(
        self,
        message: Message,
        webhook_id: str,
        reason: str,
        status: int | None,
        attempts: int,
        error: str,
    ) -> bool:
        """A copy into the dead-letter queue. False: it takes none."""
        envelope = dead_envelope(
            message, subscription=self.name, webhook_id=webhook_id, reason=reason, status=status, attempts=attempts,
            error=error, at_ms=self._now_ms(),
        )  # fmt: skip
        if self.dead_queue().publish(envelope, [message.body]):
            log.error(
                "vhost=%s webhook=%s queue=%s refuses a dead letter",
                self.vhost.name,
                self.name,
                self.subscription.dead_queue_name,
            )
            return False
        self.dead_total += 1
        now = trio.current_time()
        if now >= self._quiet_until:  # an endpoint may refuse thousands a second
            self._quiet_until = now + 1.0
            log.warning(
                "vhost=%s webhook=%s id=%s gave up: reason=%s status=%s attempts=%d dead_total=%d",
                self.vhost.name, self.name, webhook_id, reason, status, attempts, self.dead_total,
            )  # fmt: skip
        self._tell(
            "webhook.exhausted", webhook_id=webhook_id, reason=reason, status=status, attempts=attempts
        )
        return True

    # -- records and answers

    def flush(self) -> None:
        """Now and then, and at the end."""
        if self.is_removed:
            return
        self.attempts.flush()
        if self._is_state_dirty:
            self._save_state()

    def _save_state(self) -> None:
        self._is_state_dirty = False
        save_state(self._services.store, self.vhost.name, self.name, self.state)

    @property
    def activity(self) -> dict[str, Any]:
        """What goes on just now; nothing while it is not at work."""
        return {} if self._endpoint is None else self._endpoint.facts()

    @property
    def first_failure_ms(self) -> int | None:
        """Of the message that has failed for the longest time, and is still to be sent."""
        return None if self._endpoint is None else self._endpoint.first_failure_ms

    def _now_ms(self) -> int:
        return self._services.timers.wall_ms(trio.current_time())

    def _tell(self, event: str, **facts: Any) -> None:
        self._services.events.emit(event, vhost=self.vhost.name, name=self.name, **facts)

    def describe(self) -> dict[str, Any]:
        """For answers: the subscription without its secrets, and how it is doing."""
        state, queues = self.state, self.vhost.queues
        queue, dead = queues.get(self.subscription.queue_name), queues.get(self.subscription.dead_queue_name)
        status = "running"
        if state.disabled_by or not self.subscription.is_enabled:
            status = "disabled"
        elif self.waits_for:
            status = "waiting"
        answer: dict[str, Any] = {
            "vhost": self.vhost.name,
            "name": self.name,
            "subscription": masked(self.vhost.parameters.get((COMPONENT, self.name), {})),
            "status": status,
            "queue": self.subscription.queue_name,
            "dead_letter_queue": self.subscription.dead_queue_name,
            "messages_ready": queue.message_count if queue is not None else 0,
            "messages_dead": dead.message_count if dead is not None else 0,
            "delivered_total": self.delivered_total,
            "failed_attempts_total": self.failed_total,
            "dead_total": self.dead_total,
            "failing_since": state.failing_since,
        }
        if state.disabled_by:
            answer |= {"disabled_by": state.disabled_by, "disabled_at": state.disabled_at}
        if self.waits_for:
            answer["waits_for"] = self.waits_for
        return answer | self.activity
